"""A reader of pickles that runs no code: plain containers, and calls of a few admitted names.

Python's own unpickler imports what a pickle names and calls it. This one walks the opcodes that
``torch.save`` writes with a stack and a memo, looks every global up in a table of our own functions
and never imports anything. An opcode or a global outside of its tables is an error.

Source: the opcodes' meaning is that of ``pickletools`` in the standard library, which also decodes
their arguments.
"""

import pickletools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..errors import CheckpointError, library_errors

# A tensor takes some 40 opcodes, an object at most 64 bytes: 50,000 tensors, or 128 MiB.
MAX_OPCODES = 2_000_000

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING", "BINBYTES", "SHORT_BINBYTES",
}  # fmt: skip
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
NOTHING = {"PROTO", "FRAME"}
MARK = object()

# Keys whose hash is quick and whose str is short; a nested tuple's is neither.
KEYS = (str, int, float, bool, type(None))


def load(pickled: bytes, admitted: Mapping[str, Any], persistent: Callable[[Any], Any]) -> Any:
    """The object in `pickled`.

    Parameters
    ----------
    pickled : bytes
    admitted : mapping
        What stands for each global, by ``"module.name"``: a function of ours to be called, or any
        other object to be passed on.
    persistent : callable
        Gives the object of a persistent id.

    Raises
    ------
    CheckpointError
        The pickle is malformed, or names what is not admitted; with the byte offset.
    """
    machine = _Machine(admitted, persistent)
    for count, (name, argument, position) in enumerate(_opcodes(pickled)):
        if count >= MAX_OPCODES:
            raise CheckpointError(f"pickle has more than {MAX_OPCODES} opcodes")
        try:
            machine.step(name, argument)
        except _MalformedError as error:
            raise CheckpointError(f"pickle, byte {position}, {name}: {error}") from None
    return machine.result()


class _MalformedError(Exception):
    """An opcode that cannot be obeyed."""


def _opcodes(pickled: bytes) -> Iterator[tuple[str, Any, int]]:
    with library_errors("pickle is cut off or malformed"):
        for opcode, argument, position in pickletools.genops(pickled):
            yield opcode.name, argument, position or 0


class _Machine:
    """The pickle machine: a stack with marks, and a memo."""

    def __init__(self, admitted: Mapping[str, Any], persistent: Callable[[Any], Any]) -> None:
        self._admitted = admitted
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        """What STOP left behind."""
        if len(self._stack) != 1:
            raise CheckpointError(f"pickle leaves {len(self._stack)} objects; expected 1")
        return self._stack[0]

    def step(self, name: str, argument: Any) -> None:
        """Obey one opcode."""
        if name in CONSTANTS:
            self._stack.append(CONSTANTS[name])
        elif name in LITERALS:
            self._stack.append(_bounded(argument))
        elif name in EMPTY:
            self._stack.append(EMPTY[name]())
        elif name in TUPLES:
            self._stack.append(tuple(reversed([self._pop() for _ in range(TUPLES[name])])))
        elif name not in NOTHING:
            self._act(name, argument)

    def _act(self, name: str, argument: Any) -> None:
        match name:
            case "MARK":
                self._stack.append(MARK)
            case "TUPLE":
                self._stack.append(tuple(self._pop_to_mark()))
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._top()
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._top()
            case "BINGET" | "LONG_BINGET":
                if argument not in self._memo:
                    raise _MalformedError(f"memo {argument} was never stored")
                self._stack.append(self._memo[argument])
            case "APPEND":
                item = self._pop()
                self._top(list).append(item)
            case "APPENDS":
                items = self._pop_to_mark()
                self._top(list).extend(items)
            case "SETITEM":
                value, key = self._pop(), self._pop()
                self._set_items([key, value])
            case "SETITEMS":
                self._set_items(self._pop_to_mark())
            case "GLOBAL":
                self._stack.append(self._global(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                attribute, module = self._pop(str), self._pop(str)
                self._stack.append(self._global(f"{module}.{attribute}"))
            case "REDUCE":
                arguments, function = self._pop(tuple), self._pop()
                self._stack.append(self._call(function, arguments))
            case "BUILD":
                # A state dict carries its layers' versions as an attribute, which says nothing
                # about its tensors.
                self._pop(dict)
                self._top(dict)
            case "BINPERSID":
                self._stack.append(self._persistent(self._pop()))
            case "STOP":
                pass
            case _:
                raise _MalformedError("this opcode is not admitted")

    def _global(self, name: str) -> Any:
        if name not in self._admitted:
            raise _MalformedError(
                f"global {name!r} is not admitted, and nothing of it was imported; "
                "save the module's state_dict() alone"
            )
        return self._admitted[name]

    def _call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        if not callable(function):
            raise _MalformedError(f"calls a {type(function).__name__}")
        return function(*arguments)

    def _set_items(self, items: list[Any]) -> None:
        mapping = self._top(dict)
        if len(items) % 2:
            raise _MalformedError("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, KEYS):
                raise _MalformedError(f"a dict key is a {type(key).__name__}")
            if key in mapping:
                raise _MalformedError(f"key {key!r} appears twice")
            mapping[key] = value

    def _pop(self, kind: type = object) -> Any:
        top = self._top(kind)
        self._stack.pop()
        return top

    def _top(self, kind: type = object) -> Any:
        if not self._stack or self._stack[-1] is MARK:
            raise _MalformedError("the stack is empty")
        if not isinstance(self._stack[-1], kind):
            raise _MalformedError(
                f"a {type(self._stack[-1]).__name__} where a {kind.__name__} is needed"
            )
        return self._stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while self._stack and self._stack[-1] is not MARK:
            items.append(self._stack.pop())
        if not self._stack:
            raise _MalformedError("no mark on the stack")
        self._stack.pop()
        return items[::-1]


def _bounded(literal: Any) -> Any:
    if isinstance(literal, int) and literal.bit_length() > 63:
        raise _MalformedError(f"an integer of {literal.bit_length()} bits; expected 64 at most")
    return literal
