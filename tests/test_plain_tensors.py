"""Tensors into packseq's modules and cells give the bits that arrays give."""

import numpy as np
import pytest

import packseq

torch = pytest.importorskip("torch", reason="makes the tensors")

from packseq.networks import plain_tensors  # noqa: E402

MAKE = {
    "LSTM": lambda: packseq.LSTM(5, 6, 2, bidirectional=True, rng=0),
    "GRU, batch first": lambda: packseq.GRU(5, 6, batch_first=True, rng=0),
    "RNN": lambda: packseq.RNN(5, 6, dtype="float64", rng=0),
    "LSTMCell": lambda: packseq.LSTMCell(5, 6, rng=0),
    "GRUCell": lambda: packseq.GRUCell(5, 6, rng=0),
}


@pytest.fixture
def took(monkeypatch):
    """Whether each call of the short way took it."""
    seen = []
    original = plain_tensors.call_plain

    def call(*args):
        result = original(*args)
        seen.append(result is not None)
        return result

    monkeypatch.setattr("packseq.networks.cells.call_plain", call)
    monkeypatch.setattr("packseq.networks.recurrent.call_plain", call)
    return seen


def parts(result):
    return [a for part in result for a in parts(part)] if isinstance(result, tuple) else [result]


def assert_same_bits(found, expected):
    for tensor, array in zip(parts(found), parts(expected), strict=True):
        assert type(tensor) is torch.Tensor
        np.testing.assert_array_equal(tensor.numpy(), array, strict=True)


def arrays(module, *shape):
    rng = np.random.default_rng(1)
    one_step = type(module).__name__.endswith("Cell")
    x = rng.standard_normal((2, 5) if one_step else (4, 2, 5)).astype(module.dtype)
    batch = 4 if getattr(module, "batch_first", False) else 2
    shapes = module._architecture.state_shapes(batch)
    states = tuple(rng.standard_normal(shape).astype(module.dtype) for shape in shapes)
    return x, states if len(states) > 1 else states[0]


def tensors_of(values):
    return (
        tuple(map(torch.from_numpy, values)) if type(values) is tuple else torch.from_numpy(values)
    )


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize("with_hx", [False, True], ids=["zeros", "hx"])
def test_plain_calls_take_the_short_way(make, with_hx, took):
    module = make()
    x, hx = arrays(module)
    expected = module(x, hx if with_hx else None)
    assert_same_bits(module(torch.from_numpy(x), tensors_of(hx) if with_hx else None), expected)
    assert took == [True]


OTHERS = {
    "other strides": lambda x: torch.from_numpy(x).transpose(0, 1).contiguous().transpose(0, 1),
    "the other width": lambda x: torch.from_numpy(x).double(),
    "negated view": lambda x: torch.complex(torch.from_numpy(x), -torch.from_numpy(x)).conj().imag,
    "parameter": lambda x: torch.nn.Parameter(torch.from_numpy(x), requires_grad=False),
}


@pytest.mark.parametrize("make", [MAKE["LSTM"], MAKE["LSTMCell"]], ids=["LSTM", "LSTMCell"])
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_others_take_the_general_way(make, other, took):
    module = make()
    x, _ = arrays(module)
    assert_same_bits(module(other(x)), module(x))
    assert took == [False]


def test_states_that_are_not_plain_take_the_general_way(took):
    cell = packseq.GRUCell(5, 6, rng=0)
    x, h = arrays(cell)
    expected = (cell(x, h),)
    assert_same_bits((cell(torch.from_numpy(x), torch.from_numpy(h).double()),), expected)
    assert_same_bits((cell(torch.from_numpy(x), h),), expected)
    with pytest.raises(ValueError, match="hx must have shape"):
        cell(torch.from_numpy(x), torch.zeros(3, 6))
    assert took == [False] * 3


def test_lengths_take_the_short_way_too(took):
    module = packseq.GRU(5, 6, rng=0)
    x, _ = arrays(module)
    assert_same_bits(module(torch.from_numpy(x), lengths=[4, 2]), module(x, lengths=[4, 2]))
    assert took == [True]


def test_a_gradient_is_refused_unless_autograd_is_off(took):
    cell = packseq.GRUCell(5, 6, rng=0)
    x = torch.ones(2, 5, requires_grad=True)
    with pytest.raises(ValueError, match="input requires a gradient"):
        cell(x)
    with torch.no_grad():
        assert_same_bits((cell(x),), (cell(np.ones((2, 5), np.float32)),))
    assert took == [False, True]


def test_the_result_is_memory_of_its_own():
    cell = packseq.GRUCell(5, 6, rng=0)
    x, h = torch.ones(2, 5), torch.ones(2, 6)
    first = cell(x, h)
    before = first.clone()
    cell(x * 2, h).zero_()
    assert torch.equal(first, before)
    assert torch.equal(h, torch.ones(2, 6))
