"""A job: the parts of all files, where each of them goes, and which of them are done."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path

from packseq.predict.predictor import Predictor
from packseq.tables.pipeline import Made, Worker
from packseq.tables.progress import Report
from packseq.tables.sinks import table_file
from packseq.tables.sources import (
    STREAM,
    SUFFIXES,
    FilePath,
    Part,
    files_of,
    folder_that_reads,
    metadata_of,
    parts_of,
    pieces_of,
)

# In the metadata of every file that is written: the job that it is of.
JOB_KEY = b"packseq.job"
# Rows of parts that are put together, at a time.
MERGED_ROWS = 16384


@dataclass(frozen=True, eq=False)
class Job:
    """What is to be read, run and written.

    Attributes
    ----------
    predictor : Predictor
    parts : list of Part
    sink : Path
        A file, a folder, or "-" for standard output.
    folder : Path, or None
        Where parts go: the sink, or a folder beside it, if there are several for one file.
    rejects : Path, or None
        The folder of the rows that cannot be run; without it the first of them ends the job.
    key : str
        A hash of what decides the results: only what carries it is taken for a part that is done.
    """

    predictor: Predictor
    parts: list[Part]
    sink: Path
    folder: Path | None
    rejects: Path | None
    key: str

    @property
    def is_stream(self) -> bool:
        return self.sink == Path(STREAM)

    @property
    def is_merged(self) -> bool:
        """Whether the parts are put together at the end."""
        return self.folder is not None and self.folder != self.sink

    def target(self, number: int) -> Path:
        """The file of a part."""
        if self.folder is None:
            return self.sink
        suffix = self.sink.suffix if self.is_merged else ".parquet"
        return self.folder / f"part-{number:06}{suffix}"

    # ---- what there is already ----

    def missing(self) -> list[int]:
        """The numbers of the parts that are not there.

        Raises
        ------
        ValueError
            A file of that name is not this job's.
        """
        if self.is_merged and self.sink.exists():
            self._check_own(self.sink)
            return []
        numbers = [part.number for part in self.parts]
        there = [number for number in numbers if self.target(number).exists()]
        for number in there:
            self._check_own(self.target(number))
        return sorted(set(numbers) - set(there))

    def found(self) -> Path | None:
        """Something that is there already and would be overwritten."""
        if self.is_stream:
            return None
        files = [self.sink] if self.sink.is_file() else []
        for folder in filter(None, (self.folder, self.rejects)):
            files += folder.glob("part-*")
        return min(files, default=None)

    def _check_own(self, path: Path) -> None:
        if metadata_of(str(path)).get(JOB_KEY) != self.key.encode():
            raise ValueError(
                f"{path} was not written by this job: another model, column, option, list of files "
                "or a file that has changed"
            )

    def clear(self) -> None:
        """Remove an earlier job's parts, by the names that this one would give.

        A single file stays until there is another to replace it.
        """
        for folder in filter(None, (self.folder, self.rejects)):
            for path in folder.glob("part-*"):
                if re.fullmatch(r"part-\d{6,}\.\w+", path.name):
                    path.unlink()

    def remove_halves(self) -> None:
        """Remove what a killed run was writing."""
        for folder in filter(None, (self.folder, self.rejects)):
            for path in folder.glob(".*.part"):
                if re.fullmatch(r"\.[0-9a-f]{16}\.part", path.name):
                    path.unlink(missing_ok=True)  # its writer may be at its end after all

    # ---- the work ----

    def run(self, numbers: Sequence[int], report: Report) -> int:
        """Run parts, each of which is there once it is whole; return how many rows could not be."""
        worker = Worker(self.predictor, self.rejects is not None)
        pieces = chain.from_iterable(
            pieces_of(self.parts[number], worker.column, worker.window) for number in numbers
        )
        by_file = groupby(
            worker.all(pieces), lambda made: 0 if self.is_stream else made.part.number
        )
        return sum(self._write(number, made, report) for number, made in by_file)

    def _write(self, number: int, pieces: Iterable[Made], report: Report) -> int:
        """Write one file, and before it is there that of its rows that could not be run."""
        rejects = self.rejects or Path()
        rejected = 0
        with (
            table_file(self.target(number)) as write,
            table_file(rejects / f"part-{number:06}.parquet") as reject,
        ):
            for made in pieces:
                metadata = (made.table.schema.metadata or {}) | {JOB_KEY: self.key.encode()}
                write(made.table.replace_schema_metadata(metadata))
                if made.rejected is not None:
                    rejected += made.rejected.num_rows
                    reject(made.rejected)
                report(made.rows, made.steps)
        return rejected

    def finish(self) -> None:
        """Put the parts together, where they are to be one file, and remove them.

        Where some are not there, an earlier run has done so and was removing them.
        """
        if not self.is_merged or self.folder is None:
            return
        targets = [self.target(part.number) for part in self.parts]
        if all(target.exists() for target in targets):
            with table_file(self.sink) as write:
                for target in targets:
                    (part,) = parts_of([str(target)], sys.maxsize)
                    for piece in pieces_of(part, self.predictor.name, MERGED_ROWS):
                        write(piece.table)
        for target in targets:
            target.unlink(missing_ok=True)
        with suppress(OSError):  # something of somebody else's is there
            self.folder.rmdir()


def job_of(
    predictor: Predictor,
    source: FilePath | Sequence[FilePath],
    sink: str,
    rejects: str | None,
    part_bytes: int,
) -> Job:
    """Plan a job.

    Raises
    ------
    ValueError
        What is written would replace what is read, or be read by a later run; a file is none of
        tables.
    OSError
        There is no file.
    """
    files = files_of(source)
    target, aside = Path(sink), None if rejects is None else Path(rejects)
    if aside is not None and aside.resolve() == target.resolve():
        raise ValueError(f"{aside} cannot have both the predictions and the rows without one")
    for place in filter(None, (target, aside)):
        _check_apart(place, [*files, *predictor.files], source)
    parts = parts_of(files, part_bytes)
    folder = None
    if target != Path(STREAM):
        if target.suffix not in SUFFIXES or target.is_dir():
            folder = target
        elif len(parts) > 1:
            folder = target.with_name(target.name + ".parts")
    key = _key(predictor, files, part_bytes, aside is not None)
    return Job(predictor, parts, target, folder, aside, key)


def _check_apart(place: Path, inputs: Sequence[str], source: FilePath | Sequence[FilePath]) -> None:
    """Refuse to write where something is that is read, or will be when the run is resumed."""
    written = place.resolve()  # links and ".." lead to an input as well
    for file in inputs:
        if file != STREAM and written in (Path(file).resolve(), *Path(file).resolve().parents):
            raise ValueError(f"{place} is or holds an input, {file}, which could be lost")
    if folder := folder_that_reads(place, source):
        raise ValueError(f"{place} is in {folder}, which a resumed run would read it from")


def _key(predictor: Predictor, files: Sequence[str], part_bytes: int, aside: bool) -> str:
    stamps = [
        (file, *(() if file == STREAM else (os.stat(file).st_size, os.stat(file).st_mtime_ns)))
        for file in files
    ]
    said = json.dumps([predictor.fingerprint(), stamps, part_bytes, aside])
    return hashlib.sha256(said.encode()).hexdigest()
