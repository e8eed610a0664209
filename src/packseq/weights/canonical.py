"""The canonical form of a checkpoint: arrays under torch's names, and the modules among them.

Every reader produces a Checkpoint. What its recurrent modules are follows from the names and shapes
of their parameters, whichever format they came from: ``networks.architecture`` infers it, once.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from packseq.networks.architecture import PARAMETER, SIGMOID, Architecture, infer
from packseq.networks.arguments import check_weight_sizes

from .arrays import Array
from .errors import CheckpointError
from .limits import check_budget


@dataclass(frozen=True)
class Attributes:
    """What a module needs to run that its parameters' shapes do not tell.

    The defaults are torch's; None means that the file does not say. `given` are the first states
    that the file computes from something else, so that the caller gives them; `then` is what the
    file's model does to the output of the steps, which is the caller's too. `unsaid` names what a
    file of weights alone does not say and its format has no usual value for: those that `load`
    takes must be given. `doubted` says why `reset_after` is probably not what was meant.

    Examples
    --------
    >>> packseq.save(packseq.GRU(3, 2, reset_after=False, rng=0), "gru.safetensors")
    >>> (found,) = packseq.weights.find("gru.safetensors")
    >>> found.attributes.reset_after, found.attributes.unsupported
    (False, '')
    """

    nonlinearity: str | None = None
    recurrent_activation: str | None = None
    reset_after: bool = True
    batch_first: bool = False
    backward: bool = False
    given: str = ""
    then: str = ""
    unsaid: str = ""
    doubted: str = ""
    unsupported: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """Arrays by name; recurrent parameters under torch's names and in torch's gate order.

    Stored initial states are ``{prefix}h_0`` and ``{prefix}c_0``, of shape (L*D, B, H).
    What the file holds and is not read is in `placeholders`, each name with its reason. The names
    of an optimizer's state begin with one of `optimizers`. `files` are those that it names, beside
    it, such as its shards.
    `precisions` are those of modules, by prefix, that their arrays do not tell: "bfloat16".
    """

    arrays: dict[str, Array]
    attributes: Mapping[str, Attributes] = field(default_factory=dict)
    placeholders: Mapping[str, str] = field(default_factory=dict)
    optimizers: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    precisions: Mapping[str, str] = field(default_factory=dict)

    def attributes_of(self, prefix: str) -> Attributes:
        """The attributes of the module at `prefix`: torch's defaults if the file is silent."""
        return self.attributes.get(prefix, Attributes())

    def without_optimizer(self) -> "Checkpoint":
        """What a model needs to run: all but the state of what trained it."""
        return replace(
            self,
            arrays={n: array for n, array in self.arrays.items() if not self._trains(n)},
            placeholders={n: why for n, why in self.placeholders.items() if not self._trains(n)},
        )

    def _trains(self, name: str) -> bool:
        return name.startswith(self.optimizers)

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
    architecture : Architecture or None
        The plain network of these parameters; None where they do not fit each other. The properties
        below read it.
    kind : str
        ``"LSTM"``, ``"GRU"`` or ``"RNN"``, followed by ``"Cell"`` for torch's cells; "" where there
        is no architecture.
    input_size, hidden_size, num_layers, proj_size : int
        As in torch; ``proj_size`` is 0 without a projection.
    bidirectional, bias : bool
        As in torch.
    peephole : bool
        Whether the gates of an LSTM see c.
    dtype : np.dtype
        float32 or float64; float16 and bfloat16 have been widened to float32.
    precision : str
        "int8" or "bfloat16" where the module was written with fewer bits; else the dtype's name.
    attributes : Attributes
        ``nonlinearity`` and ``recurrent_activation`` (None if the file does not say),
        ``reset_after``, ``batch_first``, ``backward`` (runs from the end only), ``given`` (the
        first states that the caller gives), ``then`` (what the caller does to the output),
        ``unsaid`` (what the file does not say and `load` has to be told), ``doubted`` (what it
        probably says wrongly) and ``unsupported``, the reason why packseq cannot run it, or "".
    has_state : bool
        Whether initial states are stored with it.

    Examples
    --------
    >>> packseq.save(packseq.LSTM(3, 2, num_layers=2, rng=0), "lstm.safetensors")
    >>> (found,) = packseq.weights.find("lstm.safetensors")
    >>> found.kind, found.num_layers, found.dtype.name, found.prefix
    ('LSTM', 2, 'float32', '')
    """

    prefix: str
    # Architectures compare and do not hash.
    architecture: Architecture | None = field(hash=False)
    dtype: np.dtype[np.generic]
    attributes: Attributes = Attributes()
    has_state: bool = False

    @property
    def kind(self) -> str:
        """Its class in torch, or ""."""
        if self.architecture is None:
            return ""
        return self.architecture.cell.kind + "Cell" * self.architecture.one_step

    @property
    def input_size(self) -> int:
        """I, or 0."""
        return self.architecture.input_size if self.architecture else 0

    @property
    def hidden_size(self) -> int:
        """H, or 0."""
        return self.architecture.hidden_size if self.architecture else 0

    @property
    def num_layers(self) -> int:
        """L, or 0."""
        return self.architecture.num_layers if self.architecture else 0

    @property
    def bidirectional(self) -> bool:
        """Whether there is a second direction."""
        return self.architecture is not None and self.architecture.bidirectional

    @property
    def bias(self) -> bool:
        """Whether there are biases."""
        return self.architecture is not None and self.architecture.bias

    @property
    def precision(self) -> str:
        """What its weights are."""
        return (self.architecture and self.architecture.precision) or self.dtype.name

    @property
    def proj_size(self) -> int:
        """Width of a projected h, or 0."""
        return self.architecture.proj_size if self.architecture else 0

    @property
    def peephole(self) -> bool:
        """Whether the gates of an LSTM see c."""
        return self.architecture is not None and bool(self.architecture.cell.vectors)

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
        if self.peephole:
            sizes.append("peephole=True")
        sizes += shown(self.attributes)
        notes = [f"{self.kind}({', '.join(sizes)})", self.precision]
        if self.attributes.backward:
            notes.append("from the end only")
        if self.has_state:
            notes.append("with initial states")
        if self.attributes.given:
            notes.append(f"from initial states of yours: {self.attributes.given}")
        if self.attributes.then:
            notes.append(f"then {self.attributes.then}")
        if self.attributes.unsaid:
            notes.append(f"not in the file: {self.attributes.unsaid}")
        if self.attributes.doubted:
            notes.append(f"doubtful: {self.attributes.doubted}")
        if self.attributes.unsupported:
            notes.append(f"cannot run here: {self.attributes.unsupported}")
        return f"{self.prefix!r}: {', '.join(notes)}"

    @property
    def is_cell(self) -> bool:
        """Whether this is one step (torch's LSTMCell and so on) and not a module."""
        return self.architecture is not None and self.architecture.one_step


def shown(said: Attributes) -> list[str]:
    """The attributes that a listing shows among a constructor's arguments."""
    parts = []
    if said.nonlinearity:
        parts.append(f"nonlinearity={said.nonlinearity!r}")
    if not said.reset_after:
        parts.append("reset_after=False")
    if said.recurrent_activation not in (None, SIGMOID):
        parts.append(f"recurrent_activation={said.recurrent_activation!r}")
    if said.batch_first:
        parts.append("batch_first=True")
    return parts


# Of what is not read, an error's text names this many.
MAX_LISTED = 8
FIRST_NAMES = ("weight_ih_l0", "weight_ih")
FIRST_WEIGHT = re.compile(r"(.*?)weight_ih(_l0)?", re.DOTALL)
MEMBER = re.compile(rf"(.*?)({PARAMETER.pattern}|[hc]_0)", re.DOTALL)


def prefixes(checkpoint: Checkpoint) -> list[str]:
    """The prefixes that a recurrent module's first weight stands under, in the file's order."""
    names = [*checkpoint.arrays, *checkpoint.placeholders]
    return [match[1] for name in names if (match := FIRST_WEIGHT.fullmatch(name))]


def nothing_in(checkpoint: Checkpoint) -> str:
    """What to say of a file without a recurrent module: also what of it was not read."""
    unread = checkpoint.placeholders
    if not unread and not checkpoint.arrays:
        return "holds no LSTM, GRU or RNN"
    if not unread:
        return (
            "holds no LSTM, GRU or RNN under names that are known here; where arrays have names of "
            "their own, load with rename"
        )
    listing = "".join(f"\n  {name!r} {reason}" for name, reason in [*unread.items()][:MAX_LISTED])
    more = f"\n  and {len(unread) - MAX_LISTED} more" if len(unread) > MAX_LISTED else ""
    return f"holds no LSTM, GRU or RNN among what can be read; not read:{listing}{more}"


def describe(checkpoint: Checkpoint, prefix: str) -> Found:
    """The module at `prefix`.

    Raises
    ------
    CheckpointError
        A parameter is missing, unexpected, of another shape or not float32 or float64.
    """
    arrays = checkpoint.parameters_at(prefix)
    architecture = inferred(arrays, prefix)
    if prefix in checkpoint.precisions and not architecture.precision:
        architecture = replace(architecture, precision=checkpoint.precisions[prefix])
    for name, shape in architecture.shapes.items():
        if name not in arrays:
            raise CheckpointError(f"{prefix}{name} is missing; expected shape {shape}")
        if arrays[name].shape != shape:
            raise CheckpointError(
                f"{prefix}{name} has shape {arrays[name].shape}; expected {shape}"
            )
        integers = architecture.precision == "int8" and len(shape) == 2
        check_numbers(arrays[name], prefix + name, integers)
    first = architecture.suffixes[0][0]
    try:
        check_weight_sizes(architecture, np.dtype(np.float32))
    except ValueError as error:
        raise CheckpointError(f"{prefix!r}: {error}") from None
    found = Found(
        prefix=prefix,
        architecture=architecture,
        dtype=np.result_type(np.float32, arrays[f"weight_ih{first}"], arrays[f"weight_hh{first}"]),
        attributes=checkpoint.attributes_of(prefix),
        has_state="h_0" in arrays or "c_0" in arrays,
    )
    unexpected = {name for name in arrays if PARAMETER.fullmatch(name)} - set(architecture.shapes)
    if unexpected and not found.is_cell:
        raise CheckpointError(f"{prefix}{min(unexpected)} has no place in {found}")
    return found


def check_numbers(array: Array, name: str, integers: bool) -> None:
    """Refuse what is not of floats or, of int8, not of its integers."""
    if not integers and array.dtype not in (np.float32, np.float64):
        raise CheckpointError(f"{name} has dtype {array.dtype}; expected a float")
    if integers and array.dtype != np.int8:
        raise CheckpointError(f"{name} has scales, and dtype {array.dtype}; expected int8")


def inferred(arrays: Mapping[str, Array], prefix: str) -> Architecture:
    """The network that has these parameters, whose names are without `prefix`."""
    shapes = {name: array.shape for name, array in arrays.items()}
    try:
        return infer(shapes, prefix, one_step="weight_ih_l0" not in arrays)
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def listed(checkpoint: Checkpoint, prefix: str) -> Found:
    """The module at `prefix`; one that is malformed, with the reason, so that it hides no other."""
    try:
        return describe(checkpoint, prefix)
    except CheckpointError as error:
        held = (checkpoint.arrays.get(prefix + name) for name in FIRST_NAMES)
        first = next((array for array in held if array is not None), np.empty(0, np.float32))
        return Found(
            prefix=prefix,
            architecture=None,
            dtype=first.dtype,
            attributes=replace(checkpoint.attributes_of(prefix), unsupported=str(error)),
        )


def parameters(
    checkpoint: Checkpoint, prefix: str, architecture: Architecture, file_bytes: int
) -> dict[str, Array]:
    """The parameters of a module, their names without its prefix.

    Several names may share one stored array, so their sum is checked against the file's size
    before a module copies them.
    """
    chosen = {name: checkpoint.arrays[prefix + name] for name in architecture.shapes}
    total = sum(array.nbytes for array in chosen.values())
    check_budget(total, file_bytes, f"module {prefix!r}")
    return chosen
