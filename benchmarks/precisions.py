"""int8 and bfloat16 beside float32, and beside the low-precision peers that are installed.

    python benchmarks/precisions.py [--seconds 120] [--cell LSTM] > lstm.json

One thread, through the public calls, all in turn; the times and errors as JSON, of which
``precision_page.py`` makes a table and a picture. A peer whose numbers are wrong is not timed, and
OpenVINO is one where it is installed.
"""

import argparse
import json
import sys
from importlib.metadata import version
from importlib.util import find_spec
from time import perf_counter

import numpy as np
import peers
from cases import BOTH, Case, Problem, equal, sentences, speech, zipf
from precision_peers import WAYS
from timing import in_turn_until

import packseq
from packseq.settings import isa

SHAPES = [
    ("one sequence", 256, equal(1, 100), {}),
    ("one sequence", 512, equal(1, 100), {"num_layers": 2}),
    ("one sequence", 1536, equal(1, 25), {}),
    ("four sequences", 1024, equal(4, 25), {}),
    ("sentences", 256, sentences(32), BOTH),
    ("speech", 512, speech(8, 50), BOTH | {"num_layers": 2}),
    ("Zipf", 128, zipf(256, 120), {}),
    ("one step", 128, equal(1, 1), {"stream": True}),
]
CELLS = ("LSTM", "GRU")

# The least exact of those that are right is off by 4e-2 at most; what takes padding for steps, or
# the states for others, by a large part of 1.
WRONG = 0.1


def measure_all(seconds, cells=CELLS):
    """Every case of these cells; what is left of the time is shared by the cases that are left."""
    cases = [
        Case(about, cell, hidden, hidden, lengths, **options)
        for cell in cells
        for about, hidden, lengths, options in SHAPES
    ]
    end = perf_counter() + seconds
    measured = []
    for done, case in enumerate(cases):
        print(case.name, file=sys.stderr, flush=True)
        now = perf_counter()
        measured.append(measure(case, now + max(0, end - now) / (len(cases) - done)))
    libraries = [name for name in ("torch", "onnxruntime", "openvino") if find_spec(name)]
    versions = {"packseq": packseq.__version__} | {name: version(name) for name in libraries}
    return {"kernels": isa.kernels().name, "versions": versions, "cases": measured}


def measure(case, end):
    """Seconds of each way by round, and how far each is from float32: (largest, mean)."""
    problem = Problem(case)
    calls = {name: make(problem) for name, make in WAYS.items()}
    calls = {name: call for name, call in calls.items() if call is not None}
    exact = calls["float32"]()
    errors = {name: error(call(), exact, problem.real) for name, call in calls.items()}
    # Not (most > WRONG), which a NaN would pass.
    right = {name: call for name, call in calls.items() if errors[name][0] <= WRONG}
    with peers.using_threads(1):
        seconds = in_turn_until(end, right)
    named = {"cell": case.cell, "name": f"{case.model}, {case.about}"}
    wrong = sorted(calls.keys() - right.keys())
    return named | {"seconds": seconds, "errors": errors, "wrong": wrong}


def error(output, exact, real):
    """The largest and the mean difference over real steps."""
    off = np.abs(np.asarray(output) - exact)[real]
    return float(off.max()), float(off.mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--cell", choices=CELLS, action="append")
    options = parser.parse_args()
    json.dump(measure_all(options.seconds, options.cell or CELLS), sys.stdout)
