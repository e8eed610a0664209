"""Checks of single arguments, with errors that name them."""

from __future__ import annotations

import math
import operator
from typing import Any, SupportsIndex

import numpy as np

INT64_MAX = 2**63 - 1


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
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


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
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


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
