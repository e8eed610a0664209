"""The one exception of a checkpoint that cannot be used."""

from collections.abc import Iterator
from contextlib import contextmanager


class CheckpointError(ValueError):
    """A checkpoint is broken, hostile, or holds what packseq cannot run.

    The message names the file, the place in it, what is there and what was expected.
    """


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Turn whatever a format's own library raises into a CheckpointError.

    Meant to enclose calls into such a library and nothing else. Those libraries document no
    closed set of exceptions for malformed bytes, hence ``Exception``; an ImportError says what
    to install and passes, and so does a MemoryError, which says nothing of the file.
    """
    try:
        yield
    except (CheckpointError, ImportError, MemoryError):
        raise
    except Exception as error:
        raise CheckpointError(f"{what}: {type(error).__name__}: {error}") from error
