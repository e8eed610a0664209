"""Many live sessions, of which some have a frame at each tick: Streams beside what one would write.

    python benchmarks/bench_streams.py [--seconds 80] [--threads 1 2] [--quick]

The other ways are: one bare batch of as many rows, which is given its states and returns them (they
are no session's then, so this is a bound, not a way); the same with the states gathered and put
back by NumPy's indexing; so for ONNX Runtime; and one session at a time. What they give is compared
first. All are called in turn, and ratios are taken within a turn. Sessions are pushed in the order
in which they were opened, or in another.
"""

import argparse
import sys
from functools import partial

import numpy as np
import peers
from cases import Case, Problem, equal
from timing import SETTLE_SECONDS, in_turn_until, measure_each, ms, print_head, print_row
from timing import times_as_fast as faster

import packseq
from packseq.settings import isa

INPUT = 64
FEW = 2000  # sessions, for one at a time
COLUMNS = ["push, ms", "us a session", "bare batch", "by indexing", "ONNX Runtime", "one at a time"]


class Sessions:
    """So many of them, of which `active` have a frame."""

    def __init__(self, hidden, count, active, shuffled):
        case = Case("tick", "LSTM", INPUT, hidden, equal(active, 1), stream=True)
        self.problem = Problem(case)
        self.module, self.frames = self.problem.module, self.problem.x[0]
        self.streams = packseq.Streams(self.module)
        ids = np.array([self.streams.open() for _ in range(count)])
        rng = np.random.default_rng(0)
        self.ids = rng.permutation(ids)[:active]
        if not shuffled:
            self.ids = np.sort(self.ids)
        self.h, self.c = np.zeros((2, 1, count, hidden), np.float32)
        self.bare = self.h[:, self.ids], self.c[:, self.ids]

    def push(self):
        return self.streams.push(self.ids, self.frames)

    def bare_batch(self):
        return self.module(self.problem.x, self.bare)[0][0]

    def by_indexing(self):
        states = self.h[:, self.ids], self.c[:, self.ids]
        output, (self.h[:, self.ids], self.c[:, self.ids]) = self.module(self.problem.x, states)
        return output[0]

    def onnx_runtime(self, session):
        feeds = {"x": self.problem.x, "h": self.h[:, self.ids], "c": self.c[:, self.ids]}
        output, self.h[:, self.ids], self.c[:, self.ids] = session.run(None, feeds)
        return output[0]

    def one_at_a_time(self):
        rows = []
        for id, frame in zip(self.ids, self.frames, strict=True):
            output, (self.h[:, id], self.c[:, id]) = self.module(
                frame[None], (self.h[:, id], self.c[:, id])
            )
            rows.append(output)
        return np.concatenate(rows)

    def calls(self, threads):
        calls = {"push": self.push, "bare batch": self.bare_batch, "by indexing": self.by_indexing}
        if "ONNX Runtime" in peers.PEERS:
            session = peers.onnx_session(self.problem, threads)
            calls["ONNX Runtime"] = partial(self.onnx_runtime, session)
        if len(self.ids) <= FEW:
            calls["one at a time"] = self.one_at_a_time
        return calls

    def check(self, calls):
        """Two steps of each way from states of zeros."""
        expected = None
        for name, call in calls.items():
            if name == "bare batch":  # which is always given the same states
                continue
            self.h[...] = self.c[...] = 0
            call()
            output = call()
            expected = output if expected is None else expected
            np.testing.assert_allclose(output, expected, rtol=0, atol=4e-6, err_msg=name)


def measure(case, end):
    threads, hidden, count, active, order = case
    sessions = Sessions(hidden, count, active, order == "shuffled")
    packseq.set_num_threads(threads)
    calls = sessions.calls(threads)
    sessions.check(calls)
    times = in_turn_until(end, calls, SETTLE_SECONDS if threads > 1 else 0.0)
    others = [f"{faster(times, 'push', name):.2f}" if name in times else "" for name in COLUMNS[2:]]
    each = f"{1e6 * np.median(times['push']) / active:.3g}"
    print_row(threads, hidden, count, active, order, ms(times["push"]), each, *others)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", default=80, type=float)
    parser.add_argument("--threads", default=[1, 2], type=int, nargs="+")
    parser.add_argument("--quick", action="store_true", help="little of it, to see that it works")
    options = parser.parse_args()
    cases = [
        (threads, hidden, count, active, order)
        for threads in options.threads
        for hidden in (128, 256)
        for count in (50, 1000, 20_000)
        for active in (count, count // 10)
        for order in ("as opened", "shuffled")
    ]
    print(f"{isa.kernels().name} kernels; peers: {', '.join(peers.PEERS)}; times as fast as:")
    print_head("Ticks", "threads", "H", "sessions", "active", "order", *COLUMNS)
    sys.exit(measure_each(measure, cases[: 1 if options.quick else None], options.seconds) > 0)


if __name__ == "__main__":
    main()
