"""The recurrent nodes of a graph, each read into a Node: weights in torch's order, first states.

Source: the ONNX operators LSTM, GRU and RNN (opset 22, and back to 7), and onnxruntime's
com.microsoft.DynamicQuantizeLSTM, whose W and R are integers, (D, I, 4*H) and (D, H, 4*H), with
scales and zero points of shape (D,) or (D, 4*H).
"""

from dataclasses import replace
from typing import Any

import numpy as np

from packseq.networks.architecture import SCALE

from ..arrays import Array
from ..canonical import Attributes
from ..errors import CheckpointError, library_errors
from ..gates import ONNX, ONNX_PEEPHOLES, TORCH, in_torchs_order
from ..int8 import centred
from .folding import Call, dequantized
from .nodes import (
    DEFAULTS,
    INITIAL_C,
    INITIAL_H,
    PEEPHOLES,
    TYPES,
    B,
    Node,
    R,
    W,
    activations_of,
    attribute_values,
    recurrent_activation_of,
    unsupported,
)
from .tensors import Stored, Tensors
from .values import Values, is_operator

# The inputs of DynamicQuantizeLSTM with the scale of each weight; its zero point comes after it.
SCALES = {W: 8, R: 10}


def is_quantized(proto: Any) -> bool:
    """Whether a node is onnxruntime's LSTM of integers."""
    return (proto.domain, proto.op_type) == ("com.microsoft", "DynamicQuantizeLSTM")


def kind_of(proto: Any) -> str | None:
    """What a node is called here; None of one that is not recurrent."""
    if is_quantized(proto):
        return "LSTM"
    return str(proto.op_type) if is_operator(proto, TORCH) else None


def is_foreign(proto: Any) -> bool:
    """Whether a node is a recurrent one by its name alone, which says not what it computes."""
    return kind_of(proto) is None and proto.op_type.endswith(tuple(TORCH))


def label(proto: Any) -> str:
    """A node's name, or its operator and first output."""
    return str(proto.name or f"{proto.op_type}:{next(filter(None, proto.output), '')}")


class Layers:
    """Reads the recurrent nodes of one graph."""

    def __init__(self, values: Values, tensors: Tensors) -> None:
        self._values = values
        self._tensors = tensors

    def node(self, proto: Any) -> Node:
        """A node with its weights; a CheckpointError says what of it cannot be read."""
        where = f"node {label(proto)!r}"
        if is_foreign(proto):
            kind = ".".join(filter(None, (proto.domain, proto.op_type)))
            raise CheckpointError(f"{where}: what {kind} computes is not known here")
        kind = kind_of(proto) or ""
        values = DEFAULTS | attribute_values(proto, TYPES)
        if values["direction"] not in ("forward", "reverse", "bidirectional"):
            raise CheckpointError(f"{where}: direction {values['direction']!r}")
        node = Node(
            kind,
            proto,
            directions=2 if values["direction"] == "bidirectional" else 1,
            weights={},
            attributes=Attributes(),
        )
        missing = self._missing_peepholes(node)
        node.weights.update(self._weights(node, where))
        if values["hidden_size"] not in (None, node.hidden_size):
            raise CheckpointError(
                f"{where}: hidden_size is {values['hidden_size']}, but R has {node.hidden_size}"
            )
        attributes = Attributes(
            nonlinearity=activations_of(values, kind)[0][0] if kind == "RNN" else None,
            recurrent_activation=recurrent_activation_of(values, kind),
            reset_after=kind != "GRU" or values["linear_before_reset"] != 0,
            batch_first=values["layout"] == 1,
            backward=values["direction"] == "reverse",
            unsupported=unsupported(values, kind, node.directions) or missing,
        )
        return self._with_states(replace(node, attributes=attributes), where)

    def _weights(self, node: Node, where: str) -> dict[str, Array]:
        """W (D, G*H, I), R (D, G*H, H) and B (D, 2*G*H) in torch's order; B split in two.

        P (D, 3*H), where it is stored and not zero, is split in three.
        """
        arrays = self._matrix(node, W, "weight_ih", where)
        arrays |= self._matrix(node, R, "weight_hh", where)
        if node.input(B):
            arrays["bias"] = self._weight(node, B, 2, f"{where}: bias")
        if self._has_peepholes(node):
            arrays["peepholes"] = self._weight(node, PEEPHOLES, 2, f"{where}: peepholes")
        hidden = arrays["weight_hh"].shape[2]
        height = len(TORCH[node.kind]) * hidden
        rows = {"weight_ih": height, "weight_hh": height, "bias": 2 * height}
        rows |= {f"weight_ih{SCALE}": height, f"weight_hh{SCALE}": height}
        rows["peepholes"] = len(ONNX_PEEPHOLES) * hidden
        for name, array in arrays.items():
            if array.shape[1] != rows[name]:
                raise CheckpointError(
                    f"{where}: {name} has shape {array.shape}; expected {rows[name]} rows"
                )
        self._tensors.charge(sum(array.nbytes for array in arrays.values()), where)
        peepholes = arrays.pop("peepholes", None)
        if "bias" in arrays:
            arrays["bias_ih"], arrays["bias_hh"] = np.split(arrays.pop("bias"), 2, axis=1)
        weights = {name: reordered(array, node.kind) for name, array in arrays.items()}
        if peepholes is not None:
            parts = np.split(peepholes, len(ONNX_PEEPHOLES), axis=1)
            named = zip(ONNX_PEEPHOLES, parts, strict=True)
            weights |= {f"weight_c{gate}": part for gate, part in named}
        return weights

    def _weight(self, node: Node, position: int, rank: int, what: str) -> Array:
        """An input with an axis of directions before its rows."""
        stored = self._values.constant(node.input(position), what)
        return self._checked(node, stored.array, rank, what)

    def _checked(self, node: Node, array: Array, rank: int, what: str) -> Array:
        """The array, if it has this many axes and as many directions as its node."""
        if array.ndim != rank or 0 in array.shape or array.shape[0] != node.directions:
            raise CheckpointError(
                f"{what} has shape {array.shape}; expected {rank} axes, the first of "
                f"size {node.directions}, and none of size 0"
            )
        return array

    def _matrix(self, node: Node, position: int, name: str, where: str) -> dict[str, Array]:
        """A weight (D, G*H, I) by its name; one of integers, which is (D, I, G*H) in the file.

        Its scales (D, G*H) stand beside it; where our int8 has no such integers, it is in floats.
        """
        what = f"{where}: {name}"
        if not is_quantized(node.proto):
            return {name: self._weight(node, position, 3, what)}
        stored = self._values.constant(node.input(position), what)
        scale_name, zero_name = (node.input(SCALES[position] + i) for i in range(2))
        scale = self._values.constant(scale_name, f"{what}: its scale")
        zero = self._values.constant(zero_name, f"{what}: its zero point") if zero_name else None
        call = Call(node.proto, [], 0, self._tensors)
        with library_errors(what):
            scales = Stored(by_column(scale.array), scale.type)
            zeros = None if zero is None else by_column(zero.array)
            call.charge(stored.array.shape, np.float32)  # should its module become one of floats
            numbers = centred(stored.array, zeros)
            if numbers is None or scale.type != "FLOAT" or not np.isfinite(scales.array).all():
                floats = dequantized(stored, scales, zeros, call).array
                return {name: self._checked(node, floats.swapaxes(1, 2), 3, what)}
            weight = self._checked(node, numbers.swapaxes(1, 2), 3, what)
            each = np.broadcast_to(scales.array, (len(weight), 1, weight.shape[1]))[:, 0]
            return {name: weight, name + SCALE: each}

    def _with_states(self, node: Node, where: str) -> Node:
        """The node with its first states: those that are stored, and those that the caller gives.

        A state of zeros, as torch exports one, is none.
        """
        states: dict[str, Array] = {}
        callers: list[tuple[str, int | None]] = []
        given: list[str] = []
        for position, name in ((INITIAL_H, "h_0"), (INITIAL_C, "c_0")):
            value = node.input(position)
            if not value or self._values.is_zero(value):
                continue
            what = f"{where}: {name}"
            if self._values.is_computed(value):
                callers.append(self._values.rows(value))
                given.append(f"{name} ({self._values.giver(value)})")
            else:
                states[name] = by_direction(self._values.constant(value, what).array, node, what)
        return replace(node, states=states, callers=tuple(callers), given=", ".join(given))

    def spend(self, node: Node) -> None:
        """Note the initialisers that the node's own arrays are made of."""
        used = [node.input(position) for position in (W, R, B)]
        used += [node.input(PEEPHOLES)] if "weight_ci" in node.weights else []
        used += [node.input(INITIAL_H + "hc".index(name[0])) for name in node.states]
        for name in filter(None, used):
            self._values.spend(name)

    def _has_peepholes(self, node: Node) -> bool:
        """Whether there are any but zeros, and stored."""
        name = node.input(PEEPHOLES) if node.kind == "LSTM" else ""
        array = self._values.known(name) if name else None
        return array is not None and bool(array.any())

    def _missing_peepholes(self, node: Node) -> str:
        """Why peepholes cannot be read; "" where they can, or where there are none."""
        name = node.input(PEEPHOLES) if node.kind == "LSTM" else ""
        if not name or self._values.is_zero(name) or self._values.known(name) is not None:
            return ""
        return f"peepholes (input P), {self._values.origin(name)}"


def reordered(array: Array, kind: str) -> Array:
    """A parameter of all directions with its gates in torch's order."""
    ours = np.empty(array.shape, array.dtype)
    for direction, part in enumerate(array):
        ours[direction] = in_torchs_order(part, kind, ONNX)
    return ours


def by_column(scales: Array) -> Array:
    """Scales (D,) or (D, G*H) beside a weight (D, I, G*H)."""
    return scales.reshape(len(scales), 1, -1)


def by_direction(state: Array, node: Node, what: str) -> Array:
    """A stored state as (D, B, H)."""
    swapped = node.attributes.batch_first and state.ndim == 3
    ours = state.swapaxes(0, 1) if swapped else state
    if state.ndim != 3 or ours.shape[::2] != (node.directions, node.hidden_size):
        raise CheckpointError(
            f"{what} has shape {state.shape}; expected "
            f"({node.directions}, B, {node.hidden_size}), or B first if layout is 1"
        )
    return ours
