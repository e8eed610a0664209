"""``packseq.run``: predictions for files of tables, here or on a cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex

from packseq.checks import as_flag, as_path, as_size
from packseq.predict.predictor import Predictor
from packseq.tables import ray_engine
from packseq.tables.jobs import Job, job_of
from packseq.tables.progress import progress
from packseq.tables.sinks import as_sink
from packseq.tables.sources import STREAM, FilePath

# What is lost at most when a run is killed: some seconds' work, and few files.
PART_BYTES = 256 << 20
# Every thread has a window, and another waits for it: small ones keep all threads busy to the end,
# and memory low. 40,000 sequences of 1 to 80 steps on two threads took 1.15 s by windows of 131,072
# steps, and 1.5 s by 524,288; on one thread windows of 65,536 to 262,144 cost the same processor
# time. By 8,192 steps at a time instead of 32,768 they took 14% longer. Each is one run on a shared
# machine.
MAX_STEPS = 32768
SORT_WINDOW = 65536


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run has done.

    Attributes
    ----------
    rows, steps : int
        That it read; those of parts that were there are not among them.
    rejected : int
        Rows that were put aside.
    seconds : float
    """

    rows: int
    steps: int
    rejected: int
    seconds: float


def run(
    model: Any,
    source: FilePath | Sequence[FilePath],
    sink: FilePath,
    column: str,
    *,
    rejects: FilePath | None = None,
    resume: bool = False,
    force: bool = False,
    engine: Literal["embedded", "ray"] = "embedded",
    address: str | None = None,
    actors: SupportsIndex | None = None,
    max_steps: SupportsIndex = MAX_STEPS,
    sort_window: SupportsIndex = SORT_WINDOW,
    part_bytes: SupportsIndex = PART_BYTES,
    bar: bool = False,
    **options: Any,
) -> Ran:
    """Predict the rows of files of tables, in parts: with bounded memory, on all cores.

    Parameters
    ----------
    model, column, **options
        As for :class:`Predictor`; `num_threads` is for the whole.
    source : path, or a list of paths
        A Parquet or Arrow IPC file, a folder or a glob of them; "-" is a stream of Arrow IPC on
        standard input.
    sink : path
        A .parquet file; a file of Arrow IPC, .arrow, .feather or .ipc, or a stream of it, .arrows;
        under any other name a folder, which gets one Parquet file for each part; or "-" for a
        stream of Arrow IPC on standard output. A suffix of other files, such as .csv, is refused.
    rejects : path, optional
        A folder for the rows that cannot be run, with their file, row and what is wrong, beside
        the columns that they have. By default the first of them is an error.
    resume : bool
        Go on where an earlier run of the same job was ended: parts that are there stay.
    force : bool
        Overwrite what an earlier run has written.
    engine : {"embedded", "ray"}
        This process, or Ray Data: parts go to actors of one CPU each.
    address : str, optional
        Of the Ray cluster: "auto" is the one that was started on this machine. By default that in
        which this process is, or the one in RAY_ADDRESS, or one of its own for as long as the call
        takes.
    actors : int, optional
        As many as the cluster has CPUs by default.
    max_steps, sort_window : int
        As for :class:`Predictor`, for each of the threads.
    part_bytes : int
        A part ends with the row group or record batch of its file that reaches so many bytes.
    bar : bool
        Show progress on a terminal, if tqdm is installed.

    Returns
    -------
    Ran
        Counts of rows, steps and seconds.

    Raises
    ------
    RowError
        A row cannot be run; it is a ValueError that has its file and row.
    ValueError
        What is to be written is there, or is an input, or in a folder that is read; a file is
        broken; as for Predictor.
    TypeError, OSError, ImportError
        As for Predictor; a file cannot be read or written; pyarrow or Ray is not installed.

    Notes
    -----
    Rows come out once each and in their order, with the same bits whatever the engine, the parts
    and the threads. A part is written beside its place and renamed, so that what is there is whole:
    a run that is killed loses at most the parts that it had begun. One file of several parts is put
    together from them at the end. Several threads call a callable head at a time.

    Examples
    --------
    >>> import pyarrow as pa
    >>> import pyarrow.parquet as pq
    >>> pq.write_table(pa.table({"id": [7, 8], "x": [[0.5, 1.0], [-1.0]]}), "in.parquet")
    >>> ran = run(packseq.GRU(1, 4, rng=0), "in.parquet", "out.parquet", "x")
    >>> ran.rows, ran.steps
    (2, 3)
    >>> pq.read_table("out.parquet").column_names
    ['id', 'prediction']
    """
    if engine not in ("embedded", "ray"):
        raise ValueError(f"engine must be 'embedded' or 'ray', got {engine!r}")
    if engine != "ray" and (address, actors) != (None, None):
        raise ValueError("address and actors belong to the engine 'ray'")
    resume, force = as_flag(resume, "resume"), as_flag(force, "force")
    predictor = Predictor(model, column, max_steps=max_steps, sort_window=sort_window, **options)
    if predictor.errors is not None:
        raise TypeError("errors= is Predictor's; run has rejects=, for a table of their own")
    size = as_size(part_bytes, "part_bytes")
    aside = None if rejects is None else str(as_path(rejects, "rejects"))
    job = job_of(predictor, source, str(as_sink(sink)), aside, size)
    numbers = _begun(job, resume, force)
    start, counts = time.monotonic(), [0, 0]
    rows = [job.parts[number].rows for number in numbers]
    total = None if None in rows else sum(filter(None, rows))
    with progress(total, as_flag(bar, "bar")) as show:

        def report(more_rows: int, more_steps: int) -> None:
            counts[0] += more_rows
            counts[1] += more_steps
            show(more_rows, more_steps)

        if engine == "ray":
            rejected = ray_engine.run(job, numbers, report, address, actors)
        else:
            rejected = job.run(numbers, report)
    job.finish()
    return Ran(counts[0], counts[1], rejected, time.monotonic() - start)


def _begun(job: Job, resume: bool, force: bool) -> list[int]:
    """The parts to be run, once what is there has been looked at."""
    every = [part.number for part in job.parts]
    if resume:
        if job.is_stream or any(part.path == STREAM for part in job.parts):
            raise ValueError("a stream cannot be resumed")
        job.remove_halves()
        every = job.missing()
    elif force:
        job.clear()
    elif found := job.found():
        raise ValueError(f"{found} exists; resume goes on with it, force overwrites it")
    for folder in filter(None, (job.folder, job.rejects)):
        folder.mkdir(parents=True, exist_ok=True)
    return every
