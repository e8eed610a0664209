"""Predictor: from an Arrow table to an Arrow table, the same bits however it is cut."""

import json
import pickle
import threading
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragged import LENGTHS

import packseq
from packseq import Predictor, weights

pa = pytest.importorskip("pyarrow", reason="tables are its")

from tables import (  # noqa: E402
    FEATURES,
    KINDS,
    column_of,
    expected_last,
    gru,
    nested,
    predictions,
    sequences_of,
    table_of,
)

from packseq.predict.predictor import RowError  # noqa: E402

LENGTH_LIST = [4, 0, 7, 1, 4]


@pytest.fixture
def sequences():
    return sequences_of(LENGTH_LIST)


# ---- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_last_is_the_last_layers_final_state(kind, bidirectional, sequences):
    module = getattr(packseq, kind)(FEATURES, 4, 2, bidirectional=bidirectional, rng=0)
    states = [module(one)[1] for one in sequences]
    hidden = [state[0] if kind == "LSTM" else state for state in states]
    directions = 1 + bidirectional
    expected = [np.concatenate(list(h[-directions:]), -1) for h in hidden]
    result = Predictor(module, "x")(table_of(sequences))
    np.testing.assert_array_equal(predictions(result), expected)
    assert result.schema.field("prediction").type == pa.list_(pa.float32(), 4 * directions)


def test_steps_mean_and_max(sequences):
    module = gru()
    outputs = [module(one)[0] for one in sequences]
    table = table_of(sequences)
    steps = Predictor(module, "x", output="steps")(table)["prediction"]
    for row, expected in zip(steps.to_pylist(), outputs, strict=True):
        np.testing.assert_array_equal(np.array(row, np.float32).reshape(-1, 10), expected)
    largest = predictions(Predictor(module, "x", output="max")(table))
    mean = predictions(Predictor(module, "x", output="mean")(table))
    for b, expected in enumerate(outputs):
        if len(expected):
            np.testing.assert_array_equal(largest[b], expected.max(0))
            # The sum of at most 7 numbers below 1 is rounded 7 times, and divided once.
            np.testing.assert_allclose(mean[b], expected.mean(0), atol=8 * 2.0**-24)
    assert np.isnan(mean[1]).all()
    assert (largest[1] == -np.inf).all()


def test_the_other_columns_stay_in_their_order_and_the_metadata_too(sequences):
    table = table_of(sequences).append_column("text", pa.array(list("abcde")))
    table = table.replace_schema_metadata({"mine": "kept"})
    result = Predictor(gru(), "x", name="y")(table)
    assert result.column_names == ["id", "text", "y"]
    assert result.select(["id", "text"]).equals(table.select(["id", "text"]))
    assert result.schema.metadata[b"mine"] == b"kept"
    said = json.loads(result.schema.metadata[b"packseq"])
    assert said == {"version": packseq.__version__, "isa": packseq.settings.isa.engine().name}
    kept = Predictor(gru(), "x", keep=True)(table)
    assert kept.column_names == ["id", "x", "text", "prediction"]
    assert kept["x"].equals(table["x"])


def test_a_table_without_a_row():
    for output in ("last", "mean", "steps"):
        predictor = Predictor(gru(), "x", output=output)
        empty, one = predictor(table_of([])), predictor(table_of(sequences_of([2])))
        assert empty.num_rows == 0
        assert empty.schema == one.schema
    chunkless = pa.table({"x": pa.chunked_array([], KINDS["lists"])})
    assert Predictor(gru(), "x")(chunkless).num_rows == 0


def test_a_module_that_runs_backward(sequences):
    module = weights.Backward(packseq.GRU(FEATURES, 4, rng=0))
    expected = [module(one)[1][0] for one in sequences]
    result = Predictor(module, "x", num_threads=1)(table_of(sequences))
    np.testing.assert_array_equal(predictions(result), expected)


# ---- the same bits -------------------------------------------------------------------------------


@given(
    lengths=LENGTHS,
    kind=st.sampled_from(sorted(KINDS)),
    max_steps=st.integers(1, 60),
    sort_window=st.integers(1, 100),
    cuts=st.lists(st.integers(0, 9), max_size=3),
    num_threads=st.sampled_from([None, 1, 2]),
    output=st.sampled_from(["last", "mean", "max", "steps"]),
)
def test_bits_do_not_depend_on_how_rows_are_cut(
    lengths, kind, max_steps, sort_window, cuts, num_threads, output
):
    module, sequences = gru(), sequences_of(lengths)
    head = sequences_of([4], seed=1)[0][:, :1] * np.ones(10, np.float32), np.ones(4, np.float32)
    table = table_of(sequences, kind)
    ends = sorted({0, len(lengths), *(min(cut, len(lengths)) for cut in cuts)})
    pieces = [table.slice(a, b - a) for a, b in pairwise(ends)]
    predictor = Predictor(
        module,
        "x",
        output=output,
        head=head,
        max_steps=max_steps,
        sort_window=sort_window,
        num_threads=num_threads,
    )
    whole = Predictor(module, "x", output=output, head=head)(table_of(sequences))
    for cut in (predictor(pa.concat_tables(pieces)), pa.concat_tables(map(predictor, pieces))):
        assert cut["id"].equals(table["id"])
        # As text, in which a NaN equals itself.
        assert str(cut["prediction"].to_pylist()) == str(whole["prediction"].to_pylist())


def test_no_more_steps_than_the_budget_are_computed_at_a_time():
    """A longer sequence goes alone; what a head of steps is given is what was computed together."""
    lengths, groups = [3, 0, 9, 2, 40, 5, 5, 1], []
    head = lambda rows: groups.append(len(rows)) or rows  # noqa: E731
    Predictor(gru(), "x", output="steps", max_steps=12, head=head)(table_of(sequences_of(lengths)))
    assert sum(groups) == sum(lengths)
    assert sorted(groups)[-2] <= 12
    assert max(groups) == 40


def test_memory_is_of_the_budget_and_not_of_the_block():
    """Whatever an engine hands over, 3,200 bytes a row here: beside the budget's, a row takes its
    prediction and its places, a dozen numbers in all, and nothing for each of its steps."""
    predictor = Predictor(packseq.GRU(8, 2, rng=0), "x", max_steps=1024, sort_window=4096)
    steps = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(8 * 200_000, np.float32)), 8)
    column = pa.FixedSizeListArray.from_arrays(steps, 100).cast(pa.list_(steps.type))
    table, peaks = pa.table({"x": column}), []
    predictor(table.slice(0, 1))  # what is taken once
    for rows in (50, 2000):
        tracemalloc.start()
        predictor(table.slice(0, rows))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1950 * 200


def test_every_type_gives_the_same(sequences):
    module = gru()
    expected = expected_last(module, sequences)
    for kind in KINDS:
        result = Predictor(module, "x")(table_of(sequences, kind))
        np.testing.assert_array_equal(predictions(result), expected)


def test_threads_that_share_a_predictor_load_once(sequences, tmp_path, monkeypatch):
    packseq.save(gru(), tmp_path / "m.safetensors")
    loads = []
    original = packseq.predict.models.load
    monkeypatch.setattr(
        packseq.predict.models, "load", lambda *a, **k: loads.append(1) or original(*a, **k)
    )
    predictor, table, results = Predictor(tmp_path / "m.safetensors", "x"), table_of(sequences), []
    assert loads == []
    threads = [threading.Thread(target=lambda: results.append(predictor(table))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [1]
    for result in results:
        np.testing.assert_array_equal(predictions(result), expected_last(gru(), sequences))


# ---- embeddings and heads ------------------------------------------------------------------------


def test_numbers_for_a_model_of_one_input():
    module = packseq.LSTM(1, 4, rng=0)
    lists = [[0.5, 1.5], [], [2.0]]
    expected = expected_last(module, [np.array(one, np.float32)[:, None] for one in lists])
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16())):
        column = pa.array(lists, kind)
        np.testing.assert_array_equal(
            predictions(Predictor(module, "x")(pa.table({"x": column}))), expected
        )
    whole = pa.table({"x": pa.array([[1, 2], [3]], pa.list_(pa.uint8()))})
    assert Predictor(module, "x")(whole).num_rows == 2


def test_ids_are_looked_up():
    table = sequences_of([6])[0]
    ids = [[5, 0], [], [3]]
    for kind in (pa.int64(), pa.uint8(), pa.int32()):
        column = pa.array(ids, pa.list_(kind))
        result = Predictor(gru(), "x", embedding=table)(pa.table({"x": column}))
        expected = expected_last(gru(), [table[np.array(one, int)] for one in ids])
        np.testing.assert_array_equal(predictions(result), expected)


@pytest.mark.parametrize("bad", [-1, 6])
def test_an_id_that_is_out_of_range_is_placed(bad):
    column = pa.table({"x": [[1, 2], [], [5, bad]]})
    with pytest.raises(
        RowError, match=f"row 2: 'x' has the id {bad}, of an embedding of 6 rows"
    ) as e:
        Predictor(gru(), "x", embedding=np.zeros((6, FEATURES)))(column)
    assert e.value.row == 2


def test_a_linear_head_and_its_greatest(sequences):
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((130, 10)).astype(np.float32), np.arange(130.0)
    last = expected_last(gru(), sequences)
    result = predictions(Predictor(gru(), "x", head=(weight, bias))(table_of(sequences)))
    # Sums of 10 products and a bias of up to 129, each rounded to 24 bits.
    np.testing.assert_allclose(
        result, last @ weight.T + bias.astype(np.float32), rtol=11 * 2.0**-23, atol=1e-4
    )
    places = Predictor(gru(), "x", head=(weight, bias), argmax=True)(table_of(sequences))
    assert places.schema.field("prediction").type == pa.int64()
    assert places["prediction"].to_pylist() == result.argmax(1).tolist()


def test_a_callable_head(sequences):
    table = table_of(sequences)
    doubled = Predictor(gru(), "x", head=lambda rows: 2 * rows)(table)
    np.testing.assert_array_equal(predictions(doubled), 2 * expected_last(gru(), sequences))
    first = Predictor(gru(), "x", head=lambda rows: rows[:, 0])(table)
    assert first.schema.field("prediction").type == pa.float32()
    steps = Predictor(gru(), "x", output="steps", head=lambda rows: rows[:, :2], argmax=True)(table)
    assert [len(row) for row in steps["prediction"].to_pylist()] == LENGTH_LIST
    with pytest.raises(ValueError, match="head must return"):
        Predictor(gru(), "x", head=lambda rows: rows[:1].sum())(table)


def test_arrays_of_the_file(tmp_path, sequences):
    path = tmp_path / "m.npz"
    rng = np.random.default_rng(0)
    arrays = {f"gru.{name}": array for name, array in gru().state_dict().items()}
    arrays["emb.weight"] = rng.standard_normal((6, FEATURES)).astype(np.float32)
    arrays["out.weight"] = rng.standard_normal((2, 10)).astype(np.float32)
    arrays["out.bias"] = np.ones(2, np.float32)
    np.savez(path, **arrays)
    column = pa.table({"x": [[1, 2], [0]]})
    named = Predictor(path, "x", embedding="emb.weight", head="out", prefix="gru.")
    given = Predictor(
        gru(), "x", embedding=arrays["emb.weight"], head=(arrays["out.weight"], arrays["out.bias"])
    )
    assert named(column)["prediction"].equals(given(column)["prediction"])
    with pytest.raises(ValueError, match=r"holds no array 'no\.weight'"):
        Predictor(path, "x", head="no")(column)
    renamed = {f"gru.{name}": name for name in gru().state_dict()}
    by_name = Predictor(path, "x", embedding="emb.weight", head="out", rename=renamed)
    assert by_name(column)["prediction"].equals(given(column)["prediction"])


# ---- rows that cannot be run ---------------------------------------------------------------------


def poisoned(value, row=1, step=2):
    sequences = sequences_of([3, 4, 2])
    sequences[row][step, 1] = value
    return sequences


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["fixed", "lists", "double", "view"])
def test_a_number_that_is_not_finite_is_placed(value, kind):
    message = f"row 1: 'x' has {value}, which is no finite float32, at step 2"
    with pytest.raises(RowError, match=message):
        Predictor(gru(), "x")(table_of(poisoned(value), kind))


def test_a_double_that_is_no_float_is_placed():
    sequences = nested(sequences_of([3, 4]))
    sequences[1][3][0] = 1e300
    column = pa.table({"x": pa.array(sequences, KINDS["double"])})
    with pytest.raises(
        RowError, match=r"row 1: 'x' has 1e\+300, which is no finite float32, at step 3"
    ):
        Predictor(gru(), "x")(column)


ROWS = [
    [[1, 2, 3]],
    None,
    [[1, 2, 3], [4, 5]],
    [[1, None, 3]],
    [[1, 2, 3], None],
    [],
    [[float("nan")] * 3],
]


def test_what_is_wrong_is_told_in_a_column_where_one_is_asked_for():
    table = pa.table({"id": range(7), "x": pa.array(ROWS, KINDS["lists"])})
    result = Predictor(gru(), "x", errors="why")(table)
    assert result["why"].to_pylist() == [
        None,
        "is null",
        "has 2 values instead of 3 at step 1",
        "has a null at step 0",
        "has a null at step 1",
        None,
        "has nan, which is no finite float32, at step 0",
    ]
    assert result["id"].to_pylist() == list(range(7))
    good = [row is None for row in result["why"].to_pylist()]
    assert [row is not None for row in result["prediction"].to_pylist()] == good
    expected = expected_last(
        gru(), [np.array([[1, 2, 3]], np.float32), np.zeros((0, 3), np.float32)]
    )
    np.testing.assert_array_equal(predictions(result.filter(pa.array(good))), expected)


@pytest.mark.parametrize("output", ["last", "steps"])
@pytest.mark.parametrize("argmax", [False, True])
def test_nulls_come_out_as_nulls(output, argmax):
    sequences = sequences_of([2, 0, 3])
    table = table_of([sequences[0], None, sequences[1], None, sequences[2]])
    with pytest.raises(RowError, match="row 1: 'x' is null"):
        Predictor(gru(), "x")(table)
    result = Predictor(gru(), "x", output=output, argmax=argmax, nulls="null", sort_window=2)(table)
    plain = Predictor(gru(), "x", output=output, argmax=argmax)(table_of(sequences))
    first, null, second, other, third = result["prediction"].to_pylist()
    assert null is None
    assert other is None
    assert [first, second, third] == plain["prediction"].to_pylist()


# ---- tables of other libraries -------------------------------------------------------------------


def test_tables_of_other_libraries(sequences):
    pl = pytest.importorskip("polars")
    pd = pytest.importorskip("pandas")
    table, expected = table_of(sequences), expected_last(gru(), sequences)
    objects = pd.DataFrame({"id": np.arange(5), "x": pd.Series(sequences)})
    arrow = pd.DataFrame(
        {"id": np.arange(5), "x": pd.array(table["x"], pd.ArrowDtype(KINDS["fixed"]))}
    )
    polars = pl.from_arrow(table)
    for data in (table, table.to_batches()[0], objects, arrow, polars):
        result = Predictor(gru(), "x")(data)
        assert result.column_names == ["id", "prediction"]
        np.testing.assert_array_equal(predictions(result), expected)
    assert pl.from_arrow(Predictor(gru(), "x")(polars)).height == 5


def test_duckdb(sequences):
    duckdb = pytest.importorskip("duckdb")
    numbers = table_of(sequences)
    relation = duckdb.sql("select id, x from numbers order by id")
    assert numbers.num_rows == 5
    np.testing.assert_array_equal(
        predictions(Predictor(gru(), "x")(relation)), expected_last(gru(), sequences)
    )


# ---- pickles -------------------------------------------------------------------------------------


def test_a_path_travels_as_a_path_and_a_module_as_its_weights(tmp_path, sequences):
    module = packseq.GRU(FEATURES, 300, rng=0)
    packseq.save(module, tmp_path / "m.safetensors")
    by_path = Predictor(str(tmp_path / "m.safetensors"), "x", nulls="null")
    by_path(table_of(sequences))
    assert len(pickle.dumps(by_path)) < 1000
    size = sum(array.nbytes for array in module.state_dict().values())
    by_module = Predictor(module, "x")
    text = pickle.dumps(by_module)
    assert size < len(text) < size + 3000
    for made in (pickle.loads(text), pickle.loads(pickle.dumps(by_path))):
        assert (
            predictions(made(table_of(sequences))).tolist()
            == predictions(by_module(table_of(sequences))).tolist()
        )


def test_a_file_that_has_changed_is_loaded_again(tmp_path, sequences):
    path = tmp_path / "m.safetensors"
    packseq.save(gru(), path)
    table = table_of(sequences)
    before = predictions(Predictor(path, "x")(table))
    packseq.save(packseq.GRU(FEATURES, 8, rng=1), path)
    after = predictions(Predictor(path, "x")(table))
    assert (before.shape[1], after.shape[1]) == (10, 8)


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"output": "first"}, ValueError, "output must be one of"),
        ({"nulls": "skip"}, ValueError, "nulls must be one of"),
        ({"max_steps": 0}, ValueError, "max_steps must be at least 1"),
        ({"sort_window": 1.5}, TypeError, "sort_window must be an integer"),
        ({"argmax": 1}, TypeError, "argmax must be True or False"),
        ({"num_threads": 0}, ValueError, "num_threads must be at least 1"),
        ({"name": 3}, TypeError, "name must be the name of a column"),
        ({"prefix": "x"}, TypeError, "prefix= belongs to a file"),
        ({"embedding": "x"}, TypeError, "the name of an embedding belongs to a file"),
        ({"embedding": np.zeros((4, 2))}, ValueError, r"embedding must have shape \(V, 3\)"),
        ({"embedding": np.zeros(4)}, ValueError, r"embedding must have shape \(V, 3\)"),
        ({"embedding": np.array(["a"])}, TypeError, "embedding must hold numbers"),
        ({"head": 3}, TypeError, "head must be a callable, or a weight and a bias"),
        ({"head": (np.zeros((2, 9)), np.zeros(2))}, ValueError, r"must have shape \(K, 10\)"),
        (
            {"head": (np.zeros((2, 10)), np.zeros(3))},
            ValueError,
            r"head\[1\] must have shape \(2,\)",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        Predictor(gru(), "x", **arguments)


@pytest.mark.parametrize("model", [packseq.GRUCell(3, 4), np.zeros(3), None])
def test_what_is_no_model(model):
    with pytest.raises(TypeError, match="model must be an LSTM, GRU or RNN, or a path"):
        Predictor(model, "x")


@pytest.mark.parametrize(
    ("table", "arguments", "error", "message"),
    [
        ({"y": [1]}, {}, ValueError, "there are 0 columns 'x', among 'y'"),
        ({"x": [[[1.0] * 3]], "prediction": [1]}, {}, ValueError, "a column 'prediction' already"),
        ({"x": [[[1.0] * 3]]}, {"name": "x"}, ValueError, "a column 'x' already"),
        ({"x": [[[1.0] * 3]]}, {"errors": "prediction"}, ValueError, "'prediction' already"),
        ({"x": [1]}, {}, TypeError, "must hold lists"),
        ({"x": [["a"]]}, {}, TypeError, "got lists of string"),
        ({"x": [[1.0]]}, {}, ValueError, "must have steps of 3 numbers"),
        (
            {"x": pa.array([[[1, 2]]], pa.list_(pa.list_(pa.int8(), 2)))},
            {},
            ValueError,
            "3 numbers",
        ),
        ({"x": pa.array([[1]], pa.list_(pa.date32()))}, {}, TypeError, "must hold numbers"),
        ({"x": [[1.0]]}, {"embedding": np.zeros((2, 3))}, TypeError, "lists of integers"),
        ({"x": [[[1]]]}, {"embedding": np.zeros((2, 3))}, TypeError, "lists of integers"),
    ],
)
def test_tables_that_do_not_fit(table, arguments, error, message):
    with pytest.raises(error, match=message):
        Predictor(gru(), "x", **arguments)(pa.table(table))


def test_what_is_no_table():
    with pytest.raises(TypeError, match="data must be a pyarrow Table or RecordBatch"):
        Predictor(gru(), "x")({"x": [1]})


@pytest.mark.parametrize("offsets", [[0, 2000000, -300000, 6], [0, 100, 8], [0, 4, 2], [5, 3, 6]])
def test_offsets_that_lie_are_refused(offsets):
    steps = column_of(sequences_of([8])).flatten()
    buffer = pa.py_buffer(np.array(offsets, np.int32))
    column = pa.Array.from_buffers(
        KINDS["fixed"], len(offsets) - 1, [None, buffer], children=[steps]
    )
    with pytest.raises(ValueError, match="column is malformed from row 0 on"):
        Predictor(gru(), "x")(pa.table({"x": column}))
