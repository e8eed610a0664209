"""Rows of tensors moved between their layouts, on whatever device they are, with gradients.

This is one of the two movers whose contract ``packseq.rows.movers`` has. Nothing here waits for the
device: what the lengths decide goes up once for a plan, B + T numbers of it, and is expanded to
rows there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from packseq.rows.arrays import cast_padding
from packseq.rows.plan import IndexArray, Plan
from packseq.tensor_checks import dtype_name

# ---- what is checked ----


def as_padding(value: Any, data: Tensor) -> Any:
    """Return `value` as a Python number that the dtype of `data` holds.

    Raises
    ------
    ValueError
        It would change, other than by the rounding of floats.
    """
    name = dtype_name(data)
    if hasattr(np, name):
        return cast_padding(value, "padding_value", np.dtype(name), name).item()
    # bfloat16 and shorter floats, whose range NumPy does not know.
    number = cast_padding(value, "padding_value", np.dtype(np.float32), name).item()
    if not _holds(data.dtype, number):
        raise ValueError(f"padding_value {value!r} does not fit dtype {name}")
    return number


def _holds(dtype: torch.dtype, number: float) -> bool:
    """Whether a float dtype has the infinity or NaN, or the range for the number."""
    if np.isfinite(number):
        limits = torch.finfo(dtype)
        return limits.min <= number <= limits.max
    # Some of eight bits have no infinity: they take the nearest number for it, or NaN.
    return bool(np.isnan(number) or torch.tensor(number).to(dtype).float().isinf())


def astype(data: Tensor, dtype: Any) -> Tensor:
    """Copy, cast to torch's dtype or to NumPy's of the same name.

    Raises
    ------
    TypeError
        torch has no such dtype.
    """
    target = dtype
    if not isinstance(dtype, torch.dtype):
        numpy_dtype = np.dtype(dtype)
        if numpy_dtype.hasobject:
            raise TypeError(f"dtype must not hold Python objects, got {numpy_dtype}")
        target = getattr(torch, numpy_dtype.name, None)
    if not isinstance(target, torch.dtype):
        raise TypeError(f"dtype must be one of torch's, got {dtype!r}")
    return data.to(target, copy=True)


# ---- what moves the rows: everything is checked by now ----


@dataclass(frozen=True)
class OnDevice:
    """What a plan decides, on one device, expanded to rows when first asked for."""

    rows: int
    batch_sizes: Tensor  # (T,)
    offsets: Tensor  # (T,): first packed row of each step
    order: Tensor  # (B,): the caller's index of each packed sequence
    ranks: Tensor  # (B,): its inverse
    lengths: Tensor  # (B,), in the caller's order
    starts: Tensor  # (B,): first row of each sequence, laid end to end in the caller's order

    @cached_property
    def packed(self) -> tuple[Tensor, Tensor]:
        """(t, b) of each packed row: its step, and the caller's index of its sequence."""
        with plain_tensors():
            t, rank = _spread(self.batch_sizes, self.offsets, self.rows)
            return t, self.order[rank]

    @cached_property
    def in_turn(self) -> tuple[Tensor, Tensor]:
        """(t, b) of each row of the sequences laid end to end in the caller's order."""
        with plain_tensors():
            b, t = _spread(self.lengths, self.starts, self.rows)
            return t, b

    @cached_property
    def packed_to_turn(self) -> Tensor:
        """Where each packed row stands among the sequences laid end to end."""
        with plain_tensors():
            t, b = self.packed
            return self.starts[b] + t

    @cached_property
    def reversed(self) -> Tensor:
        """The packed row that changes places with each when every sequence turns round."""
        with plain_tensors():
            t, b = self.packed
            return self.offsets[self.lengths[b] - 1 - t] + self.ranks[b]


@contextmanager
def plain_tensors() -> Iterator[None]:
    """Make tensors that outlive the caller's inference mode, for later calls with gradients."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _spread(sizes: Tensor, starts: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """The group of each row and its place in it, for groups of `sizes` rows that begin at `starts`.

    The output's size is given, or repeat_interleave would wait for the device to tell it.
    """
    group = torch.repeat_interleave(sizes, output_size=rows)
    return group, torch.arange(rows, device=sizes.device) - starts[group]


# A plan's tensors belong to the stream that made them: on another one they might not be there yet.
_on_devices: WeakKeyDictionary[Plan, dict[tuple[Any, int], OnDevice]] = WeakKeyDictionary()


def on_device(plan: Plan, device: torch.device) -> OnDevice:
    """What `plan` decides, on `device`: sent at the first call for each plan."""
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    known = _on_devices.setdefault(plan, {})
    there = known.get((device, stream))
    if there is None:
        there = known[device, stream] = _send(plan, device)
    return there


def _send(plan: Plan, device: torch.device) -> OnDevice:
    """Take a plan to a device in one transfer."""
    in_order = np.arange(plan.batch_size)
    parts = [
        plan.batch_sizes,
        plan.offsets[:-1],
        in_order if plan.sorted_indices is None else plan.sorted_indices,
        in_order if plan.unsorted_indices is None else plan.unsorted_indices,
        plan.lengths,
        np.cumsum(plan.lengths) - plan.lengths,
    ]
    with plain_tensors():
        sent = _cut(_upload(np.concatenate(parts), device), [len(part) for part in parts])
    return OnDevice(plan.rows, *sent)


def _upload(array: NDArray[Any], device: torch.device) -> Tensor:
    host = host_buffer(array.shape, array.dtype.name, device)
    np.copyto(host.numpy(), array)
    return host.to(device, non_blocking=True)


def host_buffer(shape: tuple[int, ...], dtype: str, device: torch.device) -> Tensor:
    """CPU memory to exchange with a device: with a GPU pinned, so that nobody waits for a copy."""
    pinned = device.type == "cuda"
    return torch.empty(shape, dtype=getattr(torch, dtype), pin_memory=pinned)


def gather_padded(padded: Tensor, plan: Plan) -> Tensor:
    """(T, B, *) -> (N, *)."""
    t, b = on_device(plan, padded.device).packed
    return _take(padded, t, b)


def scatter_padded(data: Tensor, plan: Plan, steps: int, batch_first: bool, padding: Any) -> Tensor:
    """(N, *) -> (T, B, *) with T = `steps`, or (B, T, *) if `batch_first`; contiguous."""
    t, b = on_device(plan, data.device).packed
    return _put(data, t, b, (steps, plan.batch_size), batch_first, padding)


def gather_sequences(sequences: list[Tensor], plan: Plan) -> Tensor:
    """A list of (L, *) -> (N, *)."""
    index = on_device(plan, sequences[0].device).packed_to_turn
    return _selected(torch.cat(sequences), index)


def scatter_sequences(data: Tensor, plan: Plan) -> list[Tensor]:
    """(N, *) -> a list of (L, *), views of one buffer."""
    index = on_device(plan, data.device).packed_to_turn
    in_turn = _copied_to(torch.empty_like(data), index, data)
    return _cut(in_turn, plan.lengths.tolist())


def stack(
    sequences: list[Tensor], steps: int, batch_first: bool, left: bool, padding: Any
) -> Tensor:
    """A list of (L, *) -> (T, B, *) with T = `steps`, or (B, T, *) if `batch_first`."""
    plan = Plan.from_lengths(np.array([len(sequence) for sequence in sequences], np.int64))
    there = on_device(plan, sequences[0].device)
    t, b = there.in_turn
    if left:
        t = t + (steps - there.lengths)[b]
    return _put(torch.cat(sequences), t, b, (steps, len(sequences)), batch_first, padding)


def split(padded: Tensor, lengths: IndexArray) -> list[Tensor]:
    """(T, B, *) -> a list of (L, *), views of one new buffer."""
    plan = Plan.from_lengths(lengths)
    t, b = on_device(plan, padded.device).in_turn
    return _cut(_take(padded, t, b), lengths.tolist())


def reverse(data: Tensor, plan: Plan) -> Tensor:
    """(N, *) -> (N, *), each sequence from its own last step to its first."""
    return _selected(data, on_device(plan, data.device).reversed)


def copy_lengths(plan: Plan) -> Tensor:
    """(B,), in the caller's order, on the CPU as torch's are."""
    return torch.tensor(plan.lengths)


def _take(padded: Tensor, t: Tensor, b: Tensor) -> Tensor:
    """Rows (t, b) of a (T, B, *) batch; not copied first if contiguous either way round."""
    steps, batch_size = padded.shape[:2]
    by_sequence = padded.transpose(0, 1)
    if by_sequence.is_contiguous():
        return _selected(by_sequence.flatten(0, 1), torch.add(t, b, alpha=steps))
    return _selected(padded.flatten(0, 1), torch.add(b, t, alpha=batch_size))


def _put(
    data: Tensor,
    t: Tensor,
    b: Tensor,
    sizes: tuple[int, int],
    batch_first: bool,
    padding: Any,
) -> Tensor:
    """A new (T, B, *) or (B, T, *) batch of `padding`, with the rows of `data` at (t, b)."""
    steps, batch_size = sizes
    index = torch.add(t, b, alpha=steps) if batch_first else torch.add(b, t, alpha=batch_size)
    flat = data.new_full((steps * batch_size, *data.shape[1:]), padding)
    leading = (batch_size, steps) if batch_first else sizes
    return _copied_to(flat, index, data).view(*leading, *data.shape[1:])


def _cut(rows: Tensor, sizes: list[int]) -> list[Tensor]:
    """Views of so many rows each."""
    return list(rows.split(sizes))


def _selected(rows: Tensor, index: Tensor) -> Tensor:
    twin = _MOVED_AS.get(rows.dtype)
    if twin is None:
        return rows.index_select(0, index)
    return rows.view(twin).index_select(0, index).view(rows.dtype)


def _copied_to(target: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """Write `rows` to the rows `index` of a new tensor."""
    twin = _MOVED_AS.get(rows.dtype)
    if twin is None:
        return target.index_copy_(0, index, rows)
    target.view(twin).index_copy_(0, index, rows.view(twin))
    return target


# torch moves these by index only under the name of another dtype as wide.
_MOVED_AS = {
    getattr(torch, name): twin
    for twin, names in {
        torch.uint8: ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
        torch.int16: ("uint16",),
        torch.int32: ("uint32",),
        torch.int64: ("uint64",),
    }.items()
    for name in names
    if hasattr(torch, name)
}
