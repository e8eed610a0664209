"""What RNN, GRU and LSTM compute: the reference's numbers, whatever form the batch comes in."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import reference
from hypothesis import given
from strategies import (
    DTYPES,
    FORMS,
    KINDS,
    Case,
    as_state,
    assert_close,
    assert_same_bits,
    assert_states_close,
    cases,
    state_parts,
)

from packseq import GRU, LSTM, PackedSequence, pack_sequence, unpack_sequence

pytestmark = [
    pytest.mark.usefixtures("backend"),
    # What torch says on its CPU device.
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]
by_kind = pytest.mark.parametrize("kind", KINDS)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)

# Two layers, both directions, the projection: everything at once, on a batch that is not sorted
# and has an empty sequence inside.
EVERYTHING = {"num_layers": 2, "bidirectional": True}
RAGGED = (3, 0, 7, 1, 5, 7)


def everything(kind, lengths=RAGGED, **options):
    if kind == "LSTM":
        options = {"proj_size": 5} | options
    return Case(kind, 4, 9, lengths, EVERYTHING | options, seed=1)


def expected_of(case, module, dtype, state=None):
    return reference.run(case.kind, module.state_dict(), case.sequences(dtype), state)


def run_padded(case, dtype, padded=None):
    """Output and state of the case as a padded batch; another `padded` may hold other padding."""
    padded = case.padded(dtype) if padded is None else padded
    hx = as_state(case.kind, case.state(dtype))
    return case.module(dtype)(padded, hx, lengths=case.lengths)


def unpad(output, lengths, batch_first=False):
    """The sequences of a padded output, and whatever stands after their ends."""
    rows = output if batch_first else output.swapaxes(0, 1)
    pairs = list(zip(rows, lengths, strict=True))
    return [row[:n] for row, n in pairs], [row[n:] for row, n in pairs]


# ---- against the reference ----------------------------------------------------------------------


@by_dtype
@by_kind
def test_padded_batch(kind, dtype):
    @given(case=cases(kinds=[kind]))
    def check(case):
        expected, state_expected = expected_of(case, case.module(dtype), dtype, case.state(dtype))
        output, state = run_padded(case, dtype)
        assert output.dtype == dtype
        outputs, tails = unpad(output, case.lengths, case.options["batch_first"])
        for o, e in zip(outputs, expected, strict=True):
            assert_close(o, e)
        assert not any(tail.any() for tail in tails)
        assert_states_close(state, state_expected)

    check()


@by_dtype
@by_kind
def test_packed_batch(kind, dtype):
    @given(case=cases(kinds=[kind], min_batch=1))
    def check(case):
        module = case.module(dtype)
        expected, state_expected = expected_of(case, module, dtype)
        packed, state = module(pack_sequence(case.sequences(dtype)))
        assert isinstance(packed, PackedSequence)
        assert packed.dtype == dtype
        for output, e in zip(unpack_sequence(packed), expected, strict=True):
            assert_close(output, e)
        assert_states_close(state, state_expected)

    check()


@by_dtype
@by_kind
def test_single_sequence(kind, dtype):
    """2-D in, 2-D out: (T, I) -> (T, D*H), with states of (L*D, H)."""

    @given(case=cases(kinds=[kind]).map(lambda case: replace(case, lengths=(6,))))
    def check(case):
        module = case.module(dtype)
        (x,), hx = case.sequences(dtype), case.state(dtype)
        (expected,), state_expected = expected_of(case, module, dtype, hx)
        output, state = module(x, as_state(kind, [part[:, 0] for part in hx]))
        assert_close(output, expected)
        assert_states_close(state, [part[:, 0] for part in state_expected])

    check()


LARGE = {
    # Every tile of rows and of hidden units, and what is left over at the edges of both.
    "H200-B40": ("hidden_size", 200, tuple(1 + b % 13 for b in range(40))),
    # More rows than any block that the input projection might be cut into.
    "N2700": ("hidden_size", 7, (300, 299, 280, 301, 320, 300, 300, 300, 300)),
    # More rows in a step than any tile or shard takes.
    "B600": ("hidden_size", 3, tuple(b % 4 for b in range(600))),
    # Many inputs to few units: the projection is the work.
    "I300": ("input_size", 300, (5, 0, 9, 2)),
}


@by_dtype
@by_kind
@pytest.mark.parametrize("size", LARGE)
def test_large_batch(kind, dtype, size):
    name, value, lengths = LARGE[size]
    options = {"bidirectional": True}
    if kind == "LSTM" and size == "H200-B40":
        options["proj_size"] = 75
    case = Case(
        kind, **{"input_size": 5, "hidden_size": 100, name: value}, lengths=lengths, options=options
    )
    module = case.module(dtype)
    packed, state = module(pack_sequence(case.sequences(dtype)))
    expected, state_expected = expected_of(case, module, dtype)
    for output, e in zip(unpack_sequence(packed), expected, strict=True):
        assert_close(output, e)
    assert_states_close(state, state_expected)


@by_kind
def test_hx_defaults_to_zeros(kind):
    case = everything(kind)
    module = case.module(np.float32)
    zeros = as_state(kind, [np.zeros_like(part) for part in case.state(np.float32)])
    packed = pack_sequence(case.sequences(np.float32))
    (output, state), (output_0, state_0) = module(packed), module(packed, zeros)
    assert_same_bits(output.data, output_0.data)
    for part, part_0 in zip(state_parts(state), state_parts(state_0), strict=True):
        assert_same_bits(part, part_0)


@by_dtype
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN_TANH"])
def test_zeros_times_infinite_weights_are_nan_without_hx_too(kind, dtype):
    """A first state that is missing is not multiplied, and that must make no difference."""
    case = Case(kind, 2, 3, (4,))
    module = case.module(dtype)
    weights = dict(module.state_dict())
    weights["weight_hh_l0"] = np.full_like(weights["weight_hh_l0"], np.inf)
    module.load_state_dict(weights)
    assert np.isnan(module(np.ones((4, 2), dtype))[0]).all()


@by_dtype
def test_a_reset_gate_of_nan_reaches_every_unit_without_hx_too(dtype):
    """GRU(reset_after=False) multiplies r * h, which is NaN though h is 0."""
    module = GRU(2, 3, reset_after=False, dtype=dtype, backend="cpu", rng=0)
    weights = dict(module.state_dict())
    weights["weight_ih_l0"] = np.ones_like(weights["weight_ih_l0"])
    weights["weight_ih_l0"][0, 1] = -1  # r of unit 0 is sigmoid(inf - inf)
    module.load_state_dict(weights)
    x = np.full((1, 2), np.inf, dtype)
    assert np.isnan(module(x)[0]).all()
    assert np.isnan(module(x, np.zeros((1, 3), dtype))[0]).all()


@by_kind
def test_without_lengths_every_sequence_is_full(kind):
    case = everything(kind, lengths=(6, 6, 6))
    module = case.module(np.float32)
    output, state = module(case.padded(np.float32))
    output_l, state_l = module(case.padded(np.float32), lengths=[6, 6, 6])
    assert_same_bits(output, output_l)
    for part, part_l in zip(state_parts(state), state_parts(state_l), strict=True):
        assert_same_bits(part, part_l)


@by_kind
def test_batch_first_only_swaps_the_first_two_axes(kind):
    case = everything(kind)
    swapped = everything(kind, batch_first=True)
    output, state = run_padded(case, np.float64)
    output_bf, state_bf = run_padded(swapped, np.float64)
    assert_close(output_bf, output.swapaxes(0, 1))
    assert_states_close(state_bf, state_parts(state))
    # It says how padded batches lie; packed rows and single sequences have no such choice.
    packed = pack_sequence(case.sequences(np.float64))
    assert_same_bits(
        swapped.module(np.float64)(packed)[0].data, case.module(np.float64)(packed)[0].data
    )
    x = case.sequences(np.float64)[0]
    assert_same_bits(swapped.module(np.float64)(x)[0], case.module(np.float64)(x)[0])


@by_kind
def test_dropout_is_inactive(kind):
    case = everything(kind)
    output, _ = run_padded(case, np.float32)
    output_dropout, _ = run_padded(everything(kind, dropout=0.9), np.float32)
    assert_same_bits(output_dropout, output)


def test_rnn_defaults_to_tanh():
    assert Case("RNN", 3, 4, ()).module(np.float32).nonlinearity == "tanh"


@by_kind
def test_modules_say_how_they_were_made(kind):
    options = {
        "num_layers": 3,
        "bias": False,
        "batch_first": True,
        "dropout": 0.25,
        "bidirectional": True,
    }
    if kind == "LSTM":
        options["proj_size"] = 2
    module = Case(kind, 5, 7, (), options).module(np.float64)
    expected = options | {"input_size": 5, "hidden_size": 7, "dtype": np.float64}
    if kind.startswith("RNN"):
        expected["nonlinearity"] = kind.partition("_")[2].lower()
    assert {name: getattr(module, name) for name in expected} == expected


# ---- sequences are independent ------------------------------------------------------------------


@given(case=cases(min_batch=1))
def test_each_sequence_alone_gives_what_it_gives_in_the_batch(case):
    for dtype in DTYPES:
        module, hx = case.module(dtype), case.state(dtype)
        packed, state = module(pack_sequence(case.sequences(dtype)), as_state(case.kind, hx))
        for b, (x, output) in enumerate(
            zip(case.sequences(dtype), unpack_sequence(packed), strict=True)
        ):
            alone, state_alone = module(x, as_state(case.kind, [part[:, b] for part in hx]))
            assert_close(output, alone)
            assert_states_close(state_alone, [part[:, b] for part in state_parts(state)])


@given(case=cases(min_batch=2))
def test_a_permuted_batch_gives_the_permuted_results(case):
    dtype = np.float64
    order = np.random.default_rng(case.seed).permutation(len(case.lengths))
    module, hx, sequences = case.module(dtype), case.state(dtype), case.sequences(dtype)
    packed, state = module(pack_sequence(sequences), as_state(case.kind, hx))
    permuted, state_permuted = module(
        pack_sequence([sequences[b] for b in order]),
        as_state(case.kind, [part[:, order] for part in hx]),
    )
    outputs = unpack_sequence(packed)
    for output, b in zip(unpack_sequence(permuted), order, strict=True):
        assert_close(output, outputs[b])
    assert_states_close(state_permuted, [part[:, order] for part in state_parts(state)])


@given(case=cases(min_batch=1, bidirectional=False))
def test_a_batch_cut_in_two_goes_on_from_its_state(case):
    dtype = np.float64
    rng = np.random.default_rng(case.seed)
    module, sequences = case.module(dtype), case.sequences(dtype)
    cuts = [rng.integers(0, len(x) + 1) for x in sequences]
    heads = pack_sequence([x[:cut] for x, cut in zip(sequences, cuts, strict=True)])
    tails = pack_sequence([x[cut:] for x, cut in zip(sequences, cuts, strict=True)])
    head, state = module(heads, as_state(case.kind, case.state(dtype)))
    tail, state = module(tails, state)
    whole, state_whole = module(pack_sequence(sequences), as_state(case.kind, case.state(dtype)))
    for h, t, w in zip(*map(unpack_sequence, (head, tail, whole)), strict=True):
        assert_close(np.concatenate([h, t]), w)
    assert_states_close(state, state_parts(state_whole))


@by_dtype
@by_kind
def test_packed_padded_and_one_by_one_agree(kind, dtype):
    case = everything(kind)
    module, hx = case.module(dtype), case.state(dtype)
    packed, state_packed = module(pack_sequence(case.sequences(dtype)), as_state(kind, hx))
    padded, state_padded = run_padded(case, dtype)
    outputs, _ = unpad(padded, case.lengths)
    for b, from_packed in enumerate(unpack_sequence(packed)):
        assert_close(outputs[b], from_packed)
        alone, _ = module(case.sequences(dtype)[b], as_state(kind, [part[:, b] for part in hx]))
        assert_close(alone, from_packed)
    assert_states_close(state_padded, state_parts(state_packed))


@by_kind
def test_a_single_sequence_is_a_batch_of_one(kind):
    case = everything(kind, lengths=(6,))
    module = case.module(np.float64)
    output, state = module(case.sequences(np.float64)[0])
    output_batch, state_batch = module(case.padded(np.float64))
    assert_same_bits(output, output_batch[:, 0])
    for part, part_batch in zip(state_parts(state), state_parts(state_batch), strict=True):
        assert_same_bits(part, part_batch[:, 0])


# ---- empty sequences, empty batches, no steps ---------------------------------------------------


@by_dtype
@by_kind
def test_an_empty_sequence_keeps_its_state_bit_for_bit(kind, dtype):
    """In every layer and direction; and it is not there for the others."""
    case = everything(kind)
    _, state = run_padded(case, dtype)
    for part, part_0 in zip(state_parts(state), case.state(dtype), strict=True):
        assert_same_bits(part[:, 1], part_0[:, 1])


@pytest.mark.parametrize(
    ("lengths", "steps"),
    [((), 0), ((), 5), ((0, 0), 0), ((0, 0), 5)],
    ids=["B0-T0", "B0-T5", "B2-T0", "B2-T5"],
)
@by_kind
def test_a_batch_without_rows(kind, lengths, steps):
    for batch_first in [False, True]:
        case = everything(kind, lengths=lengths, batch_first=batch_first)
        padded = case.padded(np.float32, extra_steps=steps).astype(np.float32)
        output, state = run_padded(case, np.float32, padded)
        width = 2 * (5 if kind == "LSTM" else 9)
        shape = (len(lengths), steps) if batch_first else (steps, len(lengths))
        assert_same_bits(output, np.zeros((*shape, width), np.float32))
        for part, part_0 in zip(state_parts(state), case.state(np.float32), strict=True):
            assert_same_bits(part, part_0)


@by_kind
def test_no_steps_without_lengths(kind):
    case = everything(kind, lengths=(0, 0))
    module, hx = case.module(np.float32), case.state(np.float32)
    batch, state = module(case.padded(np.float32), as_state(kind, hx))
    alone, state_alone = module(
        case.sequences(np.float32)[0], as_state(kind, [part[:, 0] for part in hx])
    )
    packed, state_packed = module(pack_sequence(case.sequences(np.float32)), as_state(kind, hx))
    assert len(batch) == len(alone) == len(packed.data) == 0
    for part, part_alone, part_packed, part_0 in zip(
        *map(state_parts, (state, state_alone, state_packed)), hx, strict=True
    ):
        assert_same_bits(part, part_0)
        assert_same_bits(part_alone, part_0[:, 0])
        assert_same_bits(part_packed, part_0)
        assert not np.shares_memory(part, part_0)


# ---- what must not matter, and what must not spread ---------------------------------------------


@pytest.mark.parametrize("input_dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@by_dtype
@by_kind
def test_whatever_is_in_the_padding_changes_nothing(kind, dtype, input_dtype):
    """Nor does it warn: the largest float64 would overflow where it is converted to float32."""
    case = everything(kind)
    output, state = run_padded(case, dtype, case.padded(input_dtype, extra_steps=2))
    for junk in [np.nan, -np.inf, np.finfo(input_dtype).max]:
        padded = case.padded(input_dtype, extra_steps=2, value=junk)
        output_junk, state_junk = run_padded(case, dtype, padded)
        assert_same_bits(output_junk, output)
        for part_junk, part in zip(state_parts(state_junk), state_parts(state), strict=True):
            assert_same_bits(part_junk, part)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@by_dtype
@by_kind
def test_nan_and_inf_stay_in_their_sequence(kind, dtype, poison):
    case = everything(kind)
    module = case.module(dtype)
    output, state = module(pack_sequence(case.sequences(dtype)))
    poisoned = case.sequences(dtype)
    poisoned[2][3, 1] = poison
    output_p, state_p = module(pack_sequence(poisoned))
    others = [0, 1, 3, 4, 5]
    for b in others:
        assert_same_bits(unpack_sequence(output_p)[b], unpack_sequence(output)[b])
    for part_p, part in zip(state_parts(state_p), state_parts(state), strict=True):
        assert_same_bits(part_p[:, others], part[:, others])


@by_dtype
@by_kind
def test_nan_reaches_what_follows_it_and_no_earlier_step(kind, dtype):
    case = Case(kind, 4, 9, RAGGED, seed=1)
    module = case.module(dtype)
    sequences = case.sequences(dtype)
    sequences[2][3, 1] = np.nan
    output, state = module(pack_sequence(sequences))
    expected, state_expected = reference.run(kind, module.state_dict(), sequences)
    assert np.isnan(expected[2][3:]).all()
    for o, e in zip(unpack_sequence(output), expected, strict=True):
        assert_close(o, e)
    assert_states_close(state, state_expected)


@pytest.mark.parametrize("size", [1e4, 1e30, np.inf])
@by_dtype
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN_TANH"])
def test_gates_saturate(kind, dtype, size):
    """With one input a pre-activation is one product: large or infinite, with no sum to cancel."""
    case = Case(kind, 1, 17, (6, 3, 1), {"bidirectional": True}, seed=3)
    module = case.module(dtype)
    sequences = [np.sign(x) * dtype(size) for x in case.sequences(dtype)]
    output, state = module(pack_sequence(sequences))
    expected, state_expected = reference.run(kind, module.state_dict(), sequences)
    assert all(np.isfinite(e).all() for e in expected)
    for o, e in zip(unpack_sequence(output), expected, strict=True):
        assert_close(o, e)
    assert_states_close(state, state_expected)


@by_dtype
def test_states_fade_into_denormals_without_harm(dtype):
    """A forget gate of 1/4 divides c by 4 a step: from the smallest normal number down to zero."""
    tiny = np.finfo(dtype).tiny
    module = LSTM(1, 1, dtype=dtype)
    weights = {name: np.zeros_like(value) for name, value in module.state_dict().items()}
    weights["bias_ih_l0"] = np.array([0, -np.log(3), 0, 0], dtype)  # sigmoid(-log 3) is 1/4
    module.load_state_dict(weights)
    x = np.zeros((2000, 1), dtype)
    h_0, c_0 = np.zeros((1, 1), dtype), np.full((1, 1), tiny, dtype)
    _, (_, c_n) = module(x, (h_0, c_0))
    assert 0 <= c_n[0, 0] <= tiny
    assert np.array([tiny], dtype) / dtype(4) > 0  # denormals still work in the caller's thread


# ---- forms of input -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@by_dtype
@by_kind
def test_the_memory_layout_of_the_input_does_not_matter(kind, dtype, form):
    case = everything(kind)
    module, change = case.module(dtype), FORMS[form]
    padded, x, parts = case.padded(dtype), case.sequences(dtype)[2], case.state(dtype)
    hx, hx_changed = as_state(kind, parts), as_state(kind, [change(part) for part in parts])
    for inputs, lengths in [((padded, hx), RAGGED), ((padded,), RAGGED), ((x,), None)]:
        output, state = module(*inputs, lengths=lengths)
        changed = (change(inputs[0]), *([hx_changed] if len(inputs) > 1 else []))
        output_c, state_c = module(*changed, lengths=lengths)
        assert_same_bits(output_c, output)
        for part_c, part in zip(state_parts(state_c), state_parts(state), strict=True):
            assert_same_bits(part_c, part)


@pytest.mark.parametrize("form", FORMS)
@by_kind
def test_the_memory_layout_of_packed_rows_does_not_matter(kind, form):
    case = everything(kind)
    module, packed = case.module(np.float32), pack_sequence(case.sequences(np.float32))
    changed = PackedSequence(
        FORMS[form](packed.data),
        packed.batch_sizes,
        packed.sorted_indices,
        packed.unsorted_indices,
    )
    assert_same_bits(module(changed)[0].data, module(packed)[0].data)


@by_dtype
@by_kind
def test_the_other_float_width_is_converted(kind, dtype):
    case = everything(kind)
    other = np.float64 if dtype is np.float32 else np.float32
    module = case.module(dtype)
    hx_other = [part.astype(other) for part in case.state(dtype)]
    hx = [part.astype(dtype) for part in hx_other]
    sequences = [x.astype(other) for x in case.sequences(dtype)]
    packed, state = module(pack_sequence(sequences), as_state(kind, hx_other))
    converted, state_converted = module(
        pack_sequence([x.astype(dtype) for x in sequences]), as_state(kind, hx)
    )
    assert_same_bits(packed.data, converted.data)
    assert packed.dtype == dtype
    for part, part_c in zip(state_parts(state), state_parts(state_converted), strict=True):
        assert_same_bits(part, part_c)


@pytest.mark.parametrize(
    "lengths",
    [list(RAGGED), *(np.array(RAGGED, dtype) for dtype in ("u1", "i2", ">i8", "u8"))],
    ids=["list", "uint8", "int16", "big-endian", "uint64"],
)
def test_lengths_are_any_integers(lengths):
    case = everything("LSTM")
    module, padded = case.module(np.float32), case.padded(np.float32)
    assert_same_bits(module(padded, lengths=lengths)[0], module(padded, lengths=RAGGED)[0])


# ---- sharing, copying and leaving alone ---------------------------------------------------------


@by_dtype
@by_kind
def test_a_call_leaves_its_arguments_alone_and_gives_away_new_arrays(kind, dtype):
    case = everything(kind)
    module = case.module(dtype)
    padded, parts = case.padded(dtype), case.state(dtype)
    arguments = [padded, *parts, *module.state_dict().values()]
    before = [array.copy() for array in arguments]
    output, state = module(padded, as_state(kind, parts), lengths=RAGGED)
    again, _ = module(padded, as_state(kind, parts), lengths=RAGGED)
    results = [output, *state_parts(state)]
    for result in results:
        assert not any(np.shares_memory(result, other) for other in [*arguments, again])
        result[...] = -1
    for array, copied in zip(arguments, before, strict=True):
        assert_same_bits(array, copied)
    assert_same_bits(module(padded, as_state(kind, parts), lengths=RAGGED)[0], again)


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, *(lambda m, p=p: pickle.loads(pickle.dumps(m, p)) for p in (2, 5))],
    ids=["copy", "deepcopy", "pickle-2", "pickle-5"],
)
@by_kind
def test_copies_are_the_same_module(kind, duplicate):
    case = everything(kind, batch_first=True, dropout=0.5)
    module = case.module(np.float64)
    copied = duplicate(module)
    assert type(copied) is type(module)
    assert repr(copied) == repr(module)
    padded = case.padded(np.float64)
    assert_same_bits(copied(padded, lengths=RAGGED)[0], module(padded, lengths=RAGGED)[0])
    for name, value in copied.state_dict().items():
        assert_same_bits(value, module.state_dict()[name])
        assert not value.flags.writeable


@by_kind
def test_many_threads_share_one_module(kind):
    case = Case(kind, 16, 33, tuple(range(20)), EVERYTHING)
    module = case.module(np.float32)
    batches = [replace(case, seed=seed).sequences(np.float32) for seed in range(24)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda batch: module(pack_sequence(batch)), batches))
    for batch, (packed, state) in zip(batches, results, strict=True):
        alone, state_alone = module(pack_sequence(batch))
        assert_close(packed.data, alone.data)
        assert_states_close(state, state_parts(state_alone))


# ---- initialisation and looks -------------------------------------------------------------------


@by_dtype
@by_kind
def test_parameters_start_uniform_within_one_over_sqrt_hidden_size(kind, dtype):
    """As in torch: every parameter, biases and projections too."""
    options = {"proj_size": 25} if kind == "LSTM" else {}
    module = Case(kind, 100, 100, (), options).module(dtype)
    for value in module.state_dict().values():
        assert value.dtype == dtype
        in_units = value.ravel() * 10
        assert np.abs(in_units).max() <= 1
        # Of n uniform draws the mean has deviation 1/sqrt(3n), and all lie within 1 - 20/n with
        # probability exp(-20): five deviations and twenty are not chance.
        n = in_units.size
        assert abs(in_units.mean()) < 5 / np.sqrt(3 * n)
        assert in_units.max() > 1 - 40 / n
        assert in_units.min() < -1 + 40 / n


@by_kind
def test_rng_decides_the_parameters(kind):
    def first(rng):
        case = Case(kind, 3, 4, ())
        return case.module(np.float32, rng=rng).weight_ih_l0

    generator = np.random.default_rng(7)
    assert_same_bits(first(7), first(7))
    assert_same_bits(first(generator), first(7))
    assert (first(generator) != first(7)).any()  # it went on
    assert (first(8) != first(7)).any()
    assert (first(None) != first(None)).any()


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("LSTM", {"num_layers": 2, "bidirectional": True},
         "LSTM(10, 20, num_layers=2, bidirectional=True)"),
        ("LSTM", {"proj_size": 5, "bias": False}, "LSTM(10, 20, proj_size=5, bias=False)"),
        ("GRU", {}, "GRU(10, 20)"),
        ("GRU", {"num_layers": 2, "batch_first": True, "dropout": 0.5},
         "GRU(10, 20, num_layers=2, batch_first=True, dropout=0.5)"),
        ("RNN_TANH", {}, "RNN(10, 20)"),
    ],
)  # fmt: skip
def test_repr_says_what_is_not_the_default(kind, options, expected):
    assert repr(Case(kind, 10, 20, (), options).module(np.float32)) == expected
