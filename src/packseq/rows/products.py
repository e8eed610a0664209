"""Products of rows with a matrix, on packseq's threads and with bits that no other row changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq.settings.isa import product_kernels
from packseq.settings.threads import crew

Array = NDArray[Any]


def matmul(data: Array, matrix: Array) -> Array:
    """(N, *, I) @ (I, H) -> (N, *, H), or (I,) -> (N, *): one product of all rows.

    Raises
    ------
    ValueError
        The rows have no axis, `matrix` has other than 1 or 2, or its first is not I.
    """
    if data.ndim < 2:
        raise ValueError("matmul: the rows must have an axis to multiply, got rows of shape ()")
    if matrix.ndim not in (1, 2) or matrix.shape[0] != data.shape[-1]:
        raise ValueError(
            f"matmul: rows of shape {data.shape[1:]} need a matrix of shape ({data.shape[-1]}, H) "
            f"or a vector, got shape {matrix.shape}"
        )
    if data.ndim == matrix.ndim == 2:
        return linear(data, matrix)
    flat = data.reshape(math.prod(data.shape[:-1]), data.shape[-1])
    product = linear(flat, matrix if matrix.ndim == 2 else matrix[:, np.newaxis])
    return product.reshape(*data.shape[:-1], *matrix.shape[1:])


def linear(
    rows: Array, matrix: Array, bias: Array | None = None, num_threads: int | None = None
) -> Array:
    """(N, I) @ (I, H) + (H,) -> (N, H).

    Notes
    -----
    Cost: 2 * N * I * H operations, H rounded up to whole vectors, and one pass over `matrix`.
    """
    kernels = product_kernels()
    if kernels is None or not _has_product(rows, matrix, bias):
        product: Array = rows @ matrix
        return product if bias is None else product + bias
    if rows.strides[-1] != rows.itemsize:
        rows = np.ascontiguousarray(rows)
    rows, matrix = _in_place(rows), _in_place(matrix)
    if bias is not None and not (bias.flags.c_contiguous and bias.flags.aligned):
        bias = np.array(bias)
    out = np.empty((len(rows), matrix.shape[1]), rows.dtype)
    kernels.linear(rows, matrix, bias, out, *crew(num_threads))
    return out


_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def _has_product(rows: Array, matrix: Array, bias: Array | None) -> bool:
    """Whether the kernels have a product of such numbers, of which there are some."""
    dtype = rows.dtype
    same = dtype == matrix.dtype and (bias is None or dtype == bias.dtype)
    return same and dtype in _DTYPES and rows.size > 0 and matrix.size > 0


def _in_place(array: Array) -> Array:
    """What the kernels can read: a copy only where numbers are not a multiple of them apart."""
    flags, size = array.flags, array.itemsize
    whole = flags.forc or all(stride % size == 0 for stride in array.strides)
    return array if whole and flags.aligned else np.array(array, order="C")
