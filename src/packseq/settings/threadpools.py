"""packseq as one of the libraries that threadpoolctl lists and limits."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from packseq._core.pool import MOST_THREADS
from packseq.optional import load
from packseq.settings.isa import available_isas, engine
from packseq.settings.threads import get_num_threads, set_num_threads
from packseq.version import __version__


@cache
def register_threadpoolctl() -> None:
    """Let ``threadpoolctl`` list and limit packseq's threads, as those of BLAS and OpenMP.

    Importing packseq does it where threadpoolctl has been imported before. Another call does
    nothing.

    Raises
    ------
    ImportError
        threadpoolctl is not installed.

    See Also
    --------
    set_num_threads : What a limit sets, for the whole process.

    Notes
    -----
    ``threadpool_limits(1)`` and ``threadpool_limits({"packseq": 1})`` limit it and put back what
    was there; ``threadpool_info()`` has an entry with ``user_api`` "packseq", the version, and the
    instruction set as ``architecture``. ``num_threads=`` of a call goes before a limit, as it goes
    before set_num_threads.

    Examples
    --------
    >>> import threadpoolctl
    >>> packseq.register_threadpoolctl()
    >>> with threadpoolctl.threadpool_limits(1):
    ...     packseq.get_num_threads()
    1
    """
    threadpoolctl: Any = load("threadpoolctl", "threadpoolctl")

    class PackseqController(threadpoolctl.LibController):
        """Found by the file of the pool, ``pool.cpython-*.so``, and a symbol that others lack."""

        user_api = internal_api = "packseq"
        filename_prefixes = ("pool.",)
        check_symbols = ("packseq_pool_new",)

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            # An error here would leave the other libraries limited.
            set_num_threads(min(num_threads, MOST_THREADS))

        def get_version(self) -> str:
            return __version__

        def set_additional_attributes(self) -> None:
            self.architecture = engine().name if available_isas() else None

    threadpoolctl.register(PackseqController)


def register_if_imported() -> None:
    """With threadpoolctl as it was imported, unless that is too old to take other libraries."""
    if hasattr(sys.modules.get("threadpoolctl"), "register"):
        register_threadpoolctl()
