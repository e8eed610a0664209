"""What is asked of torch's tensors before anything moves, without importing torch.

A tensor can only be there once its owner has imported torch, so torch is looked up, never loaded.
"""

from __future__ import annotations

import sys
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray


def is_tensor(value: object) -> TypeGuard[Any]:
    """Whether `value` is a torch tensor, which it cannot be while nobody has imported torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, "Tensor", ()))


def dtype_name(array: Any) -> str:
    """The name of an array's or a tensor's dtype, which the two libraries share: ``float32``."""
    return str(array.dtype).removeprefix("torch.")


def as_tensor(values: Any, name: str) -> Any:
    """Return a dense tensor.

    Raises
    ------
    TypeError
        Sparse, nested or quantized.
    """
    if str(values.layout) != "torch.strided" or values.is_nested or values.is_quantized:
        kind = "quantized" if values.is_quantized else "nested" if values.is_nested else "sparse"
        raise TypeError(f"{name} must be a dense tensor, got a {kind} one")
    return values


def as_host_integers(values: Any, name: str) -> NDArray[Any]:
    """Bring integers to the CPU; from a GPU this waits for it.

    Raises
    ------
    TypeError
        Of another dtype.
    ValueError
        On the meta device.
    """
    if values.is_meta:
        raise ValueError(f"{name} is on the meta device, where tensors have no values")
    floats = values.is_floating_point() or values.is_complex()
    if floats or dtype_name(values) == "bool":
        raise TypeError(f"{name} must be integers, got dtype {dtype_name(values)}")
    array: NDArray[Any] = values.numpy(force=True)
    return array


def as_host_floats(values: Any, name: str) -> NDArray[Any]:
    """View a CPU tensor as an array.

    Raises
    ------
    TypeError
        Of a dtype that NumPy lacks; sparse or nested.
    ValueError
        On another device, or it waits for a gradient.
    """
    values = as_tensor(values, name)
    refuse_gradient(values, name)
    if values.device.type != "cpu":
        raise ValueError(f"{name} must be on the CPU, got a tensor on {values.device}")
    if not hasattr(np, dtype_name(values)):
        raise TypeError(f"{name} must be float32 or float64, got dtype {dtype_name(values)}")
    array: NDArray[Any] = values.numpy(force=True)
    return array


def refuse_gradient(values: Any, name: str) -> None:
    """Rather than return what silently has none.

    Raises
    ------
    ValueError
        The tensor waits for a gradient.
    """
    if values.requires_grad and sys.modules["torch"].is_grad_enabled():
        raise ValueError(
            f"{name} requires a gradient, and there is none through packseq's modules: "
            "detach it, or call under torch.no_grad()"
        )
