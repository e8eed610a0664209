"""The CPU backend: choose the kernels, lend them memory and threads, call them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq._core.recurrent import Call, Kernels, Network, compiled
from packseq.backends.threads import crew
from packseq.plan import Plan

Array = NDArray[Any]

# A workspace that is kept for the thread's next call; what is larger is given back at once.
_KEPT_BYTES = 64 << 20
_kept = threading.local()


def available_isas() -> list[str]:
    """The instruction sets this machine can run, best first."""
    return [kernels.name for kernels in compiled() if kernels.supported]


@cache
def kernels() -> Kernels:
    """The best kernels this machine has, or those that ``PACKSEQ_ISA`` names.

    Raises
    ------
    ValueError
        ``PACKSEQ_ISA`` names an instruction set that this machine lacks.
    """
    usable = {found.name: found for found in compiled() if found.supported}
    wanted = os.environ.get("PACKSEQ_ISA") or next(iter(usable))
    if wanted not in usable:
        raise ValueError(f"PACKSEQ_ISA={wanted!r}: this machine has {', '.join(usable)}")
    return usable[wanted]


def forward(
    network: Network,
    x: Array,
    out: Array,
    plan: Plan | None,
    hx: Sequence[Array | None],
    hn: Sequence[Array],
    num_threads: int | None,
    zero_tails: bool = False,
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
    zero_tails : bool
        Write zeros to the rows of a padded `out` past each end, up to the longest.
    """
    if plan is None:
        (steps, batch), batch_sizes, offsets, order = x.shape[:2], None, None, None
    else:
        steps, batch = plan.max_length, plan.batch_size
        batch_sizes, offsets, order = plan.batch_sizes, plan.offsets, plan.sorted_indices
    pairs = _pair(hx), _pair(hn)

    def cut(threads: int) -> Call:
        return Call(
            network, x, out, batch, steps, batch_sizes, offsets, order, *pairs, threads, zero_tails
        )

    with crew(num_threads) as run:
        call = cut(run.size)
        if call.workers > 1 and run.native.reserve(call.workers) < call.workers:
            call = cut(1)  # the system has no more threads
        workspace = _take_workspace(call.workspace_bytes + 64)
        call.use(workspace)
        if call.workers == 1:
            call.run()
        else:
            call.run_on(run.native)
        _keep_workspace(workspace)


def _pair(states: Sequence[Array | None]) -> tuple[Array | None, Array | None]:
    return states[0], states[1] if len(states) == 2 else None


def _take_workspace(size: int) -> NDArray[np.uint8]:
    """The kept one is taken away: a signal's handler may call in the middle of a call."""
    kept: NDArray[np.uint8] | None = getattr(_kept, "workspace", None)
    _kept.workspace = None
    return kept if kept is not None and kept.size >= size else np.empty(size, np.uint8)


def _keep_workspace(workspace: NDArray[np.uint8]) -> None:
    if workspace.size <= _KEPT_BYTES:
        _kept.workspace = workspace
