"""What bad input gets: an error that names the argument, the value and what was expected."""

import re

import numpy as np
import pytest
from strategies import KINDS, Case, as_state, assert_close, make_cell, make_module

from packseq import GRU, LSTM, RNN, PackedSequence, RNNCell, pack_padded_sequence
from packseq.weights import Backward

pytestmark = pytest.mark.usefixtures("backend")
by_kind = pytest.mark.parametrize("kind", KINDS)
# The two halves of an LSTM's hx go by torch's names or by their place.
H_0, C_0 = r"hx|h_0", r"hx\[1\]|c_0|cx"


def last_state(kind):
    """The name of the last part of this kind's state."""
    return C_0 if kind == "LSTM" else H_0


by_make = pytest.mark.parametrize("make", [make_module, make_cell], ids=["module", "cell"])


def raises(error, *words):
    """`error`, with a message that holds these regular expressions in any order."""
    return pytest.raises(error, match="(?s)" + "".join(f"(?=.*(?:{word}))" for word in words))


# ---- sizes and options --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, -(2**40)])
@by_make
@by_kind
def test_sizes_below_one(kind, make, size):
    with raises(ValueError, "input_size", str(size)):
        make(kind, size, 4)
    with raises(ValueError, "hidden_size", str(size)):
        make(kind, 3, size)


@pytest.mark.parametrize("layers", [0, -2])
@by_kind
def test_layers_below_one(kind, layers):
    with raises(ValueError, "num_layers", str(layers)):
        make_module(kind, 3, 4, num_layers=layers)


@pytest.mark.parametrize("size", [2.0, 2.5, "4", None, np.float64(4), [4]])
@by_make
@by_kind
def test_sizes_that_are_no_integers(kind, make, size):
    with raises(TypeError, "input_size", re.escape(str(size))):
        make(kind, size, 4)
    with raises(TypeError, "hidden_size"):
        make(kind, 3, size)


def test_sizes_may_be_numpy_integers():
    assert repr(LSTM(np.int64(3), np.uint8(200))) == "LSTM(3, 200)"


# Nothing of the kind may be allocated first: 2**31 float32 would take 8 GB.
@pytest.mark.parametrize("size", [2**31, 2**40, 2**62, 2**64])
@by_make
@by_kind
def test_more_columns_than_the_kernels_count(kind, make, size):
    with raises(ValueError, "hidden_size|weight_hh", str(size)):
        make(kind, 1, size)


@pytest.mark.parametrize("size", [2**62, 2**64])
@by_make
@by_kind
def test_weights_beyond_memory(kind, make, size):
    with raises(ValueError, f"input_size={size}", "memory"):
        make(kind, size, 1)


def test_more_gates_than_the_kernels_count():
    """Four gates of 2**29 units are 2**31 rows."""
    with raises(ValueError, "hidden_size|weight", str(2**29)):
        LSTM(1, 2**29)


@pytest.mark.parametrize("proj_size", [-1, 4, 5, 2**40])
def test_proj_size_out_of_range(proj_size):
    with raises(ValueError, "proj_size", str(proj_size), "0|4"):
        LSTM(3, 4, proj_size=proj_size)


@pytest.mark.parametrize("proj_size", [1.0, "1", None])
def test_proj_size_that_is_no_integer(proj_size):
    with raises(TypeError, "proj_size"):
        LSTM(3, 4, proj_size=proj_size)


@pytest.mark.parametrize("module", [GRU, RNN])
def test_proj_size_is_for_lstm_alone(module):
    with raises((TypeError, ValueError), "proj_size"):
        module(3, 4, proj_size=2)


@pytest.mark.parametrize("module", [RNN, RNNCell])
@pytest.mark.parametrize("nonlinearity", ["sigmoid", "TANH", "", None, 1, ["tanh"]])
def test_unknown_nonlinearity(module, nonlinearity):
    with raises((TypeError, ValueError), "nonlinearity", "tanh", "relu"):
        module(3, 4, nonlinearity=nonlinearity)


@pytest.mark.parametrize("dropout", [-0.1, 1.1, np.nan, np.inf])
@by_kind
def test_dropout_that_is_no_probability(kind, dropout):
    with raises(ValueError, "dropout", str(dropout)):
        make_module(kind, 3, 4, num_layers=2, dropout=dropout)


@pytest.mark.parametrize("dropout", ["0.5", None, 0.5j])
@by_kind
def test_dropout_that_is_no_number(kind, dropout):
    with raises((TypeError, ValueError), "dropout"):
        make_module(kind, 3, 4, num_layers=2, dropout=dropout)


@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.complex64, object, "S4"])
@by_make
@by_kind
def test_dtypes_that_modules_do_not_compute_in(kind, make, dtype):
    with raises((TypeError, ValueError), "dtype", "float32", "float64"):
        make(kind, 3, 4, dtype=dtype)


@pytest.mark.parametrize("rng", ["seed", 1.5, -1])
@by_make
@by_kind
def test_rng_that_is_no_seed(kind, make, rng):
    with raises((TypeError, ValueError), "rng"):
        make(kind, 3, 4, rng=rng)


# ---- the input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 2, 3)])
@by_kind
def test_input_of_the_wrong_rank(kind, shape):
    with raises(ValueError, "input", "2-D", "3-D", re.escape(str(shape))):
        make_module(kind, 3, 4)(np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(5, 4), (5, 2, 4), (5, 0, 4), (0, 2, 4), (5, 3, 2)])
@by_kind
def test_input_of_the_wrong_width(kind, shape):
    with raises(ValueError, "input", str(shape[-1]), "3"):
        make_module(kind, 3, 4)(np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(4,), (4, 4), (4, 3, 1), (4, 3, 2)])
@by_kind
def test_packed_rows_of_the_wrong_shape(kind, shape):
    packed = PackedSequence(np.zeros(shape, np.float32), np.array([3, 1]))
    with raises(ValueError, "input", "3"):
        make_module(kind, 3, 4)(packed)


NOT_FLOATS = {
    "int": np.zeros((5, 2, 3), np.int64),
    "bool": np.zeros((5, 2, 3), bool),
    "complex": np.zeros((5, 2, 3), np.complex64),
    "object": np.full((5, 2, 3), None),
    "str": np.full((5, 2, 3), "a"),
    "datetime": np.zeros((5, 2, 3), "M8[s]"),
    "structured": np.zeros((5, 2, 3), [("x", np.float32)]),
    "longdouble": np.zeros((5, 2, 3), np.longdouble),
    "masked": np.ma.masked_array(np.zeros((5, 2, 3)), mask=False),
}
EXPECTED = "float32|masked"  # what is said to be wanted, or what is not


@pytest.mark.parametrize("dtype", ["int", "bool", "complex", "str", "datetime", "structured"])
@by_kind
def test_packed_rows_that_are_no_floats(kind, dtype):
    packed = pack_padded_sequence(NOT_FLOATS[dtype], [5, 1])
    with raises(TypeError, "input", "float32"):
        make_module(kind, 3, 4)(packed)


@pytest.mark.parametrize("x", NOT_FLOATS.values(), ids=NOT_FLOATS)
@by_kind
def test_input_that_is_no_float_array(kind, x):
    module = make_module(kind, 3, 4)
    for wrong in (x, x[:, 0]):
        with raises(TypeError, "input", EXPECTED):
            module(wrong)


@pytest.mark.parametrize("x", NOT_FLOATS.values(), ids=NOT_FLOATS)
@by_kind
def test_hx_that_is_no_float_array(kind, x):
    parts = [np.zeros((1, 5, 3), np.float32)] * (2 if kind == "LSTM" else 1)
    parts[-1] = x[np.newaxis, :, 0]
    with raises(TypeError, last_state(kind), EXPECTED):
        make_module(kind, 4, 3)(np.zeros((6, 5, 4), np.float32), as_state(kind, parts))


@pytest.mark.parametrize("x", [None, "text", {}, 3])
@by_kind
def test_input_that_is_no_array_at_all(kind, x):
    with raises((TypeError, ValueError), "input"):
        make_module(kind, 3, 4)(x)


@pytest.mark.parametrize("second", [(5, 3), (2, 3)], ids=["equal", "shorter"])
@pytest.mark.parametrize("hold", [list, tuple, lambda x: [x[0]], lambda x: [x, x]])
@by_kind
def test_a_list_of_arrays_is_no_batch(kind, hold, second):
    """Whose first axis would be the steps: what is meant are sequences."""
    sequences = hold([np.zeros((5, 3), np.float32), np.zeros(second, np.float32)])
    for module in (make_module(kind, 3, 4), Backward(make_module(kind, 3, 4))):
        with raises(
            TypeError, r"input\[0\](\[0\])? is a (ndarray|Tensor)", "packseq.pack_sequence"
        ):
            module(sequences)


@by_kind
def test_lists_of_numbers_are_an_array(backend, kind):
    module, x = make_module(kind, 3, 4, rng=0), np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    listed, expected = module(x.tolist())[0], module(x)[0]
    if backend == "cpu":
        np.testing.assert_array_equal(listed, expected)
    else:  # torch may multiply a tensor of its own otherwise than one of NumPy's memory
        assert_close(listed, expected)


@by_kind
def test_a_list_of_rows_is_a_cells_batch(kind):
    cell, x = make_cell(kind, 3, 4, rng=0), np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(cell([*x]), cell(x))


# ---- the state ----------------------------------------------------------------------------------

STATE_SHAPES = {  # h and c of two bidirectional layers, a batch of 3, 5 units projected to 2
    "LSTM": [(4, 3, 2), (4, 3, 5)],
    "GRU": [(4, 3, 5)],
    "RNN_TANH": [(4, 3, 5)],
    "RNN_RELU": [(4, 3, 5)],
}
WRONG_SHAPES = [(2, 3, 5), (4, 1, 5), (3, 4, 5), (4, 3, 1), (4, 5), (1, 4, 3, 5), (0, 3, 5), ()]


def state_inputs(kind):
    """Of the three forms of input, those that come with a batch of 3."""
    case = Case(kind, 4, 5, (3, 1, 2), {"num_layers": 2, "bidirectional": True})
    module = case.module(np.float32, **({"proj_size": 2} if kind == "LSTM" else {}))
    padded = case.padded(np.float32)
    yield lambda hx: module(padded, hx, lengths=case.lengths)
    yield lambda hx: module(padded, hx)
    yield lambda hx: module(pack_padded_sequence(padded, case.lengths), hx)


@pytest.mark.parametrize("shape", WRONG_SHAPES)
@by_kind
def test_hx_of_the_wrong_shape(kind, shape):
    shapes = STATE_SHAPES[kind]
    for run in state_inputs(kind):
        for wrong, name in enumerate([H_0, C_0][: len(shapes)]):
            parts = [np.zeros(s, np.float32) for s in shapes]
            parts[wrong] = np.zeros(shape, np.float32)
            with raises(ValueError, name, r"\(4, 3, [25]\)"):
                run(as_state(kind, parts))


@pytest.mark.parametrize("shape", [(2, 4, 5), (5,), (1, 5), (2, 4), (2, 1, 5)])
@by_kind
def test_hx_of_the_wrong_shape_for_a_single_sequence(kind, shape):
    module = make_module(kind, 4, 5, num_layers=2)
    parts = [np.zeros((2, 5), np.float32)] * (2 if kind == "LSTM" else 1)
    parts[-1] = np.zeros(shape, np.float32)
    with raises(ValueError, last_state(kind), r"\(2, 5\)"):
        module(np.zeros((3, 4), np.float32), as_state(kind, parts))


H = np.zeros((1, 2, 4), np.float32)


@pytest.mark.parametrize("hx", [H, (H,), (H, H, H), (), np.stack([H, H]), 0, "hx"])
def test_an_lstm_takes_a_pair(hx):
    with raises((TypeError, ValueError), H_0):
        LSTM(3, 4)(np.zeros((5, 2, 3), np.float32), hx)


@pytest.mark.parametrize("hx", [(H, H), (H,), (), 0, "hx"])
@pytest.mark.parametrize("module", [GRU(3, 4), RNN(3, 4)])
def test_gru_and_rnn_take_one_array(module, hx):
    with raises((TypeError, ValueError), H_0):
        module(np.zeros((5, 2, 3), np.float32), hx)


@pytest.mark.parametrize("parts", [(None, H), (H, None), (None, None), (H, "c")])
def test_no_half_of_a_pair_is_optional(parts):
    with raises((TypeError, ValueError), "hx|h_0|c_0"):
        LSTM(3, 4)(np.zeros((5, 2, 3), np.float32), parts)


# ---- lengths ------------------------------------------------------------------------------------

BAD_LENGTHS = [
    ([3, -1], ValueError, "1", "-1"),
    ([3, 6], ValueError, "1", "6", "5"),
    ([2**62, 1], ValueError, "0", str(2**62)),
    (np.array([1, 2**63], np.uint64), ValueError, "1", str(2**63)),
    (np.array([1, 2**64 - 1], np.uint64), ValueError, "1", str(2**64 - 1)),
    ([2**70, 1], (TypeError, ValueError)),
    ([3], ValueError, "1", "2"),
    ([3, 2, 1], ValueError, "3", "2"),
    ([], ValueError),
    ([[3, 2]], ValueError),
    (3, (TypeError, ValueError)),
    ([3.0, 2.0], TypeError, "float"),
    ([np.nan, 2.0], TypeError, "float"),
    ([True, False], TypeError, "bool"),
    ([None, 2], TypeError),
    (["3", "2"], TypeError),
    (np.ma.masked_array([3, 2], mask=[True, False]), TypeError),
]


@pytest.mark.parametrize(("lengths", "error", "words"), [(v, e, w) for v, e, *w in BAD_LENGTHS])
@pytest.mark.parametrize("batch_first", [False, True])
@by_kind
def test_lengths_that_cannot_be(kind, batch_first, lengths, error, words):
    shape = (2, 5, 3) if batch_first else (5, 2, 3)
    with raises(error, "lengths", *words):
        make_module(kind, 3, 4, batch_first=batch_first)(
            np.zeros(shape, np.float32), lengths=lengths
        )


@by_kind
def test_lengths_of_what_knows_its_own(kind):
    module, padded = make_module(kind, 3, 4), np.zeros((5, 2, 3), np.float32)
    with raises(ValueError, "lengths", "PackedSequence"):
        module(pack_padded_sequence(padded, [5, 2]), lengths=[5, 2])
    with raises(ValueError, "lengths", "2-D|one sequence|3-D"):
        module(padded[:, 0], lengths=[5])


# ---- cells --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1, 2, 3), (2, 4), (4,), (3, 2)])
@by_kind
def test_cell_input_of_the_wrong_shape(kind, shape):
    with raises(ValueError, "input", "3"):
        make_cell(kind, 3, 4)(np.zeros(shape, np.float32))


@pytest.mark.parametrize("batch", [(2,), ()])
@by_kind
def test_cell_hx_of_the_wrong_shape(kind, batch):
    cell, x = make_cell(kind, 3, 4), np.zeros((*batch, 3), np.float32)
    expected = r"\(2, 4\)" if batch else r"\(4,\)"
    for shape in [(1, 4), (2, 5), (5,), (1, 2, 4), (3, 4), ()]:
        parts = [np.zeros((*batch, 4), np.float32)] * (2 if kind == "LSTM" else 1)
        parts[-1] = np.zeros(shape, np.float32)
        with raises(ValueError, last_state(kind), expected):
            cell(x, as_state(kind, parts))


@pytest.mark.parametrize("x", NOT_FLOATS.values(), ids=NOT_FLOATS)
@by_kind
def test_cell_input_that_is_no_float_array(kind, x):
    with raises(TypeError, "input", EXPECTED):
        make_cell(kind, 3, 4)(x[0])


def test_cell_hx_of_the_wrong_form():
    x, h = np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)
    for hx in [h, (h,), (h, h, h), (h, None)]:
        with raises((TypeError, ValueError), "hx|h_0|c_0"):
            make_cell("LSTM", 3, 4)(x, hx)
    for kind in ("GRU", "RNN_TANH"):
        with raises((TypeError, ValueError), H_0):
            make_cell(kind, 3, 4)(x, (h, h))


# ---- a module, once made ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["input_size", "hidden_size", "num_layers", "bidirectional", "proj_size", "bias", "dtype"],
)
def test_what_the_weights_decide_cannot_be_changed(name):
    """The kernels trust the sizes: a module that lied about one would write past its arrays."""
    module = LSTM(3, 4)
    before = getattr(module, name)
    with raises(AttributeError, name):
        setattr(module, name, 2)
    assert getattr(module, name) == before
    with raises(AttributeError, "weight_ih_l0"):
        module.weight_ih_l0 = np.zeros((16, 3), np.float32)


@by_kind
def test_a_series_of_numbers_is_told_to_take_an_axis(kind):
    module, series = make_module(kind, 1, 4), np.ones(3, np.float32)
    packed = PackedSequence(series, [2, 1])
    for input in (series, packed):
        with raises(ValueError, r"where a step is one number, pass x\[:, None\] for each sequence"):
            module(input)
    wide = make_module(kind, 2, 4)
    for input in (series, packed):
        with pytest.raises(ValueError, match="got") as caught:
            wide(input)
        assert "None" not in str(caught.value)
