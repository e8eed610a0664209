"""Inside a torch program: run its recurrent layers here, and share packed batches with it."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError("packseq.torch needs torch: pip install torch") from error
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence as TorchPackedSequence

from packseq.networks import modules
from packseq.networks.parameters import Array
from packseq.packed import PackedSequence

__all__ = ["accelerate", "from_torch", "restore", "to_torch"]

Model = TypeVar("Model", bound=nn.Module)

Kind: TypeAlias = modules.RNN | modules.GRU | modules.LSTM

_KINDS: dict[type[nn.RNNBase], type[Kind]] = {
    nn.RNN: modules.RNN,
    nn.GRU: modules.GRU,
    nn.LSTM: modules.LSTM,
}


# ---- models ----


def accelerate(model: Model) -> Model:
    """Let packseq run every nn.RNN, nn.GRU and nn.LSTM inside a model where no gradient is wanted.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place: each such layer, however deep, becomes a drop-in. It stays the same object
        and an instance of its class, with its parameters, hooks and state dict. Layers whose class
        overrides ``forward``, and parametrized ones, are left alone.

    Returns
    -------
    torch.nn.Module
        `model` itself.

    Raises
    ------
    TypeError
        `model` is not a torch.nn.Module.

    See Also
    --------
    restore : The way back.

    Notes
    -----
    A drop-in runs packseq when autograd records nothing (``torch.inference_mode()``,
    ``torch.no_grad()``, or nothing requires a gradient), no dropout is active, and input, states
    and weights are float32 or float64 tensors of one dtype on the CPU. Otherwise, and under
    ``torch.compile``, tracing, autocast or a transform of ``torch.func``, torch's own code runs; so
    it does on bad input, to raise torch's own error.

    Cost: nothing here; the first call, and each one that finds other weights, packs them, which
    takes up to twice their memory. Outputs share no memory with anything else; inputs are not
    copied. ``packseq.set_num_threads`` sets the threads, not ``torch.set_num_threads``.

    Changed weights are seen by torch's own counters. Writes that torch does not count (through
    ``.data`` in place, a NumPy alias, another process) are seen if they reach one of 16 elements
    spread over each weight; after one that may not, call `accelerate` again.
    """
    for module in _modules(model):
        if isinstance(module, _DropIn):
            _packed_weights.pop(module, None)
        elif isinstance(module, nn.RNNBase) and _is_plain_layer(module):
            cls: Any = type(module)
            module.__class__ = _drop_in(cls)
    return model


def restore(model: Model) -> Model:
    """Undo `accelerate`, in place.

    Parameters
    ----------
    model : torch.nn.Module
        With or without drop-ins.

    Returns
    -------
    torch.nn.Module
        `model` itself; every layer has the class it had.

    Raises
    ------
    TypeError
        `model` is not a torch.nn.Module.
    """
    for module in _modules(model):
        if isinstance(module, _DropIn):
            _packed_weights.pop(module, None)
            if is_parametrized(module):  # torch has put a class of this one module's on top
                type(module).__bases__ = (module._original,)
            else:
                module.__class__ = module._original
    return model


def _modules(model: nn.Module) -> list[nn.Module]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    return list(model.modules())


def _is_plain_layer(module: nn.RNNBase) -> bool:
    forward: Any = "its own" if "forward" in vars(module) else type(module).forward
    # Parametrized weights are computed anew for every call, and packing costs more than it gives.
    return any(forward is kind.forward for kind in _KINDS) and not is_parametrized(module)


class _DropIn(nn.RNNBase):
    """Put before a layer's own class by a change of ``__class__``: all else stays the layer's."""

    _original: ClassVar[Any]

    def forward(self, input: Any, hx: Any = None) -> Any:
        result = _run(self, input, hx)
        return super().forward(input, hx) if result is None else result

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Name the layer's class, which can be imported; its drop-in is made at run time.
        reduced: Any = super().__reduce_ex__(max(protocol, 2))
        return _new_drop_in, (self._original,), *reduced[2:]

    def __prepare_scriptable__(self) -> Any:
        # torch.jit.script compiles `forward` as it stands in the class: give it the original's.
        plain = object.__new__(self._original)
        vars(plain).update(vars(self))
        return plain


@cache
def _drop_in(cls: Any) -> Any:
    # The module's name is kept because torch.fx takes layers from torch.nn for its leaves.
    members = {"_original": cls, "__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(f"Accelerated{cls.__name__}", (_DropIn, cls), members)


def _new_drop_in(cls: Any) -> Any:
    return object.__new__(_drop_in(cls))


# ---- one call ----


def _run(layer: _DropIn, input: Any, hx: Any) -> Any:
    """Packseq's outputs as tensors, or None where the original must run."""
    is_packed = isinstance(input, TorchPackedSequence)
    tensors = _tensors(layer, input.data if is_packed else input, hx)
    if tensors is None or _is_observed() or _has_dropout(layer):
        return None
    weights = _weights(layer)
    if weights is None or _wants_gradient(tensors, weights):
        return None
    module = _packed(layer, weights)
    if module is None or any(tensor.dtype != weights[0].dtype for tensor in tensors):
        return None
    try:
        rows, *states = [tensor.detach().numpy() for tensor in tensors]
    except (RuntimeError, TypeError):  # another device, sparse, or wrapped by a transform
        return None
    first = None if hx is None else tuple(states) if layer.mode == "LSTM" else states[0]
    try:
        output, last = module(_packed_like(input, rows) if is_packed else rows, first)
    except (TypeError, ValueError):  # torch's own words for it
        return None
    return _tensor_like(input, output), _tensor_or_pair(last)


def _tensors(layer: _DropIn, rows: Any, hx: Any) -> list[Tensor] | None:
    """The rows and the states, or None where they are not what torch documents."""
    tensors = [rows]
    if layer.mode == "LSTM" and isinstance(hx, tuple | list) and len(hx) == 2:
        tensors += hx
    elif hx is not None:
        tensors.append(hx)
    # Subclasses of Tensor, such as fake ones, have a meaning of their own.
    if any(type(tensor) not in (Tensor, nn.Parameter) for tensor in tensors):
        return None
    return tensors if rows.numel() else None


def _is_observed() -> bool:
    """Whether somebody wants to see torch's operations rather than their results."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_dispatch_stack() > 0  # make_fx, counters of operations
    )


def _has_dropout(layer: _DropIn) -> bool:
    return layer.training and layer.dropout > 0 and layer.num_layers > 1


def _wants_gradient(tensors: list[Tensor], weights: list[nn.Parameter]) -> bool:
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in [*tensors, *weights]):
        return True
    # Forward mode goes on while the grad mode is off.
    tangents = (unpack_dual(tensor).tangent for tensor in tensors)
    return any(tangent is not None for tangent in tangents)


def _packed_like(packed: TorchPackedSequence, rows: Array) -> PackedSequence:
    indices = (None if tensor is None else tensor.numpy() for tensor in packed[2:])
    return PackedSequence(rows, packed.batch_sizes.numpy(), *indices)


def _tensor_like(input: Any, output: Any) -> Any:
    if isinstance(input, TorchPackedSequence):
        return TorchPackedSequence(torch.from_numpy(output.data), *input[1:])
    return torch.from_numpy(output)


def _tensor_or_pair(last: Any) -> Any:
    return tuple(map(torch.from_numpy, last)) if isinstance(last, tuple) else torch.from_numpy(last)


# ---- its weights ----


class _Seen(NamedTuple):
    """A weight as it was packed; `sample` keeps its memory, whose address stays its own."""

    weight: nn.Parameter
    stamp: tuple[Any, ...]
    sample: Array
    values: bytes

    @classmethod
    def of(cls, weight: nn.Parameter) -> _Seen:
        stamp = _stamp(weight)
        flat = weight.detach().numpy().ravel(order="K")
        # An odd stride, not to stay in one column.
        sample = flat[:: flat.size // 16 | 1]
        return cls(weight, stamp, sample, sample.tobytes())

    def is_still(self, weight: nn.Parameter) -> bool:
        return (
            weight is self.weight
            and _stamp(weight) == self.stamp
            and self.sample.tobytes() == self.values
        )


class _Packed(NamedTuple):
    seen: list[_Seen]
    module: Kind

    def is_still(self, layer: _DropIn, weights: list[nn.Parameter]) -> bool:
        return self.module.batch_first == layer.batch_first and all(
            seen.is_still(weight) for seen, weight in zip(self.seen, weights, strict=True)
        )


# Kept outside of the layers, so that their copies and pickles hold nothing of ours.
_packed_weights: WeakKeyDictionary[nn.Module, _Packed] = WeakKeyDictionary()


def _stamp(weight: nn.Parameter) -> tuple[Any, ...]:
    """What changes when torch writes to a weight or gives it other memory."""
    return weight._version, weight.data_ptr(), weight.stride()


def _weights(layer: _DropIn) -> list[nn.Parameter] | None:
    """The layer's parameters, or None where something else computes them for each call."""
    weights = [layer._parameters.get(name) for name in layer._flat_weights_names]
    # Tensors made in inference mode have no counter of changes.
    if any(type(weight) is not nn.Parameter or weight.is_inference() for weight in weights):
        return None
    return weights


def _packed(layer: _DropIn, weights: list[nn.Parameter]) -> Kind | None:
    """The layer in packseq, made anew if a weight has changed."""
    packed = _packed_weights.get(layer)
    if packed is not None and packed.is_still(layer, weights):
        return packed.module
    _packed_weights.pop(layer, None)
    if {weight.dtype for weight in weights} not in ({torch.float32}, {torch.float64}):
        return None
    if any(weight.device.type != "cpu" or weight.layout != torch.strided for weight in weights):
        return None
    seen = [_Seen.of(weight) for weight in weights]  # before the copy: what changes meanwhile shows
    kind = next(kind for base, kind in _KINDS.items() if isinstance(layer, base))
    try:
        module = kind.from_torch(layer)
    except ValueError:  # shapes that do not fit
        return None
    module.backend = "cpu"  # the layer's tensors are here, and so are its results to be
    _packed_weights[layer] = _Packed(seen, module)
    return module


# ---- packed batches ----


def from_torch(packed: TorchPackedSequence) -> PackedSequence:
    """Turn torch's PackedSequence into packseq's.

    Parameters
    ----------
    packed : torch.nn.utils.rnn.PackedSequence
        On the CPU, of a dtype that NumPy has.

    Returns
    -------
    packseq.PackedSequence
        Its `data` shares the tensor's memory, detached; the index arrays are copies.

    Raises
    ------
    TypeError
        Not a PackedSequence of torch's; or data on another device or of a dtype NumPy lacks.
    ValueError
        The fields contradict each other; the message names the field and the position.

    Notes
    -----
    Cost: O(T + B); the rows are not touched.
    """
    if not isinstance(packed, TorchPackedSequence):
        kind = "packseq's own" if isinstance(packed, PackedSequence) else type(packed).__name__
        raise TypeError(f"packed must be a torch.nn.utils.rnn.PackedSequence, got {kind}")
    return _packed_like(packed, packed.data.detach().numpy())


def to_torch(packed: PackedSequence) -> TorchPackedSequence:
    """Turn packseq's PackedSequence into torch's.

    Parameters
    ----------
    packed : packseq.PackedSequence
        Without sequences of length 0, which torch cannot hold.

    Returns
    -------
    torch.nn.utils.rnn.PackedSequence
        Its `data` is the tensor, or shares the array's memory. Only an array that torch cannot
        hold as it is, read-only or with a negative stride, is copied. The index tensors are copies.

    Raises
    ------
    TypeError
        Not a packseq.PackedSequence; or of a dtype that torch lacks.
    ValueError
        A sequence has length 0; the message says which.

    Notes
    -----
    Cost: O(T + B); the rows are not touched but for a copy.
    """
    if not isinstance(packed, PackedSequence):
        raise TypeError(f"packed must be a packseq.PackedSequence, got {type(packed).__name__}")
    if len(empty := np.flatnonzero(packed.lengths == 0)):
        raise ValueError(
            f"lengths[{empty[0]}] = 0: torch's PackedSequence cannot hold a sequence of length 0"
        )
    order = (packed.sorted_indices, packed.unsorted_indices)
    return TorchPackedSequence(
        _as_tensor(packed.data),
        torch.tensor(packed.batch_sizes),
        *(None if indices is None else torch.tensor(indices) for indices in order),
    )


def _as_tensor(data: Any) -> torch.Tensor:
    if isinstance(data, torch.Tensor):
        return data
    if not data.flags.writeable or any(stride < 0 for stride in data.strides):
        data = data.copy()
    return torch.from_numpy(data)
