"""Checks of arguments that are arrays, or that say how one is cut, with errors that name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from packseq.checks import INT64_MAX, as_array, as_integer, kind_of, shown
from packseq.tensor_checks import as_host_integers, as_tensor, is_tensor


def as_data(values: ArrayLike, name: str) -> NDArray[Any]:
    """View `values` as an array whose rows are plain bytes, or raise an error that names `name`.

    The view is a new one: whoever has `values` may reshape it in place while a call goes on.

    A torch tensor stays one: what is read here of an array, tensors have under the same names.

    Raises
    ------
    TypeError
        Masked, or of a dtype that holds Python objects; a tensor that is sparse or nested.
    ValueError
        Nested sequences that are ragged.
    """
    if type(values) is np.ndarray and not values.dtype.hasobject:
        return values[...]
    if is_tensor(values):
        tensor: NDArray[Any] = as_tensor(values, name)
        return tensor
    array = as_array(values, name)
    if array.dtype.hasobject:
        raise TypeError(f"{name} must not hold Python objects, got dtype {array.dtype}")
    return array


def as_numpy_data(values: ArrayLike, name: str) -> NDArray[Any]:
    """:func:`as_data` for what goes with rows of NumPy alone: a torch tensor is refused.

    Raises
    ------
    TypeError, ValueError
        As for :func:`as_data`; a tensor.
    """
    if is_tensor(values):
        raise TypeError(f"{name} must be an array of NumPy, got a torch tensor: pass its numpy()")
    return as_data(values, name)


def refuse_list_of_arrays(values: object, name: str) -> None:
    """Refuse arrays in a list where one array is wanted: as its first axis they would be steps.

    Lists of numbers in lists are an array; so are numbers that are arrays of no axes.

    Raises
    ------
    TypeError
        A list or tuple holds an array or a tensor, or a list of these, to the third level: T, B, I.
    """
    # torch's PackedSequence is a tuple, and refused by its own name where arrays are taken.
    if isinstance(values, list | tuple) and type(values).__name__ != "PackedSequence":
        place = _place_of_array(values, levels=3)
        if place is not None:
            raise TypeError(
                f"{name} must be one array or tensor, got a {type(values).__name__} that holds "
                f"some ({name}{place}): packseq.pack_sequence makes a batch of sequences, and "
                "numpy.stack or torch.stack one array of what is of one shape"
            )


def _place_of_array(values: Sequence[object], levels: int) -> str | None:
    """The first entry that is an array, by its indices, and what it is; or None."""
    for k, value in enumerate(values):
        if isinstance(value, list | tuple):
            place = _place_of_array(value, levels - 1) if levels > 1 else None
            if place is not None:
                return f"[{k}]{place}"
        elif hasattr(value, "__array__") and getattr(value, "ndim", 1) > 0:
            return f"[{k}] is a {kind_of(value)}"
    return None


def as_int64_vector(values: ArrayLike, name: str) -> NDArray[np.int64]:
    """Copy 1-D integers to a contiguous int64 array, or raise an error that names `name`.

    Booleans and floats are not integers here, whatever their values; an empty list is.

    Raises
    ------
    TypeError
        Masked, no array, or not of integers.
    ValueError
        Not 1-D, ragged, or an entry is beyond int64.
    """
    if is_tensor(values):
        values = as_host_integers(values, name)
    if isinstance(values, list | tuple):
        _check_entries(values, name)
    array = as_array(values, name, "1-D integers")
    if array.ndim == 0 and array.dtype.kind in "OSU":
        raise TypeError(f"{name} must be 1-D integers, got {values!r}")
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {array.shape}")
    if array.size == 0 and not hasattr(values, "dtype"):
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    if array.dtype.kind == "u" and array.size and array.max() > INT64_MAX:
        first = int(np.argmax(array > INT64_MAX))
        raise ValueError(f"{name}[{first}] = {array[first]} is beyond int64 (at most {INT64_MAX})")
    return np.array(array, dtype=np.int64, order="C")


def _check_entries(values: Sequence[object], name: str) -> None:
    """Refuse, by their positions, entries that are no integers, or that NumPy would change."""
    for i, value in enumerate(values):
        if isinstance(value, np.ndarray):
            if value.ndim:
                raise TypeError(f"{name} must be integers, got {name}[{i}], {shown(value)}")
            value = value[()]
        if value is None or isinstance(value, bool | np.bool_ | float | np.floating | str):
            kind = type(value).__name__
            raise TypeError(f"{name} must be integers, got {name}[{i}] = {value!r}, a {kind}")
        if isinstance(value, int) and not -INT64_MAX <= value <= INT64_MAX:
            raise ValueError(f"{name}[{i}] = {value} is beyond int64 (at most {INT64_MAX})")


def as_offsets(offsets: ArrayLike, size: int) -> NDArray[np.int64]:
    """Check where each of the sequences starts that lie end to end in `size` rows of values.

    Raises
    ------
    TypeError
        Not integers.
    ValueError
        Empty, beyond the rows, or decreasing.
    """
    checked = as_int64_vector(offsets, "offsets")
    if len(checked) == 0:
        raise ValueError("offsets must have one entry more than there are sequences, got none")
    if len(bad := np.flatnonzero((checked < 0) | (checked > size))):
        raise ValueError(
            f"offsets must be between 0 and {size}, the rows of values, got offsets[{bad[0]}] = "
            f"{checked[bad[0]]}"
        )
    if len(bad := np.flatnonzero(checked[1:] < checked[:-1])):
        b = bad[0]
        raise ValueError(
            f"offsets must not decrease, got offsets[{b + 1}] = {checked[b + 1]} after "
            f"offsets[{b}] = {checked[b]}"
        )
    return checked


def as_axis(axis: SupportsIndex, ndim: int) -> int:
    """Return an axis of rows (N, *) that has `ndim` with N's, which is 0 for the batch.

    Raises
    ------
    TypeError
        Not an integer.
    ValueError
        No axis of such rows.
    """
    place = as_integer(axis, "axis")
    if place == 0 or 0 < place % ndim == place + (ndim if place < 0 else 0) < ndim:
        return place % ndim
    raise ValueError(
        f"axis must be 0, for the batch, or one of the {ndim - 1} axes of a row, got {axis}"
    )


def as_row_axis(axis: SupportsIndex, ndim: int) -> int:
    """Return an axis of a row, of rows (N, *) that have `ndim` with N's, which is none.

    Raises
    ------
    TypeError
        Not an integer.
    ValueError
        No axis of such a row.
    """
    place = as_integer(axis, "axis")
    if 0 < place < ndim or -ndim < place < 0:
        return place % ndim
    raise ValueError(
        f"axis must be one of the {ndim - 1} axes of a row, such as -1, got {axis}: the steps of "
        "each sequence are reduced without an axis"
    )


def as_ends(sizes: Iterable[SupportsIndex], total: int) -> list[int]:
    """Check the sizes that an axis of `total` entries is cut into, and return where each ends.

    Raises
    ------
    TypeError
        No list, or not of integers.
    ValueError
        One is negative, or they do not sum to `total`.
    """
    if not isinstance(sizes, Iterable):
        raise TypeError(f"sizes must be a list of integers, got {sizes!r}")
    checked = [as_integer(size, f"sizes[{k}]") for k, size in enumerate(sizes)]
    for k, size in enumerate(checked):
        if size < 0:
            raise ValueError(f"sizes must not be negative, got sizes[{k}] = {size}")
    ends = [*accumulate(checked)]
    if sum(checked) != total:
        raise ValueError(f"sizes must sum to {total}, the size of the axis, got {sum(checked)}")
    return ends
