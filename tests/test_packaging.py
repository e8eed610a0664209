"""What is packed into a wheel, and what a build or `make` says where it lacks something."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if not (ROOT / "setup.py").exists():
    pytest.skip("the package is tested without its source", allow_module_level=True)


# ---- what a wheel holds -------------------------------------------------------------------------


@pytest.fixture
def faults_of(tmp_path):
    """What tools/check_wheel.py says of a wheel of these files."""
    spec = importlib.util.spec_from_file_location("check_wheel", ROOT / "tools" / "check_wheel.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def faults(files):
        path = tmp_path / "packseq.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return tool.check(path)

    return faults


def test_a_wheel_of_what_runs(faults_of):
    assert faults_of({
        "packseq/__init__.py": b"",
        "packseq/py.typed": b"",
        "packseq/_core/order.pyi": b"",
        "packseq/_core/order.cpython-311-x86_64-linux-gnu.so": b"",
        "packseq-0.1.0.dist-info/METADATA": b"",
        "packseq-0.1.0.dist-info/licenses/LICENSE": b"",
    }) == []  # fmt: skip


@pytest.mark.parametrize(
    "name", ["packseq/_core/order.c", "packseq/_core/order.pyx", "packseq/_core/rows.h"]
)
def test_a_wheel_with_sources(faults_of, name):
    assert faults_of({name: b""}) == [f"{name} is not run"]


def test_a_wheel_that_is_too_large(faults_of):
    (unpacked,) = faults_of({"packseq/large.py": bytes(2_500_000)})
    assert "installed" in unpacked
    (packed,) = faults_of({"packseq/large.so": os.urandom(1_000_000)})
    assert "packed" in packed


# ---- a build that cannot be ---------------------------------------------------------------------


# Cython stands aside: what is looked for is looked for before anything is compiled.
WITHOUT_CYTHON = """
import runpy, sys, sysconfig, types
build = types.ModuleType("Cython.Build")
build.cythonize = lambda module_list, **options: module_list
sys.modules["Cython"], sys.modules["Cython.Build"] = types.ModuleType("Cython"), build
include, get_path = sys.argv.pop(), sysconfig.get_path
sysconfig.get_path = lambda name: include if name == "include" else get_path(name)
sys.argv[0] = "setup.py"
runpy.run_path("setup.py", run_name="__main__")
"""


def build(compiler, include):
    """The end of a build with this compiler, and with Python's headers in this folder."""
    pytest.importorskip("setuptools", reason="what builds")
    shutil.copy(ROOT / "setup.py", include)  # alone: pyproject.toml asks for a newer setuptools
    command = [sys.executable, "-c", WITHOUT_CYTHON, "build_ext", str(include)]
    environment = os.environ | {"CC": compiler}
    done = subprocess.run(command, cwd=include, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_a_build_without_a_compiler_says_so(tmp_path):
    said = build("no-such-compiler", tmp_path)
    assert "GCC or Clang is needed, and there is no no-such-compiler here" in said
    assert "apt install gcc" in said


def test_a_build_without_headers_says_so(tmp_path):
    said = build(sys.executable, tmp_path)  # any command that is there
    assert f"there is no Python.h in {tmp_path}" in said
    assert "apt install python3-dev" in said


# ---- what `make` looks for first ----------------------------------------------------------------


@pytest.fixture
def prepare(tmp_path):
    """tools/prepare.sh in a folder of its own, with other commands before those of the path."""

    def run(python=sys.executable, **environment):
        command = ["sh", ROOT / "tools" / "prepare.sh", python, "venv"]
        return subprocess.run(
            command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True
        )

    return run


def test_no_python(prepare, tmp_path):
    done = prepare(python="no-such-python")
    assert done.returncode == 1
    assert "Python 3.11 or later (no-such-python is not one" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_an_old_python(prepare, tmp_path):
    old = tmp_path / "old"
    old.write_text(
        "#!/bin/sh\nexit 1\n"
    )  # what Python says to the question whether it is new enough
    old.chmod(0o755)
    assert f"Python 3.11 or later ({old} is not one" in prepare(python=str(old)).stderr


def test_no_compiler(prepare, tmp_path):
    done = prepare(CC="no-such-compiler")
    assert done.returncode == 1
    assert "a C compiler, GCC or Clang (no no-such-compiler on the path" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_no_headers_of_the_c_library(prepare):
    done = prepare(CC="false")
    assert done.returncode == 1
    assert "the C library's headers (false finds no stdio.h)" in done.stderr


def test_a_half_made_environment_is_made_again(prepare, tmp_path):
    half_made = tmp_path / "venv" / "bin"
    half_made.mkdir(parents=True)
    (half_made / "left_behind").touch()
    done = prepare(CC="true")
    assert done.stderr == ""
    assert (half_made / "pip").exists()
    assert not (half_made / "left_behind").exists()


def test_make_help_has_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    said = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert re.findall(r"^  make (\S+)", said, re.MULTILINE) == targets
