"""RNN, LSTM and GRU inference on sequences of different lengths, without one padded step."""

__version__ = "0.1.0"
