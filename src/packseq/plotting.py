"""Pictures of a batch, padded and packed, by matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from packseq.costs import as_counts, savings
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
_PADDING = (0.93, 0.93, 0.93, 1.0)
_NOTHING = (1.0, 1.0, 1.0, 0.0)


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
    picture = np.where(
        (lengths[rows, None] > steps)[..., None], colours[rows, None], np.array(_PADDING)
    )
    half = ax.inset_axes((0.0, 0.0, 0.47, 0.88))
    _draw(half, picture, batch_size, longest)
    half.set_title(f"padded: {saved.padded.steps:,} steps", fontsize="medium")
    half.set_xlabel("step")
    half.set_ylabel("sequence, as given")

    picture = np.where(
        (lengths[order[rows], None] > steps)[..., None],
        colours[order[rows], None],
        np.array(_NOTHING),
    )
    half = ax.inset_axes((0.53, 0.0, 0.47, 0.88))
    _draw(half, picture, batch_size, longest)
    half.set_title(
        f"packed: {saved.packed.steps:,} steps, {saved.waste:.0%} saved", fontsize="medium"
    )
    half.set_xlabel("batch_sizes, step by step")
    half.set_yticks([])
    half.set_ylabel("longest first")
    ticks = _labelled(longest)
    half.set_xticks(ticks, [_short(int(np.count_nonzero(lengths > tick))) for tick in ticks])
    for side in ("top", "right"):
        half.spines[side].set_visible(False)
    return ax


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
    for label, values, marker in (
        ("in the order given", counts, "o"),
        ("sorted by length", -np.sort(-counts), "s"),
    ):
        waste = [100 * _waste(values, size) for size in sizes]
        ax.plot(sizes, waste, marker=marker, markersize=4, label=label)
    ax.axhline(0, color="0.3", linestyle="--", label="packed")
    ax.set_xscale("log", base=2)
    shown = sizes[:: 1 + len(sizes) // 10]
    ax.set_xticks(shown, [_short(size) for size in shown])
    ax.minorticks_off()
    ax.set_xmargin(0.07)  # room for the last size below its point
    ax.set_ylim(-4, 104)
    ax.set_xlabel("batch size")
    ax.set_ylabel("padding, % of steps")
    ax.legend(frameon=False)
    return ax


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


def _draw(ax: Axes, picture: NDArray[np.float64], B: int, T: int) -> None:
    if T:
        extent = (-0.5, T - 0.5, B - 0.5, -0.5)
        ax.imshow(picture, extent=extent, aspect="auto", interpolation="nearest")
    ax.set_xlim(-0.5, max(T, 1) - 0.5)
    ax.set_ylim(B - 0.5, -0.5)
    if max(B, T) <= _MOST_LINES:
        ax.vlines(np.arange(T + 1) - 0.5, -0.5, B - 0.5, color="white", linewidth=1.5)
        ax.hlines(np.arange(B + 1) - 0.5, -0.5, T - 0.5, color="white", linewidth=1.5)
    ax.locator_params(integer=True, nbins=6)
    if T <= _MOST_LABELS:
        ax.set_xticks(np.arange(T))
    if B <= _MOST_LABELS:
        ax.set_yticks(np.arange(B))
    ax.tick_params(length=2, labelsize="small")


def _thinned(count: int) -> IndexArray:
    """All of `count`, or an even choice."""
    shown = min(count, _MOST_CELLS)
    # In Python's integers: the product may be beyond int64.
    return np.array([k * count // shown for k in range(shown)], np.int64)


def _labelled(count: int) -> IndexArray:
    """Where to write a number: at every place if there is room, else at five."""
    if count <= _MOST_LABELS:
        return np.arange(count)
    return np.array([(k * (count - 1) + 2) // 4 for k in range(5)], np.int64)


def _short(number: int) -> str:
    return f"{number:,}"
