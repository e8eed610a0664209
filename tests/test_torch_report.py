"""What accelerate says of a model, and what it leaves as it is."""

import copy
import pickle
import warnings
from contextlib import suppress

import pytest

import packseq

torch = pytest.importorskip("torch", reason="packseq.torch works on torch, which is not installed")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402
from torch.nn.utils.rnn import pack_sequence  # noqa: E402

from packseq.torch import accelerate, calls, records, report, reports, restore  # noqa: E402


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Net(nn.Module):
    """A layer with work around it."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(5, 6)
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        return self.out(self.rnn(x * 2)[0])


class Scaled(nn.GRU):
    """A layer with a forward of its own."""

    def forward(self, input, hx=None):
        output, state = super().forward(input, hx)
        return 2 * output, state


class SlowLSTM(nn.Module):
    """A layer that is none of torch's."""

    def __init__(self):
        super().__init__()
        self.gates = nn.Linear(11, 24)

    def forward(self, x):
        return x


class WithOwnWeights(nn.Module):
    """Another, known by the names of its parameters."""

    def __init__(self):
        super().__init__()
        self.weight_hh = nn.Parameter(torch.ones(2, 2))


class LSTMTagger(nn.Module):
    """Named as if it recurred, with one of torch's layers inside that does."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(5, 6)


def left(model):
    return {layer.name: layer.left for layer in report(model).layers}


# ---- what is listed ----


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_each_layer_is_listed_with_its_reason():
    parametrized = parametrizations.weight_norm(nn.RNN(5, 6), "weight_hh_l0")
    model = nn.ModuleDict(
        {
            "plain": nn.LSTM(5, 6),
            "cell": nn.GRUCell(5, 6),
            "scaled": Scaled(5, 6),
            "parametrized": parametrized,
            "scripted": torch.jit.script(Net()),
            "slow": SlowLSTM(),
            "weights": WithOwnWeights(),
            "tagger": LSTMTagger(),
            "linear": nn.Linear(2, 2),
        }
    )
    accelerate(model)
    model["late"] = nn.LSTM(5, 6)
    assert left(model) == {
        "plain": None,
        "cell": None,
        "scaled": reports.OWN_FORWARD,
        "parametrized": reports.PARAMETRIZED,
        "scripted.rnn": reports.SCRIPTED,
        "slow": reports.FOREIGN,
        "weights": reports.FOREIGN,
        "tagger.encoder": None,
        "late": reports.NOT_YET,
    }
    assert [layer.kind for layer in report(model).layers][:5] == [
        "LSTM",
        "GRUCell",
        "Scaled",
        "ParametrizedRNN",
        "LSTM",
    ]
    assert [layer.name for layer in report(model).replaced] == ["plain", "cell", "tagger.encoder"]
    assert len(report(model).left) == 6


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_dynamically_quantized_layers_stay_torchs(make):
    model = nn.ModuleDict({"rnn": make(6, 6), "other": nn.RNN(6, 6)})
    model = torch.ao.quantization.quantize_dynamic(model, {make}, dtype=torch.qint8)
    before = type(model["rnn"])
    assert before is not make
    accelerate(model)
    assert type(model["rnn"]) is before
    assert left(model) == {"rnn": reports.QUANTIZED, "other": None}


def test_the_text():
    model = accelerate(nn.ModuleDict({"a": nn.LSTM(5, 6), "b": Scaled(5, 6)}).eval())
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        model["a"](x)
        model["a"](x)
        model["a"](x, (torch.zeros(1, 2, 6), torch.zeros(1, 2, 6)))
    with pytest.warns(RuntimeWarning):
        model["a"](x)
    found = report(model)
    assert repr(found) == str(found)
    assert str(found) == (
        "1 of 2 recurrent layers replaced\n"
        "  a: LSTM, replaced; 3 calls ran here\n"
        "    1 in torch: its weights require a gradient and autograd was on: call it under "
        "torch.inference_mode() or torch.no_grad()\n"
        "  b: Scaled, not replaced: it has a forward of its own"
    )
    assert str(report(nn.Linear(2, 2))) == "no recurrent layers among the model's modules"
    assert str(report(accelerate(nn.GRU(2, 2)))).endswith(
        "(the model): GRU, replaced; 0 calls ran here"
    )


FALLS = {
    calls.DROPOUT: lambda net, x: net.train()(x),
    calls.OTHER_INPUT: lambda net, x: net(x.double()),
    calls.OTHER_SHAPES: lambda net, x: net(x[..., :4]),
    calls.NOT_PACKED: lambda net, x: net(nn.utils.rnn.PackedSequence(x[0], torch.tensor([1, 3]))),
    records.NOT_PARAMETERS: lambda net, x: torch.func.functional_call(
        net, {name: w.detach() for name, w in net.named_parameters()}, x
    ),
    records.WEIGHTS_ELSEWHERE: lambda net, x: net.half()(x.half()),
    records.EDITED: lambda net, x: setattr(net, "input_size", 9) or net(x),
}


@pytest.mark.parametrize(("why", "call"), FALLS.items())
def test_calls_that_fall_back_are_counted_by_reason(why, call):
    net = accelerate(nn.LSTM(5, 6, 2, dropout=0.5).eval())
    with torch.no_grad():
        for _ in range(2):
            with suppress(RuntimeError, ValueError):  # torch's own
                call(net, torch.randn(3, 2, 5))
    (layer,) = report(net).layers
    assert (layer.ran, dict(layer.fell_back)) == (0, {why: 2})


def test_an_input_that_wants_a_gradient_is_counted_and_not_warned_of():
    net = accelerate(nn.GRU(5, 6).eval().requires_grad_(False))
    output, _ = net(torch.randn(3, 2, 5, requires_grad=True))
    assert output.requires_grad
    assert dict(report(net).layers[0].fell_back) == {calls.INPUT_LEARNS: 1}


# ---- what is warned of ----


def test_a_model_with_nothing_to_replace():
    with pytest.warns(
        RuntimeWarning, match=r"nothing was replaced in the model: packseq\.torch\.re"
    ):
        accelerate(nn.Sequential(nn.Linear(2, 2), Scaled(5, 6)))
    accelerate(accelerate(nn.LSTM(5, 6)))  # the second time there is nothing new, and all is well


def test_autograd_left_on_is_warned_of_once():
    model = accelerate(nn.ModuleList([nn.LSTM(5, 6), nn.GRU(5, 6)]).eval())
    x = torch.randn(3, 2, 5)
    with pytest.warns(RuntimeWarning, match=r"eval mode, but its weights require .*report") as told:
        for layer in [*model, *model]:
            layer(x)
    assert len(told) == 1
    assert [sum(layer.fell_back.values()) for layer in report(model).layers] == [2, 2]


def test_training_is_not_warned_of():
    layer = accelerate(nn.LSTM(5, 6).train())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(torch.randn(3, 2, 5))


# ---- faults of packseq's own are not hidden ----


@pytest.mark.parametrize("error", [TypeError, ValueError, RuntimeError])
def test_a_fault_inside_is_not_covered_up_by_running_torch(error, monkeypatch):
    def fail(*args, **kwargs):
        raise error("a fault of ours")

    layer = accelerate(nn.LSTM(5, 6).eval())
    packed = pack_sequence([torch.randn(3, 5), torch.randn(2, 5)])
    with torch.no_grad():
        with monkeypatch.context() as patch:
            patch.setattr(packseq.LSTM, "__call__", fail)
            with pytest.raises(error, match="a fault of ours"):
                layer(packed)
        monkeypatch.setattr(records, "module_of", fail)
        with pytest.raises(error, match="a fault of ours"):
            accelerate(nn.LSTM(5, 6).eval())(torch.randn(3, 2, 5))


def test_a_plan_that_cannot_be_made_is_not_covered_up(monkeypatch):
    """As on Python 3.11.2, where none could."""

    def fail(*args, **kwargs):
        raise TypeError("descriptor '__weakref__' doesn't apply")

    layer = accelerate(nn.LSTM(5, 6).eval())
    packed = pack_sequence([torch.randn(3, 5), torch.randn(2, 5)])
    monkeypatch.setattr(calls, "PackedSequence", fail)
    with torch.no_grad(), pytest.raises(TypeError, match="__weakref__"):
        layer(packed)


# ---- torch.jit.script ----


@pytest.fixture
def scripted():
    """An eager model after it was compiled, its layer as it was, an input and the output."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        net = accelerate(Net().eval())
        layer, x = net.rnn, torch.randn(3, 2, 5)
        with torch.no_grad():
            expected = net(x)
            compiled = torch.jit.script(net)
            torch.testing.assert_close(compiled(x), expected, rtol=0, atol=1e-6)
    return net, layer, x, expected


def test_scripting_leaves_the_eager_model_as_it_was(scripted):
    net, layer, x, expected = scripted
    assert net.rnn is layer
    with torch.no_grad():
        assert torch.equal(net(x), expected)
    assert type(net.rnn).__name__ == "AcceleratedLSTM"
    assert report(net).layers[0].ran == 2


def test_between_scripting_and_the_next_call(scripted):
    net, layer, x, expected = scripted
    assert [entry.left for entry in report(net).layers] == [None]
    accelerate(net)
    for made in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with torch.no_grad():
            assert torch.equal(made(x), expected)
        assert report(made).layers[0].ran == 1
    restore(net)
    assert type(layer) is nn.LSTM


def test_scripting_twice(scripted):
    net, _, x, expected = scripted
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        again = torch.jit.script(net)
        torch.testing.assert_close(again(x), expected, rtol=0, atol=1e-6)
        assert torch.equal(net(x), expected)
    assert report(net).layers[0].ran == 2


# ---- what goes on working ----


def test_data_parallel_on_the_cpu():
    net = accelerate(Net().eval())
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        assert torch.equal(nn.DataParallel(net)(x), net(x))
    assert report(net).layers[0].ran == 2


def test_hooks_see_the_layer_itself_and_change_its_result():
    net = accelerate(Net().eval())
    seen = []
    net.rnn.register_forward_pre_hook(lambda module, args: seen.append(module))
    net.rnn.register_forward_hook(lambda module, args, result: (0 * result[0], result[1]))
    with torch.no_grad():
        result = net(torch.randn(3, 2, 5))
    assert seen == [net.rnn]
    assert torch.equal(result, net.out.bias.expand(3, 2, 2))
    assert report(net).layers[0].ran == 1


def test_copies_count_for_themselves():
    net = accelerate(Net().eval())
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        net(x)
        made = copy.deepcopy(net)
        made(x)
        made(x)
    assert [report(m).layers[0].ran for m in (net, made)] == [1, 2]


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("transform", ["vmap", "grad"])
def test_what_a_transform_wraps_is_torchs(transform):
    cell = accelerate(nn.RNNCell(5, 6).eval().requires_grad_(False))
    x = torch.randn(4, 2, 5)
    with torch.no_grad():
        if transform == "vmap":
            expected = torch.stack([restore(copy.deepcopy(cell))(row) for row in x])
            torch.testing.assert_close(torch.vmap(cell)(x), expected, rtol=0, atol=1e-6)
        else:
            found = torch.func.grad(lambda x: cell(x).sum())(x[0])
            weights, bias = cell.weight_ih, cell.bias_ih + cell.bias_hh
            slope = 1 - torch.tanh(x[0] @ weights.T + bias) ** 2
            torch.testing.assert_close(found, slope @ weights, rtol=0, atol=1e-6)
    (layer,) = report(cell).layers
    assert (layer.ran, dict(layer.fell_back)) == (0, {calls.OTHER_INPUT: 1})


def test_a_negated_view_is_torchs():
    layer = accelerate(nn.RNN(5, 6).eval())
    x = torch.randn(3, 2, 5, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[0], layer(x.clone())[0], rtol=0, atol=1e-6)
    assert report(layer).layers[0].ran == 1
