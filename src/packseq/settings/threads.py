"""How many threads a call may use, and the pool that has them.

The threads are native (``_core/kernels/pool.c``); after a fork the child simply starts new ones. To
wake them takes tens of microseconds: work that takes less is shared only with those awake.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import SupportsIndex

from packseq._core.pool import MOST_THREADS, Pool
from packseq.checks import as_size

_pool = Pool()


def crew(num_threads: int | None = None) -> tuple[Pool, int]:
    """Return this process's pool, and how many threads a call may use, itself included.

    The pool serves one call at a time; others work alone meanwhile. A number is as it was checked.
    """
    return _pool, num_threads or _num_threads or get_num_threads()


def _begin_in_child() -> None:
    """The parent's threads are not there, and there may be other cores and another environment."""
    global _pool, _num_threads
    _pool = Pool()
    _num_threads = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


def as_thread_count(n: SupportsIndex) -> int:
    """Check a number of threads.

    Raises
    ------
    TypeError
        Not an integer.
    ValueError
        Less than 1, or more than 1024.
    """
    count = as_size(n, "num_threads")
    if count > MOST_THREADS:
        raise ValueError(f"num_threads must be at most {MOST_THREADS}, got {count}")
    return count


def set_num_threads(n: SupportsIndex) -> None:
    """Set how many threads a call may use, the calling one included.

    Parameters
    ----------
    n : int
        From 1 to 1024.

    Raises
    ------
    TypeError
        Not an integer.
    ValueError
        Out of range.

    See Also
    --------
    get_num_threads : The default, and what it is.

    Notes
    -----
    Results do not depend on it, to the last bit. Threads start when first needed, and look out for
    the next call for 0.1 ms before they sleep. Small calls that come faster than that, as the steps
    of one stream may, keep them awake and are shared too. With 1 no core waits.
    Source: torch.set_num_threads.

    Examples
    --------
    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    global _num_threads, _told
    _num_threads = _told = as_thread_count(n)


def get_num_threads() -> int:
    """Return how many threads a call may use.

    Returns
    -------
    int
        What set_num_threads was given, here or in a process that this one was forked from; else
        ``PACKSEQ_NUM_THREADS`` from the environment; else the cores that this process may use, by
        its affinity and its cgroup's limit, but no more than ``OMP_NUM_THREADS``, which Ray, joblib
        and others give each of their workers. In a worker of torch's DataLoader 1, as torch's own,
        unless set_num_threads is called there, or ``PACKSEQ_NUM_THREADS`` is given.

    Raises
    ------
    ValueError
        ``PACKSEQ_NUM_THREADS`` is not an integer from 1 to 1024.

    Examples
    --------
    >>> 1 <= packseq.get_num_threads() <= 1024
    True
    """
    global _num_threads
    if _num_threads is None:
        _num_threads = _default_num_threads()
    return _num_threads


# What calls may use, once it is known; and what set_num_threads said, which a fork inherits.
_num_threads: int | None = None
_told: int | None = None


def _default_num_threads() -> int:
    """For a process in which set_num_threads was not called."""
    if _is_data_loader_worker():
        return _environments_threads() or 1
    return _told or _environments_threads() or min(usable_cores(), _openmp_threads())


def _is_data_loader_worker() -> bool:
    """Whether torch's DataLoader has started this process; torch is looked up, never loaded."""
    ask = getattr(sys.modules.get("torch.utils.data"), "get_worker_info", None)
    return ask is not None and ask() is not None


def _environments_threads() -> int | None:
    wanted = os.environ.get("PACKSEQ_NUM_THREADS")
    if not wanted:
        return None
    try:
        return as_thread_count(int(wanted))
    except ValueError:
        raise ValueError(
            f"PACKSEQ_NUM_THREADS must be an integer from 1 to {MOST_THREADS}, got {wanted!r}"
        ) from None


def _openmp_threads() -> int:
    """What ``OMP_NUM_THREADS`` says of the outermost level; many where it says nothing."""
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(text) if text.isdecimal() and int(text) else MOST_THREADS


def usable_cores() -> int:
    """The cores this process may use: its affinity mask, cut to its cgroup's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, _cgroup_cores(), MOST_THREADS))


def _cgroup_cores(
    root: Path = Path("/sys/fs/cgroup"), self_: Path = Path("/proc/self/cgroup")
) -> int:
    """Whole cores that the cgroup's quota allows, in version 2 and 1; a huge number without one."""
    cores = 1 << 30
    try:
        lines = self_.read_text().splitlines()
    except OSError:
        return cores
    for line in lines:
        _, controllers, path = line.split(":", 2)
        base = root / "cpu" if "cpu" in controllers.split(",") else root
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            cores = min(cores, _quota(folder))
            if folder == base:
                break
    return cores


def _quota(folder: Path) -> int:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        if quota in ("max", "-1"):
            return 1 << 30
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        return 1 << 30
