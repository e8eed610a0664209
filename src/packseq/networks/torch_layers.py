"""Recurrent layers in torch: on CUDA cuDNN's packed path, elsewhere torch's own kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from packseq.networks import arguments
from packseq.networks.call import Call
from packseq.networks.parameters import Weights
from packseq.rows.plan import Plan
from packseq.rows.tensors import (
    gather_padded,
    order_on,
    ranks_on,
    scatter_padded,
)
from packseq.settings.backend import settings
from packseq.tensor_checks import as_tensor, dtype_name, is_tensor, refuse_gradient

_HALVES = (torch.float16, torch.bfloat16)
_FLOATS = (torch.float32, torch.float64)
_TORCHS = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}


def has_gpu() -> bool:
    """Whether torch was built for CUDA and finds a device; none survives a fork of the process."""
    return bool(torch.cuda.is_available()) and not torch.cuda._is_in_bad_fork()


def default_device() -> torch.device:
    """Where NumPy arrays go: torch's current CUDA device, or the CPU without one."""
    return torch.device("cuda", torch.cuda.current_device()) if has_gpu() else torch.device("cpu")


# ---- what is checked ----


def as_floats(values: Tensor, name: str, dtype: np.dtype[Any]) -> Tensor:
    """Take float16 and bfloat16 as they are, and float32 and float64 as `dtype`.

    Raises
    ------
    TypeError
        Of any other dtype; sparse or nested.
    ValueError
        It waits for a gradient.
    """
    values = as_tensor(values, name)
    if values.dtype not in _HALVES + _FLOATS:
        raise TypeError(f"{name} must be float32 or float64, got dtype {dtype_name(values)}")
    refuse_gradient(values, name)
    wanted = values.dtype if values.dtype in _HALVES else _TORCHS[dtype]
    return values if values.dtype == wanted else values.to(wanted)


def as_state(values: Any, name: str, shape: tuple[int, ...], x: Tensor) -> Tensor:
    """Take a state of exactly `shape`, contiguous, for the input `x`.

    Raises
    ------
    TypeError
        Not of floats; sparse or nested.
    ValueError
        Another shape or device.
    """
    if not is_tensor(values):
        state = arguments.as_state(values, name, shape, np.dtype(np.float64))
        return torch.tensor(state, dtype=x.dtype, device=x.device)
    values = as_tensor(values, name)
    if values.dtype not in _HALVES + _FLOATS:
        raise TypeError(f"{name} must be float32 or float64, got dtype {dtype_name(values)}")
    if tuple(values.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(values.shape)}")
    if values.device != x.device:
        raise ValueError(f"{name} must be on {x.device}, where the input is, got {values.device}")
    refuse_gradient(values, name)
    first: Tensor = values.to(x.dtype).contiguous()
    return first


def as_tensors(result: Any) -> Any:
    """Turn the arrays of a module's result, or of a part of it, into tensors of their memory."""
    if isinstance(result, tuple | list):
        return tuple(map(as_tensors, result))
    return torch.from_numpy(result) if isinstance(result, np.ndarray) else result


# ---- what runs ----


class Layers:
    """One module's layers, with its weights on each device and in each dtype that came up.

    Raises
    ------
    ValueError
        Neither torch nor cuDNN has the cell.
    """

    def __init__(self, weights: Weights) -> None:
        architecture = weights.architecture
        if architecture.not_in_torch:
            raise ValueError(
                f"{architecture.not_in_torch} runs on backend 'cpu' alone: torch and cuDNN have no "
                "such cell"
            )
        self._architecture = architecture
        self._parameters = weights.parameters
        self._weights: dict[tuple[torch.device, torch.dtype], _Weights] = {}

    def run(
        self,
        x: Tensor,
        plan: Plan | None,
        hx: Sequence[Tensor | None],
        batch: int,
        *,
        batch_first: bool = False,
    ) -> tuple[Tensor, list[Tensor]]:
        """Run every sequence through all layers.

        Parameters
        ----------
        x : (N, I), or (T, B, I) in the caller's order
        plan : Plan or None
            None only for (T, B, I): every sequence has T steps.
        hx : (h,) or (h, c), each (L * D, B, width)
            First states in the caller's order; None, for all of them, for zeros.
        batch : int
            B.
        batch_first : bool
            Whether a padded output lies by sequence in memory; (T, B, width) is a view of it then.

        Returns
        -------
        output : (N, width), or (T, B, width) with zeros past each end
        states : [h] or [h, c], each (L * D, B, width), new
        """
        with _float32_products(x):  # nothing here asks for a gradient
            if plan is None:
                return self._run_dense(x.contiguous(), hx, batch)
            rows = x.contiguous() if x.ndim == 2 else gather_padded(x, plan)
            output, states = self._run_packed(rows, plan, hx)
            if x.ndim == 3:
                output = scatter_padded(output, plan, len(x), batch_first, 0.0)
                output = output.transpose(0, 1) if batch_first else output
            return output, states

    def _run_dense(
        self, x: Tensor, hx: Sequence[Tensor | None], batch: int
    ) -> tuple[Tensor, list[Tensor]]:
        first = _given(hx) or self._zeros(x, batch)
        if not x.shape[0] * x.shape[1]:
            return x.new_zeros((*x.shape[:2], self._architecture.output_size)), [
                state.clone() for state in first
            ]
        output, *states = self._weights_on(x)(x, first)
        return output, states

    def _run_packed(
        self, rows: Tensor, plan: Plan, hx: Sequence[Tensor | None]
    ) -> tuple[Tensor, list[Tensor]]:
        """cuDNN takes no sequence of length 0: those, last in packed order, keep their state."""
        is_sorted, first = plan.sorted_indices is None or not plan.rows, _given(hx)
        if first and not is_sorted:  # zeros are zeros in any order
            order = order_on(plan, rows.device)
            first = [state.index_select(1, order) for state in first]
        first = first or self._zeros(rows, plan.batch_size)
        if not plan.rows:
            return rows.new_zeros((0, self._architecture.output_size)), [s.clone() for s in first]
        alive = int(plan.batch_sizes[0])
        batch_sizes = torch.from_numpy(plan.batch_sizes.copy())  # torch takes no read-only memory
        output, *last = self._weights_on(rows)(rows, [s[:, :alive] for s in first], batch_sizes)
        if alive < plan.batch_size:
            last = [torch.cat([h, s[:, alive:]], 1) for h, s in zip(last, first, strict=True)]
        if not is_sorted:
            ranks = ranks_on(plan, rows.device)
            last = [s.index_select(1, ranks) for s in last]
        return output, last

    def _zeros(self, x: Tensor, batch: int) -> list[Tensor]:
        """First states of zeros: one tensor for both h and c, where it fits both."""
        shapes = self._architecture.state_shapes(batch)
        zeros = x.new_zeros(shapes[0])
        return [zeros if shape == shapes[0] else x.new_zeros(shape) for shape in shapes]

    def _weights_on(self, x: Tensor) -> _Weights:
        weights = self._weights.get((x.device, x.dtype))
        if weights is None:  # two threads may both upload: the results are equal
            # They outlive the caller's inference mode, and calls outside of it cannot use its own.
            with torch.inference_mode(False), torch.no_grad():
                weights = self._weights[x.device, x.dtype] = self._upload(x.device, x.dtype)
        return weights

    def _upload(self, device: torch.device, dtype: torch.dtype) -> _Weights:
        shape = self._architecture
        options = dict(shape.cell.torch_options)
        if shape.proj_size:
            options["proj_size"] = shape.proj_size
        # On no device first: values drawn for it would change the caller's random numbers.
        module = getattr(torch.nn, shape.cell.kind)(
            shape.input_size,
            shape.hidden_size,
            num_layers=shape.num_layers,
            bias=shape.bias,
            bidirectional=shape.bidirectional,
            device="meta",
            dtype=dtype,
            **options,
        ).to_empty(device=device)
        module.load_state_dict(
            {name: torch.tensor(array) for name, array in self._parameters.items()}
        )
        module.eval().requires_grad_(False)
        if device.type == "cuda" and dtype == torch.bfloat16:
            _lay_end_to_end(module)
        return _Weights(module)


class _Weights:
    """A module's weights, and the function of torch's that its forward would call with them.

    What that checks is checked here already, and takes as long as five launches on a GPU.
    """

    def __init__(self, module: torch.nn.RNNBase) -> None:
        self._function = getattr(torch, module.mode.lower())
        self._flat = _flat(module)
        # Of the function: has_biases, num_layers, dropout, train, bidirectional.
        self._options = (module.bias, module.num_layers, 0.0, False, module.bidirectional)

    def __call__(
        self, x: Tensor, first: list[Tensor], batch_sizes: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Run (T, B, I), or packed rows (N, I): the output and each last state."""
        states = [state.contiguous() for state in first]
        hx = states if len(states) == 2 else states[0]
        results: tuple[Tensor, ...]
        if batch_sizes is None:
            results = self._function(x, hx, self._flat, *self._options, False)
        else:
            results = self._function(x, batch_sizes, hx, self._flat, *self._options)
        return results


def _given(hx: Sequence[Tensor | None]) -> list[Tensor]:
    """All of the first states, or none."""
    return [state for state in hx if state is not None]


def _flat(module: torch.nn.RNNBase) -> list[Tensor]:
    return [weight for layer in module.all_weights for weight in layer]


def _lay_end_to_end(module: torch.nn.RNNBase) -> None:
    """Lay weights of bfloat16 in the one buffer that cuDNN reads, as torch does those of others.

    torch passes over them, though cuDNN takes them, and then copies them, with a warning, in every
    call. Where cuDNN is too old for them, torch's own kernels run, and it makes no difference.
    """
    from torch.backends.cudnn import rnn

    with suppress(RuntimeError):
        torch._cudnn_rnn_flatten_weight(
            _flat(module),
            len(module.all_weights[0]),
            module.input_size,
            rnn.get_cudnn_mode(module.mode),
            module.hidden_size,
            module.proj_size,
            module.num_layers,
            False,  # batch_first
            module.bidirectional,
        )


@contextmanager
def _float32_products(x: Tensor) -> Iterator[None]:
    """Keep cuDNN from TF32, which is its default, unless the caller asked for it.

    The switch is the process's own: it is put back, and not touched where it is off already.
    """
    if x.device.type != "cuda" or x.dtype != torch.float32 or settings().allow_tf32:
        yield
        return
    owner, name, off = _tf32_switch()
    before = getattr(owner, name)
    if before == off:
        yield
        return
    setattr(owner, name, off)
    try:
        yield
    finally:
        setattr(owner, name, before)


@cache
def _tf32_switch() -> tuple[Any, str, object]:
    """(owner, name, value that turns TF32 off) of this torch: 2.9 renamed it."""
    cudnn = torch.backends.cudnn
    if hasattr(cudnn.rnn, "fp32_precision"):
        return cudnn.rnn, "fp32_precision", "ieee"
    return cudnn, "allow_tf32", False


class InTorch:
    """Runs tensors where they are, in torch."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers

    def run(self, call: Call) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As Runner has it."""
        if call.out is not None:
            raise ValueError("out must be None for tensors: it is for NumPy arrays")
        x, batch = call.by_time(call.rows), call.columns

        def take(state: Any, name: str, shape: tuple[int, ...]) -> Tensor:
            first = as_state(state, name, shape, x)
            return first[:, None] if call.axes == "one sequence" else first

        first = call.first_states(take)
        output, last = self._layers.run(
            x, call.plan, first, batch, batch_first=call.axes == "batch first"
        )
        if call.axes == "one sequence":
            last = [state[:, 0] for state in last]
        return call.as_given(output), tuple(last)
