"""PACKSEQ_ISA: which kernels run, and what is said where the machine lacks them."""

import os
import subprocess
import sys

import numpy as np
import pytest

from packseq import LSTM
from packseq._core.recurrent import compiled
from packseq.settings import isa

USABLE = isa.available_isas()
LACKED = [kernels.name for kernels in compiled() if not kernels.supported]

RUN = """
import sys
import numpy as np
from packseq import LSTM
from packseq.settings import isa
x = np.linspace(-1, 1, 7 * 5, dtype=np.float32).reshape(7, 5)
output, _ = LSTM(5, 33, num_layers=2, rng=0)(x)
sys.stderr.write(isa.engine().name)
sys.stdout.buffer.write(output.tobytes())
"""


def run_under(isa):
    return subprocess.run(
        [sys.executable, "-c", RUN],
        env=os.environ | {"PACKSEQ_ISA": isa},
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize("isa", USABLE)
def test_each_that_the_machine_has_can_be_chosen(isa):
    result = run_under(isa)
    assert result.stderr.decode() == isa
    x = np.linspace(-1, 1, 7 * 5, dtype=np.float64).reshape(7, 5)
    weights = LSTM(5, 33, num_layers=2, rng=0).state_dict()
    expected, _ = LSTM.from_state_dict(weights, dtype=np.float64)(x)
    actual = np.frombuffer(result.stdout, np.float32).reshape(expected.shape)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)  # strategies.py derives it


def test_the_best_is_chosen_without_it():
    assert run_under("").stderr.decode() == USABLE[0]


@pytest.mark.parametrize("isa", ["mmx", "AVX2", *LACKED])
def test_one_that_the_machine_lacks(isa):
    result = run_under(isa)
    message = f"ValueError: PACKSEQ_ISA={isa!r}: this machine has {', '.join(USABLE)}"
    assert message in result.stderr.decode()


@pytest.mark.skipif(not compiled(), reason="built without kernels")
def test_the_baseline_runs_everywhere():
    assert USABLE[-1] == "baseline"
