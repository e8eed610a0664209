"""weights.split: front, module and back in a row give what onnxruntime gives for the whole."""

import warnings

import numpy as np
import pytest
from checkpoints import inputs, tolerance
from onnx_models import (
    BATCH,
    HIDDEN,
    INPUT,
    STEPS,
    initialiser,
    judged,
    layer,
    model_of,
    onnx,
    op,
    save_to,
)

from packseq import weights

ATOL = tolerance(STEPS, 4 * (INPUT + 2 * HIDDEN))
LENGTHS = np.array([6, 1, 4], np.int32)
KINDS = {"LSTM": 4, "GRU": 3, "RNN": 1}


def run_in_a_row(parts, prefix, feeds, x=None, lengths=None, hx=None):
    """The three, each fed by name from what is there; x, lengths and hx where there is no front."""
    front, module, back = parts
    pool = dict(feeds)
    if front is not None:
        names = [output.name for output in front.graph.output]
        own = {value.name: feeds[value.name] for value in front.graph.input if value.name in feeds}
        pool |= dict(zip(names, judged(front, own), strict=True))
        x, lengths = pool[f"{prefix}x"], pool.get(f"{prefix}lengths")
        states = [pool[f"{prefix}{name}_0"] for name in "hc" if f"{prefix}{name}_0" in pool]
        hx = (tuple(states) if len(states) == 2 else states[0]) if states else None
    output, state = module(x, hx, lengths=lengths)
    state = state if isinstance(state, tuple) else (state,)
    returned = {f"{prefix}output": output}
    returned |= {f"{prefix}{name}_n": one for name, one in zip("hc", state, strict=False)}
    pool |= returned
    if back is not None:
        own = {value.name: np.asarray(pool[value.name]) for value in back.graph.input}
        names = [output.name for output in back.graph.output]
        pool |= dict(zip(names, judged(back, own), strict=True))
    return pool


def assert_in_a_row(path, feeds, prefix=None, atol=ATOL, **arguments):
    model = onnx.load(path)
    parts = weights.split(path, prefix)
    found = prefix or weights.find(path)[0].prefix
    pool = run_in_a_row(parts, found, feeds, **arguments)
    names = [output.name for output in model.graph.output]
    for name, expected in zip(names, judged(model, feeds), strict=True):
        np.testing.assert_allclose(pool[name], expected, rtol=0, atol=atol, err_msg=name)
    for part in filter(None, (parts[0], parts[2])):
        assert_is_well_made(part, model)
    return parts


def assert_is_well_made(part, model):
    """Shapes inferred, names unique, opset kept, nothing that is not used."""
    onnx.checker.check_model(part, full_check=True)
    assert part.opset_import == model.opset_import
    assert part.ir_version == model.ir_version
    assert all(value.type.tensor_type.elem_type for value in part.graph.output)
    assert all(value.type.tensor_type.HasField("shape") for value in part.graph.output)
    names = [node.name for node in part.graph.node]
    assert len(set(names)) == len(names)
    used = {name for node in part.graph.node for name in node.input}
    used |= {output.name for output in part.graph.output}
    assert {tensor.name for tensor in part.graph.initializer} <= used
    recurrent = [node.op_type for node in model.graph.node if node.op_type in KINDS]
    left = [node.op_type for node in part.graph.node if node.op_type in KINDS]
    assert len(left) < len(recurrent)


def x_of_the_model():
    return {"X": inputs(BATCH, STEPS, INPUT).swapaxes(0, 1).copy(), "lengths": LENGTHS}


@pytest.fixture(scope="module")
def torch():
    pytest.importorskip("onnxscript", reason="torch's exporter needs it")
    return pytest.importorskip("torch", reason="exports the models")


def export(torch, net, arguments, path, **options):
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net.eval(), arguments, str(path), verbose=False, **options)


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "traced"])
def test_a_text_recogniser(tmp_path, torch, dynamo):
    nn = torch.nn

    class Recogniser(nn.Module):
        def __init__(self):
            super().__init__()
            self.cnn = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
            self.rnn = nn.LSTM(64, 64, num_layers=2, bidirectional=True, batch_first=True)
            self.head = nn.Linear(128, 11)

        def forward(self, image):
            columns = self.cnn(image).flatten(1, 2).transpose(1, 2)
            return self.head(self.rnn(columns)[0]).log_softmax(-1)

    image = torch.rand(2, 1, 16, 40)
    export(torch, Recogniser(), (image,), tmp_path / "ocr.onnx", dynamo=dynamo)
    (name,) = [value.name for value in onnx.load(tmp_path / "ocr.onnx").graph.input]

    front, module, back = assert_in_a_row(
        tmp_path / "ocr.onnx", {name: image.numpy()}, atol=2 * tolerance(20, 64 + 2 * 64)
    )

    assert (module.num_layers, module.bidirectional) == (2, True)
    assert [len(part.graph.output) for part in (front, back)] == [1, 1]
    assert len(back.graph.input) == 1


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "traced"])
def test_a_model_of_speech_with_states(tmp_path, torch, dynamo):
    nn = torch.nn

    class Speech(nn.Module):
        """Frames in and a score out; h and c are halves of one state that goes around."""

        def __init__(self):
            super().__init__()
            self.before, self.rnn = nn.Linear(20, 16), nn.LSTM(16, 64)
            self.after = nn.Linear(64, 1)

        def forward(self, frames, state):
            y, (h, c) = self.rnn(self.before(frames).relu(), (state[:1], state[1:]))
            return self.after(y).sigmoid(), torch.cat([h, c])

    arguments = torch.rand(5, 2, 20), torch.rand(2, 2, 64)
    export(
        torch, Speech(), arguments, tmp_path / "speech.onnx", dynamo=dynamo,
        input_names=["frames", "state"], output_names=["score", "next_state"],
    )  # fmt: skip

    feeds = {name: one.numpy() for name, one in zip(("frames", "state"), arguments, strict=True)}
    front, _, back = assert_in_a_row(
        tmp_path / "speech.onnx", feeds, atol=tolerance(5, 16 + 2 * 64)
    )

    prefix = weights.find(tmp_path / "speech.onnx")[0].prefix
    assert [one.name for one in front.graph.output] == [f"{prefix}{n}" for n in ("x", "h_0", "c_0")]
    assert {one.name for one in back.graph.input} == {
        f"{prefix}{n}" for n in ("output", "h_n", "c_n")
    }


def test_a_model_with_a_bypass_and_two_modules(tmp_path, torch):
    nn = torch.nn

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.GRU(8, 8), nn.LSTM(8, 8, bidirectional=True)
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            scaled = x * 2
            y = self.one(scaled)[0] + scaled
            z, (h, _) = self.two(y)
            return self.head(z), h.sum(), scaled.mean(), y + x

    x = torch.rand(5, 2, 8)
    export(torch, Residual(), (x,), tmp_path / "model.onnx", dynamo=False, input_names=["x"])

    for found in weights.find(tmp_path / "model.onnx"):
        parts = assert_in_a_row(tmp_path / "model.onnx", {"x": x.numpy()}, found.prefix)
        assert parts[1].hidden_size == 8


# --- graphs of our own ----------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_output_of_a_node_and_lengths(tmp_path, kind, direction):
    nodes, arrays = layer(kind, direction=direction)
    path = save_to(tmp_path / "model", model_of(nodes, arrays, nodes[0].output))
    feeds = x_of_the_model()

    front, _, back = assert_in_a_row(path, feeds, x=feeds["X"], lengths=LENGTHS)

    assert front is None  # X and lengths are the model's own
    assert back.graph.output[0].name == "layer_Y"


def test_sides_that_are_empty_are_none(tmp_path):
    nodes, arrays = layer("GRU")
    nodes.append(op("Squeeze", ["layer_Y", "axis"], "output"))
    arrays.append(initialiser("axis", np.array([1])))
    path = save_to(tmp_path / "model", model_of(nodes, arrays, ["output", "layer_Y_h"]))

    front, module, back = weights.split(path)

    assert front is None
    assert back is None
    feeds = x_of_the_model()
    output, state = module(feeds["X"], lengths=LENGTHS)
    for ours, theirs in zip((output, state), judged(onnx.load(path), feeds), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=ATOL)


def stack_with(states, rows=(0, 1), outputs=("joined", "h"), middle=False):
    """Two GRUs of one module with states by name; "" for none."""
    lower, arrays = layer("GRU", "lower")
    upper, more = layer("GRU", "upper", width=HIDDEN, x="between", seed=9)
    arrays += more
    arrays += [initialiser(f"at{i}", np.array([i])) for i in range(3)]
    for node, name in zip((lower[0], upper[0]), states, strict=True):
        node.input.extend([name] if name else [])
    cut = [op("Slice", ["hx", f"at{row}", f"at{row + 1}", "at0"], f"row{row}") for row in rows]
    nodes = [
        *cut,
        *lower,
        op("Squeeze", ["lower_Y", "at1"], "between"),
        *upper,
        op("Squeeze", ["upper_Y", "at1"], "joined"),
        op("Concat", ["lower_Y_h", "upper_Y_h"], "h", axis=0),
    ]
    if middle:
        nodes.append(op("Shape", ["between"], "sizes"))
    return model_of(nodes, arrays, outputs, states=["hx"])


def test_a_stack_with_given_states(tmp_path):
    path = save_to(tmp_path / "model", stack_with(("row0", "row1")))
    feeds = x_of_the_model() | {"hx": inputs(2, BATCH, HIDDEN, seed=7)}
    front, module, back = weights.split(path)
    assert module.num_layers == 2
    assert [one.name for one in front.graph.output] == ["lower.x", "lower.lengths", "lower.h_0"]
    assert back is None
    pool = run_in_a_row((front, module, back), "lower.", feeds)
    for name, expected in zip(("output", "h_n"), judged(onnx.load(path), feeds), strict=True):
        np.testing.assert_allclose(pool[f"lower.{name}"], expected, rtol=0, atol=ATOL)


def test_the_last_states_of_each_layer_and_the_sizes_of_the_middle(tmp_path):
    outputs = ["upper_Y", "lower_Y_h", "upper_Y_h", "sizes"]
    model = stack_with(("", ""), outputs=outputs, middle=True)
    model.graph.output[-1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    path = save_to(tmp_path / "model", model)
    feeds = x_of_the_model() | {"hx": inputs(2, BATCH, HIDDEN, seed=7)}
    _, module, back = assert_in_a_row(path, feeds, x=feeds["X"], lengths=LENGTHS)
    assert module.num_layers == 2
    assert [one.name for one in back.graph.input] == ["lower.output", "lower.h_n"]


@pytest.mark.parametrize("which", ["h", "c", "hc"])
def test_states_that_are_stored_or_for_one_half_alone(tmp_path, which):
    states = {name: inputs(1, BATCH, HIDDEN, seed) for seed, name in enumerate(which)}
    nodes, arrays = layer("LSTM", states=states)
    nodes.append(op("Relu", ["layer_Y"], "out"))
    path = save_to(tmp_path / "model", model_of(nodes, arrays, ["out", "layer_Y_c"]))
    front, *_ = assert_in_a_row(path, x_of_the_model())
    names = ["layer.x", "layer.lengths", "layer.h_0", "layer.c_0"]
    assert [one.name for one in front.graph.output] == names


def test_what_never_varies_is_on_both_sides_and_what_is_drawn_on_one(tmp_path):
    nodes, arrays = layer("GRU")
    nodes[0].input[0] = "moved"
    nodes[:0] = [
        op("Mul", ["two", "two"], "four"),
        op("RandomNormal", [], "noise", shape=[1], dtype=onnx.TensorProto.FLOAT),
        op("Add", ["X", "four"], "shifted"),
        op("Add", ["shifted", "noise"], "moved"),
    ]
    nodes += [op("Mul", ["layer_Y", "four"], "more"), op("Add", ["more", "noise"], "out")]
    arrays.append(initialiser("two", np.array([2], np.float32)))
    path = save_to(tmp_path / "model", model_of(nodes, arrays, ["out"]))

    front, _, back = weights.split(path)

    made = [{name for node in part.graph.node for name in node.output} for part in (front, back)]
    assert all("four" in names for names in made)
    assert "noise" in made[0] - made[1]
    assert [one.name for one in front.graph.output] == ["layer.x", "layer.lengths", "noise"]


def test_what_a_body_uses_of_both_sides_reaches_it(tmp_path):
    nodes, arrays = layer("GRU")
    nodes.insert(0, op("Mul", ["X", "two"], "doubled"))
    nodes[1].input[0] = "doubled"
    seen = onnx.helper.make_tensor_value_info("seen", onnx.TensorProto.FLOAT, None)
    used = [op("ReduceSum", ["layer_Y"], "all"), op("Mul", ["doubled", "all"], "some"),
            op("Add", ["some", "two"], "seen")]  # fmt: skip
    bodies = {name: onnx.helper.make_graph(used, name, [], [seen])
              for name in ("then_branch", "else_branch")}  # fmt: skip
    nodes.append(op("If", ["flag"], "out", **bodies))
    arrays += [initialiser("two", np.array([2], np.float32)), initialiser("flag", np.array(True))]
    path = save_to(tmp_path / "model", model_of(nodes, arrays, ["out"]))
    parts = weights.split(path)
    pool = run_in_a_row(parts, "layer.", x_of_the_model())
    (expected,) = judged(onnx.load(path), x_of_the_model())
    np.testing.assert_allclose(
        pool["out"], expected, rtol=0, atol=ATOL * STEPS * BATCH * HIDDEN * 9
    )


def test_names_that_the_model_has_already(tmp_path):
    nodes, arrays = layer("GRU")
    nodes[0].input[0] = "layer.x"
    nodes.insert(0, op("Mul", ["X", "X"], "layer.x", name="layer"))
    nodes.append(op("Relu", ["layer_Y"], "layer.output"))
    path = save_to(tmp_path / "model", model_of(nodes, arrays, ["layer.output"]))
    front, _, back = weights.split(path)
    assert front.graph.output[0].name == "layer.x#2"
    assert back.graph.input[0].name == "layer.output#2"


def test_a_model_of_halves_around_a_module_of_floats(tmp_path):
    (node,), arrays = layer("GRU")
    arrays = [
        initialiser(tensor.name, onnx.numpy_helper.to_array(tensor).astype(np.float16))
        for tensor in arrays
    ]
    nodes = [op("Cast", ["X"], "half", to=onnx.TensorProto.FLOAT16), node,
             op("Relu", ["layer_Y"], "out")]  # fmt: skip
    node.input[0] = "half"
    model = model_of(nodes, arrays, ["out"])
    half = model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    path = save_to(tmp_path / "model", model)

    front, module, back = weights.split(path)

    assert front.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert back.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert back.graph.output[0].type.tensor_type.elem_type == half
    pool = run_in_a_row((front, module, back), "layer.", x_of_the_model())
    assert pool["out"].dtype == np.float16


def test_layout_1(tmp_path):
    # onnxruntime has no layout 1: the same weights with layout 0 are the judge.
    results = []
    for layout in (0, 1):
        (node,), arrays = layer("LSTM", direction="bidirectional", layout=layout)
        node.input[0] = "doubled"
        node.input.extend(["hx", "hx"])
        nodes = [op("Add", ["X", "X"], "doubled"), node,
                 op("Relu", ["layer_Y"], "y"), op("Relu", ["layer_Y_h"], "h")]  # fmt: skip
        path = save_to(tmp_path / f"{layout}", model_of(nodes, arrays, ["y", "h"], states=["hx"]))
        feeds = x_of_the_model() | {"hx": inputs(2, BATCH, HIDDEN, seed=7)}
        if layout:
            feeds |= {name: feeds[name].swapaxes(0, 1).copy() for name in ("X", "hx")}
        results.append(run_in_a_row(weights.split(path), "layer.", feeds))
    plain, batch_first = results
    np.testing.assert_array_equal(batch_first["y"], plain["y"].transpose(2, 0, 1, 3))
    np.testing.assert_array_equal(batch_first["h"], plain["h"].swapaxes(0, 1))


def test_external_data_is_put_into_the_parts(tmp_path):
    nodes, arrays = layer("GRU")
    nodes.append(op("Mul", ["layer_Y", "scale"], "out"))
    arrays.append(initialiser("scale", np.full((1, HIDDEN), 3, np.float32)))
    model = model_of(nodes, arrays, ["out"])
    onnx.save(model, tmp_path / "model", save_as_external_data=True, location="data",
              size_threshold=0)  # fmt: skip
    (tmp_path / "elsewhere").mkdir()
    *_, back = weights.split(tmp_path / "model")
    (scale,) = [tensor for tensor in back.graph.initializer if tensor.name == "scale"]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(scale), np.full((1, HIDDEN), 3))


def test_what_cannot_be_split_is_refused_by_name(tmp_path):
    (tmp_path / "text").write_bytes(b"{}")
    with pytest.raises(weights.CheckpointError, match="is no ONNX model"):
        weights.split(tmp_path / "text")

    (node,), arrays = layer("GRU")
    seen = onnx.helper.make_tensor_value_info("layer_Y", onnx.TensorProto.FLOAT, None)
    bodies = {name: onnx.helper.make_graph([node], name, [], [seen])
              for name in ("then_branch", "else_branch")}  # fmt: skip
    model = model_of([op("If", ["flag"], "Y", name="choice", **bodies)], arrays, ["Y"])
    path = save_to(tmp_path / "body", model)
    with pytest.raises(weights.CheckpointError, match="several modules; choose one by prefix"):
        weights.split(path)
    with pytest.raises(weights.CheckpointError, match="is in a body"):
        weights.split(path, "choice.then_branch.layer")


def test_a_module_that_is_no_node_is_refused(tmp_path):
    # As torch's exporter leaves the parameters of what it unrolls.
    arrays = [
        initialiser(f"rnn.weight_{name}_l0", np.ones((4, 4), np.float32)) for name in ("ih", "hh")
    ]
    path = save_to(tmp_path / "model", model_of([op("Relu", ["X"], "out")], arrays, ["out"]))
    for prefix in (None, "rnn."):
        with pytest.raises(weights.CheckpointError, match="the module is no node"):
            weights.split(path, prefix)


def test_a_value_of_unknown_type_that_passes_by_is_refused_by_name(tmp_path):
    nodes, arrays = layer("GRU")
    nodes.insert(0, op("Odd", ["X"], "odd", domain="com.example"))
    nodes.append(op("Add", ["layer_Y", "odd"], "out"))
    model = model_of(nodes, arrays, ["out"])
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    with pytest.raises(weights.CheckpointError, match="type of value 'odd' cannot be inferred"):
        weights.split(save_to(tmp_path / "model", model))
