"""What torch's recurrent layers are here: their kind, their options, and the module of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import nn

from packseq.networks import cells, modules
from packseq.networks.architecture import PLAIN, Architecture, Cell, cell_of

_SIZES = ("input_size", "hidden_size", "num_layers", "proj_size")
_NONLINEARITIES = {"RNN_TANH": "tanh", "RNN_RELU": "relu"}
_CELL_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True)
class Kind:
    """One of torch's layers.

    Attributes
    ----------
    name : str
        RNN, GRU or LSTM.
    module : type
        What it is here.
    one_step : bool
        Whether it is a cell.
    options : callable
        All of a layer's attributes that decide, with its weights, what it computes.
    """

    name: str
    module: Any
    one_step: bool
    options: Callable[[nn.Module], tuple[Any, ...]]

    @property
    def has_pair(self) -> bool:
        """Whether its state is (h, c)."""
        return self.name == "LSTM"


_layer_options = attrgetter(*_SIZES, "bidirectional", "batch_first", "bias", "mode")

KINDS: dict[Any, Kind] = {
    nn.RNN: Kind("RNN", modules.RNN, False, _layer_options),
    nn.GRU: Kind("GRU", modules.GRU, False, _layer_options),
    nn.LSTM: Kind("LSTM", modules.LSTM, False, _layer_options),
    nn.RNNCell: Kind("RNN", cells.RNNCell, True, attrgetter(*_SIZES[:2], "nonlinearity")),
    nn.GRUCell: Kind("GRU", cells.GRUCell, True, attrgetter(*_SIZES[:2])),
    nn.LSTMCell: Kind("LSTM", cells.LSTMCell, True, attrgetter(*_SIZES[:2])),
}


def kind_of(cls: Any) -> Kind | None:
    """The kind of a class of layers, None of any other."""
    return next((kind for base, kind in KINDS.items() if issubclass(cls, base)), None)


def weights_of(layer: nn.Module, kind: Kind) -> dict[str, Any]:
    """The parameters of a layer; in place of one that it has no longer, something else."""
    parameters = layer._parameters
    if not kind.one_step:
        return {name: parameters.get(name) for name in layer._flat_weights_names}
    weights = {name: parameters.get(name, "none") for name in _CELL_WEIGHTS}
    return {name: weight for name, weight in weights.items() if weight is not None}  # no biases


def architecture_of(
    layer: nn.Module, kind: Kind, weights: dict[str, nn.Parameter]
) -> Architecture | None:
    """What a layer is; None where its options make no sense, or its weights do not fit them."""
    cell = _cell_of(layer, kind)
    sizes = {name: getattr(layer, name) for name in _SIZES[: 2 if kind.one_step else 4]}
    if cell is None or any(type(size) is not int for size in sizes.values()):
        return None
    if not all(0 <= size <= _largest(weights) for size in sizes.values()):
        return None
    architecture = Architecture(
        cell=cell,
        bias="bias_ih" in weights if kind.one_step else bool(layer.bias),
        bidirectional=not kind.one_step and bool(layer.bidirectional),
        one_step=kind.one_step,
        **sizes,
    )
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    return architecture if found == dict(architecture.shapes) else None


def _cell_of(layer: nn.Module, kind: Kind) -> Cell | None:
    if kind.name != "RNN":
        return PLAIN[kind.name] if kind.one_step or layer.mode == kind.name else None
    nonlinearity = layer.nonlinearity if kind.one_step else _NONLINEARITIES.get(str(layer.mode))
    if nonlinearity not in _NONLINEARITIES.values():
        return None
    return cell_of("RNN", {"nonlinearity": nonlinearity})


def _largest(weights: dict[str, nn.Parameter]) -> int:
    """No size of a layer is beyond it, so that none is believed that would fill the memory."""
    return max([len(weights), *(size for weight in weights.values() for size in weight.shape)])


def module_of(
    layer: nn.Module, kind: Kind, architecture: Architecture, weights: dict[str, nn.Parameter]
) -> Any:
    """The same in packseq, with copies of the weights."""
    # The layer's tensors are on the CPU, and so are its results to be. Its dropout is torch's.
    options = {} if kind.one_step else {"batch_first": bool(layer.batch_first), "backend": "cpu"}
    double = next(iter(weights.values())).dtype == torch.float64
    return kind.module._of(architecture, "float64" if double else "float32", weights, **options)
