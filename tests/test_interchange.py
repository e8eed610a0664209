"""Ragged values and offsets, Arrow columns and Awkward arrays, there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragged import LENGTHS, assert_sequences, batches, make_batch

from packseq import PackedSequence, from_arrow, from_awkward, to_arrow, to_awkward

ROW_SHAPES = st.sampled_from([(), (3,), (2, 3)])


@given(batches((np.float32, np.int8, np.complex64)))
def test_ragged_there_and_back(batch):
    values, offsets = batch.packed.to_ragged()
    np.testing.assert_array_equal(values, np.concatenate(batch.sequences))
    np.testing.assert_array_equal(np.diff(offsets), batch.packed.lengths)
    assert offsets[0] == 0
    assert_sequences(PackedSequence.from_ragged(values, offsets), batch.sequences)


def test_values_around_the_offsets_are_not_read():
    packed = PackedSequence.from_ragged(np.arange(9), [2, 5, 5, 7])
    assert_sequences(packed, [np.array([2, 3, 4]), np.array([], int), np.array([5, 6])])


@pytest.mark.parametrize(
    ("lengths", "shared"),
    [([5], True), ([0, 5, 0], True), ([1, 0, 1], True), ([0, 0], True), ([2, 1], False)],
)
def test_rows_in_the_same_order_are_shared(lengths, shared):
    values = np.arange(sum(lengths) + 4.0)
    packed = PackedSequence.from_ragged(values, np.cumsum([2, *lengths]))
    back, _ = packed.to_ragged()
    if packed.nbytes:
        assert np.shares_memory(packed.data, values) == shared
        assert np.shares_memory(packed.data, back) == shared
    np.testing.assert_array_equal(back, values[2:-2])


def test_ties_in_another_order_are_not_shared():
    packed = PackedSequence([1, 2], [2], sorted_indices=[1, 0])
    np.testing.assert_array_equal(packed.to_ragged()[0], [2, 1])


@pytest.mark.parametrize("values", [np.arange(20)[::2], np.arange(10).astype(">i8")])
def test_values_of_any_layout(values):
    values.setflags(write=False)
    packed = PackedSequence.from_ragged(values, [0, 3, 10])
    np.testing.assert_array_equal(packed[1], values[3:])


@pytest.mark.parametrize(
    ("values", "offsets", "error", "message"),
    [
        ([1, 2], [], ValueError, "offsets must have one entry more"),
        ([1, 2], [0, 3], ValueError, r"between 0 and 2, .* got offsets\[1\] = 3"),
        ([1, 2], [-1, 2], ValueError, r"got offsets\[0\] = -1"),
        ([1, 2], [0, 2, 1], ValueError, r"decrease, got offsets\[2\] = 1 after offsets\[1\] = 2"),
        ([1, 2], [0.0, 2.0], TypeError, "offsets must be integers"),
        (1, [0], ValueError, r"values must have shape \(M, \*\), got a scalar"),
        (np.array([None]), [0, 1], TypeError, "values must not hold Python objects"),
    ],
)
def test_bad_offsets_are_named(values, offsets, error, message):
    with pytest.raises(error, match=message):
        PackedSequence.from_ragged(values, offsets)


class TestArrow:
    pa = pytest.importorskip("pyarrow", reason="the library that is exchanged with")

    @given(batches((np.float32, np.int8, np.bool_, np.float16), row_shapes=ROW_SHAPES))
    def test_there_and_back(self, batch):
        column = to_arrow(batch.packed)
        column.validate(full=True)
        assert column.to_pylist() == [s.tolist() for s in batch.sequences]
        assert_sequences(from_arrow(column), batch.sequences)

    @given(batches((np.float32, np.int8, np.bool_), row_shapes=ROW_SHAPES))
    def test_capsules_hand_over_the_same_lists(self, batch):
        assert self.pa.array(batch.packed).equals(to_arrow(batch.packed))
        assert_sequences(from_arrow(batch.packed), batch.sequences)

    def test_a_requested_schema_is_pyarrows_to_meet(self):
        wanted = self.pa.large_list(self.pa.float64())
        column = self.pa.array(make_batch([2, 1], (), np.float64).packed, wanted)
        assert column.type == wanted
        assert column.to_pylist() == to_arrow(make_batch([2, 1]).packed).to_pylist()

    def test_capsules_of_what_arrow_has_not(self):
        with pytest.raises(TypeError, match="Arrow has no lists of dtype complex64"):
            make_batch([2, 1], (), np.complex64).packed.__arrow_c_array__()
        with pytest.raises(ValueError, match=r"no lists of rows of shape \(0,\)"):
            make_batch([2, 1], (0,)).packed.__arrow_c_array__()

    @given(LENGTHS, st.data())
    def test_slices_and_chunks(self, lengths, data):
        batch = make_batch(lengths, (2,), np.float32)
        column = to_arrow(batch.packed)
        cut = data.draw(st.integers(0, len(lengths)))
        assert_sequences(from_arrow(column.slice(cut)), batch.sequences[cut:])
        chunked = self.pa.chunked_array([column.slice(cut), column.slice(0, cut)])
        assert_sequences(from_arrow(chunked), batch.sequences[cut:] + batch.sequences[:cut])

    @pytest.mark.parametrize("dtype", ["M8[s]", "M8[ns]", "m8[us]", "u8", "f8"])
    def test_other_types(self, dtype):
        batch = make_batch([3, 0, 2], (), np.int64)
        packed = batch.packed.astype(dtype)
        assert_sequences(from_arrow(to_arrow(packed)), [s.astype(dtype) for s in batch.sequences])

    def test_lists_of_every_kind(self):
        pa = self.pa
        rows = [[1, 2], [3, 4]]
        for kind in (pa.list_(pa.int8()), pa.large_list(pa.int8()), pa.list_(pa.int8(), 2)):
            column = pa.array([[9, 9], *rows, [9, 9]], kind).slice(1, 2)
            assert_sequences(from_arrow(column), [np.array(row, np.int8) for row in rows])

    def test_a_list_beneath_a_null_is_refused_and_beside_it_taken(self):
        pa = self.pa
        column = pa.array([[1], None, [2, 3]])
        with pytest.raises(ValueError, match="column has no sequence 1: it is null"):
            from_arrow(column)
        assert_sequences(from_arrow(column.slice(2)), [np.array([2, 3])])

    def test_a_column_without_chunks(self):
        packed = from_arrow(self.pa.chunked_array([], self.pa.list_(self.pa.float32())))
        assert (packed.batch_size, packed.dtype) == (0, np.float32)

    def test_one_sequence_shares_arrows_memory(self):
        column = self.pa.array([[1.0, 2.0, 3.0]])
        address = column.values.buffers()[1].address
        assert from_arrow(column).data.ctypes.data == address

    def test_nulls_are_placed(self):
        pa = self.pa
        column = pa.chunked_array([pa.array([[1], [2]]), pa.array([[0], [3, None]])])
        with pytest.raises(ValueError, match="column has a null at step 1 of sequence 3"):
            from_arrow(column)
        pairs = pa.list_(pa.list_(pa.int8(), 2))
        for value in ([None, [1, 2]], [[1, None], [1, 2]]):
            with pytest.raises(ValueError, match="column has a null at step 0 of sequence 1"):
                from_arrow(pa.array([[[1, 2]], value], pairs))

    @pytest.mark.parametrize(
        ("values", "error", "message"),
        [
            ([1, 2], TypeError, "column must hold lists, got type int64"),
            ([["a"]], TypeError, r"of these, got lists of string: column.cast\(pyarrow.list_"),
            ([[[1], [2, 3]]], ValueError, "has 2 values instead of 1 at step 1 of sequence 0"),
        ],
    )
    def test_columns_that_hold_no_sequences(self, values, error, message):
        with pytest.raises(error, match=message):
            from_arrow(self.pa.array(values))

    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    def test_times_of_day_are_objects_in_numpy(self, unit):
        kind = self.pa.time32(unit) if unit in ("s", "ms") else self.pa.time64(unit)
        with pytest.raises(TypeError, match=r"column must hold lists of .* got lists of time"):
            from_arrow(self.pa.array([[1, 2]], self.pa.list_(kind)))

    def test_nat_becomes_a_null_which_does_not_come_back(self):
        column = to_arrow(PackedSequence(np.array(["2020", "NaT"], "M8[s]"), [1, 1]))
        assert column.flatten().is_null().to_pylist() == [False, True]
        with pytest.raises(ValueError, match="column has a null at step 1 of sequence 0"):
            from_arrow(column)

    def test_what_is_no_column(self):
        with pytest.raises(TypeError, match=r"column must be a pyarrow Array .*, got list"):
            from_arrow([[1]])
        with pytest.raises(TypeError, match="sequence must be a PackedSequence, got list"):
            to_arrow([[1]])

    @pytest.mark.parametrize(
        ("dtype", "shape", "error"),
        [
            (np.complex64, (3,), TypeError),
            ("U3", (3,), TypeError),
            ("S3", (3,), TypeError),
            (np.int8, (3, 0), ValueError),
        ],
    )
    def test_what_arrow_cannot_hold(self, dtype, shape, error):
        with pytest.raises(error, match="Arrow has no lists of"):
            to_arrow(PackedSequence(np.zeros(shape, dtype), [2, 1]))


class TestAwkward:
    ak = pytest.importorskip("awkward", reason="the library that is exchanged with")

    @given(batches((np.float32, np.int8, np.complex64), row_shapes=ROW_SHAPES))
    def test_there_and_back(self, batch):
        array = to_awkward(batch.packed)
        assert self.ak.to_list(array) == [s.tolist() for s in batch.sequences]
        assert_sequences(from_awkward(array), batch.sequences)

    def test_lists_that_are_not_end_to_end(self):
        array = self.ak.Array([[1], [], [2, 3], [4]])[[2, 0, 1]]
        expected = [np.array([2, 3]), np.array([1]), np.array([], int)]
        assert_sequences(from_awkward(array), expected)
        assert_sequences(from_awkward(array[1:]), expected[1:])

    def test_regular_arrays(self):
        array = self.ak.from_numpy(np.arange(6).reshape(2, 3), regulararray=True)
        assert_sequences(from_awkward(array), [np.arange(3), np.arange(3, 6)])
        array = self.ak.Array(np.arange(6).reshape(2, 3))
        assert_sequences(from_awkward(array), [np.arange(3), np.arange(3, 6)])

    def test_an_option_type_without_a_missing_value(self):
        array = self.ak.Array([[1], None, [2]])[[0, 2]]
        assert_sequences(from_awkward(array), [np.array([1]), np.array([2])])

    @pytest.mark.parametrize(
        ("values", "error", "message"),
        [
            ([1, 2], TypeError, "array must hold lists, got type 2 . int64"),
            ([[1], None], ValueError, "array has no sequence 1: it is missing"),
            ([[1], [2, None]], ValueError, "array has a null at step 1 of sequence 1"),
            ([[[1], [2, 3]]], TypeError, "array must have regular axes after its lists"),
        ],
    )
    def test_what_is_refused(self, values, error, message):
        with pytest.raises(error, match=message):
            from_awkward(self.ak.Array(values))

    def test_what_is_no_array(self):
        with pytest.raises(TypeError, match=r"array must be an awkward\.Array, got list"):
            from_awkward([[1]])


@pytest.mark.parametrize(
    ("call", "library"),
    [(lambda p: to_arrow(p), "pyarrow"), (lambda p: from_awkward(p), "awkward")],
)
def test_a_missing_library_is_named(call, library, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(ImportError, match=f'this needs {library}: pip install "{library}>='):
        call(make_batch([1]).packed)


# ---- offsets that a file or another library made up --------------------------------------------


@pytest.mark.parametrize("offsets", [[0, 2000000, -300000, 6], [0, 100, 8], [0, 4, 2], [5, 3, 6]])
@pytest.mark.parametrize("large", [False, True])
def test_arrow_offsets_that_lie_are_refused(offsets, large):
    pa = pytest.importorskip("pyarrow", reason="makes Arrow's lists")
    kind = pa.large_list(pa.float32()) if large else pa.list_(pa.float32())
    buffer = pa.py_buffer(np.array(offsets, np.int64 if large else np.int32))
    values = pa.array(np.arange(8, dtype=np.float32))
    array = pa.ListArray if not large else pa.LargeListArray
    made = array.from_buffers(kind, len(offsets) - 1, [None, buffer], children=[values])
    with pytest.raises(ValueError, match="column is malformed from row 0 on"):
        from_arrow(made)
    whole = pa.chunked_array([pa.array([[1.0], [2.0]], kind), made])
    with pytest.raises(ValueError, match="column is malformed from row 2 on"):
        from_arrow(whole)


@pytest.mark.parametrize("offsets", [[0, 100, 8], [0, 4, 2], [0, 2000000, -300000, 6]])
def test_awkward_offsets_that_lie_are_refused(offsets):
    ak = pytest.importorskip("awkward", reason="makes Awkward's lists")
    content = ak.contents.NumpyArray(np.arange(6, dtype=np.float32))
    index = ak.index.Index64(np.array(offsets, np.int64))
    with pytest.raises(ValueError, match="array is malformed"):
        from_awkward(ak.Array(ak.contents.ListOffsetArray(index, content)))
