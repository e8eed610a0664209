"""ONNX models: what a loaded module gives is what onnxruntime gives for the model."""

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
    directions_of,
    initialiser,
    joined,
    layer,
    model_of,
    op,
    peepholes,
    run_ort,
    save_to,
)

import packseq
from packseq import weights

onnx = pytest.importorskip("onnx", reason="writes ONNX models")


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


@pytest.mark.parametrize("stored", ["", "hc"], ids=["from zeros", "from states"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_peepholes(tmp_path, direction, bias, stored):
    d = directions_of({"direction": direction})
    more = {name: inputs(d, BATCH, HIDDEN, seed) for seed, name in enumerate(stored)}
    more["P"] = peepholes(d)
    nodes, initialisers = layer("LSTM", bias=bias, direction=direction, states=more)
    model = model_of(nodes, initialisers, nodes[0].output)

    assert_runs_alike(model, tmp_path / "model", hx_expected=bool(stored))

    (found,) = weights.find(tmp_path / "model")
    assert found.peephole
    arrays = weights.read(tmp_path / "model")
    assert "layer_P" not in arrays
    for number, gate in enumerate("iof"):
        part = more["P"][0, number * HIDDEN : (number + 1) * HIDDEN]
        np.testing.assert_array_equal(arrays[f"layer.weight_c{gate}_l0"], part)


@pytest.mark.parametrize(("shape", "expected"), [
    ((1, 3 * HIDDEN + 1), "expected 12 rows"),
    ((2, 3 * HIDDEN), "expected 2 axes, the first of size 1"),
    ((3 * HIDDEN,), "expected 2 axes"),
], ids=str)  # fmt: skip
def test_peepholes_of_another_shape(tmp_path, shape, expected):
    nodes, initialisers = layer("LSTM", states={"P": np.ones(shape, np.float32)})
    onnx.save(model_of(nodes, initialisers, nodes[0].output), tmp_path / "model")
    with pytest.raises(weights.CheckpointError, match=f"peepholes has shape .*{expected}"):
        packseq.load(tmp_path / "model")


def test_a_chain_of_nodes_with_peepholes_is_one_module(tmp_path):
    nodes, initialisers = stack_of("LSTM", 2, "bidirectional", reshaped(0, 0, -1), with_peepholes)
    module = assert_runs_alike(model_of(nodes, initialisers, ["joined1"]), tmp_path / "model")
    assert (module.num_layers, module.peephole) == (2, True)


def with_peepholes(d):
    return {"P": peepholes(d)}


def test_layers_of_which_one_has_peepholes_stay_apart(tmp_path):
    nodes, initialisers = stack_of("LSTM", 2, "forward", squeezed, with_peepholes)
    del nodes[0].input[5:]
    onnx.save(model_of(nodes, initialisers, ["joined1"]), tmp_path / "model")

    assert [found.peephole for found in weights.find(tmp_path / "model")] == [False, True]


# alpha and beta of HardSigmoid as a node may spell them, and what packseq calls it.
HARD = {
    "as ONNX has it": ({}, "hard_sigmoid_0.2"),
    "alpha": ({"activation_alpha": [0.2]}, "hard_sigmoid_0.2"),
    "both": ({"activation_alpha": [0.2], "activation_beta": [0.5]}, "hard_sigmoid_0.2"),
    "a sixth": ({"activation_alpha": [1 / 6]}, "hard_sigmoid"),
    "decimals": ({"activation_alpha": [0.1666667], "activation_beta": [0.5]}, "hard_sigmoid"),
}


@pytest.mark.parametrize("stored", [False, True], ids=["from zeros", "from states"])
@pytest.mark.parametrize("form", HARD)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("kind", "attributes"), [
    ("LSTM", {}),
    ("GRU", {"linear_before_reset": 0}),
    ("GRU", {"linear_before_reset": 1}),
], ids=str)  # fmt: skip
def test_hard_sigmoids(tmp_path, kind, attributes, direction, form, stored):
    d = directions_of({"direction": direction})
    numbers, name = HARD[form]
    attributes = attributes | {
        "activations": (["HardSigmoid", "Tanh", "Tanh"][: 3 if kind == "LSTM" else 2]) * d,
        "direction": direction,
        # Three times as much, so that some gates are 0 and some are 1.
        "scale": 3.0,
        **{numbers_of: values * d for numbers_of, values in numbers.items()},
    }
    states = {letter: inputs(d, BATCH, HIDDEN, seed) for seed, letter in enumerate(STATES[kind])}
    nodes, initialisers = layer(kind, states=states if stored else None, **attributes)

    module = assert_runs_alike(
        model_of(nodes, initialisers, nodes[0].output), tmp_path / "model", hx_expected=stored
    )

    inner = module.module if direction == "reverse" else module
    assert inner.recurrent_activation == name


def test_hard_sigmoids_beside_peepholes(tmp_path):
    attributes = {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [1 / 6]}
    nodes, initialisers = layer("LSTM", states={"P": peepholes(1)}, **attributes)
    assert_runs_alike(model_of(nodes, initialisers, nodes[0].output), tmp_path / "model")

    (found,) = weights.find(tmp_path / "model")
    listed = "LSTM(3, 4, peephole=True, recurrent_activation='hard_sigmoid')"
    assert str(found) == f"'layer.': {listed}, float32"


def test_layers_of_different_activations_stay_apart(tmp_path):
    nodes, initialisers = stack_of("GRU", 2, "forward", squeezed)
    hard = onnx.helper.make_attribute("activations", ["HardSigmoid", "Tanh"])
    nodes[0].attribute.append(hard)
    onnx.save(model_of(nodes, initialisers, ["joined1"]), tmp_path / "model")

    assert layers_found(tmp_path / "model") == [1, 1]


def test_states_and_peepholes_of_zeros_are_none(tmp_path):
    zeros = {role: np.zeros((1, BATCH, HIDDEN), np.float32) for role in "hc"}
    zeros["P"] = np.zeros((1, 3 * HIDDEN), np.float32)
    nodes, initialisers = layer("LSTM", states=zeros)
    assert_runs_alike(model_of(nodes, initialisers, nodes[0].output), tmp_path / "model")


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_layout_1_is_batch_first(tmp_path, kind):
    # onnxruntime has no layout 1: the same weights with layout 0 are the judge.
    nodes, initialisers = layer(kind, layout=1)
    onnx.save(model_of(nodes, initialisers, nodes[0].output), tmp_path / "model")
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


def test_a_node_keeps_its_layout_and_its_reset(tmp_path):
    nodes, initialisers = layer("GRU", linear_before_reset=1)
    onnx.save(model_of(nodes, initialisers, nodes[0].output), tmp_path / "model")

    assert not packseq.load(tmp_path / "model").batch_first
    for given in ({"batch_first": True}, {"reset_after": False}):
        with pytest.raises(ValueError, match="the file says"):
            packseq.load(tmp_path / "model", **given)


# What joins the directions of layer{number}_Y, (T, D, B, H), to joined{number}, (T, B, D*H): nodes
# and their initialisers, as one exporter or another spells it.
WIDTH = "D*H"


def squeezed(number, d):
    axes = initialiser(f"axes{number}", np.array([1]))
    return [op("Squeeze", [f"layer{number}_Y", axes.name], f"joined{number}")], [axes]


def turned(number, perm=(0, 2, 1, 3)):
    return op("Transpose", [f"layer{number}_Y"], f"turned{number}", perm=perm)


def reshaped(*sizes, **attributes):
    def spell(number, d):
        stored = np.array([d * HIDDEN if size == WIDTH else size for size in sizes])
        shape = initialiser(f"shape{number}", stored)
        inputs = [f"turned{number}", shape.name]
        return [turned(number), op("Reshape", inputs, f"joined{number}", **attributes)], [shape]

    return spell


def computed(
    cuts=((0, 1), (1, 2), (2, 3), (3, 4)), combine="Mul", flatten="Reshape", of="turned{}"
):
    """As torch's exporter does where sizes are dynamic: the shape is computed from a value's."""

    def spell(number, d):
        def local(name):
            return f"{name}_{number}"

        places = [initialiser(local(i), np.array([i])) for i in range(-1, 5)]
        nodes = [turned(number), op("Shape", [of.format(number)], local("sizes"), start=0)]
        for i, (start, end) in enumerate(cuts):
            bounds = [local("sizes"), local(start), local(end)]
            nodes.append(op("Slice", bounds, local(f"size{i}")))
        nodes += [
            op(combine, [local("size2"), local("size3")], local("product")),
            op(flatten, [local("product"), local(-1)], local("width")),
            op("Concat", [local("size0"), local("size1"), local("width")], local("shape"), axis=0),
            op("Reshape", [f"turned{number}", local("shape")], f"joined{number}"),
        ]
        return nodes, places

    return spell


def zero_state(d):
    return {"h": np.zeros((d, BATCH, HIDDEN), np.float32)}


def stack_of(kind, count, direction, spell, states=None):
    """A chain of layers; the output is joined{count - 1}. `states` takes their directions."""
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
            states=states(d) if states else None,
        )
        between, more = spell(number, d)
        nodes += own + between
        initialisers += arrays + more
    return nodes, initialisers


def layers_found(path):
    return [found.num_layers for found in weights.find(path)]


@pytest.mark.parametrize(("direction", "spell"), [
    ("forward", squeezed),
    ("forward", reshaped(0, 0, -1)),
    ("forward", computed()),
    ("reverse", squeezed),
    ("bidirectional", reshaped(0, 0, WIDTH)),
    ("bidirectional", computed()),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_chain_of_nodes_is_one_module(tmp_path, kind, direction, spell):
    nodes, initialisers = stack_of(kind, 3, direction, spell)

    assert_runs_alike(model_of(nodes, initialisers, ["joined2"]), tmp_path / "model")

    (found,) = weights.find(tmp_path / "model")
    assert (found.num_layers, found.bidirectional) == (3, direction == "bidirectional")


# A Reshape keeps the number of elements, so that two sizes that are surely right prove the third.
# Whether T and B are known: by what X is declared as, and B by the shape of a stored state too.
FREE, DECLARED = ("T", "B"), (STEPS, BATCH)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize(("sizes", "state", "shape", "layers"), [
    (DECLARED, False, (STEPS, BATCH, WIDTH), [2]),
    ((STEPS, "B"), False, (STEPS, -1, WIDTH), [2]),
    ((STEPS, "B"), False, (STEPS, 0, WIDTH), [2]),
    (("T", BATCH), False, (-1, BATCH, WIDTH), [2]),
    (FREE, True, (STEPS, BATCH, WIDTH), [2]),
    (FREE, True, (-1, BATCH, WIDTH), [2]),
    (FREE, False, (0, -1, WIDTH), [2]),
    (FREE, False, (-1, 0, WIDTH), [2]),
    (FREE, False, (0, BATCH, WIDTH), [2]),
    # The elements are the same, the order is not; or it may not be, with other sizes.
    (DECLARED, False, (BATCH, STEPS, WIDTH), [1, 1]),
    (DECLARED, True, (BATCH, -1, WIDTH), [1, 1]),
    (FREE, True, (BATCH, STEPS, WIDTH), [1, 1]),
    (FREE, False, (STEPS, BATCH, WIDTH), [1, 1]),
    (FREE, False, (STEPS, -1, WIDTH), [1, 1]),
    (FREE, False, (-1, BATCH, WIDTH), [1, 1]),
    (FREE, True, (STEPS, -1, WIDTH), [1, 1]),
    (FREE, True, (STEPS, BATCH, -1), [1, 1]),
    (FREE, False, (STEPS * BATCH, WIDTH), [1, 1]),
], ids=str)  # fmt: skip
def test_a_reshape_by_numbers_joins_where_they_are_surely_right(
    tmp_path, direction, sizes, state, shape, layers
):
    states = zero_state if state else None
    nodes, initialisers = stack_of("GRU", 2, direction, reshaped(*shape), states)
    model = model_of(nodes, initialisers, ["joined1"], sizes)
    onnx.save(model, tmp_path / "model")

    assert layers_found(tmp_path / "model") == layers
    if layers == [2]:
        assert_runs_alike(model, tmp_path / "model")


def test_a_batch_first_input_is_transposed_and_tells_its_sizes(tmp_path):
    nodes, initialisers = stack_of("GRU", 2, "forward", reshaped(STEPS, BATCH, WIDTH, allowzero=1))
    nodes[0].input[0] = "x_tbi"
    nodes.insert(0, op("Transpose", ["X"], "x_tbi", perm=[1, 0, 2]))
    onnx.save(model_of(nodes, initialisers, ["joined1"], (BATCH, STEPS)), tmp_path / "right")
    onnx.save(model_of(nodes, initialisers, ["joined1"], (STEPS, BATCH)), tmp_path / "wrong")

    assert layers_found(tmp_path / "right") == [2]
    assert layers_found(tmp_path / "wrong") == [1, 1]


def test_sizes_that_are_only_noted_prove_nothing(tmp_path):
    # value_info is not enforced by runtimes, as the declared sizes of inputs are.
    nodes, initialisers = stack_of("GRU", 2, "forward", reshaped(STEPS, BATCH, WIDTH))
    model = model_of(nodes, initialisers, ["joined1"])
    floats = onnx.TensorProto.FLOAT
    note = onnx.helper.make_tensor_value_info("turned0", floats, [STEPS, BATCH, 1, HIDDEN])
    model.graph.value_info.append(note)
    onnx.save(model, tmp_path / "model")

    assert layers_found(tmp_path / "model") == [1, 1]


def test_a_chain_whose_middle_is_used_elsewhere_stays_apart(tmp_path):
    nodes, initialisers = stack_of("GRU", 2, "forward", squeezed)
    onnx.save(model_of(nodes, initialisers, ["joined0", "joined1"]), tmp_path / "model")

    assert layers_found(tmp_path / "model") == [1, 1]


def test_a_chain_whose_middle_is_used_in_a_body_stays_apart(tmp_path):
    nodes, initialisers = stack_of("GRU", 2, "forward", squeezed)
    seen = onnx.helper.make_tensor_value_info("seen", onnx.TensorProto.FLOAT, None)
    bodies = {
        branch: onnx.helper.make_graph([op("Identity", ["joined0"], "seen")], branch, [], [seen])
        for branch in ("then_branch", "else_branch")
    }
    nodes.append(op("If", ["always"], "chosen", **bodies))
    initialisers.append(initialiser("always", np.array(True)))
    onnx.save(model_of(nodes, initialisers, ["joined1", "chosen"]), tmp_path / "model")

    assert layers_found(tmp_path / "model") == [1, 1]


def test_a_chain_whose_middle_is_only_asked_for_its_sizes_is_one_module(tmp_path):
    # As torch does to make the next layer's zeros: its exporter without dynamic axes.
    nodes, initialisers = stack_of("GRU", 2, "forward", squeezed)
    nodes[2].input.append("state")
    nodes[2:2] = [
        op("Shape", ["joined0"], "sizes"),
        op("Gather", ["sizes", "one"], "batch"),
        op("Concat", ["one", "batch", "hidden"], "state_sizes", axis=0),
        op("Expand", ["zeros", "state_sizes"], "state"),
    ]
    initialisers += [
        initialiser("one", np.array([1])),
        initialiser("hidden", np.array([HIDDEN])),
        initialiser("zeros", np.zeros((1, BATCH, HIDDEN), np.float32)),
    ]

    module = assert_runs_alike(model_of(nodes, initialisers, ["joined1"]), tmp_path / "model")

    assert module.num_layers == 2


@pytest.mark.parametrize(("rows", "layers"), [
    ([0, 1], [2]),  # as torch exports a given state: a slice of one input for each layer
    ([1, 0], [1, 1]),
    ([0, 0], [1, 1]),
    ([None, 1], [1, 1]),  # the lower layer starts from zeros
], ids=str)  # fmt: skip
def test_layers_with_given_states_are_one_module_if_one_hx_holds_them_in_order(
    tmp_path, rows, layers
):
    nodes, initialisers = stack_of("GRU", 2, "forward", squeezed)
    slices = []
    for number, (node, row) in enumerate(zip((nodes[0], nodes[2]), rows, strict=True)):
        if row is not None:
            bounds = [initialiser(f"bound{number}{i}", np.array([i])) for i in (row, row + 1)]
            axis = initialiser(f"axis{number}", np.array([0]))
            initialisers += [*bounds, axis]
            names = ["hx", *(bound.name for bound in bounds), axis.name]
            slices.append(op("Slice", names, f"state{number}"))
            node.input.append(f"state{number}")
    model = model_of(slices + nodes, initialisers, ["joined1"], states=["hx"])
    onnx.save(model, tmp_path / "model")

    assert layers_found(tmp_path / "model") == layers
    if layers == [2]:
        x, lengths = inputs(BATCH, STEPS, INPUT).swapaxes(0, 1).copy(), [6, 1, 4]
        hx = inputs(2, BATCH, HIDDEN, seed=7)
        output, _ = packseq.load(tmp_path / "model")(x, hx, lengths=lengths)
        atol = tolerance(STEPS, 2 * (INPUT + 2 * HIDDEN))
        expected = run_ort(model, x, lengths, hx=hx)[0]
        np.testing.assert_allclose(output, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("names", [["a", "b"], ["a", "a"]], ids=str)
def test_layers_with_states_of_their_own_stay_apart(tmp_path, names):
    nodes, initialisers = stack_of("GRU", 2, "forward", squeezed)
    for node, name in zip((nodes[0], nodes[2]), names, strict=True):
        node.input.append(name)
    model = model_of(nodes, initialisers, ["joined1"], states=sorted(set(names)))
    onnx.save(model, tmp_path / "model")

    assert layers_found(tmp_path / "model") == [1, 1]


def test_a_layer_that_starts_from_the_lower_ones_last_state_stays_apart(tmp_path):
    nodes, initialisers = stack_of("GRU", 2, "forward", squeezed)
    nodes[2].input.append("layer0_Y_h")
    onnx.save(model_of(nodes, initialisers, ["joined1"]), tmp_path / "model")

    lower, upper = weights.find(tmp_path / "model")
    assert not lower.attributes.unsupported
    assert upper.attributes.given == "h_0 (computed by GRU)"


def reshaped_without_a_turn(number, d):
    shape = initialiser(f"shape{number}", np.array([0, BATCH, -1]))
    return [op("Reshape", [f"layer{number}_Y", shape.name], f"joined{number}")], [shape]


def turned_otherwise(*perm):
    def spell(number, d):
        nodes, shapes = reshaped(0, 0, -1)(number, d)
        return [turned(number, perm), *nodes[1:]], shapes

    return spell


def followed_by(kind, *more, **attributes):
    """Squeezed, and one more node."""

    def spell(number, d):
        nodes, arrays = squeezed(number, d)
        nodes[-1].output[0] = f"inner{number}"
        inputs = [f"inner{number}", *(name.format(number) for name in more)]
        return [*nodes, op(kind, inputs, f"joined{number}", **attributes)], arrays

    return spell


def with_shape_of(values):
    def spell(number, d):
        nodes, shapes = reshaped(0, 0, -1)(number, d)
        shapes[0].CopyFrom(initialiser(f"shape{number}", values))
        return nodes, shapes

    return spell


def test_two_directions_cannot_be_squeezed(tmp_path):
    nodes, initialisers = stack_of("GRU", 2, "bidirectional", squeezed)
    onnx.save(model_of(nodes, initialisers, ["joined1"]), tmp_path / "model")

    assert layers_found(tmp_path / "model") == [1, 1]


NEAR_MISSES = {
    "no turn": reshaped_without_a_turn,
    "turned to batch first": turned_otherwise(2, 0, 1, 3),
    "directions after units": turned_otherwise(0, 2, 3, 1),
    "zeros that are meant": reshaped(0, 0, WIDTH, allowzero=1),
    "time and batch swapped": followed_by("Transpose", perm=[1, 0, 2]),
    "squeezed twice": followed_by("Squeeze", "axes{}"),
    "another operator": followed_by("Mul", "inner{}"),
    "an operator of somebody else's": followed_by("Identity", domain="com.example"),
    "sizes in another order": computed([(1, 2), (0, 1), (2, 3), (3, 4)]),
    "a size twice": computed([(0, 1), (0, 1), (2, 3), (3, 4)]),
    "a sum of sizes": computed(combine="Add"),
    "another operator on sizes": computed(flatten="Max"),
    "a product of other sizes": computed([(0, 1), (1, 2), (1, 2), (3, 4)]),
    "sizes of another value": computed([(0, 1), (1, 2), (2, 3), (2, 3)], of="X"),
    "sizes before the turn": computed(of="layer{}_Y"),
    "a slice of two sizes": computed([(0, 2), (1, 2), (2, 3), (3, 4)]),
    "a shape that is no integers": with_shape_of(np.array([0, np.nan, np.inf])),
    "a shape that is a matrix": with_shape_of(np.array([[0, 0, -1]])),
    "a shape of too many numbers": with_shape_of(np.arange(100)),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_nodes_with_anything_else_between_them_stay_apart(tmp_path, name, direction):
    nodes, initialisers = stack_of("GRU", 2, direction, NEAR_MISSES[name])
    onnx.save(model_of(nodes, initialisers, ["layer1_Y"]), tmp_path / "model")

    assert layers_found(tmp_path / "model") == [1, 1]


@pytest.fixture(scope="module")
def exporter():
    return pytest.importorskip("torch", reason="exports the models")


def dynamic_sizes(torch, batch_first):
    steps, batch = torch.export.Dim("steps"), torch.export.Dim("batch")
    return ({0: batch, 1: steps} if batch_first else {0: steps, 1: batch},)


EXPORTS = {
    "dynamo": lambda torch, batch_first: {"dynamo": True},
    "dynamo, dynamic": lambda torch, batch_first: {
        "dynamo": True,
        "dynamic_shapes": dynamic_sizes(torch, batch_first),
    },
    "traced": lambda torch, batch_first: {"dynamo": False},
    "traced, dynamic": lambda torch, batch_first: {
        "dynamo": False,
        "input_names": ["x"],
        "dynamic_axes": {"x": [0, 1]},
    },
}


def export(torch, model, inputs, path, **options):
    if options["dynamo"]:
        pytest.importorskip("onnxscript", reason="torch's exporter needs it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of itself
        torch.onnx.export(model, inputs, str(path), verbose=False, **options)


def assert_is_one_module(torch, path, how, kind, batch_first, **options):
    """Export one of torch's modules and run what is loaded beside it."""
    torch.manual_seed(3)
    core = getattr(torch.nn, kind)(INPUT, HIDDEN, batch_first=batch_first, **options).eval()
    x = torch.from_numpy(inputs(BATCH, STEPS, INPUT))
    export(torch, core, (x,), path, **EXPORTS[how](torch, batch_first))

    module = packseq.load(path)

    assert (module.num_layers, module.bidirectional) == (core.num_layers, core.bidirectional)
    with torch.no_grad():
        expected = core(x)[0].numpy()
    x = x.numpy()
    if batch_first:  # the exported node is time-major all the same, between two transpositions
        x, expected = x.swapaxes(0, 1), expected.swapaxes(0, 1)
    atol = core.num_layers * tolerance(STEPS, INPUT + 2 * HIDDEN)
    np.testing.assert_allclose(module(x)[0], expected, rtol=0, atol=atol)


@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("how", ["traced", "traced, dynamic"])
@pytest.mark.parametrize(("kind", "options"), [
    ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ("LSTM", {"num_layers": 3}),
    ("LSTM", {"bias": False}),
    ("GRU", {"num_layers": 2, "bidirectional": True}),
    ("GRU", {"num_layers": 2}),
    ("RNN", {"num_layers": 2, "nonlinearity": "relu"}),
], ids=str)  # fmt: skip
def test_what_torch_exports_by_tracing(tmp_path, exporter, kind, options, how, batch_first):
    assert_is_one_module(exporter, tmp_path / "model", how, kind, batch_first, **options)


@pytest.mark.parametrize(("kind", "options", "how", "batch_first"), [
    ("LSTM", {"num_layers": 2, "bidirectional": True}, "dynamo", False),
    ("LSTM", {"num_layers": 3}, "dynamo, dynamic", True),
    ("GRU", {"num_layers": 3}, "dynamo", True),
    ("GRU", {"num_layers": 2, "bidirectional": True}, "dynamo, dynamic", False),
], ids=str)  # fmt: skip
def test_what_torch_exports_by_dynamo(tmp_path, exporter, kind, options, how, batch_first):
    assert_is_one_module(exporter, tmp_path / "model", how, kind, batch_first, **options)


def test_dynamo_unrolls_an_rnn_so_that_there_is_none_to_find(tmp_path, exporter):
    core = exporter.nn.RNN(INPUT, HIDDEN).eval()
    x = exporter.from_numpy(inputs(STEPS, BATCH, INPUT))
    export(exporter, core, (x,), tmp_path / "model", **EXPORTS["dynamo"](exporter, False))

    with pytest.raises(weights.CheckpointError, match="holds no LSTM, GRU or RNN"):
        packseq.load(tmp_path / "model")


@pytest.mark.parametrize("how", ["dynamo", "traced"])
def test_given_states_that_torch_exports_are_hx(tmp_path, exporter, how):
    exporter.manual_seed(3)
    core = exporter.nn.GRU(INPUT, HIDDEN, num_layers=3).eval()
    x, hx = inputs(STEPS, BATCH, INPUT), inputs(3, BATCH, HIDDEN, seed=7)
    tensors = exporter.from_numpy(x), exporter.from_numpy(hx)
    export(exporter, core, tensors, tmp_path / "model.onnx", **EXPORTS[how](exporter, False))

    module = packseq.load(tmp_path / "model.onnx")

    with exporter.no_grad():
        expected = core(*tensors)[0].numpy()
    atol = 3 * tolerance(STEPS, INPUT + 2 * HIDDEN)
    np.testing.assert_allclose(module(x, hx)[0], expected, rtol=0, atol=atol)


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


@pytest.mark.parametrize(("kind", "attributes", "named"), [
    ("LSTM", {"clip": 3.0}, "clip=3.0"),
    ("LSTM", {"input_forget": 1}, "input_forget=1"),
    ("LSTM", {"activations": ["Sigmoid", "Relu", "Tanh"]}, "activations="),
    ("GRU", {"activations": ["HardSigmoid", "Tanh"], "activation_alpha": [0.3]},
     "activations=['HardSigmoid', 'Tanh'], activation_alpha=[0.3]"),
    ("GRU", {"activations": ["HardSigmoid", "Tanh"], "activation_beta": [0.4]},
     "activation_beta=[0.4]"),
    ("LSTM", {"activations": ["Sigmoid", "HardSigmoid", "Tanh"]}, "activations="),
    # Where alpha has one entry, the second direction takes the default.
    ("GRU", {"activations": ["HardSigmoid", "Tanh"] * 2, "activation_alpha": [1 / 6],
             "direction": "bidirectional"}, "activation_alpha=[0.166667]"),
    ("GRU", {"activations": ["HardSigmoid", "Tanh", "Sigmoid", "Tanh"],
             "direction": "bidirectional"}, "activations="),
    ("RNN", {"activations": ["HardSigmoid"]}, "activations=['HardSigmoid']"),
    ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5]}, "activations="),
    ("RNN", {"activations": ["Tanh", "Relu"], "direction": "bidirectional"}, "activations="),
    ("GRU", {"layout": 2}, "layout=2"),
], ids=str)  # fmt: skip
def test_what_cannot_run_is_refused_by_name_and_still_listed(tmp_path, kind, attributes, named):
    nodes, initialisers = layer(kind, **attributes)
    onnx.save(model_of(nodes, initialisers, nodes[0].output), tmp_path / "model")

    with pytest.raises(weights.CheckpointError, match=re.escape(named)):
        packseq.load(tmp_path / "model")
    (found,) = weights.find(tmp_path / "model")
    assert named in found.attributes.unsupported


@pytest.mark.parametrize(("source", "named"), [
    ("scaled", "peepholes (input P), computed by Add"),
    ("X", "peepholes (input P), an input of the graph"),
])  # fmt: skip
def test_peepholes_that_are_not_stored_are_refused_by_name_and_still_listed(
    tmp_path, source, named
):
    nodes, initialisers = layer("LSTM", states={"P": peepholes(1)})
    nodes[0].input[7] = source
    nodes.insert(0, op("Add", ["layer_P", "layer_P"], "scaled"))
    onnx.save(model_of(nodes, initialisers, nodes[1].output), tmp_path / "model")

    with pytest.raises(weights.CheckpointError, match=re.escape(named)):
        packseq.load(tmp_path / "model")
    (found,) = weights.find(tmp_path / "model")
    assert (found.kind, found.attributes.unsupported) == ("LSTM", named)


def test_weights_that_are_computed_are_refused_by_name_and_still_listed(tmp_path):
    nodes, initialisers = layer("GRU")
    nodes[0].input[1] = "turned"
    scale = op("Softplus", ["layer_W"], "scaled")
    turn = op("Identity", ["scaled"], "turned")
    onnx.save(model_of([scale, turn, *nodes], initialisers, nodes[0].output), tmp_path / "model")

    reason = "node 'layer': weight_ih: 'scaled' is computed by Softplus"
    with pytest.raises(weights.CheckpointError, match=reason):
        packseq.load(tmp_path / "model")
    (found,) = weights.find(tmp_path / "model")
    assert (found.prefix, found.kind) == ("layer.", "")
    assert reason in found.attributes.unsupported


# ---- torch's exporter, which wrote linear_before_reset=0 for torch's GRU ----


def exported(tmp_path, kind="GRU", producer="pytorch", **attributes):
    nodes, initialisers = layer(kind, **attributes)
    model = model_of(nodes, initialisers, nodes[0].output)
    model.producer_name = producer
    return save_to(tmp_path / "model", model)


def test_a_gru_that_torchs_exporter_wrote_wrongly_is_warned_of(tmp_path):
    path = exported(tmp_path)
    with pytest.warns(weights.CheckpointWarning, match="'layer.': .*pass reset_after=True") as told:
        module = packseq.load(path)
    assert told[0].filename == __file__
    assert not module.reset_after  # as the file says
    assert "doubtful: its linear_before_reset is 0" in str(weights.find(path)[0])


@pytest.mark.parametrize("given", [True, False])
def test_what_the_exporter_meant_is_the_callers_to_say(tmp_path, given):
    path = exported(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = packseq.load(path, reset_after=given)
    assert module.reset_after == given
    packseq.save(module, tmp_path / "saved")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert packseq.load(tmp_path / "saved").reset_after == given


def test_a_file_that_was_converted_is_warned_of_too(tmp_path):
    path = exported(tmp_path)
    weights.convert(path, tmp_path / "converted")
    with pytest.warns(weights.CheckpointWarning, match="reset_after=True"):
        packseq.load(tmp_path / "converted")


@pytest.mark.parametrize("how", [
    {"producer": "tf2onnx"},
    {"producer": ""},
    {"linear_before_reset": 1},
    {"kind": "LSTM"},
], ids=str)  # fmt: skip
def test_nothing_else_is_warned_of(tmp_path, how):
    path = exported(tmp_path, **how)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        packseq.load(path)
    assert "doubtful" not in str(weights.find(path)[0])


def test_convert_overwrites_no_external_data_of_its_source(tmp_path):
    nodes, initialisers = layer("GRU")
    model = model_of(nodes, initialisers, nodes[0].output)
    onnx.save_model(
        model, tmp_path / "m.onnx", save_as_external_data=True, location="data", size_threshold=0
    )
    before = (tmp_path / "data").read_bytes()
    with pytest.raises(ValueError, match="is a source, which would be lost"):
        weights.convert(tmp_path / "m.onnx", tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == before
