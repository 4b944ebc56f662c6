"""Trains the model and writes it as GGUF: `python3 train.py out.gguf`. The README holds the exact command.

A fixed number of steps on one thread with fixed seeds. Rows are packed with whole conversations; between turns the positions jump by a
random amount, so that rows of ROW tokens cover distances up to CONTEXT.

Training is a list of phases. Each ends by writing the file and the next starts from what is written there, so that a later phase can be
added or repeated by itself: `python3 train.py out.gguf 2`.
"""
import random
import sys
import time

import torch
import torch.nn.functional as F

import bpe
import data
import gguf
from model import *

SEED = 1
VOCAB = 1536
ROW, ROWS = 192, 13
POOL = 32  # conversations to choose from when a row is filled
LR_ADAM, LR_MUON, WARMUP = 4e-3, 0.02, 40
# steps, peak learning rate, and weights of the kinds where they differ from data.KINDS
PHASES = [(1500, 1.0, {}), (1500, 0.7, {"arithmetic": 60, "trick": 40})]
PROMPT_WEIGHT = 0.1  # of a prompt token's loss, beside 1 for an answer's
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def make_tokenizer():
    r = random.Random(SEED)
    weights = {k: w for k, (_, w) in data.KINDS.items()}
    text = "".join(t for _ in range(12000) for t, _ in data.conversation(r, weights))
    for s in SPECIALS:
        text = text.replace(s, "\n")
    return bpe.Tokenizer(bpe.train(text, VOCAB - 256 - len(SPECIALS)), SPECIALS)


class Rows:
    """Packs conversations into rows of ROW + 1 (id, loss weight, position)."""

    def __init__(self, tokenizer, seed, weights):
        self.tok, self.r, self.weights, self.pool = tokenizer, random.Random(seed), weights, []

    def conversation(self):
        return [(self.tok.encode(text), answer) for text, answer in data.conversation(self.r, self.weights)]

    def row(self):
        ids, weight, pos, at = [], [], [], 0
        slack = self.r.randrange(CONTEXT - ROW) if self.r.random() < .5 else 0
        while True:
            while len(self.pool) < POOL:
                c = self.conversation()
                self.pool.append((sum(len(x) for x, _ in c), c))
            i = 0  # the oldest begins a row; then the longest that fits
            if ids:
                fits = [i for i, (n, _) in enumerate(self.pool) if len(ids) + n <= ROW + 1]
                if not fits:
                    break
                i = max(fits, key=lambda i: self.pool[i][0])
            for x, answer in self.pool.pop(i)[1]:
                if not answer and slack and ids and self.r.random() < .5:  # a gap before a turn
                    gap = self.r.randrange(slack + 1)
                    slack, at = slack - gap, at + gap
                ids += x
                weight += [1.0 if answer else PROMPT_WEIGHT] * len(x)
                pos += range(at, at + len(x))
                at += len(x)
        rest = max(0, ROW + 1 - len(ids))
        return (ids + [0] * rest)[:ROW + 1], (weight + [0.0] * rest)[:ROW + 1], (pos + [0] * rest)[:ROW + 1]

    def batch(self):
        ids, weight, pos = zip(*(self.row() for _ in range(ROWS)))
        ids = torch.tensor(ids)
        return ids[:, :-1], ids[:, 1:].flatten(), torch.tensor(weight)[:, 1:].flatten(), torch.tensor(pos)[:, :-1]


class Muon:
    """Momentum whose update is orthogonalised by five Newton-Schulz steps (Jordan et al., 2024); for matrices inside the blocks."""

    def __init__(self, params):
        shapes = {}
        for p in params:
            shapes.setdefault(tuple(p.shape), []).append(p)
        self.groups = [(ps, torch.zeros(len(ps), *shape)) for shape, ps in shapes.items()]

    @torch.no_grad()
    def step(self, lr):
        for ps, m in self.groups:
            g = torch.stack([p.grad for p in ps])
            m.lerp_(g, 0.05)
            x = g.lerp(m, 0.95)
            tall = x.shape[1] > x.shape[2]
            if tall:
                x = x.transpose(1, 2)
            x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
            for _ in range(5):
                a = x @ x.transpose(1, 2)
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            if tall:
                x = x.transpose(1, 2)
            scale = max(1, x.shape[1] / x.shape[2]) ** 0.5
            for p, u in zip(ps, x):
                p.mul_(1 - lr * 0.05).add_(u, alpha=-lr * scale)


def save(path, model, tok):
    meta = [
        ("general.architecture", "str", "llama"), ("general.name", "str", "bombyx-tiny"), ("general.license", "str", "apache-2.0"),
        ("general.file_type", "u32", 7), ("general.alignment", "u32", gguf.ALIGN), ("general.quantization_version", "u32", 2),
        ("llama.block_count", "u32", LAYERS), ("llama.context_length", "u32", CONTEXT), ("llama.embedding_length", "u32", DIM),
        ("llama.feed_forward_length", "u32", FFN), ("llama.attention.head_count", "u32", HEADS), ("llama.attention.head_count_kv", "u32", KV_HEADS),
        ("llama.attention.layer_norm_rms_epsilon", "f32", EPS), ("llama.rope.freq_base", "f32", ROPE_BASE), ("llama.rope.dimension_count", "u32", HEAD),
        ("llama.vocab_size", "u32", len(tok.tokens)),
        ("tokenizer.ggml.model", "str", "gpt2"), ("tokenizer.ggml.pre", "str", "smollm"), ("tokenizer.ggml.tokens", "array of str", tok.tokens),
        ("tokenizer.ggml.token_type", "array of i32", [1] * (len(tok.tokens) - len(SPECIALS)) + [3] * len(SPECIALS)),
        ("tokenizer.ggml.merges", "array of str", [a + " " + b for a, b in tok.merges]),
        ("tokenizer.ggml.bos_token_id", "u32", tok.id["<|endoftext|>"]), ("tokenizer.ggml.eos_token_id", "u32", tok.id["<|im_end|>"]),
        ("tokenizer.ggml.add_bos_token", "bool", False), ("tokenizer.chat_template", "str", TEMPLATE),
    ]
    gguf.write(path, meta, [(n, p.detach().numpy(), "Q8_0" if p.dim() > 1 else "F32") for n, p in model.named_parameters()])


def train(model, tok, seed, steps, peak, weights):
    inner = [p for n, p in model.named_parameters() if p.dim() > 1 and n.startswith("blk")]
    ids = {id(p) for p in inner}
    muon = Muon(inner)
    adam = torch.optim.AdamW([p for p in model.parameters() if id(p) not in ids], lr=LR_ADAM, betas=(.9, .98), weight_decay=0)
    rows, start, mean = Rows(tok, seed, weights), time.time(), None
    for step in range(steps):
        x, y, w, pos = rows.batch()
        loss = (F.cross_entropy(model(x, pos).flatten(0, 1), y, reduction="none") * w).sum() / w.sum()
        model.zero_grad(set_to_none=True)
        loss.backward()
        f = step / steps
        rate = peak * min(1, (step + 1) / WARMUP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * f)))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for g in adam.param_groups:
            g["lr"] = LR_ADAM * rate
        adam.step()
        muon.step(LR_MUON * rate)
        mean = loss.item() if mean is None else .98 * mean + .02 * loss.item()
        if step < 5 or step % 50 == 49:
            print(f"step {step + 1} loss {loss.item():.4f} mean {mean:.4f} {time.time() - start:.0f} s", flush=True)


def main(path, first=1):
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    tok = make_tokenizer()
    model = Model(VOCAB)
    print(f"{len(tok.tokens)} tokens, {sum(p.numel() for p in model.parameters())} parameters", flush=True)
    for phase, (steps, peak, weights) in enumerate(PHASES, 1):
        if phase < first:
            continue
        if phase > 1:
            model.load_state_dict({k: torch.tensor(v) for k, v in gguf.read(path)[1].items()})
        print(f"phase {phase}", flush=True)
        train(model, tok, SEED + phase - 1, steps, peak, {k: weights.get(k, w) for k, (_, w) in data.KINDS.items()})
        save(path, model, tok)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
