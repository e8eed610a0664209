"""What the lengths of a batch decide, before any data is seen."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from packseq._core.order import longest_first, rise
from packseq.arguments import as_int64_vector
from packseq.checks import as_read_only

IndexArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Plan:
    """Where each step of each sequence lies among the packed rows.

    Immutable: every array is int64, C-contiguous and read-only, so a plan is shared freely by the
    packed sequences, threads and layers that have the same lengths.

    Attributes
    ----------
    batch_sizes : (T,)
        Sequences alive at each step: positive, non-increasing.
    offsets : (T + 1,)
        First packed row of each step; ``offsets[T]`` is N.
    sorted_lengths : (B,)
        Lengths in packed order: non-increasing, zeros last.
    lengths : (B,)
        Lengths in the caller's order.
    sorted_indices : (B,) or None
        The caller's index of each packed sequence; None where the caller's order is the packed one
        and no length is 0. A zero cannot be seen in ``batch_sizes``, so with one of them the
        indices stay, the identity if need be, and the four public fields tell the whole truth.
    unsorted_indices : (B,) or None
        Its inverse: the packed position of each of the caller's sequences.
    """

    batch_sizes: IndexArray
    offsets: IndexArray
    sorted_lengths: IndexArray
    lengths: IndexArray
    sorted_indices: IndexArray | None
    unsorted_indices: IndexArray | None

    def __post_init__(self) -> None:
        for name in _FIELDS:
            array = getattr(self, name)
            if array is not None:
                object.__setattr__(self, name, as_read_only(array))

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the checks: a pickle may have been changed, and NumPy's own come back writable.
        fields = (self.batch_sizes, self.sorted_indices, self.unsorted_indices, self.rows)
        return Plan._unpickled, fields

    @classmethod
    def _unpickled(
        cls, batch_sizes: Any, sorted_indices: Any, unsorted_indices: Any, rows: int
    ) -> Plan:
        return cls.from_batch_sizes(batch_sizes, sorted_indices, unsorted_indices, rows=rows)

    @property
    def batch_size(self) -> int:
        """B, empty sequences included."""
        return len(self.lengths)

    @property
    def max_length(self) -> int:
        """T, the longest length; 0 if every sequence is empty."""
        return len(self.batch_sizes)

    @property
    def rows(self) -> int:
        """N, the sum of the lengths."""
        return int(self.offsets[-1])

    @classmethod
    def from_lengths(cls, lengths: IndexArray, enforce_sorted: bool = False) -> Plan:
        """Plan a batch; equal lengths keep their order.

        Parameters
        ----------
        lengths : (B,) int64
            Not negative, and of a sum within int64: already checked by the caller. Copied.
        enforce_sorted : bool
            Refuse lengths that are not non-increasing, rather than sort them.

        Raises
        ------
        ValueError
            `enforce_sorted` is set and a length is greater than the one before it.

        Notes
        -----
        Cost: O(B + T).
        """
        lengths = lengths.copy()
        first = rise(lengths)
        if enforce_sorted and first:
            raise ValueError(
                "lengths must be in non-increasing order with enforce_sorted=True, but "
                f"lengths[{first}] = {lengths[first]} follows "
                f"lengths[{first - 1}] = {lengths[first - 1]}"
            )
        batch_sizes, offsets, sorted_lengths, order, inverse = longest_first(lengths, first == 0)
        in_order = first == 0 and (len(lengths) == 0 or lengths[-1] > 0)
        return cls(
            batch_sizes=batch_sizes,
            offsets=offsets,
            sorted_lengths=sorted_lengths,
            lengths=lengths,
            sorted_indices=None if in_order else order,
            unsorted_indices=None if in_order else inverse,
        )

    def with_lengths(self, sorted_lengths: IndexArray) -> Plan:
        """Plan the same sequences at other lengths.

        They keep their packed order, ties included, where it is still longest first, so that what
        is cut alike from one batch is laid out alike; else they are sorted anew.

        Parameters
        ----------
        sorted_lengths : (B,) int64
            New lengths in this plan's packed order: not negative, of a sum within int64. Not
            copied.

        Notes
        -----
        Cost: O(B + T), or O(B log B + T) sorted anew.
        """
        sorted_, unsorted = self.sorted_indices, self.unsorted_indices
        if np.any(sorted_lengths[1:] > sorted_lengths[:-1]):
            return Plan.from_lengths(
                sorted_lengths if unsorted is None else sorted_lengths[unsorted]
            )
        if sorted_ is None and len(sorted_lengths) and sorted_lengths[-1] == 0:
            sorted_ = unsorted = np.arange(self.batch_size, dtype=np.int64)
        longest = int(sorted_lengths[0]) if len(sorted_lengths) else 0
        batch_sizes = _conjugate(sorted_lengths, longest)
        return Plan(
            batch_sizes=batch_sizes,
            offsets=starts_of(batch_sizes),
            sorted_lengths=sorted_lengths,
            lengths=sorted_lengths if unsorted is None else sorted_lengths[unsorted],
            sorted_indices=sorted_,
            unsorted_indices=unsorted,
        )

    def in_packed_order(self, values: NDArray[Any]) -> NDArray[Any]:
        """(B, *) in the caller's order -> in packed order; `values` itself where they agree."""
        return values if self.sorted_indices is None else values[self.sorted_indices]

    def in_callers_order(self, values: NDArray[Any]) -> NDArray[Any]:
        """(B, *) in packed order -> in the caller's order; `values` itself where they agree."""
        return values if self.unsorted_indices is None else values[self.unsorted_indices]

    def step_of(self, row: int) -> tuple[int, int]:
        """The caller's sequence and the step that packed row `row` holds."""
        step = int(np.searchsorted(self.offsets, row, side="right")) - 1
        rank = row - int(self.offsets[step])
        order = self.sorted_indices
        return rank if order is None else int(order[rank]), step

    def difference(self, other: Plan) -> str | None:
        """Say how the rows of `other` lie differently, or None where they do not."""
        if self is other:
            return None
        if self.batch_size != other.batch_size:
            return f"{self.batch_size} sequences and {other.batch_size}"
        if len(bad := np.flatnonzero(self.lengths != other.lengths)):
            b = bad[0]
            return f"sequence {b} has {self.lengths[b]} steps and {other.lengths[b]}"
        if len(bad := np.flatnonzero(self._ranks() != other._ranks())):
            return (
                f"equal lengths, but sequence {bad[0]} is packed in another order; "
                "select(range(batch_size)) packs either anew"
            )
        return None

    def _ranks(self) -> IndexArray:
        if self.unsorted_indices is not None:
            return self.unsorted_indices
        return np.arange(self.batch_size, dtype=np.int64)

    @classmethod
    def from_batch_sizes(
        cls,
        batch_sizes: ArrayLike,
        sorted_indices: ArrayLike | None = None,
        unsorted_indices: ArrayLike | None = None,
        *,
        rows: int,
    ) -> Plan:
        """Rebuild and check a plan from a packed sequence's public fields.

        Parameters
        ----------
        batch_sizes : array_like of int, shape (T,)
        sorted_indices, unsorted_indices : array_like of int, shape (B,), optional
            Where one is given, the other follows from it. B may exceed ``batch_sizes[0]``: the
            last sequences of the packed order are then empty.
        rows : int
            N, which `batch_sizes` must sum to.

        Raises
        ------
        TypeError
            A field does not hold integers.
        ValueError
            `batch_sizes` is not 1-D, positive, non-increasing and of sum `rows`; an index array is
            not a permutation, is shorter than ``batch_sizes[0]``, or the two are not inverse.
        """
        batch_sizes = as_int64_vector(batch_sizes, "batch_sizes")
        offsets = _check_batch_sizes(batch_sizes, rows)
        sorted_, unsorted = _both_indices(sorted_indices, unsorted_indices)
        alive = int(batch_sizes[0]) if len(batch_sizes) else 0
        batch_size = alive if sorted_ is None else len(sorted_)
        if batch_size < alive:
            raise ValueError(
                f"sorted_indices has {batch_size} entries, but batch_sizes[0] = {alive} "
                "sequences are packed"
            )
        sorted_lengths = _conjugate(batch_sizes, batch_size)
        return cls(
            batch_sizes=batch_sizes,
            offsets=offsets,
            sorted_lengths=sorted_lengths,
            lengths=sorted_lengths if unsorted is None else sorted_lengths[unsorted],
            sorted_indices=sorted_,
            unsorted_indices=unsorted,
        )


# Not __slots__: until Python 3.11.2 those of a dataclass hold __weakref__ too.
_FIELDS = tuple(field.name for field in fields(Plan))


@overload
def invert_permutation(permutation: None) -> None: ...
@overload
def invert_permutation(permutation: ArrayLike) -> IndexArray: ...
def invert_permutation(permutation: ArrayLike | None) -> IndexArray | None:
    """Return the inverse of a permutation, or None for None.

    Parameters
    ----------
    permutation : array_like of int, shape (B,), or None

    Returns
    -------
    ndarray of int64, shape (B,), or None
        ``inverse[permutation[i]] == i``.

    Raises
    ------
    TypeError
        The entries are not integers.
    ValueError
        It is not 1-D, an entry is outside 0 to B - 1, or one occurs twice.

    Notes
    -----
    Cost: O(B).
    Source: torch.nn.utils.rnn.invert_permutation.

    Examples
    --------
    >>> invert_permutation([2, 0, 1])
    array([1, 2, 0])
    """
    if permutation is None:
        return None
    return _checked_inverse(as_int64_vector(permutation, "permutation"), "permutation")


def _conjugate(parts: IndexArray, size: int) -> IndexArray:
    """Count, for each k < `size`, the `parts` greater than k.

    Lengths and batch sizes are conjugate partitions of N: each is this function of the other.
    """
    at_most = np.cumsum(np.bincount(parts, minlength=size)[:size])
    return (len(parts) - at_most).astype(np.int64, copy=False)


def starts_of(sizes: IndexArray) -> IndexArray:
    """Where each of so many things begins that lie end to end, and the last ends: (B + 1,)."""
    starts = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    return starts


def _inverse(permutation: IndexArray) -> IndexArray:
    inverse = np.empty_like(permutation)
    inverse[permutation] = np.arange(len(permutation), dtype=np.int64)
    return inverse


def _check_batch_sizes(batch_sizes: IndexArray, rows: int) -> IndexArray:
    """Return the offsets of valid batch sizes."""
    if len(bad := np.flatnonzero(batch_sizes <= 0)):
        raise ValueError(
            f"batch_sizes must be positive, got batch_sizes[{bad[0]}] = {batch_sizes[bad[0]]}"
        )
    if len(bad := np.flatnonzero(batch_sizes[1:] > batch_sizes[:-1])):
        step = bad[0]
        raise ValueError(
            "batch_sizes must be non-increasing, got "
            f"batch_sizes[{step + 1}] = {batch_sizes[step + 1]} after "
            f"batch_sizes[{step}] = {batch_sizes[step]}"
        )
    offsets = starts_of(batch_sizes)
    # Adding a positive int64 to another overflows to a negative one, so no wrap goes unseen.
    if offsets[-1] != rows or np.any(offsets < 0):
        total = sum(batch_sizes.tolist())
        raise ValueError(f"batch_sizes sum to {total}, but data has {rows} rows")
    return offsets


def _both_indices(
    sorted_indices: ArrayLike | None, unsorted_indices: ArrayLike | None
) -> tuple[IndexArray | None, IndexArray | None]:
    """Check the two index arrays, and derive one that is missing from the other."""
    if sorted_indices is None:
        if unsorted_indices is None:
            return None, None
        unsorted = as_int64_vector(unsorted_indices, "unsorted_indices")
        return _checked_inverse(unsorted, "unsorted_indices"), unsorted
    sorted_ = as_int64_vector(sorted_indices, "sorted_indices")
    inverse = _checked_inverse(sorted_, "sorted_indices")
    if unsorted_indices is None:
        return sorted_, inverse
    unsorted = as_int64_vector(unsorted_indices, "unsorted_indices")
    if len(unsorted) != len(inverse):
        raise ValueError(
            f"unsorted_indices has {len(unsorted)} entries, but sorted_indices has {len(inverse)}"
        )
    if len(bad := np.flatnonzero(unsorted != inverse)):
        raise ValueError(
            f"unsorted_indices must be the inverse of sorted_indices: unsorted_indices[{bad[0]}] "
            f"= {unsorted[bad[0]]}, expected {inverse[bad[0]]}"
        )
    return sorted_, inverse


def _checked_inverse(permutation: IndexArray, name: str) -> IndexArray:
    size = len(permutation)
    if len(bad := np.flatnonzero((permutation < 0) | (permutation >= size))):
        raise ValueError(
            f"{name} must be a permutation of 0 to {size - 1}, got "
            f"{name}[{bad[0]}] = {permutation[bad[0]]}"
        )
    inverse = _inverse(permutation)
    if len(bad := np.flatnonzero(inverse[permutation] != np.arange(size))):
        raise ValueError(
            f"{name} must be a permutation of 0 to {size - 1}, but {permutation[bad[0]]} occurs "
            f"at {bad[0]} and at {inverse[permutation[bad[0]]]}"
        )
    return inverse
