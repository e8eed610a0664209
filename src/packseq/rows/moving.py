"""Rows moved between packed batches: sub-batches, slices of time, reversal, shifts, windows, joins.

Each function takes rows (N, *) with their plan, and returns rows with theirs. Sequences of the
target are copied as runs of steps by one kernel, so no index of N rows is ever made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq._core import rows
from packseq.checks import INT64_MAX, check_size
from packseq.rows.plan import IndexArray, Plan
from packseq.settings.threads import crew

Array = NDArray[Any]
Packed = tuple[Array, Plan]


def sequence(data: Array, plan: Plan, b: int) -> Array:
    """The rows of sequence `b`: a view where its steps are evenly apart, else a copy."""
    rank = b if plan.unsorted_indices is None else int(plan.unsorted_indices[b])
    length = int(plan.lengths[b])
    if length <= 1:
        return data[rank : rank + length]
    gap = plan.batch_sizes[0]
    if gap == plan.batch_sizes[length - 2]:
        return data[rank::gap][:length]
    return data[plan.offsets[:length] + rank]


def select(data: Array, plan: Plan, indices: IndexArray) -> Packed:
    """The sequences `indices`, each in 0 to B - 1, in that order and as often."""
    lengths = plan.lengths[indices]
    if len(indices) * plan.max_length > INT64_MAX and sum(lengths.tolist()) > INT64_MAX:
        raise ValueError("indices repeat sequences of more rows in sum than int64 can count")
    target = Plan.from_lengths(lengths)
    chosen = target.in_packed_order(indices)
    ranks = chosen if plan.unsorted_indices is None else plan.unsorted_indices[chosen]
    return _moved(data, plan, target, source_row=ranks), target


def slice_time(data: Array, plan: Plan, start: int | None, stop: int | None) -> Packed:
    """Steps `start` to `stop` of each sequence, as Python slices it.

    A view where both count from the start, since whole steps then fall away.
    """
    first = _bounds(plan.sorted_lengths, 0 if start is None else start)
    last = plan.sorted_lengths if stop is None else _bounds(plan.sorted_lengths, stop)
    target = plan.with_lengths(np.maximum(last - first, 0))
    if (start or 0) >= 0 and (stop is None or stop >= 0):
        begin = int(plan.offsets[min(start or 0, plan.max_length)])
        return data[begin : begin + target.rows], target
    # In the order of the target, which is the source's unless the lengths no longer fall.
    ranks = _source_ranks(plan, target)
    return _moved(data, plan, target, source_row=ranks, source_step=first[ranks]), target


def reverse(data: Array, plan: Plan) -> Packed:
    """Each sequence from its own last step to its first."""
    last = plan.sorted_lengths - 1
    return _moved(data, plan, plan, _every(plan), source_step=last, stride=-1), plan


def shift(data: Array, plan: Plan, steps: int, fill: Array) -> Packed:
    """Each sequence `steps` later, or earlier if negative; the row `fill` where none arrives."""
    moved = np.empty(data.shape, data.dtype)
    moved[...] = fill
    distance = min(abs(steps), plan.max_length)
    runs = _runs(
        steps=np.maximum(plan.sorted_lengths - distance, 0),
        source_row=_every(plan),
        source_step=distance if steps < 0 else 0,
        target_row=_every(plan),
        target_step=0 if steps < 0 else distance,
    )
    _transfer(moved, plan, data, plan, runs)
    return moved, plan


def windows(data: Array, plan: Plan, size: int, step: int) -> Packed:
    """Rows (size, *): every `step`-th run of `size` steps that lies within its sequence."""
    target = plan.with_lengths(np.maximum((plan.sorted_lengths - size) // step + 1, 0))
    shape = (target.rows, size, *data.shape[1:])
    check_size(shape, data.dtype)
    framed = np.empty(shape, data.dtype)
    if framed.nbytes:
        # Only those that have a window: the shorter ones may be a million, for each step of one.
        ranks = np.arange(target.batch_sizes[0])
        source = with_whole_rows(data, axes=1)
        for k in range(size):
            runs = _runs(target.sorted_lengths[ranks], ranks, k, ranks, 0)
            _transfer(framed[:, k], target, source, plan, runs, stride=step)
    return framed, target


def join_batches(parts: Sequence[Packed]) -> Packed:
    """The sequences of each part in turn, all of one dtype and trailing shape."""
    target = Plan.from_lengths(np.concatenate([plan.lengths for _, plan in parts]))
    joined = np.empty((target.rows, *parts[0][0].shape[1:]), parts[0][0].dtype)
    ranks = _every(target) if target.unsorted_indices is None else target.unsorted_indices
    start = 0
    for data, plan in parts:
        mine = ranks[start : start + plan.batch_size]
        to = joined, target, plan.in_packed_order(mine)
        copy_sequences(to, (data, plan, _every(plan)), plan.sorted_lengths)
        start += plan.batch_size
    return joined, target


def join_time(parts: Sequence[Packed]) -> Packed:
    """Each sequence of the first part followed by the same one of the others."""
    first = parts[0][1]
    lengths: IndexArray = np.sum([plan.lengths for _, plan in parts], axis=0, dtype=np.int64)
    target = first.with_lengths(first.in_packed_order(lengths))
    joined = np.empty((target.rows, *parts[0][0].shape[1:]), parts[0][0].dtype)
    start = np.zeros(target.batch_size, np.int64)
    for data, plan in parts:
        ranks = _source_ranks(target, plan)
        runs = _runs(plan.sorted_lengths, _every(plan), 0, ranks, plan.in_packed_order(start))
        _transfer(joined, target, data, plan, runs)
        start = start + plan.lengths
    return joined, target


def copy_sequences(
    target: tuple[Array, Plan, IndexArray],
    source: tuple[Array, Plan, IndexArray],
    lengths: IndexArray,
) -> None:
    """Copy sequences of these lengths, none longer than the one before, between packed batches.

    Either side is rows (N, *), each whole in memory, their plan, and the sequences' ranks.
    """
    rows_to, plan_to, ranks_to = target
    rows_from, plan_from, ranks_from = source
    _transfer(rows_to, plan_to, rows_from, plan_from, _runs(lengths, ranks_from, 0, ranks_to, 0))


def repeat(per_sequence: Array, plan: Plan) -> Array:
    """(B, *) in the caller's order -> (N, *): every step of a sequence has its row."""
    repeated = np.empty((plan.rows, *per_sequence.shape[1:]), per_sequence.dtype)
    if repeated.nbytes:
        source = np.ascontiguousarray(per_sequence)
        row_bytes = repeated.nbytes // plan.rows
        order = plan.in_packed_order(np.arange(plan.batch_size))
        rows.gather(
            repeated,
            row_bytes,
            source.ctypes.data + row_bytes * order,
            np.zeros(plan.batch_size, np.int64),
            plan.sorted_lengths,
            plan.offsets,
            *crew(),
        )
    return repeated


def first(data: Array, plan: Plan) -> Array:
    """(B, *): the first row of each sequence, zeros for one without."""
    return _picked(data, plan, np.zeros(plan.batch_size, np.int64))


def last(data: Array, plan: Plan) -> Array:
    """(B, *): the last row of each sequence, zeros for one without."""
    return _picked(data, plan, plan.sorted_lengths - 1)


def _picked(data: Array, plan: Plan, steps: IndexArray) -> Array:
    alive = int(plan.batch_sizes[0]) if plan.max_length else 0
    picked = np.zeros((plan.batch_size, *data.shape[1:]), data.dtype)
    target = slice(alive) if plan.sorted_indices is None else plan.sorted_indices[:alive]
    picked[target] = data[plan.offsets[steps[:alive]] + np.arange(alive)]
    return picked


def with_whole_rows(array: Array, axes: int) -> Array:
    """`array`, copied where a row, what follows its first `axes`, is not one run of bytes."""
    if array.flags.c_contiguous or array.size == 0:
        return array
    row = array[(0,) * axes + (...,)]
    return array if row.flags.c_contiguous else np.ascontiguousarray(array)


# ---- runs of steps ----


def _every(plan: Plan) -> IndexArray:
    return np.arange(plan.batch_size, dtype=np.int64)


def _source_ranks(source: Plan, target: Plan) -> IndexArray:
    """The rank in `source` of each sequence of `target`, which has the same ones."""
    chosen = target.in_packed_order(_every(target))
    return chosen if source.unsorted_indices is None else source.unsorted_indices[chosen]


def _bounds(lengths: IndexArray, bound: int) -> IndexArray:
    """A slice's bound, from the end where negative, clipped to each sequence."""
    return np.clip(lengths + bound if bound < 0 else bound, 0, lengths)


def _moved(
    data: Array,
    source: Plan,
    target: Plan,
    source_row: IndexArray,
    source_step: IndexArray | int = 0,
    stride: int = 1,
) -> Array:
    """New rows for `target`, all of whose sequences come whole from `source`."""
    moved = np.empty((target.rows, *data.shape[1:]), data.dtype)
    runs = _runs(target.sorted_lengths, source_row, source_step, _every(target), 0)
    _transfer(moved, target, data, source, runs, stride)
    return moved


def _runs(
    steps: IndexArray,
    source_row: IndexArray,
    source_step: IndexArray | int,
    target_row: IndexArray,
    target_step: IndexArray | int,
) -> IndexArray:
    """(Q, 5), of non-increasing steps."""
    runs = np.empty((len(steps), 5), np.int64)
    for column, values in enumerate((steps, source_row, source_step, target_row, target_step)):
        runs[:, column] = values
    return runs


def _transfer(
    target: Array,
    target_plan: Plan,
    source: Array,
    source_plan: Plan,
    runs: IndexArray,
    stride: int = 1,
) -> None:
    if target.nbytes and len(runs):
        source = with_whole_rows(source, axes=1)
        row_bytes = source.nbytes // source_plan.rows if source_plan.rows else 0
        sides = target, target_plan.offsets, source, source_plan.offsets
        rows.transfer(*sides, row_bytes, stride, runs, *crew())
