"""The values of an ONNX graph: what makes each, how often it is used, and those that are constant.

Source: GraphProto in the ONNX repository, and the operators that are named here.
"""

from collections import Counter
from collections.abc import Container, Iterator
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import CheckpointError
from .folding import FOLDS, filling, fold
from .nodes import attribute_values
from .tensors import Stored, Tensors

DOMAINS = ("", "ai.onnx")
# How many nodes are followed from a value to its source: more than any exporter writes, and few
# enough for a ring.
MAX_CHAIN = 64
# What makes zeros of zeros, whatever else it is given: of its first input, or of all its inputs.
KEEPS_ZERO = (
    *("Slice", "Split", "Gather", "Expand", "Tile", "Cast", "Squeeze", "Unsqueeze", "Transpose"),
    *("Reshape", "Identity", "ReduceSum", "ReduceMean"),
)
ZERO_OF_ALL = ("Concat", "Mul", "Add", "Sub")
# Axes, shapes and bounds have an entry for each axis, of which no recurrent node has more than 4.
MAX_INTEGERS = 8


class Values:
    """A graph, or the body of a node, with what produces and what consumes each value.

    Attributes
    ----------
    initialisers : dict of str to TensorProto
        The stored arrays, in the file's order.
    inputs : dict of str to list
        What the caller gives: each input's sizes, None where they may vary; [] if not declared. Of
        a body, what its node gives, whose sizes nothing enforces.
    nodes : list of NodeProto
    is_body : bool
    """

    def __init__(self, graph: Any, tensors: Tensors, outer: "Values | None" = None) -> None:
        self._tensors = tensors
        self._outer = outer
        self.is_body = outer is not None
        self.nodes = list(graph.node)
        self.initialisers: dict[str, Any] = {}
        for tensor in graph.initializer:
            if tensor.name in self.initialisers:
                raise CheckpointError(f"initialiser {tensor.name!r} appears twice")
            self.initialisers[tensor.name] = tensor
        self._producers: dict[str, Any] = {}
        for node in self.nodes:
            for output in filter(None, node.output):
                if output in self._producers or output in self.initialisers:
                    raise CheckpointError(f"value {output!r} is produced twice")
                self._producers[output] = node
        self._uses = Counter(uses(graph))
        # Before IR version 4 every initialiser was listed as an input too.
        self.inputs = {
            value.name: [] if outer else declared_sizes(value)
            for value in graph.input
            if value.name not in self.initialisers
        }
        # Readers do not agree on which of two values of one name is meant: none is believed.
        self._shadows = {
            name
            for name in (*self._producers, *self.initialisers, *self.inputs)
            if outer is not None and outer.home(name).makes(name)
        }
        self._folded: dict[str, Stored] = {}
        self._reasons: dict[str, str] = {}
        self._zeros: dict[str, bool] = {}
        self._spent: set[str] = set()

    def home(self, name: str) -> "Values":
        """The graph that a value belongs to: this one, or the nearest around it that has it."""
        scope = self
        while scope._outer is not None and not scope.makes(name):
            scope = scope._outer
        return scope

    def makes(self, name: str) -> bool:
        """Whether a value belongs to this graph."""
        return name in self._producers or name in self.initialisers or name in self.inputs

    def constant(self, name: str, what: str) -> Stored:
        """The array of a value that is stored, or follows from what is."""
        if not name:
            raise CheckpointError(f"{what} is left out; expected an initialiser")
        try:
            return self._fold(name, MAX_CHAIN)
        except CheckpointError as error:
            raise CheckpointError(f"{what}: {error}") from error.__cause__

    def known(self, name: str) -> Array | None:
        """The same; None where the value is computed from what the caller gives, or unreadable."""
        try:
            return self._fold(name, MAX_CHAIN).array
        except CheckpointError:
            return None

    def _fold(self, name: str, depth: int) -> Stored:
        """A value, made once; why it cannot be is found once too."""
        scope = self.home(name)
        if name in scope._shadows:
            raise CheckpointError(f"{name!r} is made in a body and around it too")
        if name in scope._reasons:
            raise CheckpointError(scope._reasons[name])
        if name not in scope._folded:
            try:
                scope._folded[name] = scope._made(name, depth)
            except CheckpointError as error:
                scope._reasons[name] = str(error)
                raise
        return scope._folded[name]

    def _made(self, name: str, depth: int) -> Stored:
        if name in self.initialisers:
            return self._tensors.stored(self.initialisers[name], f"initialiser {name!r}")
        node = self.producer(name)
        if node is None or not is_operator(node, FOLDS):
            raise CheckpointError(f"{name!r} is {self.origin(name)}; expected an initialiser")
        declared = self._declared(node) if is_operator(node, ("Shape",)) else []
        if declared:
            return Stored(np.array(declared, np.int64), "INT64")
        if not depth:
            raise CheckpointError(f"{name!r} is computed by more than {MAX_CHAIN} nodes in a row")
        operands = [self._fold(each, depth - 1) if each else None for each in node.input]
        return fold(node, operands, list(node.output).index(name), self._tensors)

    def _declared(self, shape: Any) -> list[int | None]:
        """The sizes that a Shape gives of an input whose sizes are declared; else []."""
        bounds = attribute_values(shape, {"start": "INT", "end": "INT"})
        sizes = self.home(shape.input[0]).inputs.get(shape.input[0], []) if shape.input else []
        asked = sizes[bounds.get("start", 0) : bounds.get("end")]
        return [] if None in asked else asked

    def initialiser(self, name: str) -> Array:
        """A stored array of this graph."""
        return (self._folded.get(name) or self._made(name, 0)).array

    def spend(self, name: str) -> None:
        """Note the initialisers whose elements a value is made of: nobody needs them besides it."""
        pending = [(self.home(name), name)]
        while pending:
            scope, name = pending.pop()
            if name in scope._spent:
                continue
            scope._spent.add(name)
            node = scope._producers.get(name)
            if node is not None:
                count = len(node.input) if is_operator(node, ZERO_OF_ALL) else 1
                pending += [(scope.home(each), each) for each in node.input[:count]]

    def unspent(self) -> Iterator[tuple[str, Any]]:
        """The initialisers that no recurrent node is made of."""
        return ((name, one) for name, one in self.initialisers.items() if name not in self._spent)

    def origin(self, name: str) -> str:
        """Where a value that is no constant comes from, for messages."""
        producer = self.producer(name)
        if producer is not None:
            return f"computed by {producer.op_type}"
        scope = self.home(name)
        if name in scope.initialisers:
            return "an initialiser that cannot be read"
        if name not in scope.inputs:
            return "made by nothing"
        return "an input of the graph" if scope._outer is None else "an input of a body"

    def giver(self, name: str) -> str:
        """What a first state comes from: the input that it is cut from, or what computes it."""
        source = self.source(name)
        cut = source in self.home(source).inputs
        return f"from input {source!r}" if cut else self.origin(name)

    def producer(self, name: str) -> Any:
        """The node that makes a value; None for inputs, initialisers and what nothing makes."""
        return self.home(name)._producers.get(name)

    def is_computed(self, name: str) -> bool:
        """Whether a value is computed from what the caller gives, or is that."""
        scope = self.home(name)
        made = name in scope._producers or name in scope.inputs
        return made and self.known(name) is None

    def used_once(self, name: str) -> bool:
        """Whether one thing alone uses a value; see uses()."""
        return self._uses[name] == 1

    def source(self, name: str) -> str:
        """Where a value comes from, through what only moves, cuts or repeats its elements."""
        scope = self.home(name)
        for _ in range(MAX_CHAIN):
            producer = scope._producers.get(name)
            if producer is None or not is_operator(producer, KEEPS_ZERO) or not producer.input:
                break
            name = producer.input[0]
            scope = scope.home(name)
        return name

    def is_zero(self, name: str, depth: int = MAX_CHAIN) -> bool:
        """Whether a value is zeros in every run."""
        scope = self.home(name)
        if name not in scope._zeros:
            scope._zeros[name] = False  # should it need itself
            scope._zeros[name] = depth > 0 and scope._computes_zero(name, depth - 1)
        return scope._zeros[name]

    def _computes_zero(self, name: str, depth: int) -> bool:
        if name in self._shadows:
            return False
        node = self.producer(name)
        if node is None or not node.input:
            array = self.known(name)
            return array is not None and not array.any()
        if is_operator(node, ("ConstantOfShape",)):
            return not filling(node, self._tensors).array.any()
        count = len(node.input) if is_operator(node, ZERO_OF_ALL) else 1
        keeps = is_operator(node, (*ZERO_OF_ALL, *KEEPS_ZERO))
        return keeps and all(self.is_zero(each, depth) for each in node.input[:count])

    def integers(self, name: str) -> list[int] | None:
        """A constant of a few integers; None for any other value."""
        array = self.known(name)
        if array is None or array.dtype.kind != "i" or array.ndim > 1 or array.size > MAX_INTEGERS:
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
        array = self.known(name)
        if array is not None:
            return list(array.shape)
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
        for _, body in bodies_of(node):
            yield from uses(body)
    yield from (output.name for output in graph.output)


def bodies_of(node: Any) -> Iterator[tuple[str, Any]]:
    """The graphs that an If, Loop or Scan runs, by the names of its attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        yield from ((f"{attribute.name}.{i}", body) for i, body in enumerate(attribute.graphs))


def declared_sizes(value: Any) -> list[int | None]:
    """The sizes of a graph's input, None where they are free, which some spell 0 or -1."""
    sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    return [size if size > 0 else None for size in sizes]
