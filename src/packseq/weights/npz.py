"""NumPy's ``.npz``: a zip of ``.npy``. Object arrays, which are pickles, are never loaded."""

import io

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
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read(archive: Archive) -> Checkpoint:
    """Every array of the archive, under its name without ``.npy``."""
    return Checkpoint(
        {name.removesuffix(SUFFIX): parse_npy(archive.view(name), name) for name in archive.names}
    )


def parse_npy(content: memoryview, what: str) -> Array:
    """The array in the bytes of one ``.npy``, whose header is checked before it is believed."""
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
