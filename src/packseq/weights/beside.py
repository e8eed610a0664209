"""Files that a checkpoint names: shards and external data, beside it."""

from pathlib import Path

from .errors import CheckpointError


def read_beside(path: Path, what: str) -> bytes:
    """The bytes of a file that a checkpoint named, so that its trouble is the checkpoint's."""
    try:
        if path.is_file():
            return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{what} cannot be read: {error.strerror}") from error
    raise CheckpointError(f"{what} is not a file beside the checkpoint")
