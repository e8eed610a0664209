"""What RNNCell, GRUCell and LSTMCell compute: one step of the module of their name."""

import copy
import pickle
from unittest import mock

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    DTYPES,
    FORMS,
    HIDDEN_SIZES,
    INPUT_SIZES,
    KINDS,
    as_state,
    assert_close,
    assert_same_bits,
    assert_states_close,
    make_cell,
    make_module,
    state_parts,
)

from packseq.networks import kernels

by_kind = pytest.mark.parametrize("kind", KINDS)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def random_step(kind, dtype, batch, input_size, hidden_size, seed=0):
    """An input (*batch, I) and the state before it, a tuple of (*batch, H)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*batch, input_size)).astype(dtype)
    parts = 2 if kind == "LSTM" else 1
    shape = (*batch, hidden_size)
    return x, tuple(rng.uniform(-1, 1, shape).astype(dtype) for _ in range(parts))


@by_dtype
@by_kind
@given(
    input_size=st.sampled_from(INPUT_SIZES),
    hidden_size=st.sampled_from(HIDDEN_SIZES),
    batch_size=st.integers(1, 20),
    bias=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_a_cell_computes_one_step(kind, dtype, input_size, hidden_size, batch_size, bias, seed):
    cell = make_cell(kind, input_size, hidden_size, bias=bias, dtype=dtype, rng=seed)
    x, parts = random_step(kind, dtype, (batch_size,), input_size, hidden_size, seed)
    state = cell(x, as_state(kind, parts))
    assert all(part.dtype == dtype for part in state_parts(state))
    assert_states_close(state, reference.run_cell(kind, cell.state_dict(), x, parts))


@by_dtype
@by_kind
def test_a_cell_in_a_loop_is_its_module(kind, dtype):
    module = make_module(kind, 5, 9, dtype=dtype, rng=1)
    cell = make_cell(kind, 5, 9, dtype=dtype)
    cell.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in module.state_dict().items()}
    )
    x = np.random.default_rng(0).standard_normal((7, 3, 5)).astype(dtype)
    output, state_n = module(x)
    state = None
    for t in range(7):
        state = cell(x[t], state)
        assert_close(state_parts(state)[0], output[t])
    assert_states_close(state, [part[0] for part in state_parts(state_n)])


@by_kind
def test_one_row_is_a_batch_of_one(kind):
    cell = make_cell(kind, 5, 9, rng=1)
    x, parts = random_step(kind, np.float32, (1,), 5, 9)
    batch = cell(x, as_state(kind, parts))
    row = cell(x[0], as_state(kind, [part[0] for part in parts]))
    for part, of_batch in zip(state_parts(row), state_parts(batch), strict=True):
        assert_same_bits(part, of_batch[0])


@pytest.mark.parametrize("batch", [(), (0,), (3,)])
@by_kind
def test_hx_defaults_to_zeros(kind, batch):
    cell = make_cell(kind, 5, 9, rng=1)
    x, parts = random_step(kind, np.float32, batch, 5, 9)
    zeros = as_state(kind, [np.zeros_like(part) for part in parts])
    for part, from_zeros in zip(state_parts(cell(x)), state_parts(cell(x, zeros)), strict=True):
        assert part.shape == (*batch, 9)
        assert_same_bits(part, from_zeros)


@by_kind
def test_nan_stays_in_its_row(kind):
    cell = make_cell(kind, 5, 9, rng=1)
    x, _ = random_step(kind, np.float32, (4,), 5, 9)
    clean = cell(x)
    x[1, 2] = np.nan
    others = [0, 2, 3]
    for part, part_clean in zip(state_parts(cell(x)), state_parts(clean), strict=True):
        assert np.isnan(part[1]).all()
        assert_same_bits(part[others], part_clean[others])


@pytest.mark.parametrize("form", FORMS)
@by_dtype
@by_kind
def test_the_memory_layout_of_the_input_does_not_matter(kind, dtype, form):
    change = FORMS[form]
    cell = make_cell(kind, 5, 9, dtype=dtype, rng=1)
    x, parts = random_step(kind, dtype, (4,), 5, 9)
    expected = cell(x, as_state(kind, parts))
    changed = cell(change(x), as_state(kind, [change(part) for part in parts]))
    for part, e in zip(state_parts(changed), state_parts(expected), strict=True):
        assert_same_bits(part, e)


@by_kind
def test_the_other_float_width_is_converted(kind):
    cell = make_cell(kind, 5, 9, dtype=np.float32, rng=1)
    x, parts = random_step(kind, np.float64, (4,), 5, 9)
    expected = cell(x.astype(np.float32), as_state(kind, [p.astype(np.float32) for p in parts]))
    converted = cell(x, as_state(kind, parts))
    for part, e in zip(state_parts(converted), state_parts(expected), strict=True):
        assert_same_bits(part, e)


@by_kind
def test_a_call_leaves_its_arguments_alone(kind):
    cell = make_cell(kind, 5, 9, rng=1)
    x, parts = random_step(kind, np.float32, (4,), 5, 9)
    before = [array.copy() for array in (x, *parts)]
    for part in state_parts(cell(x, as_state(kind, parts))):
        part[...] = -1
    for array, copied in zip((x, *parts), before, strict=True):
        assert_same_bits(array, copied)


@by_kind
def test_copies_are_the_same_cell(kind):
    cell = make_cell(kind, 5, 9, dtype=np.float64, rng=1)
    x, _ = random_step(kind, np.float64, (4,), 5, 9)
    for copied in [copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))]:
        assert repr(copied) == repr(cell)
        for part, e in zip(state_parts(copied(x)), state_parts(cell(x)), strict=True):
            assert_same_bits(part, e)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("LSTM", {}, "LSTMCell(10, 20)"),
        ("GRU", {"bias": False}, "GRUCell(10, 20, bias=False)"),
        ("RNN_TANH", {}, "RNNCell(10, 20)"),
    ],
)
def test_repr_says_what_is_not_the_default(kind, options, expected):
    assert repr(make_cell(kind, 10, 20, **options)) == expected


@pytest.mark.parametrize("make", [make_module, make_cell])
@by_kind
def test_rows_are_aligned_when_they_reach_the_kernels(kind, make):
    """x86 would forgive it."""
    x, _ = random_step(kind, np.float32, (4,), 5, 9)
    with mock.patch.object(kernels, "forward", wraps=kernels.forward) as forward:
        make(kind, 5, 9)(FORMS["unaligned"](x))
    (_, rows, *_), _ = forward.call_args
    assert rows.flags.aligned
