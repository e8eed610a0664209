"""PackedSequence: a batch of sequences of different lengths, without padding."""

from __future__ import annotations

from typing import Any, NoReturn, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from packseq.backends.choice import is_tensor, torch_rows
from packseq.plan import IndexArray, Plan


@final
class PackedSequence:
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
    def _of(cls, data: NDArray[Any], plan: Plan) -> PackedSequence:
        """Join rows to a plan that is known to fit them."""
        packed = cls.__new__(cls)
        object.__setattr__(packed, "_data", data)
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
        return self._plan.batch_sizes

    @property
    def sorted_indices(self) -> IndexArray | None:
        """The caller's index of each packed sequence, shape (B,), or None."""
        return self._plan.sorted_indices

    @property
    def unsorted_indices(self) -> IndexArray | None:
        """The packed position of each of the caller's sequences, shape (B,), or None."""
        return self._plan.unsorted_indices

    @property
    def lengths(self) -> IndexArray:
        """Steps of each sequence, shape (B,), in the caller's order."""
        return self._plan.lengths

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
        """
        if is_tensor(self._data):
            return PackedSequence._of(torch_rows().astype(self._data, dtype), self._plan)
        target = np.dtype(dtype)
        if target.hasobject:
            raise TypeError(f"dtype must not hold Python objects, got {target}")
        return PackedSequence._of(self._data.astype(target), self._plan)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"PackedSequence is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"PackedSequence is immutable: cannot delete {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedSequence._of, (self._data, self._plan)

    def __repr__(self) -> str:
        lengths = self._plan.sorted_lengths
        spread = f" of {lengths[-1]} to {lengths[0]} steps" if len(lengths) else ""
        return (
            f"PackedSequence({self.batch_size} sequences{spread}, "
            f"data {tuple(self._data.shape)} {self.dtype})"
        )


def as_data(values: ArrayLike, name: str) -> NDArray[Any]:
    """View `values` as an array whose rows are plain bytes, or raise an error that names `name`.

    A torch tensor stays one: what is read here of an array, tensors have under the same names.

    Raises
    ------
    TypeError
        Masked, or of a dtype that holds Python objects; a tensor that is sparse or nested.
    ValueError
        Nested sequences that are ragged.
    """
    if type(values) is np.ndarray and not values.dtype.hasobject:
        return values
    if is_tensor(values):
        tensor: NDArray[Any] = torch_rows().as_tensor(values, name)
        return tensor
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array: the mask would be lost")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be an array: {error}") from error
    if array.dtype.hasobject:
        raise TypeError(f"{name} must not hold Python objects, got dtype {array.dtype}")
    return array
