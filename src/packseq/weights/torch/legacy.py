"""torch's files from before 1.6, and pickles without storages.

Such a file is a row of pickles: a magic number, a version, what the machine was, the object, and
the keys of its storages. The storages follow, each its number of elements and then their bytes.

Source: torch.serialization (``_legacy_load``).
"""

from typing import Any, BinaryIO

from ..arrays import item_bytes
from ..canonical import Checkpoint
from ..errors import CheckpointError
from . import pickles, tree
from .pickles import Global, Persistent, shown
from .tensors import UNTYPED, Byteorder, Tensors, dtype_of, storage_of

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
COUNT_BYTES = 8


def read(stream: BinaryIO, content: memoryview) -> Checkpoint:
    """Every tensor in a file, or in a plain pickle; the keys that lead to it joined by dots.

    Parameters
    ----------
    stream : BinaryIO
        The file, at its start.
    content : memoryview
        The same, mapped: what is made are views of it.
    """
    first = pickles.load(stream)
    if not isinstance(first, int) or first != MAGIC_NUMBER:
        if stream.tell() != len(content):
            raise CheckpointError("is a pickle with other bytes after it, which is not torch's")
        return tree.checkpoint(first, Tensors(Storages(content, stream, {})).array)
    if pickles.load(stream) != PROTOCOL:
        raise CheckpointError(f"is a torch file of a version other than {PROTOCOL}")
    pickles.load(stream)  # what the machine was: the bytes are little-endian whatever it was
    types: dict[str, str] = {}
    made = pickles.load(stream, lambda identifier: noted(identifier, types))
    storages = Storages(content, stream, types)
    return tree.checkpoint(made, Tensors(storages).array)


def noted(identifier: Any, types: dict[str, str]) -> Any:
    """The object of a persistent id; a storage's type is kept, to know where the next begins."""
    if isinstance(identifier, tuple) and len(identifier) == 4 and identifier[:1] == ("module",):
        return identifier[1] if isinstance(identifier[1], Global) else Persistent(identifier)
    storage = Persistent(identifier)
    kind, key, *_ = storage_of(storage)
    types.setdefault(key, kind)
    return storage


class Storages:
    """The storages at the end of a file, which `stream` has been read up to."""

    byteorder: Byteorder = "<"

    def __init__(self, content: memoryview, stream: BinaryIO, types: dict[str, str]) -> None:
        self.file_bytes = len(content)
        self._raw: dict[str, memoryview] = {}
        if not types:
            return
        keys = pickles.load(stream)
        if not isinstance(keys, list):
            raise CheckpointError("has no list of its storages' keys")
        for key in keys:
            if not isinstance(key, str) or key in self._raw or key not in types:
                text = shown(key) if isinstance(key, str) else "that is no text"
                raise CheckpointError(f"has a storage {text} that no tensor names, or twice")
            self._raw[key] = self._next(content, stream, types[key], key)

    def _next(self, content: memoryview, stream: BinaryIO, kind: str, key: str) -> memoryview:
        each = 1 if kind == UNTYPED else item_bytes(dtype_of(kind, None))
        counted = stream.read(COUNT_BYTES)
        start = stream.tell()
        count = int.from_bytes(counted, "little", signed=True)
        if len(counted) < COUNT_BYTES or not 0 <= count * each <= len(content) - start:
            raise CheckpointError(f"storage {shown(key)} of {count} elements is cut off")
        stream.seek(start + count * each)
        return content[start : start + count * each]

    def size(self, key: str) -> int:
        """The bytes of a storage."""
        return len(self.read(key))

    def read(self, key: str) -> memoryview:
        """A storage."""
        if key not in self._raw:
            raise CheckpointError(f"storage {shown(key)} is missing")
        return self._raw[key]
