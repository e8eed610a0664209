"""torch's cells, which a decoder calls step by step, run packseq's."""

import copy
import pickle

import numpy as np
import pytest
from strategies import TOLERANCE

torch = pytest.importorskip("torch", reason="packseq.torch works on torch, which is not installed")

from torch import nn  # noqa: E402

from packseq.torch import accelerate, report, restore  # noqa: E402

CELLS = {
    "LSTM": lambda **kw: nn.LSTMCell(5, 6, **kw),
    "GRU": lambda **kw: nn.GRUCell(5, 6, **kw),
    "RNN, tanh": lambda **kw: nn.RNNCell(5, 6, **kw),
    "RNN, relu": lambda **kw: nn.RNNCell(5, 6, nonlinearity="relu", **kw),
}
each_cell = pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def twins(cell):
    cell.eval()
    return cell, accelerate(copy.deepcopy(cell))


def state_of(cell, *batch, dtype=torch.float32):
    h, c = torch.randn(2, *batch, 6, dtype=dtype)
    return (h, c) if isinstance(cell, nn.LSTMCell) else h


def counts(cell):
    (layer,) = report(cell).layers
    return layer.ran, sum(layer.fell_back.values())


def assert_close(found, expected):
    assert type(found) is type(expected)
    for a, e in zip(*[r if isinstance(r, tuple) else (r,) for r in (found, expected)], strict=True):
        assert (a.dtype, a.shape) == (e.dtype, e.shape)
        atol = TOLERANCE[np.dtype(str(a.dtype).removeprefix("torch."))]
        torch.testing.assert_close(a, e, rtol=0, atol=atol)


@each_cell
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("batch", [(), (1,), (4,)], ids=["unbatched", "one", "four"])
@pytest.mark.parametrize("with_hx", [False, True], ids=["zeros", "hx"])
def test_a_step(make, bias, dtype, batch, with_hx):
    plain, fast = twins(make(bias=bias, dtype=dtype))
    x = torch.randn(*batch, 5, dtype=dtype)
    hx = state_of(plain, *batch, dtype=dtype) if with_hx else None
    with torch.no_grad():
        assert_close(fast(x, hx), plain(x, hx))
    assert counts(fast) == (1, 0)


@each_cell
def test_many_steps(make):
    plain, fast = twins(make())
    with torch.inference_mode():
        mine = theirs = None
        for x in torch.randn(20, 3, 5):
            mine, theirs = fast(x, mine), plain(x, theirs)
        assert_close(mine, theirs)
    assert counts(fast) == (20, 0)


@each_cell
def test_other_strides(make):
    plain, fast = twins(make())
    x, hx = torch.randn(5, 4).t(), state_of(plain, 4)
    with torch.no_grad():
        assert_close(fast(x, hx), plain(x, hx))
    assert counts(fast) == (1, 0)


@each_cell
def test_training_has_equal_gradients(make):
    plain = make().train()
    fast = accelerate(copy.deepcopy(plain))
    x = torch.randn(4, 5)
    for cell in (plain, fast):
        result = cell(x)
        (result[0] if isinstance(result, tuple) else result).sum().backward()
    for mine, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)
    assert counts(fast) == (0, 1)


@each_cell
def test_changed_weights_and_options_count(make):
    plain, fast = twins(make())
    x, hx = torch.randn(4, 5), state_of(plain, 4)
    with torch.no_grad():
        fast(x, hx)
        for cell in (plain, fast):
            cell.weight_hh[1, 2] += 1
            if isinstance(cell, nn.RNNCell):
                cell.nonlinearity = {"tanh": "relu", "relu": "tanh"}[cell.nonlinearity]
        assert_close(fast(x, hx), plain(x, hx))
    assert counts(fast) == (2, 0)


BAD_CALLS = {
    "width": lambda cell: cell(torch.randn(2, 4)),
    "dimensions": lambda cell: cell(torch.randn(3, 2, 5)),
    "dtype": lambda cell: cell(torch.randn(2, 5, dtype=torch.float64)),
    "integers": lambda cell: cell(torch.ones(2, 5, dtype=torch.int64)),
    "another batch": lambda cell: cell(torch.randn(2, 5), state_of(cell, 3)),
    "no tensor": lambda cell: cell([[1.0] * 5]),
    "one state for a pair": lambda cell: cell(torch.randn(2, 5), (torch.zeros(2, 6),)),
    "no rows": lambda cell: cell(torch.randn(0, 5)),
}


@each_cell
@pytest.mark.parametrize("call", BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_input_gets_torchs_own_answer(make, call):
    answers = []
    for cell in twins(make()):
        with torch.no_grad():
            try:
                answers.append(str(call(cell)))
            except Exception as error:
                answers.append((type(error), str(error)))
    assert answers[0] == answers[1]


@each_cell
def test_copies_and_the_way_back(make):
    plain, fast = twins(make())
    x = torch.randn(4, 5)
    with torch.no_grad():
        for made in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
            assert_close(made(x), plain(x))
            assert counts(made) == (1, 0)
    assert type(restore(fast)) is type(plain)


class Decoder(nn.Module):
    """Two cells, and their outputs fed back, as in Tacotron 2."""

    def __init__(self):
        super().__init__()
        self.attention, self.decoder = nn.LSTMCell(5 + 6, 6), nn.LSTMCell(6, 6)
        self.frame = nn.Linear(6, 5)

    def forward(self, x, steps: int):
        a = d = (torch.zeros(len(x), 6), torch.zeros(len(x), 6))
        frames = []
        for _ in range(steps):
            a = self.attention(torch.cat([x, d[0]], -1), a)
            d = self.decoder(a[0], d)
            x = self.frame(d[0])
            frames.append(x)
        return torch.stack(frames)


def test_a_decoder():
    plain = Decoder().eval()
    fast = accelerate(copy.deepcopy(plain))
    x = torch.randn(3, 5)
    with torch.inference_mode():
        torch.testing.assert_close(fast(x, 10), plain(x, 10), rtol=0, atol=1e-5)
    assert [layer.ran for layer in report(fast).layers] == [10, 10]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripting_compiles_the_original():
    fast = accelerate(Decoder().eval())
    x = torch.randn(3, 5)
    with torch.no_grad():
        expected = fast(x, 4)
        compiled = torch.jit.script(fast)
        torch.testing.assert_close(compiled(x, 4), expected, rtol=0, atol=1e-5)
        assert torch.equal(fast(x, 4), expected)
    assert [layer.ran for layer in report(fast).layers] == [8, 8]
