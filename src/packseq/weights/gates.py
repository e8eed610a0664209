"""The order of the gates in formats that do not have torch's: the only such tables.

The letters are torch's: ``i f g o`` for the LSTM and ``r z n`` for the GRU. What torch calls g,
ONNX and Keras call c; what torch calls n, they call h.

Source: the ONNX operators LSTM ("iofc", peepholes "iof"), GRU ("zrh") and RNN; Keras's
LSTMCell.call and GRUCell.call.
"""

import numpy as np
from numpy.typing import NDArray

from packseq.networks.architecture import PLAIN

TORCH = {kind: cell.gates for kind, cell in PLAIN.items()}
ONNX = {"LSTM": "iofg", "GRU": "zrn", "RNN": "n"}
KERAS = {"LSTM": "ifgo", "GRU": "zrn", "RNN": "n"}
# c reaches every gate of an LSTM but g, its own candidate.
ONNX_PEEPHOLES = ONNX["LSTM"].replace("g", "")


def in_torchs_order(
    parameter: NDArray[np.generic], kind: str, order: dict[str, str]
) -> NDArray[np.generic]:
    """Reorder the gates of a weight (G*H, K) or a bias (G*H,) from `order` to torch's."""
    theirs, ours = order[kind], TORCH[kind]
    if theirs == ours:
        return parameter
    by_gate = parameter.reshape(len(theirs), -1, *parameter.shape[1:])
    return by_gate[[theirs.index(gate) for gate in ours]].reshape(parameter.shape)
