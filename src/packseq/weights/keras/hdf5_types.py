"""What HDF5 says of an array's elements and shape.

Source: HDF5 File Format Specification 3.0: IV.A.2.b "The Dataspace Message", IV.A.2.d "The Datatype
Message".
"""

import struct
from typing import Literal, NamedTuple

from ..arrays import BFLOAT16, item_bytes
from ..errors import CheckpointError
from .hdf5_structure import part, unpack

CLASSES = (
    "integer", "float", "time", "string", "bit field", "opaque", "compound", "reference",
    "enumeration", "variable-length", "array", "complex",
)  # fmt: skip
INTEGER, FLOATING, _, STRING, _, OPAQUE, _, _, ENUMERATION, VARIABLE_LENGTH, _, _ = CLASSES

DATATYPE = struct.Struct("<BBBBI")
VAX = 0x40
FIXED = struct.Struct("<HH")
FLOAT = struct.Struct("<HHBBBBI")
# (bit offset, bits, the exponent's place and bits, the mantissa's place and bits, the bias)
FLOATS = {
    (0, 16, 10, 5, 0, 10, 15): "float16",
    (0, 16, 7, 8, 0, 7, 127): BFLOAT16,
    (0, 32, 23, 8, 0, 23, 127): "float32",
    (0, 64, 52, 11, 0, 52, 1023): "float64",
}


class Number(NamedTuple):
    """What an element is: NumPy's name, "bfloat16" or OPAQUE, its bytes and their order."""

    name: str
    size: int
    byteorder: Literal["<", ">"] = "<"


def class_of(datatype: memoryview) -> tuple[str, int]:
    """The class of a datatype, and its bytes."""
    head, _, _, _, size = unpack(DATATYPE, datatype)
    number = head & 0xF
    return (CLASSES[number] if number < len(CLASSES) else f"class {number}"), size


def number_of(datatype: memoryview, what: str) -> Number:
    """The number that a datatype is.

    Raises
    ------
    CheckpointError
        It is neither NumPy's nor a bfloat16, nor opaque.
    """
    kind, size = class_of(datatype)
    bits = datatype[1]
    name = None
    if kind == OPAQUE and size:
        name = OPAQUE
    elif kind == ENUMERATION:
        return enumeration(datatype[DATATYPE.size :], what)
    elif kind == INTEGER:
        name = integer(bits, size, unpack(FIXED, datatype, DATATYPE.size))
    elif kind == FLOATING and not bits & VAX:
        name = FLOATS.get(unpack(FLOAT, datatype, DATATYPE.size))
    if name is None or (name != OPAQUE and item_bytes(name) != size):
        raise CheckpointError(f"{what}: {kind} of {size} bytes is not a number's dtype")
    return Number(name, size, ">" if bits & 1 and name != OPAQUE else "<")


def integer(bits: int, size: int, precision: tuple[int, ...]) -> str | None:
    """NumPy's name of an integer all of whose bits count."""
    if size not in (1, 2, 4, 8) or precision != (0, 8 * size):
        return None
    return f"{'int' if bits & 8 else 'uint'}{8 * size}"


def enumeration(base: memoryview, what: str) -> Number:
    """A bool, which h5py stores as an enumeration of two names, or the integers of another."""
    number = number_of(base, what)
    names = bytes(base[DATATYPE.size + FIXED.size :])
    if number.size == 1 and names.startswith(b"FALSE\0") and b"TRUE\0" in names:
        return Number("bool", 1)
    return number


def shape_of(space: memoryview) -> list[int]:
    """The sizes along the axes; none for a scalar.

    Raises
    ------
    CheckpointError
        It is of another version, or there is no data.
    """
    version, rank, _, kind = part(space, 0, 4)
    if version not in (1, 2) or (version == 2 and kind > 1):
        raise CheckpointError(f"a dataspace of version {version} and type {kind} is not read")
    return list(unpack(struct.Struct(f"<{rank}Q"), space, 8 if version == 1 else 4))
