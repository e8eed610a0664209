"""A linear layer whose results do not depend, to the last bit, on what else is in the batch.

A matrix product of BLAS does not promise that: which of its loops a row goes through depends on the
number of rows. The kernels of the recurrent modules do, and ``z = relu(z) - relu(-z)`` exactly: so
the layer is an RNN of one step, whose first state is zero, with each output twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq.networks.modules import RNN

Array = NDArray[Any]

# Outputs of one RNN: its product with the zero state grows with their square.
_BLOCK = 64


class Linear:
    """``rows @ weight.T + bias``.

    Parameters
    ----------
    weight : (K, D)
    bias : (K,)
    """

    def __init__(self, weight: Array, bias: Array) -> None:
        self._blocks = [
            _twice(weight[k : k + _BLOCK], bias[k : k + _BLOCK])
            for k in range(0, len(weight), _BLOCK)
        ]

    def __call__(self, rows: Array, num_threads: int | None = None) -> Array:
        """(N, D) to (N, K).

        Notes
        -----
        Cost: 2 * (D + 128) multiplications for each of the N * K results.
        """
        parts = []
        for block in self._blocks:
            output, _ = block(rows[np.newaxis], num_threads=num_threads)
            positive, negative = np.split(output[0], 2, axis=1)
            parts.append(positive - negative)
        return np.concatenate(parts, axis=1)


def _twice(weight: Array, bias: Array) -> RNN:
    """What gives relu(z) and relu(-z) of the linear layer's z."""
    size = 2 * len(weight)
    parameters = {
        "weight_ih_l0": np.concatenate([weight, -weight]),
        "weight_hh_l0": np.zeros((size, size), weight.dtype),
        "bias_ih_l0": np.concatenate([bias, -bias]),
        "bias_hh_l0": np.zeros(size, weight.dtype),
    }
    return RNN.from_state_dict(parameters, nonlinearity="relu")
