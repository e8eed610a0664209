"""What tests/test_faults.py runs, each in a process of its own, which ends with 0 if all was right.

python tests/faults/programs.py PROGRAM FOLDER [ARGUMENT...]
"""

import contextlib
import ctypes
import os
import pickle
import resource
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
from checkpoints import gru_arrays, npy_bytes, safetensors_file_of, torch_file_of, zip_bytes

import packseq
from packseq import weights
from packseq.settings.threads import crew

PACKAGE = os.path.dirname(packseq.__file__)
# Above what NumPy and Python keep in stock, so that every array is an allocation.
LENGTHS = [40, 3, 0, 17, 29, 40, 1]
WIDTH = 16
M_MMAP_THRESHOLD = -3  # of <malloc.h>
# Where a run of so many lines is cut short.
PLACES = 150
# A call that is worth two threads.
LONG = 24, 256


def check(right, *what):
    if not right:
        raise AssertionError(*what)


def bits(value):
    """All numbers in a result, as bytes."""
    if isinstance(value, packseq.PackedSequence):
        value = [value.data, value.batch_sizes, value.unsorted_indices]
    elif hasattr(value, "state_dict"):
        value = list(value.state_dict().values())
    if isinstance(value, tuple | list):
        return b"|".join(map(bits, value))
    return value if isinstance(value, bytes) else np.asarray(value).tobytes()


# ---- what may fail -----------------------------------------------------------------------------


def sequences():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((length, WIDTH)).astype(np.float32) for length in LENGTHS]


def computations():
    """By name: a function without arguments, whose result is always the same."""
    listed = sequences()
    padded, packed = packseq.pad_sequence(listed), packseq.pack_sequence(listed)
    lstm = packseq.LSTM(WIDTH, 32, num_layers=2, bidirectional=True, proj_size=9, rng=0)
    cell, state = packseq.GRUCell(WIDTH, 32, rng=0), np.zeros((len(LENGTHS), 32), np.float32)
    long = packseq.LSTM(LONG[1], LONG[1], rng=0)
    x = np.ones(LONG, np.float32)
    stored = pickle.dumps(packed)
    return {
        "pack_sequence": lambda: packseq.pack_sequence(listed),
        "pack_padded": lambda: packseq.pack_padded_sequence(padded, LENGTHS),
        "pad_packed": lambda: packseq.pad_packed_sequence(packed),
        "pad_sequence": lambda: packseq.pad_sequence(listed),
        "unpack": lambda: packseq.unpack_sequence(packed),
        "unpad": lambda: packseq.unpad_sequence(padded, LENGTHS),
        "operations": lambda: [packed.sum(), (packed + 1).softmax(), packed.reverse()],
        "concatenate": lambda: packseq.concatenate([packed, packed]),
        "unpickle": lambda: pickle.loads(stored),
        "new module": lambda: packseq.GRU(WIDTH, 32, num_layers=2, rng=0)(padded),
        "plain call": lambda: lstm(padded, lengths=LENGTHS),
        "packed call": lambda: lstm(packed, num_threads=1),
        "shared call": lambda: long(x, num_threads=2),
        "cell": lambda: cell(padded[0], state),
    }


def readings(folder):
    """By format: a function that loads a small GRU."""
    paths = {}
    for name, content in files().items():
        paths[name] = folder / name
        paths[name].write_bytes(content)
    return {name: partial(packseq.load, path) for name, path in paths.items()}


def files():
    """A GRU in each format that needs no other library to be written."""
    arrays = gru_arrays(input_size=WIDTH, hidden_size=32)
    return {
        "safetensors": safetensors_file_of(arrays, {"batch_first": False}),
        "npz": zip_bytes([(f"{name}.npy", npy_bytes(array)) for name, array in arrays.items()]),
        "torch": torch_file_of(arrays),
        "pickle": pickle.dumps(arrays, protocol=4),
    }


def writings(folder):
    """By name: a function that writes a file, and gives its bytes."""
    module, source, target = packseq.GRU(WIDTH, 32, rng=1), folder / "npz", folder / "written"
    source.write_bytes(files()["npz"])

    def written(write):
        write()
        return target.read_bytes()

    return {
        "save": lambda: written(lambda: packseq.save(module, target)),
        "convert": lambda: written(lambda: weights.convert(source, target)),
    }


def everything(folder):
    return computations() | readings(folder) | writings(folder)


def right_or(errors, run, expected, *what):
    """It gives what is expected, or one of these errors."""
    try:
        result = bits(run())
    except errors:
        return
    check(result == expected, *what)


# ---- memory and threads ------------------------------------------------------------------------


def tells_of_memory(error):
    """A MemoryError, or what Python and NumPy themselves make of one in some places."""
    text = str(error)
    if isinstance(error, SystemError):  # functions of NumPy's that set no exception
        return text.startswith(("error return without", "<built-in function", "<ufunc"))
    if isinstance(error, weights.CheckpointError):  # Python's parser, when it reads a header
        return "SystemError: " in text or "can't allocate" in text
    return isinstance(error, MemoryError) or "can't allocate" in text  # a lock of Python's


def allocations(folder, and_later):
    """The first allocation of a run fails, then the second, ... until a run makes fewer."""
    shim = ctypes.CDLL(None)
    shim.packseq_fail_allocation.argtypes = [ctypes.c_int64, ctypes.c_int32]
    for name, run in everything(folder).items():
        fail_each_allocation(shim, name, run, int(and_later))


def fail_each_allocation(shim, name, run, and_later):
    expected = bits(run())
    for nth in range(1, 5000):
        shim.packseq_fail_allocation(nth, and_later)
        result, error = None, None
        try:
            result = run()
        except (MemoryError, RuntimeError, SystemError, weights.CheckpointError) as caught:
            error = caught
        finally:
            failed = shim.packseq_end_failing()
        check(error is None or tells_of_memory(error), name, nth, error)
        check(error is not None or bits(result) == expected, name, nth)
        check(bits(run()) == expected, name, nth, "afterwards")
        if not failed:
            return
    raise AssertionError("there is no end of allocations")


@contextlib.contextmanager
def limit(kind, most):
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def address_space():
    """The bytes of it that this process has taken."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def memory(folder):
    """Calls of tens of MB where there is more and more of it, and at first too little."""
    # What was freed must not be at hand: whatever is large is asked of the system each time.
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
    rng = np.random.default_rng(0)
    padded = rng.standard_normal((200, 256, 64)).astype(np.float32)
    lengths = np.arange(256) % 200 + 1
    packed = packseq.pack_padded_sequence(padded, lengths)
    lstm = packseq.LSTM(64, 64, num_layers=2, rng=0)
    np.savez(folder / "large", **gru_arrays(input_size=500, hidden_size=700))
    runs = {
        "pack": lambda: packseq.pack_padded_sequence(padded, lengths),
        "pad": lambda: packseq.pad_packed_sequence(packed),
        "softmax": lambda: packed.softmax(),
        "call": lambda: lstm(padded, lengths=lengths, num_threads=2),
        "packed call": lambda: lstm(packed, num_threads=2),
        "load": lambda: packseq.load(folder / "large.npz"),
    }
    refused = 0
    for name, run in runs.items():
        expected = bits(run())
        for mebibytes in [0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64]:
            try:
                with limit(resource.RLIMIT_AS, address_space() + (mebibytes << 20)):
                    result = run()
            except MemoryError:
                refused += 1
            else:
                check(bits(result) == expected, name, mebibytes)
        check(bits(run()) == expected, name, "afterwards")
    check(refused > 10, refused)


def no_threads(folder, most):
    """Fewer threads can be started than are asked for: the same bits without them."""
    shim = ctypes.CDLL(None)
    shim.packseq_start_threads.argtypes = [ctypes.c_int64]
    module, x = packseq.LSTM(LONG[1], LONG[1], rng=0), np.ones(LONG, np.float32)
    expected = bits(module(x, num_threads=1))
    shim.packseq_start_threads(int(most))
    for _ in range(3):
        check(bits(module(x, num_threads=4)) == expected)
    shim.packseq_start_threads(100)
    check(bits(module(x, num_threads=4)) == expected, "afterwards")
    check(crew()[0].rounds > 0)


def no_stacks(folder):
    """No address space for a thread's stack."""
    module, x = packseq.LSTM(LONG[1], LONG[1], rng=0), np.ones(LONG, np.float32)
    expected = bits(module(x, num_threads=1))
    with limit(resource.RLIMIT_AS, address_space() + (4 << 20)):
        right_or((), lambda: module(x, num_threads=4), expected)
    check(bits(module(x, num_threads=4)) == expected, "afterwards")


# ---- exceptions at any line --------------------------------------------------------------------


class Interruption(BaseException):
    """What a signal's handler raises."""


class AtLine:
    """Acts once, before the n-th line of packseq that runs within, as a signal's handler would."""

    def __init__(self, nth, act):
        self.lines, self._nth, self._act = 0, nth, act

    def __enter__(self):
        sys.settrace(self._on_call)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _on_call(self, frame, event, argument):
        return self._on_line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def _on_line(self, frame, event, argument):
        if event == "line":
            self.lines += 1
            if self.lines == self._nth:
                self._act()
        return self._on_line


def lines_of(run):
    """How many lines of packseq a run goes through."""
    with AtLine(0, None) as counted:
        run()
    return counted.lines


def places(lines, most):
    """Lines by number, from the first to the last, at most so many."""
    return sorted(set(np.linspace(1, lines, min(most, lines)).astype(int).tolist()))


def interrupt():
    raise Interruption


def interruptions(folder):
    """An exception before any line of a run: it comes out, and leaves nothing behind."""
    for name, run in everything(folder).items():
        interrupt_each_line(folder, name, run)
    before = crew()[0].rounds
    module = packseq.LSTM(LONG[1], LONG[1], rng=0)
    module(np.ones(LONG, np.float32), num_threads=2)
    check(crew()[0].rounds > before, "the pool was not put back")


def interrupt_each_line(folder, name, run):
    expected = bits(run())
    there = sorted(os.listdir(folder))
    for nth in places(lines_of(run), PLACES):
        with contextlib.suppress(Interruption), AtLine(nth, interrupt):
            run()
            raise AssertionError(name, nth, "was not interrupted")
        check(sorted(os.listdir(folder)) == there, name, nth, os.listdir(folder))
        if name in ("save", "convert"):
            check((folder / "written").read_bytes() == expected, name, nth, "half a file")
        check(bits(run()) == expected, name, nth, "afterwards")


def alarms(folder):
    """The same by the clock, within native code too."""
    runs = everything(folder)
    expected = {name: bits(run()) for name, run in runs.items()}
    signal.signal(signal.SIGALRM, lambda *_: interrupt())
    for name, run in runs.items():
        for delay in np.geomspace(1e-5, 3e-3, 25):
            with contextlib.suppress(Interruption):
                signal.setitimer(signal.ITIMER_REAL, delay)
                right_or((), run, expected[name], name)
                signal.setitimer(signal.ITIMER_REAL, 0)
            check(bits(run()) == expected[name], name, "afterwards")


# ---- forks, and the end of the process ---------------------------------------------------------


def forks(folder):
    """A child of a process whose threads are all in the middle of a call."""
    module, x = packseq.LSTM(LONG[1], LONG[1], rng=0), np.ones(LONG, np.float32)
    expected = bits(module(x, num_threads=2))
    done = threading.Event()

    def call():
        while not done.is_set():
            check(bits(module(x, num_threads=2)) == expected)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                os._exit(bits(module(x, num_threads=2)) != expected)
            check(os.waitpid(child, 0)[1] == 0, "a child was wrong, or hung")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    check(bits(module(x, num_threads=2)) == expected)


def leaving(folder, how):
    """The process ends while threads are in calls."""
    module, x = packseq.LSTM(LONG[1], LONG[1], rng=0), np.ones((400, LONG[1]), np.float32)
    called = threading.Barrier(4)

    def call():
        module(x, num_threads=2)
        called.wait()
        while True:
            module(x, num_threads=2)

    for _ in range(3):
        threading.Thread(target=call, daemon=True).start()
    called.wait()
    if how == "_exit":
        os._exit(0)
    if how == "exit":
        sys.exit(0)


# ---- files -------------------------------------------------------------------------------------


def descriptors(folder):
    """Loading and saving where all descriptors are taken, or all but a few."""
    lowest = os.dup(0)
    os.close(lowest)
    for name, run in (readings(folder) | writings(folder)).items():
        expected, refused = bits(run()), 0
        for free in range(5):
            try:
                with limit(resource.RLIMIT_NOFILE, lowest + free):
                    result = run()
            except OSError as error:
                check(not isinstance(error, weights.CheckpointError))
                refused += 1
            else:
                check(bits(result) == expected, name, free)
            check(os.dup(0) == lowest, name, free, "a descriptor was not closed")
            os.close(lowest)
        check(refused > 0, name)


def full_disk(folder):
    """No file may grow beyond so many bytes: what was there stays, and nothing beside it."""
    for name, run in writings(folder).items():
        expected = run()
        there = sorted(os.listdir(folder))
        for most in [0, 1, 100, len(expected) // 2, len(expected) - 1]:
            try:
                with limit(resource.RLIMIT_FSIZE, most):
                    run()
                raise AssertionError(name, most, "was written")
            except OSError as error:
                check(error.filename == str(folder / "written"), error)
            check((folder / "written").read_bytes() == expected, name, most)
            check(sorted(os.listdir(folder)) == there, os.listdir(folder))


def device_full(folder):
    """A device on which there is no space."""
    try:
        packseq.save(packseq.GRU(WIDTH, 32, rng=1), "/dev/full")
    except OSError as error:
        check(error.filename == "/dev/full", error)
    else:
        raise AssertionError("it was written")


def changes(path, content):
    """What another process may do to a file.

    To cut or overwrite a mapped one is out of reach: see docs/reliability.md.
    """
    other = path.with_name("other")

    def replace(by):
        other.write_bytes(by)
        other.rename(path)

    return {
        "grown": lambda: os.truncate(path, len(content) + 1000),
        "replaced": lambda: replace(b"\x80" + content),
        "removed": path.unlink,
    }


def changing(folder):
    """A file that changes before any line of its reader."""
    for name, run in readings(folder).items():
        change_at_lines(folder / name, name, run)


def change_at_lines(path, name, run):
    content, expected = path.read_bytes(), bits(run())
    lines = lines_of(run)
    for what, change in changes(path, content).items():
        for nth in places(lines, PLACES // 5):
            with AtLine(nth, change):
                right_or((weights.CheckpointError, OSError), run, expected, name, what, nth)
            path.write_bytes(content)


PROGRAMS = [allocations, memory, no_threads, no_stacks, interruptions, alarms, forks, leaving,
            descriptors, full_disk, device_full, changing]  # fmt: skip

if __name__ == "__main__":
    wanted, given, *arguments = sys.argv[1:]
    {one.__name__: one for one in PROGRAMS}[wanted](Path(given), *arguments)
