"""An ONNX model cut in three: what is before one recurrent module, the module, and what is after.

The nodes keep their names and their values' names. A value that the module neither takes nor gives
goes from the front to the back by its name, however often the model used it.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from packseq.checks import as_path
from packseq.optional import load

from ..beside import mapped
from ..errors import CheckpointError, library_errors
from ..store import FilePath, load_with_state
from .between import STEPS, joins
from .layers import label
from .model import MAGIC, Model, Module, Names, parsed
from .nodes import INITIAL_C, INITIAL_H, LENGTHS, Y_C, Y_H, X, Y
from .tensors import Tensors
from .values import bodies_of, is_operator

ELEMENTS = {"float32": "FLOAT", "float64": "DOUBLE"}
# Operators that draw anew at every run, whatever they are given.
CHANCE = ("Random", "Bernoulli", "Multinomial")
# The states: their letter, and their places among a node's inputs and outputs.
STATES = (("h", INITIAL_H, Y_H), ("c", INITIAL_C, Y_C))


def split(path: FilePath, prefix: str | None = None) -> tuple[Any, Any, Any]:
    """An ONNX model as three that run one after the other, of which the middle one is packseq's.

    Parameters
    ----------
    path : path
        The ONNX model; external data lies in its folder.
    prefix : str, optional
        Which module, by the prefix that `find` lists; its last dot may be left out. Needed where
        the model holds several: the others stay in the front and the back.

    Returns
    -------
    front : onnx.ModelProto or None
        What is computed before the module, from the model's inputs. Its first outputs are what the
        module is called with, named by the prefix: ``{prefix}x``, then ``{prefix}lengths`` if the
        model has lengths, and ``{prefix}h_0`` and ``{prefix}c_0`` (L*D, B, H) if the model starts
        from states other than zeros. What passes the module by, and outputs of the model that do
        not depend on it, follow under their own names. None where there is nothing to compute:
        the module takes the model's own inputs, as they are.
    module : LSTM, GRU, RNN or Backward
        As from `load`.
    back : onnx.ModelProto or None
        What is computed after the module, with the model's outputs that depend on it. Its inputs
        are ``{prefix}output``, ``{prefix}h_n`` and ``{prefix}c_n``, those that it needs, of what
        the module returns; and, under their own names, outputs of the front or inputs of the
        model. None where the model's outputs are what the module returns.

    Raises
    ------
    CheckpointError
        As for `load`; the file is no ONNX model; the module is in the body of an If, Loop or Scan;
        the type of a value that passes it by cannot be inferred.
    ValueError, ImportError, OSError
        As for `load`.

    Notes
    -----
    Names that the model has already get a number, as in ``{prefix}x#2``. Both models have the
    opset of the whole, hold all of their data, and need no name that the model's runtime does not
    know. Cost: three times the memory of the model at most, without the module.

    Examples
    --------
    A text recogniser, whose recurrent part runs here::

        front, module, back = packseq.weights.split("ocr.onnx")
        before = onnxruntime.InferenceSession(front.SerializeToString())
        after = onnxruntime.InferenceSession(back.SerializeToString())
        (x,) = before.run(None, {"image": image})
        output, state = module(x)
        (scores,) = after.run(None, {after.get_inputs()[0].name: output})

    >>> import onnx
    >>> text = '''
    ... <ir_version: 8, opset_import: ["" : 17]>
    ... tiny (float[T, 1, 2] x) => (float[T, 1, 1, 1] y)
    ... <float[1, 1, 2] W = {0.5, -0.5}, float[1, 1, 1] R = {0.25}> {
    ...     scaled = Tanh(x)
    ...     states = RNN <hidden_size = 1> (scaled, W, R)
    ...     y = Relu(states)
    ... }'''
    >>> onnx.save(onnx.parser.parse_model(text), "tiny.onnx")
    >>> front, module, back = packseq.weights.split("tiny.onnx")
    >>> [node.op_type for node in front.graph.node], module
    (['Tanh', 'Identity'], RNN(2, 1, bias=False))
    >>> [node.op_type for node in back.graph.node]
    ['Constant', 'Reshape', 'Transpose', 'Identity', 'Relu']
    """
    with open(as_path(path, "path"), "rb") as file:
        content = mapped(file)
    if content[: len(MAGIC)] != MAGIC:
        raise CheckpointError(f"{os.fspath(path)}: is no ONNX model")
    module, _ = load_with_state(path, prefix)
    try:
        model, tensors = parsed(content, Path(path).parent)
        cut = Cut(model, tensors, *chosen(Model(model, tensors).modules, prefix))
        return cut.front(), module, cut.back()
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from error.__cause__


def chosen(modules: dict[str, Module], prefix: str | None) -> tuple[str, Module]:
    """The module that was loaded, which must be made of nodes and not of names alone."""
    wanted = [*modules] if prefix is None else [prefix, f"{prefix}."]
    for name in wanted:
        if name in modules and modules[name].values.is_body:
            raise CheckpointError(f"{name!r} is in a body; only the main graph can be split")
        if name in modules:
            return name, modules[name]
    raise CheckpointError("the module is no node: only its parameters' names tell it")


class Cut:
    """A model and the module that is taken out of it."""

    def __init__(self, model: Any, tensors: Tensors, prefix: str, module: Module) -> None:
        self._onnx = load("onnx", "weights")
        self._model, self._tensors, self._values = model, tensors, module.values
        self._stack = module.stack
        self._layout = self._stack[0].attributes.batch_first
        self._directions = self._stack[0].directions
        self._hidden = self._stack[0].hidden_size
        self._needs = {id(node): needs_of(node) for node in self._values.nodes}
        self._consumers = self._by_need()
        self._types = self._inferred()
        x = self._types.get(self._stack[0].input(X))
        own = self._stack[0].weights
        dtype = np.result_type(np.float32, own["weight_ih"], own["weight_hh"])
        self._element = getattr(self._onnx.TensorProto, ELEMENTS[dtype.name])
        self._given = (x is not None and x.tensor_type.elem_type) or self._element
        self._results = {name for node in self._stack for name in node.proto.output if name}
        layers = {id(node.proto) for node in self._stack}
        self._after = self._reached(self._results) - layers
        self._before = self._varying() - self._after - layers
        self._taken = Names({*self._consumers, *self._types, *outputs_of(self._values.nodes)})
        names = ("x", "lengths", "h_0", "c_0", "output", "h_n", "c_n")
        self._names = {name: self._taken.distinct(f"{prefix}{name}") for name in names}
        self._same = self._same_values() if self._given == self._element else {}
        self._outputs = [output.name for output in model.graph.output]
        self._late = [name for name in self._outputs if self._depends(name)]
        self._rear = self._side(self._late, self._is_behind)

    def _by_need(self) -> dict[str, list[Any]]:
        """The nodes that use each value."""
        consumers: dict[str, list[Any]] = {}
        for node in self._values.nodes:
            for name in self._needs[id(node)]:
                consumers.setdefault(name, []).append(node)
        return consumers

    def _inferred(self) -> dict[str, Any]:
        """The types of values, as far as they are declared or can be inferred."""
        with library_errors("shapes cannot be inferred"):
            graph = self._onnx.shape_inference.infer_shapes(self._model).graph
        declared = [*graph.value_info, *graph.input, *graph.output]
        return {value.name: value.type for value in declared if value.HasField("type")}

    def _reached(self, names: Iterable[str]) -> set[int]:
        """The nodes that use any of these values, directly or not."""
        pending, reached = list(names), set()
        while pending:
            for node in self._consumers.get(pending.pop(), ()):
                if id(node) not in reached:
                    reached.add(id(node))
                    pending += outputs_of([node])
        return reached

    def _varying(self) -> set[int]:
        """The nodes whose outputs are not the same in every run: each is run once, on one side."""
        chance = [node for node in self._values.nodes if node.op_type.startswith(CHANCE)]
        sources = [*self._values.inputs, *self._results, *outputs_of(chance)]
        return self._reached(sources) | {id(node) for node in chance}

    def _depends(self, name: str) -> bool:
        """Whether a value depends on what the module returns."""
        node = self._values.producer(name)
        return name in self._results or (node is not None and id(node) in self._after)

    def _is_behind(self, node: Any) -> bool:
        """Whether the back runs a node: not what makes just what the module returns."""
        return id(node) not in self._before and self._same.keys().isdisjoint(node.output)

    def _side(self, wanted: Iterable[str], belongs: Callable[[Any], bool]) -> "Side":
        """The nodes of one side that make the wanted values, and what they need from elsewhere."""
        side = Side()
        pending = list(wanted)[::-1]
        while pending:
            name = pending.pop()
            if name in side.values:
                continue
            side.values.add(name)
            node = self._values.producer(name)
            if node is not None and name not in self._results and belongs(node):
                side.nodes.add(id(node))
                pending += self._needs[id(node)][::-1]
            elif name not in self._values.initialisers:
                side.foreign.append(name)
        return side

    # ---- the front ----

    def front(self) -> Any:
        """The model of what is computed before the module, or None."""
        make = Maker(self._onnx, self._taken)
        direct = [self._put(make, self._stack[0].input(X), "x", self._given)]
        if self._stack[0].input(LENGTHS):
            direct.append(self._put(make, self._stack[0].input(LENGTHS), "lengths", None))
        direct += self._put_states(make)
        early = (name for name in self._outputs if not self._depends(name))
        passing = [*self._passing(), *early]
        others = [name for name in dict.fromkeys(passing) if name not in self._values.inputs]
        if not others and all(direct):
            return None
        side = self._side([*make.needs, *others], lambda node: id(node) not in self._after)
        foreign = set(side.foreign)
        inputs = [value for value in self._model.graph.input if value.name in foreign]
        return self._built(inputs, side, [], make.nodes, [*make.outputs, *others])

    def _passing(self) -> list[str]:
        """What the back needs besides what the module returns."""
        ours = self._results | self._same.keys()
        return [name for name in self._rear.foreign if name not in ours]

    def _put(self, make: "Maker", value: str, name: str, element: int | None) -> bool:
        """An argument of the module as an output; True if it is one of the model's inputs as is."""
        same = element in (None, self._element)
        if same:
            make.node("Identity", [value], self._names[name])
        else:
            make.node("Cast", [value], self._names[name], to=self._element)
        make.needs.append(value)
        make.outputs.append(self._names[name])
        return same and value in self._values.inputs

    def _put_states(self, make: "Maker") -> list[bool]:
        """The first states (L*D, B, H), if there are any but zeros; zeros for those without."""
        places = [place for letter, place, _ in STATES if letter == "h" or self._is_lstm()]
        values = {(layer, place): self._state(layer, place)
                  for layer in range(len(self._stack)) for place in places}  # fmt: skip
        like = next((value for value in values.values() if value), "")
        if not like:
            return []
        direct = []
        for letter, place, _ in STATES[: len(places)]:
            parts = [values[layer, place] for layer in range(len(self._stack))]
            named = [part or make.zeros(like, self._given) for part in parts]
            make.needs += filter(None, parts)
            if self._layout:
                named = [make.node("Transpose", [part], perm=[1, 0, 2]) for part in named]
            whole = named[0] if len(named) == 1 else make.node("Concat", named, axis=0)
            same = self._given == self._element
            operator, options = ("Identity", {}) if same else ("Cast", {"to": self._element})
            make.outputs.append(make.node(operator, [whole], self._names[f"{letter}_0"], **options))
            direct.append(same and not self._layout and whole in self._values.inputs)
        return direct

    def _is_lstm(self) -> bool:
        return self._stack[0].kind == "LSTM"

    def _state(self, layer: int, place: int) -> str:
        """A first state of one layer; "" for zeros."""
        value = self._stack[layer].input(place)
        return "" if not value or self._values.is_zero(value) else value

    # ---- the back ----

    def back(self) -> Any:
        """The model of what is computed after the module, or None."""
        if all(name in self._same for name in self._late):
            return None
        make = Maker(self._onnx, self._taken)
        foreign = set(self._rear.foreign)
        for name in self._same:
            if name in foreign:
                make.node("Identity", [make.needed(self._names[self._same[name]])], name)
        for layer, node in enumerate(self._stack):
            for place, name in enumerate(node.proto.output):
                if name in foreign and name not in self._same:
                    self._restore(make, layer, place, name)
        returned = [self._result_info(one) for one in ("output", "h_n", "c_n")]
        inputs = [value for value in returned if value.name in make.needs]
        inputs += [self._info(name) for name in self._passing()]
        return self._built(inputs, self._rear, make.nodes, [], self._late)

    def _restore(self, make: "Maker", layer: int, place: int, name: str) -> None:
        """A result of a node as the operator has it, from what the module returns."""
        if place == Y:
            # Of a layer below the last one nothing but its sizes is used, and these are the same.
            sizes = [0, 0, self._directions, self._hidden]
            value = make.node("Reshape", [make.needed(self._names["output"]), make.constant(sizes)])
            order = None if self._layout else [0, 2, 1, 3]
        else:
            state = make.needed(self._names["h_n" if place == Y_H else "c_n"])
            first = layer * self._directions
            rows = make.constant(list(range(first, first + self._directions)))
            value = make.node("Gather", [state, rows], axis=0)
            order = [1, 0, 2] if self._layout else None
        if order:
            value = make.node("Transpose", [value], perm=order)
        if self._given == self._element:
            make.node("Identity", [value], name)
        else:
            make.node("Cast", [value], name, to=self._given)

    def _same_values(self) -> dict[str, str]:
        """The values that are just what the module returns, each with the name of that."""
        last = self._stack[-1]
        same = dict.fromkeys(self._joined(last.output(Y)), "output")
        for letter, _, place in STATES[: 2 if self._is_lstm() else 1]:
            parts = [node.output(place) for node in self._stack]
            if len(parts) == 1 and not self._layout:
                same[parts[0]] = f"{letter}_n"
            for node in self._consumers.get(parts[0], ()):
                if is_concat(node, parts, 1 if self._layout else 0) and not self._layout:
                    same[node.output[0]] = f"{letter}_n"
        same.pop("", None)
        return same

    def _joined(self, value: str) -> Iterator[str]:
        """The values that are Y with its directions joined."""
        pending: list[tuple[str, list[Any]]] = [(value, [])]
        while pending:
            name, steps = pending.pop()
            if steps and joins(steps, self._stack[-1], self._values):
                yield name
            for node in self._consumers.get(name, ()) if len(steps) < len(STEPS) else ():
                if is_operator(node, STEPS) and node.input[0] == name:
                    pending.append((node.output[0], [*steps, node]))

    # ---- a model ----

    def _built(
        self, inputs: list[Any], side: "Side", first: list[Any], last: list[Any],
        outputs: Sequence[str],
    ) -> Any:  # fmt: skip
        """A model of nodes of the whole, and more before and after them."""
        model = self._onnx.ModelProto()
        model.CopyFrom(self._frame())
        graph, values = model.graph, side.values
        graph.name = self._model.graph.name
        own = [node for node in self._values.nodes if id(node) in side.nodes]
        names = Names()
        for node in [*first, *own, *last]:
            copy = graph.node.add()
            copy.CopyFrom(node)
            copy.name = names.distinct(label(node))
            for _, body in bodies_of(copy):
                self._inline(body)
        for tensor in self._model.graph.initializer:
            if tensor.name in values:
                graph.initializer.add().CopyFrom(tensor)
        for sparse in self._model.graph.sparse_initializer:
            if sparse.values.name in values:
                graph.sparse_initializer.add().CopyFrom(sparse)
        self._inline(graph)
        # Before IR version 4 every initialiser was listed as an input too.
        stored = [v for v in self._model.graph.input if v.name in self._values.initialisers]
        graph.input.extend([*inputs, *(value for value in stored if value.name in values)])
        graph.output.extend(self._info(name, must=False) for name in outputs)
        with library_errors("shapes cannot be inferred"):
            return self._onnx.shape_inference.infer_shapes(model)

    def _frame(self) -> Any:
        """The model without its graph: versions, operator sets and functions."""
        frame = self._onnx.ModelProto()
        for descriptor, value in self._model.ListFields():
            if descriptor.name in ("graph", "training_info"):
                continue
            if isinstance(value, int | str | bytes):
                setattr(frame, descriptor.name, value)
            else:
                getattr(frame, descriptor.name).extend(value)
        return frame

    def _inline(self, graph: Any) -> None:
        """Data that lies in other files, put into the model."""
        for tensor in graph.initializer:
            self._tensors.inline(tensor)
        for node in graph.node:
            for _, body in bodies_of(node):
                self._inline(body)

    def _info(self, name: str, must: bool = True) -> Any:
        """A value's name and type; without a type, onnxruntime infers that of an output alone."""
        info = self._onnx.ValueInfoProto(name=name)
        if name in self._types:
            info.type.CopyFrom(self._types[name])
        elif must:
            raise CheckpointError(f"the type of value {name!r} cannot be inferred")
        return info

    def _result_info(self, result: str) -> Any:
        """Name, type and sizes of what the module returns."""
        known = self._types.get(self._stack[0].input(X))
        dims = list(known.tensor_type.shape.dim) if known is not None else []
        outer = [dim.dim_param or dim.dim_value or None for dim in dims[:2]] or [None, None]
        rows = len(self._stack) * self._directions
        batch = outer[0] if self._layout else outer[1]
        sizes = [*outer, self._directions * self._hidden] if result == "output" else [
            rows, batch, self._hidden]  # fmt: skip
        return self._onnx.helper.make_tensor_value_info(self._names[result], self._element, sizes)


@dataclass
class Side:
    """The nodes of one side by their ids, all values there, and those that it does not make."""

    nodes: set[int] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    foreign: list[str] = field(default_factory=list)


class Maker:
    """Nodes that are put in, with the values that they need and the outputs that they are for."""

    def __init__(self, onnx: Any, names: Names) -> None:
        self._onnx = onnx
        self._names = names
        self.nodes: list[Any] = []
        self.needs: list[str] = []
        self.outputs: list[str] = []

    def needed(self, name: str) -> str:
        """A name, noted as needed."""
        self.needs.append(name)
        return name

    def node(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """A node of one output, which is returned."""
        output = output or self._names.distinct(f"{inputs[0]}/{operator}" if inputs else operator)
        node = self._onnx.helper.make_node(operator, inputs, [output], **attributes)
        self.nodes.append(node)
        return output

    def constant(self, numbers: list[int]) -> str:
        """A few integers."""
        tensor = self._onnx.numpy_helper.from_array(np.array(numbers, np.int64))
        return self.node("Constant", [], value=tensor)

    def zeros(self, like: str, element: int) -> str:
        """Zeros of the sizes of another value."""
        zero = self._onnx.helper.make_tensor("", element, [1], [0.0])
        return self.node("ConstantOfShape", [self.node("Shape", [like])], value=zero)


def needs_of(node: Any) -> list[str]:
    """The values that a node uses, also in its bodies, where those made inside are none."""
    needs = [name for name in node.input if name]
    for _, body in bodies_of(node):
        own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        own |= {tensor.values.name for tensor in body.sparse_initializer}
        own |= {name for inner in body.node for name in inner.output}
        used = [name for inner in body.node for name in needs_of(inner)]
        used += [output.name for output in body.output]
        needs += [name for name in used if name not in own]
    return list(dict.fromkeys(needs))


def outputs_of(nodes: Iterable[Any]) -> list[str]:
    """All values that nodes make."""
    return [name for node in nodes for name in node.output if name]


def is_concat(node: Any, parts: list[str], axis: int) -> bool:
    """Whether a node puts exactly these values one after the other."""
    found = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
    return is_operator(node, ("Concat",)) and list(node.input) == parts and found in ([axis], [-3])
