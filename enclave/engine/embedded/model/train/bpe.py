"""Byte-level BPE as GPT-2 does it, with digits split one by one (llama.cpp's pre-tokenizer "smollm")."""
import collections
import re


def _byte_names():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    names, n = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in names:
            names[b] = chr(256 + n)
            n += 1
    return names


BYTE = _byte_names()
UNBYTE = {c: b for b, c in BYTE.items()}
# Exact for the ASCII that the generator writes; elsewhere Python's classes differ from \p{L} and \p{N} in a few code points.
_DIGIT = re.compile(r"\d")
_WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def words(text):
    """The pieces within which merges happen."""
    at = 0
    for d in _DIGIT.finditer(text):
        yield from _WORD.findall(text[at:d.start()])
        yield d.group()
        at = d.end()
    yield from _WORD.findall(text[at:])


def train(text, merges):
    """The merges, most frequent first; ties go to the pair that sorts first, so the result depends on the text alone."""
    count = collections.Counter("".join(BYTE[b] for b in w.encode()) for w in words(text))
    table = [[list(w), n] for w, n in sorted(count.items())]
    out = []
    for _ in range(merges):
        pairs = collections.Counter()
        for w, n in table:
            for p in zip(w, w[1:]):
                pairs[p] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        out.append(best)
        for entry in table:
            entry[0] = _merge(entry[0], best)
    return out


def _merge(parts, pair):
    out, i = [], 0
    while i < len(parts):
        if i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair:
            out.append(parts[i] + parts[i + 1])
            i += 2
        else:
            out.append(parts[i])
            i += 1
    return out


class Tokenizer:
    def __init__(self, merges, specials):
        self.merges, self.specials = merges, specials
        self.tokens = [BYTE[b] for b in range(256)] + [a + b for a, b in merges] + specials
        self.id = {t: i for i, t in enumerate(self.tokens)}
        assert len(self.id) == len(self.tokens)
        self._rank = {p: i for i, p in enumerate(merges)}
        self._cache = {}
        self._special = re.compile("(" + "|".join(map(re.escape, specials)) + ")")

    def _word(self, w):
        if w not in self._cache:
            parts = [BYTE[b] for b in w.encode()]
            while len(parts) > 1:
                best = min(zip(parts, parts[1:]), key=lambda p: self._rank.get(p, 1 << 30))
                if best not in self._rank:
                    break
                parts = _merge(parts, best)
            self._cache[w] = [self.id[p] for p in parts]
        return self._cache[w]

    def encode(self, text):
        ids = []
        for part in self._special.split(text):
            if part in self.specials:
                ids.append(self.id[part])
            else:
                for w in words(part):
                    ids += self._word(w)
        return ids

    def decode(self, ids):
        out = bytearray()
        for i in ids:
            t = self.tokens[i]
            out += t.encode() if t in self.specials else bytes(UNBYTE[c] for c in t)
        return out.decode("utf-8", "replace")
