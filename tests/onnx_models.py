"""ONNX models for the tests: recurrent nodes with telling weights; onnxruntime is their judge."""

import numpy as np
import pytest
from checkpoints import distinctive, inputs, tolerance

from packseq import weights

onnx = pytest.importorskip("onnx", reason="writes ONNX models")
onnxruntime = pytest.importorskip("onnxruntime", reason="the judge of what a model means")

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
INPUT, HIDDEN, STEPS, BATCH = 3, 4, 6, 3
STATES = {"LSTM": ["h", "c"], "GRU": ["h"], "RNN": ["h"]}


def initialiser(name, array):
    return onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)


def directions_of(attributes):
    return 2 if attributes.get("direction") == "bidirectional" else 1


def layer(
    kind,
    name="layer",
    width=INPUT,
    seed=1,
    bias=True,
    x="X",
    states=None,
    scale=1.0,
    **attributes,
):
    """A node and its initialisers, W (D, G*H, I), R (D, G*H, H) and B (D, 2*G*H)."""
    d, rows = directions_of(attributes), GATES[kind] * HIDDEN
    shapes = {"W": (rows, width), "R": (rows, HIDDEN), "B": (rows,)}
    arrays = {
        role: np.stack([distinctive(shape, GATES[kind], seed + 10 * i) for i in range(d)])
        for role, shape in shapes.items()
    }
    arrays["B"] = np.concatenate([arrays["B"], arrays["B"][:, ::-1] * 0.5], axis=1)
    arrays = {role: array * np.float32(scale) for role, array in arrays.items()}
    if not bias:
        del arrays["B"]
    arrays |= states or {}
    names = [f"{name}_{role}" if role in arrays else "" for role in "WRB"]
    names += ["lengths", *(f"{name}_{role}" if role in arrays else "" for role in "hcP")]
    outputs = [f"{name}_Y", f"{name}_Y_h", f"{name}_Y_c"][: 1 + len(STATES[kind])]
    if kind != "LSTM":
        names = names[:5]
    while not names[-1]:
        names.pop()
    node = onnx.helper.make_node(
        kind, [x, *names], outputs, name=name, hidden_size=HIDDEN, **attributes
    )
    return [node], [initialiser(f"{name}_{role}", array) for role, array in arrays.items()]


def model_of(nodes, initialisers, outputs, sizes=("T", "B"), states=()):
    """A whole model with inputs X, of the sizes that are declared, lengths, and states of B."""
    floats, ints = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
    graph = onnx.helper.make_graph(
        nodes,
        "graph",
        [
            onnx.helper.make_tensor_value_info("X", floats, [*sizes, INPUT]),
            onnx.helper.make_tensor_value_info("lengths", ints, [None]),
            *(onnx.helper.make_tensor_value_info(n, floats, [None, "B", HIDDEN]) for n in states),
        ],
        [onnx.helper.make_tensor_value_info(name, floats, None) for name in outputs],
        initialisers,
    )
    opset = [onnx.helper.make_opsetid("", 15)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


def peepholes(directions, seed=8):
    """P (D, 3*H), of ONNX's order i o f: each gate's differ in size and sign."""
    return np.stack([distinctive((3 * HIDDEN,), 3, seed + i) for i in range(directions)])


def run_ort(model, x, lengths, **states):
    return judged(model, {"X": x, "lengths": np.array(lengths, np.int32), **states})


def judged(model, feeds):
    """What onnxruntime gives, unoptimised: as the operators are defined."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def joined(y):
    """Y (T, D, B, H) as torch has it: (T, B, D*H)."""
    return y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)


def assert_runs_alike(model, path, hx_expected=False, prefix=None):
    """Both on one ragged batch; returns the module for more."""
    onnx.save(model, path)
    x, lengths = inputs(BATCH, STEPS, INPUT).swapaxes(0, 1).copy(), [6, 1, 4]
    y, *final = run_ort(model, x, lengths)
    module, hx = weights.load_with_state(path, prefix)
    assert (hx is not None) == hx_expected
    output, state = module(x, hx, lengths=lengths)
    expected = joined(y) if y.ndim == 4 else y
    atol = tolerance(STEPS, 2 * (INPUT + 2 * HIDDEN), max(1.0, float(np.abs(expected).max())))
    np.testing.assert_allclose(output, expected, rtol=0, atol=atol)
    states = state if isinstance(state, tuple) else (state,)
    for one, other in zip(states, final, strict=False):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol * HIDDEN)
    return module


def op(kind, inputs, output, **attributes):
    return onnx.helper.make_node(kind, inputs, [output], **attributes)


def save_to(path, model):
    onnx.save(model, path)
    return path
