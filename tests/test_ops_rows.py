"""Reductions along an axis of each row, against NumPy on each sequence; bits that stay a row's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragged import assert_sequences, batches, make_batch

from packseq import PackedSequence, pack_sequence

FLOATS = (np.float16, np.float32, np.float64)
REALS = (np.bool_, np.int8, np.uint8, np.int64, np.uint64, *FLOATS)
ROWS = st.sampled_from([(1,), (3,), (2, 3), (4, 1, 2), (17,)])
AXIS = st.integers(0, 100)


def row_axis(batch, choice):
    """One of the axes of a row, counted from either end."""
    axes = batch.packed.data.ndim - 1
    place = choice % (2 * axes)
    return place + 1 if place < axes else place - 2 * axes


def each(batch, function, axis):
    """`function` of each sequence along an axis, which is the same in (L, *) and (N, *)."""
    return [function(sequence, axis) for sequence in batch.sequences]


# Quarters within 1, of which a few add up exactly in every float.
@given(batches((*REALS, np.complex64), row_shapes=ROWS), AXIS)
def test_sums(batch, choice):
    axis = row_axis(batch, choice)
    assert_sequences(batch.packed.sum(axis=axis), each(batch, np.sum, axis))
    assert_sequences(batch.packed.cumsum(axis), each(batch, np.cumsum, axis))


@given(batches((*REALS, np.complex128), row_shapes=ROWS), AXIS)
def test_mean(batch, choice):
    axis = row_axis(batch, choice)
    dtype = np.zeros(1, batch.packed.dtype).mean(axis=0).dtype
    wide = np.result_type(dtype, np.float64)
    expected = each(batch, lambda s, axis: s.astype(wide).mean(axis).astype(dtype), axis)
    # An exact sum, one division and one rounding to the dtype; float16's is first to float32.
    assert_sequences(batch.packed.mean(axis), expected, rtol=np.finfo(dtype).eps)


@given(batches(REALS, row_shapes=ROWS), AXIS)
def test_extremes_and_their_places(batch, choice):
    axis = row_axis(batch, choice)
    assert_sequences(batch.packed.max(axis), each(batch, np.max, axis))
    assert_sequences(batch.packed.min(axis), each(batch, np.min, axis))
    assert_sequences(batch.packed.argmax(axis), each(batch, np.argmax, axis))


@given(batches((*FLOATS, np.int32), row_shapes=ROWS), AXIS)
def test_softmax_and_what_it_is_made_of(batch, choice):
    axis = row_axis(batch, choice)
    dtype = np.exp(np.zeros(1, batch.packed.dtype)).dtype
    # As over time: eight ulps are room for exp, a sum, and a logarithm or a division.
    near = {"rtol": 8 * np.finfo(dtype).eps, "atol": 8 * np.finfo(dtype).eps}
    powers = [np.exp(s.astype(np.float64)) for s in batch.sequences]
    sums = [p.sum(axis, keepdims=True) for p in powers]
    weights = [p / s for p, s in zip(powers, sums, strict=True)]
    assert_sequences(batch.packed.softmax(axis), [w.astype(dtype) for w in weights], **near)
    logs = [np.log(w).astype(dtype) for w in weights]
    assert_sequences(batch.packed.log_softmax(axis), logs, **near)
    totals = [np.log(s).squeeze(axis).astype(dtype) for s in sums]
    assert_sequences(batch.packed.logsumexp(axis), totals, **near)


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_softmax_of_large_numbers_keeps_its_digits(dtype, axis):
    """Where logsumexp alone is rounded to 1e-3: numbers near 1e4 and float32."""
    rows = (10_000 + 3 * np.random.default_rng(0).standard_normal((9, 40))).astype(dtype)
    result = PackedSequence(rows, [1] * 9).log_softmax(axis).data
    less = rows.astype(np.longdouble) - rows.max(axis or 0, keepdims=True)
    expected = less - np.log(np.exp(less).sum(axis or 0, keepdims=True))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(result, expected.astype(dtype), rtol=8 * eps, atol=8 * eps)


NAMES = ["sum", "mean", "max", "min", "argmax", "logsumexp", "softmax", "log_softmax", "cumsum"]


def uneven(shape, dtype, seed=0):
    """Numbers of many magnitudes, whose sums differ with their order."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)
    return values.astype(dtype)


def assert_same_bits(actual, expected):
    actual = actual.astype(actual.dtype.newbyteorder("="))  # max and min keep the rows' dtype
    assert actual.dtype == expected.dtype
    assert actual.tobytes() == expected.tobytes()


def reduced(rows, name, axis):
    """Of rows (N, *), a batch of one sequence."""
    return getattr(PackedSequence(rows, [1] * len(rows)), name)(axis=axis).data


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("row_shape", "axis"), [((130,), -1), ((9, 21), 1), ((9, 21), 2)])
def test_a_rows_bits_are_its_own(name, dtype, row_shape, axis):
    rows = uneven((37, *row_shape), dtype)
    together = reduced(rows, name, axis)
    for n in (0, 5, 36):
        assert_same_bits(reduced(rows[n : n + 1], name, axis)[0], together[n])
    assert_same_bits(reduced(rows[3:20], name, axis), together[3:20])
    for same in (
        np.asfortranarray(rows),
        np.repeat(rows, 2, axis=0)[::2],
        np.repeat(rows, 3, axis=axis)[(slice(None),) * (axis % rows.ndim) + (slice(1, None, 3),)],
        np.ascontiguousarray(rows[:, ::-1])[:, ::-1],
        rows.astype(rows.dtype.newbyteorder()),
    ):
        np.testing.assert_array_equal(same, rows)
        assert_same_bits(reduced(same, name, axis), together)


@pytest.mark.parametrize("name", NAMES)
def test_a_rows_bits_are_its_own_in_many_blocks(name):
    """Rows are turned 512 KiB at a time, of which these are more."""
    rows = uneven((3, 50_000), np.float32)
    together = reduced(rows, name, -1)
    for n in range(3):
        assert_same_bits(reduced(rows[n : n + 1], name, -1)[0], together[n])
    wide = uneven((5000, 40), np.float32)
    together = reduced(wide, name, -1)
    assert_same_bits(reduced(wide[4000:4100], name, -1), together[4000:4100])


def test_numpys_own_sums_would_depend_on_the_layout():
    """Or there was nothing to promise."""
    rows = uneven((37, 130), np.float32)
    assert (rows.sum(axis=-1) != np.asfortranarray(rows).sum(axis=-1)).any()


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_is_kept_and_the_result_is_contiguous(name):
    packed = make_batch([1, 4, 0], (3, 2), np.float32).packed
    result = getattr(packed, name)(axis=1)
    np.testing.assert_array_equal(result.lengths, packed.lengths)
    np.testing.assert_array_equal(result.sorted_indices, packed.sorted_indices)
    assert result.data.flags.c_contiguous
    assert (result + packed.sum(axis=1)).batch_size == 3


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_an_axis_of_nothing_is_as_a_sequence_of_no_steps(dtype):
    rows, empty = make_batch([2, 1], (0,), dtype).packed, pack_sequence([np.zeros(0, dtype)])
    for name in ("sum", "mean", "max", "min", "argmax", "logsumexp"):
        along, over_time = getattr(rows, name)(axis=-1), getattr(empty, name)()
        np.testing.assert_array_equal(along.data, np.repeat(over_time, 3))
        assert along.dtype == over_time.dtype
    for name in ("cumsum", "softmax", "log_softmax"):
        assert getattr(rows, name)(axis=-1).data.shape == (3, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_no_rows(name):
    packed = PackedSequence(np.zeros((0, 2, 3), np.float32), [])
    kept = (0, 2, 3) if name in ("softmax", "log_softmax", "cumsum") else (0, 3)
    assert getattr(packed, name)(axis=1).data.shape == kept


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("axis", "error", "message"),
    [
        (0, ValueError, "axis must be one of the 2 axes of a row, such as -1, got 0: the steps of"),
        (3, ValueError, "the 2 axes of a row, such as -1, got 3"),
        (-3, ValueError, "the 2 axes of a row, such as -1, got -3"),
        (1.0, TypeError, "axis must be an integer, got 1.0"),
        (True, TypeError, "axis must be an integer, got True"),
        ((1, 2), TypeError, r"axis must be an integer, got \(1, 2\)"),
    ],
)
def test_what_is_no_axis_of_a_row(name, axis, error, message):
    packed = make_batch([2, 1], (2, 3)).packed
    with pytest.raises(error, match=message):
        getattr(packed, name)(axis=axis)


def test_rows_of_one_number_have_no_axis():
    with pytest.raises(ValueError, match="one of the 0 axes of a row, such as -1, got -1"):
        make_batch([2, 1]).packed.argmax(axis=-1)


def test_a_nan_wins_in_its_own_row():
    packed = pack_sequence([np.array([[1, np.nan, 3], [4, 5, 6]], np.float32)])
    np.testing.assert_array_equal(packed.max(axis=-1)[0], [np.nan, 6])
    np.testing.assert_array_equal(packed.argmax(axis=-1)[0], [1, 2])
    np.testing.assert_array_equal(packed.sum(axis=-1)[0], [np.nan, 15])
