"""Sums, extremes and softmax of packed rows: over the steps of each sequence, or along each row."""

from __future__ import annotations

from typing import Any, Self, SupportsIndex, overload

from numpy.typing import NDArray

from packseq.arguments import as_row_axis
from packseq.rows import along, moving, reducing
from packseq.rows.plan import IndexArray
from packseq.rowwise import Rowwise

Array = NDArray[Any]


class Reductions(Rowwise):
    """What makes one row of the steps of a sequence, or one number of an axis of a row.

    `axis` is None for the steps of each sequence, or an axis of a row as :meth:`split` numbers
    them, such as -1. An axis of size 0 is reduced as a sequence of length 0 is.
    """

    __slots__ = ()

    def first(self) -> Array:
        """Return each sequence's first row, shape (B, *): a copy, zeros for length 0.

        Examples
        --------
        >>> pack_sequence([np.array([1, 2]), np.array([3, 4, 5])]).first()
        array([1, 3])
        """
        return moving.first(self._array, self._plan)

    def last(self) -> Array:
        """Return each sequence's last row, shape (B, *): a copy, zeros for length 0.

        Of a network's output it is the forward direction's last state, and of an empty sequence
        the state that it starts from.

        Examples
        --------
        >>> pack_sequence([np.array([1, 2]), np.array([3, 4, 5])]).last()
        array([2, 5])
        """
        return moving.last(self._array, self._plan)

    @overload
    def sum(self, axis: None = None) -> Array: ...
    @overload
    def sum(self, axis: SupportsIndex) -> Self: ...
    def sum(self, axis: SupportsIndex | None = None) -> Array | Self:
        """Sum each sequence over its steps, shape (B, *), or each row along an axis.

        Parameters
        ----------
        axis : int, optional
            An axis of a row, such as -1: never 0, which is that of all steps. None is over time.

        Returns
        -------
        ndarray of shape (B, *), or PackedSequence with an `axis`
            In the caller's order, of NumPy's dtype for sums: integers widen to 64 bits and wrap. 0
            for length 0.

        Raises
        ------
        TypeError
            The rows are not numbers; `axis` is no integer.
        ValueError
            Rows have no such axis.

        Notes
        -----
        float32 is added up in float64 but for groups of eight steps, so that the error, at most 4
        roundings of the sum of magnitudes, does not grow with the length. Either way the bits of a
        result follow from what it sums alone, and not from the batch, its strides or threads; along
        an axis of 16 entries or more they are added in another order than over time.
        Cost: one read of the rows; large batches are shared among threads, to the same bits. Along
        an axis it is on one thread; where that is not the last, or the rows are no contiguous
        floats of 32 or 64 bits, they are copied a few at a time.

        Examples
        --------
        >>> p = pack_sequence([np.array([[1, 2], [3, 4]]), np.array([[5, 6]])])
        >>> p.sum()
        array([[4, 6],
               [5, 6]])
        >>> p.sum(axis=-1)[0]
        array([3, 7])
        """
        return self._reduced(reducing.sum_, along.sum_, axis)

    @overload
    def mean(self, axis: None = None) -> Array: ...
    @overload
    def mean(self, axis: SupportsIndex) -> Self: ...
    def mean(self, axis: SupportsIndex | None = None) -> Array | Self:
        """Average each sequence over its steps, or each row along an axis: NaN for length 0.

        Integers give float64. Shapes, errors, accuracy and cost are those of :meth:`sum`.

        Examples
        --------
        >>> pack_sequence([np.array([1, 2]), np.array([3, 4, 5])]).mean()
        array([1.5, 4. ])
        """
        return self._reduced(reducing.mean, along.mean, axis)

    @overload
    def max(self, axis: None = None) -> Array: ...
    @overload
    def max(self, axis: SupportsIndex) -> Self: ...
    def max(self, axis: SupportsIndex | None = None) -> Array | Self:
        """Return the maximum of each sequence over its steps, or of each row along an axis.

        Of the rows' dtype and of the shapes of :meth:`sum`. A NaN is the maximum of what it is in.
        Of length 0 it is -inf, an integer dtype's least value, or False: the maximum of all steps
        is then that of the parts' maxima.

        Raises
        ------
        TypeError
            The rows are not real numbers; `axis` is no integer.
        ValueError
            Rows have no such axis.

        Examples
        --------
        >>> pack_sequence([np.array([2, 1]), np.array([3, 5, 4])]).max()
        array([2, 5])
        """
        return self._reduced(reducing.max_, along.max_, axis)

    @overload
    def min(self, axis: None = None) -> Array: ...
    @overload
    def min(self, axis: SupportsIndex) -> Self: ...
    def min(self, axis: SupportsIndex | None = None) -> Array | Self:
        """Return the minimum of each sequence over its steps, or of each row along an axis.

        As :meth:`max`; of length 0 it is inf, an integer dtype's greatest value, or True.

        Examples
        --------
        >>> pack_sequence([np.array([2, 1]), np.array([3, 5, 4])]).min()
        array([1, 3])
        """
        return self._reduced(reducing.min_, along.min_, axis)

    @overload
    def argmax(self, axis: None = None) -> IndexArray: ...
    @overload
    def argmax(self, axis: SupportsIndex) -> Self: ...
    def argmax(self, axis: SupportsIndex | None = None) -> IndexArray | Self:
        """Return the step of each sequence's first maximum, or its place along an axis: int64.

        Of the shapes of :meth:`sum`; -1 for length 0. The first NaN comes before every number.

        Raises
        ------
        TypeError
            The rows are not real numbers; `axis` is no integer.
        ValueError
            Rows have no such axis.

        Examples
        --------
        The last step of a tagger:

        >>> logits = pack_sequence([np.array([[0.1, 2.0], [1.5, 0.2]]), np.array([[0.0, 0.3]])])
        >>> unpack_sequence(logits.argmax(axis=-1))
        [array([1, 0]), array([1])]
        """
        if axis is None:
            return reducing.argmax(self._array, self._plan)
        return self._of(along.argmax(self._array, self._row_axis(axis)), self._plan)

    @overload
    def logsumexp(self, axis: None = None) -> Array: ...
    @overload
    def logsumexp(self, axis: SupportsIndex) -> Self: ...
    def logsumexp(self, axis: SupportsIndex | None = None) -> Array | Self:
        """Return log(sum(exp(x))) of each sequence over its steps, or of each row along an axis.

        Of the shapes of :meth:`sum`; -inf for length 0. Integers give float64.

        Raises
        ------
        TypeError
            The rows are not real numbers; `axis` is no integer.
        ValueError
            Rows have no such axis.

        Examples
        --------
        >>> pack_sequence([np.zeros(2), np.zeros(4)]).logsumexp().round(4)
        array([0.6931, 1.3863])
        """
        return self._reduced(reducing.logsumexp, along.logsumexp, axis)

    def cumsum(self, axis: SupportsIndex | None = None) -> Self:
        """Sum each sequence up to each of its steps, or each row along an axis.

        Of NumPy's dtype for sums.

        Raises
        ------
        TypeError
            The rows are not numbers; `axis` is no integer.
        ValueError
            Rows have no such axis.

        Notes
        -----
        The running sum of float32 is kept in float64.

        Examples
        --------
        >>> pack_sequence([np.array([1, 2]), np.array([3, 4, 5])]).cumsum()[1]
        array([ 3,  7, 12])
        """
        return self._walked(reducing.cumsum, along.cumsum, axis)

    def softmax(self, axis: SupportsIndex | None = None) -> Self:
        """Turn scores into weights that sum to 1 over the steps of each sequence, or along an axis.

        Over the steps, each element of a row is a score of its own. Integers give float64.

        Raises
        ------
        TypeError
            The rows are not real numbers; `axis` is no integer.
        ValueError
            Rows have no such axis.

        Examples
        --------
        >>> scores = pack_sequence([np.array([[0.0, 0.0], [0.0, np.log(3)]])])
        >>> scores.softmax(axis=-1)[0]
        array([[0.5 , 0.5 ],
               [0.25, 0.75]])
        """
        return self._walked(reducing.softmax, along.softmax, axis)

    def log_softmax(self, axis: SupportsIndex | None = None) -> Self:
        """Return the logarithm of :meth:`softmax`, computed without it, so that none is log(0).

        Examples
        --------
        >>> pack_sequence([np.zeros(2), np.zeros(4)]).log_softmax()[0].round(4)
        array([-0.6931, -0.6931])
        """
        return self._walked(reducing.log_softmax, along.log_softmax, axis)

    def _reduced(
        self, over_time: reducing.Walk, along_rows: along.Walk, axis: SupportsIndex | None
    ) -> Array | Self:
        if axis is None:
            return over_time(self._array, self._plan)
        return self._of(along_rows(self._array, self._row_axis(axis)), self._plan)

    def _walked(
        self, over_time: reducing.Walk, along_rows: along.Walk, axis: SupportsIndex | None
    ) -> Self:
        if axis is None:
            return self._of(over_time(self._array, self._plan), self._plan)
        return self._of(along_rows(self._array, self._row_axis(axis)), self._plan)

    def _row_axis(self, axis: SupportsIndex) -> int:
        return as_row_axis(axis, self._array.ndim)
