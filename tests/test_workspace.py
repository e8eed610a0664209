"""Memory beside input, output and weights: under 64 MiB, and what is said a sequence and step."""

import tracemalloc

import numpy as np
import pytest
from strategies import make_module

from packseq import pack_padded_sequence
from packseq.rows.plan import Plan

LIMIT = 64 << 20

THREADS = (1, 2, 4, 8, 16, 32, 1024)


def workspace_bytes(module, lengths, threads):
    """What a call would take."""
    plan = Plan.from_lengths(np.asarray(lengths, np.int64))
    *_, size = module._weights.packed().cut(
        plan.batch_size, plan.max_length, plan.batch_sizes, threads
    )
    return size


STACK = {"num_layers": 2, "bidirectional": True}
DEEP = {"num_layers": 3, "reset_after": False, "dtype": np.float64}
BATCHES = {
    "many sequences": ("LSTM", 64, {}, [50] * 100_000),
    "long sequences": ("LSTM", 64, {}, [100_000] * 4),
    "one long, many short": ("GRU", 64, STACK, [20_000] + [5] * 20_000),
    "many sequences, a stack": ("LSTM", 64, STACK, [20] * 20_000),
    "long sequences, a stack": ("LSTM", 64, STACK, [20_000] * 64),
    "as many as there are threads": ("GRU", 32, STACK, [100_000] * 4),
    "large hidden size": ("LSTM", 1536, {}, [100] * 64),
    "large hidden size, float64": ("GRU", 1536, {"dtype": np.float64}, [100] * 64),
    "large hidden size, many sequences": ("LSTM", 1536, {"dtype": np.float64}, [2] * 5000),
    "large projection": ("LSTM", 1536, {"proj_size": 512}, [100] * 64),
    "reset before": ("GRU", 1024, {"reset_after": False} | STACK, [100] * 64),
    "a deep stack, float64": ("GRU", 1147, DEEP, [1 + b % 100 for b in range(3255)]),
    "a deep stack, few steps": ("GRU", 893, DEEP, [1 + b % 17 for b in range(1161)]),
    "a narrow stack, long sequences": ("RNN_TANH", 1, {"num_layers": 2}, [100_000] * 64),
    "zipf": ("RNN_TANH", 256, STACK, [1 + 5000 // (1 + b) for b in range(5000)]),
}


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("name", BATCHES)
def test_workspace_is_bounded(name, threads):
    kind, hidden_size, options, lengths = BATCHES[name]
    module = make_module(kind, 16, hidden_size, rng=0, **options)
    assert workspace_bytes(module, lengths, threads) < LIMIT


@pytest.mark.parametrize("threads", THREADS)
def test_one_sequence_through_a_stack_may_need_more(threads):
    """The exception: a layer's whole output is the next one's input, and a sequence is not cut.

    Two directions read it from both ends, so that all of it is kept.
    """
    steps, width = 500_000, 2 * 32
    module = make_module("LSTM", 16, 32, rng=0, **STACK)
    needed = steps * (width * 4 + 8)  # and where each step begins
    assert needed > LIMIT
    assert needed <= workspace_bytes(module, [steps], threads) < needed + LIMIT


@pytest.mark.parametrize("threads", [1, 2, 64])
@pytest.mark.parametrize("lengths", [[1] * 10**7, [10**7]], ids=["sequences", "steps"])
def test_ten_million_take_no_more_in_the_kernels(lengths, threads):
    assert workspace_bytes(make_module("LSTM", 3, 5, rng=0), lengths, threads) < LIMIT


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_a_long_stack_takes_eight_bytes_a_step_for_each_thread(threads):
    steps, module = 10**7, make_module("LSTM", 3, 32, rng=0, **STACK)
    plan = Plan.from_lengths(np.array([steps]))
    _, team, *_, size = module._weights.packed().cut(1, steps, plan.batch_sizes, threads)
    assert size < steps * (2 * 32 * 4 + 8 * team) + LIMIT


def peak_of_call(module, *arguments, **options):
    """What NumPy and Python take at once for a call that writes to `out`; the kernels' is above."""
    tracemalloc.start()
    try:
        _, state = module(*arguments, **options)
        return tracemalloc.get_traced_memory()[1] - state.nbytes
    finally:
        tracemalloc.stop()


SMALL = 100_000  # of Python's own


@pytest.mark.parametrize(("batch", "steps"), [(300_000, 2), (2, 300_000)])
def test_lengths_take_what_is_said(batch, steps):
    module, x = make_module("GRU", 1, 1, rng=0), np.zeros((steps, batch, 1), np.float32)
    lengths = np.full(batch, steps)
    lengths[0] = 1
    out = np.empty_like(x)
    module(x[:2, :1], lengths=[2], out=out[:2, :1])
    module(x[:2, :1], out=out[:2, :1])
    assert peak_of_call(module, x, out=out) < SMALL
    assert peak_of_call(module, x, lengths=lengths, out=out) < 40 * batch + 24 * steps + SMALL
    packed = pack_padded_sequence(x, lengths)
    assert peak_of_call(module, packed, out=np.empty_like(packed.data)) < SMALL


@pytest.mark.parametrize("layout", ["last axis strided", "byte-swapped", "misaligned", "sliced"])
def test_an_input_is_copied_once_or_not_at_all(layout):
    module, wide = make_module("GRU", 4, 2, rng=0), np.ones((1000, 9, 8), np.float32)
    x = {
        "last axis strided": wide[..., ::2],
        "byte-swapped": wide[..., :4].astype(">f4"),
        "misaligned": np.zeros(1000 * 9 * 16 + 1, np.int8)[1:].view(np.float32).reshape(1000, 9, 4),
        "sliced": wide[::-1, ::2, 4:],
    }[layout]
    out = np.empty((*x.shape[:2], 2), np.float32)
    module(x[:2], out=out[:2])
    peak = peak_of_call(module, x, out=out)
    assert peak < (0 if layout == "sliced" else x.nbytes) + SMALL
