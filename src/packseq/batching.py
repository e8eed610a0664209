"""Batches of similar length under a budget of tokens, so that padding costs little too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike

from packseq.checks import as_size
from packseq.costs import as_counts
from packseq.packed import PackedSequence
from packseq.rows.plan import IndexArray

Shuffle = Literal["batches", "ties"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Batches(Sequence[IndexArray]):
    """Batches of sequences, each an array of their indices, longest first.

    Attributes
    ----------
    indices : tuple of ndarray of int64
        The batches; every sequence is in one.
    padded_steps : int
        Steps of all batches, each padded to its longest sequence.
    packed_steps : int
        Steps without padding: the sum of the lengths.
    """

    indices: tuple[IndexArray, ...]
    padded_steps: int
    packed_steps: int

    @property
    def waste(self) -> float:
        """The fraction of padded steps that are padding; 0 where there are none."""
        return 1 - self.packed_steps / self.padded_steps if self.padded_steps else 0.0

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> IndexArray: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[IndexArray, ...]: ...
    def __getitem__(self, index: int | slice) -> IndexArray | tuple[IndexArray, ...]:
        return self.indices[index]

    def __repr__(self) -> str:
        sequences = sum(map(len, self.indices))
        return f"Batches({len(self)} of {sequences} sequences, waste {self.waste:.1%})"


def batches(
    lengths: ArrayLike | PackedSequence,
    *,
    max_tokens: SupportsIndex | None = None,
    max_sequences: SupportsIndex | None = None,
    shuffle: Shuffle | None = None,
    rng: np.random.Generator | int | None = None,
) -> Batches:
    """Group sequences of similar length into batches.

    Parameters
    ----------
    lengths : array_like of int, shape (n,), or PackedSequence
        Steps of each sequence.
    max_tokens : int, optional
        The most steps of a batch once it is padded: its sequences times the longest of them.
    max_sequences : int, optional
        The most sequences of a batch. One of the two is needed.
    shuffle : {"batches", "ties"}, optional
        By default batches go from the longest sequences to the shortest, and equal lengths in the
        order given. "batches" puts the batches into a random order; "ties" also draws which of the
        sequences of equal length come together, at no cost in waste.
    rng : numpy.random.Generator or int, optional
        What to draw from; an int seeds a new one, and without either the draw differs every time.
        Only with `shuffle`.

    Returns
    -------
    Batches
        A sequence of index arrays, with the ``waste`` that is left.

    Raises
    ------
    TypeError
        An argument is of the wrong type; neither maximum is given; `rng` without `shuffle`.
    ValueError
        A length is negative or above `max_tokens`; a maximum is less than 1; `shuffle` is unknown.

    Notes
    -----
    Cost: one sort of the lengths and about a microsecond a batch.

    Examples
    --------
    >>> grouped = batches([3, 8, 2, 9, 3], max_tokens=18)
    >>> [batch.tolist() for batch in grouped]
    [[3, 1], [0, 4, 2]]
    >>> grouped
    Batches(2 of 5 sequences, waste 7.4%)
    """
    counts = as_counts(lengths)
    tokens, sequences = (
        _as_maximum(max_tokens, "max_tokens"),
        _as_maximum(max_sequences, "max_sequences"),
    )
    if tokens is None and sequences is None:
        raise TypeError("batches needs max_tokens, max_sequences or both")
    if tokens is not None and len(bad := np.flatnonzero(counts > tokens)):
        raise ValueError(f"max_tokens = {tokens} is less than lengths[{bad[0]}] = {counts[bad[0]]}")
    generator = _as_generator(shuffle, rng)
    order = _longest_first(counts, generator if shuffle == "ties" else None)
    indices, padded = _cut(counts, order, tokens, sequences)
    if generator is not None:
        indices = [indices[k] for k in generator.permutation(len(indices))]
    return Batches(tuple(indices), padded, sum(counts.tolist()))


def _longest_first(counts: IndexArray, generator: np.random.Generator | None) -> IndexArray:
    """Indices by length, equal ones in their order or in a random one."""
    if generator is None:
        return np.argsort(-counts, kind="stable")
    drawn = generator.permutation(len(counts))
    return drawn[np.argsort(-counts[drawn], kind="stable")]


def _cut(
    counts: IndexArray, order: IndexArray, tokens: int | None, sequences: int | None
) -> tuple[list[IndexArray], int]:
    """Cut the order where a maximum is reached; and the steps that padding makes of all."""
    indices, padded, start = [], 0, 0
    while start < len(order):
        longest = int(counts[order[start]])
        size = len(order) if sequences is None else sequences
        if tokens is not None and longest:
            size = min(size, tokens // longest)
        batch = order[start : start + size]
        indices.append(batch)
        padded += longest * len(batch)
        start += len(batch)
    return indices, padded


def _as_maximum(value: SupportsIndex | None, name: str) -> int | None:
    return None if value is None else as_size(value, name)


def _as_generator(
    shuffle: str | None, rng: np.random.Generator | int | None
) -> np.random.Generator | None:
    if shuffle is None:
        if rng is not None:
            raise TypeError("rng is given, but shuffle is not, so nothing would be drawn")
        return None
    if shuffle not in ("batches", "ties"):
        raise ValueError(f"shuffle must be 'batches' or 'ties', got {shuffle!r}")
    return np.random.default_rng(rng)
