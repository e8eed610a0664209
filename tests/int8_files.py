"""What tests of files with 8-bit weights share: sizes, and how far a result may be from others'.

The judges are the integers in the file; tests/reference.py, which is exact about rows; and whoever
made the file, from whom a step may differ by what the rounding of x and h explains: here each row
has a scale, there the whole batch.
"""

import numpy as np
import reference
from checkpoints import inputs

INPUT, H = 5, 6


def assert_is_the_references(kind, module):
    """Seven steps, each as far as one may be."""
    x = inputs(3, 7, module.input_size)
    expected, _ = reference.run(kind, module.state_dict(), list(x))
    output, _ = module(x if module.batch_first else x.swapaxes(0, 1))
    output = output if module.batch_first else output.swapaxes(0, 1)
    np.testing.assert_allclose(output, np.stack(expected), rtol=0, atol=2e-6 * 7)


def bound(module, x, h, levels):
    """How far a gate may be from another library's, which rounds x and h to steps of the batch."""
    state, total = module.state_dict(), 0
    for name, v in (("weight_ih_l0", x), ("weight_hh_l0", h)):
        theirs = (max(v.max(), 0) - min(v.min(), 0)) / levels
        ours = np.abs(v).max() / 127
        weight = np.abs(state[name] * state[f"{name}_scale"][:, None])
        total += weight.sum(axis=1).max() * (theirs + ours) / 2
    return total


def of_lstm(gates):
    """In h, since slopes are 1/4 and 1, and c is at most 1: c moves by 1.5 of it, and o by 1/4."""
    return 1.75 * gates


def step_inputs(batch=4):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, batch, INPUT)).astype(np.float32)
    return x, *(rng.uniform(-1, 1, (1, batch, H)).astype(np.float32) for _ in "hc")
