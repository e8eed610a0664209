"""packseq against numbers that torch computed once: see tools/make_torch_values.py."""

import json
from pathlib import Path

import numpy as np
import pytest
import reference
from strategies import DTYPES, as_state, assert_close, assert_states_close

import packseq

VALUES = np.load(Path(__file__).parent / "data" / "torch_values.npz")
ABOUT = json.loads(str(VALUES["about"]))
LENGTHS = ABOUT["lengths"]


def cases(of_cells):
    """Parameters of a test: (number, class, options) of each stored case, with a readable id."""
    return pytest.mark.parametrize(
        ("number", "name", "options"),
        [
            pytest.param(
                number,
                case["class"],
                case["options"],
                id="-".join([case["class"], *(f"{k}={v}" for k, v in case["options"].items())]),
            )
            for number, case in enumerate(ABOUT["cases"])
            if case["class"].endswith("Cell") == of_cells
        ],
    )


def stored(number, group):
    """The arrays of one group of a case ("weights", "state_0", "state_n"), by their last name."""
    prefix = f"{number}/{group}/"
    return {key.removeprefix(prefix): VALUES[key] for key in VALUES.files if key.startswith(prefix)}


def loaded(number, name, options, dtype):
    module = getattr(packseq, name)(3, 5, **options, dtype=dtype)
    module.load_state_dict(stored(number, "weights"))
    return module


def kind_of(name, options):
    """ "RNN" with relu -> "RNN_RELU", as the reference calls it."""
    nonlinearity = options.get("nonlinearity")
    name = name.removesuffix("Cell")
    return f"{name}_{nonlinearity.upper()}" if nonlinearity else name


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@cases(of_cells=False)
def test_modules_compute_what_torch_computed(number, name, options, dtype):
    module = loaded(number, name, options, dtype)
    hx = as_state(name, [part.astype(dtype) for part in stored(number, "state_0").values()])
    x = VALUES[f"{number}/input"].astype(dtype)
    output, state = module(x, hx, lengths=LENGTHS)
    assert_close(output, VALUES[f"{number}/output"])
    assert_states_close(state, tuple(stored(number, "state_n").values()))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@cases(of_cells=True)
def test_cells_compute_what_torch_computed(number, name, options, dtype):
    cell = loaded(number, name, options, dtype)
    parts = [part.astype(dtype) for part in stored(number, "state_0").values()]
    state = cell(VALUES[f"{number}/input"].astype(dtype), as_state(kind_of(name, options), parts))
    assert_states_close(state, tuple(stored(number, "state_n").values()))


@cases(of_cells=False)
def test_the_reference_computes_what_torch_computed(number, name, options):
    """The oracle of all other tests is itself held to torch where there is no torch."""
    x = VALUES[f"{number}/input"].swapaxes(0, 1)
    sequences = [row[:length] for row, length in zip(x, LENGTHS, strict=True)]
    outputs, state = reference.run(
        kind_of(name, options),
        stored(number, "weights"),
        sequences,
        tuple(stored(number, "state_0").values()),
    )
    expected = VALUES[f"{number}/output"].swapaxes(0, 1)
    for output, row in zip(outputs, expected, strict=True):
        assert_close(output, row[: len(output)])
    assert_states_close(state, tuple(stored(number, "state_n").values()))
