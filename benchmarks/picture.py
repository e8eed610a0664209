"""The report's picture: one line per case, one mark per peer, one panel per number of threads."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

MARKS = {
    "torch packed": ("o", "#d1603d"),
    "torch padded": ("s", "#e8b04b"),
    "ONNX Runtime": ("D", "#3a6ea5"),
    "NumPy": ("|", "#888888"),
}
NEAREST, FARTHEST = 0.5, 30  # what lies beyond is drawn there


def draw(runs, path):
    """`runs` are report.Run, with the same cases in the same order."""
    count = len(runs[0].results)
    size = (5 + 3.5 * len(runs), 1.6 + 0.2 * count)
    figure, axes = plt.subplots(1, len(runs), sharey=True, squeeze=False, figsize=size, dpi=90)
    for axis, run in zip(axes[0], runs, strict=True):
        _panel(axis, run)
    first = axes[0][0]
    first.set_yticks(range(count), [result.case.name for result in runs[0].results], fontsize=8)
    first.set_ylim(count - 0.4, -0.6)
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False)
    words = "packseq is so many times as fast (log scale); a bar ends at the fastest peer"
    figure.supxlabel(f"{words}; what is beyond {FARTHEST} is drawn there", fontsize=10)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / figure.get_figheight()))
    save(figure, path)
    plt.close(figure)


def save(figure, path):
    """As a PNG of 64 colours: half the bytes."""
    figure.canvas.draw()
    pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    pixels.quantize(64).save(path, optimize=True)


def _panel(axis, run):
    for peer, (mark, color) in MARKS.items():
        points = [(r.ratios[peer], y) for y, r in enumerate(run.results) if peer in r.ratios]
        if points:
            x, y = zip(*points, strict=True)
            x = [min(max(ratio, NEAREST), FARTHEST) for ratio in x]
            axis.scatter(x, y, marker=mark, s=26, color=color, label=peer, zorder=3)
    for y, result in enumerate(run.results):
        end = max(result.ratio, NEAREST)
        axis.plot([1, end], [y, y], color="#444444" if result.ratio >= 1 else "#cc0000")
    axis.axvline(1, color="black", linewidth=1)
    axis.axvspan(NEAREST * 0.9, 1, color="#cc0000", alpha=0.06, linewidth=0)
    axis.set_xscale("log")
    axis.set_xlim(NEAREST * 0.9, FARTHEST * 1.1)
    ticks = ["0.5", "1", "2", "5", "10", "20", "30"]
    axis.set_xticks([float(tick) for tick in ticks], ticks)
    axis.minorticks_off()
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.set_title(f"{run.title}: {run.mean_ratio:.2f} times the fastest peer", fontsize=10)
