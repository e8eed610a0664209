"""What predictions for files cost beside the module alone: rows, steps and bytes a second, memory.

    python benchmarks/bench_scale.py [--rows 200000] [--ray]

A GRU 64 in two directions over sequences of 1 to 80 steps of 16 features, in Parquet. Everything
is measured in a process of its own, the start of it apart: the module on batches that lie packed in
memory; reading and writing alone; ``packseq.run``; and with --ray, two actors beside two processes
on half of the files each. It prints JSON: one object for each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import packseq
from packseq.tables import ray_engine

FEATURES, HIDDEN, LONGEST = 16, 64, 80
FILES = 8
MAX_STEPS = 65536


def make(folder, rows):
    """The model and FILES files of sequences."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    packseq.save(packseq.GRU(FEATURES, HIDDEN, bidirectional=True, rng=0), folder / "model.st")
    (folder / "in").mkdir()
    rng = np.random.default_rng(0)
    for number, ids in enumerate(np.array_split(np.arange(rows), FILES)):
        lengths = rng.integers(1, LONGEST + 1, len(ids))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        values = rng.standard_normal((offsets[-1], FEATURES), dtype=np.float32)
        steps = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), FEATURES)
        table = pa.table({"id": ids, "frames": pa.ListArray.from_arrays(pa.array(offsets), steps)})
        pq.write_table(table, folder / "in" / f"{number}.parquet")
    pq.write_table(table.slice(0, 100), folder / "few.parquet")


def measure_module(folder):
    """The module alone, on batches of like lengths that lie packed in memory."""
    import pyarrow.parquet as pq

    module = packseq.load(folder / "model.st")
    tables = [pq.read_table(path, columns=["frames"]) for path in sorted((folder / "in").iterdir())]
    packed = packseq.from_arrow(tables[0]["frames"])
    batches = [
        packed.select(batch) for batch in packseq.batches(packed.lengths, max_steps=MAX_STEPS)
    ]
    module(batches[0])
    start = time.perf_counter()
    for _ in tables:  # each as large as the first
        for batch in batches:
            module(batch)
    return {"seconds": time.perf_counter() - start}


def measure_reading(folder):
    import pyarrow.parquet  # noqa: F401

    from packseq.tables.sources import files_of, parts_of, pieces_of

    start = time.perf_counter()
    for part in parts_of(files_of(folder / "in"), 1 << 28):
        for _ in pieces_of(part, "frames", 1 << 19):
            pass
    return {"seconds": time.perf_counter() - start}


def measure_writing(folder):
    import pyarrow as pa

    from packseq.tables.sinks import table_file

    rows = sum(count_rows(path) for path in (folder / "in").iterdir())
    block = np.random.default_rng(0).random((13000, 2 * HIDDEN), dtype=np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), 2 * HIDDEN)
    table = pa.table({"id": np.arange(len(block)), "prediction": lists})
    start = time.perf_counter()
    with table_file(folder / "alone.parquet") as write:
        for first in range(0, rows, len(block)):
            write(table.slice(0, min(len(block), rows - first)))
    return {"seconds": time.perf_counter() - start}


def peak_megabytes():
    """Of this process since its start: ru_maxrss would have the parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def count_rows(path):
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).metadata.num_rows


def measure_run(folder, source="in/*.parquet", threads=None):
    options = {"force": True, "num_threads": threads}
    model, sink = folder / "model.st", folder / f"out-{source[4]}"
    # Libraries are imported, and the model is loaded.
    packseq.run(model, folder / "few.parquet", folder / f"few-{source[4]}", "frames", **options)
    return {"seconds": packseq.run(model, folder / source, sink, "frames", **options).seconds}


def measure_first_half(folder):
    return measure_run(folder, "in/[0-3].parquet", 1)


def measure_second_half(folder):
    return measure_run(folder, "in/[4-7].parquet", 1)


def measure_ray(folder):
    """Two actors. What Ray takes to start them is apart, as the start of a process is: the time of
    the files three times over, less that of them once."""
    ray_engine.keep_to_this_machine()
    import ray

    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    files = sorted((folder / "in").iterdir())
    seconds = [
        packseq.run(
            *(folder / "model.st", files * times, folder / "out-ray", "frames"),
            force=True,
            engine="ray",
            actors=2,
        ).seconds
        for times in (1, 3)
    ]
    ray.shutdown()
    steady = (seconds[1] - seconds[0]) / 2
    return {"seconds": steady, "start": seconds[0] - steady}


MEASURES = {
    name.removeprefix("measure_"): function
    for name, function in list(globals().items())
    if name.startswith("measure_")
}


def started(name, folder):
    return subprocess.Popen(
        [sys.executable, __file__, "--measure", name, str(folder)], stdout=subprocess.PIPE
    )


def told(process):
    output, _ = process.communicate()
    return json.loads(output.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--rounds", type=int, default=1, help="the fastest of so many counts")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="*", default=["module", "reading", "writing", "run"])
    options = parser.parse_args()
    if options.measure:
        name, folder = options.measure
        measured = MEASURES[name](Path(folder))
        print(json.dumps(measured | {"cpu_s": time.process_time(), "peak_MB": peak_megabytes()}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, options.rows)
        size = sum(path.stat().st_size for path in (folder / "in").iterdir())
        steps = options.rows * (LONGEST + 1) / 2
        seconds = {}

        def show(name, measured):
            taken = seconds[name] = measured["seconds"]
            rates = {
                "rows/s": options.rows / taken,
                "steps/s": steps / taken,
                "MB/s": size / taken / 1e6,
            }
            print(json.dumps({"what": name} | measured | {k: round(v) for k, v in rates.items()}))

        rounds = [
            {what: told(started(what, folder)) for what in options.only}
            for _ in range(options.rounds)
        ]
        for what in options.only:
            show(what, min((each[what] for each in rounds), key=lambda told: told["seconds"]))
        if "run" in seconds and "module" in seconds:
            print(f"run at {seconds['module'] / seconds['run']:.2f} of the module's speed")
        if options.ray:
            halves = [started(half, folder) for half in ("first_half", "second_half")]
            slower = max((told(half) for half in halves), key=lambda each: each["seconds"])
            show("two processes", slower)  # on half of the files each
            show("ray", told(started("ray", folder)))
            print(f"ray at {seconds['two processes'] / seconds['ray']:.2f} of two processes")


if __name__ == "__main__":
    main()
