"""NumPy's ``.npz``: a zip of ``.npy``. Object arrays, which are pickles, are never loaded."""

import io
import re
from typing import NamedTuple

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
PLAIN = re.compile(rb"(?:[\s(){}\[\]:,]|(?<![\w)}\]])-?\d+L?(?!\w)|(?:True|False)(?!\w))*+")
# The third differs from the second in the names of fields alone, which are not read.
HEADERS = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
    (3, 0): npy.read_array_header_2_0,
}


class Header(NamedTuple):
    """What an ``.npy`` says of its array, and where its bytes begin."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[np.generic]
    start: int


def read(archive: Archive) -> Checkpoint:
    """Every array of numbers in the archive, under its name without ``.npy``.

    The smallest are unpacked first, so that one that is too large for the file hides no other.
    """
    arrays: dict[str, Array] = {}
    placeholders: dict[str, str] = {}
    for name in sorted(archive.names, key=archive.size):
        if not name.endswith(SUFFIX):
            placeholders[name] = f"is no {SUFFIX}"
            continue
        try:
            archive.check(name)
        except CheckpointError as error:
            placeholders[name.removesuffix(SUFFIX)] = str(error)
            continue
        content = archive.view(name)
        header = parse_header(content, name)
        if reason := unreadable(header.dtype):
            placeholders[name.removesuffix(SUFFIX)] = reason
        else:
            arrays[name.removesuffix(SUFFIX)] = to_array(content, header, name)
    order = [name.removesuffix(SUFFIX) for name in archive.names]
    return Checkpoint({name: arrays[name] for name in order if name in arrays}, {}, placeholders)


def unreadable(dtype: np.dtype[np.generic]) -> str:
    """Why arrays of a dtype are not read; "" where they are."""
    if dtype.hasobject:
        return "holds Python objects (a pickle), which are never loaded"
    if dtype.kind not in "biufc":
        return f"has dtype {str(dtype)[:80]!r}, which is not a number's"
    return ""


def parse_header(content: memoryview, what: str) -> Header:
    """The header of an ``.npy``, not believed yet."""
    head = content[:HEADER_BYTES].tobytes()
    check_header(head, what)
    stream = io.BytesIO(head)
    with library_errors(f"{what}: not a .npy header"):
        version = npy.read_magic(stream)
        if version not in HEADERS:
            raise CheckpointError(f"{what}: .npy version {version} is none of {sorted(HEADERS)}")
        return Header(*HEADERS[version](stream), stream.tell())


def to_array(content: memoryview, header: Header, what: str) -> Array:
    """The array of an ``.npy``, whose header is checked before it is believed."""
    shape, dtype = header.shape, header.dtype
    raw = content[header.start :]
    expected = element_count(shape, what) * dtype.itemsize
    if len(raw) != expected:
        raise CheckpointError(
            f"{what}: shape {shape} of {dtype} needs {expected} bytes, found {len(raw)}"
        )
    array = np.frombuffer(raw, dtype).reshape(shape, order="F" if header.fortran_order else "C")
    return canonical(array, what)


def check_header(head: bytes, what: str) -> None:
    """Refuse a header that is anything but a description, before it is parsed as Python."""
    sizes = {b"\1": 2, b"\2": 4}.get(head[6:7], 0)
    start = 8 + sizes
    text = head[start : start + int.from_bytes(head[8:start], "little")]
    if sizes and not PLAIN.fullmatch(STRINGS.sub(b"", text)):
        raise CheckpointError(f"{what}: not a .npy header: {text[:80]!r}")
