"""What packing saves: steps, multiplications, additions and bytes, padded and packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from packseq.arguments import as_int64_vector
from packseq.checks import as_flag, as_size
from packseq.networks.architecture import PLAIN, Architecture
from packseq.packed import PackedSequence
from packseq.rows.plan import IndexArray

CellName: TypeAlias = Literal["lstm", "gru", "rnn"]

_FLOAT32 = 4


@dataclass(frozen=True, slots=True)
class Work:
    """What a batch takes in one layout; Python's integers, which do not overflow.

    Attributes
    ----------
    steps : int
        Rows that are computed: one a sequence and step.
    multiplications, additions : int
        As :func:`savings` counts them.
    bytes : int or None
        Of the input and of every layer's output in float32; None without a cell.
    """

    steps: int
    multiplications: int
    additions: int
    bytes: int | None


@dataclass(frozen=True, slots=True, repr=False)
class Savings:
    """What a batch takes padded and packed.

    Attributes
    ----------
    padded, packed : Work
    """

    padded: Work
    packed: Work

    @property
    def waste(self) -> float:
        """The fraction of padded steps that are padding; 0 where there are none."""
        if not self.padded.steps:
            return 0.0
        return 1 - self.packed.steps / self.padded.steps

    def __str__(self) -> str:
        return (
            f"{self.padded.steps} padded steps, {self.packed.steps} packed: "
            f"{self.waste:.0%} of padded work is padding"
        )

    def __repr__(self) -> str:
        return f"Savings({self})"


def savings(
    lengths: ArrayLike | PackedSequence,
    *,
    cell: CellName | None = None,
    input_size: SupportsIndex | None = None,
    hidden_size: SupportsIndex | None = None,
    num_layers: SupportsIndex = 1,
    bidirectional: bool = False,
    proj_size: SupportsIndex = 0,
) -> Savings:
    """Count what a batch takes padded to its longest sequence, and packed.

    Parameters
    ----------
    lengths : array_like of int, shape (B,), or PackedSequence
        Steps per sequence.
    cell : {"lstm", "gru", "rnn"}, optional
        Count a recurrent network of these, whose sizes then follow, named as the modules name them.
    input_size, hidden_size, num_layers, bidirectional, proj_size
        Only with a cell, which needs the first two.

    Returns
    -------
    Savings
        ``padded`` and ``packed``, each with ``steps``, ``multiplications``, ``additions`` and
        ``bytes``; and ``waste``, the fraction of padded steps that are padding.

    Raises
    ------
    TypeError
        An argument is of the wrong type; sizes without a cell.
    ValueError
        A length is negative; a size is missing or out of range; `cell` is unknown.

    Notes
    -----
    Steps: B * T padded, sum(lengths) packed.

    Without a cell, one weighted sum over the steps of each sequence is counted, which is one output
    column of a (B, T) batch times a (T, K) matrix: a multiplication a step, and an addition a step
    but for each sequence's first.

    With a cell, each step of each layer and direction multiplies the G * H rows of ``weight_ih``
    and ``weight_hh``, of I and R columns (R is H, or proj_size): G * H * (I + R) multiplications.
    Each row's products are added up, then to each other and to two biases: G * H * (I + R + 1)
    additions. A unit then takes 3 multiplications and 1 addition in an LSTM and 2 of each in a GRU,
    and a projection H multiplications and H - 1 additions for each of its outputs. Values of
    sigmoid and tanh are not counted. Bytes are 4 for every number of the input and of each layer's
    output.

    Examples
    --------
    The two batches that explanations of packing start from. The first one's lengths sum to 45:

    >>> savings([4, 6, 8, 5, 4, 3, 7, 8])
    Savings(64 padded steps, 45 packed: 30% of padded work is padding)

    The second has batch sizes 6, 6, 5, 4, 3, 3, 2, 2, 1, times a (9, 3) matrix, of which one output
    column is counted:

    >>> saved = savings([9, 8, 6, 4, 3, 2])
    >>> saved.padded.multiplications, saved.padded.additions
    (54, 48)
    >>> saved.packed.multiplications, saved.packed.additions
    (32, 26)
    """
    counts = as_counts(lengths)
    network = _as_network(cell, input_size, hidden_size, num_layers, bidirectional, proj_size)
    longest = int(counts.max(initial=0))
    padded, packed = len(counts) * longest, sum(counts.tolist())
    if network is None:
        firsts = len(counts) if longest else 0, int(np.count_nonzero(counts))
        return Savings(
            Work(padded, padded, padded - firsts[0], None),
            Work(packed, packed, packed - firsts[1], None),
        )
    step = _step_of(network)
    return Savings(_times(step, padded), _times(step, packed))


def _step_of(network: Architecture) -> Work:
    """One step of all layers and directions."""
    units = network.num_layers * network.directions * network.hidden_size
    multiplications = network.row_multiplications + units * network.cell.unit_multiplications
    additions = units * network.cell.unit_additions
    numbers = width = network.input_size
    for _ in range(network.num_layers):
        gates = network.gate_rows * (width + network.state_size + 1)
        projected = network.proj_size * (network.hidden_size - 1)
        additions += network.directions * (gates + projected)
        width = network.output_size
        numbers += width
    return Work(1, multiplications, additions, _FLOAT32 * numbers)


def _times(step: Work, steps: int) -> Work:
    assert step.bytes is not None
    return Work(steps, steps * step.multiplications, steps * step.additions, steps * step.bytes)


def as_counts(lengths: ArrayLike | PackedSequence) -> IndexArray:
    """Return lengths, of a batch or as they are, or raise an error that names the position."""
    if isinstance(lengths, PackedSequence):
        return lengths.lengths
    counts = as_int64_vector(lengths, "lengths")
    if len(bad := np.flatnonzero(counts < 0)):
        raise ValueError(f"lengths must not be negative, got lengths[{bad[0]}] = {counts[bad[0]]}")
    return counts


def _as_network(
    cell: str | None,
    input_size: SupportsIndex | None,
    hidden_size: SupportsIndex | None,
    num_layers: SupportsIndex,
    bidirectional: bool,
    proj_size: SupportsIndex,
) -> Architecture | None:
    layers = as_size(num_layers, "num_layers")
    both = as_flag(bidirectional, "bidirectional")
    projection = as_size(proj_size, "proj_size", least=0)
    if cell is None:
        if (input_size, hidden_size, layers, both, projection) != (None, None, 1, False, 0):
            raise TypeError("sizes of a network need its cell: 'lstm', 'gru' or 'rnn'")
        return None
    if not isinstance(cell, str) or cell.upper() not in PLAIN or not cell.islower():
        raise ValueError(f"cell must be 'lstm', 'gru' or 'rnn', got {cell!r}")
    if input_size is None or hidden_size is None:
        raise TypeError(f"cell={cell!r} needs input_size and hidden_size")
    plain, hidden = PLAIN[cell.upper()], as_size(hidden_size, "hidden_size")
    if projection >= hidden or (projection and not plain.may_project):
        raise ValueError(
            f"proj_size must be less than hidden_size, and is an LSTM's alone, got {projection}"
        )
    return Architecture(
        cell=plain,
        input_size=as_size(input_size, "input_size"),
        hidden_size=hidden,
        num_layers=layers,
        bidirectional=both,
        proj_size=projection,
    )
