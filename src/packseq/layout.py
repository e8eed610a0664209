"""Between padded batches, lists of sequences and packed rows: validate, then move the rows once."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Literal, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from packseq._core import rows
from packseq._core.order import outside
from packseq.packed import PackedSequence, as_data
from packseq.plan import IndexArray, Plan, as_int64_vector

INT64_MAX = np.iinfo(np.int64).max


def pack_padded_sequence(
    input: ArrayLike,
    lengths: ArrayLike,
    batch_first: bool = False,
    enforce_sorted: bool = False,
) -> PackedSequence:
    """Pack a padded batch into time-major rows, longest sequence first.

    Parameters
    ----------
    input : array_like of shape (T, B, *), or (B, T, *) if batch_first
        Any dtype but object, any strides. Entries past each length are never read.
    lengths : array_like of int, shape (B,)
        Steps per sequence, ``0 <= lengths[b] <= T``, in any order.
    batch_first : bool
        The batch is the first axis of `input`.
    enforce_sorted : bool
        Refuse lengths that are not non-increasing, rather than sort them.

    Returns
    -------
    PackedSequence
        ``data`` has shape (N, *), N = sum(lengths). Always a copy.

    Raises
    ------
    TypeError
        `input` is masked or of object dtype; `lengths` are not integers.
    ValueError
        `input` has fewer than two axes; `lengths` are of the wrong count, out of range, or unsorted
        with `enforce_sorted`. The message names the position and the value.

    Notes
    -----
    Cost: one gather of N rows; all of `input` is copied first where the trailing axes of one step
    are not contiguous. Equal lengths keep their order.
    Source: torch.nn.utils.rnn.pack_padded_sequence, where `enforce_sorted` is True by default and
    lengths of 0 are refused.
    """
    padded = _as_time_major(input, "input", batch_first)
    plan = Plan.from_lengths(as_lengths(lengths, padded, "input"), enforce_sorted)
    return PackedSequence._of(_gather_padded(padded, plan), plan)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: Any = 0.0,
    total_length: SupportsIndex | None = None,
) -> tuple[NDArray[Any], IndexArray]:
    """Undo :func:`pack_padded_sequence`.

    Parameters
    ----------
    sequence : PackedSequence
    batch_first : bool
        Put the batch on the first axis.
    padding_value : scalar
        What follows the end of each sequence; must be exact in the dtype, but for the rounding of
        floats. The number 0 means the zero of every dtype: an empty string, a struct of zeros.
    total_length : int, optional
        Steps to pad to, at least the longest length, which is the default.

    Returns
    -------
    padded : ndarray of shape (T, B, *), or (B, T, *) if batch_first
        C-contiguous, in the caller's order.
    lengths : ndarray of int64, shape (B,)

    Raises
    ------
    TypeError
        `sequence` is no PackedSequence; `total_length` is no integer.
    ValueError
        `total_length` is less than the longest length; `padding_value` does not fit the dtype.

    Notes
    -----
    Cost: one scatter of N rows; the padding is written in the same pass, and nothing twice.
    Source: torch.nn.utils.rnn.pad_packed_sequence.
    """
    data, plan = _unwrap(sequence)
    steps = _as_total_length(total_length, plan.max_length)
    padding = _as_padding(padding_value, data.dtype, data.shape[1:])
    leading = (plan.batch_size, steps) if batch_first else (steps, plan.batch_size)
    padded = _empty((*leading, *data.shape[1:]), data.dtype)
    _scatter_padded(data, plan, padded.swapaxes(0, 1) if batch_first else padded, padding)
    return padded, plan.lengths.copy()


def pack_sequence(sequences: Iterable[ArrayLike], enforce_sorted: bool = False) -> PackedSequence:
    """Pack a list of sequences, straight from each: no padded batch is made.

    Parameters
    ----------
    sequences : list of array_like, each of shape (L, *)
        Of one dtype (any but object) and one trailing shape; any lengths, 0 included, any strides.
    enforce_sorted : bool
        Refuse sequences that are not longest first, rather than sort them.

    Returns
    -------
    PackedSequence
        ``data`` has shape (N, *), N the sum of the lengths. Always a copy.

    Raises
    ------
    TypeError
        A sequence is masked or of object dtype.
    ValueError
        There are no sequences; one is a scalar, or differs from the first in dtype or trailing
        shape; they are unsorted with `enforce_sorted`. The message names the position.

    Notes
    -----
    Cost: one gather of N rows and about a microsecond a sequence; a sequence is copied first where
    the trailing axes of one step are not contiguous.
    Source: torch.nn.utils.rnn.pack_sequence, where `enforce_sorted` is True by default.
    """
    arrays = _as_sequences(sequences)
    plan = Plan.from_lengths(np.array([len(array) for array in arrays], np.int64), enforce_sorted)
    return PackedSequence._of(_gather_sequences(arrays, plan), plan)


def unpack_sequence(sequence: PackedSequence) -> list[NDArray[Any]]:
    """Undo :func:`pack_sequence`: no padded batch is made.

    Parameters
    ----------
    sequence : PackedSequence

    Returns
    -------
    list of ndarray, each of shape (L, *)
        In the caller's order: neighbouring views of one new buffer of N rows, ``result[0].base``,
        which lives for as long as any of them does.

    Raises
    ------
    TypeError
        `sequence` is no PackedSequence.

    Notes
    -----
    Cost: one scatter of N rows and one allocation.
    Source: torch.nn.utils.rnn.unpack_sequence.
    """
    return _scatter_sequences(*_unwrap(sequence))


def pad_sequence(
    sequences: Iterable[ArrayLike],
    batch_first: bool = False,
    padding_value: Any = 0.0,
    padding_side: Literal["right", "left"] = "right",
) -> NDArray[Any]:
    """Stack a list of sequences, padded to the longest.

    Parameters
    ----------
    sequences : list of array_like, each of shape (L, *)
        Of one dtype (any but object) and one trailing shape.
    batch_first : bool
        Put the batch on the first axis.
    padding_value : scalar
        As for :func:`pad_packed_sequence`.
    padding_side : {"right", "left"}
        Pad after the end of each sequence or before its start.

    Returns
    -------
    ndarray of shape (T, B, *), or (B, T, *) if batch_first

    Raises
    ------
    TypeError
        A sequence is masked or of object dtype.
    ValueError
        As for :func:`pack_sequence`; `padding_side` is neither; `padding_value` does not fit the
        dtype.

    Notes
    -----
    Cost: one pass over the T * B rows of the result.
    Source: torch.nn.utils.rnn.pad_sequence.
    """
    arrays = _as_sequences(sequences)
    if padding_side not in ("right", "left"):
        raise ValueError(f"padding_side must be 'right' or 'left', got {padding_side!r}")
    first = arrays[0]
    steps = max(map(len, arrays))
    padding = _as_padding(padding_value, first.dtype, first.shape[1:])
    leading = (len(arrays), steps) if batch_first else (steps, len(arrays))
    padded = _empty((*leading, *first.shape[1:]), first.dtype)
    for row, array in zip(padded if batch_first else padded.swapaxes(0, 1), arrays, strict=True):
        start = steps - len(array) if padding_side == "left" else 0
        row[:start] = padding
        row[start : start + len(array)] = array
        row[start + len(array) :] = padding
    return padded


def unpad_sequence(
    padded_sequences: ArrayLike, lengths: ArrayLike, batch_first: bool = False
) -> list[NDArray[Any]]:
    """Undo :func:`pad_sequence` with padding on the right.

    Parameters
    ----------
    padded_sequences : array_like of shape (T, B, *), or (B, T, *) if batch_first
        Any dtype but object, any strides.
    lengths : array_like of int, shape (B,)
        Steps per sequence, ``0 <= lengths[b] <= T``.
    batch_first : bool
        The batch is the first axis of `padded_sequences`.

    Returns
    -------
    list of ndarray, each of shape (L, *)
        Copies, as torch's are: a view would keep the padding in memory.

    Raises
    ------
    TypeError, ValueError
        As for :func:`pack_padded_sequence`.

    Notes
    -----
    Cost: one pass over N rows, and an allocation a sequence.
    Source: torch.nn.utils.rnn.unpad_sequence.
    """
    padded = _as_time_major(padded_sequences, "padded_sequences", batch_first)
    ends = as_lengths(lengths, padded, "padded_sequences").tolist()
    return [padded[:end, b].copy() for b, end in enumerate(ends)]


# ---- what is checked ----


def _as_time_major(values: ArrayLike, name: str, batch_first: bool) -> NDArray[Any]:
    """View a padded batch as (T, B, *)."""
    array = as_data(values, name)
    if array.ndim < 2:
        axes = "(B, T, *)" if batch_first else "(T, B, *)"
        raise ValueError(f"{name} must have shape {axes}, got {array.shape}")
    return array.swapaxes(0, 1) if batch_first else array


def as_lengths(lengths: ArrayLike, padded: NDArray[Any], name: str) -> IndexArray:
    """Return int64 lengths that fit a (T, B, *) batch, as does their sum int64."""
    steps, batch_size = padded.shape[:2]
    array = as_int64_vector(lengths, "lengths")
    if len(array) != batch_size:
        raise ValueError(
            f"lengths has {len(array)} entries, but {name} has a batch of {batch_size}"
        )
    bad = outside(array, steps)
    if bad >= 0:
        raise ValueError(
            f"lengths must be between 0 and {steps}, the steps of {name}, got "
            f"lengths[{bad}] = {array[bad]}"
        )
    return array


def _as_sequences(sequences: Iterable[ArrayLike]) -> list[NDArray[Any]]:
    """Return at least one array, all of one dtype and trailing shape."""
    if not isinstance(sequences, Iterable):
        raise TypeError(f"sequences must be a list of arrays, got {type(sequences).__name__}")
    arrays = [as_data(values, f"sequences[{b}]") for b, values in enumerate(sequences)]
    if not arrays:
        raise ValueError("sequences must hold at least one sequence, got none")
    first = arrays[0]
    for b, array in enumerate(arrays):
        if array.ndim == 0:
            raise ValueError(f"sequences[{b}] must have shape (L, *), got a scalar")
        if array.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"sequences must share one trailing shape: sequences[{b}] has {array.shape[1:]}, "
                f"sequences[0] has {first.shape[1:]}"
            )
        if array.dtype != first.dtype:
            raise ValueError(
                f"sequences must share one dtype: sequences[{b}] has {array.dtype}, "
                f"sequences[0] has {first.dtype}"
            )
    return arrays


def _unwrap(sequence: PackedSequence) -> tuple[NDArray[Any], Plan]:
    if not isinstance(sequence, PackedSequence):
        raise TypeError(f"sequence must be a PackedSequence, got {type(sequence).__name__}")
    return sequence.data, sequence._plan


def _as_total_length(total_length: SupportsIndex | None, longest: int) -> int:
    if total_length is None:
        return longest
    try:
        steps = operator.index(total_length)
    except TypeError:
        raise TypeError(f"total_length must be an integer, got {total_length!r}") from None
    if steps < longest:
        raise ValueError(f"total_length must be at least the longest length {longest}, got {steps}")
    return steps


def _as_padding(value: Any, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> NDArray[Any]:
    """Return one row of padding."""
    numeric = dtype.kind in "biufc"
    if not numeric and isinstance(value, (int, float)) and value == 0:
        return np.zeros(row_shape, dtype)
    try:
        with np.errstate(over="raise"):
            scalar = np.array(value, dtype)
        exact = scalar.ndim == 0 and _same_value(scalar, value)
    except (TypeError, ValueError, OverflowError, FloatingPointError) as error:
        raise ValueError(f"padding_value {value!r} does not fit dtype {dtype}: {error}") from error
    if not exact:
        raise ValueError(f"padding_value {value!r} does not fit dtype {dtype}")
    return np.full(row_shape, scalar, dtype)


def _same_value(scalar: NDArray[Any], value: Any) -> bool:
    """Whether `value` became `scalar` unchanged, but for the rounding of floats."""
    if scalar.dtype.kind in "fc":
        return np.asarray(value).dtype.kind in "biufc"
    if scalar.dtype.kind == "V":
        return bool(scalar.item() == (value.item() if isinstance(value, np.generic) else value))
    return bool(scalar[()] == value or scalar[()] != scalar[()])


def _empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    # NumPy leaves zeros out when it checks a product of sizes, so this does too.
    nbytes = np.dtype(dtype).itemsize * math.prod(size for size in shape if size)
    if nbytes > INT64_MAX:
        raise ValueError(f"the result of shape {shape} would take {nbytes} bytes, beyond int64")
    return np.empty(shape, dtype)


# ---- what moves the rows: everything is checked by now ----


def _gather_padded(padded: NDArray[Any], plan: Plan) -> NDArray[Any]:
    """(T, B, *) -> (N, *)."""
    packed = _empty((plan.rows, *padded.shape[2:]), padded.dtype)
    if packed.nbytes:
        padded = _with_whole_rows(padded, axes=2)
        addresses, step_strides = _locate(padded, plan)
        row_bytes = packed.nbytes // plan.rows
        rows.gather(packed, row_bytes, addresses, step_strides, plan.sorted_lengths, plan.offsets)
    return packed


def _scatter_padded(
    data: NDArray[Any], plan: Plan, padded: NDArray[Any], padding: NDArray[Any]
) -> None:
    """(N, *) -> (T, B, *), whose rows are C-contiguous."""
    if padded.nbytes:
        addresses, step_strides = _locate(padded, plan)
        rows.scatter(
            np.ascontiguousarray(data),
            padding.nbytes,
            addresses,
            step_strides,
            plan.sorted_lengths,
            plan.offsets,
            padding,
            len(padded),
        )


def _gather_sequences(sequences: list[NDArray[Any]], plan: Plan) -> NDArray[Any]:
    """A list of (L, *) -> (N, *)."""
    first = sequences[0]
    packed = _empty((plan.rows, *first.shape[1:]), first.dtype)
    if packed.nbytes:
        order = _in_packed_order(np.arange(len(sequences)), plan).tolist()
        whole = [_with_whole_rows(sequences[b], axes=1) for b in order]
        addresses = np.empty(len(whole), np.int64)
        step_strides = np.empty(len(whole), np.int64)
        rows.locate(whole, addresses, step_strides)
        row_bytes = packed.nbytes // plan.rows
        rows.gather(packed, row_bytes, addresses, step_strides, plan.sorted_lengths, plan.offsets)
    return packed


def _scatter_sequences(data: NDArray[Any], plan: Plan) -> list[NDArray[Any]]:
    """(N, *) -> a list of (L, *), views of one buffer."""
    buffer = np.empty(data.shape, data.dtype)
    ends = np.cumsum(plan.lengths)
    if buffer.nbytes:
        row_bytes = buffer.nbytes // plan.rows
        starts = _in_packed_order(ends - plan.lengths, plan)
        rows.scatter(
            np.ascontiguousarray(data),
            row_bytes,
            buffer.ctypes.data + row_bytes * starts,
            np.full(plan.batch_size, row_bytes),
            plan.sorted_lengths,
            plan.offsets,
            padding=None,
            padded=0,
        )
    return [buffer[start:end] for start, end in pairwise([0, *ends.tolist()])]


def _locate(padded: NDArray[Any], plan: Plan) -> tuple[IndexArray, IndexArray]:
    """Addresses and step strides of the sequences of a (T, B, *) batch, in packed order."""
    step_stride, batch_stride = padded.strides[:2]
    b = _in_packed_order(np.arange(plan.batch_size), plan)
    return padded.ctypes.data + batch_stride * b, np.full(plan.batch_size, step_stride)


def _in_packed_order(values: IndexArray, plan: Plan) -> IndexArray:
    return values if plan.sorted_indices is None else values[plan.sorted_indices]


def _with_whole_rows(array: NDArray[Any], axes: int) -> NDArray[Any]:
    """`array`, copied where a row, what follows its first `axes`, is not one run of bytes."""
    if array.flags.c_contiguous or array.size == 0:
        return array
    row = array[(0,) * axes + (...,)]
    return array if row.flags.c_contiguous else np.ascontiguousarray(array)
