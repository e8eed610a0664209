"""Every cell with every activation of its gates, on every instruction set, beside the reference.

Modules run on one instruction set; here networks are packed for each that this machine has.
"""

import numpy as np
import pytest
import reference
from strategies import DTYPES, assert_close, assert_same_bits

from packseq._core.recurrent import GATE_ACTIVATIONS, compiled
from packseq.networks import kernels as runner
from packseq.networks.architecture import CELLS, Architecture
from packseq.networks.prepack import prepack
from packseq.rows.plan import Plan

USABLE = [kernels for kernels in compiled() if kernels.supported]
LENGTHS = (9, 7, 7, 3, 1)
# Less than a vector, a block that is not full, blocks of which the last is half empty.
SIZES = (3, 21, 71)

by_isa = pytest.mark.parametrize("kernels", USABLE, ids=lambda kernels: kernels.name)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def make(cell, gate_activation, hidden, projection):
    """Two layers of two directions."""
    return Architecture(
        cell=cell,
        input_size=5,
        hidden_size=hidden,
        num_layers=2,
        bidirectional=True,
        proj_size=projection,
        recurrent_activation=gate_activation,
    )


def weights_of(architecture, dtype):
    """Wide enough to saturate some gates."""
    rng = np.random.default_rng(0)
    parameters = {}
    for name, shape in architecture.shapes.items():
        scale = 2 if len(shape) == 1 else 2 / np.sqrt(shape[1])
        parameters[name] = rng.uniform(-scale, scale, shape).astype(dtype)
    return parameters


def run(kernels, cell, gate_activation, hidden, projection, dtype, threads=1):
    architecture = make(cell, gate_activation, hidden, projection)
    parameters = weights_of(architecture, dtype)
    plan = Plan.from_lengths(np.array(LENGTHS))
    rng = np.random.default_rng(1)
    x = (2 * rng.standard_normal((plan.rows, 5))).astype(dtype)
    shapes = architecture.state_shapes(len(LENGTHS))
    hx = [rng.uniform(-1, 1, shape).astype(dtype) for shape in shapes]
    hn = [np.empty_like(first) for first in hx]
    out = np.empty((plan.rows, architecture.output_size), dtype)
    network = prepack(architecture, parameters, kernels, batch_first=False)
    runner.forward(network, x, out, plan, hx, hn, threads)
    return parameters, plan, x, hx, (out, *hn)


def expected_of(cell, gate_activation, parameters, plan, x, hx):
    rows = [plan.offsets[:length] + b for b, length in enumerate(LENGTHS)]
    outputs, states = reference.run(
        cell.name.upper(), parameters, [x[of] for of in rows], hx, gate_activation
    )
    out = np.empty((plan.rows, outputs[0].shape[1]))
    for of, output in zip(rows, outputs, strict=True):
        out[of] = output
    return out, *states


def each_case():
    for cell in CELLS:
        for gate_activation in GATE_ACTIVATIONS if cell.has_sigmoid else ("sigmoid",):
            for projection in (False, True) if cell.may_project else (False,):
                yield cell, gate_activation, projection


CASES = [
    pytest.param(*case, id="-".join((case[0].name, case[1], "projected" * case[2])))
    for case in each_case()
]


@pytest.mark.parametrize("hidden", SIZES)
@pytest.mark.parametrize(("cell", "gate_activation", "projection"), CASES)
@by_dtype
@by_isa
def test_beside_the_reference(kernels, dtype, cell, gate_activation, projection, hidden):
    size = hidden // 2 + 1 if projection else 0
    *given, actual = run(kernels, cell, gate_activation, hidden, size, dtype)
    for part, part_e in zip(actual, expected_of(cell, gate_activation, *given), strict=True):
        assert_close(part, part_e)


@pytest.mark.parametrize(("cell", "gate_activation", "projection"), CASES)
@by_dtype
@by_isa
def test_threads_do_not_change_a_bit(kernels, dtype, cell, gate_activation, projection):
    size = 120 if projection else 0
    *_, expected = run(kernels, cell, gate_activation, 200, size, dtype)
    for threads in (2, 3):
        *_, actual = run(kernels, cell, gate_activation, 200, size, dtype, threads)
        for part, part_e in zip(actual, expected, strict=True):
            assert_same_bits(part, part_e)


@pytest.mark.parametrize(("cell", "gate_activation", "projection"), CASES)
@by_dtype
def test_avx2_and_avx512_give_the_same_bits(dtype, cell, gate_activation, projection):
    fused = [kernels for kernels in USABLE if kernels.name in ("avx512", "avx2")]
    if len(fused) < 2:
        pytest.skip("this machine lacks one of them")
    size = 12 if projection else 0
    first, second = (run(k, cell, gate_activation, 21, size, dtype)[-1] for k in fused)
    for part, part_e in zip(first, second, strict=True):
        assert_same_bits(part, part_e)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError):
        run(USABLE[0], CELLS[0], "relu", 3, 0, np.float32)
