"""What RNN, GRU and LSTM share: how they are made, and the one way through a call.

A call goes from what a user gives to rows by time and a plan of their lengths, chooses a runner
once, and gives back what the runner computed in the form of the input. Plain calls take a shorter
way to the same bits: see ``_core/plain.pyx``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from packseq._core.order import all_equal
from packseq._core.plain import call as call_arrays
from packseq.checks import as_flag
from packseq.layout import as_lengths
from packseq.networks.architecture import PLAIN, SIGMOID, Architecture
from packseq.networks.arguments import Array, as_dropout
from packseq.networks.call import Axes, Call
from packseq.networks.parameters import Parameterised, Rng
from packseq.networks.plain_tensors import call_plain
from packseq.networks.runners import (
    as_rows,
    choose,
    has_driver,
    like_input,
    place,
)
from packseq.packed import PackedSequence
from packseq.rows.plan import IndexArray, Plan
from packseq.settings.backend import as_backend, settings
from packseq.settings.threads import as_thread_count, crew


class Recurrent(Parameterised):
    """Layers and directions of one cell, and how rows go through them."""

    _one_step = False

    batch_first: bool
    dropout: float

    def __init__(
        self,
        architecture: Architecture,
        batch_first: bool,
        dropout: float,
        dtype: DTypeLike,
        rng: Rng,
        backend: str | None,
    ) -> None:
        self._set_options(batch_first, dropout, backend)
        self._begin(architecture, dtype)
        self._initialise(rng)

    def _set_options(
        self, batch_first: bool = False, dropout: float = 0.0, backend: str | None = None
    ) -> None:
        self.backend = backend
        self.batch_first = as_flag(batch_first, "batch_first")
        self.dropout = as_dropout(dropout)

    def _set_rest(self, fields: Mapping[str, Any]) -> None:
        """Take the options that a pickle has."""
        self._set_options(fields["batch_first"], fields["dropout"], fields["_backend"])

    # ---- what it is ----

    @property
    def num_layers(self) -> int:
        """Stacked layers L."""
        return self._architecture.num_layers

    @property
    def bidirectional(self) -> bool:
        """Whether a second set of weights reads each sequence from its end."""
        return self._architecture.bidirectional

    @property
    def proj_size(self) -> int:
        """Width of a projected h, or 0."""
        return self._architecture.proj_size

    _backend: str | None

    @property
    def backend(self) -> str | None:
        """Where calls run, as for packseq.set_backend; None for what is set there."""
        return self._backend

    @backend.setter
    def backend(self, value: str | None) -> None:
        self._backend = None if value is None else as_backend(value, "backend")

    @property
    def _batch_first(self) -> bool:
        return self.batch_first

    def _shown(self) -> dict[str, Any]:
        architecture, plain = self._architecture, PLAIN[self._kind]
        first = {name: plain.options[name] for name in ("nonlinearity",) if name in plain.options}
        usual = first | {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
            **plain.options,
        }
        values = {name: getattr(self, name) for name in usual}
        usual |= {
            "recurrent_activation": SIGMOID,
            "dtype": "float32",
            "precision": None,
            "backend": None,
        }
        values |= {
            "recurrent_activation": architecture.recurrent_activation,
            "dtype": self.dtype.name,
            "precision": architecture.precision,
            "backend": self.backend,
        }
        return {name: value for name, value in values.items() if value != usual[name]}

    # ---- where its weights come from ----

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

        Examples
        --------
        >>> import torch
        >>> packseq.LSTM.from_torch(torch.nn.LSTM(16, 32, batch_first=True))
        LSTM(16, 32, batch_first=True)
        """
        kind, _, nonlinearity = str(getattr(module, "mode", "")).partition("_")
        if kind != cls._kind:
            raise TypeError(f"module must be torch's {cls.__name__}, got {type(module).__name__}")
        names = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"]
        names += ["bidirectional"] + ["proj_size"] * PLAIN[kind].may_project
        options = {name: getattr(module, name) for name in names}
        if nonlinearity:
            options["nonlinearity"] = nonlinearity.lower()
        double = str(module.weight_ih_l0.dtype) == "torch.float64"
        made = cls(**options, dtype=np.float64 if double else np.float32, rng=0)
        made.load_state_dict({name: getattr(module, name) for name in made._architecture.shapes})
        return made

    # ---- what it does ----

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
            sequence of shape (T, I). float32 or float64, the other width is converted; or float16
            or bfloat16, which are widened. Tensors of torch too; see packseq.set_backend.
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
            forward before reverse. For tensors, tensors on their device, where torch runs those of
            half precision in that.
        h_n : ndarray of shape (L * D, B, R), or a pair (h_n, c_n)
            Last states in the caller's order, also of a batch_first module. A sequence of length 0
            returns its first state.

        Raises
        ------
        TypeError
            `input` or a state is masked, or not of floats; `input` is a list of arrays, which
            packseq.pack_sequence makes a batch of; an LSTM's `hx` is no pair; `lengths` or
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
        alone needs more: N * D * R numbers, and 8 bytes a step for each thread. To this come 8
        bytes a sequence, or with `lengths` up to 48 and another 24 a step; and a copy of an `input`
        or a state that is of another dtype, byte-swapped, misaligned, or not contiguous along its
        last axis (a state: at all).
        Source: torch.nn.RNN, GRU and LSTM, in eval mode.

        Examples
        --------
        >>> lstm = packseq.LSTM(16, 32, rng=0)
        >>> batch = np.ones((8, 2, 16), np.float32)
        >>> output, (h_n, c_n) = lstm(batch, lengths=[8, 5])
        >>> output.shape, h_n.shape
        ((8, 2, 32), (1, 2, 32))
        >>> packed, _ = lstm(packseq.pack_padded_sequence(batch, [8, 5]), (h_n, c_n))
        >>> packed
        PackedSequence(2 sequences of 5 to 8 steps, data (13, 32) float32)
        """
        backend = self._backend or settings().backend
        if out is None and num_threads is None and backend != "torch":
            if type(input) is np.ndarray:
                weights = self._weights
                network = weights.network or weights.packed()
                elsewhere = None if backend == "cpu" else has_driver
                result = call_arrays(network, input, hx, lengths, crew, elsewhere)
            else:
                result = call_plain(self._weights, input, hx, lengths)
            if result is not None:
                return result
        asked = (hx, out, None if num_threads is None else as_thread_count(num_threads))
        if isinstance(input, PackedSequence):
            where = place(input.data, backend)
            taken = self._packed_rows(input, lengths, where)
            data, states = self._run(Call(self._architecture, self.dtype, *taken, *asked), where)
            output: Any = PackedSequence._of(like_input(input.data, data), input._plan)
            return output, like_input(input.data, states)
        where = place(input, backend)
        taken = self._array_rows(input, lengths, where)
        result = self._run(Call(self._architecture, self.dtype, *taken, *asked), where)
        output, states = like_input(input, result)
        return output, states

    def _run(self, call: Call, where: str) -> tuple[Any, Any]:
        """The output, and the state as the caller gets it: h, or (h, c)."""
        output, states = choose(self._weights, call, where).run(call)
        return output, states if len(states) > 1 else states[0]

    def _packed_rows(
        self, input: PackedSequence, lengths: ArrayLike | None, where: str
    ) -> tuple[Any, Axes, Plan | None]:
        """The rows of a packed batch, checked, as Call has them."""
        if lengths is not None:
            raise ValueError("lengths must be None for a PackedSequence, which has its own")
        rows = as_rows(input.data, "input.data", self.dtype, where)
        if rows.ndim != 2:
            raise ValueError(
                f"input.data must have shape (N, {self.input_size}), got {tuple(rows.shape)}"
                f"{self._hint(rows)}"
            )
        self._check_width(rows, "input.data")
        return rows, "packed", input._plan

    def _array_rows(
        self, input: ArrayLike, lengths: ArrayLike | None, where: str
    ) -> tuple[Any, Axes, Plan | None]:
        """A padded batch or one sequence, checked, as Call has them."""
        rows = as_rows(input, "input", self.dtype, where)
        if rows.ndim not in (2, 3):
            raise ValueError(
                f"input must be 2-D (one sequence) or 3-D (a padded batch), got {rows.ndim}-D, "
                f"shape {tuple(rows.shape)}{self._hint(rows)}"
            )
        self._check_width(rows, "input")
        if rows.ndim == 2:
            if lengths is not None:
                raise ValueError("lengths must be None for a 2-D input, which is one sequence")
            return rows, "one sequence", None
        axes: Axes = "batch first" if self.batch_first else "time first"
        if lengths is None:
            return rows, axes, None
        by_time = rows.swapaxes(0, 1) if self.batch_first else rows
        return rows, axes, _plan(as_lengths(lengths, by_time, "input"), by_time.shape[0])

    def _hint(self, rows: Any) -> str:
        """What helps with a series of one number a step."""
        if rows.ndim != 1 or self.input_size != 1:
            return ""
        return ": where a step is one number, pass x[:, None] for each sequence x"

    def _check_width(self, rows: Any, name: str) -> None:
        if rows.shape[-1] != self.input_size:
            raise ValueError(
                f"{name} must have rows of input_size = {self.input_size}, "
                f"got shape {tuple(rows.shape)}"
            )


def _plan(lengths: IndexArray, steps: int) -> Plan | None:
    """None where nothing is padding, as if no lengths had been given."""
    return None if all_equal(lengths, steps) else Plan.from_lengths(lengths)
