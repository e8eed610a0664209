"""Functions that make one packed batch of several, or of several steps one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, SupportsIndex

from packseq.checks import INT64_MAX, as_integer
from packseq.packed import PackedSequence, check_packed
from packseq.rows import joining, moving


def concatenate(
    sequences: Iterable[PackedSequence], axis: SupportsIndex | Literal["time"] = -1
) -> PackedSequence:
    """Join packed batches along their features, as batches, or in time.

    Parameters
    ----------
    sequences : list of PackedSequence
        At least one. Their dtypes are promoted as NumPy does; their rows agree in shape but along
        a joined axis.
    axis : int or "time"
        An axis of ``data`` but the first: rows are joined, and the batches must share one layout.
        0: the sequences of each batch follow those of the one before. "time": each sequence is
        followed by the same one of the next batch.

    Returns
    -------
    PackedSequence
        Always a copy.

    Raises
    ------
    TypeError
        One is no PackedSequence; dtypes have no common one; `axis` is neither.
    ValueError
        There are none; shapes, batch sizes or layouts differ where they must not; rows have no
        such axis. The message names the position.

    Notes
    -----
    Cost: one copy of all rows.

    Examples
    --------
    >>> p = pack_sequence([np.array([[1], [2]]), np.array([[3]])])
    >>> concatenate([p, 10 * p])[0]
    array([[ 1, 10],
           [ 2, 20]])
    >>> concatenate([p, p], axis=0).lengths
    array([2, 1, 2, 1])
    >>> concatenate([p, 10 * p], axis="time")[1]
    array([[ 3],
           [30]])
    """
    pairs = [(part._array, part._plan) for part in _as_packed(sequences)]
    return PackedSequence._of(*joining.join(pairs, axis, "sequences"))


def windows(
    sequence: PackedSequence, size: SupportsIndex, step: SupportsIndex = 1
) -> PackedSequence:
    """Frame each sequence: every step of the result is a window of `size` steps.

    Parameters
    ----------
    sequence : PackedSequence
        Rows of shape (*).
    size : int
        Steps in a window, at least 1.
    step : int
        From one window's start to the next, at least 1.

    Returns
    -------
    PackedSequence
        Rows of shape (size, *): a sequence of L steps has ``(L - size) // step + 1`` windows, and
        none if it is shorter than one. A copy.

    Raises
    ------
    TypeError
        `sequence` is no PackedSequence; `size` or `step` is no integer.
    ValueError
        `size` or `step` is less than 1; windows of `size` are of more bytes than int64 counts.

    Notes
    -----
    Cost: one write of `size` rows a window.
    Source: numpy.lib.stride_tricks.sliding_window_view, torch.Tensor.unfold; within each sequence.

    Examples
    --------
    >>> p = pack_sequence([np.array([1, 2, 3, 4]), np.array([5, 6])])
    >>> windows(p, size=3)[0]
    array([[1, 2, 3],
           [2, 3, 4]])
    >>> windows(p, size=3).lengths
    array([2, 0])
    """
    check_packed(sequence, "sequence")
    steps = [as_integer(size, "size"), as_integer(step, "step")]
    for name, value in zip(("size", "step"), steps, strict=True):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if steps[0] > INT64_MAX:
        raise ValueError(f"size must be within int64, got {steps[0]}")
    # A stride beyond the longest sequence reaches no second window, however long it is.
    stride = min(steps[1], max(sequence.max_length, 1))
    return PackedSequence._of(*moving.windows(sequence._array, sequence._plan, steps[0], stride))


def _as_packed(sequences: Iterable[PackedSequence]) -> list[PackedSequence]:
    if isinstance(sequences, PackedSequence) or not isinstance(sequences, Iterable):
        raise TypeError(
            f"sequences must be a list of PackedSequence, got {type(sequences).__name__}"
        )
    parts = [*sequences]
    if not parts:
        raise ValueError("sequences must hold at least one PackedSequence, got none")
    for k, part in enumerate(parts):
        check_packed(part, f"sequences[{k}]")
    return parts
