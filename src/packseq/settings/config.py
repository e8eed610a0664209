"""What this build of packseq is, and what it runs on here."""

from __future__ import annotations

import platform
from typing import Any, Literal, overload

import numpy as np

from packseq._core.recurrent import BUILD, compiled
from packseq.settings.isa import available_isas, kernels
from packseq.settings.threads import get_num_threads, usable_cores
from packseq.version import __version__


@overload
def show_config() -> None: ...
@overload
def show_config(mode: Literal["stdout"]) -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Show the version, the instruction set, the threads, and what packseq was built with.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Print it, or return it.

    Returns
    -------
    dict or None
        None if printed.

    Raises
    ------
    ValueError
        Another mode; ``PACKSEQ_ISA`` or ``PACKSEQ_NUM_THREADS`` is wrong.

    Notes
    -----
    "blas" is NumPy's, which multiplies what is not recurrent (``packed @ weight``). The modules use
    kernels of their own throughout.
    Source: numpy.show_config.

    Examples
    --------
    >>> sorted(packseq.show_config("dicts"))
    ['build', 'kernels', 'packseq', 'runtime', 'threads']
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode must be 'stdout' or 'dicts', got {mode!r}")
    config = _config()
    if mode == "dicts":
        return config
    for section, entries in config.items():
        print(section)
        for name, value in entries.items():
            print(f"  {name:<10} {value if not isinstance(value, list) else ', '.join(value)}")
    return None


def _config() -> dict[str, dict[str, Any]]:
    return {
        "packseq": {"version": __version__},
        "kernels": {
            "chosen": kernels().name,
            "available": available_isas(),
            "compiled": [each.name for each in compiled()],
        },
        "threads": {"used": get_num_threads(), "cores": usable_cores()},
        "runtime": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "blas": _numpy_blas(),
        },
        "build": dict(BUILD),
    }


def _numpy_blas() -> str:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
