"""Many live sessions of one module: their states are here, and one call moves any of them on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, SupportsIndex, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from packseq._core.recurrent import Network
from packseq._core.streams import Sessions, as_ids
from packseq.arguments import as_int64_vector
from packseq.checks import INT64_MAX, as_integer, as_size
from packseq.layout import pack_named, unpack_sequence
from packseq.networks.arguments import allocate, as_floats, as_state, is_addressable
from packseq.networks.call import split_states
from packseq.networks.recurrent import Recurrent
from packseq.networks.runners import like_input
from packseq.networks.typed_calls import OneState, TwoStates
from packseq.packed import PackedSequence
from packseq.rows.plan import IndexArray, Plan
from packseq.settings.backend import settings
from packseq.settings.threads import crew
from packseq.tensor_checks import TensorLike

Array = NDArray[Any]
Module_co = TypeVar("Module_co", bound=Recurrent, covariant=True)
Tensor = TypeVar("Tensor")

# Ids are handed out one after the other, so this is never reached but by a snapshot that says so.
_MOST_IDS = INT64_MAX // 2


class Streams(Generic[Module_co]):
    """Live sessions of one module, each with a state of its own, which one call moves on together.

    Parameters
    ----------
    module : LSTM, GRU or RNN
        Of any options and layers, but of one direction. Its weights are read at each push.
    capacity : int, optional
        How many sessions may be open at once; as many as memory has by default.

    Raises
    ------
    TypeError
        `module` is none of the three, or `capacity` no integer.
    ValueError
        `module` has two directions or runs on torch's backend; `capacity` is below 1.
    RuntimeError
        This build has no kernels (``PACKSEQ_NO_KERNELS``).

    See Also
    --------
    packseq.LSTM : A call that is given its states, for a few sequences.

    Notes
    -----
    Threads may do anything with one Streams at once, but push a session in two calls at a time.
    Cost: two states for each session, the present one and room for the next, of
    L * R numbers and for an LSTM L * H more. They never move. Runs on packseq's kernels alone,
    whatever else set_backend and ``PACKSEQ_ISA`` allow: the bits are those of each session alone.

    Examples
    --------
    >>> lstm = LSTM(16, 32, rng=0)
    >>> streams = Streams(lstm)
    >>> first, second, third = (streams.open() for _ in range(3))
    >>> frames = np.ones((2, 16), np.float32)
    >>> streams.push([third, first], frames).shape
    (2, 32)
    >>> h, c = streams.state(first)
    >>> bool((h == lstm(frames[:1])[1][0]).all())
    True
    """

    def __init__(self, module: Module_co, capacity: SupportsIndex | None = None) -> None:
        if not isinstance(module, Recurrent):
            raise TypeError(f"module must be an LSTM, GRU or RNN, got {type(module).__name__}")
        if module.bidirectional:
            raise ValueError(
                f"module must have one direction, got {module!r}: the other begins at the end of "
                "a sequence, and a live session has none yet"
            )
        self._module = module
        self._capacity = None if capacity is None else as_size(capacity, "capacity")
        self._network()
        self._sessions = self._new_sessions()

    @property
    def module(self) -> Module_co:
        """What runs."""
        return self._module

    @property
    def capacity(self) -> int | None:
        """How many sessions may be open at once, or None."""
        return self._capacity

    def __repr__(self) -> str:
        bound = "" if self._capacity is None else f", capacity={self._capacity}"
        return f"Streams({self._module!r}{bound}): {len(self)} open"

    def __len__(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def __iter__(self) -> Iterator[int]:
        """The ids of those that are open now, in the order in which they were opened."""
        return iter(np.sort(self._sessions.ids()).tolist())

    # ---- one session ----

    def open(self) -> int:
        """Open a session, whose state is zeros.

        Returns
        -------
        int
            Its id: 0, 1, 2 and so on. None is handed out twice.

        Raises
        ------
        RuntimeError
            As many are open as `capacity` says.
        MemoryError
            There is none for its state.

        Notes
        -----
        Cost: under a microsecond; no other session's state is touched.

        Examples
        --------
        >>> streams = Streams(GRU(16, 32, rng=0))
        >>> streams.open(), streams.open()
        (0, 1)
        >>> len(streams)
        2
        """
        return self._sessions.open()

    def close(self, id: SupportsIndex) -> None:
        """Close a session. Its id is an error from now on.

        Raises
        ------
        TypeError
            `id` is no integer.
        ValueError
            No session of this id is open; the message tells whether one was.
        RuntimeError
            It is in a push that another thread makes.

        Examples
        --------
        >>> streams = Streams(GRU(16, 32, rng=0))
        >>> first, second = streams.open(), streams.open()
        >>> streams.close(first)
        >>> list(streams)
        [1]
        """
        self._sessions.close(_as_id(id))

    def reset(self, id: SupportsIndex) -> None:
        """Set a session's state to zeros, as it was when it was opened.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As for :meth:`close`.

        Examples
        --------
        >>> streams = Streams(GRU(16, 32, rng=0))
        >>> id = streams.open()
        >>> _ = streams.push([id], np.ones((1, 16), np.float32))
        >>> streams.reset(id)
        >>> bool(streams.state(id).any())
        False
        """
        self._sessions.write(_as_id(id), None, None)

    @overload
    def state(self: Streams[OneState], id: SupportsIndex) -> Array: ...
    @overload
    def state(self: Streams[TwoStates], id: SupportsIndex) -> tuple[Array, Array]: ...
    def state(self, id: SupportsIndex) -> Any:
        """Copy a session's state: after the last push that has ended, if there is one just now.

        Returns
        -------
        ndarray of shape (L, R), or a pair of shapes (L, R) and (L, H)
            As the module gives and takes it for one sequence.

        Raises
        ------
        TypeError, ValueError
            As for :meth:`close`.

        Examples
        --------
        >>> streams = Streams(GRU(16, 32, rng=0))
        >>> streams.state(streams.open()).shape
        (1, 32)
        """
        state = self._sessions.read(_as_id(id))
        return state if len(state) > 1 else state[0]

    def set_state(self, id: SupportsIndex, hx: Any) -> None:
        """Set a session's state.

        Parameters
        ----------
        id : int
        hx : array_like of shape (L, R), or for an LSTM a pair of shapes (L, R) and (L, H)
            Of floats, as in a module's call; copied.

        Raises
        ------
        TypeError
            As for :meth:`close`; a state is not of floats, or no pair for an LSTM.
        ValueError
            As for :meth:`close`; a shape does not fit.
        RuntimeError
            As for :meth:`close`.

        Examples
        --------
        >>> streams = Streams(GRU(16, 2, rng=0))
        >>> id = streams.open()
        >>> streams.set_state(id, [[0.5, -0.5]])
        >>> streams.state(id)
        array([[ 0.5, -0.5]], dtype=float32)
        """
        shapes = self._state_shapes(None)
        names = self._module._architecture.cell.states
        h, *c = (
            as_state(state, name, shape, self._module.dtype)
            for state, name, shape in zip(split_states(hx, len(shapes)), names, shapes, strict=True)
        )
        self._sessions.write(_as_id(id), h, c[0] if c else None)

    # ---- some of them ----

    @overload
    def push(self, ids: ArrayLike, frames: PackedSequence) -> PackedSequence: ...
    @overload
    def push(self, ids: ArrayLike, frames: list[Any] | tuple[Any, ...]) -> list[Array]: ...
    @overload
    def push(self, ids: ArrayLike, frames: TensorLike[Tensor]) -> Tensor: ...
    @overload
    def push(self, ids: ArrayLike, frames: ArrayLike) -> Array: ...
    def push(self, ids: ArrayLike, frames: Any) -> Any:
        """Run sessions on their next frames, and keep their new states.

        Parameters
        ----------
        ids : array_like of int, shape (n,)
            Any sessions that are open, in any order, each once.
        frames : array_like of shape (n, I); list of array_like (L, I); or PackedSequence of (I,)
            In the order of `ids`: one frame of each, or several; a session without any keeps its
            state. Of floats, as in a module's call. torch's tensors on the CPU too.

        Returns
        -------
        ndarray of shape (n, R), list of ndarray (L, R), or PackedSequence
            The last layer's h at each frame, in the form of `frames`. The arrays of a list are
            views of one new buffer.

        Raises
        ------
        TypeError
            `ids` are not integers; `frames` are not of floats.
        ValueError
            A session is not open, or is there twice; `frames` do not fit `ids` or the module; the
            backend is torch's. The message names the position.
        RuntimeError
            A session is in a push that another thread makes.
        MemoryError
            There is none for the outputs, or for what a call needs beside them.

        Notes
        -----
        Whatever is raised, no state has changed. Outputs and states do not depend on what is pushed
        together, or in how many pushes, or on the threads, to the last bit.
        Cost: that of the module's call on the same rows, and some 20 ns for each session.

        Examples
        --------
        >>> streams = Streams(GRU(16, 32, rng=0))
        >>> a, b = streams.open(), streams.open()
        >>> streams.push([b, a], np.ones((2, 16), np.float32)).shape
        (2, 32)
        >>> chunks = [np.ones((n, 16), np.float32) for n in (3, 1)]
        >>> [rows.shape for rows in streams.push([a, b], chunks)]
        [(3, 32), (1, 32)]
        """
        network = self._network()
        wanted = as_ids(ids)
        if wanted is None:
            wanted = as_int64_vector(ids, "ids")
        plain = self._sessions.push_plain(network, wanted, frames, crew)
        if plain is not None:
            return plain
        if isinstance(frames, PackedSequence):
            return self._push_packed(network, wanted, frames, "frames.data")
        if isinstance(frames, list | tuple):
            if not len(frames) and not len(wanted):
                return []
            packed = pack_named(frames, "frames")
            return unpack_sequence(self._push_packed(network, wanted, packed, "frames"))
        rows = self._as_rows(frames, "frames")
        _check_count(len(wanted), len(rows), "rows")
        return like_input(frames, self._run(network, wanted, rows, None))

    def _push_packed(
        self, network: Network, ids: IndexArray, frames: PackedSequence, name: str
    ) -> PackedSequence:
        data, plan = frames.data, frames._plan
        rows = self._as_rows(data, name)
        _check_count(len(ids), plan.batch_size, "sequences")
        return PackedSequence._of(like_input(data, self._run(network, ids, rows, plan)), plan)

    def _as_rows(self, values: Any, name: str) -> Array:
        rows = as_floats(values, name, self._module.dtype)
        if rows.ndim != 2 or rows.shape[1] != self._module.input_size:
            raise ValueError(
                f"{name} must have rows of input_size = {self._module.input_size}, got shape "
                f"{rows.shape}"
            )
        return rows if is_addressable(rows) else np.require(rows, requirements=["C", "A"])

    def _run(self, network: Network, ids: IndexArray, rows: Array, plan: Plan | None) -> Array:
        """The outputs of rows by time; without a plan, of one row for each session."""
        output = allocate((len(rows), self._module._architecture.output_size), self._module.dtype)
        where: tuple[Any, ...] = (1, None, None, None)
        if plan is not None:
            where = plan.max_length, plan.batch_sizes, plan.offsets, plan.sorted_indices
        self._sessions.push(network, ids, rows, output, where, *crew())
        return output

    # ---- all of them ----

    def state_dict(self) -> dict[str, Array]:
        """Copy the states of all sessions, as they are at one moment between two pushes of each.

        Returns
        -------
        dict of str to ndarray
            ``ids`` (n,) int64; ``next_id``, the id that open() hands out next; ``h`` (L, n, R), and
            for an LSTM ``c`` (L, n, H), in the order of ``ids``. numpy.savez takes it as it is.

        Notes
        -----
        Cost: one copy, for which other threads wait. The weights are the module's state_dict.

        Examples
        --------
        >>> streams = Streams(GRU(16, 32, rng=0))
        >>> ids = [streams.open() for _ in range(3)]
        >>> {name: array.shape for name, array in streams.state_dict().items()}
        {'ids': (3,), 'next_id': (), 'h': (1, 3, 32)}
        """
        ids, next_id, states = self._sessions.snapshot()
        names = self._module._architecture.cell.states
        return {
            "ids": ids,
            "next_id": np.array(next_id),
            **dict(zip(names, states, strict=True)),
        }

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Replace all sessions by those of a state_dict, under their ids.

        Parameters
        ----------
        mapping : mapping of str to array_like
            As :meth:`state_dict` made it, of a module of the same layers and sizes. Floats are
            converted.

        Raises
        ------
        TypeError
            No mapping, or an entry is not of its kind of numbers.
        ValueError
            An entry is missing or unexpected, or of another shape; an id is there twice, or is not
            below ``next_id``; there are more than `capacity`. Nothing has been replaced then.
        MemoryError
            There is none for the states; nor then.

        Notes
        -----
        What other threads push or open until it returns may be lost with the sessions that go.

        Examples
        --------
        >>> streams = Streams(GRU(16, 32, rng=0))
        >>> id = streams.open()
        >>> np.savez("streams.npz", **streams.state_dict())
        >>> later = Streams(streams.module)
        >>> later.load_state_dict(np.load("streams.npz"))
        >>> list(later)
        [0]
        """
        names = self._module._architecture.cell.states
        _check_names(mapping, ("ids", "next_id", *names))
        ids, next_id = _as_all_ids(mapping["ids"], mapping["next_id"])
        if self._capacity is not None and len(ids) > self._capacity:
            raise ValueError(f"ids has {len(ids)} sessions, the capacity is {self._capacity}")
        states = tuple(
            as_state(mapping[name], name, shape, self._module.dtype)
            for name, shape in zip(names, self._state_shapes(len(ids)), strict=True)
        )
        sessions = self._new_sessions()
        sessions.restore(ids, next_id, states)
        self._sessions = sessions

    def __getstate__(self) -> dict[str, Any]:
        return {
            "module": self._module,
            "capacity": self._capacity,
            "sessions": self.state_dict(),
        }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        Streams.__init__(self, state["module"], state["capacity"])
        self.load_state_dict(state["sessions"])

    # ---- what it has of its module ----

    def _network(self) -> Network:
        """The module's weights as they are now, for the kernels.

        Raises
        ------
        RuntimeError
            This build has no kernels.
        ValueError
            The backend is torch's.
        """
        if (self._module._backend or settings().backend) == "torch":
            raise ValueError(
                "Streams runs on packseq's kernels, but the backend is 'torch': give the module "
                "backend='cpu'"
            )
        weights = self._module._weights
        network = weights.network
        return network if isinstance(network, Network) else weights.packed_for_kernels()

    def _state_shapes(self, batch: int | None) -> tuple[tuple[int, ...], ...]:
        return self._module._architecture.state_shapes(batch)

    def _new_sessions(self) -> Sessions:
        capacity = INT64_MAX if self._capacity is None else min(self._capacity, INT64_MAX)
        return Sessions(self._state_shapes(None), self._module.dtype, capacity)


def _as_id(value: SupportsIndex) -> int:
    """An id, or -1, which no session has, for what is beyond int64."""
    id = as_integer(value, "id")
    return id if abs(id) <= INT64_MAX else -1


def _check_count(ids: int, given: int, what: str) -> None:
    if ids != given:
        raise ValueError(f"frames has {given} {what}, but ids has {ids}")


def _check_names(mapping: object, wanted: tuple[str, ...]) -> None:
    if not isinstance(mapping, Mapping):
        raise TypeError(f"mapping must be a state dict, got {type(mapping).__name__}")
    if set(mapping) != set(wanted):
        raise ValueError(
            f"mapping must have {', '.join(wanted)}, got {', '.join(map(str, mapping)) or 'none'}"
        )


def _as_all_ids(ids: ArrayLike, next_id: Any) -> tuple[IndexArray, int]:
    """Check the ids of a state_dict, and the next one."""
    end = as_size(next_id, "next_id", least=0)
    if end > _MOST_IDS:
        raise ValueError(f"next_id must be at most {_MOST_IDS}, got {end}")
    checked = as_int64_vector(ids, "ids")
    if len(bad := np.flatnonzero((checked < 0) | (checked >= end))):
        raise ValueError(
            f"ids must be from 0 to below next_id = {end}, got ids[{bad[0]}] = {checked[bad[0]]}"
        )
    in_order = np.sort(checked)
    if len(bad := np.flatnonzero(in_order[1:] == in_order[:-1])):
        raise ValueError(f"ids must not repeat, got {in_order[bad[0]]} twice")
    return checked, end
