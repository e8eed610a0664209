"""torch's tensors and NumPy's arrays, as pickles describe them, made from their bytes.

Source: torch._utils (``_rebuild_tensor_v2`` and its like), numpy.ndarray.__reduce__.
"""

import re
from typing import Any, Literal, Protocol

import numpy as np

from ..arrays import BFLOAT16, Array, from_bytes, item_bytes
from ..errors import CheckpointError
from ..limits import check_budget, element_count
from .pickles import Global, Inert, Persistent, shown

Byteorder = Literal["<", ">"]

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
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
}
UNTYPED = "torch.storage.UntypedStorage"
# The type of an untyped storage's tensor stands with the tensor.
DTYPES = {*STORAGES.values(), "uint16", "uint32", "uint64"}

# The tensors that are told by name and not made.
OTHERS = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without values",
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a class of its own",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of another device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
    "torch.storage._load_from_bytes": "a storage without a tensor",
}
# Tensors whose values are the first of their arguments.
WRAPPERS = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
# Python attributes of a tensor, and subclasses that add nothing to its values' meaning.
SUBCLASSES = {"torch._tensor._rebuild_from_type_v2", "torch.tensor._rebuild_from_type_v2"}
STRIDED = {
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
}
# A zero point is a number of the integers' own type.
MAX_ZERO = 1 << 31
QUANTISED = "torch._utils._rebuild_qtensor"
NUMPY_ARRAY = "numpy._core.multiarray._reconstruct"
NUMPY_BUFFER = "numpy._core.numeric._frombuffer"
NAMES = {*OTHERS, *WRAPPERS, *SUBCLASSES, *STRIDED, QUANTISED, NUMPY_ARRAY, NUMPY_BUFFER}

# A parameter in a parameter, or a subclass of one.
MAX_WRAPPERS = 4
NUMPY_DTYPE = re.compile(r"[biufc]\d{1,2}")


class Storages(Protocol):
    """Where the bytes of storages are."""

    byteorder: Byteorder
    file_bytes: int

    def size(self, key: str) -> int:
        """The bytes of a storage; CheckpointError where there is none."""

    def read(self, key: str) -> memoryview:
        """A storage."""


class Tensors:
    """Makes arrays of what a pickle says. A storage is read, and widened, once."""

    def __init__(self, storages: Storages) -> None:
        self._storages = storages
        self._types: dict[str, str] = {}
        self._flat: dict[tuple[str, str], Array] = {}
        self._expanded = 0

    def array(self, described: Inert) -> Array:
        """The array that a call would have given.

        Raises
        ------
        CheckpointError
            It is of a kind that is not read, or its description does not fit its storage.
        """
        for _ in range(MAX_WRAPPERS):
            if described.name in OTHERS:
                raise CheckpointError(f"is {OTHERS[described.name]}, which is not read")
            if described.name in STRIDED:
                return self._strided(described.name, described.arguments)
            if described.name == QUANTISED:
                return self._quantised(described.arguments)
            if described.name in (NUMPY_ARRAY, NUMPY_BUFFER):
                return numpy_array(described)
            described = inner(described)
        raise CheckpointError("a tensor is wrapped in too many others")

    def _strided(self, name: str, arguments: tuple[Any, ...]) -> Array:
        """A view of the storage, whose every element lies inside of it."""
        if len(arguments) < 4:
            raise CheckpointError("a tensor is not described by storage, offset, size and stride")
        storage, offset, size, stride = arguments[:4]
        rest = arguments[4:]
        dtype = None
        if name.endswith("_v3"):
            dtype = rest[2].name if len(rest) > 2 and isinstance(rest[2], Global) else ""
            rest = (*rest[:2], *rest[3:])
        check_metadata(rest[2] if len(rest) > 2 else None)
        size, stride = sizes(size, "size"), sizes(stride, "stride")
        if not isinstance(offset, int):
            raise CheckpointError("a tensor is not described by storage, offset, size and stride")
        kind = storage_of(storage)[0]
        if (name == QUANTISED) != kind.startswith(("torch.Q", "torch.cuda.Q")):
            raise CheckpointError(f"is a tensor in a {shown(kind)}, which is not read")
        flat = self._storage(storage, dtype)
        return self._view(flat, offset, size, stride)

    def _quantised(self, arguments: tuple[Any, ...]) -> Array:
        """The float32 that a tensor of integers stands for: scale (q - zero point), as in torch."""
        integers = self._strided(QUANTISED, arguments[:4])
        quantizer = arguments[4] if len(arguments) > 4 else ()
        if integers.dtype.kind not in "iu" or not isinstance(quantizer, tuple) or not quantizer:
            raise CheckpointError("is a quantised tensor without scale and zero point")
        self._expanded += 4 * integers.size
        check_budget(self._expanded, self._storages.file_bytes, "what is dequantised")
        scheme, *parts = quantizer
        kind = scheme.name if isinstance(scheme, Global) else ""
        scale: Any
        zero: Any
        if kind == "torch.per_tensor_affine" and list(map(type, parts)) == [float, int]:
            scale, zero = np.float64(parts[0]), parts[1]
            if not -MAX_ZERO <= zero <= MAX_ZERO:
                raise CheckpointError("is a quantised tensor whose zero point is none")
        elif kind == "torch.per_channel_affine" and len(parts) == 3:
            scale, zero = self._channels(integers.shape, *parts)
        else:
            raise CheckpointError(f"is a tensor quantised by {shown(kind)}, which is not read")
        with np.errstate(over="ignore", invalid="ignore"):  # a scale is what the file says
            whole = (integers.astype(np.int64) - zero).astype(np.float32)
            return np.asarray(whole * scale.astype(np.float32))

    def _channels(
        self, shape: tuple[int, ...], scales: Any, zeros: Any, axis: Any
    ) -> tuple[Array, Array]:
        """Scales and zero points of each channel, shaped to go with the tensor."""
        if type(axis) is not int or not 0 <= axis < len(shape):
            raise CheckpointError("is a quantised tensor without an axis of its channels")
        along = [1] * len(shape)
        along[axis] = shape[axis]
        each = [self.array(one) for one in (scales, zeros) if isinstance(one, Inert)]
        if [one.shape for one in each] != [(shape[axis],)] * 2:
            raise CheckpointError("is a quantised tensor without scale and zero point")
        scale, zero = (np.reshape(one, along) for one in each)
        if scale.dtype.kind != "f" or zero.dtype.kind != "i":
            raise CheckpointError("is a quantised tensor whose zero points are no integers")
        return scale, zero.astype(np.int64)

    def _view(
        self, flat: Array, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
    ) -> Array:
        what = f"a tensor of size {size[:8]}"
        count = element_count(size, what)
        element_count(stride, f"the stride of {what}")
        if len(size) != len(stride) or offset < 0:
            raise CheckpointError(f"{what} has offset {offset} and {len(stride)} strides")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if count and last >= flat.size:
            raise CheckpointError(
                f"{what}, stride {stride[:8]}, offset {offset} reaches outside its storage of "
                f"{flat.size} elements"
            )
        if count == 0:
            return np.empty(size, flat.dtype)
        if count > flat.size:
            # Expanded: its elements share places, until somebody copies it.
            self._expanded += count * flat.itemsize
            check_budget(self._expanded, self._storages.file_bytes, f"{what}, expanded,")
        # The stride of an axis of size 1 is never used, and may be anything.
        steps = [step * flat.itemsize if n > 1 else 0 for n, step in zip(size, stride, strict=True)]
        return np.ndarray(size, flat.dtype, flat, offset * flat.itemsize, steps)

    def _storage(self, storage: Any, dtype_name: str | None) -> Array:
        """The storage that a persistent id names, as a flat array."""
        kind, key, count, view = storage_of(storage)
        dtype = dtype_of(kind, dtype_name)
        if count < 0:
            raise CheckpointError(f"storage {shown(key)} has {count} elements")
        if self._types.setdefault(key, kind) != kind:
            raise CheckpointError(f"storage {shown(key)} is declared with different types")
        flat = self._whole(key, dtype, count * (1 if kind == UNTYPED else item_bytes(dtype)))
        if view is None:
            return flat
        start, length = view
        if start < 0 or length < 0 or start + length > flat.size:
            raise CheckpointError(f"a view of storage {shown(key)} reaches outside of it")
        return flat[start : start + length]

    def _whole(self, key: str, dtype: str, declared: int) -> Array:
        what = f"storage {shown(key)}"
        size = self._storages.size(key)
        if size != declared or size % item_bytes(dtype):
            raise CheckpointError(
                f"{what}: {declared} bytes of {dtype} declared, {size} bytes found"
            )
        if (key, dtype) not in self._flat:
            raw, shape = self._storages.read(key), (size // item_bytes(dtype),)
            order = self._storages.byteorder
            self._flat[key, dtype] = from_bytes(raw, dtype, shape, what, order)
        return self._flat[key, dtype]


def inner(described: Inert) -> Inert:
    """The tensor in a parameter, or in a tensor with attributes."""
    arguments = described.arguments
    held: Any = arguments[0] if arguments else None
    if described.name in SUBCLASSES and len(arguments) > 2 and isinstance(held, Global):
        call = arguments[2]
        held = Inert(held.name, call) if isinstance(call, tuple) else None
    if not isinstance(held, Inert) or held.name not in NAMES:
        raise CheckpointError("a parameter holds no tensor")
    return held


def storage_of(storage: Any) -> tuple[str, str, int, tuple[int, int] | None]:
    """Type, key, size and (in files before torch 1.6) part of the storage that an id names."""
    if isinstance(storage, Inert) and storage.name == "torch.storage._load_from_bytes":
        raise CheckpointError("a tensor pickled without torch.save is not read")
    identifier = storage.identifier if isinstance(storage, Persistent) else None
    kinds = (str, Global, str, str, int)
    if (
        not isinstance(identifier, tuple)
        or len(identifier) not in (5, 6)
        or not all(map(isinstance, identifier, kinds))
        or identifier[0] != "storage"
    ):
        raise CheckpointError("a persistent id is not a tensor storage's")
    view = identifier[5] if len(identifier) == 6 else None
    if view is not None and not (
        isinstance(view, tuple) and len(view) == 3 and all(isinstance(n, int) for n in view[1:])
    ):
        raise CheckpointError("a persistent id is not a tensor storage's")
    return identifier[1].name, identifier[2], identifier[4], view and view[1:]


def dtype_of(kind: str, dtype_name: str | None) -> str:
    """The dtype of a storage's elements, by its class or, of an untyped one, by the tensor."""
    package, _, name = kind.rpartition(".")
    if kind == UNTYPED and dtype_name is not None:
        dtype = dtype_name.removeprefix("torch.")
        if dtype in DTYPES:
            return dtype
        raise CheckpointError(f"is a tensor of dtype {shown(dtype_name)}, which is not read")
    if package not in ("torch", "torch.cuda") or not name.endswith("Storage"):
        raise CheckpointError("a persistent id is not a tensor storage's")
    if name not in STORAGES:
        raise CheckpointError(f"is a tensor in a {shown(kind)}, which is not read")
    return STORAGES[name]


def check_metadata(metadata: Any) -> None:
    """Refuse a tensor that torch would conjugate or negate when it is used."""
    if isinstance(metadata, dict) and any(metadata.values()):
        raise CheckpointError("is a tensor that is to be conjugated or negated, which is not read")


def sizes(given: Any, what: str) -> tuple[int, ...]:
    """A tensor's size or stride: checked before anything is said about it."""
    if isinstance(given, Inert) and given.name == "torch.Size" and len(given.arguments) == 1:
        given = given.arguments[0]
    if not isinstance(given, tuple):
        raise CheckpointError("a tensor is not described by storage, offset, size and stride")
    element_count(given, f"a tensor's {what}")
    return given


# --- NumPy ----------------------------------------------------------------------------------


def numpy_array(described: Inert) -> Array:
    """A NumPy array in a pickle: of numbers only, and never a subclass."""
    if described.name == NUMPY_BUFFER:
        raw, dtype, shape, order = padded(described.arguments, 4)
        fortran = order == "F" if isinstance(order, str) else False
    else:
        (kind,) = padded(described.arguments[:1], 1)
        if not isinstance(kind, Global) or kind.name != "numpy.ndarray":
            raise CheckpointError("is a NumPy array of a class of its own, which is not read")
        _, shape, dtype, fortran, raw = padded(described.state, 5)
    name, byteorder = numpy_dtype(dtype)
    shape = sizes(shape, "size")
    flat = from_bytes(raw_bytes(raw), name, (element_count(shape, ""),), "an array", byteorder)
    return flat.reshape(shape[::-1]).T if fortran is True else flat.reshape(shape)


def padded(given: Any, count: int) -> tuple[Any, ...]:
    """A tuple of `count`, or an error."""
    if not isinstance(given, tuple) or len(given) != count:
        raise CheckpointError("is a NumPy array that is not described by shape, dtype and bytes")
    return given


def numpy_dtype(dtype: Any) -> tuple[str, Byteorder]:
    """The name and the byte order of a plain number's dtype."""
    if not isinstance(dtype, Inert) or dtype.name != "numpy.dtype" or not dtype.arguments:
        raise CheckpointError("is a NumPy array without a dtype")
    name, state = dtype.arguments[0], dtype.state
    if not isinstance(name, str) or not NUMPY_DTYPE.fullmatch(name):
        text = shown(name) if isinstance(name, str) else "that is none"
        raise CheckpointError(f"is a NumPy array of dtype {text}, which is not a number's")
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
    if not isinstance(order, str) or order not in ("<", ">", "|", "="):
        raise CheckpointError("is a NumPy array in an unknown byte order")
    try:
        np.dtype(name)
    except TypeError:
        raise CheckpointError(f"is a NumPy array of dtype {shown(name)}, unknown here") from None
    return name, ">" if order == ">" else "<"


def raw_bytes(raw: Any) -> bytes | bytearray:
    """Bytes, which protocol 2 writes as a text of Latin-1."""
    if isinstance(raw, Inert) and raw.name in ("_codecs.encode", "builtins.bytearray"):
        raw = raw.arguments[0] if raw.arguments else b""
    elif isinstance(raw, Inert) and raw.name == "builtins.bytes" and not raw.arguments:
        raw = b""
    if isinstance(raw, str):  # also Python 2's own
        try:
            return raw.encode("latin-1")
        except UnicodeEncodeError:
            raise CheckpointError("is a NumPy array whose text stands for no bytes") from None
    if not isinstance(raw, bytes | bytearray):
        raise CheckpointError("is a NumPy array of Python objects, which is not read")
    return raw
