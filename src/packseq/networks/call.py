"""One call of a module, and the contract of whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from packseq.checks import shown
from packseq.networks.architecture import Architecture, Shape
from packseq.networks.arguments import Array, allocate, as_out, as_state, is_addressable
from packseq.rows.plan import Plan

T = TypeVar("T")

# How the rows lie: packed (N, I); one sequence (T, I); a padded batch (T, B, I) or (B, T, I).
Axes = Literal["packed", "one sequence", "time first", "batch first"]


@dataclass(frozen=True)
class Call:
    """What is run, on what, and what the caller asked for.

    Attributes
    ----------
    architecture, dtype
        The module's.
    rows : array or tensor
        The input in the caller's axes, its floats as the runner takes them.
    axes : Axes
    plan : Plan or None
        None where every sequence has all steps.
    hx, out, num_threads
        As the caller gave them; `num_threads` is checked.
    """

    architecture: Architecture
    dtype: np.dtype[Any]
    rows: Any
    axes: Axes
    plan: Plan | None
    hx: Any
    out: Array | None
    num_threads: int | None

    def by_time(self, rows: Any) -> Any:
        """View rows in the caller's axes as (N, *) or (T, B, *)."""
        if self.axes == "one sequence":
            return rows[:, None]
        return rows.swapaxes(0, 1) if self.axes == "batch first" else rows

    def as_given(self, rows: Any) -> Any:
        """View (N, *) or (T, B, *) in the caller's axes."""
        if self.axes == "one sequence":
            return rows[:, 0]
        return rows.swapaxes(0, 1) if self.axes == "batch first" else rows

    @property
    def columns(self) -> int:
        """Sequences B; 1 for one sequence."""
        if self.axes == "packed":
            assert self.plan is not None
            return self.plan.batch_size
        return 1 if self.axes == "one sequence" else int(self.by_time(self.rows).shape[1])

    @property
    def steps(self) -> int:
        """Steps T of the longest sequence."""
        return self.plan.max_length if self.plan else int(self.by_time(self.rows).shape[0])

    @property
    def row_count(self) -> int:
        """Rows N that are computed."""
        return self.plan.rows if self.plan else self.steps * self.columns

    @property
    def padded_steps(self) -> int:
        """Steps of a padded output whose rows past each end become zeros; 0 without padding."""
        padded = self.plan is not None and self.axes != "packed"
        return int(self.by_time(self.rows).shape[0]) if padded else 0

    @property
    def state_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the states, as the caller gives and gets them."""
        batch = None if self.axes == "one sequence" else self.columns
        return self.architecture.state_shapes(batch)

    def first_states(self, take: Callable[[Any, str, Shape], T]) -> list[T | None]:
        """Each first state as `take` makes it of value, name and shape; None for all if none came.

        Raises
        ------
        TypeError
            There are two, and `hx` is no pair.
        """
        shapes = self.state_shapes
        if self.hx is None:
            return [None] * len(shapes)
        return [*map(take, split_states(self.hx, len(shapes)), ("h_0", "c_0"), shapes)]


def split_states(hx: Any, count: int) -> Sequence[Any]:
    """The one state or the two that a caller's `hx` has.

    Raises
    ------
    TypeError
        There are two, and `hx` is no pair, or there is one, and it is; `hx` are lengths.
    """
    if _are_integers(hx):
        raise TypeError(
            f"hx must be a first state, got integers, {shown(hx)}: lengths go by name, lengths="
        )
    if count == 1:
        if isinstance(hx, tuple | list) and any(getattr(part, "ndim", 0) for part in hx):
            raise TypeError(
                f"hx must be one array, got a {type(hx).__name__} of {len(hx)}: only an LSTM has "
                "a pair (h, c)"
            )
        return [hx]
    if not isinstance(hx, tuple | list) or len(hx) != 2:
        raise TypeError(f"hx must be a pair (h, c) for an LSTM, got {type(hx).__name__}")
    return hx


def _are_integers(hx: Any) -> bool:
    """Whether `hx` is what lengths are: integers along one axis."""
    if isinstance(hx, tuple | list):
        return len(hx) > 0 and all(isinstance(value, Integral) for value in hx)
    return getattr(hx, "ndim", 0) == 1 and "int" in str(getattr(hx, "dtype", ""))


class Runner(Protocol):
    """Where a call computes, chosen once for it: see ``runners.choose``."""

    def run(self, call: Call) -> tuple[Any, tuple[Any, ...]]:
        """Check the states and `out`, compute, and return the output and the last states.

        Raises
        ------
        TypeError, ValueError
            `hx` or `out` does not fit; the message names it.
        MemoryError
            There is none for the results, or for what the call needs beside them.
        """


class ArrayRunner:
    """A runner of NumPy arrays: what is the same wherever they are computed."""

    def run(self, call: Call) -> tuple[Array, tuple[Array, ...]]:
        """As Runner has it."""
        shape = (*call.rows.shape[:-1], call.architecture.output_size)
        output = as_out(call.out, shape, call.dtype)
        if call.out is not None and np.may_share_memory(output, call.rows):
            raise ValueError("out must lie apart from input's memory, and not between its rows")

        def take(state: Any, name: str, shape: Shape) -> Array:
            # Whoever computes reads a state while the output is written.
            array = as_state(state, name, shape, call.dtype)
            return array.copy() if np.may_share_memory(array, output) else array

        first = call.first_states(take)
        last = tuple(allocate(shape, call.dtype) for shape in call.state_shapes)
        if call.row_count:
            x = call.by_time(call.rows)
            x = x if is_addressable(x) else np.require(x, requirements=["C", "A"])
            self.forward(call, x, call.by_time(output), first, last)
        else:
            output[...] = 0
            for state, before in zip(last, first, strict=True):
                state[...] = 0 if before is None else before
        return output if call.out is None else call.out, last

    def forward(
        self,
        call: Call,
        x: Array,
        y: Array,
        hx: Sequence[Array | None],
        hn: Sequence[Array],
    ) -> None:
        """Run (N, I) or (T, B, I) into `y` and `hn`; there is at least one row."""
        raise NotImplementedError
