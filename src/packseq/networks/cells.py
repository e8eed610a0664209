"""RNNCell, GRUCell and LSTMCell: one step of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from packseq._core import plain
from packseq._core.recurrent import Network
from packseq.checks import as_flag, as_size
from packseq.networks import kernels
from packseq.networks.parameters import (
    Array,
    Parameterised,
    Rng,
    allocate,
    as_floats,
    as_module_dtype,
    as_nonlinearity,
    as_state,
    derived,
)
from packseq.networks.prepack import Architecture, prepack
from packseq.networks.runners import torch_layers
from packseq.settings.isa import kernels as chosen_kernels
from packseq.settings.threads import crew
from packseq.tensor_checks import is_tensor

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]


class _Cell(Parameterised):
    """A network of one layer and one direction, called for one step."""

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_size: SupportsIndex,
        bias: bool,
        dtype: DTypeLike,
        rng: Rng,
    ) -> None:
        self.input_size = as_size(input_size, "input_size")
        self.hidden_size = as_size(hidden_size, "hidden_size")
        self.bias = as_flag(bias, "bias")
        self.dtype = as_module_dtype(dtype)
        self._check_sizes(self.hidden_size)
        self._initialise(rng)

    @property
    def _kernel(self) -> str:
        """The name of the kernels' cell."""
        raise NotImplementedError

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        rows = self._gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, self.input_size),
            "weight_hh": (rows, self.hidden_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        return shapes

    def __repr__(self) -> str:
        bias = "" if self.bias else ", bias=False"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            bias += f", nonlinearity={self.nonlinearity!r}"
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype.name!r}"
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size}{bias}{dtype})"

    @derived
    def _network(self) -> Network:
        architecture = Architecture(
            cell=self._kernel,
            hidden_size=self.hidden_size,
            state_size=self.hidden_size,
            bias=self.bias,
            batch_first=False,
            one_step=True,
            suffixes=(("",),),
        )
        return prepack(architecture, self._parameters, chosen_kernels())

    def _plain(self, input: object, hx: object) -> Any:
        """Last states of a call on plain arrays, or None for the general way to take it."""
        if type(input) is not np.ndarray:
            return None
        result = plain.call(self._network, input, hx, None, crew, None)
        return None if result is None else result[1]

    def _next(self, input: ArrayLike, hx: ArrayLike | None) -> Array:
        """The next state of a cell that has one array of it."""
        state: Array | None = self._plain(input, hx)
        return self._step(input, (hx,), ("hx",))[0] if state is None else state

    def _step(
        self, input: ArrayLike, given: tuple[Any, ...], names: tuple[str, ...]
    ) -> tuple[Array, ...]:
        """Last states, each (B, H) or (H,), from first states of which each may be None."""
        x = as_floats(input, "input", self.dtype)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"input must have shape (B, {self.input_size}) or ({self.input_size},), "
                f"got {x.shape}"
            )
        shape = (*x.shape[:-1], self.hidden_size)
        first = [
            None if state is None else as_state(state, name, shape, self.dtype)
            for state, name in zip(given, names, strict=True)
        ]
        last = tuple(allocate(shape, self.dtype) for _ in given)
        if len(x):
            self._run(np.require(x, requirements=["C", "A"]), first, last)
        return torch_layers().as_tensors(last) if is_tensor(input) else last

    def _run(self, x: Array, first: Sequence[Array | None], last: Sequence[Array]) -> None:
        """From (B, I) and (B, H) to (B, H), or all without B: a batch of one step."""

        def as_batch(state: Array) -> Array:
            return state.reshape(1, -1, self.hidden_size)

        x = x.reshape(1, -1, self.input_size)
        hx = [None if state is None else as_batch(state) for state in first]
        hn = [as_batch(state) for state in last]
        kernels.forward(self._network, x, np.empty_like(hn[0]), None, hx, hn, None)


class RNNCell(_Cell):
    """One step of an Elman RNN: ``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``, or relu.

    Parameters
    ----------
    input_size, hidden_size, bias, nonlinearity, dtype, rng
        As for :class:`packseq.RNN`.

    Attributes
    ----------
    weight_ih : (H, I)
    weight_hh : (H, H)
    bias_ih, bias_hh : (H,)

    Raises
    ------
    TypeError, ValueError
        As for :class:`packseq.RNN`.

    Notes
    -----
    Source: torch.nn.RNNCell.
    """

    _gates = 1

    nonlinearity: str

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_size: SupportsIndex,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        dtype: DTypeLike = np.float32,
        rng: Rng = None,
    ) -> None:
        self.nonlinearity = as_nonlinearity(nonlinearity)
        super().__init__(input_size, hidden_size, bias, dtype, rng)

    @property
    def _kernel(self) -> str:
        return "rnn_" + self.nonlinearity

    def __call__(self, input: ArrayLike, hx: ArrayLike | None = None) -> Array:
        """Take one step.

        Parameters
        ----------
        input : array_like of shape (B, I) or (I,)
            Or a tensor of torch on the CPU; then tensors come back.
        hx : array_like of shape (B, H) or (H,), optional
            Zeros by default.

        Returns
        -------
        ndarray of shape (B, H) or (H,)
            h'.

        Raises
        ------
        TypeError
            Neither float32 nor float64.
        ValueError
            Another shape; a tensor is elsewhere, or waits for a gradient.

        Notes
        -----
        Cost: 2 * B * G * H * (I + H) operations, and about 2 microseconds.
        """
        return self._next(input, hx)


class GRUCell(_Cell):
    """One step of a GRU, with torch's order of operations.

    Parameters
    ----------
    input_size, hidden_size, bias, dtype, rng
        As for :class:`packseq.GRU`.

    Attributes
    ----------
    weight_ih : (3 * H, I)
        Gates r, z, n.
    weight_hh : (3 * H, H)
    bias_ih, bias_hh : (3 * H,)

    Raises
    ------
    TypeError, ValueError
        As for :class:`packseq.RNN`.

    Notes
    -----
    Source: torch.nn.GRUCell.
    """

    _gates = 3

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_size: SupportsIndex,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        rng: Rng = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype, rng)

    @property
    def _kernel(self) -> str:
        return "gru"

    def __call__(self, input: ArrayLike, hx: ArrayLike | None = None) -> Array:
        """Take one step; see :meth:`RNNCell.__call__`."""
        return self._next(input, hx)


class LSTMCell(_Cell):
    """One step of an LSTM.

    Parameters
    ----------
    input_size, hidden_size, bias, dtype, rng
        As for :class:`packseq.LSTM`.

    Attributes
    ----------
    weight_ih : (4 * H, I)
        Gates i, f, g, o.
    weight_hh : (4 * H, H)
    bias_ih, bias_hh : (4 * H,)

    Raises
    ------
    TypeError, ValueError
        As for :class:`packseq.RNN`.

    Notes
    -----
    Source: torch.nn.LSTMCell.
    """

    _gates = 4

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_size: SupportsIndex,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        rng: Rng = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype, rng)

    @property
    def _kernel(self) -> str:
        return "lstm"

    def __call__(
        self, input: ArrayLike, hx: Sequence[ArrayLike] | None = None
    ) -> tuple[Array, Array]:
        """Take one step.

        Parameters
        ----------
        input : array_like of shape (B, I) or (I,)
            Or a tensor of torch on the CPU; then tensors come back.
        hx : pair (h, c) of array_like, each of shape (B, H) or (H,), optional
            Zeros by default.

        Returns
        -------
        h, c : ndarray of shape (B, H) or (H,)

        Raises
        ------
        TypeError
            Neither float32 nor float64, or hx is no pair.
        ValueError
            Another shape; a tensor is elsewhere, or waits for a gradient.

        Notes
        -----
        Cost: 2 * B * G * H * (I + H) operations, and about 2 microseconds.
        """
        states: tuple[Array, Array] | None = self._plain(input, hx)
        if states is not None:
            return states
        if hx is not None and not _is_pair(hx):
            raise TypeError(f"hx must be a pair (h, c) of arrays, got {_outline(hx)}")
        h, c = self._step(input, tuple(hx or (None, None)), ("h_0", "c_0"))
        return h, c


def _outline(hx: object) -> str:
    if not isinstance(hx, tuple | list):
        return type(hx).__name__
    return f"({', '.join(type(part).__name__ for part in hx)})"


def _is_pair(hx: object) -> bool:
    return isinstance(hx, tuple | list) and len(hx) == 2 and hx[0] is not None and hx[1] is not None
