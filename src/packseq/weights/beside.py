"""Files that a checkpoint names: shards and external data, beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import CheckpointError


def read_beside(path: Path, what: str) -> bytes:
    """The bytes of a file that a checkpoint named, so that its trouble is the checkpoint's."""
    with open_beside(path, what) as file, reading(what):
        return file.read()


def open_beside(path: Path, what: str) -> BinaryIO:
    """Open a file that a checkpoint named, to read parts of it."""
    with reading(what):
        if path.is_file():
            return path.open("rb")
    raise CheckpointError(f"{what} is not a file beside the checkpoint")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn an OSError into the checkpoint's."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{what} cannot be read: {error.strerror}") from error
