"""Reductions of each row along one of its axes, and softmax and running sums along it.

What is made of a row's entries follows from them and their order alone, whatever the layout of the
rows, whose sums NumPy itself takes in an order that depends on it. Floats are taken by the loops of
kernels/along.h, row after row; what is exact in any order by NumPy; what has few entries, for
which a row is too short to be worth a loop of its own, and complex numbers as over time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from packseq._core import recurrent
from packseq.rows import reducing
from packseq.rows.plan import Plan
from packseq.rows.reducing import as_walked, checked, real_dtype, sum_dtype
from packseq.settings.isa import product_kernels

Array = NDArray[Any]
Walk: TypeAlias = Callable[[Array, int], Array]

# From so many entries on, those of all strands, a row has a loop of its own: 10,000 sums of 16
# float32 take 90 us then and 150 as over time, but of 12 they take 240 and 100 (Zen 4).
WIDE = 16

# So many bytes of rows are turned or cast at a time, to stay in cache. For 20,000 rows of 256
# float32 on an AMD EPYC, 128 KiB, 512 KiB and all at once, ms: a sum over time 10.0, 7.3, 12.7.
_BLOCK_BYTES = 512 << 10


def sum_(data: Array, axis: int) -> Array:
    """(N, *) without `axis`, of NumPy's dtype for sums."""
    dtype = sum_dtype(data.dtype)
    if _as_over_time(data, axis, dtype):
        return _reduced_over_time(reducing.sum_, data, axis)
    if dtype.kind != "f":
        exact: Array = data.sum(axis, dtype=dtype)
        return exact
    return _reduced("sum", data, axis, dtype).astype(dtype, copy=False)


def mean(data: Array, axis: int) -> Array:
    """(N, *) without `axis`: float64 for integers."""
    integral = data.dtype.kind in "biu"
    dtype = np.dtype(np.float64) if integral else checked(data.dtype, "biufc")
    if _as_over_time(data, axis, dtype):
        return _reduced_over_time(reducing.mean, data, axis)
    total = _reduced("sum", data, axis, dtype)
    with np.errstate(invalid="ignore"):
        total /= total.dtype.type(data.shape[axis])
    return total.astype(dtype, copy=False)


def max_(data: Array, axis: int) -> Array:
    """(N, *) without `axis`, of the rows' dtype: a NaN wins."""
    return _extreme("max", reducing.max_, data, axis)


def min_(data: Array, axis: int) -> Array:
    """(N, *) without `axis`, of the rows' dtype: a NaN wins."""
    return _extreme("min", reducing.min_, data, axis)


def argmax(data: Array, axis: int) -> Array:
    """(N, *) int64 without `axis`, of which the first maximum or NaN is; -1 where it is empty.

    NumPy's own, whose places, unlike its sums, no layout changes.
    """
    checked(data.dtype, "biuf")
    if not data.shape[axis]:
        return np.full(data.shape[:axis] + data.shape[axis + 1 :], -1, np.int64)
    places: Array = data.argmax(axis).astype(np.int64, copy=False)
    return places


def logsumexp(data: Array, axis: int) -> Array:
    """(N, *) without `axis`."""
    dtype = real_dtype(data.dtype)
    if _as_over_time(data, axis, dtype):
        return _reduced_over_time(reducing.logsumexp, data, axis)
    moved = _last(data, axis)
    out = np.empty(moved.shape[:-1], reducing.walked_dtype(dtype))
    _in_blocks(_write_logsumexp, moved, out)
    return out.astype(dtype, copy=False)


def cumsum(data: Array, axis: int) -> Array:
    """(N, *): the sum of the entries up to each."""
    dtype = sum_dtype(data.dtype)
    if dtype.kind == "c":
        return _walked_over_time(reducing.cumsum, data, axis)
    if dtype.kind != "f":
        return np.ascontiguousarray(data.cumsum(axis, dtype=dtype))
    return _walked(_by_kernel("cumsum"), data, axis, dtype)


def softmax(data: Array, axis: int) -> Array:
    """(N, *): weights that sum to 1 along the axis."""
    dtype = real_dtype(data.dtype)
    if _as_over_time(data, axis, dtype):
        return _walked_over_time(reducing.softmax, data, axis)
    return _walked(_by_kernel("softmax"), data, axis, dtype)


def log_softmax(data: Array, axis: int) -> Array:
    """(N, *): their logarithms."""
    dtype = real_dtype(data.dtype)
    if _as_over_time(data, axis, dtype):
        return _walked_over_time(reducing.log_softmax, data, axis)
    return _walked(_write_log_softmax, data, axis, dtype)


def totals(rows: Array) -> tuple[Array, Array]:
    """(M, K) -> (M,) twice: their maxima, and the sums of the exponentials of what is left without.

    Rows are C-contiguous and aligned, of float32 or float64.
    """
    pair = np.empty((2, len(rows)), rows.dtype)
    if rows.size:
        recurrent.along(product_kernels(), "totals", rows, pair)
    return pair[0], pair[1]


# ---- row after row: a Write makes its part of the result of contiguous rows (M, K) ----

Write = Callable[[Array, Array], None]


def _by_kernel(name: str) -> Write:
    kernels = product_kernels()

    def write(rows: Array, out: Array) -> None:
        recurrent.along(kernels, name, rows, out)

    return write


def _write_logsumexp(rows: Array, out: Array) -> None:
    """out (M, 1)."""
    top, total = totals(rows)
    out[:, 0] = reducing.log_of_totals(total, top) + top


def _write_log_softmax(rows: Array, out: Array) -> None:
    """out (M, K)."""
    top, total = totals(rows)
    with np.errstate(invalid="ignore"):
        # The maximum first: of what is large, logsumexp would have lost the digits that count.
        np.subtract(rows, top[:, np.newaxis], out=out)
        np.subtract(out, reducing.log_of_totals(total, top)[:, np.newaxis], out=out)


def _reduced(name: str, data: Array, axis: int, dtype: np.dtype[Any]) -> Array:
    """(N, *) without `axis`, in the precision that `dtype` is computed in."""
    moved = _last(data, axis)
    out = np.empty(moved.shape[:-1], reducing.walked_dtype(dtype))
    _in_blocks(_by_kernel(name), moved, out)
    return out


def _walked(write: Write, data: Array, axis: int, dtype: np.dtype[Any]) -> Array:
    moved = _last(data, axis)
    out = np.empty(moved.shape, reducing.walked_dtype(dtype))
    _in_blocks(write, moved, out)
    return np.ascontiguousarray(_moved_back(out, axis), dtype)


def _extreme(name: str, over_time: reducing.Walk, data: Array, axis: int) -> Array:
    dtype = checked(data.dtype, "biuf")
    if _as_over_time(data, axis, dtype):
        return _reduced_over_time(over_time, data, axis)
    if dtype.kind != "f":
        exact: Array = getattr(data, name)(axis).astype(data.dtype, copy=False)
        return exact
    return _reduced(name, data, axis, dtype).astype(data.dtype, copy=False)


def _in_blocks(write: Write, moved: Array, out: Array) -> None:
    """Write all of `out`, contiguous, of rows whose last axis is taken; some at a time."""
    if not moved.size:
        return
    as_it_is = moved.dtype == out.dtype and moved.flags.carray
    for at in [slice(None)] if as_it_is else _blocks(moved):
        rows = as_walked(moved[at], out.dtype).reshape(-1, moved.shape[-1])
        write(rows, out[at].reshape(len(rows), -1))


def _last(data: Array, axis: int) -> Array:
    return data if axis == data.ndim - 1 else np.moveaxis(data, axis, -1)


def _moved_back(data: Array, axis: int) -> Array:
    return data if axis == data.ndim - 1 else np.moveaxis(data, -1, axis)


# ---- as over time ----
#
# The entries, moved to the front, are the steps of one sequence, whose row is all rows without that
# axis.


def _as_over_time(data: Array, axis: int, dtype: np.dtype[Any]) -> bool:
    return data.shape[axis] < WIDE or dtype.kind == "c"


def _reduced_over_time(reduce: reducing.Walk, data: Array, axis: int) -> Array:
    """(N, *) without `axis`, of what reduces (K, *) to (1, *)."""
    return np.concatenate([reduce(*_as_steps(data[at], axis))[0] for at in _blocks(data)])


def _walked_over_time(walk: reducing.Walk, data: Array, axis: int) -> Array:
    """(N, *), of what takes (K, *) to (K, *)."""
    walked = np.empty(data.shape, walk(*_as_steps(data[:0], axis)).dtype)
    for at in _blocks(data):
        walked[at] = np.moveaxis(walk(*_as_steps(data[at], axis)), 0, axis)
    return walked


def _blocks(data: Array) -> list[slice]:
    """All rows, some at a time: at least one slice, which may be of none."""
    rows = max(1, _BLOCK_BYTES // max(1, data.itemsize * math.prod(data.shape[1:])))
    return [slice(start, start + rows) for start in range(0, max(1, len(data)), rows)]


def _as_steps(data: Array, axis: int) -> tuple[Array, Plan]:
    return np.moveaxis(data, axis, 0), _plan_of_one(data.shape[axis])


@lru_cache(WIDE)
def _plan_of_one(steps: int) -> Plan:
    """That of one sequence, which to make takes a third of a small call."""
    return Plan.from_lengths(np.array([steps], np.int64))
