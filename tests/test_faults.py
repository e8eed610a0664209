"""Where memory, threads, descriptors or disk run out, or a call is cut short: right, or an error.

Each case is a process of its own, which tests/faults/programs.py describes: it must end by itself,
in time, and without a word of fault. Address sanitizers reserve so much address space that limits
on it mean nothing: these tests are not for a library that was built with one.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("limits and preloaded libraries are Linux's here", allow_module_level=True)

TESTS = Path(__file__).parent
FAILING = TESTS / "faults" / "failing.c"


def run(folder, program, *arguments, **environment):
    """Run a program to its end; what takes so long hangs."""
    command = [sys.executable, TESTS / "faults" / "programs.py", program, folder, *arguments]
    environment |= {"PYTHONPATH": str(TESTS), "OPENBLAS_NUM_THREADS": "1"}
    # Python 3.12 and later warn of forks, which are what one of these tests is about.
    environment["PYTHONWARNINGS"] = "ignore::DeprecationWarning"
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    """The environment of a process in which allocations and threads can be made to fail."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler for the library that is preloaded")
    if not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""):
        pytest.skip("the library that is preloaded stands before glibc's allocator")
    library = tmp_path_factory.mktemp("failing") / "failing.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", FAILING, "-o", library, "-ldl"], check=True
    )
    return {"LD_PRELOAD": str(library)}


@pytest.mark.parametrize("later", ["0", "1"], ids=["one", "one and all later"])
def test_any_allocation_fails(failing, tmp_path, later):
    run(tmp_path, "allocations", later, **failing)


def test_memory_runs_out(tmp_path):
    run(tmp_path, "memory")


@pytest.mark.parametrize("most", ["0", "1", "2"])
def test_threads_cannot_be_started(failing, tmp_path, most):
    run(tmp_path, "no_threads", most, **failing)


def test_there_is_no_room_for_the_stacks_of_threads(tmp_path):
    run(tmp_path, "no_stacks")


def test_an_exception_at_any_line(tmp_path):
    run(tmp_path, "interruptions")


def test_signals_whose_handler_raises(tmp_path):
    run(tmp_path, "alarms")


def test_forks_while_all_threads_are_in_calls(tmp_path):
    run(tmp_path, "forks")


@pytest.mark.parametrize("how", ["return", "exit", "_exit"])
def test_the_process_ends_while_threads_are_in_calls(tmp_path, how):
    run(tmp_path, "leaving", how)


def test_descriptors_run_out(tmp_path):
    run(tmp_path, "descriptors")


def test_the_disk_is_full(tmp_path):
    run(tmp_path, "full_disk")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is full")
def test_the_device_is_full(tmp_path):
    run(tmp_path, "device_full")


def test_a_file_changes_while_it_is_read(tmp_path):
    run(tmp_path, "changing")
