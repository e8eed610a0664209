"""How all is timed: what is compared is called in turn, and a run's time is shared out.

Speed drifts within seconds on a shared machine, so nothing is compared across time: a ratio is the
median, over rounds, of the ratio of two times of the same round. Imports nothing that a bare
machine may lack.
"""

import math
import sys
import time
import traceback
from statistics import median

LEAST_ROUNDS, MOST_ROUNDS = 7, 60
FEWEST_ROUNDS = 3  # where many cases share little time
LEAST_SECONDS = 0.004  # a turn; faster calls are repeated

# What is this many times slower than the fastest is out of the race after a few rounds: the time
# goes to those that are near, whose ratio takes many rounds where other tenants come and go.
OUT_OF_RACE, ITS_ROUNDS = 4, 5

# Libraries' threads go on spinning after a call and would take the next one's cores: libgomp's for
# up to 11 ms here, and NumPy's OpenBLAS for 2**28 ticks, 110 ms, which OPENBLAS_THREAD_TIMEOUT cuts
# to 2**22. (With 60 ms of rest packseq, which comes after the matrix product, lost one of its two
# cores.)
SETTLE_SECONDS = 0.02
OPENBLAS_THREAD_TIMEOUT = "22"


def in_turn(calls, seconds, settle=0.0):
    """Seconds per call of each, by round: {name: [round 0, round 1, ...]}."""
    guess, repeats = _first_look(calls)
    best = min(guess[name] for name in calls if name != "gemm")  # which runs no race
    slow = {name for name in calls if guess[name] > OUT_OF_RACE * best} - {"gemm"}
    return _rounds(calls, repeats, time.perf_counter() + seconds, LEAST_ROUNDS, settle, slow)


def in_turn_until(end, calls, settle=0.0):
    """The same, done at about `end`, the first look included; no race, so all have every round."""
    _, repeats = _first_look(calls)
    return _rounds(calls, repeats, end, FEWEST_ROUNDS, settle)


def _first_look(calls):
    """About how long each takes, and how many calls make a turn of it."""
    guess, repeats = {}, dict.fromkeys(calls, 1)
    for _ in range(2):  # the first call of all is slow: of a call of 10 us, a turn had but 66
        for name, call in calls.items():
            guess[name] = seconds_of(call, repeats[name])
            repeats[name] = max(1, math.ceil(LEAST_SECONDS / guess[name]))
    return guess, repeats


def _rounds(calls, repeats, end, least, settle, slow=frozenset()):
    times = {name: [] for name in calls}
    for done in range(MOST_ROUNDS):
        if done >= least and time.perf_counter() > end:
            break
        for name, call in list(calls.items())[:: -1 if done % 2 else 1]:
            if done < ITS_ROUNDS or name not in slow:
                time.sleep(settle)
                times[name].append(seconds_of(call, repeats[name]))
    return times


def seconds_of(call, repeats):
    call()  # what the others left in the caches, and cores that slept, are no part of a call
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def times_as_fast(seconds, name, other):
    """How many times as fast `name` is as `other`, over the rounds that have both."""
    return median(b / a for a, b in zip(seconds[name], seconds[other], strict=False))


# ---- runs that have so many seconds and are read as they go ----


def measure_each(measure, items, seconds):
    """Call measure(item, end) for each; what is left of the time is shared evenly by what is left.

    What fails is told, and so is what no time was left for. Returns how many failed.
    """
    end, failed = time.perf_counter() + seconds, 0
    for done, item in enumerate(items):
        left = end - time.perf_counter()
        if left <= 0:
            print(f"\nNo time was left for {len(items) - done} of {len(items)}.", flush=True)
            break
        try:
            measure(item, time.perf_counter() + left / (len(items) - done))
        except Exception:  # of any kind: the machine may be there for minutes only
            failed += 1
            print(f"\n{item} failed:", flush=True)
            traceback.print_exc(file=sys.stdout)
    return failed


def print_head(title, *columns):
    """Begin a Markdown table under its title; all of its columns but the first are numbers."""
    print(f"\n## {title}\n", flush=True)
    print_row(*columns)
    print("|---" + "|--:" * (len(columns) - 1) + "|", flush=True)


def print_row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def table(rows):
    """A whole one; the first row is its head, and all columns but the first are numbers."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    rule = "|---" + "|--:" * (len(rows[0]) - 1) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def ms(times):
    """The median of seconds, in milliseconds."""
    return f"{1e3 * median(times):.3g}"
