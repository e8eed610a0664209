"""safetensors, one file or sharded over several with an index; the format that packseq writes.

packseq keeps what names and shapes cannot tell (Attributes) in the header's free metadata, as JSON
under the key ``packseq``; other readers pass over it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from packseq.optional import load

from .arrays import BFLOAT16, Array, from_bytes
from .beside import read_beside
from .canonical import Attributes, Checkpoint
from .errors import CheckpointError, library_errors
from .limits import check_budget
from .strict_json import parse_json

METADATA_KEY = "packseq"
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


def looks_like(head: bytes) -> bool:
    """Whether a file of these first bytes may be safetensors: a length, then a JSON object."""
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    return head[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{" and length <= MAX_HEADER


def read(content: bytes) -> Checkpoint:
    """Every tensor of one file."""
    safetensors = load("safetensors", "weights")
    attributes = read_attributes(content)
    with library_errors("not readable safetensors"):
        tensors = safetensors.deserialize(content)
    return Checkpoint({name: to_array(name, tensor) for name, tensor in tensors}, attributes)


def to_array(name: str, tensor: Mapping[str, Any]) -> Array:
    """One tensor as safetensors gives it."""
    if tensor["dtype"] not in DTYPES:
        raise CheckpointError(f"{name}: dtype {tensor['dtype']} is not one of {sorted(DTYPES)}")
    return from_bytes(tensor["data"], DTYPES[tensor["dtype"]], tuple(tensor["shape"]), name)


def read_attributes(content: bytes) -> dict[str, Attributes]:
    """The Attributes by prefix in a file's header; none in files that others wrote."""
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    if length > len(content) - LENGTH_BYTES:
        raise CheckpointError(
            f"header of {length} bytes in a file of {len(content)}: cut off or malformed"
        )
    header = parse_json(content[LENGTH_BYTES : LENGTH_BYTES + length], "header")
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or METADATA_KEY not in metadata:
        return {}
    what = f"metadata {METADATA_KEY!r}"
    with library_errors(what):
        text = str(metadata[METADATA_KEY]).encode()
    by_prefix = parse_json(text, what)
    if not isinstance(by_prefix, dict):
        raise CheckpointError(f"{what} is a {type(by_prefix).__name__}; expected an object")
    return {prefix: to_attributes(values, what) for prefix, values in by_prefix.items()}


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


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write one file that any reader of safetensors loads.

    Raises
    ------
    CheckpointError
        An array's dtype or name has no place in safetensors.
    OSError
        The file cannot be written.
    """
    safetensors = load("safetensors.numpy", "weights")
    # Defaults too: that a module is time first is said, where a bare state dict leaves it open.
    told = {
        prefix: {name: value for name, value in asdict(said).items() if value not in (None, "")}
        for prefix, said in checkpoint.attributes.items()
    }
    metadata = {METADATA_KEY: json.dumps(told)} if told else None
    for name, array in checkpoint.arrays.items():
        if array.dtype.name not in DTYPES.values():
            raise CheckpointError(f"{name}: dtype {array.dtype} is not one that safetensors holds")
    arrays = {name: np.ascontiguousarray(array) for name, array in checkpoint.arrays.items()}
    with library_errors("not writable as safetensors"):
        content = safetensors.save(arrays, metadata)
    path.write_bytes(content)


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
    file_bytes = len(index)
    for file in dict.fromkeys(placed.values()):
        raw = read_shard(folder, file)
        file_bytes += len(raw)
        try:
            shard = read(raw)
        except CheckpointError as error:
            raise CheckpointError(f"shard {file!r}: {error}") from error.__cause__
        attributes.update(shard.attributes)
        for name, array in shard.arrays.items():
            if placed.get(name) != file:
                raise CheckpointError(
                    f"shard {file!r} holds {name!r}, which the index places in {placed.get(name)!r}"
                )
            merged[name] = array
    if missing := placed.keys() - merged.keys():
        name = min(missing)
        raise CheckpointError(f"shard {placed[name]!r} does not hold {name!r}")
    check_budget(sum(array.nbytes for array in merged.values()), file_bytes, "shards")
    return Checkpoint(merged, attributes), file_bytes


def read_shard(folder: Path, file: str) -> bytes:
    """The bytes of a shard, which must be a plain name."""
    if PurePath(file).name != file or file in ("", ".", "..") or set(file) & set("/\\\0"):
        raise CheckpointError(f"index names the shard {file!r}; expected a name in its own folder")
    return read_beside(folder / file, f"shard {file!r}")
