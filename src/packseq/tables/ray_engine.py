"""The parts of a job on Ray Data: an actor takes one after the other, reads, runs and writes it.

Nothing goes through the object store but the numbers of parts, so that the memory of an actor does
not depend on blocks; an actor that dies loses the part it was at, which another does again.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, SupportsIndex

from packseq.checks import as_size
from packseq.optional import load
from packseq.settings.threads import usable_cores
from packseq.tables.jobs import Job
from packseq.tables.progress import Report


class PartRunner:
    """What an actor calls for each part."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        counts = [0, 0]

        def report(rows: int, steps: int) -> None:
            counts[0] += rows
            counts[1] += steps

        rejected, raised = 0, b""
        try:
            rejected = self._job.run([int(row["number"])], report)
        except (ValueError, TypeError, OSError) as error:
            # As a result: Ray would give the driver an exception of its own, and a text.
            raised = pickle.dumps(error)
        return {"rows": counts[0], "steps": counts[1], "rejected": rejected, "error": raised}


def run(
    job: Job,
    numbers: Sequence[int],
    report: Report,
    address: str | None,
    actors: SupportsIndex | None,
) -> int:
    """Run parts on a cluster; return how many rows could not be run.

    Raises
    ------
    ImportError
        Ray is not installed.
    ValueError, TypeError, OSError
        The job reads or writes a stream; as for Job.run.
    """
    if job.is_stream or any(part.rows is None for part in job.parts):
        raise ValueError("a stream cannot be read or written by a cluster")
    if not numbers:
        return 0
    wanted = None if actors is None else as_size(actors, "actors")
    data = load("ray.data", "ray")
    rejected = 0
    with _cluster(address) as cores:
        size = wanted or cores
        items = data.from_items(
            [{"number": number} for number in numbers], override_num_blocks=len(numbers)
        )
        done = items.map(
            PartRunner,
            fn_constructor_args=(job,),
            compute=data.ActorPoolStrategy(size=min(size, len(numbers))),
            num_cpus=1,
        )
        done.context.enable_progress_bars = False
        with _only_warnings():
            for row in done.iter_rows():
                if row["error"]:
                    raise pickle.loads(row["error"])
                report(row["rows"], row["steps"])
                rejected += row["rejected"]
    job.remove_halves()  # of actors that died
    return rejected


@contextmanager
def _only_warnings() -> Iterator[None]:
    """Leave to Ray Data's files what is no warning: who calls has a bar of their own."""

    def is_told(record: logging.LogRecord) -> bool:
        # That there is no bar of its own is a warning of Ray's.
        return (
            record.levelno >= logging.WARNING and "progress bar" not in record.getMessage().lower()
        )

    handlers = logging.getLogger("ray.data").handlers
    consoles = [each for each in handlers if isinstance(each, logging.StreamHandler)]
    for each in consoles:
        each.addFilter(is_told)
    try:
        yield
    finally:
        for each in consoles:
            each.removeFilter(is_told)


def address_of(address: str | None) -> str | None:
    """Of the cluster to be joined: Ray's own variable is set for the drivers of its jobs."""
    return address or os.environ.get("RAY_ADDRESS")


def keep_to_this_machine() -> None:
    """Let a cluster that this process starts for itself listen on the loopback address alone.

    Ray asks for this when it is imported, and for good: a process that will also join clusters of
    other machines must not.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


@contextmanager
def _cluster(address: str | None) -> Iterator[int]:
    """The CPUs of the cluster that this process is in, or joins, or starts for itself."""
    ray = load("ray", "ray")
    address = address_of(address)
    if ray.is_initialized():
        yield int(ray.cluster_resources().get("CPU", 1))
        return
    if address is None:
        cores = usable_cores()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Without "local" it would join a cluster that somebody has started on this machine. One CPU
        # more than there are actors, so that what is no actor finds a place to run at.
        ray.init("local", num_cpus=cores + 1, include_dashboard=False)
    else:
        ray.init(address=address)
        cores = int(ray.cluster_resources().get("CPU", 1))
    try:
        yield cores
    finally:
        ray.shutdown()
