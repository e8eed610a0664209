"""Check that no line of C or Cython has more than 120 columns; ruff looks after Python's 100.

    python tools/check_lines.py FOLDER...

clang-format breaks code, but not comments, and knows no Cython.
"""

import sys
from pathlib import Path

MOST = 120
SUFFIXES = (".c", ".h", ".pyx", ".pxd")


def main(folders: list[str]) -> int:
    faults = [fault for folder in folders for fault in long_lines(Path(folder))]
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


def long_lines(folder: Path) -> list[str]:
    return [
        f"{path}:{number}: {len(line)} columns, more than {MOST}"
        for path in sorted(folder.rglob("*"))
        if path.suffix in SUFFIXES and not is_generated(path)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > MOST
    ]


def is_generated(path: Path) -> bool:
    """Whether this is what Cython makes of the file beside it."""
    return path.suffix == ".c" and path.with_suffix(".pyx").exists()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
