"""An array of an HDF5 file: what its object says of it, and where its bytes are.

Source: HDF5 File Format Specification 3.0: IV.A.2.i "The Data Layout Message", IV.A.2.l "Filter
Pipeline Message", III.A.1 "Version 1 B-trees".
"""

import struct
from dataclasses import dataclass

from ..errors import CheckpointError
from ..limits import element_count
from .hdf5_chunks import Chunk, Packed
from .hdf5_structure import (
    ADDRESS,
    ADDRESSES,
    UNDEFINED,
    Message,
    Source,
    leaves,
    only,
    part,
    unpack,
)
from .hdf5_types import Number, number_of, shape_of

DATASPACE, DATATYPE, EXTERNAL, LAYOUT, FILTERS = 0x01, 0x03, 0x07, 0x08, 0x0B
COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL = 0, 1, 2, 3

SHORT = struct.Struct("<H")
CHUNK_NODES = 1
CHUNK_KEY = struct.Struct("<II")
FILTER = struct.Struct("<HHHH")
UNNAMED_FILTER = struct.Struct("<HHH")
NAMED_FILTERS = 256  # those from this number on have a name in version 2 too


@dataclass
class Dataset:
    """An array in the file: its data are its bytes, or the chunks that become them."""

    shape: tuple[int, ...]
    number: Number
    data: memoryview | Packed

    @property
    def made(self) -> int:
        """How many bytes are made of it."""
        if isinstance(self.data, Packed):
            return self.data.elements(self.shape) * self.number.size
        return len(self.data)


def is_dataset(messages: list[Message]) -> bool:
    """Whether an object is an array."""
    return any(message.kind == LAYOUT for message in messages)


def dataset_of(source: Source, messages: list[Message], what: str) -> Dataset:
    """The array that an object is, whose bytes are found and not yet unpacked.

    Raises
    ------
    CheckpointError
        It is malformed, virtual, kept in another file, or not of numbers.
    """
    layout, datatype, space = (only(messages, kind) for kind in (LAYOUT, DATATYPE, DATASPACE))
    if layout is None or datatype is None or space is None:
        raise CheckpointError(f"{what} lacks its layout, its type or its shape")
    if only(messages, EXTERNAL) is not None:
        raise CheckpointError(f"{what} keeps its data in another file")
    version, kind = part(layout, 0, 2)
    if kind == VIRTUAL:
        raise CheckpointError(f"{what} is virtual")
    if version not in (3, 4) or kind > CHUNKED or (version, kind) == (4, CHUNKED):
        raise CheckpointError(f"{what} has layout {kind} of version {version}, which is not read")
    number, shape = number_of(datatype, what), tuple(shape_of(space))
    wanted = element_count(shape, what) * number.size
    if kind == CHUNKED:
        return Dataset(shape, number, packed(source, messages, layout, len(shape)))
    stored = whole(source, layout, kind)
    if len(stored) != wanted:
        raise CheckpointError(
            f"{what}: shape {shape} of {number.name} needs {wanted} bytes; {len(stored)} are stored"
        )
    return Dataset(shape, number, stored)


def whole(source: Source, layout: memoryview, kind: int) -> memoryview:
    """The bytes of an array that is in one piece, in the message itself or where that says."""
    if kind == COMPACT:
        return part(layout, 4, unpack(SHORT, layout, 2)[0])
    address, size = unpack(ADDRESSES, layout, 2)
    return layout[:0] if address == UNDEFINED else source.take(address, size)


def packed(source: Source, messages: list[Message], layout: memoryview, rank: int) -> Packed:
    """The chunks of an array of `rank` axes, and how they were packed."""
    axes = part(layout, 2, 1)[0]  # those of the array, and an element's bytes
    if axes != rank + 1:
        raise CheckpointError(f"chunks of {axes - 1} axes for an array of {rank}")
    (tree,) = unpack(ADDRESS, layout, 3)
    *steps, _ = unpack(struct.Struct(f"<{axes}I"), layout, 3 + ADDRESS.size)
    if 0 in steps:
        raise CheckpointError(f"chunks of {steps} elements")
    chunks: dict[tuple[int, ...], Chunk] = {}
    if tree != UNDEFINED:
        place = struct.Struct(f"<{axes}Q")
        for key, address in leaves(source, tree, CHUNK_NODES, CHUNK_KEY.size + place.size):
            size, left_out = unpack(CHUNK_KEY, key)
            *starts, _ = unpack(place, key, CHUNK_KEY.size)
            chunks[tuple(starts)] = Chunk(left_out, source.take(address, size))
    return Packed(tuple(steps), filters_of(only(messages, FILTERS)), chunks)


def filters_of(pipeline: memoryview | None) -> list[int]:
    """The numbers of the filters that chunks went through, the first first."""
    if pipeline is None:
        return []
    version, count = part(pipeline, 0, 2)
    if version not in (1, 2):
        raise CheckpointError(f"filters of version {version} are not read")
    position = 8 if version == 1 else 2
    filters = []
    for _ in range(count):
        (number,) = unpack(SHORT, pipeline, position)
        if version == 2 and number < NAMED_FILTERS:
            (_, _, values), name = unpack(UNNAMED_FILTER, pipeline, position), 0
            position += UNNAMED_FILTER.size
        else:
            _, name, _, values = unpack(FILTER, pipeline, position)
            position += FILTER.size
        position += name + 4 * (values + (values % 2 if version == 1 else 0))
        filters.append(number)
    return filters
