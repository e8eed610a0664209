"""What is asked of torch's tensors before anything moves, without importing torch.

A tensor can only be there once its owner has imported torch, so torch is looked up, never loaded.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from packseq.halves import widened

Tensor_co = TypeVar("Tensor_co", covariant=True)


class TensorLike(Protocol[Tensor_co]):
    """A torch tensor to type checkers, which then need no torch; NumPy's arrays have none of this.

    It is generic in what its methods return, the plain tensor that a subclass's are too.
    """

    def cpu(self) -> Tensor_co: ...
    def data_ptr(self) -> int: ...


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
    if values.layout is not sys.modules["torch"].strided or values.is_nested or values.is_quantized:
        kind = "quantized" if values.is_quantized else "nested" if values.is_nested else "sparse"
        raise TypeError(f"{name} must be a dense tensor, got a {kind} one")
    return values


def is_cut_short(values: Any) -> bool:
    """Whether a dense tensor's storage was resized to less than its elements since it was made.

    torch itself reads on, or crashes.
    """
    count = values.numel()
    if not count or not sys.modules["torch"]._C._has_storage(values):
        return False
    last = values.storage_offset() + count
    if not values.is_contiguous():
        steps = zip(values.shape, values.stride(), strict=True)
        last = values.storage_offset() + 1 + sum((size - 1) * stride for size, stride in steps)
    short: bool = last * values.itemsize > values.untyped_storage().nbytes()
    return short


def has_memory(values: Any) -> bool:
    """Whether NumPy may be handed a dense tensor's address.

    Not so for one that is cut short, nor for the wrappers that torch.func's transforms make.
    """
    if is_cut_short(values):
        return False
    held: bool = sys.modules["torch"]._C._has_storage(values)
    return held and (values.data_ptr() != 0 or not values.numel())


def is_readable(values: Any) -> bool:
    """Whether NumPy can view a tensor, and sees the same numbers: dense, on the CPU, in memory."""
    torch = sys.modules["torch"]
    return (
        values.is_cpu
        and values.layout is torch.strided
        and not values.is_nested
        and not values.is_neg()
        and has_memory(values)
    )


def as_plain_array(values: Any) -> NDArray[Any] | None:
    """View a plain tensor on the CPU as an array, or None for the general way to look at it.

    A dense float32 or float64 one, of no subclass, that no gradient is wanted for.
    """
    torch = sys.modules.get("torch")
    if torch is None or type(values) is not torch.Tensor or not is_readable(values):
        return None
    if values.dtype is not torch.float32 and values.dtype is not torch.float64:
        return None
    if values.requires_grad and torch.is_grad_enabled():
        return None
    array: NDArray[Any] = values.detach().numpy() if values.requires_grad else values.numpy()
    return array


def check_memory(values: Any, name: str) -> None:
    """Refuse a CPU tensor that NumPy would read beyond its memory.

    Raises
    ------
    ValueError
        See `has_memory`.
    """
    if values.is_cpu and not has_memory(values):
        raise ValueError(
            f"{name} has no memory to be read: its storage was resized, or it is a transform's"
        )


def as_host_integers(values: Any, name: str) -> NDArray[Any]:
    """Bring integers to the CPU; from a GPU this waits for it.

    Raises
    ------
    TypeError
        Of another dtype.
    ValueError
        On the meta device; its memory cannot be read.
    """
    if values.is_meta:
        raise ValueError(f"{name} is on the meta device, where tensors have no values")
    floats = values.is_floating_point() or values.is_complex()
    if floats or dtype_name(values) == "bool":
        raise TypeError(f"{name} must be integers, got dtype {dtype_name(values)}")
    check_memory(values, name)
    array: NDArray[Any] = values.numpy(force=True)
    return array


def as_host_floats(values: Any, name: str) -> NDArray[Any]:
    """View a CPU tensor as an array; one of half precision is widened.

    Raises
    ------
    TypeError
        Of a dtype that NumPy lacks; sparse or nested.
    ValueError
        On another device, or it waits for a gradient; its memory cannot be read.
    """
    values = as_tensor(values, name)
    refuse_gradient(values, name)
    if values.device.type != "cpu":
        raise ValueError(f"{name} must be on the CPU, got a tensor on {values.device}")
    check_memory(values, name)
    values = widened(values)
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
