"""Pictures of a batch, padded and packed, by matplotlib."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from packseq.costs import Savings, as_counts, savings
from packseq.optional import load
from packseq.packed import PackedSequence
from packseq.rows.plan import IndexArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes: TypeAlias = Any

# A picture has at most so many cells either way; larger batches are thinned evenly.
_MOST_CELLS = 400
# Up to so many, cells are told apart by lines.
_MOST_LINES = 32
# Numbers along an axis.
_MOST_LABELS = 12

# tab10's colours but the grey one, which would look like padding.
_FEW = np.array([0, 1, 2, 3, 4, 5, 6, 8, 9])
# Grey on any background, light or dark.
_PADDING = (0.5, 0.5, 0.5, 0.25)
_NOTHING = (0.5, 0.5, 0.5, 0.0)

# Of a text's size, a character is so wide; a drawing of less than so many inches has smaller text.
_CHARACTER = 0.6
_FULL_WIDTH = 6.0
_LEAST_SCALE = 0.65


def plot_packing(lengths_or_packed: ArrayLike | PackedSequence, ax: Axes | None = None) -> Axes:
    """Draw a batch as padded rows and, beside them, as packed time steps.

    Parameters
    ----------
    lengths_or_packed : array_like of int, shape (B,), or PackedSequence
        At least one sequence. Beyond 400 sequences or steps, an even choice of them is drawn.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure's by default.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`, which holds the two halves. Sequences keep their colour in both, and the packed half
        has the batch sizes along its axis.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    TypeError, ValueError
        The lengths are not integers, negative, or none.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> figure, ax = plt.subplots(figsize=(9, 3.4), layout="constrained")
    >>> _ = plot_packing([4, 6, 8, 5, 4, 3, 7, 8], ax)
    >>> figure.savefig("packing.png")
    >>> plt.close(figure)
    """
    lengths = _as_batch(lengths_or_packed)
    pyplot = load("matplotlib.pyplot", "plot")
    # No plan of the batch, whose memory is that of a step for each step: there are no rows here.
    batch_size, longest = len(lengths), int(lengths.max())
    order = np.argsort(-lengths, kind="stable")
    if ax is None:
        ax = pyplot.figure(figsize=(9, 3.4), layout="constrained").add_subplot()
    ax.set_axis_off()
    saved = savings(lengths)
    colours = _colours(batch_size)
    steps = _thinned(longest)
    rows = _thinned(batch_size)
    room = _Room.of(ax)

    padded, packed = (ax.inset_axes(place) for place in room.halves())
    for half, sequences, rest in ((padded, rows, _PADDING), (packed, order[rows], _NOTHING)):
        picture = np.where(
            (lengths[sequences, None] > steps)[..., None],
            colours[sequences, None],
            np.array(rest),
        )
        _draw(half, picture, batch_size, longest, room)
    _describe(padded, packed, saved, room)
    packed.set_yticks([])
    ticks = _labelled(longest, room.labels(_short(batch_size)))
    packed.set_xticks(ticks, [_short(int(np.count_nonzero(lengths > tick))) for tick in ticks])
    for side in ("top", "right"):
        packed.spines[side].set_visible(False)
    return ax


@dataclass(frozen=True, slots=True)
class _Room:
    """What a drawing has room for: `width` is in inches, `scale` and `text` the size of text."""

    width: float
    scale: float
    text: float

    @classmethod
    def of(cls, ax: Axes) -> _Room:
        width = ax.get_window_extent().width / ax.figure.dpi
        scale = min(1.0, max(_LEAST_SCALE, width / _FULL_WIDTH))
        return cls(width, scale, scale * load("matplotlib", "plot").rcParams["font.size"])

    def halves(self) -> list[tuple[float, float, float, float]]:
        """Places side by side for two pictures, and between them for a label."""
        gap = min(0.3, max(0.06, 0.35 / self.width)) if self.width else 0.06
        return [(left, 0.0, (1 - gap) / 2, 0.88) for left in (0.0, (1 + gap) / 2)]

    @property
    def half(self) -> float:
        """The points across a picture, which text may be of."""
        return 72 * self.width * self.halves()[0][2]

    def fits(self, text: str) -> bool:
        return len(text) * _CHARACTER * self.text <= self.half

    def labels(self, longest: str) -> int:
        """How many numbers may stand below a picture, where none is longer than this one."""
        return max(2, int(self.half / ((len(longest) + 1.5) * _CHARACTER * self.text)))


def _describe(padded: Axes, packed: Axes, saved: Savings, room: _Room) -> None:
    """Titles and the words along the axes."""
    titles = [
        f"padded: {saved.padded.steps:,} steps",
        f"packed: {saved.packed.steps:,} steps, {saved.waste:.0%} saved",
    ]
    if not all(map(room.fits, titles)):
        titles = [title.replace(": ", ":\n") for title in titles]
    sizes = "batch_sizes, step by step"
    for half, title, below, beside in (
        (padded, titles[0], "step", "sequence, as given"),
        (packed, titles[1], sizes if room.fits(sizes) else "batch_sizes", "longest first"),
    ):
        half.set_title(title, fontsize=room.text)
        half.set_xlabel(below, fontsize=room.text)
        half.set_ylabel(beside, fontsize=room.text)


def plot_savings(lengths: ArrayLike | PackedSequence, ax: Axes | None = None) -> Axes:
    """Draw how much of a padded data set is padding, against the batch size.

    Parameters
    ----------
    lengths : array_like of int, shape (n,), or PackedSequence
        Steps of each sequence of a data set, at least one.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure's by default.

    Returns
    -------
    matplotlib.axes.Axes
        With a line for batches in the order given and one for batches of sorted lengths, at the
        powers of 2 up to n, and n.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    TypeError, ValueError
        The lengths are not integers, negative, or none.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> figure, ax = plt.subplots(layout="constrained")
    >>> _ = plot_savings(np.random.default_rng(0).integers(1, 100, 512), ax)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('batch size', 'padding, % of steps')
    >>> plt.close(figure)
    """
    counts = _as_batch(lengths)
    pyplot = load("matplotlib.pyplot", "plot")
    if ax is None:
        ax = pyplot.figure(figsize=(6, 3.4), layout="constrained").add_subplot()
    sizes = [2**k for k in range(len(counts).bit_length()) if 2**k < len(counts)] + [len(counts)]
    # The wider line is seen below the other where both are one.
    for label, values, marker, width in (
        ("as given", counts, "o", 3.0),
        ("sorted", -np.sort(-counts), "s", 1.2),
    ):
        waste = [100 * _waste(values, size) for size in sizes]
        ax.plot(sizes, waste, marker=marker, markersize=2 + width, linewidth=width, label=label)
    room = _Room.of(ax)
    ax.axhline(0, color=ax.xaxis.label.get_color(), alpha=0.6, linestyle="--", label="packed")
    ax.set_xscale("log", base=2)
    shown = _far_apart(sizes, room.labels(_short(sizes[-1])))
    ax.set_xticks(shown, [_short(size) for size in shown])
    ax.tick_params(labelsize=room.text)
    ax.minorticks_off()
    ax.set_xmargin(0.07)  # room for the last size below its point
    ax.set_ylim(-4, 104)
    ax.set_xlabel("batch size", fontsize=room.text)
    ax.set_ylabel("padding, % of steps", fontsize=room.text)
    # Above, where no curve is.
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3,
        frameon=False,
        fontsize=room.text,
        handlelength=1.5,
        columnspacing=1.2,
    )
    return ax


def _far_apart(sizes: list[int], half: int) -> list[int]:
    """Sizes, the last among them, that have room on a logarithmic axis: twice as many as across
    half of a drawing."""
    last = sizes[-1]
    gap = math.log2(last) / (2 * half)
    shown: list[int] = []
    for size in sizes[:-1]:
        if (not shown or math.log2(size / shown[-1]) >= gap) and math.log2(last / size) >= gap:
            shown.append(size)
    return [*shown, last]


def _as_batch(lengths: ArrayLike | PackedSequence) -> IndexArray:
    counts = as_counts(lengths)
    if len(counts) == 0:
        raise ValueError("lengths must be of at least one sequence to be drawn, got none")
    return counts


def _waste(counts: IndexArray, size: int) -> float:
    """The padding in batches of `size` neighbours, as a fraction."""
    longest = np.maximum.reduceat(counts, np.arange(0, len(counts), size))
    sizes = np.diff([*range(0, len(counts), size), len(counts)])
    padded = sum((longest * sizes).tolist())
    return 1 - sum(counts.tolist()) / padded if padded else 0.0


def _colours(batch_size: int) -> NDArray[np.float64]:
    """(B, 4): of each of the caller's sequences, by its place among all."""
    colormaps = load("matplotlib", "plot").colormaps
    if batch_size <= len(_FEW):
        return np.asarray(colormaps["tab10"](_FEW[:batch_size]))
    return np.asarray(colormaps["turbo"](np.linspace(0.05, 0.95, batch_size)))


def _draw(ax: Axes, picture: NDArray[np.float64], B: int, T: int, room: _Room) -> None:
    if T:
        extent = (-0.5, T - 0.5, B - 0.5, -0.5)
        ax.imshow(picture, extent=extent, aspect="auto", interpolation="nearest")
    ax.set_xlim(-0.5, max(T, 1) - 0.5)
    ax.set_ylim(B - 0.5, -0.5)
    if max(B, T) <= _MOST_LINES:
        lines = {"color": ax.get_facecolor(), "linewidth": 1.5 * room.scale}
        ax.vlines(np.arange(T + 1) - 0.5, -0.5, B - 0.5, **lines)
        ax.hlines(np.arange(B + 1) - 0.5, -0.5, T - 0.5, **lines)
    ax.locator_params(axis="x", integer=True, nbins=min(6, room.labels(_short(T))))
    ax.locator_params(axis="y", integer=True, nbins=6)
    if min(_MOST_LABELS, room.labels(_short(T))) >= T:
        ax.set_xticks(np.arange(T))
    if B <= _MOST_LABELS:
        ax.set_yticks(np.arange(B))
    ax.tick_params(length=2, labelsize=0.85 * room.text)


def _thinned(count: int) -> IndexArray:
    """All of `count`, or an even choice."""
    shown = min(count, _MOST_CELLS)
    # In Python's integers: the product may be beyond int64.
    return np.array([k * count // shown for k in range(shown)], np.int64)


def _labelled(count: int, room: int) -> IndexArray:
    """Where to write a number: at every place if there is room, else at up to five."""
    if count <= min(_MOST_LABELS, room):
        return np.arange(count)
    last = min(5, room) - 1
    return np.array([(k * (count - 1) + last // 2) // last for k in range(last + 1)], np.int64)


def _short(number: int) -> str:
    return f"{number:,}"
