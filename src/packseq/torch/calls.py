"""One call of a layer: run here, or a reason why torch has to."""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence as TorchPackedSequence

from packseq._core.plain import call as call_arrays
from packseq.networks.arguments import Array
from packseq.packed import PackedSequence
from packseq.settings.threads import crew
from packseq.tensor_checks import is_cut_short, is_readable
from packseq.torch.layers import Kind
from packseq.torch.records import WEIGHTS_LEARN, Packed, Record

OBSERVED: Final = "torch compiled, traced or recorded the call, or autocast was on"
INPUT_LEARNS: Final = "a gradient may be wanted for its input or states"
DROPOUT: Final = "it is in training mode, with dropout between layers"
OTHER_INPUT: Final = "its input or states were no dense tensors of the weights' dtype on the CPU"
OTHER_SHAPES: Final = "its input or states did not fit it, or there were no rows"
NOT_PACKED: Final = "the fields of the packed sequence contradicted each other"


def attempt(layer: nn.Module, kind: Kind, record: Record, input: Any, hx: Any) -> Any:
    """Packseq's outputs as tensors, or, as a string, the reason why torch must run."""
    if _is_observed():
        return OBSERVED
    is_packed = isinstance(input, TorchPackedSequence) and not kind.one_step
    tensors = _tensors(kind, input.data if is_packed else input, hx)
    if tensors is None or not all(map(_is_plain, tensors)):
        _refuse_cut_short(tensors or [], "input or hx")
        return OTHER_INPUT
    if not kind.one_step and layer.training and layer.dropout > 0 and layer.num_layers > 1:
        return DROPOUT
    packed = record.current(layer, kind)
    if isinstance(packed, str):
        return packed
    if torch.is_grad_enabled():
        if packed.learns():
            return WEIGHTS_LEARN
        if any(tensor.requires_grad for tensor in tensors):
            return INPUT_LEARNS
    # Forward mode goes on while the grad mode is off.
    if forward_ad._current_level >= 0 and any(map(_has_tangent, tensors)):
        return INPUT_LEARNS
    arrays = []
    for tensor in tensors:
        if tensor.dtype is not packed.dtype:
            return OTHER_INPUT
        arrays.append(tensor.detach().numpy() if tensor.requires_grad else tensor.numpy())
    rows, *states = arrays
    if is_packed:
        return _run_packed(packed, kind, input, rows, states)
    return _run(packed, kind, rows, states)


def _run(packed: Packed, kind: Kind, rows: Array, states: list[Array]) -> Any:
    """A tensor's outputs, or a reason."""
    module = packed.module
    first = None if not states else tuple(states) if kind.has_pair else states[0]
    # The short way of plain calls, which looks at all that it is given.
    result: Any = call_arrays(module._weights.packed(), rows, first, None, crew, None)
    if result is None:
        if not _fits(module, kind, rows, states):
            return OTHER_SHAPES
        result = module(rows, first)
        result = (None, result) if kind.one_step else result
    packed.used = monotonic()
    output, last = result
    return _tensors_of(last) if kind.one_step else (torch.from_numpy(output), _tensors_of(last))


def _run_packed(
    packed: Packed, kind: Kind, input: TorchPackedSequence, rows: Array, states: list[Array]
) -> Any:
    """A packed batch's outputs, or a reason."""
    given = _packed_like(input, rows)
    if given is None:
        return NOT_PACKED
    if not _fits(packed.module, kind, given, states):
        return OTHER_SHAPES
    first = None if not states else tuple(states) if kind.has_pair else states[0]
    output, last = packed.module(given, first)
    packed.used = monotonic()
    return TorchPackedSequence(torch.from_numpy(output.data), *input[1:]), _tensors_of(last)


def _is_observed() -> bool:
    """Whether somebody wants to see torch's operations rather than their results."""
    return (
        torch.compiler.is_compiling()  # of a part of a frame that was not compiled
        or torch.jit.is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_dispatch_stack() > 0  # make_fx, counters of operations
    )


def _tensors(kind: Kind, rows: Any, hx: Any) -> list[Any] | None:
    """The rows and the states, or None where they are not what torch documents."""
    if hx is None:
        return [rows]
    if not kind.has_pair:
        return [rows, hx]
    return [rows, *hx] if isinstance(hx, tuple | list) and len(hx) == 2 else None


def _is_plain(tensor: Any) -> bool:
    """Whether NumPy can view it, and sees the same. Subclasses have a meaning of their own."""
    cls = type(tensor)
    return (cls is Tensor or cls is nn.Parameter) and is_readable(tensor)


def _refuse_cut_short(tensors: list[Any], name: str) -> None:
    """The one kind of bad input that is not left to torch, which crashes."""
    for tensor in tensors:
        dense = type(tensor) is Tensor and tensor.is_cpu and tensor.layout is torch.strided
        if dense and not tensor.is_nested and is_cut_short(tensor):
            raise ValueError(f"{name} has no memory to be read: its storage was resized")


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None


def _packed_like(packed: TorchPackedSequence, rows: Array) -> PackedSequence | None:
    """It here, or None where its other fields are not what torch makes."""
    fields: Any = packed[1:]
    for name, tensor in zip(packed._fields[1:], fields, strict=True):
        if tensor is not None and not (_is_plain(tensor) and tensor.dtype is torch.int64):
            _refuse_cut_short([tensor], name)
            return None
    try:  # the constructor is the check
        sizes, *indices = fields
        order = (None if tensor is None else tensor.numpy() for tensor in indices)
        return PackedSequence(rows, sizes.numpy(), *order)
    except ValueError:
        return None


def _fits(module: Any, kind: Kind, given: Any, states: list[Array]) -> bool:
    """Whether there are rows of the right width, and states of the right shapes."""
    shape = given.data.shape if isinstance(given, PackedSequence) else given.shape
    without_batch = 1 if kind.one_step else 2
    if len(shape) - without_batch not in (0, 1) or shape[-1] != module.input_size or 0 in shape:
        return False
    batch: int | None = None
    if isinstance(given, PackedSequence):
        batch = len(given.lengths)
    elif len(shape) > without_batch:
        batch = shape[0 if kind.one_step or module.batch_first else 1]
    expected = module._architecture.state_shapes(batch)
    return all(state.shape == wanted for state, wanted in zip(states, expected, strict=False))


def _tensors_of(arrays: Any) -> Any:
    if isinstance(arrays, tuple):
        return tuple(map(torch.from_numpy, arrays))
    return torch.from_numpy(arrays)
