"""Reductions of each sequence over its steps, and what needs them.

Rows (N, *) of any dtype, cast to one that the walks of _core.segments have. What has no step
reduces to what the operation gives over nothing: 0, -inf, NaN, and -1 for a place that is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from packseq._core import segments
from packseq.checks import is_number
from packseq.rows.plan import Plan
from packseq.settings.threads import crew

Array = NDArray[Any]
Walk: TypeAlias = Callable[[Array, Plan], Array]

_KINDS = {"b": "bool", "i": "int", "u": "unsigned int", "f": "float", "c": "complex"}

# From here on a walk, 0.2 ms for a sum of 4 MiB on Zen 3, is long beside waking a thread.
_THREADED_BYTES = 4 << 20


def sum_(data: Array, plan: Plan) -> Array:
    """(B, *): 0 where there is no step; of NumPy's dtype for sums, whose integers wrap."""
    dtype = sum_dtype(data.dtype)
    return _total(data, dtype, plan).astype(dtype, copy=False)


def mean(data: Array, plan: Plan) -> Array:
    """(B, *): NaN where there is no step; float64 for integers, as NumPy's."""
    integral = data.dtype.kind in "biu"
    dtype = np.dtype(np.float64) if integral else checked(data.dtype, "biufc")
    total = _total(data, dtype, plan)
    steps = plan.lengths.reshape(-1, *[1] * (data.ndim - 1)).astype(total.real.dtype)
    with np.errstate(invalid="ignore"):
        average: Array = np.divide(total, steps)
    return average.astype(dtype, copy=False)


def max_(data: Array, plan: Plan) -> Array:
    """(B, *): a NaN wins; the least value of the dtype where there is no step."""
    return _extreme("max", data, plan, _limits(data.dtype)[0])


def min_(data: Array, plan: Plan) -> Array:
    """(B, *): a NaN wins; the greatest value of the dtype where there is no step."""
    return _extreme("min", data, plan, _limits(data.dtype)[1])


def argmax(data: Array, plan: Plan) -> Array:
    """(B, *) int64: the first step with the maximum, or with a NaN; -1 where there is no step."""
    native = as_walked(data, _ordered(data.dtype))
    places = np.full((plan.batch_size, *data.shape[1:]), -1, np.int64)
    _walk("argmax", native, plan, places)
    return plan.in_callers_order(places)


def cumsum(data: Array, plan: Plan) -> Array:
    """(N, *): the sum of each sequence's steps up to each."""
    dtype = sum_dtype(data.dtype)
    native = as_walked(data, dtype)
    sums = np.empty_like(native)
    _walk("cumsum", native, plan, sums)
    return _restored(sums, dtype).astype(dtype, copy=False)


def logsumexp(data: Array, plan: Plan) -> Array:
    """(B, *): -inf where there is no step."""
    dtype = real_dtype(data.dtype)
    native = as_walked(data, dtype)
    maxima = _maxima(native, plan)
    _, total = _exponentials(native, plan, maxima)
    result = log_of_totals(total, maxima) + maxima
    return plan.in_callers_order(result).astype(dtype, copy=False)


def softmax(data: Array, plan: Plan) -> Array:
    """(N, *): over the steps of each sequence."""
    dtype = real_dtype(data.dtype)
    native = as_walked(data, dtype)
    weights, total = _exponentials(native, plan, _maxima(native, plan))
    _walk("divide", weights, plan, weights, total)
    return weights.astype(dtype, copy=False)


def log_softmax(data: Array, plan: Plan) -> Array:
    """(N, *): over the steps of each sequence."""
    dtype = real_dtype(data.dtype)
    native = as_walked(data, dtype)
    maxima = _maxima(native, plan)
    result, total = _exponentials(native, plan, maxima)
    # The maximum first: of what is large, logsumexp would have lost the digits that count.
    _walk("subtract", native, plan, result, maxima)
    _walk("subtract", result, plan, result, log_of_totals(total, maxima))
    return result.astype(dtype, copy=False)


def attend(data: Array, weights: Array, plan: Plan) -> Array:
    """(B, *): the sum of rows times weights, whose rows broadcast against those of `data`."""
    dtype = real_dtype(np.result_type(data.dtype, weights.dtype))
    native, weights = as_walked(data, dtype), as_walked(weights, dtype)
    row_shape = data.shape[1:]
    weights, group = _shared_weights(weights, row_shape)
    total = np.zeros((plan.batch_size, *row_shape), native.dtype)
    _walk("weighted_sum", native, plan, total, weights, group)
    return plan.in_callers_order(total).astype(dtype, copy=False)


def _shared_weights(weights: Array, row_shape: tuple[int, ...]) -> tuple[Array, int]:
    """Weights, and how many neighbouring elements of a row share each: no copy of them is made
    where it is the last axes that they lack."""
    lacking = len(row_shape) + 1 - weights.ndim
    weights = weights.reshape(len(weights), *[1] * lacking, *weights.shape[1:])
    for axes in range(len(row_shape) + 1):
        if weights.shape[1:] == (*row_shape[:axes], *[1] * (len(row_shape) - axes)):
            return weights, math.prod(row_shape[axes:])
    return np.ascontiguousarray(np.broadcast_to(weights, (len(weights), *row_shape))), 1


# ---- walks: rows as as_walked gives them, (B, *) in packed order ----


def _walk(
    name: str, data: Array, plan: Plan, out: Array, other: Array | None = None, group: int = 1
) -> None:
    if not data.size:
        return
    width = data.size // plan.rows
    threads = None if data.nbytes >= _THREADED_BYTES else 1
    segments.walk(name, data, plan.offsets, width, out, other, group, *crew(threads))


def _total(data: Array, dtype: np.dtype[Any], plan: Plan) -> Array:
    """The sums of rows of `dtype`, in the caller's order and the precision they are walked in."""
    native = as_walked(data, dtype)
    total = np.zeros((plan.batch_size, *native.shape[1:]), native.dtype)
    _walk("sum", native, plan, total)
    return plan.in_callers_order(_restored(total, dtype))


def _extreme(name: str, data: Array, plan: Plan, of_nothing: Any) -> Array:
    native = as_walked(data, _ordered(data.dtype))
    extreme = np.full((plan.batch_size, *data.shape[1:]), of_nothing, native.dtype)
    _walk(name, native, plan, extreme)
    return plan.in_callers_order(extreme).astype(data.dtype, copy=False)


def _maxima(native: Array, plan: Plan) -> Array:
    maxima = np.full((plan.batch_size, *native.shape[1:]), -np.inf, native.dtype)
    _walk("max", native, plan, maxima)
    return maxima


def _exponentials(native: Array, plan: Plan, maxima: Array) -> tuple[Array, Array]:
    """exp(rows - maxima), and their sums."""
    powers = np.empty_like(native)
    _walk("exp_less", native, plan, powers, maxima)
    total = np.zeros_like(maxima)
    _walk("sum", powers, plan, total)
    return powers, total


def log_of_totals(total: Array, maxima: Array) -> Array:
    """Logarithms of sums of exp(x - maximum); 0 where the maximum, infinite or NaN, is all there is
    to say: inf - inf is NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isfinite(maxima), np.log(total), 0)


# ---- dtypes ----


def as_walked(data: Array, dtype: np.dtype[Any]) -> Array:
    """Rows in a dtype that is walked; complex ones as (N, *, 2)."""
    if dtype.kind == "c":
        pairs = np.require(data, dtype, ["C", "A"])[..., np.newaxis]
        return pairs.view(pairs.real.dtype)
    walked = walked_dtype(dtype)
    if data.dtype == walked and data.flags.carray:
        return data  # np.require would take a microsecond to find out
    return np.require(data, walked, ["C", "A"])


def walked_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What real numbers of `dtype` are computed in."""
    if dtype.kind == "f":
        return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)
    return np.dtype(np.int64 if dtype.kind == "i" else np.uint64)


def _restored(walked: Array, dtype: np.dtype[Any]) -> Array:
    return walked.view(dtype)[..., 0] if dtype.kind == "c" else walked


def sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """NumPy's: integers widen to 64 bits."""
    if dtype.kind in "bi":
        return np.dtype(np.int64)
    if dtype.kind == "u":
        return np.dtype(np.uint64)
    return checked(dtype, "biufc")


def real_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float64 for integers, as NumPy's exp."""
    return np.dtype(np.float64) if dtype.kind in "iu" else checked(dtype, "iuf")


def _ordered(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return checked(dtype, "biuf")


def checked(dtype: np.dtype[Any], kinds: str) -> np.dtype[Any]:
    if not is_number(dtype, kinds):
        wanted = " or ".join(_KINDS[kind] for kind in kinds)
        limit = "64 bits a part" if "c" in kinds else "64 bits"
        raise TypeError(f"the rows must be {wanted} of at most {limit}, got dtype {dtype}")
    return dtype.newbyteorder("=")


def _limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The least and the greatest value."""
    if _ordered(dtype).kind == "f":
        return -np.inf, np.inf
    if dtype.kind == "b":
        return False, True
    limits = np.iinfo(dtype)
    return limits.min, limits.max
