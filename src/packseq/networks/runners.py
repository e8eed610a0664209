"""Where a module's call runs: what its arrays are, what was set, what is there."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from functools import cache
from types import ModuleType

from packseq.optional import load
from packseq.settings.backend import settings
from packseq.tensor_checks import is_tensor


def torch_layers() -> ModuleType:
    """Import what runs recurrent layers in torch, and torch with it."""
    load("torch", "torch")
    from packseq.networks import torch_layers

    return torch_layers


def torch_offload() -> ModuleType:
    """Import what runs NumPy arrays in torch, and torch with it."""
    load("torch", "torch")
    from packseq.networks import offload

    return offload


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
