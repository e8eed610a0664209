"""Which instruction set the kernels run on: ``PACKSEQ_ISA``, or the best that this machine has."""

from __future__ import annotations

import os
from functools import cache

from packseq._core.recurrent import Kernels, compiled


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
    usable = {each.name: each for each in compiled() if each.supported}
    wanted = os.environ.get("PACKSEQ_ISA") or next(iter(usable))
    if wanted not in usable:
        raise ValueError(f"PACKSEQ_ISA={wanted!r}: this machine has {', '.join(usable)}")
    return usable[wanted]
