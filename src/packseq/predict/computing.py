"""What a model makes of sequences: rows of like length at a time, results in the rows' order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from packseq.arguments import as_numpy_data
from packseq.batching import batches
from packseq.packed import PackedSequence
from packseq.predict.models import Linear, Model
from packseq.predict.sequences import Sequences
from packseq.rows import ragged
from packseq.rows.plan import IndexArray

Array = NDArray[Any]
Output: TypeAlias = Literal["last", "mean", "max", "steps"]


@dataclass(frozen=True, eq=False)
class Computation:
    """A model, what is wanted of it, and how much of it at a time."""

    model: Model
    output: Output
    argmax: bool
    max_steps: int
    num_threads: int | None

    def of_rows(self, sequences: Sequences, rows: IndexArray) -> Array:
        """(B, *) a result for each of these rows, or for "steps" (N, *) one for each of their
        steps, row after row."""
        lengths = sequences.lengths[rows]
        starts = np.cumsum(lengths) - lengths
        result: Array | None = None
        for group in self._groups(lengths):
            made = self._output(sequences.packed(rows[group]))
            if isinstance(made, PackedSequence):
                result = _like(result, int(lengths.sum()), made.data)
                ragged.scatter(made.data, made._plan, result, starts[group])
            else:
                result = _like(result, len(rows), made)
                result[group] = made
        assert result is not None
        return result

    def _groups(self, lengths: IndexArray) -> Iterator[IndexArray]:
        """Places of rows of like length: one group at least, from which the results' shape comes.

        A row above the budget counts as just that, and so is alone.
        """
        budgeted = np.minimum(lengths, self.max_steps)
        yield from batches(budgeted, max_steps=self.max_steps).indices or [np.arange(0)]

    def _output(self, packed: PackedSequence) -> Array | PackedSequence:
        """(B, *) of a batch, or its steps."""
        steps, state = self.model.module(self._input(packed), num_threads=self.num_threads)
        if self.output == "steps":
            return PackedSequence._of(self._headed(steps.data), steps._plan)
        if self.output == "last":
            h = state[0] if isinstance(state, tuple) else state
            directions = 1 + self.model.network.bidirectional
            return self._headed(np.concatenate(list(h[-directions:]), axis=-1))
        return self._headed(steps.mean() if self.output == "mean" else steps.max())

    def _input(self, packed: PackedSequence) -> PackedSequence:
        """The rows that the module takes: of ids their embeddings, of numbers its dtype."""
        network, data = self.model.network, packed.data
        if self.model.embedding is not None:
            rows = self.model.embedding[data]
        else:
            rows = data.reshape(len(data), network.input_size).astype(network.dtype, copy=False)
        return PackedSequence._of(rows, packed._plan)

    def _headed(self, rows: Array) -> Array:
        """The head of rows (N, D * R), and where it is greatest."""
        head = self.model.head
        if isinstance(head, Linear):
            rows = head(rows, self.num_threads)
        elif head is not None:
            rows = _checked(head(rows), len(rows))
        if not self.argmax:
            return rows
        if rows.ndim != 2:
            raise ValueError("argmax needs a head that returns several numbers for each row")
        places: Array = np.argmax(rows, axis=1)
        return places


def _like(result: Array | None, count: int, rows: Array) -> Array:
    """Where results go, of the shape of the first that are there."""
    return np.empty((count, *rows.shape[1:]), rows.dtype) if result is None else result


def _checked(result: Any, count: int) -> Array:
    """What a head of the user's made of `count` rows."""
    rows = as_numpy_data(result, "the head's result")
    if rows.ndim not in (1, 2) or len(rows) != count or rows.dtype.kind not in "fiub":
        raise ValueError(
            f"head must return ({count},) or ({count}, K) numbers for {count} rows, got shape "
            f"{rows.shape} of dtype {rows.dtype}"
        )
    return rows
