"""safetensors, one file or sharded over several with an index; the format that packseq writes.

A file is the length of its header in 8 bytes, the header in JSON, and the tensors' bytes one after
the other. It is mapped, not read: what nobody looks at never leaves the disk.

packseq keeps what names and shapes cannot tell (Attributes) in the header's free metadata, as JSON
under the key ``packseq``, and which modules are of bfloat16 under ``packseq.precision``; other
readers pass over it. An int8 weight is I8, with its scales beside it, and needs no word.

Source: the safetensors library's README, "Format", and its ``serialize`` and ``validate``.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np

from .arrays import BFLOAT16, Array, from_bytes, halve_bfloat16, item_bytes
from .beside import mapped, open_beside
from .canonical import Attributes, Checkpoint
from .errors import CheckpointError, library_errors
from .limits import check_budget, element_count
from .strict_json import parse_json
from .writing import replace_file

METADATA_KEY = "packseq"
PRECISION_KEY = "packseq.precision"
LENGTH_BYTES = 8
# The format's own limit.
MAX_HEADER = 100_000_000

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": BFLOAT16,
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Entry:
    """A tensor in the header: its bytes are begin to end of what follows the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def looks_like(head: bytes) -> bool:
    """Whether a file of these first bytes may be safetensors: a length, then a JSON object."""
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    return head[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{" and length <= MAX_HEADER


def read(file: BinaryIO) -> Checkpoint:
    """Every tensor of one file, mapped: its arrays are read-only, and hold the file."""
    content = mapped(file)
    header, data = split_header(content)
    entries = list(entries_of(header))
    check_layout(entries, len(data))
    arrays = {entry.name: to_array(entry, data) for entry in entries if entry.dtype in DTYPES}
    placeholders = {
        entry.name: f"has dtype {entry.dtype[:40]!r}, which NumPy lacks"
        for entry in entries
        if entry.dtype not in DTYPES
    }
    return Checkpoint(
        arrays, read_attributes(header), placeholders, precisions=read_precisions(header)
    )


def split_header(content: memoryview) -> tuple[dict[str, Any], memoryview]:
    """The header, and the bytes that its entries' offsets count from."""
    start = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    if start > len(content):
        raise CheckpointError(
            f"header of {start - LENGTH_BYTES} bytes in a file of {len(content)}: "
            "cut off or malformed"
        )
    header = parse_json(bytes(content[LENGTH_BYTES:start]), "header")
    if not isinstance(header, dict):
        raise CheckpointError(f"header is a {type(header).__name__}; expected an object")
    return header, content[start:]


def entries_of(header: Mapping[str, Any]) -> Iterator[Entry]:
    """The tensors that a header names, each with the right members of the right types."""
    for name, members in header.items():
        if name == "__metadata__":
            continue
        trouble = f"not readable safetensors: {name!r}"
        # Others may stand beside them, as for the library.
        if (
            not isinstance(members, dict)
            or not {"dtype", "shape", "data_offsets"} <= members.keys()
        ):
            raise CheckpointError(f"{trouble} is not an object of dtype, shape and data_offsets")
        offsets, shape = members["data_offsets"], members["shape"]
        if not is_sizes(offsets) or len(offsets) != 2 or not is_sizes(shape):
            raise CheckpointError(f"{trouble} has a shape or data_offsets that are no sizes")
        if not isinstance(members["dtype"], str):
            raise CheckpointError(f"{trouble} has a dtype that is no string")
        yield Entry(name, members["dtype"], tuple(shape), *offsets)


def is_sizes(values: object) -> bool:
    """Whether it is a list of integers, none negative."""
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def check_layout(entries: list[Entry], data_bytes: int) -> None:
    """The tensors fill all bytes after the header, with no gap and no overlap.

    Raises
    ------
    CheckpointError
        They do not, so that a byte would belong to two tensors or to none.
    """
    reached = 0
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != reached or entry.end < entry.begin:
            raise CheckpointError(
                f"not readable safetensors: {entry.name!r} has bytes {entry.begin} to {entry.end}, "
                f"where those of the tensor before it end at {reached}"
            )
        reached = entry.end
    if reached != data_bytes:
        raise CheckpointError(
            f"not readable safetensors: its tensors have {reached} bytes, {data_bytes} are there"
        )


def to_array(entry: Entry, data: memoryview) -> Array:
    """One tensor of numbers that NumPy has."""
    dtype, stored = DTYPES[entry.dtype], entry.end - entry.begin
    where = f"not readable safetensors: {entry.name!r}"
    needed = element_count(entry.shape, where) * item_bytes(dtype)
    if stored != needed:
        raise CheckpointError(
            f"{where} of shape {entry.shape} and {dtype} needs {needed} bytes, {stored} are there"
        )
    return from_bytes(data[entry.begin : entry.end], dtype, entry.shape, entry.name)


def read_attributes(header: Mapping[str, Any]) -> dict[str, Attributes]:
    """The Attributes by prefix in a file's header; none in files that others wrote."""
    by_prefix, what = read_metadata(header, METADATA_KEY)
    return {prefix: to_attributes(values, what) for prefix, values in by_prefix.items()}


def read_precisions(header: Mapping[str, Any]) -> dict[str, str]:
    """The precisions by prefix that no array tells."""
    by_prefix, what = read_metadata(header, PRECISION_KEY)
    for prefix, precision in by_prefix.items():
        if precision != BFLOAT16:
            raise CheckpointError(
                f"{what}: {prefix!r} has {precision!r}; expected {BFLOAT16!r}, if anything"
            )
    return by_prefix


def read_metadata(header: Mapping[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """An object in the free metadata, by prefix, empty where there is none; and its name."""
    what = f"metadata {key!r}"
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or key not in metadata:
        return {}, what
    with library_errors(what):
        text = str(metadata[key]).encode()
    by_prefix = parse_json(text, what)
    if not isinstance(by_prefix, dict):
        raise CheckpointError(f"{what} is a {type(by_prefix).__name__}; expected an object")
    return by_prefix, what


def to_attributes(values: Any, what: str) -> Attributes:
    """Attributes from JSON, its names and types checked."""
    defaults = asdict(Attributes())
    if not isinstance(values, dict) or not values.keys() <= defaults.keys():
        raise CheckpointError(f"{what}: expected an object with keys among {sorted(defaults)}")
    for name, value in values.items():
        expected = str if isinstance(defaults[name], str | None) else bool
        if type(value) is not expected:
            raise CheckpointError(f"{what}: {name} is {value!r}; expected a {expected.__name__}")
    return Attributes(**values)


def holds(array: Array) -> bool:
    """Whether the format has an array's dtype."""
    return array.dtype.name in NAMES


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write one file of dtypes that the format holds, which any reader of it loads.

    Raises
    ------
    CheckpointError
        A name is no text.
    OSError
        The file cannot be written.
    """
    # Defaults too: that a module is time first is said, where a bare state dict leaves it open.
    by_prefix = {
        prefix: {name: value for name, value in asdict(said).items() if value not in (None, "")}
        for prefix, said in checkpoint.attributes.items()
    }
    metadata = {METADATA_KEY: by_prefix, PRECISION_KEY: dict(checkpoint.precisions)}
    header: dict[str, Any] = {}
    if any(metadata.values()):
        header["__metadata__"] = {
            key: json.dumps(value) for key, value in metadata.items() if value
        }
    halves = halved(checkpoint)
    # The widest elements first, so that every tensor is aligned, as the library lays them out.
    arrays = sorted(
        (checkpoint.arrays | halves).items(), key=lambda item: (-item[1].itemsize, item[0])
    )
    reached = 0
    for name, array in arrays:
        dtype = BFLOAT16 if name in halves else array.dtype.name
        begin, reached = reached, reached + array.nbytes
        header[name] = {
            "dtype": NAMES[dtype],
            "shape": list(array.shape),
            "data_offsets": [begin, reached],
        }
    with library_errors("not writable as safetensors"):
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)

    def write_all(file: BinaryIO) -> None:
        file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
        for _, array in arrays:
            little = array.dtype.newbyteorder("<") if sys.byteorder == "big" else array.dtype
            file.write(np.ascontiguousarray(array, little).reshape(-1).view(np.uint8).data)

    replace_file(path, write_all)


def halved(checkpoint: Checkpoint) -> dict[str, Array]:
    """The bits of what is written as bfloat16, by name: the matrices of modules of bfloat16."""
    names = (
        prefix + name
        for prefix in checkpoint.precisions
        for name, array in checkpoint.parameters_at(prefix).items()
        if array.ndim == 2
    )
    return {name: halve_bfloat16(checkpoint.arrays[name]) for name in names}


def read_sharded(index: bytes, folder: Path) -> tuple[Checkpoint, int]:
    """Every tensor that an index names, and the bytes of the index and its shards.

    A shard is a file in the index's own folder; a symbolic link there is followed, since that is
    how the Hugging Face cache stores them.
    """
    content = parse_json(index, "index")
    placed = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(placed, dict) or not all(isinstance(file, str) for file in placed.values()):
        raise CheckpointError("index has no weight_map from tensors to files")
    merged: dict[str, Array] = {}
    attributes: dict[str, Attributes] = {}
    placeholders: dict[str, str] = {}
    precisions: dict[str, str] = {}
    file_bytes = len(index)
    for file in dict.fromkeys(placed.values()):
        with open_shard(folder, file) as shard_file:
            file_bytes += shard_file.seek(0, 2)
            shard = read_shard(shard_file, file)
        attributes.update(shard.attributes)
        precisions.update(shard.precisions)
        for name in [*shard.arrays, *shard.placeholders]:
            if placed.get(name) != file:
                raise CheckpointError(
                    f"shard {file!r} holds {name!r}, which the index places in {placed.get(name)!r}"
                )
        merged |= shard.arrays
        placeholders |= shard.placeholders
    if missing := placed.keys() - merged.keys() - placeholders.keys():
        name = min(missing)
        raise CheckpointError(f"shard {placed[name]!r} does not hold {name!r}")
    check_budget(sum(array.nbytes for array in merged.values()), file_bytes, "shards")
    shards = tuple(folder / file for file in dict.fromkeys(placed.values()))
    return (
        Checkpoint(merged, attributes, placeholders, files=shards, precisions=precisions),
        file_bytes,
    )


def open_shard(folder: Path, file: str) -> BinaryIO:
    """Open a shard, which must be a plain name."""
    if PurePath(file).name != file or file in ("", ".", "..") or set(file) & set("/\\\0"):
        raise CheckpointError(f"index names the shard {file!r}; expected a name in its own folder")
    return open_beside(folder / file, f"shard {file!r}")


def read_shard(file: BinaryIO, name: str) -> Checkpoint:
    """Every tensor of a shard."""
    try:
        file.seek(0)
        if not looks_like(file.read(LENGTH_BYTES + 1)):
            raise CheckpointError("not readable safetensors: no header begins it")
        return read(file)
    except CheckpointError as error:
        raise CheckpointError(f"shard {name!r}: {error}") from error.__cause__
