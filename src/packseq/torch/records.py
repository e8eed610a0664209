"""What is kept of a layer beside it: its packed weights, and what became of its calls.

Weights may change between two calls. What torch counts is seen at each call: another parameter,
another version, other memory. What it does not count is looked for in two ways. A few numbers of
each weight are compared at each call; and all of them where there is reason to doubt: after a step
of one of torch's optimizers (a fused one counts nothing on the CPU), after ``train``, ``eval`` and
``load_state_dict``, after ``refresh``, and at the first call after a pause.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from packseq.networks.arguments import Array
from packseq.tensor_checks import is_cut_short, is_readable
from packseq.torch.layers import Kind, architecture_of, module_of, weights_of

# Seconds without a call after which all weights are compared, at 0.04 to 0.08 ms a megabyte
# (measured from 2 to 67 MB): so it takes less than 1 percent of the time for 12 MB of weights.
PAUSE = 0.1

NOT_PARAMETERS = "its weights are not parameters of its own, but computed for each call"
WEIGHTS_LEARN = (
    "its weights require a gradient and autograd was on: call it under torch.inference_mode() or "
    "torch.no_grad()"
)
WEIGHTS_ELSEWHERE = (
    "its weights are not all float32 or all float64, in the CPU's memory, made outside of "
    "inference mode"
)
NOT_ROUNDED = "its weights are float64, NaN or infinite, of which no fewer bits are made"
EDITED = "its options do not fit its weights, or one was edited to what torch takes otherwise"

# Replaced whenever weights may have changed unseen; an object, since a counter can be set back by
# a thread that was slow.
_doubt = object()


def doubt(*_: object) -> None:
    """Let every layer compare all its weights at its next call."""
    global _doubt
    _doubt = object()


register_optimizer_step_post_hook(doubt)


class _Seen(NamedTuple):
    """A weight as it was packed; `sample` keeps its memory, whose address stays its own."""

    name: str
    weight: nn.Parameter
    version: int
    address: int
    stride: tuple[int, ...]
    sample: Array
    values: bytes

    @classmethod
    def of(cls, name: str, weight: nn.Parameter) -> _Seen:
        version, address, stride = weight._version, weight.data_ptr(), weight.stride()
        flat = weight.detach().numpy().ravel(order="K")
        # An odd stride, not to stay in one column.
        sample = flat[:: flat.size // 16 | 1]
        return cls(name, weight, version, address, stride, sample, sample.tobytes())


@dataclass(slots=True)
class Packed:
    """A layer's module here, and what it was made of.

    Attributes
    ----------
    module
        Of packseq, perhaps of fewer bits.
    parameters : mapping of str to ndarray
        Copies of its weights.
    options : tuple
        The layer's at that time.
    dtype : torch.dtype
    seen : list of _Seen
        Its weights at that time.
    checked : object
        The doubt that was last dispelled.
    used : float
        When the last call ended, in seconds.
    """

    module: Any
    parameters: Mapping[str, Array]
    options: tuple[Any, ...]
    dtype: Any
    seen: list[_Seen]
    checked: object
    used: float

    def is_still(self, layer: nn.Module, kind: Kind) -> bool:
        """Whether this is the layer; all its numbers are looked at only where there is doubt."""
        parameters = layer._parameters
        for name, weight, version, address, stride, sample, values in self.seen:
            if (
                parameters.get(name) is not weight
                or weight._version != version
                or weight.data_ptr() != address
                or weight.stride() != stride
                or sample.tobytes() != values
            ):
                return False
        if kind.options(layer) != self.options:
            return False
        if self.checked is _doubt and monotonic() - self.used < PAUSE:
            return True
        return self._dispel()

    def _dispel(self) -> bool:
        now = _doubt
        packed = self.parameters
        if not all(_same(seen.weight.detach().numpy(), packed[seen.name]) for seen in self.seen):
            return False
        self.checked = now
        return True

    def learns(self) -> bool:
        """Whether a weight requires a gradient."""
        return any(seen.weight.requires_grad for seen in self.seen)


@dataclass(slots=True)
class Record:
    """What became of a layer's calls; threads that call at once may lose one in the count.

    `precision` is of fewer bits where that was asked for.
    """

    packed: Packed | None = None
    precision: str | None = None
    ran: int = 0
    fell_back: dict[str, int] = field(default_factory=dict)

    def current(self, layer: nn.Module, kind: Kind) -> Packed | str:
        """The layer in packseq, made anew if it has changed, or why it is not."""
        packed = self.packed
        if packed is None or not packed.is_still(layer, kind):
            self.packed = None
            return self._pack(layer, kind)
        return packed

    def _pack(self, layer: nn.Module, kind: Kind) -> Packed | str:
        weights = weights_of(layer, kind)
        if any(type(weight) is not nn.Parameter for weight in weights.values()):
            return NOT_PARAMETERS
        if torch.is_grad_enabled() and any(weight.requires_grad for weight in weights.values()):
            return WEIGHTS_LEARN
        if not _are_plain(weights.values()):
            _refuse_cut_short(weights)
            return WEIGHTS_ELSEWHERE
        architecture = architecture_of(layer, kind, weights)
        if architecture is None:
            return EDITED
        now = _doubt  # this and what was seen before the copy: what changes meanwhile shows
        seen = list(map(_Seen.of, weights, weights.values()))
        module = module_of(layer, kind, architecture, weights)
        parameters, dtype = module._weights.parameters, seen[0].weight.dtype
        if self.precision is not None:
            try:
                module = module.quantize(self.precision)
            except ValueError:
                return NOT_ROUNDED
        packed = Packed(module, parameters, kind.options(layer), dtype, seen, now, monotonic())
        self.packed = packed
        return packed


# Kept outside of the layers, so that their copies and pickles hold nothing of ours.
_records: WeakKeyDictionary[nn.Module, Record] = WeakKeyDictionary()


def record_of(layer: nn.Module) -> Record:
    """The layer's record, a new one for a new layer."""
    return _records.get(layer) or _records.setdefault(layer, Record())


def set_precision(layer: nn.Module, precision: str | None) -> None:
    """Let its next call run weights of this precision, None for the layer's own."""
    record = record_of(layer)
    if record.precision != precision:
        record.precision, record.packed = precision, None


def forget(layer: nn.Module) -> None:
    """Drop its packed weights and its counts."""
    _records.pop(layer, None)


def _are_plain(weights: Collection[nn.Parameter]) -> bool:
    dtypes = {weight.dtype for weight in weights}
    return dtypes in ({torch.float32}, {torch.float64}) and all(
        is_readable(weight) and not weight.is_inference()  # those have no counter of changes
        for weight in weights
    )


def _refuse_cut_short(weights: Mapping[str, nn.Parameter]) -> None:
    """Rather than let torch read beyond their memory."""
    for name, weight in weights.items():
        if weight.is_cpu and weight.layout is torch.strided and is_cut_short(weight):
            raise ValueError(f"{name} has no memory to be read: its storage was resized")


def _same(found: Array, packed: Array) -> bool:
    """Bit by bit, since NaN is not equal to itself, and the two zeros are."""
    integers = np.int32 if packed.nbytes % 8 else np.int64
    return np.array_equal(found.reshape(-1).view(integers), packed.reshape(-1).view(integers))
