"""Fuzz one reader, or the public functions, guided by what the bytes reach (`make fuzz`).

    python tests/fuzz/fuzz.py TARGET [OPTION OF LIBFUZZER...]

Without a target the targets are listed. Whatever is neither right nor the documented error ends the
run; libFuzzer then writes the bytes into the folder that `-artifact_prefix` names.
"""

import os
import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["packseq"]):
    import packseq.weights  # noqa: F401

from facade import check_facade
from files import FORMATS, check_file

FACADE = "facade"
SEEDS_OF_FACADE = 64


def seeds(target):
    """The corpus that a run begins with: a good file, or bytes at random."""
    if target != FACADE:
        return [FORMATS[target]()]
    return [random.Random(seed).randbytes(100) for seed in range(SEEDS_OF_FACADE)]


def check_of(target, folder):
    """What is done with the bytes."""
    if target == FACADE:
        return check_facade
    # In memory where there is such a folder: thousands of files a second would wear out a disk.
    path = folder / "file"

    def check(data):
        path.write_bytes(data)
        check_file(path)

    return check


def memory_folder():
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main():
    targets = [FACADE, *FORMATS]
    if len(sys.argv) < 2:
        print(*(target.replace(" ", "_") for target in targets))
        return
    target = sys.argv[1].replace("_", " ")
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(seeds(target)):
            (corpus / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *sys.argv[2:], str(corpus)], check_of(target, Path(folder)))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
