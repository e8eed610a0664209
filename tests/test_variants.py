"""What torch lacks: peepholes, hard sigmoids, and a GRU that resets before its product."""

import copy
import importlib.util
import pickle

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    DTYPES,
    OWN_KINDS,
    Case,
    as_state,
    assert_close,
    assert_same_bits,
    assert_states_close,
    cases,
    make_cell,
    make_module,
    state_parts,
)

import packseq
from packseq import GRU, LSTM, GRUCell, LSTMCell
from packseq.networks.architecture import CELLS, RECURRENT_ACTIVATIONS

HARD = ("hard_sigmoid", "hard_sigmoid_0.2")

by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
by_activation = pytest.mark.parametrize("activation", RECURRENT_ACTIVATIONS)

# Each with every activation, but for what test_modules.py has: torch's own cells with sigmoid.
VARIANTS = [
    (kind, activation)
    for kind in ("LSTM", "GRU", *OWN_KINDS)
    for activation in RECURRENT_ACTIVATIONS
    if kind in OWN_KINDS or activation in HARD
]
by_variant = pytest.mark.parametrize(("kind", "activation"), VARIANTS)


def wide(module):
    """The module with weights that drive many gates into saturation, on either side."""
    weights = {name: 4 * array for name, array in module.state_dict().items()}
    module.load_state_dict(weights)
    return module


def expected_of(case, module, activation, dtype):
    """The padded output, zeros past each end, and the states."""
    outputs, states = reference.run(
        case.kind, module.state_dict(), case.sequences(dtype), case.state(dtype), activation
    )
    return outputs, states


@by_variant
@by_dtype
@given(data=st.data())
def test_equals_the_reference(kind, activation, dtype, data):
    case = data.draw(cases(kinds=[kind], min_batch=1))
    module = case.module(dtype, recurrent_activation=activation)
    output, state = module(
        case.padded(dtype), as_state(kind, case.state(dtype)), lengths=case.lengths
    )
    outputs, states = expected_of(case, module, activation, dtype)
    by_sequence = output if module.batch_first else output.swapaxes(0, 1)
    for rows, length, wanted in zip(by_sequence, case.lengths, outputs, strict=True):
        assert_close(rows[:length], wanted)
        assert not rows[length:].any()
    assert_states_close(state, states)


@by_variant
def test_gates_saturate_exactly(kind, activation):
    case = Case(kind, 3, 17, (6, 4), seed=5)
    module = wide(case.module(np.float64, recurrent_activation=activation))
    x = 30 * case.padded(np.float64)
    rows = [x[:length, b] for b, length in enumerate(case.lengths)]
    outputs, states = reference.run(kind, module.state_dict(), rows, None, activation)
    output, state = module(x, lengths=case.lengths)
    for b, (length, wanted) in enumerate(zip(case.lengths, outputs, strict=True)):
        assert_close(output[:length, b], wanted)
    assert_states_close(state, states)


@pytest.mark.usefixtures("on_kernels")
@by_variant
@by_dtype
def test_packed_alone_and_in_a_batch_are_the_same_bits(kind, activation, dtype):
    case = Case(kind, 5, 40, (9, 3, 0, 7, 7), {"num_layers": 2, "bidirectional": True}, seed=3)
    module = case.module(dtype, recurrent_activation=activation)
    batch = case.padded(dtype)
    output, state = module(batch, lengths=case.lengths)
    packed, _ = module(packseq.pack_padded_sequence(batch, case.lengths))
    assert_same_bits(packed.data, packseq.pack_padded_sequence(output, case.lengths).data)
    for b, sequence in enumerate(case.sequences(dtype)):
        if len(sequence):
            alone, last = module(sequence, num_threads=1)
            assert_same_bits(alone, np.ascontiguousarray(output[: len(sequence), b]))
            for part, whole in zip(state_parts(last), state_parts(state), strict=True):
                assert_same_bits(part, np.ascontiguousarray(whole[:, b]))


@by_activation
@pytest.mark.parametrize("kind", ["LSTM", "LSTM_PEEPHOLE", "GRU"])
@by_dtype
def test_a_cell_is_one_step_of_the_module(kind, activation, dtype):
    cell = make_cell(kind, 4, 9, recurrent_activation=activation, dtype=dtype, rng=1)
    module = make_module(kind, 4, 9, recurrent_activation=activation, dtype=dtype)
    module.load_state_dict({f"{n}_l0": array for n, array in cell.state_dict().items()})
    case = Case(kind, 4, 9, (1, 1, 1), seed=2)
    x, hx = case.padded(dtype), case.state(dtype)
    _, expected = module(x, as_state(kind, hx))
    actual = cell(x[0], as_state(kind, [part[0] for part in hx]))
    for part, whole in zip(state_parts(actual), state_parts(expected), strict=True):
        assert_same_bits(part, whole[0])


def test_peepholes_have_names_and_shapes():
    module = LSTM(3, 5, bidirectional=True, proj_size=2, peephole=True)
    shapes = {name: array.shape for name, array in module.state_dict().items()}
    peepholes = {name for name in shapes if name.startswith("weight_c")}
    assert peepholes == {
        f"weight_c{gate}_l0{direction}" for gate in "ifo" for direction in ("", "_reverse")
    }
    assert {shapes[name] for name in peepholes} == {(5,)}
    assert LSTMCell(3, 5, peephole=True).weight_cf.shape == (5,)


def test_peepholes_of_zeros_change_nothing():
    plain, peephole = LSTM(3, 20, rng=0), LSTM(3, 20, peephole=True)
    zeros = {f"weight_c{gate}_l0": np.zeros(20) for gate in "ifo"}
    peephole.load_state_dict(dict(plain.state_dict()) | zeros)
    x = np.random.default_rng(0).standard_normal((7, 2, 3), np.float32)
    assert_close(peephole(x)[0], plain(x)[0])


def test_a_nan_stays_in_its_own_sequence():
    for activation in RECURRENT_ACTIVATIONS:
        module = LSTM(2, 9, peephole=True, recurrent_activation=activation, rng=0)
        x = np.ones((4, 2, 2), np.float32)
        expected, _ = module(x)
        x[1, 0, 0] = np.nan
        output, _ = module(x)
        assert np.isnan(output[1:, 0]).all()
        assert_same_bits(output[:, 1], expected[:, 1])


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (LSTM(3, 5, peephole=True), "LSTM(3, 5, peephole=True)"),
        (
            LSTM(3, 5, 2, recurrent_activation="hard_sigmoid"),
            "LSTM(3, 5, num_layers=2, recurrent_activation='hard_sigmoid')",
        ),
        (
            GRU(3, 5, reset_after=False, recurrent_activation="hard_sigmoid_0.2"),
            "GRU(3, 5, reset_after=False, recurrent_activation='hard_sigmoid_0.2')",
        ),
        (
            LSTMCell(3, 5, peephole=True, recurrent_activation="hard_sigmoid"),
            "LSTMCell(3, 5, peephole=True, recurrent_activation='hard_sigmoid')",
        ),
        (
            GRUCell(3, 5, recurrent_activation="hard_sigmoid"),
            "GRUCell(3, 5, recurrent_activation='hard_sigmoid')",
        ),
    ],
    ids=repr,
)
def test_repr_says_it_and_copies_keep_it(module, expected):
    assert repr(module) == expected
    x = np.ones((2, 3), np.float32)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(twin) == expected
        for part, whole in zip(state_parts(twin(x)), state_parts(module(x)), strict=True):
            for a, b in zip(state_parts(part), state_parts(whole), strict=True):
                assert_same_bits(a, b)


def test_a_state_dict_tells_of_peepholes_and_is_told_of_activations():
    module = LSTM(3, 5, peephole=True, recurrent_activation="hard_sigmoid", rng=0)
    twin = LSTM.from_state_dict(module.state_dict(), recurrent_activation="hard_sigmoid")
    assert repr(twin) == repr(module)
    broken = dict(module.state_dict())
    del broken["weight_cf_l0"]
    with pytest.raises(ValueError, match="missing weight_cf_l0"):
        LSTM.from_state_dict(broken)


@pytest.mark.parametrize("value", ["tanh", "Sigmoid", "", None, 3])
@pytest.mark.parametrize("make", [LSTM, GRU, LSTMCell, GRUCell])
def test_another_activation_is_refused(make, value):
    with pytest.raises(ValueError, match="recurrent_activation must be 'sigmoid', 'hard_sigmoid'"):
        make(3, 5, recurrent_activation=value)


def test_peephole_is_a_flag():
    with pytest.raises(TypeError, match="peephole must be True or False, got 1"):
        LSTM(3, 5, peephole=1)


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs torch")
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (LSTM(3, 5, peephole=True), r"LSTM\(peephole=True\)"),
        (LSTM(3, 5, recurrent_activation="hard_sigmoid"), "recurrent_activation='hard_sigmoid'"),
        (GRU(3, 5, recurrent_activation="hard_sigmoid_0.2"), "activation='hard_sigmoid_0.2'"),
    ],
    ids=repr,
)
def test_a_call_that_would_run_in_torch_names_what_torch_lacks(module, name):
    import torch

    module.backend = "torch"
    x = np.ones((4, 3), np.float32)
    for rows in (x, torch.from_numpy(x)):
        with pytest.raises(ValueError, match=f"{name}.* runs on backend 'cpu' alone"):
            module(rows)


def test_every_cell_is_described_once():
    """A cell is found by its options, and its name is the kernels'."""
    from packseq._core.recurrent import CELLS as KERNELS

    assert {cell.name for cell in CELLS} == set(KERNELS)
    assert len({(cell.kind, *cell.options.items()) for cell in CELLS}) == len(CELLS)
