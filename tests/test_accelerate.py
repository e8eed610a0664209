"""A torch model runs packseq inside, and can hardly tell."""

import copy
import io
import pickle
import subprocess
import sys
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from strategies import TOLERANCE, assert_same_bits

import packseq

torch = pytest.importorskip("torch", reason="packseq.torch works on torch, which is not installed")

from torch import nn  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402
from torch.nn.utils import parametrizations, parametrize, prune  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence  # noqa: E402

from packseq.torch import (  # noqa: E402
    accelerate,
    calls,
    from_torch,
    records,
    refresh,
    restore,
    to_torch,
)

# torch says so for any LSTM with a projection, once.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

LAYERS = {
    "LSTM": lambda **kw: nn.LSTM(5, 6, **kw),
    "LSTM, stacked, bidirectional": lambda **kw: nn.LSTM(5, 6, 2, bidirectional=True, **kw),
    "LSTM, projected, no bias": lambda **kw: nn.LSTM(5, 6, bias=False, proj_size=3, **kw),
    "GRU": lambda **kw: nn.GRU(5, 6, 2, **kw),
    "RNN, tanh": lambda **kw: nn.RNN(5, 6, bidirectional=True, **kw),
    "RNN, relu": lambda **kw: nn.RNN(5, 6, nonlinearity="relu", **kw),
}
DTYPES = [torch.float32, torch.float64]
each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


class Tagger(nn.Module):
    """An ordinary one: token ids in, scores of each tag out."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 12)
        self.encoder = nn.LSTM(12, 16, 2, bidirectional=True, batch_first=True, dropout=0.3)
        self.tags = nn.Linear(32, 7)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(
            self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False
        )
        output, _ = self.encoder(packed)
        return self.tags(output.data)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def runs(monkeypatch):
    """Which library ran each layer, in order; "torch" is one of its own recurrences."""
    seen = []
    own, ours = torch.nn.modules.rnn._VF, calls._tensors_of

    class Spy:
        def __getattr__(self, name):
            seen.append("torch")
            return getattr(own, name)

    def states(arrays):
        seen.append("packseq")
        return ours(arrays)

    monkeypatch.setattr(torch.nn.modules.rnn, "_VF", Spy())
    monkeypatch.setattr(calls, "_tensors_of", states)
    return seen


def tensors(result):
    """All tensors of a layer's result, in order."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for part in result if part is not None for t in tensors(part)]


def types(result):
    if isinstance(result, tuple):
        return type(result), [types(part) for part in result]
    return type(result)


def assert_equal(actual, expected):
    """The same structure, dtypes and shapes; the same numbers up to rounding (see TOLERANCE)."""
    assert types(actual) == types(expected)
    for a, e in zip(tensors(actual), tensors(expected), strict=True):
        assert (a.dtype, a.requires_grad, a.is_inference()) == (
            e.dtype,
            e.requires_grad,
            e.is_inference(),
        )
        atol = TOLERANCE.get(np.dtype(str(a.dtype).removeprefix("torch.")), 0)
        torch.testing.assert_close(a, e, rtol=0, atol=atol)


def twins(module):
    """A module for inference, and an accelerated copy."""
    module.eval()
    return module, accelerate(copy.deepcopy(module))


def batch(dtype=torch.float32, lengths=(3, 7, 1, 4)):
    return [torch.randn(length, 5, dtype=dtype) for length in lengths]


def states(layer, *batch_size, dtype=torch.float32):
    slots = layer.num_layers * (2 if layer.bidirectional else 1)
    h = torch.randn(slots, *batch_size, layer.proj_size or layer.hidden_size, dtype=dtype)
    c = torch.randn(slots, *batch_size, layer.hidden_size, dtype=dtype)
    return (h, c) if isinstance(layer, nn.LSTM) else h


# ---- the door ----


def test_a_tagger_is_accelerated_in_one_line(runs):
    tagger = Tagger().eval()
    tokens, lengths = torch.randint(0, 50, (4, 9)), torch.tensor([4, 9, 1, 6])
    with torch.inference_mode():
        expected = tagger(tokens, lengths)
        assert accelerate(tagger) is tagger
        runs.clear()
        scores = tagger(tokens, lengths)
    assert runs == ["packseq"]
    assert_equal(scores, expected)


@each_layer
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("with_hx", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("enforce_sorted", [False, True], ids=["unsorted", "sorted"])
def test_a_packed_batch(make, dtype, with_hx, enforce_sorted, runs):
    plain, fast = twins(make(dtype=dtype))
    lengths = (7, 4, 3, 1) if enforce_sorted else (3, 7, 1, 4)
    packed = pack_sequence(batch(dtype, lengths), enforce_sorted)
    hx = states(plain, 4, dtype=dtype) if with_hx else None
    with torch.no_grad():
        expected, result = plain(packed, hx), fast(packed, hx)
    assert runs == ["torch", "packseq"]
    assert_equal(result, expected)


@each_layer
@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("with_hx", [False, True], ids=["zeros", "hx"])
@pytest.mark.parametrize("batch_size", [(), (1,), (4,)], ids=["unbatched", "one", "four"])
def test_a_tensor(make, batch_first, with_hx, batch_size, runs):
    plain, fast = twins(make(batch_first=batch_first))
    x = torch.randn(*batch_size, 9, 5) if batch_first else torch.randn(9, *batch_size, 5)
    hx = states(plain, *batch_size) if with_hx else None
    with torch.inference_mode():
        expected, result = plain(x, hx), fast(x, hx)
    assert runs == ["torch", "packseq"]
    assert_equal(result, expected)


@pytest.mark.parametrize(
    "stride",
    [
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: torch.cat([x, x], -1)[..., ::2],
        lambda x: x[:1].expand(9, 4, 5),
        lambda x: torch.from_numpy(x.numpy().astype("f4")),
    ],
    ids=["transposed", "every other column", "expanded", "of NumPy"],
)
def test_strides(stride, runs):
    plain, fast = twins(nn.LSTM(5, 6))
    x = stride(torch.randn(9, 4, 5))
    with torch.no_grad():
        expected, result = plain(x), fast(x)
    assert runs == ["torch", "packseq"]
    assert_equal(result, expected)


def test_hooks_and_keywords(runs):
    _, fast = twins(nn.GRU(5, 6))
    fast.register_forward_hook(lambda module, args, result: result[1])
    with torch.no_grad():
        h_n = fast(input=torch.randn(3, 2, 5), hx=torch.zeros(1, 2, 6))
    assert runs == ["packseq"]
    assert h_n.shape == (1, 2, 6)


# ---- where the original runs ----


@each_layer
def test_training_has_equal_outputs_and_gradients(make, runs):
    plain = make()
    fast = accelerate(copy.deepcopy(plain))
    for module in (plain, fast):  # through eval and back, as a training loop goes
        with torch.no_grad():
            module.eval()(torch.ones(2, 2, 5))
        torch.manual_seed(1)
        output, _ = module.train()(pack_sequence(batch(), enforce_sorted=False))
        output.data.square().sum().backward()
    assert runs == ["torch", "torch", "packseq", "torch"]
    for a, e in zip(fast.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a.grad, e.grad)


@pytest.mark.parametrize("who", ["input", "hx", "weights"])
def test_whoever_wants_a_gradient_gets_it_in_eval_mode_too(who, runs):
    plain, fast = twins(nn.GRU(5, 6))
    x, hx = torch.randn(3, 2, 5), torch.randn(1, 2, 6)
    for module in (plain, fast):
        module.requires_grad_(who == "weights")
    x.requires_grad_(who == "input")
    hx.requires_grad_(who == "hx")
    with pytest.warns(RuntimeWarning) if who == "weights" else nullcontext():
        assert_equal(fast(x, hx), plain(x, hx))
    assert runs == ["torch", "torch"]


def test_frozen_weights_need_no_grad_mode(runs):
    plain, fast = twins(nn.GRU(5, 6).requires_grad_(False))
    x = torch.randn(3, 2, 5)
    assert_equal(fast(x), plain(x))
    assert runs == ["packseq", "torch"]


@pytest.mark.parametrize(("num_layers", "library"), [(1, "packseq"), (2, "torch")])
@pytest.mark.filterwarnings("ignore:dropout option adds dropout:UserWarning")
def test_dropout_counts_between_layers_only(num_layers, library, runs):
    plain = nn.LSTM(5, 6, num_layers, dropout=0.5).train()
    fast = accelerate(copy.deepcopy(plain))
    x, results = torch.randn(3, 2, 5), []
    for module in (fast, plain):
        torch.manual_seed(1)
        with torch.no_grad():
            results.append(module(x))
    assert runs == [library, "torch"]
    assert_equal(*results)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype, runs):
    plain, fast = twins(nn.LSTM(5, 6).to(dtype))
    x = torch.randn(3, 2, 5, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(fast(x)[0], plain(x)[0])
    assert runs == ["torch", "torch"]


def test_autocast(runs):
    plain, fast = twins(nn.GRU(5, 6))  # not all CPUs have torch's LSTM in bfloat16
    x = torch.randn(3, 2, 5)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(x)[0], plain(x)[0])
    assert runs == ["torch", "torch"]


def test_weights_that_are_no_parameters_are_not_packed(runs):
    plain, fast = twins(nn.LSTM(5, 6))
    x = torch.randn(3, 2, 5)
    given = {name: weight.detach() * 2 for name, weight in plain.named_parameters()}
    with torch.no_grad():
        expected = torch.func.functional_call(plain, given, x)
        assert_equal(torch.func.functional_call(fast, given, x), expected)
        runs.clear()
        assert_equal(fast(x), plain(x))
    assert runs == ["packseq", "torch"]


def test_vmap_is_torchs(runs):
    _, fast = twins(nn.RNN(5, 6))
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"[Bb]atching rule"):  # it has none
        torch.vmap(fast)(torch.randn(4, 3, 2, 5))
    assert runs == ["torch"]


def test_another_device(runs):
    plain, fast = twins(nn.LSTM(5, 6))
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        fast(x)
        assert fast.to("meta")(x.to("meta"))[0].device.type == "meta"
        fast.to_empty(device="cpu").load_state_dict(plain.state_dict())
        assert_equal(fast(x), plain(x))
    assert runs == ["packseq", "torch", "packseq", "torch"]


# torch's forward mode scripts some of its own code.
@pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")
def test_forward_mode_is_not_cut_off():
    _, fast = twins(nn.LSTM(5, 6))
    x = torch.randn(3, 2, 5)
    with torch.no_grad(), forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(NotImplementedError, match="forward AD"):  # torch's own words
            fast(dual)


BAD_CALLS = {
    "width": lambda layer: layer(torch.randn(3, 2, 4)),
    "dimensions": lambda layer: layer(torch.randn(2, 3, 2, 5)),
    "dtype": lambda layer: layer(torch.randn(3, 2, 5, dtype=torch.float64)),
    "integers": lambda layer: layer(torch.ones(3, 2, 5, dtype=torch.int64)),
    "no steps": lambda layer: layer(torch.randn(0, 2, 5)),
    "no tensor": lambda layer: layer([[1.0] * 5]),
    "hx of another batch": lambda layer: layer(torch.randn(3, 2, 5), states(layer, 3)),
    "hx unbatched": lambda layer: layer(torch.randn(3, 2, 5), states(layer)),
    "hx of another kind": lambda layer: layer(
        torch.randn(3, 2, 5), torch.zeros(1, 2, 6) if layer.mode == "LSTM" else (torch.zeros(1),)
    ),
    "hx of three": lambda layer: layer(torch.randn(3, 2, 5), (torch.zeros(1, 2, 6),) * 3),
    "hx for a packed batch": lambda layer: layer(pack_sequence([torch.randn(2, 5)]), states(layer)),
}


@pytest.mark.parametrize("make", [LAYERS["LSTM"], LAYERS["GRU"]], ids=["LSTM", "GRU"])
@pytest.mark.parametrize("call", BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_input_gets_torchs_own_answer(make, call):
    answers = []
    for layer in twins(make()):
        torch.manual_seed(1)
        with torch.no_grad():
            try:
                answers.append(tensors(call(layer)))
            except Exception as error:
                answers.append((type(error), str(error)))
    expected, answer = answers
    if isinstance(expected, list):  # torch is lenient: "hx of three" for an LSTM
        torch.testing.assert_close(answer, expected, rtol=0, atol=0)
    else:
        assert answer == expected


def test_weights_that_do_not_fit_get_torchs_own_error():
    _, fast = twins(nn.GRU(5, 6))
    fast.weight_hh_l0 = nn.Parameter(torch.ones(18, 7))
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"size|shape"):
        fast(torch.randn(3, 2, 5))


def test_a_packed_sequence_that_contradicts_itself_is_torchs():
    _, fast = twins(nn.LSTM(5, 6))
    packed = nn.utils.rnn.PackedSequence(torch.randn(4, 5), torch.tensor([1, 3]))
    with torch.no_grad(), pytest.raises(RuntimeError):
        fast(packed)


def test_no_sequences():
    plain, fast = twins(nn.LSTM(5, 6))
    x = torch.randn(3, 0, 5)
    with torch.no_grad():
        assert_equal(fast(x), plain(x))


# ---- weights that change ----


def double_data(layer):
    for weight in layer.parameters():
        weight.data = weight.data * 2


def step(layer):
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    for weight in layer.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()


def average_as_many_do(layer):
    for weight in layer.parameters():
        weight.data.mul_(0.9).add_(0.1)


@torch.no_grad()
def edit_in_place(layer):
    layer.weight_hh_l0[3, 2] += 1


def transpose_data(layer):
    layer.weight_hh_l0.data = layer.weight_hh_l0.data.t()


def assign(layer):
    layer.bias_ih_l0 = nn.Parameter(torch.ones(6))


def set_through_numpy(layer):
    layer.weight_hh_l0.detach().numpy()[:] = 0.5


def write_in_inference_mode(layer):
    with torch.inference_mode():
        layer.weight_ih_l0[0, 0] += 1


CHANGES = {
    "optimizer": step,
    "load_state_dict": lambda layer: layer.load_state_dict(nn.RNN(6, 6).state_dict()),
    "load_state_dict, assigned": lambda layer: layer.load_state_dict(
        nn.RNN(6, 6).state_dict(), assign=True
    ),
    "in place": edit_in_place,
    "in inference mode": write_in_inference_mode,
    ".data replaced": double_data,
    ".data transposed": transpose_data,
    ".data in place": average_as_many_do,
    "assigned": assign,
    "through NumPy": set_through_numpy,
    "reset": lambda layer: layer.reset_parameters(),
    "shared": lambda layer: setattr(layer, "weight_hh_l0", layer.weight_ih_l0),
    "double": lambda layer: layer.double().float(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_weights_count(change, runs):
    plain, fast = twins(nn.RNN(6, 6))
    x = torch.randn(3, 2, 6)
    with torch.no_grad():
        before = fast(x)[0]
        for layer in (plain, fast):
            torch.manual_seed(2)
            change(layer)
        runs.clear()
        result = fast(x)
        assert runs == ["packseq"]
        assert_equal(result, plain(x))
        assert change is CHANGES["double"] or not torch.equal(result[0], before)


def test_changed_options_count(runs):
    plain, fast = twins(nn.LSTM(5, 6))
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        fast(x)
        plain.batch_first = fast.batch_first = True
        assert_equal(fast(x), plain(x))
    assert runs == ["packseq", "packseq", "torch"]


def test_unchanged_weights_are_packed_once(monkeypatch):
    made = []
    original = records.module_of
    monkeypatch.setattr(records, "module_of", lambda *args: made.append(1) or original(*args))
    _, fast = twins(nn.LSTM(5, 6))
    with torch.no_grad():
        for _ in range(3):
            fast(torch.randn(3, 2, 5))
            fast.train().eval()
            accelerate(refresh(fast))
        assert len(made) == 1


def test_another_dtype(runs):
    plain, fast = twins(nn.LSTM(5, 6))
    with torch.no_grad():
        fast(torch.randn(3, 2, 5))
        x = torch.randn(3, 2, 5, dtype=torch.float64)
        runs.clear()
        assert_equal(fast.double()(x), plain.double()(x))
    assert runs == ["packseq", "torch"]


def test_weights_made_in_inference_mode_have_no_counter_to_watch(runs):
    with torch.inference_mode():
        plain, fast = twins(nn.LSTM(5, 6))
        x = torch.randn(3, 2, 5)
        assert torch.equal(fast(x)[0], plain(x)[0])
    assert runs == ["torch", "torch"]


def test_weights_shared_by_two_layers(runs):
    first, second = nn.GRU(5, 6), nn.GRU(5, 6)
    second.weight_hh_l0 = first.weight_hh_l0
    plain, fast = twins(nn.ModuleList([first, second]))
    assert fast[0].weight_hh_l0 is fast[1].weight_hh_l0
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        for layers in (plain, fast):
            layers[1](x)
            layers[0].weight_hh_l0.mul_(3)
        runs.clear()
        assert_equal(fast[1](x), plain[1](x))
    assert runs == ["packseq", "torch"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_parametrized(when, runs):
    plain = nn.LSTM(5, 6).eval()
    fast = copy.deepcopy(plain)
    if when == "before":
        parametrizations.weight_norm(fast, "weight_hh_l0")
        with pytest.warns(RuntimeWarning, match="nothing was replaced"):
            accelerate(fast)
    else:
        parametrizations.weight_norm(accelerate(fast), "weight_hh_l0")
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        assert_equal(fast(x), plain(x))
        assert_equal(copy.deepcopy(fast)(x), plain(x))
    restore(fast)
    parametrize.remove_parametrizations(fast, "weight_hh_l0")
    assert type(fast) is nn.LSTM
    with torch.no_grad():
        assert_equal(accelerate(fast)(x), plain(x))
    assert runs[-2:] == ["packseq", "torch"]


def test_pruned_weights_are_computed_by_torch(runs):
    plain, fast = twins(nn.LSTM(5, 6))
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        for layer in (plain, fast):
            fast(x)
            torch.manual_seed(2)
            prune.random_unstructured(layer, "weight_hh_l0", amount=0.5)
        runs.clear()
        assert_equal(fast(x), plain(x))
        prune.remove(fast, "weight_hh_l0")
        assert_equal(fast(x), plain(x))
    assert runs == ["torch", "torch", "packseq", "torch"]


# ---- what it is ----


def test_it_is_found_however_deep():
    shared = nn.LSTM(5, 6)
    inner = nn.Sequential(nn.Linear(5, 5), nn.ModuleDict({"a": nn.GRU(5, 6), "b": shared}))
    model = nn.ModuleList([inner, nn.RNN(5, 6), shared])
    layers = [inner[1]["a"], shared, model[1]]
    accelerate(model)
    assert [type(layer).__name__ for layer in layers] == [
        "AcceleratedGRU",
        "AcceleratedLSTM",
        "AcceleratedRNN",
    ]
    assert model[2] is inner[1]["b"] is shared
    restore(model)
    assert [type(layer) for layer in layers] == [nn.GRU, nn.LSTM, nn.RNN]


def test_it_stays_the_same_module():
    layer = nn.LSTM(5, 6, 2)
    before, names = dict(vars(layer)), list(layer.state_dict())
    parameters = [id(parameter) for parameter in layer.parameters()]
    assert accelerate(layer) is layer
    with torch.no_grad():
        layer(torch.randn(3, 5))
    assert isinstance(layer, nn.LSTM)
    assert list(layer.state_dict()) == names
    assert [id(parameter) for parameter in layer.parameters()] == parameters
    assert vars(layer).keys() == before.keys()
    assert accelerate(layer) is layer
    assert type(layer).__mro__.count(nn.LSTM) == 1


class Named(nn.LSTM):
    """A subclass that leaves the computation alone."""

    def named(self):
        return "mine"


class Scaled(nn.LSTM):
    def forward(self, input, hx=None):
        output, state = super().forward(input, hx)
        return 2 * output, state


def test_a_subclass_is_accelerated_if_forward_is_torchs(runs):
    named = accelerate(Named(5, 6).eval())
    with torch.no_grad():
        named(torch.randn(3, 5))
    assert (named.named(), runs) == ("mine", ["packseq"])
    assert type(pickle.loads(pickle.dumps(named))) is type(named)
    patched = nn.LSTM(5, 6)
    patched.forward = lambda *args: None
    model = accelerate(nn.ModuleList([Scaled(5, 6), patched, named]))
    assert [type(layer) for layer in model] == [Scaled, nn.LSTM, type(named)]


def save_and_load(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "oldest pickle": lambda module: pickle.loads(pickle.dumps(module, protocol=0)),
    "torch.save": save_and_load,
}


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
def test_copies_are_accelerated_too(make_copy, runs):
    _, fast = twins(nn.Sequential(nn.LSTM(5, 6, 2)))
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        expected = fast(x)
        made = make_copy(fast)
        runs.clear()
        assert torch.equal(made(x)[0], expected[0])
        assert runs == ["packseq"]
        if make_copy is not copy.copy:  # which shares its weights
            made[0].weight_hh_l0.zero_()
            assert not torch.equal(made(x)[0], expected[0])
            assert torch.equal(fast(x)[0], expected[0])


def test_a_restored_model_is_pickled_without_packseq():
    layer = accelerate(nn.LSTM(5, 6))
    assert b"packseq" in pickle.dumps(layer)
    assert b"packseq" not in pickle.dumps(restore(layer))


def test_state_dicts_go_both_ways(runs):
    plain, fast = twins(Tagger())
    with torch.no_grad():
        for weight in fast.parameters():
            weight.mul_(1.5)
    plain.load_state_dict(fast.state_dict())
    tokens, lengths = torch.randint(0, 50, (2, 3)), torch.tensor([3, 2])
    with torch.no_grad():
        assert_equal(fast(tokens, lengths), plain(tokens, lengths))
    assert runs == ["packseq", "torch"]


def test_threads_share_a_model():
    plain, fast = twins(nn.LSTM(5, 6, 2, bidirectional=True))
    inputs = [torch.randn(20, 3, 5) for _ in range(8)]
    results = [None] * 8

    def work(i):
        with torch.no_grad():  # which each thread has its own of
            results[i] = [fast(inputs[i]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with torch.no_grad():
        for x, found in zip(inputs, results, strict=True):
            for result in found:
                assert_equal(result, plain(x))


def test_the_number_of_threads_is_packseqs():
    _, fast = twins(nn.LSTM(64, 64, 2, bidirectional=True))
    x = torch.randn(50, 16, 64)
    before = packseq.get_num_threads()
    try:
        with torch.no_grad():
            packseq.set_num_threads(1)
            expected = fast(x)[0]
            packseq.set_num_threads(2)
            assert torch.equal(fast(x)[0], expected)
    finally:
        packseq.set_num_threads(before)


# ---- torch's compilers ----


class Last(nn.Module):
    """A layer inside a model, with work before and after it."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(5, 6)

    def forward(self, x):
        return self.rnn(x * 2)[0][-1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("compiler", ["script", "trace"])
def test_torchscript_compiles_the_original(compiler):
    plain, fast = twins(Last())
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        compiled = torch.jit.script(fast) if compiler == "script" else torch.jit.trace(fast, x)
        longer = torch.randn(8, 2, 5)
        assert torch.equal(compiled(longer), plain(longer))


def test_fx_takes_it_for_a_leaf(runs):
    plain, fast = twins(Last())
    x = torch.randn(3, 2, 5)
    traced = torch.fx.symbolic_trace(fast)
    with torch.no_grad():
        assert_equal(traced(x), plain(x))
    assert runs == ["packseq", "torch"]


def test_compile_takes_the_original(runs):
    plain, fast = twins(Last())
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        assert_equal(torch.compile(fast, backend="eager")(x), plain(x))
    assert "packseq" not in runs


# torch's LSTM warns the same.
@pytest.mark.filterwarnings("ignore:The tensor attributes .* were assigned during export")
def test_export_records_the_original():
    plain, fast = twins(Last())
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        program = torch.export.export(fast, (x,))
        assert_equal(program.module()(2 * x), plain(2 * x))


def test_make_fx_records_the_original():
    from torch.fx.experimental.proxy_tensor import make_fx

    plain, fast = twins(Last())
    x = torch.randn(3, 2, 5)
    with torch.no_grad():
        graph = make_fx(fast)(x)
        assert_equal(graph(2 * x), plain(2 * x))


# ---- conversions ----


@each_layer
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_modules_from_torch(make, dtype):
    layer = make(dtype=dtype, batch_first=True).eval()
    kind = getattr(packseq, layer.mode.partition("_")[0])
    module = kind.from_torch(layer)
    x = torch.randn(4, 9, 5, dtype=dtype)
    with torch.no_grad():
        expected = layer(x)
    output, state = module(x.numpy())
    state = tuple(map(torch.from_numpy, state)) if kind is packseq.LSTM else torch.from_numpy(state)
    assert_equal((torch.from_numpy(output), state), expected)


def test_from_torch_keeps_every_option_and_widens_half_precision():
    layer = nn.LSTM(5, 6, 2, False, True, 0.25, True, 3).half()
    module = packseq.LSTM.from_torch(layer)
    assert repr(module) == (
        "LSTM(5, 6, proj_size=3, num_layers=2, bias=False, batch_first=True, dropout=0.25, "
        "bidirectional=True)"
    )
    assert module.dtype == np.float32
    np.testing.assert_array_equal(module.weight_hr_l1, layer.weight_hr_l1.detach().float().numpy())


@pytest.mark.parametrize("other", [lambda: nn.GRU(2, 3), lambda: nn.Linear(2, 3), lambda: None])
def test_from_torch_refuses_another_kind(other):
    module = other()
    with pytest.raises(TypeError, match=rf"torch's LSTM, got {type(module).__name__}"):
        packseq.LSTM.from_torch(module)


@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_from_torch_shares_the_rows(enforce_sorted):
    sequences = batch(lengths=(7, 4, 3, 1) if enforce_sorted else (3, 7, 1, 4))
    theirs = pack_sequence([s.requires_grad_() for s in sequences], enforce_sorted)
    ours = from_torch(theirs)
    assert ours.data.ctypes.data == theirs.data.data_ptr()
    for mine, sequence in zip(packseq.unpack_sequence(ours), sequences, strict=True):
        np.testing.assert_array_equal(mine, sequence.detach().numpy())


@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_to_torch_shares_the_rows(enforce_sorted):
    lengths = (7, 4, 3, 1) if enforce_sorted else (3, 7, 1, 4)
    arrays = [s.numpy() for s in batch(lengths=lengths)]
    ours = packseq.pack_sequence(arrays, enforce_sorted)
    theirs = to_torch(ours)
    assert theirs.data.data_ptr() == ours.data.ctypes.data
    expected = pack_sequence([torch.from_numpy(a) for a in arrays], enforce_sorted)
    assert_equal(theirs, expected)
    back = from_torch(theirs)
    np.testing.assert_array_equal(back.batch_sizes, ours.batch_sizes)
    np.testing.assert_array_equal(back.lengths, ours.lengths)


@pytest.mark.parametrize("awkward", ["read-only", "reversed"])
def test_rows_that_torch_cannot_hold_are_copied(awkward):
    rows = np.arange(12.0).reshape(4, 3)
    if awkward == "read-only":
        rows.setflags(write=False)
    else:
        rows = rows[::-1]
    theirs = to_torch(packseq.PackedSequence(rows, [2, 1, 1]))
    np.testing.assert_array_equal(theirs.data.numpy(), rows)


def test_a_sequence_of_length_0_is_refused_by_name():
    packed = packseq.pack_sequence(
        [np.ones((2, 3)), np.ones((0, 3)), np.ones((1, 3))], enforce_sorted=False
    )
    with pytest.raises(ValueError, match=r"lengths\[1\] = 0: torch's PackedSequence cannot hold"):
        to_torch(packed)


def test_a_contradiction_is_named():
    theirs = nn.utils.rnn.PackedSequence(torch.randn(4, 5), torch.tensor([1, 3]))
    with pytest.raises(ValueError, match=r"batch_sizes\[1\] = 3 after"):
        from_torch(theirs)


@pytest.mark.parametrize("function", [accelerate, restore, from_torch, to_torch])
def test_other_types_are_refused(function):
    with pytest.raises(TypeError, match=r"must be a .*, got list"):
        function([1])


# ---- imports ----


def in_a_fresh_interpreter(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_packseq_does_not_import_torch():
    done = in_a_fresh_interpreter("import packseq, sys; sys.exit('torch' in sys.modules)")
    assert done.returncode == 0, done.stderr


def test_without_torch_the_error_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None; import packseq.torch"
    done = in_a_fresh_interpreter(code)
    assert "ImportError: packseq.torch needs torch: pip install torch" in done.stderr


# ---- fewer bits ----


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
def test_drop_ins_of_fewer_bits(precision):
    model = nn.Sequential(nn.LSTM(9, 12, num_layers=2, bidirectional=True))
    x = torch.randn(7, 3, 9)
    accelerate(model, precision=precision)
    with torch.inference_mode():
        output, _ = model(x)
        expected, _ = packseq.LSTM.from_torch(model[0]).quantize(precision)(x.numpy())
        assert_same_bits(output.numpy(), expected)
        # Changed weights are seen, and the next accelerate says what is wanted from then on.
        model[0].weight_hh_l0.mul_(2)
        output, _ = model(x)
        twice = packseq.LSTM.from_torch(model[0])
        assert_same_bits(output.numpy(), twice.quantize(precision)(x.numpy())[0])
        output, _ = accelerate(model)(x)
        assert_same_bits(output.numpy(), twice(x.numpy())[0])


def test_fewer_bits_than_there_can_be():
    with pytest.raises(ValueError, match="precision must be 'int8' or 'bfloat16', got 'int4'"):
        accelerate(nn.LSTM(2, 3), precision="int4")
    double = accelerate(nn.LSTM(2, 3).double(), precision="int8")
    with torch.inference_mode():
        double(torch.zeros(4, 1, 2, dtype=torch.float64))
    (layer,) = packseq.torch.report(double).layers
    assert (layer.ran, list(layer.fell_back)) == (0, [records.NOT_ROUNDED])
