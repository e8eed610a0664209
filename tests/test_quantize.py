"""Modules of fewer bits as a user has them: made, shown, kept, saved, compared, refused."""

import copy
import pickle

import numpy as np
import pytest
from strategies import (
    KINDS,
    OWN_KINDS,
    as_state,
    assert_same_bits,
    make_cell,
    make_module,
    state_parts,
)

import packseq
from packseq import GRU, LSTM, RNN, compare, pack_sequence
from packseq.networks.architecture import PRECISIONS
from packseq.weights import Backward, CheckpointError, convert, find
from packseq.weights import load as load_file

by_precision = pytest.mark.parametrize("precision", PRECISIONS)
by_kind = pytest.mark.parametrize("kind", (*KINDS, *OWN_KINDS))
X = np.random.default_rng(0).standard_normal((7, 3, 9)).astype(np.float32)


def module_of(kind="LSTM", **options):
    options = {"num_layers": 2, "bidirectional": True, "rng": 0} | options
    return make_module(kind, 9, 12, **options)


def assert_same_results(one, other, x=X):
    for a, b in zip(results(one, x), results(other, x), strict=True):
        assert_same_bits(a, b)


def results(module, x=X):
    output, state = module(x)
    return output, *state_parts(state)


# ---- the rounding of weights -------------------------------------------------------------------


def row(values):
    """An RNN without a bias whose weight_ih is one row."""
    weights = {
        "weight_ih_l0": np.array([values], np.float32),
        "weight_hh_l0": np.zeros((1, 1), np.float32),
    }
    return RNN.from_state_dict(weights)


@pytest.mark.parametrize(
    ("values", "integers", "scale"),
    [
        ([127, 0.5, 1.5, 2.5, -0.5, -1.5], [127, 0, 2, 2, 0, -2], 1),  # ties to even
        ([-254, 2, 3, 1], [-127, 1, 2, 0], 2),  # the largest is -127, and 3 a tie
        ([0, 0, 0], [0, 0, 0], 0),
        ([2.0**-101, -(2.0**-102)], [0, 0], 0),  # as good as zeros
        ([2.0**-100, 0], [127, 0], np.float32(2.0**-100) / np.float32(127)),
    ],
)
def test_int8_weights(values, integers, scale):
    state = row(values).quantize("int8").state_dict()
    assert state["weight_ih_l0"].dtype == np.int8
    np.testing.assert_array_equal(state["weight_ih_l0"], [integers])
    np.testing.assert_array_equal(state["weight_ih_l0_scale"], np.float32([scale]))
    assert state["weight_ih_l0_scale"].dtype == np.float32


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (1 + 2.0**-8, 1),  # a tie, to even
        (1 + 3 * 2.0**-8, 1 + 2.0**-6),  # the other way
        (1 + 2.0**-8 + 2.0**-20, 1 + 2.0**-7),
        (-3.14159, -3.140625),
        (np.float32(np.finfo(np.float32).max), np.inf),  # as torch and the hardware have it
        (np.inf, np.inf),
        (np.nan, np.nan),
        (-0.0, -0.0),
    ],
)
def test_bfloat16_weights(value, rounded):
    weight = row([value, 1]).quantize("bfloat16").weight_ih_l0
    np.testing.assert_array_equal(weight, np.float32([[rounded, 1]]))
    assert np.signbit(weight[0, 0]) == np.signbit(rounded)


def test_every_matrix_is_rounded_and_nothing_else():
    plain = LSTM(5, 6, proj_size=3, peephole=True, rng=0)
    quantized = plain.quantize("int8").state_dict()
    for name, array in plain.state_dict().items():
        if array.ndim == 2:
            assert quantized.pop(name).dtype == np.int8
            assert quantized.pop(name + "_scale").shape == array.shape[:1]
        else:
            assert_same_bits(quantized.pop(name), array)
    assert not quantized


def test_int8_weights_are_within_half_a_quantum():
    plain = module_of("GRU")
    back = plain.quantize("int8").dequantize()
    for name, array in plain.state_dict().items():
        quantum = np.abs(array).max(axis=-1, keepdims=True) / 127
        # Three roundings of float32 beside.
        assert (np.abs(back.state_dict()[name] - array) <= quantum * (0.5 + 1e-4)).all()


# ---- what is made ------------------------------------------------------------------------------


@by_kind
@by_precision
def test_it_is_near_and_says_what_it_is(kind, precision):
    plain = module_of(kind, batch_first=True)
    quantized = plain.quantize(precision)
    assert type(quantized) is type(plain)
    assert quantized.precision == precision
    assert plain.precision == "float32"
    assert quantized.dtype == np.float32
    assert repr(quantized) == repr(plain)[:-1] + f", precision={precision!r})"
    assert quantized.batch_first
    # Of 12 units with weights up to 0.29, each of 1/127 of it off at most, through two layers.
    for a, b in zip(results(quantized), results(plain), strict=True):
        assert 0 < np.abs(a - b).max() < 5e-2


@pytest.mark.parametrize("kind", (*KINDS, "LSTM_PEEPHOLE"))
@by_precision
def test_a_cell_is_one_step_of_the_module(kind, precision):
    plain = make_module(kind, 9, 12, rng=0)
    cell = make_cell(kind, 9, 12, rng=0)
    cell.load_state_dict({n.removesuffix("_l0"): w for n, w in plain.state_dict().items()})
    quantized = cell.quantize(precision)
    assert repr(quantized) == repr(cell)[:-1] + f", precision={precision!r})"
    rng = np.random.default_rng(1)
    states = [rng.uniform(-1, 1, (3, 12)).astype(np.float32) for _ in state_parts(cell(X[0]))]
    one_layer = as_state(kind, [part[None] for part in states])
    _, expected = plain.quantize(precision)(X[:1], one_layer)
    actual = quantized(X[0], as_state(kind, states))
    for a, e in zip(state_parts(actual), state_parts(expected), strict=True):
        assert_same_bits(a, e[0])


@by_precision
def test_dequantized_it_is_float32_of_the_rounded_weights(precision):
    quantized = module_of().quantize(precision)
    back = quantized.dequantize()
    assert back.precision == "float32"
    assert repr(back) == repr(module_of())
    weight, shown = back.weight_hh_l1_reverse, quantized.weight_hh_l1_reverse
    if precision == "int8":
        shown = shown * quantized.weight_hh_l1_reverse_scale[:, None]
    assert_same_bits(weight, shown)
    assert not np.array_equal(weight, module_of().weight_hh_l1_reverse)


@by_precision
@pytest.mark.parametrize("kept", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_the_same(precision, kept):
    quantized = module_of().quantize(precision)
    assert repr(kept(quantized)) == repr(quantized)
    assert_same_results(kept(quantized), quantized)


@by_precision
def test_a_state_dict_goes_back(precision):
    quantized = module_of().quantize(precision)
    other = module_of(rng=1).quantize(precision)
    other.load_state_dict(quantized.state_dict())
    assert_same_results(other, quantized)


def test_bfloat16_rounds_what_it_loads():
    other = module_of(rng=1).quantize("bfloat16")
    other.load_state_dict(module_of().state_dict())
    assert_same_results(other, module_of().quantize("bfloat16"))


def test_int8_loads_int8_alone():
    quantized = module_of().quantize("int8")
    state = quantized.state_dict()
    del state["weight_hh_l0_scale"]
    with pytest.raises(ValueError, match="missing weight_hh_l0_scale"):
        quantized.load_state_dict(state)
    state = quantized.state_dict()
    with pytest.raises(TypeError, match="weight_hh_l1 must be int8, got dtype float32"):
        quantized.load_state_dict(state | {"weight_hh_l1": np.zeros((48, 24), np.float32)})
    with pytest.raises(ValueError, match=r"weight_hh_l1 must be in -127 \.\. 127, got -128"):
        quantized.load_state_dict(state | {"weight_hh_l1": np.full((48, 12), -128, np.int8)})


def test_a_wide_batch_goes_the_general_way_to_the_same_bits():
    quantized = module_of().quantize("int8")
    plain, _ = quantized(X)
    general, _ = quantized(X[:, :, ::-1][:, :, ::-1], num_threads=1)
    assert_same_bits(plain, general)
    packed, _ = quantized(pack_sequence(list(X.swapaxes(0, 1))))
    assert_same_bits(packed.data.reshape(plain.shape), plain)


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["int4", "float32", None, 8])
def test_another_precision(value):
    with pytest.raises(ValueError, match="precision must be 'int8' or 'bfloat16', got"):
        module_of().quantize(value)


@by_precision
def test_only_float32_is_rounded(precision):
    with pytest.raises(ValueError, match=r"only a float32 module .* dtype='float64'"):
        module_of(dtype=np.float64).quantize(precision)
    with pytest.raises(ValueError, match=r"only a float32 module .* precision="):
        module_of().quantize("int8").quantize(precision)
    with pytest.raises(ValueError, match="only what was quantized"):
        module_of().dequantize()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_int8_holds_no_nan(value):
    with pytest.raises(ValueError, match="weight_ih_l0 has NaN or infinity"):
        row([value, 1]).quantize("int8")


def test_int8_sums_are_as_long_as_32_bits_bear():
    with pytest.raises(ValueError, match="a weight has 66001 columns; int8 sums at most 66000"):
        RNN(66_001, 1, rng=0).quantize("int8")


@by_precision
def test_torch_does_not_run_it(precision):
    torch = pytest.importorskip("torch")
    quantized = GRU(9, 12, rng=0).quantize(precision)
    here, _ = quantized(torch.from_numpy(X))
    assert_same_bits(here.numpy(), quantized(X)[0])
    quantized.backend = "torch"
    with pytest.raises(ValueError, match=f"GRU of {precision} runs on backend 'cpu' alone"):
        quantized(X)


# ---- files -------------------------------------------------------------------------------------


@by_kind
@by_precision
def test_saved_and_loaded_it_is_the_same(tmp_path, kind, precision):
    options = {"proj_size": 5} if kind == "LSTM" else {}
    quantized = module_of(kind, **options).quantize(precision)
    packseq.save(quantized, tmp_path / "m.safetensors")
    loaded = packseq.load(tmp_path / "m.safetensors")
    assert repr(loaded) == repr(quantized)
    for name, array in quantized.state_dict().items():
        assert_same_bits(loaded.state_dict()[name], array)
    assert_same_results(loaded, quantized)
    (found,) = find(tmp_path / "m.safetensors")
    assert found.precision == precision
    assert f", {precision}" in str(found)


@pytest.mark.parametrize(("precision", "times"), [("int8", 3.8), ("bfloat16", 1.95)])
def test_files_are_as_much_smaller(tmp_path, precision, times):
    plain = LSTM(200, 200, rng=0)
    packseq.save(plain, tmp_path / "plain.safetensors")
    packseq.save(plain.quantize(precision), tmp_path / "rounded.safetensors")
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("plain", "rounded")]
    assert sizes[0] > times * sizes[1]


def test_the_library_reads_them(tmp_path):
    library = pytest.importorskip("safetensors.torch")
    quantized = module_of().quantize("int8")
    packseq.save(quantized, tmp_path / "m.safetensors")
    read = library.load_file(tmp_path / "m.safetensors")
    assert str(read["weight_hh_l0"].dtype) == "torch.int8"
    assert_same_bits(read["weight_hh_l0_scale"].numpy(), quantized.weight_hh_l0_scale)
    packseq.save(module_of().quantize("bfloat16"), tmp_path / "m.safetensors")
    read = library.load_file(tmp_path / "m.safetensors")
    assert str(read["weight_hh_l0"].dtype) == "torch.bfloat16"
    assert str(read["bias_hh_l0"].dtype) == "torch.float32"


@by_precision
def test_load_in_a_precision(tmp_path, precision):
    path = tmp_path / "m.safetensors"
    packseq.save(module_of(), path)
    expected = module_of().quantize(precision)
    assert_same_results(packseq.load(path, precision=precision), expected)
    packseq.save(expected, path)
    assert_same_results(packseq.load(path, precision=precision), expected)
    other = {"int8": "bfloat16", "bfloat16": "int8"}[precision]
    with pytest.raises(ValueError, match="only a float32 module"):
        packseq.load(path, precision=other)
    with pytest.raises(ValueError, match="precision must be"):
        packseq.load(path, precision="int3")


@by_precision
def test_converted_a_file_has_it_and_keeps_the_rest(tmp_path, precision):
    """Two modules and an array beside; what the file does not say is not said by the other."""
    library = pytest.importorskip("safetensors.numpy")
    arrays = {"head": np.arange(4.0, dtype=np.float32)}
    for prefix in ("a.", "b."):
        arrays |= {prefix + n: w.copy() for n, w in module_of().state_dict().items()}
    library.save_file(arrays, tmp_path / "plain.safetensors")
    convert(tmp_path / "plain.safetensors", tmp_path / "rounded.safetensors", precision=precision)
    for prefix in ("a", "b"):
        loaded = load_file(tmp_path / "rounded.safetensors", prefix, batch_first=True)
        assert loaded.batch_first
        loaded = load_file(tmp_path / "rounded.safetensors", prefix)
        assert_same_results(loaded, module_of().quantize(precision))
    assert_same_bits(packseq.weights.read(tmp_path / "rounded.safetensors")["head"], arrays["head"])


def test_a_module_that_runs_backward():
    backward = Backward(LSTM(9, 12, rng=0)).quantize("int8")
    assert backward.precision == "int8"
    forward, _ = LSTM(9, 12, rng=0).quantize("int8")(X[::-1])
    assert_same_bits(np.ascontiguousarray(backward(X)[0][::-1]), forward)
    assert backward.dequantize().precision == "float32"


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("weight_ih_l0", np.zeros((48, 9), np.float32), "has scales, and dtype float32"),
        ("weight_ih_l0", np.full((48, 9), -128, np.int8), "holds -128"),
        ("weight_ih_l0_scale", np.ones(47, np.float32), r"shape \(47,\); expected \(48,\)"),
        ("weight_ih_l0_scale", np.ones(48, np.int32), "has dtype int32; expected a float"),
        ("weight_hh_l1_scale", None, "weight_hh_l1_scale is missing"),
    ],
)
def test_a_hostile_file(tmp_path, name, array, message):
    library = pytest.importorskip("safetensors.numpy")
    arrays = {n: w.copy() for n, w in module_of().quantize("int8").state_dict().items()}
    arrays[name] = array
    kept = {n: w for n, w in arrays.items() if w is not None}
    library.save_file(kept, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=message):
        packseq.load(tmp_path / "m.safetensors")


# ---- compare -----------------------------------------------------------------------------------

SEQUENCES = [x[:n] for x, n in zip(X.swapaxes(0, 1), (7, 4, 5), strict=True)]


@by_kind
def test_compare_says_what_the_modules_give(kind):
    plain, quantized = module_of(kind), module_of(kind).quantize("int8")
    found = compare(plain, quantized, SEQUENCES)
    assert len(found.layers) == 2
    packed = pack_sequence(SEQUENCES)
    (one, states), (two, other_states) = plain(packed), quantized(packed)
    off = np.abs(one.data.astype(np.float64) - two.data)
    assert found.layers[1].output.largest == off.max()
    assert found.layers[1].output.mean == off.mean()
    for difference, a, b in zip(
        found.layers[1].states, state_parts(states), state_parts(other_states), strict=True
    ):
        assert difference.largest == np.abs(a[2:].astype(np.float64) - b[2:]).max()
    first = compare(*(layer_of(m) for m in (plain, quantized)), SEQUENCES)
    assert first.layers == found.layers[:1]
    assert str(found).count("\n") == 0
    assert str(found).startswith(f"layer 0: output {off_of(found, 0)}")


def off_of(found, layer):
    output = found.layers[layer].output
    return f"{output.mean:.1e} (largest {output.largest:.1e})"


def layer_of(module):
    """A module of the first layer alone."""
    state = {n: w for n, w in module.state_dict().items() if "_l0" in n}
    kind = "RNN_RELU" if getattr(module, "nonlinearity", "") == "relu" else type(module).__name__
    options = {
        name: getattr(module, name) for name in ("peephole", "reset_after") if hasattr(module, name)
    }
    made = make_module(kind, 9, 12, bidirectional=True, rng=0, **options)
    made = made if module.precision == "float32" else made.quantize(module.precision)
    made.load_state_dict(state)
    return made


def test_compare_is_zero_for_a_module_and_itself():
    (one, two) = compare(module_of(), module_of(), SEQUENCES).layers
    assert one.output.largest == two.output.mean == 0


def test_what_cannot_be_compared():
    with pytest.raises(TypeError, match="other must be an LSTM, GRU or RNN, got str"):
        compare(module_of(), "int8", SEQUENCES)
    with pytest.raises(ValueError, match="other must be of the same sizes"):
        compare(module_of(), module_of(bias=False), SEQUENCES)
    with pytest.raises(ValueError, match="sequences must hold at least one"):
        compare(module_of(), module_of(), [])
