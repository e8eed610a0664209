"""PackedSequence: a batch of sequences of different lengths, without padding."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, SupportsIndex, final, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from packseq.arguments import as_axis, as_data, as_ends, as_int64_vector, as_numpy_data, as_offsets
from packseq.checks import as_integer, shown
from packseq.reductions import Reductions
from packseq.rows import elementwise, indexing, lists, moving, picture, ragged, reducing
from packseq.rows.arrays import cast_padding
from packseq.rows.movers import mover_of
from packseq.rows.plan import IndexArray, Plan
from packseq.rowwise import check_rows


@final
class PackedSequence(Reductions):
    """A batch laid out time-major, longest sequence first: step 0 of all, then step 1 of the rest.

    Made by :func:`pack_sequence` or :func:`pack_padded_sequence`; the constructor takes the fields
    of one that was stored or came from torch, and checks them. Fields cannot be set, and the index
    arrays are read-only copies; `data` shares the caller's memory.

    Parameters
    ----------
    data : array_like or torch.Tensor, of shape (N, *)
        The rows of every step in turn. Any dtype but object. Not copied; a tensor stays one, on its
        device, while all that follows from the lengths is in NumPy arrays.
    batch_sizes : array_like of int, shape (T,)
        Sequences alive at each step: positive, non-increasing, of sum N.
    sorted_indices, unsorted_indices : array_like of int, shape (B,), optional
        ``sorted_indices[r]`` is the caller's index of the r-th longest sequence, and
        `unsorted_indices` its inverse; either follows from the other. None where the sequences came
        sorted. B may exceed ``batch_sizes[0]``: the rest are sequences of length 0.

    Raises
    ------
    TypeError
        `data` is masked or of object dtype; an index array does not hold integers.
    ValueError
        The fields contradict each other; the message names the field and the position.

    Notes
    -----
    Cost: O(T + B); the rows are not touched.
    Source: torch.nn.utils.rnn.PackedSequence, which is a tuple; this is not.

    Examples
    --------
    >>> p = pack_sequence([np.array([1, 2]), np.array([3, 4, 5])])
    >>> p
    PackedSequence(2 sequences of 2 to 3 steps, data (5,) int64)
    >>> p.data, p.batch_sizes, p.lengths
    (array([3, 1, 4, 2, 5]), array([2, 2, 1]), array([2, 3]))
    >>> PackedSequence(p.data, p.batch_sizes, p.sorted_indices)[0]
    array([1, 2])
    """

    __slots__ = ()

    def __init__(
        self,
        data: ArrayLike,
        batch_sizes: ArrayLike,
        sorted_indices: ArrayLike | None = None,
        unsorted_indices: ArrayLike | None = None,
    ) -> None:
        data = as_data(data, "data")
        if data.ndim == 0:
            raise ValueError("data must have shape (N, *), got a scalar")
        plan = Plan.from_batch_sizes(
            batch_sizes, sorted_indices, unsorted_indices, rows=data.shape[0]
        )
        object.__setattr__(self, "_data", data[...])
        object.__setattr__(self, "_plan", plan)

    @classmethod
    def from_ragged(cls, values: ArrayLike, offsets: ArrayLike) -> PackedSequence:
        """Pack sequences that lie end to end, as Arrow's lists and CSR matrices store them.

        Parameters
        ----------
        values : array_like of shape (M, *)
            Any dtype but object.
        offsets : array_like of int, shape (B + 1,)
            Sequence b is ``values[offsets[b]:offsets[b + 1]]``: non-decreasing, within 0 to M. Rows
            before the first and after the last offset are not read.

        Returns
        -------
        PackedSequence
            A copy, unless the order is the same in both: every sequence of at most one step, or
            all but one empty. Then `data` is a view of `values`.

        Raises
        ------
        TypeError
            `values` is masked, of object dtype or a tensor; `offsets` are not integers.
        ValueError
            `values` is a scalar; `offsets` are empty, decrease, or leave `values`; the message
            names the position.

        Notes
        -----
        Cost: one gather of N rows.

        Examples
        --------
        >>> p = PackedSequence.from_ragged(np.arange(5.0), [0, 2, 2, 5])
        >>> p[0], p[1], p[2]
        (array([0., 1.]), array([], dtype=float64), array([2., 3., 4.]))
        """
        rows = as_numpy_data(values, "values")
        if rows.ndim == 0:
            raise ValueError("values must have shape (M, *), got a scalar")
        ends = as_offsets(offsets, len(rows))
        return cls._of(*ragged.pack([(np.ascontiguousarray(rows), ends)]))

    def to_ragged(self) -> tuple[NDArray[Any], IndexArray]:
        """Undo :meth:`from_ragged`.

        Returns
        -------
        values : ndarray of shape (N, *)
            The sequences end to end, in the caller's order: a copy, unless that is the order of
            `data`, whose view it then is.
        offsets : ndarray of int64, shape (B + 1,)

        Notes
        -----
        Cost: one scatter of N rows.

        Examples
        --------
        >>> pack_sequence([np.array([1, 2]), np.array([3, 4, 5])]).to_ragged()
        (array([1, 2, 3, 4, 5]), array([0, 2, 5]))
        """
        return ragged.unpack(self._array, self._plan)

    @property
    def data(self) -> NDArray[Any]:
        """The rows of every step in turn, shape (N, *); a view, whose elements can be set."""
        # A new view each time: one that is reshaped in place cannot unfit the plan.
        return self._data[...]

    @property
    def batch_sizes(self) -> IndexArray:
        """Sequences alive at each step, shape (T,)."""
        return self._plan.batch_sizes[...]

    @property
    def sorted_indices(self) -> IndexArray | None:
        """The caller's index of each packed sequence, shape (B,), or None."""
        return _view(self._plan.sorted_indices)

    @property
    def unsorted_indices(self) -> IndexArray | None:
        """The packed position of each of the caller's sequences, shape (B,), or None."""
        return _view(self._plan.unsorted_indices)

    @property
    def lengths(self) -> IndexArray:
        """Steps of each sequence, shape (B,), in the caller's order."""
        return self._plan.lengths[...]

    @property
    def batch_size(self) -> int:
        """B, sequences of length 0 included."""
        return self._plan.batch_size

    @property
    def max_length(self) -> int:
        """T, the longest length."""
        return self._plan.max_length

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of `data`."""
        return self._data.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of `data`."""
        return self._data.nbytes

    def astype(self, dtype: DTypeLike) -> PackedSequence:
        """Return a copy with the rows cast as ``numpy.ndarray.astype`` does; the plan is shared.

        For a tensor, `dtype` is torch's, or NumPy's of the same name.

        Raises
        ------
        TypeError
            `dtype` holds Python objects.

        Examples
        --------
        >>> pack_sequence([np.array([1, 2]), np.array([3])]).astype(np.float32)[0]
        array([1., 2.], dtype=float32)
        """
        return PackedSequence._of(mover_of(self._data).astype(self._data, dtype), self._plan)

    # ---- what acts on every row, beside NumPy's functions and operators ----

    def map(self, function: Callable[[NDArray[Any]], ArrayLike]) -> PackedSequence:
        """Apply a function of the rows, for all that is no NumPy operator.

        Parameters
        ----------
        function : callable
            Takes `data`, (N, *), and returns an array whose first axis is these rows, in order.

        Raises
        ------
        TypeError, ValueError
            It is none; what it returns is masked, of object dtype or a tensor, or has not N rows.

        Examples
        --------
        >>> p = pack_sequence([np.array([[3., 4.]])])
        >>> p.map(lambda rows: np.linalg.norm(rows, axis=-1)).data
        array([5.])
        """
        if not callable(function):
            raise TypeError(f"map: function must be callable, got {shown(function)}")
        rows = as_numpy_data(function(self._array), "map: the function's result")
        return PackedSequence._of(elementwise.as_rows(rows, len(self._array)), self._plan)

    def broadcast(self, per_sequence: ArrayLike) -> PackedSequence:
        """Give every step the row of its sequence, such as a speaker's embedding.

        Parameters
        ----------
        per_sequence : array_like of shape (B, *)
            In the caller's order; any dtype but object. The rows of `self` play no part.

        Returns
        -------
        PackedSequence
            ``data`` has shape (N, *), a copy, in this batch's layout.

        Raises
        ------
        TypeError
            `per_sequence` is masked, of object dtype or a tensor.
        ValueError
            There is not one row a sequence.

        Notes
        -----
        Cost: one write of N rows.

        Examples
        --------
        >>> p = pack_sequence([np.array([1, 2]), np.array([3, 4, 5])])
        >>> p.broadcast([10, 20])[1]
        array([20, 20, 20])
        """
        values = as_numpy_data(per_sequence, "per_sequence")
        if values.ndim == 0 or len(values) != self.batch_size:
            raise ValueError(
                f"per_sequence must have one row for each of the {self.batch_size} sequences, got "
                f"shape {values.shape}"
            )
        return PackedSequence._of(moving.repeat(values, self._plan), self._plan)

    # ---- sequences and their steps ----

    def __len__(self) -> int:
        """Return B, sequences of length 0 included."""
        return self.batch_size

    # An array has __index__ too, for the case of one number: it is no SupportsIndex here.
    @overload
    def __getitem__(  # type: ignore[overload-overlap]
        self, index: builtins.slice | Sequence[int] | NDArray[Any]
    ) -> Self: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> NDArray[Any]: ...
    def __getitem__(
        self, index: SupportsIndex | builtins.slice | Sequence[int] | NDArray[Any]
    ) -> NDArray[Any] | PackedSequence:
        """Return the steps of one sequence, or several sequences, in the caller's order.

        Parameters
        ----------
        index : int, slice, array_like of bool of shape (B,), or array_like of int of shape (K,)
            -1 is the last sequence. Time is cut by :meth:`slice`.

        Returns
        -------
        ndarray of shape (L, *)
            For an integer: a view of `data` where the sequence's steps are evenly apart there, as
            in a batch of equal lengths; else a copy.
        PackedSequence
            For all else what :meth:`select` gives: a copy, packed anew.

        Raises
        ------
        TypeError
            `index` is none of these.
        IndexError
            An integer is out of range; a mask is not of shape (B,).
        ValueError
            A list of integers is not 1-D.

        Examples
        --------
        >>> p = pack_sequence([np.array([1, 2, 3]), np.array([10, 20]), np.array([7])])
        >>> p[0]
        array([1, 2, 3])
        >>> p[1:].lengths, p[p.lengths > 1].lengths, p[[2, 0]].lengths
        (array([2, 1]), array([3, 2]), array([1, 3]))
        """
        chosen = indexing.sequences_at(index, self.batch_size)
        if isinstance(chosen, int):
            return moving.sequence(self._array, self._plan, chosen)
        return self._select(chosen)

    def _refused(self, *_: object) -> NoReturn:
        raise TypeError(
            "a PackedSequence is not iterable, since what unpacks torch's tuple of four fields "
            "would take four sequences for them: unpack_sequence(p) lists the sequences, and data, "
            "batch_sizes, sorted_indices and unsorted_indices are the fields"
        )

    if TYPE_CHECKING:
        __iter__: ClassVar[None]
        __contains__: ClassVar[None]
        __reversed__: ClassVar[None]
    else:
        __iter__ = __contains__ = __reversed__ = _refused

    def select(self, indices: ArrayLike) -> PackedSequence:
        """Take sequences: a sub-batch, another order, repetitions.

        Parameters
        ----------
        indices : array_like of int, shape (K,)
            Each in -B to B - 1, the caller's order. ``p[indices]`` is the same, and takes slices
            and masks too.

        Returns
        -------
        PackedSequence
            K sequences in the order of `indices`, packed anew: always a copy.

        Raises
        ------
        TypeError
            They are not integers.
        ValueError
            They are not 1-D, or one is out of range; the message names the position.

        Notes
        -----
        Cost: one copy of the rows that are taken, and O(K log K).

        Examples
        --------
        >>> p = pack_sequence([np.array([1, 2]), np.array([3, 4, 5]), np.array([6])])
        >>> p.select([2, 0]).lengths
        array([1, 2])
        >>> p.select(np.flatnonzero(p.lengths > 1))[1]
        array([3, 4, 5])
        """
        chosen = as_int64_vector(indices, "indices")
        try:
            return self._select(indexing.from_the_start(chosen, self.batch_size, "indices"))
        except IndexError as error:
            raise ValueError(*error.args) from None

    def _select(self, indices: IndexArray) -> PackedSequence:
        """Take sequences in 0 to B - 1."""
        return PackedSequence._of(*moving.select(self._array, self._plan, indices))

    def slice(
        self, start: SupportsIndex | None = None, stop: SupportsIndex | None = None
    ) -> PackedSequence:
        """Cut each sequence in time, as ``sequence[start:stop]`` does.

        Parameters
        ----------
        start, stop : int, optional
            Negative ones count from each sequence's own end; both are clipped to it.

        Returns
        -------
        PackedSequence
            B sequences, those that end before `start` now of length 0. A view of the same rows
            unless a bound is negative; then a copy.

        Raises
        ------
        TypeError
            A bound is no integer.

        Notes
        -----
        Sequences keep their packed order wherever that is still longest first, so that
        ``p.slice(1) - p.slice(None, -1)`` has one layout.
        Cost: O(B + T) for a view, and one copy of the rows that are left for a copy.

        Examples
        --------
        >>> p = pack_sequence([np.array([1, 2]), np.array([3, 4, 6])])
        >>> p.slice(-2)[1], p.slice(1)[0]
        (array([4, 6]), array([2]))
        >>> (p.slice(1) - p.slice(None, -1))[1]
        array([1, 2])
        """
        longest = self.max_length
        bounds = (
            None if bound is None else max(-longest, min(longest, as_integer(bound, name)))
            for bound, name in ((start, "start"), (stop, "stop"))
        )
        return PackedSequence._of(*moving.slice_time(self._array, self._plan, *bounds))

    def reverse(self) -> PackedSequence:
        """Turn each sequence round, from its own last step to its first.

        Notes
        -----
        Cost: one copy of the rows.

        Examples
        --------
        >>> pack_sequence([np.array([1, 2]), np.array([3, 4, 5])]).reverse()[1]
        array([5, 4, 3])
        """
        return PackedSequence._of(mover_of(self._data).reverse(self._data, self._plan), self._plan)

    def shift(self, steps: SupportsIndex, fill: Any = 0) -> PackedSequence:
        """Move each sequence within its own length, as a language model's targets are.

        Parameters
        ----------
        steps : int
            Step t goes to t + `steps`; what passes either end is dropped.
        fill : scalar
            What steps hold to which none went; must fit the dtype, as a padding value must.

        Raises
        ------
        TypeError
            `steps` is no integer.
        ValueError
            `fill` does not fit the dtype.

        Notes
        -----
        Cost: one copy of the rows.

        Examples
        --------
        >>> p = pack_sequence([np.array([1, 2]), np.array([3, 4, 5])])
        >>> p.shift(1)[1], p.shift(-1, fill=-100)[1]
        (array([0, 3, 4]), array([   4,    5, -100]))
        """
        data = self._array
        row = np.full(data.shape[1:], cast_padding(fill, "fill", data.dtype, str(data.dtype)))
        moved = moving.shift(data, self._plan, as_integer(steps, "steps"), row)
        return PackedSequence._of(*moved)

    def split(
        self, sizes: Iterable[SupportsIndex], axis: SupportsIndex = -1
    ) -> list[PackedSequence]:
        """Undo :func:`concatenate` along the features or the batch.

        Parameters
        ----------
        sizes : list of int
            Not negative, of the axis's size in sum.
        axis : int
            An axis of `data` but the first, for views of it; or 0 for the sequences, for copies.

        Raises
        ------
        TypeError
            A size or `axis` is no integer.
        ValueError
            A size is negative, or they do not sum to the axis's size; rows have no such axis.

        Examples
        --------
        >>> p = pack_sequence([np.array([[1, 2, 3]]), np.array([[4, 5, 6]])])
        >>> left, right = p.split([1, 2])
        >>> left[1], right[1]
        (array([[4]]), array([[5, 6]]))
        """
        axis = as_axis(axis, self._array.ndim)
        ends = as_ends(sizes, self.batch_size if axis == 0 else self._array.shape[axis])
        pieces = pairwise([0, *ends])
        if axis == 0:
            # Made of whole rows once, and not again for each piece.
            whole = PackedSequence._of(moving.with_whole_rows(self._array, axes=1), self._plan)
            return [whole.select(np.arange(start, end)) for start, end in pieces]
        at = (slice(None),) * axis
        return [
            PackedSequence._of(self._array[(*at, slice(start, end))], self._plan)
            for start, end in pieces
        ]

    # ---- each sequence over its steps: the others are in reductions.py ----

    def attend(self, scores: PackedSequence) -> NDArray[Any]:
        """Average each sequence over its steps, weighted by the softmax of its scores.

        Parameters
        ----------
        scores : PackedSequence
            In this batch's layout. Rows of shape (), or of one that broadcasts against these rows:
            (heads, 1) against (heads, size), for example.

        Returns
        -------
        ndarray of shape (B, *)
            0 for length 0.

        Raises
        ------
        TypeError
            `scores` is no PackedSequence; either's rows are not real numbers.
        ValueError
            The layouts differ; the shapes do not broadcast.

        Examples
        --------
        >>> p = pack_sequence([np.array([[1.0], [3.0]]), np.array([[5.0]])])
        >>> scores = p.map(lambda rows: np.zeros(len(rows)))
        >>> p.attend(scores)
        array([[2.],
               [5.]])
        """
        check_packed(scores, "scores")
        plan = elementwise.shared_plan([self._plan, scores._plan], "the rows and scores")
        own, theirs = self._array.shape[1:], scores._array.shape[1:]
        if not elementwise.broadcasts(theirs, own):
            raise ValueError(f"scores must have rows that broadcast against {own}, got {theirs}")
        return reducing.attend(self._array, reducing.softmax(scores._array, plan), plan)

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """Hand what :func:`to_arrow` gives to a library of Arrow's, through its capsules.

        Raises
        ------
        ImportError
            pyarrow is not installed.
        TypeError, ValueError
            As for :func:`to_arrow`.

        Notes
        -----
        Source: the Arrow PyCapsule interface.
        """
        capsules: tuple[object, object] = lists.as_arrow(*self.to_ragged()).__arrow_c_array__(
            requested_schema
        )
        return capsules

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"PackedSequence is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"PackedSequence is immutable: cannot delete {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedSequence._unpickled, (self._data, self._plan)

    @classmethod
    def _unpickled(cls, data: Any, plan: Any) -> PackedSequence:
        """Join rows and plan of a pickle, which may have been changed: the plan checked itself."""
        rows = as_data(data, "data")
        if not isinstance(plan, Plan) or rows.ndim == 0 or rows.shape[0] != plan.rows:
            raise ValueError("a pickled PackedSequence must have the rows that its plan counts")
        return cls._of(rows, plan)

    def __repr__(self) -> str:
        lengths = self._plan.sorted_lengths
        spread = f" of {lengths[-1]} to {lengths[0]} steps" if len(lengths) else ""
        return (
            f"PackedSequence({self.batch_size} sequences{spread}, "
            f"data {tuple(self._data.shape)} {self.dtype})"
        )

    def _repr_html_(self) -> str:
        return picture.as_html(self._plan, repr(self))


def _view(indices: IndexArray | None) -> IndexArray | None:
    """A new view, which its owner may reshape in place without harm."""
    return None if indices is None else indices[...]


def check_packed(value: object, name: str) -> PackedSequence:
    """Return a PackedSequence, or raise a TypeError that names `name`."""
    packed = check_rows(value, name)
    assert isinstance(packed, PackedSequence)  # the one class of them
    return packed
