"""Raw bytes to NumPy arrays: checked against their declared shape, native, half widened."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import CheckpointError
from .limits import element_count

Array = NDArray[np.generic]

# bfloat16 is not NumPy's: it is read as its bits and widened.
BFLOAT16 = "bfloat16"


def item_bytes(dtype: str) -> int:
    """The size of one element of `dtype`: a NumPy name, or "bfloat16"."""
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


def from_bytes(
    raw: bytes | bytearray | memoryview,
    dtype: str,
    shape: tuple[int, ...],
    what: str,
    byteorder: Literal["<", ">"] = "<",
) -> Array:
    """The array whose C-ordered elements are exactly `raw`."""
    expected = element_count(shape, what) * item_bytes(dtype)
    if len(raw) != expected:
        raise CheckpointError(
            f"{what}: shape {tuple(shape)} of {dtype} needs {expected} bytes, found {len(raw)}"
        )
    stored = "uint16" if dtype == BFLOAT16 else dtype
    flat = np.frombuffer(raw, dtype=np.dtype(stored).newbyteorder(byteorder))
    if dtype == BFLOAT16:
        return widen_bfloat16(flat).reshape(shape)
    return canonical(flat, what).reshape(shape)


def widen_bfloat16(bits: Array) -> NDArray[np.float32]:
    """The float32 whose upper half are these bits: exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def halve_bfloat16(numbers: Array) -> NDArray[np.uint16]:
    """The upper half of each float32: all of it where it was rounded to bfloat16."""
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    return (bits >> np.uint32(16)).astype(np.uint16)


def canonical(array: Array, what: str) -> Array:
    """A native-endian array of a plain numeric dtype; float16 becomes float32."""
    if array.dtype.kind not in "biufc":
        raise CheckpointError(f"{what}: dtype {array.dtype} is not a number's")
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
