"""The groups and datasets of an HDF5 file, reached by hard links only and read when they fit.

Refused by name: soft and external links, virtual datasets, data stored in other files, and chunked
or compressed data (Keras writes none), whose declared size says nothing about the file's.
"""

import io
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .arrays import Array, canonical
from .errors import CheckpointError, library_errors, missing_library
from .limits import element_count

MAGIC = b"\x89HDF\r\n\x1a\n"
# Keras nests two or three groups for each nested model.
MAX_DEPTH = 32
# Three groups a layer; the library takes kilobytes for each that is open.
MAX_OBJECTS = 20_000


# Of a global heap, which holds strings of any length: its header, and that of each object in it.
HEAP = re.compile(rb"GCOL\x01")
HEAP_HEADER_BYTES = 16
HEAP_OBJECT = struct.Struct("<HHIQ")


@contextmanager
def open_tree(content: bytes) -> Iterator["Tree"]:
    """Open the HDF5 file that `content` is, for as long as the block runs."""
    try:
        import h5py
    except ImportError as error:
        raise missing_library("h5py") from error
    check_heaps(content)
    with library_errors("not a readable HDF5 file"):
        root = h5py.File(io.BytesIO(content), "r")
    with root:
        yield Tree(h5py, root, len(content))


def check_heaps(content: bytes) -> None:
    """Refuse global heaps whose objects do not follow one another to the end.

    libhdf5 2.0 never returns from one whose free space has no size (seen when fuzzing).
    Source: HDF5 File Format Specification, III.E, "Global Heap".
    """
    old = content[8:9] in (b"\0", b"\1")
    sizes = content[13:15] if old else content[9:11]
    if sizes != b"\x08\x08":
        raise CheckpointError(f"HDF5 with offsets and lengths of {tuple(sizes)} bytes, not 8")
    for match in HEAP.finditer(content):
        start = match.start()
        (size,) = struct.unpack("<Q", content[start + 8 : start + 16].ljust(8, b"\0"))
        end = start + size
        position = start + HEAP_HEADER_BYTES
        sound = position <= end <= len(content)
        while sound and position + HEAP_OBJECT.size <= end:
            index, _, _, length = HEAP_OBJECT.unpack_from(content, position)
            # Index 0 is free space, whose size includes its header; data is padded to 8 bytes.
            step = HEAP_OBJECT.size + (length + 7) // 8 * 8 if index else length
            sound = HEAP_OBJECT.size <= step <= end - position
            position += step
        if not sound:
            raise CheckpointError(f"byte {start}: a global heap is malformed")


class Tree:
    """An open HDF5 file: its datasets and attributes by path.

    Parameters
    ----------
    h5py : module
    root : h5py.File
    file_bytes : int
        Its size, which bounds what is read from it.
    """

    def __init__(self, h5py: Any, root: Any, file_bytes: int) -> None:
        self._h5py = h5py
        self._remaining = file_bytes
        self._groups: dict[str, Any] = {}
        self._datasets: dict[str, Any] = {}
        self._seen: set[Any] = set()
        self._collect("", root)

    @property
    def groups(self) -> list[str]:
        """The groups' paths, without a leading slash; the root is ""."""
        return list(self._groups)

    @property
    def datasets(self) -> list[str]:
        """The datasets' paths."""
        return list(self._datasets)

    def read(self, path: str) -> Array:
        """A dataset, which must lie whole and unpacked in the file."""
        dataset = self._datasets.get(path)
        if dataset is None:
            raise CheckpointError(f"dataset {path!r} is missing")
        with library_errors(f"dataset {path!r}"):
            self._check(dataset, path)
            return canonical(dataset[()], path)

    def attribute(self, group: str, name: str) -> Any:
        """An attribute of a group: a str, a list of str, or None where it is absent."""
        if group not in self._groups:
            return None
        with library_errors(f"attribute {name!r} of {group!r}"):
            value = self._groups[group].attrs.get(name)
            return None if value is None else as_text(value)

    def _collect(self, path: str, group: Any) -> None:
        if path.count("/") > MAX_DEPTH:
            raise CheckpointError(f"groups nest deeper than {MAX_DEPTH} at {path!r}")
        self._groups[path] = group
        for name, member in self._members(path, group):
            inner = f"{path}/{name}" if path else name
            if isinstance(member, self._h5py.Group):
                self._collect(inner, member)
            elif isinstance(member, self._h5py.Dataset):
                self._datasets[inner] = member

    def _members(self, path: str, group: Any) -> Iterator[tuple[str, Any]]:
        with library_errors(f"group {path!r}"):
            names = [checked_text(name) for name in group]
        for name in names:
            with library_errors(f"link {name!r} in group {path!r}"):
                link = group.get(name, getlink=True)
                if not isinstance(link, self._h5py.HardLink):
                    raise CheckpointError(
                        f"link {name!r} in group {path!r} is a {type(link).__name__}; "
                        "links to elsewhere are not followed"
                    )
                member = group[name]
                address = self._h5py.h5o.get_info(member.id).addr
            if address in self._seen:
                raise CheckpointError(f"link {name!r} in group {path!r} leads to an object again")
            self._seen.add(address)
            if len(self._seen) > MAX_OBJECTS:
                raise CheckpointError(f"holds more than {MAX_OBJECTS} groups and datasets")
            yield name, member

    def _check(self, dataset: Any, path: str) -> None:
        h5d = self._h5py.h5d
        properties = dataset.id.get_create_plist()
        if properties.get_layout() not in (h5d.CONTIGUOUS, h5d.COMPACT):
            raise CheckpointError(f"dataset {path!r} is chunked, compressed or virtual")
        if properties.get_external_count():
            raise CheckpointError(f"dataset {path!r} keeps its data in another file")
        if dataset.dtype.kind not in "biufc":
            raise CheckpointError(f"dataset {path!r}: dtype {dataset.dtype} is not a number's")
        wanted = element_count(dataset.shape, path) * dataset.dtype.itemsize
        stored = dataset.id.get_storage_size()
        if stored != wanted:
            raise CheckpointError(
                f"dataset {path!r}: shape {dataset.shape} of {dataset.dtype} needs {wanted} bytes; "
                f"{stored} are stored"
            )
        # Data laid over one another would make more of the file than there is.
        self._remaining -= wanted
        if self._remaining < 0:
            raise CheckpointError(f"dataset {path!r} is larger than what is left of the file")


def as_text(value: Any) -> str | list[str]:
    """An attribute's string or strings, which h5py gives as bytes, str or arrays of either."""
    if isinstance(value, np.ndarray):
        return [str(as_text(item)) for item in value.tolist()]
    return checked_text(value.decode("utf-8") if isinstance(value, bytes) else str(value))


def checked_text(text: str) -> str:
    """`text`, in which h5py has not hidden bytes that are no UTF-8."""
    text.encode("utf-8")
    return text
