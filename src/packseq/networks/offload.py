"""NumPy arrays through torch and back: on CUDA in chunks, so that copying and computing overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from packseq.networks.call import ArrayRunner, Call
from packseq.networks.torch_layers import Layers, default_device
from packseq.rows.arrays import gather_into, scatter_into
from packseq.rows.moving import copy_sequences
from packseq.rows.plan import IndexArray, Plan
from packseq.rows.tensors import host_buffer
from packseq.tensor_checks import dtype_name

Array = NDArray[Any]

# A batch is cut in two where so many bytes cross the bus, so that one half is copied while the
# other is computed. More chunks lose, since each costs the launches of its longest sequence's steps
# again, but bound what is on the GPU at a time. Milliseconds on an H100 with 16 cores, 100 steps:
#
#     chunks                                    |    1 |    2 |    3 |    4 |    8
#     512 sequences, 256 to 512 units, 79 MB    |  9.7 |  9.7 |
#     2048 sequences, 256 to 256 units, 211 MB  | 19.1 | 15.8 | 17.2 | 18.9 |
#     8192 sequences, 256 to 128 units, 636 MB  | 50.7 | 41.8 |      | 47.9 | 56.9
CUT_BYTES = 128 << 20
CHUNK_BYTES = 256 << 20  # of each of three and more, or up to half as much again
CHUNK_SEQUENCES = 256  # of a chunk, at least


@dataclass(frozen=True)
class _Chunk:
    """Neighbours in packed order, `first` the rank of the longest."""

    first: int
    plan: Plan

    def of(self, order: IndexArray) -> IndexArray:
        """Their entries of what is in packed order."""
        return order[self.first : self.first + self.plan.batch_size]

    def with_ranks(self, rows: Array) -> tuple[Array, Plan, IndexArray]:
        """Their packed rows, as copy_sequences takes them,"""
        return rows, self.plan, np.arange(self.plan.batch_size)

    def in_whole(self, rows: Array, plan: Plan) -> tuple[Array, Plan, IndexArray]:
        """and theirs among the packed rows of all."""
        return rows, plan, self.first + np.arange(self.plan.batch_size)


class ThroughTorch(ArrayRunner):
    """Runs arrays on torch's device."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers

    def forward(
        self, call: Call, x: Array, y: Array, hx: Sequence[Array | None], hn: Sequence[Array]
    ) -> None:
        """As ArrayRunner has it."""
        forward(self._layers, x, y, call.plan, hx, hn)


def forward(
    layers: Layers,
    x: Array,
    out: Array,
    plan: Plan | None,
    hx: Sequence[Array | None],
    hn: Sequence[Array],
) -> None:
    """Run layers on torch's device, writing `out` and `hn`, as the kernels do.

    Parameters
    ----------
    layers : Layers
    x, out : (N, width), or (T, B, width) in the caller's order
        At least one step and one sequence; the last axis contiguous.
    plan : Plan or None
        None only for (T, B, width): every sequence has T steps.
    hx, hn : (h,) or (h, c), each (L * D, B, width) or, of one sequence, (L * D, width)
        First and last states in the caller's order; None for zeros.

    Notes
    -----
    Cost: each row crosses the bus once in and once out, through pinned memory.
    """
    if plan is None:
        plan = Plan.from_lengths(np.full(x.shape[1], x.shape[0], np.int64))
    first = [None if state is None else _by_sequence(state, plan) for state in hx]
    last = [_by_sequence(state, plan) for state in hn]
    order = np.arange(plan.batch_size) if plan.sorted_indices is None else plan.sorted_indices
    _keep_empty(out, first, last, order[plan.batch_sizes[0] :])
    device = default_device()
    lanes = _lanes(device)
    waiting: deque[tuple[_Lane, _Chunk, list[Any]]] = deque()

    def deliver() -> None:
        lane, chunk, (output, *states) = waiting.popleft()
        lane.wait()
        _spread(output.numpy(), out, plan, chunk, order)
        for state, whole in zip(states, last, strict=True):
            whole[:, chunk.of(order)] = state.numpy()

    for number, chunk in enumerate(_chunks(plan, x, out)):
        if len(waiting) == len(lanes):
            deliver()
        lane = lanes[number % len(lanes)]
        with lane.turn():
            rows = _send(_collected(x, plan, chunk, order, device), device)
            given = [
                s if s is None else _send(_copied(s[:, chunk.of(order)], device), device)
                for s in first
            ]
            output, states = layers.run(rows, chunk.plan, given, chunk.plan.batch_size)
            waiting.append((lane, chunk, [_receive(y) for y in (output, *states)]))
    while waiting:
        deliver()


def _by_sequence(state: Array, plan: Plan) -> Array:
    """View a state as (L * D, B, width)."""
    return state.reshape(state.shape[0], plan.batch_size, state.shape[-1])


def _keep_empty(out: Array, first: list[Any], last: list[Any], empty: IndexArray) -> None:
    """Sequences of length 0 have no rows, and their last state is their first."""
    if out.ndim == 3:
        out[:, empty] = 0
    for state, before in zip(last, first, strict=True):
        state[:, empty] = 0 if before is None else before[:, empty]


def _chunks(plan: Plan, x: Array, out: Array) -> Iterator[_Chunk]:
    """Cut the sequences that have steps into runs of about as many rows each."""
    lengths = plan.sorted_lengths[: plan.batch_sizes[0]]
    nbytes = plan.rows * (x.shape[-1] + out.shape[-1]) * x.itemsize
    count = count_chunks(len(lengths), nbytes)
    shares = np.arange(1, count) * (plan.rows / count)
    cuts = np.searchsorted(np.cumsum(lengths), shares, side="right")
    for ranks in np.split(np.arange(len(lengths)), cuts):
        if len(ranks):
            yield _Chunk(int(ranks[0]), Plan.from_lengths(lengths[ranks]))


def count_chunks(sequences: int, nbytes: int) -> int:
    """How many chunks pay for so many sequences, and bytes to copy to the GPU and back."""
    wanted = max(2, nbytes // CHUNK_BYTES) if nbytes >= CUT_BYTES else 1
    return max(1, min(wanted, sequences // CHUNK_SEQUENCES))


# ---- what copies on this side ----


def _collected(
    x: Array, plan: Plan, chunk: _Chunk, order: IndexArray, device: torch.device
) -> Tensor:
    """A chunk's packed rows (n, I) in memory that can be sent."""
    buffer = host_buffer((chunk.plan.rows, x.shape[-1]), x.dtype.name, device)
    packed: Array = buffer.numpy()
    if x.ndim == 3:
        gather_into(packed, x, chunk.plan, chunk.of(order))
    else:
        copy_sequences(chunk.with_ranks(packed), chunk.in_whole(x, plan), chunk.plan.sorted_lengths)
    return buffer


def _copied(array: Array, device: torch.device) -> Tensor:
    buffer = host_buffer(array.shape, array.dtype.name, device)
    np.copyto(buffer.numpy(), array)
    return buffer


def _spread(output: Array, out: Array, plan: Plan, chunk: _Chunk, order: IndexArray) -> None:
    """Write a chunk's packed rows to their places, and zeros past the ends in a padded batch."""
    if out.ndim == 3:
        zeros = np.zeros(out.shape[-1], out.dtype)
        scatter_into(out, output, chunk.plan, chunk.of(order), zeros)
    else:
        copy_sequences(
            chunk.in_whole(out, plan), chunk.with_ranks(output), chunk.plan.sorted_lengths
        )


# ---- what copies between the two ----


class _Lane:
    """A stream on which a chunk goes in, is computed and comes back; two of them overlap."""

    def __init__(self, device: torch.device) -> None:
        self.stream: Any = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)

    def turn(self) -> AbstractContextManager[Any]:
        """Queue what follows here, behind what the caller's stream was given before."""
        if self.stream is None:
            return nullcontext()
        self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))
        context: AbstractContextManager[Any] = torch.cuda.stream(self.stream)
        return context

    def wait(self) -> None:
        if self.stream is not None:
            self.stream.synchronize()


@cache
def _lanes(device: torch.device) -> tuple[_Lane, ...]:
    # Kept, since memory that torch has freed on a stream serves that stream alone.
    return tuple(_Lane(device) for _ in range(2 if device.type == "cuda" else 1))


def _send(buffer: Tensor, device: torch.device) -> Tensor:
    return buffer.to(device, non_blocking=True)


def _receive(result: Tensor) -> Tensor:
    """Begin a copy to the CPU; complete once the lane has been waited for."""
    if result.device.type == "cpu":
        return result
    buffer = host_buffer(tuple(result.shape), dtype_name(result), result.device)
    return buffer.copy_(result, non_blocking=True)
