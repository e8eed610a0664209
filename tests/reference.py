"""Recurrent networks as the textbook writes them: the specification packseq is tested against.

Everything is float64 and one sequence at a time, so nothing here knows of batches, padding or
packing. `weights` is a state dict with torch's names; a state is the tuple `(h,)`, or `(h, c)`
for an LSTM.
"""

import numpy as np


def sigmoid(x):
    return (1 + np.tanh(x / 2)) / 2


def projections(p, x, h):
    """What the gates of one cell receive from its input and from its state."""
    from_input = p["weight_ih"] @ x + p.get("bias_ih", 0)
    from_state = p["weight_hh"] @ h + p.get("bias_hh", 0)
    return from_input, from_state


def lstm_cell(p, x, state):
    h, c = state
    i, f, g, o = np.split(sum(projections(p, x, h)), 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    if "weight_hr" in p:
        h = p["weight_hr"] @ h
    return h, c


def gru_cell(p, x, state):
    (h,) = state
    (x_r, x_z, x_n), (h_r, h_z, h_n) = (np.split(a, 3) for a in projections(p, x, h))
    r = sigmoid(x_r + h_r)
    z = sigmoid(x_z + h_z)
    n = np.tanh(x_n + r * h_n)
    return ((1 - z) * n + z * h,)


def rnn_tanh_cell(p, x, state):
    return (np.tanh(sum(projections(p, x, *state))),)


def rnn_relu_cell(p, x, state):
    return (np.maximum(sum(projections(p, x, *state)), 0),)


CELLS = {
    "LSTM": lstm_cell,
    "GRU": gru_cell,
    "RNN_TANH": rnn_tanh_cell,
    "RNN_RELU": rnn_relu_cell,
}
GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def parameters(weights, suffix=""):
    """The float64 parameters of one cell: "_l1_reverse" is layer 1, backwards; "" a lone cell."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    return {n: weights[n + suffix].astype(np.float64) for n in names if n + suffix in weights}


def run_direction(cell, p, x, state, steps):
    output = np.empty((len(x), len(state[0])))
    for t in steps:
        state = cell(p, x[t], state)
        output[t] = state[0]
    return output, state


def run_sequence(kind, weights, x, states):
    """x of shape (T, I), one state per layer and direction -> output (T, D*H), final states."""
    x = x.astype(np.float64)
    finals = []
    layers = sum(f"weight_ih_l{layer}" in weights for layer in range(len(weights)))
    for layer in range(layers):
        outputs = []
        for direction, steps in ("", range(len(x))), ("_reverse", reversed(range(len(x)))):
            if f"weight_ih_l{layer}{direction}" in weights:
                p = parameters(weights, f"_l{layer}{direction}")
                output, final = run_direction(CELLS[kind], p, x, states[len(finals)], steps)
                outputs.append(output)
                finals.append(final)
        x = np.concatenate(outputs, axis=1)
    return x, finals


def zero_state(kind, weights, batch_size):
    """(h,) or (h, c): arrays of shape (L*D, B, H), h narrower if the LSTM projects it."""
    cells = sum(name.startswith("weight_hh") for name in weights)
    rows, h_size = weights["weight_hh_l0"].shape
    sizes = [h_size, rows // 4] if kind == "LSTM" else [h_size]
    return tuple(np.zeros((cells, batch_size, size)) for size in sizes)


def run(kind, weights, sequences, state=None):
    """A list of (T_b, I) arrays -> the list of their outputs, and the state (L*D, B, H) after."""
    if state is None:
        state = zero_state(kind, weights, len(sequences))
    outputs, state_n = [], tuple(part.astype(np.float64) for part in state)
    for b, x in enumerate(sequences):
        of_each_cell = list(zip(*(part[:, b] for part in state_n), strict=True))
        output, finals = run_sequence(kind, weights, x, of_each_cell)
        outputs.append(output)
        for part, final in zip(state_n, zip(*finals, strict=True), strict=True):
            part[:, b] = final
    return outputs, state_n


def run_cell(kind, weights, x, state):
    """One step of a lone cell: x (B, I), state of (B, H) arrays -> the next state."""
    p = parameters(weights)
    step = CELLS[kind]
    rows = [step(p, x_b, s_b) for x_b, *s_b in zip(x.astype(np.float64), *state, strict=True)]
    return tuple(np.stack(part) for part in zip(*rows, strict=True))
