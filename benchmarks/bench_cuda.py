"""On a GPU: packseq on tensors beside plain torch, and when and how NumPy arrays pay to move there.

    python benchmarks/bench_cuda.py [--seconds 125]

Prints the tables of docs/gpu.md row by row, the device's name first, in about so many seconds:
cases share them, and take as many rounds as fit. Every case is checked before it is timed; one that
fails is told, the others go on, and the exit status is 1. `--device cpu --quick` runs the same code
on small cases without a GPU, to see that it works; its numbers mean nothing.
"""

import argparse
import math
import sys
import warnings
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, product
from pathlib import Path
from statistics import mean, median
from unittest import mock

import numpy as np
import torch
from timing import in_turn_until, measure_each, ms, print_head, print_row, times_as_fast
from torch.nn.utils import rnn

import packseq
from packseq.networks import offload, torch_layers
from packseq.settings.backend import OFFLOAD_FLOPS

INPUT = 256
DTYPES = ("float32", "float16", "bfloat16")
KINDS = ("uniform", "long-tailed")

# Of all seconds: 108 cases on tensors; 20 on arrays; 4 in chunks; a profile.
SHARES = (0.6, 0.2, 0.16, 0.04)


def lengths_of(kind, batch, most=200):
    """Steps of each sequence: uniform, or a long tail of median 16 up to four times as many."""
    rng = np.random.default_rng(0)
    if kind == "uniform":
        return rng.integers(1, most + 1, batch)
    return np.minimum(8 * (1 + rng.pareto(1.0, batch)), 4 * most).astype(np.int64)


@cache
def module_of(cell, hidden, backend="torch"):
    """One set of weights, so that each goes up once for each dtype."""
    return getattr(packseq, cell)(INPUT, hidden, rng=0, backend=backend)


@cache
def torch_module_of(cell, hidden, dtype, device):
    module = getattr(torch.nn, cell)(INPUT, hidden)
    weights = module_of(cell, hidden).state_dict()
    module.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return module.to(device, getattr(torch, dtype)).eval()


# ---- tensors ----


@dataclass(frozen=True)
class TensorCase:
    cell: str
    dtype: str
    batch: int
    hidden: int
    kind: str
    device: torch.device


class Tensors:
    """One padded batch on the device, and one module in both libraries."""

    def __init__(self, case):
        self.lengths = lengths_of(case.kind, case.batch)
        self.torch_lengths = torch.from_numpy(self.lengths)
        self.dtype, self.device = getattr(torch, case.dtype), case.device
        shape = (int(self.lengths.max()), case.batch, INPUT)
        self.padded = torch.randn(shape, dtype=self.dtype, device=self.device)
        self.ours = module_of(case.cell, case.hidden)
        self.theirs = torch_module_of(case.cell, case.hidden, case.dtype, self.device)
        packed = self.pack_theirs()
        self.sorted_rows = rnn.PackedSequence(packed.data, packed.batch_sizes)

    def pack_theirs(self):
        return rnn.pack_padded_sequence(self.padded, self.torch_lengths, enforce_sorted=False)

    def run_ours(self):
        packed = packseq.pack_padded_sequence(self.padded, self.lengths)
        return packseq.pad_packed_sequence(self.ours(packed)[0])[0]

    def run_theirs(self):
        return rnn.pad_packed_sequence(self.theirs(self.pack_theirs())[0])[0]

    def layout_ours(self):
        packed = packseq.pack_padded_sequence(self.padded, self.lengths)
        return packseq.pad_packed_sequence(packed)[0]

    def layout_theirs(self):
        return rnn.pad_packed_sequence(self.pack_theirs())[0]

    def layer_alone(self):
        """The recurrent layer on rows that are packed and sorted already: cuDNN and no more."""
        return self.theirs(self.sorted_rows)[0]

    def calls(self):
        named = {
            "ours": self.run_ours,
            "theirs": self.run_theirs,
            "layer": self.layer_alone,
            "our layout": self.layout_ours,
            "their layout": self.layout_theirs,
        }
        return {name: partial(self.to_the_end, call) for name, call in named.items()}

    def to_the_end(self, call):
        """From the first queued operation to the last one's end."""
        call()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def check(self):
        """One library computes both: what differs is some roundings, in the order of equal lengths.

        In float32 sums of INPUT + H products, each below 1: some ulps, as in the tests.
        """
        bound = 1e-5 if self.dtype == torch.float32 else 30 * torch.finfo(self.dtype).eps
        apart = float((self.run_ours() - self.run_theirs()).abs().max())
        if not apart <= bound:
            raise ValueError(f"packseq and torch are {apart:.3g} apart, more than {bound:.3g}")
        if not torch.equal(self.layout_ours(), self.layout_theirs()):
            raise ValueError("packseq and torch pack or pad differently")


def waits(call):
    """Where a call waits for the GPU: (file, line) of each time."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    told = [w for w in caught if "called a synchronizing" in str(w.message)]
    return [(Path(w.filename).name, w.lineno) for w in told]


def print_tensors(cases, seconds):
    """Both libraries from padded to padded, and what of it is not the layer itself."""
    print_head(
        "Tensors: packseq beside torch",
        *("cell", "dtype", "B", "H", "lengths", "rows", "packseq, ms", "torch, ms"),
        *("torch / packseq", "outside the layer, packseq", "outside, torch"),
        *("pack and pad: packseq, ms", "torch, ms", "torch / packseq"),
        *("waits, packseq", "waits, torch", "rounds"),
    )
    places = set()

    def measure(case, end):
        made = Tensors(case)
        made.check()
        waiting = ["", ""]
        if case.device.type == "cuda":
            ours, theirs = waits(made.run_ours), waits(made.run_theirs)
            places.update(ours)
            waiting = [len(ours), len(theirs)]
        times = in_turn_until(end, made.calls())
        print_row(
            *(case.cell, case.dtype, case.batch, case.hidden, case.kind, made.lengths.sum()),
            *(ms(times["ours"]), ms(times["theirs"])),
            f"{times_as_fast(times, 'ours', 'theirs'):.2f}",
            *(f"{1 - 1 / times_as_fast(times, 'layer', name):.1%}" for name in ("ours", "theirs")),
            *(ms(times["our layout"]), ms(times["their layout"])),
            f"{times_as_fast(times, 'our layout', 'their layout'):.2f}",
            *(*waiting, len(times["ours"])),
        )

    failed = measure_each(measure, cases, seconds)
    if places:
        print(
            "\npackseq waits at", *(f"{file}:{line}" for file, line in sorted(places)), flush=True
        )
    return failed


def print_profile(cases, seconds):
    """What each library's call consists of, on both sides of the bus."""

    def measure(case, end):
        made = Tensors(case)
        for name, call in (("packseq", made.run_ours), ("torch", made.run_theirs)):
            made.to_the_end(call)
            with torch.profiler.profile() as profile:
                for _ in range(10):
                    made.to_the_end(call)
            print(f"\n## Ten calls of {name}: {case}\n")
            averages = profile.key_averages()
            print(averages.table("self_cpu_time_total", row_limit=100), flush=True)

    return measure_each(measure, cases, seconds)


# ---- NumPy arrays ----


@dataclass(frozen=True)
class ArrayCase:
    """One padded batch in NumPy."""

    batch: int
    hidden: int
    kind: str
    most: int

    @property
    def lengths(self):
        return lengths_of(self.kind, self.batch, self.most)

    def padded(self):
        shape = (int(self.lengths.max()), self.batch, INPUT)
        return np.random.default_rng(0).standard_normal(shape, np.float32)

    @property
    def step_flops(self):
        """As packseq counts them to choose: of a step, on average."""
        return 8 * self.hidden * (INPUT + self.hidden) * self.lengths.sum() / self.lengths.max()


def print_threshold(cases, seconds):
    """NumPy arrays on the kernels and moved, and the threshold that this gives."""
    print_head(
        f"NumPy arrays: {packseq.get_num_threads()} CPU threads or the GPU, LSTM",
        *("B", "H", "MFLOP a step", "kernels, ms", "moved, ms", "kernels / moved", "rounds"),
    )
    points = {}

    def measure(case, end):
        padded, lengths = case.padded(), case.lengths
        calls = {
            name: partial(module_of("LSTM", case.hidden, backend), padded, lengths=lengths)
            for name, backend in (("kernels", "cpu"), ("moved", "torch"))
        }
        times = in_turn_until(end, calls)
        faster = times_as_fast(times, "moved", "kernels")
        points.setdefault(case.hidden, []).append((case.step_flops, faster))
        print_row(
            *(case.batch, case.hidden, f"{case.step_flops / 1e6:.3g}"),
            *(ms(times["kernels"]), ms(times["moved"]), f"{faster:.2f}", len(times["moved"])),
        )

    failed = measure_each(measure, cases, seconds)
    print_head(
        f"OFFLOAD_FLOPS, now {OFFLOAD_FLOPS / 1e6:g} MFLOP a step",
        *("H", "best between, MFLOP", "lost by it, mean", "worst", "lost now, mean", "worst"),
    )
    for hidden, some in [*points.items(), ("all", chain(*points.values()))] * bool(points):
        print_row(hidden, *threshold_cells(sorted(some)))
    return failed


def threshold_cells(points):
    """Between which of (operations a step, times as fast moved) the best threshold lies.

    It loses the least time, in proportion, against the faster of both ways in each case.
    """

    def losses(moved_from):
        chosen = [(flops >= moved_from, faster) for flops, faster in points]
        return [max(1, faster if not moved else 1 / faster) - 1 for moved, faster in chosen]

    bounds = [0.0, *(flops for flops, _ in points), math.inf]
    best = min(bounds[1:], key=lambda bound: mean(losses(bound)))
    below = bounds[bounds.index(best) - 1]
    cells = [f"{below / 1e6:.3g} and {best / 1e6:.3g}"]
    for lost in (losses(best), losses(OFFLOAD_FLOPS)):
        cells += [f"{mean(lost):.0%}", f"{max(lost):.0%}"]
    return cells


CHUNK_COUNTS = (1, 2, 3, 4, 8)


def in_chunks(count):
    """As many as are asked for, whatever would pay."""
    return mock.patch.object(offload, "count_chunks", lambda sequences, nbytes: count)


def print_chunks(cases, seconds):
    """Large batches in so many chunks, and how many packseq would make of them."""
    print_head(
        "NumPy arrays in chunks on two streams, LSTM",
        *("B", "H", "lengths", "MB both ways", "chunks", "ms", "over the best", "rounds", "chosen"),
    )

    def measure(case, end):
        padded, lengths, module = case.padded(), case.lengths, module_of("LSTM", case.hidden)
        out = np.empty((*padded.shape[:2], case.hidden), np.float32)

        def call(count):
            with in_chunks(count):
                module(padded, lengths=lengths, out=out)

        counts = [count for count in CHUNK_COUNTS if count <= case.batch]
        times = in_turn_until(end, {count: partial(call, count) for count in counts})
        best = min(median(some) for some in times.values())
        nbytes = int(lengths.sum()) * (INPUT + case.hidden) * 4
        chosen = offload.count_chunks(np.count_nonzero(lengths), nbytes)
        for count, some in times.items():
            over = median(some) / best - 1
            about = (case.batch, case.hidden, case.kind, f"{nbytes / 1e6:.0f}", count)
            print_row(*about, ms(some), f"{over:.0%}", len(some), "*" * (count == chosen))

    return measure_each(measure, cases, seconds)


# ---- all of it ----


@dataclass(frozen=True)
class Cases:
    tensors: list[TensorCase]
    arrays: list[ArrayCase]
    large: list[ArrayCase]
    profiled: TensorCase


def all_cases(device):
    kinds = product(("LSTM", "GRU"), DTYPES, (64, 256, 1024), (256, 512, 1024), KINDS)
    steps = product((1, 4, 16, 64, 256), (128, 256, 512, 1024))
    return Cases(
        [TensorCase(*kind, device) for kind in kinds],
        [ArrayCase(*step, "uniform", 50) for step in steps],
        [
            ArrayCase(512, 512, "uniform", 100),
            ArrayCase(2048, 256, "uniform", 100),
            ArrayCase(8192, 128, "uniform", 100),
            ArrayCase(512, 256, "long-tailed", 200),
        ],
        TensorCase("LSTM", "float32", 256, 512, "uniform", device),
    )


def few_cases(device):
    kinds = product(("LSTM", "GRU"), DTYPES, (4,), (16,), KINDS)
    return Cases(
        [TensorCase(*kind, device) for kind in kinds],
        [ArrayCase(batch, 16, "uniform", 20) for batch in (1, 16)],
        [ArrayCase(64, 16, "uniform", 20)],
        TensorCase("LSTM", "float32", 4, 16, "long-tailed", device),
    )


def print_all(cases, seconds):
    parts = (
        partial(print_tensors, cases.tensors),
        partial(print_threshold, cases.arrays),
        partial(print_chunks, cases.large),
        partial(print_profile, [cases.profiled]),
    )
    return sum(part(seconds * share) for part, share in zip(parts, SHARES, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", type=torch.device)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", default=125, type=float)
    options = parser.parse_args()
    gpu = options.device.type == "cuda"
    name = torch.cuda.get_device_name() if gpu else "the CPU, as a trial"
    print(f"{name}; torch {torch.__version__}; cuDNN {torch.backends.cudnn.version()}", flush=True)
    # Both libraries multiply in float32 proper; packseq does of itself.
    owner, switch, off = torch_layers._tf32_switch()
    setattr(owner, switch, off)
    with torch.inference_mode():
        cases = (few_cases if options.quick else all_cases)(options.device)
        failed = print_all(cases, options.seconds)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
