"""ONNX models: the LSTM, GRU and RNN nodes of the graph, and its other initialisers.

A chain of nodes in which each is fed by the one before it, as torch exports the layers of one
module, becomes one module with ``num_layers``. A module's prefix is its first node's name and a
dot. Nodes inside the bodies of If, Loop and Scan are not looked for.

Source: the ONNX operators LSTM, GRU and RNN (opset 22, and back to 7).
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from packseq.optional import load

from ..arrays import Array
from ..canonical import Attributes, Checkpoint
from ..errors import CheckpointError, library_errors
from ..gates import ONNX, ONNX_PEEPHOLES, TORCH, in_torchs_order
from . import protobuf
from .between import STEPS, joins
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
    X,
    activations_of,
    alike,
    attribute_values,
    recurrent_activation_of,
    stack_attributes,
    stack_parameters,
    stack_states,
    unsupported,
)
from .tensors import Tensors
from .values import Values, is_operator

# ModelProto's first field, ir_version, as protobuf writes it.
MAGIC = b"\x08"

# Twice what the largest exported models have; as objects of Python they take 40 MB.
MAX_NODES = 100_000


def read(content: bytes, folder: Path) -> tuple[Checkpoint, int]:
    """Every module and initialiser of the model, and the bytes of its files.

    Parameters
    ----------
    content : bytes
        The model.
    folder : Path
        Where it lies; external data is read from there and nowhere else.
    """
    onnx = load("onnx", "weights")
    protobuf.check(content, onnx.ModelProto.DESCRIPTOR)
    with library_errors("not a readable ONNX model"):
        model = onnx.load_model_from_string(content)
    tensors = Tensors(folder, len(content), onnx.TensorProto)
    return Graph(model.graph, tensors).checkpoint(), tensors.file_bytes


class Graph:
    """The recurrent nodes of a graph, and the modules that they are layers of."""

    def __init__(self, graph: Any, tensors: Tensors) -> None:
        if len(graph.node) > MAX_NODES:
            raise CheckpointError(f"holds {len(graph.node)} nodes; at most {MAX_NODES} are read")
        check_text(graph)
        self._tensors = tensors
        self._nodes = list(graph.node)
        self._values = Values(graph, tensors)

    def checkpoint(self) -> Checkpoint:
        """Every recurrent module under torch's names, every other initialiser under its own."""
        arrays: dict[str, Array] = {}
        attributes: dict[str, Attributes] = {}
        used: set[str] = set()
        for stack in self._stacks():
            prefix = f"{stack[0].name}."
            if prefix in attributes:
                raise CheckpointError(f"node name {stack[0].name!r} appears twice")
            attributes[prefix] = stack_attributes(stack)
            arrays |= {f"{prefix}{name}": array for name, array in stack_parameters(stack)}
            arrays |= {f"{prefix}{name}": array for name, array in stack_states(stack)}
            used.update(name for node in stack for name in node.used)
        for name in self._values.initialisers:
            if name not in used:
                if name in arrays:
                    raise CheckpointError(f"array {name!r} appears twice")
                arrays[name] = self._values.array(name)
        return Checkpoint(arrays, attributes)

    def _stacks(self) -> Iterator[list[Node]]:
        """The modules: chains of nodes, each feeding the next one and nothing else."""
        nodes = {id(proto): self._node(proto) for proto in self._nodes if is_operator(proto, TORCH)}
        below = {
            key: feeder
            for key, node in nodes.items()
            if (feeder := self._feeder(node, nodes)) is not None
        }
        above = {feeder: key for key, feeder in below.items()}
        for key in nodes:
            if key in below:
                continue
            stack = [nodes[key]]
            while key in above:
                key = above[key]
                stack.append(nodes[key])
            yield stack

    def _feeder(self, node: Node, nodes: dict[int, Node]) -> int | None:
        """The node whose output, its directions joined, is this one's whole input."""
        steps: list[Any] = []
        value = node.input(X)
        while self._values.used_once(value) and len(steps) <= len(STEPS):
            producer = self._values.producer(value)
            if producer is None or value != producer.output[0]:
                return None
            if id(producer) in nodes:
                lower = nodes[id(producer)]
                fits = alike(lower, node) and joins(steps[::-1], lower, self._values)
                return id(producer) if fits else None
            if not is_operator(producer, STEPS) or not producer.input:
                return None
            steps.append(producer)
            value = producer.input[0]
        return None

    def _node(self, proto: Any) -> Node:
        name = proto.name or f"{proto.op_type}:{next(filter(None, proto.output), '')}"
        where = f"node {name!r}"
        kind: str = proto.op_type
        values = DEFAULTS | attribute_values(proto, TYPES)
        if values["direction"] not in ("forward", "reverse", "bidirectional"):
            raise CheckpointError(f"{where}: direction {values['direction']!r}")
        node = Node(
            name,
            kind,
            inputs=list(proto.input),
            outputs=list(proto.output) or [""],
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
        )
        states, callers, trouble = self._states(node, attributes, where)
        reason = unsupported(values, kind, node.directions) or missing or trouble
        used = [node.input(position) for position in (W, R, B)]
        used += [node.input(PEEPHOLES)] if "weight_ci" in node.weights else []
        used += [node.input(INITIAL_H + "hc".index(name[0])) for name in states]
        return replace(
            node,
            attributes=replace(attributes, unsupported=reason),
            states=states,
            callers=callers,
            used=tuple(used),
        )

    def _weights(self, node: Node, where: str) -> dict[str, Array]:
        """W (D, G*H, I), R (D, G*H, H) and B (D, 2*G*H) in torch's order; B split in two.

        P (D, 3*H), where it is stored and not zero, is split in three.
        """
        arrays = {
            "weight_ih": self._weight(node, W, 3, f"{where}: weight_ih"),
            "weight_hh": self._weight(node, R, 3, f"{where}: weight_hh"),
        }
        if node.input(B):
            arrays["bias"] = self._weight(node, B, 2, f"{where}: bias")
        if self._has_peepholes(node):
            arrays["peepholes"] = self._weight(node, PEEPHOLES, 2, f"{where}: peepholes")
        hidden = arrays["weight_hh"].shape[2]
        height = len(TORCH[node.kind]) * hidden
        rows = {"weight_ih": height, "weight_hh": height, "bias": 2 * height}
        rows["peepholes"] = len(ONNX_PEEPHOLES) * hidden
        for name, array in arrays.items():
            if array.shape[1] != rows[name]:
                raise CheckpointError(
                    f"{where}: {name} has shape {array.shape}; expected {rows[name]} rows"
                )
        self._tensors.charge(2 * sum(array.nbytes for array in arrays.values()), where)
        peepholes = arrays.pop("peepholes", None)
        if "bias" in arrays:
            arrays["bias_ih"], arrays["bias_hh"] = np.split(arrays.pop("bias"), 2, axis=1)
        weights = {
            name: np.stack([in_torchs_order(part, node.kind, ONNX) for part in array])
            for name, array in arrays.items()
        }
        if peepholes is not None:
            parts = np.split(peepholes, len(ONNX_PEEPHOLES), axis=1)
            named = zip(ONNX_PEEPHOLES, parts, strict=True)
            weights |= {f"weight_c{gate}": part for gate, part in named}
        return weights

    def _weight(self, node: Node, position: int, rank: int, what: str) -> Array:
        """A stored input with an axis of directions before its rows."""
        array = self._values.constant(node.input(position), what)
        if array.ndim != rank or 0 in array.shape or array.shape[0] != node.directions:
            raise CheckpointError(
                f"{what} has shape {array.shape}; expected {rank} axes, the first of "
                f"size {node.directions}, and none of size 0"
            )
        return array

    def _states(
        self, node: Node, attributes: Attributes, where: str
    ) -> tuple[dict[str, Array], tuple[tuple[str, int | None], ...], str]:
        """Stored initial states (D, B, H) that are not zero; those that are the caller's; why not.

        A state made of zeros, as torch exports one, is none.
        """
        states: dict[str, Array] = {}
        callers: list[tuple[str, int | None]] = []
        for position, name in ((INITIAL_H, "h_0"), (INITIAL_C, "c_0")):
            value = node.input(position)
            source = self._values.source(value)
            if source in self._values.inputs:
                callers.append(self._values.rows(value))
            elif self._values.is_constant(value):
                states[name] = self._values.array(value)
            elif value and not self._values.is_zero(source):
                return {}, (), f"{name} computed by {self._producer(value, where).op_type}"
        for name, state in states.items():
            swapped = attributes.batch_first and state.ndim == 3
            by_direction = state.swapaxes(0, 1) if swapped else state
            if state.ndim != 3 or by_direction.shape[::2] != (node.directions, node.hidden_size):
                raise CheckpointError(
                    f"{where}: {name} has shape {state.shape}; expected "
                    f"({node.directions}, B, {node.hidden_size}), or B first if layout is 1"
                )
            states[name] = by_direction
        return {name: state for name, state in states.items() if state.any()}, tuple(callers), ""

    def _producer(self, value: str, where: str) -> Any:
        producer = self._values.producer(value)
        if producer is None:
            raise CheckpointError(f"{where}: nothing produces its input {value!r}")
        return producer

    def _peepholes(self, node: Node) -> str:
        """What P is, through Identity; "" where an LSTM has none but zeros."""
        name = node.input(PEEPHOLES) if node.kind == "LSTM" else ""
        zeros = name and self._values.is_zero(self._values.source(name))
        return "" if zeros else self._values.source(name, ("Identity",))

    def _has_peepholes(self, node: Node) -> bool:
        source = self._peepholes(node)
        return bool(source) and self._values.is_constant(source)

    def _missing_peepholes(self, node: Node) -> str:
        """Why peepholes cannot be read; "" where they can, or where there are none."""
        source = self._peepholes(node)
        if not source or self._has_peepholes(node):
            return ""
        return f"peepholes (input P), {self._values.origin(source)}"


def check_text(graph: Any) -> None:
    """Refuse names that are no text: protobuf passes malformed UTF-8 on as bytes."""
    names = [value.name for value in (*graph.initializer, *graph.input, *graph.output)]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    for name in names:
        if not isinstance(name, str):
            raise CheckpointError(f"name {name!r} is not UTF-8")
