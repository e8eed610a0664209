"""Which reader a file is for, told by its content and never by its name."""

import re
from pathlib import Path
from typing import BinaryIO

from . import npz, parts, safetensors_file
from .archive import Archive
from .beside import mapped
from .canonical import Checkpoint
from .errors import CheckpointError, is_the_programs
from .keras import model as keras_model
from .keras.hdf5 import MAGIC as HDF5_MAGIC
from .onnx import model as onnx_model
from .torch import legacy as torch_legacy
from .torch import zip_file as torch_zip

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
# A pickle says its protocol first; protocols 0 and 1, Python 2's, begin at once: with a class, a
# dict or a list, and its place in the memo.
PICKLE_MAGIC = re.compile(rb"\x80|c[a-z_][\w.]*\n|[(][dl]p\d+\n|[}\]]q")
# The first file in torch's first format, a tar file without compression.
TAR_MAGIC = b"sys_info\0"
FORMATS = "safetensors (or its index), .npz, torch's files, ONNX, Keras's .keras and .h5"


def read(path: Path) -> tuple[Checkpoint, int]:
    """A checkpoint in its canonical form, and the bytes of the files it came from.

    Raises
    ------
    CheckpointError
        With the file's name before what is wrong.
    OSError
        The file cannot be opened.
    """
    with opened(path) as file:
        try:
            checkpoint, file_bytes = dispatch(file, path)
            return parts.folded(checkpoint, file_bytes), file_bytes
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error.__cause__
        except RecursionError as error:
            if is_the_programs(error):
                raise
            raise CheckpointError(f"{path}: nests deeper than can be followed") from error


def opened(path: Path) -> BinaryIO:
    """Open a file, whose name may be none that a system has.

    Raises
    ------
    CheckpointError
        A NUL or half a surrogate pair is in the name.
    OSError
        The file cannot be opened.
    """
    try:
        return path.open("rb")
    except ValueError as error:
        if is_the_programs(error):
            raise
        raise CheckpointError(f"{str(path)!r} is no file's name: {error}") from error


def dispatch(file: BinaryIO, path: Path) -> tuple[Checkpoint, int]:
    """Look at the first bytes and hand the file to its reader."""
    head = file.read(16)
    if not head:
        raise CheckpointError("is empty")
    file_bytes = file.seek(0, 2)
    file.seek(0)
    if head.startswith(ZIP_MAGIC):
        return read_zip(Archive(file, file_bytes)), file_bytes
    if head.startswith(HDF5_MAGIC):
        return keras_model.read_h5(mapped(file)), file_bytes
    if safetensors_file.looks_like(head):
        return safetensors_file.read(file), file_bytes
    if head.lstrip().startswith(b"{"):
        return safetensors_file.read_sharded(file.read(), path.parent)
    if PICKLE_MAGIC.match(head):
        return torch_legacy.read(file, mapped(file)), file_bytes
    if TAR_MAGIC in head:
        raise CheckpointError(
            "is a tar file, as torch wrote before 0.2; where you trust it, rewrite it by "
            "torch.save(torch.load(path, weights_only=False), path)"
        )
    if head.startswith(onnx_model.MAGIC):
        return onnx_model.read(mapped(file), path.parent)
    raise CheckpointError(f"begins with {head!r}, which is none of {FORMATS}")


def read_zip(archive: Archive) -> Checkpoint:
    """Tell the three formats that are zip files apart by their entries."""
    names = archive.names
    if any(name.endswith(f"/{torch_zip.PICKLE}") for name in names):
        return torch_zip.read(archive)
    if keras_model.CONFIG in names:
        return keras_model.read_keras(archive)
    if not names or any(name.endswith(npz.SUFFIX) for name in names):
        return npz.read(archive)
    raise CheckpointError(f"is a zip file of {names[:3]}..., which is none of {FORMATS}")
