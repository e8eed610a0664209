"""Settings that every test shares, and the backends that the tests of a module run on."""

from unittest import mock

import pytest
import tensors
from hypothesis import settings

import packseq
from packseq.backends import choice

# The same examples on every run: a failure in CI is one that anybody can repeat. A deadline would
# fail a correct test on a busy machine.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=20)
settings.load_profile("repeatable")


@pytest.fixture(scope="module", params=["arrays", "tensors"])
def form(request):
    """The form that a layout function is given its arrays in."""
    if request.param == "arrays":
        return tensors.as_they_are
    pytest.importorskip("torch", reason="tensors are torch's")
    return tensors.as_tensors


@pytest.fixture(scope="module", params=["cpu", "torch", "tensors"])
def backend(request):
    """Every call of RNN, GRU and LSTM on packseq's kernels, in torch, or in torch on tensors.

    The last turns arrays into tensors around each call, so that a test is written once, in NumPy.
    """
    call = packseq.modules._Recurrent.__call__
    if request.param != "cpu":
        pytest.importorskip("torch", reason="the torch backend needs torch")
    if request.param == "tensors":
        call = on_tensors(call)
    before = packseq.get_backend()
    packseq.set_backend("cpu" if request.param == "cpu" else "torch")
    with mock.patch.object(packseq.modules._Recurrent, "__call__", call):
        yield request.param
    packseq.set_backend(before)


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
