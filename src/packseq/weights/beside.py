"""Files as readers open them: mapped, and those that a checkpoint names, which lie beside it."""

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import CheckpointError, is_the_programs

# Zero where a system lacks one: no pipe is waited for, no link followed.
READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
AT_ONCE = getattr(os, "O_NONBLOCK", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
FOLDER = getattr(os, "O_DIRECTORY", 0)
# Whether each part of a path can be opened in the folder that was opened before it.
STEPWISE = os.open in os.supports_dir_fd and bool(NO_LINK and FOLDER)


def mapped(file: BinaryIO) -> memoryview:
    """The bytes of a file, which stay on the disk until somebody looks at them.

    They are those of the file for as long as it lasts: whoever shortens it meanwhile ends the
    process at the next look.
    """
    if not file.seek(0, os.SEEK_END):
        return memoryview(b"")
    file.seek(0)
    try:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError(f"no memory to map {file.name}") from error
        raise


def open_beside(path: Path, what: str) -> BinaryIO:
    """Open a file that a checkpoint named, through links if need be."""
    with reading(what):
        return checked(os.open(path, READ | AT_ONCE), what)


def open_inside(folder: Path, location: str, what: str) -> BinaryIO:
    """Open a file that must be in `folder`, which is resolved, or in a folder in it.

    Links are followed as far as they stay inside. The path without them is then opened as one that
    has none, so that what is swapped for a link in between is refused and not followed.
    """
    with reading(what):
        path = resolved(folder, location, what)
        if STEPWISE:
            return checked(open_stepwise(folder, path.relative_to(folder).parts), what)
        with ExitStack() as opened:
            file = opened.enter_context(checked(os.open(path, READ | AT_ONCE), what))
            if resolved(folder, location, what) != path or not same(file, path):
                raise CheckpointError(f"{what} was replaced while it was opened")
            opened.pop_all()
        return file


def resolved(folder: Path, location: str, what: str) -> Path:
    """Where a name in a folder leads, which must be inside of it.

    Raises
    ------
    CheckpointError
        It leads elsewhere, or round in a ring.
    """
    try:
        path = (folder / location).resolve()
    except (RuntimeError, ValueError) as error:  # a ring of links; a name that no system has
        if is_the_programs(error):
            raise
        raise CheckpointError(f"{what} leads nowhere: {error}") from error
    if not path.is_relative_to(folder):
        raise CheckpointError(f"{what} lies outside the folder")
    return path


def open_stepwise(folder: Path, parts: tuple[str, ...]) -> int:
    """Open a path in a folder, each part in the one before it, and none of them a link."""
    at = os.open(folder, READ | FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, READ | FOLDER | NO_LINK, dir_fd=at)
            os.close(at)
            at = inner
        return os.open(parts[-1] if parts else ".", READ | AT_ONCE | NO_LINK, dir_fd=at)
    finally:
        os.close(at)


def checked(descriptor: int, what: str) -> BinaryIO:
    """The file that was opened, which must be a plain one."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise CheckpointError(f"{what} is not a file beside the checkpoint")


def same(file: BinaryIO, path: Path) -> bool:
    """Whether an open file is the one of this path, and no link."""
    return os.path.samestat(os.fstat(file.fileno()), os.lstat(path))


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn the OSError of a file that a checkpoint names into the checkpoint's."""
    try:
        yield
    except (OSError, UnicodeEncodeError) as error:
        if is_the_programs(error):
            raise
        if isinstance(error, FileNotFoundError):
            raise CheckpointError(f"{what} is not a file beside the checkpoint") from error
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{what} cannot be read: {reason}") from error
