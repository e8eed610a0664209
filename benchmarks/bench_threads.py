"""On a machine of many cores: what packseq gains from threads, beside torch and the matrix product.

    python benchmarks/bench_threads.py [--seconds 80] [--threads 1 2 4 8 16]

Prints, row by row, the modules, the reductions over time, and packing and padding, on each number
of threads that this process has processors for. All numbers of threads and both libraries are
called in turn; results are compared first. `--quick` runs little of it, to see that it works.
"""

import argparse
import os
import platform
import sys
from functools import partial
from importlib.util import find_spec

from timing import (
    OPENBLAS_THREAD_TIMEOUT,
    SETTLE_SECONDS,
    in_turn_until,
    measure_each,
    ms,
    print_head,
    print_row,
    times_as_fast,
)

# NumPy's OpenBLAS reads it when it is loaded.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", OPENBLAS_THREAD_TIMEOUT)

import numpy as np
import peers
from cases import CASES, Case, Problem, equal
from measure import GEMM_FLOPS, gemms

import packseq
from packseq.settings import isa
from packseq.settings.threads import usable_cores

# Beside those of the other benchmarks, wide layers with many rows in every step.
WIDE = [
    Case("equal", "LSTM", 256, 256, equal(32, 25)),
    Case("equal", "LSTM", 512, 512, equal(64, 12)),
    Case("equal", "LSTM", 1024, 1024, equal(32, 10)),
    Case("equal", "GRU", 512, 512, equal(128, 8)),
]
CHOSEN = [
    "equal, LSTM 384, B=64",
    "uniform, LSTM 512, B=16",
    "sentences, LSTM 256 bidirectional, B=32",
    "sentences, GRU 256 bidirectional, B=32",
    "speech, LSTM 512 2 layers bidirectional, B=8",
    "time series, uniform, LSTM 64 2 layers, B=1024",
    "Zipf, LSTM 128, B=256",
    "one long, many short, LSTM 256, B=32",
    "DeepBench, LSTM 1024, B=1",
]
REDUCTIONS = ["sum", "max", "softmax", "logsumexp", "attend", "cumsum"]
LAYOUTS = ["pack_sequence", "pack_padded_sequence", "pad_packed_sequence", "unpack_sequence"]

COLUMNS = ["threads", "packseq, ms", "over one", "torch, ms", "over one", "torch / packseq"]

# Of all seconds.
SHARES = {"modules": 0.7, "operations": 0.3}


class Threads:
    """The numbers of threads that are compared, and what tells each library."""

    def __init__(self, counts):
        self.counts = counts
        self.settle = SETTLE_SECONDS if max(counts) > 1 else 0.0
        self.blas = []
        if find_spec("threadpoolctl"):
            from threadpoolctl import ThreadpoolController

            self.blas = ThreadpoolController().select(user_api="blas").lib_controllers

    def set(self, count):
        packseq.set_num_threads(count)
        if "torch packed" in peers.PEERS:
            peers.torch.set_num_threads(count)
        for library in self.blas:
            library.set_num_threads(count)

    def measure(self, calls, end):
        """Seconds of each call on each number of threads, by round: {(name, count): [...]}."""

        def on(count, call):
            self.set(count)
            return call()

        every = {
            (name, count): partial(on, count, call)
            for count in self.counts
            for name, call in calls.items()
        }
        return in_turn_until(end, every, self.settle)

    def gain(self, times, name, count):
        """How many times as fast as on the first number of threads, which is one."""
        return f"{times_as_fast(times, (name, count), (name, self.counts[0])):.2f}"

    def compared(self, times, count):
        """Cells of both libraries, COLUMNS; torch's are empty where it is not there."""
        cells = [ms(times["packseq", count]), self.gain(times, "packseq", count)]
        if ("torch", count) not in times:
            return [*cells, "", "", ""]
        ratio = times_as_fast(times, ("packseq", count), ("torch", count))
        cells += [ms(times["torch", count]), self.gain(times, "torch", count)]
        return [*cells, f"{ratio:.2f}"]


def print_modules(threads, chosen, seconds):
    """Where every step has many rows, beside the matrix product, which should set their speed."""
    print_head(
        "Modules, from padded to padded",
        *("case", *COLUMNS, "matrix product over one", "of its speed", "rounds"),
    )
    product = gemms("float32")["NumPy"]

    def measure(case, end):
        problem = Problem(case)
        torch_peer = "torch packed" if case.ragged else "torch padded"
        made = {"packseq": peers.PEERS["packseq"], "torch": peers.PEERS.get(torch_peer)}
        calls = {name: make(problem, 1) for name, make in made.items() if make is not None}
        check_peers(problem, calls)
        if has_many_rows(case) and threads.blas:
            calls["product"] = product
        times = threads.measure(calls, end)
        for count in threads.counts:
            print_row(
                *(case.name, count, *threads.compared(times, count)),
                *of_product(threads, times, case, count),
                len(times["packseq", count]),
            )

    return measure_each(measure, chosen, seconds)


def has_many_rows(case):
    return not case.ragged and case.batch_size >= 32


def check_peers(problem, calls):
    expected = calls["packseq"]()
    for name, call in calls.items():
        apart = peers.disagreement(problem, call(), expected)
        if not apart <= 1:
            raise ValueError(f"{name} is {apart:.3g} times the tolerance away from packseq")


def of_product(threads, times, case, count):
    if ("product", count) not in times:
        return ["", ""]
    faster = times_as_fast(times, ("packseq", count), ("product", count))
    speed = faster * case.flops / GEMM_FLOPS
    return [threads.gain(times, "product", count), f"{speed:.2f}"]


def print_operations(threads, quick, seconds):
    """Reductions over the steps of each sequence, and rows moved, beside torch."""
    import bench_layout
    import bench_operations

    print_head(
        "Operations on packed rows",
        *("operation", *COLUMNS, "rounds"),
    )
    wide = bench_operations.Case(16 if quick else 512)
    rows = bench_layout.Case(64 if quick else 1024)
    chosen = []
    for name in REDUCTIONS[: 1 if quick else None]:
        calls, label = bench_operations.CALLS[name], f"{name}, width {wide.values.shape[1]}"
        chosen.append((label, bench_operations.check, calls["packseq"], calls["torch"], wide))
    for name in LAYOUTS[: 1 if quick else None]:
        label = f"{name}, {rows.padded[0, 0].nbytes}-byte rows"
        chosen.append((label, bench_layout.check, *bench_layout.CALLS[name], rows))

    def measure(item, end):
        label, check, ours, theirs, case = item
        check(ours(case), theirs(case))
        times = threads.measure(
            {"packseq": partial(ours, case), "torch": partial(theirs, case)}, end
        )
        for count in threads.counts:
            rounds = len(times["packseq", count])
            print_row(label, count, *threads.compared(times, count), rounds)

    return measure_each(measure, chosen, seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", default=80, type=float)
    parser.add_argument("--threads", default=[1, 2, 4, 8, 16], type=int, nargs="+")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    cores = usable_cores()
    threads = Threads(sorted({1, *(count for count in options.threads if count <= cores)}))
    chosen = [*WIDE, *(case for case in CASES if case.name in CHOSEN)]
    print(
        f"{cores} usable processors; {isa.engine().name} kernels; NumPy {np.__version__}; "
        f"Python {platform.python_version()}; peers: {', '.join(peers.PEERS)}",
        flush=True,
    )
    if not threads.blas:
        print("The matrix product is left out: threadpoolctl, which sets its threads, is missing.")
    with_torch = "torch packed" in peers.PEERS
    failed = print_modules(
        threads, chosen[: 1 if options.quick else None], options.seconds * SHARES["modules"]
    )
    if with_torch:
        failed += print_operations(threads, options.quick, options.seconds * SHARES["operations"])
    else:
        print("\nThe operations are left out: torch, beside which they are timed, is missing.")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
