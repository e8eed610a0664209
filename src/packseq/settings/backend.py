"""Where modules compute: what set_backend and the environment say.

Nothing here imports torch unless the torch backend is asked for.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from numbers import Real

from packseq.checks import as_flag
from packseq.optional import load

NAMES = ("auto", "cpu", "torch")

# Floating-point operations in a time step, on average, from which `auto` moves NumPy arrays to a
# GPU. An H100 takes as long as 16 cores of an Emerald Rapids at 10 million for one sequence, at 28
# million for 16, at 35 million for 64 (LSTM, 50 steps; docs/gpu.md).
OFFLOAD_FLOPS = 25e6


@dataclass(frozen=True)
class _Settings:
    backend: str
    offload_flops: float
    allow_tf32: bool


def set_backend(
    backend: str, *, offload_flops: float | None = None, allow_tf32: bool | None = None
) -> None:
    """Choose where RNN, GRU and LSTM compute; a module's own `backend` goes before it.

    Parameters
    ----------
    backend : {"auto", "cpu", "torch"}
        ``auto``, the default: tensors on a GPU run on it, through cuDNN; tensors on the CPU and
        NumPy arrays run on packseq's kernels, but NumPy arrays move to a usable GPU and back where
        a call has `offload_flops` a step. ``cpu``: packseq's kernels alone. ``torch``: torch's
        kernels, on the tensor's device; NumPy arrays go to the GPU, and without one to torch on the
        CPU.
    offload_flops : float, optional
        Floating-point operations in a time step, on average, from which ``auto`` moves NumPy arrays
        to a GPU; infinity for never. ``PACKSEQ_OFFLOAD_FLOPS`` at first; None keeps what is set.
    allow_tf32 : bool, optional
        Let a GPU round the factors of float32 products to 10 bits: faster, to three digits. False
        at first; None keeps what is set.

    Raises
    ------
    TypeError
        `offload_flops` is no number; `allow_tf32` is no bool.
    ValueError
        `backend` is none of the three; `offload_flops`, or ``PACKSEQ_OFFLOAD_FLOPS`` at first, is
        negative or NaN.
    ImportError
        `backend` is ``"torch"`` and torch is not installed.

    See Also
    --------
    get_backend : What was chosen.

    Notes
    -----
    Layout functions follow their arrays: tensors stay on their device, NumPy arrays on the CPU.
    CUDA is experimental: CI has no GPU, and it has been measured on one kind, an H100.

    Examples
    --------
    >>> set_backend("cpu")
    >>> get_backend()
    'cpu'
    >>> set_backend("auto")
    """
    global _settings
    chosen = as_backend(backend, "backend")
    before = _settings or _at_first(chosen)
    _settings = _Settings(
        chosen,
        before.offload_flops if offload_flops is None else _as_flops(offload_flops),
        before.allow_tf32 if allow_tf32 is None else as_flag(allow_tf32, "allow_tf32"),
    )


def get_backend() -> str:
    """Return what set_backend was given; else ``PACKSEQ_BACKEND``; else ``"auto"``.

    Raises
    ------
    ValueError, ImportError
        ``PACKSEQ_BACKEND`` or ``PACKSEQ_OFFLOAD_FLOPS`` is not what set_backend takes.

    Examples
    --------
    >>> packseq.set_backend("auto")
    >>> packseq.get_backend()
    'auto'
    """
    return settings().backend


_settings: _Settings | None = None


def settings() -> _Settings:
    """What was set, from the environment at first."""
    global _settings
    if _settings is None:
        _settings = _at_first(
            as_backend(os.environ.get("PACKSEQ_BACKEND") or "auto", "PACKSEQ_BACKEND")
        )
    return _settings


def _at_first(backend: str) -> _Settings:
    return _Settings(backend, _flops_of_environment(), allow_tf32=False)


def _as_flops(value: float) -> float:
    if not isinstance(value, Real):
        raise TypeError(f"offload_flops must be a number, got {value!r}")
    if not value >= 0:
        raise ValueError(f"offload_flops must be at least 0, got {value}")
    return float(value)


def _flops_of_environment() -> float:
    text = os.environ.get("PACKSEQ_OFFLOAD_FLOPS")
    if not text:
        return OFFLOAD_FLOPS
    try:
        flops = float(text)
    except ValueError:
        flops = math.nan
    if not flops >= 0:
        raise ValueError(f"PACKSEQ_OFFLOAD_FLOPS must be a number of at least 0, got {text!r}")
    return flops


def as_backend(value: object, name: str) -> str:
    """Check a backend's name, and that torch is there where it is named.

    Raises
    ------
    ValueError
        Not a backend.
    ImportError
        torch is not installed.
    """
    if not isinstance(value, str) or value not in NAMES:
        raise ValueError(f"{name} must be 'auto', 'cpu' or 'torch', got {value!r}")
    if value == "torch":
        load("torch", "torch")
    return value
