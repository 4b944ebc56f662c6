"""Prints the hold-out table of a GGUF file: `python3 evaluate.py ../bombyx-tiny-q8_0.gguf`.

It reads the Q8_0 weights back, so what it measures is the file that ships. Greedy decoding gives the expected answer exactly when every
token of it is the likeliest after those before, which one pass shows; stories, which have no single right answer, are generated and must
name who and what was asked for and end by themselves.
"""
import random
import sys

import torch

import bpe
import data
import gguf
from model import *

COUNT, STORIES = 100, 20  # questions of each kind and split


class Loaded:
    def __init__(self, path):
        meta, tensors = gguf.read(path)
        n = len(meta["tokenizer.ggml.tokens"])
        specials = [t for t, k in zip(meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]) if k == 3]
        self.tok = bpe.Tokenizer([tuple(m.split(" ")) for m in meta["tokenizer.ggml.merges"]], specials)
        assert self.tok.tokens == meta["tokenizer.ggml.tokens"]
        self.model = Model(n)
        self.model.load_state_dict({k: torch.tensor(v) for k, v in tensors.items()})
        self.end = meta["tokenizer.ggml.eos_token_id"]

    @torch.no_grad()
    def exact(self, pairs):
        """For each (prompt, answer): whether greedy decoding of the prompt gives the answer."""
        rows = [(self.tok.encode(p), self.tok.encode(a + "<|im_end|>")) for p, a in pairs]
        out = [False] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
        for at in range(0, len(order), 32):
            part = order[at:at + 32]
            width = max(len(rows[i][0]) + len(rows[i][1]) for i in part)
            ids = torch.zeros(len(part), width, dtype=torch.long)
            for j, i in enumerate(part):
                ids[j, :len(rows[i][0]) + len(rows[i][1])] = torch.tensor(rows[i][0] + rows[i][1])
            best = self.model(ids).argmax(-1)
            for j, i in enumerate(part):
                p, a = rows[i]
                out[i] = best[j, len(p) - 1:len(p) + len(a) - 1].tolist() == a
        return out

    @torch.no_grad()
    def generate(self, prompt, limit=220):
        """(text, whether it ended by itself), greedily."""
        ids = self.tok.encode(prompt)
        start = len(ids)
        while len(ids) - start < limit:
            t = self.model(torch.tensor([ids]))[0, -1].argmax().item()
            if t == self.end:
                return self.tok.decode(ids[start:]), True
            ids.append(t)
        return self.tok.decode(ids[start:]), False


def prompt(q):
    return f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n"


def draw(kind, split, n=COUNT):
    """n questions of the kind, the same ones every time."""
    r, out, seen = random.Random(f"{kind} {split} hold-out"), [], set()
    for _ in range(n * 20):
        got = data.sample(r, split, kind)
        if got is None:
            break
        if got[1] not in seen and len(out) < n:
            seen.add(got[1])
            out.append(got[1:])
    return out


def asked_for(q):
    """The names and animals in a request for a story."""
    low = q.lower().replace(".", " ").replace(",", " ").split()
    return [x for x in data.NAMES + data.ANIMALS if x.lower() in low]


def score(m, kind, pairs, before=""):
    if kind != "story":
        ok = m.exact([(before + prompt(q), a) for q, a in pairs])
    else:
        ok = []
        for q, _ in pairs[:STORIES]:
            text, ended = m.generate(before + prompt(q))
            ok.append(ended and all(x.lower() in text.lower() for x in asked_for(q)))
    return sum(ok), len(ok), [p for p, good in zip(pairs, ok) if not good]


def main(path, verbose):
    torch.set_num_threads(1)
    m = Loaded(path)
    names = {"train": "trained on", "combo": "new combination", "form": "new question form"}
    print("| kind | " + " | ".join(names[s] for s in data.SPLITS) + " |\n|---|---|---|---|")
    for kind in data.KINDS:
        cells = []
        for split in data.SPLITS:
            pairs = draw(kind, split)
            if not pairs:
                cells.append("-")
                continue
            good, n, bad = score(m, kind, pairs)
            cells.append(f"{100 * good / n:.0f}% of {n}")
            if verbose:
                for q, a in bad[:verbose]:
                    print(f"  {kind} {split}: {q!r} -> {m.generate(prompt(q), 60)[0]!r}, not {a!r}")
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)
    r = random.Random(3)
    talk = ""
    while len(m.tok.encode(talk)) < 800:
        talk += "".join(t for t, _ in data.conversation(r, {k: w for k, (_, w) in data.KINDS.items()}))
    for title, before in (("after a system prompt", "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"),
                          (f"after a conversation of {len(m.tok.encode(talk))} tokens", talk)):
        good = n = 0
        for kind in ("define", "unknown", "capital", "arithmetic"):
            g, k, _ = score(m, kind, draw(kind, "combo", 50), before)
            good, n = good + g, n + k
        print(f"\n{title}, new combinations of define, unknown, capital and arithmetic: {100 * good / n:.0f}% of {n}", flush=True)
    claimed = [q for q, a in draw("unknown", "combo") + draw("unknown", "form")]
    said = sum(m.exact([(prompt(q), data.UNKNOWN) for q in claimed]))
    known = [q for k in ("define", "topic", "capital", "arithmetic") for s in ("combo", "form") for q, _ in draw(k, s)]
    shy = sum(m.exact([(prompt(q), data.UNKNOWN) for q in known]))
    print(f"\nQuestions from outside its world that it answers all the same: {100 - 100 * said / len(claimed):.1f}% of {len(claimed)}. "
          f"Questions from inside that it declines: {100 * shy / len(known):.1f}% of {len(known)}.")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
