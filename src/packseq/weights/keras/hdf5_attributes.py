"""The text attributes of HDF5 objects, read here and not by libhdf5.

Strings of any length lie in global heaps, and libhdf5 2.0 believes what those declare: fuzzing
found it never to return from one, and to allocate 3.8 GB for a string in a file of 10 kB. Keras
keeps its names and config in such strings.

Source: HDF5 File Format Specification 3.0: III.E "Global Heap", IV.A.1.a "Version 1 Data Object
Header Prefix", IV.A.2 "Data Object Header Messages".
"""

import struct
from collections.abc import Iterator

from ..errors import CheckpointError
from ..limits import check_budget, element_count

ATTRIBUTE, CONTINUATION = 0x0C, 0x10
FIXED_STRING, VARIABLE_LENGTH = 3, 9
MAX_BLOCKS = 1000

HEADER = struct.Struct("<BxHII4x")
MESSAGE = struct.Struct("<HHB3x")
PARTS = struct.Struct("<BBHHH")
REFERENCE = struct.Struct("<IQI")
HEAP = struct.Struct("<4sB3xQ")
HEAP_OBJECT = struct.Struct("<HH4xQ")


def unpack(layout: struct.Struct, content: bytes | memoryview, position: int) -> tuple[int, ...]:
    """The numbers at `position`, which must lie within `content`."""
    if position + layout.size > len(content):
        raise CheckpointError(f"byte {position}: cut off")
    return layout.unpack_from(content, position)


def padded(size: int) -> int:
    """`size` rounded up to 8 bytes."""
    return (size + 7) // 8 * 8


class Attributes:
    """Reads the attributes of the objects in the file that `content` is."""

    def __init__(self, content: memoryview) -> None:
        # In the superblock, whose versions 0 and 1 put the two sizes elsewhere.
        head = bytes(content[:15])
        sizes = head[13:15] if head[8:9] in (b"\0", b"\1") else head[9:11]
        if sizes != b"\x08\x08":
            raise CheckpointError(f"HDF5 with offsets and lengths of {tuple(sizes)} bytes, not 8")
        self._content = content
        self._heaps: dict[int, dict[int, memoryview]] = {}
        self._walked = 0  # bytes of heaps, which may lie over one another
        self._made = 0

    def strings(self, address: int, name: str) -> list[str] | None:
        """The strings of an attribute of the object whose header is at `address`, if it has it."""
        for kind, flags, body in self._messages(address):
            if kind == ATTRIBUTE:
                own_name, datatype, shape, data = split(body)
                if own_name == name.encode():
                    if flags & 2:
                        raise CheckpointError(f"attribute {name!r} is shared, which is not read")
                    return [text(raw, name) for raw in self._elements(datatype, shape, data)]
        return None

    def _messages(self, address: int) -> Iterator[tuple[int, int, bytes]]:
        version, _, _, size = unpack(HEADER, self._content, address)
        if version != 1:
            raise CheckpointError(f"byte {address}: object header of version {version}, not 1")
        blocks = [(address + HEADER.size, size)]
        for position, length in blocks:
            end = position + length
            if end > len(self._content) or len(blocks) > MAX_BLOCKS:
                raise CheckpointError(f"byte {position}: an object header is malformed")
            while position + MESSAGE.size <= end:
                kind, size, flags = unpack(MESSAGE, self._content, position)
                body = bytes(self._content[position + MESSAGE.size : min(position + 8 + size, end)])
                position += MESSAGE.size + size
                if kind == CONTINUATION:
                    start, length = unpack(struct.Struct("<QQ"), body, 0)
                    blocks.append((start, length))
                yield kind, flags, body

    def _elements(self, datatype: bytes, shape: list[int], data: bytes) -> Iterator[bytes]:
        count = element_count(shape, "an attribute")
        class_bits, size = unpack(struct.Struct("<B3xI"), datatype, 0)
        if class_bits & 0xF not in (FIXED_STRING, VARIABLE_LENGTH):
            if count:
                raise CheckpointError("an attribute is not text")
            return
        if size == 0 or count * size > len(data):
            raise CheckpointError(f"an attribute of {count} strings is cut off")
        for start in range(0, count * size, size):
            if class_bits & 0xF == FIXED_STRING:
                yield data[start : start + size].rstrip(b"\0")
            else:
                yield self._referred(*unpack(REFERENCE, data, start))

    def _referred(self, length: int, address: int, index: int) -> bytes:
        if address not in self._heaps:
            self._heaps[address] = dict(self._heap(address))
        stored = self._heaps[address].get(index, self._content[:0])
        if length > len(stored):
            raise CheckpointError(f"a string of {length} bytes where its heap has {len(stored)}")
        self._made += length
        check_budget(self._made, len(self._content), "strings")
        return bytes(stored[:length])

    def _heap(self, address: int) -> Iterator[tuple[int, memoryview]]:
        if bytes(self._content[address : address + 5]) != b"GCOL\x01":
            raise CheckpointError(f"byte {address}: not a global heap")
        *_, size = unpack(HEAP, self._content, address)
        position, end = address + HEAP.size, address + size
        if end > len(self._content):
            raise CheckpointError(f"byte {address}: a global heap is cut off")
        self._walked += size
        check_budget(self._walked, len(self._content), "global heaps")
        while position + HEAP_OBJECT.size <= end:
            index, _, length = unpack(HEAP_OBJECT, self._content, position)
            if index == 0:  # free space, always the last
                return
            position += HEAP_OBJECT.size
            if length > end - position:
                raise CheckpointError(f"byte {position}: an object reaches beyond its heap")
            yield index, self._content[position : position + length]
            position += padded(length)


def split(body: bytes) -> tuple[bytes, bytes, list[int], bytes]:
    """An attribute message's name, datatype, shape and data."""
    version, flags, *sizes = unpack(PARTS, body, 0)
    if version not in (1, 2, 3) or (version > 1 and flags):
        raise CheckpointError(f"an attribute message of version {version}, flags {flags}")
    position = PARTS.size + (version == 3)
    parts = []
    for size in sizes:
        parts.append(body[position : position + size])
        position += padded(size) if version == 1 else size
    name, datatype, space = parts
    rank, offset = (space[1:2] or b"\0")[0], 8 if space[:1] == b"\x01" else 4
    shape = list(unpack(struct.Struct(f"<{rank}Q"), space, offset))
    return name.rstrip(b"\0"), datatype, shape, body[position:]


def text(raw: bytes, name: str) -> str:
    """A string, which must be UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"attribute {name!r} is not UTF-8: {error}") from None
