"""NumPy's functions and operators on packed sequences, against the same on each sequence."""

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragged import LENGTHS, assert_sequences, batches, make_batch

from packseq import PackedSequence, cross_entropy, embedding

P = make_batch([3, 0, 5, 1], (2, 3), np.float32, seed=1)
Q = make_batch([3, 0, 5, 1], (2, 3), np.float64, seed=2)


def test_rows_of_one_plan_and_of_other_axes():
    """Which only look as if they needed no alignment."""
    wide = PackedSequence(np.arange(12.0).reshape(3, 2, 2), [2, 1])
    narrow = wide.map(lambda rows: rows[:, 0])
    assert narrow._plan is wide._plan
    np.testing.assert_array_equal((wide + narrow).data, wide.data + narrow.data[:, np.newaxis])
    np.testing.assert_array_equal((narrow + wide).data, wide.data + narrow.data[:, np.newaxis])
    np.testing.assert_array_equal((2 - wide).data, 2 - wide.data)


def test_rows_of_one_plan_that_do_not_go_together():
    rows = PackedSequence(np.arange(12.0).reshape(3, 4), [2, 1])
    with pytest.raises(ValueError, match=r"np\.add: .*\(3,4\) \(3,3\), of which packed ones"):
        rows + rows.map(lambda data: data[:, :3])


@given(batches((np.float32, np.int8)))
def test_functions_of_one_operand(batch):
    for function in (np.tanh, np.negative, np.isfinite, np.positive):
        assert_sequences(function(batch.packed), [function(s) for s in batch.sequences])


@pytest.mark.parametrize(
    "apply",
    [operator.add, operator.sub, operator.mul, np.maximum, np.less, operator.eq, np.arctan2],
)
@given(lengths=LENGTHS, shapes=st.sampled_from([((), ()), ((3,), (2, 3)), ((2, 1), (3,))]))
def test_functions_of_two_packed_operands_broadcast_row_by_row(apply, lengths, shapes):
    one, two = (make_batch(lengths, shape, seed=k) for k, shape in enumerate(shapes))
    expected = []
    for a, b in zip(one.sequences, two.sequences, strict=True):
        rows = [apply(x, y) for x, y in zip(a, b, strict=True)]
        empty = apply(np.zeros(shapes[0]), np.zeros(shapes[1]))
        expected.append(np.array(rows, empty.dtype).reshape(len(a), *empty.shape))
    assert_sequences(apply(one.packed, two.packed), expected)


@pytest.mark.parametrize(
    "other", [2, 2.5, np.float32(2), np.arange(1.0, 4), np.ones((2, 1)), [1, 2, 3]]
)
@pytest.mark.parametrize("apply", [operator.mul, operator.truediv, operator.lt])
def test_numbers_and_arrays_combine_with_every_row(apply, other):
    other_array = np.asarray(other) if isinstance(other, list) else other
    assert_sequences(apply(P.packed, other), [apply(s, other_array) for s in P.sequences])
    with np.errstate(divide="ignore", invalid="ignore"):
        assert_sequences(apply(other, P.packed), [apply(other_array, s) for s in P.sequences])


@given(batches((np.float32,)))
def test_pythons_numbers_keep_the_dtype(batch):
    assert (2.0 * batch.packed + 1).dtype == np.float32
    assert (batch.packed * np.float64(2)).dtype == np.float64


def test_functions_of_two_results():
    fraction, whole = np.modf(P.packed)
    assert_sequences(fraction, [np.modf(s)[0] for s in P.sequences])
    assert_sequences(whole, [np.modf(s)[1] for s in P.sequences])


@pytest.mark.parametrize("missing", [0, 1])
def test_a_result_that_out_leaves_free_is_packed(missing):
    outs = [P.packed.map(np.zeros_like) for _ in range(2)]
    given = tuple(None if k == missing else out for k, out in enumerate(outs))
    results = np.modf(P.packed, out=given)
    assert results[1 - missing] is outs[1 - missing]
    for k, result in enumerate(results):
        assert_sequences(result, [np.modf(s)[k] for s in P.sequences])


def test_keywords_reach_numpy():
    assert np.add(P.packed, 1, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize("mask", [np.array([True, False, True]), P.packed > 0])
def test_where_leaves_the_other_rows_of_out(mask):
    out = P.packed.map(np.zeros_like)
    assert np.negative(P.packed, out=out, where=mask) is out
    rows = mask.data if isinstance(mask, PackedSequence) else mask
    np.testing.assert_array_equal(out.data, np.where(rows, -P.packed.data, 0))


def test_out_of_larger_rows_is_filled_row_by_row():
    """As many columns as rows: which is which must not be left to chance."""
    rows = make_batch([3, 1]).packed
    out = rows.map(lambda x: np.zeros((4, 4)))
    np.add(rows, 1, out=out)
    np.testing.assert_array_equal(out.data, np.tile(rows.data[:, np.newaxis] + 1, 4))


def test_assignment_operators_write_the_rows_as_an_arrays_do():
    packed = P.packed.map(np.copy)
    alias = packed
    packed += Q.packed.astype(np.float32)
    packed *= 2
    assert packed is alias
    assert_sequences(
        packed, [(p + q.astype("f4")) * 2 for p, q in zip(P.sequences, Q.sequences, strict=True)]
    )


def test_assignment_to_rows_that_are_read_only():
    rows = P.packed.data.copy()
    rows.setflags(write=False)
    packed = PackedSequence(rows, P.packed.batch_sizes, P.packed.sorted_indices)
    with pytest.raises(ValueError, match="read-only"):
        packed += 1


@pytest.mark.parametrize("shape", [(3, 4), (3,)])
def test_a_matrix_multiplies_every_row(shape):
    weight = np.random.default_rng(0).standard_normal(shape)
    expected = [sequence @ weight for sequence in P.sequences]
    # Products of 3 terms near 1, whose order of summation may differ.
    assert_sequences(P.packed @ weight, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("row_shape", [(0,), (2, 0)])
def test_products_of_no_terms_are_zero(row_shape):
    batch = make_batch([2, 1], row_shape)
    product = batch.packed @ np.ones((0, 4))
    np.testing.assert_array_equal(product.data, np.zeros((3, *row_shape[:-1], 4)))


def test_map_takes_any_function_that_keeps_the_rows():
    norms = P.packed.map(lambda rows: np.linalg.norm(rows, axis=-1))
    assert_sequences(norms, [np.linalg.norm(s, axis=-1) for s in P.sequences], rtol=1e-6)


# ---- NumPy's other functions ----


REDUCTIONS = ["sum", "mean", "max", "min", "argmax", "cumsum"]


@pytest.mark.parametrize("name", [*REDUCTIONS, "amax", "amin"])
@pytest.mark.parametrize("axis", [1, 2, -1, -2])
def test_numpys_reductions_along_an_axis_of_the_row(name, axis):
    function = getattr(np, name)
    expected = [function(s, axis=axis) for s in Q.sequences]
    # Sums of quarters are exact; a mean is one division of such.
    assert_sequences(function(Q.packed, axis=axis), expected)
    assert_sequences(function(Q.packed, axis), expected)


LIMITS = make_batch([3, 0, 5, 1], (3,), np.float32, seed=3)


@pytest.mark.parametrize(
    "limits", [(-0.25, 0.5), (None, 0.5), (-0.25, None), (np.array([-1, 0, 0.25]), 0.5)]
)
def test_clip(limits):
    expected = [s.clip(*limits) for s in Q.sequences]
    assert_sequences(np.clip(Q.packed, *limits), expected)
    out = Q.packed.map(np.zeros_like)
    assert np.clip(Q.packed, *limits, out) is out
    assert_sequences(out, expected)


def test_clip_without_limits():
    assert_sequences(np.clip(Q.packed, None, None), Q.sequences)


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="NumPy calls them so since 2.1"
)
@pytest.mark.parametrize("limits", [{"min": -0.25, "max": 0.5}, {"max": 0.5}, {"min": -0.25}])
def test_clip_by_names(limits):
    assert_sequences(np.clip(Q.packed, **limits), [s.clip(**limits) for s in Q.sequences])


def test_clip_between_packed_limits_keeps_the_dtype():
    clipped = np.clip(P.packed, LIMITS.packed - 1, LIMITS.packed)
    assert clipped.dtype == np.float32
    pairs = zip(P.sequences, LIMITS.sequences, strict=True)
    assert_sequences(clipped, [s.clip(x[:, None] - 1, x[:, None]) for s, x in pairs])
    assert np.clip(P.packed, 0, 0.5).dtype == np.float32


@pytest.mark.parametrize("other_choice", [0, 0.5, np.arange(3, dtype=np.float32)])
def test_where_chooses_row_by_row(other_choice):
    chosen = np.where(P.packed > 0, P.packed, other_choice)
    assert chosen.dtype == np.float32
    assert_sequences(chosen, [np.where(s > 0, s, other_choice) for s in P.sequences])
    mask = np.array([True, False, True])
    chosen = np.where(mask, other_choice, P.packed)
    assert_sequences(chosen, [np.where(mask, other_choice, s) for s in P.sequences])


def test_where_broadcasts_the_rows_of_packed_operands():
    chosen = np.where(LIMITS.packed > 0, P.packed, -1)
    pairs = zip(LIMITS.sequences, P.sequences, strict=True)
    assert_sequences(chosen, [np.where(x[:, None] > 0, s, np.float32(-1)) for x, s in pairs])


def test_concatenate_joins_batches_or_rows():
    joined = np.concatenate([P.packed, Q.packed])
    assert_sequences(joined, [s.astype(np.float64) for s in (*P.sequences, *Q.sequences)])
    pairs = zip(P.sequences, Q.sequences, strict=True)
    assert_sequences(
        np.concatenate((P.packed, Q.packed), axis=-1),
        [np.concatenate(pair, axis=-1) for pair in pairs],
    )


def test_another_librarys_function_is_asked_first():
    class Other:
        def __array_function__(self, func, types, args, kwargs):
            return "theirs"

    assert np.where(P.packed, Other(), 0) == "theirs"


def test_one_layout_made_twice_is_shared():
    sorted_ = PackedSequence([1.0, 2, 3], [2, 1])
    same = PackedSequence([1.0, 2, 3], [2, 1], sorted_indices=[0, 1])
    np.testing.assert_array_equal((sorted_ + same).data, [2, 4, 6])


def other(lengths, row_shape=(2, 3)):
    return make_batch(lengths, row_shape).packed


ROWS = make_batch([3, 1], ()).packed


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: P.packed + other([3, 0, 5]),
            ValueError,
            "np.add: operands must share one layout: 4 sequences and 3",
        ),
        (
            lambda: P.packed * other([3, 0, 4, 1]),
            ValueError,
            "np.multiply: operands must share one layout: sequence 2 has 5 steps and 4",
        ),
        (
            lambda: PackedSequence([1, 2], [2]) + PackedSequence([1, 2], [2], [1, 0]),
            ValueError,
            "sequence 0 is packed in another order; select.* packs either anew",
        ),
        (
            lambda: np.add(P.packed, 1, out=other([3, 0, 5])),
            ValueError,
            "share one layout: 4 sequences and 3",
        ),
        (
            lambda: np.add(P.packed, 1, where=other([3, 0, 5]) > 0),
            ValueError,
            "share one layout: 4 sequences and 3",
        ),
        (
            lambda: ROWS + np.ones(4),
            ValueError,
            r"np.add: an array of shape \(4,\) has more axes than the rows, which have 0",
        ),
        (lambda: P.packed + np.ones((9, 2, 3)), ValueError, r"shape \(9, 2, 3\) has more axes"),
        (lambda: P.packed + np.ones(4), ValueError, "could not be broadcast"),
        (lambda: P.packed + np.ma.ones(3), TypeError, "must not be a masked array"),
        (lambda: np.add(np.ones(3), 1, out=ROWS), TypeError, "out is a PackedSequence, but no"),
        (lambda: np.add(ROWS, 1, out=np.ones(4)), TypeError, "out must be a PackedSequence, got"),
        (lambda: np.add.reduce(P.packed), TypeError, "np.add.reduce would mix the sequences: sum"),
        (lambda: np.add.accumulate(P.packed), TypeError, "np.add.accumulate would mix"),
        (lambda: np.vecdot(P.packed, P.packed), TypeError, "np.vecdot works on whole arrays"),
        (lambda: P.packed @ np.ones((2, 3)), ValueError, r"need a matrix of shape \(3, H\)"),
        (lambda: P.packed @ np.ones((3, 3, 3)), ValueError, r"got shape \(3, 3, 3\)"),
        (lambda: ROWS @ np.ones(4), ValueError, "the rows must have an axis"),
        (lambda: np.ones((3, 2)) @ P.packed, TypeError, "PackedSequence on its left"),
        (
            lambda: P.packed @ np.full((3, 2), 1, object),
            TypeError,
            "matmul: the matrix must not hold Python objects",
        ),
        (
            lambda: P.packed @ np.ma.ones((3, 2)),
            TypeError,
            "matmul: the matrix must not be a masked array",
        ),
        (lambda: P.packed + np.full(3, 1, object), TypeError, "must not hold Python objects"),
        (lambda: P.packed @ P.packed, TypeError, "a matrix on its right"),
        (lambda: P.packed.map(lambda rows: rows[:-1]), ValueError, "keep the 9 rows, got .*8"),
        (lambda: P.packed.map(np.sum), ValueError, r"keep the 9 rows, got an array of shape \(\)"),
        (lambda: P.packed.map(lambda rows: [None] * 9), TypeError, "must not hold Python objects"),
        (
            lambda: P.packed.map(lambda rows: np.ma.masked_array(rows, rows > 0)),
            TypeError,
            "map: the function's result must not be a masked array",
        ),
        (lambda: np.frompyfunc(str, 1, 1)(ROWS), TypeError, "gives Python objects"),
        (lambda: np.asarray(P.packed), TypeError, "a PackedSequence is no array: data holds"),
        (lambda: np.median(P.packed), TypeError, "np.median: a PackedSequence is no array: data"),
        (lambda: np.std(P.packed, axis=-1), TypeError, r"np.std: .* map\(\) takes any function"),
        *(
            (
                lambda name=name: getattr(np, name)(P.packed),
                TypeError,
                f"np.{name} of a .* p.{name}",
            )
            for name in ("sum", "mean", "max", "min", "argmax", "cumsum")
        ),
        (
            lambda: np.sum(P.packed),
            TypeError,
            r"p.sum\(\) goes over the .* and p.data.sum\(\) over all",
        ),
        (lambda: np.sum(P.packed, axis=0), ValueError, "of the 2 axes of a row, .* got 0"),
        (
            lambda: np.sum(P.packed, axis=(1, 2)),
            TypeError,
            r"must be an integer, got \(1, 2\)",
        ),
        (
            lambda: np.max(P.packed, -1, keepdims=True),
            TypeError,
            "np.max of .* takes no keepdims",
        ),
        (lambda: np.where(P.packed), TypeError, "np.where of a condition alone"),
        (
            lambda: np.where(P.packed, 1, other([3])),
            ValueError,
            "np.where: operands must share",
        ),
        (lambda: np.where(P.packed, 1, np.array([None] * 3)), TypeError, "not hold Python obj"),
        (lambda: np.clip(P.packed, 0, other([3])), ValueError, "np.minimum: operands must share"),
        (
            lambda: np.clip(P.packed, 0, 1, dtype=float),
            TypeError,
            r"clip\(\) got .* \'dtype\'",
        ),
        (
            lambda: np.concatenate([P.packed, np.ones((3, 2, 3))]),
            TypeError,
            r"arrays\[1\] must be a PackedSequence, got ndarray",
        ),
        (
            lambda: np.concatenate([P.packed, other([3], (3,))]),
            ValueError,
            r"arrays\[1\] has rows of shape \(3,\), arrays\[0\] of \(2, 3\)",
        ),
        (lambda: bool(P.packed == 1), ValueError, "ambiguous: ask data.any"),
        (lambda: hash(P.packed), TypeError, "unhashable"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_another_types_protocol_is_asked_first():
    class Other:
        def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
            return "theirs"

    assert P.packed + Other() == "theirs"


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda tensor: P.packed + tensor, "np.add: an operand"),
        (lambda tensor: P.packed @ tensor, "matmul: the matrix"),
        (lambda tensor: P.packed.map(lambda rows: tensor), "map: the function's result"),
        (lambda tensor: P.packed.broadcast(tensor), "per_sequence"),
        (lambda tensor: PackedSequence.from_ragged(tensor, [0, 1]), "values"),
        (lambda tensor: embedding(tensor, ROWS.astype(int)), "table"),
        (lambda tensor: cross_entropy(P.packed, P.packed, tensor), "weight"),
    ],
)
def test_a_tensor_beside_numpys_rows_is_refused(call, name):
    torch = pytest.importorskip("torch", reason="makes the tensor")
    with pytest.raises(TypeError, match=f"{name} must be an array of NumPy, got a torch tensor"):
        call(torch.ones(3))
