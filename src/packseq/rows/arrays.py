"""Rows of NumPy arrays moved between their layouts, each in one pass with one allocation.

This is one of the two movers whose contract ``packseq.rows.movers`` has: everything is checked by
now.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq._core import rows
from packseq.rows import moving, ragged
from packseq.rows.plan import IndexArray, Plan
from packseq.settings.threads import crew

Array = NDArray[Any]


def gather_padded(padded: Array, plan: Plan) -> Array:
    """(T, B, *) -> (N, *)."""
    packed = np.empty((plan.rows, *padded.shape[2:]), padded.dtype)
    if packed.nbytes:
        order = plan.in_packed_order(np.arange(plan.batch_size))
        gather_into(packed, moving.with_whole_rows(padded, axes=2), plan, order)
    return packed


def gather_into(packed: Array, padded: Array, plan: Plan, order: IndexArray) -> None:
    """(T, B, *), of which the sequences `order` in this order, -> (N, *); not of zero bytes."""
    addresses, step_strides = rows.locate_padded(padded, order)
    row_bytes = packed.nbytes // plan.rows
    lengths, offsets = plan.sorted_lengths, plan.offsets
    rows.gather(packed, row_bytes, addresses, step_strides, lengths, offsets, *crew())


def scatter_padded(data: Array, plan: Plan, steps: int, batch_first: bool, padding: Any) -> Array:
    """(N, *) -> (T, B, *) with T = `steps`, or (B, T, *) if `batch_first`; C-contiguous."""
    leading = (plan.batch_size, steps) if batch_first else (steps, plan.batch_size)
    result = np.empty((*leading, *data.shape[1:]), data.dtype)
    if result.nbytes:
        padded = result.swapaxes(0, 1) if batch_first else result
        padding = np.full(data.shape[1:], padding, data.dtype)
        order = plan.in_packed_order(np.arange(plan.batch_size))
        scatter_into(padded, np.ascontiguousarray(data), plan, order, padding)
    return result


def scatter_into(padded: Array, data: Array, plan: Plan, order: IndexArray, padding: Array) -> None:
    """(N, *) -> (T, B, *), to the sequences `order` and their tails; not of zero bytes."""
    addresses, step_strides = rows.locate_padded(padded, order)
    rows.scatter(
        data,
        padding.nbytes,
        addresses,
        step_strides,
        plan.sorted_lengths,
        plan.offsets,
        padding,
        len(padded),
        *crew(),
    )


def gather_sequences(sequences: list[Array], plan: Plan) -> Array:
    """A list of (L, *) -> (N, *)."""
    first = sequences[0]
    packed = np.empty((plan.rows, *first.shape[1:]), first.dtype)
    if packed.nbytes:
        order = plan.in_packed_order(np.arange(len(sequences))).tolist()
        whole = [moving.with_whole_rows(sequences[b], axes=1) for b in order]
        addresses = np.empty(len(whole), np.int64)
        step_strides = np.empty(len(whole), np.int64)
        rows.locate(whole, addresses, step_strides)
        row_bytes = packed.nbytes // plan.rows
        lengths, offsets = plan.sorted_lengths, plan.offsets
        rows.gather(packed, row_bytes, addresses, step_strides, lengths, offsets, *crew())
    return packed


def scatter_sequences(data: Array, plan: Plan) -> list[Array]:
    """(N, *) -> a list of (L, *), views of one new buffer."""
    values, offsets = ragged.unpack(data, plan)
    buffer = values.copy() if values is data else values
    return [buffer[start:end] for start, end in pairwise(offsets.tolist())]


def stack(sequences: list[Array], steps: int, batch_first: bool, left: bool, padding: Any) -> Array:
    """A list of (L, *) -> (T, B, *) with T = `steps`, or (B, T, *) if `batch_first`."""
    first = sequences[0]
    leading = (len(sequences), steps) if batch_first else (steps, len(sequences))
    padded = np.empty((*leading, *first.shape[1:]), first.dtype)
    by_sequence = padded if batch_first else padded.swapaxes(0, 1)
    for row, sequence in zip(by_sequence, sequences, strict=True):
        start = steps - len(sequence) if left else 0
        row[:start] = padding
        row[start : start + len(sequence)] = sequence
        row[start + len(sequence) :] = padding
    return padded


def split(padded: Array, lengths: IndexArray) -> list[Array]:
    """(T, B, *) -> a list of (L, *), a copy each."""
    return [padded[:end, b].copy() for b, end in enumerate(lengths.tolist())]


def reverse(data: Array, plan: Plan) -> Array:
    """(N, *) -> (N, *), each sequence from its own last step to its first."""
    return moving.reverse(data, plan)[0]


def astype(data: Array, dtype: Any) -> Array:
    """Copy, cast as ``numpy.ndarray.astype`` does.

    Raises
    ------
    TypeError
        `dtype` holds Python objects.
    """
    target = np.dtype(dtype)
    if target.hasobject:
        raise TypeError(f"dtype must not hold Python objects, got {target}")
    return data.astype(target)


def copy_lengths(plan: Plan) -> IndexArray:
    """(B,), in the caller's order."""
    return plan.lengths.copy()


def as_padding(value: Any, data: Array) -> Array:
    """Return `value` as a scalar of the dtype of `data`.

    Raises
    ------
    ValueError
        It would change, other than by the rounding of floats.
    """
    return cast_padding(value, "padding_value", data.dtype, str(data.dtype))


def cast_padding(value: Any, name: str, dtype: np.dtype[Any], shown: str) -> Array:
    """Return `value`, called `name` in errors, as a scalar of `dtype`; 0 is the zero of each."""
    numeric = dtype.kind in "biufc"
    if not numeric and isinstance(value, (int, float)) and value == 0:
        return np.zeros((), dtype)
    try:
        with np.errstate(over="raise"):
            scalar = np.array(value, dtype)
        exact = scalar.ndim == 0 and _same_value(scalar, value)
    except (TypeError, ValueError, OverflowError, FloatingPointError) as error:
        raise ValueError(f"{name} {value!r} does not fit dtype {shown}: {error}") from error
    if not exact:
        raise ValueError(f"{name} {value!r} does not fit dtype {shown}")
    return scalar


def _same_value(scalar: Array, value: Any) -> bool:
    """Whether `value` became `scalar` unchanged, but for the rounding of floats."""
    if scalar.dtype.kind in "fc":
        return np.asarray(value).dtype.kind in "biufc"
    if scalar.dtype.kind == "V":
        return bool(scalar.item() == (value.item() if isinstance(value, np.generic) else value))
    return bool(scalar[()] == value or scalar[()] != scalar[()])
