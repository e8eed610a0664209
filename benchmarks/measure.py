"""Measure everything with so many threads, in this process, and print the times as JSON.

    python benchmarks/measure.py THREADS [SECONDS]

All that is to be compared is called in turn, A B C C B A, for SECONDS (2.5) a case, and so is the
machine's own matrix product. ``report.py`` takes ratios within each turn.
"""

import json
import sys
from statistics import median

import numpy as np
import peers
from cases import CASES, DECAYING, STEADY, Problem
from timing import SETTLE_SECONDS, in_turn

from packseq.settings import isa

GEMM_SIZE = 1024
GEMM_FLOPS = 2 * GEMM_SIZE**3


class Machine:
    """So many threads of it, and the fastest matrix product that any library makes of them."""

    def __init__(self, threads):
        self.settle = SETTLE_SECONDS if threads > 1 else 0.0
        self.threads = threads
        self.gemm_library = {}
        self._gemm = {}
        for dtype in ("float32", "float64"):
            calls = gemms(dtype)
            times = in_turn(calls, 0, self.settle)
            best = min(times, key=lambda name: median(times[name]))
            self.gemm_library[dtype], self._gemm[dtype] = best, calls[best]

    def measure(self, case, seconds):
        """All peers that give the right answer, and the matrix product."""
        problem = Problem(case)
        calls = peers.calls_for(problem, self.threads)
        reference = calls["packseq"]()
        apart = {n: peers.disagreement(problem, call(), reference) for n, call in calls.items()}
        right = {name: call for name, call in calls.items() if apart[name] <= 1}
        right["gemm"] = self._gemm[case.dtype]
        return {"apart": apart, "seconds": in_turn(right, seconds, self.settle)}

    def measure_decay(self, seconds):
        """Each peer on states that decay into denormals, and on those that do not."""
        calls = {}
        for values, case in (("decay", DECAYING), ("steady", STEADY)):
            made = peers.calls_for(Problem(case), self.threads)
            calls |= {f"{name}|{values}": call for name, call in made.items()}
        return in_turn(calls, seconds, self.settle)


def gemms(dtype):
    """The matrix product of each library that has one."""
    a, b = np.random.default_rng(0).standard_normal((2, GEMM_SIZE, GEMM_SIZE)).astype(dtype)
    calls = {"NumPy": lambda: a @ b}
    if "torch packed" in peers.PEERS:
        ta, tb = map(peers.torch.from_numpy, (a, b))
        calls["torch"] = lambda: ta @ tb
    return calls


def measure_layout(seconds):
    """Packing and unpacking beside torch: {"function|bytes per row": times}."""
    import bench_layout

    results = {}
    for row_bytes in (4, 64, 256, 1024):
        case = bench_layout.Case(row_bytes)
        for name, (ours, theirs) in bench_layout.CALLS.items():
            bench_layout.check(ours(case), theirs(case))
            calls = {
                "packseq": lambda ours=ours, case=case: ours(case),
                "torch": lambda theirs=theirs, case=case: theirs(case),
            }
            results[f"{name}|{row_bytes}"] = in_turn(calls, seconds)
    return results


def measure_all(threads, seconds):
    with peers.using_threads(threads):
        machine = Machine(threads)
        results = {
            "threads": threads,
            "kernels": isa.engine().name,
            "gemm_library": machine.gemm_library,
            "cases": {},
        }
        for case in CASES:
            print(f"{threads} threads: {case.name}", file=sys.stderr, flush=True)
            results["cases"][case.name] = machine.measure(case, seconds)
        if threads == 1:
            results["decay"] = machine.measure_decay(seconds)
            results["layout"] = measure_layout(seconds / 8) if "torch packed" in peers.PEERS else {}
    return results


if __name__ == "__main__":
    threads = int(sys.argv[1])
    json.dump(measure_all(threads, float(sys.argv[2]) if len(sys.argv) > 2 else 2.5), sys.stdout)
