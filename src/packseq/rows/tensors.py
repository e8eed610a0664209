"""Rows of tensors moved between their layouts, on whatever device they are, with gradients.

This is one of the two movers whose contract ``packseq.rows.movers`` has. Nothing here waits for the
device: what the lengths decide, where each row goes, is found here and goes up once for a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from packseq._core.order import index_groups, index_reversed
from packseq.rows.arrays import cast_padding
from packseq.rows.plan import IndexArray, Plan, starts_of
from packseq.tensor_checks import dtype_name

# ---- what is checked ----


def as_padding(value: Any, data: Tensor) -> Any:
    """Return `value` as a Python number that the dtype of `data` holds.

    Raises
    ------
    ValueError
        It would change, other than by the rounding of floats.
    """
    if type(value) is float and str(value) == "0.0":
        return 0  # in every dtype, and nearly always: the rest takes 10 microseconds
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


# ---- what the lengths decide, on a device ----

# An index: how many entries it has, and what writes them.
Index: TypeAlias = tuple[int, Callable[[IndexArray], Any]]

# Those of each plan, by where they were sent, and by name. They belong to the stream that sent
# them: on another one they might not be there yet.
_on_devices: WeakKeyDictionary[Plan, dict[Hashable, dict[Hashable, Tensor]]] = WeakKeyDictionary()
_RANKS = "ranks"


def on_device(plan: Plan, device: torch.device, name: Hashable, index: Index) -> Tensor:
    """Give what `plan` decides under `name`: (size,) int64, written and sent once.

    It is written here, in a nanosecond for each row at most, since on a GPU it would take half a
    dozen calls of ten microseconds each, for which a batch of a few thousand rows waits. For the
    same reason the ranks, which a module asks for next, go with what is sent first.
    """
    # No graph may keep a tensor of inference mode: outside of it those sent in it do not count.
    place = device, _stream_of(device), torch.is_inference_mode_enabled()
    known = _on_devices.setdefault(plan, {}).setdefault(place, {})
    if not known:
        known[name], known[_RANKS] = _sent(device, index, _ranks(plan))
    elif name not in known:
        (known[name],) = _sent(device, index)
    return known[name]


def _stream_of(device: torch.device) -> int:
    """The address of torch's current stream there; its object would take ten times as long."""
    if device.type != "cuda":
        return 0
    stream: int = torch._C._cuda_getCurrentRawStream(device.index)
    return stream


def _sent(device: torch.device, *indices: Index) -> list[Tensor]:
    """Indices on a device, in one transfer."""
    sizes, end = [size for size, _ in indices], 0
    host = host_buffer((sum(sizes),), "int64", device)
    array: IndexArray = host.numpy()
    for size, fill in indices:
        begin, end = end, end + size
        fill(array[begin:end])
    sent = host.to(device, non_blocking=True)
    return sent.split_with_sizes(sizes) if len(sizes) > 1 else [sent]


def host_buffer(shape: tuple[int, ...], dtype: str, device: torch.device) -> Tensor:
    """CPU memory to exchange with a device: with a GPU pinned, so that nobody waits for a copy."""
    pinned = device.type == "cuda"
    return torch.empty(shape, dtype=getattr(torch, dtype), pin_memory=pinned)


def order_on(plan: Plan, device: torch.device) -> Tensor:
    """(B,): the caller's index of each packed sequence."""
    return on_device(plan, device, "order", (plan.batch_size, partial(np.copyto, src=_order(plan))))


def ranks_on(plan: Plan, device: torch.device) -> Tensor:
    """(B,): the packed place of each of the caller's sequences."""
    return on_device(plan, device, _RANKS, _ranks(plan))


def _ranks(plan: Plan) -> Index:
    ranks = _or_identity(plan.unsorted_indices, plan)
    return plan.batch_size, partial(np.copyto, src=ranks)


def _order(plan: Plan) -> IndexArray:
    return _or_identity(plan.sorted_indices, plan)


def _or_identity(indices: IndexArray | None, plan: Plan) -> IndexArray:
    return _every(1, plan.batch_size) if indices is None else indices


def _every(stride: int, count: int) -> IndexArray:
    """0, stride, ...: so many."""
    return np.arange(count, dtype=np.int64) * stride


def _strides(steps: int, batch_size: int, by_sequence: bool) -> tuple[int, int]:
    """How far apart, in rows, steps and sequences lie in a padded batch."""
    return (1, steps) if by_sequence else (batch_size, 1)


def _in_padded(plan: Plan, device: torch.device, steps: int, by_sequence: bool) -> Tensor:
    """Where each packed row lies in a padded batch of so many steps."""
    step, sequence = _strides(steps, plan.batch_size, by_sequence)

    def fill(out: IndexArray) -> None:
        index_groups(plan.batch_sizes, _every(step, plan.max_length), _order(plan) * sequence, out)

    return on_device(plan, device, (step, sequence), (plan.rows, fill))


def _in_turn(plan: Plan, device: torch.device) -> Tensor:
    """Where each packed row lies among the sequences, laid end to end in the caller's order."""

    def fill(out: IndexArray) -> None:
        starts = starts_of(plan.lengths)[_order(plan)]
        index_groups(plan.batch_sizes, _every(1, plan.max_length), starts, out)

    return on_device(plan, device, "in turn", (plan.rows, fill))


def _turned_round(plan: Plan, device: torch.device) -> Tensor:
    """The packed row that changes places with each when every sequence turns round."""
    fill = partial(index_reversed, plan.batch_sizes, plan.offsets, plan.sorted_lengths)
    return on_device(plan, device, "turned round", (plan.rows, fill))


# ---- what moves the rows: everything is checked by now ----


def gather_padded(padded: Tensor, plan: Plan) -> Tensor:
    """(T, B, *) -> (N, *)."""
    rows, by_sequence = _as_rows(padded)
    return _selected(rows, _in_padded(plan, padded.device, len(padded), by_sequence))


def scatter_padded(data: Tensor, plan: Plan, steps: int, batch_first: bool, padding: Any) -> Tensor:
    """(N, *) -> (T, B, *) with T = `steps`, or (B, T, *) if `batch_first`; contiguous."""
    index = _in_padded(plan, data.device, steps, batch_first)
    return _put(data, index, (steps, plan.batch_size), batch_first, padding)


def gather_sequences(sequences: list[Tensor], plan: Plan) -> Tensor:
    """A list of (L, *) -> (N, *)."""
    return _selected(torch.cat(sequences), _in_turn(plan, sequences[0].device))


def scatter_sequences(data: Tensor, plan: Plan) -> list[Tensor]:
    """(N, *) -> a list of (L, *), views of one buffer."""
    in_turn = _copied_to(torch.empty_like(data), _in_turn(plan, data.device), data)
    return _cut(in_turn, plan.lengths.tolist())


def stack(
    sequences: list[Tensor], steps: int, batch_first: bool, left: bool, padding: Any
) -> Tensor:
    """A list of (L, *) -> (T, B, *) with T = `steps`, or (B, T, *) if `batch_first`."""
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    first = steps - lengths if left else np.zeros_like(lengths)
    sizes = (steps, len(sequences))
    index = _of_sequences(lengths, first, sizes, batch_first, sequences[0].device)
    return _put(torch.cat(sequences), index, sizes, batch_first, padding)


def split(padded: Tensor, lengths: IndexArray) -> list[Tensor]:
    """(T, B, *) -> a list of (L, *), views of one new buffer."""
    rows, by_sequence = _as_rows(padded)
    sizes = (len(padded), len(lengths))
    index = _of_sequences(lengths, np.zeros_like(lengths), sizes, by_sequence, padded.device)
    return _cut(_selected(rows, index), lengths.tolist())


def _of_sequences(
    lengths: IndexArray,
    first: IndexArray,
    sizes: tuple[int, int],
    by_sequence: bool,
    device: torch.device,
) -> Tensor:
    """Where the rows of sequences, laid end to end, lie in a padded batch, from step `first` on."""
    step, sequence = _strides(*sizes, by_sequence)
    lengths = np.ascontiguousarray(lengths)
    begins = _every(sequence, len(lengths)) + first * step
    fill = partial(index_groups, lengths, begins, _every(step, sizes[0]))
    (index,) = _sent(device, (int(lengths.sum()), fill))
    return index


def reverse(data: Tensor, plan: Plan) -> Tensor:
    """(N, *) -> (N, *), each sequence from its own last step to its first."""
    return _selected(data, _turned_round(plan, data.device))


def copy_lengths(plan: Plan) -> Tensor:
    """(B,), in the caller's order, on the CPU as torch's are."""
    return torch.from_numpy(plan.lengths.copy())  # torch takes no read-only memory


def _as_rows(padded: Tensor) -> tuple[Tensor, bool]:
    """The rows of a (T, B, *) batch, and whether they lie by sequence.

    They are not copied if the batch is contiguous either way round.
    """
    if not padded.is_contiguous() and (by_sequence := padded.transpose(0, 1)).is_contiguous():
        return by_sequence.flatten(0, 1), True
    return padded.flatten(0, 1), False


def _put(
    data: Tensor, index: Tensor, sizes: tuple[int, int], batch_first: bool, padding: Any
) -> Tensor:
    """A new (T, B, *) or (B, T, *) batch of `padding`, with `data` at the rows `index`."""
    steps, batch_size = sizes
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
