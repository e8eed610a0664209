"""Weights of fewer bits: what int8 and bfloat16 make of them, and back.

Only matrices are rounded; biases and peepholes stay float32. An int8 weight is integers of
-127 .. 127 and a scale for each of its rows, an array of its own beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq.networks.architecture import SCALE, Architecture

Array = NDArray[Any]

# A row whose largest number is less is one of zeros, in weights as in the kernels.
LEAST_LARGEST = np.float32(2.0**-100)


def rounded(
    architecture: Architecture, parameters: Mapping[str, Array], precision: str
) -> dict[str, Array]:
    """Float32 parameters in `precision`, under the names of an architecture of that precision.

    Raises
    ------
    ValueError
        int8: a weight has NaN or infinity.
    """
    if precision == "bfloat16":
        return {
            name: to_bfloat16(array) if is_matrix(name, architecture) else array
            for name, array in parameters.items()
        }
    result: dict[str, Array] = {}
    for name, array in parameters.items():
        if is_matrix(name, architecture):
            if not np.isfinite(array).all():
                raise ValueError(f"{name} has NaN or infinity, which int8 cannot hold")
            result[name], result[name + SCALE] = to_int8(array)
        else:
            result[name] = array
    return result


def widened(parameters: Mapping[str, Array]) -> dict[str, Array]:
    """The float32 parameters that rounded ones stand for."""
    return {
        name: array * parameters[name + SCALE][:, None] if array.dtype == np.int8 else array
        for name, array in parameters.items()
        if not name.endswith(SCALE)
    }


def is_matrix(name: str, architecture: Architecture) -> bool:
    """Whether a parameter is one of those that are rounded."""
    return len(architecture.shapes[name]) == 2


def to_int8(weight: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers (rows, columns) and scales (rows,): ties to even, the largest of a row is 127."""
    largest = np.abs(weight).max(axis=1)
    zero = largest < LEAST_LARGEST
    safe = np.where(zero, np.float32(1), largest)
    factor = np.where(zero, np.float32(0), np.float32(127) / safe)
    scale = np.where(zero, np.float32(0), safe / np.float32(127))
    return np.rint(weight * factor[:, None]).astype(np.int8), scale


def to_bfloat16(weight: Array) -> NDArray[np.float32]:
    """The nearest numbers of 8 bits of mantissa, ties to even, as float32."""
    bits = np.ascontiguousarray(weight, np.float32).view(np.uint32)
    nearest = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    kept = np.where(np.isnan(weight), bits | np.uint32(0x400000), nearest)  # a NaN stays one
    return (kept & np.uint32(0xFFFF0000)).view(np.float32)
