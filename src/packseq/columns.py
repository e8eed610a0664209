"""Arrow's columns of sequences, of every list type: where each sequence lies among flat numbers.

Nothing is copied, but where Arrow's layout forces it: bits, nulls, views out of order. What is
wrong with the column is raised; what is wrong with a single sequence is listed, so that who reads
many can pass it over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq.arguments import as_data
from packseq.rows.plan import IndexArray, starts_of

Array = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Lists:
    """The sequences of a chunk of a column.

    Attributes
    ----------
    values : (M,)
        Numbers end to end, contiguous.
    starts, lengths : (B,) int64
        Where in `values` each sequence begins, and its steps: 0 where it is null.
    row_shape : tuple of int, or None
        Of a step; None where no step is there to tell it.
    nulls : (B,) bool
        Which sequences are null.
    faults : dict of int to str
        What is wrong with a sequence that is there, by its place in the chunk. Its rows may lie
        otherwise than `row_shape` says, and must not be read.
    """

    values: Array
    starts: IndexArray
    lengths: IndexArray
    row_shape: tuple[int, ...] | None
    nulls: Mask
    faults: dict[int, str]

    def ragged(self) -> tuple[Array, IndexArray]:
        """Rows (M, *) and offsets (B + 1,), of a chunk without faults."""
        offsets = starts_of(self.lengths)
        return self.values.reshape(int(offsets[-1]), *(self.row_shape or ())), offsets


def chunks_of(pa: ModuleType, column: Any) -> list[Any]:
    """The chunks of a column, at least one, whose type they all have.

    Raises
    ------
    TypeError
        It is no column of Arrow's, nothing that makes one of itself, and no NumPy array of objects.
    """
    if isinstance(column, pa.Array):
        return [column]
    if getattr(column, "dtype", None) == np.dtype(object):  # pandas' too
        return [_of_objects(pa, np.asarray(column))]
    if not isinstance(column, pa.ChunkedArray):
        column = _imported(pa, column)
    # A column of no chunks still has a type, and so rows of a dtype.
    return list(column.chunks) or [pa.array([], column.type)]


def _imported(pa: ModuleType, column: Any) -> Any:
    """A column from whatever has Arrow's interface of capsules."""
    if hasattr(column, "__arrow_c_stream__"):
        return pa.chunked_array(column)
    if hasattr(column, "__arrow_c_array__"):
        return pa.chunked_array([pa.array(column)])
    raise TypeError(
        "column must be a pyarrow Array or ChunkedArray, or have Arrow's __arrow_c_stream__ or "
        f"__arrow_c_array__, got {type(column).__name__}"
    )


def _of_objects(pa: ModuleType, objects: Array) -> Any:
    """Lists of the arrays or lists in a NumPy array of objects; None and NaN are nulls."""
    if objects.ndim != 1:
        raise TypeError(f"column must be 1-D where it holds objects, got shape {objects.shape}")
    rows = [None if _is_missing(value) else value for value in objects]
    there = [row for row in rows if row is not None]
    if there and all(_is_frame(row) and _alike(row, there[0]) for row in there):
        numbers = pa.array(np.concatenate(there).reshape(-1))
        steps = pa.FixedSizeListArray.from_arrays(numbers, there[0].shape[1])
        ends = starts_of(np.array([0 if row is None else len(row) for row in rows], np.int64))
        mask = pa.array([row is None for row in rows])
        return pa.LargeListArray.from_arrays(pa.array(ends), steps, mask=mask)
    # Arrow takes nested lists of vectors, but no matrix.
    return pa.array([list(row) if isinstance(row, np.ndarray) else row for row in rows])


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_frame(row: Any) -> bool:
    """Whether a row is a matrix of numbers, (steps, features)."""
    return (
        type(row) is np.ndarray and row.ndim == 2 and row.shape[1] > 0 and row.dtype.kind in "biuf"
    )


def _alike(row: Array, other: Array) -> bool:
    return row.dtype == other.dtype and row.shape[1:] == other.shape[1:]


def read(pa: ModuleType, chunk: Any, start: int, width: int | None = None) -> Lists:
    """Where the sequences of a chunk lie, the first of which is number `start` of its column.

    Inner lists that Arrow lets vary in size must all have `width` entries, or as many as the first.

    Raises
    ------
    TypeError
        It holds no lists, or lists of what has no fixed size.
    ValueError
        Offsets, sizes or buffers contradict each other.
    """
    _check(pa, chunk, start)
    chunk = _storage(pa, chunk)
    if not is_list(pa, chunk.type):
        raise TypeError(
            f"column must hold lists, got type {chunk.type}{_help(pa, chunk.type, width)}"
        )
    nulls = _nulls(chunk)
    lengths = np.where(nulls, 0, _sizes(pa, chunk))
    walk = _Walk(starts_of(lengths))
    values = _storage(pa, chunk.flatten())
    while is_list(pa, values.type):
        walk.descend(pa, values, width)
        values = _storage(pa, values.flatten())
    if values.null_count:  # a mask of all numbers is a quarter of them
        walk.note(np.flatnonzero(_nulls(values)), lambda _: "a null")
    if not _is_number(pa, values.type):
        raise TypeError(
            "column must hold lists of numbers, booleans, dates or durations, or lists of one "
            f"length of these, got lists of {values.type}{_help(pa, chunk.type, width)}"
        )
    numbers = _numbers(pa, values)
    return Lists(numbers, walk.bounds[:-1], lengths, walk.shape, nulls, walk.faults)


def count_steps(pa: ModuleType, chunk: Any) -> int:
    """Steps of all sequences of a chunk that has been checked; 0 where it holds none."""
    chunk = _storage(pa, chunk)
    if not is_list(pa, chunk.type):
        return 0
    return int(_sizes(pa, chunk).sum(where=~_nulls(chunk)))


@dataclass
class _Walk:
    """The way down from lists of steps to lists in these, and at last to numbers.

    `bounds` says where, on the present level, the entries of each sequence begin and end.
    """

    bounds: IndexArray
    shape: tuple[int, ...] | None = ()
    faults: dict[int, str] = field(default_factory=dict)

    def descend(self, pa: ModuleType, values: Any, width: int | None) -> None:
        """Go on to the entries of `values`, which are lists."""
        regular = pa.types.is_fixed_size_list(values.type)
        if regular and not values.null_count:
            self._deepen(values.type.list_size)
            self.bounds = self.bounds * values.type.list_size
            return
        nulls = _nulls(values)
        self.note(np.flatnonzero(nulls), lambda _: "a null")
        sizes = np.where(nulls, 0, _sizes(pa, values))
        if regular:
            width = values.type.list_size
        elif width is None and not nulls.all():
            width = int(sizes[np.argmin(nulls)])
        if width is not None:
            self.note(
                np.flatnonzero(sizes != width),
                lambda place: f"{sizes[place]} values instead of {width}",
            )
        self._deepen(width)
        self.bounds = starts_of(sizes)[self.bounds]

    def _deepen(self, size: int | None) -> None:
        self.shape = None if size is None or self.shape is None else (*self.shape, size)

    def note(self, places: IndexArray, what: Callable[[int], str]) -> None:
        """Note the first of these entries in each sequence, unless something is wrong before it."""
        owners = np.searchsorted(self.bounds, places, side="right") - 1
        for b, first in zip(*np.unique(owners, return_index=True), strict=True):
            place = int(places[first])
            step = (place - int(self.bounds[b])) // max(math.prod(self.shape or ()), 1)
            self.faults.setdefault(int(b), f"has {what(place)} at step {step}")


def _check(pa: ModuleType, chunk: Any, start: int) -> None:
    """Let Arrow check what it read without a look: offsets, sizes and buffers, of all levels."""
    try:
        chunk.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ValueError(f"column is malformed from row {start} on: {error}") from error


def _storage(pa: ModuleType, array: Any) -> Any:
    """What an extension type, such as Arrow's own tensors of a fixed shape, is stored as."""
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def is_list(pa: ModuleType, kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or _is_view(pa, kind)
    )


def _is_view(pa: ModuleType, kind: Any) -> bool:
    """Whether lists have sizes of their own beside the offsets, as pyarrow has them since 16."""
    names = ("is_list_view", "is_large_list_view")
    return any(getattr(pa.types, name, lambda _: False)(kind) for name in names)


def _sizes(pa: ModuleType, lists: Any) -> IndexArray:
    """(B,) entries of each list; of no meaning where it is null."""
    if pa.types.is_fixed_size_list(lists.type):
        return np.full(len(lists), lists.type.list_size, np.int64)
    if _is_view(pa, lists.type):
        return np.asarray(lists.sizes.to_numpy(zero_copy_only=False), np.int64)
    offsets: IndexArray = np.asarray(lists.offsets.to_numpy(), np.int64)
    return offsets[1:] - offsets[:-1]


def _nulls(array: Any) -> Mask:
    if not array.null_count:
        return np.zeros(len(array), np.bool_)
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False), np.bool_)


def _is_number(pa: ModuleType, kind: Any) -> bool:
    """Whether NumPy has it: times of day are primitive in Arrow, but Python's objects there."""
    return bool(pa.types.is_primitive(kind) and not pa.types.is_time(kind))


def _numbers(pa: ModuleType, values: Any) -> Array:
    """(M,) of Arrow's numbers; anything where one is null."""
    if values.null_count:
        # NumPy would get floats for integers; a number that is null is noted, and not read.
        buffers = [None, values.buffers()[1]]
        values = pa.Array.from_buffers(values.type, len(values), buffers, offset=values.offset)
    rows = as_data(values.to_numpy(zero_copy_only=False), "column")
    return np.ascontiguousarray(rows)


def _help(pa: ModuleType, kind: Any, width: int | None) -> str:
    """What makes a column of this type one that is taken, if something does."""
    types = pa.types
    if types.is_struct(kind) and kind.num_fields:
        return f": pyarrow.compute.struct_field(column, {kind[0].name!r}) is one of its fields"
    leaf = kind
    while is_list(pa, leaf):
        if _is_view(pa, leaf):
            return ""  # what pyarrow 26 casts of views to has broken offsets
        leaf = leaf.value_type
    if types.is_null(leaf):
        numbers = "pyarrow.float32()"
        steps = numbers if width in (None, 1) else f"pyarrow.list_({numbers}, {width})"
        return f": column.cast(pyarrow.list_({steps})) says what is missing"
    as_numbers = (types.is_decimal, types.is_string, types.is_large_string, types.is_dictionary)
    if leaf is not kind and any(is_kind(leaf) for is_kind in as_numbers):
        return f": column.cast({_of_numbers(pa, kind)}) helps where each is a number"
    return ""


def _of_numbers(pa: ModuleType, kind: Any) -> str:
    """How one writes the type of lists, of no views, that this one would be if it held numbers."""
    if not is_list(pa, kind):
        return "pyarrow.float32()"
    inner = _of_numbers(pa, kind.value_type)
    if pa.types.is_fixed_size_list(kind):
        return f"pyarrow.list_({inner}, {kind.list_size})"
    return f"pyarrow.{'large_list' if pa.types.is_large_list(kind) else 'list_'}({inner})"
