"""What more threads cost where the machine has other work: packseq, torch and ONNX Runtime.

    python benchmarks/bench_contention.py [--seconds 150] [--only busy|narrow|processes]

Busy processes are pinned to one core and the caller is free; or all of the caller's threads have
one core; or several processes run at once, each with the threads that it takes by itself. Stretches
of calls on one thread and on more take turns, since what threads learn of their processors lasts
from one call to the next. Printed are times on more threads over times on one, under the same
disturbance: of the median call, and of the 90th percentiles. `--quick` runs little of it.
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from statistics import quantiles

from timing import OPENBLAS_THREAD_TIMEOUT, measure_each, print_head, print_row

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", OPENBLAS_THREAD_TIMEOUT)

import numpy as np
import peers
from cases import Case, Problem, equal

import packseq

STEP = Case("one step", "LSTM", 128, 128, equal(1, 1))
ONE_SEQUENCE = [
    Case("one sequence", cell, size, size, equal(1, 100))
    for cell, size in [("LSTM", 128), ("GRU", 128), ("GRU", 256), ("LSTM", 512), ("GRU", 512)]
]
FEW = [Case("few", cell, 256, 256, equal(4, 100)) for cell in ("LSTM", "GRU")]
MANY = [Case("many", "LSTM", 256, 256, equal(batch, 50)) for batch in (16, 64)]
CASES = [STEP, *ONE_SEQUENCE, *FEW, *MANY]
NARROW = [
    Case("one sequence", cell, size, size, equal(1, 100))
    for cell in ("LSTM", "GRU")
    for size in (128, 256, 512)
]

# Calls in a row: long enough for what was learnt in the last stretch to matter little.
STRETCH_SECONDS, STRETCH_CALLS = 0.25, 40
SPIN = "while True: pass"


@contextmanager
def busy_processes(count, core):
    """So many that compute for ever on one core."""
    pinned = f"import os; os.sched_setaffinity(0, {{{core}}})\n" + SPIN
    processes = [subprocess.Popen([sys.executable, "-c", pinned]) for _ in range(count)]
    try:
        time.sleep(0.3)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def stretches(calls, end):
    """Seconds of each call, {name: [...]}: stretches of each in turn, until `end`."""
    times = {name: [] for name in calls}
    done = 0
    while done < 2 or time.perf_counter() < end:
        for name, call in calls.items():
            call()
            before, made = time.perf_counter(), 0
            until = before + STRETCH_SECONDS
            while before < until or made < STRETCH_CALLS:
                call()
                now = time.perf_counter()
                times[name].append(now - before)
                before, made = now, made + 1
        done += 1
    return times


def on_threads(problem, threads):
    """A call of packseq's on so many."""
    call = peers.packseq_module(problem, threads)

    def run():
        packseq.set_num_threads(threads)
        return call()

    return run


def over_one(times):
    """Packseq's times on two threads over those on one: of the medians, of the 90th percentiles."""
    one, two = (quantiles(times["packseq", n], n=10) for n in (1, 2))
    return two[4] / one[4], two[8] / one[8]


def print_busy(count, cases, seconds, others):
    cores = sorted(os.sched_getaffinity(0))
    others_do = {0: "nothing", 1: "one busy process", 3: "three busy processes"}[count]
    print_head(
        f"Two threads, and {others_do} else on one of {len(cores)} cores",
        *("case", "packseq, over one thread", "90th percentile"),
        *("median, ms", *(f"{name} / packseq" for name in others)),
    )

    def measure(case, end):
        problem = Problem(case)
        calls = {("packseq", n): on_threads(problem, n) for n in (1, 2)}
        for name in others:
            with peers.using_threads(2):
                call = peers.PEERS[name](problem, 2)
            if call is not None:
                calls[name, 2] = call
        times = stretches(calls, end)
        median, tail = over_one(times)
        mine = quantiles(times["packseq", 2], n=10)[4]
        print_row(
            case.name,
            *(f"{median:.2f}", f"{tail:.2f}", f"{1e3 * mine:.3g}"),
            *(f"{quantiles(times[name, 2], n=10)[4] / mine:.2f}" for name in others),
        )

    with busy_processes(count, cores[-1]):
        return measure_each(measure, cases, seconds)


def print_narrow(cases, seconds):
    """After the first call all of the caller's threads have one core."""
    print_head("Threads on one core", "case", "2 threads over one", "8 threads over one")
    usable = os.sched_getaffinity(0)

    def measure(case, end):
        problem = Problem(case)
        calls = {("packseq", n): on_threads(problem, n) for n in (1, 2, 8)}
        calls["packseq", 2]()
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), {min(usable)})
        try:
            times = stretches(calls, end)
        finally:
            for thread in os.listdir("/proc/self/task"):
                os.sched_setaffinity(int(thread), usable)
        one = np.median(times["packseq", 1])
        print_row(case.name, *(f"{np.median(times['packseq', n]) / one:.2f}" for n in (2, 8)))

    return measure_each(measure, cases, seconds)


WORKER = """
import os, sys, time
if {cores}:
    os.sched_setaffinity(0, {cores})
import numpy as np, packseq
module, x = packseq.LSTM({size}, {size}, rng=0), np.zeros(({steps}, {batch}, {size}), np.float32)
module(x)
print("ready", flush=True)
begin = float(sys.stdin.readline())
time.sleep(max(0, begin - time.time()))
calls, end = 0, begin + {seconds}
while time.time() < end:
    module(x)
    calls += 1
print(calls)
"""


def calls_of_processes(count, threads, **sizes):
    """How many calls so many processes make together; threads: None for what each takes itself.

    Those of one thread are spread over the cores by hand: some systems leave two on one of them.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PACKSEQ_NUM_THREADS"}
    if threads:
        environment["PACKSEQ_NUM_THREADS"] = str(threads)
    cores = sorted(os.sched_getaffinity(0))
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                WORKER.format(cores=[cores[i % len(cores)]] if threads else [], **sizes),
            ],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    for process in processes:
        process.stdout.readline()
    begin = time.time() + 0.1
    for process in processes:
        print(begin, file=process.stdin, flush=True)
    return sum(int(process.communicate()[0]) for process in processes)


def print_processes(seconds):
    print_head(
        "Processes with the threads that each takes by itself, over one thread each",
        *("processes", "LSTM, sequences", "calls a second, one thread each", "throughput"),
    )

    def measure(item, end):
        count, size, batch = item
        turn = max(0.5, (end - time.perf_counter()) / 6 - 0.4)
        sizes = {"size": size, "batch": batch, "steps": 50, "seconds": turn}
        pairs = [
            (calls_of_processes(count, None, **sizes), calls_of_processes(count, 1, **sizes))
            for _ in range(3)
        ]
        print_row(
            *(count, f"{size}, {batch}", f"{np.median([one for _, one in pairs]) / turn:.0f}"),
            f"{np.median([more / one for more, one in pairs]):.2f}",
        )

    items = [(count, size, batch) for count in (2, 4) for size, batch in [(256, 1), (256, 16)]]
    return measure_each(measure, items, seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", default=150, type=float)
    parser.add_argument("--only", choices=["quiet", "busy", "narrow", "processes"])
    parser.add_argument("--peers", action="store_true", help="torch and ONNX Runtime too")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    others = [n for n in ("torch packed", "ONNX Runtime") if options.peers and n in peers.PEERS]
    cases = CASES[:1] if options.quick else CASES
    parts = {
        "quiet": lambda s: print_busy(0, cases, s, others),
        "busy": lambda s: print_busy(1, cases, s / 2, others) + print_busy(3, cases, s / 2, others),
        "narrow": lambda s: print_narrow(NARROW[:1] if options.quick else NARROW, s),
        "processes": print_processes,
    }
    chosen = [options.only] if options.only else list(parts)
    sys.exit(sum(parts[name](options.seconds / len(chosen)) for name in chosen) > 0)


if __name__ == "__main__":
    main()
