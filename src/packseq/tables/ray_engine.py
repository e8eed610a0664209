"""The parts of a job on Ray Data: an actor takes one after the other, reads, runs and writes it.

Nothing goes through the object store but the numbers of parts, so that the memory of an actor does
not depend on blocks; an actor that dies loses the part it was at, which another does again.
"""

from __future__ import annotations

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
        # Who calls has a bar of their own.
        done.context.enable_progress_bars = done.context.print_on_execution_start = False
        for row in done.iter_rows():
            if row["error"]:
                raise pickle.loads(row["error"])
            report(row["rows"], row["steps"])
            rejected += row["rejected"]
    job.remove_halves()  # of actors that died
    return rejected


@contextmanager
def _cluster(address: str | None) -> Iterator[int]:
    """The CPUs of the cluster that this process is in, or joins, or starts for itself."""
    ray = load("ray", "ray")
    # Ray's own variable: it is set for the drivers of Ray's jobs.
    address = address or os.environ.get("RAY_ADDRESS")
    if ray.is_initialized():
        yield int(ray.cluster_resources().get("CPU", 1))
        return
    if address is None:
        cores = usable_cores()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Without "local" it would join a cluster that somebody has started on this machine. One CPU
        # more than there are actors, so that what is no actor finds a place to run at.
        ray.init(
            "local",
            num_cpus=cores + 1,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
        )
    else:
        ray.init(address=address)
        cores = int(ray.cluster_resources().get("CPU", 1))
    try:
        yield cores
    finally:
        ray.shutdown()
