"""Memory beside input, output and weights: under 64 MiB whatever the batch. Nothing here is run."""

import numpy as np
import pytest
from strategies import make_module

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
