"""Which engine computes, kernels or BLAS: what ``PACKSEQ_ISA`` names, or the best that is here."""

from __future__ import annotations

import importlib.util
import os
from functools import cache

from packseq._core.gemm import Library
from packseq._core.recurrent import Kernels, compiled
from packseq.optional import load

BLAS = "blas"
# The kernels without an instruction set of their own: slower than a good BLAS.
BASELINE = "baseline"


def available_isas() -> list[str]:
    """What this machine can run, the first chosen first: BLAS, where SciPy is, among them.

    Kernels go before BLAS, since their results do not depend on what else is in the batch.
    """
    names = [kernels.name for kernels in compiled() if kernels.supported]
    blas = [BLAS] if importlib.util.find_spec("scipy") else []
    return [*(n for n in names if n != BASELINE), *blas, *(n for n in names if n == BASELINE)]


@cache
def engine() -> Kernels | Library:
    """The kernels or the BLAS that ``PACKSEQ_ISA`` names, or the first that this machine has.

    Raises
    ------
    ImportError
        BLAS is asked for, or there is nothing else, and SciPy is missing or too different.
    ValueError
        ``PACKSEQ_ISA`` names an instruction set that this machine lacks.
    """
    usable = available_isas()
    wanted = os.environ.get("PACKSEQ_ISA") or (usable[0] if usable else BLAS)
    if wanted == BLAS:
        return Library(load("scipy.linalg.cython_blas", "blas"))
    if wanted not in usable:
        raise ValueError(f"PACKSEQ_ISA={wanted!r}: this machine has {', '.join(usable)}")
    return next(kernels for kernels in compiled() if kernels.name == wanted)


@cache
def kernels() -> Kernels:
    """The kernels, for what BLAS cannot do: the engine, or this machine's best where that is BLAS.

    Raises
    ------
    RuntimeError
        This build has none.
    """
    best = next((each for each in compiled() if each.supported), None)
    if best is None:
        raise RuntimeError(
            "weights of fewer bits, and Streams, run on packseq's own kernels, and this build has "
            "none: it was made with PACKSEQ_NO_KERNELS"
        )
    chosen = engine()
    return chosen if isinstance(chosen, Kernels) else best


@cache
def product_kernels() -> Kernels | None:
    """The kernels, for products that NumPy has too: None where the engine is BLAS, or nothing."""
    chosen = engine() if compiled() else None
    return chosen if isinstance(chosen, Kernels) else None
