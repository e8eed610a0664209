"""Settings that every test shares, and the backends that the tests of a module run on."""

import importlib.util
from unittest import mock

import numpy as np
import pytest
import strategies
import tensors
from hypothesis import settings

import packseq
from packseq.settings import backend as choice
from packseq.settings import isa, threads

# The same examples on every run: a failure in CI is one that anybody can repeat. A deadline would
# fail a correct test on a busy machine.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=20)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def all_threads_come():
    """As many threads as are asked for take part, however few cores there are and however busy."""
    threads.crew()[0].patience = None


# Without torch there is no other form, and no other backend.
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture(scope="module", params=["arrays", "tensors"] if HAS_TORCH else ["arrays"])
def form(request):
    """What turns arrays into the form that a layout function is given them in."""
    return tensors.as_tensors if request.param == "tensors" else tensors.as_they_are


@pytest.fixture(scope="module", params=["cpu", "torch", "tensors"] if HAS_TORCH else ["cpu"])
def backend(request):
    """Every call of RNN, GRU and LSTM on packseq's kernels, in torch, or in torch on tensors.

    The last turns arrays into tensors around each call, so that a test is written once, in NumPy.
    """
    call = packseq.networks.recurrent.Recurrent.__call__
    if request.param == "tensors":
        call = on_tensors(call)
    on_gpu = request.param != "cpu" and tensors.device().type == "cuda"
    tolerance = {np.dtype(np.float32): strategies.FLOAT32_ON_A_GPU} if on_gpu else {}
    before = packseq.get_backend()
    packseq.set_backend("cpu" if request.param == "cpu" else "torch")
    with (
        mock.patch.object(packseq.networks.recurrent.Recurrent, "__call__", call),
        mock.patch.dict(strategies.TOLERANCE, tolerance),
    ):
        yield request.param
    packseq.set_backend(before)


@pytest.fixture(scope="session")
def on_kernels():
    """What the kernels alone have, and BLAS has not.

    Bits that depend on nothing but the row, the short way of plain calls, teams of threads.
    """
    if isa.engine().name == isa.BLAS:
        pytest.skip("the modules run on BLAS, whose bits depend on the batch")


@pytest.fixture
def unset_backend(monkeypatch):
    """A test begins with no backend set, not by the environment either, and undoes what it sets."""
    monkeypatch.setattr(choice, "_settings", None)
    monkeypatch.delenv("PACKSEQ_BACKEND", raising=False)
    monkeypatch.delenv("PACKSEQ_OFFLOAD_FLOPS", raising=False)


def on_tensors(call):
    def called(module, input, hx=None, **options):
        result = call(module, tensors.as_tensors(input), tensors.as_tensors(hx), **options)
        return tensors.as_arrays(result)

    return called
