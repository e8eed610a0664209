"""``packseq.linear``: what stands behind a recurrent layer in most models."""

from __future__ import annotations

import math
from typing import Any, overload

from numpy.typing import ArrayLike, NDArray

from packseq.arguments import as_numpy_data, refuse_list_of_arrays
from packseq.packed import PackedSequence
from packseq.rows import products

Array = NDArray[Any]


@overload
def linear(
    input: PackedSequence, weight: ArrayLike, bias: ArrayLike | None = None
) -> PackedSequence: ...
@overload
def linear(input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> Array: ...
def linear(
    input: PackedSequence | ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None
) -> PackedSequence | Array:
    """Multiply every row by a matrix and add a bias: ``input @ weight.T + bias``.

    Parameters
    ----------
    input : PackedSequence with rows (*, I), or array_like of shape (*, I)
    weight : array_like of shape (O, I)
    bias : array_like of shape (O,), optional

    Returns
    -------
    PackedSequence with rows (*, O), or ndarray of shape (*, O)
        As `input` is one or the other.

    Raises
    ------
    TypeError
        An argument is masked, a tensor or not of numbers; `input` is a list of arrays.
    ValueError
        The shapes do not fit.

    See Also
    --------
    PackedSequence : ``p @ matrix`` is the same product, without a bias.

    Notes
    -----
    Where all are of float32 or all of float64, packseq's own kernels and threads compute it: the
    result of a row does not depend on the rows beside it or on the threads, to the last bit, and is
    that of ``p @ weight.T``. As in the modules, denormal numbers count as 0, and nothing warns of
    infinities or NaN. Other dtypes, and processes that compute on BLAS, have NumPy's product, with
    its rounding and its threads.

    Cost: 2 * I * O operations a row, with O rounded up to whole vectors, and one pass over
    `weight`, which for a few rows is most of it.
    Source: torch.nn.functional.linear.

    Examples
    --------
    >>> p = pack_sequence([np.array([[1., 2.], [3., 4.]]), np.array([[5., 6.]])])
    >>> linear(p, [[1., 0.], [0., 1.], [1., 1.]], [0., 0., 10.])[0]
    array([[ 1.,  2., 13.],
           [ 3.,  4., 17.]])
    """
    if isinstance(input, PackedSequence):
        product = products.at_once(input._data, weight, bias)
        if product is None:
            rows = input._array
            product = _linear(rows, rows.shape[1:], weight, bias)
        return PackedSequence._of(product, input._plan)
    product = products.at_once(input, weight, bias)
    if product is None:
        refuse_list_of_arrays(input, "input")
        rows = as_numpy_data(input, "input")
        product = _linear(rows, rows.shape, weight, bias)
    return product


def _linear(
    rows: Array, shape: tuple[int, ...], weight: ArrayLike, bias: ArrayLike | None
) -> Array:
    """(*, I) -> (*, O); `shape` is that of a row, or of all where they are not packed."""
    matrix = as_numpy_data(weight, "weight")
    offset = None if bias is None else as_numpy_data(bias, "bias")
    _check_number(rows, "input")
    _check_number(matrix, "weight")
    if offset is not None:
        _check_number(offset, "bias")
    _check_shapes(shape, matrix.shape, None if offset is None else offset.shape)
    if rows.ndim == 2:
        return products.linear(rows, matrix, offset)
    flat = rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])
    return products.linear(flat, matrix, offset).reshape(*rows.shape[:-1], len(matrix))


def _check_number(array: Array, name: str) -> None:
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} must be of numbers, got dtype {array.dtype}")


def _check_shapes(
    row: tuple[int, ...], weight: tuple[int, ...], bias: tuple[int, ...] | None
) -> None:
    if not row:
        raise ValueError("input must have an axis to multiply, got rows of shape ()")
    if len(weight) != 2 or weight[1] != row[-1]:
        raise ValueError(
            f"weight must have shape (O, {row[-1]}) for an input of rows {row}, got {weight}"
        )
    if bias is not None and bias != weight[:1]:
        raise ValueError(f"bias must have shape ({weight[0]},) as weight has rows, got {bias}")
