"""Columns of sequences of every type that Arrow, polars, pandas and DuckDB have for them."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragged import LENGTHS, assert_sequences

import packseq
from packseq import from_arrow

pa = pytest.importorskip("pyarrow", reason="the columns are its")

from tables import KINDS, column_of, sequences_of  # noqa: E402


@given(LENGTHS, st.sampled_from(sorted(KINDS)), st.data())
def test_every_type_sliced_and_chunked(lengths, kind, data):
    sequences = sequences_of(lengths)
    column = column_of(sequences, kind)
    first = data.draw(st.integers(0, len(lengths)))
    chunked = pa.chunked_array([column.slice(first), column.slice(0, first)])
    dtype = np.float64 if kind == "double" else np.float32
    expected = [one.astype(dtype) for one in sequences[first:] + sequences[:first]]
    if any(lengths) or (not kind.startswith("large view") and "lists" not in kind):
        assert_sequences(from_arrow(chunked), expected)
    else:  # no inner list tells its size
        assert from_arrow(chunked).data.shape[0] == 0


def test_a_chunk_without_a_step_takes_the_others_width():
    kind = KINDS["lists"]
    column = pa.chunked_array([pa.array([[], []], kind), pa.array([[[1, 2]]], kind)])
    packed = from_arrow(column)
    assert packed.data.tolist() == [[1, 2]]
    assert packed.lengths.tolist() == [0, 0, 1]


def test_views_that_overlap_and_are_out_of_order():
    steps = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(8.0)), 2)
    offsets, sizes = pa.array([2, 0, 1], pa.int32()), pa.array([2, 0, 3], pa.int32())
    column = pa.ListViewArray.from_arrays(offsets, sizes, steps)
    rows = np.arange(8.0).reshape(4, 2)
    assert_sequences(from_arrow(column), [rows[2:4], rows[:0], rows[1:4]])
    assert_sequences(from_arrow(column.slice(2)), [rows[1:4]])


@pytest.mark.parametrize("offsets", [[0, 9], [-1, 0], [2, 3]])
def test_views_that_reach_out_are_refused(offsets):
    values = pa.array(np.arange(4.0))
    buffers = [None, pa.py_buffer(np.array(offsets, np.int32)), pa.py_buffer(np.int32([1, 2]))]
    column = pa.Array.from_buffers(pa.list_view(pa.float64()), 2, buffers, children=[values])
    with pytest.raises(ValueError, match="column is malformed from row 0 on"):
        from_arrow(column)


def test_arrows_own_tensors():
    values = pa.array([[1.0, 2.0, 3.0, 4.0]] * 2, pa.list_(pa.float64(), 4))
    tensors = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float64(), (2, 2)), values)
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 2], pa.int32()), tensors)
    assert from_arrow(lists).data.tolist() == [[1, 2, 3, 4]] * 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[[1, 2]], [[3, 4], [5]]], "has 1 values instead of 2 at step 1 of sequence 1"),
        ([[[1, 2]], [[3, 4], None]], "has a null at step 1 of sequence 1"),
        ([[[1, 2]], [[3, 4], [5, None]]], "has a null at step 1 of sequence 1"),
        ([[[1, 2]], None], "has no sequence 1: it is null"),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
def test_what_is_wrong_with_a_sequence_is_placed(values, message, before):
    kind = pa.list_(pa.list_(pa.int16()))
    column = pa.chunked_array([pa.array([[[7, 7]]] * before, kind), pa.array(values, kind)])
    message = message.replace("sequence 1", f"sequence {1 + before}")
    with pytest.raises(ValueError, match=message):
        from_arrow(column)


def test_chunks_of_different_widths():
    kind = KINDS["lists"]
    column = pa.chunked_array([pa.array([[[1]]], kind), pa.array([[[1, 2]]], kind)])
    with pytest.raises(ValueError, match=r"steps of shapes \(1,\) and \(2,\)"):
        from_arrow(column)


TEXT = pa.array([[["1.5"], ["2"]]])
ENCODED = pa.array([1.5, 2.0]).dictionary_encode()
STEPS = pa.array([[[1.5], [2.0]]])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([["1.5", "2"]]),
        TEXT,
        pa.chunked_array([TEXT]),
        TEXT.cast(pa.large_list(pa.list_(pa.large_string(), 1))),
        TEXT.cast(pa.large_list(pa.large_list(pa.string()))),
        STEPS.cast(pa.list_(pa.list_(pa.decimal128(4, 1)))),
        pa.ListArray.from_arrays([0, 2], ENCODED),
        pa.StructArray.from_arrays([STEPS], ["x"]),
    ],
    ids=lambda column: str(column.type),
)
def test_the_cast_that_is_named_helps(column):
    with pytest.raises(TypeError) as error:
        from_arrow(column)
    named = re.search(r": ((?:column|pyarrow)\..*\)) ", str(error.value)).group(1)
    mended = eval(named, {"column": column, "pyarrow": pa})
    assert from_arrow(mended).data.reshape(-1).tolist() == [1.5, 2]


@pytest.mark.parametrize("column", [pa.array([None, None]), pa.array([[], []])])
@pytest.mark.parametrize("width", [1, 3])
def test_what_an_untyped_column_is_missing_is_named(column, width):
    with pytest.raises(TypeError) as error:
        packseq.Predictor(packseq.GRU(width, 4), "x")(pa.table({"x": column}))
    named = re.search(r"column\.cast\(.*\)", str(error.value)).group()
    mended = pa.table({"x": eval(named, {"column": column, "pyarrow": pa})})
    result = packseq.Predictor(packseq.GRU(width, 4), "x", nulls="null")(mended)
    assert result["prediction"].null_count == column.null_count


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["[1.5]"]),
        pa.array([1.5]),
        pa.array([[{"a": 1.5}]]),
        pa.array([["1.5"]], pa.list_view(pa.string())),
        pa.array(["a"]).dictionary_encode(),
    ],
)
def test_no_cast_is_named_where_none_helps(column):
    with pytest.raises(TypeError) as error:
        from_arrow(column)
    assert "cast" not in str(error.value)


class TestOtherLibraries:
    sequences = sequences_of([2, 0, 3])

    def test_polars(self):
        pl = pytest.importorskip("polars")
        series = pl.Series(
            column_of(self.sequences).to_pylist(), dtype=pl.List(pl.Array(pl.Float32, 3))
        )
        assert_sequences(from_arrow(series), self.sequences)
        lists = pl.Series(column_of(self.sequences).to_pylist(), dtype=pl.List(pl.List(pl.Float32)))
        assert_sequences(from_arrow(lists), self.sequences)

    def test_pandas_with_arrow(self):
        pd = pytest.importorskip("pandas")
        series = pd.Series(column_of(self.sequences), dtype=pd.ArrowDtype(KINDS["fixed"]))
        assert_sequences(from_arrow(series), self.sequences)

    def test_pandas_with_objects(self):
        pd = pytest.importorskip("pandas")
        assert_sequences(from_arrow(pd.Series(self.sequences)), self.sequences)
        ids = [np.array([1, 2]), np.array([], int)]
        assert_sequences(from_arrow(pd.Series(ids)), ids)

    def test_duckdb(self):
        duckdb = pytest.importorskip("duckdb")
        numbers = pa.table({"x": column_of(self.sequences)})
        connection = duckdb.connect()
        connection.register("numbers", numbers)
        relation = connection.sql("select x from numbers").to_arrow_table()
        assert_sequences(from_arrow(relation["x"]), self.sequences)

    def test_capsules_of_one_array(self):
        class Exported:
            def __init__(self, array):
                self._array = array

            def __arrow_c_array__(self, requested_schema=None):
                return self._array.__arrow_c_array__(requested_schema)

        assert_sequences(from_arrow(Exported(column_of(self.sequences))), self.sequences)


def objects(*values):
    made = np.empty(len(values), object)
    made[:] = values
    return made


def test_arrays_of_arrays():
    first, second = sequences_of([2, 1])
    assert_sequences(from_arrow(objects(first, second)), [first, second])
    doubles = [first.astype(float), second.astype(float)]
    assert_sequences(from_arrow(objects(first.tolist(), second.tolist())), doubles)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_arrays_of_arrays_and_nothing(missing):
    with pytest.raises(ValueError, match="no sequence 1: it is null"):
        from_arrow(objects(sequences_of([2])[0], missing))


def test_arrays_of_arrays_of_different_widths():
    with pytest.raises(ValueError, match="has 2 values instead of 3 at step 0 of sequence 1"):
        from_arrow(objects(np.zeros((2, 3)), np.zeros((2, 2))))


def test_objects_that_are_no_column():
    with pytest.raises(TypeError, match="1-D where it holds objects"):
        from_arrow(np.empty((2, 2), object))
