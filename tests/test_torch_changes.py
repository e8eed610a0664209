"""Weights, options and memory that change behind a drop-in's back."""

import copy

import pytest

import packseq

torch = pytest.importorskip("torch", reason="packseq.torch works on torch, which is not installed")

from torch import nn  # noqa: E402
from torch.nn.utils.rnn import pack_sequence  # noqa: E402
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn  # noqa: E402

from packseq.torch import accelerate, calls, from_torch, records, refresh, report  # noqa: E402

# An element of weight_hh, (6, 6), that is not among the 16 that each call looks at.
UNSEEN = (0, 1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def twins(layer):
    layer.eval()
    return layer, accelerate(copy.deepcopy(layer))


def fused_step(name):
    """A step that changes one element, and no counter."""

    def step(layer):
        for weight in layer.parameters():
            weight.grad = torch.zeros_like(weight)
        layer.weight_hh_l0.grad[UNSEEN] = 1
        before = layer.weight_hh_l0._version
        getattr(torch.optim, name)(layer.parameters(), lr=0.5, fused=True).step()
        assert layer.weight_hh_l0._version == before

    return step


def write(layer):
    layer.weight_hh_l0.data[UNSEEN] += 1


def write_and(announce):
    def change(layer):
        write(layer)
        announce(layer)

    return change


def average(layer):
    """As its own running mean with another layer, in one operation over a list."""
    model = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    model.update_parameters(layer)  # the first one copies
    other = nn.RNN(6, 6)
    model.update_parameters(other)
    with torch.no_grad():
        layer.weight_hh_l0[UNSEEN] = model.module.weight_hh_l0[UNSEEN]


CHANGES = {
    **{f"fused {name}": fused_step(name) for name in ("SGD", "Adam", "AdamW", "Adagrad")},
    "train": write_and(lambda layer: layer.train()),
    "eval": write_and(lambda layer: layer.eval()),
    "eval of the model": write_and(lambda layer: nn.Sequential(nn.Linear(2, 2), layer).eval()),
    "refresh": write_and(lambda layer: refresh(layer)),
    "refresh of the model": write_and(lambda layer: refresh(nn.Sequential(layer))),
    "accelerate": write_and(lambda layer: accelerate(nn.ModuleList([nn.GRU(2, 2), layer]))),
    "any optimizer": write_and(
        lambda layer: torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0).step()
    ),
    "averaged": average,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_announced_change_goes_unseen(change):
    plain, fast = twins(nn.RNN(6, 6))
    x = torch.randn(3, 2, 6)
    with torch.no_grad():
        before = fast(x)[0]
        torch.manual_seed(1)
        change(fast)
        plain.load_state_dict(fast.state_dict())
        after = fast(x)[0]
        torch.testing.assert_close(after, plain(x)[0], rtol=0, atol=1e-6)
        assert not torch.equal(after, before)


def test_fused_training_is_never_stale():
    plain, fast = twins(nn.LSTM(6, 6))
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1, fused=True) for m in (plain, fast)]
    x = torch.randn(5, 3, 6)
    for _ in range(40):
        for layer, optimizer in zip((plain, fast), optimizers, strict=True):
            layer.train()
            optimizer.zero_grad()
            layer(x)[0].square().sum().backward()
            optimizer.step()
        with torch.no_grad():
            torch.testing.assert_close(fast(x)[0], plain(x)[0], rtol=0, atol=1e-6)


class Quiet(nn.RNN):
    """Loads its state in a way that torch does not count."""

    def _load_from_state_dict(self, state_dict, prefix, *args):
        self.weight_hh_l0.data[UNSEEN] = state_dict[prefix + "weight_hh_l0"][UNSEEN]


def test_load_state_dict_is_an_announcement():
    plain, fast = twins(Quiet(6, 6))
    state = nn.RNN(6, 6).state_dict()
    x = torch.randn(3, 2, 6)
    with torch.no_grad():
        fast(x)
        plain.load_state_dict(state)
        nn.Sequential(fast).load_state_dict({f"0.{name}": value for name, value in state.items()})
        torch.testing.assert_close(fast(x)[0], plain(x)[0], rtol=0, atol=1e-6)


def test_after_a_pause_all_numbers_are_compared(monkeypatch):
    plain, fast = twins(nn.RNN(6, 6))
    x = torch.randn(3, 2, 6)
    now = [100.0]
    for module in (calls, records):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])
    with torch.no_grad():
        fast(x)
        write(fast)
        write(plain)
        now[0] += 1.01 * records.PAUSE
        torch.testing.assert_close(fast(x)[0], plain(x)[0], rtol=0, atol=1e-6)


def test_the_comparison_takes_bits_for_bits(monkeypatch):
    """NaN is not equal to itself, and the zeros are: neither packs again, nor hides a change."""
    made = []
    original = records.module_of
    monkeypatch.setattr(records, "module_of", lambda *args: made.append(1) or original(*args))
    fast = accelerate(nn.RNN(6, 6).requires_grad_(False))
    fast.weight_hh_l0.data[UNSEEN] = torch.nan
    fast.weight_ih_l0.data[0, 1] = 0.0
    x = torch.randn(3, 2, 6)
    for _ in range(3):
        fast(refresh(fast) and x)
    assert len(made) == 1
    fast.weight_ih_l0.data[0, 1] = -0.0
    fast(refresh(fast) and x)
    assert len(made) == 2


def test_weights_of_other_strides_are_compared():
    plain, fast = twins(nn.RNN(6, 6))
    x = torch.randn(3, 2, 6)
    with torch.no_grad():
        for layer in (plain, fast):
            layer.weight_hh_l0.data = layer.weight_hh_l0.data.t()
        fast(x)
        write(fast)
        write(plain)
        refresh(fast)
        torch.testing.assert_close(fast(x)[0], plain(x)[0], rtol=0, atol=1e-6)


# ---- options ----


def answer(layer, *args):
    with torch.no_grad():
        try:
            return layer(*args)[0].tolist()
        except Exception as error:
            return type(error), str(error)


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (nn.LSTM, "bidirectional", True),
        (nn.LSTM, "num_layers", 2),
        (nn.LSTM, "num_layers", 10**12),
        (nn.LSTM, "num_layers", "two"),
        (nn.LSTM, "input_size", 7),
        (nn.LSTM, "proj_size", 3),
        (nn.LSTM, "mode", "GRU"),
        (nn.GRU, "mode", None),
        (lambda *sizes: nn.LSTM(*sizes, bidirectional=True), "bidirectional", False),
        (lambda *sizes: nn.GRU(*sizes, 2), "num_layers", 1),
    ],
)
def test_options_edited_after_a_call_are_torchs(make, name, value):
    plain, fast = twins(make(6, 6))
    x = torch.randn(3, 2, 6)
    answer(fast, x)
    setattr(plain, name, value)
    setattr(fast, name, value)
    expected = answer(plain, x)
    assert answer(fast, x) == expected
    (layer,) = report(fast).layers
    assert (layer.ran, dict(layer.fell_back)) == (1, {records.EDITED: 1})


def test_another_mode_is_another_activation():
    plain, fast = twins(nn.RNN(6, 6))
    x = torch.randn(3, 2, 6)
    with torch.no_grad():
        fast(x)
        plain.mode = fast.mode = "RNN_RELU"
        torch.testing.assert_close(fast(x)[0], plain(x)[0], rtol=0, atol=1e-6)
    assert report(fast).layers[0].ran == 2


# ---- memory ----


def shrunk(tensor, nbytes):
    tensor.untyped_storage().resize_(nbytes)
    return tensor


def test_storages_resized_to_nothing_are_refused():
    """torch reads beyond them, and crashes."""
    _, fast = twins(nn.LSTM(6, 6))
    x, h = torch.randn(3, 2, 6), torch.zeros(1, 2, 6)
    with torch.no_grad():
        fast(x)
        for call in (
            lambda: fast(shrunk(x.clone(), 0)),
            lambda: fast(shrunk(x.clone(), 8)),
            lambda: fast(shrunk(torch.randn(2, 3, 6).transpose(0, 1), 0)),
            lambda: fast(x, (shrunk(h.clone(), 0), h)),
        ):
            with pytest.raises(ValueError, match="input or hx has no memory to be read"):
                call()
    assert report(fast).layers[0].ran == 1


@pytest.mark.parametrize("field", ["data", "batch_sizes", "unsorted_indices"])
def test_a_packed_batch_with_a_field_without_memory_is_refused(field):
    _, fast = twins(nn.LSTM(6, 6))
    packed = pack_sequence([torch.randn(2, 6), torch.randn(3, 6)], enforce_sorted=False)
    shrunk(getattr(packed, field), 0)
    name = "input or hx" if field == "data" else field
    with torch.no_grad(), pytest.raises(ValueError, match=f"{name} has no memory to be read"):
        fast(packed)


def test_weights_without_memory_are_refused():
    _, fast = twins(nn.RNN(6, 6))
    shrunk(fast.weight_hh_l0.data, 0)
    with torch.no_grad(), pytest.raises(ValueError, match="weight_hh_l0 has no memory to be read"):
        fast(torch.randn(3, 2, 6))


@pytest.mark.parametrize("nbytes", [0, 8])
def test_our_own_modules_refuse_them_by_name(nbytes):
    module, cell = packseq.LSTM(6, 6), packseq.GRUCell(6, 6)
    with pytest.raises(ValueError, match="input has no memory to be read"):
        module(shrunk(torch.randn(3, 2, 6), nbytes))
    with pytest.raises(ValueError, match="input has no memory to be read"):
        cell(shrunk(torch.randn(2, 6), nbytes))
    with pytest.raises(ValueError, match="hx has no memory to be read"):
        cell(torch.randn(2, 6), shrunk(torch.randn(2, 6), nbytes))


@pytest.mark.parametrize("field", ["data", "batch_sizes", "sorted_indices"])
def test_a_packed_batch_without_memory_is_refused_by_name(field):
    packed = pack_sequence([torch.randn(2, 6), torch.randn(3, 6)], enforce_sorted=False)
    shrunk(getattr(packed, field), 0)
    with pytest.raises(ValueError, match=f"{field} has no memory to be read"):
        from_torch(packed)


def test_an_input_in_the_middle_of_its_storage_has_memory():
    plain, fast = twins(nn.RNN(6, 6))
    whole = torch.randn(5, 2, 8)
    with torch.no_grad():
        for x in (whole[2:, :, 2:], whole[2:, :, 2:].transpose(0, 1), whole[-1:, :1, 2:]):
            torch.testing.assert_close(fast(x)[0], plain(x)[0], rtol=0, atol=1e-6)
    assert report(fast).layers[0].ran == 3
