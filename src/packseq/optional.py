"""Libraries that packseq can do without: imported when used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def load(name: str, extra: str) -> ModuleType:
    """Import a library.

    Raises
    ------
    ImportError
        It is missing; the message has the line that installs what this extra of packseq asks for.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        library = name.partition(".")[0]
        if error.name != library:
            raise
        wanted = " ".join(f'"{package}"' for package in _packages_of(extra)) or library
        raise ImportError(f"this needs {library}: pip install {wanted}", name=name) from error


def _packages_of(extra: str) -> list[str]:
    """What an extra asks for, with none of packseq's own names: no index has to know packseq.

    Empty where the package was not installed, but found on the path.
    """
    from importlib import metadata  # 20 ms, which no run without a fault has to take

    try:
        rows = metadata.requires("packseq") or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for row in rows:
        package, _, marker = row.partition(";")
        if f'extra == "{extra}"' not in marker:
            continue
        package = package.strip()
        if package.startswith("packseq["):
            for other in package[len("packseq[") : -1].split(","):
                found += _packages_of(other)
        else:
            found.append(package)
    return found
