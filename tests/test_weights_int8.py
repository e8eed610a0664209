"""Files whose weights have 8 bits: int8 takes over their integers and scales as they are.

The judges are the integers in the file; tests/reference.py, which is exact about rows; and whoever
made the file, from whom a step may differ by what the rounding of x and h explains: here each row
has a scale, there the whole batch.
"""

import warnings

import numpy as np
import pytest
import reference
from checkpoints import inputs

import packseq
from packseq import weights
from packseq.weights.int8 import by_module, centred

# --- integers without a zero point ----------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "integers", "zero", "expected"),
    [
        (np.int8, [-128, 0, 127], None, [-128, 0, 127]),
        (np.int8, [-128, 0, 127], 0, [-128, 0, 127]),
        (np.uint8, [0, 128, 255], 128, [-128, 0, 127]),
        (np.uint8, [3, 100, 227], 100, [-97, 0, 127]),
        (np.int8, [-27, 127], 1, [-28, 126]),
        (np.uint8, [0, 127], None, [0, 127]),
        (np.uint8, [0, 128], None, None),
        (np.uint8, [0, 255], 127, None),
        (np.int8, [-128, 0], 1, None),
        (np.int8, [0, 1], 1 << 31, None),
        (np.int32, [0, 1], 0, None),
    ],
)
def test_integers_less_their_zero_point(dtype, integers, zero, expected):
    found = centred(np.array(integers, dtype), None if zero is None else np.array(zero))
    if expected is None:
        assert found is None
    else:
        assert found.dtype == np.int8
        assert found.tolist() == expected


def test_a_module_has_one_precision():
    """Matrices without scales, or too wide for int8's sums, make their module float32."""
    q = np.array([[1, -2], [3, 4]], np.int8)
    scale = np.array([0.5, 2], np.float32)
    wide = np.zeros((1, 66_001), np.int8)
    arrays = {
        "a.weight_ih_l0": q, "a.weight_ih_l0_scale": scale, "a.weight_hh_l0": q * np.float32(1),
        "b.weight_ih": q, "b.weight_ih_scale": scale, "b.bias_ih": scale,
        "c.weight_hh_l1": wide, "c.weight_hh_l1_scale": scale[:1],
        "d.other": q, "d.other_scale": scale,
    }  # fmt: skip
    found = by_module(arrays)
    assert list(found) == [
        "a.weight_ih_l0", "a.weight_hh_l0", "b.weight_ih", "b.weight_ih_scale", "b.bias_ih",
        "c.weight_hh_l1", "d.other", "d.other_scale",
    ]  # fmt: skip
    assert found["a.weight_ih_l0"].tolist() == [[0.5, -1], [6, 8]]
    assert found["a.weight_ih_l0"].dtype == found["c.weight_hh_l1"].dtype == np.float32
    assert found["b.weight_ih"] is q


# --- ONNX -----------------------------------------------------------------------------------

INPUT, H = 5, 6
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


def assert_is_the_references(kind, module):
    """Seven steps, each as far as one may be."""
    x = inputs(3, 7, module.input_size)
    expected, _ = reference.run(kind, module.state_dict(), list(x))
    output, _ = module(x if module.batch_first else x.swapaxes(0, 1))
    output = output if module.batch_first else output.swapaxes(0, 1)
    np.testing.assert_allclose(output, np.stack(expected), rtol=0, atol=2e-6 * 7)


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


def bound(module, x, h, levels):
    """How far a gate may be from another library's, which rounds x and h to steps of the batch."""
    state, total = module.state_dict(), 0
    for name, v in (("weight_ih_l0", x), ("weight_hh_l0", h)):
        theirs = (max(v.max(), 0) - min(v.min(), 0)) / levels
        ours = np.abs(v).max() / 127
        weight = np.abs(state[name] * state[f"{name}_scale"][:, None])
        total += weight.sum(axis=1).max() * (theirs + ours) / 2
    return total


def of_lstm(gates):
    """In h, since slopes are 1/4 and 1, and c is at most 1: c moves by 1.5 of it, and o by 1/4."""
    return 1.75 * gates


def step_inputs(batch=4):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, batch, INPUT)).astype(np.float32)
    return x, *(rng.uniform(-1, 1, (1, batch, H)).astype(np.float32) for _ in "hc")


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


# --- torch ----------------------------------------------------------------------------------


def torch_layer(make, by_channel, *sizes, **options):
    """A dynamically quantised layer in a model, and what its weights say of themselves."""
    torch = pytest.importorskip("torch", reason="quantises the layers")
    quantization = torch.ao.quantization
    torch.manual_seed(0)

    class Around(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.core = make(torch.nn)(*(sizes or (INPUT, H)), **options)

    model = Around().eval()
    config = quantization.default_dynamic_qconfig
    if by_channel:
        config = quantization.per_channel_dynamic_qconfig
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is to be replaced
        return quantization.quantize_dynamic(model, {type(model.core): config})


def linears_of(core):
    """The pairs of linear maps of a layer's cells, in order."""
    if hasattr(core, "_packed_weight_ih"):
        return [(core._packed_weight_ih, core._packed_weight_hh)]
    return [value.param.__getstate__()[0][4] for value in core._all_weight_values]


def assert_has_the_integers_of(module, core):
    state = module.state_dict()
    names = [name.removeprefix("weight_ih") for name in state
             if name.startswith("weight_ih") and not name.endswith("_scale")]  # fmt: skip
    for suffix, linears in zip(names, linears_of(core), strict=True):
        for part, linear in zip(("ih", "hh"), linears, strict=True):
            weight, bias = linear.__getstate__()[0]
            name, rows = f"weight_{part}{suffix}", weight.shape[0]
            by_row = "channel" in str(weight.qscheme())
            scale = weight.q_per_channel_scales().numpy() if by_row else weight.q_scale()
            np.testing.assert_array_equal(state[name], weight.int_repr().numpy())
            expected = np.broadcast_to(np.float32(scale), (rows,))
            np.testing.assert_array_equal(state[f"{name}_scale"], expected)
            np.testing.assert_array_equal(state[f"bias_{part}{suffix}"], bias.detach().numpy())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["state", "module", "script"])
@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("options", [{}, {"num_layers": 3, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_torchs_integers_and_scales_are_the_modules(tmp_path, kind, options, by_channel, how):
    model = torch_layer(lambda nn: getattr(nn, kind), by_channel, **options)
    save_torch(model, tmp_path / "m.pt", how)

    module = packseq.load(tmp_path / "m.pt")

    assert module.precision == "int8"
    assert_has_the_integers_of(module, model.core)
    if by_channel:  # torch rounds a row whose largest number is negative so that it is -128
        assert (module.weight_hh_l0 == -128).any()
    if not options:
        assert_is_the_references(kind, module)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_torchs_quantised_cells_are_int8(tmp_path, kind, by_channel):
    model = torch_layer(lambda nn: getattr(nn, kind), by_channel)
    save_torch(model, tmp_path / "m.pt", "state")

    module = packseq.load(tmp_path / "m.pt")

    assert (type(module).__name__, module.precision) == (kind, "int8")
    assert_has_the_integers_of(module, model.core)


def save_torch(model, path, how):
    import torch

    if how == "script":
        model.forward = lambda x: x
        torch.jit.save(torch.jit.script(model.core), path)
    else:
        torch.save(model.state_dict() if how == "state" else model.core, path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_step_is_torchs_but_for_the_rounding_of_rows(tmp_path, kind, by_channel):
    """torch rounds x and h to 7 bits."""
    model = torch_layer(lambda nn: getattr(nn, kind), by_channel)
    save_torch(model, tmp_path / "m.pt", "module")
    import torch

    x, h, c = step_inputs()
    hx = (h, c) if kind == "LSTM" else h
    tensors = torch.from_numpy(h)
    tensors = (tensors, torch.from_numpy(c)) if kind == "LSTM" else tensors

    module = packseq.load(tmp_path / "m.pt")
    output, _ = module(x, hx)
    with torch.no_grad():
        expected, _ = model.core(torch.from_numpy(x), tensors)

    gates = bound(module, x, h, levels=127)
    most = of_lstm(gates) if kind == "LSTM" else of_gru(gates, module)
    assert most < 0.25
    np.testing.assert_allclose(output, expected.numpy(), rtol=0, atol=most)


def of_gru(gates, module):
    """In h: z moves by 1/4 of it, times n - h; n by it and 1/4 of it, times what r multiplies."""
    weight = np.abs(module.weight_hh_l0 * module.weight_hh_l0_scale[:, None]).sum(axis=1)
    return gates * (1.5 + (weight + np.abs(module.bias_hh_l0)).max() / 4)
