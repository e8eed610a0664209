"""What packseq computes of an ONNX graph beforehand is what onnxruntime computes, to the bit."""

from pathlib import Path

import numpy as np
import pytest
from onnx_models import initialiser, judged, onnx, op

from packseq import weights
from packseq.weights import limits
from packseq.weights.onnx import folding
from packseq.weights.onnx.tensors import Tensors
from packseq.weights.onnx.values import Values

FLOAT = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
HALF = FLOAT.astype(np.float16)
BYTES = np.random.default_rng(2).integers(-128, 128, (2, 3, 4)).astype(np.int8)
NATURAL = BYTES.view(np.uint8)
SCALES = np.array([0.3, 0.7, 1.1], np.float32)
TYPES = onnx.TensorProto


def ints(*values):
    return np.array(values, np.int64)


def case(kind, *arrays, outputs=1, opset=17, **attributes):
    return kind, arrays, outputs, opset, attributes


CASES = [
    case("Identity", FLOAT),
    case("Unsqueeze", FLOAT, ints(0)),
    case("Unsqueeze", FLOAT, ints(-1, 1)),
    case("Unsqueeze", FLOAT, opset=11, axes=[0, 4]),
    case("Squeeze", FLOAT[:1, :, :1], ints(0)),
    case("Squeeze", FLOAT[:1, :, :1]),
    case("Squeeze", FLOAT[:1, :, :1], opset=11, axes=[-1]),
    case("Slice", FLOAT, ints(1), ints(2**62)),
    case("Slice", FLOAT, ints(0, -3), ints(1, -1), ints(1, -1)),
    case("Slice", FLOAT, ints(-1, 3), ints(-(2**62), 0), ints(1, 2), ints(-1, -2)),
    case("Slice", FLOAT, ints(2), ints(1), ints(1)),
    case("Slice", FLOAT, opset=9, starts=[1], ends=[9], axes=[2]),
    case("Concat", FLOAT, FLOAT * 2, axis=0),
    case("Concat", FLOAT, FLOAT[:, :, :1], FLOAT, axis=-1),
    case("Concat", HALF, HALF, axis=1),
    case("Split", FLOAT, outputs=2, axis=2),
    case("Split", FLOAT, ints(1, 2), outputs=2, axis=1),
    case("Split", FLOAT, outputs=2, opset=11, axis=-1, split=[3, 1]),
    case("Split", FLOAT, outputs=3, opset=18, axis=2, num_outputs=3),
    case("Gather", FLOAT, ints(2, -3, 0), axis=1),
    case("Gather", FLOAT, np.array(1, np.int64)),
    case("Gather", FLOAT, np.array([[0, 1]], np.int32), axis=-1),
    case("Transpose", FLOAT),
    case("Transpose", FLOAT, perm=[1, 2, 0]),
    case("Reshape", FLOAT, ints(0, -1)),
    case("Reshape", FLOAT, ints(4, 3, 2)),
    case("Reshape", FLOAT[:0], ints(0, 5), allowzero=1),
    case("Cast", HALF, to=TYPES.FLOAT),
    case("Cast", FLOAT * np.float32(40000), to=TYPES.FLOAT16),
    case("Cast", FLOAT, to=TYPES.DOUBLE),
    case("Cast", FLOAT, to=TYPES.BOOL),
    case("Cast", BYTES, to=TYPES.FLOAT),
    case("Cast", FLOAT * np.float32(20), to=TYPES.INT64),
    case("Expand", FLOAT[:, :1], ints(3, 1)),
    case("Expand", FLOAT, ints(5, 1, 1, 1)),
    case("Tile", FLOAT, ints(2, 1, 3)),
    case("Mul", FLOAT, FLOAT[0]),
    case("Mul", HALF, HALF * np.float16(3)),
    case("Mul", ints(3, 4), ints(5)),
    case("Shape", FLOAT),
    case("Shape", FLOAT, start=-2),
    case("Shape", FLOAT, start=1, end=2),
    case("ConstantOfShape", ints(2, 0, 3)),
    case("ConstantOfShape", ints(2), value=initialiser("", ints(7))),
    case("Constant", value=initialiser("", HALF)),
    case("Constant", value_ints=[1, -2]),
    case("Constant", value_int=3),
    case("Constant", value_floats=[0.5, 0.1]),
    case("Constant", value_float=0.1),
    case("DequantizeLinear", BYTES, SCALES, np.array([3, -9, 0], np.int8), axis=1),
    case("DequantizeLinear", NATURAL, SCALES, np.array([3, 200, 0], np.uint8)),
    case("DequantizeLinear", NATURAL, np.float32(0.3), np.uint8(128)),
    case("DequantizeLinear", BYTES, SCALES[:2], axis=-3, opset=13),
    case("DequantizeLinear", BYTES.astype(np.int32) * 99, np.float32(0.3)),
    case("DequantizeLinear", BYTES, np.float16(0.3), np.int8(1), opset=19),
    case("DequantizeLinear", BYTES, FLOAT[:, :, :2], BYTES[:, :, 1:3], axis=2, block_size=2,
         opset=21),
    case("DequantizeLinear", BYTES, FLOAT[:, :, :2], axis=-1, block_size=3, opset=21),
]  # fmt: skip


def model_of_one(kind, arrays, outputs, opset, attributes):
    names = [f"i{place}" for place in range(len(arrays))]
    node = onnx.helper.make_node(
        kind, names, [f"o{place}" for place in range(outputs)], **attributes
    )
    graph = onnx.helper.make_graph(
        [node],
        "graph",
        [],
        [onnx.ValueInfoProto(name=name) for name in node.output],
        [initialiser(name, array) for name, array in zip(names, arrays, strict=True)],
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


def values_of(model):
    return Values(model.graph, Tensors(Path(), model.ByteSize(), TYPES))


@pytest.mark.parametrize("one", CASES, ids=lambda one: f"{one[0]} {one[3]} {one[4] or ''}"[:50])
def test_an_operator_is_onnxs(one):
    model = model_of_one(*one)
    for output, expected in enumerate(judged(model, {})):
        stored = values_of(model).constant(f"o{output}", "value")
        if expected.dtype == np.float16:
            expected = expected.astype(np.float32)
        assert stored.array.dtype == expected.dtype
        np.testing.assert_array_equal(stored.array, expected)
        assert stored.array.shape == expected.shape


def test_every_operator_has_a_case():
    assert {one[0] for one in CASES} == set(folding.FOLDS)


HUGE = 2**40
REFUSED = [
    (case("Expand", FLOAT, ints(HUGE, 1, 1, 1)), "out of a file"),
    (case("Expand", FLOAT, ints(HUGE, HUGE, HUGE, 1, 1, 1)), "beyond any memory"),
    (case("Tile", FLOAT, ints(HUGE, HUGE, HUGE)), "beyond any memory"),
    (case("Tile", FLOAT, ints(2**30, 1, 1)), "out of a file"),
    (case("Tile", FLOAT, ints(-1, 1, 1)), "size -1"),
    (case("ConstantOfShape", ints(HUGE)), "out of a file"),
    (case("ConstantOfShape", ints(-1)), "size -1"),
    (case("Gather", FLOAT, ints(3), axis=1), "places beyond axis 1 of size 3"),
    (case("Gather", FLOAT, FLOAT), "places beyond axis"),
    (case("Mul", FLOAT.reshape(24, 1), np.tile(FLOAT.ravel(), 20_000)), "out of a file"),
    (case("Mul", FLOAT, BYTES), "of FLOAT and INT8"),
    (case("Cast", FLOAT, to=TYPES.STRING), "to STRING"),
    (case("Cast", FLOAT, to=99), "to ?"),
    (case("Concat", FLOAT, BYTES, axis=0), "inputs of several types"),
    (case("Concat", FLOAT, FLOAT[0], axis=0), "ValueError"),
    (case("Concat", FLOAT), "no axis"),
    (case("Reshape", FLOAT, ints(5, 5)), "ValueError"),
    (case("Reshape", FLOAT), "shape is left out"),
    (case("Split", FLOAT, ints(3, 3), outputs=2), "split into"),
    (case("Slice", FLOAT, ints(0, 0), ints(1, 1), ints(0, 0)), "cut twice"),
    (case("Slice", FLOAT, ints(0), ints(1), ints(0), ints(0)), "ValueError"),
    (case("Squeeze", FLOAT, ints(0)), "ValueError"),
    (case("Squeeze", FLOAT, np.zeros(99, np.int64)), "axes is int64 of shape (99,)"),
    (case("Transpose", FLOAT, perm=[0, 0, 1]), "ValueError"),
    (case("Unsqueeze"), "input 0 is left out"),
    (case("DequantizeLinear", FLOAT, SCALES), "FLOAT scaled by FLOAT"),
    (case("DequantizeLinear", BYTES, FLOAT, axis=1, block_size=3), "in blocks of 3"),
    (case("DequantizeLinear", BYTES, SCALES, axis=2), "ValueError"),
    (case("Constant", value_string="a"), "neither a tensor nor numbers"),
]


@pytest.mark.parametrize(("one", "message"), REFUSED, ids=lambda one: "")
def test_what_an_operator_cannot_do_is_refused_before_it_takes_memory(monkeypatch, one, message):
    monkeypatch.setattr(limits, "SLACK", 1 << 20)  # a file of these sizes is a small one
    with pytest.raises(weights.CheckpointError) as caught:
        values_of(model_of_one(*one)).constant("o0", "value")
    assert message in str(caught.value)


def graph_of(nodes, arrays, outputs):
    graph = onnx.helper.make_graph(
        nodes, "graph", [], [onnx.ValueInfoProto(name=name) for name in outputs],
        [initialiser(name, array) for name, array in arrays.items()],
    )  # fmt: skip
    return onnx.helper.make_model(graph)


def test_a_tower_of_doublings_is_computed_once_and_within_the_budget():
    nodes = [op("Concat", [f"v{i}", f"v{i}"], f"v{i + 1}", axis=0) for i in range(40)]
    values = values_of(graph_of(nodes, {"v0": np.ones(4, np.float32)}, ["v40"]))
    with pytest.raises(weights.CheckpointError, match="out of a file"):
        values.constant("v40", "value")
    assert values.known("v10").shape == (4096,)


@pytest.mark.parametrize("leaf", ["v0", "x"])
def test_a_tower_of_zeros_is_looked_through_once(leaf):
    # Doubled 60 times by name alone: 2^60 ways from the top to the bottom.
    nodes = [op("Add", [f"v{i}", f"v{i}"], f"v{i + 1}") for i in range(60)]
    nodes[0].input[1] = leaf
    values = values_of(graph_of(nodes, {"v0": np.zeros(4, np.float32)}, ["v60"]))
    assert values.is_zero("v60") == (leaf == "v0")


def test_a_value_is_computed_for_the_module_that_needs_it_alone():
    nodes = [op("Tile", ["v", "times"], "big")]
    values = values_of(graph_of(nodes, {"v": FLOAT[0, 0], "times": ints(HUGE)}, ["big"]))
    np.testing.assert_array_equal(values.known("v"), FLOAT[0, 0])
    assert values.known("big") is None


def test_many_nodes_that_ask_for_one_value_that_fails_ask_once():
    wide = op("Concat", ["v"] * 20_000 + ["ghost"], "wide", axis=0)
    nodes = [wide, *(op("Identity", ["wide"], f"o{i}") for i in range(20_000))]
    values = values_of(graph_of(nodes, {"v": FLOAT}, ["wide"]))
    assert all(values.known(f"o{i}") is None for i in range(20_000))
