"""Checkpoints for the tests: models with telling weights, hand-made files, and tolerances."""

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np

RNG_SEED = 20240


def tolerance(steps, products, scale=1.0):
    """How far two float32 runs of a network may differ, in absolute terms.

    A step rounds a sum of `products` terms of the order of `scale`: at most products * eps * scale,
    and the gates, whose slopes are at most 1, hand it on to the next step. Two libraries: twice.
    """
    return 2 * steps * products * float(np.finfo(np.float32).eps) * scale


def distinctive(shape, gates, seed):
    """A parameter (G*H, ...) whose gates differ in size and sign, so that a swap cannot hide."""
    values = np.random.default_rng(seed).uniform(-0.5, 0.5, shape)
    by_gate = values.reshape(gates, -1)
    by_gate *= np.array([1.0, -0.6, 1.4, 0.3])[:gates, None]
    by_gate += np.array([0.1, -0.2, 0.3, 0.05])[:gates, None]
    return by_gate.reshape(shape).astype(np.float32)


def inputs(batch, steps, features, seed=RNG_SEED):
    """A padded batch (B, T, I)."""
    return np.random.default_rng(seed).standard_normal((batch, steps, features)).astype(np.float32)


# --- files, made byte by byte ---------------------------------------------------------------


def safetensors_bytes(header, data=b""):
    """A safetensors file with any header: a dict, or its JSON text."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def safetensors_file_of(arrays, said):
    """A safetensors file of float32 arrays, and what its metadata says of the module."""
    header, data = {"__metadata__": {"packseq": json.dumps({"": said})}}, b""
    for name, array in arrays.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    return safetensors_bytes(header, data)


def zip_bytes(entries, method=zipfile.ZIP_STORED):
    """A zip file of (name, content) pairs; names may repeat."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def npy_bytes(array):
    """A ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def torch_bytes(pickled, storages=(), root="archive"):
    """A torch zip file around a pickle."""
    entries = [(f"{root}/data.pkl", pickled), (f"{root}/byteorder", b"little")]
    entries += [(f"{root}/data/{key}", raw) for key, raw in dict(storages).items()]
    return zip_bytes(entries)


def op_str(text):
    """BINUNICODE."""
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def op_int(value):
    """LONG1."""
    raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def op_ints(values):
    """A tuple of ints."""
    return b"(" + b"".join(op_int(value) for value in values) + b"t"


def op_global(name):
    """GLOBAL module.name."""
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def op_tensor(
    size,
    stride,
    offset=0,
    count=None,
    key="0",
    storage="torch.FloatStorage",
    version=2,
    **written,
):
    """A call of torch's _rebuild_tensor on a storage; `written` replaces parts by other opcodes."""
    count = int(np.prod(size)) if count is None else count
    identifier = b"(" + op_str("storage") + op_global(storage) + op_str(key) + op_str("cpu")
    identifier = written.get("identifier", identifier + op_int(count) + b"t") + b"Q"
    arguments = identifier + op_int(offset)
    arguments += written.get("size_of", op_ints(size))
    arguments += written.get("stride_of", op_ints(stride)) + b"\x89"
    hooks = op_global("collections.OrderedDict") + b")R"
    return op_global(f"torch._utils._rebuild_tensor_v{version}") + b"(" + arguments + hooks + b"tR"


def op_quantised(size, key, scale=0.5, zero=1):
    """A call of torch's _rebuild_qtensor on a storage of bytes."""
    count = int(np.prod(size))
    identifier = b"(" + op_str("storage") + op_global("torch.QInt8Storage") + op_str(key)
    identifier += op_str("cpu") + op_int(count) + b"tQ"
    strides = [count // int(np.prod(size[: axis + 1])) for axis in range(len(size))]
    quantizer = op_global("torch.per_tensor_affine") + b"G" + struct.pack(">d", scale)
    arguments = identifier + op_int(0) + op_ints(size) + op_ints(strides)
    arguments += b"(" + quantizer + op_int(zero) + b"t" + b"\x89"
    hooks = op_global("collections.OrderedDict") + b")R"
    return op_global("torch._utils._rebuild_qtensor") + b"(" + arguments + hooks + b"tR"


def op_dict(items):
    """A dict of names and opcodes."""
    return b"}(" + b"".join(op_str(name) + value for name, value in items) + b"u"


def pickled(body):
    """A whole pickle of protocol 2."""
    return b"\x80\x02" + body + b"."


def torch_file_of(arrays):
    """A torch zip file of float32 arrays, written without torch."""
    items, storages = [], {}
    for key, (name, array) in enumerate(arrays.items()):
        strides = [step // array.itemsize for step in array.strides]
        items.append((name, op_tensor(array.shape, strides, key=str(key))))
        storages[str(key)] = array.tobytes()
    return torch_bytes(pickled(op_dict(items)), storages)


def python_2(arrays):
    """A dict of arrays as Python 2's pickle wrote it by default: protocol 0, bytes in a text."""

    def texts(array):
        name, order = array.dtype.str[1:], array.dtype.str[0]
        shape = "".join(f"I{size}\n" for size in array.shape)
        yield b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        yield f"(I1\n({shape}tcnumpy\ndtype\n(S'{name}'\nI0\nI1\ntR".encode()
        yield f"(I3\nS'{order}'\nNNNI-1\nI-1\nI0\ntbI00\n".encode()
        yield b"S" + as_python_2_shows(array.tobytes()) + b"\ntb"

    items = (f"S'{n}'\np{i}\n".encode() + b"".join(texts(a)) + b"s" for i, (n, a) in
             enumerate(arrays.items(), start=2))  # fmt: skip
    return b"(dp1\n" + b"".join(items) + b"."


def as_python_2_shows(content):
    """A quoted text, in which bytes over 127 may stand as they are, as in Python 2's repr."""
    shown = repr(content)[1:]
    return shown.encode().replace(b"\\xff", b"\xff")


def gru_arrays(prefix="rnn.", input_size=3, hidden_size=4):
    """A small GRU under torch's names."""
    rows = 3 * hidden_size
    shapes = {
        "weight_ih_l0": (rows, input_size),
        "weight_hh_l0": (rows, hidden_size),
        "bias_ih_l0": (rows,),
        "bias_hh_l0": (rows,),
    }
    return {prefix + n: distinctive(s, 3, i) for i, (n, s) in enumerate(shapes.items())}


def write(path: Path, content: bytes) -> Path:
    """Write and return the path."""
    path.write_bytes(content)
    return path
