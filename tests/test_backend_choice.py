"""Which backend is chosen, and that torch stays out of it where nobody asks for it."""

import os
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

import packseq
from packseq import GRU, LSTM
from packseq.settings import backend as choice

pytestmark = pytest.mark.usefixtures("unset_backend")


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


# ---- torch stays out ----------------------------------------------------------------------------


def test_numpy_alone_never_imports_torch():
    done = run_python(
        "import sys, numpy as np, packseq\n"
        "packed = packseq.pack_sequence([np.zeros((3, 2)), np.zeros((1, 2))])\n"
        "packseq.unpack_sequence(packseq.LSTM(2, 3)(packed)[0])\n"
        "print('torch' in sys.modules)"
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_without_torch_the_backend_says_what_to_install():
    done = run_python(
        "import sys; sys.modules['torch'] = None\n"
        "import packseq\n"
        "for call in (lambda: packseq.set_backend('torch'),\n"
        "             lambda: packseq.LSTM(2, 3, backend='torch')):\n"
        "    try: call()\n"
        "    except ImportError as error: print(error)\n"
    )
    installed = any(metadata.distributions(name="packseq"))  # else it runs from its folder
    wanted = '"torch>=2.4"' if installed else "torch"
    assert done.stdout == f"this needs torch: pip install {wanted}\n" * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_asks_for_a_gpu_again():
    # CPython may warn of a fork beside threads: NumPy's OpenBLAS ends its own at the fork, and the
    # system counts one for a moment longer (1 run in 200).
    done = run_python(
        "import os, warnings; from packseq.networks import runners\n"
        "warnings.filterwarnings('ignore', '.*multi-threaded', DeprecationWarning)\n"
        "runners._has_gpu()\n"
        "if not (child := os.fork()): os._exit(runners._has_gpu.cache_info().currsize)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


# ---- the choice ---------------------------------------------------------------------------------


def test_the_backend_is_auto_until_it_is_set():
    assert packseq.get_backend() == "auto"
    packseq.set_backend("cpu")
    assert packseq.get_backend() == "cpu"


@pytest.mark.parametrize("name", ["cuda", "", None, 3, ["cpu"]])
def test_unknown_backends(name):
    message = rf"backend must be 'auto', 'cpu' or 'torch', got {name!r}".replace("[", r"\[")
    with pytest.raises(ValueError, match=message):
        packseq.set_backend(name)
    module = LSTM(2, 3)
    if name is not None:
        with pytest.raises(ValueError, match=message):
            module.backend = name
        with pytest.raises(ValueError, match=message):
            GRU(2, 3, backend=name)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PACKSEQ_BACKEND", "gpu", r"PACKSEQ_BACKEND must be 'auto', 'cpu' or 'torch', got 'gpu'"),
        ("PACKSEQ_OFFLOAD_FLOPS", "many", r"PACKSEQ_OFFLOAD_FLOPS must be .* at least 0, got 'ma"),
        ("PACKSEQ_OFFLOAD_FLOPS", "-1", r"PACKSEQ_OFFLOAD_FLOPS must be .* at least 0, got '-1'"),
    ],
)
def test_the_environment_is_checked(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        LSTM(2, 3)(np.zeros((4, 2), np.float32))


@pytest.mark.parametrize("flops", [-1, float("nan")])
def test_an_offload_threshold_that_is_none(flops):
    with pytest.raises(ValueError, match="offload_flops must be at least 0"):
        packseq.set_backend("auto", offload_flops=flops)


def test_an_offload_threshold_that_is_no_number():
    with pytest.raises(TypeError, match="offload_flops must be a number, got '5'"):
        packseq.set_backend("auto", offload_flops="5")


def test_what_is_not_given_stays_as_it_was_set(monkeypatch):
    monkeypatch.setenv("PACKSEQ_OFFLOAD_FLOPS", "7")
    packseq.set_backend("auto")
    assert choice.settings() == choice._Settings("auto", 7, allow_tf32=False)
    packseq.set_backend("cpu", offload_flops=8, allow_tf32=True)
    packseq.set_backend("auto")
    assert choice.settings() == choice._Settings("auto", 8, allow_tf32=True)
    packseq.set_backend("auto", allow_tf32=False)
    assert choice.settings() == choice._Settings("auto", 8, allow_tf32=False)
