"""A reader of pickles that runs no code: what a pickle would call is written down, not called.

Python's own unpickler imports what a pickle names and calls it. This one walks the opcodes with a
stack and a memo. Numbers, texts, lists, tuples and dicts become themselves; a name becomes a
`Global`, and whatever would be made by calling one an `Inert` that holds what the call would have
got. What any of them means is for `tree` and `tensors` to know.

Source: the opcodes' meaning is that of ``pickletools`` in the standard library, which also decodes
their arguments.
"""

import codecs
import io
import pickletools
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ..errors import CheckpointError, is_the_programs

# A tensor takes some 40 opcodes, an object at most 100 bytes: 50,000 tensors, or 200 MiB.
MAX_OPCODES = 2_000_000
# The states of random generators have hundreds of bits; arithmetic on more takes time.
MAX_BITS = 4096
MAX_SHOWN = 80

OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "SHORT_BINSTRING", "BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
NOTHING = {"PROTO", "FRAME", "STOP"}
MARK = object()
# Python 2's own escapes of bytes; of others Python warns, and one day refuses them.
ESCAPED = re.compile(rb"(?:[^\\]|\\[\\'\"nrtx])*+", re.DOTALL)

# Keys whose hash is quick and whose str is short; a nested tuple's is neither.
KEYS = (str, int, float, bool, type(None))

# Python 2's and NumPy 1's names of the same things.
MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
NUMPY_1, NUMPY_2 = "numpy.core.", "numpy._core."


@dataclass(slots=True, eq=False)
class Global:
    """A name in a module, which was not imported."""

    name: str


@dataclass(slots=True, eq=False)
class Inert:
    """An object that was not made: what would be called, and all that it would be given."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] | None = None
    members: list[Any] | None = None


@dataclass(slots=True, eq=False)
class Persistent:
    """What the pickle says is kept outside of it."""

    identifier: Any


@dataclass(slots=True, eq=False)
class Key:
    """A dict's key that is no plain one: compared and hashed by identity, shown by `text`."""

    text: str


def load(pickled: bytes | BinaryIO, persistent: Callable[[Any], Any] = Persistent) -> Any:
    """The object in a pickle; a stream is read up to the pickle's end.

    Raises
    ------
    CheckpointError
        The pickle is malformed; with the byte offset.
    """
    machine = _Machine(persistent)
    for count, (name, argument, position) in enumerate(_opcodes(pickled)):
        if count >= MAX_OPCODES:
            raise CheckpointError(f"pickle has more than {MAX_OPCODES} opcodes")
        try:
            machine.step(name, argument)
        except _MalformedError as error:
            raise CheckpointError(f"pickle, byte {position}, {name}: {error}") from None
    return machine.result()


def shown(text: str) -> str:
    """A text out of a file, quoted, and cut where it is long."""
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")


class _MalformedError(Exception):
    """An opcode that cannot be obeyed."""


class _Bounded:
    """A file that is asked for no more than it holds: memory is taken for all that is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        start = file.tell()
        self._file, self._end = file, file.seek(0, io.SEEK_END)
        file.seek(start)
        self.tell, self.readline = file.tell, file.readline

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._end - self._file.tell()))


def _opcodes(pickled: bytes | BinaryIO) -> Iterator[tuple[str, Any, int]]:
    stream: Any = io.BytesIO(pickled) if isinstance(pickled, bytes) else _Bounded(pickled)
    start = stream.tell()
    name = ""
    while name != "STOP":
        position = stream.tell() - start
        opcode = OPCODES.get(stream.read(1).decode("latin-1"))
        if opcode is None:
            raise CheckpointError(f"pickle, byte {position}: is cut off, or this is no opcode")
        name = opcode.name
        try:
            argument = None
            if opcode.arg is not None:
                argument = READERS.get(name, opcode.arg.reader)(stream)
        except (ValueError, OverflowError, struct.error) as error:
            if is_the_programs(error):
                raise
            reason = str(error)[:200]
            raise CheckpointError(f"pickle is cut off or malformed: {reason}") from error
        yield name, argument, position


def _byte_string(stream: BinaryIO) -> str:
    """A text of Python 2, whose bytes may be an array's; pickletools takes it for ASCII."""
    quoted = _line(stream).encode("latin-1")
    if len(quoted) < 2 or quoted[:1] not in (b"'", b'"') or quoted[-1:] != quoted[:1]:
        raise ValueError("a text has no quotes")
    if not ESCAPED.fullmatch(quoted):
        raise ValueError("a text has an escape that Python 2 does not write")
    return codecs.escape_decode(quoted[1:-1])[0].decode("latin-1")


def _line(stream: BinaryIO) -> str:
    """A line; pickletools looks for escapes in it, and warns of those that it does not know."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise ValueError("a line has no end")
    return line[:-1].decode("latin-1")


def _name(stream: BinaryIO) -> str:
    """A module and a name in it, which are two lines."""
    return f"{_line(stream)} {_line(stream)}"


# What reads the arguments of protocol 0 that are lines; pickletools has the others.
READERS: dict[str, Callable[[BinaryIO], str]] = {
    "STRING": _byte_string, "GLOBAL": _name, "INST": _name, "PERSID": _line,
}  # fmt: skip


@dataclass(slots=True)
class _Machine:
    """The pickle machine: a stack with marks, and a memo."""

    persistent: Callable[[Any], Any]
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def result(self) -> Any:
        """What STOP left behind."""
        if len(self.stack) != 1 or self.stack[0] is MARK:
            raise CheckpointError(f"pickle leaves {len(self.stack)} objects; expected 1")
        return self.stack[0]

    def step(self, name: str, argument: Any) -> None:
        """Obey one opcode."""
        if name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in LITERALS:
            self.stack.append(_bounded(argument))
        elif name in TUPLES:
            self.stack.append(tuple(reversed([self._pop() for _ in range(TUPLES[name])])))
        elif name not in NOTHING and not (
            self._memory(name, argument) or self._container(name) or self._object(name, argument)
        ):
            raise _MalformedError("this opcode is not admitted")

    def _memory(self, name: str, argument: Any) -> bool:
        """Obey an opcode that moves what there is."""
        match name:
            case "MARK":
                self.stack.append(MARK)
            case "POP":
                if not self.stack:
                    raise _MalformedError("the stack is empty")
                self.stack.pop()
            case "POP_MARK":
                self._pop_to_mark()
            case "DUP":
                self.stack.append(self._top())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self._top()
            case "MEMOIZE":
                self.memo[len(self.memo)] = self._top()
            case "GET" | "BINGET" | "LONG_BINGET":
                if argument not in self.memo:
                    raise _MalformedError(f"memo {argument} was never stored")
                self.stack.append(self.memo[argument])
            case _:
                return False
        return True

    def _container(self, name: str) -> bool:
        """Obey an opcode that makes or fills a container."""
        match name:
            case "EMPTY_LIST":
                self.stack.append([])
            case "EMPTY_DICT":
                self.stack.append({})
            case "EMPTY_SET":
                self.stack.append(Inert("builtins.set"))
            case "LIST":
                self.stack.append(self._pop_to_mark())
            case "TUPLE":
                self.stack.append(tuple(self._pop_to_mark()))
            case "FROZENSET":
                self.stack.append(Inert("builtins.frozenset", (self._pop_to_mark(),)))
            case "DICT":
                items = self._pop_to_mark()
                self.stack.append({})
                self._set_items(items)
            case "APPEND":
                self._extend([self._pop()])
            case "APPENDS" | "ADDITEMS":
                self._extend(self._pop_to_mark())
            case "SETITEM":
                value, key = self._pop(), self._pop()
                self._set_items([key, value])
            case "SETITEMS":
                self._set_items(self._pop_to_mark())
            case _:
                return False
        return True

    def _object(self, name: str, argument: Any) -> bool:
        """Obey an opcode that names, would call, or would give an object its state."""
        match name:
            case "GLOBAL":
                self.stack.append(_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = self._pop(str), self._pop(str)
                self.stack.append(_global(module, attribute))
            case "REDUCE" | "NEWOBJ":
                arguments, function = self._pop(tuple), self._pop()
                self.stack.append(_called(function, arguments))
            case "NEWOBJ_EX":
                options, arguments, function = self._pop(dict), self._pop(tuple), self._pop()
                self.stack.append(_called(function, (*arguments, options)))
            case "OBJ":
                function, *rest = self._pop_to_mark() or [None]
                self.stack.append(_called(function, tuple(rest)))
            case "INST":
                self.stack.append(_called(_global(*argument.split(" ", 1)), self._arguments()))
            case "BUILD":
                state = self._pop()
                # A dict's own attributes say nothing about its items.
                if isinstance(made := self._top((Inert, dict)), Inert):
                    made.state = state
            case "BINPERSID":
                self.stack.append(self.persistent(self._pop()))
            case _:
                return False
        return True

    def _arguments(self) -> tuple[Any, ...]:
        return tuple(self._pop_to_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self._top((list, Inert))
        if isinstance(target, Inert):
            target.members = [] if target.members is None else target.members
            target.members.extend(values)
        else:
            target.extend(values)

    def _set_items(self, items: list[Any]) -> None:
        target = self._top((dict, Inert))
        mapping = target
        if isinstance(target, Inert):
            mapping = target.items = {} if target.items is None else target.items
        if len(items) % 2:
            raise _MalformedError("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            plain = key if _is_short(key) else Key(_key_text(key))
            if plain in mapping:
                raise _MalformedError(f"key {shown(str(key))} appears twice")
            mapping[plain] = value

    def _pop(self, kind: type | tuple[type, ...] = object) -> Any:
        top = self._top(kind)
        self.stack.pop()
        return top

    def _top(self, kind: type | tuple[type, ...] = object) -> Any:
        if not self.stack or self.stack[-1] is MARK:
            raise _MalformedError("the stack is empty")
        if not isinstance(self.stack[-1], kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            needed = " or ".join(one.__name__ for one in kinds)
            raise _MalformedError(f"a {type(self.stack[-1]).__name__} where a {needed} is needed")
        return self.stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while self.stack and self.stack[-1] is not MARK:
            items.append(self.stack.pop())
        if not self.stack:
            raise _MalformedError("no mark on the stack")
        self.stack.pop()
        return items[::-1]


def _global(module: str, attribute: str) -> Global:
    name = f"{MODULES.get(module, module)}.{attribute}"
    return Global(name.replace(NUMPY_1, NUMPY_2, 1) if name.startswith(NUMPY_1) else name)


def _called(function: Any, arguments: tuple[Any, ...]) -> Inert:
    """What a call would give; protocols 0 and 1 wrap a class in a helper of Python's."""
    if not isinstance(function, Global | Inert):
        raise _MalformedError(f"calls a {type(function).__name__}")
    wraps = function.name == "copyreg._reconstructor" and bool(arguments)
    if wraps and isinstance(arguments[0], Global):
        return Inert(arguments[0].name)
    return Inert(function.name, arguments)


def _is_short(key: Any) -> bool:
    """Whether a key is a text or a number of an ordinary size."""
    return isinstance(key, KEYS) and not (isinstance(key, int) and key.bit_length() > 64)


def _key_text(key: Any) -> str:
    """The name of a key that is no plain one: its repr where that is surely short."""
    if isinstance(key, bytes):
        return shown(key[: MAX_SHOWN + 1].decode("latin-1"))
    if isinstance(key, tuple) and len(key) < 9 and all(map(_is_short, key)):
        parts = [shown(part) if isinstance(part, str) else str(part) for part in key]
        return f"({', '.join(parts)})"
    return f"<{key.name if isinstance(key, Global | Inert) else type(key).__name__}>"


def _bounded(literal: Any) -> Any:
    if isinstance(literal, int) and literal.bit_length() > MAX_BITS:
        return Inert(f"an integer of {literal.bit_length()} bits")
    return literal
