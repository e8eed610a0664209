"""The worker processes of others: how many threads each takes, and the parent's bits in them."""

import numpy as np
import pytest
from strategies import assert_same_bits

import packseq

MODULE = packseq.LSTM(16, 256, rng=0)
X = np.random.default_rng(0).standard_normal((40, 16), np.float32)

# Python 3.12 and later warn of what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def answer(_=None):
    """How many threads a process takes by itself, and what it computes on these and on two."""
    return packseq.get_num_threads(), MODULE(X)[0], MODULE(X, num_threads=2)[0]


def check(answers, num_threads):
    expected, _ = MODULE(X, num_threads=1)
    for threads, by_default, on_two in answers:
        assert threads == num_threads
        assert_same_bits(by_default, expected)
        assert_same_bits(on_two, expected)


@pytest.fixture(autouse=True)
def parent(monkeypatch):
    """Has worked on three threads, as set_num_threads said: its pool has some."""
    monkeypatch.delenv("PACKSEQ_NUM_THREADS", raising=False)
    before = packseq.get_num_threads()
    packseq.set_num_threads(3)
    MODULE(X)
    yield
    packseq.set_num_threads(before)


# ---- joblib ------------------------------------------------------------------------------------


@pytest.fixture
def joblib():
    """joblib, whose workers end with the test."""
    module = pytest.importorskip("joblib", reason="whose workers these are")
    yield module
    module.externals.loky.get_reusable_executor().shutdown(wait=True)


def test_joblibs_workers_share_the_cores(joblib):
    answers = joblib.Parallel(n_jobs=2)(joblib.delayed(answer)() for _ in range(4))
    check(answers, max(1, joblib.cpu_count() // 2))


def test_joblibs_workers_take_what_joblib_gives_them(joblib):
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        answers = joblib.Parallel(n_jobs=2)(joblib.delayed(answer)() for _ in range(4))
    check(answers, 1)


# ---- torch's DataLoader ------------------------------------------------------------------------


class Answers:
    """A dataset whose items say what its worker does."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return answer()


def load(start, **options):
    data = pytest.importorskip("torch.utils.data", reason="whose DataLoader this is")
    loader = data.DataLoader(
        Answers(),
        batch_size=None,
        num_workers=1,
        collate_fn=tuple,
        multiprocessing_context=start,
        **options,
    )
    return list(loader)


def take_two(_worker):
    packseq.set_num_threads(2)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_data_loaders_workers_take_one_thread_each(start):
    """As torch's own: what the parent was told is not for them."""
    check(load(start), 1)


def test_a_data_loaders_workers_take_what_the_environment_says(monkeypatch):
    monkeypatch.setenv("PACKSEQ_NUM_THREADS", "2")
    check(load("fork"), 2)


def test_a_data_loaders_workers_take_what_they_are_told():
    check(load("fork", worker_init_fn=take_two), 2)


def test_a_data_loader_without_workers_is_the_parent():
    data = pytest.importorskip("torch.utils.data", reason="whose DataLoader this is")
    check(data.DataLoader(Answers(), batch_size=None, collate_fn=tuple), 3)
