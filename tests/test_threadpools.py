"""packseq as threadpoolctl lists and limits it."""

import numpy as np
import pytest
from processes import in_a_new_process
from strategies import assert_same_bits

import packseq
from packseq.settings import isa

threadpoolctl = pytest.importorskip("threadpoolctl", reason="whose view of packseq this is")


@pytest.fixture(autouse=True)
def three_threads():
    """packseq registered, and with a number of threads that no machine gives it by itself."""
    packseq.register_threadpoolctl()
    before = packseq.get_num_threads()
    packseq.set_num_threads(3)
    yield
    packseq.set_num_threads(before)


def entries():
    return [each for each in threadpoolctl.threadpool_info() if each["user_api"] == "packseq"]


def test_what_it_lists():
    packseq.register_threadpoolctl()  # a second time, which changes nothing
    [entry] = entries()
    assert entry["internal_api"] == "packseq"
    assert entry["num_threads"] == 3
    assert entry["version"] == packseq.__version__
    assert entry["architecture"] == isa.kernels().name


@pytest.mark.parametrize("limits", [1, {"packseq": 1}], ids=["all libraries", "packseq alone"])
def test_a_limit_holds_until_it_ends(limits):
    with threadpoolctl.threadpool_limits(limits):
        assert packseq.get_num_threads() == 1
        assert entries()[0]["num_threads"] == 1
    assert packseq.get_num_threads() == 3


def test_a_limit_of_another_library_is_no_limit_here():
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert packseq.get_num_threads() == 3


def test_a_limit_beyond_any_machine_ends_like_any_other():
    with threadpoolctl.threadpool_limits({"packseq": 5000}):
        assert packseq.get_num_threads() == 1024
    assert packseq.get_num_threads() == 3


def test_a_limited_call_works_alone_and_with_the_same_bits():
    module, x = packseq.LSTM(16, 256, rng=0), np.ones((24, 16), np.float32)
    expected, _ = module(x)
    pool = packseq.settings.threads.crew()[0]
    with threadpoolctl.threadpool_limits(1):
        before = pool.rounds
        result, _ = module(x)
        assert pool.rounds == before
    assert_same_bits(result, expected)


@pytest.mark.parametrize(
    ("code", "listed"),
    [
        ("import threadpoolctl, packseq", 1),
        ("import packseq, threadpoolctl", 0),
        ("import packseq, threadpoolctl; packseq.register_threadpoolctl()", 1),
        # a list made before packseq came does not hide it
        ("import threadpoolctl; threadpoolctl.threadpool_info(); import packseq", 1),
        # too old to know of other libraries
        ("import threadpoolctl; del threadpoolctl.register; import packseq", 0),
    ],
)
def test_who_is_imported_first(code, listed):
    count = "sum(each['user_api'] == 'packseq' for each in threadpoolctl.threadpool_info())"
    ran = in_a_new_process(f"{code}; print({count})")
    assert (ran.stdout, ran.stderr) == (f"{listed}\n", "")


def test_packseq_does_not_import_it():
    code = "import sys, packseq; print('threadpoolctl' in sys.modules)"
    ran = in_a_new_process(code)
    assert ran.stdout == "False\n"


def test_without_it_the_call_says_what_to_install():
    code = "import sys; sys.modules['threadpoolctl'] = None; import packseq; packseq.{}()"
    ran = in_a_new_process(code.format("register_threadpoolctl"))
    assert 'pip install "threadpoolctl' in ran.stderr
