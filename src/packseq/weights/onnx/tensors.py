"""ONNX's TensorProto to arrays, and the files beside the model that hold its external data.

Source: onnx.proto and "ONNX External Data" in the ONNX repository.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import BFLOAT16, Array, from_bytes
from ..beside import mapped, open_inside
from ..errors import CheckpointError
from ..limits import check_budget

DTYPES = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "FLOAT16": "float16",
    "BFLOAT16": BFLOAT16,
    "INT64": "int64",
    "INT32": "int32",
    "INT16": "int16",
    "INT8": "int8",
    "UINT64": "uint64",
    "UINT32": "uint32",
    "UINT16": "uint16",
    "UINT8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Stored:
    """An array and ONNX's name of its element type, which alone tells a half that was widened."""

    array: Array
    type: str


class Tensors:
    """Turns TensorProtos into arrays; data outside of the model only from its own folder."""

    def __init__(self, folder: Path, model_bytes: int, proto: Any) -> None:
        self._folder = folder.resolve()
        self._proto = proto
        # By name, and by what the name stands for: a file of many names counts once.
        self._files: dict[str, memoryview] = {}
        self._mapped: dict[tuple[int, int], memoryview] = {}
        self.file_bytes = model_bytes
        self._made = 0

    def charge(self, size: int, what: str) -> None:
        """Count bytes made of the files; many tensors may name the same ones."""
        self._made += size
        check_budget(self._made, self.file_bytes, what)

    def type_name(self, number: int) -> str:
        """ONNX's name of an element type, "?" of a number that has none."""
        known = self._proto.DataType.values()
        return str(self._proto.DataType.Name(number)) if number in known else "?"

    def is_readable(self, tensor: Any) -> bool:
        """Whether NumPy has the element type; it has no strings of bytes, quarters or eighths."""
        return self.type_name(tensor.data_type) in DTYPES

    def stored(self, tensor: Any, what: str) -> Stored:
        """The array of a TensorProto."""
        name = self.type_name(tensor.data_type)
        if name not in DTYPES:
            raise CheckpointError(
                f"{what}: element type {name} ({tensor.data_type}) is not one of {sorted(DTYPES)}"
            )
        dtype = DTYPES[name]
        raw = self._raw(tensor, dtype, what)
        self.charge(2 * len(raw), what)
        return Stored(from_bytes(raw, dtype, tuple(tensor.dims), what), name)

    def inline(self, tensor: Any) -> None:
        """Put data from another file into the TensorProto itself."""
        if tensor.data_location != self._proto.EXTERNAL:
            return
        what = f"initialiser {tensor.name!r}"
        raw = self._external(tensor, what)
        self.charge(len(raw), what)
        tensor.raw_data = bytes(raw)
        tensor.data_location = self._proto.DEFAULT
        del tensor.external_data[:]

    def _raw(self, tensor: Any, dtype: str, what: str) -> bytes | memoryview:
        if tensor.data_location == self._proto.EXTERNAL:
            return self._external(tensor, what)
        if tensor.HasField("raw_data"):
            return bytes(tensor.raw_data)
        return typed_bytes(tensor, dtype, what)

    def _external(self, tensor: Any, what: str) -> memoryview:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if len(entries) != len(tensor.external_data):
            raise CheckpointError(f"{what}: external data has a key twice")
        if not all(isinstance(text, str) for text in (*entries, *entries.values())):
            raise CheckpointError(f"{what}: external data is not described in UTF-8")
        content = self._file(entries.get("location", ""), what)
        offset = parse_size(entries.get("offset", "0"), f"{what}: offset")
        length = parse_size(entries.get("length", str(len(content) - offset)), f"{what}: length")
        if offset + length > len(content):
            raise CheckpointError(
                f"{what}: bytes {offset} to {offset + length} of external data of {len(content)}"
            )
        return content[offset : offset + length]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of external data that were read."""
        return tuple(self._folder / location for location in self._files)

    def _file(self, location: str, what: str) -> memoryview:
        if not location or set(location) & set("\\\0"):
            raise CheckpointError(f"{what}: external data at {location!r}")
        if location not in self._files:
            what = f"{what}: external data {location!r}"
            with open_inside(self._folder, location, what) as file:
                found = os.fstat(file.fileno())
                identity = found.st_dev, found.st_ino
                if identity not in self._mapped:
                    self._mapped[identity] = mapped(file)
                    self.file_bytes += len(self._mapped[identity])
            self._files[location] = self._mapped[identity]
        return self._files[location]


def parse_size(text: str, what: str) -> int:
    """A size written in decimal."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise CheckpointError(f"{what} is {text[:30]!r}; expected a number of bytes")
    return int(text)


def typed_bytes(tensor: Any, dtype: str, what: str) -> bytes:
    """The bytes of a tensor that is spelled out in one of protobuf's typed fields."""
    narrow = {"float16", BFLOAT16, "bool", "int8", "int16", "int32", "uint8", "uint16"}
    wide = {"float32": "float_data", "float64": "double_data", "int64": "int64_data"}
    values = getattr(tensor, "int32_data" if dtype in narrow else wide.get(dtype, "uint64_data"))
    # The halves are spelled as their bits.
    stored = "uint16" if dtype in ("float16", BFLOAT16) else dtype
    spelled = np.array(values)
    array = spelled.astype(stored)
    if not np.array_equal(array, spelled, equal_nan=True):
        raise CheckpointError(f"{what}: values of {dtype} are out of its range")
    return array.astype(array.dtype.newbyteorder("<")).tobytes()
