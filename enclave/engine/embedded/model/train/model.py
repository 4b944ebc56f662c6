"""A Llama-family transformer: RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied embeddings."""
import math

import torch
import torch.nn.functional as F
from torch import nn

DIM, LAYERS, HEADS, KV_HEADS, FFN = 192, 5, 6, 2, 512
HEAD = DIM // HEADS
EPS, ROPE_BASE = 1e-5, 10000.0
CONTEXT = 1024  # positions that training covers


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(DIM))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * self.weight


def rotate(x, cos, sin):
    """Rotates neighbouring pairs, as llama.cpp's llama architecture does, so that the weights need no permutation."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.attn_norm, self.ffn_norm = Norm(), Norm()
        self.attn_q, self.attn_k, self.attn_v = linear(DIM, DIM), linear(DIM, KV_HEADS * HEAD), linear(DIM, KV_HEADS * HEAD)
        self.attn_output = linear(DIM, DIM)
        self.ffn_gate, self.ffn_up, self.ffn_down = linear(DIM, FFN), linear(DIM, FFN), linear(FFN, DIM)

    def forward(self, x, cos, sin, mask):
        b, t, _ = x.shape
        h = self.attn_norm(x)
        q = rotate(self.attn_q(h).view(b, t, HEADS, HEAD).transpose(1, 2), cos, sin)
        k = rotate(self.attn_k(h).view(b, t, KV_HEADS, HEAD).transpose(1, 2), cos, sin)
        v = self.attn_v(h).view(b, t, KV_HEADS, HEAD).transpose(1, 2)
        q = q.reshape(b, KV_HEADS, HEADS // KV_HEADS * t, HEAD)  # the query heads of one key head, one after another
        a = torch.matmul(q * (1 / math.sqrt(HEAD)), k.transpose(-1, -2)) + mask
        o = torch.matmul(a.softmax(-1), v).view(b, HEADS, t, HEAD)
        x = x + self.attn_output(o.transpose(1, 2).reshape(b, t, DIM))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Model(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.token_embd = nn.Embedding(vocab, DIM)
        self.blk = nn.ModuleList(Block() for _ in range(LAYERS))
        self.output_norm = Norm()
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.normal_(p, 0, 0.02 / (math.sqrt(2 * LAYERS) if "output.w" in name or "down" in name else 1))

    def forward(self, ids, positions=None):
        """ids and positions: (batch, time). Returns logits."""
        t = ids.shape[1]
        if positions is None:
            positions = torch.arange(t).expand_as(ids)
        angle = positions[:, None, :, None].float() * ROPE_BASE ** (-torch.arange(0, HEAD, 2).float() / HEAD)
        cos, sin = angle.cos(), angle.sin()
        mask = torch.full((t, t), -1e9).triu(1).repeat(HEADS // KV_HEADS, 1)
        x = self.token_embd(ids)
        for b in self.blk:
            x = b(x, cos, sin, mask)
        return self.output_norm(x) @ self.token_embd.weight.t()
