"""Checks of what constructors and calls of modules and cells are given."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from numbers import Real
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike, NDArray

from packseq.checks import as_array, as_flag, as_size, check_size, kind_of
from packseq.networks.architecture import (
    CELLS,
    PRECISIONS,
    RECURRENT_ACTIVATIONS,
    Architecture,
    cell_of,
)
from packseq.tensor_checks import as_host_floats, is_tensor

Array = NDArray[Any]

# The kernels count the columns of a gate row in 32 bits.
_MOST_COLUMNS = 2**31 - 1
# 255 * 127 times as many are less than 2**31: bytes with and without a sign, in the kernels' sums.
_MOST_INT8_COLUMNS = 66_000


# ---- constructors ----


def as_architecture(
    kind: str,
    input_size: SupportsIndex,
    hidden_size: SupportsIndex,
    *,
    num_layers: SupportsIndex = 1,
    bias: bool = True,
    bidirectional: bool = False,
    proj_size: SupportsIndex = 0,
    recurrent_activation: str = "sigmoid",
    options: Mapping[str, Any],
    one_step: bool = False,
    precision: str | None = None,
) -> Architecture:
    """Check a constructor's arguments; `options` are those that choose among the cells of a kind.

    Raises
    ------
    TypeError
        A size is no integer, or a flag no bool.
    ValueError
        A size is out of range; a projection is as wide as the state; no such activation.
    """
    hidden = as_size(hidden_size, "hidden_size")
    return Architecture(
        cell=cell_of(kind, options),
        input_size=as_size(input_size, "input_size"),
        hidden_size=hidden,
        num_layers=as_size(num_layers, "num_layers"),
        bias=as_flag(bias, "bias"),
        bidirectional=as_flag(bidirectional, "bidirectional"),
        proj_size=_as_proj_size(proj_size, hidden),
        recurrent_activation=as_recurrent_activation(recurrent_activation),
        one_step=one_step,
        precision=None if precision is None else as_precision(precision),
    )


def checked(architecture: object) -> Architecture:
    """An architecture that came with a pickle, checked as a constructor's arguments are.

    Raises
    ------
    TypeError, ValueError
        It is none, or none that a constructor would make.
    """
    if not isinstance(architecture, Architecture) or architecture.cell not in CELLS:
        raise TypeError(f"a pickled module has no architecture: {type(architecture).__name__}")
    return as_architecture(
        architecture.cell.kind,
        architecture.input_size,
        architecture.hidden_size,
        num_layers=architecture.num_layers,
        bias=architecture.bias,
        bidirectional=architecture.bidirectional,
        proj_size=architecture.proj_size,
        recurrent_activation=architecture.recurrent_activation,
        options=architecture.cell.options,
        one_step=as_flag(architecture.one_step, "one_step"),
        precision=architecture.precision,
    )


def _as_proj_size(value: SupportsIndex, hidden_size: int) -> int:
    size = as_size(value, "proj_size", least=0)
    if size >= hidden_size:
        raise ValueError(f"proj_size must be less than hidden_size = {hidden_size}, got {size}")
    return size


def as_recurrent_activation(value: str) -> str:
    """Check what stands in the place of the gates' sigmoid.

    Raises
    ------
    ValueError
        None of RECURRENT_ACTIVATIONS.
    """
    if not isinstance(value, str) or value not in RECURRENT_ACTIVATIONS:
        *others, last = map(repr, RECURRENT_ACTIVATIONS)
        raise ValueError(
            f"recurrent_activation must be {', '.join(others)} or {last}, got {value!r}"
        )
    return value


def as_precision(value: str) -> str:
    """Check a precision of fewer bits.

    Raises
    ------
    ValueError
        None of PRECISIONS.
    """
    if not isinstance(value, str) or value not in PRECISIONS:
        raise ValueError(f"precision must be {' or '.join(map(repr, PRECISIONS))}, got {value!r}")
    return value


def as_nonlinearity(value: str) -> str:
    """Check an RNN's nonlinearity.

    Raises
    ------
    ValueError
        Neither "tanh" nor "relu".
    """
    if not isinstance(value, str) or value not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {value!r}")
    return value


def as_dropout(value: float) -> float:
    """Check a dropout, which nothing applies.

    Raises
    ------
    TypeError
        No number.
    ValueError
        Outside [0, 1].
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"dropout must be a number, got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"dropout must be in [0, 1], got {value}")
    return float(value)


def as_module_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Check a module's dtype: float32 or float64, NumPy's or torch's, made native.

    Raises
    ------
    TypeError
        Any other.
    """
    try:
        name: Any = dtype
        if type(dtype).__module__ == "torch":
            name = str(dtype).removeprefix("torch.")
        found: np.dtype[Any] = np.dtype(name)
    except TypeError as error:
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}") from error
    if dtype is None or found.newbyteorder("=") not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}")
    return found.newbyteorder("=")


def check_weight_sizes(architecture: Architecture, dtype: np.dtype[Any]) -> None:
    """Check that the largest weight is one that can exist.

    Raises
    ------
    ValueError
        Its columns are beyond the kernels' integers, also those of int8's sums, or its bytes
        beyond any memory.
    """
    gates, hidden = len(architecture.cell.gates), architecture.hidden_size
    columns = (1 if gates == 1 else 4) * hidden  # the kernels give a GRU room for four gates
    if columns > _MOST_COLUMNS:
        raise ValueError(
            f"hidden_size = {hidden} times {gates} gate(s) is beyond the kernels' 32 bits, "
            f"at most {_MOST_COLUMNS}"
        )
    widest = max(architecture.input_size, architecture.output_size, hidden)
    if architecture.precision == "int8" and widest > _MOST_INT8_COLUMNS:
        raise ValueError(
            f"a weight has {widest} columns; int8 sums at most {_MOST_INT8_COLUMNS} exactly"
        )
    size = columns * widest * dtype.itemsize
    if size > sys.maxsize:
        raise ValueError(
            f"input_size={architecture.input_size}, hidden_size={hidden}: a weight would "
            f"take {size} bytes, more than memory can address"
        )


# ---- calls ----


def as_floats(values: Any, name: str, dtype: np.dtype[Any]) -> Array:
    """View float32 or float64 values as native `dtype`, uncopied where they are that already.

    The view is a new one: whoever has `values` may reshape it in place while a call goes on.

    Raises
    ------
    TypeError
        Masked, or of any other dtype.
    ValueError
        Nested sequences that are ragged; a torch tensor that is not on the CPU, or that waits for
        a gradient.
    """
    if type(values) is np.ndarray and values.dtype == dtype:
        return values[...]
    if is_tensor(values):
        values = as_host_floats(values, name)
    array = as_array(values, name)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise TypeError(f"{name} must be float32 or float64, got dtype {array.dtype}")
    with np.errstate(all="ignore"):  # also where only the padding overflows
        return array.astype(dtype, copy=False)[...]


def as_state(values: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Take a state of exactly `shape`, C-contiguous.

    Raises
    ------
    TypeError
        Not float32 or float64.
    ValueError
        Another shape.
    """
    array = as_floats(values, name, dtype)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return np.require(array, requirements=["C", "A"])


def as_out(given: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Check an array that results are written to, and view it anew, or make one.

    A subclass may say what it likes of its shape and flags: what counts is the array under it.

    Raises
    ------
    TypeError
        No array, masked, or of another dtype.
    ValueError
        Of another shape; the kernels cannot write to it; no array of that size can exist.
    """
    if given is None:
        return allocate(shape, dtype)
    if not isinstance(given, np.ndarray):
        raise TypeError(f"out must be an ndarray, got {kind_of(given)}")
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError("out must not be a masked array: its mask would not be written")
    out: Array = np.asarray(given)[...]
    if out.dtype != dtype or not out.dtype.isnative:
        raise TypeError(f"out must be of {dtype}, got dtype {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writeable, got a read-only array")
    if not is_addressable(out):
        raise ValueError("out must be aligned, and contiguous along its last axis")
    if _overlaps_itself(out):
        raise ValueError("out must not overlap itself")
    return out


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Allocate, after checking that the size can exist."""
    check_size(shape, dtype)
    return np.empty(shape, dtype)


def is_addressable(array: Array) -> bool:
    """Whether rows are contiguous and aligned, whatever the order and signs of other strides."""
    if array.flags.carray:
        return True
    itemsize = array.itemsize
    return bool(
        array.flags.aligned
        and (array.strides[-1] == itemsize or array.shape[-1] == 1)
        and all(stride % itemsize == 0 for stride in array.strides)
    )


def _overlaps_itself(array: Array) -> bool:
    """Each axis must step over all that the finer ones reach; slices of plain arrays do."""
    steps = (
        (abs(stride), extent) for stride, extent in zip(array.strides, array.shape, strict=True)
    )
    reach = array.itemsize
    for stride, extent in sorted(step for step in steps if step[1] > 1):
        if stride < reach:
            return array.size > 0
        reach += stride * (extent - 1)
    return False
