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
from packseq.networks.architecture import Architecture

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
    directions = [
        _direction(architecture, order, parameters, suffix, kernels)
        for layer in architecture.suffixes
        for suffix in layer
    ]
    return Network(
        kernels,
        architecture.cell.name,
        architecture.recurrent_activation,
        parameters["weight_ih" + architecture.suffixes[0][0]].dtype.name,
        architecture.hidden_size,
        architecture.state_size,
        architecture.directions,
        directions,
        (len(order.ih), len(order.hh), max(1, len(order.late))),
        batch_first,
        architecture.one_step,
    )


def _direction(
    architecture: Architecture,
    order: Order,
    parameters: Mapping[str, Array],
    suffix: str,
    kernels: Kernels,
) -> tuple[Any, ...]:
    weight_ih = parameters["weight_ih" + suffix]
    weight_hh = parameters["weight_hh" + suffix]
    lanes = kernels.vector_bytes // weight_ih.itemsize
    hidden = architecture.hidden_size
    ih, hh = (
        _matrix(weight, panels, order.block_vectors, hidden, lanes)
        for weight, panels in ((weight_ih, order.ih), (weight_hh, order.hh))
    )
    late = None
    if "weight_hr" + suffix in parameters:
        weight_hr = parameters["weight_hr" + suffix]
        late = _matrix(weight_hr, order.late, 2, architecture.state_size, lanes)
    elif architecture.cell.name == "gru_reset_before":
        late = _matrix(weight_hh, order.late, order.block_vectors, hidden, lanes)
    bias = _bias_row(architecture, order, parameters, suffix, lanes)
    peephole = None
    if architecture.cell.vectors:
        peephole = _peephole_row(order, parameters, suffix, hidden, lanes)
    return ih, hh, late, bias, peephole, bool(np.isfinite(weight_hh).all())


def _matrix(
    weight: Array, panels: tuple[Panel, ...], block_vectors: int, units: int, lanes: int
) -> tuple[Array, NDArray[np.int32]]:
    """Panels [panel][K][2 * lanes] and the column of the gate row that each begins at."""
    rows, columns = _gather(panels, block_vectors, units, lanes)
    packed = _aligned((len(rows), weight.shape[1], 2 * lanes), weight.dtype)
    padded = np.vstack([weight, np.zeros((1, weight.shape[1]), weight.dtype)])
    packed[...] = padded[rows].transpose(0, 2, 1)
    return packed, columns


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
    lanes: int,
) -> Array:
    """One gate row of biases: both of them, but for torch's GRU, whose n and m parts stay apart."""
    hidden = architecture.hidden_size
    row = _gate_row(order, hidden, lanes, parameters["weight_ih" + suffix].dtype)
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
    order: Order, parameters: Mapping[str, Array], suffix: str, hidden: int, lanes: int
) -> Array:
    """One gate row of the weights by which c reaches its gates: i, f and o; there is none for g."""
    to_i, to_f, to_o = (parameters[f"weight_c{gate}{suffix}"] for gate in "ifo")
    row = _gate_row(order, hidden, lanes, to_i.dtype)
    weights = np.concatenate([to_i, to_f, np.zeros_like(to_i), to_o])
    _scatter_bias(row, weights, order.ih, order.block_vectors, hidden, lanes)
    return row


def _gate_row(order: Order, hidden: int, lanes: int, dtype: np.dtype[Any]) -> Array:
    blocks = -(-hidden // (2 * lanes))
    row = _aligned((blocks * order.block_vectors * lanes,), dtype)
    row[:] = 0
    return row


def _scatter_bias(
    row: Array, bias: Array, panels: tuple[Panel, ...], block_vectors: int, units: int, lanes: int
) -> None:
    rows, columns = _gather(panels, block_vectors, units, lanes)
    row[columns[:, None] + np.arange(2 * lanes)] = np.append(bias, bias.dtype.type(0))[rows]


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialised array on a 64-byte boundary: whole cache lines, whole vectors."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    buffer = np.empty(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + size].view(dtype).reshape(shape)
