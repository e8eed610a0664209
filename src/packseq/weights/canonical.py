"""The canonical form of a checkpoint: arrays under torch's names, and the modules among them.

Every reader produces a Checkpoint. What its recurrent modules are is then read off the names and
shapes, in this file only, whichever format they came from.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from .arrays import Array
from .errors import CheckpointError
from .gates import KIND_OF_GATE_COUNT, TORCH
from .limits import check_budget


@dataclass(frozen=True)
class Attributes:
    """What a module needs to run that its parameters' shapes do not tell.

    The defaults are torch's; None means that the file does not say.
    """

    nonlinearity: str | None = None
    reset_after: bool = True
    batch_first: bool = False
    backward: bool = False
    unsupported: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """Arrays by name; recurrent parameters under torch's names and in torch's gate order.

    Stored initial states are ``{prefix}h_0`` and ``{prefix}c_0``, of shape (L*D, B, H).
    What the file holds and is not read is in `placeholders`, each name with its reason.
    """

    arrays: dict[str, Array]
    attributes: Mapping[str, Attributes] = field(default_factory=dict)
    placeholders: Mapping[str, str] = field(default_factory=dict)

    def attributes_of(self, prefix: str) -> Attributes:
        """The attributes of the module at `prefix`: torch's defaults if the file is silent."""
        return self.attributes.get(prefix, Attributes())

    def parameters_at(self, prefix: str) -> dict[str, Array]:
        """What a recurrent module at `prefix` might have, by its names without `prefix`.

        Raises
        ------
        CheckpointError
            One of these names stands for what is not read.
        """
        for name in self._names.get(prefix, ()):
            if prefix + name in self.placeholders:
                reason = self.placeholders[prefix + name]
                raise CheckpointError(f"{prefix}{name} cannot be read: {reason}")
        return {name: self.arrays[prefix + name] for name in self._names.get(prefix, ())}

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        """The names of parameters and states by what stands before them."""
        names: dict[str, list[str]] = {}
        for name in dict.fromkeys([*self.arrays, *self.placeholders]):
            if match := MEMBER.fullmatch(name):
                names.setdefault(match[1], []).append(match[2])
        return names


@dataclass(frozen=True)
class Found:
    """A recurrent module in a checkpoint, by what its parameters' names and shapes tell.

    Attributes
    ----------
    prefix : str
        What precedes ``weight_ih_l0`` (for a cell, ``weight_ih``) in its parameters' names.
    kind : str
        ``"LSTM"``, ``"GRU"`` or ``"RNN"``, followed by ``"Cell"`` for torch's cells; "" where the
        parameters do not fit each other.
    input_size, hidden_size, num_layers, proj_size : int
        As in torch; ``proj_size`` is 0 without a projection.
    bidirectional, bias : bool
        As in torch.
    dtype : np.dtype
        float32 or float64; float16 and bfloat16 have been widened to float32.
    attributes : Attributes
        ``nonlinearity`` (None if the file does not say), ``reset_after``, ``batch_first``,
        ``backward`` (runs from the end only) and ``unsupported``, the reason why packseq cannot
        run it, or "".
    has_state : bool
        Whether initial states are stored with it.
    """

    prefix: str
    kind: str
    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    bias: bool
    proj_size: int
    dtype: np.dtype[np.generic]
    attributes: Attributes = Attributes()
    has_state: bool = False

    def __str__(self) -> str:
        if not self.kind:
            return f"{self.prefix!r}: cannot run here: {self.attributes.unsupported}"
        sizes = [f"{self.input_size}, {self.hidden_size}"]
        if self.num_layers > 1:
            sizes.append(f"num_layers={self.num_layers}")
        if self.bidirectional:
            sizes.append("bidirectional=True")
        if not self.bias:
            sizes.append("bias=False")
        if self.proj_size:
            sizes.append(f"proj_size={self.proj_size}")
        if self.attributes.nonlinearity:
            sizes.append(f"nonlinearity={self.attributes.nonlinearity!r}")
        if not self.attributes.reset_after:
            sizes.append("reset_after=False")
        if self.attributes.batch_first:
            sizes.append("batch_first=True")
        notes = [f"{self.kind}({', '.join(sizes)})", str(self.dtype)]
        if self.attributes.backward:
            notes.append("from the end only")
        if self.has_state:
            notes.append("with initial states")
        if self.attributes.unsupported:
            notes.append(f"cannot run here: {self.attributes.unsupported}")
        return f"{self.prefix!r}: {', '.join(notes)}"

    @property
    def is_cell(self) -> bool:
        """Whether this is one step (torch's LSTMCell and so on) and not a module."""
        return self.kind.endswith("Cell")


# Of what is not read, an error's text names this many.
MAX_LISTED = 8
FIRST_NAMES = ("weight_ih_l0", "weight_ih")
FIRST_WEIGHT = re.compile(r"(.*?)weight_ih(_l0)?", re.DOTALL)
PARAMETER = re.compile(r"(?:weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?:_l\d+(?:_reverse)?)?")
MEMBER = re.compile(rf"(.*?)({PARAMETER.pattern}|[hc]_0)", re.DOTALL)


def prefixes(checkpoint: Checkpoint) -> list[str]:
    """The prefixes that a recurrent module's first weight stands under, in the file's order."""
    names = [*checkpoint.arrays, *checkpoint.placeholders]
    return [match[1] for name in names if (match := FIRST_WEIGHT.fullmatch(name))]


def nothing_in(checkpoint: Checkpoint) -> str:
    """What to say of a file without a recurrent module: also what of it was not read."""
    unread = checkpoint.placeholders
    if not unread:
        return "holds no LSTM, GRU or RNN"
    listing = "".join(f"\n  {name!r} {reason}" for name, reason in [*unread.items()][:MAX_LISTED])
    more = f"\n  and {len(unread) - MAX_LISTED} more" if len(unread) > MAX_LISTED else ""
    return f"holds no LSTM, GRU or RNN among what can be read; not read:{listing}{more}"


def suffixes(found: Found) -> Iterator[tuple[int, str]]:
    """Each layer and direction of a module, with what its parameters' names end in."""
    for layer in range(found.num_layers):
        for direction in ("", "_reverse") if found.bidirectional else ("",):
            yield layer, "" if found.is_cell else f"_l{layer}{direction}"


def parameter_shapes(found: Found) -> dict[str, tuple[int, ...]]:
    """The name, without prefix, and the shape of every parameter that `found` must have."""
    directions = 2 if found.bidirectional else 1
    state = found.proj_size or found.hidden_size
    rows = len(TORCH[found.kind.removesuffix("Cell")]) * found.hidden_size
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, suffix in suffixes(found):
        shapes[f"weight_ih{suffix}"] = (rows, directions * state if layer else found.input_size)
        shapes[f"weight_hh{suffix}"] = (rows, state)
        if found.bias:
            shapes[f"bias_ih{suffix}"] = shapes[f"bias_hh{suffix}"] = (rows,)
        if found.proj_size:
            shapes[f"weight_hr{suffix}"] = (found.proj_size, found.hidden_size)
    return shapes


def describe(checkpoint: Checkpoint, prefix: str) -> Found:
    """The module at `prefix`.

    Raises
    ------
    CheckpointError
        A parameter is missing, unexpected, of another shape or not float32 or float64.
    """
    arrays = checkpoint.parameters_at(prefix)
    cell = "weight_ih_l0" not in arrays
    found = infer(checkpoint, prefix, arrays, "" if cell else "_l0")
    shapes = parameter_shapes(found)
    for name, shape in shapes.items():
        if name not in arrays:
            raise CheckpointError(f"{prefix}{name} is missing; expected shape {shape}")
        if arrays[name].shape != shape:
            raise CheckpointError(
                f"{prefix}{name} has shape {arrays[name].shape}; expected {shape}"
            )
        if arrays[name].dtype not in (np.float32, np.float64):
            raise CheckpointError(
                f"{prefix}{name} has dtype {arrays[name].dtype}; expected a float"
            )
    unexpected = {name for name in arrays if PARAMETER.fullmatch(name)} - set(shapes)
    if unexpected and not cell:
        raise CheckpointError(f"{prefix}{min(unexpected)} has no place in {found}")
    return found


def listed(checkpoint: Checkpoint, prefix: str) -> Found:
    """The module at `prefix`; one that is malformed, with the reason, so that it hides no other."""
    try:
        return describe(checkpoint, prefix)
    except CheckpointError as error:
        held = (checkpoint.arrays.get(prefix + name) for name in FIRST_NAMES)
        first = next((array for array in held if array is not None), np.empty(0, np.float32))
        return Found(
            prefix=prefix,
            kind="",
            input_size=0,
            hidden_size=0,
            num_layers=0,
            bidirectional=False,
            bias=False,
            proj_size=0,
            dtype=first.dtype,
            attributes=replace(checkpoint.attributes_of(prefix), unsupported=str(error)),
        )


def infer(checkpoint: Checkpoint, prefix: str, arrays: Mapping[str, Array], end: str) -> Found:
    """The module whose first parameters end in `end`; only what is inferred from is checked."""
    weight_ih = matrix(arrays, prefix, f"weight_ih{end}")
    weight_hh = matrix(arrays, prefix, f"weight_hh{end}")
    projected = f"weight_hr{end}" in arrays
    hidden = matrix(arrays, prefix, f"weight_hr{end}").shape[1] if projected else weight_hh.shape[1]
    gates, rest = divmod(weight_ih.shape[0], hidden)
    if rest or gates not in KIND_OF_GATE_COUNT:
        raise CheckpointError(
            f"{prefix}weight_ih{end} has {weight_ih.shape[0]} rows for a hidden size of {hidden}; "
            "expected 1 (RNN), 3 (GRU) or 4 (LSTM) times as many"
        )
    kind = KIND_OF_GATE_COUNT[gates]
    if projected and kind != "LSTM":
        raise CheckpointError(f"{prefix}weight_hr{end} projects a {kind}; only an LSTM has one")
    layers = 1
    while end and f"weight_ih_l{layers}" in arrays:
        layers += 1
    return Found(
        prefix=prefix,
        kind=kind if end else f"{kind}Cell",
        input_size=weight_ih.shape[1],
        hidden_size=hidden,
        num_layers=layers,
        bidirectional=bool(end) and f"weight_ih{end}_reverse" in arrays,
        bias=f"bias_ih{end}" in arrays,
        proj_size=weight_hh.shape[1] if projected else 0,
        dtype=np.result_type(weight_ih, weight_hh),
        attributes=checkpoint.attributes_of(prefix),
        has_state="h_0" in arrays or "c_0" in arrays,
    )


def matrix(arrays: Mapping[str, Array], prefix: str, name: str) -> Array:
    """A parameter that must be a matrix without an empty side."""
    if name not in arrays:
        raise CheckpointError(f"{prefix}{name} is missing")
    if arrays[name].ndim != 2 or 0 in arrays[name].shape:
        raise CheckpointError(
            f"{prefix}{name} has shape {arrays[name].shape}; expected a matrix, no side 0"
        )
    return arrays[name]


def parameters(checkpoint: Checkpoint, found: Found, file_bytes: int) -> dict[str, Array]:
    """The parameters of `found` without its prefix.

    Several names may share one stored array, so their sum is checked against the file's size
    before a module copies them.
    """
    chosen = {name: checkpoint.arrays[found.prefix + name] for name in parameter_shapes(found)}
    total = sum(array.nbytes for array in chosen.values())
    check_budget(total, file_bytes, f"module {found.prefix!r}")
    return chosen
