"""Arrow's and Awkward's lists, packed straight from their memory and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq import columns
from packseq.arguments import as_data
from packseq.optional import load
from packseq.packed import PackedSequence, check_packed
from packseq.rows import lists, ragged

Array = NDArray[Any]


def from_arrow(column: Any) -> PackedSequence:
    """Pack a column of lists: a row is a sequence.

    Parameters
    ----------
    column : pyarrow.Array or pyarrow.ChunkedArray, or what has Arrow's interface of capsules
        Lists, large lists, list views or fixed-size lists of numbers, booleans, dates or durations,
        or of lists of one length of these, nested to any depth: the trailing shape. Sliced ones are
        taken as they are cut. Columns of polars, pandas and DuckDB are taken too, and arrays of
        arrays, of dtype object, as older pandas has them.

    Returns
    -------
    PackedSequence
        A copy, unless the order is the same in both, as :meth:`PackedSequence.from_ragged` says.

    Raises
    ------
    ImportError
        pyarrow is not installed.
    TypeError
        `column` is none of these; it holds no lists, or lists of what is no number. The message
        names the cast that helps, where one does.
    ValueError
        There is a null, a list or a value within one, or an inner list of another length than the
        first; the message names its place. Offsets or sizes are malformed.

    Notes
    -----
    Cost: one gather of N rows, straight from each chunk; booleans, which Arrow stores as bits, are
    unpacked first, views put end to end, and arrays of arrays copied.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from_arrow(pa.array([[1, 2], [], [3, 4, 5]])).lengths
    array([2, 0, 3])
    """
    pa = load("pyarrow", "arrow")
    parts, start = [], 0
    for chunk in columns.chunks_of(pa, column):
        lists = columns.read(pa, chunk, start)
        _check_whole(lists, start)
        parts.append(lists)
        start += len(chunk)
    return PackedSequence._of(*ragged.pack(_of_one_shape(parts)))


def to_arrow(sequence: PackedSequence) -> Any:
    """Return the sequences as Arrow lists: undo :func:`from_arrow`.

    Parameters
    ----------
    sequence : PackedSequence
        Rows of real numbers, booleans, dates or durations, whose axes are not of size 0. NaT
        becomes a null, which :func:`from_arrow` refuses.

    Returns
    -------
    pyarrow.ListArray, or pyarrow.LargeListArray from 2**31 rows
        Of fixed-size lists, one level for each axis of a row.

    Raises
    ------
    ImportError
        pyarrow is not installed.
    TypeError
        `sequence` is no PackedSequence, or of a dtype that Arrow has not.
    ValueError
        An axis of the rows is of size 0.

    Notes
    -----
    Cost: one scatter of N rows, which Arrow then shares.

    Examples
    --------
    >>> import pyarrow
    >>> to_arrow(pack_sequence([np.array([1, 2]), np.array([3])])).to_pylist()
    [[1, 2], [3]]
    """
    return lists.as_arrow(*_unpacked(sequence))


def from_awkward(array: Any) -> PackedSequence:
    """Pack an Awkward array of lists: its first axis is the batch.

    Parameters
    ----------
    array : awkward.Array
        Of type ``B * var * *``, with regular axes after the second.

    Returns
    -------
    PackedSequence
        A copy, unless the order is the same in both, as :meth:`PackedSequence.from_ragged` says.

    Raises
    ------
    ImportError
        awkward is not installed.
    TypeError
        `array` is no Awkward array of lists, or of lists of what has no fixed size.
    ValueError
        There is a missing list or value; the message names its place. Offsets or sizes are
        malformed.

    Notes
    -----
    Cost: one gather of N rows; lists that are not end to end are first copied so.

    Examples
    --------
    >>> import awkward as ak
    >>> from_awkward(ak.Array([[1, 2], [], [3, 4, 5]])).lengths
    array([2, 0, 3])
    """
    ak = load("awkward", "awkward")
    if not isinstance(array, ak.Array):
        raise TypeError(f"array must be an awkward.Array, got {type(array).__name__}")
    if array.ndim < 2:
        raise TypeError(f"array must hold lists, got type {array.type}")
    malformed = ak.validity_error(array)
    if malformed:
        raise ValueError(f"array is malformed: {malformed}")
    missing = np.flatnonzero(ak.to_numpy(ak.is_none(array, axis=0)))
    if len(missing):
        raise ValueError(f"array has no sequence {missing[0]}: it is missing")
    lists = ak.drop_none(array, axis=0).layout.to_packed().to_ListOffsetArray64(True)
    offsets = np.asarray(lists.offsets)
    content = lists.content[offsets[0] : offsets[-1]]
    try:
        values = ak.to_numpy(content, allow_missing=True)
    except ValueError as error:
        raise TypeError(
            f"array must have regular axes after its lists, got type {array.type}"
        ) from error
    if isinstance(values, np.ma.MaskedArray):
        nulls = np.ma.getmaskarray(values)
        if nulls.any():
            raise ValueError(_null_at("array", nulls, offsets - offsets[0], 0))
        values = values.data
    rows = np.ascontiguousarray(as_data(values, "array"))
    return PackedSequence._of(*ragged.pack([(rows, offsets - offsets[0])]))


def to_awkward(sequence: PackedSequence) -> Any:
    """Return the sequences as an Awkward array of type ``B * var * *``.

    Parameters
    ----------
    sequence : PackedSequence

    Returns
    -------
    awkward.Array

    Raises
    ------
    ImportError
        awkward is not installed.
    TypeError
        `sequence` is no PackedSequence, or of a dtype that Awkward has not.

    Notes
    -----
    Cost: one scatter of N rows, which Awkward then shares.

    Examples
    --------
    >>> import awkward
    >>> to_awkward(pack_sequence([np.array([1, 2]), np.array([3])])).tolist()
    [[1, 2], [3]]
    """
    ak = load("awkward", "awkward")
    values, offsets = _unpacked(sequence)
    content = ak.from_numpy(np.ascontiguousarray(values), regulararray=True, highlevel=False)
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), content))


def _unpacked(sequence: PackedSequence) -> ragged.Ragged:
    return check_packed(sequence, "sequence").to_ragged()


def _check_whole(lists: columns.Lists, start: int) -> None:
    """Refuse a chunk in which something is wrong with a sequence, by its number in the column."""
    if lists.nulls.any():
        raise ValueError(
            f"column has no sequence {start + int(np.argmax(lists.nulls))}: it is null"
        )
    if lists.faults:
        b = min(lists.faults)
        raise ValueError(f"column {lists.faults[b]} of sequence {start + b}")


def _of_one_shape(chunks: list[columns.Lists]) -> list[ragged.Ragged]:
    """The rows of all chunks: those without a step, which may not tell its shape, take the others'.

    Raises
    ------
    ValueError
        Steps of two chunks differ in shape.
    """
    shapes = {chunk.row_shape for chunk in chunks if chunk.row_shape is not None}
    if len(shapes) > 1:
        raise ValueError(f"column has steps of shapes {' and '.join(map(str, sorted(shapes)))}")
    shape = shapes.pop() if shapes else (0,)
    return [replace(chunk, row_shape=shape).ragged() for chunk in chunks]


def _null_at(name: str, nulls: Array, offsets: NDArray[np.int64], start: int) -> str:
    row = int(np.argwhere(nulls)[0][0])
    b = int(np.searchsorted(offsets, row, side="right")) - 1
    return f"{name} has a null at step {row - offsets[b]} of sequence {start + b}"
