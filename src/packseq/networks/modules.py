"""RNN, GRU and LSTM: layers and directions of recurrent cells, for inference."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar, NamedTuple, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from packseq._core import plain
from packseq._core.order import all_equal
from packseq._core.recurrent import Network
from packseq.checks import as_flag, as_size, kind_of
from packseq.layout import as_lengths
from packseq.networks import kernels
from packseq.networks.parameters import (
    Array,
    Parameterised,
    Rng,
    allocate,
    as_floats,
    as_module_dtype,
    as_nonlinearity,
    as_prefix,
    as_state,
    as_weights,
    derived,
)
from packseq.networks.prepack import Architecture, prepack
from packseq.networks.runners import (
    has_driver,
    pays_to_move,
    place,
    torch_layers,
    torch_offload,
)
from packseq.packed import PackedSequence
from packseq.rows.plan import IndexArray, Plan
from packseq.settings.backend import as_backend, settings
from packseq.settings.isa import kernels as chosen_kernels
from packseq.settings.threads import as_thread_count, crew
from packseq.tensor_checks import is_tensor

__all__ = ["GRU", "LSTM", "RNN"]


class _Call(NamedTuple):
    """What a call is given besides its input, and the backend that it runs on."""

    hx: Any
    lengths: ArrayLike | None
    out: Array | None
    num_threads: int | None
    backend: str


class _Recurrent(Parameterised):
    """Everything that the three kinds share: sizes, names, and the way through a call."""

    # How many arrays a state is: h, or h and c.
    _states: ClassVar[int] = 1

    num_layers: int
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int = 0

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_size: SupportsIndex,
        num_layers: SupportsIndex,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        dtype: DTypeLike,
        rng: Rng,
        backend: str | None,
    ) -> None:
        self.backend = backend
        self.input_size = as_size(input_size, "input_size")
        self.hidden_size = as_size(hidden_size, "hidden_size")
        self.num_layers = as_size(num_layers, "num_layers")
        self.bias = as_flag(bias, "bias")
        self.batch_first = as_flag(batch_first, "batch_first")
        self.dropout = _as_dropout(dropout)
        self.bidirectional = as_flag(bidirectional, "bidirectional")
        self.dtype = as_module_dtype(dtype)
        self._check_sizes(max(self._directions * self._state_size, self.hidden_size))
        self._initialise(rng)

    # ---- what it is ----

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _state_size(self) -> int:
        return self.proj_size or self.hidden_size

    @property
    def _cell(self) -> str:
        """The name of the kernels' cell."""
        raise NotImplementedError

    @property
    def backend(self) -> str | None:
        """Where calls run, as for packseq.set_backend; None for what is set there."""
        return self._backend

    @backend.setter
    def backend(self, value: str | None) -> None:
        self._backend = None if value is None else as_backend(value, "backend")

    def _suffixes(self) -> tuple[tuple[str, ...], ...]:
        """Endings of the parameters' names, by layer and direction."""
        directions = ("", "_reverse")[: self._directions]
        return tuple(
            tuple(f"_l{layer}{direction}" for direction in directions)
            for layer in range(self.num_layers)
        )

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        rows = self._gates * self.hidden_size
        width = self.input_size
        for layer in self._suffixes():
            for suffix in layer:
                shapes["weight_ih" + suffix] = (rows, width)
                shapes["weight_hh" + suffix] = (rows, self._state_size)
                if self.bias:
                    shapes["bias_ih" + suffix] = (rows,)
                    shapes["bias_hh" + suffix] = (rows,)
                if self.proj_size:
                    shapes["weight_hr" + suffix] = (self.proj_size, self.hidden_size)
            width = self._directions * self._state_size
        return shapes

    def _options(self) -> dict[str, Any]:
        """What repr shows after the sizes: everything that is not the default."""
        defaults: dict[str, Any] = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
        }
        defaults |= {"dropout": 0.0, "bidirectional": False}
        return {
            name: getattr(self, name) for name in defaults if getattr(self, name) != defaults[name]
        }

    def __repr__(self) -> str:
        options = self._options()
        if self.dtype != np.float32:
            options["dtype"] = self.dtype.name
        if self.backend is not None:
            options["backend"] = self.backend
        parts = [str(self.input_size), str(self.hidden_size)]
        parts += [f"{name}={value!r}" for name, value in options.items()]
        return f"{type(self).__name__}({', '.join(parts)})"

    # ---- where its weights come from ----

    @classmethod
    def _from_state_dict(
        cls, mapping: Mapping[str, Any], prefix: str, dtype: DTypeLike | None, **options: Any
    ) -> Self:
        prefix = as_prefix(mapping, prefix)
        layers = _count_layers(mapping, prefix)
        first = {
            name: as_weights(mapping[prefix + name], prefix + name)
            for name in ("weight_ih_l0", "weight_hh_l0", "weight_hr_l0")
            if prefix + name in mapping
        }
        for name in ("weight_ih_l0", "weight_hh_l0"):
            if name not in first:
                raise ValueError(
                    f"missing {prefix}{name}: no {cls.__name__} under prefix {prefix!r}"
                    + _other_prefixes(mapping)
                )
        for name, array in first.items():
            if array.ndim != 2 or 0 in array.shape:
                raise ValueError(f"{prefix}{name} must be 2-D and not empty, got {array.shape}")
        rows, state = first["weight_hh_l0"].shape
        projection = first.get("weight_hr_l0")
        hidden = state if projection is None else projection.shape[1]
        if projection is not None:
            if not issubclass(cls, LSTM):
                raise ValueError(f"unexpected {prefix}weight_hr_l0: only an LSTM has a projection")
            if state != projection.shape[0] or state >= hidden:
                raise ValueError(
                    f"{prefix}weight_hr_l0 has shape {projection.shape}, expected ({state}, H) "
                    f"with H > {state}, after {prefix}weight_hh_l0"
                )
            options["proj_size"] = state
        _check_gates(cls, prefix, rows, hidden)
        if dtype is None:
            dtype = np.float64 if first["weight_ih_l0"].dtype.itemsize == 8 else np.float32
        module = cls(
            first["weight_ih_l0"].shape[1],
            hidden,
            num_layers=layers,
            bias=f"{prefix}bias_ih_l0" in mapping,
            bidirectional=f"{prefix}weight_ih_l0_reverse" in mapping,
            dtype=dtype,
            rng=0,
            **options,
        )
        module.load_state_dict(mapping, prefix)
        return module

    @classmethod
    def from_torch(cls, module: Any) -> Self:
        """Make the same module from one of torch's: its weights are copied, its options kept.

        Parameters
        ----------
        module : torch.nn.RNN, GRU or LSTM
            Of this kind, on any device; half-precision weights are widened to float32.

        Raises
        ------
        TypeError
            Not a module of this kind.
        """
        kind, _, nonlinearity = str(getattr(module, "mode", "")).partition("_")
        if {"RNN": 1, "GRU": 3, "LSTM": 4}.get(kind) != cls._gates:
            raise TypeError(f"module must be torch's {cls.__name__}, got {type(module).__name__}")
        names = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"]
        names += ["bidirectional"] + ["proj_size"] * (kind == "LSTM")
        options = {name: getattr(module, name) for name in names}
        if nonlinearity:
            options["nonlinearity"] = nonlinearity.lower()
        double = str(module.weight_ih_l0.dtype) == "torch.float64"
        made = cls(**options, dtype=np.float64 if double else np.float32, rng=0)
        made.load_state_dict({name: getattr(module, name) for name in made._shapes()})
        return made

    # ---- what it does ----

    _backend: str | None

    @property
    def _architecture(self) -> Architecture:
        return Architecture(
            cell=self._cell,
            hidden_size=self.hidden_size,
            state_size=self._state_size,
            bias=self.bias,
            batch_first=self.batch_first,
            one_step=False,
            suffixes=self._suffixes(),
        )

    @derived
    def _network(self) -> Network:
        return prepack(self._architecture, self._parameters, chosen_kernels())

    @derived
    def _layers(self) -> Any:
        """The same in torch."""
        return torch_layers().Layers(self._architecture, self._parameters)

    def __call__(
        self,
        input: PackedSequence | ArrayLike,
        hx: Any = None,
        *,
        lengths: ArrayLike | None = None,
        out: Array | None = None,
        num_threads: SupportsIndex | None = None,
    ) -> tuple[Any, Any]:
        """Run every sequence through all layers.

        Parameters
        ----------
        input : PackedSequence of rows (I,), or array_like
            An array is a padded batch of shape (T, B, I), or (B, T, I) if batch_first; or one
            sequence of shape (T, I). float32 or float64; the other width is converted. Tensors of
            torch too, which may be float16 or bfloat16 where torch runs; see packseq.set_backend.
        hx : array_like of shape (L * D, B, R), or for an LSTM a pair (h, c), optional
            First states in the caller's order; zeros by default. R is proj_size or hidden_size; c
            has hidden_size. For one sequence, (L * D, R).
        lengths : array_like of int, shape (B,), optional
            Steps per sequence of a padded batch; T by default. Rows past a sequence's end are never
            read, and come back as zeros; its reverse direction starts at its own end.
        out : ndarray, optional
            Where to write the output: of its shape and dtype, the last axis contiguous, apart from
            the input's memory and not between its rows. For a PackedSequence, its data (N, D * R).
        num_threads : int, optional
            At most so many threads for this call; packseq.get_num_threads() by default.

        Returns
        -------
        output : PackedSequence, or ndarray of shape (T, B, D * R), (B, T, D * R) or (T, D * R)
            In the form of the input and in the module's dtype; the last layer's h at each step,
            forward before reverse. For tensors, tensors on their device; halves stay halves.
        h_n : ndarray of shape (L * D, B, R), or a pair (h_n, c_n)
            Last states in the caller's order, also of a batch_first module. A sequence of length 0
            returns its first state.

        Raises
        ------
        TypeError
            `input` or a state is masked, or not of floats; an LSTM's `hx` is no pair; `lengths` or
            `num_threads` are not integers; `out` is no array of the module's dtype.
        ValueError
            A shape, a length, `out` or `num_threads` does not fit; `lengths` for what is no padded
            batch; a tensor is elsewhere, or waits for a gradient. The message names what it is
            about.
        MemoryError
            There is none for the results, or for what a call needs beside them.

        Notes
        -----
        Cost: 2 * N * G * H * (I + R) operations per layer and direction (N steps in all, padding
        excluded), and for small calls some microseconds. On the CPU, results do not depend
        on what else is in the batch or on the threads, to the last bit. Beside the weights, the
        input and the output it takes less than 64 MiB, but for one sequence whose stack of layers
        alone needs more: N * D * R numbers.
        Source: torch.nn.RNN, GRU and LSTM, in eval mode.
        """
        backend = self._backend or settings().backend
        if type(input) is np.ndarray and out is None and num_threads is None and backend != "torch":
            result = plain.call(
                self._network, input, hx, lengths, crew, None if backend == "cpu" else has_driver
            )
            if result is not None:
                return result
        rows = input.data if isinstance(input, PackedSequence) else input
        threads = None if num_threads is None else as_thread_count(num_threads)
        call = _Call(hx, lengths, out, threads, place(rows, backend))
        if isinstance(input, PackedSequence):
            data, states = _as_given(rows, self._run_packed(input, call))
            return PackedSequence._of(data, input._plan), states
        return _as_given(rows, self._run_array(input, call))

    def _run_packed(self, input: PackedSequence, call: _Call) -> tuple[Array, Any]:
        if call.lengths is not None:
            raise ValueError("lengths must be None for a PackedSequence, which has its own")
        data = self._as_rows(input.data, "input.data", call)
        if data.ndim != 2:
            raise ValueError(
                f"input.data must have shape (N, {self.input_size}), got {tuple(data.shape)}"
            )
        self._check_width(data, "input.data")
        plan = input._plan
        if is_tensor(data):
            return self._run_tensors(data, plan, plan.batch_size, call)
        output = self._output(data, call.out)
        return output, self._run(data, output, plan, plan.batch_size, call)

    def _run_array(self, input: ArrayLike, call: _Call) -> tuple[Array, Any]:
        array = self._as_rows(input, "input", call)
        if array.ndim not in (2, 3):
            raise ValueError(
                f"input must be 2-D (one sequence) or 3-D (a padded batch), got {array.ndim}-D, "
                f"shape {tuple(array.shape)}"
            )
        self._check_width(array, "input")
        single = array.ndim == 2
        if single and call.lengths is not None:
            raise ValueError("lengths must be None for a 2-D input, which is one sequence")
        x = self._by_time(array)
        batch = None if single else x.shape[1]
        plan = None
        if call.lengths is not None:
            plan = _plan(as_lengths(call.lengths, x, "input"), x.shape[0])
        if is_tensor(x):
            y, states = self._run_tensors(x, plan, batch, call)
            return y[:, 0] if single else self._by_time(y), states
        output = self._output(array, call.out)
        y = self._by_time(output)
        return output, self._run(x, y, plan, batch, call, padded_steps=x.shape[0] if plan else 0)

    def _as_rows(self, values: Any, name: str, call: _Call) -> Array:
        """Floats as a tensor where torch is to run on it, else as an array."""
        if is_tensor(values) and call.backend == "torch":
            tensor: Array = torch_layers().as_floats(values, name, self.dtype)
            return tensor
        return as_floats(values, name, self.dtype)

    def _by_time(self, batch: Array) -> Array:
        """View (T, I) as (T, 1, I), and (B, T, I) of a batch_first module as (T, B, I), or back."""
        if batch.ndim == 2:
            return batch[:, None]
        return batch.swapaxes(0, 1) if self.batch_first else batch

    def _check_width(self, array: Array, name: str) -> None:
        if array.shape[-1] != self.input_size:
            raise ValueError(
                f"{name} must have rows of input_size = {self.input_size}, "
                f"got shape {tuple(array.shape)}"
            )

    def _output(self, x: Array, out: Array | None) -> Array:
        """The array to write to: a new one, or the caller's after a look at it."""
        shape = (*x.shape[:-1], self._directions * self._state_size)
        if out is None:
            return allocate(shape, self.dtype)
        _check_out(out, shape, self.dtype)
        if np.may_share_memory(out, x):
            raise ValueError("out must lie apart from input's memory, and not between its rows")
        return out

    def _run(
        self,
        x: Array,
        output: Array,
        plan: Plan | None,
        batch: int | None,
        call: _Call,
        padded_steps: int = 0,
    ) -> Any:
        """Run (N, I) or (T, B, I) into `output`; `batch` is None where states are (L * D, R)."""
        # The kernels read h while they write the output.
        given = tuple(
            state.copy() if state is not None and np.may_share_memory(state, output) else state
            for state in self._as_states(call.hx, batch, x)
        )
        states = tuple(allocate(shape, self.dtype) for shape in self._state_shapes(batch))
        rows = plan.rows if plan else x.shape[0] * x.shape[1]
        if not rows:
            output[...] = 0
            for state, first in zip(states, given, strict=True):
                state[...] = 0 if first is None else first
            return self._as_pair(states)
        x = x if _is_addressable(x) else np.require(x, requirements=["C", "A"])
        if self._moves(rows, plan.max_length if plan else x.shape[0], call.backend):
            torch_offload().forward(self._layers, x, output, plan, given, states)
        else:
            kernels.forward(
                self._network, x, output, plan, given, states, call.num_threads, padded_steps
            )
        return self._as_pair(states)

    def _run_tensors(
        self, x: Any, plan: Plan | None, batch: int | None, call: _Call
    ) -> tuple[Any, Any]:
        """Run (N, I) or (T, B, I) in torch, on the device of `x`."""
        if call.out is not None:
            raise ValueError("out must be None for tensors: it is for NumPy arrays")
        columns = 1 if batch is None else batch
        given = [
            None if state is None else state.reshape(state.shape[0], columns, state.shape[-1])
            for state in self._as_states(call.hx, batch, x)
        ]
        output, last = self._layers.run(x, plan, given, columns)
        shapes = self._state_shapes(batch)
        return output, self._as_pair(
            tuple(state.reshape(shape) for state, shape in zip(last, shapes, strict=True))
        )

    def _moves(self, rows: int, steps: int, backend: str) -> bool:
        """Whether NumPy arrays of so many rows run in torch."""
        if backend != "auto" or self._cell == "gru_reset_before" or not has_driver():
            return backend == "torch"
        weights = sum(array.size for array in self._parameters.values() if array.ndim == 2)
        return pays_to_move(2.0 * weights * rows, steps)

    def _as_pair(self, states: tuple[Any, ...]) -> Any:
        return states if self._states == 2 else states[0]

    def _state_shapes(self, batch: int | None) -> list[tuple[int, ...]]:
        slots = self.num_layers * self._directions
        middle = () if batch is None else (batch,)
        widths = (self._state_size, self.hidden_size)[: self._states]
        return [(slots, *middle, width) for width in widths]

    def _as_states(self, hx: Any, batch: int | None, x: Array) -> tuple[Any, ...]:
        """First states in the library of `x`, or None for each."""
        if hx is None:
            return (None,) * self._states
        names, given = ["h_0"], [hx]
        if self._states == 2:
            names = ["h_0", "c_0"]
            if not isinstance(hx, tuple | list) or len(hx) != 2:
                raise TypeError(f"hx must be a pair (h, c) for an LSTM, got {type(hx).__name__}")
            given = list(hx)
        in_torch = is_tensor(x)
        return tuple(
            torch_layers().as_state(state, name, shape, x)
            if in_torch
            else as_state(state, name, shape, self.dtype)
            for state, name, shape in zip(given, names, self._state_shapes(batch), strict=True)
        )


class RNN(_Recurrent):
    """Elman RNN: ``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``, or relu.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths I of an input row and H of a state.
    num_layers : int
        Stacked layers; each but the first reads the outputs of the one below.
    nonlinearity : {"tanh", "relu"}
    bias : bool
    batch_first : bool
        Padded batches are (B, T, I); states stay (L * D, B, R).
    dropout : float
        Accepted and inactive: this is inference.
    bidirectional : bool
        A second set of weights reads each sequence from its end; D is 2.
    dtype : {numpy.float32, numpy.float64}
    rng : int or numpy.random.Generator, optional
        Where the initial weights come from, uniform in ±1/sqrt(H).
    backend : {"auto", "cpu", "torch"}, optional
        Where calls run, as for packseq.set_backend, whose setting is the default. Can be set later.

    Attributes
    ----------
    weight_ih_l[k] : (H, I), for k > 0 (H, D * H)
    weight_hh_l[k] : (H, H)
    bias_ih_l[k], bias_hh_l[k] : (H,)
        With the suffix ``_reverse`` for the second direction. All are read-only.

    Raises
    ------
    TypeError
        A size is no integer; dtype is neither float32 nor float64.
    ValueError
        A size is below 1 or their product beyond the machine's; another nonlinearity; dropout
        outside [0, 1].

    Notes
    -----
    Source: torch.nn.RNN.
    """

    _gates = 1

    nonlinearity: str

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_size: SupportsIndex,
        num_layers: SupportsIndex = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = np.float32,
        rng: Rng = None,
        backend: str | None = None,
    ) -> None:
        self.nonlinearity = as_nonlinearity(nonlinearity)
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            rng,
            backend,
        )

    @property
    def _cell(self) -> str:
        return "rnn_" + self.nonlinearity

    def _options(self) -> dict[str, Any]:
        shown = {} if self.nonlinearity == "tanh" else {"nonlinearity": self.nonlinearity}
        return shown | super()._options()

    @classmethod
    def from_state_dict(
        cls,
        mapping: Mapping[str, Any],
        prefix: str = "",
        *,
        nonlinearity: str = "tanh",
        batch_first: bool = False,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Make the RNN that a state dict holds: sizes, layers, directions and bias follow from it.

        Parameters
        ----------
        mapping, prefix
            As for load_state_dict.
        nonlinearity, batch_first
            Which no state dict tells.
        dtype : optional
            float64 if the weights are, else float32.

        Raises
        ------
        TypeError, ValueError
            The entries under `prefix` are not those of an RNN; the message says what is wrong.
        """
        return cls._from_state_dict(
            mapping, prefix, dtype, nonlinearity=nonlinearity, batch_first=batch_first
        )


class GRU(_Recurrent):
    """Gated recurrent unit.

    ``r, z = sigmoid(W_i x + b_i + W_h h + b_h)``,
    ``n = tanh(W_in x + b_in + r * (W_hn h + b_hn))``, ``h' = (1 - z) * n + z * h``.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, rng,
    backend
        As for :class:`RNN`.
    reset_after : bool
        Where r comes in: after the product with W_hn (torch, cuDNN, Keras's default, ONNX's
        ``linear_before_reset=1``), or before it, ``n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)``
        (the first GRU, ONNX's default).

    Attributes
    ----------
    weight_ih_l[k] : (3 * H, I), for k > 0 (3 * H, D * H)
        Gates r, z, n.
    weight_hh_l[k] : (3 * H, H)
    bias_ih_l[k], bias_hh_l[k] : (3 * H,)
        With the suffix ``_reverse`` for the second direction. All are read-only.

    Raises
    ------
    TypeError, ValueError
        As for :class:`RNN`.

    Notes
    -----
    Source: torch.nn.GRU.
    """

    _gates = 3

    reset_after: bool

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_size: SupportsIndex,
        num_layers: SupportsIndex = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        dtype: DTypeLike = np.float32,
        rng: Rng = None,
        backend: str | None = None,
    ) -> None:
        self.reset_after = as_flag(reset_after, "reset_after")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            rng,
            backend,
        )

    @property
    def _cell(self) -> str:
        return "gru" if self.reset_after else "gru_reset_before"

    def _options(self) -> dict[str, Any]:
        return super()._options() | ({} if self.reset_after else {"reset_after": False})

    @classmethod
    def from_state_dict(
        cls,
        mapping: Mapping[str, Any],
        prefix: str = "",
        *,
        reset_after: bool = True,
        batch_first: bool = False,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Make the GRU that a state dict holds: sizes, layers, directions and bias follow from it.

        Parameters
        ----------
        mapping, prefix
            As for load_state_dict.
        reset_after, batch_first
            Which no state dict tells.
        dtype : optional
            float64 if the weights are, else float32.

        Raises
        ------
        TypeError, ValueError
            The entries under `prefix` are not those of a GRU; the message says what is wrong.
        """
        return cls._from_state_dict(
            mapping, prefix, dtype, reset_after=reset_after, batch_first=batch_first
        )


class LSTM(_Recurrent):
    """Long short-term memory.

    ``i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of W_ih x + b_ih + W_hh h + b_hh``,
    ``c' = f * c + i * g``, ``h' = o * tanh(c')``; with a projection, ``h' = W_hr (o * tanh(c'))``.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype, rng,
    backend
        As for :class:`RNN`.
    proj_size : int
        Width of a projected h, less than hidden_size; 0 for none.

    Attributes
    ----------
    weight_ih_l[k] : (4 * H, I), for k > 0 (4 * H, D * R)
        Gates i, f, g, o.
    weight_hh_l[k] : (4 * H, R)
    bias_ih_l[k], bias_hh_l[k] : (4 * H,)
    weight_hr_l[k] : (R, H), with a projection
        With the suffix ``_reverse`` for the second direction. All are read-only.

    Raises
    ------
    TypeError
        As for :class:`RNN`.
    ValueError
        As for :class:`RNN`; proj_size is negative, or hidden_size or more.

    Notes
    -----
    Source: torch.nn.LSTM.
    """

    _gates = 4
    _states = 2

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_size: SupportsIndex,
        num_layers: SupportsIndex = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: SupportsIndex = 0,
        *,
        dtype: DTypeLike = np.float32,
        rng: Rng = None,
        backend: str | None = None,
    ) -> None:
        self.proj_size = _as_proj_size(proj_size, as_size(hidden_size, "hidden_size"))
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype,
            rng,
            backend,
        )

    @property
    def _cell(self) -> str:
        return "lstm"

    @classmethod
    def from_state_dict(
        cls,
        mapping: Mapping[str, Any],
        prefix: str = "",
        *,
        batch_first: bool = False,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Make the LSTM that a state dict holds.

        Sizes, layers, directions, bias and projection follow from it.

        Parameters
        ----------
        mapping, prefix
            As for load_state_dict.
        batch_first
            Which no state dict tells.
        dtype : optional
            float64 if the weights are, else float32.

        Raises
        ------
        TypeError, ValueError
            The entries under `prefix` are not those of an LSTM; the message says what is wrong.
        """
        return cls._from_state_dict(mapping, prefix, dtype, batch_first=batch_first)


def _as_given(rows: object, result: tuple[Array, Any]) -> tuple[Any, Any]:
    """A result's arrays as tensors, where the input is one."""
    output, states = torch_layers().as_tensors(result) if is_tensor(rows) else result
    return output, states


def _plan(lengths: IndexArray, steps: int) -> Plan | None:
    """None where nothing is padding, as if no lengths had been given."""
    return None if all_equal(lengths, steps) else Plan.from_lengths(lengths)


def _other_prefixes(mapping: Mapping[str, Any]) -> str:
    end = "weight_ih_l0"
    found = sorted(name.removesuffix(end) for name in mapping if name.endswith(end))
    return f"; there are {', '.join(map(repr, found))}" if found else ""


def _count_layers(mapping: Mapping[str, Any], prefix: str) -> int:
    """Layers in a row from the first; what lies beyond a gap is unexpected when they are loaded."""
    layer = 1
    while f"{prefix}weight_ih_l{layer}" in mapping:
        layer += 1
    return layer


def _check_gates(cls: type[_Recurrent], prefix: str, rows: int, hidden: int) -> None:
    kinds: dict[int, type[_Recurrent]] = {kind._gates: kind for kind in (RNN, GRU, LSTM)}
    if rows == cls._gates * hidden:
        return
    gates, rest = divmod(rows, max(hidden, 1))
    hint = f"; {kinds[gates].__name__} has {gates}" if not rest and gates in kinds else ""
    raise ValueError(
        f"{prefix}weight_hh_l0 has {rows} rows for hidden_size {hidden}, but the {cls._gates} "
        f"gate(s) of {cls.__name__} need {cls._gates * hidden}{hint}"
    )


def _as_dropout(value: float) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"dropout must be a number, got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"dropout must be in [0, 1], got {value}")
    return float(value)


def _as_proj_size(value: SupportsIndex, hidden_size: int) -> int:
    size = as_size(value, "proj_size", least=0)
    if size >= hidden_size:
        raise ValueError(f"proj_size must be less than hidden_size = {hidden_size}, got {size}")
    return size


def _check_out(out: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse what the kernels cannot write to."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an ndarray, got {kind_of(out)}")
    if isinstance(out, np.ma.MaskedArray):
        raise TypeError("out must not be a masked array: its mask would not be written")
    if out.dtype != dtype or not out.dtype.isnative:
        raise TypeError(f"out must be of {dtype}, got dtype {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out must be writeable, got a read-only array")
    if not _is_addressable(out):
        raise ValueError("out must be aligned, and contiguous along its last axis")
    if _overlaps_itself(out):
        raise ValueError("out must not overlap itself")


def _is_addressable(array: Array) -> bool:
    """Rows contiguous and aligned, whatever the order and the sign of the other strides."""
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
