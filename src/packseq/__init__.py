"""RNN, LSTM and GRU inference on sequences of different lengths, without one padded step."""

from packseq.backends.threads import get_num_threads, set_num_threads
from packseq.batching import batches
from packseq.cells import GRUCell, LSTMCell, RNNCell
from packseq.combining import concatenate, windows
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
from packseq.modules import GRU, LSTM, RNN
from packseq.packed import PackedSequence
from packseq.plan import invert_permutation
from packseq.plotting import plot_packing, plot_savings

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "PackedSequence",
    "RNNCell",
    "batches",
    "concatenate",
    "cross_entropy",
    "embedding",
    "from_arrow",
    "from_awkward",
    "get_num_threads",
    "invert_permutation",
    "mse_loss",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "plot_packing",
    "plot_savings",
    "savings",
    "set_num_threads",
    "to_arrow",
    "to_awkward",
    "unpack_sequence",
    "unpad_sequence",
    "windows",
]
