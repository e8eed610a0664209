"""ONNX's DynamicQuantizeLSTM: int8 takes over its integers and scales as they are."""

import numpy as np
import pytest
from checkpoints import inputs
from int8_files import INPUT, H, assert_is_the_references, bound, of_lstm, step_inputs

import packseq
from packseq import weights

# Of ONNX's gates i o f c, torch's i f g o.
ROWS = np.arange(4 * H).reshape(4, H)[[0, 2, 3, 1]].ravel()


class Quantized:
    """The arrays of a DynamicQuantizeLSTM, and its node."""

    def __init__(self, dtype=np.int8, zero=0, by_channel=True, directions=1, width=INPUT, name="n"):
        rng = np.random.default_rng(3)
        low, high = max(np.iinfo(dtype).min, zero - 128), min(np.iinfo(dtype).max, zero + 127)
        each = (directions, 4 * H) if by_channel else (directions,)
        self.arrays = {"B": rng.uniform(-0.3, 0.3, (directions, 8 * H)).astype(np.float32)}
        for part, rows in (("W", width), ("R", H)):
            integers = rng.integers(low, high, (directions, rows, 4 * H), endpoint=True)
            integers[:, 0, 0] = low  # -128 where there are zero points for it
            self.arrays[part] = integers.astype(dtype)
            self.arrays[f"{part}_scale"] = rng.uniform(0.002, 0.004, each).astype(np.float32)
            self.arrays[f"{part}_zero"] = np.full(each, zero, dtype)
        self.directions, self.name = directions, name

    def model(self, x="X", first="", second=""):
        from onnx_models import initialiser, onnx

        stored = [initialiser(f"{self.name}_{key}", a) for key, a in self.arrays.items()]
        w, r, b, *others = (
            f"{self.name}_{key}"
            for key in ("W", "R", "B", "W_scale", "W_zero", "R_scale", "R_zero")
        )
        node = onnx.helper.make_node(
            "DynamicQuantizeLSTM",
            [x, w, r, b, "", first, second, "", *others],
            [f"{self.name}_Y"],
            name=self.name,
            domain="com.microsoft",
            hidden_size=H,
            direction="bidirectional" if self.directions == 2 else "forward",
        )
        return node, stored

    def scales(self, part):
        """(D, 4H), in torch's order."""
        each = self.arrays[f"{part}_scale"].reshape(self.directions, -1)
        return np.broadcast_to(each, (self.directions, 4 * H))[:, ROWS]

    def integers(self, part):
        """(D, 4H, K) in torch's order, less the zero point."""
        zero = self.arrays[f"{part}_zero"].reshape(self.directions, 1, -1).astype(int)
        return (self.arrays[part] - zero).swapaxes(1, 2)[:, ROWS]


def save(path, nodes, stored, outputs, states=()):
    from onnx_models import onnx

    def value(name, sizes):
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes)

    given = [value("X", ["T", "B", INPUT]), *(value(name, [1, "B", H]) for name in states)]
    graph = onnx.helper.make_graph(nodes, "g", given, [value(o, None) for o in outputs], stored)
    opsets = [onnx.helper.make_opsetid("", 15), onnx.helper.make_opsetid("com.microsoft", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def file_of(path, quantized, **states):
    node, stored = quantized.model(**states)
    return save(path, [node], stored, [f"{quantized.name}_Y"], [*states.values()])


@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(("dtype", "zero"), [(np.int8, 0), (np.uint8, 128), (np.uint8, 100)])
def test_onnx_integers_and_scales_are_the_modules(tmp_path, dtype, zero, directions, by_channel):
    """One scale for all is the same for each row."""
    file = Quantized(dtype, zero, by_channel, directions)
    module = packseq.load(file_of(tmp_path / "m.onnx", file))

    assert module.precision == "int8"
    state = module.state_dict()
    for part, name in (("W", "weight_ih"), ("R", "weight_hh")):
        for d, suffix in enumerate(("_l0", "_l0_reverse")[:directions]):
            np.testing.assert_array_equal(state[name + suffix], file.integers(part)[d])
            np.testing.assert_array_equal(state[f"{name}{suffix}_scale"], file.scales(part)[d])
    assert_is_the_references("LSTM", module)


def odd(part):
    """The numbers of one matrix are no int8 with this zero point."""
    file = Quantized(np.uint8, 100)
    file.arrays[part][0, 0, 0] = 255
    return file


def unscaled(part):
    file = Quantized()
    file.arrays[f"{part}_scale"][0, 1] = np.inf
    return file


@pytest.mark.parametrize("file", [odd("W"), odd("R"), unscaled("R")], ids=["W", "R", "infinite"])
def test_onnx_integers_that_int8_cannot_hold_are_float32(tmp_path, file):
    """Both matrices, also where one alone could be."""
    module = packseq.load(file_of(tmp_path / "m.onnx", file))

    assert module.precision == "float32"
    for part, weight in (("W", module.weight_ih_l0), ("R", module.weight_hh_l0)):
        expected = file.integers(part)[0].astype(np.float32) * file.scales(part)[0][:, None]
        np.testing.assert_array_equal(weight, expected)


def test_layers_of_which_one_cannot_are_one_module_of_float32(tmp_path):
    from onnx_models import initialiser, op

    lower, upper = Quantized(width=INPUT, name="a"), odd("R")
    upper.arrays["W"] = upper.arrays["R"].copy()
    node, stored = lower.model()
    joined = op("Squeeze", ["a_Y", "axes"], "joined")
    above, more = upper.model(x="joined")
    axes = initialiser("axes", np.array([1]))
    path = save(tmp_path / "m.onnx", [node, joined, above], [*stored, *more, axes], ["n_Y"])

    module = packseq.load(path)
    assert repr(module) == "LSTM(5, 6, num_layers=2)"
    integers, scales = lower.integers("R")[0], lower.scales("R")[0]
    expected = integers.astype(np.float32) * scales[:, None]
    np.testing.assert_array_equal(module.weight_hh_l0, expected)


@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize(("dtype", "zero"), [(np.int8, 0), (np.uint8, 128)])
def test_a_step_is_onnxruntimes_but_for_the_rounding_of_rows(tmp_path, dtype, zero, by_channel):
    from onnx_models import judged, onnx

    file = Quantized(dtype, zero, by_channel)
    path = file_of(tmp_path / "m.onnx", file, first="h", second="c")
    x, h, c = step_inputs()

    module = packseq.load(path)
    output, _ = module(x, (h, c))
    (expected,) = judged(onnx.load(path), {"X": x, "h": h, "c": c})

    most = of_lstm(bound(module, x, h, levels=255))
    assert most < 0.1
    np.testing.assert_allclose(output, expected[:, 0], rtol=0, atol=most)


def test_a_file_of_integers_in_float32(tmp_path):
    """By load, by dequantize, by convert, and as it was before, all to the same bits."""
    path = file_of(tmp_path / "m.onnx", Quantized())
    small = packseq.load(path)
    weights.convert(path, tmp_path / "small.safetensors")
    weights.convert(path, tmp_path / "wide.safetensors", precision="float32")
    weights.convert(tmp_path / "small.safetensors", tmp_path / "wide2.st", precision="float32")

    assert packseq.load(tmp_path / "small.safetensors", batch_first=False).precision == "int8"
    for wide in (
        small.dequantize(),
        packseq.load(path, precision="float32"),
        packseq.load(tmp_path / "wide.safetensors"),
        packseq.load(tmp_path / "small.safetensors", precision="float32"),
        packseq.load(tmp_path / "wide2.st"),
    ):
        assert wide.precision == "float32"
        scale = small.weight_hh_l0_scale[:, None]
        np.testing.assert_array_equal(wide.weight_hh_l0, small.weight_hh_l0 * scale)
    with pytest.raises(ValueError, match="only float32 can be rounded to bfloat16"):
        weights.convert(path, tmp_path / "half.safetensors", precision="bfloat16")


def test_split_gives_int8_and_float_models_around_it(tmp_path):
    from onnx_models import judged, onnx, op

    file = Quantized()
    node, stored = file.model(x="twice")
    nodes = [op("Add", ["X", "X"], "twice"), node, op("Neg", ["n_Y"], "Z")]
    path = save(tmp_path / "m.onnx", nodes, stored, ["Z"])
    x = inputs(2, 1, INPUT).swapaxes(0, 1).copy()

    front, module, back = weights.split(path)

    assert module.precision == "int8"
    (doubled,) = judged(front, {"X": x})
    output, _ = module(doubled)
    (z,) = judged(back, {back.graph.input[0].name: output})
    (whole,) = judged(onnx.load(path), {"X": x})
    most = of_lstm(bound(module, doubled, np.zeros(1), levels=255))
    np.testing.assert_allclose(z, whole, rtol=0, atol=most)
