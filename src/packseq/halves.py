"""Half precision: numbers of 16 bits, taken as weights, inputs and states, everywhere alike.

float16 and bfloat16 are widened to float32, which holds each of their numbers, infinities and NaN
among them: nothing is rounded, and results are what the same numbers in float32 give. bfloat16 is
ml_dtypes' in NumPy, and torch's own; neither library is needed to take what they made.
"""

from __future__ import annotations

from typing import Any

import numpy as np

HALVES = ("float16", "bfloat16")


def is_half(values: Any) -> bool:
    """Whether an array or a tensor is of half precision, in either byte order."""
    dtype = values.dtype
    if dtype.itemsize != 2:  # as most, and NumPy takes 5 us to put a name together
        return False
    return getattr(dtype, "name", str(dtype).removeprefix("torch.")) in HALVES


def widened(values: Any) -> Any:
    """An array or a tensor in float32 if it is of half precision; all else as it is."""
    if not is_half(values):
        return values
    return values.astype(np.float32) if isinstance(values, np.ndarray) else values.float()
