"""Both movers of rows take what their contract says, by its names: mypy sees the types alone."""

import inspect
from importlib.util import find_spec

import pytest

from packseq.rows import arrays, movers

CONTRACT = {
    name: list(inspect.signature(function).parameters)[1:]
    for name, function in vars(movers.Mover).items()
    if not name.startswith("_")
}


def test_the_contract_is_read():
    assert CONTRACT["split"] == ["padded", "lengths"]


@pytest.mark.parametrize("beside_torch", [False, True])
@pytest.mark.parametrize("name", CONTRACT)
def test_a_function_of_each_mover(name, beside_torch):
    if beside_torch and not find_spec("torch"):
        pytest.skip("torch, whose tensors are moved, is not installed")
    if beside_torch:
        from packseq.rows import tensors as mover
    else:
        mover = arrays
    assert list(inspect.signature(getattr(mover, name)).parameters) == CONTRACT[name]
