"""Measure everything and write docs/benchmarks-ISA.md and .png, ISA the kernels chosen here.

    python benchmarks/report.py [--seconds 2.5] [--output docs]

One process per number of threads, one after the other (see ``measure.py``), about eight minutes in
all. A ratio is the median, over rounds, of the ratio of two times of the same round; a time is the
median over rounds. Nothing here is typed in: a case that is lost is listed first.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from math import exp, log
from pathlib import Path
from statistics import median

import precision_page
from cases import CASES, STEP
from measure import GEMM_FLOPS, GEMM_SIZE
from peers import OURS_ON_BLAS
from picture import draw
from timing import (
    ITS_ROUNDS,
    LEAST_SECONDS,
    OPENBLAS_THREAD_TIMEOUT,
    OUT_OF_RACE,
    table,
    times_as_fast,
)

import packseq
from packseq.settings.threads import usable_cores

HERE = Path(__file__).parent
PEERS = ["torch packed", "torch padded", "ONNX Runtime", "NumPy"]
ORDER = ["packseq", OURS_ON_BLAS, *PEERS]

# What packseq is meant to reach, on one thread and on all cores: geometric mean over the fastest
# peer, least ratio, fraction of the matrix product's speed.
TARGETS = [(1.7, 1.0, 0.90), (2.0, 1.0, 0.85)]
LAYOUT_TARGET = 3.0
STEP_TARGET = 6.0  # microseconds

# int8 and bfloat16 take so many times what one case takes, for 16 cases of up to 7 ways.
PRECISION_SECONDS = 40


# ---- numbers ----


class Result:
    """One case at one number of threads."""

    def __init__(self, case, measured):
        self.case = case
        self.seconds = measured["seconds"]
        self.wrong = [name for name, apart in measured["apart"].items() if apart > 1]
        self.peers = [name for name in PEERS if name in self.seconds]
        self.ratios = {peer: times_as_fast(self.seconds, "packseq", peer) for peer in self.peers}
        self.rival = min(self.ratios, key=self.ratios.get)
        self.ratio = self.ratios[self.rival]
        self.of_peak = times_as_fast(self.seconds, "packseq", "gemm") * case.flops / GEMM_FLOPS

    @property
    def over_blas(self):
        """How many times as fast the kernels are as BLAS in their place; None without SciPy."""
        if OURS_ON_BLAS not in self.seconds:
            return None
        return times_as_fast(self.seconds, "packseq", OURS_ON_BLAS)

    @property
    def spread(self):
        """Half the middle half of the ratio to the rival over rounds, in units of the ratio."""
        pairs = zip(self.seconds["packseq"], self.seconds[self.rival], strict=False)
        ratios = sorted(b / a for a, b in pairs)
        quarter = len(ratios) // 4
        return (ratios[-1 - quarter] - ratios[quarter]) / (2 * self.ratio)


class Run:
    """All cases at one number of threads."""

    def __init__(self, measured, targets):
        self.threads = measured["threads"]
        self.kernels = measured["kernels"]
        self.gemm_library = measured["gemm_library"]
        self.targets = targets
        self.results = [Result(case, measured["cases"][case.name]) for case in CASES]

    @property
    def title(self):
        return "One thread" if self.threads == 1 else f"All cores ({self.threads} threads)"

    @property
    def mean_ratio(self):
        return exp(sum(log(result.ratio) for result in self.results) / len(self.results))

    @property
    def least(self):
        return min(self.results, key=lambda result: result.ratio)

    @property
    def lost(self):
        found = [result for result in self.results if result.ratio < 1]
        return sorted(found, key=lambda result: result.ratio)

    @property
    def dense(self):
        return [result for result in self.results if result.case.dense]

    def of(self, case):
        return next(result for result in self.results if result.case is case)

    def gemm_speed(self, dtype):
        """Gflop/s of the matrix product, over all rounds of all cases of that dtype."""
        times = [t for r in self.results if r.case.dtype == dtype for t in r.seconds["gemm"]]
        return GEMM_FLOPS / median(times) / 1e9


def json_of(script, *arguments):
    """What a script of this folder prints, in a process of its own."""
    command = [sys.executable, HERE / script, *arguments]
    settings = {
        **os.environ,
        "PYTHONWARNINGS": "ignore",
        "OPENBLAS_THREAD_TIMEOUT": OPENBLAS_THREAD_TIMEOUT,
    }
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=settings)
    return json.loads(done.stdout)


# ---- words ----


def write_report(runs, decay, layout, precisions):
    parts = [f"# Benchmarks, {float32_isa(runs).upper()}", HEAD]
    parts += losses(runs, layout)
    parts += summary(runs, layout)
    parts += [f"![How many times as fast packseq is]({file_name(runs)}.png)"]
    parts += [case_table(run) for run in runs]
    parts += layout_table(layout)
    parts += [decay_table(decay), *fewer_bits(runs, precisions), *how(runs)]
    return "\n\n".join(parts) + "\n"


def fewer_bits(runs, precisions):
    """int8 and bfloat16, beside float32 and the peers that have them."""
    about = (
        f"Kernels for {runs[0].kernels}. How many times as fast: the median of ratios within\n"
        "rounds. [precision.md](precision.md) says what int8 and bfloat16 are."
    )
    picture = f"![Speed against error]({file_name(runs)}-precision.png)"
    return ["## Fewer bits, one thread", about, picture, precision_page.tables(precisions)]


def file_name(runs):
    """Without its suffix: machines of other instruction sets keep theirs."""
    return f"benchmarks-{float32_isa(runs)}"


def float32_isa(runs):
    """What float32 runs on: one that adds to it for fewer bits has its name and more after "_"."""
    return runs[0].kernels.partition("_")[0]


HEAD = """Written by `make bench`; not by hand. Each library runs the same weights on the same
padded batch, from padded in to padded out, everything that a call costs included (sorting, packing,
padding back). Before a case is timed, all results are compared; a library that cannot do a case, or
gives a wrong answer, is left out of it."""


def losses(runs, layout):
    lines = [
        f"- {run.title.lower()}: {r.case.name}: {r.ratio:.2f} times as fast as {r.rival}"
        for run in runs
        for r in run.lost
    ]
    lines += [
        f"- one thread: {name.replace('|', ', ')}-byte rows: {ratio:.2f} times as fast as torch"
        for name, ratio in layout_ratios(layout).items()
        if ratio < 1
    ]
    wrong = [
        f"- {run.title.lower()}: {r.case.name}: {', '.join(r.wrong)} disagreed with packseq"
        for run in runs
        for r in run.results
        if r.wrong
    ]
    parts = ["## Cases that packseq loses", "\n".join(lines) or "None in this run."]
    return parts + ["## Left out for a wrong answer", "\n".join(wrong)] * bool(wrong)


def summary(runs, layout):
    labels = (
        "geometric mean over the fastest correct peer, all cases",
        "least ratio of any case",
        "fraction of the matrix product's speed: dense ragged cases, mean",
        "… least of them",
    )
    rows = [["", *(run.title for run in runs)]]
    rows += [list(row) for row in zip(labels, *map(judged, runs), strict=True)]
    if layout:
        ratios = layout_ratios(layout).values()
        mean = exp(sum(map(log, ratios)) / len(ratios))
        met = judgement(LAYOUT_TARGET, mean >= LAYOUT_TARGET)
        cell = f"{mean:.1f} ({min(ratios):.1f} to {max(ratios):.1f}; {met})"
        rows.append(["pack, pad and unpack over torch, geometric mean", cell])
    steps = [median(run.of(STEP).seconds["packseq"]) * 1e6 for run in runs]
    cells = [f"{step:.1f} ({judgement(STEP_TARGET, step <= STEP_TARGET)})" for step in steps]
    rows.append([f"{STEP.name}: microseconds a call", *cells])
    rows = [row + [""] * (len(rows[0]) - len(row)) for row in rows]
    return ["## Summary", table(rows), SUMMARY_NOTE]


SUMMARY_NOTE = """Dense means: ragged, 8 sequences or more, 256 hidden units or more, and at least a
quarter of the padded steps real. Operations are counted for real steps only, and without those of
first steps on a state of zeros: no library gets credit for what need not be computed."""


def judged(run):
    """Cells of the summary, from the top."""
    of_peak = [result.of_peak for result in run.dense]
    values = (run.mean_ratio, run.least.ratio, sum(of_peak) / len(of_peak), min(of_peak))
    mean, least, peak = run.targets
    return [
        f"{value:.2f} ({judgement(target, value >= target)})"
        for value, target in zip(values, (mean, least, peak, peak), strict=True)
    ]


def judgement(target, met):
    return f"target {target:g}: {'met' if met else 'missed'}"


def case_table(run):
    timed = [name for name in ORDER if any(name in r.seconds for r in run.results)]
    names = [f"{name}, ms" for name in timed]
    rows = [["case", "longest", "real", *names, "over fastest peer", "over BLAS", "of peak"]]
    rows += [case_row(result, timed) for result in run.results]
    return f"## {run.title}\n\n{table(rows)}"


def case_row(result, timed):
    case = result.case
    filled = case.rows / (case.batch_size * case.max_length)
    times = [milliseconds(result.seconds[name]) if name in result.seconds else "" for name in timed]
    ratio = f"{result.ratio:.2f}" if result.ratio >= 1 else f"**{result.ratio:.2f}**"
    peak = f"{result.of_peak:.2f}" + " dense" * case.dense
    over_blas = f"{result.over_blas:.2f}" if result.over_blas else ""
    return [case.name, str(case.max_length), f"{filled:.0%}", *times, ratio, over_blas, peak]


def milliseconds(seconds):
    value = median(seconds) * 1e3
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def layout_ratios(layout):
    return {name: times_as_fast(times, "packseq", "torch") for name, times in layout.items()}


def layout_table(layout):
    if not layout:
        return []
    ratios = layout_ratios(layout)
    functions = list(dict.fromkeys(name.split("|")[0] for name in ratios))
    sizes = list(dict.fromkeys(name.split("|")[1] for name in ratios))
    rows = [["", *(f"{size}-byte rows" for size in sizes)]]
    rows += [[f, *(f"{ratios[f'{f}|{size}']:.1f}" for size in sizes)] for f in functions]
    return [f"## Packing and padding: times as fast as torch, one thread\n\n{table(rows)}"]


def decay_table(decay):
    """Denormal numbers cost some processors a hundred cycles each."""
    names = [name for name in ORDER if f"{name}|decay" in decay]
    rows = [["", "states decay, ms", "states do not, ms", "slowed by"]]
    for name in names:
        slowed = times_as_fast(decay, f"{name}|steady", f"{name}|decay") - 1
        times = (milliseconds(decay[f"{name}|{values}"]) for values in ("decay", "steady"))
        rows.append([name, *times, f"{slowed:+.0%}"])
    about = (
        "The same module on 1000 steps: without input after step 10 the states are denormal\n"
        "numbers from step 300 to the end; with input to the end they are not. In turn, one thread."
    )
    return f"## Denormal numbers\n\n{about}\n\n{table(rows)}"


def how(runs):
    spread = median(result.spread for run in runs for result in run.results)
    rounds = [len(r.seconds["packseq"]) for run in runs for r in run.results]
    peaks = [
        f"- Peak, {run.title.lower()}: {run.gemm_speed(dtype):.0f} Gflop/s in {dtype}, "
        f"{GEMM_SIZE} x {GEMM_SIZE} x {GEMM_SIZE}, {run.gemm_library[dtype]}"
        for run in runs
        for dtype in ("float32", "float64")
    ]
    return [
        "## How it was measured",
        f"""What is compared is called in turn, A B C C B A, {min(rounds)} to {max(rounds)} rounds a
case ({ITS_ROUNDS} for what is {OUT_OF_RACE} times slower than the fastest), calls under
{LEAST_SECONDS * 1e3:.0f} ms several times a turn. A time is a median over rounds; a ratio is the
median of the ratios within rounds. The median case's ratios have a middle half of ±{spread:.0%}:
one as near to 1 as that is a draw. One-thread cases run in a process pinned to one core. "Peak" is
this machine's own matrix product, the faster of NumPy's and torch's, in the same rounds, on as many
threads.""",
        PEERS_NOTE,
        "\n".join([f"- {date.today().isoformat()}, {machine()}", *peaks, versions(runs)]),
        "To reproduce: `make bench`; or `python benchmarks/report.py`, with the peers installed.",
    ]


PEERS_NOTE = """torch packed is `pack_padded_sequence`, the module, `pad_packed_sequence`; torch
padded computes the padding, and is in only where outputs up to each length are right (one
direction, or equal lengths). ONNX Runtime has one graph for all layers, with `sequence_lens`; its
operators have no float64 and no projection. NumPy is a masked loop over the steps.
packseq on BLAS is what it does on machines without kernels ("over BLAS": what the kernels gain).
Where all
lengths are equal, only torch packed is told them. A first state is passed, and the last one asked
of ONNX Runtime, only in the one-step cases."""


def machine():
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].split(":")[1].strip() if names else model
    return f"{model}, {usable_cores()} cores, {platform.system()} {platform.machine()}"


def versions(runs):
    found = [f"Python {platform.python_version()}"]
    found += [f"packseq {packseq.__version__} ({runs[0].kernels} kernels)"]
    for name in ("numpy", "scipy", "torch", "onnxruntime"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed: left out")
    return "- " + ", ".join(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.5, help="per case and number of threads")
    parser.add_argument("--output", type=Path, default=HERE.parent / "docs")
    options = parser.parse_args()
    threads, seconds = sorted({1, usable_cores()}), str(options.seconds)
    measured = {n: json_of("measure.py", str(n), seconds) for n in threads}
    runs = [Run(m, TARGETS[n > 1]) for n, m in measured.items()]
    of_cases = f"{options.seconds * PRECISION_SECONDS:g}"
    precisions = json_of("precisions.py", "--seconds", of_cases)["cases"]
    report = write_report(runs, measured[1]["decay"], measured[1]["layout"], precisions)
    options.output.mkdir(exist_ok=True)
    (options.output / f"{file_name(runs)}.md").write_text(report)
    draw(runs, options.output / f"{file_name(runs)}.png")
    precision_page.draw(precisions, options.output / f"{file_name(runs)}-precision.png")


if __name__ == "__main__":
    main()
