"""What type checkers see of the package: tests/typing has programs as users write them."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "typing"


def checked_by(tool, program):
    """The exit status of a type checker, and what it says."""
    if program == "tensors" and not find_spec("torch"):
        pytest.skip("torch, whose tensors the program has, is not installed")
    commands = {
        "mypy": ["mypy", "--strict", "--config-file=", "--no-error-summary"],
        # basic is what pyright does where nothing is set.
        "pyright": ["pyright", "--pythonpath", sys.executable],
    }
    command = [sys.executable, "-m", *commands[tool], f"{PROGRAMS / program}.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROGRAMS.parents[1])
    return done.returncode, done.stdout + done.stderr


# That `wrong` passes says that each of its lines is refused: an ignored error that is none is one.
@pytest.mark.parametrize("program", ["arrays", "tensors", "wrong"])
def test_users_programs_pass_mypy(program):
    pytest.importorskip("mypy", reason="it comes with the extra lint")
    assert checked_by("mypy", program) == (0, "")


@pytest.mark.parametrize("program", ["arrays", "tensors"])
def test_users_programs_pass_pyright(program):
    pytest.importorskip("pyright", reason="it needs Node: pip install 'pyright[nodejs]'")
    status, words = checked_by("pyright", program)
    assert status == 0, words


def test_a_type_that_is_not_so_is_an_error(tmp_path):
    """The check itself: a program that expects something else fails."""
    pytest.importorskip("mypy", reason="it comes with the extra lint")
    program = tmp_path / "other.py"
    text = (PROGRAMS / "arrays.py").read_text()
    program.write_text(text.replace("(out @ W, PackedSequence)", "(out @ W, int)"))
    status, words = checked_by("mypy", program.with_suffix(""))
    assert status == 1
    assert 'Expression is of type "PackedSequence", not "int"' in words
