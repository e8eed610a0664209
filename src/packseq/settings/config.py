"""What this build of packseq is, and what it runs on here."""

from __future__ import annotations

import platform
from typing import Any, Literal, overload

import numpy as np

from packseq._core.recurrent import BUILD, compiled
from packseq.optional import load
from packseq.settings.isa import BLAS, available_isas, engine
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
    ImportError
        ``PACKSEQ_ISA`` asks for BLAS, and SciPy is missing.

    Notes
    -----
    "kernels" says what the modules run on. Where that is "blas", a result depends on what else is
    in the batch, by rounding: "same bits" is then False. "blas" is SciPy's, of which they take it;
    that of "runtime" is NumPy's, which has the products of other dtypes than float32 and float64
    and, where the modules run on BLAS, all of ``packed @ weight``.
    Source: numpy.show_config.

    Examples
    --------
    >>> list(packseq.show_config("dicts")["threads"])
    ['used', 'cores']
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
        "kernels": _kernels(),
        "blas": _scipy_blas(),
        "threads": {"used": get_num_threads(), "cores": usable_cores()},
        "runtime": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "blas": _blas_of(np),
        },
        "build": dict(BUILD),
    }


def _kernels() -> dict[str, Any]:
    available = available_isas()
    chosen = engine().name if available else "none: pip install scipy"
    return {
        "chosen": chosen,
        "available": available,
        "compiled": [each.name for each in compiled()],
        "same bits": chosen != BLAS,
    }


def _scipy_blas() -> dict[str, str]:
    if BLAS not in available_isas():
        return {"scipy": "missing"}
    scipy = load("scipy", "blas")
    return {"scipy": scipy.__version__, "library": _blas_of(scipy)}


def _blas_of(library: Any) -> str:
    """Name and version of what NumPy or SciPy was built with."""
    blas = library.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
