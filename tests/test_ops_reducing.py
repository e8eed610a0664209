"""Sums, extremes and softmax of each sequence over its steps, against NumPy on each alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragged import assert_rows, assert_sequences, batches, make_batch, unusual_layouts

import packseq
from packseq import GRU, PackedSequence, cross_entropy, mse_loss, pack_sequence

FLOATS = (np.float16, np.float32, np.float64)
INTEGERS = (np.int8, np.uint8, np.int32, np.int64, np.uint64)
REALS = (np.bool_, *INTEGERS, *FLOATS)
LONG = st.lists(st.integers(0, 70), min_size=1, max_size=9)


def least(dtype):
    return {"f": -np.inf, "b": False}.get(dtype.kind) if dtype.kind in "fb" else np.iinfo(dtype).min


def greatest(dtype):
    return {"f": np.inf, "b": True}.get(dtype.kind) if dtype.kind in "fb" else np.iinfo(dtype).max


def each(function, sequences, of_nothing, dtype):
    """`function` of every sequence, and `of_nothing` of those without a step."""
    row_shape = sequences[0].shape[1:]
    rows = [function(s) if len(s) else np.full(row_shape, of_nothing) for s in sequences]
    return np.array(rows, dtype).reshape(len(sequences), *row_shape)


# The numbers are multiples of a quarter within 1, of which 70 add up exactly in every float.
@given(batches((*REALS, np.complex64, np.complex128), lengths=LONG))
def test_sum(batch):
    dtype = np.sum(batch.packed.data, axis=0).dtype
    expected = each(lambda s: s.sum(axis=0), batch.sequences, 0, dtype)
    assert_rows(batch.packed.sum(), expected)


@given(batches((*REALS, np.complex64, np.complex128), lengths=LONG))
def test_mean(batch):
    dtype = np.zeros(1, batch.packed.dtype).mean(axis=0).dtype
    wide = np.result_type(dtype, np.float64)
    expected = each(lambda s: s.astype(wide).mean(axis=0), batch.sequences, np.nan, wide)
    # An exact sum, one division and one rounding to the dtype; float16's is first to float32.
    assert_rows(batch.packed.mean(), expected.astype(dtype), rtol=np.finfo(dtype).eps)


@given(batches(REALS, lengths=LONG))
def test_max_and_min(batch):
    dtype = batch.packed.dtype
    expected = each(lambda s: s.max(axis=0), batch.sequences, least(dtype), dtype)
    assert_rows(batch.packed.max(), expected)
    expected = each(lambda s: s.min(axis=0), batch.sequences, greatest(dtype), dtype)
    assert_rows(batch.packed.min(), expected)


@given(batches(REALS, lengths=LONG))
def test_argmax_is_the_first_step_of_the_maximum(batch):
    expected = each(lambda s: s.argmax(axis=0), batch.sequences, -1, np.int64)
    assert_rows(batch.packed.argmax(), expected)


@given(batches((*REALS, np.complex64), lengths=LONG))
def test_cumsum(batch):
    assert_sequences(batch.packed.cumsum(), [s.cumsum(axis=0) for s in batch.sequences])


# exp, a sum of up to 70 and a logarithm or a division of numbers near 1: each rounds by an ulp or
# two, and eight ulps are room for all of them.
def tolerance(dtype):
    return {"rtol": 8 * np.finfo(dtype).eps, "atol": 8 * np.finfo(dtype).eps}


@given(batches((*FLOATS, np.int32), lengths=LONG))
def test_logsumexp(batch):
    dtype = np.exp(np.zeros(1, batch.packed.dtype)).dtype
    expected = each(
        lambda s: np.log(np.exp(s.astype(np.float64)).sum(axis=0)), batch.sequences, -np.inf, dtype
    )
    assert_rows(batch.packed.logsumexp(), expected, **tolerance(dtype))


@given(batches((*FLOATS, np.int32), lengths=LONG))
def test_softmax_and_its_logarithm(batch):
    dtype = np.exp(np.zeros(1, batch.packed.dtype)).dtype
    powers = [np.exp(s.astype(np.float64)) for s in batch.sequences]
    expected = [p / p.sum(axis=0) for p in powers]
    near = tolerance(dtype)
    assert_sequences(batch.packed.softmax(), [e.astype(dtype) for e in expected], **near)
    logs = [np.log(e).astype(dtype) for e in expected]
    assert_sequences(batch.packed.log_softmax(), logs, **near)


@given(batches((np.float32,), row_shapes=st.sampled_from([(), (3,), (2, 3)])), st.data())
def test_attend_averages_by_the_softmax_of_the_scores(batch, data):
    row_shape = batch.packed.data.shape[1:]
    shapes = [(), (1,) * len(row_shape), row_shape, (*row_shape[:-1], 1)[: len(row_shape)]]
    shapes.append(row_shape[-1:])
    score_shape = data.draw(st.sampled_from(shapes))
    lengths = [len(s) for s in batch.sequences]
    scores = make_batch(lengths, score_shape, np.float32, seed=5)

    def attended(sequence, score):
        weights = np.exp(score.astype(np.float64))
        weights /= weights.sum(axis=0)
        lacking = [1] * (sequence.ndim - score.ndim)
        weights = weights.reshape(len(weights), *lacking, *weights.shape[1:])
        return (weights * sequence).sum(axis=0)

    expected = [attended(*pair) for pair in zip(batch.sequences, scores.sequences, strict=True)]
    actual = batch.packed.attend(scores.packed)
    assert_rows(actual, np.array(expected, np.float32), **tolerance(np.float32))


REDUCTIONS = {
    "sum": lambda p: p.sum(),
    "mean": lambda p: p.mean(),
    "max": lambda p: p.max(),
    "min": lambda p: p.min(),
    "argmax": lambda p: p.argmax(),
    "logsumexp": lambda p: p.logsumexp(),
    "cumsum": lambda p: p.cumsum().data,
    "softmax": lambda p: p.softmax().data,
    "log_softmax": lambda p: p.log_softmax().data,
    "first": lambda p: p.first(),
    "last": lambda p: p.last(),
}


@pytest.fixture(params=REDUCTIONS)
def reduction(request):
    return REDUCTIONS[request.param]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_rows_of_any_layout(reduction, dtype):
    packed = make_batch([4, 0, 20, 5], (3,), dtype).packed
    for same in unusual_layouts(packed):
        np.testing.assert_array_equal(reduction(same), reduction(packed))


def test_threads_change_no_bit(reduction):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 200, 64)
    packed = pack_sequence([rng.standard_normal((n, 300)).astype(np.float32) for n in lengths])
    assert packed.nbytes > 4 << 20
    threads = packseq.get_num_threads()
    try:
        results = []
        for n in (1, 3):
            packseq.set_num_threads(n)
            results.append(reduction(packed))
    finally:
        packseq.set_num_threads(threads)
    np.testing.assert_array_equal(*results)
    for b in (0, 31):
        alone = reduction(pack_sequence([packed[b]]))
        if len(alone) == 1:
            np.testing.assert_array_equal(alone[0], results[0][b])


def test_sums_of_float32_do_not_lose_accuracy_with_length():
    rng = np.random.default_rng(0)
    values = rng.random((100_000, 2), np.float32)
    exact = values.sum(axis=0, dtype=np.float64)
    total = pack_sequence([values]).sum()[0]
    # All are positive, so the sum is that of the magnitudes: three roundings, and the result's.
    np.testing.assert_allclose(total, exact, rtol=4 * np.finfo(np.float32).eps / 2)
    running = pack_sequence([values]).cumsum().data[-1]
    np.testing.assert_allclose(running, exact, rtol=np.finfo(np.float32).eps)


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("values", [[1, NAN, 3], [NAN, 5], [2, 3, NAN], [INF, 1, -INF], [-INF] * 2])
def test_what_is_not_finite_stays_in_its_own_sequence(values, dtype):
    values = np.array(values, dtype)
    packed = pack_sequence([np.ones(4, dtype), values, np.zeros(0, dtype)])
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(packed.sum(), [4, values.sum(), 0])
        np.testing.assert_array_equal(packed.mean(), [1, values.mean(), NAN])
    np.testing.assert_array_equal(packed.max(), [1, values.max(), -INF])
    np.testing.assert_array_equal(packed.min(), [1, values.min(), INF])
    np.testing.assert_array_equal(packed.argmax(), [0, values.argmax(), -1])
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(values).sum())
    np.testing.assert_allclose(packed.logsumexp(), [1 + np.log(4), total, -INF], rtol=1e-6)
    np.testing.assert_array_equal(packed.softmax()[0], np.full(4, 0.25))


def test_softmax_does_not_overflow():
    packed = pack_sequence([np.array([1e4, 1e4 + 1], np.float32), np.array([-1e5], np.float32)])
    np.testing.assert_allclose(packed.softmax()[0], [1 / (1 + np.e), np.e / (1 + np.e)], rtol=1e-6)
    np.testing.assert_array_equal(packed.softmax()[1], [1])
    np.testing.assert_allclose(packed.logsumexp(), [1e4 + np.log1p(np.e), -1e5], rtol=1e-6)


def test_integer_sums_wrap_as_numpys():
    values = np.array([2**62, 2**62, 5], np.int64)
    assert pack_sequence([values]).sum()[0] == values.sum() == -(2**63) + 5


def test_unsigned_maxima_beyond_int64():
    packed = pack_sequence([np.array([1, 2**64 - 1, 3], np.uint64)])
    assert packed.max()[0] == 2**64 - 1
    assert packed.argmax()[0] == 1


def test_numpys_other_integers_of_64_bits():
    packed = pack_sequence([np.array([-1, -5], np.longlong)])
    assert (packed.max()[0], packed.min()[0], packed.sum()[0]) == (-1, -5, -6)


def test_sequences_come_back_in_the_callers_order():
    packed = PackedSequence([1.0, 2, 3, 4], [3, 1], sorted_indices=[2, 0, 1, 3])
    np.testing.assert_array_equal(packed.sum(), [2, 3, 5, 0])


@pytest.mark.parametrize(
    ("dtype", "call", "message"),
    [
        ("S3", lambda p: p.sum(), "must be bool or int .* or complex of .* a part, got dtype .S3"),
        ("m8[s]", lambda p: p.mean(), "must be bool or int or unsigned int or float or comp"),
        (np.complex64, lambda p: p.max(), "the rows must be bool or int or .* got dtype complex64"),
        (np.complex64, lambda p: p.softmax(), "must be int or unsigned int or float of at most 64"),
        (np.bool_, lambda p: p.logsumexp(), "the rows must be int or unsigned int or float"),
        (np.float16, lambda p: p.astype("c8").min(), "of at most 64 bits, got dtype complex64"),
        (np.float32, lambda p: p.attend(p.data), "scores must be a PackedSequence, got ndarray"),
    ],
)
def test_rows_that_cannot_be_reduced(dtype, call, message):
    packed = PackedSequence(np.zeros(3, dtype), [2, 1])
    with pytest.raises(TypeError, match=message):
        call(packed)


OF_NUMBERS = [
    "sum",
    "mean",
    "max",
    "min",
    "argmax",
    "cumsum",
    "softmax",
    "log_softmax",
    "logsumexp",
]


@pytest.mark.parametrize("name", ["float8_e5m2", "float8_e4m3fn", "bfloat16", "int4"])
def test_numbers_of_other_libraries_are_refused_by_name(name):
    """One of them says that it is of NumPy's kind "f", which is not asked of it then."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="registers such dtypes")
    packed = PackedSequence(np.ones((3, 2), getattr(ml_dtypes, name)), [2, 1])
    for reduction in OF_NUMBERS:
        with pytest.raises(TypeError, match=f"the rows must be .* got dtype {name}"):
            getattr(packed, reduction)()
    with pytest.raises(TypeError, match=f"got {name}"):
        mse_loss(packed, packed)
    with pytest.raises(TypeError, match=f"got {name}"):
        cross_entropy(packed, PackedSequence(np.zeros(3, np.int64), [2, 1]))
    weights = {"weight_ih_l0": packed.data[:, :1], "weight_hh_l0": np.ones((3, 1))}
    with pytest.raises(TypeError, match=f"weight_ih_l0 must be float16.* got dtype {name}"):
        GRU.from_state_dict(weights)


def test_attend_needs_scores_for_every_step():
    packed = make_batch([3, 2], (4,), np.float32).packed
    with pytest.raises(ValueError, match="must share one layout: sequence 1 has 2 steps and 1"):
        packed.attend(make_batch([3, 1], (), np.float32).packed)
    with pytest.raises(ValueError, match=r"broadcast against \(4,\), got \(3,\)"):
        packed.attend(make_batch([3, 2], (3,), np.float32).packed)
