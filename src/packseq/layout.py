"""Between padded batches, lists of sequences and packed rows: validate, then move the rows once.

Where a function takes arrays it takes torch tensors too, and then gives tensors on their device,
through the same checks. Lengths are read on the CPU; from a GPU they come by one transfer, for
which the caller waits, as for no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress
from typing import Any, Literal, SupportsIndex, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from packseq._core.order import outside
from packseq._core.rows import alike
from packseq.arguments import as_data, as_int64_vector, refuse_list_of_arrays
from packseq.checks import as_flag, as_integer, check_size
from packseq.packed import PackedSequence, check_packed
from packseq.rows.movers import mover_of
from packseq.rows.plan import IndexArray, Plan
from packseq.tensor_checks import TensorLike, dtype_name, is_tensor

Tensor = TypeVar("Tensor")


def pack_padded_sequence(
    input: ArrayLike,
    lengths: ArrayLike,
    batch_first: bool = False,
    enforce_sorted: bool = False,
) -> PackedSequence:
    """Pack a padded batch into time-major rows, longest sequence first.

    Parameters
    ----------
    input : array_like of shape (T, B, *), or (B, T, *) if batch_first
        Any dtype but object, any strides. Entries past each length are never read.
    lengths : array_like of int, shape (B,)
        Steps per sequence, ``0 <= lengths[b] <= T``, in any order.
    batch_first : bool
        The batch is the first axis of `input`.
    enforce_sorted : bool
        Refuse lengths that are not non-increasing, rather than sort them.

    Returns
    -------
    PackedSequence
        ``data`` has shape (N, *), N = sum(lengths). Always a copy.

    Raises
    ------
    TypeError
        `input` is masked, of object dtype or a list of arrays; `lengths` are not integers; a flag
        is not a bool.
    ValueError
        `input` has fewer than two axes; `lengths` are of the wrong count, out of range, or unsorted
        with `enforce_sorted`. The message names the position and the value.

    Notes
    -----
    Cost: one gather of N rows; all of `input` is copied first where the trailing axes of one step
    are not contiguous. Equal lengths keep their order.
    Source: torch.nn.utils.rnn.pack_padded_sequence, where `enforce_sorted` is True by default and
    lengths of 0 are refused.

    Examples
    --------
    >>> padded = np.array([[1, 2, 3], [4, 0, 5]])  # two steps of three sequences
    >>> packed = pack_padded_sequence(padded, lengths=[2, 1, 2])
    >>> packed.data, packed.batch_sizes
    (array([1, 3, 2, 4, 5]), array([3, 2]))
    >>> packed[0]
    array([1, 4])
    """
    enforce_sorted = as_flag(enforce_sorted, "enforce_sorted")
    padded = _as_time_major(input, "input", batch_first)
    plan = Plan.from_lengths(as_lengths(lengths, padded, "input"), enforce_sorted)
    check_size((plan.rows, *padded.shape[2:]), padded.dtype)
    return PackedSequence._of(mover_of(padded).gather_padded(padded, plan), plan)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: Any = 0.0,
    total_length: SupportsIndex | None = None,
) -> tuple[NDArray[Any], IndexArray]:
    """Undo :func:`pack_padded_sequence`.

    Parameters
    ----------
    sequence : PackedSequence
    batch_first : bool
        Put the batch on the first axis.
    padding_value : scalar
        What follows the end of each sequence; must be exact in the dtype, but for the rounding of
        floats. The number 0 means the zero of every dtype: an empty string, a struct of zeros.
    total_length : int, optional
        Steps to pad to, at least the longest length, which is the default.

    Returns
    -------
    padded : ndarray of shape (T, B, *), or (B, T, *) if batch_first
        C-contiguous, in the caller's order.
    lengths : ndarray of int64, shape (B,)
        For tensors a tensor too, on the CPU.

    Raises
    ------
    TypeError
        `sequence` is no PackedSequence; `total_length` is no integer; `batch_first` is no bool.
    ValueError
        `total_length` is less than the longest length; `padding_value` does not fit the dtype.

    Notes
    -----
    Cost: one scatter of N rows; the padding is written in the same pass, and nothing twice.
    Source: torch.nn.utils.rnn.pad_packed_sequence.

    Examples
    --------
    >>> packed = pack_sequence([np.array([1, 2]), np.array([3, 4, 5])])
    >>> pad_packed_sequence(packed, batch_first=True, padding_value=-1)
    (array([[ 1,  2, -1],
           [ 3,  4,  5]]), array([2, 3]))
    """
    data, plan = _unwrap(sequence, "sequence")
    batch_first = as_flag(batch_first, "batch_first")
    steps = _as_total_length(total_length, plan.max_length)
    move = mover_of(data)
    padding = move.as_padding(padding_value, data)
    leading = (plan.batch_size, steps) if batch_first else (steps, plan.batch_size)
    check_size((*leading, *data.shape[1:]), data.dtype)
    padded = move.scatter_padded(data, plan, steps, batch_first, padding)
    return padded, move.copy_lengths(plan)


def pack_sequence(sequences: Iterable[ArrayLike], enforce_sorted: bool = False) -> PackedSequence:
    """Pack a list of sequences, straight from each: no padded batch is made.

    Parameters
    ----------
    sequences : list of array_like, each of shape (L, *)
        Of one dtype (any but object) and one trailing shape; any lengths, 0 included, any strides.
        An empty list takes both from the others.
    enforce_sorted : bool
        Refuse sequences that are not longest first, rather than sort them.

    Returns
    -------
    PackedSequence
        ``data`` has shape (N, *), N the sum of the lengths. Always a copy.

    Raises
    ------
    TypeError
        A sequence is masked or of object dtype; `enforce_sorted` is no bool.
    ValueError
        There are no sequences; one is a scalar, or differs from the first in dtype or trailing
        shape; they are unsorted with `enforce_sorted`. The message names the position.

    Notes
    -----
    Cost: one gather of N rows and about a microsecond a sequence; a sequence is copied first where
    the trailing axes of one step are not contiguous.
    Source: torch.nn.utils.rnn.pack_sequence, where `enforce_sorted` is True by default.

    Examples
    --------
    >>> packed = pack_sequence([np.array([1, 2]), np.array([3, 4, 5])])
    >>> packed
    PackedSequence(2 sequences of 2 to 3 steps, data (5,) int64)
    >>> packed.data
    array([3, 1, 4, 2, 5])
    """
    return pack_named(sequences, "sequences", as_flag(enforce_sorted, "enforce_sorted"))


def pack_named(
    sequences: Iterable[ArrayLike], name: str, enforce_sorted: bool = False
) -> PackedSequence:
    """:func:`pack_sequence` of an argument of another name."""
    arrays = _as_sequences(sequences, name)
    plan = Plan.from_lengths(np.array([len(array) for array in arrays], np.int64), enforce_sorted)
    check_size((plan.rows, *arrays[0].shape[1:]), arrays[0].dtype)
    return PackedSequence._of(mover_of(arrays[0]).gather_sequences(arrays, plan), plan)


def unpack_sequence(packed_sequences: PackedSequence) -> list[NDArray[Any]]:
    """Undo :func:`pack_sequence`: no padded batch is made.

    Parameters
    ----------
    packed_sequences : PackedSequence

    Returns
    -------
    list of ndarray, each of shape (L, *)
        In the caller's order: neighbouring views of one new buffer of N rows, ``result[0].base``,
        which lives for as long as any of them does.

    Raises
    ------
    TypeError
        `packed_sequences` is no PackedSequence.

    Notes
    -----
    Cost: one scatter of N rows and one allocation.
    Source: torch.nn.utils.rnn.unpack_sequence.

    Examples
    --------
    >>> unpack_sequence(pack_sequence([np.array([1, 2]), np.array([3, 4, 5])]))
    [array([1, 2]), array([3, 4, 5])]
    """
    data, plan = _unwrap(packed_sequences, "packed_sequences")
    sequences: list[NDArray[Any]] = mover_of(data).scatter_sequences(data, plan)
    return sequences


@overload
def pad_sequence(
    sequences: Iterable[TensorLike[Tensor]],
    batch_first: bool = False,
    padding_value: Any = 0.0,
    padding_side: Literal["right", "left"] = "right",
) -> Tensor: ...
@overload
def pad_sequence(
    sequences: Iterable[ArrayLike],
    batch_first: bool = False,
    padding_value: Any = 0.0,
    padding_side: Literal["right", "left"] = "right",
) -> NDArray[Any]: ...
def pad_sequence(
    sequences: Iterable[Any],
    batch_first: bool = False,
    padding_value: Any = 0.0,
    padding_side: Literal["right", "left"] = "right",
) -> Any:
    """Stack a list of sequences, padded to the longest.

    Parameters
    ----------
    sequences : list of array_like, each of shape (L, *)
        Of one dtype (any but object) and one trailing shape, which an empty list takes from the
        others.
    batch_first : bool
        Put the batch on the first axis.
    padding_value : scalar
        As for :func:`pad_packed_sequence`.
    padding_side : {"right", "left"}
        Pad after the end of each sequence or before its start.

    Returns
    -------
    ndarray of shape (T, B, *), or (B, T, *) if batch_first

    Raises
    ------
    TypeError
        A sequence is masked or of object dtype; `batch_first` is no bool.
    ValueError
        As for :func:`pack_sequence`; `padding_side` is neither; `padding_value` does not fit the
        dtype.

    Notes
    -----
    Cost: one pass over the T * B rows of the result.
    Source: torch.nn.utils.rnn.pad_sequence.

    Examples
    --------
    >>> pad_sequence([np.array([1, 2]), np.array([3, 4, 5])], batch_first=True)
    array([[1, 2, 0],
           [3, 4, 5]])
    >>> pad_sequence([np.array([1, 2]), np.array([3, 4, 5])], padding_side="left").T
    array([[0, 1, 2],
           [3, 4, 5]])
    """
    batch_first = as_flag(batch_first, "batch_first")
    arrays = _as_sequences(sequences, "sequences")
    if padding_side not in ("right", "left"):
        raise ValueError(f"padding_side must be 'right' or 'left', got {padding_side!r}")
    first = arrays[0]
    steps = max(map(len, arrays))
    move = mover_of(first)
    padding = move.as_padding(padding_value, first)
    leading = (len(arrays), steps) if batch_first else (steps, len(arrays))
    check_size((*leading, *first.shape[1:]), first.dtype)
    padded: NDArray[Any] = move.stack(arrays, steps, batch_first, padding_side == "left", padding)
    return padded


@overload
def unpad_sequence(
    padded_sequences: TensorLike[Tensor], lengths: ArrayLike, batch_first: bool = False
) -> list[Tensor]: ...
@overload
def unpad_sequence(
    padded_sequences: ArrayLike, lengths: ArrayLike, batch_first: bool = False
) -> list[NDArray[Any]]: ...
def unpad_sequence(
    padded_sequences: Any, lengths: ArrayLike, batch_first: bool = False
) -> list[Any]:
    """Undo :func:`pad_sequence` with padding on the right.

    Parameters
    ----------
    padded_sequences : array_like of shape (T, B, *), or (B, T, *) if batch_first
        Any dtype but object, any strides.
    lengths : array_like of int, shape (B,)
        Steps per sequence, ``0 <= lengths[b] <= T``.
    batch_first : bool
        The batch is the first axis of `padded_sequences`.

    Returns
    -------
    list of ndarray, each of shape (L, *)
        Copies, as torch's are: a view would keep the padding in memory. Tensors are views of one
        new buffer of N rows.

    Raises
    ------
    TypeError, ValueError
        As for :func:`pack_padded_sequence`.

    Notes
    -----
    Cost: one pass over N rows, and an allocation a sequence.
    Source: torch.nn.utils.rnn.unpad_sequence.

    Examples
    --------
    >>> unpad_sequence(np.array([[1, 2, 0], [3, 4, 5]]), [2, 3], batch_first=True)
    [array([1, 2]), array([3, 4, 5])]
    """
    padded = _as_time_major(padded_sequences, "padded_sequences", batch_first)
    ends = as_lengths(lengths, padded, "padded_sequences")
    sequences: list[NDArray[Any]] = mover_of(padded).split(padded, ends)
    return sequences


# ---- what is checked ----


def _as_time_major(values: ArrayLike, name: str, batch_first: bool) -> NDArray[Any]:
    """View a padded batch as (T, B, *)."""
    batch_first = as_flag(batch_first, "batch_first")
    refuse_list_of_arrays(values, name)
    array = as_data(values, name)
    if array.ndim < 2:
        axes = "(B, T, *)" if batch_first else "(T, B, *)"
        raise ValueError(f"{name} must have shape {axes}, got {tuple(array.shape)}")
    return array.swapaxes(0, 1) if batch_first else array


def as_lengths(lengths: ArrayLike, padded: NDArray[Any], name: str) -> IndexArray:
    """Return int64 lengths that fit a (T, B, *) batch, as does their sum int64."""
    steps, batch_size = padded.shape[:2]
    array = as_int64_vector(lengths, "lengths")
    if len(array) != batch_size:
        raise ValueError(
            f"lengths has {len(array)} entries, but {name} has a batch of {batch_size}"
        )
    bad = outside(array, steps)
    if bad >= 0:
        raise ValueError(
            f"lengths must be between 0 and {steps}, the steps of {name}, got "
            f"lengths[{bad}] = {array[bad]}"
        )
    return array


def _as_sequences(sequences: Iterable[ArrayLike], name: str) -> list[NDArray[Any]]:
    """Return at least one array, all of one dtype and trailing shape."""
    if type(sequences) is list:
        listed: list[Any] = [*sequences]  # another thread may change the caller's
        views = alike(listed)
        if views is not None:
            return views
        sequences = listed
    if not isinstance(sequences, Iterable) or isinstance(sequences, PackedSequence | Mapping | str):
        raise TypeError(f"{name} must be a list of arrays, got {type(sequences).__name__}")
    arrays = _listed(sequences, name)
    if not arrays:
        raise ValueError(f"{name} must hold at least one sequence, got none")
    first = arrays[0]
    for b, array in enumerate(arrays):
        if array.ndim == 0:
            raise ValueError(f"{name}[{b}] must have shape (L, *), got a scalar")
        if array.device != first.device:
            raise ValueError(
                f"{name} must share one device: {name}[{b}] is {_place(array)}, "
                f"{name}[0] is {_place(first)}"
            )
        if array.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"{name} must share one trailing shape: {name}[{b}] has "
                f"{tuple(array.shape[1:])}, {name}[0] has {tuple(first.shape[1:])}"
            )
        if array.dtype != first.dtype:
            raise ValueError(
                f"{name} must share one dtype: {name}[{b}] has {dtype_name(array)}, "
                f"{name}[0] has {dtype_name(first)}"
            )
    return arrays


def _listed(sequences: Iterable[ArrayLike], name: str) -> list[NDArray[Any]]:
    """Arrays of what is array_like: an empty list says no dtype or shape, and takes the others'."""
    values = [*sequences]
    arrays = [as_data(value, f"{name}[{b}]") for b, value in enumerate(values)]
    tells = [not isinstance(value, list | tuple) or len(value) > 0 for value in values]
    model = next(compress(arrays, tells), None)
    if model is None or model.ndim == 0:
        return arrays
    return [array if told else model[:0] for array, told in zip(arrays, tells, strict=True)]


def _place(array: NDArray[Any]) -> str:
    return f"a tensor on {array.device}" if is_tensor(array) else "an ndarray"


def _unwrap(packed: PackedSequence, name: str) -> tuple[NDArray[Any], Plan]:
    check_packed(packed, name)
    return packed.data, packed._plan


def _as_total_length(total_length: SupportsIndex | None, longest: int) -> int:
    if total_length is None:
        return longest
    steps = as_integer(total_length, "total_length")
    if steps < longest:
        raise ValueError(f"total_length must be at least the longest length {longest}, got {steps}")
    return steps
