"""ONNX graphs as exporters and quantisers write them: states, bodies, integers, and what is odd."""

import re
import warnings

import numpy as np
import pytest
from checkpoints import inputs, tolerance
from onnx_models import (
    BATCH,
    HIDDEN,
    INPUT,
    STATES,
    STEPS,
    assert_runs_alike,
    initialiser,
    joined,
    layer,
    model_of,
    onnx,
    op,
    run_ort,
    save_to,
)

import packseq
from packseq import weights
from packseq.weights.onnx.tensors import DTYPES

FLOAT = onnx.TensorProto.FLOAT
ATOL = tolerance(STEPS, 2 * (INPUT + 2 * HIDDEN))


def value(name, sizes=None, kind=FLOAT):
    return onnx.helper.make_tensor_value_info(name, kind, sizes)


# --- what is no ONNX model ------------------------------------------------------------------


@pytest.mark.parametrize(("content", "message"), [
    # specificationVersion 4, a description, and neuralNetwork, which is field 500.
    (b"\x08\x04\x12\x02\x0a\x00\xa2\x1f\x02\x0a\x00", "it looks like a CoreML model"),
    (b"\x08\x01\x12\x02\x0a\x00", "is it another protobuf message"),  # TensorFlow's SavedModel
    (b"\x08\x07", "holds no graph"),
])  # fmt: skip
def test_other_messages_that_begin_like_a_model_are_no_empty_models(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    for call in (weights.find, weights.read, packseq.load):
        with pytest.raises(weights.CheckpointError, match=message):
            call(tmp_path / "file")


# --- torch's default exporter ---------------------------------------------------------------


@pytest.mark.parametrize("hidden", [32, 64])
@pytest.mark.parametrize(("kind", "options"), [
    ("LSTM", {}),
    ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ("GRU", {"num_layers": 2, "bias": False}),
    ("GRU", {"bidirectional": True, "batch_first": True}),
], ids=str)  # fmt: skip
def test_torchs_default_exporter_at_any_size(tmp_path, kind, options, hidden):
    torch = pytest.importorskip("torch", reason="exports the models")
    pytest.importorskip("onnxscript", reason="torch's exporter needs it")
    torch.manual_seed(3)
    core = getattr(torch.nn, kind)(40, hidden, **options).eval()
    x = torch.from_numpy(inputs(5, 5, 40))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(core, (x,), str(tmp_path / "model.onnx"), dynamo=True, verbose=False)

    module = packseq.load(tmp_path / "model.onnx")

    with torch.no_grad():
        expected = core(x)[0].numpy()
    x = x.numpy()
    if options.get("batch_first"):
        x, expected = x.swapaxes(0, 1), expected.swapaxes(0, 1)
    atol = core.num_layers * tolerance(5, 40 + 2 * hidden)
    np.testing.assert_allclose(module(x)[0], expected, rtol=0, atol=atol)
    (found,) = weights.find(tmp_path / "model.onnx")
    assert not [name for name in weights.read(tmp_path / "model.onnx") if name.startswith("weight")]
    assert found.num_layers == core.num_layers


@pytest.mark.parametrize("given", [False, True], ids=["from zeros", "from states"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_torchs_default_exporter_without_its_optimiser(tmp_path, kind, given):
    # It cuts the weights by H, which it takes from the declared sizes of hx.
    torch = pytest.importorskip("torch", reason="exports the models")
    pytest.importorskip("onnxscript", reason="torch's exporter needs it")
    torch.manual_seed(3)
    core = getattr(torch.nn, kind)(INPUT, HIDDEN, num_layers=2).eval()
    x, h = torch.from_numpy(inputs(STEPS, BATCH, INPUT)), torch.rand(2, BATCH, HIDDEN)
    hx = (h, h * 2) if kind == "LSTM" else h
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(core, (x, hx) if given else (x,), str(tmp_path / "model.onnx"),
                          dynamo=True, optimize=False, verbose=False)  # fmt: skip

    module = packseq.load(tmp_path / "model.onnx")

    with torch.no_grad():
        expected = core(x, hx if given else None)[0].numpy()
    states = tuple(one.numpy() for one in hx) if kind == "LSTM" else hx.numpy()
    output, _ = module(x.numpy(), states if given else None)
    np.testing.assert_allclose(output, expected, rtol=0, atol=2 * ATOL)


# --- first states ---------------------------------------------------------------------------


def batch_sizes():
    """Nodes that compute [1, B, H] of X, as exporters do for a state."""
    return [
        op("Shape", ["X"], "sizes"),
        op("Gather", ["sizes", "one"], "B"),
        op("Concat", ["one", "B", "H"], "state_sizes", axis=0),
    ], [initialiser("one", np.array([1])), initialiser("H", np.array([HIDDEN]))]


ZEROS = {
    "expanded": [op("Expand", ["zero", "state_sizes"], "state")],
    "filled": [op("ConstantOfShape", ["state_sizes"], "state")],
    "tiled": [
        op("Concat", ["one", "B", "one"], "repeats", axis=0),
        op("Tile", ["row", "repeats"], "state"),
    ],
    "cast": [
        op("ConstantOfShape", ["state_sizes"], "double", value=initialiser("", np.zeros(1))),
        op("Cast", ["double"], "state", to=FLOAT),
    ],
    "a part of more": [
        op("Concat", ["one", "B", "H2"], "more_sizes", axis=0),
        op("Expand", ["zero", "more_sizes"], "more"),
        onnx.helper.make_node("Split", ["more"], ["state", "rest"], axis=2),
    ],
    "a slice": [
        op("Concat", ["one", "B", "H2"], "more_sizes", axis=0),
        op("Expand", ["zero", "more_sizes"], "more"),
        op("Slice", ["more", "H", "H2", "two"], "state"),
    ],
    "joined": [
        op("Concat", ["B", "half"], "half_sizes", axis=0),
        op("Expand", ["zero", "half_sizes"], "half_state"),
        op("Unsqueeze", ["half_state", "nought"], "one_half"),
        op("Concat", ["one_half", "one_half"], "state", axis=2),
    ],
    # Keras 2: zeros like the input, summed over time and units.
    "summed": [
        op("ConstantOfShape", ["sizes"], "like"),
        op("ReduceSum", ["like", "time_and_units"], "row_of_batch", keepdims=0),
        op("Reshape", ["row_of_batch", "column"], "columns"),
        op("Concat", ["one", "one", "H"], "repeats", axis=0),
        op("Tile", ["columns", "repeats"], "state"),
    ],
}
CONSTANTS = {
    "zero": np.zeros((), np.float32),
    "row": np.zeros((1, 1, HIDDEN), np.float32),
    "nought": np.array([0]),
    "two": np.array([2]),
    "half": np.array([HIDDEN // 2]),
    "H2": np.array([2 * HIDDEN]),
    "time_and_units": np.array([0, 2]),
    "column": np.array([1, -1, 1]),
}


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("how", ZEROS)
def test_states_that_are_surely_zeros_are_none(tmp_path, kind, how):
    nodes, initialisers = layer(kind)
    nodes[0].input.extend(["state"] * len(STATES[kind]))
    sizes, constants = batch_sizes()
    constants += [initialiser(name, array) for name, array in CONSTANTS.items()]
    model = model_of(
        [*sizes, *ZEROS[how], *nodes], initialisers + constants, nodes[0].output, ("T", "B")
    )

    assert_runs_alike(model, tmp_path / "model")
    (found,) = weights.find(tmp_path / "model")
    assert not found.attributes.given


def test_every_bidirectional_of_keras_through_tf2onnx(tmp_path):
    # Each direction's zeros are made for itself, then the two are joined along the directions.
    nodes, initialisers = layer("LSTM", direction="bidirectional")
    nodes[0].input.extend(["both", "both"])
    sizes, constants = batch_sizes()
    made = [op("Concat", ["B", "H"], "pair", axis=0)]
    for direction in ("forward", "backward"):
        made += [
            op("Expand", ["zero", "pair"], direction),
            op("Unsqueeze", [direction, "nought"], f"{direction}_1"),
        ]
    made.append(op("Concat", ["forward_1", "backward_1"], "both", axis=0))
    constants += [initialiser(name, CONSTANTS[name]) for name in ("zero", "nought")]
    model = model_of([*sizes, *made, *nodes], initialisers + constants, nodes[0].output)

    assert_runs_alike(model, tmp_path / "model")


GIVEN = {
    # A voice activity model: h and c are halves of one input.
    "rows of one input": (
        [
            onnx.helper.make_node("Split", ["hx"], ["h", "c"], axis=0),
        ],
        "h_0 (from input 'hx'), c_0 (from input 'hx')",
    ),
    "slices of one input": (
        [
            op("Slice", ["hx", "nought", "one", "nought"], "h"),
            op("Slice", ["hx", "one", "two", "nought"], "c"),
        ],
        "h_0 (from input 'hx'), c_0 (from input 'hx')",
    ),
    "gathered": (
        [
            op("Gather", ["hx", "nought"], "h"),
            op("Gather", ["hx", "one"], "c"),
        ],
        "h_0 (from input 'hx'), c_0 (from input 'hx')",
    ),
    # A decoder starts from what an encoder made.
    "computed": (
        [
            op("Slice", ["hx", "nought", "one", "nought"], "first"),
            op("Slice", ["hx", "one", "two", "nought"], "second"),
            op("Tanh", ["first"], "h"),
            op("MatMul", ["second", "square"], "c"),
        ],
        "h_0 (computed by Tanh), c_0 (computed by MatMul)",
    ),
    "only one": (
        [
            op("Slice", ["hx", "nought", "one", "nought"], "h"),
            op("Sub", ["zeros", "zeros"], "c"),
        ],
        "h_0 (from input 'hx')",
    ),
}


@pytest.mark.parametrize("how", GIVEN)
def test_states_that_are_computed_are_the_callers_and_said_to_be(tmp_path, how):
    made, given = GIVEN[how]
    nodes, initialisers = layer("LSTM")
    nodes[0].input.extend(["h", "c"])
    constants = CONSTANTS | {
        "one": np.array([1]),
        "square": np.eye(HIDDEN, dtype=np.float32)[::-1] * 2,
        "zeros": np.zeros((1, BATCH, HIDDEN), np.float32),
    }
    initialisers += [initialiser(name, array) for name, array in constants.items()]
    model = model_of([*made, *nodes], initialisers, ["layer_Y", "h", "c"], states=["hx"])
    onnx.save(model, tmp_path / "model")

    (found,) = weights.find(tmp_path / "model")
    assert (found.attributes.given, found.attributes.unsupported) == (given, "")
    assert f"from initial states of yours: {given}" in str(found)

    x, lengths = inputs(BATCH, STEPS, INPUT).swapaxes(0, 1).copy(), [6, 1, 4]
    y, h, c = run_ort(model, x, lengths, hx=inputs(2, BATCH, HIDDEN, seed=7))
    output, _ = packseq.load(tmp_path / "model")(x, (h, c), lengths=lengths)
    np.testing.assert_allclose(output, joined(y), rtol=0, atol=ATOL)


def test_a_product_with_what_may_be_infinite_is_not_surely_zero(tmp_path):
    nodes, initialisers = layer("GRU")
    nodes[0].input.append("state")
    zeros = initialiser("zeros", np.zeros((1, BATCH, HIDDEN), np.float32))
    model = model_of(
        [op("Mul", ["hx", "zeros"], "state"), *nodes], [*initialisers, zeros], ["layer_Y"],
        states=["hx"],
    )  # fmt: skip
    (found,) = weights.find(save_to(tmp_path / "model", model))
    assert found.attributes.given == "h_0 (computed by Mul)"


# --- bodies ---------------------------------------------------------------------------------


def branch(name, nodes, output, initialisers=()):
    body = onnx.helper.make_graph(nodes, name, [], [value(output)], initialisers)
    return {name: body}


def test_both_branches_of_an_if_are_listed_and_load_by_their_path(tmp_path):
    nodes, arrays = {}, {}
    for seed, name in enumerate(("then_branch", "else_branch")):
        (node,), arrays[name] = layer("GRU", seed=20 + seed)
        del node.output[1:]
        node.output[0] = "out"
        nodes[name] = node
    # One has its weights outside of the bodies, the other in its own.
    renamed = [f"in_{name}" for name in nodes["then_branch"].input[1:4]]
    nodes["then_branch"].input[1:4] = renamed
    for tensor, name in zip(arrays["then_branch"], renamed, strict=True):
        tensor.name = name
    bodies = branch("then_branch", [nodes["then_branch"]], "out", arrays["then_branch"])
    bodies |= branch("else_branch", [nodes["else_branch"]], "out")
    choice = onnx.helper.make_node("If", ["flag"], ["Y"], name="choice", **bodies)
    model = model_of([choice], arrays["else_branch"], ["Y"])
    model.graph.input.append(value("flag", [], onnx.TensorProto.BOOL))
    onnx.save(model, tmp_path / "model")

    prefixes = [found.prefix for found in weights.find(tmp_path / "model")]
    assert prefixes == ["choice.else_branch.layer.", "choice.then_branch.layer."]
    x, lengths = inputs(BATCH, STEPS, INPUT).swapaxes(0, 1).copy(), [6, 1, 4]
    for prefix, flag in zip(prefixes, (False, True), strict=True):
        (y,) = run_ort(model, x, lengths, flag=np.array(flag))
        output, _ = packseq.load(tmp_path / "model", prefix)(x, lengths=lengths)
        np.testing.assert_allclose(output, joined(y), rtol=0, atol=ATOL)


def test_weights_in_a_body_that_stand_outside_under_the_same_name_are_nobodys(tmp_path):
    # The standard forbids it, and onnxruntime takes those outside of the body.
    (node,), arrays = layer("GRU")
    bodies = branch("then_branch", [node], "layer_Y", arrays)
    bodies |= branch("else_branch", [op("Identity", ["X"], "same")], "same")
    model = model_of([op("If", ["flag"], "Y", **bodies)], arrays, ["Y"])
    (found,) = weights.find(save_to(tmp_path / "model", model))
    assert "'layer_W' is made in a body and around it too" in found.attributes.unsupported


def test_a_stack_in_a_body_is_one_module_and_other_arrays_have_its_path(tmp_path):
    lower, arrays = layer("GRU", "lower")
    upper, more = layer("GRU", "upper", width=HIDDEN, x="between")
    extra = initialiser("table", np.ones(3, np.float32))
    squeeze = op("Squeeze", ["lower_Y", "axis"], "between")
    axis = initialiser("axis", np.array([1]))
    nodes = [*lower, squeeze, *upper]
    bodies = branch("then_branch", nodes, "upper_Y", [extra, *arrays, *more, axis])
    bodies |= branch("else_branch", [op("Identity", ["X"], "same")], "same")
    onnx.save(model_of([op("If", ["flag"], "Y", **bodies)], [], ["Y"]), tmp_path / "model")

    (found,) = weights.find(tmp_path / "model")
    assert (found.prefix, found.num_layers) == ("If:Y.then_branch.lower.", 2)
    others = {name for name in weights.read(tmp_path / "model") if "lower." not in name}
    assert others == {"If:Y.then_branch.table", "If:Y.then_branch.axis"}


def test_a_layer_in_a_loop_whose_state_goes_around_takes_it_from_the_caller(tmp_path):
    (node,), arrays = layer("LSTM")
    node.input.extend(["h_in", "c_in"])
    body = onnx.helper.make_graph(
        [node, op("Identity", ["go"], "still")],
        "body",
        [value("i", [], onnx.TensorProto.INT64), value("go", [], onnx.TensorProto.BOOL),
         value("h_in"), value("c_in")],
        [value("still", [], onnx.TensorProto.BOOL), value("layer_Y_h"), value("layer_Y_c"),
         value("layer_Y")],
    )  # fmt: skip
    loop = onnx.helper.make_node(
        "Loop", ["times", "", "hx", "hx"], ["h", "c", "ys"], name="loop", body=body
    )
    times = initialiser("times", np.array(2))
    model = model_of([loop], [*arrays, times], ["h", "ys"], states=["hx"])
    onnx.save(model, tmp_path / "model")

    (found,) = weights.find(tmp_path / "model")
    assert found.prefix == "loop.body.layer."
    assert found.attributes.given == "h_0 (from input 'h_in'), c_0 (from input 'c_in')"
    module = packseq.load(tmp_path / "model")
    x, lengths = inputs(BATCH, STEPS, INPUT).swapaxes(0, 1).copy(), [6, 1, 4]
    hx = inputs(1, BATCH, HIDDEN, seed=7)
    _, ys = run_ort(model, x, lengths, hx=hx)
    state = hx, hx
    for y in ys:
        output, state = module(x, state, lengths=lengths)
        np.testing.assert_allclose(output, joined(y), rtol=0, atol=2 * ATOL)


def test_a_layer_outside_feeds_none_in_a_body(tmp_path):
    lower, arrays = layer("GRU", "lower")
    upper, more = layer("GRU", "upper", width=HIDDEN, x="between")
    squeeze = op("Squeeze", ["lower_Y", "axis"], "between")
    axis = initialiser("axis", np.array([1]))
    bodies = branch("then_branch", upper, "upper_Y")
    bodies |= branch("else_branch", [op("Identity", ["lower_Y"], "same")], "same")
    nodes = [*lower, squeeze, op("If", ["flag"], "Y", **bodies)]
    onnx.save(model_of(nodes, [*arrays, *more, axis], ["Y"]), tmp_path / "model")

    prefixes = [found.prefix for found in weights.find(tmp_path / "model")]
    assert prefixes == ["lower.", "If:Y.then_branch.upper."]


def test_nodes_of_a_function_are_listed_with_the_reason(tmp_path):
    nodes, arrays = layer("GRU")
    function = onnx.helper.make_function(
        "own", "MyGRU", ["x", "w", "r"], ["y"],
        [onnx.helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=HIDDEN, name="n")],
        [onnx.helper.make_opsetid("", 15)],
    )  # fmt: skip
    call = op("MyGRU", ["X", "layer_W", "layer_R"], "Y", domain="own", name="call")
    model = model_of([*nodes, call], arrays, ["Y"])
    model.functions.append(function)
    onnx.save(model, tmp_path / "model")

    plain, inside = weights.find(tmp_path / "model")
    assert plain.kind == "GRU"
    assert inside.prefix == "MyGRU.n."
    assert "inside of the function 'MyGRU'" in inside.attributes.unsupported


# --- weights of fewer bits ------------------------------------------------------------------


def quantized(model, path, **options):
    """onnxruntime's own quantisation of the LSTMs of a model."""
    quantization = pytest.importorskip("onnxruntime.quantization", reason="quantises the model")
    onnx.save(model, path / "float.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.quantize_dynamic(
            path / "float.onnx", path / "small.onnx", op_types_to_quantize=["LSTM"], **options
        )
    return onnx.load(path / "small.onnx")


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weight_type", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_onnxruntimes_lstm_of_integers(tmp_path, direction, weight_type, per_channel):
    quantization = pytest.importorskip("onnxruntime.quantization", reason="quantises the model")
    nodes, arrays = layer("LSTM", direction=direction)
    plain = model_of(nodes, arrays, nodes[0].output)
    small = quantized(
        plain, tmp_path, per_channel=per_channel,
        weight_type=getattr(quantization.QuantType, weight_type),
    )  # fmt: skip
    assert [node.op_type for node in small.graph.node] == ["DynamicQuantizeLSTM"]

    if weight_type == "QInt8":
        assert packseq.load(tmp_path / "small.onnx").precision == "int8"
    module, _ = weights.load_with_state(tmp_path / "small.onnx", precision="float32")

    # Every weight is within half a step of the float model's.
    exact = weights.read(tmp_path / "float.onnx")
    weights.convert(tmp_path / "small.onnx", tmp_path / "wide.st", precision="float32")
    read = weights.read(tmp_path / "wide.st")
    for name, array in exact.items():
        step = 2 * np.abs(array).max() / 127
        np.testing.assert_allclose(read[name.replace("layer.", prefix(tmp_path))], array,
                                   rtol=0, atol=step if "weight" in name else 0)  # fmt: skip
    # The dequantised weights in onnxruntime's float LSTM are the judge of the numbers.
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in small.graph.initializer}
    node = small.graph.node[0]
    floats = []
    for place, name in ((1, "layer_W"), (2, "layer_R")):
        whole = stored[node.input[place]].astype(np.float32)
        scale, zero = (stored[node.input[7 + 2 * place - 1 + i]] for i in range(2))
        d = len(whole)
        spread = scale.reshape(d, 1, -1), zero.astype(np.float32).reshape(d, 1, -1)
        floats.append(initialiser(name, ((whole - spread[1]) * spread[0]).swapaxes(1, 2)))
    twin = model_of(nodes, [*floats, *(a for a in arrays if a.name == "layer_B")], ["layer_Y"])
    x, lengths = inputs(BATCH, STEPS, INPUT).swapaxes(0, 1).copy(), [6, 1, 4]
    (y,) = run_ort(twin, x, lengths)
    output, _ = module(x, lengths=lengths)
    np.testing.assert_allclose(output, joined(y), rtol=0, atol=ATOL)
    bits = weights.read(save_to(tmp_path / "twin.onnx", twin))
    for name, array in bits.items():
        np.testing.assert_array_equal(read[name.replace("layer.", prefix(tmp_path))], array)


def prefix(path):
    (found,) = weights.find(path / "small.onnx")
    return found.prefix


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_weights_behind_dequantize_linear(tmp_path, kind):
    (node,), arrays = layer(kind)
    nodes, stored = [], []
    for tensor in arrays:
        array = onnx.numpy_helper.to_array(tensor)
        if tensor.name == "layer_B":
            stored.append(tensor)
            continue
        scale = np.float32(np.abs(array).max() / 127)
        stored += [
            initialiser(f"{tensor.name}_q", np.round(array / scale).astype(np.int8)),
            initialiser(f"{tensor.name}_s", scale),
            initialiser(f"{tensor.name}_z", np.int8(0)),
        ]
        names = [f"{tensor.name}_{part}" for part in "qsz"]
        nodes.append(op("DequantizeLinear", names, tensor.name))
    model = model_of([*nodes, node], stored, node.output)
    assert_runs_alike(model, tmp_path / "model")


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_weights_of_halves_that_are_cast(tmp_path, kind):
    (node,), arrays = layer(kind)
    nodes, stored = [], []
    for tensor in arrays:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        stored.append(initialiser(f"{tensor.name}_half", array))
        nodes.append(op("Cast", [f"{tensor.name}_half"], tensor.name, to=FLOAT))
    model = model_of([*nodes, node], stored, node.output)
    assert_runs_alike(model, tmp_path / "model")
    assert all(name.startswith("layer.") for name in weights.read(tmp_path / "model"))


@pytest.mark.parametrize("form", ["QDQ", "integers", "halves"])
def test_a_large_module_of_few_bits_is_within_the_budget(tmp_path, form):
    # As floats it is 4 times its file, and 8 while it is put in order.
    rows, width = 4 * 512, 512
    q = np.random.default_rng(1).integers(-127, 128, (1, rows, width)).astype(np.int8)
    scale, zero = (
        initialiser("s", np.array([0.01], np.float32)),
        initialiser("z", np.zeros(1, np.int8)),
    )
    if form == "QDQ":
        made = [op("DequantizeLinear", [n, "s", "z"], n.upper()) for n in ("w", "r")]
        made.append(op("LSTM", ["X", "W", "R"], "Y", hidden_size=512, name="n"))
    elif form == "halves":
        q = (q * 0.01).astype(np.float16)
        made = [op("Cast", [n], n.upper(), to=FLOAT) for n in ("w", "r")]
        made.append(op("LSTM", ["X", "W", "R"], "Y", hidden_size=512, name="n"))
    else:
        q = q.swapaxes(1, 2)
        names = ["X", "w", "r", *[""] * 5, "s", "z", "s", "z"]
        made = [op("DynamicQuantizeLSTM", names, "Y", name="n", domain="com.microsoft",
                   hidden_size=512)]  # fmt: skip
    arrays = [initialiser("w", q), initialiser("r", q), scale, zero]
    onnx.save(model_of(made, arrays, ["Y"]), tmp_path / "model")
    module = packseq.load(tmp_path / "model")
    assert (module.input_size, module.hidden_size) == (512, 512)


# --- what is odd hides nothing --------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "STRING", "INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT8E5M2", "COMPLEX64", "COMPLEX128",
])  # fmt: skip
def test_an_array_of_a_type_that_numpy_lacks_hides_no_other(tmp_path, name):
    number = onnx.TensorProto.DataType.Value(name)
    odd = onnx.TensorProto(name="odd", data_type=number, dims=[2], raw_data=b"\x01\x02")
    nodes, arrays = layer("GRU", "good")
    bad, more = layer("GRU", "bad")
    bad[0].input[1] = "odd"
    onnx.save(model_of([*bad, *nodes], [odd, *more, *arrays], ["good_Y"]), tmp_path / "model")

    good, worse = weights.find(tmp_path / "model")
    assert (good.prefix, good.kind) == ("good.", "GRU")
    reason = f"node 'bad': weight_ih: initialiser 'odd': element type {name}"
    assert (
        worse.attributes.unsupported == f"bad.weight_ih_l0 cannot be read: {reason} ({number}) "
        f"is not one of {sorted(DTYPES)}"
    )
    assert "odd" not in weights.read(tmp_path / "model")
    assert weights.unreadable(tmp_path / "model")["odd"] == f"has element type {name} ({number})"
    packseq.load(tmp_path / "model", "good")
    with pytest.raises(weights.CheckpointError, match=f"element type {name}"):
        packseq.load(tmp_path / "model", "bad")


def test_nodes_of_one_name_are_told_apart(tmp_path):
    nodes, arrays = [], []
    for seed in range(3):
        own, more = layer("GRU", f"n{seed}", seed=seed)
        own[0].name = "same"
        nodes += own
        arrays += more
    arrays.append(initialiser("same.weight_ih_l0", np.ones(2, np.float32)))
    onnx.save(model_of(nodes, arrays, [node.output[0] for node in nodes]), tmp_path / "model")

    prefixes = [found.prefix for found in weights.find(tmp_path / "model")]
    assert prefixes == ["same.", "same#2.", "same#3."]
    read = weights.read(tmp_path / "model")
    assert read["same.weight_ih_l0#2"].shape == (2,)
    x = inputs(BATCH, STEPS, INPUT).swapaxes(0, 1).copy()
    for seed, node in enumerate(nodes):
        node.name = f"n{seed}"  # onnxruntime takes no name twice
    twin = model_of(nodes, arrays, [node.output[0] for node in nodes])
    results = run_ort(twin, x, [STEPS] * BATCH)
    for which, y in zip(prefixes, results, strict=True):
        output, _ = packseq.load(tmp_path / "model", which)(x)
        np.testing.assert_allclose(output, joined(y), rtol=0, atol=ATOL)


def test_a_recurrent_operator_of_somebody_elses_is_listed(tmp_path):
    nodes, arrays = layer("GRU")
    other = op("AttnLSTM", ["X"], "Z", domain="com.microsoft", name="attention")
    onnx.save(model_of([*nodes, other], arrays, ["layer_Y"]), tmp_path / "model")

    _, found = weights.find(tmp_path / "model")
    assert re.search("what com.microsoft.AttnLSTM computes", found.attributes.unsupported)


def test_bodies_within_bodies_count_towards_the_nodes(tmp_path):
    nodes, arrays = layer("GRU")
    relus = [op("Relu", ["X"], f"y{i}") for i in range(60_000)]
    inner = onnx.helper.make_graph(relus, "b", [], [])
    both = {"then_branch": inner, "else_branch": inner}
    onnx.save(model_of([*nodes, op("If", ["f"], "Y", **both)], arrays, []), tmp_path / "model")
    with pytest.raises(weights.CheckpointError, match="at most 100000 are read"):
        weights.find(tmp_path / "model")
