"""What ``precisions.py`` measured as a table in Markdown, and a picture of speed against error.

    python benchmarks/precision_page.py lstm.json gru.json --picture docs/precision.png

prints the table of docs/precision.md; the report of ``make bench`` has both too.
"""

import argparse
import json
from math import exp, log
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from picture import save
from timing import ms, table, times_as_fast

OURS = ("int8", "bfloat16")
# Those that each is compared with: of as few bits.
PEERS = {"int8": ("ORT int8", "torch int8"), "bfloat16": ("torch bf16", "OpenVINO bf16")}
MARKS = {
    "int8": ("o", "#1b7a3d"),
    "bfloat16": ("o", "#7fbf7b"),
    "ORT int8": ("D", "#3a6ea5"),
    "torch int8": ("s", "#d1603d"),
    "torch bf16": ("s", "#e8b04b"),
    "OpenVINO bf16": ("D", "#9a7fb8"),
}


# ---- the table ----


def tables(cases):
    """The ratios of all cases with their geometric means, and then the errors.

    `cases` are what ``precisions.measure`` found of each.
    """
    pairs = [(name, other) for name in OURS for other in ("float32", *PEERS[name])]
    head = ["", "float32, ms", *(f"{name} over {other}" for name, other in pairs)]
    rows = [[case["name"], ms(case["seconds"]["float32"])] for case in cases]
    for row, case in zip(rows, cases, strict=True):
        row += [shown(ratio_of(case, *pair)) for pair in pairs]
    for cell in dict.fromkeys(case["cell"] for case in cases):
        own = [case for case in cases if case["cell"] == cell]
        means = [shown(mean_of([ratio_of(case, *pair) for case in own])) for pair in pairs]
        rows.append([f"**{cell}, geometric mean**", "", *means])
    errors = [["", *MARKS]]
    for case in cases:
        found = (case["errors"].get(name, ()) for name in MARKS)
        errors.append([case["name"], *(", ".join(f"{e:.0e}" for e in each) for each in found)])
    return "\n\n".join([table([head, *rows]), ERRORS, table(errors), *left_out(cases)])


ERRORS = "The largest and the mean difference from float32, over real steps:"


def ratio_of(case, name, other):
    """How many times as fast `name` is as `other`; None where one has no such case."""
    seconds = case["seconds"]
    both = name in seconds and other in seconds
    return times_as_fast(seconds, name, other) if both else None


def mean_of(ratios):
    known = [ratio for ratio in ratios if ratio is not None]
    return exp(sum(map(log, known)) / len(known)) if known else None


def shown(ratio):
    if ratio is None:
        return ""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def left_out(cases):
    """A line on what was not timed, if there is any."""
    wrong = [f"{', '.join(case['wrong'])} ({case['name']})" for case in cases if case["wrong"]]
    return [f"Left out for a wrong answer: {'; '.join(wrong)}."] if wrong else []


# ---- the picture ----


def draw(cases, path):
    """A panel for each cell: a small mark for each case, a large one for the means of all."""
    cells = list(dict.fromkeys(case["cell"] for case in cases))
    size = (10, 4.6)
    figure, axes = plt.subplots(1, len(cells), sharey=True, squeeze=False, figsize=size, dpi=90)
    for axis, cell in zip(axes[0], cells, strict=True):
        _panel(axis, [case for case in cases if case["cell"] == cell])
        axis.set_title(cell, fontsize=10)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False)
    figure.supxlabel("mean difference from float32 (log scale): less is better", fontsize=10)
    axes[0][0].set_ylabel("times as fast as packseq's float32 (log scale)")
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    save(figure, path)
    plt.close(figure)


def _panel(axis, cases):
    for name, (mark, color) in MARKS.items():
        own = [case for case in cases if name in case["seconds"]]
        if not own:
            continue
        errors = [case["errors"][name][1] for case in own]
        ratios = [ratio_of(case, name, "float32") for case in own]
        look = {"marker": mark, "color": color, "linewidth": 0}
        axis.scatter(errors, ratios, s=14, alpha=0.55, **look)
        axis.scatter([mean_of(errors)], [mean_of(ratios)], s=110, label=name, zorder=3, **look)
    axis.axhline(1, color="black", linewidth=1)
    axis.set_xscale("log")
    axis.set_yscale("log")
    ticks = ["0.05", "0.1", "0.2", "0.5", "1", "2", "4", "8"]
    axis.set_yticks([float(tick) for tick in ticks], ticks)
    axis.minorticks_off()
    axis.grid(color="#dddddd", linewidth=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measured", type=Path, nargs="+")
    parser.add_argument("--picture", type=Path, required=True)
    options = parser.parse_args()
    runs = [json.loads(path.read_text()) for path in options.measured]
    cases = [case for run in runs for case in run["cases"]]
    draw(cases, options.picture)
    rounds = [median(map(len, case["seconds"].values())) for case in cases]
    print(f"{runs[0]['kernels']}, {runs[0]['versions']}, {min(rounds):g} rounds or more\n")
    print(tables(cases))


if __name__ == "__main__":
    main()
