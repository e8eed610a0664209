"""Arrays on this process's engine, the kernels or BLAS: lend it threads, call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from packseq.networks.call import ArrayRunner, Call
from packseq.networks.engines import Network
from packseq.rows.plan import Plan
from packseq.settings.threads import crew

Array = NDArray[Any]


class OnKernels(ArrayRunner):
    """Runs arrays here, on the kernels or on BLAS."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def forward(
        self, call: Call, x: Array, y: Array, hx: Sequence[Array | None], hn: Sequence[Array]
    ) -> None:
        """As ArrayRunner has it."""
        forward(self._network, x, y, call.plan, hx, hn, call.num_threads, call.padded_steps)


def forward(
    network: Network,
    x: Array,
    out: Array,
    plan: Plan | None,
    hx: Sequence[Array | None],
    hn: Sequence[Array],
    num_threads: int | None,
    padded_steps: int = 0,
) -> None:
    """Run a network, writing `out` and `hn`.

    Parameters
    ----------
    x, out : (N, width), or (T, B, width) in the caller's order
        At least one step and one sequence; aligned, native, the last axis contiguous.
    plan : Plan or None
        None only for (T, B, width): every sequence has T steps.
    hx, hn : (h,) or (h, c), each (L * D, B, width) and C-contiguous
        First and last states in the caller's order; None for zeros.
    num_threads : int or None
        At most so many threads; None for packseq.get_num_threads().
    padded_steps : int
        The steps of a padded `out` whose rows past each end become zeros.

    Raises
    ------
    MemoryError
        There is none for the workspace.
    """
    if plan is None:
        (steps, batch), batch_sizes, offsets, order = x.shape[:2], None, None, None
    else:
        steps, batch = plan.max_length, plan.batch_size
        batch_sizes, offsets, order = plan.batch_sizes, plan.offsets, plan.sorted_indices
    states = _pair(hx), _pair(hn)
    network.forward(
        x,
        out,
        batch,
        steps,
        batch_sizes,
        offsets,
        order,
        *states,
        *crew(num_threads),
        padded_steps,
    )


def _pair(states: Sequence[Array | None]) -> tuple[Array | None, Array | None]:
    return states[0], states[1] if len(states) == 2 else None
