"""What stands between the brackets after a batch: which of its sequences are meant."""

from __future__ import annotations

from typing import Any

import numpy as np

from packseq.arguments import as_int64_vector
from packseq.checks import as_array, as_integer
from packseq.rows.plan import IndexArray
from packseq.tensor_checks import check_memory, is_tensor

_SEQUENCES_ONLY = (
    "an index takes sequences: slice() cuts their steps, split() their rows, and select() takes "
    "several sequences"
)


def sequences_at(index: Any, size: int) -> int | IndexArray:
    """The one sequence in 0 to `size` - 1 that an integer means, or all that a slice, a mask or a
    list of integers does.

    Raises
    ------
    TypeError
        None of these.
    IndexError
        An integer is out of range, or a mask is of another shape.
    ValueError
        A list of integers is not 1-D.
    """
    if isinstance(index, slice):
        return np.arange(size)[index]
    if isinstance(index, tuple) or index is None or index is Ellipsis:
        raise TypeError(f"{_SEQUENCES_ONLY}, got {index!r}")
    if type(index).__name__ == "PackedSequence":
        raise TypeError(
            "an index takes sequences, got a PackedSequence: np.where() chooses among steps, and "
            "data[index.data] has those rows"
        )
    if isinstance(index, list | range) or getattr(index, "ndim", None):
        return _several(index, size)
    b = as_integer(index, "the index of one sequence")
    if not -size <= b < size:
        raise IndexError(f"sequence {b} is out of range: there are {size}")
    return b % size


def from_the_start(indices: IndexArray, size: int, name: str) -> IndexArray:
    """Indices of which negative ones count from the end, as those in 0 to `size` - 1.

    Raises
    ------
    IndexError
        One is out of range; the message names the position in what is called `name`.
    """
    if len(bad := np.flatnonzero((indices < -size) | (indices >= size))):
        raise IndexError(
            f"{name} must be between {-size} and {size - 1}, got {name}[{bad[0]}] = "
            f"{indices[bad[0]]}"
        )
    return np.where(indices < 0, indices + size, indices)


def _several(index: Any, size: int) -> IndexArray:
    if is_tensor(index):
        check_memory(index, "index")
        index = index.numpy(force=True)
    array = as_array(index, "index", "integers or booleans")
    if array.dtype != np.bool_:
        return from_the_start(as_int64_vector(index, "index"), size, "index")
    if array.shape != (size,):
        raise IndexError(
            f"a mask of sequences must have shape ({size},), one for each, got {array.shape}"
        )
    return np.flatnonzero(array)
