"""RNN, LSTM and GRU inference on sequences of different lengths, without one padded step."""

from packseq.backends.choice import get_backend, set_backend
from packseq.backends.threads import get_num_threads, set_num_threads
from packseq.cells import GRUCell, LSTMCell, RNNCell
from packseq.config import show_config
from packseq.layout import (
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)
from packseq.modules import GRU, LSTM, RNN
from packseq.packed import PackedSequence
from packseq.plan import invert_permutation
from packseq.version import __version__
from packseq.weights import load, save

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "PackedSequence",
    "RNNCell",
    "__version__",
    "get_backend",
    "get_num_threads",
    "invert_permutation",
    "load",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "save",
    "set_backend",
    "set_num_threads",
    "show_config",
    "unpack_sequence",
    "unpad_sequence",
]
