"""Checks of single arguments, with errors that name them."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

INT64_MAX = 2**63 - 1
# Of a value, a message has so many characters.
_MOST_SHOWN = 60


def as_integer(value: SupportsIndex, name: str) -> int:
    """Check an integer; booleans and integral floats are none.

    Raises
    ------
    TypeError
        Not an integer.
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {shown(value)}") from None


def as_size(value: SupportsIndex, name: str, least: int = 1) -> int:
    """Check an integer of at least `least`.

    Raises
    ------
    TypeError
        Not an integer.
    ValueError
        Less.
    """
    size = as_integer(value, name)
    if size < least:
        raise ValueError(f"{name} must be at least {least}, got {size}")
    return size


def as_flag(value: bool, name: str) -> bool:
    """Check a flag: numbers are refused, since one of them may be another argument's.

    Raises
    ------
    TypeError
        Not a boolean.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def as_read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be made writable; the array behind it is read-only from now on."""
    array.flags.writeable = False
    return array[...]


def as_array(values: Any, name: str, wanted: str = "an array") -> NDArray[Any]:
    """Make an array of what NumPy takes for one; else the message says what was wanted.

    Raises
    ------
    TypeError
        Masked, a packed sequence, or nothing that NumPy takes for an array.
    ValueError
        Nested sequences that are ragged.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array: the mask would be lost")
    if type(values).__name__ == "PackedSequence":
        raise TypeError(f"{name} must be {wanted}, got {kind_of(values)}")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be {wanted}: {error}") from error
    if array.dtype == object and not array.ndim:
        raise TypeError(f"{name} must be {wanted}, got {shown(values)}")
    return array


def as_path(value: str | os.PathLike[str], name: str) -> Path:
    """Check a path.

    Raises
    ------
    TypeError
        Neither a string nor what `os.fspath` makes one of.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {shown(value)}")
    return Path(value)


def shown(value: object) -> str:
    """A value for messages: an array by its shape, others as they print, if that is short."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"a {kind_of(value)} of shape {tuple(shape)}"
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"a {kind_of(value)}"


def kind_of(value: object) -> str:
    """The type of a value, for messages; torch has a PackedSequence too."""
    cls = type(value)
    if cls.__module__ == "torch.nn.utils.rnn":
        return f"torch's {cls.__name__}: packseq.torch.from_torch makes it packseq's"
    return cls.__name__


def is_number(dtype: np.dtype[Any], kinds: str) -> bool:
    """Whether a dtype is one of NumPy's numbers of these kinds, of at most 64 bits a part.

    Other libraries have floats of 8 bits that are of kind "f" too.
    """
    own = issubclass(dtype.type, np.number | np.bool_)
    return own and dtype.kind in kinds and dtype.itemsize <= (16 if dtype.kind == "c" else 8)


def check_size(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Check that an array of so many bytes can be addressed.

    Raises
    ------
    ValueError
        It cannot.
    """
    # NumPy leaves zeros out when it checks a product of sizes, so this does too.
    nbytes = dtype.itemsize * math.prod(size for size in shape if size)
    if nbytes > INT64_MAX:
        raise ValueError(f"the result of shape {shape} would take {nbytes} bytes, beyond int64")
