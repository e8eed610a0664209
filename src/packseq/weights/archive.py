"""A zip file whose directory has been checked before any entry is read."""

import struct
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import BinaryIO

from .beside import mapped
from .errors import CheckpointError, library_errors
from .limits import check_budget

ENCRYPTED = 0x1
# The sizes of an entry's name and extra field end its local header, which both follow.
LOCAL_SIZES, LOCAL_BYTES = struct.Struct("<HH"), 26
# An array of any plain number can lie at a multiple of so many bytes.
ALIGNMENT = 8
PART_BYTES = 1 << 24
# The others that zipfile knows, bzip2 and LZMA, take memory by their header's word.
METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}


class Archive:
    """The entries of a zip file, by name. Nothing is ever extracted to disk.

    Raises
    ------
    CheckpointError
        The directory is malformed, names an entry twice or outside the archive, lets entries
        overlap, or is encrypted.
    """

    def __init__(self, file: BinaryIO, file_bytes: int) -> None:
        self.file_bytes = file_bytes
        self._content = mapped(file)
        with library_errors("not a readable zip file"):
            self._zip = zipfile.ZipFile(file)
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in self._zip.infolist():
            check_entry(entry)
            if entry.filename in self._entries:
                raise CheckpointError(f"entry {entry.filename!r} appears twice")
            self._entries[entry.filename] = entry
        stored = sum(entry.compress_size for entry in self._entries.values())
        if stored > file_bytes:
            raise CheckpointError(
                f"entries of {stored} bytes in all overlap in a file of {file_bytes}"
            )
        self._unpacked = 0

    @property
    def names(self) -> list[str]:
        """The entries' names, in the order of the directory."""
        return list(self._entries)

    def size(self, name: str) -> int:
        """The unpacked size of an entry in bytes."""
        return self._entry(name).file_size

    def check(self, name: str) -> None:
        """Refuse to unpack an entry where this, and what was unpacked, is too much for the file."""
        check_budget(self._unpacked + self.size(name), self.file_bytes, f"unpacking {name!r}")

    def read(self, name: str) -> bytes:
        """The unpacked bytes of an entry, its checksum verified."""
        entry = self._entry(name)
        self.check(name)
        self._unpacked += entry.file_size
        # Reading by count, since read() unpacks up to 2 GiB whatever the directory declares.
        with library_errors(f"entry {name!r}"), self._zip.open(entry) as stream:
            content = stream.read(entry.file_size)
        if len(content) != entry.file_size:
            raise CheckpointError(
                f"entry {name!r}: {entry.file_size} bytes declared, {len(content)} found"
            )
        return content

    def view(self, name: str) -> memoryview:
        """The same, for what is kept: mapped where it is stored as arrays can use it."""
        entry = self._entry(name)
        start = self._start(entry)
        if entry.compress_type != zipfile.ZIP_STORED or start % ALIGNMENT:
            return memoryview(self.read(name))
        content = self._content[start : start + entry.file_size]
        if len(content) != entry.file_size or checksum(content) != entry.CRC:
            raise CheckpointError(f"entry {name!r}: cut off, or not what its checksum says")
        return content

    def _start(self, entry: zipfile.ZipInfo) -> int:
        """Where the bytes of an entry begin, after a header that zipfile compares with its own."""
        with library_errors(f"entry {entry.filename!r}"):
            self._zip.open(entry).close()
            sizes = LOCAL_SIZES.unpack_from(self._content, entry.header_offset + LOCAL_BYTES)
        return int(entry.header_offset + LOCAL_BYTES + LOCAL_SIZES.size + sum(sizes))

    def _entry(self, name: str) -> zipfile.ZipInfo:
        if name not in self._entries:
            raise CheckpointError(f"entry {name!r} is missing")
        return self._entries[name]


def checksum(content: memoryview) -> int:
    """zip's, taken by the part, so that Ctrl-C is heard in between."""
    value = 0
    for start in range(0, len(content), PART_BYTES):
        value = zlib.crc32(content[start : start + PART_BYTES], value)
    return value


def check_entry(entry: zipfile.ZipInfo) -> None:
    """Refuse an entry by its directory record alone."""
    name = entry.filename
    # orig_filename still has what zipfile cuts off at a NUL.
    path = PurePosixPath(entry.orig_filename)
    if path.is_absolute() or ".." in path.parts or set(entry.orig_filename) & set("\\\0"):
        raise CheckpointError(f"entry {entry.orig_filename!r} points outside the archive")
    if entry.flag_bits & ENCRYPTED:
        raise CheckpointError(f"entry {name!r} is encrypted")
    if entry.compress_type not in METHODS:
        raise CheckpointError(
            f"entry {name!r} is packed by method {entry.compress_type}; expected stored or deflated"
        )
    if entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size:
        raise CheckpointError(
            f"entry {name!r} is stored in {entry.compress_size} bytes but declares "
            f"{entry.file_size}"
        )
