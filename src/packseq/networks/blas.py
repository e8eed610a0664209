"""Weights as BLAS reads them: torch's own arrays, but where a GRU's gates go another way.

Done once, when a module is first called. ``_core/blas.pyx`` has the order of the gates in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq._core.blas import Network
from packseq._core.gemm import Library
from packseq.networks.architecture import Architecture

Array = NDArray[Any]


def on_blas(
    architecture: Architecture, parameters: Mapping[str, Array], library: Library
) -> Network:
    """Make what runs a module's calls on BLAS.

    Raises
    ------
    ValueError
        A weight is too large for BLAS.

    Notes
    -----
    Cost: biases, and a GRU's ``weight_ih``, are copied; other weights are the module's own.
    """
    directions = [
        _direction(architecture, parameters, suffix)
        for layer in architecture.suffixes
        for suffix in layer
    ]
    return Network(
        library,
        architecture.cell.name,
        architecture.recurrent_activation,
        architecture.hidden_size,
        architecture.state_size,
        architecture.directions,
        directions,
    )


def _direction(
    architecture: Architecture, parameters: Mapping[str, Array], suffix: str
) -> tuple[Any, ...]:
    hidden = architecture.hidden_size
    weight_ih, weight_hh = parameters["weight_ih" + suffix], parameters["weight_hh" + suffix]
    late = parameters.get("weight_hr" + suffix)
    finite = bool(np.isfinite(weight_hh).all())
    bias = _bias(architecture, parameters, suffix)
    if architecture.cell.name == "gru":
        weight_ih = np.roll(weight_ih, hidden, axis=0)  # n r z: then r z m, of weight_hh, follow on
    elif architecture.cell.name == "gru_reset_before":
        weight_hh, late = weight_hh[: 2 * hidden], weight_hh[2 * hidden :]
    vectors = [parameters[name + suffix] for name in architecture.cell.vectors]
    return weight_ih, weight_hh, late, bias, np.concatenate(vectors) if vectors else None, finite


def _bias(architecture: Architecture, parameters: Mapping[str, Array], suffix: str) -> Array:
    """Of all gates, as a step has them: both biases, but for torch's GRU, whose n and m are two."""
    hidden, rows = architecture.hidden_size, architecture.gate_rows
    if architecture.bias:
        from_input, from_state = parameters["bias_ih" + suffix], parameters["bias_hh" + suffix]
    else:
        from_input = from_state = np.zeros(rows, parameters["weight_ih" + suffix].dtype)
    with np.errstate(all="ignore"):  # as in the kernels
        both = from_input + from_state
    if architecture.cell.name != "gru":
        return both
    n, m = from_input[2 * hidden :], from_state[2 * hidden :]
    return np.concatenate([n, both[: 2 * hidden], m])
