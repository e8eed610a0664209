"""torch's quantised tensors and dynamically quantised layers: their weights as float32. The judge
is torch: what `dequantize` gives of the same tensors, and its plain layers with those. What int8
takes of them, tests/test_weights_torch_int8.py has.
"""

import io
import zipfile

import numpy as np
import pytest
from test_weights_torch import HIDDEN, INPUT, MODELS, assert_same_outputs, torch_model

import packseq
from packseq import weights

torch = pytest.importorskip("torch", reason="torch writes these checkpoints and is the judge")

# torch warns that its quantisation is to be replaced, and of TorchScript.
pytestmark = pytest.mark.filterwarnings("ignore")

# torch quantises no others.
LAYERS = [
    (kind, options)
    for kind, options in MODELS
    if kind != "RNN" and not options.keys() & {"bias", "proj_size"}
]


def per_channel(values, dtype, axis=0):
    count = values.shape[axis]
    scales, zeros = torch.linspace(0.01, 0.2, count), torch.arange(count) % 5
    return torch.quantize_per_channel(values, scales.double(), zeros, axis, dtype)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8, torch.qint32], ids=str)
@pytest.mark.parametrize("scheme", ["tensor", "rows", "columns"])
def test_a_quantised_tensor_is_what_torch_dequantises(tmp_path, scheme, dtype, legacy):
    torch.manual_seed(0)
    values = torch.randn(4, 3)
    if scheme == "tensor":
        quantised = torch.quantize_per_tensor(values, 0.03, 7, dtype)
    else:
        quantised = per_channel(values, dtype, axis=int(scheme == "columns"))
    path = tmp_path / "file.pt"
    torch.save({"a": quantised, "b": values}, path, _use_new_zipfile_serialization=not legacy)

    arrays = weights.read(path)

    np.testing.assert_array_equal(arrays["a"], quantised.dequantize().numpy())
    np.testing.assert_array_equal(arrays["b"], values.numpy())
    assert weights.unreadable(path) == {}


def test_a_scheme_whose_zero_points_are_floats_is_refused_by_name(tmp_path):
    scales = torch.ones(3)
    quantised = torch.quantize_per_channel(torch.ones(3, 2), scales, scales, 0, torch.quint8)
    torch.save({"a": quantised}, tmp_path / "file.pt")

    (reason,) = weights.unreadable(tmp_path / "file.pt").values()
    assert reason == "is a quantised tensor whose zero points are no integers"


@pytest.mark.parametrize(("zero", "axis"), [(1 << 40, 0), (0, 0)])
def test_a_quantised_tensor_is_not_believed(tmp_path, zero, axis):
    """A zero point beyond any integer; scales for other channels than there are."""
    quantised = torch.quantize_per_tensor(torch.ones(3, 2), 0.5, 0, torch.qint8)
    torch.save({"a": Lying(quantised, zero, axis), "b": torch.ones(1)}, tmp_path / "file.pt")

    assert list(weights.read(tmp_path / "file.pt")) == ["b"]
    (reason,) = weights.unreadable(tmp_path / "file.pt").values()
    assert "zero point" in reason


class Lying:
    """A quantised tensor that pickles another quantizer than its own."""

    def __init__(self, tensor, zero, axis):
        self.tensor = tensor
        self.quantizer = (torch.per_tensor_affine, 0.5, zero)
        if not zero:
            of_others = torch.ones(2, dtype=torch.float64)
            self.quantizer = (torch.per_channel_affine, of_others, of_others.long(), axis)

    def __reduce_ex__(self, protocol):
        make, arguments = self.tensor.__reduce_ex__(protocol)
        return make, (*arguments[:4], self.quantizer, *arguments[5:])


# ---- layers --------------------------------------------------------------------------------


class Around(torch.nn.Module):
    def __init__(self, core):
        super().__init__()
        self.core = core

    def forward(self, x):
        return self.core(x)[0]


def quantised(kind, options, dtype):
    """A layer and its quantised self, and the plain layer with the weights of that."""
    core = torch_model(kind, options)["core"]
    model = Around(core).eval()
    return torch.ao.quantization.quantize_dynamic(model, {type(core)}, dtype=dtype)


def save(model, path, how):
    if how == "script":
        torch.jit.save(torch.jit.script(model), path)
    else:
        torch.save(model.state_dict() if how == "state" else model, path)


def dequantised(model, kind, options):
    """torch's plain layer with the weights that the quantised one has."""
    plain = getattr(torch.nn, kind)(INPUT, HIDDEN, **options).eval()
    cells = [value.param.__getstate__()[0][4] for value in model.core._all_weight_values]
    state = {}
    suffixes = [
        name.removeprefix("weight_ih") for name in plain.state_dict() if "weight_ih" in name
    ]
    for suffix, linears in zip(suffixes, cells, strict=True):
        for part, linear in zip(("ih", "hh"), linears, strict=True):
            weight, bias = linear.__getstate__()[0]
            weight = weight.dequantize() if weight.is_quantized else weight
            state |= {f"weight_{part}{suffix}": weight, f"bias_{part}{suffix}": bias}
    plain.load_state_dict(state)
    return plain


@pytest.mark.parametrize("how", ["state", "module", "script"])
@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16], ids=str)
@pytest.mark.parametrize(("kind", "options"), LAYERS, ids=str)
def test_a_dynamically_quantised_layer_loads_as_the_plain_one(tmp_path, kind, options, dtype, how):
    """A whole module or program of them was said to hold no LSTM, GRU or RNN."""
    if (kind, dtype) == ("GRU", torch.float16):
        pytest.skip("torch has no such layer")
    model = quantised(kind, options, dtype)
    save(model, tmp_path / "file.pt", how)

    loaded = packseq.load(tmp_path / "file.pt", precision="float32")

    assert_same_outputs(loaded, dequantised(model, kind, options))
    assert weights.unreadable(tmp_path / "file.pt") == {}


@pytest.mark.parametrize("how", ["state", "module"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_dynamically_quantised_cell_loads_as_the_plain_one(tmp_path, kind, how):
    model = Around(getattr(torch.nn, f"{kind}Cell")(INPUT, HIDDEN))
    model = torch.ao.quantization.quantize_dynamic(model, {type(model.core)})
    save(model, tmp_path / "file.pt", how)

    loaded = packseq.load(tmp_path / "file.pt", precision="float32")

    for part in ("ih", "hh"):
        weight, bias = getattr(model.core, f"_packed_weight_{part}").__getstate__()[0]
        own = getattr(loaded, f"weight_{part}"), getattr(loaded, f"bias_{part}")
        np.testing.assert_array_equal(own[0], weight.dequantize().numpy())
        np.testing.assert_array_equal(own[1], bias.detach().numpy())


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"bidirectional": True}], ids=str)
def test_two_quantised_cells_that_may_be_layers_or_directions_are_refused(tmp_path, options):
    """The names count them, and with I = H their shapes are the same."""
    model = Around(torch.nn.LSTM(HIDDEN, HIDDEN, **options))
    model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.LSTM})
    save(model, tmp_path / "state.pt", "state")
    save(model, tmp_path / "module.pt", "module")

    with pytest.raises(weights.CheckpointError, match="whether its two quantised cells"):
        packseq.load(tmp_path / "state.pt")
    loaded = packseq.load(tmp_path / "module.pt")
    assert loaded.num_layers == options.get("num_layers", 1)


def test_packed_weights_of_an_unknown_scheme_are_listed(tmp_path):
    model = quantised("LSTM", {}, torch.qint8)
    save(model, tmp_path / "file.pt", "state")
    content = (
        (tmp_path / "file.pt").read_bytes().replace(b"quantized_dynamic", b"quantized_unknown")
    )
    (tmp_path / "file.pt").write_bytes(with_right_checksums(content))

    with pytest.raises(weights.CheckpointError, match=r"_all_weight_values\.0\.param"):
        packseq.load(tmp_path / "file.pt")


def with_right_checksums(content):
    """The same zip file, whose pickle was changed."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w") as new:
            for entry in old.infolist():
                with old.open(entry) as stream:
                    stream._expected_crc = None
                    new.writestr(entry.filename, stream.read())
    return whole.getvalue()
