"""Linear layers on packed rows: torch's, with bits that depend on nothing but the row."""

import numpy as np
import pytest
from strategies import DTYPES, assert_same_bits

from packseq import PackedSequence, linear, pack_sequence
from packseq._core.recurrent import compiled
from packseq.settings import threads
from packseq.settings.threads import crew

USABLE = [kernels for kernels in compiled() if kernels.supported]
by_isa = pytest.mark.parametrize("kernels", USABLE, ids=lambda kernels: kernels.name)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)

# Around half a panel, a panel and several of each instruction set, and around its tiles of rows.
WIDTHS = (1, 2, 4, 5, 8, 9, 12, 16, 17, 31, 32, 33, 48, 65, 140)
ROWS = (1, 2, 3, 4, 5, 6, 7, 12, 13, 25, 61)


def numbers(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def layer(inputs, outputs, dtype):
    """A weight and a bias, in torch's shapes."""
    return numbers((outputs, inputs), dtype, 1), numbers(outputs, dtype, 2)


def assert_is_the_product(actual, rows, weight, bias=0):
    """Sums of K products and a bias, each step rounded, are off by K + 1 halves of an ulp of what
    their terms sum to without their signs."""
    exact = rows.astype(np.longdouble) @ weight.T.astype(np.longdouble) + bias
    terms = np.abs(rows) @ np.abs(weight).T + np.abs(bias)
    allowed = (weight.shape[1] + 1) * np.finfo(actual.dtype).eps * terms
    assert actual.dtype == rows.dtype
    assert (np.abs(actual - exact) <= allowed).all()


def on(kernels, rows, weight, bias, num_threads=1):
    return kernels.linear(rows, weight, bias, *crew(num_threads))


# ---- numbers -------------------------------------------------------------------------------------


@by_isa
@by_dtype
@pytest.mark.parametrize("outputs", WIDTHS)
def test_each_instruction_set(kernels, dtype, outputs):
    for count in ROWS:
        for inputs in (1, 15, 16, 33):
            rows = numbers((count, inputs), dtype)
            weight, bias = layer(inputs, outputs, dtype)
            assert_is_the_product(on(kernels, rows, weight, bias), rows, weight, bias)
            assert_is_the_product(on(kernels, rows, weight, None), rows, weight)


@by_isa
@by_dtype
def test_rows_and_weights_of_several_blocks(kernels, dtype):
    """More rows than a slice, k than a block, panels than a group."""
    for count, inputs, outputs in [(700, 700, 37), (50, 5000, 70), (3, 3000, 200)]:
        rows, (weight, bias) = numbers((count, inputs), dtype), layer(inputs, outputs, dtype)
        assert_is_the_product(on(kernels, rows, weight, bias), rows, weight, bias)


@by_dtype
def test_a_packed_batch_and_an_array(dtype):
    sequences = [numbers((n, 19), dtype, n) for n in (3, 0, 5)]
    weight, bias = layer(19, 33, dtype)
    packed = linear(pack_sequence(sequences), weight, bias)
    for b, x in enumerate(sequences):
        assert_same_bits(packed[b], linear(x, weight, bias))
        assert_is_the_product(packed[b], x, weight, bias)


@pytest.mark.parametrize("shape", [(19,), (0, 19), (2, 3, 19), (2, 0, 19)])
def test_any_axes_before_the_last(shape):
    rows, (weight, bias) = numbers(shape, np.float32), layer(19, 33, np.float32)
    result = linear(rows, weight, bias)
    assert result.shape == (*shape[:-1], 33)
    assert_is_the_product(result.reshape(-1, 33), rows.reshape(-1, 19), weight, bias)


def test_rows_of_several_axes():
    packed = PackedSequence(numbers((4, 3, 19), np.float32), [2, 1, 1])
    weight, bias = layer(19, 5, np.float32)
    expected = linear(packed.data, weight, bias)
    assert expected.shape == (4, 3, 5)
    assert_same_bits(linear(packed, weight, bias).data, expected)


@pytest.mark.parametrize(("inputs", "outputs"), [(0, 3), (3, 0), (0, 0)])
def test_no_inputs_or_no_outputs(inputs, outputs):
    weight, bias = layer(inputs, outputs, np.float32)
    packed = PackedSequence(np.ones((4, inputs), np.float32), [2, 1, 1])
    assert_same_bits(linear(packed, weight, bias).data, np.tile(bias, (4, 1)))
    assert (packed @ weight.T).data.shape == (4, outputs)


@by_isa
@by_dtype
@pytest.mark.parametrize("outputs", [1, 7, 20, 33])
def test_what_is_not_finite(kernels, dtype, outputs):
    """It reaches the sums that it is a term of, and no others: not from what pads a panel."""
    rows, (weight, bias) = numbers((30, 16), dtype), layer(16, outputs, dtype)
    rows[3, 2], rows[5, 7], rows[8, :2] = np.nan, np.inf, [np.inf, -np.inf]
    weight[0, 4], bias[-1] = -np.inf, np.nan
    with np.errstate(invalid="ignore"):
        expected = rows @ weight.T + bias
    actual, finite = on(kernels, rows, weight, bias), np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    # Two sums of 17 terms below 25, each rounded.
    atol = 2 * 17 * np.finfo(dtype).eps * 17 * 25
    np.testing.assert_allclose(actual[finite], expected[finite], rtol=0, atol=atol)


@by_dtype
def test_torch(dtype):
    torch = pytest.importorskip("torch", reason="whose function it is")
    rows, (weight, bias) = numbers((40, 19), dtype), layer(19, 33, dtype)
    theirs = torch.nn.functional.linear(*map(torch.from_numpy, (rows, weight, bias))).numpy()
    tolerance = 20 * np.finfo(dtype).eps * (np.abs(rows) @ np.abs(weight).T + np.abs(bias))
    assert (np.abs(linear(rows, weight, bias) - theirs) <= 2 * tolerance).all()


# ---- bits ----------------------------------------------------------------------------------------


@by_isa
@by_dtype
@pytest.mark.parametrize("outputs", [1, 12, 16, 33, 140])
def test_neighbours_and_threads_do_not_matter(kernels, dtype, outputs):
    rows, (weight, bias) = numbers((900, 130), dtype), layer(130, outputs, dtype)
    expected = on(kernels, rows, weight, bias)
    for num_threads in (2, 3, 4):
        assert_same_bits(on(kernels, rows, weight, bias, num_threads), expected)
    for count in ROWS:
        assert_same_bits(on(kernels, rows[:count], weight, bias), expected[:count])
        assert_same_bits(on(kernels, rows[:count], weight, bias, 3), expected[:count])


@by_isa
@by_dtype
def test_columns_do_not_matter(kernels, dtype):
    """An output's bits depend on its own weights alone, whichever half of a panel they are in; of a
    row of outputs of 16 bytes or fewer, each is a dot product."""
    rows, (weight, bias) = numbers((13, 70), dtype), layer(70, 80, dtype)
    for columns, ranges in [(80, [(0, 5), (3, 9), (5, 45), (40, 80)]), (2, [(0, 1), (1, 2)])]:
        expected = on(kernels, rows, weight[:columns], bias[:columns])
        for first, last in ranges:
            actual = on(kernels, rows, weight[first:last], bias[first:last])
            assert_same_bits(actual, np.ascontiguousarray(expected[:, first:last]))


@pytest.mark.usefixtures("on_kernels")
@by_dtype
def test_strides_do_not_matter(dtype):
    rows, (weight, bias) = numbers((14, 21), dtype), layer(21, 40, dtype)
    expected = linear(rows, weight, bias)
    packed_in_bytes = np.zeros((14, 21), [("byte", "i1"), ("number", dtype)])
    packed_in_bytes["number"] = rows
    for same in [np.asfortranarray(rows), rows[::-1].copy()[::-1], packed_in_bytes["number"]]:
        assert_same_bits(linear(same, weight, bias), expected)
    in_bytes = np.zeros((40, 21), [("byte", "i1"), ("number", dtype)])
    in_bytes["number"] = weight
    for same in [np.asfortranarray(weight), np.repeat(weight, 3, 1)[:, ::3], in_bytes["number"]]:
        assert_same_bits(linear(rows, same, bias), expected)
    assert_same_bits(linear(rows, weight, np.repeat(bias, 2)[::2]), expected)
    one = np.broadcast_to(rows[0], (5, 21))
    assert_same_bits(linear(one, weight, bias), np.repeat(expected[:1], 5, axis=0))


@pytest.mark.usefixtures("on_kernels")
@by_dtype
def test_the_operator_is_the_same_product(dtype):
    packed, (weight, _) = PackedSequence(numbers((9, 21), dtype), [5, 4]), layer(21, 40, dtype)
    expected = linear(packed, weight).data
    assert_same_bits((packed @ weight.T).data, expected)
    assert_same_bits((packed @ np.ascontiguousarray(weight.T)).data, expected)
    assert_same_bits(linear(packed, weight, np.zeros(40, dtype)).data, expected)


@pytest.mark.usefixtures("on_kernels")
@by_dtype
def test_a_vector_is_a_matrix_of_one_column(dtype):
    rows, vector = numbers((9, 21), dtype), numbers(21, dtype, 1)
    packed = PackedSequence(rows, [5, 4])
    product = (packed @ vector).data
    assert_same_bits(product, linear(packed, vector[np.newaxis]).data[:, 0].copy())
    assert_same_bits(product[3:5], (PackedSequence(rows[3:5], [2]) @ vector).data)
    cubes = PackedSequence(np.stack([rows, -rows], axis=1), [5, 4])
    assert_same_bits((cubes @ vector).data, np.stack([product, -product], axis=1))


@pytest.mark.usefixtures("on_kernels")
def test_it_runs_on_packseqs_threads(monkeypatch):
    packed = PackedSequence(numbers((4000, 64), np.float32), [4000])
    weight, _ = layer(64, 256, np.float32)
    pool = crew()[0]
    monkeypatch.setattr(threads, "_num_threads", 2)
    before = pool.rounds
    packed @ weight.T
    linear(packed, weight)
    assert pool.rounds == before + 2


# ---- other dtypes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "weight", "bias"),
    [
        (np.float32, np.float64, np.float64),
        (np.float32, np.float32, np.float64),
        (np.int64, np.int64, np.int64),
        (np.float16, np.float16, np.float16),
        (np.complex64, np.float32, np.float32),
        (">f4", ">f4", ">f4"),
    ],
)
def test_other_dtypes_are_numpys(rows, weight, bias):
    x = (10 * numbers((7, 5), np.float32)).astype(rows)
    w, b = (10 * numbers((4, 5), np.float32)).astype(weight), np.arange(4).astype(bias)
    for actual, expected in [(linear(x, w, b), x @ w.T + b), (linear(x, w), x @ w.T)]:
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=1e-6)


# ---- errors --------------------------------------------------------------------------------------

PACKED = PackedSequence(np.ones((3, 4), np.float32), [2, 1])
WEIGHT = np.ones((2, 4), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((PACKED, np.ones((4, 2))), ValueError, r"weight must have shape \(O, 4\) for .*\(4, 2\)"),
        ((PACKED, np.ones(4)), ValueError, r"weight must have shape \(O, 4\) .*got \(4,\)"),
        ((PACKED, WEIGHT, np.ones(4)), ValueError, r"bias must have shape \(2,\).*got \(4,\)"),
        ((PACKED, WEIGHT, np.ones((1, 2))), ValueError, r"bias must have shape \(2,\)"),
        ((PackedSequence(np.ones(3), [2, 1]), WEIGHT), ValueError, "input must have an axis"),
        ((np.float32(1), WEIGHT), ValueError, "input must have an axis"),
        ((PACKED, PACKED), TypeError, "weight must be an array, got PackedSequence"),
        ((PACKED, np.ma.ones((2, 4))), TypeError, "weight must not be a masked array"),
        ((PACKED, WEIGHT, np.array(["a", "b"])), TypeError, "bias must be of numbers, got dtype"),
        ((PACKED, WEIGHT.astype(object)), TypeError, "weight must not hold Python objects"),
        ((PACKED.data.astype("M8[s]"), WEIGHT), TypeError, "input must be of numbers"),
    ],
)
def test_what_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        linear(*arguments)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_tensors_are_refused(position):
    torch = pytest.importorskip("torch", reason="makes the tensor")
    arguments = [PACKED.data, WEIGHT, np.ones(2, np.float32)]
    arguments[position] = torch.from_numpy(arguments[position])
    name = ("input", "weight", "bias")[position]
    with pytest.raises(TypeError, match=f"{name} must be an array of NumPy, got a torch tensor"):
        linear(*arguments)
    tensors = PackedSequence(torch.ones(3, 4), [2, 1])
    with pytest.raises(TypeError, match="the batch holds a torch tensor"):
        linear(tensors, WEIGHT)
