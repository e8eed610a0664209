"""Where a call runs: what its arrays are, what was set, what is there.

Nothing here imports torch unless a tensor came in, torch was asked for, or a CUDA driver is
installed and a call is large.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from packseq.arguments import refuse_list_of_arrays
from packseq.networks.arguments import as_floats
from packseq.networks.call import Call, Runner
from packseq.networks.kernels import OnKernels
from packseq.networks.parameters import Weights
from packseq.optional import load
from packseq.settings.backend import settings
from packseq.tensor_checks import is_tensor


def choose(weights: Weights, call: Call, where: str) -> Runner:
    """Who runs a call: its arrays on the kernels or through a GPU, or its tensors in torch.

    `where` is what `place` said of its rows.
    """
    if is_tensor(call.rows):
        layers = torch_layers()
        in_torch: Runner = layers.InTorch(weights.kept(layers.Layers))
        return in_torch
    if where == "torch" or (where == "auto" and _pays_to_move(call)):
        layers = weights.kept(torch_layers().Layers)
        through_torch: Runner = torch_offload().ThroughTorch(layers)
        return through_torch
    return OnKernels(weights.packed())


def as_rows(values: Any, name: str, dtype: np.dtype[Any], where: str) -> Any:
    """Floats as whoever is to run them takes them: a tensor for torch, else an array.

    Raises
    ------
    TypeError, ValueError
        Not of floats, a list of arrays, or not where they can be read; the message names `name`.
    """
    refuse_list_of_arrays(values, name)
    if is_tensor(values) and where == "torch":
        return torch_layers().as_floats(values, name, dtype)
    return as_floats(values, name, dtype)


def like_input(rows: object, result: Any) -> Any:
    """A result's arrays as tensors of their memory, where the input was one."""
    return torch_layers().as_tensors(result) if is_tensor(rows) else result


@cache
def torch_layers() -> ModuleType:
    """Import what runs recurrent layers in torch, and torch with it."""
    load("torch", "torch")
    from packseq.networks import torch_layers

    return torch_layers


@cache
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


def _pays_to_move(call: Call) -> bool:
    """Whether `auto` runs arrays on a GPU: work enough in a step, a cell it has, and a GPU."""
    if call.architecture.not_in_torch or not has_driver():
        return False
    flops = 2.0 * call.architecture.row_multiplications * call.row_count
    return flops >= settings().offload_flops * call.steps and _has_gpu()


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
