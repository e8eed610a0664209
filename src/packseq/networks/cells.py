"""RNNCell, GRUCell and LSTMCell: one step of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self, SupportsIndex, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from packseq._core.plain import call as call_arrays
from packseq.checks import as_flag
from packseq.networks import kernels
from packseq.networks.architecture import PLAIN, SIGMOID, Architecture
from packseq.networks.arguments import (
    Array,
    allocate,
    as_architecture,
    as_floats,
    as_nonlinearity,
    as_state,
)
from packseq.networks.parameters import Parameterised, Rng, cell_option, gate_activation
from packseq.networks.plain_tensors import call_plain
from packseq.networks.runners import like_input
from packseq.settings.threads import crew
from packseq.tensor_checks import TensorLike

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]

Tensor = TypeVar("Tensor")


class _Cell(Parameterised):
    """A network of one layer and one direction, called for one step."""

    _one_step = True

    def __init__(self, architecture: Architecture, dtype: DTypeLike, rng: Rng) -> None:
        self._begin(architecture, dtype)
        self._initialise(rng)

    def _shown(self) -> dict[str, Any]:
        architecture = self._architecture
        plain = PLAIN[architecture.cell.kind].options
        shown: dict[str, Any] = {} if self.bias else {"bias": False}
        shown |= {n: v for n, v in architecture.cell.options.items() if v != plain[n]}
        if architecture.recurrent_activation != SIGMOID:
            shown["recurrent_activation"] = architecture.recurrent_activation
        if self.dtype != np.float32:
            shown["dtype"] = self.dtype.name
        if architecture.precision:
            shown["precision"] = architecture.precision
        return shown

    def _plain(self, input: object, hx: object) -> Any:
        """Last states of a plain call, or None for the general way to take it."""
        if type(input) is np.ndarray:
            weights = self._weights
            network = weights.network or weights.packed()
            result = call_arrays(network, input, hx, None, crew, None)
        else:
            result = call_plain(self._weights, input, hx, None)
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
        return tuple(like_input(input, last))

    def _run(self, x: Array, first: Sequence[Array | None], last: Sequence[Array]) -> None:
        """From (B, I) and (B, H) to (B, H), or all without B: a batch of one step."""

        def as_batch(state: Array) -> Array:
            return state.reshape(1, -1, self.hidden_size)

        x = x.reshape(1, -1, self.input_size)
        hx = [None if state is None else as_batch(state) for state in first]
        hn = [as_batch(state) for state in last]
        kernels.forward(self._weights.packed(), x, np.empty_like(hn[0]), None, hx, hn, None)


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

    Examples
    --------
    >>> cell = RNNCell(16, 32, rng=0)
    >>> h = cell(np.ones((3, 16), np.float32))
    >>> cell(np.ones((3, 16), np.float32), h).shape
    (3, 32)
    """

    _kind = "RNN"

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
        options = {"nonlinearity": as_nonlinearity(nonlinearity)}
        super().__init__(
            as_architecture(
                "RNN", input_size, hidden_size, bias=bias, options=options, one_step=True
            ),
            dtype,
            rng,
        )

    nonlinearity: str = cell_option("nonlinearity", "What the pre-activation goes through.")

    @classmethod
    def from_state_dict(
        cls,
        mapping: Mapping[str, Any],
        prefix: str = "",
        *,
        nonlinearity: str = "tanh",
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Make the cell that a state dict holds: sizes and bias follow from it.

        Parameters
        ----------
        mapping, prefix
            As for load_state_dict: the weights of an RNN of one layer and one direction too.
        nonlinearity
            Which no state dict tells.
        dtype : optional
            float64 if the weights are, else float32.

        Raises
        ------
        TypeError, ValueError
            The entries under `prefix` are not those of an RNN; the message says what is wrong.

        Examples
        --------
        >>> RNNCell.from_state_dict(packseq.RNN(16, 32, rng=0).state_dict())
        RNNCell(16, 32)
        """
        return cls._from_state_dict(
            mapping, prefix, dtype, cell={"nonlinearity": as_nonlinearity(nonlinearity)}
        )

    @overload
    def __call__(self, input: TensorLike[Tensor], hx: ArrayLike | None = None) -> Tensor: ...
    @overload
    def __call__(self, input: ArrayLike, hx: ArrayLike | None = None) -> Array: ...
    def __call__(self, input: Any, hx: Any = None) -> Any:
        """Take one step.

        Parameters
        ----------
        input : array_like of shape (B, I) or (I,)
            A list of rows too. Or a tensor of torch on the CPU; then tensors come back.
        hx : array_like of shape (B, H) or (H,), optional
            Zeros by default.

        Returns
        -------
        ndarray of shape (B, H) or (H,)
            h'.

        Raises
        ------
        TypeError
            Not of floats, of 16 to 64 bits.
        ValueError
            Another shape; a tensor is elsewhere, or waits for a gradient.

        Notes
        -----
        Cost: 2 * B * G * H * (I + H) operations, and about 2 microseconds.

        Examples
        --------
        >>> RNNCell(16, 32, rng=0)(np.ones((4, 16), np.float32)).shape
        (4, 32)
        """
        return self._next(input, hx)


class _GatedCell(_Cell):
    """A cell whose gates go through an activation of the caller's choice."""

    @classmethod
    def from_state_dict(
        cls,
        mapping: Mapping[str, Any],
        prefix: str = "",
        *,
        recurrent_activation: str = "sigmoid",
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Make the cell that a state dict holds; see :meth:`RNNCell.from_state_dict`.

        Examples
        --------
        >>> GRUCell.from_state_dict(packseq.GRU(16, 32, rng=0).state_dict())
        GRUCell(16, 32)
        """
        return cls._from_state_dict(
            mapping, prefix, dtype, recurrent_activation=recurrent_activation
        )


class GRUCell(_GatedCell):
    """One step of a GRU, with torch's order of operations.

    Parameters
    ----------
    input_size, hidden_size, bias, recurrent_activation, dtype, rng
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

    Examples
    --------
    >>> cell = GRUCell(16, 32, rng=0)
    >>> h = cell(np.ones((3, 16), np.float32))
    >>> cell(np.ones((3, 16), np.float32), h).shape
    (3, 32)
    """

    _kind = "GRU"

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_size: SupportsIndex,
        bias: bool = True,
        *,
        recurrent_activation: str = "sigmoid",
        dtype: DTypeLike = np.float32,
        rng: Rng = None,
    ) -> None:
        super().__init__(
            as_architecture(
                "GRU",
                input_size,
                hidden_size,
                bias=bias,
                recurrent_activation=recurrent_activation,
                options={},
                one_step=True,
            ),
            dtype,
            rng,
        )

    recurrent_activation: str = gate_activation("What r and z go through.")

    @overload
    def __call__(self, input: TensorLike[Tensor], hx: ArrayLike | None = None) -> Tensor: ...
    @overload
    def __call__(self, input: ArrayLike, hx: ArrayLike | None = None) -> Array: ...
    def __call__(self, input: Any, hx: Any = None) -> Any:
        """Take one step, of arrays and errors as :meth:`RNNCell.__call__` has them.

        Examples
        --------
        >>> cell, x = GRUCell(16, 32, rng=0), np.ones((4, 16), np.float32)
        >>> cell(x, cell(x)).shape
        (4, 32)
        """
        return self._next(input, hx)


class LSTMCell(_GatedCell):
    """One step of an LSTM.

    Parameters
    ----------
    input_size, hidden_size, bias, peephole, recurrent_activation, dtype, rng
        As for :class:`packseq.LSTM`.

    Attributes
    ----------
    weight_ih : (4 * H, I)
        Gates i, f, g, o.
    weight_hh : (4 * H, H)
    bias_ih, bias_hh : (4 * H,)
    weight_ci, weight_cf, weight_co : (H,), with peepholes

    Raises
    ------
    TypeError, ValueError
        As for :class:`packseq.RNN`.

    Notes
    -----
    Source: torch.nn.LSTMCell.

    Examples
    --------
    >>> cell = LSTMCell(16, 32, rng=0)
    >>> state = None
    >>> for row in np.ones((5, 1, 16), np.float32):
    ...     state = cell(row, state)
    >>> h, c = state
    >>> h.shape, c.shape
    ((1, 32), (1, 32))
    """

    _kind = "LSTM"

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_size: SupportsIndex,
        bias: bool = True,
        *,
        peephole: bool = False,
        recurrent_activation: str = "sigmoid",
        dtype: DTypeLike = np.float32,
        rng: Rng = None,
    ) -> None:
        super().__init__(
            as_architecture(
                "LSTM",
                input_size,
                hidden_size,
                bias=bias,
                recurrent_activation=recurrent_activation,
                options={"peephole": as_flag(peephole, "peephole")},
                one_step=True,
            ),
            dtype,
            rng,
        )

    peephole: bool = cell_option("peephole", "Whether i, f and o see c.")

    recurrent_activation: str = gate_activation("What i, f and o go through.")

    @overload
    def __call__(
        self, input: TensorLike[Tensor], hx: Sequence[ArrayLike] | None = None
    ) -> tuple[Tensor, Tensor]: ...
    @overload
    def __call__(
        self, input: ArrayLike, hx: Sequence[ArrayLike] | None = None
    ) -> tuple[Array, Array]: ...
    def __call__(self, input: Any, hx: Any = None) -> Any:
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
            Not of floats, of 16 to 64 bits, or hx is no pair.
        ValueError
            Another shape; a tensor is elsewhere, or waits for a gradient.

        Notes
        -----
        Cost: 2 * B * G * H * (I + H) operations, and about 2 microseconds.

        Examples
        --------
        >>> h, c = LSTMCell(16, 32, rng=0)(np.ones((4, 16), np.float32))
        >>> h.shape, c.shape
        ((4, 32), (4, 32))
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
