"""The values of an ONNX graph: what makes each, how often it is used, and those that are constant.

Source: GraphProto in the ONNX repository, and the operators that are named here.
"""

from collections import Counter
from collections.abc import Container, Iterator
from typing import Any

from ..arrays import Array
from ..errors import CheckpointError
from .nodes import attribute_values
from .tensors import Tensors

DOMAINS = ("", "ai.onnx")
# How many nodes are followed from a value to its source: more than any exporter writes, and few
# enough for a ring.
MAX_CHAIN = 64
# What makes zeros of zeros, whatever else it is given.
KEEPS_ZERO = ("Slice", "Expand", "Squeeze", "Unsqueeze", "Transpose", "Reshape", "Identity")
# Axes, shapes and bounds have an entry for each axis, of which no recurrent node has more than 4.
MAX_INTEGERS = 8


class Values:
    """A graph with what produces and what consumes each value.

    Attributes
    ----------
    initialisers : list of str
        The stored arrays, in the file's order.
    inputs : dict of str to list
        What the caller gives: each input's sizes, None where they may vary; [] if not declared.
    """

    def __init__(self, graph: Any, tensors: Tensors) -> None:
        self._tensors = tensors
        self._constants: dict[str, Any] = {}
        for tensor in graph.initializer:
            if tensor.name in self._constants:
                raise CheckpointError(f"initialiser {tensor.name!r} appears twice")
            self._constants[tensor.name] = tensor
        self.initialisers = list(self._constants)
        self._producers: dict[str, Any] = {}
        for node in graph.node:
            self._add_producer(node)
        self._uses = Counter(uses(graph))
        # Before IR version 4 every initialiser was listed as an input too.
        self.inputs = {
            value.name: declared_sizes(value)
            for value in graph.input
            if value.name not in self._constants
        }
        self._arrays: dict[str, Array] = {}

    def _add_producer(self, node: Any) -> None:
        for output in filter(None, node.output):
            if output in self._producers or output in self._constants:
                raise CheckpointError(f"value {output!r} is produced twice")
            self._producers[output] = node
        if is_operator(node, ("Constant",)) and node.output:
            for attribute in node.attribute:
                if attribute.name == "value":
                    self._constants[node.output[0]] = attribute.t

    def is_constant(self, name: str) -> bool:
        """Whether a value is an initialiser or a Constant."""
        return name in self._constants

    def array(self, name: str) -> Array:
        """The array of a constant."""
        if name not in self._arrays:
            what = f"initialiser {name!r}"
            self._arrays[name] = self._tensors.array(self._constants[name], what)
        return self._arrays[name]

    def constant(self, name: str, what: str) -> Array:
        """An initialiser or a Constant, also through Identity."""
        source = self.source(name, ("Identity",))
        if source in self._constants:
            return self.array(source)
        raise CheckpointError(
            f"{what} is {self.origin(source) if name else 'left out'}; expected an initialiser "
            "(export with constant folding)"
        )

    def origin(self, name: str) -> str:
        """Where a value that is no constant comes from, for messages."""
        producer = self.producer(name)
        return f"computed by {producer.op_type}" if producer else "an input of the graph"

    def producer(self, name: str) -> Any:
        """The node that makes a value; None for inputs, initialisers and what nothing makes."""
        return self._producers.get(name)

    def used_once(self, name: str) -> bool:
        """Whether one thing alone uses a value; see uses()."""
        return self._uses[name] == 1

    def source(self, name: str, through: Container[str] = KEEPS_ZERO) -> str:
        """Where a value comes from, through what only moves, cuts or repeats its elements."""
        for _ in range(MAX_CHAIN):
            producer = self.producer(name)
            if producer is None or not is_operator(producer, through) or not producer.input:
                break
            name = producer.input[0]
        return name

    def is_zero(self, name: str) -> bool:
        """Whether a value is stored as zeros or filled with them."""
        if name in self._constants:
            return not self.array(name).any()
        producer = self.producer(name)
        if producer is None or not is_operator(producer, ("ConstantOfShape",)):
            return False
        fill = [attribute.t for attribute in producer.attribute if attribute.name == "value"]
        what = f"node {producer.name!r}"
        return not any(self._tensors.array(tensor, what).any() for tensor in fill)

    def integers(self, name: str) -> list[int] | None:
        """A constant of a few integers; None for any other value."""
        if name not in self._constants:
            return None
        array = self.array(name)
        if array.dtype.kind != "i" or array.ndim > 1 or array.size > MAX_INTEGERS:
            return None
        return [int(value) for value in array.ravel().tolist()]

    def setting(
        self, node: Any, name: str, position: int, absent: list[int] | None = None
    ) -> list[int] | None:
        """A node's axes, shape or bounds: an attribute in old opsets, a constant input in new ones.

        `absent` if it is left out, None if it is computed.
        """
        values = attribute_values(node, {name: "INTS"})
        if name in values:
            return list(values[name])
        source = node.input[position] if len(node.input) > position else ""
        return self.integers(source) if source else absent

    def stretch(self, node: Any) -> tuple[int, int] | None:
        """Where a Slice of one stretch of the first axis begins and ends; None for any other."""
        bounds = [self.setting(node, "starts", 1), self.setting(node, "ends", 2)]
        first_axis = self.setting(node, "axes", 3, [0]) == [0]
        one_by_one = self.setting(node, "steps", 4, [1]) == [1]
        start, end = (bound[0] if bound and len(bound) == 1 else None for bound in bounds)
        if start is None or end is None or not first_axis or not one_by_one:
            return None
        return start, end

    def rows(self, name: str) -> tuple[str, int | None]:
        """Which value this one is rows of, and the first of them.

        A value that is not computed has its own, from 0; None where the rows cannot be told.
        """
        node = self.producer(name)
        if node is None:
            return name, 0
        bounds = self.stretch(node) if is_operator(node, ("Slice",)) else None
        if bounds is None or bounds[0] < 0:
            return self.source(name), None
        return node.input[0], bounds[0]

    def sizes(self, name: str) -> list[int | None]:
        """The sizes that a value has in every run, None where they may vary; [] if unknown.

        Only what the runtime enforces is believed: the shapes of constants and the declared ones of
        inputs, but not value_info, which is a note.
        """
        if name in self._constants:
            return list(self.array(name).shape)
        if name in self.inputs:
            return self.inputs[name]
        node = self.producer(name)
        if node is not None and is_operator(node, ("Transpose",)) and node.input:
            below = self.inputs.get(node.input[0], [])
            return [below[axis] for axis in permutation(node, len(below))]
        of, start = self.rows(name)
        below = [] if start is None else self.inputs.get(of, [])
        return [None, *below[1:]] if below else []


def is_operator(node: Any, kinds: Container[str]) -> bool:
    """Whether a node is one of ONNX's own operators `kinds`."""
    return node.op_type in kinds and node.domain in DOMAINS


def permutation(node: Any, rank: int) -> list[int]:
    """The axes of a Transpose's input in the order of its output; [] if they are no permutation."""
    reverse = list(range(rank))[::-1]
    order = attribute_values(node, {"perm": "INTS"}).get("perm", reverse)
    return list(order) if sorted(order) == reverse[::-1] else []


def uses(graph: Any) -> Iterator[str]:
    """Every use of a value's elements: by a node, also in a body of If, Loop or Scan, or as output.

    Shape is none: it asks for sizes alone, and neither a layer nor what joins two changes those of
    time and batch.
    """
    for node in graph.node:
        if not is_operator(node, ("Shape",)):
            yield from node.input
        for attribute in node.attribute:
            bodies = [attribute.g] if attribute.HasField("g") else []
            for body in (*bodies, *attribute.graphs):
                yield from uses(body)
    yield from (output.name for output in graph.output)


def declared_sizes(value: Any) -> list[int | None]:
    """The sizes of a graph's input, None where they are free, which some spell 0 or -1."""
    sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    return [size if size > 0 else None for size in sizes]
