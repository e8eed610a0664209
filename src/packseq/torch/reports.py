"""What was replaced in a model, what was not and why, and what became of the calls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import jit, nn
from torch.nn.utils.parametrize import is_parametrized

from packseq.torch.dropins import is_replaced, original_name
from packseq.torch.layers import KINDS
from packseq.torch.records import record_of

SCRIPTED = "it is compiled by torch.jit: accelerate the model before that, and call it uncompiled"
QUANTIZED = (
    "its weights are quantized: torch runs them; packseq replaces the layer as it was before"
)
PARAMETRIZED = "its weights are parametrized, so they are computed anew for each call"
OWN_FORWARD = "it has a forward of its own"
FOREIGN = "it is no layer of torch.nn, and packseq cannot know what it computes"
NOT_YET = "accelerate was not called since it is there"

_RECURRENT = re.compile("LSTM|GRU|RNN")


@dataclass(frozen=True)
class Layer:
    """One recurrent layer of a model.

    Attributes
    ----------
    name : str
        Its path in the model, "" for the model itself.
    kind : str
        The name of its class.
    left : str or None
        Why it was not replaced; None where it was.
    ran : int
        Calls that ran here.
    fell_back : mapping of str to int
        Calls that ran in torch, by the reason.

    Examples
    --------
    >>> import torch, packseq.torch
    >>> (layer,) = packseq.torch.report(torch.nn.LSTM(3, 2)).layers
    >>> layer.kind, layer.left, layer.ran
    ('LSTM', 'accelerate was not called since it is there', 0)
    """

    name: str
    kind: str
    left: str | None
    ran: int
    fell_back: Mapping[str, int]

    def __str__(self) -> str:
        name = f"{self.name or '(the model)'}: {self.kind}"
        if self.left is not None:
            return f"{name}, not replaced: {self.left}"
        reasons = [f"\n    {count} in torch: {why}" for why, count in self.fell_back.items()]
        return f"{name}, replaced; {self.ran} calls ran here" + "".join(reasons)


@dataclass(frozen=True, repr=False)
class Report:
    """The recurrent layers of a model, in its order; printed, a line for each.

    Attributes
    ----------
    layers : tuple of Layer

    Examples
    --------
    >>> import torch, packseq.torch
    >>> model = torch.nn.ModuleDict({"encoder": torch.nn.LSTM(3, 2)})
    >>> report = packseq.torch.report(packseq.torch.accelerate(model))
    >>> [layer.name for layer in report.replaced], report.left
    (['encoder'], ())
    """

    layers: tuple[Layer, ...]

    @property
    def replaced(self) -> tuple[Layer, ...]:
        """Those that packseq runs where it can."""
        return tuple(layer for layer in self.layers if layer.left is None)

    @property
    def left(self) -> tuple[Layer, ...]:
        """Those that stay torch's."""
        return tuple(layer for layer in self.layers if layer.left is not None)

    def __str__(self) -> str:
        if not self.layers:
            return "no recurrent layers among the model's modules"
        head = f"{len(self.replaced)} of {len(self.layers)} recurrent layers replaced"
        return "\n".join([head, *(f"  {layer}" for layer in self.layers)])

    __repr__ = __str__


def report_of(model: nn.Module) -> Report:
    """See :func:`packseq.torch.report`."""
    layers = []
    for name, module in model.named_modules():
        if is_replaced(module):
            record = record_of(module)
            counts = record.ran, dict(record.fell_back)
            layers.append(Layer(name, original_name(module), None, *counts))
        elif (left := why_left(module)) is not None:
            layers.append(Layer(name, _class_name(module), left, 0, {}))
    return Report(tuple(layers))


def why_left(module: nn.Module) -> str | None:
    """Why a recurrent layer is not replaced; None for what is none, as far as can be told."""
    if isinstance(module, jit.ScriptModule):
        return SCRIPTED if _class_name(module) in {base.__name__ for base in KINDS} else None
    if isinstance(module, tuple(KINDS)):
        if not has_torchs_forward(module):
            return OWN_FORWARD
        return PARAMETRIZED if is_parametrized(module) else NOT_YET
    if type(module).__module__.startswith("torch.ao.nn."):
        return QUANTIZED if _RECURRENT.search(_class_name(module)) else None
    return FOREIGN if _looks_recurrent(module) else None


def has_torchs_forward(module: nn.Module) -> bool:
    """Whether a layer computes what torch's does."""
    forward = vars(module).get("forward", type(module).forward)
    return any(forward is base.forward for base in KINDS)


def _looks_recurrent(module: nn.Module) -> bool:
    """Whether a module of some other class recurs itself: by its weights' names, or by its own."""
    parameters = [name for name, _ in module.named_parameters(recurse=False)]
    if any(name.startswith("weight_hh") for name in parameters):
        return True
    inside = (child for child in module.modules() if child is not module)
    return (
        _RECURRENT.search(_class_name(module)) is not None
        and any(True for _ in module.parameters())
        and not any(is_replaced(child) or why_left(child) is not None for child in inside)
    )


def _class_name(module: nn.Module) -> str:
    return str(getattr(module, "original_name", type(module).__name__))
