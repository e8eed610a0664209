"""Sequences that lie end to end, as Arrow's lists."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq.optional import load
from packseq.rows.plan import IndexArray


def as_arrow(values: NDArray[Any], offsets: IndexArray) -> Any:
    """Lists of rows (M, *), which share the values where these are contiguous.

    Raises
    ------
    ImportError
        pyarrow is not installed.
    TypeError
        Of a dtype that Arrow has not.
    ValueError
        An axis of the rows is of size 0.
    """
    pa = load("pyarrow", "arrow")
    if 0 in values.shape[1:]:
        raise ValueError(f"Arrow has no lists of rows of shape {values.shape[1:]}")
    if values.dtype.kind not in "biufMm":
        raise TypeError(f"Arrow has no lists of dtype {values.dtype} that from_arrow would take")
    try:
        array = pa.array(np.ascontiguousarray(values).reshape(-1))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise TypeError(f"Arrow has no lists of dtype {values.dtype}: {error}") from error
    for size in values.shape[:0:-1]:
        array = pa.FixedSizeListArray.from_arrays(array, size)
    if len(values) < 2**31:
        return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), array)
    return pa.LargeListArray.from_arrays(pa.array(offsets), array)
