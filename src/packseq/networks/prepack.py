"""Weights as the kernels read them: gates interleaved by blocks of units, in aligned panels.

Done once, when a module is first called. ``_core/kernels/kernels.h`` has the same orders in words;
this is the only code that makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq._core.recurrent import Kernels, Network
from packseq.networks.architecture import SCALE, Architecture

Array = NDArray[Any]


@dataclass(frozen=True)
class Panel:
    """Two vectors of a block, (gate, group of units) each, and where in the gate row they add."""

    first: tuple[int, int]
    second: tuple[int, int]
    to: int


@dataclass(frozen=True)
class Order:
    """How one cell's matrices are laid out; a block is two groups of units, one vector each."""

    block_vectors: int
    ih: tuple[Panel, ...]
    hh: tuple[Panel, ...]
    late: tuple[Panel, ...]


# Where a block's last panel belongs to its second group alone, it can be left out at the end.
_LSTM = (
    Panel((0, 0), (1, 0), 0),
    Panel((2, 0), (3, 0), 2),
    Panel((0, 1), (1, 1), 4),
    Panel((2, 1), (3, 1), 6),
)
_PLAIN = (Panel((0, 0), (0, 1), 0),)
_RZ = (Panel((0, 0), (1, 0), 0), Panel((0, 1), (1, 1), 4))
_N = Panel((2, 0), (2, 1), 2)
_M = Panel((2, 0), (2, 1), 6)

ORDERS = {
    "lstm": Order(8, ih=_LSTM, hh=_LSTM, late=_PLAIN),
    "lstm_peephole": Order(8, ih=_LSTM, hh=_LSTM, late=_PLAIN),
    "gru": Order(8, ih=(_RZ[0], _N, _RZ[1]), hh=(_RZ[0], _M, _RZ[1]), late=()),
    "gru_reset_before": Order(8, ih=(_RZ[0], _N, _RZ[1]), hh=_RZ, late=(_N,)),
    "rnn_tanh": Order(2, ih=_PLAIN, hh=_PLAIN, late=()),
    "rnn_relu": Order(2, ih=_PLAIN, hh=_PLAIN, late=()),
}


@dataclass(frozen=True)
class Format:
    """What the kernels take: one of their FORMATS.

    Attributes
    ----------
    name : str
    real : dtype
        Of biases, states and sums.
    lanes : int
        Numbers of it in a vector, U.
    """

    name: str
    real: np.dtype[Any]
    lanes: int

    @property
    def group(self) -> int:
        """Weights of a row that lie together: 32 bits of them where they have fewer."""
        return {"int8": 4, "bfloat16": 2}.get(self.name, 1)

    def numbers(self, weight: Array) -> Array:
        """A weight as the panels hold it: of bfloat16, the upper half of each float."""
        if self.name != "bfloat16":
            return weight
        return (weight.view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def prepack(
    architecture: Architecture,
    parameters: Mapping[str, Array],
    kernels: Kernels,
    batch_first: bool,
) -> Network:
    """Pack a module's parameters for one instruction set.

    Notes
    -----
    Cost: one gather of all weights, and as much memory again.
    """
    order = ORDERS[architecture.cell.name]
    kept = _format(architecture, parameters, kernels)
    directions = [
        _direction(architecture, order, parameters, suffix, kept)
        for layer in architecture.suffixes
        for suffix in layer
    ]
    return Network(
        kernels,
        architecture.cell.name,
        architecture.recurrent_activation,
        kept.name,
        architecture.hidden_size,
        architecture.state_size,
        architecture.directions,
        directions,
        (len(order.ih), len(order.hh), max(1, len(order.late))),
        batch_first,
        architecture.one_step,
    )


def _format(
    architecture: Architecture, parameters: Mapping[str, Array], kernels: Kernels
) -> Format:
    """That of the module, or float32 where the kernels have none for its precision."""
    first = parameters["weight_hh" + architecture.suffixes[0][0]]
    name = architecture.precision or first.dtype.name
    if not kernels.has(name):
        name = "float32"
    real = first.dtype if first.dtype.kind == "f" else np.dtype(np.float32)
    return Format(name, real, kernels.vector_bytes // real.itemsize)


def _direction(
    architecture: Architecture,
    order: Order,
    parameters: Mapping[str, Array],
    suffix: str,
    kept: Format,
) -> tuple[Any, ...]:
    hidden, lanes = architecture.hidden_size, kept.lanes
    weight_hh = f"weight_hh{suffix}"

    def matrix(name: str, panels: tuple[Panel, ...], block: int, units: int) -> tuple[Any, ...]:
        return _matrix(kept, parameters, name, _gather(panels, block, units, lanes))

    ih = matrix(f"weight_ih{suffix}", order.ih, order.block_vectors, hidden)
    hh = matrix(weight_hh, order.hh, order.block_vectors, hidden)
    late = None
    if f"weight_hr{suffix}" in parameters:
        late = matrix(f"weight_hr{suffix}", order.late, 2, architecture.state_size)
    elif architecture.cell.name == "gru_reset_before":
        late = matrix(weight_hh, order.late, order.block_vectors, hidden)
    bias = _bias_row(architecture, order, parameters, suffix, kept)
    peephole = None
    if architecture.cell.vectors:
        peephole = _peephole_row(order, parameters, suffix, hidden, kept)
    return ih, hh, late, bias, peephole, bool(np.isfinite(parameters[weight_hh]).all())


def _matrix(
    kept: Format,
    parameters: Mapping[str, Array],
    name: str,
    gathered: tuple[NDArray[np.int64], NDArray[np.int32]],
) -> tuple[Any, ...]:
    """K, panels [panel][K / group][2 * lanes][group], columns; and of int8 scales and sums.

    The columns are those of the gate row that each panel begins at.
    """
    rows, columns = gathered
    weight = kept.numbers(parameters[name])
    k = weight.shape[1]
    padded = np.zeros((len(weight) + 1, -(-k // kept.group) * kept.group), weight.dtype)
    padded[:-1, :k] = weight
    panels = padded[rows].reshape(*rows.shape, -1, kept.group).transpose(0, 2, 1, 3)
    if kept.name != "int8":
        return k, _as_aligned(panels), columns, None, None
    scales = np.append(parameters[name + SCALE], np.float32(0))[rows]
    sums = padded.sum(axis=1, dtype=np.int32)[rows]
    return k, _as_aligned(panels), columns, _as_aligned(scales), _as_aligned(sums)


def _gather(
    panels: tuple[Panel, ...], block_vectors: int, units: int, lanes: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Each panel's rows of the weight, -1 past the last unit, and its column."""
    rows, columns = [], []
    for block in range(-(-units // (2 * lanes))):
        for panel in panels:
            sources = []
            for gate, group in (panel.first, panel.second):
                unit = (2 * block + group) * lanes + np.arange(lanes)
                sources.append(np.where(unit < units, gate * units + unit, -1))
            source = np.concatenate(sources)
            if source.max() < 0:
                continue
            rows.append(source)
            columns.append((block * block_vectors + panel.to) * lanes)
    return np.array(rows), np.array(columns, np.int32)


def _bias_row(
    architecture: Architecture,
    order: Order,
    parameters: Mapping[str, Array],
    suffix: str,
    kept: Format,
) -> Array:
    """One gate row of biases: both of them, but for torch's GRU, whose n and m parts stay apart."""
    hidden, lanes = architecture.hidden_size, kept.lanes
    row = _gate_row(order, hidden, kept)
    if not architecture.bias:
        return row
    bias_ih, bias_hh = parameters["bias_ih" + suffix], parameters["bias_hh" + suffix]
    with np.errstate(all="ignore"):  # as in the kernels
        both = bias_ih + bias_hh
    if architecture.cell.name == "gru":
        both[2 * hidden :] = bias_ih[2 * hidden :]
        _scatter_bias(row, bias_hh, order.hh[1:2], order.block_vectors, hidden, lanes)
    _scatter_bias(row, both, order.ih, order.block_vectors, hidden, lanes)
    return row


def _peephole_row(
    order: Order, parameters: Mapping[str, Array], suffix: str, hidden: int, kept: Format
) -> Array:
    """One gate row of the weights by which c reaches its gates: i, f and o; there is none for g."""
    to_i, to_f, to_o = (parameters[f"weight_c{gate}{suffix}"] for gate in "ifo")
    row = _gate_row(order, hidden, kept)
    weights = np.concatenate([to_i, to_f, np.zeros_like(to_i), to_o])
    _scatter_bias(row, weights, order.ih, order.block_vectors, hidden, kept.lanes)
    return row


def _gate_row(order: Order, hidden: int, kept: Format) -> Array:
    blocks = -(-hidden // (2 * kept.lanes))
    return _as_aligned(np.zeros(blocks * order.block_vectors * kept.lanes, kept.real))


def _scatter_bias(
    row: Array, bias: Array, panels: tuple[Panel, ...], block_vectors: int, units: int, lanes: int
) -> None:
    rows, columns = _gather(panels, block_vectors, units, lanes)
    row[columns[:, None] + np.arange(2 * lanes)] = np.append(bias, bias.dtype.type(0))[rows]


def _as_aligned(array: Array) -> Array:
    """A copy on a 64-byte boundary: whole cache lines, whole vectors."""
    buffer = np.empty(array.nbytes + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    aligned = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    aligned[...] = array
    return aligned
