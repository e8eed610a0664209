"""torch's dynamically quantised layers: int8 takes over their integers and scales as they are."""

import warnings

import numpy as np
import pytest
from int8_files import INPUT, H, assert_is_the_references, bound, of_lstm, step_inputs

import packseq


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
