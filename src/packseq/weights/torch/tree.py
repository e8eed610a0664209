"""Everything in a pickle by its dotted name: tensors in dicts, lists, modules and other objects.

A module's tensors get the names that its ``state_dict()`` would give them. An object of a class
that is not known here is listed with that reason, and looked into for tensors.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from packseq.networks.architecture import SIGMOID

from ..arrays import Array
from ..canonical import Attributes, Checkpoint
from ..errors import CheckpointError
from . import quantised, tensors
from .pickles import Inert, Key, Persistent, shown

# Checkpoints nest {"model": {...}}, rarely deeper; whole modules some ten levels. Names are at most
# a few hundred characters; a long one shared by many tensors would be a way to use up memory.
MAX_DEPTH = 32
MAX_NAME = 512
MAX_CHARACTERS = 1 << 24
# What is held under several names is walked again for each: this many, in all.
MAX_AGAIN = 200_000

MAPPINGS = {
    "collections.OrderedDict",
    "collections.defaultdict",
    "collections.Counter",
    "builtins.dict",
}
LISTS = {"builtins.list", "builtins.tuple", "collections.deque", "torch.Size"}
# TorchScript's lists: of tensors, or with the type of their items beside them.
SCRIPT_LISTS = {"torch.jit._pickle.build_tensorlist", "torch.jit._pickle.restore_type_tag"}
# What says as little about tensors as a number does, and is passed over like one.
PLAIN = re.compile(
    r"torch\.(device|Generator)|torch\.serialization\._get_layout"
    r"|numpy\.dtype|numpy\._core\.multiarray\.scalar|_codecs\.encode"
    r"|builtins\.(set|frozenset|bytes|bytearray|complex|range|slice|getattr|object)"
    r"|pathlib\.\w+|datetime\.\w+|decimal\.Decimal|fractions\.Fraction|uuid\.UUID"
    r"|torch\.jit\._pickle\.build_(int|double|bool)list|an integer of \d+ bits"
)

RECURRENT = re.compile(r"torch\.nn\.modules\.rnn\.(?:LSTM|GRU|RNN)(?:Cell)?")
# What a class of other people's is, by its name, where its arrays do not tell it.
RECURRENT_BY_NAME = re.compile(r".*(?:LSTM|GRU|RNN|Recurrent)[^.]*")
FIRST_WEIGHTS = ("weight_ih_l0", "weight_ih")
MANGLED = re.compile(r"___torch_mangle_\d+\.")
SCRIPT = "__torch__."
# What the state dict of every optimizer has; its momenta are in the first.
OF_AN_OPTIMIZER = {"state", "param_groups"}
MODES = {"RNN_TANH": "tanh", "RNN_RELU": "relu"}

Said = Callable[[Inert], Attributes | None]


def checkpoint(
    content: Any, decode: Callable[[Inert], Array], said: Said | None = None
) -> Checkpoint:
    """All of `content`; `said` tells what a scripted module's code says of it."""
    walk = _Walk(decode, said or attributes_of)
    walk.top(content)
    return quantised.renamed(
        Checkpoint(walk.arrays, walk.attributes, walk.placeholders, tuple(walk.optimizers)),
        walk.directions,
    )


class _Walk:
    """The walk, and what it has found so far."""

    def __init__(self, decode: Callable[[Inert], Array], said: Said) -> None:
        self.arrays: dict[str, Array] = {}
        self.attributes: dict[str, Attributes] = {}
        self.placeholders: dict[str, str] = {}
        self.optimizers: list[str] = []
        self.directions: dict[str, int] = {}
        self._decode = decode
        self._said = said
        self._first_weights = 0
        self._walked: set[int] = set()
        self._above: set[int] = set()
        self._again = 0
        self._characters = 0

    def top(self, content: Any) -> None:
        """The object that the file is."""
        if isinstance(content, Inert) and content.name in tensors.NAMES:
            raise CheckpointError("holds one tensor without a name; expected a dict of tensors")
        if not isinstance(content, dict | list | tuple | Inert):
            raise CheckpointError(f"holds a {type(content).__name__}; expected a dict of tensors")
        self._inside(content, "", quiet=False, again=False)

    def _visit(self, value: Any, name: str, quiet: bool, again: bool) -> None:
        """One value under its name.

        `quiet`: it is part of an object that is listed already. `again`: of one that was walked
        under another name.
        """
        self._again += again
        if isinstance(value, Persistent):
            self._unreadable(name, "is a storage without a tensor, which is not read")
        elif isinstance(value, Inert) and value.name in tensors.NAMES:
            self._tensor(value, name)
        elif isinstance(value, dict | list | tuple | Inert):
            self._container(value, name, quiet, again)

    def _tensor(self, described: Inert, name: str) -> None:
        if not self._named(name):
            return
        if name in self.arrays or name in self.placeholders:
            self.arrays.pop(name, None)
            self.placeholders[name] = "two tensors have this name"
            return
        self._first_weights += quantised.name_of(name).rpartition(".")[2] in FIRST_WEIGHTS
        try:
            self.arrays[name] = self._decode(described)
        except CheckpointError as error:
            self._unreadable(name, str(error))

    def _container(self, value: Any, name: str, quiet: bool, again: bool) -> None:
        if isinstance(value, Inert) and PLAIN.fullmatch(value.name):
            return
        if id(value) in self._above:
            reason = "holds itself"
        elif len(self._above) > MAX_DEPTH:
            reason = f"is more than {MAX_DEPTH} objects deep"
        else:
            self._inside(value, f"{name}.", quiet, again or id(value) in self._walked)
            return
        if not quiet:
            self._unreadable(name, reason)

    def _inside(self, value: Any, prefix: str, quiet: bool, again: bool) -> None:
        self._walked.add(id(value))
        self._above.add(id(value))
        before = len(self.arrays), self._first_weights
        if isinstance(value, Inert):
            quiet = self._object(value, prefix, quiet)
        if is_optimizer(value):
            self.optimizers += [f"{prefix}{key}." for key in OF_AN_OPTIMIZER]
        for key, item in parts(value):
            if again and self._again > MAX_AGAIN:
                self._unreadable(prefix[:-1], "is held under too many names")
                break
            self._visit(item, f"{prefix}{key}", quiet, again)
        self._above.discard(id(value))
        if isinstance(value, Inert) and self._first_weights == before[1]:
            self._own_class(value, prefix, len(self.arrays) > before[0])

    def _own_class(self, value: Inert, prefix: str, has_arrays: bool) -> None:
        """Note a recurrent layer that only its class tells: its arrays have names of their own."""
        if has_arrays and RECURRENT_BY_NAME.fullmatch(class_of(value)):
            by = shown(class_of(value))
            self._unreadable(
                f"{prefix}{FIRST_WEIGHTS[0]}",
                f"stands for the arrays of {by}, whose names and meaning are not known here",
            )
            self._first_weights += 1

    def _object(self, value: Inert, prefix: str, quiet: bool) -> bool:
        """Note what an object is; whether what is in it needs no listing."""
        if value.name in MAPPINGS | LISTS | SCRIPT_LISTS or quantised.is_packed(value):
            return quiet
        if not is_module(value):
            if not quiet:
                by = shown(value.name)
                self._unreadable(prefix[:-1], f"would be made by {by}, which is not known here")
            return True
        if quantised.RECURRENT.fullmatch(class_of(value)):
            self.directions[prefix] = 1 + (value.state.get("bidirectional") is True)
            self.attributes[prefix] = attributes_of(value)
        elif any(key in FIRST_WEIGHTS for key, _ in parts(value)):
            said = self._said(value)
            self.attributes.update({prefix: said} if said else {})
        return quiet

    def _named(self, name: str) -> bool:
        """Whether a name is short enough to be one."""
        if len(name) > MAX_NAME:
            self._unreadable(f"{name[:40]}...", f"has a name of over {MAX_NAME} characters")
            return False
        self._characters += len(name)
        if self._characters > MAX_CHARACTERS:
            raise CheckpointError(f"names take more than {MAX_CHARACTERS} characters")
        return True

    def _unreadable(self, name: str, reason: str) -> None:
        if self._named(name):
            self.placeholders.setdefault(name, reason)


def is_optimizer(value: Any) -> bool:
    """Whether something is the state dict of an optimizer of torch's, or such an optimizer."""
    held = value.state if isinstance(value, Inert) else value
    return isinstance(held, dict) and held.keys() >= OF_AN_OPTIMIZER


def parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """What an object holds, each with its key, index or attribute."""
    if isinstance(value, dict):
        yield from ((key.text if isinstance(key, Key) else key, it) for key, it in value.items())
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif isinstance(value, Inert):
        yield from parts_of_object(value)


def parts_of_object(value: Inert) -> Iterator[tuple[Any, Any]]:
    """The same of an object."""
    if quantised.is_packed(value):
        yield from quantised.parts(value)
    elif is_scripted(value):
        # The flat weights are the parameters again.
        yield from ((key, it) for key, it in parts(value.state) if key != "_flat_weights")
    elif is_module(value):
        yield from parts_of_module(value.state)
    elif value.name in MAPPINGS | LISTS | SCRIPT_LISTS:
        for argument in value.arguments:
            yield from pairs(argument) if value.name in MAPPINGS else parts(argument)
    else:
        yield from enumerate(value.arguments)
        for state in value.state if isinstance(value.state, tuple) else (value.state,):
            yield from parts(state)
    yield from parts(value.items)
    yield from enumerate(value.members or ())


def pairs(argument: Any) -> Iterator[tuple[Any, Any]]:
    """A mapping given at once: a dict or, as Python 2 wrote an OrderedDict, a list of pairs."""
    if isinstance(argument, list):
        argument = {
            key: it
            for key, it in (pair for pair in argument if is_pair(pair))
            if isinstance(key, str | int)
        }
    return parts(argument)


def is_pair(pair: Any) -> bool:
    """A key and a value."""
    return isinstance(pair, list | tuple) and len(pair) == 2


def is_module(value: Inert) -> bool:
    """Whether an object is a module of torch's, or of TorchScript's."""
    state = value.state
    return is_scripted(value) or (
        isinstance(state, dict) and "_parameters" in state and "_modules" in state
    )


def is_scripted(value: Inert) -> bool:
    """Whether an object is one of a TorchScript program."""
    return value.name.startswith(SCRIPT) and isinstance(value.state, dict)


def parts_of_module(state: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Parameters, the buffers that a state dict would have, and modules."""
    yield from parts(state["_parameters"])
    transient = state.get("_non_persistent_buffers_set")
    left_out = transient.arguments[:1] if isinstance(transient, Inert) else ()
    names = left_out[0] if left_out and isinstance(left_out[0], list) else []
    yield from quantised.packed_in(state)
    for key, buffer in parts(state.get("_buffers")):
        if not any(isinstance(name, str) and name == key for name in names):
            yield key, buffer
    yield from parts(state["_modules"])


def class_of(module: Inert) -> str:
    """The class's name in Python, also of a scripted module."""
    return MANGLED.sub("", module.name.removeprefix(SCRIPT))


def attributes_of(module: Inert) -> Attributes:
    """What a recurrent module says of itself beside its parameters."""
    if unsupported := foreign(module):
        return unsupported
    state = module.state
    mode = state.get("mode", state.get("nonlinearity"))
    known = mode if isinstance(mode, str) else ""
    kind = class_of(module).rpartition(".")[2]
    return settings(kind, MODES.get(known, known or None), state.get("batch_first") is True)


def settings(kind: str, nonlinearity: str | None, batch_first: bool) -> Attributes:
    """What torch's own layer of a kind is: its gates are always sigmoids."""
    if kind.upper().startswith("RNN"):
        return Attributes(nonlinearity=nonlinearity, batch_first=batch_first)
    return Attributes(recurrent_activation=SIGMOID, batch_first=batch_first)


def foreign(module: Inert) -> Attributes | None:
    """A class that only has a recurrent module's names may compute anything."""
    kind = class_of(module)
    if RECURRENT.fullmatch(kind) or quantised.RECURRENT.fullmatch(kind):
        return None
    return Attributes(
        unsupported=f"a class of its own, {shown(class_of(module))}, whose code is not read "
        "(load its state_dict() if it computes what torch's does)"
    )
