"""torch's ``.pt`` and ``.pth`` zip files, without torch and without running their pickle.

Such a file holds ``ROOT/data.pkl``, a pickle whose tensors refer to the storages ``ROOT/data/KEY``.

Source: torch.serialization (``_save``) and torch._utils (``_rebuild_tensor_v2``).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..archive import Archive
from ..arrays import BFLOAT16, Array, from_bytes, item_bytes
from ..canonical import Checkpoint
from ..errors import CheckpointError
from ..limits import element_count
from . import pickles

PICKLE = "data.pkl"

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}

# Checkpoints nest {"model": {...}}, rarely deeper; optimizers add two levels. Names are at most a
# few hundred characters; a long one shared by many tensors would be a way to use up memory.
MAX_DEPTH = 16
MAX_NAME = 512


@dataclass(frozen=True)
class StorageType:
    """What stands for ``torch.FloatStorage`` and its like."""

    dtype: str


def read(archive: Archive) -> Checkpoint:
    """Every tensor in the file; a nested dict's keys are joined by dots."""
    pickled, root = find_pickle(archive)
    reader = _Reader(archive, root)
    return Checkpoint(tensors(pickles.load(pickled, reader.admitted(), reader.storage)))


def find_pickle(archive: Archive) -> tuple[bytes, str]:
    """The pickle of the archive and the folder that it stands in."""
    roots = [name.removesuffix(PICKLE) for name in archive.names if name.endswith(f"/{PICKLE}")]
    if len(roots) != 1:
        raise CheckpointError(f"holds {len(roots)} files {PICKLE}; expected 1")
    if any(name.startswith(f"{roots[0]}code/") for name in archive.names):
        raise CheckpointError("is a TorchScript program; save the module's state_dict() instead")
    return archive.read(f"{roots[0]}{PICKLE}"), roots[0]


def tensors(content: Any) -> dict[str, Array]:
    """The tensors of nested dicts by their dotted names. Anything else is passed over."""
    if isinstance(content, np.ndarray):
        raise CheckpointError("holds one tensor without a name; expected a dict of tensors")
    if not isinstance(content, dict):
        raise CheckpointError(f"holds a {type(content).__name__}; expected a dict of tensors")
    by_name: dict[str, Array] = {}
    walked: set[int] = set()

    def walk(mapping: dict[Any, Any], prefix: str, depth: int) -> None:
        # Held twice, a dict would be walked twice, and the next one in it four times.
        if id(mapping) in walked or depth > MAX_DEPTH:
            raise CheckpointError(
                f"dict {prefix!r} is held twice, or is more than {MAX_DEPTH} dicts deep"
            )
        walked.add(id(mapping))
        for key, value in mapping.items():
            name = f"{prefix}{key}"
            if len(name) > MAX_NAME:
                raise CheckpointError(f"name {name[:40]!r}... is over {MAX_NAME} characters")
            if isinstance(value, dict):
                walk(value, f"{name}.", depth + 1)
            elif isinstance(value, np.ndarray):
                if name in by_name:
                    raise CheckpointError(f"tensor {name!r} appears twice")
                by_name[name] = value

    walk(content, "", 0)
    return by_name


class _Reader:
    """Gives the pickle its storages and tensors. A storage is read, and widened, once."""

    def __init__(self, archive: Archive, root: str) -> None:
        self._archive = archive
        self._root = root
        self._storages: dict[str, Array] = {}
        self._byteorder: Literal["<", ">"] = "<"
        if f"{root}byteorder" in archive.names:
            order = archive.read(f"{root}byteorder")
            if order not in (b"little", b"big"):
                raise CheckpointError(f"byteorder is {order[:20]!r}; expected little or big")
            self._byteorder = "<" if order == b"little" else ">"

    def admitted(self) -> dict[str, Any]:
        """What each global of a state dict's pickle stands for: nothing of torch."""
        return {
            "collections.OrderedDict": empty_dict,
            "torch._utils._rebuild_tensor_v2": rebuild_tensor,
            "torch._utils._rebuild_parameter": rebuild_parameter,
            "torch._utils._rebuild_parameter_with_state": rebuild_parameter,
        } | {f"torch.{name}": StorageType(dtype) for name, dtype in STORAGES.items()}

    def storage(self, identifier: Any) -> Array:
        """The storage that a persistent id names, as a flat array."""
        match identifier:
            case ("storage", StorageType(dtype=dtype), str(key), str(), int(count)):
                pass
            case _:
                raise CheckpointError("a persistent id is not a tensor storage's")
        what = f"storage {key!r}"
        if count < 0:
            raise CheckpointError(f"{what} has {count} elements")
        if key not in self._storages:
            size = self._archive.size(f"{self._root}data/{key}")
            if size != count * item_bytes(dtype):
                raise CheckpointError(f"{what}: {count} of {dtype} declared, {size} bytes found")
            raw = self._archive.read(f"{self._root}data/{key}")
            self._storages[key] = from_bytes(raw, dtype, (count,), what, self._byteorder)
        elif self._storages[key].size != count:
            raise CheckpointError(f"{what} is declared with different sizes")
        return self._storages[key]


def empty_dict(*arguments: Any) -> dict[Any, Any]:
    """Stand in for OrderedDict, which pickles itself empty and is then filled."""
    if arguments:
        raise CheckpointError("an OrderedDict is given its items at once; expected none")
    return {}


def rebuild_tensor(*arguments: Any) -> Array:
    """Stand in for torch's: a view of the storage, whose every element lies inside of it."""
    match arguments:
        case (np.ndarray() as storage, int(offset), tuple(size), tuple(stride), *_):
            pass
        case _:
            raise CheckpointError("a tensor is not described by storage, offset, size and stride")
    what = f"a tensor of size {size[:8]}"
    count = element_count(size, what)
    element_count(stride, f"the stride of {what}")
    if len(size) != len(stride) or storage.ndim != 1 or offset < 0:
        raise CheckpointError(f"{what} has offset {offset} and {len(stride)} strides")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count > storage.size or (count and last >= storage.size):
        raise CheckpointError(
            f"{what}, stride {stride[:8]}, offset {offset} reaches outside its storage of "
            f"{storage.size} elements"
        )
    if count == 0:
        return np.empty(size, storage.dtype)
    # The stride of an axis of size 1 is never used, and may be anything.
    steps = [step * storage.itemsize if n > 1 else 0 for n, step in zip(size, stride, strict=True)]
    return np.ndarray(size, storage.dtype, storage, offset * storage.itemsize, steps)


def rebuild_parameter(*arguments: Any) -> Array:
    """Stand in for torch's: a parameter is its tensor."""
    if not arguments or not isinstance(arguments[0], np.ndarray):
        raise CheckpointError("a parameter holds no tensor")
    return arguments[0]
