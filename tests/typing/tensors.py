"""A user's program of torch's tensors, as type checkers see it; see arrays.py."""

from typing import assert_type

import torch
from torch import Tensor

from packseq import GRU, LSTM, GRUCell, LSTMCell, Streams, pad_sequence, unpad_sequence
from packseq.weights import Backward

x = torch.zeros(5, 2, 3)
lstm, gru = LSTM(3, 4), GRU(3, 4)

assert_type(lstm(x), tuple[Tensor, tuple[Tensor, Tensor]])
assert_type(lstm(x, lengths=torch.tensor([5, 2])), tuple[Tensor, tuple[Tensor, Tensor]])
assert_type(gru(x), tuple[Tensor, Tensor])
output, h = gru(x)
assert_type(gru(x, h), tuple[Tensor, Tensor])
assert_type(gru(torch.nn.Parameter(x)), tuple[Tensor, Tensor])

assert_type(LSTMCell(3, 4)(x[0]), tuple[Tensor, Tensor])
assert_type(GRUCell(3, 4)(x[0], h[0]), Tensor)
assert_type(Streams(lstm).push([0, 1], x[0]), Tensor)
assert_type(Backward(gru)(x), tuple[Tensor, Tensor | tuple[Tensor, Tensor]])

padded = pad_sequence([x[:, 0], x[:2, 1]])
assert_type(padded, Tensor)
assert_type(unpad_sequence(padded, [5, 2]), list[Tensor])
