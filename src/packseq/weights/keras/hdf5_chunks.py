"""Data that HDF5 keeps in chunks, plain or packed by gzip, LZF and shuffling, unpacked here.

libhdf5 unpacks a chunk to whatever size comes out; here nothing becomes larger than the chunk that
its dataset declares. Where the chunks are, libhdf5 tells.

Source: HDF5 File Format Specification 3.0: IV.A.2.l "Filter Pipeline Message"; liblzf's
lzf_d.c, whose format h5py's filter 32000 writes.
"""

import itertools
import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import CheckpointError


def inflate(packed: bytes, size: int) -> bytes:
    """What zlib packed, of `size` bytes; one more if it is longer."""
    return zlib.decompressobj().decompress(packed, size + 1)


def unshuffle(shuffled: bytes, size: int, width: int) -> bytes:
    """Elements of `width` bytes out of all their first bytes, then all their second, and so on."""
    return np.frombuffer(shuffled, np.uint8).reshape(width, -1).T.tobytes()


def unpack_lzf(packed: bytes, size: int) -> bytes:
    """What LZF packed, of `size` bytes; more if it is longer."""
    out = bytearray()
    position = 0
    while position < len(packed) and len(out) <= size:
        control = packed[position]
        position += 1
        if control < 32:  # so many bytes and one, as they are
            out += packed[position : position + control + 1]
            position += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += packed[position]
            position += 1
        back = ((control & 31) << 8) + packed[position] + 1
        position += 1
        if back > len(out):
            raise CheckpointError("LZF refers to before its start")
        piece = bytes(out[-back:])
        # The piece may run into what it writes.
        out += (piece * ((length + 2) // back + 1))[: length + 2]
    return bytes(out)


# The numbers of the filters in a file.
DEFLATE, SHUFFLE, LZF = 1, 2, 32000
FILTERS: dict[int, Callable[[bytes, int, int], bytes]] = {
    DEFLATE: lambda packed, size, width: inflate(packed, size),
    SHUFFLE: unshuffle,
    LZF: lambda packed, size, width: unpack_lzf(packed, size),
}


class Chunk(NamedTuple):
    """Where a chunk is in the file, and which filters were left out of it."""

    left_out: int
    offset: int
    size: int


Chunks = dict[tuple[int, ...], Chunk]


def counts_of(dataset: Any) -> list[int]:
    """How many chunks there are along each axis."""
    return [-(-size // step) for size, step in zip(dataset.shape, dataset.chunks, strict=True)]


def chunks_of(dataset: Any, count: int) -> Chunks:
    """The chunks by where they start, at most one more than `count`."""
    chunks: Chunks = {}

    def keep(info: Any) -> bool | None:
        chunks[tuple(info.chunk_offset)] = Chunk(info.filter_mask, info.byte_offset, info.size)
        return True if len(chunks) > count else None

    dataset.id.chunk_iter(keep)
    return chunks


def read_chunks(content: memoryview, dataset: Any, dtype: np.dtype[Any], chunks: Chunks) -> Array:
    """A dataset out of its chunks, whose sizes have been checked.

    Raises
    ------
    CheckpointError
        A filter is none of FILTERS, or a chunk is missing or has another size.
    """
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if unknown := [number for number in filters if number not in FILTERS]:
        raise CheckpointError(f"{dataset.name}: packed by filter {unknown[0]}, which is not read")
    steps = dataset.chunks
    array = np.empty([n * step for n, step in zip(counts_of(dataset), steps, strict=True)], dtype)
    for starts in itertools.product(*map(range, [0] * array.ndim, array.shape, steps)):
        if starts not in chunks:
            raise CheckpointError(f"{dataset.name}: no chunk begins at {starts}")
        chunk = chunks[starts]
        raw = bytes(content[chunk.offset : chunk.offset + chunk.size])
        size = math.prod(steps) * dtype.itemsize
        raw = unpacked(raw, filters, chunk.left_out, size, dtype.itemsize)
        ends = (start + step for start, step in zip(starts, steps, strict=True))
        array[tuple(map(slice, starts, ends))] = np.frombuffer(raw, dtype).reshape(steps)
    return array[tuple(map(slice, dataset.shape))]


def unpacked(raw: bytes, filters: list[int], left_out: int, size: int, width: int) -> bytes:
    """A chunk of `size` bytes, through its filters from the last to the first."""
    for i in reversed(range(len(filters))):
        if not left_out >> i & 1:
            raw = FILTERS[filters[i]](raw, size, width)
        if len(raw) > size:
            raise CheckpointError(f"a chunk of {size} bytes becomes more than that")
    if len(raw) != size:
        raise CheckpointError(f"a chunk of {size} bytes has {len(raw)}")
    return raw
