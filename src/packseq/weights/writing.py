"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import is_the_programs

# What names of files say; a name that says none of these may be given to any.
SUFFIXES = {".safetensors", ".npz", ".npy", ".onnx", ".pt", ".pth", ".pkl", ".keras", ".h5"}


def check_suffix(name: str, path: Path, suffix: str) -> None:
    """Refuse a name of another format than what is written.

    Raises
    ------
    ValueError
        It is one.
    """
    if path.suffix in SUFFIXES - {suffix}:
        raise ValueError(f"{name} {path} is not the name of what is written, which is {suffix}")


def replace_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file as :func:`replacing` does."""
    with replacing(path) as file:
        write(file)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write beside the one that it replaces; it is renamed at the end of the block, and
    until then the old one stays.

    A full disk, an exception or Ctrl-C leaves what was there. A link goes on pointing where it
    does, and what it points to is replaced. What is no file, such as a pipe, is written to.

    Raises
    ------
    OSError
        It cannot be written; the error names `path`.
    """
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with _renamed_to(target, beside) as file:
            yield file
    except OSError as error:
        ours = error.filename in (None, os.fspath(beside), os.fspath(target))
        if error.errno is None or not ours or is_the_programs(error):
            raise  # what the block did otherwise
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error


@contextmanager
def _renamed_to(target: Path, beside: Path) -> Iterator[BinaryIO]:
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            beside.chmod(target.stat().st_mode)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
