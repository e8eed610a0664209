"""Check what the wheels of a folder hold, and that they are small.

python tools/check_wheel.py FOLDER
"""

import sys
import zipfile
from pathlib import Path, PurePosixPath

# Whoever installs packseq because it is small gets no more than this, .pyc files apart.
MOST_PACKED, MOST_INSTALLED = 1_000_000, 2_500_000

RUNS = {".py", ".pyi", ".so", ".pyd"}


def is_wanted(name: str) -> bool:
    """Whether a file is one that runs, or that says what the wheel is."""
    path = PurePosixPath(name)
    return path.suffix in RUNS or path.name == "py.typed" or path.parts[0].endswith(".dist-info")


def check(wheel: Path) -> list[str]:
    """What is wrong with a wheel; prints its sizes."""
    with zipfile.ZipFile(wheel) as archive:
        files = [file for file in archive.infolist() if not file.is_dir()]
    packed, installed = wheel.stat().st_size, sum(file.file_size for file in files)
    print(f"{wheel.name}: {packed:,} bytes, installed {installed:,}")
    faults = [f"{file.filename} is not run" for file in files if not is_wanted(file.filename)]
    if packed >= MOST_PACKED:
        faults.append(f"{packed:,} bytes are packed, and {MOST_PACKED:,} are too many")
    if installed >= MOST_INSTALLED:
        faults.append(f"{installed:,} bytes are installed, and {MOST_INSTALLED:,} are too many")
    return faults


def main(folder: str) -> None:
    wheels = sorted(Path(folder).glob("*.whl"))
    if not wheels:
        sys.exit(f"there is no wheel in {folder}")
    found = [f"{wheel.name}: {fault}" for wheel in wheels for fault in check(wheel)]
    sys.exit("\n".join(found) or None)


if __name__ == "__main__":
    main(*sys.argv[1:])
