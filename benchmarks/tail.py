"""How much of a cluster's time is lost at the end of a job, from measured times of blocks.

    python benchmarks/tail.py [--blocks 24]

Blocks of sequences of skewed lengths (log-normal, sigma 1.2) go through a Predictor on one thread;
their times, a step, are what a worker's times are drawn from. A terabyte is then cut into parts of
equal bytes, as packseq.run does, or of equal rows, and workers take one part after the other until
none is left. Lost is the share of worker hours in which a worker waits for the last one; once with
equal workers, and once where one in fifty takes three times as long. It prints a table of Markdown.
"""

import argparse
import heapq
import time

import numpy as np

import packseq

FEATURES, HIDDEN, SIGMA, MEAN = 16, 64, 1.2, 40
STEP_BYTES = 4 * FEATURES
TERABYTE = 10**12
PARTS = [64 << 20, 256 << 20, 1 << 30]
WORKERS = [10, 100, 1000]
STRAGGLERS, SLOWER = 0.02, 3


def lengths_of(rng, rows):
    mean = np.log(MEAN) - SIGMA**2 / 2
    return np.maximum(1, np.minimum(rng.lognormal(mean, SIGMA, rows), 100_000)).astype(np.int64)


def measured(blocks, rng):
    """Seconds a step of each block of 16 MiB."""
    import pyarrow as pa

    module = packseq.GRU(FEATURES, HIDDEN, bidirectional=True, rng=0)
    predictor = packseq.Predictor(module, "x", num_threads=1)
    seconds = []
    for block in range(blocks + 1):
        lengths = lengths_of(rng, (16 << 20) // STEP_BYTES // MEAN)
        values = rng.standard_normal((lengths.sum(), FEATURES), dtype=np.float32)
        steps = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), FEATURES)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        table = pa.table({"x": pa.ListArray.from_arrays(offsets, steps)})
        start = time.perf_counter()
        predictor(table)
        if block:  # the first one finds nothing in a cache
            seconds.append((time.perf_counter() - start) / lengths.sum())
    return np.array(seconds)


def lost(durations, workers, slowness):
    """The share of the workers' hours in which one waits, each taking the next part when free."""
    free = [(0.0, worker) for worker in range(workers)]
    busy = 0.0
    for duration in durations:
        start, worker = heapq.heappop(free)
        taken = duration * slowness[worker]
        busy += taken
        heapq.heappush(free, (start + taken, worker))
    return 1 - busy / (workers * max(free)[0])


def simulated(per_step, part_bytes, workers, by_rows, stragglers, rng):
    """The median loss of nine draws."""
    parts = TERABYTE // part_bytes
    steps = np.full(parts, part_bytes / STEP_BYTES)
    losses = []
    for _ in range(9):
        if by_rows:
            rows = part_bytes // STEP_BYTES // MEAN
            # A part's sum of so many lengths, whose spread is that of its mean.
            spread = np.sqrt((np.exp(SIGMA**2) - 1) / rows)
            steps = part_bytes / STEP_BYTES * np.maximum(0.1, rng.normal(1, spread, parts))
        slow = np.ones(workers)
        if stragglers:
            slow[rng.random(workers) < STRAGGLERS] = SLOWER
        losses.append(lost(steps * rng.choice(per_step, parts), workers, slow))
    return float(np.median(losses))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=24)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    per_step = measured(options.blocks, rng)
    low, middle, high = np.quantile(per_step, [0.1, 0.5, 0.9])
    print(
        f"{1 / middle:,.0f} steps/s on one thread ({1 / high:,.0f} to {1 / low:,.0f} in eight of"
        f" ten blocks); a terabyte is {TERABYTE // STEP_BYTES / 1e9:.1f} G steps,"
        f" {TERABYTE / STEP_BYTES * middle / 3600:.1f} core hours\n"
    )
    print("| parts | workers | equal workers | one in fifty three times slower |")
    print("| --- | --- | --- | --- |")
    for part_bytes in PARTS:
        for workers in WORKERS:
            shares = [
                f"{simulated(per_step, part_bytes, workers, False, stragglers, rng):.1%}"
                for stragglers in (False, True)
            ]
            print(f"| {part_bytes >> 20} MiB | {workers:,} | {' | '.join(shares)} |")
    by_rows = [simulated(per_step, PARTS[1], workers, True, False, rng) for workers in WORKERS]
    print("\nParts of 256 MiB by rows instead of bytes, equal workers: ", end="")
    print(", ".join(f"{share:.1%}" for share in by_rows))


if __name__ == "__main__":
    main()
