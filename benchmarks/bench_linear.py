"""A linear layer beside NumPy's product, on the same threads.

    python benchmarks/bench_linear.py [--seconds 60] [--threads 1 2]

What is timed is the whole call: ``packseq.linear(x, weight, bias)`` beside ``x @ weight.T + bias``,
and ``p @ matrix`` beside ``x @ matrix``, whose matrix is contiguous; `p` is packed. Both agree
before they are timed.
"""

import argparse
import os
import sys

from timing import (
    OPENBLAS_THREAD_TIMEOUT,
    SETTLE_SECONDS,
    in_turn_until,
    measure_each,
    print_head,
    print_row,
    times_as_fast,
)

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", OPENBLAS_THREAD_TIMEOUT)

from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

import packseq

SIZES = [(256, 1), (256, 4), (128, 12), (256, 256), (512, 2048)]
ROWS = [1, 8, 64, 512, 4096]


def calls_of(inputs, outputs, rows):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, inputs), np.float32)
    weight = rng.standard_normal((outputs, inputs), np.float32)
    bias = rng.standard_normal(outputs, np.float32)
    matrix = np.ascontiguousarray(weight.T)
    packed = packseq.PackedSequence(x, [rows])
    calls = {
        "linear": lambda: packseq.linear(x, weight, bias),
        "its": lambda: x @ weight.T + bias,
        "operator": lambda: (packed @ matrix).data,
        "its product": lambda: x @ matrix,
    }
    # Sums of up to 512 products near 1 in float32, in either's order.
    np.testing.assert_allclose(calls["linear"](), calls["its"](), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(calls["operator"](), calls["its product"](), rtol=1e-4, atol=1e-3)
    return calls


def print_layers(threads, seconds):
    print_head(
        f"Linear layers, float32, {threads} thread{'s' * (threads > 1)}",
        *("in, out, rows", "packseq.linear, us", "Gflop/s", "over NumPy"),
        *("p @ W, us", "over NumPy"),
    )

    def measure(item, end):
        (inputs, outputs), rows = item
        times = in_turn_until(
            end, calls_of(inputs, outputs, rows), SETTLE_SECONDS if threads > 1 else 0.0
        )
        each = median(times["linear"])
        print_row(
            *(f"{inputs}, {outputs}, {rows}", f"{1e6 * each:.1f}"),
            f"{2e-9 * inputs * outputs * rows / each:.0f}",
            f"{times_as_fast(times, 'linear', 'its'):.2f}",
            f"{1e6 * median(times['operator']):.1f}",
            f"{times_as_fast(times, 'operator', 'its product'):.2f}",
        )

    packseq.set_num_threads(threads)
    with threadpool_limits(threads):
        return measure_each(measure, [(size, n) for size in SIZES for n in ROWS], seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", default=60, type=float)
    parser.add_argument("--threads", nargs="+", default=[1, packseq.get_num_threads()], type=int)
    options = parser.parse_args()
    part = options.seconds / len(options.threads)
    sys.exit(sum(print_layers(threads, part) for threads in options.threads) > 0)


if __name__ == "__main__":
    main()
