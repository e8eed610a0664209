"""What fewer bits cost: two modules of one architecture, run on the same sequences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from packseq.layout import pack_sequence
from packseq.networks.recurrent import Recurrent
from packseq.packed import PackedSequence

Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """How far two arrays are apart; NaN where one of them has it.

    Attributes
    ----------
    mean, largest : float
        Of the absolute differences; 0 of empty arrays.
    """

    mean: float
    largest: float

    @classmethod
    def of(cls, one: Array, other: Array) -> Difference:
        """Of two arrays of the same shape."""
        off = np.abs(one.astype(np.float64) - other)
        return cls(float(off.mean()), float(off.max())) if off.size else cls(0.0, 0.0)

    def __str__(self) -> str:
        return f"{self.mean:.1e} (largest {self.largest:.1e})"


@dataclass(frozen=True)
class LayerDifference:
    """What differs after one layer.

    Attributes
    ----------
    output : Difference
        Of all steps and directions.
    states : tuple of Difference
        Of the last h, and of the last c where there is one.
    """

    output: Difference
    states: tuple[Difference, ...]


@dataclass(frozen=True, repr=False)
class Comparison:
    """How far a module's results are from another's; printed, a line.

    Attributes
    ----------
    layers : tuple of LayerDifference
        Each as the whole stack up to there gives it, the first layer first.
    """

    layers: tuple[LayerDifference, ...]

    def __str__(self) -> str:
        return "; ".join(
            f"layer {i}: output {layer.output}, "
            + ", ".join(
                f"{letter}_n {state}" for letter, state in zip("hc", layer.states, strict=False)
            )
            for i, layer in enumerate(self.layers)
        )

    __repr__ = __str__


def compare(module: Recurrent, other: Recurrent, sequences: Iterable[ArrayLike]) -> Comparison:
    """Measure what fewer bits cost on your own data.

    Parameters
    ----------
    module, other : LSTM, GRU or RNN
        Of the same sizes, such as a module and what its `quantize` makes.
    sequences : iterable of array_like, each (T, I)

    Returns
    -------
    Comparison
        Mean and largest difference of outputs and last states, by layer; printed, a line.

    Raises
    ------
    TypeError
        One of the two is no LSTM, GRU or RNN; `sequences` is a PackedSequence.
    ValueError
        They are of different sizes; there is no sequence, or one that does not fit.

    Notes
    -----
    Cost: both modules run once, and their outputs are held, layer by layer.

    Examples
    --------
    >>> import numpy as np
    >>> from packseq import LSTM, compare
    >>> lstm = LSTM(16, 32, rng=0)
    >>> rng = np.random.default_rng(0)
    >>> sequences = [rng.standard_normal((n, 16), np.float32) for n in (40, 60, 80)]
    >>> found = compare(lstm, lstm.quantize("int8"), sequences)
    >>> found.layers[0].output.mean < 2e-3
    True
    """
    for name, one in (("module", module), ("other", other)):
        if not isinstance(one, Recurrent):
            raise TypeError(f"{name} must be an LSTM, GRU or RNN, got {type(one).__name__}")
    if isinstance(sequences, PackedSequence):
        raise TypeError("sequences must be a list of arrays, which unpack_sequence gives of one")
    if _sizes(module) != _sizes(other):
        raise ValueError(f"other must be of the same sizes as {module!r}, got {other!r}")
    layers = []
    packed = pack_sequence([np.asarray(sequence) for sequence in sequences])
    below = [packed, packed]
    for pair in zip(_layers(module), _layers(other), strict=True):
        (one, states), (two, other_states) = (
            layer(rows) for layer, rows in zip(pair, below, strict=True)
        )
        differences = tuple(map(Difference.of, _parts(states), _parts(other_states)))
        layers.append(LayerDifference(Difference.of(one.data, two.data), differences))
        below = [one, two]
    return Comparison(tuple(layers))


def _sizes(module: Recurrent) -> object:
    return replace(module._architecture, precision=None)


def _layers(module: Recurrent) -> list[Recurrent]:
    """A module for each layer."""
    made = []
    architecture, parameters = module._architecture, module._weights.parameters
    for layer, suffixes in enumerate(architecture.suffixes):
        width = architecture.output_size if layer else architecture.input_size
        alone = replace(architecture, num_layers=1, input_size=width)
        ends = dict(zip(alone.suffixes[0], suffixes, strict=True))
        names = {name: _renamed(name, ends) for name in alone.shapes}
        made.append(module._with(alone, {new: parameters[old] for new, old in names.items()}))
    return made


def _renamed(name: str, ends: dict[str, str]) -> str:
    """A parameter's name in the whole module: "weight_hh_l0_reverse" is "weight_hh_l2_reverse"."""
    end = max((end for end in ends if end in name), key=len)
    return name.replace(end, ends[end])


def _parts(state: Any) -> tuple[Array, ...]:
    return state if isinstance(state, tuple) else (state,)
