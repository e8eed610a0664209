"""Random networks on several threads, beside busy processes: the bits of one thread.

    python tools/soak_threads.py [--minutes M] [--seed S]

Workers who are late, leave, or never come are what happens by itself on a busy machine, and one
call in thousands meets just the wrong moment: so calls are many and small. It ends with a verdict,
and with 1 if any bit differed.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time

import numpy as np
from soak import bits

import packseq
from packseq.settings import threads

WIDTH = 24
HIDDEN = [16, 33, 64, 100, 112, 128, 200, 256]
BATCHES = [1, 1, 1, 2, 5, 20]
LONGEST = [2, 4, 12, 30]
PRECISIONS = ["float32", "float32", "float32", "int8", "bfloat16"]
CALLS = 200

# For 20 ms on a processor, and for 10 off it.
BUSY = """
import time
while True:
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        pass
    time.sleep(0.01)
"""


def random_module(rng):
    kind, hidden = rng.choice(["LSTM", "GRU", "RNN"]), int(rng.choice(HIDDEN))
    options = {"num_layers": int(rng.integers(1, 3)), "bidirectional": bool(rng.integers(2))}
    if kind == "LSTM" and hidden > 1 and rng.random() < 0.3:
        options["proj_size"] = hidden // 2
    module = getattr(packseq, kind)(WIDTH, hidden, rng=rng, **options)
    precision = str(rng.choice(PRECISIONS))
    return module if precision == "float32" else module.quantize(precision)


def random_batch(rng):
    lengths = rng.integers(1, int(rng.choice(LONGEST)) + 1, int(rng.choice(BATCHES)))
    return packseq.pack_sequence(
        [rng.standard_normal((length, WIDTH)).astype(np.float32) for length in lengths]
    )


def try_network(rng, patiences):
    """Call one network often. Returns how many calls differed."""
    module, batch = random_module(rng), random_batch(rng)
    expected, differed = bits(module(batch, num_threads=1)), 0
    for _ in range(CALLS):
        threads.crew()[0].patience = patiences[rng.integers(len(patiences))]
        differed += bits(module(batch, num_threads=int(rng.choice([2, 2, 3, 4])))) != expected
    if differed:
        print(f"{differed} of {CALLS} calls differ: {module!r}, {batch!r}", flush=True)
    return differed


@contextlib.contextmanager
def busy_processes():
    """One for each processor."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    patiences = [0, 500, threads.crew()[0].patience]
    end, networks, differed = time.monotonic() + 60 * arguments.minutes, 0, 0
    with busy_processes():
        while time.monotonic() < end:
            differed += try_network(rng, patiences)
            networks += 1
    print(f"{networks} networks, {networks * CALLS} calls, {differed} with other bits")
    return int(differed > 0)


if __name__ == "__main__":
    sys.exit(main())
