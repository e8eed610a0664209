"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .errors import is_the_programs


def replace_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file beside the one that it replaces, and rename it: until then the old one stays.

    A full disk, an exception or Ctrl-C leaves what was there. A link goes on pointing where it
    does, and what it points to is replaced. What is no file, such as a pipe, is written to.

    Raises
    ------
    OSError
        It cannot be written; the error names `path`.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with path.open("wb") as file:
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
    except OSError as error:
        beside.unlink(missing_ok=True)
        if is_the_programs(error):
            raise
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
