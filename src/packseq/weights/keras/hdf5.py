"""The groups and arrays of an HDF5 file by path, reached by hard links only.

Refused by name: soft and external links, virtual datasets, data stored in other files. What is kept
in chunks, which may be packed, is held against the file's size before it is unpacked.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from ..arrays import BFLOAT16, Array, from_bytes
from ..errors import CheckpointError
from ..limits import check_budget
from .hdf5_attributes import Strings, attributes_of
from .hdf5_chunks import Packed
from .hdf5_datasets import Dataset, dataset_of, is_dataset
from .hdf5_structure import Message, Source, is_group, links_of, messages_of, root_of
from .hdf5_types import OPAQUE

MAGIC = b"\x89HDF\r\n\x1a\n"
# Keras nests two or three groups for each nested model.
MAX_DEPTH = 32


class Tree:
    """An HDF5 file: its arrays and attributes by path.

    Parameters
    ----------
    content : memoryview
        The file, whose size bounds what is read from it.
    """

    def __init__(self, content: memoryview) -> None:
        self._source = Source(content)
        self._strings = Strings(self._source)
        # Whether numbers of two opaque bytes are bfloat16, the only ones of Keras's that are opaque
        # and have two bytes: an ``.h5`` does not say it of a dataset, but in its config.
        self.bfloat16 = False
        self._groups: dict[str, list[Message]] = {}
        self._datasets: dict[str, list[Message]] = {}
        self._located: dict[str, Dataset] = {}
        self._made = 0
        self._named = 0
        root = root_of(self._source)
        self._seen = {root}
        self._collect("", messages_of(self._source, root))

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
        if path not in self._datasets:
            raise CheckpointError(f"dataset {path!r} is missing")
        what = f"dataset {path!r}"
        if path not in self._located:
            self._located[path] = self._locate(path, what)
        dataset = self._located[path]
        check_budget(self._made + dataset.made, len(self._source.content), what)
        self._made += dataset.made
        return array_of(dataset, what)

    def attribute(self, group: str, name: str) -> list[str] | None:
        """The strings of a group's attribute; None where there is none.

        Keras cuts one that is too long for HDF5 into NAME0, NAME1 and so on.
        """
        if group not in self._groups:
            return None
        found = attributes_of(self._groups[group])
        if name in found:
            return self._strings.of(found[name], name)
        parts = itertools.takewhile(found.__contains__, (f"{name}{i}" for i in itertools.count()))
        strings = [self._strings.of(found[part], part) for part in parts]
        return list(itertools.chain(*strings)) if strings else None

    def _locate(self, path: str, what: str) -> Dataset:
        """A dataset, and what its opaque bytes are."""
        messages = self._datasets[path]
        dataset = dataset_of(self._source, messages, what)
        if dataset.number.name == OPAQUE:
            if dataset.number.size != 2 or not self._is_bfloat16(messages):
                raise CheckpointError(
                    f"{what}: opaque of {dataset.number.size} bytes is not a number's dtype"
                )
            dataset = replace(dataset, number=dataset.number._replace(name=BFLOAT16))
        return dataset

    def _is_bfloat16(self, messages: list[Message]) -> bool:
        """Whether two opaque bytes are said to be one, by the file or by the dataset itself."""
        said = attributes_of(messages).get("dtype")
        return self.bfloat16 or (said and self._strings.of(said, "dtype")) == [BFLOAT16]

    def _collect(self, path: str, messages: list[Message]) -> None:
        if path.count("/") > MAX_DEPTH:
            raise CheckpointError(f"groups nest deeper than {MAX_DEPTH} at {path!r}")
        self._groups[path] = messages
        for name, member in self._members(path, messages):
            inner = f"{path}/{name}" if path else name
            # A long name of a group is repeated in the path of all that is in it.
            self._named += len(inner)
            check_budget(self._named, len(self._source.content), "paths")
            if is_group(member):
                self._collect(inner, member)
            elif is_dataset(member):
                self._datasets[inner] = member

    def _members(self, path: str, messages: list[Message]) -> Iterator[tuple[str, list[Message]]]:
        """Each name in a group, and the messages of the object that it is."""
        for link in links_of(self._source, messages):
            if link.kind != "hard":
                raise CheckpointError(
                    f"link {link.name!r} in group {path!r} is {link.kind}; "
                    "links to elsewhere are not followed"
                )
            if link.address in self._seen:
                raise CheckpointError(
                    f"link {link.name!r} in group {path!r} leads to an object again"
                )
            self._seen.add(link.address)
            yield link.name, messages_of(self._source, link.address)


def array_of(dataset: Dataset, what: str) -> Array:
    """The array of a dataset, which owns its memory."""
    number = dataset.number
    raw: bytes | memoryview
    if isinstance(dataset.data, Packed):
        raw = dataset.data.joined(dataset.shape, number.size, what)
    else:
        raw = dataset.data
    return from_bytes(bytearray(raw), number.name, dataset.shape, what, number.byteorder)
