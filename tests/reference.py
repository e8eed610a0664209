"""Recurrent networks as the textbook writes them: the specification packseq is tested against.

Everything is float64 and one sequence at a time, so nothing here knows of batches, padding or
packing. `weights` is a state dict with torch's names, and those of an LSTM's peepholes; a state is
the tuple `(h,)`, or `(h, c)` for an LSTM. Gates go through `s`, candidates and c through tanh.

Networks of fewer bits are the same cells on other matrices: `Int8` and `BFloat16` round what they
multiply. A state dict of int8 says so by its arrays; bfloat16 is asked for, as `matrix=BFloat16`.
"""

import numpy as np


def sigmoid(x):
    return (1 + np.tanh(x / 2)) / 2


def hard_sigmoid(x):
    """torch's, and Keras's from version 3 on."""
    return np.minimum(np.maximum(x + 3, 0), 6) / 6


def hard_sigmoid_02(x):
    """ONNX's with its default alpha and beta, and Keras's before version 3."""
    return np.maximum(0, np.minimum(1, 0.2 * x + 0.5))


GATE_ACTIVATIONS = {
    "sigmoid": sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "hard_sigmoid_0.2": hard_sigmoid_02,
}


# ---- fewer bits ----


def int8_code(v):
    """A row in 8 bits, (q, scale): v is q * scale, about. Every operation is float32's."""
    v = v.astype(np.float32)
    largest = np.max(np.abs(v))
    if not np.isfinite(largest):
        return np.zeros(len(v), np.int64), np.float32(np.nan)
    if largest < np.float32(2.0**-100):
        return np.zeros(len(v), np.int64), np.float32(0)
    factor = np.float32(127) / largest
    return np.rint(v * factor).astype(np.int64), largest / np.float32(127)  # rint: ties to even


class Int8:
    """A matrix of int8 with a scale for each row: W @ v codes v too, and sums integers."""

    def __init__(self, numbers, scale):
        self.numbers, self.scale = numbers.astype(np.int64), scale.astype(np.float32)

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, rows):
        return Int8(self.numbers[rows], self.scale[rows])

    def __matmul__(self, v):
        q, scale = int8_code(v)
        sums = (self.numbers @ q).astype(np.float32)
        return (sums * (self.scale * scale)).astype(np.float64)


def bfloat16(v):
    """The nearest number of 8 bits of mantissa, ties to even."""
    mantissa, exponent = np.frexp(v.astype(np.float64))
    return np.where(np.isfinite(v), np.ldexp(np.rint(mantissa * 256) / 256, exponent), v)


class BFloat16:
    """A matrix of bfloat16: W @ v rounds v too; products are exact, and so is their sum here."""

    def __init__(self, numbers):
        self.numbers = bfloat16(numbers)

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, rows):
        return BFloat16(self.numbers[rows])

    def __matmul__(self, v):
        return self.numbers @ bfloat16(v)


# ---- cells ----


def projections(p, x, h):
    """What the gates of one cell receive from its input and from its state."""
    from_input = p["weight_ih"] @ x + p.get("bias_ih", 0)
    from_state = p["weight_hh"] @ h + p.get("bias_hh", 0)
    return from_input, from_state


def lstm_cell(p, x, state, s=sigmoid):
    h, c = state
    i, f, g, o = np.split(sum(projections(p, x, h)), 4)
    c = s(f) * c + s(i) * np.tanh(g)
    h = s(o) * np.tanh(c)
    if "weight_hr" in p:
        h = p["weight_hr"] @ h
    return h, c


def lstm_peephole_cell(p, x, state, s=sigmoid):
    """i and f see c of the step before, o the new one."""
    h, c = state
    i, f, g, o = np.split(sum(projections(p, x, h)), 4)
    c = s(f + p["weight_cf"] * c) * c + s(i + p["weight_ci"] * c) * np.tanh(g)
    h = s(o + p["weight_co"] * c) * np.tanh(c)
    if "weight_hr" in p:
        h = p["weight_hr"] @ h
    return h, c


def gru_cell(p, x, state, s=sigmoid):
    (h,) = state
    (x_r, x_z, x_n), (h_r, h_z, h_n) = (np.split(a, 3) for a in projections(p, x, h))
    r = s(x_r + h_r)
    z = s(x_z + h_z)
    n = np.tanh(x_n + r * h_n)
    return ((1 - z) * n + z * h,)


def gru_reset_before_cell(p, x, state, s=sigmoid):
    (h,) = state
    rows = len(h)
    w_r, w_z, w_n = (p["weight_hh"][i * rows : (i + 1) * rows] for i in range(3))
    x_r, x_z, x_n = np.split(p["weight_ih"] @ x + p.get("bias_ih", 0) + p.get("bias_hh", 0), 3)
    r = s(x_r + w_r @ h)
    z = s(x_z + w_z @ h)
    n = np.tanh(x_n + w_n @ (r * h))
    return ((1 - z) * n + z * h,)


def rnn_tanh_cell(p, x, state, s=None):
    return (np.tanh(sum(projections(p, x, *state))),)


def rnn_relu_cell(p, x, state, s=None):
    return (np.maximum(sum(projections(p, x, *state)), 0),)


CELLS = {
    "LSTM": lstm_cell,
    "LSTM_PEEPHOLE": lstm_peephole_cell,
    "GRU": gru_cell,
    "GRU_RESET_BEFORE": gru_reset_before_cell,
    "RNN_TANH": rnn_tanh_cell,
    "RNN_RELU": rnn_relu_cell,
}
GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def as_float64(array):
    return array.astype(np.float64)


def parameters(weights, suffix="", matrix=as_float64):
    """The parameters of one cell: "_l1_reverse" is layer 1, backwards; "" a lone cell."""
    found = {}
    for name in ("weight_ih", "weight_hh", "weight_hr"):
        if name + suffix + "_scale" in weights:
            found[name] = Int8(weights[name + suffix], weights[name + suffix + "_scale"])
        elif name + suffix in weights:
            found[name] = matrix(weights[name + suffix])
    names = ("bias_ih", "bias_hh", "weight_ci", "weight_cf", "weight_co")
    return found | {n: as_float64(weights[n + suffix]) for n in names if n + suffix in weights}


def run_direction(cell, p, x, state, steps, s=sigmoid):
    output = np.empty((len(x), len(state[0])))
    for t in steps:
        state = cell(p, x[t], state, s)
        output[t] = state[0]
    return output, state


def run_sequence(kind, weights, x, states, gate_activation="sigmoid", matrix=as_float64):
    """x of shape (T, I), one state per layer and direction -> output (T, D*H), final states."""
    x = x.astype(np.float64)
    s = GATE_ACTIVATIONS[gate_activation]
    finals = []
    layers = sum(f"weight_ih_l{layer}" in weights for layer in range(len(weights)))
    for layer in range(layers):
        outputs = []
        for direction, steps in ("", range(len(x))), ("_reverse", reversed(range(len(x)))):
            if f"weight_ih_l{layer}{direction}" in weights:
                p = parameters(weights, f"_l{layer}{direction}", matrix)
                output, final = run_direction(CELLS[kind], p, x, states[len(finals)], steps, s)
                outputs.append(output)
                finals.append(final)
        x = np.concatenate(outputs, axis=1)
    return x, finals


def zero_state(kind, weights, batch_size):
    """(h,) or (h, c): arrays of shape (L*D, B, H), h narrower if the LSTM projects it."""
    cells = sum(name.startswith("weight_hh") and not name.endswith("scale") for name in weights)
    rows, h_size = weights["weight_hh_l0"].shape
    sizes = [h_size, rows // 4] if kind.startswith("LSTM") else [h_size]
    return tuple(np.zeros((cells, batch_size, size)) for size in sizes)


def run(kind, weights, sequences, state=None, gate_activation="sigmoid", matrix=as_float64):
    """A list of (T_b, I) arrays -> the list of their outputs, and the state (L*D, B, H) after."""
    if state is None:
        state = zero_state(kind, weights, len(sequences))
    outputs, state_n = [], tuple(part.astype(np.float64) for part in state)
    for b, x in enumerate(sequences):
        of_each_cell = list(zip(*(part[:, b] for part in state_n), strict=True))
        output, finals = run_sequence(kind, weights, x, of_each_cell, gate_activation, matrix)
        outputs.append(output)
        for part, final in zip(state_n, zip(*finals, strict=True), strict=True):
            part[:, b] = final
    return outputs, state_n


def run_cell(kind, weights, x, state, matrix=as_float64):
    """One step of a lone cell: x (B, I), state of (B, H) arrays -> the next state."""
    p = parameters(weights, matrix=matrix)
    step = CELLS[kind]
    rows = [step(p, x_b, s_b) for x_b, *s_b in zip(x.astype(np.float64), *state, strict=True)]
    return tuple(np.stack(part) for part in zip(*rows, strict=True))
