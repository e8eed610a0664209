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
        return linear(data, matrix.T)
    flat = data.reshape(math.prod(data.shape[:-1]), data.shape[-1])
    product = linear(flat, matrix.T if matrix.ndim == 2 else matrix[np.newaxis])
    return product.reshape(*data.shape[:-1], *matrix.shape[1:])


def at_once(
    rows: object, weight: object, bias: object = None, num_threads: int | None = None
) -> Array | None:
    """(N, I) @ (H, I).T + (H,) -> (N, H), where the kernels can read what comes, as it is.

    None where they cannot: anything may come, and it is for others to say what is wrong with it.
    """
    kernels = product_kernels()
    return None if kernels is None else kernels.linear(rows, weight, bias, *crew(num_threads))


def linear(
    rows: Array, weight: Array, bias: Array | None = None, num_threads: int | None = None
) -> Array:
    """(N, I) @ (H, I).T + (H,) -> (N, H).

    Notes
    -----
    Cost: 2 * N * I * H operations, H rounded up to whole vectors, and one pass over `weight`.
    """
    product = at_once(rows, weight, bias, num_threads)
    if product is None:
        offset = None if bias is None else _in_order(bias)
        product = at_once(_in_order(rows), _in_order(weight), offset, num_threads)
    if product is None:
        product = rows @ weight.T
        return product if bias is None else product + bias
    return product


def _in_order(array: Array) -> Array:
    """C-contiguous and aligned, copied where it is not."""
    return np.require(array, requirements=("C", "A"))
