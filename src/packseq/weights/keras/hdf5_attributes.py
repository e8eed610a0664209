"""The text attributes of HDF5 objects: of a fixed length, or in global heaps.

Source: HDF5 File Format Specification 3.0: III.E "Global Heap", IV.A.2.m "The Attribute Message".
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import CheckpointError
from ..limits import element_count
from .hdf5_structure import ADDRESS, UNDEFINED, Message, Source, decoded, part, unpack
from .hdf5_types import STRING, VARIABLE_LENGTH, class_of, shape_of

ATTRIBUTE, ATTRIBUTE_INFO = 0x0C, 0x15

PARTS = struct.Struct("<BBHHH")
REFERENCE = struct.Struct("<IQI")
HEAP = struct.Struct("<4sB3xQ")
HEAP_OBJECT = struct.Struct("<HH4xQ")


class Attribute(NamedTuple):
    """What is said of an object under a name."""

    shared: bool
    datatype: memoryview
    space: memoryview
    data: memoryview


def attributes_of(messages: list[Message]) -> dict[str, Attribute]:
    """The attributes of the object that `messages` are of."""
    found = {}
    for message in messages:
        if message.kind == ATTRIBUTE_INFO:
            check_not_dense(message.body)
        if message.kind == ATTRIBUTE:
            name, *parts = split(message.body)
            key = decoded(bytes(name).rstrip(b"\0"), "an attribute's name")
            found[key] = Attribute(message.shared, *parts)
    return found


class Strings:
    """Reads the strings of attributes in one file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}

    def of(self, attribute: Attribute, name: str) -> list[str]:
        """The strings of an attribute, which is called `name`."""
        if attribute.shared:
            raise CheckpointError(f"attribute {name!r} is shared, which is not read")
        count = element_count(shape_of(attribute.space), name)
        raws = self._elements(attribute.datatype, count, attribute.data)
        return [decoded(raw, f"attribute {name!r}") for raw in raws]

    def _elements(self, datatype: memoryview, count: int, data: memoryview) -> Iterator[bytes]:
        kind, size = class_of(datatype)
        if kind not in (STRING, VARIABLE_LENGTH):
            if count:
                raise CheckpointError("an attribute is not text")
            return
        if size == 0 or count * size > len(data):
            raise CheckpointError(f"an attribute of {count} strings is cut off")
        for start in range(0, count * size, size):
            if kind == STRING:
                yield bytes(data[start : start + size]).rstrip(b"\0")
            else:
                yield self._referred(*unpack(REFERENCE, data, start))

    def _referred(self, length: int, address: int, index: int) -> bytes:
        if length == 0:
            return b""
        if address not in self._heaps:
            self._heaps[address] = dict(self._heap(address))
        start, stored = self._heaps[address].get(index, (0, 0))
        if length > stored:
            raise CheckpointError(f"a string of {length} bytes where its heap has {stored}")
        return bytes(self._source.take(start, length))

    def _heap(self, address: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """Each object's number, where it is and its bytes."""
        signature, version, size = self._source.unpack(HEAP, address)
        if signature != b"GCOL" or version != 1:
            raise CheckpointError(f"byte {address}: not a global heap")
        position, end = address + HEAP.size, address + size
        if end > len(self._source.content):
            raise CheckpointError(f"byte {address}: a global heap is cut off")
        while position + HEAP_OBJECT.size <= end:
            index, _, length = self._source.unpack(HEAP_OBJECT, position)
            if index == 0:  # free space, always the last
                return
            position += HEAP_OBJECT.size
            if length > end - position:
                raise CheckpointError(f"byte {position}: an object reaches beyond its heap")
            yield index, (position, length)
            position += padded(length)


def check_not_dense(body: memoryview) -> None:
    """Refuse an object whose attributes lie in a fractal heap."""
    _, flags = part(body, 0, 2)
    if unpack(ADDRESS, body, 2 + 2 * (flags & 1)) != (UNDEFINED,):
        raise CheckpointError("attributes in a fractal heap, HDF5's newest format, are not read")


def split(body: memoryview) -> list[memoryview]:
    """An attribute message's name, datatype, dataspace and data."""
    version, flags, *sizes = unpack(PARTS, body)
    if version not in (1, 2, 3) or (version > 1 and flags):
        raise CheckpointError(f"an attribute message of version {version}, flags {flags}")
    position = PARTS.size + (version == 3)
    parts = []
    for size in sizes:
        parts.append(part(body, position, size))
        position += padded(size) if version == 1 else size
    return [*parts, body[position:]]


def padded(size: int) -> int:
    """`size` rounded up to 8 bytes."""
    return (size + 7) // 8 * 8
