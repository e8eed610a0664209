"""Two builds of packseq in turn, case by case: how much faster is this one than the other?

    python benchmarks/compare.py OTHER_PYTHON [--threads N] [--pairs 15] [--only TEXT]

OTHER_PYTHON is an interpreter whose packseq is the other build. Each build has a process of its
own; a pair is a turn of either, one right after the other, and the order changes from pair to pair.
Prints the median ratio of each case (above 1: this build is faster) and its spread, then the
geometric mean. Cases more than 3 % apart are measured again, with as many pairs once more.
"""

import argparse
import math
import subprocess
import sys
from statistics import median, quantiles

import numpy as np
from cases import CASES, Problem
from timing import seconds_of

import packseq

TURN_SECONDS = 0.04
APART = 0.03


# ---- the process of one build ----


def padded_call(case):
    problem = Problem(case)
    return lambda: problem.module(problem.x, problem.hx, lengths=problem.lengths)


def packed_call(case):
    problem = Problem(case)
    lengths = np.full(case.batch_size, case.max_length) if problem.lengths is None else case.lengths
    packed = packseq.pack_padded_sequence(problem.x, lengths)
    return lambda: problem.module(packed, problem.hx)


def cell_call(kind, size):
    cell = getattr(packseq, kind)(size, size, rng=0)
    x = np.ones((1, size), np.float32)
    return lambda: cell(x)


def packed_rows(width):
    lengths = np.random.default_rng(0).integers(1, 101, 64)
    batch = np.random.default_rng(1).standard_normal((100, 64, width)).astype(np.float32)
    return batch, lengths, packseq.pack_padded_sequence(batch, lengths)


def operation_call(name, width):
    packed = packed_rows(width)[2]
    return getattr(packed, name)


def layout_call(name, width):
    batch, lengths, packed = packed_rows(width)
    calls = {
        "pack_padded_sequence": lambda: packseq.pack_padded_sequence(batch, lengths),
        "pad_packed_sequence": lambda: packseq.pad_packed_sequence(packed),
        "unpack_sequence": lambda: packseq.unpack_sequence(packed),
    }
    return calls[name]


def all_calls():
    """{name: a function that makes the call}, the same in both builds."""
    calls = {case.name: lambda case=case: padded_call(case) for case in CASES}
    calls |= {
        f"packed: {case.name}": lambda case=case: packed_call(case)
        for case in CASES
        if case.ragged and case.hidden_size <= 256
    }
    for kind in ("LSTMCell", "GRUCell", "RNNCell"):
        calls[f"{kind} 128"] = lambda kind=kind: cell_call(kind, 128)
    for name in ("sum", "max", "softmax", "logsumexp", "cumsum"):
        for width in (1, 64):
            calls[f"{name}, width {width}"] = lambda n=name, w=width: operation_call(n, w)
    for name in ("pack_padded_sequence", "pad_packed_sequence", "unpack_sequence"):
        for width in (1, 64):
            calls[f"{name}, width {width}"] = lambda n=name, w=width: layout_call(n, w)
    return calls


def serve(threads):
    """Time the calls that standard input names; a turn's seconds per call on standard output."""
    packseq.set_num_threads(threads)
    calls, name, call, repeats = all_calls(), None, None, 1
    for line in sys.stdin:
        if line.strip() != name:
            name = line.strip()
            call = calls[name]()
            repeats = max(1, math.ceil(TURN_SECONDS / seconds_of(call, 1)))
            repeats = max(1, math.ceil(TURN_SECONDS / seconds_of(call, repeats)))
        print(seconds_of(call, repeats), flush=True)


# ---- the process that compares them ----


class Build:
    """One build's process."""

    def __init__(self, python, threads):
        command = [python, __file__, "--serve", "--threads", str(threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, **pipes)

    def turn(self, name):
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def end(self):
        self._process.stdin.close()
        self._process.wait()


def ratios_of(name, this, other, pairs):
    """The other's seconds over this one's, pair by pair."""
    for build in (this, other):
        build.turn(name)
    ratios = []
    for pair in range(pairs):
        order = (this, other) if pair % 2 else (other, this)
        seconds = {build: build.turn(name) for build in order}
        ratios.append(seconds[other] / seconds[this])
    return ratios


def compare(other_python, threads, pairs, only):
    this, other = Build(sys.executable, threads), Build(other_python, threads)
    print("| case | ratio | quartiles | pairs |\n| --- | ---: | --- | ---: |")
    medians = []
    for name in all_calls():
        if only not in name:
            continue
        ratios = ratios_of(name, this, other, pairs)
        if abs(median(ratios) - 1) > APART:
            ratios += ratios_of(name, this, other, pairs)
        low, _, high = quantiles(ratios)
        medians.append(median(ratios))
        print(f"| {name} | {median(ratios):.3f} | {low:.3f} to {high:.3f} | {len(ratios)} |")
        sys.stdout.flush()
    mean = math.exp(sum(map(math.log, medians)) / len(medians))
    print(f"\n{len(medians)} cases, {threads} thread(s): mean {mean:.3f}, least {min(medians):.3f}")
    for build in (this, other):
        build.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other_python", nargs="?")
    parser.add_argument("--serve", action="store_true", help="be the process of one build")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    if options.serve:
        serve(options.threads)
    elif options.other_python:
        compare(options.other_python, options.threads, options.pairs, options.only)
    else:
        parser.error("the other build's Python is missing")


if __name__ == "__main__":
    main()
