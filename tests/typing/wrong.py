"""What type checkers refuse, each line by a comment that is an error where nothing is refused."""

import numpy as np

import packseq

x = np.zeros((5, 3), np.float32)
packed = packseq.pack_sequence([x])
lstm = packseq.LSTM(3, 4)

lstm(packed, lengths=[5])  # type: ignore[call-overload]
lstm(x, x)  # type: ignore[call-overload]
packseq.LSTMCell(3, 4)(packed)  # type: ignore[call-overload]
