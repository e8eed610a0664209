"""Files of tables, cut into parts, and read some rows at a time."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from packseq import columns
from packseq.checks import kind_of
from packseq.optional import load

FilePath: TypeAlias = str | os.PathLike[str]

STREAM = "-"
SUFFIXES = {".parquet", ".arrow", ".feather", ".ipc", ".arrows"}
# How files begin; what begins otherwise may be a stream of Arrow's.
PARQUET_MAGIC, ARROW_MAGIC = b"PAR1", b"ARROW1"
# Rows are decoded by so many bytes: what is decoded at once adds to every window.
READ_BYTES = 4 << 20
# A column of Parquet is read by so many bytes; without it a row group's whole column would be.
BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Part:
    """Some row groups of a Parquet file, or batches of an Arrow one, which are written as one file.

    Attributes
    ----------
    number : int
        Of the job's parts.
    path : str
        "-" for standard input.
    first, last : int
        The row groups or batches, `last` excluded; of a stream, which has no such, 0 and 0.
    first_row : int
        Of the file, from 0.
    rows : int or None
        None where only reading on tells.
    """

    number: int
    path: str
    first: int
    last: int
    first_row: int
    rows: int | None


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows that follow each other in a part.

    Attributes
    ----------
    part : Part
    first_row : int
        Of the file.
    table : pyarrow.Table
    steps : int
    """

    part: Part
    first_row: int
    table: Any
    steps: int


def files_of(source: FilePath | Sequence[FilePath]) -> list[str]:
    """The files of a file, a folder, a glob or a list of these, by name; "-" is standard input.

    Raises
    ------
    OSError
        There is none.
    TypeError
        It is no path.
    """
    if isinstance(source, list | tuple):
        return [file for each in source for file in files_of(each)]
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be a path or a list of paths, got {kind_of(source)}")
    name = os.fspath(source)
    if name == STREAM or os.path.isfile(name):
        return [name]
    if os.path.isdir(name):
        found = [str(path) for path in Path(name).rglob("*") if _is_table(path, Path(name))]
    else:
        found = [path for path in glob.glob(name, recursive=True) if os.path.isfile(path)]
    if not found:
        raise FileNotFoundError(f"{name}: there is no such file, nor a folder or glob of tables")
    return sorted(found)


def folder_that_reads(path: Path, source: FilePath | Sequence[FilePath]) -> str | None:
    """A folder of the source that has tables at `path`, once they are written, among its own."""
    if not isinstance(source, str | os.PathLike):
        return next(filter(None, (folder_that_reads(path, each) for each in source)), None)
    folder, inner = Path(source).resolve(), path.resolve()
    inside = os.path.isdir(source) and folder in (inner, *inner.parents)
    return os.fspath(source) if inside and _is_shown(inner, folder) else None


def _is_table(path: Path, folder: Path) -> bool:
    """Whether a file in a folder is one of its tables."""
    return path.suffix in SUFFIXES and path.is_file() and _is_shown(path, folder)


def _is_shown(path: Path, folder: Path) -> bool:
    """Whether what is in a folder is neither hidden nor notes beside its tables."""
    return not any(name[0] in "._" for name in path.relative_to(folder).parts)


def parts_of(files: Sequence[str], part_bytes: int) -> list[Part]:
    """Cut files where their row groups or batches end, into parts of so many bytes once decoded.

    Raises
    ------
    ValueError
        One is no such file.
    """
    parts: list[Part] = []
    for path in files:
        first_row = 0
        for first, last, rows in _cuts(path, part_bytes):
            parts.append(Part(len(parts), path, first, last, first_row, rows))
            first_row += rows or 0
    return parts


def _cuts(path: str, part_bytes: int) -> Iterator[tuple[int, int, int | None]]:
    """First and last piece of each part of a file, and its rows."""
    pa = load("pyarrow", "arrow")
    sizes = _piece_sizes(pa, path)
    if not sizes:
        yield 0, 0, None if sizes is None else 0
        return
    first, rows, held = 0, 0, 0
    for number, (piece_rows, piece_bytes) in enumerate(sizes, 1):
        rows, held = rows + piece_rows, held + piece_bytes
        if held >= part_bytes or number == len(sizes):
            yield first, number, rows
            first, rows, held = number, 0, 0


def _piece_sizes(pa: ModuleType, path: str) -> list[tuple[int, int]] | None:
    """Rows and bytes of each row group or batch; None for a stream."""
    kind = _kind(path)
    if kind == "stream":
        return None
    with _errors(pa, path):
        if kind == "parquet":
            with _parquet(path) as file:
                groups = [file.metadata.row_group(k) for k in range(file.num_row_groups)]
                return [(group.num_rows, group.total_byte_size) for group in groups]
        with pa.memory_map(path) as mapped:
            reader = pa.ipc.open_file(mapped)
            batches = (reader.get_batch(k) for k in range(reader.num_record_batches))
            return [(batch.num_rows, batch.nbytes) for batch in batches]


def pieces_of(part: Part, column: str, window: int) -> Iterator[Piece]:
    """The rows of a part in their order, by `window` steps of `column` or a little more; a row of
    none counts as one. At least one piece, which may be empty.

    Raises
    ------
    ValueError
        The file is broken, changed, or has no such column.
    """
    pa = load("pyarrow", "arrow")
    first_row, waiting, steps, rows = part.first_row, [], 0, 0
    with _errors(pa, part.path), _reader(pa, part) as (schema, batches):
        if (there := schema.names.count(column)) != 1:
            names = ", ".join(map(repr, schema.names))
            raise ValueError(f"has {there or 'no'} columns {column!r}, among {names}")
        place = schema.names.index(column)
        for batch in batches:
            waiting.append(batch)
            steps += columns.count_steps(pa, batch.column(place))
            rows += batch.num_rows
            if max(steps, rows) >= window:
                yield Piece(part, first_row, pa.Table.from_batches(waiting, schema), steps)
                first_row, waiting, steps, rows = first_row + rows, [], 0, 0
        if waiting or first_row == part.first_row:
            yield Piece(part, first_row, pa.Table.from_batches(waiting, schema), steps)


def metadata_of(path: str) -> dict[bytes, bytes]:
    """What a file's schema says beside its columns.

    Raises
    ------
    ValueError
        It is no file of tables.
    """
    pa = load("pyarrow", "arrow")
    with _errors(pa, path), _reader(pa, Part(0, path, 0, 0, 0, 0)) as (schema, _):
        return dict(schema.metadata or {})


@contextmanager
def _reader(pa: ModuleType, part: Part) -> Iterator[tuple[Any, Iterator[Any]]]:
    """A part's schema and record batches."""
    kind = _kind(part.path)
    if kind == "parquet":
        with _parquet(part.path) as file:
            groups = list(range(part.first, part.last))
            batches = file.iter_batches(_batch_rows(file, groups), groups) if groups else iter(())
            yield file.schema_arrow, batches
    elif kind == "file":
        with pa.memory_map(part.path) as mapped:
            reader = pa.ipc.open_file(mapped)
            numbers = range(part.first, part.last)
            yield reader.schema, (_checked(reader.get_batch(k)) for k in numbers)
    elif part.path == STREAM:
        with _stream(pa, sys.stdin.buffer, "no stream of Arrow IPC") as reader:
            yield reader.schema, map(_checked, reader)
    else:
        other = "neither Parquet nor Arrow IPC"
        with pa.OSFile(part.path) as file, _stream(pa, file, other) as reader:
            yield reader.schema, map(_checked, reader)


def _stream(pa: ModuleType, file: Any, otherwise: str) -> Any:
    """A reader of a stream of Arrow's, and what the file is if it is none."""
    try:
        return pa.ipc.open_stream(file)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"is {otherwise}: {error}") from error


def _checked(batch: Any) -> Any:
    """A batch whose offsets Arrow read without a look, all columns' looked at."""
    batch.validate(full=True)
    return batch


def _parquet(path: str) -> Any:
    pq = load("pyarrow.parquet", "arrow")
    return pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)


def _batch_rows(file: Any, groups: list[int]) -> int:
    """Rows of about READ_BYTES, by what the file says of its row groups."""
    found = [file.metadata.row_group(k) for k in groups]
    rows, held = sum(each.num_rows for each in found), sum(each.total_byte_size for each in found)
    return max(1, min(65536, int(READ_BYTES * rows // max(held, 1))))


def _kind(path: str) -> str:
    """The format of a file, by how it begins: "parquet", or Arrow's "file" or "stream"."""
    if path == STREAM:
        return "stream"
    with open(path, "rb") as file:
        head = file.read(len(ARROW_MAGIC))
    if head.startswith(PARQUET_MAGIC):
        return "parquet"
    return "file" if head == ARROW_MAGIC else "stream"


def told(path: str) -> str:
    """A file as an error names it."""
    return "standard input" if path == STREAM else path


@contextmanager
def _errors(pa: ModuleType, path: str) -> Iterator[None]:
    """Name the file in what is wrong with it."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{told(path)}: {error}") from error
