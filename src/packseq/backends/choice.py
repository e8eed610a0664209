"""Which backend a module's call runs on: what the arrays are, what was set, what is there.

Nothing here imports torch unless a torch tensor was passed in, the torch backend was asked for, or
a CUDA driver is installed and a call is large.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import math
import os
import sys
from dataclasses import dataclass
from functools import cache
from numbers import Real
from types import ModuleType
from typing import Any, TypeGuard

from packseq.checks import as_flag
from packseq.optional import load

NAMES = ("auto", "cpu", "torch")

# Floating-point operations in a time step, on average, from which `auto` moves NumPy arrays to a
# GPU. An estimate, not a measurement: eight cores at 80 GFLOP/s each take 80 us for it, a step of a
# recurrent layer on a GPU some 10 to 30 us, and its rows as long again to cross the bus.
OFFLOAD_FLOPS = 50e6


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
    CUDA is experimental: it has been tested on torch's CPU device, and not yet tried on a GPU.
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
        torch_layers()
    return value


def torch_rows() -> ModuleType:
    """Import what moves the rows of tensors, and torch with it."""
    return _with_torch("packseq.backends.torch")


def torch_layers() -> ModuleType:
    """Import what runs recurrent layers in torch, and torch with it."""
    return _with_torch("packseq.backends.cudnn")


def torch_offload() -> ModuleType:
    """Import what runs NumPy arrays in torch, and torch with it."""
    return _with_torch("packseq.backends.offload")


def _with_torch(name: str) -> ModuleType:
    load("torch", "torch")
    return importlib.import_module(name)


def place(rows: object, backend: str) -> str:
    """Where a module's call on `rows` runs, a tensor where it is: "cpu" or "torch".

    NumPy arrays may be anywhere, so for them it is `backend` itself.

    Raises
    ------
    ValueError
        A tensor on a device that `backend` does not run on, or on none.
    """
    if not is_tensor(rows):
        return backend
    if rows.device.type == "cpu":
        return "torch" if backend == "torch" else "cpu"
    if backend == "cpu":
        raise ValueError(f"input is on {rows.device}, where backend 'cpu' does not run")
    if rows.device.type == "meta":
        raise ValueError("input is on the meta device, where tensors have no values")
    return "torch"


def is_tensor(value: object) -> TypeGuard[Any]:
    """Whether `value` is a torch tensor, which it cannot be while nobody has imported torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, "Tensor", ()))


def dtype_name(array: Any) -> str:
    """The name of an array's or a tensor's dtype, which the two libraries share: ``float32``."""
    return str(array.dtype).removeprefix("torch.")


def pays_to_move(flops: float, steps: int) -> bool:
    """Whether `auto` runs NumPy arrays on a GPU: work enough in a step, and a GPU there."""
    return flops >= settings().offload_flops * steps and _has_gpu()


@cache
def _has_gpu() -> bool:
    """Whether torch has a CUDA device; where there is a driver for one, this imports torch."""
    if not has_driver() or importlib.util.find_spec("torch") is None:
        return False
    return bool(torch_layers().has_gpu())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_has_gpu.cache_clear)  # CUDA does not survive a fork


@cache
def has_driver() -> bool:
    """Whether CUDA's driver library can be loaded, which initialises nothing."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
