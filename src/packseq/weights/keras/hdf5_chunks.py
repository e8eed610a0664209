"""Data that HDF5 keeps in chunks, plain or packed by gzip, LZF and shuffling, unpacked here.

libhdf5 unpacks a chunk to whatever size comes out; here nothing becomes larger than the chunk that
its dataset declares.

Source: HDF5 File Format Specification 3.0: IV.A.2.l "Filter Pipeline Message"; liblzf's
lzf_d.c, whose format h5py's filter 32000 writes.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mod
from typing import NamedTuple

import numpy as np

from ..errors import CheckpointError


def inflate(packed: bytes, size: int) -> bytes:
    """What zlib packed, of `size` bytes; one more if it is longer."""
    try:
        return zlib.decompressobj().decompress(packed, size + 1)
    except zlib.error as error:
        raise CheckpointError(f"packed by gzip: {error}") from error


def unshuffle(shuffled: bytes, size: int, width: int) -> bytes:
    """Elements of `width` bytes out of all their first bytes, then all their second, and so on."""
    if len(shuffled) % width:
        raise CheckpointError(f"{len(shuffled)} shuffled bytes are no elements of {width}")
    return np.frombuffer(shuffled, np.uint8).reshape(width, -1).T.tobytes()


def unpack_lzf(packed: bytes, size: int) -> bytes:
    """What LZF packed, of `size` bytes; more if it is longer."""
    out = bytearray()
    read = packed + bytes(2)  # so that what is cut off can be looked at, and is refused at the end
    position = 0
    while position < len(packed) and len(out) <= size:
        control = read[position]
        position += 1
        if control < 32:  # so many bytes and one, as they are
            out += packed[position : position + control + 1]
            position += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += read[position]
            position += 1
        back = ((control & 31) << 8) + read[position] + 1
        position += 1
        if back > len(out):
            raise CheckpointError("LZF refers to before its start")
        piece = bytes(out[-back:])
        # The piece may run into what it writes.
        out += (piece * ((length + 2) // back + 1))[: length + 2]
    if position > len(packed):
        raise CheckpointError("LZF is cut off")
    return bytes(out)


# The numbers of the filters in a file.
DEFLATE, SHUFFLE, LZF = 1, 2, 32000
FILTERS: dict[int, Callable[[bytes, int, int], bytes]] = {
    DEFLATE: lambda packed, size, width: inflate(packed, size),
    SHUFFLE: unshuffle,
    LZF: lambda packed, size, width: unpack_lzf(packed, size),
}


class Chunk(NamedTuple):
    """Which filters were left out of a chunk, bit by bit, and its bytes."""

    left_out: int
    raw: memoryview


@dataclass
class Packed:
    """An array in chunks of `steps` elements, by where they start, and their filters."""

    steps: tuple[int, ...]
    filters: list[int]
    chunks: dict[tuple[int, ...], Chunk]

    def extent(self, shape: Sequence[int]) -> list[int]:
        """The size along each axis of all chunks, whose last may reach beyond the array."""
        return [-(-size // step) * step for size, step in zip(shape, self.steps, strict=True)]

    def elements(self, shape: Sequence[int]) -> int:
        """How many elements all chunks have."""
        return math.prod(self.extent(shape))

    def joined(self, shape: tuple[int, ...], width: int, what: str) -> bytes:
        """The bytes of the array, whose elements have `width`, and whose size has been checked.

        Raises
        ------
        CheckpointError
            A filter is none of FILTERS, or a chunk is missing, elsewhere or of another size.
        """
        if unknown := [number for number in self.filters if number not in FILTERS]:
            raise CheckpointError(f"{what}: packed by filter {unknown[0]}, which is not read")
        each, element = math.prod(self.steps), np.dtype(f"V{width}")
        array = np.empty(self.extent(shape), element)
        if len(self.chunks) * each != array.size:
            needed = array.size // each
            raise CheckpointError(f"{what}: {len(self.chunks)} of {needed} chunks are there")
        for starts, chunk in self.chunks.items():
            inner = array[tuple(map(slice, starts, map(sum, zip(starts, self.steps, strict=True))))]
            if inner.shape != self.steps or any(map(mod, starts, self.steps)):
                raise CheckpointError(f"{what}: no chunk begins at {starts}")
            raw = unpacked(chunk, self.filters, each * width, width)
            inner[...] = np.frombuffer(raw, element).reshape(self.steps)
        return array[tuple(map(slice, shape))].tobytes()


def unpacked(chunk: Chunk, filters: list[int], size: int, width: int) -> bytes:
    """A chunk of `size` bytes, through its filters from the last to the first."""
    raw = bytes(chunk.raw)
    for i in reversed(range(len(filters))):
        if not chunk.left_out >> i & 1:
            raw = FILTERS[filters[i]](raw, size, width)
        if len(raw) > size:
            raise CheckpointError(f"a chunk of {size} bytes becomes more than that")
    if len(raw) != size:
        raise CheckpointError(f"a chunk of {size} bytes has {len(raw)}")
    return raw
