"""RNN, LSTM and GRU inference on sequences of different lengths, without one padded step."""

from importlib import import_module
from typing import TYPE_CHECKING

from packseq.batching import batches
from packseq.combining import concatenate, windows
from packseq.comparing import compare
from packseq.costs import savings
from packseq.functional import cross_entropy, embedding, mse_loss
from packseq.interchange import from_arrow, from_awkward, to_arrow, to_awkward
from packseq.layout import (
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)
from packseq.linear_layer import linear
from packseq.networks.cells import GRUCell, LSTMCell, RNNCell
from packseq.networks.modules import GRU, LSTM, RNN
from packseq.networks.streams import Streams
from packseq.packed import PackedSequence
from packseq.plotting import plot_packing, plot_savings
from packseq.predict.predictor import Predictor
from packseq.rows.plan import invert_permutation
from packseq.settings.backend import get_backend, set_backend
from packseq.settings.config import show_config
from packseq.settings.threadpools import register_if_imported, register_threadpoolctl
from packseq.settings.threads import get_num_threads, set_num_threads
from packseq.tables.running import run
from packseq.version import __version__
from packseq.weights import load, save

if TYPE_CHECKING:
    from packseq import torch as torch
    from packseq import weights as weights

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "PackedSequence",
    "Predictor",
    "RNNCell",
    "Streams",
    "__version__",
    "batches",
    "compare",
    "concatenate",
    "cross_entropy",
    "embedding",
    "from_arrow",
    "from_awkward",
    "get_backend",
    "get_num_threads",
    "invert_permutation",
    "linear",
    "load",
    "mse_loss",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "plot_packing",
    "plot_savings",
    "register_threadpoolctl",
    "run",
    "save",
    "savings",
    "set_backend",
    "set_num_threads",
    "show_config",
    "to_arrow",
    "to_awkward",
    "unpack_sequence",
    "unpad_sequence",
    "windows",
]

register_if_imported()


def __dir__() -> list[str]:
    """What is public: the names above, and the two modules beside them."""
    return sorted([*__all__, "torch", "weights"])


if not TYPE_CHECKING:  # to which any name would seem to be there

    def __getattr__(name: str) -> object:
        """Import packseq.torch, and torch with it, when it is first asked for."""
        if name != "torch":
            raise AttributeError(f"module 'packseq' has no attribute {name!r}")
        try:
            return import_module("packseq.torch")
        except ImportError as error:
            raise AttributeError(str(error)) from error
