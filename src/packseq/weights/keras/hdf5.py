"""The groups and datasets of an HDF5 file, reached by hard links only and read when they fit.

Refused by name: soft and external links, virtual datasets, data stored in other files, and chunked
or compressed data (Keras writes none), whose declared size says nothing about the file's.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from packseq.optional import load

from ..arrays import Array, canonical
from ..errors import CheckpointError, library_errors
from ..limits import element_count
from .hdf5_attributes import Attributes

MAGIC = b"\x89HDF\r\n\x1a\n"
# Keras nests two or three groups for each nested model.
MAX_DEPTH = 32
# Three groups a layer; the library takes kilobytes for each that is open.
MAX_OBJECTS = 20_000


@contextmanager
def open_tree(content: bytes) -> Iterator["Tree"]:
    """Open the HDF5 file that `content` is, for as long as the block runs."""
    h5py = load("h5py", "weights")
    attributes = Attributes(content)
    with library_errors("not a readable HDF5 file"):
        root = h5py.File(io.BytesIO(content), "r")
    with root:
        yield Tree(h5py, root, attributes, len(content))


class Tree:
    """An open HDF5 file: its datasets and attributes by path.

    Parameters
    ----------
    h5py : module
    root : h5py.File
    attributes : Attributes
        Of the same file.
    file_bytes : int
        Its size, which bounds what is read from it.
    """

    def __init__(self, h5py: Any, root: Any, attributes: Attributes, file_bytes: int) -> None:
        self._h5py = h5py
        self._attributes = attributes
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

    def attribute(self, group: str, name: str) -> list[str] | None:
        """The strings of a group's attribute; None where there is none."""
        if group not in self._groups:
            return None
        with library_errors(f"group {group!r}"):
            address = self._h5py.h5o.get_info(self._groups[group].id).addr
        return self._attributes.strings(address, name)

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


def checked_text(text: str) -> str:
    """`text`, in which h5py has not hidden bytes that are no UTF-8."""
    text.encode("utf-8")
    return text
