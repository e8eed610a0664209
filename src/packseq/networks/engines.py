"""A module's weights as this process's engine reads them: the kernels, or BLAS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from packseq._core import blas
from packseq._core.recurrent import Kernels
from packseq._core.recurrent import Network as KernelNetwork
from packseq.networks.architecture import Architecture
from packseq.networks.blas import on_blas
from packseq.networks.prepack import prepack
from packseq.settings.isa import engine, kernels

Network = KernelNetwork | blas.Network


def pack(
    architecture: Architecture, parameters: Mapping[str, NDArray[Any]], batch_first: bool
) -> Network:
    """Make what runs a module's calls; those of fewer bits run on the kernels alone.

    Raises
    ------
    ImportError
        There are no kernels for this machine, and no SciPy.
    RuntimeError
        The weights are of fewer bits, and this build has no kernels.
    ValueError
        ``PACKSEQ_ISA`` names what this machine lacks; a weight is too large for BLAS.
    """
    chosen = kernels() if architecture.precision else engine()
    if isinstance(chosen, Kernels):
        return prepack(architecture, parameters, chosen, batch_first)
    return on_blas(architecture, parameters, chosen)
