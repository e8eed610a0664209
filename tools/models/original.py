"""What a judge gives: a recurrent module in the runtime that it was made for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from packseq import weights

SEQUENCES, STEPS = 8, 100
ARITHMETIC = "the arithmetic"


class NotAtHandError(Exception):
    """Why there is nothing to compare with."""


@dataclass
class Whole:
    """A model of which the module is a part: as it is, and with packseq's module in its place."""

    before: Callable[[], list[Any]]
    after: Callable[[], list[Any]]


@dataclass
class Original:
    """A module in its own runtime: `run(x)` gives its output, in the shape that packseq's has.

    The states that it starts from are in `run`, and packseq's module takes them as `hx`. `shipped`
    is what the file's own nodes give where `run` is a float32 version of quantised ones.
    """

    runtime: str
    run: Callable[[np.ndarray], np.ndarray]
    x: np.ndarray
    hx: Any = None
    whole: Whole | None = None
    shipped: Callable[[np.ndarray], np.ndarray] | None = None


def random() -> np.random.Generator:
    """The same numbers in every run."""
    return np.random.default_rng(0)


def inputs_for(found: weights.Found) -> np.ndarray:
    """A batch as the module takes it."""
    shape = [SEQUENCES, found.input_size]
    if not found.is_cell:
        shape.insert(1 if found.attributes.batch_first else 0, STEPS)
    return random().standard_normal(shape, np.float32)
