"""The kernels' activations: every instruction set, over the whole range of floats."""

import ctypes
import ctypes.util
import platform

import mpmath
import numpy as np
import pytest
import reference
from strategies import DTYPES, assert_same_bits

from packseq import LSTM
from packseq._core.recurrent import GATE_ACTIVATIONS, compiled

USABLE = [kernels for kernels in compiled() if kernels.supported]
MOST_ULP = 3

by_isa = pytest.mark.parametrize("kernels", USABLE, ids=lambda kernels: kernels.name)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
by_activation = pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
by_any_activation = pytest.mark.parametrize("activation", [*GATE_ACTIVATIONS, "tanh"])


def activate(kernels, activation, x):
    """Of any number of values: the kernels take whole vectors."""
    room = np.zeros(-(-x.size // 16) * 16, x.dtype)
    room[: x.size] = x
    return kernels.activate(activation, room)[: x.size]


def dense(dtype, count):
    """Both signs; evenly over all exponents up to the saturated ones, over (0, 40) and the tails.

    The tails end where exp(-x) leaves the normal numbers.
    """
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    end = -np.log(float(info.tiny))
    parts = [
        2.0 ** rng.uniform(info.minexp, 12, count),
        2.0 ** rng.uniform(-info.nmant / 2, 5, count),
        np.linspace(0, 40, count),
        np.linspace(0.7 * end, 1.01 * end, count),
        # the halves of ln 2, where the range reduction changes over, with their neighbours
        (np.arange(1, count + 1) % 2100) * np.log(2) / 4 * (1 + rng.normal(0, 4 * info.eps, count)),
    ]
    x = np.concatenate(parts).astype(dtype)
    x = x[x >= info.tiny]
    return np.concatenate([x, -x])


def judge(activation, x):
    """In the type of x, which is wider than what it judges."""
    if activation == "tanh":
        return np.tanh(x)
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def assert_within_ulps(actual, expected):
    """`expected` is wider; below the smallest normal number the result is 0."""
    info = np.finfo(actual.dtype)
    flushed = np.abs(expected) < info.tiny
    assert not actual[flushed].any()
    actual, expected = actual[~flushed], expected[~flushed]
    ulp = np.spacing(np.abs(expected).astype(actual.dtype))
    off = np.abs((actual.astype(expected.dtype) - expected) / ulp)
    assert off.max() <= MOST_ULP


@by_activation
@by_isa
def test_float32_within_3_ulp(kernels, activation):
    x = dense(np.float32, 150_000)
    assert_within_ulps(activate(kernels, activation, x), judge(activation, x.astype(np.float64)))


@pytest.mark.skipif(
    np.finfo(np.longdouble).nmant <= np.finfo(np.float64).nmant,
    reason="long double is no wider than double here; mpmath judges below",
)
@by_activation
@by_isa
def test_float64_within_3_ulp(kernels, activation):
    x = dense(np.float64, 20_000)
    assert_within_ulps(activate(kernels, activation, x), judge(activation, x.astype(np.longdouble)))


def ulps_beside_mpmath(activation, x, y):
    """How many ulps y is from the value at x, with 40 digits more than either has."""
    with mpmath.workdps(60):
        x, y = mpmath.mpf(float(x)), mpmath.mpf(float(y))
        exact = mpmath.tanh(x) if activation == "tanh" else 1 / (1 + mpmath.exp(-x))
        spacing = np.spacing(np.float64(abs(exact)))
        return float(abs(y - exact) / mpmath.mpf(float(spacing)))


@by_activation
@by_isa
def test_float64_beside_mpmath(kernels, activation):
    x = dense(np.float64, 60)
    x = x[x > np.log(np.finfo(np.float64).tiny)]  # what is smaller gives 0
    y = activate(kernels, activation, x)
    assert max(map(ulps_beside_mpmath, [activation] * x.size, x, y)) <= MOST_ULP


@by_dtype
@by_isa
def test_saturation_is_exact(kernels, dtype):
    info = np.finfo(dtype)
    large = np.array([50, 1e3, info.max, np.inf], dtype)
    far = np.array([-1e3, -info.max, -np.inf], dtype)
    for activation in GATE_ACTIVATIONS:
        assert (activate(kernels, activation, large) == 1).all()
        assert (activate(kernels, activation, far) == 0).all()
    assert (activate(kernels, "tanh", large) == 1).all()
    assert (activate(kernels, "tanh", -large) == -1).all()


@by_dtype
@by_isa
def test_hard_sigmoid_is_the_formula(kernels, dtype):
    """To the last bit: each operation is rounded by itself, as torch and Keras do."""
    x = dense(dtype, 2000)
    assert_same_bits(activate(kernels, "hard_sigmoid", x), reference.hard_sigmoid(x))
    ends = np.array([-3, 3], dtype)
    inside = np.nextafter(ends, dtype(0))
    assert_same_bits(activate(kernels, "hard_sigmoid", ends), np.array([0, 1], dtype))
    assert activate(kernels, "hard_sigmoid", inside)[0] > 0


@by_dtype
@by_isa
def test_hard_sigmoid_02_is_the_formula_to_an_ulp(kernels, dtype):
    """Of 1: the instruction sets that fuse a product and a sum round once, the others twice."""
    x = dense(dtype, 2000)
    expected = reference.hard_sigmoid_02(x.astype(np.longdouble))
    off = np.abs(activate(kernels, "hard_sigmoid_0.2", x) - expected)
    assert off.max() <= np.finfo(dtype).eps
    ends = np.array([-2.5, 2.5], dtype)
    assert_same_bits(activate(kernels, "hard_sigmoid_0.2", ends), np.array([0, 1], dtype))


@by_dtype
@by_isa
def test_around_zero(kernels, dtype):
    """A tanh too small to bend is its argument; what is less than a normal number is 0."""
    info = np.finfo(dtype)
    x = np.array([info.tiny, -info.tiny, info.eps / 4, -info.eps / 4], dtype)
    assert_same_bits(activate(kernels, "tanh", x), x)
    nothing = np.array([0.0, -0.0, info.smallest_subnormal, -info.tiny / 2], dtype)
    assert_same_bits(activate(kernels, "tanh", nothing), np.array([0.0, -0.0, 0.0, -0.0], dtype))
    assert (activate(kernels, "sigmoid", nothing) == 0.5).all()


@by_any_activation
@by_dtype
@by_isa
def test_nan_stays_nan_and_alone(kernels, dtype, activation):
    x = np.linspace(-3, 3, 64).astype(dtype)
    y = activate(kernels, activation, x)
    poisoned = x.copy()
    poisoned[5::7] = [np.nan, -np.nan, np.nan] * 3
    y_poisoned = activate(kernels, activation, poisoned)
    np.testing.assert_array_equal(y_poisoned, np.where(np.isnan(poisoned), np.nan, y))


@by_dtype
@by_isa
def test_tanh_is_odd(kernels, dtype):
    x = dense(dtype, 2000)
    assert_same_bits(activate(kernels, "tanh", -x), -activate(kernels, "tanh", x))


@by_any_activation
@by_dtype
@by_isa
def test_a_value_does_not_depend_on_its_place_in_the_vector(kernels, dtype, activation):
    x = dense(dtype, 500)
    y = activate(kernels, activation, x)
    assert_same_bits(activate(kernels, activation, np.roll(x, 3)), np.roll(y, 3))


# ---- the caller's floating-point mode ----------------------------------------------------------


def every_flag(dtype):
    """Values on which the kernels overflow, underflow, and subtract infinities."""
    return np.array([np.inf, -np.inf, 1e30, -1e30, -88, np.finfo(dtype).tiny, 0, 1] * 2, dtype)


def run_activation(dtype):
    for kernels in USABLE:
        for activation in (*GATE_ACTIVATIONS, "tanh"):
            kernels.activate(activation, every_flag(dtype))


def run_module(dtype, **how):
    with np.errstate(all="ignore"):
        LSTM(16, 8, dtype=dtype, rng=0)(np.stack([every_flag(dtype)] * 3), **how)


def run_module_in_general(dtype):
    run_module(dtype, num_threads=1)  # not the short way of plain calls


by_run = pytest.mark.parametrize("run", [run_activation, run_module, run_module_in_general])


@by_run
@by_dtype
def test_denormals_are_the_callers_afterwards(run, dtype):
    info = np.finfo(dtype)
    run(dtype)
    tiny = np.array([info.tiny], dtype)
    assert tiny / dtype(2) == dtype(info.tiny) / 2 > 0  # not flushed to zero
    denormal = np.array([info.smallest_subnormal], dtype)
    assert denormal * dtype(4) > 0  # nor taken for zero


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not ctypes.util.find_library("m"),
    reason="only on x86-64 are flags and mode one register, put back whole",
)
@by_any_activation
@by_dtype
@by_isa
def test_exception_flags_are_the_callers_afterwards(kernels, dtype, activation):
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    every = 0x3D  # FE_ALL_EXCEPT
    x = every_flag(dtype)
    libm.feclearexcept(every)
    kernels.activate(activation, x)
    assert libm.fetestexcept(every) == 0
