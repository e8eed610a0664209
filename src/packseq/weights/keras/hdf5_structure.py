"""The objects of an HDF5 file: their messages, the links of groups, and B-trees.

Read here and not by libhdf5, which believes what a file declares: fuzzing found libhdf5 2.0 never
to return from a B-tree that leads to itself (memory grows meanwhile), nor from a heap's free space,
and to allocate 3.8 GB for a string in a file of 10 kB.

Source: HDF5 File Format Specification 3.0: II "Disk Format: Level 0", III.A.1 "Version 1 B-trees",
III.B "Group Symbol Table Nodes", III.D "Local Heaps", IV.A "Data Object Headers".
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..errors import CheckpointError

LINK_INFO, LINK, CONTINUATION, SYMBOL_TABLE = 0x02, 0x06, 0x10, 0x11

SUPERBLOCKS = {  # by version: where the two sizes, the base address and the root's address are
    0: (13, 24, 64),
    1: (13, 28, 68),
    2: (9, 12, 36),
    3: (9, 12, 36),
}
ADDRESS = struct.Struct("<Q")
ADDRESSES = struct.Struct("<QQ")
UNDEFINED = 2**64 - 1

OLD_HEADER = struct.Struct("<4xI4x")  # after its first 4 bytes
OLD_MESSAGE, NEW_MESSAGE, ORDERED_MESSAGE = map(struct.Struct, ("<HHB3x", "<BHB", "<BHB2x"))
SIGNATURE = CHECKSUM = 4

NODE = struct.Struct("<4sBBH16x")
DEEPEST_LEVEL = 255
GROUP_NODES, GROUP_KEY = 0, 8
SYMBOLS = struct.Struct("<4sBxH")
SYMBOL = struct.Struct("<QQI20x")
SOFT_SYMBOL = 2
HEAP = struct.Struct("<4sB3xQ8xQ")
LINK_KINDS = {0: "hard", 1: "soft", 64: "external"}


class Source:
    """The bytes of a file. No more of them are read than there are, since each means one thing.

    So no circle is followed for long, and nothing is made of parts that lie over one another.

    Parameters
    ----------
    content : memoryview
        The file.
    """

    def __init__(self, content: memoryview) -> None:
        self.content = content
        self._left = len(content)

    def take(self, start: int, size: int) -> memoryview:
        """The `size` bytes from `start`."""
        if size < 0 or start + size > len(self.content):
            raise CheckpointError(f"byte {start}: {size} bytes reach beyond the HDF5 file")
        if size > self._left:
            raise CheckpointError(f"byte {start}: parts of the HDF5 file lie over one another")
        self._left -= size
        return self.content[start : start + size]

    def unpack(self, layout: struct.Struct, start: int) -> tuple[Any, ...]:
        """What is at `start`: numbers, and signatures as bytes."""
        return layout.unpack(self.take(start, layout.size))

    def text(self, start: int, end: int) -> str:
        """What is written from `start` up to a NUL before `end`."""
        size = 64
        while (stop := bytes(self.content[start : min(start + size, end)]).find(0)) < 0:
            if start + size >= end:
                raise CheckpointError(f"byte {start}: a name has no end")
            size *= 2
        return decoded(bytes(self.take(start, stop + 1))[:-1], f"byte {start}: a name")


def decoded(raw: bytes, what: str) -> str:
    """Text, which must be UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{what} is not UTF-8: {error}") from None


def unpack(layout: struct.Struct, body: memoryview, position: int = 0) -> tuple[Any, ...]:
    """The numbers at `position` of a message, which must lie within it."""
    return layout.unpack(part(body, position, layout.size))


def part(body: memoryview, start: int, size: int) -> memoryview:
    """The `size` bytes from `start` of a message, which must lie within it."""
    if start + size > len(body):
        raise CheckpointError(f"a message of {len(body)} bytes is cut off")
    return body[start : start + size]


# --- objects --------------------------------------------------------------------------------


def root_of(source: Source) -> int:
    """Where the root group's header is.

    Raises
    ------
    CheckpointError
        The superblock is of a version that is not read, has sizes other than 8 bytes, or the file
        lies within another.
    """
    head = bytes(source.content[:9])
    version = head[8] if len(head) == 9 else None
    if version not in SUPERBLOCKS:
        raise CheckpointError(f"HDF5 with a superblock of version {version}; expected 0 to 3")
    sizes, base, root = SUPERBLOCKS[version]
    found = tuple(source.take(sizes, 2))
    if found != (8, 8):
        raise CheckpointError(f"HDF5 with offsets and lengths of {found} bytes, not 8")
    if source.unpack(ADDRESS, base)[0]:
        raise CheckpointError("HDF5 that begins elsewhere than at the file's first byte")
    return int(source.unpack(ADDRESS, root)[0])


class Message(NamedTuple):
    """What an object's header says of one matter, by number; or where that is, if shared."""

    kind: int
    shared: bool
    body: memoryview


def messages_of(source: Source, address: int) -> list[Message]:
    """The messages of the object whose header is at `address`."""
    first = bytes(source.take(address, SIGNATURE))
    if first == b"OHDR":
        layout, start, size = new_header(source, address + SIGNATURE)
        around = SIGNATURE, CHECKSUM
    elif first[0] == 1:
        layout, start = OLD_MESSAGE, address + SIGNATURE + OLD_HEADER.size
        (size,) = source.unpack(OLD_HEADER, address + SIGNATURE)
        around = 0, 0
    else:
        raise CheckpointError(f"byte {address}: no HDF5 object begins with {first!r}")
    blocks = [(start, size)]
    messages = []
    for start, size in blocks:
        for message in block_of(source.take(start, size), layout):
            messages.append(message)
            if message.kind == CONTINUATION:
                begin, extent = unpack(ADDRESSES, message.body)
                blocks.append((begin + around[0], extent - sum(around)))
    return messages


def new_header(source: Source, position: int) -> tuple[struct.Struct, int, int]:
    """How the messages of a header of version 2 are laid out, where they begin, and their bytes."""
    version, flags = source.take(position, 2)
    if version != 2:
        raise CheckpointError(f"byte {position}: an object header of version {version}")
    position += 2 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)  # times, and limits of attributes
    width = 1 << (flags & 3)
    size = int.from_bytes(source.take(position, width), "little")
    return (ORDERED_MESSAGE if flags & 4 else NEW_MESSAGE), position + width, size


def block_of(block: memoryview, layout: struct.Struct) -> Iterator[Message]:
    """The messages in one block of a header, whose rest may be a gap."""
    position = 0
    while position + layout.size <= len(block):
        kind, size, flags = layout.unpack_from(block, position)
        position += layout.size
        yield Message(kind, bool(flags & 2), part(block, position, size))
        position += size


def only(messages: list[Message], kind: int) -> memoryview | None:
    """The message of a kind, of which an object has one or none."""
    found = [message for message in messages if message.kind == kind]
    if not found:
        return None
    if len(found) > 1 or found[0].shared:
        raise CheckpointError(f"message {kind:#x} is there {len(found)} times, or shared")
    return found[0].body


# --- groups ---------------------------------------------------------------------------------


class Link(NamedTuple):
    """A name in a group, and where its object is if the link is "hard"."""

    name: str
    kind: str
    address: int


def is_group(messages: list[Message]) -> bool:
    """Whether an object is a group."""
    return any(message.kind in (SYMBOL_TABLE, LINK_INFO, LINK) for message in messages)


def links_of(source: Source, messages: list[Message]) -> list[Link]:
    """What is in a group, by name."""
    links: list[Link] = []
    for message in messages:
        if message.kind == SYMBOL_TABLE:
            links += symbols(source, *unpack(ADDRESSES, message.body))
        elif message.kind == LINK:
            links.append(link_of(message.body))
        elif message.kind == LINK_INFO:
            version, flags = part(message.body, 0, 2)
            (heap,) = unpack(ADDRESS, message.body, 2 + 8 * (flags & 1))
            if version or heap != UNDEFINED:
                raise CheckpointError(
                    "a group is of HDF5's newest format, with its links in a fractal heap, which "
                    "is not read: write the file with libver='earliest', or copy it by h5repack"
                )
    return sorted(links)


def link_of(body: memoryview) -> Link:
    """A link that a message holds."""
    version, flags = part(body, 0, 2)
    kind = part(body, 2, 1)[0] if flags & 8 else 0
    if version != 1 or kind not in LINK_KINDS:
        raise CheckpointError(f"a link of version {version} and kind {kind}")
    # Its kind, its place in the order of creation and its characters' set are each left out or not.
    position = 2 + (flags >> 3 & 1) + 8 * (flags >> 2 & 1) + (flags >> 4 & 1)
    width = 1 << (flags & 3)
    size = int.from_bytes(part(body, position, width), "little")
    name = decoded(bytes(part(body, position + width, size)), "a link's name")
    address = 0 if kind else unpack(ADDRESS, body, position + width + size)[0]
    return Link(name, LINK_KINDS[kind], address)


def symbols(source: Source, tree: int, heap: int) -> Iterator[Link]:
    """The links that a symbol table holds, with their names in a local heap."""
    signature, version, size, names = source.unpack(HEAP, heap)
    if signature != b"HEAP" or version:
        raise CheckpointError(f"byte {heap}: not a local heap of HDF5")
    for _, address in leaves(source, tree, GROUP_NODES, GROUP_KEY):
        signature, version, count = source.unpack(SYMBOLS, address)
        if signature != b"SNOD" or version != 1:
            raise CheckpointError(f"byte {address}: not a symbol table of HDF5")
        entries = source.take(address + SYMBOLS.size, count * SYMBOL.size)
        for offset, target, cached in SYMBOL.iter_unpack(entries):
            name = source.text(names + offset, names + size)
            yield Link(name, "soft" if cached == SOFT_SYMBOL else "hard", target)


def leaves(
    source: Source, address: int, kind: int, key_bytes: int, above: int = DEEPEST_LEVEL + 1
) -> Iterator[tuple[memoryview, int]]:
    """Each key, and the address it stands for, of a B-tree whose root is below level `above`."""
    signature, found, level, count = source.unpack(NODE, address)
    if signature != b"TREE" or found != kind or level >= above:
        raise CheckpointError(f"byte {address}: not a B-tree of HDF5 of kind {kind} below {above}")
    step = key_bytes + ADDRESS.size
    entries = source.take(address + NODE.size, count * step)
    for start in range(0, count * step, step):
        (child,) = ADDRESS.unpack_from(entries, start + key_bytes)
        if level:
            yield from leaves(source, child, kind, key_bytes, level)
        else:
            yield entries[start : start + key_bytes], child
