"""Pieces of tables through a predictor: several at a time, in order, few of them in memory."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from packseq.optional import load
from packseq.predict.predictor import Predictor, RowError
from packseq.settings.threads import get_num_threads
from packseq.tables.sources import Part, Piece, told


@dataclass(frozen=True, eq=False)
class Made:
    """What a piece became.

    Attributes
    ----------
    part : Part
    table : pyarrow.Table
        The rows that could be run, with their predictions.
    rejected : pyarrow.Table, or None
        Those that could not, as they were, with their file, row and what is wrong.
    rows, steps : int
        Of the piece.
    """

    part: Part
    table: Any
    rejected: Any
    rows: int
    steps: int


class Worker:
    """A predictor for several threads, each of which computes pieces of its own.

    One thread of the kernels' a piece leaves no thread waiting for the slowest of a batch, and what
    is done in NumPy and Arrow around them is done on all cores too.

    Parameters
    ----------
    predictor : Predictor
    rejects : bool
        Put bad rows aside instead of raising the first.
    """

    def __init__(self, predictor: Predictor, rejects: bool) -> None:
        self.threads = predictor.num_threads or get_num_threads()
        self._each = copy.copy(predictor)
        self._each.num_threads = 1
        if rejects:
            self._each.errors = _ERRORS
        self._each._loaded()  # here, or what is wrong with the model would be told of a row

    @property
    def column(self) -> str:
        return self._each.column

    @property
    def window(self) -> int:
        """Steps of a piece that is worth it."""
        return self._each.sort_window

    def all(self, pieces: Iterable[Piece]) -> Iterator[Made]:
        """What the pieces become, in their order.

        They are read by the calling thread while others compute, two for each thread ahead of what
        it is given: with one, threads waited for it when it got no core in time.
        """
        with ThreadPoolExecutor(self.threads, "packseq") as pool:
            waiting: deque[Future[Made]] = deque()
            try:
                for piece in pieces:
                    waiting.append(pool.submit(self.one, piece))
                    if len(waiting) > 2 * self.threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for each in waiting:
                    each.cancel()

    def one(self, piece: Piece) -> Made:
        """What one piece becomes."""
        file = told(piece.part.path)
        try:
            table = self._each(piece.table)
        except RowError as error:
            raise RowError(piece.first_row + error.row, error.reason, file) from None
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{file}: {error}") from error
        rejected = None
        if self._each.errors is not None:
            table, rejected = self._sorted_out(piece, table)
        return Made(piece.part, table, rejected, piece.table.num_rows, piece.steps)

    def _sorted_out(self, piece: Piece, table: Any) -> tuple[Any, Any]:
        """The rows that could be run, and those that could not."""
        pa, pc = load("pyarrow", "arrow"), load("pyarrow.compute", "arrow")
        errors = table.column(_ERRORS)
        good = table.drop_columns([_ERRORS])
        if errors.null_count == len(errors):
            return good, None
        bad = pc.is_valid(errors)
        rows = pa.array(range(piece.first_row, piece.first_row + len(errors)), pa.int64())
        rejected = piece.table.append_column("packseq_row", rows).filter(bad)
        files = pa.array([piece.part.path] * rejected.num_rows, pa.string())
        rejected = rejected.append_column("packseq_file", files)
        return (
            good.filter(pc.invert(bad)),
            rejected.append_column("packseq_error", errors.filter(bad)),
        )


_ERRORS = "packseq_error"
