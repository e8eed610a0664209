"""Batches of similar length under a budget of steps, padded ones or real ones; also of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike

from packseq.checks import as_size
from packseq.costs import as_counts
from packseq.packed import PackedSequence
from packseq.rows.plan import IndexArray

Shuffle = Literal["batches", "ties"]

# Steps of a stream that are looked at together: 16 batches of 65,536 steps.
SORT_WINDOW = 1 << 20


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


@overload
def batches(
    lengths: Iterator[ArrayLike],
    *,
    max_steps: SupportsIndex | None = None,
    max_tokens: SupportsIndex | None = None,
    max_sequences: SupportsIndex | None = None,
    sort_window: SupportsIndex = SORT_WINDOW,
) -> Iterator[IndexArray]: ...
@overload
def batches(
    lengths: ArrayLike | PackedSequence,
    *,
    max_steps: SupportsIndex | None = None,
    max_tokens: SupportsIndex | None = None,
    max_sequences: SupportsIndex | None = None,
    shuffle: Shuffle | None = None,
    rng: np.random.Generator | int | None = None,
) -> Batches: ...
def batches(
    lengths: ArrayLike | PackedSequence | Iterator[ArrayLike],
    *,
    max_steps: SupportsIndex | None = None,
    max_tokens: SupportsIndex | None = None,
    max_sequences: SupportsIndex | None = None,
    shuffle: Shuffle | None = None,
    rng: np.random.Generator | int | None = None,
    sort_window: SupportsIndex | None = None,
) -> Batches | Iterator[IndexArray]:
    """Group sequences of similar length into batches.

    Parameters
    ----------
    lengths : array_like of int, shape (n,), or PackedSequence; or an iterator
        Steps of each sequence. An iterator gives them one by one or in arrays, of any number: only
        a window of it is looked at at a time.
    max_steps : int, optional
        The most real steps of a batch: the sum of its lengths, as packed batches compute them.
    max_tokens : int, optional
        The most steps of a batch once it is padded: its sequences times the longest of them.
    max_sequences : int, optional
        The most sequences of a batch. One of the three is needed.
    shuffle : {"batches", "ties"}, optional
        By default batches go from the longest sequences to the shortest, and equal lengths in the
        order given. "batches" puts the batches into a random order; "ties" also draws which of the
        sequences of equal length come together, at no cost in waste.
    rng : numpy.random.Generator or int, optional
        What to draw from; an int seeds a new one, and without either the draw differs every time.
        Only with `shuffle`.
    sort_window : int, optional
        Of an iterator: so many steps are looked at together, a sequence of none counting as one,
        and each such window is batched by itself; 1,048,576 by default. A sequence that is longer
        is alone in its window.

    Returns
    -------
    Batches, or for an iterator an iterator of index arrays
        A sequence of index arrays, with the ``waste`` that is left. Indices into a stream count
        from its beginning.

    Raises
    ------
    TypeError
        An argument is of the wrong type; no maximum is given; `rng` without `shuffle`; `shuffle`
        with an iterator, or `sort_window` without one.
    ValueError
        A length is negative or above `max_steps` or `max_tokens`; a maximum is less than 1;
        `shuffle` is unknown.

    Notes
    -----
    Cost: one sort of the lengths and about two microseconds a batch; of a stream, the memory of the
    lengths of one window and of one of the iterator's arrays.

    Examples
    --------
    >>> grouped = batches([3, 8, 2, 9, 3], max_tokens=18)
    >>> [batch.tolist() for batch in grouped]
    [[3, 1], [0, 4, 2]]
    >>> grouped
    Batches(2 of 5 sequences, waste 7.4%)
    >>> [batch.tolist() for batch in batches(iter([3, 8, 2, 9, 3]), max_steps=12, sort_window=16)]
    [[1, 0], [2], [3, 4]]
    """
    limits = _as_limits(max_steps, max_tokens, max_sequences)
    generator = _as_generator(shuffle, rng)
    if isinstance(lengths, Iterator):
        if generator is not None:
            raise TypeError("shuffle needs all lengths at once, not an iterator")
        window = as_size(SORT_WINDOW if sort_window is None else sort_window, "sort_window")
        return _stream(lengths, limits, window)
    if sort_window is not None:
        raise TypeError("sort_window belongs to an iterator of lengths")
    counts = as_counts(lengths)
    limits.check(counts)
    order = _longest_first(counts, generator if shuffle == "ties" else None)
    indices, padded = _cut(counts, order, limits)
    if generator is not None:
        indices = [indices[k] for k in generator.permutation(len(indices))]
    return Batches(tuple(indices), padded, sum(counts.tolist()))


def windows_of(lengths: IndexArray, sort_window: int) -> Iterator[tuple[int, int]]:
    """Ranges of sequences of at most so many steps, one of none counting as one; each of at least
    one sequence."""
    ends = np.cumsum(np.maximum(lengths, 1))
    start = 0
    while start < len(lengths):
        stop = _last_within(ends, start, sort_window)
        yield start, stop
        start = stop


def _last_within(ends: IndexArray, start: int, most: int) -> int:
    """Where to stop so that the entries from `start` on, which `ends` adds up, sum to at most
    `most`: one at least is taken."""
    before = int(ends[start - 1]) if start else 0
    return max(int(np.searchsorted(ends, before + most, side="right")), start + 1)


def _stream(
    lengths: Iterator[ArrayLike], limits: _Limits, sort_window: int
) -> Iterator[IndexArray]:
    """Batches of each window of a stream, whose last one waits for what may still belong to it."""
    first = seen = steps = 0
    waiting = [np.empty(0, np.int64)]
    for each in lengths:
        counts = as_counts(np.atleast_1d(each))
        limits.check(counts, seen)
        seen += len(counts)
        waiting.append(counts)
        steps += int(np.maximum(counts, 1).sum())
        if steps <= sort_window:
            continue
        joined = np.concatenate(waiting)
        *whole, (start, _) = windows_of(joined, sort_window)
        for window in whole:
            yield from _window(joined[slice(*window)], limits, first + window[0])
        first, waiting = first + start, [joined[start:]]
        steps = int(np.maximum(waiting[0], 1).sum())
    yield from _window(np.concatenate(waiting), limits, first)


def _window(counts: IndexArray, limits: _Limits, first: int) -> Iterator[IndexArray]:
    indices, _ = _cut(counts, _longest_first(counts, None), limits)
    return (first + batch for batch in indices)


def _longest_first(counts: IndexArray, generator: np.random.Generator | None) -> IndexArray:
    """Indices by length, equal ones in their order or in a random one."""
    if generator is None:
        return np.argsort(-counts, kind="stable")
    drawn = generator.permutation(len(counts))
    return drawn[np.argsort(-counts[drawn], kind="stable")]


def _cut(counts: IndexArray, order: IndexArray, limits: _Limits) -> tuple[list[IndexArray], int]:
    """Cut the order where a maximum is reached; and the steps that padding makes of all."""
    indices, padded, start = [], 0, 0
    ends = np.cumsum(counts[order])
    while start < len(order):
        longest = int(counts[order[start]])
        stop = len(order)
        if limits.sequences is not None:
            stop = min(stop, start + limits.sequences)
        if limits.tokens is not None and longest:
            stop = min(stop, start + limits.tokens // longest)
        if limits.steps is not None:
            stop = min(stop, _last_within(ends, start, limits.steps))
        batch = order[start:stop]
        indices.append(batch)
        padded += longest * len(batch)
        start = stop
    return indices, padded


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a batch may have at most; None for as many as there are."""

    steps: int | None
    tokens: int | None
    sequences: int | None

    def check(self, counts: IndexArray, first: int = 0) -> None:
        """Refuse a length that no batch may have, the first of `counts` being number `first`."""
        for name, most in (("max_steps", self.steps), ("max_tokens", self.tokens)):
            if most is not None and len(bad := np.flatnonzero(counts > most)):
                raise ValueError(
                    f"{name} = {most} is less than lengths[{first + bad[0]}] = {counts[bad[0]]}"
                )


def _as_limits(
    max_steps: SupportsIndex | None,
    max_tokens: SupportsIndex | None,
    max_sequences: SupportsIndex | None,
) -> _Limits:
    given = {"max_steps": max_steps, "max_tokens": max_tokens, "max_sequences": max_sequences}
    limits = _Limits(
        *(None if value is None else as_size(value, name) for name, value in given.items())
    )
    if limits == _Limits(None, None, None):
        raise TypeError("batches needs max_steps, max_tokens, max_sequences or several of them")
    return limits


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
