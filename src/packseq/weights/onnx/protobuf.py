"""A count of what a protobuf message holds, made before a parser unfolds it.

Two bytes can stand for an empty submessage, which takes a parser some fifty and Python, when it is
looked at, several hundred: so a file is walked first, and refused where it holds more than any
model needs.

Source: Protocol Buffers, "Encoding".
"""

from collections.abc import Container
from typing import Any

from ..errors import CheckpointError

# A large graph has some 50,000 nodes of ten fields, and shapes for as many values.
MAX_FIELDS = 2_000_000
MAX_DEPTH = 64

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


def check(content: memoryview, descriptor: Any) -> None:
    """Refuse a message that is malformed, nests too deep or has too many fields in all.

    Parameters
    ----------
    content : memoryview
    descriptor : google.protobuf.descriptor.Descriptor
        Of the message, to tell submessages from other bytes.
    """
    pending = [(0, len(content), descriptor, 0)]
    fields = 0
    while pending:
        position, end, kind, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise CheckpointError(f"byte {position}: messages nest deeper than {MAX_DEPTH}")
        while position < end:
            fields += 1
            if fields > MAX_FIELDS:
                raise CheckpointError(f"holds more than {MAX_FIELDS} fields")
            tag, position = varint(content, position, end)
            start = position
            position = skip(content, position, end, tag & 7)
            field = kind.fields_by_number.get(tag >> 3)
            if tag & 7 == LENGTH and field is not None and field.message_type is not None:
                _, start = varint(content, start, end)
                pending.append((start, position, field.message_type, depth + 1))


def has_field(content: memoryview, numbers: Container[int]) -> bool:
    """Whether a message that passed the check has a field of its own with one of these numbers."""
    position = 0
    while position < len(content):
        tag, position = varint(content, position, len(content))
        position = skip(content, position, len(content), tag & 7)
        if tag >> 3 in numbers:
            return True
    return False


def skip(content: memoryview, position: int, end: int, wire_type: int) -> int:
    """Where the value at `position` ends."""
    start = position
    if wire_type == VARINT:
        _, position = varint(content, position, end)
    elif wire_type == LENGTH:
        length, position = varint(content, position, end)
        position += length
    elif wire_type in (FIXED64, FIXED32):
        position += 8 if wire_type == FIXED64 else 4
    else:
        raise CheckpointError(f"byte {start}: wire type {wire_type}")
    if position > end:
        raise CheckpointError(f"byte {start}: a field reaches beyond its message: cut off?")
    return position


def varint(content: memoryview, position: int, end: int) -> tuple[int, int]:
    """The integer at `position`, and where it ends."""
    value = shift = 0
    while position < end and shift < 64:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise CheckpointError(f"byte {position}: an integer without an end")
