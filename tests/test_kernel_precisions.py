"""int8 and bfloat16 on every instruction set, beside the reference, which says what they are."""

from dataclasses import replace

import numpy as np
import pytest
import reference
from strategies import assert_same_bits

from packseq._core.recurrent import compiled
from packseq.networks import kernels as runner
from packseq.networks.architecture import CELLS, PRECISIONS, Architecture
from packseq.networks.prepack import prepack
from packseq.networks.rounding import rounded

USABLE = {kernels.name: kernels for kernels in compiled() if kernels.supported}
# Those that fuse multiply-adds agree to the bit; what they do beside int8's sums is float32's.
FUSED = [name for name in USABLE if name.startswith("avx")]
PROJECTED = [(cell, False) for cell in CELLS] + [(c, True) for c in CELLS if c.may_project]

by_isa = pytest.mark.parametrize("isa", USABLE)
by_precision = pytest.mark.parametrize("precision", PRECISIONS)
by_cell = pytest.mark.parametrize(
    ("cell", "projected"), PROJECTED, ids=lambda value: getattr(value, "name", str(value))
)


def network_of(cell, precision, input_size=37, hidden_size=45, projected=False, **options):
    """An architecture and its parameters, uniform as torch initialises them."""
    proj_size = 13 if projected else 0
    plain = Architecture(cell, input_size, hidden_size, proj_size=proj_size, **options)
    rng = np.random.default_rng(0)
    bound = 1 / np.sqrt(hidden_size)
    full = {n: rng.uniform(-bound, bound, s).astype(np.float32) for n, s in plain.shapes.items()}
    return replace(plain, precision=precision), rounded(plain, full, precision)


def batch_for(architecture, steps, batch):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((steps, batch, architecture.input_size)).astype(np.float32)
    hx = [rng.uniform(-1, 1, s).astype(np.float32) for s in architecture.state_shapes(batch)]
    return x, hx


def run(isa, architecture, parameters, x, hx):
    """The output (T, B, D * R) and the last states."""
    network = prepack(architecture, parameters, USABLE[isa], batch_first=False)
    out = np.empty((*x.shape[:2], architecture.output_size), np.float32)
    hn = [np.empty_like(state) for state in hx]
    runner.forward(network, x, out, None, hx, hn, 1)
    return out, *hn


def expected_of(isa, architecture, parameters, x, hx):
    rounds_rows = architecture.precision == "bfloat16" and USABLE[isa].has("bfloat16")
    matrix = reference.BFloat16 if rounds_rows else reference.as_float64
    kind = architecture.cell.name.upper()
    outputs, states = reference.run(kind, parameters, list(x.swapaxes(0, 1)), hx, matrix=matrix)
    return np.stack(outputs, 1), *states


# What a product's input, itself computed, may differ by: values within 1e-5 of a tie are rounded
# the other way, by one quantum of 1/127 or 2**-8 of the row's largest; 45 weights of at most
# 1/sqrt(45) reach a pre-activation, of which one or two may meet such a value.
QUANTUM = 2 / 127 / np.sqrt(45)


def assert_near(actual, expected, most=2e-6):
    """Within `most`, but for one number in a hundred, which may be a quantum off."""
    off = np.abs(actual - expected)
    assert np.isfinite(actual).all()
    assert off.max() <= QUANTUM
    assert np.quantile(off, 0.99) <= most


@by_isa
@by_precision
@by_cell
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 6, 13, 25])
def test_one_step_is_the_references(isa, precision, cell, projected, batch):
    """Of tiles of one row and of many."""
    architecture, parameters = network_of(cell, precision, projected=projected)
    x, hx = batch_for(architecture, 1, batch)
    actual = run(isa, architecture, parameters, x, hx)
    computed_again = projected or cell.name == "gru_reset_before"
    for a, e in zip(actual, expected_of(isa, architecture, parameters, x, hx), strict=True):
        if computed_again:
            assert_near(a, e)
        else:
            np.testing.assert_allclose(a, e, rtol=0, atol=2e-6)


@by_isa
@by_precision
@by_cell
def test_runs_are_the_references(isa, precision, cell, projected):
    """Two layers and directions: a step's error of 2e-6, summed over eight steps and two layers."""
    options = {"num_layers": 2, "bidirectional": True}
    architecture, parameters = network_of(cell, precision, projected=projected, **options)
    x, hx = batch_for(architecture, 8, 5)
    actual = run(isa, architecture, parameters, x, hx)
    for a, e in zip(actual, expected_of(isa, architecture, parameters, x, hx), strict=True):
        assert_near(a, e, most=16 * 2e-6)


@pytest.mark.parametrize("isa", USABLE)
def test_int8_sums_are_the_same_everywhere(isa):
    """No cell but relu's is free of fused operations: its bits are those of sums and scales."""
    (relu,) = (cell for cell in CELLS if cell.name == "rnn_relu")
    architecture, parameters = network_of(relu, "int8", 300, 71, bidirectional=True)
    x, hx = batch_for(architecture, 9, 14)
    expected = run("baseline", architecture, parameters, x, hx)
    for a, e in zip(run(isa, architecture, parameters, x, hx), expected, strict=True):
        assert_same_bits(a, e)


@pytest.mark.skipif(len(FUSED) < 2, reason="there is one instruction set at most to compare")
@by_cell
def test_int8_bits_are_the_same_where_multiply_adds_are_fused(cell, projected):
    architecture, parameters = network_of(cell, "int8", projected=projected, num_layers=2)
    x, hx = batch_for(architecture, 9, 14)
    expected = run(FUSED[0], architecture, parameters, x, hx)
    for isa in FUSED[1:]:
        for a, e in zip(run(isa, architecture, parameters, x, hx), expected, strict=True):
            assert_same_bits(a, e)


LARGEST = np.float32(np.finfo(np.float32).max)


@by_isa
@pytest.mark.parametrize(
    "row",
    [
        np.zeros(5),
        np.full(5, 2.0**-101),  # a zero row
        [2.0**-100, 2.0**-101, 0, -(2.0**-100), 2.0**-102],  # the least that is none
        [127, 0.5, 1.5, 2.5, -0.5],  # ties go to the even: 0, 2, 2, 0
        [127, -126.5, -127, 125.5, 63.5],
        [LARGEST, -LARGEST, LARGEST / 127, 1, 0],
        [-1e-20, 3e-21, 1e-22, -5e-21, 0],
        [0, 0, 0, 0, 1],
    ],
)
def test_int8_rows_of_every_size(isa, row):
    """One row and another, so that a tile has both; wide sums cannot overflow here."""
    (relu,) = (cell for cell in CELLS if cell.name == "rnn_relu")
    architecture, parameters = network_of(relu, "int8", 5, 3)
    x = np.array([[row, np.arange(5)]], np.float32)
    hx = [np.zeros((1, 2, 3), np.float32)]
    out, _ = run(isa, architecture, parameters, x, hx)
    expected, _ = expected_of(isa, architecture, parameters, x, hx)
    np.testing.assert_allclose(out, expected, rtol=2e-6, atol=1e-7)


@by_isa
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@by_cell
def test_int8_poisoned_rows_give_nan_and_others_what_they_gave(isa, poison, cell, projected):
    architecture, parameters = network_of(cell, "int8", projected=projected)
    x, hx = batch_for(architecture, 3, 7)
    healthy = run(isa, architecture, parameters, x, hx)
    x[1, 2, 4] = poison
    out, *hn = run(isa, architecture, parameters, x, hx)
    assert np.isnan(out[1:, 2]).all()
    out[1:, 2] = healthy[0][1:, 2]
    assert_same_bits(out, healthy[0])
    others = np.arange(7) != 2
    for last, before in zip(hn, healthy[1:], strict=True):
        assert np.isnan(last[:, 2]).all()
        assert_same_bits(np.ascontiguousarray(last[:, others]), before[:, others].copy())


@by_isa
@pytest.mark.parametrize("columns", [1, 3, 4, 5, 66_000])
def test_int8_sums_of_any_length(isa, columns):
    """The longest, of the largest numbers, is just below 2**31."""
    (relu,) = (cell for cell in CELLS if cell.name == "rnn_relu")
    plain = Architecture(relu, columns, 2, bias=False)
    full = {name: np.ones(shape, np.float32) for name, shape in plain.shapes.items()}
    parameters = rounded(plain, full, "int8")
    x = np.ones((1, 1, columns), np.float32)
    hx = [np.zeros((1, 1, 2), np.float32)]
    out, _ = run(isa, replace(plain, precision="int8"), parameters, x, hx)
    np.testing.assert_allclose(out, columns, rtol=1e-6)
