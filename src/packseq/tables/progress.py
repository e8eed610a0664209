"""A bar with rows, steps, rate and the time left, on a terminal and nowhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

from packseq.optional import load

# Takes how many more rows and steps are done.
Report: TypeAlias = Callable[[int, int], None]


@contextmanager
def progress(rows: int | None, shown: bool) -> Iterator[Report]:
    """A bar up to `rows`, or without an end where that is not known; it needs tqdm."""
    with _bar(rows) if shown and sys.stderr.isatty() else nullcontext() as bar:
        steps = 0

        def report(more_rows: int, more_steps: int) -> None:
            nonlocal steps
            steps += more_steps
            if bar is not None:
                bar.set_postfix_str(f"{steps:,} steps", refresh=False)
                bar.update(more_rows)

        yield report


def _bar(rows: int | None) -> Any:
    try:
        tqdm = load("tqdm", "run").tqdm
    except ImportError:
        return nullcontext()
    # A terminal that does not know its size says 0, where tqdm would show nothing.
    size = os.get_terminal_size(sys.stderr.fileno())
    return tqdm(
        total=rows,
        unit=" rows",
        unit_scale=True,
        file=sys.stderr,
        ncols=size.columns or 80,
        nrows=size.lines or 24,
    )
