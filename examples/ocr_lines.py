"""Lines of digits as images, and a small recogniser of them as an ONNX model.

    python examples/ocr_lines.py ocr.onnx     # needs onnx

The model has the form of those that read lines of text: a convolution over the image, a
bidirectional LSTM over its columns, a linear layer over each state, and CTC's blank between
characters. It is small enough to be made in seconds: the convolution and the LSTM have random
weights, and the linear layer is fitted by least squares to lines whose columns are labelled.
"""

import sys

import numpy as np

import packseq

FONT = """
### .#. ### ### #.# ### ### ### ### ###
#.# ##. ..# ..# #.# #.. #.. ..# #.# #.#
#.# .#. ### .## ### ### ### .#. ### ###
#.# .#. #.. ..# ..# ..# #.# .#. #.# ..#
### ### ### ### ..# ### ### .#. ### ###
"""
GLYPHS = np.array([[list(glyph) for glyph in row.split()] for row in FONT.split("\n")[1:-1]]) == "#"
HEIGHT, REACH, FILTERS, HIDDEN, BLANK = 10, 3, 64, 64, 10


def draw(digits, rng):
    """One line: an image (HEIGHT, width), and the digit or BLANK of each column."""
    columns, labels = [], []
    for digit in digits:
        for gap in (rng.integers(2, 6), 0):
            columns.append(np.zeros((HEIGHT, gap)))
            labels += [BLANK] * gap
        columns.append(np.kron(GLYPHS[:, digit], np.ones((2, 2))))
        labels += [BLANK, *[digit] * 4, BLANK]
    columns.append(np.zeros((HEIGHT, 3)))
    image = np.concatenate(columns, axis=1)
    image += 0.1 * rng.standard_normal(image.shape)
    return image.astype(np.float32), np.array(labels + [BLANK] * 3)


def text_of(scores):
    """What the scores (width, 11) of a line's columns spell.

    Equal neighbours are one character, as in CTC; one column alone is none, and blanks are none.
    """
    best = scores.argmax(axis=-1)
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    wide = np.diff(starts, append=len(best)) > 1
    return "".join(str(digit) for digit in best[starts[wide]] if digit != BLANK)


def features(image, kernel):
    """What the model's convolution and relu give: (width, FILTERS)."""
    padded = np.pad(image, ((0, 0), (REACH, REACH)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH + 1, axis=1)
    return np.maximum(np.tensordot(windows, kernel[:, 0], ([0, 2], [1, 2])), 0)


def fitted(lstm, kernel, rng):
    """The linear layer: weight (2 * HIDDEN, 11) and bias (11,)."""
    lines = [draw(rng.integers(0, 10, rng.integers(2, 20)), rng) for _ in range(300)]
    states, _ = lstm(packseq.pack_sequence([features(image, kernel) for image, _ in lines]))
    labels = packseq.pack_sequence([labels for _, labels in lines]).data
    ones = np.ones((len(labels), 1), np.float32)
    known = np.concatenate([states.data, ones], axis=1)
    wanted = np.eye(11, dtype=np.float32)[labels]
    solution, *_ = np.linalg.lstsq(known, wanted, rcond=1e-6)
    return solution[:-1], solution[-1]


def write_model(path):
    """Write the recogniser: "image" (B, 1, HEIGHT, W) to "scores" (W, B, 11)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((FILTERS, 1, HEIGHT, 2 * REACH + 1), np.float32) / 5
    lstm = packseq.LSTM(FILTERS, HIDDEN, bidirectional=True, rng=0)
    weight, bias = fitted(lstm, kernel, rng)
    arrays = {"kernel": kernel, "weight": weight, "bias": bias, **lstm_arrays(lstm)}
    arrays["flat"] = np.array([0, 0, 2 * HIDDEN])
    arrays["height"] = np.array([2])
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "kernel"], ["seen"], pads=[0, REACH, 0, REACH]),
        node("Relu", ["seen"], ["bright"]),
        node("Squeeze", ["bright", "height"], ["flat_image"]),
        node("Transpose", ["flat_image"], ["columns"], perm=[2, 0, 1]),
        node(
            "LSTM",
            ["columns", "W", "R", "B"],
            ["states"],
            name="lstm",
            hidden_size=HIDDEN,
            direction="bidirectional",
        ),
        node("Transpose", ["states"], ["sides"], perm=[0, 2, 1, 3]),
        node("Reshape", ["sides", "flat"], ["both"]),
        node("MatMul", ["both", "weight"], ["raw"]),
        node("Add", ["raw", "bias"], ["scores"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "ocr",
        [value("image", TensorProto.FLOAT, ["batch", 1, HEIGHT, "width"])],
        [value("scores", TensorProto.FLOAT, ["width", "batch", 11])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def lstm_arrays(lstm):
    """The LSTM's weights in ONNX's form: gates i, o, f, c, both biases in a row."""
    state = lstm.state_dict()

    def both(name):
        gates = [np.split(state[name + side], 4) for side in ("_l0", "_l0_reverse")]
        return np.stack([np.concatenate([g[0], g[3], g[1], g[2]]) for g in gates])

    biases = np.concatenate([both("bias_ih"), both("bias_hh")], axis=1)
    return {"W": both("weight_ih"), "R": both("weight_hh"), "B": biases}


if __name__ == "__main__":
    write_model(sys.argv[1])
