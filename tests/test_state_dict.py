"""How weights get into a module and out of it."""

import collections
import contextlib
import copy
import itertools
import os
import sys
import types

import numpy as np
import pytest
from strategies import DTYPES, Case, assert_same_bits, make_cell, state_parts

import packseq
from packseq import GRU, LSTM, RNN
from packseq.networks import parameters

by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)

# Every option that decides which parameters there are, and of which shape.
CASES = [
    Case(kind, 3, 5, (4, 0, 6), {"num_layers": layers, "bidirectional": bidirectional} | options)
    for kind in ("LSTM", "GRU", "RNN_TANH", "RNN_RELU")
    for layers in (1, 3)
    for bidirectional in (False, True)
    for options in [
        {"bias": True},
        {"bias": False},
        *([{"bias": True, "proj_size": 2}, {"bias": False, "proj_size": 1}] * (kind == "LSTM")),
    ]
]
by_case = pytest.mark.parametrize(
    "case",
    CASES,
    ids=lambda case: "-".join([case.kind, *(f"{k}={v}" for k, v in case.options.items())]),
)


def lstm(**options):
    return LSTM(3, 5, num_layers=2, **options)


def weights_of(module):
    """A state dict that may be written to."""
    return {name: value.copy() for name, value in module.state_dict().items()}


# ---- what a state dict is -----------------------------------------------------------------------


def test_an_lstm_has_torch_names_and_shapes_in_torch_order():
    module = LSTM(3, 5, num_layers=2, bidirectional=True, proj_size=2)
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    cell = {"bias_ih": (20,), "bias_hh": (20,), "weight_hr": (2, 5)}
    inputs = {"_l0": 3, "_l0_reverse": 3, "_l1": 4, "_l1_reverse": 4}
    expected = [
        (name + suffix, shape)
        for suffix, size in inputs.items()
        for name, shape in ({"weight_ih": (20, size), "weight_hh": (20, 2)} | cell).items()
    ]
    assert list(shapes.items()) == expected


@pytest.mark.parametrize(
    ("module", "gates"), [(GRU(3, 5, bias=False), 3), (RNN(3, 5, bias=False), 1)]
)
def test_a_gru_stacks_three_gates_and_an_rnn_has_none(module, gates):
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    assert shapes == {"weight_ih_l0": (gates * 5, 3), "weight_hh_l0": (gates * 5, 5)}


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN_TANH", 1)])
def test_a_cell_has_torch_names_and_shapes_in_torch_order(kind, gates):
    shapes = {n: value.shape for n, value in make_cell(kind, 3, 5).state_dict().items()}
    assert list(shapes.items()) == [
        ("weight_ih", (gates * 5, 3)),
        ("weight_hh", (gates * 5, 5)),
        ("bias_ih", (gates * 5,)),
        ("bias_hh", (gates * 5,)),
    ]


@pytest.mark.parametrize("module", [lstm(), make_cell("GRU", 3, 5)], ids=["module", "cell"])
def test_parameters_are_attributes_that_nobody_can_write_to(module):
    for name, value in module.state_dict().items():
        assert_same_bits(getattr(module, name), value)
        for array in (getattr(module, name), value):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0


def test_a_state_dict_may_be_changed_without_changing_the_module():
    module = lstm()
    names = list(module.state_dict())
    module.state_dict().clear()
    assert list(module.state_dict()) == names


# ---- loading ------------------------------------------------------------------------------------


@by_dtype
@by_case
def test_from_state_dict_needs_nothing_but_the_weights(case, dtype):
    module = case.module(dtype)
    how = {"dtype": dtype}
    if case.kind == "RNN_RELU":
        how["nonlinearity"] = "relu"
    twin = type(module).from_state_dict(module.state_dict(), **how)
    for name in ("input_size", "hidden_size", "num_layers", "bias", "bidirectional", "dtype"):
        assert getattr(twin, name) == getattr(module, name)
    assert repr(twin) == repr(module)
    batch = case.padded(dtype)
    assert_same_bits(twin(batch, lengths=case.lengths)[0], module(batch, lengths=case.lengths)[0])


@by_case
def test_loading_into_a_module_makes_it_a_twin(case):
    module, twin = case.module(np.float32), case.module(np.float32, rng=99)
    twin.load_state_dict(module.state_dict())
    batch = case.padded(np.float32)
    assert_same_bits(twin(batch, lengths=case.lengths)[0], module(batch, lengths=case.lengths)[0])


def test_loading_again_replaces_what_was_loaded_before():
    """The outputs too: nothing derived from the old weights is left."""
    first, second = lstm(rng=1), lstm(rng=2)
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    expected = second(x)[0]
    assert (first(x)[0] != expected).any()
    first.load_state_dict(second.state_dict())
    assert_same_bits(first(x)[0], expected)


@pytest.mark.parametrize("prefix", ["encoder.rnn.", "encoder.rnn"])
def test_only_the_entries_under_the_prefix_are_looked_at(prefix):
    module = lstm(rng=1)
    checkpoint = {"encoder.rnn." + n: value for n, value in module.state_dict().items()}
    checkpoint |= {"encoder.embedding.weight": None, "weight_ih_l0": "not even an array"}
    loaded = lstm()
    loaded.load_state_dict(checkpoint, prefix)
    inferred = LSTM.from_state_dict(checkpoint, prefix)
    for name, value in module.state_dict().items():
        assert_same_bits(getattr(loaded, name), value)
        assert_same_bits(getattr(inferred, name), value)


@pytest.mark.parametrize(
    "mapping",
    [collections.OrderedDict, types.MappingProxyType, lambda d: dict(reversed(d.items()))],
    ids=["OrderedDict", "read-only", "reversed"],
)
def test_any_mapping_in_any_order_will_do(mapping):
    module = lstm(rng=1)
    twin = LSTM.from_state_dict(mapping(module.state_dict()))
    assert list(twin.state_dict()) == list(module.state_dict())
    for name, value in module.state_dict().items():
        assert_same_bits(getattr(twin, name), value)


def test_what_was_loaded_is_a_copy():
    weights = weights_of(lstm(rng=1))
    loaded, inferred = lstm(), LSTM.from_state_dict(weights)
    loaded.load_state_dict(weights)
    before = weights_of(loaded)
    for value in weights.values():
        value[...] = 0
    for name, value in before.items():
        assert_same_bits(getattr(loaded, name), value)
        assert_same_bits(getattr(inferred, name), value)


@pytest.mark.parametrize("stored", [np.float16, np.float32, np.float64, ">f4", ">f8"])
@by_dtype
def test_values_are_converted_to_the_dtype_of_the_module(dtype, stored):
    weights = {name: value.astype(stored) for name, value in lstm(rng=1).state_dict().items()}
    loaded, inferred = lstm(dtype=dtype), LSTM.from_state_dict(weights, dtype=dtype)
    loaded.load_state_dict(weights)
    for name, value in weights.items():
        assert_same_bits(getattr(loaded, name), value.astype(dtype))
        assert_same_bits(getattr(inferred, name), value.astype(dtype))


@by_dtype
def test_from_state_dict_keeps_the_dtype_of_the_weights_unless_told(dtype):
    assert LSTM.from_state_dict(lstm(dtype=dtype).state_dict()).dtype == dtype


def test_the_memory_layout_of_the_values_does_not_matter():
    module = lstm(rng=1)
    strided = {n: np.repeat(v, 2, 0)[::2] for n, v in module.state_dict().items()}
    flipped = {n: np.flip(np.flip(v).copy()) for n, v in module.state_dict().items()}
    for weights in (strided, flipped):
        for name, value in LSTM.from_state_dict(weights).state_dict().items():
            assert_same_bits(value, getattr(module, name))
            with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
                value.setflags(write=True)


def test_not_strict_leaves_what_is_missing_and_ignores_what_is_unexpected():
    module, other = lstm(rng=1), lstm(rng=2)
    kept = module.weight_hh_l1
    weights = weights_of(other)
    del weights["weight_hh_l1"]
    module.load_state_dict(weights | {"weight_ih_l7": np.zeros(3)}, strict=False)
    assert_same_bits(module.weight_hh_l1, kept)
    for name, value in weights.items():
        assert_same_bits(getattr(module, name), value)


# ---- what does not fit --------------------------------------------------------------------------


def test_all_that_is_missing_and_all_that_is_unexpected_is_named():
    weights = weights_of(lstm())
    del weights["weight_hh_l0"], weights["bias_ih_l1"]
    weights |= {"weight_ih_l2": np.zeros((20, 5)), "head.weight": np.zeros((2, 5))}
    with pytest.raises(ValueError, match="missing") as error:
        lstm().load_state_dict(weights)
    for name in ("weight_hh_l0", "bias_ih_l1", "weight_ih_l2", "head.weight"):
        assert name in str(error.value)
    assert "unexpected" in str(error.value).lower()
    assert "bias_hh_l1" not in str(error.value)


def test_names_in_messages_carry_the_prefix():
    weights = {"rnn." + name: value for name, value in lstm().state_dict().items()}
    del weights["rnn.weight_hh_l1"]
    with pytest.raises(ValueError, match=r"rnn\.weight_hh_l1"):
        lstm().load_state_dict(weights, prefix="rnn.")


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("weight_hh_l0", (20, 4), r"\(20, 5\)"),
        ("weight_ih_l1", (5, 20), r"\(20, 5\)"),
        ("bias_ih_l0", (20, 1), r"\(20,\)"),
        ("bias_hh_l1", (), r"\(20,\)"),
    ],
)
def test_a_shape_that_does_not_fit_is_named_strict_or_not(name, shape, expected, strict):
    weights = weights_of(lstm()) | {name: np.zeros(shape, np.float32)}
    with pytest.raises(ValueError, match=rf"(?s){name}.*{expected}"):
        lstm().load_state_dict(weights, strict=strict)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((20, 3), np.int64),
        np.zeros((20, 3), np.complex64),
        np.zeros((20, 3), bool),
        np.full((20, 3), None),
        np.ma.masked_array(np.zeros((20, 3)), mask=True),
        None,
        "weights.bin",
    ],
    ids=["int", "complex", "bool", "object", "masked", "None", "str"],
)
@pytest.mark.parametrize("load", [lstm().load_state_dict, LSTM.from_state_dict])
def test_values_that_are_no_floats_are_named(load, value):
    with pytest.raises(TypeError, match="weight_ih_l0"):
        load(weights_of(lstm()) | {"weight_ih_l0": value})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda w: {n: v for n, v in w.items() if n != "bias_hh_l1"},
        lambda w: w | {"bias_hh_l0": np.zeros((20, 4), np.float32)},
        lambda w: w | {"bias_hh_l0": np.zeros((20, 3), np.int32)},
        lambda w: w | {"surprise": np.zeros(3)},
    ],
    ids=["missing", "mis-shaped", "integers", "unexpected"],
)
def test_a_load_that_fails_changes_nothing(wrong):
    module = lstm(rng=1)
    before = weights_of(module)
    with pytest.raises((TypeError, ValueError)):
        module.load_state_dict(wrong(weights_of(lstm(rng=2))))
    for name, value in before.items():
        assert_same_bits(getattr(module, name), value)


def test_numbers_that_float32_cannot_hold_are_no_error():
    weights = {name: np.full(v.shape, 1e-60) for name, v in lstm().state_dict().items()}
    weights["bias_ih_l0"][:] = 1e39
    weights["bias_hh_l0"][:] = -1e39
    with np.errstate(all="raise"):
        module = LSTM.from_state_dict(weights, dtype=np.float32)
        output, _ = module(np.zeros((2, 3), np.float32))
    assert np.isinf(module.bias_ih_l0).all()
    assert np.isnan(output).all()


@pytest.mark.parametrize("load", [lstm().load_state_dict, LSTM.from_state_dict])
@pytest.mark.parametrize("mapping", [None, "checkpoint.pt", [np.zeros((20, 3))]])
def test_a_state_dict_is_a_mapping(load, mapping):
    with pytest.raises(TypeError, match="mapping"):
        load(mapping)


def test_a_prefix_that_nothing_has_is_named():
    for load in (lstm().load_state_dict, LSTM.from_state_dict):
        with pytest.raises(ValueError, match="encoder"):
            load(lstm().state_dict(), prefix="encoder.")
    weights = {f"module.{name}": value for name, value in lstm().state_dict().items()}
    with pytest.raises(
        ValueError, match=r"no LSTM under prefix ''; there are such under 'module\.'"
    ):
        LSTM.from_state_dict(weights)


@pytest.mark.parametrize(("of", "given_to"), [*itertools.permutations([LSTM, GRU, RNN], 2)])
@pytest.mark.parametrize("hidden_size", [1, 12])
def test_a_state_dict_of_another_kind_is_recognised(of, given_to, hidden_size):
    weights = of(3, hidden_size, num_layers=2).state_dict()
    with pytest.raises(ValueError, match=rf"\b{of.__name__}\b"):
        given_to.from_state_dict(weights)


@pytest.mark.parametrize("given_to", [GRU, RNN])
def test_a_projected_lstm_is_recognised_too(given_to):
    with pytest.raises(ValueError, match=r"LSTM|weight_hr_l0"):
        given_to.from_state_dict(LSTM(3, 6, proj_size=2).state_dict())


def without(*names):
    return lambda w: {name: value for name, value in w.items() if name not in names}


def changed(name, shape):
    return lambda w: w | {name: np.zeros(shape, np.float32)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without("weight_ih_l0"), "weight_ih_l0"),
        (without("weight_hh_l0"), "weight_hh_l0"),
        (without("weight_hh_l1_reverse"), "weight_hh_l1_reverse"),
        (without("bias_ih_l0"), "bias_ih_l0"),
        (without("bias_hh_l1"), "bias_hh_l1"),
        (without("weight_hr_l1"), "weight_hr_l1"),
        (changed("weight_ih_l1", (20, 3)), "weight_ih_l1"),
        (changed("weight_hh_l0", (20,)), "weight_hh_l0"),
        (changed("weight_hh_l0", (21, 2)), "weight_hh_l0"),
        (changed("weight_hh_l1", (20, 3)), "weight_hh_l1"),
        (changed("weight_ih_l0", ()), "weight_ih_l0"),
        (changed("weight_ih_l0", (0, 3)), "weight_ih_l0"),
        (changed("weight_ih_l0", (20, 0)), "weight_ih_l0|input_size"),
        (changed("weight_hr_l0", (5, 2)), "weight_h[hr]_l0"),
        (changed("bias_hh_l0_reverse", (2, 10)), "bias_hh_l0_reverse"),
        (changed("weight_ih_l3", (20, 4)), "l2|l3"),
        (changed("weight_ih_lx", (20, 4)), "weight_ih_lx"),
        (changed("weight_ih_l0_sideways", (20, 4)), "weight_ih_l0_sideways"),
        (changed("attention", (20, 4)), "attention"),
        (dict.clear, "weight_ih_l0"),
    ],
)
def test_from_state_dict_says_which_entry_does_not_fit(change, named):
    weights = weights_of(LSTM(3, 5, num_layers=2, bidirectional=True, proj_size=2))
    with pytest.raises(ValueError, match=named):
        LSTM.from_state_dict(change(weights) or {})


def test_from_state_dict_takes_no_nonlinearity_it_does_not_know():
    with pytest.raises(ValueError, match=r"(?s)nonlinearity.*sigmoid"):
        RNN.from_state_dict(RNN(3, 5).state_dict(), nonlinearity="sigmoid")


def test_weights_loaded_while_the_old_ones_are_packed(monkeypatch):
    """As by another thread: the call has all of the old ones, and the next one all of the new."""
    module, other = GRU(3, 5, rng=0), GRU(3, 5, rng=1)
    pack, x = parameters.pack, np.ones((4, 3), np.float32)
    before, after = GRU(3, 5, rng=0)(x)[0], other(x)[0]

    def load_meanwhile(*arguments):
        monkeypatch.setattr(parameters, "pack", pack)
        packed = pack(*arguments)
        module.load_state_dict(other.state_dict())
        return packed

    monkeypatch.setattr(parameters, "pack", load_meanwhile)
    for expected in (before, after, after):
        assert_same_bits(module(x)[0], expected)


@pytest.mark.parametrize("name", ["weight_ih_l0", "bias_hh_l1"])
@pytest.mark.parametrize("change", ["shape", "dtype"])
@pytest.mark.filterwarnings("ignore:Setting the (shape|dtype):DeprecationWarning")
def test_arrays_that_are_handed_out_are_the_callers_alone(name, change):
    """Read-only does not stop NumPy from reshaping an array in place."""
    module, twin = lstm(rng=0), lstm(rng=0)
    x = np.ones((4, 3), np.float32)
    for array in (module.state_dict()[name], getattr(module, name)):
        setattr(array, change, (array.size,) if change == "shape" else np.int8)
    assert_same_bits(module(x)[0], twin(x)[0])
    assert module.state_dict()[name].shape == twin.state_dict()[name].shape


def test_a_load_that_is_interrupted_leaves_all_of_the_old_or_all_of_the_new(monkeypatch):
    """An exception from a signal handler may come anywhere; here, at each line of the load."""
    module, other, x = GRU(3, 5, rng=0), GRU(3, 5, rng=1), np.ones((4, 3), np.float32)
    results = {name: m(x)[0].tobytes() for name, m in (("old", module), ("new", other))}
    weights = other.state_dict()
    for line in range(200):
        with contextlib.suppress(KeyboardInterrupt), interrupted_after(line):
            module.load_state_dict(weights)
        holds = "new" if module.weight_hh_l0.tobytes() == other.weight_hh_l0.tobytes() else "old"
        assert module(x)[0].tobytes() == results[holds]
        module.load_state_dict(GRU(3, 5, rng=0).state_dict())
        assert module(x)[0].tobytes() == results["old"]


@contextlib.contextmanager
def interrupted_after(lines):
    """Raise KeyboardInterrupt after so many lines of packseq's."""
    left = lines

    def trace(frame, event, argument):
        nonlocal left
        if f"{os.sep}packseq{os.sep}" not in frame.f_code.co_filename:
            return None
        left -= event == "line"
        if left < 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda state: state["_weights"].update(weight_ih_l0=np.zeros((2, 2))), ValueError),
        (lambda state: state["_weights"].pop("weight_ih_l0"), ValueError),
        (lambda state: state.update(dtype="int8"), TypeError),
        (lambda state: state.update(_architecture=3), TypeError),
        (lambda state: state.update(batch_first=3), TypeError),
        (lambda state: state.update(_backend="cuda"), ValueError),
        (lambda state: vars(state["_architecture"]).update(hidden_size=500), ValueError),
        (lambda state: vars(state["_architecture"]).update(hidden_size=-1), ValueError),
        (lambda state: vars(state["_architecture"]).update(num_layers=2.5), TypeError),
    ],
)
def test_a_pickle_goes_through_a_constructors_checks(change, error):
    state = copy.deepcopy(lstm().__getstate__())
    change(state)
    with pytest.raises(error):
        LSTM.__new__(LSTM).__setstate__(state)


# ---- cells, and modules of one layer: the same weights under other names ------------------------

PAIRS = [
    (LSTM(3, 5, rng=0), packseq.LSTMCell),
    (LSTM(3, 5, peephole=True, recurrent_activation="hard_sigmoid", rng=0), packseq.LSTMCell),
    (GRU(3, 5, bias=False, dtype=np.float64, rng=0), packseq.GRUCell),
    (RNN(3, 5, nonlinearity="relu", rng=0), packseq.RNNCell),
]


def said_of(module):
    """What no state dict tells."""
    names = ("recurrent_activation", "nonlinearity")
    return {name: getattr(module, name) for name in names if hasattr(module, name)}


@pytest.mark.parametrize(("module", "cell_class"), PAIRS, ids=lambda value: repr(value))
@pytest.mark.parametrize("prefix", ["", "decoder.rnn"])
def test_a_cell_takes_a_modules_weights_and_gives_them_back(module, cell_class, prefix):
    dot = "." if prefix else ""
    weights = {prefix + dot + name: value for name, value in module.state_dict().items()}
    cell = cell_class.from_state_dict(weights, prefix, **said_of(module))
    again = type(module).from_state_dict(cell.state_dict(), **said_of(module))
    twin = cell_class.from_state_dict(cell.state_dict(), **said_of(module))

    assert repr(again) == repr(module)
    assert repr(twin) == repr(cell)
    x = np.random.default_rng(0).standard_normal((1, 4, 3)).astype(module.dtype)
    state = module(x)[1]
    for made in (cell, twin):
        for part, of_module in zip(state_parts(made(x[0])), state_parts(state), strict=True):
            assert_same_bits(part, of_module[0])
    assert_same_bits(again(x)[0], module(x)[0])


def test_load_state_dict_takes_the_other_names_too():
    module, cell = GRU(3, 5, rng=0), packseq.GRUCell(3, 5, rng=1)
    cell.load_state_dict(module.state_dict())
    assert_same_bits(cell.weight_hh, module.weight_hh_l0)
    module = GRU(3, 5, rng=2)
    module.load_state_dict(cell.state_dict())
    assert_same_bits(module.weight_hh_l0, cell.weight_hh)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (LSTM(3, 5, num_layers=2).state_dict(), r"unexpected weight_ih_l1, "),
        (LSTM(3, 5, bidirectional=True).state_dict(), r"unexpected weight_ih_l0_reverse, "),
        (LSTM(3, 5, proj_size=2).state_dict(), "weight_hr_l0 projects a state; a cell has no"),
        (GRU(3, 5).state_dict(), "weight_hh_l0 has 15 rows .* GRU has 3"),
        ({"a.weight_ih": np.zeros((4, 1))}, "missing weight_ih: no LSTM under .*'a.'"),
    ],
)
def test_what_a_cell_has_no_place_for(weights, message):
    with pytest.raises(ValueError, match=message):
        packseq.LSTMCell.from_state_dict(weights)


def test_a_module_of_two_layers_takes_no_cells_weights():
    with pytest.raises(ValueError, match="missing weight_ih_l1"):
        LSTM(3, 5, num_layers=2).load_state_dict(packseq.LSTMCell(3, 5).state_dict())
