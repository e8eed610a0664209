"""Predictor: a callable from Arrow to Arrow, for every engine that hands a function its blocks."""

from __future__ import annotations

import json
import os
from types import ModuleType
from typing import Any, Literal, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from packseq.batching import SORT_WINDOW, windows_of
from packseq.checks import as_flag, as_size
from packseq.columns import chunks_of
from packseq.optional import load
from packseq.predict.computing import Computation, Output
from packseq.predict.models import Embedding, Head, Model, fingerprint_of, is_path, model_of
from packseq.predict.sequences import Sequences
from packseq.rows.plan import IndexArray, starts_of
from packseq.settings.isa import engine
from packseq.settings.threads import as_thread_count
from packseq.version import __version__

Array = NDArray[Any]

OUTPUTS = ("last", "mean", "max", "steps")
NULLS = ("error", "null")
# What a schema's metadata says of how its predictions were computed, as JSON.
METADATA_KEY = b"packseq"


class RowError(ValueError):
    """A row whose sequence cannot be run.

    Attributes
    ----------
    row : int
        Its place in the table, or in the file.
    reason : str
    file : str, or None
    """

    def __init__(self, row: int, reason: str, file: str | None = None) -> None:
        super().__init__(row, reason, file)
        self.row, self.reason, self.file = row, reason, file

    def __str__(self) -> str:
        where = f"row {self.row}" if self.file is None else f"{self.file}, row {self.row}"
        return f"{where}: {self.reason}"


class Predictor:
    """A recurrent model that adds a column to tables: from a column of sequences, a prediction.

    It knows no engine and no files: it is a function of an Arrow table, which Ray Data, Spark, Daft
    or a loop may call. It pickles small: a path travels as a path, a module as its weights.

    Parameters
    ----------
    model : LSTM, GRU, RNN or path
        Or what :func:`packseq.load` returns. A path is loaded at the first call, once in a process.
    column : str
        The column of sequences: lists of lists of one length, or of numbers where the model's input
        has one, or of ids for `embedding`; see :func:`packseq.from_arrow` for the types.
    output : {"last", "mean", "max", "steps"}
        The last layer's final h, both directions joined; its mean or maximum over the steps, NaN
        and -inf where there is none; or all of its steps, as a list.
    name : str
        Of the new column.
    embedding : array_like of shape (V, I), or str, optional
        The rows that ids stand for, or the name of that array in the file.
    head : callable, pair of array_like, or str, optional
        A function of rows (N, D * R) that returns (N, K) or (N,); or the weight (K, D * R) and bias
        (K,) of a linear layer; or the prefix of both in the file: "linear" for ``linear.weight``
        and ``linear.bias``.
    argmax : bool
        The place of each row's greatest output instead, int64.
    nulls : {"error", "null"}
        What a null for a sequence is: an error, or a prediction that is null.
    keep : bool
        Keep the sequences too.
    errors : str, optional
        The name of a second new column, which says what is wrong with a row: where it is not null,
        the prediction is. Without it the first such row is raised.
    max_steps : int
        Steps that are computed together, real ones: a longer sequence goes alone. It bounds what is
        needed beside the table and its predictions.
    sort_window : int
        Steps of rows that follow each other which are looked at together to find rows of like
        length, each of which counts as one step at least.
    num_threads : int, optional
        As in a module's call.
    **load_options
        As for :func:`packseq.load`: `prefix`, `nonlinearity` and so on.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of range.

    Notes
    -----
    Cost: the module's, two gathers of the steps, and one look at each number.

    The bits of a prediction do not depend on the other rows, on chunks or blocks, on `max_steps`,
    `sort_window` or `num_threads`; a callable head has to see to that itself. They do on the
    instruction set, which is in the metadata of the table's schema under ``packseq``.

    Examples
    --------
    >>> import pyarrow as pa
    >>> table = pa.table({"id": [7, 8], "x": [[0.5, 1.0, -1.0], []]})
    >>> predict = Predictor(packseq.GRU(1, 4, rng=0), "x", output="steps")
    >>> [len(steps) for steps in predict(table)["prediction"].to_pylist()]
    [3, 0]
    >>> predict(table).column_names
    ['id', 'prediction']
    """

    def __init__(
        self,
        model: Any,
        column: str,
        *,
        output: Output = "last",
        name: str = "prediction",
        embedding: Embedding = None,
        head: Head = None,
        argmax: bool = False,
        nulls: Literal["error", "null"] = "error",
        keep: bool = False,
        errors: str | None = None,
        max_steps: SupportsIndex = 65536,
        sort_window: SupportsIndex = SORT_WINDOW,
        num_threads: SupportsIndex | None = None,
        **load_options: Any,
    ) -> None:
        self.column, self.name = _as_name(column, "column"), _as_name(name, "name")
        self.errors = None if errors is None else _as_name(errors, "errors")
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {OUTPUTS}, got {output!r}")
        if nulls not in NULLS:
            raise ValueError(f"nulls must be one of {NULLS}, got {nulls!r}")
        if not is_path(model) and (load_options or isinstance(embedding, str)):
            what = f"{sorted(load_options)[0]}=" if load_options else "the name of an embedding"
            raise TypeError(f"{what} belongs to a file, and model is a {type(model).__name__}")
        self.output, self.nulls = output, nulls
        self.argmax, self.keep = as_flag(argmax, "argmax"), as_flag(keep, "keep")
        self.max_steps = as_size(max_steps, "max_steps")
        self.sort_window = as_size(sort_window, "sort_window")
        self.num_threads = None if num_threads is None else as_thread_count(num_threads)
        self._source = (model, embedding, head, load_options)
        self._model: Model | None = None
        if not is_path(model):
            self._loaded()  # so that what does not fit is told here

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_model": None}

    def __repr__(self) -> str:
        return f"Predictor({self._source[0]!r}, {self.column!r}, output={self.output!r})"

    @property
    def files(self) -> list[str]:
        """The model's file, if it is one."""
        return [os.fspath(self._source[0])] if is_path(self._source[0]) else []

    def fingerprint(self) -> str:
        """A hash of all that decides the predictions, the weights' numbers among it.

        Of a callable head only its name counts.

        Examples
        --------
        >>> gru = packseq.GRU(1, 4, rng=0)
        >>> Predictor(gru, "x").fingerprint() == Predictor(gru, "x").fingerprint()
        True
        >>> Predictor(gru, "x").fingerprint() == Predictor(gru, "x", output="steps").fingerprint()
        False
        """
        names = ("column", "name", "output", "argmax", "nulls", "keep")
        said = {name: getattr(self, name) for name in names}
        return fingerprint_of(*self._source, json.dumps(said))

    def _loaded(self) -> Model:
        if self._model is None:
            self._model = model_of(*self._source)
        return self._model

    def __call__(self, data: Any) -> Any:
        """Predict a table's rows.

        Parameters
        ----------
        data : pyarrow.Table, pyarrow.RecordBatch, pandas.DataFrame
            Or whatever has Arrow's interface of capsules, as polars and DuckDB do.

        Returns
        -------
        pyarrow.Table
            The same rows in the same order: all columns but the sequences (with `keep` these too),
            and the prediction: a fixed-size list, or where it may be null a large list; for
            "steps" a large list of fixed-size ones; a number for an `argmax` or a head of one.

        Raises
        ------
        RowError
            A sequence is null or holds one, has a number that is not finite or an id that is out of
            range, or steps of another width. It is a ValueError that has the row's number.
        TypeError
            `data` is no table; the column's type is none that is taken.
        ValueError
            The column is missing; one of the new name is there; the whole column is of another
            width than the model; Arrow's offsets are malformed.
        CheckpointError, OSError, ImportError
            At the first call: as for :func:`packseq.load`.

        Examples
        --------
        >>> import pyarrow as pa
        >>> predict = Predictor(packseq.GRU(1, 4, rng=0), "x")
        >>> predict(pa.table({"id": [7, 8], "x": [[0.5, 1.0], [-1.0]]})).column_names
        ['id', 'prediction']
        """
        pa = load("pyarrow", "arrow")
        table = self._as_table(pa, data)
        model = self._loaded()
        sequences = self._read(pa, table, model)
        reasons = sequences.faults
        if reasons and self.errors is None:
            row = min(reasons)
            raise RowError(row, f"{self.column!r} {reasons[row]}")
        missing = sequences.nulls.copy()
        missing[list(reasons)] = True
        work = Computation(model, self.output, self.argmax, self.max_steps, self.num_threads)
        windows = windows_of(sequences.lengths, self.sort_window)
        chunks = [
            self._chunk(pa, work, sequences, slice(*window), missing[slice(*window)])
            for window in list(windows) or [(0, 0)]
        ]
        place = table.column_names.index(self.column)
        result = table if self.keep else table.remove_column(place)
        result = result.append_column(self.name, pa.chunked_array(chunks))
        if self.errors is not None:
            said = np.full(len(sequences), None, object)
            said[list(reasons)] = list(reasons.values())
            result = result.append_column(self.errors, pa.array(said, pa.string()))
        return result.replace_schema_metadata((table.schema.metadata or {}) | _metadata())

    def _chunk(
        self, pa: ModuleType, work: Computation, sequences: Sequences, rows: slice, missing: Array
    ) -> Any:
        """The new column's array for a range of rows."""
        there = rows.start + np.flatnonzero(~missing)
        values = work.of_rows(sequences, there)
        if self.output == "steps":
            lengths = np.where(missing, 0, sequences.lengths[rows])
            return _arrow_lists(pa, _arrow_rows(pa, values), lengths, missing)
        if not self._may_be_null:
            return _arrow_rows(pa, values)
        if values.ndim == 2:
            lengths = np.where(missing, 0, values.shape[1])
            return _arrow_lists(pa, _arrow_rows(pa, values.reshape(-1)), lengths, missing)
        every = np.zeros(len(missing), values.dtype)
        every[~missing] = values
        return pa.array(every, mask=missing)

    @property
    def _may_be_null(self) -> bool:
        return self.nulls == "null" or self.errors is not None

    def _as_table(self, pa: ModuleType, data: Any) -> Any:
        """A table that has the column, and none of those that are to be made."""
        table = _imported(pa, data, self.column)
        there = table.column_names.count(self.column)
        if there != 1:
            names = ", ".join(map(repr, table.column_names))
            raise ValueError(f"there are {there} columns {self.column!r}, among {names}")
        for name in filter(None, (self.name, self.errors)):
            if name in table.column_names or self.name == self.errors:
                raise ValueError(f"there is a column {name!r} already")
        return table

    def _read(self, pa: ModuleType, table: Any, model: Model) -> Sequences:
        """The column's sequences, with all that is wrong with any of them."""
        network = model.network
        width = network.input_size if model.embedding is None else None
        try:
            sequences = Sequences.of(pa, table.column(self.column), width)
        except (TypeError, ValueError) as error:
            kind_of_error = TypeError if isinstance(error, TypeError) else ValueError
            raise kind_of_error(f"{self.column!r}: {error}") from error
        shape, kind = sequences.row_shape, sequences.dtype.kind
        if model.embedding is not None:
            if shape != () or kind not in "iu":
                raise TypeError(
                    f"column {self.column!r} must hold lists of integers, the embedding's ids, "
                    f"got {table.schema.field(self.column).type}"
                )
            rows = len(model.embedding)
            sequences.note_outside(
                0, rows - 1, lambda value: f"the id {value}, of an embedding of {rows} rows,"
            )
        else:
            if kind not in "fiub":
                raise TypeError(f"column {self.column!r} must hold numbers, got {sequences.dtype}")
            if shape is not None and shape != (width,) and (shape, width) != ((), 1):
                raise ValueError(
                    f"column {self.column!r} must have steps of {width} numbers, the model's "
                    f"input_size, got {table.schema.field(self.column).type}"
                )
            if kind == "f":
                limit = min(float(np.finfo(each).max) for each in (network.dtype, sequences.dtype))
                sequences.note_outside(
                    -limit, limit, lambda value: f"{value}, which is no finite {network.dtype},"
                )
        if self.nulls == "error":
            for row in np.flatnonzero(sequences.nulls):
                sequences.faults.setdefault(int(row), "is null")
        return sequences


# ---- to Arrow ----


def _arrow_rows(pa: ModuleType, values: Array) -> Any:
    """Numbers, or fixed-size lists of them."""
    flat = pa.array(values.reshape(-1))
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _arrow_lists(pa: ModuleType, values: Any, lengths: IndexArray, missing: Array) -> Any:
    """Large lists of so many of the values each, null where missing.

    Of those that may be null Parquet gives back no fixed-size ones, and 32 bits are soon too few.
    """
    offsets = starts_of(lengths)
    mask = pa.array(missing) if missing.any() else None
    return pa.LargeListArray.from_arrays(pa.array(offsets), values, mask=mask)


def _imported(pa: ModuleType, data: Any, column: str) -> Any:
    """A table of Arrow's from whatever makes one."""
    if isinstance(data, pa.Table):
        return data
    if type(data).__module__.partition(".")[0] == "pandas":
        return _of_pandas(pa, data, column)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    if hasattr(data, "__arrow_c_array__"):
        return pa.Table.from_batches([pa.record_batch(data)])
    raise TypeError(
        "data must be a pyarrow Table or RecordBatch, or have Arrow's __arrow_c_stream__ or "
        f"__arrow_c_array__, got {type(data).__name__}"
    )


def _of_pandas(pa: ModuleType, frame: Any, column: str) -> Any:
    """A table of a DataFrame, whose sequences may be matrices in a column of objects."""
    if list(frame.columns).count(column) != 1:
        return pa.Table.from_pandas(frame)
    place = list(frame.columns).index(column)
    others = pa.Table.from_pandas(frame.drop(columns=[column]))
    lists = pa.chunked_array(chunks_of(pa, frame[column]))
    return others.add_column(place, column, lists)


def _metadata() -> dict[bytes, bytes]:
    said = {"version": __version__, "isa": engine().name}
    return {METADATA_KEY: json.dumps(said).encode()}


def _as_name(name: str, argument: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be the name of a column, got {name!r}")
    return name
