"""Sequences taken, cut, turned, shifted, framed and joined, against a loop over sequences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragged import assert_rows, assert_sequences, batches, make_batch, numbers, unusual_layouts

import packseq
from packseq import PackedSequence, concatenate, pack_sequence, windows
from packseq.rows import moving

DTYPES = (np.float32, np.int8, np.complex128, np.dtype("S3"), np.dtype("i4,f8"))
ANY = batches(DTYPES[:3])
BOUNDS = st.none() | st.integers(-22, 22)


@given(ANY, st.data())
def test_an_index_takes_one_sequence(batch, data):
    b = data.draw(st.integers(-batch.packed.batch_size, batch.packed.batch_size - 1))
    assert_rows(batch.packed[b], batch.sequences[b])


@pytest.mark.parametrize(
    ("lengths", "b", "view"),
    [([3, 3, 3], 1, True), ([1, 3, 0], 0, True), ([5, 2], 1, True), ([5, 2], 0, False)],
)
def test_an_indexed_sequence_is_a_view_where_its_steps_are_evenly_apart(lengths, b, view):
    packed = make_batch(lengths, (2,)).packed
    assert np.shares_memory(packed[b], packed.data) == view


@given(ANY, st.data())
def test_select_takes_reorders_and_repeats(batch, data):
    b = st.integers(-batch.packed.batch_size, batch.packed.batch_size - 1)
    indices = data.draw(st.lists(b, max_size=12))
    selected = batch.packed.select(indices)
    assert_sequences(selected, [batch.sequences[b] for b in indices])
    assert selected.data.shape[1:] == batch.packed.data.shape[1:]


@given(ANY, BOUNDS, BOUNDS)
def test_slice_cuts_each_sequence_as_python_does(batch, start, stop):
    cut = batch.packed.slice(start, stop)
    assert_sequences(cut, [sequence[start:stop] for sequence in batch.sequences])


@given(batches((np.float32,)))
def test_a_slice_that_counts_from_the_start_is_a_view(batch):
    cut = batch.packed.slice(1, 4)
    assert cut.data.size == 0 or np.shares_memory(cut.data, batch.packed.data)


@given(batches((np.float32,)))
def test_slices_of_one_batch_share_a_layout(batch):
    differences = batch.packed.slice(1) - batch.packed.slice(None, -1)
    assert_sequences(differences, [np.diff(sequence, axis=0) for sequence in batch.sequences])


def test_slice_bounds_may_be_beyond_any_integer():
    batch = make_batch([3, 0, 2])
    assert_sequences(batch.packed.slice(-(2**70), 2**70), batch.sequences)


@given(ANY)
def test_reverse_turns_each_sequence_round(batch):
    assert_sequences(batch.packed.reverse(), [sequence[::-1] for sequence in batch.sequences])


@given(batches((np.float32, np.int8)), st.integers(-25, 25))
def test_shift_moves_steps_within_each_sequence(batch, steps):
    def shifted(sequence):
        result = np.full_like(sequence, 7)
        length = len(sequence)
        for t in range(length):
            if 0 <= t - steps < length:
                result[t] = sequence[t - steps]
        return result

    assert_sequences(batch.packed.shift(steps, fill=7), [*map(shifted, batch.sequences)])


@given(ANY, st.integers(1, 6), st.integers(1, 30))
def test_windows_frame_each_sequence(batch, size, step):
    def framed(sequence):
        starts = range(0, len(sequence) - size + 1, step)
        frames = np.empty((len(starts), size, *sequence.shape[1:]), sequence.dtype)
        for frame, start in zip(frames, starts, strict=True):
            frame[...] = sequence[start : start + size]
        return frames

    assert_sequences(windows(batch.packed, size, step), [*map(framed, batch.sequences)])


def count_calls(monkeypatch, owner, name, size):
    """Sum `size` of the results of a function, called by its owner's code."""
    seen, function = [], getattr(owner, name)

    def counting(*args, **kwargs):
        result = function(*args, **kwargs)
        seen.append(size(result))
        return result

    monkeypatch.setattr(owner, name, counting)
    return seen


@pytest.mark.parametrize("row_shape", [(2,), (0,)])
def test_windows_cost_as_much_as_they_are_large(monkeypatch, row_shape):
    lengths = [300, *[1] * 1000]
    packed = PackedSequence.from_ragged(
        np.zeros((sum(lengths), *row_shape), np.float32), np.cumsum([0, *lengths])
    )
    runs = count_calls(monkeypatch, moving, "_runs", len)
    framed = windows(packed, 200)
    assert framed.data.shape == (101, 200, *row_shape)
    assert sum(runs) <= 200 * 101
    assert bool(runs) == (row_shape != (0,))


@pytest.mark.parametrize("dtype", ["f4", "V0"])
def test_what_holds_no_bytes_is_not_walked_over(monkeypatch, dtype):
    shape = (10**10, 0) if dtype == "f4" else (10**10,)
    packed = PackedSequence(np.empty(shape, np.dtype(dtype)), np.full(10**5, 10**5))
    monkeypatch.setattr(moving.rows, "transfer", None)
    for same in (packed.reverse(), packed.shift(3), packed.select(np.arange(10**5))):
        assert same.data.shape == shape
    assert windows(packed, 10**5).data.shape == (10**5, 10**5, *shape[1:])


def test_rows_apart_are_copied_once_however_many_pieces_there_are(monkeypatch):
    batch = make_batch([1] * 50, (4, 3))
    turned = PackedSequence(batch.packed.data.transpose(0, 2, 1), batch.packed.batch_sizes)
    copies = count_calls(monkeypatch, moving.np, "ascontiguousarray", lambda array: array.size)
    pieces = turned.split([1] * 50, axis=0)
    assert sum(copies) <= turned.data.size
    assert_sequences(
        concatenate(pieces, axis=0), [rows.transpose(0, 2, 1) for rows in batch.sequences]
    )


@given(st.lists(ANY, min_size=1, max_size=3))
def test_concatenate_joins_batches(parts):
    row_shape = parts[0].packed.data.shape[1:]
    parts = [part for part in parts if part.packed.data.shape[1:] == row_shape]
    joined = concatenate([part.packed for part in parts], axis=0)
    dtype = np.result_type(*(part.packed.dtype for part in parts))
    assert_sequences(joined, [s.astype(dtype) for part in parts for s in part.sequences])


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=8))
def test_concatenate_joins_sequences_in_time(lengths):
    parts = [
        make_batch(column, (2,), seed=k) for k, column in enumerate(zip(*lengths, strict=True))
    ]
    joined = concatenate([part.packed for part in parts], axis="time")
    expected = [
        np.concatenate(pieces) for pieces in zip(*(part.sequences for part in parts), strict=True)
    ]
    assert_sequences(joined, expected)


@pytest.mark.parametrize(("axis", "numpy_axis"), [(1, 1), (2, 2), (-1, 2), (-2, 1)])
def test_concatenate_joins_features(axis, numpy_axis):
    lengths = [3, 0, 5]
    one, two = make_batch(lengths, (2, 2), seed=1), make_batch(lengths, (2, 2), seed=2)
    pairs = zip(one.sequences, two.sequences, strict=True)
    expected = [np.concatenate(pair, numpy_axis) for pair in pairs]
    assert_sequences(concatenate([one.packed, two.packed], axis=axis), expected)


@given(batches((np.float32,), row_shapes=st.sampled_from([(5,), (2, 5)])))
def test_split_undoes_concatenate(batch):
    pieces = batch.packed.split([2, 0, 3])
    assert all(piece.nbytes == 0 or piece.data.base is not None for piece in pieces)
    for piece, columns in zip(pieces, (slice(0, 2), slice(2, 2), slice(2, 5)), strict=True):
        assert_sequences(piece, [sequence[..., columns] for sequence in batch.sequences])
    np.testing.assert_array_equal(concatenate(pieces).data, batch.packed.data)


@given(batches((np.float32,)))
def test_split_along_the_batch(batch):
    half = batch.packed.batch_size // 2
    one, two = batch.packed.split([half, batch.packed.batch_size - half], axis=0)
    assert_sequences(one, batch.sequences[:half])
    assert_sequences(two, batch.sequences[half:])


@given(ANY)
def test_first_and_last_are_zero_where_there_is_no_step(batch):
    zero = np.zeros_like(batch.packed.data, shape=batch.packed.data.shape[1:])
    for actual, t in ((batch.packed.first(), 0), (batch.packed.last(), -1)):
        expected = [s[t] if len(s) else zero for s in batch.sequences]
        assert_rows(actual, np.array(expected, batch.packed.dtype))


@given(batches((np.float32, np.int8)))
def test_broadcast_gives_every_step_its_sequences_row(batch):
    rng = np.random.default_rng(1)
    values = numbers(rng, (batch.packed.batch_size, 2), np.float64)
    expected = [
        np.repeat(row[np.newaxis], len(sequence), axis=0)
        for row, sequence in zip(values, batch.sequences, strict=True)
    ]
    assert_sequences(batch.packed.broadcast(values[::-1][::-1]), expected)


@pytest.mark.parametrize(
    "operation",
    [
        lambda p: p.select([1, 1, 0]),
        lambda p: p.slice(-2),
        lambda p: p.reverse(),
        lambda p: p.shift(1),
        lambda p: windows(p, 2),
        lambda p: concatenate([p, p], axis="time"),
        lambda p: concatenate([p, p], axis=0),
    ],
)
def test_rows_of_any_layout(operation):
    packed = make_batch([4, 0, 2, 5], (3,), np.float32).packed
    for same in unusual_layouts(packed):
        np.testing.assert_array_equal(operation(same).data, operation(packed).data)


@pytest.mark.parametrize("dtype", DTYPES[3:])
def test_rows_of_any_dtype(dtype):
    sequences = [np.ones(length, np.int8).astype("S3").astype("S3") for length in (3, 1)]
    if dtype.kind == "V":
        sequences = [np.zeros(length, dtype) for length in (3, 1)]
        for k, sequence in enumerate(sequences):
            sequence["f0"] = np.arange(len(sequence)) + 10 * k
    packed = pack_sequence(sequences)
    assert_rows(packed.reverse()[0], sequences[0][::-1])
    assert_rows(packed.shift(1)[0][1:], sequences[0][:-1])
    assert_rows(packed.select([1]).data, sequences[1])


def test_sequences_whose_ties_torch_broke_otherwise():
    packed = PackedSequence([10, 20, 11, 21], [2, 2], sorted_indices=[1, 0])
    assert_sequences(packed.reverse(), [np.array([21, 20]), np.array([11, 10])])
    assert_sequences(packed.slice(1), [np.array([21]), np.array([11])])
    assert_sequences(packed.select([1, 0]), [np.array([10, 11]), np.array([20, 21])])


PACKED = make_batch([3, 1], (4,)).packed


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PACKED[2], IndexError, "sequence 2 is out of range: there are 2"),
        (lambda: PACKED[-3], IndexError, "sequence -3 is out of range"),
        (lambda: PACKED[0:1], TypeError, "the index of one sequence must be an integer, got slice"),
        (lambda: PACKED.select([0, 2]), ValueError, r"between -2 and 1, got indices\[1\] = 2"),
        (lambda: PACKED.select([True, False]), TypeError, "indices must be integers, got .* bool"),
        (lambda: PACKED.select([[0]]), ValueError, "indices must be 1-D"),
        (lambda: PACKED.slice(1.0), TypeError, "start must be an integer, got 1.0"),
        (lambda: PACKED.shift("1"), TypeError, "steps must be an integer, got '1'"),
        (lambda: PACKED.astype("i1").shift(1, 300), ValueError, "fill 300 does not fit dtype int8"),
        (lambda: PACKED.split([1, 2]), ValueError, "sizes must sum to 4, .* got 3"),
        (lambda: PACKED.split([5, -1]), ValueError, r"negative, got sizes\[1\] = -1"),
        (lambda: PACKED.split([4], axis=2), ValueError, "axis must be 0, .* got 2"),
        (lambda: PACKED.split([2], axis=-2), ValueError, "axis must be 0, .* got -2"),
        (lambda: PACKED.split(4), TypeError, "sizes must be a list of integers, got 4"),
        (lambda: PACKED.broadcast([1, 2, 3]), ValueError, r"2 sequences, got shape \(3,\)"),
        (lambda: PACKED.broadcast(1), ValueError, r"per_sequence .* got shape \(\)"),
        (lambda: windows(PACKED, 0), ValueError, "size must be at least 1, got 0"),
        (lambda: windows(PACKED, 1, 0), ValueError, "step must be at least 1, got 0"),
        (lambda: windows(PACKED, 2**63), ValueError, "size must be within int64"),
        (lambda: windows(PACKED, 2**62), ValueError, "would take .* bytes, beyond int64"),
        (lambda: windows(PACKED, True), TypeError, "size must be an integer, got True"),
        (lambda: PACKED[True], TypeError, "must be an integer, got True"),
        (lambda: windows(PACKED, 1.5), TypeError, "size must be an integer, got 1.5"),
        (lambda: windows(PACKED.data, 1), TypeError, "must be a PackedSequence, got ndarray"),
        (lambda: concatenate([]), ValueError, "at least one PackedSequence, got none"),
        (lambda: concatenate(PACKED), TypeError, "must be a list of PackedSequence"),
        (lambda: concatenate([PACKED, 1]), TypeError, r"sequences\[1\] must be .* got int"),
        (lambda: concatenate([PACKED], axis="batch"), ValueError, "or 'time', got 'batch'"),
        (lambda: concatenate([PACKED], axis=2), ValueError, "axis must be 0, .* 1 axes .* got 2"),
        (
            lambda: concatenate([PACKED, PACKED.map(lambda rows: rows[:, :2])], axis=0),
            ValueError,
            r"sequences\[1\] has rows of shape \(2,\), sequences\[0\] of \(4,\)",
        ),
        (
            lambda: concatenate([PACKED, PACKED.select([0])], axis="time"),
            ValueError,
            r"sequences\[1\] has 1 sequences to join in time, sequences\[0\] has 2",
        ),
        (
            lambda: concatenate([PACKED, PACKED.slice(1)]),
            ValueError,
            "sequences must share one layout: sequence 0 has 3 steps and 2",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_steps_beyond_any_integer():
    assert_sequences(windows(PACKED, 1, 2**70), [PACKED[b][:1, np.newaxis] for b in (0, 1)])
    assert_sequences(PACKED.shift(-(2**70)), [np.zeros_like(PACKED[b]) for b in (0, 1)])


def test_a_batch_of_no_sequences():
    empty = packseq.PackedSequence(np.empty((0, 2)), [])
    for same in (empty.reverse(), empty.slice(-1), empty.shift(1), windows(empty, 2, 1)):
        assert same.batch_size == 0
    assert empty.select([]).data.shape == (0, 2)
    assert empty.first().shape == empty.sum().shape == (0, 2)
    assert concatenate([empty, PACKED.map(lambda rows: rows[:, :2])], axis=0).batch_size == 2
