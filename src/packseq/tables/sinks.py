"""Tables written in one file, whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from packseq import columns
from packseq.checks import as_path
from packseq.optional import load
from packseq.tables.sources import STREAM
from packseq.weights.writing import replacing

# Of Arrow IPC: files, which can be read from any place, and streams.
FILE_SUFFIXES, STREAM_SUFFIX = {".arrow", ".feather", ".ipc"}, ".arrows"
# A row group has as much, but for the last: readers want large ones, and memory holds one.
ROW_GROUP_BYTES = 16 << 20
# Of files that are not written here: a name of any other suffix is a folder's.
FOREIGN_SUFFIXES = {".csv", ".tsv", ".json", ".jsonl", ".txt", ".orc", ".xlsx", ".npz", ".npy"}


def as_sink(sink: str | os.PathLike[str]) -> Path:
    """Check where tables are to go.

    Raises
    ------
    TypeError
        No path.
    ValueError
        Named as a file that is not written here.
    """
    path = as_path(sink, "sink")
    if path.suffix.lower() in FOREIGN_SUFFIXES:
        raise ValueError(
            f"sink {path} is not the name of what is written: .parquet, .arrow(s), or a folder"
        )
    return path


@contextmanager
def table_file(path: Path) -> Iterator[Callable[[Any], None]]:
    """A function that adds a table's rows to a file, which is there at the end of the block.

    The format is Arrow's or Parquet by the suffix, and for "-" a stream of Arrow's to standard
    output. The first table tells the schema; without any there will be no file.
    """
    with ExitStack() as stack:
        file = _TableFile(path, stack)
        yield file.write
        file.flush()


class _TableFile:
    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._path, self._stack = path, stack
        self._writer: Any = None
        self._waiting: list[Any] = []

    def write(self, table: Any) -> None:
        if self._writer is None:
            self._writer = self._stack.enter_context(_writer(self._path, table.schema))
        self._waiting.append(table)
        at_once = self._path == Path(STREAM)
        if at_once or sum(each.nbytes for each in self._waiting) >= ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            pa = load("pyarrow", "arrow")
            table, self._waiting = pa.concat_tables(self._waiting), []
            self._writer.write_table(table)


@contextmanager
def _writer(path: Path, schema: Any) -> Iterator[Any]:
    pa = load("pyarrow", "arrow")
    if path == Path(STREAM):
        with pa.ipc.new_stream(sys.stdout.buffer, schema) as writer:
            yield writer
        return
    with replacing(path) as file:
        if path.suffix in FILE_SUFFIXES or path.suffix == STREAM_SUFFIX:
            new = pa.ipc.new_stream if path.suffix == STREAM_SUFFIX else pa.ipc.new_file
            with new(file, schema) as writer:
                yield writer
            return
        pq = load("pyarrow.parquet", "arrow")
        # A dictionary of floats would hold every one of them, and nobody asks for their least.
        plain = [field.name for field in schema if not columns.is_list(pa, field.type)]
        with pq.ParquetWriter(file, schema, use_dictionary=plain, write_statistics=plain) as writer:
            yield writer
