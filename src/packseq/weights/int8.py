"""Weights of 8 bits as other libraries write them: integers, scales and zero points.

Where a module's own int8 has the same numbers, it takes over the integers and the scales as they
are. It has no zero points: what is left of an integer without one has to be an integer of 8 bits.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq.networks.architecture import PARAMETER, SCALE
from packseq.networks.arguments import MOST_INT8_COLUMNS
from packseq.networks.rounding import dequantized

from .arrays import Array

OF_A_MODULE = re.compile(rf"(.*?)(?:{PARAMETER.pattern})", re.DOTALL)


def centred(integers: Array, zero: NDArray[Any] | None) -> NDArray[np.int8] | None:
    """The integers less their zero points, which broadcast to them; None if some are no int8."""
    zeros = np.zeros((), np.int64) if zero is None else zero.astype(np.int64)
    if integers.dtype not in (np.int8, np.uint8) or (np.abs(zeros) > 255).any():
        return None
    differences = integers.astype(np.int16)
    differences -= zeros.astype(np.int16)
    if differences.size and (differences.min() < -128 or differences.max() > 127):
        return None
    return differences.astype(np.int8)


def by_module(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays, with every module in one precision.

    One that has a matrix without scales, or one too wide for int8, gets float32 for all: what its
    integers stand for.
    """
    wide = {prefix_of(name) for name, array in arrays.items() if is_no_int8(name, arrays)}
    result: dict[str, Array] = {}
    for name, array in arrays.items():
        if prefix_of(name) not in wide:
            result[name] = array
        elif has_scales(name, arrays):
            result[name] = dequantized({key: arrays[key] for key in (name, name + SCALE)})[name]
        elif not has_scales(name.removesuffix(SCALE), arrays):
            result[name] = array
    return result


def prefix_of(name: str) -> str | None:
    """What stands before the name of a parameter; None where there is none."""
    match = OF_A_MODULE.fullmatch(name)
    return match[1] if match else None


def is_no_int8(name: str, arrays: Mapping[str, Array]) -> bool:
    """Whether this is a parameter's matrix that cannot be one of int8."""
    array = arrays[name]
    is_matrix = array.ndim == 2 and prefix_of(name) is not None
    return is_matrix and not (has_scales(name, arrays) and array.shape[1] <= MOST_INT8_COLUMNS)


def has_scales(name: str, arrays: Mapping[str, Array]) -> bool:
    """Whether an array is of integers whose scales stand beside it."""
    return name + SCALE in arrays and name in arrays and arrays[name].dtype == np.int8
