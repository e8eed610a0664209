"""ONNX models: the LSTM, GRU and RNN nodes of the graph, and its other initialisers.

A chain of nodes in which each is fed by the one before it, as torch exports the layers of one
module, becomes one module with ``num_layers``. A module's prefix is its first node's name and a
dot. Nodes inside the bodies of If, Loop and Scan are not looked for.

Source: the ONNX operators LSTM, GRU and RNN (opset 22, and back to 7).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import protobuf
from .arrays import Array
from .canonical import Attributes, Checkpoint
from .errors import CheckpointError, library_errors, missing_library
from .gates import ONNX, TORCH, to_torch
from .limits import check_budget
from .onnx_tensors import Tensors

# ModelProto's first field, ir_version, as protobuf writes it.
MAGIC = b"\x08"

# Twice what the largest exported models have; as objects of Python they take 40 MB.
MAX_NODES = 100_000

DOMAINS = ("", "ai.onnx")
ACTIVATIONS = {
    "LSTM": (["sigmoid", "tanh", "tanh"],),
    "GRU": (["sigmoid", "tanh"],),
    "RNN": (["tanh"], ["relu"]),
}
# The attributes of the recurrent nodes: their types, and what they are when left out. The scales of
# activations other than the defaults need not be looked at, since those are refused.
TYPES = {
    "direction": "STRING",
    "layout": "INT",
    "linear_before_reset": "INT",
    "input_forget": "INT",
    "activations": "STRINGS",
    "activation_alpha": "FLOATS",
    "activation_beta": "FLOATS",
    "clip": "FLOAT",
    "hidden_size": "INT",
    "output_sequence": "INT",
}
DEFAULTS: dict[str, Any] = dict.fromkeys(TYPES) | {
    "direction": "forward",
    "layout": 0,
    "linear_before_reset": 0,
    "input_forget": 0,
}
# The inputs of a node by position, as the operators number them.
X, W, R, B, LENGTHS, INITIAL_H, INITIAL_C, PEEPHOLES = range(8)

# What may stand between two layers and change nothing but the axes.
BETWEEN = {"Squeeze", "Transpose", "Reshape", "Identity"}
BETWEEN_TYPES = {"axes": "INTS", "perm": "INTS", "shape": "INTS", "allowzero": "INT"}
# What makes zeros of zeros, whatever else it is given.
KEEPS_ZERO = {"Slice", "Expand", "Squeeze", "Unsqueeze", "Transpose", "Reshape", "Identity"}


@dataclass(frozen=True)
class Node:
    """An LSTM, GRU or RNN node, its weights in torch's order."""

    name: str
    kind: str
    inputs: list[str]
    outputs: list[str]
    directions: int
    weights: dict[str, Array]
    attributes: Attributes
    states: dict[str, Array] = field(default_factory=dict)
    state_given: bool = False  # by the caller of the graph
    used: tuple[str, ...] = ()

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.weights["weight_hh"].shape[2])

    def input(self, position: int) -> str:
        """The name of an input, "" where it is left out."""
        return self.inputs[position] if position < len(self.inputs) else ""


def read(content: bytes, folder: Path) -> tuple[Checkpoint, int]:
    """Every module and initialiser of the model, and the bytes of its files.

    Parameters
    ----------
    content : bytes
        The model.
    folder : Path
        Where it lies; external data is read from there and nowhere else.
    """
    try:
        import onnx
    except ImportError as error:
        raise missing_library("onnx") from error
    protobuf.check(content, onnx.ModelProto.DESCRIPTOR)
    with library_errors("not a readable ONNX model"):
        model = onnx.load_model_from_string(content)
    tensors = Tensors(folder, len(content), onnx.TensorProto)
    return Graph(model.graph, tensors).checkpoint(), tensors.file_bytes


class Graph:
    """A graph with what produces and what consumes each value."""

    def __init__(self, graph: Any, tensors: Tensors) -> None:
        if len(graph.node) > MAX_NODES:
            raise CheckpointError(f"holds {len(graph.node)} nodes; at most {MAX_NODES} are read")
        check_text(graph)
        self._tensors = tensors
        self._nodes = list(graph.node)
        self._constants: dict[str, Any] = {}
        for tensor in graph.initializer:
            if tensor.name in self._constants:
                raise CheckpointError(f"initialiser {tensor.name!r} appears twice")
            self._constants[tensor.name] = tensor
        self._initialisers = list(self._constants)
        self._producers: dict[str, Any] = {}
        for node in self._nodes:
            self._add_producer(node)
        self._uses = Counter(name for node in self._nodes for name in node.input)
        self._uses.update(output.name for output in graph.output)
        # Before IR version 4 every initialiser was listed as an input too.
        self._inputs = {value.name for value in graph.input} - self._constants.keys()
        self._arrays: dict[str, Array] = {}

    def _add_producer(self, node: Any) -> None:
        for output in filter(None, node.output):
            if output in self._producers or output in self._constants:
                raise CheckpointError(f"value {output!r} is produced twice")
            self._producers[output] = node
        if node.op_type == "Constant" and node.domain in DOMAINS and node.output:
            for attribute in node.attribute:
                if attribute.name == "value":
                    self._constants[node.output[0]] = attribute.t

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
        for name in self._initialisers:
            if name not in used:
                if name in arrays:
                    raise CheckpointError(f"array {name!r} appears twice")
                arrays[name] = self._array(name)
        return Checkpoint(arrays, attributes)

    def _array(self, name: str) -> Array:
        if name not in self._arrays:
            what = f"initialiser {name!r}"
            self._arrays[name] = self._tensors.array(self._constants[name], what)
        return self._arrays[name]

    def _stacks(self) -> Iterator[list[Node]]:
        """The modules: chains of nodes, each feeding the next one and nothing else."""
        nodes = {
            id(proto): self._node(proto)
            for proto in self._nodes
            if proto.op_type in TORCH and proto.domain in DOMAINS
        }
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
        while self._uses[value] == 1 and value in self._producers:
            producer = self._producers[value]
            if id(producer) in nodes:
                lower = nodes[id(producer)]
                fits = value == lower.outputs[0] and alike(lower, node)
                return id(producer) if fits and self._joins(steps[::-1], lower) else None
            if producer.op_type not in BETWEEN or len(steps) > len(BETWEEN):
                return None
            steps.append(producer)
            value = producer.input[0] if producer.input else ""
        return None

    def _joins(self, steps: list[Any], lower: Node) -> bool:
        """Whether the steps turn Y (T, D, B, H) into (T, B, D*H), or the same batch-first.

        Followed on the axes' names, so that exporters may spell it as they like.
        """
        axes = ["B", "T", "D", "H"] if lower.attributes.batch_first else ["T", "D", "B", "H"]
        wanted = ["B", "T", "DH"] if lower.attributes.batch_first else ["T", "B", "DH"]
        for step in steps:
            values = attribute_values(step, BETWEEN_TYPES)
            if step.op_type == "Transpose":
                order = values.get("perm", list(range(len(axes)))[::-1])
                if sorted(order) != list(range(len(axes))):
                    return False
                axes = [axes[axis] for axis in order]
            elif step.op_type == "Squeeze":
                removed = self._integers(step, "axes", values)
                if removed != [axes.index("D")] or lower.directions != 1:
                    return False
                axes.remove("D")
            elif step.op_type == "Reshape":
                shape = self._integers(step, "shape", values)
                joined = axes[-2:] == ["D", "H"] and len(axes) == 4
                width = lower.directions * lower.hidden_size
                if not joined or shape not in ([0, 0, -1], [0, 0, width]):
                    return False
                if values.get("allowzero"):
                    return False
                axes = [*axes[:2], "DH"]
        return [axis if axis != "H" or "D" in axes else "DH" for axis in axes] == wanted

    def _integers(self, step: Any, name: str, values: dict[str, Any]) -> list[int] | None:
        """A step's axes or shape: an attribute in old opsets, a constant input in new ones."""
        if name in values:
            return list(values[name])
        if len(step.input) > 1 and step.input[1] in self._constants:
            return [int(value) for value in self._array(step.input[1]).ravel().tolist()]
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
        node.weights.update(self._weights(node, where))
        if values["hidden_size"] not in (None, node.hidden_size):
            raise CheckpointError(
                f"{where}: hidden_size is {values['hidden_size']}, but R has {node.hidden_size}"
            )
        attributes = Attributes(
            nonlinearity=activations_of(values, kind)[0][0] if kind == "RNN" else None,
            reset_after=kind != "GRU" or values["linear_before_reset"] != 0,
            batch_first=values["layout"] == 1,
            backward=values["direction"] == "reverse",
        )
        states, given, trouble = self._states(node, attributes, where)
        reason = unsupported(values, kind, node.directions) or self._peepholes(node) or trouble
        used = [node.input(position) for position in (W, R, B)]
        used += [node.input(INITIAL_H + "hc".index(name[0])) for name in states]
        return replace(
            node,
            attributes=replace(attributes, unsupported=reason),
            states=states,
            state_given=given,
            used=tuple(used),
        )

    def _weights(self, node: Node, where: str) -> dict[str, Array]:
        """W (D, G*H, I), R (D, G*H, H) and B (D, 2*G*H) in torch's order; B split in two."""
        found: dict[str, Array] = {}
        for position, name, rank in ((W, "weight_ih", 3), (R, "weight_hh", 3), (B, "bias", 2)):
            if name == "bias" and not node.input(B):
                continue
            array = self._constant(node.input(position), f"{where}: {name}")
            if array.ndim != rank or 0 in array.shape or array.shape[0] != node.directions:
                raise CheckpointError(
                    f"{where}: {name} has shape {array.shape}; expected {rank} axes, the first of "
                    f"size {node.directions}, and none of size 0"
                )
            found[name] = array
        height = len(TORCH[node.kind]) * found["weight_hh"].shape[2]
        rows = {"weight_ih": height, "weight_hh": height, "bias": 2 * height}
        for name, array in found.items():
            if array.shape[1] != rows[name]:
                raise CheckpointError(
                    f"{where}: {name} has shape {array.shape}; expected {rows[name]} rows"
                )
        if "bias" in found:
            found["bias_ih"], found["bias_hh"] = np.split(found.pop("bias"), 2, axis=1)
        self._tensors.charge(2 * sum(array.nbytes for array in found.values()), where)
        return {
            name: np.stack([to_torch(part, node.kind, ONNX) for part in array])
            for name, array in found.items()
        }

    def _constant(self, name: str, what: str) -> Array:
        """An initialiser or a Constant, also through Identity."""
        for _ in range(len(self._nodes) + 1):
            if name in self._constants:
                return self._array(name)
            producer = self._producers.get(name)
            if producer is None or producer.op_type != "Identity" or not producer.input:
                break
            name = producer.input[0]
        made = f"computed by {producer.op_type}" if producer else "an input of the graph"
        raise CheckpointError(
            f"{what} is {made if name else 'left out'}; expected an initialiser "
            "(export with constant folding)"
        )

    def _states(
        self, node: Node, attributes: Attributes, where: str
    ) -> tuple[dict[str, Array], bool, str]:
        """Stored initial states (D, B, H) that are not zero; whether the caller gives one; why not.

        A state made of zeros, as torch exports one, is none.
        """
        states: dict[str, Array] = {}
        given = False
        for position, name in ((INITIAL_H, "h_0"), (INITIAL_C, "c_0")):
            value = node.input(position)
            source = self._source(value)
            if source in self._inputs:
                given = True
            elif value in self._constants:
                states[name] = self._array(value)
            elif value and not self._is_zero(source):
                return {}, given, f"{name} computed by {self._producer(value, where).op_type}"
        for name, state in states.items():
            swapped = attributes.batch_first and state.ndim == 3
            by_direction = state.swapaxes(0, 1) if swapped else state
            if state.ndim != 3 or by_direction.shape[::2] != (node.directions, node.hidden_size):
                raise CheckpointError(
                    f"{where}: {name} has shape {state.shape}; expected "
                    f"({node.directions}, B, {node.hidden_size}), or B first if layout is 1"
                )
            states[name] = by_direction
        return {name: state for name, state in states.items() if state.any()}, given, ""

    def _producer(self, value: str, where: str) -> Any:
        if value not in self._producers:
            raise CheckpointError(f"{where}: nothing produces its input {value!r}")
        return self._producers[value]

    def _source(self, value: str) -> str:
        """Where a value comes from, through what only moves, cuts or repeats its elements."""
        for _ in self._nodes:
            producer = self._producers.get(value)
            if producer is None or producer.op_type not in KEEPS_ZERO or not producer.input:
                break
            value = producer.input[0]
        return value

    def _is_zero(self, value: str) -> bool:
        """Whether a value is stored as zeros or filled with them."""
        if value in self._constants:
            return not self._array(value).any()
        producer = self._producers.get(value)
        if producer is None or producer.op_type != "ConstantOfShape":
            return False
        fill = [attribute.t for attribute in producer.attribute if attribute.name == "value"]
        what = f"node {producer.name!r}"
        return not any(self._tensors.array(tensor, what).any() for tensor in fill)

    def _peepholes(self, node: Node) -> str:
        name = node.input(PEEPHOLES)
        if node.kind != "LSTM" or not name or self._is_zero(self._source(name)):
            return ""
        return "peepholes (input P)"


def check_text(graph: Any) -> None:
    """Refuse names that are no text: protobuf passes malformed UTF-8 on as bytes."""
    names = [value.name for value in (*graph.initializer, *graph.input, *graph.output)]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    for name in names:
        if not isinstance(name, str):
            raise CheckpointError(f"name {name!r} is not UTF-8")


def attribute_values(proto: Any, types: dict[str, str]) -> dict[str, Any]:
    """The attributes of a node that `types` names, each of which must have its type."""
    values: dict[str, Any] = {}
    for attribute in proto.attribute:
        name = attribute.name
        if name not in types:
            continue
        what = f"node {proto.name!r}: attribute {name!r}"
        if attribute.type != attribute.AttributeType.Value(types[name]) or name in values:
            raise CheckpointError(f"{what} appears twice or is not of type {types[name]}")
        values[name] = GETTERS[types[name]](attribute, what)
    return values


def text(raw: bytes, what: str) -> str:
    """An attribute's string."""
    with library_errors(what):
        return raw.decode("utf-8")


GETTERS: dict[str, Callable[[Any, str], Any]] = {
    "INT": lambda attribute, what: attribute.i,
    "FLOAT": lambda attribute, what: attribute.f,
    "STRING": lambda attribute, what: text(attribute.s, what),
    "INTS": lambda attribute, what: list(attribute.ints),
    "FLOATS": lambda attribute, what: list(attribute.floats),
    "STRINGS": lambda attribute, what: [text(item, what) for item in attribute.strings],
}


def activations_of(values: dict[str, Any], kind: str) -> list[list[str]]:
    """The activations of each direction, in lower case."""
    count = len(ACTIVATIONS[kind][0])
    listed = values["activations"] or ACTIVATIONS[kind][0]
    names = [str(name).lower() for name in listed]
    return [names[start : start + count] for start in range(0, len(names), count)]


def unsupported(values: dict[str, Any], kind: str, directions: int) -> str:
    """The first attribute that packseq cannot run, by name and value; "" if it can run all."""
    activations = activations_of(values, kind)
    if any(names != activations[0] or names not in ACTIVATIONS[kind] for names in activations) or (
        values["activations"] and len(activations) != directions
    ):
        return f"activations={values['activations']}"
    if values["clip"] is not None:
        return f"clip={values['clip']}"
    if values["input_forget"]:
        return f"input_forget={values['input_forget']}"
    return f"layout={values['layout']}" if values["layout"] not in (0, 1) else ""


def alike(lower: Node, upper: Node) -> bool:
    """Whether two nodes can be layers of one module."""
    return (
        lower.kind == upper.kind
        and lower.attributes == upper.attributes
        and lower.directions == upper.directions
        and lower.hidden_size == upper.hidden_size
        and lower.weights.keys() == upper.weights.keys()
        and upper.weights["weight_ih"].shape[2] == lower.directions * lower.hidden_size
        and lower.input(LENGTHS) == upper.input(LENGTHS)
    )


def stack_attributes(stack: list[Node]) -> Attributes:
    """The attributes of a chain of nodes, which are alike in all but their states."""
    if any(node.states for node in stack) and any(node.state_given for node in stack):
        reason = "initial states partly stored, partly given"
        return replace(stack[0].attributes, unsupported=reason)
    return stack[0].attributes


def stack_parameters(stack: list[Node]) -> Iterator[tuple[str, Array]]:
    """The parameters of a chain of nodes as the layers of one module."""
    for layer, node in enumerate(stack):
        for name, array in node.weights.items():
            for part, direction in zip(array, ("", "_reverse"), strict=False):
                yield f"{name}_l{layer}{direction}", part


def stack_states(stack: list[Node]) -> Iterator[tuple[str, Array]]:
    """The stored initial states of a chain of nodes as (L*D, B, H); zeros for nodes without."""
    for name in ("h_0", "c_0"):
        stored = [node.states[name] for node in stack if name in node.states]
        if not stored:
            continue
        batch = max(state.shape[1] for state in stored)
        if any(state.shape[1] not in (1, batch) for state in stored):
            raise CheckpointError(f"node {stack[0].name!r}: {name} of different batch sizes")
        total = sum(node.directions for node in stack) * batch * stack[0].hidden_size
        check_budget(total * 8, sum(state.nbytes for state in stored), f"initial state {name}")
        layers = [
            np.broadcast_to(
                node.states.get(name, np.zeros((), stored[0].dtype)),
                (node.directions, batch, node.hidden_size),
            )
            for node in stack
        ]
        yield name, np.concatenate(layers)
