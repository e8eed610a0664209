"""Libraries that packseq can do without: imported when used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def load(name: str, extra: str) -> ModuleType:
    """Import a library.

    Raises
    ------
    ImportError
        It is missing; the message names the extra of packseq that brings it.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise ImportError(
            f"this needs {error.name}: pip install 'packseq[{extra}]'", name=name
        ) from error
