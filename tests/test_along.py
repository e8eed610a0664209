"""Rows along their numbers: the loops of each instruction set, to the bits of a plain reference."""

import numpy as np
import pytest
import reference_along
from strategies import DTYPES, assert_same_bits

from packseq import PackedSequence
from packseq._core.recurrent import along, compiled
from packseq.rows.along import WIDE

# None: what a build without kernels has.
USABLE = [None, *(kernels for kernels in compiled() if kernels.supported)]
by_isa = pytest.mark.parametrize("kernels", USABLE, ids=lambda k: k.name if k else "plain")
by_dtype = pytest.mark.parametrize("dtype", DTYPES)

# Around the strands, a tree of eight for each, and the exponentials that are kept at a time.
SIZES = (1, 2, 15, 16, 17, 40, 127, 128, 129, 300, 1023, 1024, 1025, 2200)


def uneven(shape, dtype, seed=0):
    """Numbers of many magnitudes, whose sums differ with their order."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)).astype(dtype)


def reduced(kernels, name, rows):
    out = np.full(len(rows), 7, rows.dtype)
    along(kernels, name, rows, out)
    return out


def walked(kernels, name, rows):
    out = np.full_like(rows, 7)
    along(kernels, name, rows, out)
    return out


def totals(kernels, rows):
    out = np.full((2, len(rows)), 7, rows.dtype)
    along(kernels, "totals", rows, out)
    return out


# ---- bits ----------------------------------------------------------------------------------------


@by_isa
@by_dtype
@pytest.mark.parametrize("size", SIZES)
def test_sums(kernels, dtype, size):
    for count in (1, 3, 4, 5, 9):  # around the running sums that are kept at a time
        rows = uneven((count, size), dtype)
        expected = np.array([reference_along.total(row) for row in rows], dtype)
        assert_same_bits(reduced(kernels, "sum", rows), expected)
        expected = np.array([reference_along.running_totals(row) for row in rows])
        assert_same_bits(walked(kernels, "cumsum", rows), expected)


@by_isa
@by_dtype
@pytest.mark.parametrize("size", SIZES)
def test_extremes(kernels, dtype, size):
    rows = uneven((5, size), dtype)
    assert_same_bits(reduced(kernels, "max", rows), rows.max(axis=1))
    assert_same_bits(reduced(kernels, "min", rows), rows.min(axis=1))
    assert_same_bits(totals(kernels, rows)[0], rows.max(axis=1))


@by_isa
@by_dtype
@pytest.mark.parametrize("size", SIZES)
def test_a_nan_anywhere_wins(kernels, dtype, size):
    for place in {0, size // 2, size - 1}:
        rows = uneven((3, size), dtype)
        rows[1, place] = np.nan
        rows[2, 0], rows[2, place] = np.inf, np.nan
        for name, numpys in [("max", np.max), ("min", np.min)]:
            np.testing.assert_array_equal(reduced(kernels, name, rows), numpys(rows, axis=1))


@by_isa
@by_dtype
@pytest.mark.parametrize("size", SIZES)
def test_a_softmax_is_divided_by_the_total(kernels, dtype, size):
    """That logsumexp has, so that no bit lies between the two."""
    rows = np.random.default_rng(0).uniform(-4, 4, (5, size)).astype(dtype)
    rows[:, 0] = 5  # the greatest: its exponential is 1
    total = totals(kernels, rows)[1]
    assert_same_bits(walked(kernels, "softmax", rows)[:, 0], 1 / total)


# ---- numbers -------------------------------------------------------------------------------------


@by_isa
@by_dtype
@pytest.mark.parametrize("size", SIZES)
def test_exponentials(kernels, dtype, size):
    """exp rounds by an ulp, of what it is given rounded once, which near -8 is four more; a sum of
    positive numbers rounds by four halves, and a division by one."""
    rows = np.random.default_rng(0).uniform(-4, 4, (5, size)).astype(dtype)
    wide = rows.astype(np.longdouble)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    allowed = {"rtol": 8 * np.finfo(dtype).eps, "atol": 0}
    np.testing.assert_allclose(totals(kernels, rows)[1], powers.sum(axis=1), **allowed)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(walked(kernels, "softmax", rows), expected, **allowed)


@by_isa
def test_a_sum_does_not_lose_accuracy_with_its_size(kernels):
    rows = np.random.default_rng(0).random((2, 1_000_000), np.float32)
    exact = rows.sum(axis=1, dtype=np.float64)
    # All are positive, so the sum is that of the magnitudes: three roundings, and the result's.
    rtol = 4 * np.finfo(np.float32).eps / 2
    np.testing.assert_allclose(reduced(kernels, "sum", rows), exact, rtol=rtol)
    np.testing.assert_allclose(totals(kernels, rows - rows)[1], [1e6, 1e6], rtol=rtol)


@by_isa
@by_dtype
def test_what_underflows_is_0(kernels, dtype):
    rows = np.array([[0, -1e4, -np.inf, np.finfo(dtype).min]], dtype)
    np.testing.assert_array_equal(walked(kernels, "softmax", rows), [[1, 0, 0, 0]])
    np.testing.assert_array_equal(totals(kernels, rows), [[0], [1]])


# ---- what takes them -----------------------------------------------------------------------------


@by_dtype
@pytest.mark.parametrize("size", [WIDE, 130])
def test_a_batch_is_summed_so(dtype, size):
    rows = uneven((6, size), dtype)
    packed = PackedSequence(rows, [3, 2, 1])
    expected = np.array([reference_along.total(row) for row in rows], dtype)
    assert_same_bits(packed.sum(axis=-1).data, expected)
    assert_same_bits(packed.mean(axis=-1).data, expected / dtype(size))
    middle = PackedSequence(np.ascontiguousarray(np.stack([rows, -rows], axis=2)), [3, 2, 1])
    assert_same_bits(middle.sum(axis=1).data, np.stack([expected, -expected], axis=1))
