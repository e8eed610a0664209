"""How evenly a call is shared out to more threads than this machine has: a simulation of the cut.

    python benchmarks/balance.py [--threads 2 4 8 16 32 64 128]

Nothing is computed. Each case is cut for so many threads (`_core/kernels/cut.c`), and its shards
are taken in turn by whoever is free, as workers do. Printed is how many times as fast that makes
the call as one thread, by the costs that the cut itself goes by, and in brackets the part of the
ideal; a team, which shares hidden units, has a t. What many threads do to each other (memory, the
cores' clock, barriers of many) is not in it.
"""

import argparse
import heapq

import numpy as np
from cases import CASES, Problem
from timing import print_head, print_row

import packseq
from packseq.rows.plan import Plan
from packseq.settings import isa

THREADS = (2, 4, 8, 16, 32, 64, 128)


def busiest(costs, workers):
    """The load of the busiest of so many workers, each of whom takes the next when it is free."""
    loads = [0.0] * workers
    for cost in costs:
        heapq.heapreplace(loads, loads[0] + cost)
    return max(loads)


def cuts(case, threads):
    """What a layer of the case takes on each number of threads, and whether a team computes it."""
    network = Problem(case).module._weights.packed()
    plan = Plan.from_lengths(np.array(case.lengths))
    for n in threads:
        costs, team, _, workers, _ = network.cut(
            plan.batch_size, plan.max_length, plan.batch_sizes, n
        )
        yield busiest(costs, 1 if team > 1 else workers), team > 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", nargs="+", type=int, default=THREADS)
    threads = parser.parse_args().threads
    print(f"packseq {packseq.__version__}, {isa.kernels().name}")
    print_head("Times as fast as one thread", "case", *map(str, threads))
    for case in CASES:
        (alone, _), *shared = cuts(case, (1, *threads))
        print_row(
            case.name,
            *(
                f"{alone / takes:.1f} ({alone / takes / n:.2f}){' t' * team}"
                for n, (takes, team) in zip(threads, shared, strict=True)
            ),
        )


if __name__ == "__main__":
    main()
