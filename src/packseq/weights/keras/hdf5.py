"""The groups and datasets of an HDF5 file, reached by hard links only and read when they fit.

Refused by name: soft and external links, virtual datasets, data stored in other files. What is kept
in chunks, which may be packed, is held against the file's size before it is unpacked.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from packseq.optional import load

from ..arrays import BFLOAT16, Array, canonical, widen_bfloat16
from ..errors import CheckpointError, library_errors
from ..limits import check_budget, element_count
from .hdf5_attributes import Attributes
from .hdf5_chunks import Chunks, chunks_of, counts_of, read_chunks

MAGIC = b"\x89HDF\r\n\x1a\n"
# Keras nests two or three groups for each nested model.
MAX_DEPTH = 32
# Three groups a layer; the library takes kilobytes for each that is open.
MAX_OBJECTS = 20_000


@contextmanager
def open_tree(content: memoryview) -> Iterator["Tree"]:
    """Open the HDF5 file that `content` is, for as long as the block runs."""
    h5py = load("h5py", "weights")
    attributes = Attributes(content)
    with library_errors("not a readable HDF5 file"):
        root = h5py.File(Stream(content), "r")
    with root:
        yield Tree(h5py, root, attributes, content)


class Stream(io.RawIOBase):
    """Content as a file, without a copy of it."""

    def __init__(self, content: memoryview) -> None:
        self._content, self._position = content, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As a file's."""
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._content)}
        self._position = max(0, starts[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """As a file's."""
        part = self._content[self._position : self._position + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)


class Tree:
    """An open HDF5 file: its datasets and attributes by path.

    Parameters
    ----------
    h5py : module
    root : h5py.File
    attributes : Attributes
        Of the same file.
    content : memoryview
        The file, whose size bounds what is read from it.
    """

    def __init__(self, h5py: Any, root: Any, attributes: Attributes, content: memoryview) -> None:
        self._h5py = h5py
        self._attributes = attributes
        self._content = content
        self._remaining = len(content)
        self._made = 0
        # Whether numbers of two opaque bytes are bfloat16, the only ones of Keras's that are opaque
        # and have two bytes: an ``.h5`` does not say it of a dataset, but in its config.
        self.bfloat16 = False
        self._counted: set[str] = set()
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
        """A dataset of numbers that is in this file."""
        dataset = self._datasets.get(path)
        if dataset is None:
            raise CheckpointError(f"dataset {path!r} is missing")
        with library_errors(f"dataset {path!r}"):
            dtype = self._dtype_of(dataset, path)
            if self._is_chunked(dataset, path):
                chunks = self._checked_chunks(dataset, path)
                array = read_chunks(self._content, dataset, dtype, chunks)
            else:
                self._check(dataset, path)
                array = dataset[()]
            if dtype.kind == "V":
                return widen_bfloat16(np.asarray(array).view(np.uint16))
            return canonical(array, path)

    def attribute(self, group: str, name: str) -> list[str] | None:
        """The strings of a group's attribute; None where there is none.

        Keras cuts one that is too long for HDF5 into NAME0, NAME1 and so on.
        """
        if group not in self._groups:
            return None
        if (whole := self._strings(self._groups[group], name)) is not None:
            return whole
        parts: list[str] = []
        for number in range(MAX_OBJECTS):
            part = self._strings(self._groups[group], f"{name}{number}")
            if part is None:
                return parts if number else None
            parts += part
        return parts

    def _strings(self, member: Any, name: str) -> list[str] | None:
        with library_errors(f"attribute {name!r}"):
            address = self._h5py.h5o.get_info(member.id).addr
        return self._attributes.strings(address, name)

    def _dtype_of(self, dataset: Any, path: str) -> np.dtype[Any]:
        """The dtype of numbers; of two opaque bytes where they are said to be a bfloat16."""
        dtype: np.dtype[Any] = dataset.dtype
        opaque = dtype == np.dtype("V2")
        if opaque and (self.bfloat16 or self._strings(dataset, "dtype") == [BFLOAT16]):
            return dtype
        if dtype.kind not in "biufc":
            raise CheckpointError(f"dataset {path!r}: dtype {dtype} is not a number's")
        return dtype

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

    def _is_chunked(self, dataset: Any, path: str) -> bool:
        h5d = self._h5py.h5d
        properties = dataset.id.get_create_plist()
        layout = properties.get_layout()
        if layout not in (h5d.CONTIGUOUS, h5d.COMPACT, h5d.CHUNKED):
            raise CheckpointError(f"dataset {path!r} is virtual")
        if properties.get_external_count():
            raise CheckpointError(f"dataset {path!r} keeps its data in another file")
        return bool(layout == h5d.CHUNKED)

    def _check(self, dataset: Any, path: str) -> None:
        wanted = element_count(dataset.shape, path) * dataset.dtype.itemsize
        stored = dataset.id.get_storage_size()
        if stored != wanted:
            raise CheckpointError(
                f"dataset {path!r}: shape {dataset.shape} of {dataset.dtype} needs {wanted} bytes; "
                f"{stored} are stored"
            )
        self._take(path, wanted, wanted)

    def _checked_chunks(self, dataset: Any, path: str) -> Chunks:
        """The chunks of a dataset, whose last may reach beyond it."""
        element_count(dataset.shape, path)
        counts = counts_of(dataset)
        made = math.prod(counts) * element_count(dataset.chunks, path) * dataset.dtype.itemsize
        chunks = chunks_of(dataset, math.prod(counts))
        self._take(path, sum(chunk.size for chunk in chunks.values()), made)
        return chunks

    def _take(self, path: str, stored: int, made: int) -> None:
        """Hold what is stored, and what it becomes, against what is left of the file."""
        if path in self._counted:
            return
        # Data laid over one another would make more of the file than there is.
        if stored > self._remaining:
            raise CheckpointError(f"dataset {path!r} is larger than what is left of the file")
        check_budget(self._made + made, len(self._content), f"dataset {path!r}")
        self._counted.add(path)
        self._remaining -= stored
        self._made += made


def checked_text(text: str) -> str:
    """`text`, in which h5py has not hidden bytes that are no UTF-8."""
    text.encode("utf-8")
    return text
