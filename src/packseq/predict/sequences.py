"""The sequences of all chunks of a column: which are fit to be run, and any of them packed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq import columns
from packseq.packed import PackedSequence
from packseq.rows import ragged
from packseq.rows.plan import IndexArray, Plan

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences where they lie, one a row of the column.

    Attributes
    ----------
    lengths : (B,) int64
    nulls : (B,) bool
    faults : dict of int to str
        What is wrong with a row, which must not be packed then.
    dtype : dtype
    row_shape : tuple of int, or None
        Of a step; None where there is no step to tell it.
    """

    lengths: IndexArray
    nulls: NDArray[np.bool_]
    faults: dict[int, str]
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...] | None
    _addresses: IndexArray
    _chunks: list[columns.Lists]

    @classmethod
    def of(cls, pa: ModuleType, column: Any, width: int | None) -> Sequences:
        """Read a column, as columns.read does each of its chunks."""
        chunks, start = [], 0
        faults: dict[int, str] = {}
        for chunk in columns.chunks_of(pa, column):
            lists = columns.read(pa, chunk, start, width)
            faults |= {start + row: fault for row, fault in lists.faults.items()}
            start += len(chunk)
            chunks.append(lists)
        shapes = {chunk.row_shape for chunk in chunks if chunk.row_shape is not None}
        bases = [chunk.values.ctypes.data for chunk in chunks]
        return cls(
            lengths=np.concatenate([chunk.lengths for chunk in chunks]),
            nulls=np.concatenate([chunk.nulls for chunk in chunks]),
            faults=faults,
            dtype=chunks[0].values.dtype,
            row_shape=shapes.pop() if len(shapes) == 1 else None,
            _addresses=np.concatenate(
                [
                    base + chunk.values.itemsize * chunk.starts
                    for base, chunk in zip(bases, chunks, strict=True)
                ]
            ),
            _chunks=chunks,
        )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def width(self) -> int:
        """Numbers of a step."""
        return int(np.prod(self.row_shape or (), dtype=np.int64))

    def note_outside(self, low: float, high: float, what: Callable[[Any], str]) -> None:
        """Note the rows with a number outside a range, as NaN is, each by the first of these."""
        first = 0
        for chunk in self._chunks:
            places = _outside(chunk.values, low, high)
            owners = np.searchsorted(chunk.starts, places, side="right") - 1
            for b, k in zip(*np.unique(owners, return_index=True), strict=True):
                step = (int(places[k]) - int(chunk.starts[b])) // max(self.width, 1)
                reason = f"has {what(chunk.values[places[k]])} at step {step}"
                self.faults.setdefault(first + int(b), reason)
            first += len(chunk.lengths)

    def packed(self, rows: IndexArray) -> PackedSequence:
        """Pack some of the rows, none of which has a fault."""
        plan = Plan.from_lengths(self.lengths[rows])
        data = np.empty((plan.rows, *(self.row_shape or ())), self.dtype)
        ragged.gather(data, plan, self._addresses[rows])
        return PackedSequence._of(data, plan)


def _outside(values: Array, low: float, high: float) -> IndexArray:
    """Where numbers are not within a range; NaN is not."""
    with np.errstate(invalid="ignore"):
        if not values.size or (values.min() >= low and values.max() <= high):
            return np.empty(0, np.int64)
    return np.flatnonzero(~((values >= low) & (values <= high)))
