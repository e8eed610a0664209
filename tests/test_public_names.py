"""What an editor offers after ``packseq.``: what is public, and nothing of how it is made."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

import packseq


def printed_by(program):
    """What a program prints in a process of its own, where nothing has been imported yet."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_dir_has_what_is_public_alone():
    assert dir(packseq) == sorted([*packseq.__all__, "torch", "weights"])


def test_dir_and_its_names_import_no_torch():
    names = "[getattr(packseq, name) for name in dir(packseq) if name != 'torch']"
    assert printed_by(f"import sys, packseq; {names}; print('torch' in sys.modules)") == ["False"]


@pytest.mark.skipif(not find_spec("torch"), reason="torch, which packseq.torch is for, is missing")
def test_packseq_torch_comes_when_it_is_asked_for():
    program = (
        "import sys, packseq; print(packseq.torch.accelerate.__name__, 'torch' in sys.modules)"
    )
    assert printed_by(program) == ["accelerate", "True"]


def test_packseq_torch_without_torch_says_what_is_missing():
    program = (
        "import sys, packseq\n"
        "sys.modules['torch'] = None\n"
        "try: packseq.torch\n"
        "except AttributeError as error: print(error)\n"
        "print(hasattr(packseq, 'torch'))"
    )
    *words, there = printed_by(program)
    assert " ".join(words).startswith("packseq.torch needs torch: pip install")
    assert there == "False"


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'packseq' has no attribute 'lstm'"):
        packseq.lstm  # noqa: B018
