"""Run everything at once for long: bits stay the same, memory and descriptors flat.

    python tools/soak.py [--minutes M] [--threads N]

Threads take jobs from a table, in an order of their own; each job gives bytes, which must be the
same at every run. A line a period says how much was done, and what the process holds. It ends with
a verdict, and with 1 if a job failed, or if memory or descriptors went on growing.
"""

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import numpy as np

import packseq

# What may come and go: allocators keep some memory for each thread.
SLACK_BYTES = 24 << 20
PERIODS = 12
CHILD_SECONDS = 120

LENGTHS = [40, 3, 0, 17, 29, 40, 1]
WIDTH = 32


def batch():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((length, WIDTH)).astype(np.float32) for length in LENGTHS]


def bits(*values):
    """The numbers of arrays, packed batches and states, as bytes."""
    joined = b""
    for value in values:
        if isinstance(value, packseq.PackedSequence):
            value = value.data
        joined += bits(*value) if isinstance(value, tuple | list) else np.asarray(value).tobytes()
    return joined


SEQUENCES = batch()
PACKED = packseq.pack_sequence(SEQUENCES)
KEPT = packseq.LSTM(WIDTH, 128, bidirectional=True, rng=0)


# ---- the jobs: functions of a folder of the thread's own, which give bytes ----------------------


def layout(folder):
    """Packed, padded, and packed again."""
    padded, lengths = packseq.pad_packed_sequence(packseq.pack_sequence(SEQUENCES))
    return bits(padded, packseq.pack_padded_sequence(padded, lengths))


def operations(folder):
    return bits(PACKED.sum(), (PACKED + 1).softmax(), PACKED.reverse(), PACKED[3])


def kept_module(folder):
    """One module that all threads share."""
    return bits(KEPT(PACKED))


def shared_call(folder):
    """A call that is worth the pool's threads."""
    return bits(KEPT(np.ones((60, 3, WIDTH), np.float32), num_threads=2))


def new_module(folder):
    """A module that is made, used and dropped."""
    return bits(packseq.GRU(WIDTH, 64, num_layers=2, rng=1)(PACKED))


def cell(folder):
    """Step by step."""
    module, state = packseq.LSTMCell(WIDTH, 48, rng=2), None
    for x in np.ones((20, 4, WIDTH), np.float32):
        state = module(x, state)
    return bits(state)


def checkpoint(folder):
    """Saved, loaded, run and dropped."""
    path = folder / "module.safetensors"
    packseq.save(packseq.GRU(WIDTH, 48, rng=3), path)
    return bits(packseq.load(path)(PACKED))


def state_dict(folder):
    module = packseq.RNN(WIDTH, 40, rng=4)
    module.load_state_dict(packseq.RNN(WIDTH, 40, rng=5).state_dict())
    return bits(module(PACKED))


def refused(folder):
    """Errors hold nothing back."""
    try:
        KEPT(np.ones((5, 2, WIDTH + 1), np.float32), lengths=[5, 6])
    except ValueError as error:
        return str(error).encode()
    raise AssertionError("it was taken")


def threads_changed(folder):
    packseq.set_num_threads(random.randint(1, 4))
    return b""


def fork(folder):
    """A child of a process whose other threads are in calls runs a shared one."""
    expected = bits(KEPT(PACKED))
    child = os.fork()
    if child == 0:
        signal.alarm(CHILD_SECONDS)
        os._exit(bits(KEPT(PACKED, num_threads=2)) != expected)
    status = os.waitpid(child, 0)[1]
    if status:
        raise AssertionError(f"a child ended with {status}")
    return b""


# How often each is done, beside the others.
JOBS = {
    layout: 4,
    operations: 4,
    kept_module: 4,
    shared_call: 2,
    new_module: 2,
    cell: 2,
    checkpoint: 2,
    state_dict: 2,
    refused: 1,
    threads_changed: 1,
    fork: 1,
}


# ---- running them ------------------------------------------------------------------------------


class Soak:
    """Threads that take jobs until they are told to stop, and what they found."""

    def __init__(self, folder):
        self.done, self.faults = Counter(), []
        self._expected = {job: job(folder) for job in JOBS}
        self._stop = threading.Event()
        self._folder = folder

    def work(self, number):
        chosen, folder = random.Random(number), self._folder / str(number)
        folder.mkdir()
        while not self._stop.is_set():
            (job,) = chosen.choices(list(JOBS), list(JOBS.values()))
            try:
                if job(folder) != self._expected[job]:
                    raise AssertionError("other bits")
            except Exception as error:
                self.faults.append(f"{job.__name__}: {type(error).__name__}: {error}")
                return
            self.done[job.__name__] += 1

    def run(self, threads, seconds):
        """Run for so long; what the process held at the end of each period."""
        workers = [threading.Thread(target=self.work, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        held = []
        try:
            for period in range(PERIODS):
                self._stop.wait(seconds / PERIODS)
                held.append(holdings())
                self.tell(period, *held[-1])
                if self.faults:
                    break
        finally:
            self._stop.set()
            for worker in workers:
                worker.join()
        return held

    def tell(self, period, memory, descriptors):
        print(
            f"{period + 1:>3}/{PERIODS}  {sum(self.done.values()):>9} jobs  "
            f"{memory / 2**20:7.1f} MiB  {descriptors} descriptors  {len(self.faults)} faults",
            flush=True,
        )


def holdings():
    """Bytes in memory, and open descriptors."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize(), len(os.listdir("/proc/self/fd"))


def growth(held):
    """What memory and descriptors grew by, from the most in the second third to that in the last.

    Neither a thread that is just writing a file nor memory that is just in use is a leak: the most
    of several periods is compared.
    """
    third = PERIODS // 3
    middle, last = (np.max(part, axis=0) for part in (held[third : 2 * third], held[2 * third :]))
    return last - middle


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=6)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder))
        held = soak.run(given.threads, 60 * given.minutes)
    faults = soak.faults
    if not faults:
        memory, descriptors = growth(held)
        if memory > SLACK_BYTES:
            faults.append(f"memory went on growing, by {memory / 2**20:.1f} MiB")
        if descriptors > given.threads:  # each thread may have a file open at that moment
            faults.append(f"descriptors went on growing, by {descriptors}")
    print(*(f"{name} {count}" for name, count in sorted(soak.done.items())), sep=", ")
    print("\n".join(faults) or "nothing was found")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
