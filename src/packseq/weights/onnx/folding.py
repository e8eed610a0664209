"""Values that follow from stored arrays alone, which an exporter leaves to the runtime.

torch's default exporter orders the gates of large weights in the graph itself, and a quantised
weight is stored as integers beside its scale. Each operator here is exactly what it is in ONNX. Its
result is charged to the file's budget before it is made; a view of what there is, held against it.

Source: the ONNX operators in FOLDS, with their attributes (opset 1 on) or inputs (opset 13 on).
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..arrays import BFLOAT16, Array
from ..errors import CheckpointError, library_errors
from ..limits import check_budget, element_count
from .nodes import attribute_values
from .tensors import DTYPES, Stored, Tensors

# Axes, shapes and bounds have an entry for each axis, of which NumPy allows this many.
MAX_INTEGERS = 64


def fold(node: Any, operands: list[Stored | None], output: int, tensors: Tensors) -> Stored:
    """An output of a node, by its number, from the node's inputs (None where one is left out)."""
    call = Call(node, operands, output, tensors)
    with library_errors(call.what):
        return FOLDS[node.op_type](call)


class Call:
    """A node's inputs and attributes, and the budget that its output is charged to."""

    def __init__(
        self, node: Any, operands: list[Stored | None], output: int, tensors: Tensors
    ) -> None:
        self.node = node
        self.operands = operands
        self.output = output
        self.tensors = tensors
        self.what = f"{node.op_type} {node.name!r}"

    def operand(self, position: int) -> Stored:
        """An input that must be there."""
        operand = self.optional(position)
        if operand is None:
            raise CheckpointError(f"{self.what}: input {position} is left out")
        return operand

    def optional(self, position: int) -> Stored | None:
        """An input, or None."""
        return self.operands[position] if position < len(self.operands) else None

    def attribute(self, name: str, kind: str, absent: Any = None) -> Any:
        """An attribute of this type, or what holds in its absence."""
        return attribute_values(self.node, {name: kind}).get(name, absent)

    def integers(self, name: str, position: int) -> list[int] | None:
        """Axes, sizes or bounds: an attribute in old opsets, an input in new ones; None without."""
        values = self.attribute(name, "INTS")
        operand = self.optional(position)
        if values is None and operand is None:
            return None
        array = np.array(values, np.int64) if values is not None else self.operand(position).array
        if array.dtype.kind != "i" or array.ndim > 1 or array.size > MAX_INTEGERS:
            raise CheckpointError(f"{self.what}: {name} is {array.dtype} of shape {array.shape}")
        return [int(value) for value in array.ravel().tolist()]

    def needed(self, name: str, position: int) -> list[int]:
        """Axes, sizes or bounds that must be there."""
        values = self.integers(name, position)
        if values is None:
            raise CheckpointError(f"{self.what}: {name} is left out")
        return values

    def charge(self, shape: Iterable[int], dtype: Any) -> None:
        """Room for a new array."""
        size = element_count(shape, self.what) * np.dtype(dtype).itemsize
        self.tensors.charge(size, self.what)


def identity(call: Call) -> Stored:
    """The same."""
    return call.operand(0)


def unsqueeze(call: Call) -> Stored:
    """Axes of size 1 put in."""
    data = call.operand(0)
    return Stored(np.expand_dims(data.array, tuple(call.needed("axes", 1))), data.type)


def squeeze(call: Call) -> Stored:
    """Axes of size 1 taken out: those that are named, or all."""
    data = call.operand(0)
    axes = call.integers("axes", 1)
    return Stored(np.squeeze(data.array, None if axes is None else tuple(axes)), data.type)


def cut(call: Call) -> Stored:
    """Slice, which clips its bounds as Python does."""
    data = call.operand(0)
    starts, ends = call.needed("starts", 1), call.needed("ends", 2)
    axes, steps = call.integers("axes", 3), call.integers("steps", 4)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    where = [slice(None)] * data.array.ndim
    for axis, *bounds in zip(axes, starts, ends, steps, strict=True):
        if where[axis] != slice(None):
            raise CheckpointError(f"{call.what}: axis {axis} is cut twice")
        where[axis] = slice(*bounds)
    return Stored(data.array[tuple(where)], data.type)


def concat(call: Call) -> Stored:
    """Arrays end to end."""
    parts = [call.operand(position) for position in range(len(call.operands))]
    axis = call.attribute("axis", "INT")
    if axis is None or len({part.type for part in parts}) != 1:
        raise CheckpointError(f"{call.what}: no axis, or inputs of several types")
    call.charge([sum(part.array.size for part in parts)], parts[0].array.dtype)
    return Stored(np.concatenate([part.array for part in parts], axis), parts[0].type)


def split(call: Call) -> Stored:
    """One of the parts: of the sizes that are named, or equal ones, of which the last may lack."""
    data = call.operand(0)
    axis = call.attribute("axis", "INT", 0)
    size, count = data.array.shape[axis], len(call.node.output)
    sizes = call.integers("split", 1)
    if sizes is None:
        one = -(-size // count)
        sizes = [one] * (count - 1) + [size - one * (count - 1)]
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 0:
        raise CheckpointError(f"{call.what}: {size} split into {sizes}")
    start = sum(sizes[: call.output])
    where = [slice(None)] * data.array.ndim
    where[axis] = slice(start, start + sizes[call.output])
    return Stored(data.array[tuple(where)], data.type)


def gather(call: Call) -> Stored:
    """Places of one axis; a negative one counts from the end."""
    data, places = call.operand(0), call.operand(1).array
    axis = call.attribute("axis", "INT", 0)
    size = data.array.shape[axis]
    if places.dtype.kind != "i" or ((places < -size) | (places >= size)).any():
        raise CheckpointError(f"{call.what}: places beyond axis {axis} of size {size}")
    axis %= data.array.ndim
    shape = (*data.array.shape[:axis], *places.shape, *data.array.shape[axis + 1 :])
    call.charge(shape, data.array.dtype)
    return Stored(np.take(data.array, places.astype(np.int64, copy=False), axis), data.type)


def transpose(call: Call) -> Stored:
    """Axes in another order, reversed if none is named."""
    data = call.operand(0)
    return Stored(np.transpose(data.array, call.attribute("perm", "INTS")), data.type)


def reshape(call: Call) -> Stored:
    """Other sizes: 0 keeps one, unless allowzero, and -1 is what is left."""
    data, sizes = call.operand(0), call.needed("shape", 1)
    if not call.attribute("allowzero", "INT", 0):
        sizes = [size or data.array.shape[axis] for axis, size in enumerate(sizes)]
    if not data.array.flags.c_contiguous:
        call.charge(data.array.shape, data.array.dtype)
    return Stored(data.array.reshape(sizes), data.type)


def cast(call: Call) -> Stored:
    """Another element type."""
    data, target = call.operand(0), call.tensors.type_name(call.attribute("to", "INT", 0))
    if target == data.type:
        return data
    if target not in DTYPES or DTYPES[target] == BFLOAT16:
        raise CheckpointError(f"{call.what}: to {target}")
    return rounded(data.array, target, call)


def rounded(array: Array, target: str, call: Call) -> Stored:
    """An array in one of ONNX's types; what does not fit into it is infinite or undefined there."""
    if array.dtype != DTYPES[target]:
        call.charge(array.shape, np.result_type(DTYPES[target], np.float32))
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(DTYPES[target], copy=False)
    return Stored(converted.astype(np.float32) if target == "FLOAT16" else converted, target)


def expand(call: Call) -> Stored:
    """Axes of size 1 repeated, as NumPy broadcasts."""
    data = call.operand(0)
    sizes = call.needed("shape", 1)
    element_count(sizes, call.what)
    shape = np.broadcast_shapes(data.array.shape, tuple(sizes))
    size = element_count(shape, call.what) * data.array.itemsize
    check_budget(size, call.tensors.file_bytes, call.what)
    return Stored(np.broadcast_to(data.array, shape), data.type)


def tile(call: Call) -> Stored:
    """The whole repeated along each axis."""
    data, repeats = call.operand(0), call.needed("repeats", 1)
    pairs = zip(data.array.shape, repeats, strict=True)
    element_count(repeats, call.what)
    call.charge([size * count for size, count in pairs], data.array.dtype)
    return Stored(np.tile(data.array, repeats), data.type)


def multiply(call: Call) -> Stored:
    """The product, rounded once: that of two halves is exact in float32."""
    one, other = call.operand(0), call.operand(1)
    if one.type != other.type or one.type in ("BOOL", "BFLOAT16"):
        raise CheckpointError(f"{call.what}: of {one.type} and {other.type}")
    call.charge(np.broadcast_shapes(one.array.shape, other.array.shape), one.array.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        return rounded(np.asarray(np.multiply(one.array, other.array)), one.type, call)


def constant(call: Call) -> Stored:
    """A node's own array, a tensor or a few numbers."""
    for attribute in call.node.attribute:
        if attribute.name == "value" and attribute.HasField("t"):
            return call.tensors.stored(attribute.t, call.what)
        if attribute.name in NUMBERS:
            kind, type_name = NUMBERS[attribute.name]
            values = call.attribute(attribute.name, kind)
            array = np.array(values, DTYPES[type_name])
            call.tensors.charge(array.nbytes, call.what)
            return Stored(array, type_name)
    raise CheckpointError(f"{call.what}: neither a tensor nor numbers")


# The attributes of a Constant that are no tensor: their own type, and that of the array.
NUMBERS = {
    "value_int": ("INT", "INT64"),
    "value_ints": ("INTS", "INT64"),
    "value_float": ("FLOAT", "FLOAT"),
    "value_floats": ("FLOATS", "FLOAT"),
}


def shape_of(call: Call) -> Stored:
    """The sizes of an array, or some in a row."""
    ends = call.attribute("start", "INT", 0), call.attribute("end", "INT")
    return Stored(np.array(call.operand(0).array.shape[slice(*ends)], np.int64), "INT64")


def constant_of_shape(call: Call) -> Stored:
    """One number, float32's 0 if none is named, in every place."""
    fill = filling(call.node, call.tensors)
    if fill.array.size != 1:
        raise CheckpointError(f"{call.what}: filled with {fill.array.size} values")
    sizes = call.operand(0).array.ravel()
    if sizes.dtype != np.int64 or sizes.size > MAX_INTEGERS:
        raise CheckpointError(f"{call.what}: a shape of {sizes.size} {sizes.dtype}")
    shape = [int(size) for size in sizes.tolist()]
    size = element_count(shape, call.what) * fill.array.itemsize
    check_budget(size, call.tensors.file_bytes, call.what)
    return Stored(np.broadcast_to(fill.array.reshape(()), shape), fill.type)


def filling(node: Any, tensors: Tensors) -> Stored:
    """What a ConstantOfShape fills its output with."""
    stored = [attribute.t for attribute in node.attribute if attribute.name == "value"]
    if not stored:
        return Stored(np.zeros(1, np.float32), "FLOAT")
    return tensors.stored(stored[0], f"node {node.name!r}")


def dequantize(call: Call) -> Stored:
    """(x - zero point) * scale: one scale for all, or one for each place or block of an axis."""
    data, scale, zero = call.operand(0), call.operand(1), call.optional(2)
    scales = spread(scale.array, data.array.shape, call)
    zeros = None if zero is None else spread(zero.array, data.array.shape, call)
    return dequantized(data, Stored(scales, scale.type), zeros, call)


def spread(scales: Array, shape: tuple[int, ...], call: Call) -> Array:
    """Scales or zero points, so that they broadcast to the array that they are for."""
    if scales.size == 1:
        return scales.reshape(())
    axis = call.attribute("axis", "INT", 1)
    if scales.ndim == 1:
        sizes = [1] * len(shape)
        sizes[axis] = -1
        return scales.reshape(sizes)
    block = call.attribute("block_size", "INT", 0)
    if block < 1 or scales.shape[axis] != -(-shape[axis] // block):
        raise CheckpointError(f"{call.what}: scales of shape {scales.shape} in blocks of {block}")
    call.charge(shape, np.float32)
    return np.asarray(np.take(scales, np.arange(shape[axis]) // block, axis))


def dequantized(data: Stored, scale: Stored, zero: Array | None, call: Call) -> Stored:
    """(x - zero point) * scale in float32, then in the scale's type; both broadcast to x."""
    if data.array.dtype.kind not in "iu" or scale.type not in ("FLOAT", "FLOAT16"):
        raise CheckpointError(f"{call.what}: {data.type} scaled by {scale.type}")
    call.charge(data.array.shape, np.float32)
    values = data.array.astype(np.float32)
    if zero is not None:
        values -= zero.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(values, scale.array, out=values)
    return rounded(values, scale.type, call)


FOLDS: dict[str, Callable[[Call], Stored]] = {
    "Cast": cast,
    "Concat": concat,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "DequantizeLinear": dequantize,
    "Expand": expand,
    "Gather": gather,
    "Identity": identity,
    "Mul": multiply,
    "Reshape": reshape,
    "Shape": shape_of,
    "Slice": cut,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
