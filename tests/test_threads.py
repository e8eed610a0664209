"""Threads: how many, the same bits with any number, and what else runs in the process."""

import contextlib
import ctypes
import os
import platform
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from processes import in_a_new_process
from strategies import Case, as_state, assert_same_bits, state_parts

import packseq
from packseq import LSTM, PackedSequence, pack_sequence
from packseq._core.pool import Pool
from packseq.rows.plan import Plan
from packseq.settings import isa, threads

on_kernels = pytest.mark.usefixtures("on_kernels")
# BLAS has threads of its own, or none.
IN_POOL = isa.engine().name != isa.BLAS


def same_bits(result, expected):
    (output, state), (output_e, state_e) = result, expected
    if isinstance(output, PackedSequence):
        output, output_e = output.data, output_e.data
    assert_same_bits(output, output_e)
    for part, part_e in zip(state_parts(state), state_parts(state_e), strict=True):
        assert_same_bits(part, part_e)


# ---- how many ----------------------------------------------------------------------------------


@pytest.fixture
def num_threads():
    """The number of threads, put back afterwards."""
    before = packseq.get_num_threads()
    yield before
    packseq.set_num_threads(before)


PRINT_NUM_THREADS = "import packseq; print(packseq.get_num_threads())"


def test_set_is_what_get_returns(num_threads):
    for n in [1, 3, np.int64(2)]:
        packseq.set_num_threads(n)
        assert packseq.get_num_threads() == n


@pytest.mark.parametrize("n", [0, -1])
def test_fewer_than_one(num_threads, n):
    message = f"num_threads must be at least 1, got {n}"
    with pytest.raises(ValueError, match=message):
        packseq.set_num_threads(n)
    with pytest.raises(ValueError, match=message):
        LSTM(2, 3)(np.zeros((4, 2), np.float32), num_threads=n)
    assert packseq.get_num_threads() == num_threads


@pytest.mark.parametrize("n", [2.0, "2", None, True])
def test_no_integer(num_threads, n):
    with pytest.raises(TypeError, match="num_threads must be an integer, got"):
        packseq.set_num_threads(n)
    assert packseq.get_num_threads() == num_threads


@pytest.mark.parametrize("n", [2.0, "2", True])
def test_no_integer_in_a_call(n):
    with pytest.raises(TypeError, match="num_threads must be an integer, got"):
        LSTM(2, 3)(np.zeros((4, 2), np.float32), num_threads=n)


def test_the_environment_decides():
    result = in_a_new_process(PRINT_NUM_THREADS, PACKSEQ_NUM_THREADS="3")
    assert result.stdout == "3\n"


@pytest.mark.parametrize("text", ["1", " 1 ", "1,4"])
def test_a_worker_that_is_given_one_core_by_openmps_variable_takes_one(text):
    result = in_a_new_process(PRINT_NUM_THREADS, PACKSEQ_NUM_THREADS="", OMP_NUM_THREADS=text)
    assert result.stdout == "1\n"


@pytest.mark.parametrize("text", ["0", "", "many", "1000"])
def test_openmps_variable_gives_no_more_than_there_is(text):
    result = in_a_new_process(PRINT_NUM_THREADS, PACKSEQ_NUM_THREADS="", OMP_NUM_THREADS=text)
    assert result.stdout == f"{threads.usable_cores()}\n"


@pytest.mark.parametrize("value", ["0", "two", "2000"])
def test_the_environment_has_no_number(value):
    result = in_a_new_process(PRINT_NUM_THREADS, PACKSEQ_NUM_THREADS=value)
    message = f"ValueError: PACKSEQ_NUM_THREADS must be an integer from 1 to 1024, got {value!r}"
    assert message in result.stderr


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity masks")
def test_the_affinity_mask_decides():
    pin = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    result = in_a_new_process(pin + PRINT_NUM_THREADS, PACKSEQ_NUM_THREADS="")
    assert result.stdout == "1\n"


UNLIMITED = 1 << 30


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/app\n", {"app/cpu.max": "200000 100000\n"}, 2),
        ("0::/app\n", {"app/cpu.max": "150000 100000\n"}, 2),
        ("0::/app\n", {"app/cpu.max": "5000 100000\n"}, 1),
        ("0::/app\n", {"app/cpu.max": "max 100000\n"}, UNLIMITED),
        # a group is bound by those around it, and sees itself as the root in a container
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/elsewhere\n", {"cpu.max": "400000 100000\n"}, 4),
        # version 1
        (
            "5:memory:/app\n4:cpu,cpuacct:/app\n",
            {"cpu/app/cpu.cfs_quota_us": "300000\n", "cpu/app/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        (
            "4:cpu,cpuacct:/app\n",
            {"cpu/app/cpu.cfs_quota_us": "-1\n", "cpu/app/cpu.cfs_period_us": "100000\n"},
            UNLIMITED,
        ),
        # nothing to read, or nothing that can be read
        ("0::/app\n", {}, UNLIMITED),
        ("0::/app\n", {"app/cpu.max": "words\n"}, UNLIMITED),
        ("", {}, UNLIMITED),
    ],
)
def test_the_cgroup_decides(tmp_path, membership, files, cores):
    root = tmp_path / "cgroup"
    root.mkdir()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / "self").write_text(membership)
    assert threads._cgroup_cores(root, tmp_path / "self") == cores


def test_no_cgroups_at_all(tmp_path):
    assert threads._cgroup_cores(tmp_path, tmp_path / "absent") == UNLIMITED


# ---- the same bits with any number -------------------------------------------------------------


def costs_of_cut(case, threads):
    """(costs of shards, members of a team, directions abreast) of a call, as the kernels cut it."""
    module = case.module(case.options.get("dtype", np.float32))
    plan = Plan.from_lengths(np.array(case.lengths))
    network = module._weights.packed()
    return network.cut(plan.batch_size, plan.max_length, plan.batch_sizes, threads)[:3]


def cut(case, threads):
    """(shards, members of a team, directions abreast)."""
    costs, team, abreast = costs_of_cut(case, threads)
    return len(costs), team, abreast


MANY = tuple(1 + (7 * b) % 40 for b in range(90))
LARGE = {
    "lstm": ("LSTM", 16, 256, {}),
    "lstm, projected": ("LSTM", 16, 384, {"proj_size": 150}),
    "lstm, two layers": ("LSTM", 16, 200, {"num_layers": 2, "dtype": np.float64}),
    "gru": ("GRU", 16, 256, {}),
    "gru, reset before": ("GRU", 16, 256, {"reset_after": False}),
    "rnn": ("RNN_TANH", 16, 512, {}),
}


def run(case, **how):
    dtype = case.options.get("dtype", np.float32)
    batch, hx = pack_sequence(case.sequences(dtype)), as_state(case.kind, case.state(dtype))
    return case.module(dtype)(batch, hx, **how)


@on_kernels
@pytest.mark.parametrize("lengths", [(40,), (40, 33), (40, 35, 37)], ids=len)
@pytest.mark.parametrize("name", LARGE)
def test_few_sequences_share_their_hidden_units(name, lengths):
    kind, input_size, hidden_size, options = LARGE[name]
    case = Case(kind, input_size, hidden_size, lengths, options, seed=5)
    expected = run(case, num_threads=1)
    assert cut(case, 1) == (1, 1, 1)
    for n in [2, 3, 4, 7]:
        same_bits(run(case, num_threads=n), expected)
        assert cut(case, n)[1] == n


@on_kernels
@pytest.mark.parametrize("name", LARGE)
def test_few_sequences_of_two_directions_are_shared(name):
    """Abreast, each by its half of the team, or in turn, by all: the machine's caches decide."""
    kind, input_size, hidden_size, options = LARGE[name]
    case = Case(kind, input_size, hidden_size, (24,), options | {"bidirectional": True}, seed=5)
    expected = run(case, num_threads=1)
    for n, members in [(2, {2}), (3, {2, 3}), (4, {4}), (7, {6, 7})]:
        same_bits(run(case, num_threads=n), expected)
        assert cut(case, n)[1] in members


@on_kernels
@pytest.mark.parametrize(
    ("hidden_size", "threads", "team", "abreast"),
    [
        pytest.param(64, 2, 2, 2, id="any cache holds one direction's weights: abreast"),
        pytest.param(512, 3, 3, 1, id="abreast one thread would be left over: in turn"),
    ],
)
def test_directions_abreast_and_in_turn(hidden_size, threads, team, abreast):
    case = Case("LSTM", 16, hidden_size, (24,), {"bidirectional": True}, seed=5)
    same_bits(run(case, num_threads=threads), run(case, num_threads=1))
    assert cut(case, threads) == (1, team, abreast)


@on_kernels
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN_TANH"])
def test_many_sequences_are_shared_out(kind, bidirectional):
    options = {"num_layers": 2, "bidirectional": bidirectional}
    case = Case(kind, 16, 64, MANY, options, seed=6)
    expected = run(case, num_threads=1)
    for n in [2, 3, 4, 7]:
        same_bits(run(case, num_threads=n), expected)
        shards, team, _ = cut(case, n)
        assert team == 1
        assert shards >= n


@on_kernels
@pytest.mark.parametrize("threads", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("batch", [512, 1024, 1300])
def test_no_worker_is_left_with_much_more_than_the_others(batch, threads):
    """Though a shard has at most 256 of these sequences, and the first ones are the longest."""
    case = Case("LSTM", 16, 64, tuple(5 + b % 21 for b in range(batch)), seed=6)
    costs, team, _ = costs_of_cut(case, threads)
    assert team == 1
    loads = [0.0] * threads
    for cost in costs:
        loads[loads.index(min(loads))] += cost
    assert max(loads) < 1.1 * sum(loads) / threads


@on_kernels
def test_a_team_of_many_is_not_cut_into_more_shards_than_one_of_few():
    """Its members share one workspace: with more of them there is no less room in it."""
    case = Case("LSTM", 16, 512, tuple(20 + b for b in range(24)), seed=6)
    assert [cut(case, n)[0] for n in (8, 1024)] == [1, 1]


@pytest.mark.parametrize("with_hx", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_plain_calls_are_what_general_ones_are(num_threads, kind, batch_first, with_hx):
    """Without keywords a padded batch goes the short way; more is padding here than is not."""
    lengths = (40, *(1 + b % 30 for b in range(59)))
    case = Case(kind, 16, 128, lengths, {"batch_first": batch_first, "bidirectional": True}, seed=7)
    module, x = case.module(np.float32), case.padded(np.float32, value=np.nan)
    hx = as_state(kind, case.state(np.float32)) if with_hx else None
    expected = module(x, hx, lengths=lengths, num_threads=1)
    assert not np.isnan(expected[0]).any()
    for n in [1, 2, 3, 7]:
        packseq.set_num_threads(n)
        for form in (list(lengths), np.array(lengths)):
            np.full(expected[0].shape, np.nan, np.float32)  # what new memory may hold
            same_bits(module(x, hx, lengths=form), expected)


@pytest.fixture
def new_pool(monkeypatch):
    """A pool in which no thread has been started."""
    monkeypatch.setattr(threads, "_pool", Pool())
    threads.crew()[0].patience = None


def rounds():
    """How often threads have worked together."""
    return threads.crew()[0].rounds


@on_kernels
def test_large_work_is_shared_either_way(num_threads):
    """The plain way, and that of calls with keywords."""
    packseq.set_num_threads(2)
    module, x = LSTM(16, 256, rng=0), np.zeros((40, 16), np.float32)
    for how in ({}, {"num_threads": 2}):
        before = rounds()
        module(x, **how)
        assert rounds() == before + 1
        before = rounds()
        module(x, num_threads=1)
        assert rounds() == before


# What only moves rows, as arrays, of sequences and the same packed.
MOVES = {
    "pack_padded_sequence": lambda s, p: [
        packseq.pack_padded_sequence(packseq.pad_sequence(s), p.lengths).data
    ],
    "pad_packed_sequence": lambda s, p: [packseq.pad_packed_sequence(p, True, -1.0, 700)[0]],
    "pack_sequence": lambda s, p: [packseq.pack_sequence(s).data],
    "unpack_sequence": lambda s, p: packseq.unpack_sequence(p),
    "reverse": lambda s, p: [p.reverse().data],
    "windows": lambda s, p: [packseq.windows(p, 3, 2).data],
}


@pytest.mark.skipif(os.name != "posix", reason="one thread is all there is")
@pytest.mark.parametrize("width, batch", [(1, 2000), (64, 31), (257, 11)])
@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_many_bytes_are_moved_by_all_threads(num_threads, move, width, batch):
    rng = np.random.default_rng(width)
    lengths = rng.integers(0, 691, batch)
    sequences = [rng.standard_normal((n, width), np.float32) for n in lengths]
    packed = pack_sequence(sequences)
    packseq.set_num_threads(1)
    before = rounds()
    expected = move(sequences, packed)
    assert rounds() == before
    packseq.set_num_threads(3)
    shared = move(sequences, packed)
    assert rounds() > before
    for array, same in zip(shared, expected, strict=True):
        assert_same_bits(array, same)


@on_kernels
@pytest.mark.parametrize("how", [{}, {"num_threads": 2}])
def test_one_step_that_waits_for_its_weights_is_shared(num_threads, how):
    """16 MB of them take longer to read than a thread to wake, however little is computed."""
    packseq.set_num_threads(2)
    module, before = LSTM(700, 700, rng=0), rounds()
    module(np.zeros((1, 700), np.float32), **how)
    assert rounds() == before + 1


@pytest.mark.parametrize("how", [{}, {"num_threads": 2}])
def test_small_work_stays_on_the_calling_thread(num_threads, new_pool, how):
    packseq.set_num_threads(2)
    LSTM(128, 128, rng=0)(np.zeros((1, 128), np.float32), **how)
    assert rounds() == 0


@on_kernels
@pytest.mark.skipif(threads.usable_cores() < 2, reason="one core: no other can be kept awake")
@pytest.mark.parametrize("name", LARGE)
def test_a_stream_of_small_calls_is_shared(num_threads, new_pool, name):
    """When that begins is up to the machine; the bits are the same before and after."""
    kind, input_size, hidden_size, options = LARGE[name]
    case = Case(kind, input_size, hidden_size, (1,), options, seed=9)
    dtype = options.get("dtype", np.float32)
    module, x, hx = case.module(dtype), case.padded(dtype), as_state(kind, case.state(dtype))
    expected = module(x, hx, num_threads=1)
    packseq.set_num_threads(2)
    deadline = time.monotonic() + 30
    while rounds() == 0 and time.monotonic() < deadline:
        results = [module(x, hx) for _ in range(200)]
    assert rounds() > 0
    for result in results:
        same_bits(result, expected)


def test_tiny_calls_are_not_shared(num_threads, new_pool):
    packseq.set_num_threads(2)
    module, x = LSTM(16, 16, rng=0), np.zeros((1, 16), np.float32)
    for _ in range(300):
        module(x)
    assert rounds() == 0


def test_more_threads_than_there_is_work_for():
    case = Case("LSTM", 16, 256, (24, 3), seed=5)
    same_bits(run(case, num_threads=50), run(case, num_threads=1))


# ---- threads that other work holds up ----------------------------------------------------------


@pytest.mark.parametrize("lengths", [(40, 33), MANY], ids=["team", "shards"])
@pytest.mark.parametrize("name", LARGE)
def test_no_patience_with_who_is_late(new_pool, name, lengths):
    """Whoever is not there at once is done without, and calls keep away from it: the same bits."""
    kind, input_size, hidden_size, options = LARGE[name]
    case = Case(kind, input_size, hidden_size, lengths, options, seed=5)
    expected = run(case, num_threads=1)
    threads.crew()[0].patience = 0
    for _ in range(10):
        same_bits(run(case, num_threads=2), expected)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity masks")
def test_one_processor_has_one_thread():
    """However many are asked for, and though others could run when the process began."""
    code = (
        "import os, numpy as np, packseq\n"
        "from packseq.settings.threads import crew\n"
        "module, x = packseq.LSTM(256, 256, rng=0), np.ones((24, 256), np.float32)\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "for n in (2, 8): module(x, num_threads=n)\n"
        "print(crew()[0].rounds)"
    )
    assert in_a_new_process(code).stdout == "0\n"


# ---- what else runs in the process -------------------------------------------------------------


@pytest.mark.parametrize("lengths", [MANY, (24,)], ids=["shards", "team"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_many_callers_at_once(kind, lengths):
    """One of them has the pool, the others work alone: the same bits for all."""
    case = Case(kind, 16, 256, lengths, seed=8)
    module, batch = case.module(np.float32), pack_sequence(case.sequences(np.float32))
    expected = module(batch, num_threads=1)
    callers = 6
    start = threading.Barrier(callers)

    def call(_):
        start.wait()
        return [module(batch, num_threads=2) for _ in range(3)]

    with ThreadPoolExecutor(callers) as executor:
        for results in executor.map(call, range(callers)):
            for result in results:
                same_bits(result, expected)


def test_many_callers_at_once_of_small_calls():
    module = LSTM(8, 16, rng=0)
    x = np.random.default_rng(0).standard_normal((5, 8), np.float32)
    expected = module(x)
    start = threading.Barrier(6)

    def call(_):
        start.wait()
        return [module(x) for _ in range(50)]

    with ThreadPoolExecutor(6) as executor:
        for results in executor.map(call, range(6)):
            for output, state in results:
                assert_same_bits(output, expected[0])
                for part, part_e in zip(state, expected[1], strict=True):
                    assert_same_bits(part, part_e)


@pytest.fixture
def borrowed_pool():
    """The pool in another's hands."""
    pool, _ = threads.crew()
    assert pool.borrow()
    yield pool
    pool.put_back()


def test_a_pool_is_lent_to_one_at_a_time(borrowed_pool):
    assert not borrowed_pool.borrow()
    borrowed_pool.put_back()
    assert borrowed_pool.borrow()


@pytest.mark.parametrize("lengths", [MANY, (24,)], ids=["shards", "team"])
def test_a_call_that_finds_the_pool_lent_works_alone(borrowed_pool, lengths):
    case, before = Case("LSTM", 16, 256, lengths, seed=8), rounds()
    same_bits(run(case, num_threads=2), run(case, num_threads=1))
    assert rounds() == before


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
# Python 3.12 and later warn of what these tests are about.
fork_is_meant = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def in_a_fork(work):
    """What work(), bytes, gives in a child of this process, which ends after 60 s in any case."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)
            os.close(read)
            with os.fdopen(write, "wb") as pipe:
                pipe.write(work())
            status = 0
        finally:
            os._exit(status)  # no part of pytest's ending is the child's
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        result = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0
    return result


def threaded_work():
    """The output of a call that two threads share, as bytes."""
    before = rounds()
    output, _ = run(Case("LSTM", 16, 256, (24,), seed=5), num_threads=2)
    assert rounds() == before + IN_POOL
    return output.data.tobytes()


@needs_fork
@fork_is_meant
def test_fork_after_use():
    before = threaded_work()
    assert in_a_fork(threaded_work) == before
    assert threaded_work() == before


@needs_fork
@fork_is_meant
def test_fork_before_use(new_pool):
    in_child = in_a_fork(threaded_work)
    assert threaded_work() == in_child


@needs_fork
@fork_is_meant
def test_fork_during_another_call(borrowed_pool):
    """The pool that the parent has lent is no concern of the child's."""
    in_child = in_a_fork(threaded_work)
    borrowed_pool.put_back()
    assert threaded_work() == in_child


def num_threads_here():
    """As bytes."""
    return str(packseq.get_num_threads()).encode()


def num_threads_of_a_narrow_child():
    os.environ["OMP_NUM_THREADS"] = "1"
    return num_threads_here()


@needs_fork
@fork_is_meant
def test_a_fork_has_the_number_of_threads_that_was_set(num_threads):
    packseq.set_num_threads(3)
    assert in_a_fork(num_threads_here) == b"3"
    assert in_a_fork(lambda: in_a_fork(num_threads_here)) == b"3"
    assert in_a_fork(num_threads_of_a_narrow_child) == b"3"


@needs_fork
@fork_is_meant
@pytest.mark.skipif(threads.usable_cores() < 2, reason="one core: there is nothing to narrow")
def test_a_fork_looks_itself_where_nothing_was_set(monkeypatch):
    """Its environment, affinity and cgroup may be others than its parent's."""
    monkeypatch.delenv("PACKSEQ_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_told", None)
    monkeypatch.setattr(threads, "_num_threads", None)
    assert packseq.get_num_threads() > 1
    assert in_a_fork(num_threads_of_a_narrow_child) == b"1"


@pytest.mark.skipif(
    getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="this interpreter has a GIL; a free-threaded one is asked whether packseq leaves it off",
)
def test_the_gil_stays_off():
    code = "import sys, packseq; packseq.LSTM(2, 3); print(sys._is_gil_enabled())"
    assert in_a_new_process(code, PYTHON_GIL="").stdout == "False\n"


@pytest.mark.skipif(not hasattr(signal, "sigwait"), reason="the system has no sigwait")
def test_signals_are_left_to_the_program():
    """One that every thread of the program blocks must find no other thread to end it by."""
    code = (
        "import os, signal, numpy as np, packseq\n"
        "from packseq.settings.threads import crew\n"
        "module = packseq.LSTM(256, 256, rng=0)\n"
        "module(np.ones((24, 256), np.float32), num_threads=2)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "print(crew()[0].rounds, signal.sigwait([signal.SIGUSR1]) == signal.SIGUSR1)"
    )
    # NumPy's own threads would take it.
    assert in_a_new_process(code, OPENBLAS_NUM_THREADS="1").stdout == f"{int(IN_POOL)} True\n"


class _InterruptionError(Exception):
    pass


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer to interrupt with")
def test_an_interrupted_call_leaves_later_ones_right():
    """A handler that raises while threads work: they are waited for, and leave nothing behind."""

    def interrupt(*_):
        raise _InterruptionError

    module = LSTM(64, 256, rng=0)
    x = np.random.default_rng(0).standard_normal((40, 16, 64)).astype(np.float32)
    expected, _ = module(x, num_threads=1)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in np.linspace(1e-4, 2e-2, 60):
            with contextlib.suppress(_InterruptionError):
                signal.setitimer(signal.ITIMER_REAL, delay)
                module(-x, num_threads=2)
                signal.setitimer(signal.ITIMER_REAL, 0)
            np.testing.assert_array_equal(module(x, num_threads=2)[0], expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


FE_UPWARD = 0x800  # of <fenv.h>, on x86


@pytest.mark.skipif(platform.machine() != "x86_64", reason="rounding modes are named by x86's bits")
def test_the_callers_rounding_mode_does_not_matter():
    """Other threads do not have it."""
    module, libm = LSTM(64, 256, rng=0), ctypes.CDLL(None)
    x = np.random.default_rng(0).standard_normal((40, 16, 64)).astype(np.float32)
    expected, _ = module(x, num_threads=1)
    before = libm.fegetround()
    libm.fesetround(FE_UPWARD)
    try:
        results = [module(x, num_threads=n)[0] for n in (1, 2)]
        assert libm.fegetround() == FE_UPWARD
    finally:
        libm.fesetround(before)
    for result in results:
        assert_same_bits(result, expected)
