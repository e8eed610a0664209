"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def replace_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file beside the one that it replaces, and rename it: until then the old one stays.

    A full disk, an exception or Ctrl-C leaves what was there. A link goes on pointing where it
    does, and what it points to is replaced. What is no file, such as a pipe, is written to.

    Raises
    ------
    OSError
        It cannot be written; the error names `path`.
    """
    try:
        _replace(Path(os.path.realpath(path)), write)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error


def _replace(target: Path, write: Callable[[BinaryIO], None]) -> None:
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            write(file)
        return
    beside = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with beside.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            beside.chmod(target.stat().st_mode)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
