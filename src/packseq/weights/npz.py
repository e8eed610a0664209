"""NumPy's ``.npz``: a zip of ``.npy``. Object arrays, which are pickles, are never loaded."""

import io
import re

import numpy as np
from numpy.lib import format as npy

from .archive import Archive
from .arrays import Array, canonical
from .canonical import Checkpoint
from .errors import CheckpointError, library_errors
from .limits import element_count

SUFFIX = ".npy"
# More than NumPy reads of one.
HEADER_BYTES = 1 << 16
# What a header is made of, its strings left out: names, brackets and sizes. On other code Python's
# parser runs out of stack, or warns, before it says that this is no header.
STRINGS = re.compile(rb"'[^'\\\n]*'")
PLAIN = re.compile(rb"(?:[\s(){}\[\]:,]|\d+L?(?!\w)|(?:True|False)(?!\w))*+")
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read(archive: Archive) -> Checkpoint:
    """Every array of the archive, under its name without ``.npy``."""
    return Checkpoint(
        {name.removesuffix(SUFFIX): parse_npy(archive.view(name), name) for name in archive.names}
    )


def parse_npy(content: memoryview, what: str) -> Array:
    """The array in the bytes of one ``.npy``, whose header is checked before it is believed."""
    check_header(content[:HEADER_BYTES].tobytes(), what)
    stream = io.BytesIO(content[:HEADER_BYTES])
    with library_errors(f"{what}: not a .npy header"):
        version = npy.read_magic(stream)
        if version not in HEADERS:
            raise CheckpointError(f"{what}: .npy version {version} is not 1.0 or 2.0")
        shape, fortran_order, dtype = HEADERS[version](stream)
    if dtype.hasobject:
        raise CheckpointError(f"{what}: holds Python objects (a pickle), which are never loaded")
    if dtype.kind not in "biufc":
        raise CheckpointError(f"{what}: dtype {dtype} is not a number's")
    raw = content[stream.tell() :]
    expected = element_count(shape, what) * dtype.itemsize
    if len(raw) != expected:
        raise CheckpointError(
            f"{what}: shape {shape} of {dtype} needs {expected} bytes, found {len(raw)}"
        )
    array = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran_order else "C")
    return canonical(array, what)


def check_header(head: bytes, what: str) -> None:
    """Refuse a header that is anything but a description, before it is parsed as Python."""
    sizes = {b"\1": 2, b"\2": 4}.get(head[6:7], 0)
    start = 8 + sizes
    text = head[start : start + int.from_bytes(head[8:start], "little")]
    if sizes and not PLAIN.fullmatch(STRINGS.sub(b"", text)):
        raise CheckpointError(f"{what}: not a .npy header: {text[:80]!r}")
