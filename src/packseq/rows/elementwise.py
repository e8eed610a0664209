"""What each operand of NumPy's universal functions is to the packed rows of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq.rows.plan import Plan

Array = NDArray[Any]


def shared_plan(plans: Sequence[Plan], what: str) -> Plan:
    """The one plan that all rows are laid out by.

    Raises
    ------
    ValueError
        Two differ; the message starts with `what` and says how.
    """
    for plan in plans[1:]:
        difference = plans[0].difference(plan)
        if difference is not None:
            raise ValueError(f"{what} must share one layout: {difference}")
    return plans[0]


def aligned(values: Sequence[Any], rows: Sequence[Array | None], axes: int, name: str) -> list[Any]:
    """Shape operands so that NumPy's broadcasting pairs rows with rows.

    Parameters
    ----------
    values : sequence
        The operands as they came.
    rows : sequence of ndarray (N, *) or None
        The rows of those that are packed.
    axes : int
        The most axes that a row has, of the operands and of what they are written to.
    name : str
        The function, for the message.

    Raises
    ------
    ValueError
        A plain array has more axes than the rows, so that its first might pair with N by accident.
    """
    return [
        _for_every_row(value, axes, name) if array is None else _widened(array, axes)
        for value, array in zip(values, rows, strict=True)
    ]


def broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether rows of `shape` broadcast to rows of `target`."""
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False


def _widened(rows: Array, axes: int) -> Array:
    """(N, *) with axes of 1 after the first, up to `axes` of a row."""
    if rows.ndim - 1 == axes:
        return rows
    return rows.reshape(len(rows), *[1] * (axes + 1 - rows.ndim), *rows.shape[1:])


def _for_every_row(value: Any, axes: int, name: str) -> Any:
    if np.ndim(value) > axes:
        raise ValueError(
            f"{name}: an array of shape {np.shape(value)} has more axes than the rows, which have "
            f"{axes}: arrays combine with each row; broadcast() spreads one row a sequence, and "
            "map() takes an array of one row a packed row"
        )
    return value


def as_rows(values: Array, count: int) -> Array:
    """Check that a mapped function has kept the rows.

    Raises
    ------
    ValueError
        Another number of them.
    """
    if values.ndim == 0 or len(values) != count:
        raise ValueError(
            f"map: the function must keep the {count} rows, got an array of shape {values.shape}"
        )
    return values
