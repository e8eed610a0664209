"""A user's program, as type checkers see it: never run, but checked by tests/test_typing.py."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import packseq
from packseq import GRU, LSTM, RNN, GRUCell, LSTMCell, PackedSequence, RNNCell, Streams
from packseq.weights import Backward

Array = NDArray[Any]
Pair = tuple[Array, Array]

x = np.zeros((5, 3), np.float32)
W, bias = np.zeros((4, 2), np.float32), np.zeros(4, np.float32)
packed = packseq.pack_sequence([x, x[:2]])
lstm, gru, rnn = LSTM(3, 4), GRU(3, 4), RNN(3, 4)


# ---- modules ----

assert_type(lstm(packed), tuple[PackedSequence, Pair])
assert_type(lstm(x), tuple[Array, Pair])
assert_type(lstm([[0.0, 1.0, 2.0]]), tuple[Array, Pair])
assert_type(lstm(x[None], lengths=[5], num_threads=2), tuple[Array, Pair])
assert_type(gru(packed), tuple[PackedSequence, Array])
assert_type(gru(x), tuple[Array, Array])
assert_type(rnn(packed), tuple[PackedSequence, Array])
assert_type(rnn(x, out=np.empty((5, 4), np.float32)), tuple[Array, Array])

out, (h, c) = lstm(packed)
assert_type(lstm(packed, (h, c)), tuple[PackedSequence, Pair])
assert_type(lstm(packed, [h, c]), tuple[PackedSequence, Pair])
assert_type(lstm.quantize("int8")(packed), tuple[PackedSequence, Pair])
assert_type(LSTM.from_state_dict(lstm.state_dict())(x), tuple[Array, Pair])

assert_type(LSTMCell(3, 4)(x), Pair)
assert_type(GRUCell(3, 4)(x), Array)
assert_type(RNNCell(3, 4)(x, h), Array)


# ---- operators ----

assert_type(out @ W, PackedSequence)
assert_type(out + 1, PackedSequence)
assert_type(1 / out, PackedSequence)
assert_type(bias - out, PackedSequence)
assert_type(-(abs(out) ** 2), PackedSequence)
assert_type(divmod(out, 2), tuple[PackedSequence, PackedSequence])
assert_type(out > 0, PackedSequence)
assert_type(out == 0, PackedSequence)
out += 1
assert_type(out, PackedSequence)

# NumPy's stubs say Any of its functions of what is no array: map keeps the type.
assert_type(np.tanh(out), Any)
assert_type(out.map(np.tanh), PackedSequence)


# ---- sessions ----

streams = Streams(lstm)
assert_type(streams.module, LSTM)
assert_type(streams.state(streams.open()), Pair)
assert_type(Streams(gru).state(0), Array)
assert_type(streams.push([0], x[:1]), Array)
assert_type(streams.push([0], [x]), list[Array])
assert_type(streams.push([0], packed), PackedSequence)


# ---- files ----

loaded = packseq.load("model.safetensors")
assert_type(loaded, RNN | GRU | LSTM | RNNCell | GRUCell | LSTMCell | Backward)
if isinstance(loaded, LSTM):
    assert_type(loaded(packed), tuple[PackedSequence, Pair])
if isinstance(loaded, Backward):
    assert_type(loaded(packed), tuple[PackedSequence, Array | Pair])


# ---- a wrapper of the user's ----


class Tagger:
    """Words to classes."""

    def __init__(self, path: str, weight: Array) -> None:
        module = packseq.load(path)
        if not isinstance(module, LSTM):
            raise TypeError(f"{path} holds no LSTM")
        self.module, self.weight = module, weight

    def __call__(self, sequences: list[Array]) -> list[Array]:
        steps, _ = self.module(packseq.pack_sequence(sequences))
        logits = steps.map(np.tanh) @ self.weight
        return packseq.unpack_sequence(logits.log_softmax())
