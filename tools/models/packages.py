"""Packages from the index that pip is set up for, unpacked and never installed."""

import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

MAX_DOWNLOAD = 200 << 20
MAX_UNPACKED = 600 << 20
SECONDS = 180
ARCHIVES = (".tar.gz", ".tgz", ".zip", ".whl")

# pip asks a source package's own code for its version. It gets this in the place of setuptools,
# which answers from PKG-INFO, so that none of the package's code is run.
BACKEND = """
import email, os

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    with open("PKG-INFO", encoding="utf-8") as file:
        info = email.message_from_file(file)
    name = f"{info['Name'].replace('-', '_')}-{info['Version']}.dist-info"
    os.mkdir(os.path.join(folder, name))
    with open(os.path.join(folder, name, "METADATA"), "w", encoding="utf-8") as file:
        file.write(f"Metadata-Version: 2.1\\nName: {info['Name']}\\nVersion: {info['Version']}\\n")
    return name

def build_wheel(*_, **__):
    raise NotImplementedError

class __legacy__:
    prepare_metadata_for_build_wheel = staticmethod(prepare_metadata_for_build_wheel)
    build_wheel = staticmethod(build_wheel)
"""


class UnavailableError(Exception):
    """Why a package cannot be had."""


def download(package: str, folder: Path) -> Path:
    """The package's wheel, or its source where it has none for this machine."""
    kept = [path for path in folder.glob("*") if path.name.endswith(ARCHIVES)]
    if kept:
        return kept[0]
    backend = folder / "backend" / "setuptools"
    backend.mkdir(parents=True, exist_ok=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(BACKEND)
    command = f"-m pip download --quiet --no-deps --no-build-isolation --use-pep517 -d {folder}"
    try:
        done = subprocess.run(
            [sys.executable, *command.split(), package],
            env={**os.environ, "PYTHONPATH": str(backend.parent)},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_DOWNLOAD,) * 2),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"no download in {SECONDS} s") from None
    kept = [path for path in folder.glob("*") if path.name.endswith(ARCHIVES)]
    if not kept:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["none found"]
        raise UnavailableError(errors[0][:120])
    return kept[0]


def version_of(archive: Path) -> str:
    """The version in an archive's name."""
    match = re.search(r"-(\d[^-]*?)(\.tar\.gz|\.zip|-.*\.whl)$", archive.name)
    return match[1] if match else "?"


def unpack(archive: Path, folder: Path) -> Path:
    """The archive's files, and in a folder of its own what the archives among them hold."""
    shutil.rmtree(folder, ignore_errors=True)
    extract(archive, folder, MAX_UNPACKED)
    for inner in sorted(folder.rglob("*")):
        if inner.is_file() and inner.name.endswith(ARCHIVES):
            extract(inner, inner.with_name(f"{inner.name}.d"), MAX_UNPACKED)
    return folder


def extract(archive: Path, folder: Path, limit: int) -> None:
    """One archive: into the folder, and no more than `limit` bytes."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            check_size(sum(entry.file_size for entry in opened.infolist()), limit)
            opened.extractall(folder)
        return
    with tarfile.open(archive) as opened:
        check_size(sum(entry.size for entry in opened), limit)
        opened.extractall(folder, filter="data")


def check_size(size: int, limit: int) -> None:
    """Refuse more than a model package has."""
    if size > limit:
        raise UnavailableError(f"unpacks to {size >> 20} MiB; at most {limit >> 20} are looked at")
