"""The textbook's arithmetic, for what no runtime here has: peepholes."""

import sys
from pathlib import Path

import numpy as np

from packseq import weights

from .original import ARITHMETIC, Original, inputs_for

sys.path.append(str(Path(__file__).parents[2] / "tests"))

import reference


def of_arithmetic(arrays: dict[str, np.ndarray], found: weights.Found) -> Original:
    """tests/reference.py, in float64, one sequence at a time."""
    own = {name.removeprefix(found.prefix): array for name, array in arrays.items()}

    def run(x: np.ndarray) -> np.ndarray:
        outputs, _ = reference.run("LSTM_PEEPHOLE", own, [x[:, b] for b in range(x.shape[1])])
        return np.stack(outputs, axis=1).astype(x.dtype)

    return Original(ARITHMETIC, run, inputs_for(found))
