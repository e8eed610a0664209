"""What a sequence gives depends on no batch, place, form or number of threads: to the bit."""

import numpy as np
import pytest
from hypothesis import given
from strategies import (
    PRECISIONS,
    Case,
    as_state,
    assert_same_bits,
    cases,
    dtype_of,
    pad,
    state_parts,
)

from packseq import pack_sequence, unpack_sequence
from packseq.rows.plan import Plan

VARIANTS = {
    "LSTM": ("LSTM", {}),
    "LSTM-projected": ("LSTM", {"proj_size": 11}),
    "GRU": ("GRU", {}),
    "GRU-reset-before": ("GRU", {"reset_after": False}),
    "RNN-tanh": ("RNN_TANH", {}),
    "RNN-relu": ("RNN_RELU", {}),
}
BATCH = 60

by_variant = pytest.mark.parametrize("variant", VARIANTS)
on_kernels = pytest.mark.usefixtures("on_kernels")
by_precision = pytest.mark.parametrize("precision", PRECISIONS)


class Batch:
    """Sixty sequences of 0 to 24 steps through two layers and directions: enough to use threads."""

    def __init__(self, variant, precision):
        self.kind, options = VARIANTS[variant]
        lengths = np.random.default_rng(7).integers(0, 25, BATCH)
        options = {"num_layers": 2, "bidirectional": True} | options
        self.case = Case(self.kind, 19, 33, tuple(lengths), options, seed=2)
        self.module = self.case.module_of(precision)
        self.sequences = self.case.sequences(dtype_of(precision))
        self.state = self.case.state(dtype_of(precision))

    def hx(self, which):
        """States of the sequences `which`, or without the batch axis of one."""
        return as_state(self.kind, [np.ascontiguousarray(part[:, which]) for part in self.state])

    def packed(self, which, **how):
        """Run the sequences `which` as a batch: one (output, h_n, ...) for each."""
        batch = pack_sequence([self.sequences[b] for b in which])
        output, state = self.module(batch, self.hx(which), **how)
        return by_sequence(unpack_sequence(output), state)

    def padded(self, which, **how):
        """The same, padded by some steps of NaN."""
        sequences = [self.sequences[b] for b in which]
        batch = pad(sequences, self.case.input_size, value=np.nan, extra_steps=2)
        lengths = [len(x) for x in sequences]
        output, state = self.module(batch, self.hx(which), lengths=lengths, **how)
        return by_sequence([output[:n, i] for i, n in enumerate(lengths)], state)

    def alone(self, b, **how):
        """As a 2-D input; without keywords this is the short way of plain calls."""
        output, state = self.module(self.sequences[b], self.hx(b), **how)
        return (output, *state_parts(state))


def by_sequence(outputs, state):
    states = zip(*(part.swapaxes(0, 1) for part in state_parts(state)), strict=True)
    return [(output, *parts) for output, parts in zip(outputs, states, strict=True)]


def step_by_step(module, x):
    """The output of a sequence, and its last state, by a call for each step."""
    state, steps = None, []
    for row in x:
        output, state = module(row[None], state)
        steps.append(output)
    return np.concatenate(steps), state


def assert_all_same_bits(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        for a, e in zip(one, other, strict=True):
            assert_same_bits(a, e)


@pytest.fixture(scope="module")
def batch_of():
    """Batches and what they give, made once: a comparison needs only the other side."""
    made = {}

    def get(variant, precision):
        if (variant, precision) not in made:
            batch = Batch(variant, precision)
            made[variant, precision] = batch, batch.packed(range(BATCH), num_threads=1)
        return made[variant, precision]

    return get


@on_kernels
@by_precision
@by_variant
def test_order_does_not_matter(batch_of, variant, precision):
    batch, expected = batch_of(variant, precision)
    rng = np.random.default_rng(0)
    for order in [rng.permutation(BATCH), range(BATCH)[::-1]]:
        assert_all_same_bits(batch.packed(order, num_threads=1), [expected[b] for b in order])


@on_kernels
@by_precision
@by_variant
def test_neighbours_do_not_matter(batch_of, variant, precision):
    """Around the rows of one tile (6 or 12), of two, and of most of the batch."""
    batch, expected = batch_of(variant, precision)
    rng = np.random.default_rng(1)
    for size in [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 25, 47, 49]:
        which = rng.choice(BATCH, size, replace=False)
        assert_all_same_bits(batch.packed(which, num_threads=1), [expected[b] for b in which])


@on_kernels
@by_precision
@by_variant
def test_form_does_not_matter(batch_of, variant, precision):
    batch, expected = batch_of(variant, precision)
    assert_all_same_bits(batch.padded(range(BATCH), num_threads=1), expected)
    assert_all_same_bits([batch.alone(b, num_threads=1) for b in range(BATCH)], expected)
    assert_all_same_bits([batch.alone(b) for b in range(BATCH)], expected)


@pytest.mark.parametrize("num_threads", [2, 3, 4])
@by_precision
@by_variant
def test_threads_do_not_matter(batch_of, variant, precision, num_threads):
    batch, expected = batch_of(variant, precision)
    assert_all_same_bits(batch.packed(range(BATCH), num_threads=num_threads), expected)
    assert_all_same_bits(batch.padded(range(BATCH), num_threads=num_threads), expected)


@on_kernels
@by_precision
@by_variant
def test_shards_do_not_matter(variant, precision):
    """More sequences than one shard has, so that some have their neighbours in another."""
    kind, options = VARIANTS[variant]
    case = Case(kind, 3, 33, tuple(1 + b % 5 for b in range(300)), options, seed=6)
    module, sequences = case.module_of(precision), case.sequences(dtype_of(precision))
    packed = pack_sequence(sequences)
    plan = Plan.from_lengths(packed.lengths)
    costs, *_ = module._weights.packed().cut(300, plan.max_length, plan.batch_sizes, 1)
    assert len(costs) > 1
    output, state = module(packed, num_threads=1)
    results = by_sequence(unpack_sequence(output), state)
    for b in range(0, 300, 7):
        alone, state_alone = module(sequences[b], num_threads=1)
        assert_all_same_bits([(alone, *state_parts(state_alone))], [results[b]])


@on_kernels
@by_precision
def test_sums_in_several_blocks(precision):
    """Rows so wide that a product of many is summed by blocks, and one of few is not."""
    case = Case("GRU", 5000, 9, (40,), seed=4)
    module, (x,) = case.module_of(precision), case.sequences(dtype_of(precision))
    output, _ = step_by_step(module, x)
    assert_same_bits(output, module(x, num_threads=1)[0])


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@by_precision
@by_variant
def test_nan_and_inf_reach_no_other_sequence(batch_of, variant, precision, poison):
    _, expected = batch_of(variant, precision)
    batch = Batch(variant, precision)
    poisoned = [b for b in range(1, BATCH, 5) if len(batch.sequences[b])]
    for b in poisoned:
        batch.sequences[b][:, 3] = poison
        for part in batch.state:
            part[:, b] = poison
    healthy = [b for b in range(BATCH) if b not in poisoned]
    for num_threads in (1, 2):
        results = batch.packed(range(BATCH), num_threads=num_threads)
        assert_all_same_bits([results[b] for b in healthy], [expected[b] for b in healthy])
        assert not any(np.isfinite(results[b][0]).all() for b in poisoned)


@on_kernels
@by_precision
@by_variant
def test_step_by_step_is_the_whole(variant, precision):
    """Streaming: each step is a call that goes on from the last one's state."""
    kind, options = VARIANTS[variant]
    case = Case(kind, 19, 33, (14,), {"num_layers": 2} | options, seed=3)
    module, (x,) = case.module_of(precision), case.sequences(dtype_of(precision))
    expected, state_expected = module(x, num_threads=1)
    output, state = step_by_step(module, x)
    assert_same_bits(output, expected)
    for part, part_expected in zip(state_parts(state), state_parts(state_expected), strict=True):
        assert_same_bits(part, part_expected)


@on_kernels
@given(case=cases(min_batch=1))
def test_any_batch_is_its_sequences(case):
    for precision in PRECISIONS:
        dtype = dtype_of(precision)
        module, hx = case.module_of(precision), case.state(dtype)
        output, state = module(pack_sequence(case.sequences(dtype)), as_state(case.kind, hx))
        for b, result in enumerate(by_sequence(unpack_sequence(output), state)):
            hx_alone = [np.ascontiguousarray(part[:, b]) for part in hx]
            alone, state_alone = module(case.sequences(dtype)[b], as_state(case.kind, hx_alone))
            assert_all_same_bits([(alone, *state_parts(state_alone))], [result])
