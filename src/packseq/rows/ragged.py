"""Packed rows made of ragged ones, sequences that lie end to end in (N, *), and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq._core import rows
from packseq.rows.plan import IndexArray, Plan, starts_of
from packseq.settings.threads import crew

Array = NDArray[Any]

# Values, C-contiguous rows, and int64 offsets of one more entry than there are sequences, within
# the values and non-decreasing.
Ragged = tuple[Array, IndexArray]


def pack(parts: Sequence[Ragged]) -> tuple[Array, Plan]:
    """Pack the sequences of all parts, at least one, straight from each.

    Rows that lie in packed order already are not copied.
    """
    plan = Plan.from_lengths(np.concatenate([np.diff(offsets) for _, offsets in parts]))
    values, offsets = parts[0]
    if len(parts) == 1 and _in_order(plan):
        return values[offsets[0] : offsets[-1]], plan
    packed = np.empty((plan.rows, *values.shape[1:]), values.dtype)
    row_bytes = packed.nbytes // max(plan.rows, 1)
    addresses = [values.ctypes.data + row_bytes * starts[:-1] for values, starts in parts]
    gather(packed, plan, np.concatenate(addresses))
    return packed, plan


def gather(packed: Array, plan: Plan, addresses: IndexArray) -> None:
    """Fill packed rows (N, *) from sequences, (B,) addresses in the caller's order, whose steps lie
    end to end."""
    if packed.nbytes:
        row_bytes = packed.nbytes // plan.rows
        rows.gather(
            packed,
            row_bytes,
            plan.in_packed_order(addresses),
            np.full(plan.batch_size, row_bytes),
            plan.sorted_lengths,
            plan.offsets,
            *crew(),
        )


def unpack(data: Array, plan: Plan) -> Ragged:
    """Rows end to end in the caller's order, and their offsets, (B + 1,)."""
    offsets = starts_of(plan.lengths)
    if _in_order(plan):
        return data, offsets
    values = np.empty(data.shape, data.dtype)
    scatter(data, plan, values, offsets[:-1])
    return values, offsets


def scatter(data: Array, plan: Plan, values: Array, starts: IndexArray) -> None:
    """Put each sequence into rows (M, *) of `values` from its start on, (B,) in the caller's
    order."""
    if data.nbytes:
        row_bytes = data.nbytes // plan.rows
        rows.scatter(
            np.ascontiguousarray(data),
            row_bytes,
            values.ctypes.data + row_bytes * plan.in_packed_order(starts),
            np.full(plan.batch_size, row_bytes),
            plan.sorted_lengths,
            plan.offsets,
            None,  # padding,
            0,  # of no steps
            *crew(),
        )


def _in_order(plan: Plan) -> bool:
    """Whether packed rows lie sequence by sequence too: one has all, or each has at most one."""
    if plan.max_length == 0 or plan.batch_sizes[0] == 1:
        return True
    # Equal lengths may be in any order in a batch that another library packed.
    order = plan.sorted_indices
    return plan.max_length == 1 and (order is None or bool(np.all(np.diff(order[: plan.rows]) > 0)))
