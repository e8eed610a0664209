"""ONNX models: the LSTM, GRU and RNN nodes of a graph and of the bodies in it, and other arrays.

A chain of nodes in which each is fed by the one before it, as torch exports the layers of one
module, becomes one module with ``num_layers``. A module's prefix is its first node's name and a
dot; in the body of an If, Loop or Scan, that node's name and the body's come before it.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packseq.optional import load

from ..arrays import Array
from ..canonical import FIRST_NAMES, Attributes, Checkpoint
from ..errors import CheckpointError, library_errors
from . import protobuf
from .between import STEPS, joins
from .layers import Layers, is_foreign, kind_of, label
from .nodes import Node, X, Y, alike, stack_attributes, stack_parameters, stack_states
from .tensors import Tensors
from .values import Values, bodies_of, is_operator

# ModelProto's first field, ir_version, as protobuf writes it.
MAGIC = b"\x08"

# Protobuf's own limit: what is larger keeps its weights in other files.
MAX_BYTES = 2**31 - 1

# Twice what the largest exported models have; as objects of Python they take 40 MB.
MAX_NODES = 100_000

# torch has no GRU but the one that ONNX calls linear_before_reset=1, and its older exporter always
# wrote that. The newer one (dynamo=True, the default since torch 2.9) left it out, which means 0,
# with onnxscript from 0.5.7 on and until it was mended in 2026 (microsoft/onnxscript#2852,
# pytorch/pytorch#189225). A file does not say which onnxscript there was.
EXPORTER = "pytorch"
DOUBTED = (
    "its linear_before_reset is 0, which torch's exporter wrote by mistake for torch's own GRU; "
    "pass reset_after=True for what torch computes, or False for what the file says"
)

# Where CoreML's Model has its kinds of models, in a message that begins like ONNX's.
COREML_FIELDS = range(200, 4000)


def read(content: memoryview, folder: Path) -> tuple[Checkpoint, int]:
    """Every module and initialiser of the model, and the bytes of its files.

    Parameters
    ----------
    content : memoryview
        The model.
    folder : Path
        Where it lies; external data is read from there and nowhere else.
    """
    model, tensors = parsed(content, folder)
    return Model(model, tensors).checkpoint(), tensors.file_bytes


def parsed(content: memoryview, folder: Path) -> tuple[Any, Tensors]:
    """The ModelProto, and what reads its tensors."""
    onnx = load("onnx", "weights")
    if len(content) > MAX_BYTES:
        raise CheckpointError(f"is of {len(content)} bytes; a model has at most {MAX_BYTES}")
    protobuf.check(content, onnx.ModelProto.DESCRIPTOR)
    with library_errors("not a readable ONNX model"):
        model = onnx.ModelProto.FromString(content)
    if not model.HasField("graph"):
        coreml = protobuf.has_field(content, COREML_FIELDS)
        like = "it looks like a CoreML model" if coreml else "is it another protobuf message?"
        raise CheckpointError(f"begins like an ONNX model and holds no graph: {like}")
    return model, Tensors(folder, len(content), onnx.TensorProto)


@dataclass(frozen=True)
class Module:
    """A recurrent module: the nodes that are its layers, or why it cannot be had."""

    stack: list[Node]
    values: Values
    reason: str = ""

    def entries(self, prefix: str) -> tuple[Attributes, dict[str, Array]]:
        """Its attributes and arrays; a CheckpointError says why it cannot be had."""
        if self.reason:
            raise CheckpointError(self.reason)
        named = [*stack_parameters(self.stack), *stack_states(self.stack)]
        return stack_attributes(self.stack), {prefix + name: array for name, array in named}


class Model:
    """The recurrent modules of a model by their prefixes, and its initialisers."""

    def __init__(self, model: Any, tensors: Tensors) -> None:
        self._tensors = tensors
        self._functions = list(model.functions)
        self._scopes = scopes_of(model.graph, tensors)
        self._doubted = DOUBTED if model.producer_name == EXPORTER else ""
        taken = Names()
        self.modules = {
            f"{taken.distinct(f'{path}{name}')}.": module for path, name, module in self._modules()
        }

    def _modules(self) -> Iterator[tuple[str, str, Module]]:
        """Every module with the path to its graph and the name of its first node."""
        known = {(function.domain, function.name) for function in self._functions}
        for path, values in self._scopes:
            for proto, module in modules_of(values, self._tensors, known):
                yield path, label(proto), module
        for function in self._functions:
            reason = f"inside of the function {function.name!r}, which gets its weights by call"
            for proto in function.node:
                if kind_of(proto):
                    yield f"{function.name}.", label(proto), Module([], self._scopes[0][1], reason)

    def checkpoint(self) -> Checkpoint:
        """Every recurrent module under torch's names, every other initialiser under its own.

        A module that cannot be had is a placeholder for its first weight, and an initialiser of a
        type that NumPy lacks is one for itself.
        """
        arrays: dict[str, Array] = {}
        attributes: dict[str, Attributes] = {}
        placeholders: dict[str, str] = {}
        for prefix, module in self.modules.items():
            try:
                said, own = module.entries(prefix)
                attributes[prefix] = (
                    said if said.reset_after else replace(said, doubted=self._doubted)
                )
                arrays |= own
            except CheckpointError as error:
                placeholders[prefix + FIRST_NAMES[0]] = str(error)
        taken = Names([*arrays, *placeholders])
        for path, values in self._scopes:
            for name, tensor in values.unspent():
                given = taken.distinct(f"{path}{name}")
                if self._tensors.is_readable(tensor):
                    arrays[given] = values.initialiser(name)
                else:
                    type_name = self._tensors.type_name(tensor.data_type)
                    placeholders[given] = f"has element type {type_name} ({tensor.data_type})"
        return Checkpoint(arrays, attributes, placeholders, files=self._tensors.files)


class Names:
    """Names that are given once: one that comes again gets a number."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._counts: dict[str, int] = {}

    def distinct(self, name: str) -> str:
        """The name itself, or the first that is free of name#2, name#3 and so on."""
        given = name
        while given in self._taken:
            self._counts[name] = self._counts.get(name, 1) + 1
            given = f"{name}#{self._counts[name]}"
        self._taken.add(given)
        return given


def scopes_of(graph: Any, tensors: Tensors) -> list[tuple[str, Values]]:
    """The graph and each body inside of it, after the one around it, each with its path.

    A path is made of the names of the nodes and attributes that lead there, and a dot after each.
    """
    scopes: list[tuple[str, Values]] = []
    pending: list[tuple[str, Any, Values | None]] = [("", graph, None)]
    count = 0
    while pending:
        path, body, outer = pending.pop()
        count += len(body.node)
        if count > MAX_NODES:
            raise CheckpointError(f"holds {count} nodes; at most {MAX_NODES} are read")
        check_text(body)
        values = Values(body, tensors, outer)
        scopes.append((path, values))
        inner = [
            (f"{path}{label(node)}.{name}.", each, values)
            for node in values.nodes
            for name, each in bodies_of(node)
        ]
        pending += inner[::-1]
    return scopes


def modules_of(
    values: Values, tensors: Tensors, functions: Container[tuple[str, str]]
) -> Iterator[tuple[Any, Module]]:
    """The modules of one graph, each with its first node, in the order of these."""
    layers = Layers(values, tensors)
    nodes: dict[int, Node] = {}
    reasons: dict[int, str] = {}
    protos = {
        id(proto): proto
        for proto in values.nodes
        if kind_of(proto) or (is_foreign(proto) and (proto.domain, proto.op_type) not in functions)
    }
    for key, proto in protos.items():
        try:
            nodes[key] = layers.node(proto)
            layers.spend(nodes[key])
        except CheckpointError as error:
            reasons[key] = str(error)
    stacks = {id(stack[0].proto): stack for stack in stacks_of(nodes, values)}
    for key, proto in protos.items():
        if key in stacks or key in reasons:
            yield proto, Module(stacks.get(key, []), values, reasons.get(key, ""))


def stacks_of(nodes: dict[int, Node], values: Values) -> Iterator[list[Node]]:
    """Chains of nodes, each feeding the next one and nothing else."""
    below = {
        key: feeder
        for key, node in nodes.items()
        if (feeder := feeder_of(node, nodes, values)) is not None
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


def feeder_of(node: Node, nodes: dict[int, Node], values: Values) -> int | None:
    """The node whose output, its directions joined, is this one's whole input."""
    steps: list[Any] = []
    value = node.input(X)
    while values.used_once(value) and len(steps) <= len(STEPS):
        producer = values.producer(value)
        if producer is None or value != producer.output[Y]:
            return None
        if id(producer) in nodes:
            lower = nodes[id(producer)]
            fits = alike(lower, node) and joins(steps[::-1], lower, values)
            return id(producer) if fits else None
        if not is_operator(producer, STEPS) or not producer.input:
            return None
        steps.append(producer)
        value = producer.input[0]
    return None


def check_text(graph: Any) -> None:
    """Refuse names that are no text: protobuf passes malformed UTF-8 on as bytes."""
    names = [value.name for value in (*graph.initializer, *graph.input, *graph.output)]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    for name in names:
        if not isinstance(name, str):
            raise CheckpointError(f"name {name!r} is not UTF-8")
