"""Several packed batches made one: along an axis of their rows, as batches, or in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, SupportsIndex

import numpy as np

from packseq.arguments import as_axis
from packseq.rows import moving
from packseq.rows.elementwise import shared_plan
from packseq.rows.moving import Packed


def join(parts: Sequence[Packed], axis: SupportsIndex | Literal["time"], name: str) -> Packed:
    """Join rows with their plans, of at least one batch: always a copy.

    Raises
    ------
    TypeError
        Dtypes have no common one; `axis` is no integer.
    ValueError
        Shapes, batch sizes or layouts differ where they must not; rows have no such axis. The
        message names the position in what is called `name`.
    """
    first, plan = parts[0]
    if isinstance(axis, str) and axis != "time":
        raise ValueError(f"axis must be an integer or 'time', got {axis!r}")
    place = as_axis(0 if isinstance(axis, str) else axis, first.ndim)
    for k, (data, _) in enumerate(parts):
        if _without(data.shape, place) != _without(first.shape, place):
            raise ValueError(
                f"{name}[{k}] has rows of shape {data.shape[1:]}, {name}[0] of {first.shape[1:]}"
            )
    if place:
        plan = shared_plan([plan for _, plan in parts], name)
        return np.concatenate([data for data, _ in parts], place), plan
    dtype = np.result_type(*(data.dtype for data, _ in parts))
    pairs = [(data.astype(dtype, copy=False), plan) for data, plan in parts]
    if axis != "time":
        return moving.join_batches(pairs)
    for k, (_, other) in enumerate(parts):
        if other.batch_size != plan.batch_size:
            raise ValueError(
                f"{name}[{k}] has {other.batch_size} sequences to join in time, {name}[0] has "
                f"{plan.batch_size}"
            )
    return moving.join_time(pairs)


def _without(shape: tuple[int, ...], place: int) -> tuple[int, ...]:
    """The shape of a row without the axis that is joined."""
    return shape[1:] if place == 0 else (*shape[1:place], *shape[place + 1 :])
