"""PackedSequence: a batch of sequences of different lengths, without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NoReturn, SupportsIndex, final

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import ArrayLike, DTypeLike, NDArray

from packseq.arguments import as_axis, as_data, as_ends, as_int64_vector, as_numpy_data, as_offsets
from packseq.checks import as_integer, kind_of
from packseq.rows import elementwise, moving, picture, ragged, reducing
from packseq.rows.arrays import cast_padding
from packseq.rows.movers import mover_of
from packseq.rows.plan import IndexArray, Plan
from packseq.tensor_checks import is_tensor

_NO_ARRAY = (
    "a PackedSequence is no array: data holds its rows, map() takes any function of them, and "
    "pad_packed_sequence pads them"
)


@final
class PackedSequence(NDArrayOperatorsMixin):
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

    __slots__ = ("_data", "_plan")

    _data: NDArray[Any]
    _plan: Plan

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

    @classmethod
    def _of(cls, data: NDArray[Any], plan: Plan) -> PackedSequence:
        """Join rows to a plan that is known to fit them."""
        packed = cls.__new__(cls)
        object.__setattr__(packed, "_data", data[...])
        object.__setattr__(packed, "_plan", plan)
        return packed

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

    @property
    def _array(self) -> NDArray[Any]:
        """The rows, for what works on NumPy's only."""
        if is_tensor(self._data):
            raise TypeError(
                "this works on rows of NumPy, but the batch holds a torch tensor: apply torch to "
                "its data, or pack its data.numpy()"
            )
        return self._data

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

    # ---- NumPy's functions and operators: each acts on every row ----

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        outputs = kwargs.pop("out", ())
        where = kwargs.pop("where", True)
        if not all(map(_is_operand, (*inputs, *outputs, where))):
            return NotImplemented
        if method != "__call__":
            raise TypeError(
                f"np.{ufunc.__name__}.{method} would mix the sequences: sum(), max(), cumsum() and "
                "so on go along each one, and data holds the rows"
            )
        if ufunc is np.matmul:
            return _matmul(inputs, outputs, kwargs)
        if ufunc.signature is not None:
            raise TypeError(f"np.{ufunc.__name__} works on whole arrays: use map() or data")
        return _elementwise(ufunc, inputs, outputs, where, kwargs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise TypeError(_NO_ARRAY)

    def __array_function__(self, *call: Any) -> NoReturn:
        raise TypeError(_NO_ARRAY)

    def __bool__(self) -> NoReturn:
        raise ValueError("the truth of a PackedSequence is ambiguous: ask data.any() or data.all()")

    def map(self, function: Callable[[NDArray[Any]], ArrayLike]) -> PackedSequence:
        """Apply a function of the rows, for all that is no NumPy operator.

        Parameters
        ----------
        function : callable
            Takes `data`, (N, *), and returns an array whose first axis is these rows, in order.

        Raises
        ------
        TypeError, ValueError
            What it returns is masked, of object dtype or a tensor, or has not N rows.

        Examples
        --------
        >>> p = pack_sequence([np.array([[3., 4.]])])
        >>> p.map(lambda rows: np.linalg.norm(rows, axis=-1)).data
        array([5.])
        """
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

    def __getitem__(self, index: SupportsIndex) -> NDArray[Any]:
        """Return the steps of one sequence, in the caller's order; -1 is the last one.

        Returns
        -------
        ndarray of shape (L, *)
            A view of `data` where the sequence's steps are evenly apart there, as in a batch of
            equal lengths; else a copy.

        Raises
        ------
        TypeError
            `index` is no integer; :meth:`select` takes several.
        IndexError
            It is out of range.
        """
        b = as_integer(index, "the index of one sequence")
        if not -self.batch_size <= b < self.batch_size:
            raise IndexError(f"sequence {b} is out of range: there are {self.batch_size}")
        return moving.sequence(self._array, self._plan, b % self.batch_size)

    # A loop over sequences is a loop over range(batch_size): what unpacks this as torch's tuple of
    # four fields would otherwise take four sequences for them.
    __iter__: ClassVar[None] = None

    def select(self, indices: ArrayLike) -> PackedSequence:
        """Take sequences: a sub-batch, another order, repetitions.

        Parameters
        ----------
        indices : array_like of int, shape (K,)
            Each in -B to B - 1, the caller's order. ``np.flatnonzero`` makes them of a mask.

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
        size = self.batch_size
        if len(bad := np.flatnonzero((chosen < -size) | (chosen >= size))):
            raise ValueError(
                f"indices must be between {-size} and {size - 1}, got indices[{bad[0]}] = "
                f"{chosen[bad[0]]}"
            )
        return PackedSequence._of(
            *moving.select(self._array, self._plan, np.where(chosen < 0, chosen + size, chosen))
        )

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

    # ---- each sequence over its steps ----

    def first(self) -> NDArray[Any]:
        """Return each sequence's first row, shape (B, *): a copy, zeros for length 0.

        Examples
        --------
        >>> pack_sequence([np.array([1, 2]), np.array([3, 4, 5])]).first()
        array([1, 3])
        """
        return moving.first(self._array, self._plan)

    def last(self) -> NDArray[Any]:
        """Return each sequence's last row, shape (B, *): a copy, zeros for length 0.

        Of a network's output it is the forward direction's last state, and of an empty sequence
        the state that it starts from.

        Examples
        --------
        >>> pack_sequence([np.array([1, 2]), np.array([3, 4, 5])]).last()
        array([2, 5])
        """
        return moving.last(self._array, self._plan)

    def sum(self) -> NDArray[Any]:
        """Sum each sequence over its steps: shape (B, *), 0 for length 0.

        Returns
        -------
        ndarray of shape (B, *)
            In the caller's order, of NumPy's dtype for sums: integers widen to 64 bits and wrap.

        Raises
        ------
        TypeError
            The rows are not numbers.

        Notes
        -----
        float32 is added up in float64 but for groups of eight steps, so that the error, at most 4
        roundings of the sum of magnitudes, does not grow with the length.
        Cost: one read of the rows; large batches are shared among threads, to the same bits.

        Examples
        --------
        >>> pack_sequence([np.array([1, 2]), np.array([3, 4, 5])]).sum()
        array([ 3, 12])
        """
        return reducing.sum_(self._array, self._plan)

    def mean(self) -> NDArray[Any]:
        """Average each sequence over its steps: shape (B, *), NaN for length 0.

        Integers give float64. Errors, accuracy and cost are those of :meth:`sum`.

        Examples
        --------
        >>> pack_sequence([np.array([1, 2]), np.array([3, 4, 5])]).mean()
        array([1.5, 4. ])
        """
        return reducing.mean(self._array, self._plan)

    def max(self) -> NDArray[Any]:
        """Return the maximum of each sequence over its steps: shape (B, *), in the rows' dtype.

        A NaN is the maximum of what it is in. Of length 0 it is -inf, an integer dtype's least
        value, or False: the maximum of all steps is then that of the parts' maxima.

        Raises
        ------
        TypeError
            The rows are not real numbers.

        Examples
        --------
        >>> pack_sequence([np.array([2, 1]), np.array([3, 5, 4])]).max()
        array([2, 5])
        """
        return reducing.max_(self._array, self._plan)

    def min(self) -> NDArray[Any]:
        """Return the minimum of each sequence over its steps: shape (B, *), in the rows' dtype.

        A NaN is the minimum of what it is in. Of length 0 it is inf, an integer dtype's greatest
        value, or True.

        Raises
        ------
        TypeError
            The rows are not real numbers.

        Examples
        --------
        >>> pack_sequence([np.array([2, 1]), np.array([3, 5, 4])]).min()
        array([1, 3])
        """
        return reducing.min_(self._array, self._plan)

    def argmax(self) -> IndexArray:
        """Return the step of each sequence's first maximum: int64, shape (B, *), -1 for length 0.

        The first NaN comes before every number.

        Raises
        ------
        TypeError
            The rows are not real numbers.

        Examples
        --------
        >>> pack_sequence([np.array([2, 1]), np.array([3, 5, 4])]).argmax()
        array([0, 1])
        """
        return reducing.argmax(self._array, self._plan)

    def logsumexp(self) -> NDArray[Any]:
        """Return log(sum(exp(x))) of each sequence over its steps: shape (B, *), -inf for length 0.

        Integers give float64.

        Raises
        ------
        TypeError
            The rows are not real numbers.

        Examples
        --------
        >>> pack_sequence([np.zeros(2), np.zeros(4)]).logsumexp().round(4)
        array([0.6931, 1.3863])
        """
        return reducing.logsumexp(self._array, self._plan)

    def cumsum(self) -> PackedSequence:
        """Sum each sequence up to each of its steps; of NumPy's dtype for sums.

        Raises
        ------
        TypeError
            The rows are not numbers.

        Notes
        -----
        The running sum of float32 is kept in float64.

        Examples
        --------
        >>> pack_sequence([np.array([1, 2]), np.array([3, 4, 5])]).cumsum()[1]
        array([ 3,  7, 12])
        """
        return PackedSequence._of(reducing.cumsum(self._array, self._plan), self._plan)

    def softmax(self) -> PackedSequence:
        """Turn scores into weights that sum to 1 over the steps of each sequence.

        Each element of a row is a score of its own. Integers give float64.

        Raises
        ------
        TypeError
            The rows are not real numbers.

        Examples
        --------
        >>> pack_sequence([np.zeros(2), np.zeros(4)]).softmax()[1]
        array([0.25, 0.25, 0.25, 0.25])
        """
        return PackedSequence._of(reducing.softmax(self._array, self._plan), self._plan)

    def log_softmax(self) -> PackedSequence:
        """Return the logarithm of :meth:`softmax`, computed without it, so that none is log(0).

        Examples
        --------
        >>> pack_sequence([np.zeros(2), np.zeros(4)]).log_softmax()[0].round(4)
        array([-0.6931, -0.6931])
        """
        return PackedSequence._of(reducing.log_softmax(self._array, self._plan), self._plan)

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


# ---- NumPy's functions ----


def _is_operand(value: object) -> bool:
    """Whether no other type's `__array_ufunc__` should be asked."""
    if isinstance(value, PackedSequence | np.ndarray | np.generic) or value is None:
        return True
    return not hasattr(value, "__array_ufunc__")


def _rows(value: object) -> NDArray[Any] | None:
    return value._array if isinstance(value, PackedSequence) else None


def _elementwise(
    ufunc: np.ufunc, inputs: Sequence[Any], outputs: Sequence[Any], where: Any, kwargs: Any
) -> Any:
    name = f"np.{ufunc.__name__}"
    operands = [_as_operand(value, name) for value in (*inputs, where)]
    packed = [value for value in (*operands, *outputs) if isinstance(value, PackedSequence)]
    plan = elementwise.shared_plan([value._plan for value in packed], f"{name}: operands")
    if not any(isinstance(value, PackedSequence) for value in operands):
        raise TypeError(f"{name}: out is a PackedSequence, but no operand is")
    axes = max(value._array.ndim - 1 for value in packed)
    *arrays, mask = elementwise.aligned(operands, [*map(_rows, operands)], axes, name)
    if outputs:
        kwargs["out"] = tuple(_out_rows(out, name) for out in outputs)
    if mask is not True:
        kwargs["where"] = mask
    results = ufunc(*arrays, **kwargs)
    results = results if ufunc.nout > 1 else (results,)
    wanted = outputs or (None,) * ufunc.nout
    wrapped = tuple(
        _packed_result(result, plan, name) if out is None else out
        for result, out in zip(results, wanted, strict=True)
    )
    return wrapped if ufunc.nout > 1 else wrapped[0]


def _as_operand(value: Any, name: str) -> Any:
    # Python's numbers stay so, since NumPy lets them keep the rows' dtype.
    if isinstance(value, PackedSequence | int | float | complex):
        return value
    return as_numpy_data(value, f"{name}: an operand")


def _out_rows(out: object, name: str) -> NDArray[Any] | None:
    if out is not None and not isinstance(out, PackedSequence):
        raise TypeError(f"{name}: out must be a PackedSequence, got {type(out).__name__}")
    return _rows(out)


def _packed_result(result: NDArray[Any], plan: Plan, name: str) -> PackedSequence:
    if result.dtype.hasobject:
        raise TypeError(f"{name} gives Python objects, which are no rows")
    return PackedSequence._of(result, plan)


def _matmul(inputs: Sequence[Any], outputs: Sequence[Any], kwargs: Any) -> PackedSequence:
    left, right = inputs
    if not isinstance(left, PackedSequence) or isinstance(right, PackedSequence):
        raise TypeError("matmul needs a PackedSequence on its left and a matrix on its right")
    if outputs or kwargs:
        raise TypeError("matmul of a PackedSequence takes no further arguments")
    matrix = as_numpy_data(right, "matmul: the matrix")
    return PackedSequence._of(elementwise.matmul(left._array, matrix), left._plan)


def check_packed(value: object, name: str) -> PackedSequence:
    """Return a PackedSequence, or raise a TypeError that names `name`."""
    if not isinstance(value, PackedSequence):
        raise TypeError(f"{name} must be a PackedSequence, got {kind_of(value)}")
    return value
