"""ONNX models: what a loaded module gives is what onnxruntime gives for the model."""

import warnings

import numpy as np
import pytest
from checkpoints import distinctive, inputs, tolerance

import packseq
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


def layer(kind, name="layer", width=INPUT, seed=1, bias=True, x="X", states=None, **attributes):
    """A node and its initialisers, W (D, G*H, I), R (D, G*H, H) and B (D, 2*G*H)."""
    d, rows = directions_of(attributes), GATES[kind] * HIDDEN
    shapes = {"W": (rows, width), "R": (rows, HIDDEN), "B": (rows,)}
    arrays = {
        role: np.stack([distinctive(shape, GATES[kind], seed + 10 * i) for i in range(d)])
        for role, shape in shapes.items()
    }
    arrays["B"] = np.concatenate([arrays["B"], arrays["B"][:, ::-1] * 0.5], axis=1)
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


def model_of(nodes, initialisers, outputs, batch_first=False):
    """A whole model with inputs X and lengths."""
    shape = ["B", "T", INPUT] if batch_first else ["T", "B", INPUT]
    floats, ints = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
    graph = onnx.helper.make_graph(
        nodes,
        "graph",
        [
            onnx.helper.make_tensor_value_info("X", floats, shape),
            onnx.helper.make_tensor_value_info("lengths", ints, ["B"]),
        ],
        [onnx.helper.make_tensor_value_info(name, floats, None) for name in outputs],
        initialisers,
    )
    opset = [onnx.helper.make_opsetid("", 14)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


def run_ort(model, x, lengths):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"X": x, "lengths": np.array(lengths, np.int32)})


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


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("kind", "attributes"), [
    ("LSTM", {}),
    ("LSTM", {"input_forget": 0}),
    ("GRU", {"linear_before_reset": 0}),
    ("GRU", {"linear_before_reset": 1}),
    ("RNN", {}),
    ("RNN", {"activations": ["Relu"]}),
], ids=str)  # fmt: skip
def test_one_node(tmp_path, kind, attributes, direction, bias):
    attributes = dict(attributes, direction=direction)
    if "activations" in attributes and direction == "bidirectional":
        attributes["activations"] = attributes["activations"] * 2
    nodes, initialisers = layer(kind, bias=bias, **attributes)
    model = model_of(nodes, initialisers, nodes[0].output)

    assert_runs_alike(model, tmp_path / "model")

    (found,) = weights.find(tmp_path / "model")
    assert (found.prefix, found.kind, found.bias) == ("layer.", kind, bias)
    assert found.attributes.backward == (direction == "reverse")


def explicit_activations(kind, count):
    return {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["SIGMOID", "tanh"]}[kind] * count


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_the_default_activations_may_be_spelled_out(tmp_path, kind):
    named = explicit_activations(kind, 2)
    nodes, initialisers = layer(kind, direction="bidirectional", activations=named)
    assert_runs_alike(model_of(nodes, initialisers, nodes[0].output), tmp_path / "model")


@pytest.mark.parametrize("stored", ["h", "c", "hc"])
@pytest.mark.parametrize("batch", [1, BATCH])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_stored_initial_states(tmp_path, stored, batch, direction):
    d = 2 if direction == "bidirectional" else 1
    seeds = {"h": 5, "c": 6}
    # One state for all sequences is stored once per sequence: ONNX does not broadcast it.
    states = {
        name: np.repeat(inputs(d, batch, HIDDEN, seeds[name]), BATCH // batch, axis=1)
        for name in stored
    }
    nodes, initialisers = layer("LSTM", direction=direction, states=states)

    assert_runs_alike(
        model_of(nodes, initialisers, nodes[0].output), tmp_path / "model", hx_expected=True
    )

    with pytest.raises(weights.CheckpointError, match="holds initial states"):
        packseq.load(tmp_path / "model")


def test_states_and_peepholes_of_zeros_are_none(tmp_path):
    zeros = {role: np.zeros((1, BATCH, HIDDEN), np.float32) for role in "hc"}
    zeros["P"] = np.zeros((1, 3 * HIDDEN), np.float32)
    nodes, initialisers = layer("LSTM", states=zeros)
    assert_runs_alike(model_of(nodes, initialisers, nodes[0].output), tmp_path / "model")


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_layout_1_is_batch_first(tmp_path, kind):
    # onnxruntime has no layout 1: the same weights with layout 0 are the judge.
    nodes, initialisers = layer(kind, layout=1)
    onnx.save(model_of(nodes, initialisers, nodes[0].output, batch_first=True), tmp_path / "model")
    plain, _ = layer(kind)
    x = inputs(BATCH, STEPS, INPUT)
    y, *_ = run_ort(
        model_of(plain, initialisers, plain[0].output), x.swapaxes(0, 1).copy(), [STEPS] * BATCH
    )

    module = packseq.load(tmp_path / "model")

    assert module.batch_first
    np.testing.assert_allclose(
        module(x)[0], joined(y).swapaxes(0, 1), rtol=0, atol=tolerance(STEPS, INPUT + 2 * HIDDEN)
    )


def joint(number, d, squeeze):
    """The nodes by which an exporter joins Y's directions: (T, D, B, H) to (T, B, D*H)."""
    y, out = f"layer{number}_Y", f"joined{number}"
    if squeeze:
        axes = initialiser(f"axes{number}", np.array([1]))
        return [onnx.helper.make_node("Squeeze", [y, axes.name], [out])], [axes]
    shape = initialiser(f"shape{number}", np.array([0, 0, d * HIDDEN if number else -1]))
    turn = onnx.helper.make_node("Transpose", [y], [f"turned{number}"], perm=[0, 2, 1, 3])
    return [turn, onnx.helper.make_node("Reshape", [f"turned{number}", shape.name], [out])], [shape]


def stack_of(kind, count, direction, squeeze):
    """A chain of layers as torch exports them."""
    d = 2 if direction == "bidirectional" else 1
    nodes, initialisers = [], []
    for number in range(count):
        own, arrays = layer(
            kind,
            f"layer{number}",
            width=d * HIDDEN if number else INPUT,
            seed=100 * number,
            x=f"joined{number - 1}" if number else "X",
            direction=direction,
        )
        join, more = joint(number, d, squeeze)
        nodes += own + join
        initialisers += arrays + more
    return nodes, initialisers


@pytest.mark.parametrize(("direction", "squeeze"), [
    ("forward", True),
    ("forward", False),
    ("reverse", True),
    ("bidirectional", False),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_chain_of_nodes_is_one_module(tmp_path, kind, direction, squeeze):
    nodes, initialisers = stack_of(kind, 3, direction, squeeze=squeeze)

    assert_runs_alike(model_of(nodes, initialisers, ["joined2"]), tmp_path / "model")

    (found,) = weights.find(tmp_path / "model")
    assert (found.num_layers, found.bidirectional) == (3, direction == "bidirectional")


def test_a_chain_whose_middle_is_used_elsewhere_stays_apart(tmp_path):
    nodes, initialisers = stack_of("GRU", 2, "forward", squeeze=True)
    onnx.save(model_of(nodes, initialisers, ["joined0", "joined1"]), tmp_path / "model")

    assert [found.num_layers for found in weights.find(tmp_path / "model")] == [1, 1]


def reshape_that_mixes(number):
    shape = initialiser(f"shape{number}", np.array([0, BATCH, -1]))
    return [onnx.helper.make_node("Reshape", [f"layer{number}_Y", shape.name], ["out"])], [shape]


def transposed_in_time(number):
    joins, arrays = joint(number, 1, squeeze=True)
    turn = onnx.helper.make_node("Transpose", joins[0].output, ["out"], perm=[1, 0, 2])
    return [*joins, turn], arrays


def squeezed_twice(number):
    joins, arrays = joint(number, 1, squeeze=True)
    again = onnx.helper.make_node("Squeeze", [joins[0].output[0], arrays[0].name], ["out"])
    return [*joins, again], arrays


def multiplied(number):
    joins, arrays = joint(number, 1, squeeze=True)
    return [*joins, onnx.helper.make_node("Mul", [joins[0].output[0]] * 2, ["out"])], arrays


@pytest.mark.parametrize(
    "between",
    [reshape_that_mixes, transposed_in_time, squeezed_twice, multiplied],
    ids=lambda between: between.__name__,
)
def test_nodes_with_anything_else_between_them_stay_apart(tmp_path, between):
    lower, arrays = layer("GRU", "layer0")
    steps, more = between(0)
    upper, others = layer("GRU", "layer1", width=HIDDEN, x="out")
    model = model_of([*lower, *steps, *upper], arrays + more + others, ["layer1_Y"])
    onnx.save(model, tmp_path / "model")

    assert [found.num_layers for found in weights.find(tmp_path / "model")] == [1, 1]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("kind", "options"), [
    ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ("LSTM", {"num_layers": 3}),
    ("LSTM", {"bias": False}),
    ("GRU", {"num_layers": 2, "bidirectional": True}),
    ("RNN", {"num_layers": 2, "nonlinearity": "relu"}),
], ids=str)  # fmt: skip
def test_what_torch_exports(tmp_path, kind, options, batch_first):
    torch = pytest.importorskip("torch", reason="exports the model")
    torch.manual_seed(3)
    core = getattr(torch.nn, kind)(INPUT, HIDDEN, batch_first=batch_first, **options).eval()
    x = torch.from_numpy(inputs(BATCH, STEPS, INPUT))
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of itself
        torch.onnx.export(
            core, (x,), str(path), dynamo=False, input_names=["x"], dynamic_axes={"x": [0, 1]}
        )

    module = packseq.load(path)

    assert (module.num_layers, module.bidirectional) == (core.num_layers, core.bidirectional)
    with torch.no_grad():
        expected = core(x)[0].numpy()
    x = x.numpy()
    if batch_first:  # the exported node is time-major all the same, between two transpositions
        x, expected = x.swapaxes(0, 1), expected.swapaxes(0, 1)
    atol = core.num_layers * tolerance(STEPS, INPUT + 2 * HIDDEN)
    np.testing.assert_allclose(module(x)[0], expected, rtol=0, atol=atol)


def test_other_initialisers_come_along_in_any_type(tmp_path):
    nodes, initialisers = layer("GRU")
    extra = {
        "table": np.arange(6, dtype=np.float64).reshape(2, 3),
        "ids": np.array([1, -2], np.int64),
        "half": np.array([0.5, -2.0], np.float16),
        "flag": np.array([True, False]),
        "scalar": np.array(3, np.uint8),
    }
    model = model_of(nodes, initialisers, nodes[0].output)
    model.graph.initializer.extend(initialiser(name, array) for name, array in extra.items())
    typed = onnx.helper.make_tensor("typed", onnx.TensorProto.BFLOAT16, [2], [1.5, -3.0])
    model.graph.initializer.append(typed)
    model.graph.initializer.append(
        onnx.helper.make_tensor("bits", onnx.TensorProto.FLOAT16, [2], [1.5, -3.0])
    )
    onnx.save(model, tmp_path / "model")

    arrays = weights.read(tmp_path / "model")

    for name, array in extra.items():
        np.testing.assert_array_equal(arrays[name], array)
    for name in ("typed", "bits"):
        np.testing.assert_array_equal(arrays[name], np.array([1.5, -3.0], np.float32))
    assert not any(name.startswith("layer_") for name in arrays)


def test_external_data_beside_the_model(tmp_path):
    nodes, initialisers = layer("LSTM", direction="bidirectional")
    model = model_of(nodes, initialisers, nodes[0].output)
    inside = weights.read(save_to(tmp_path / "inside", model))
    onnx.save(
        model, tmp_path / "outside", save_as_external_data=True, location="data", size_threshold=0
    )

    outside = weights.read(tmp_path / "outside")

    assert (tmp_path / "data").exists()
    for name, array in inside.items():
        np.testing.assert_array_equal(outside[name], array)


def save_to(path, model):
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(("kind", "attributes", "named"), [
    ("LSTM", {"clip": 3.0}, "clip=3.0"),
    ("LSTM", {"input_forget": 1}, "input_forget=1"),
    ("LSTM", {"activations": ["Sigmoid", "Relu", "Tanh"]}, "activations="),
    ("GRU", {"activations": ["HardSigmoid", "Tanh"]}, "activations="),
    ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5]}, "activations="),
    ("RNN", {"activations": ["Tanh", "Relu"], "direction": "bidirectional"}, "activations="),
    ("GRU", {"layout": 2}, "layout=2"),
    ("LSTM", {"states": {"P": np.ones((1, 3 * HIDDEN), np.float32)}}, "peepholes"),
], ids=str)  # fmt: skip
def test_what_cannot_run_is_refused_by_name_and_still_listed(tmp_path, kind, attributes, named):
    nodes, initialisers = layer(kind, **attributes)
    onnx.save(model_of(nodes, initialisers, nodes[0].output), tmp_path / "model")

    with pytest.raises(weights.CheckpointError, match=named):
        packseq.load(tmp_path / "model")
    (found,) = weights.find(tmp_path / "model")
    assert named in found.attributes.unsupported


def test_weights_that_are_computed_are_refused(tmp_path):
    nodes, initialisers = layer("GRU")
    nodes[0].input[1] = "scaled"
    scale = onnx.helper.make_node("Mul", ["layer_W", "layer_W"], ["scaled"])
    onnx.save(model_of([scale, *nodes], initialisers, nodes[0].output), tmp_path / "model")

    with pytest.raises(weights.CheckpointError, match="weight_ih is computed by Mul"):
        weights.find(tmp_path / "model")
