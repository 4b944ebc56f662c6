"""Writes and reads GGUF v3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), as much of it as this model needs."""
import struct

import numpy as np

ALIGN = 32
_TYPE = {"u32": (4, "<I"), "i32": (5, "<i"), "f32": (6, "<f"), "bool": (7, "<?"), "str": (8, None)}
_ARRAY = 9
_GGML = {"F32": 0, "Q8_0": 8}


def quantize(a):
    """float32 (rows, cols) -> Q8_0 bytes: blocks of 32 weights, a float16 scale, 32 int8."""
    a = a.astype(np.float32).reshape(-1, 32)
    scale = np.abs(a).max(1) / 127
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    out = np.empty((a.shape[0], 34), np.uint8)
    out[:, :2] = scale.astype("<f2").view(np.uint8).reshape(-1, 2)
    out[:, 2:] = np.rint(a * inverse[:, None]).astype(np.int8).view(np.uint8)
    return out.tobytes()


def dequantize(raw, shape):
    b = np.frombuffer(raw, np.uint8).reshape(-1, 34)
    scale = b[:, :2].copy().view("<f2").astype(np.float32)
    return (b[:, 2:].copy().view(np.int8).astype(np.float32) * scale).reshape(shape)


def _str(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def _scalar(t, v):
    return _str(v) if t == "str" else struct.pack(_TYPE[t][1], v)


def _meta(key, t, v):
    if t.startswith("array of "):
        t = t[9:]
        return _str(key) + struct.pack("<IIQ", _ARRAY, _TYPE[t][0], len(v)) + b"".join(_scalar(t, x) for x in v)
    return _str(key) + struct.pack("<I", _TYPE[t][0]) + _scalar(t, v)


def write(path, meta, tensors):
    """meta: [(key, type, value)]; tensors: [(name, float32 array, "F32" or "Q8_0")]."""
    infos, data = b"", b""
    for name, a, t in tensors:
        infos += _str(name) + struct.pack("<I", a.ndim) + b"".join(struct.pack("<Q", d) for d in reversed(a.shape)) + struct.pack("<IQ", _GGML[t], len(data))
        data += quantize(a) if t == "Q8_0" else a.astype("<f4").tobytes()
        data += bytes(-len(data) % ALIGN)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta)) + b"".join(_meta(*m) for m in meta) + infos
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % ALIGN) + data)


def read(path):
    """(metadata as a dict, tensors as {name: float32 array}) of a file that write made."""
    raw = open(path, "rb").read()
    at = 4

    def take(fmt):
        nonlocal at
        v = struct.unpack_from(fmt, raw, at)
        at += struct.calcsize(fmt)
        return v if len(v) > 1 else v[0]

    def text():
        nonlocal at
        n = take("<Q")
        at += n
        return raw[at - n:at].decode()

    names = {code: (t, fmt) for t, (code, fmt) in _TYPE.items()}

    def value(code):
        if code == _ARRAY:
            t, n = take("<IQ")
            return [value(t) for _ in range(n)]
        return text() if code == 8 else take(names[code][1])

    assert raw[:4] == b"GGUF"
    version, n_tensors, n_meta = take("<IQQ")
    assert version == 3
    meta = {}
    for _ in range(n_meta):
        key = text()
        meta[key] = value(take("<I"))
    infos = []
    for _ in range(n_tensors):
        name = text()
        shape = tuple(reversed([take("<Q") for _ in range(take("<I"))]))
        infos.append((name, shape) + take("<IQ"))
    at += -at % ALIGN
    tensors = {}
    for name, shape, code, offset in infos:
        size = int(np.prod(shape))
        o = at + offset
        if code == _GGML["Q8_0"]:
            tensors[name] = dequantize(raw[o:o + size // 32 * 34], shape)
        else:
            tensors[name] = np.frombuffer(raw[o:o + 4 * size], "<f4").reshape(shape)
    return meta, tensors
