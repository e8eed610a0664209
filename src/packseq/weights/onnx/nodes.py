"""The recurrent nodes of ONNX: their attributes, and chains of them as the layers of one module.

Source: the ONNX operators LSTM, GRU, RNN and HardSigmoid (opset 22, and back to 7).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from packseq.networks.architecture import PLAIN, RECURRENT_ACTIVATIONS, SCALE

from ..arrays import Array
from ..canonical import Attributes
from ..errors import CheckpointError, library_errors
from ..limits import check_budget

# The activations that packseq has, by our names; the first of each kind are ONNX's default.
ACTIVATIONS = {
    "LSTM": [[gate, "tanh", "tanh"] for gate in RECURRENT_ACTIVATIONS],
    "GRU": [[gate, "tanh"] for gate in RECURRENT_ACTIVATIONS],
    "RNN": [["tanh"], ["relu"]],
}
# HardSigmoid is max(0, min(1, alpha x + beta)): alpha and beta of each form that packseq has. The
# first are what ONNX takes where a node does not say.
HARD_SIGMOIDS = {"hard_sigmoid_0.2": (0.2, 0.5), "hard_sigmoid": (1 / 6, 0.5)}
DEFAULT_ALPHA, DEFAULT_BETA = HARD_SIGMOIDS["hard_sigmoid_0.2"]
# The attributes of the recurrent nodes: their types, and what they are when left out.
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
# The inputs and outputs of a node by position, as the operators number them.
X, W, R, B, LENGTHS, INITIAL_H, INITIAL_C, PEEPHOLES = range(8)
Y, Y_H, Y_C = range(3)


@dataclass(frozen=True)
class Node:
    """An LSTM, GRU or RNN node, its weights in torch's order; scales beside those of integers."""

    kind: str
    proto: Any
    directions: int
    weights: dict[str, Array]
    attributes: Attributes
    states: dict[str, Array] = field(default_factory=dict)
    # The first states that are the caller's: which value each is rows of, and the first row there.
    callers: tuple[tuple[str, int | None], ...] = ()
    given: str = ""

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.weights["weight_hh"].shape[2])

    @property
    def parameters(self) -> set[str]:
        """The names of its weights, whatever their precision."""
        return {name for name in self.weights if not name.endswith(SCALE)}

    def input(self, position: int) -> str:
        """The name of an input, "" where it is left out."""
        return str(self.proto.input[position]) if position < len(self.proto.input) else ""

    def output(self, position: int) -> str:
        """The name of an output, "" where it is left out."""
        return str(self.proto.output[position]) if position < len(self.proto.output) else ""


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
    """The activations of each direction by our names; others in lower case.

    alpha and beta have entries only for activations that take them, in the activations' order over
    both directions. Of those that packseq has, HardSigmoid alone takes any.
    """
    count = len(ACTIVATIONS[kind][0])
    alphas, betas = iter(values["activation_alpha"] or ()), iter(values["activation_beta"] or ())
    names = [str(name).lower() for name in values["activations"] or ACTIVATIONS[kind][0]]
    for place, name in enumerate(names):
        if name == "hardsigmoid":
            names[place] = hard_sigmoid(next(alphas, DEFAULT_ALPHA), next(betas, DEFAULT_BETA))
    return [names[start : start + count] for start in range(0, len(names), count)]


def hard_sigmoid(alpha: float, beta: float) -> str:
    """Our name for the HardSigmoid of these numbers; "hardsigmoid" for one that packseq lacks.

    A file has them as float32, and 1/6 perhaps as decimals before: what differs by a millionth is
    the same number, since a gate moves by 5e-7 at most, which is a few roundings of float32.
    """
    for name, numbers in HARD_SIGMOIDS.items():
        pairs = zip((alpha, beta), numbers, strict=True)
        if all(math.isclose(own, other, rel_tol=1e-6) for own, other in pairs):
            return name
    return "hardsigmoid"


def recurrent_activation_of(values: dict[str, Any], kind: str) -> str | None:
    """What the gates go through; None of an RNN, and where packseq lacks it."""
    name = activations_of(values, kind)[0][0]
    return name if PLAIN[kind].has_sigmoid and name in RECURRENT_ACTIVATIONS else None


def spelled_activations(values: dict[str, Any]) -> str:
    """The activations as the node has them, with the numbers that they take."""
    numbers = {name: values[name] for name in ("activation_alpha", "activation_beta")}
    shown = [f"{name}={[float(f'{n:g}') for n in part]}" for name, part in numbers.items() if part]
    return ", ".join([f"activations={values['activations']}", *shown])


def unsupported(values: dict[str, Any], kind: str, directions: int) -> str:
    """The first attribute that packseq cannot run, by name and value; "" if it can run all."""
    activations = activations_of(values, kind)
    if any(names != activations[0] or names not in ACTIVATIONS[kind] for names in activations) or (
        values["activations"] and len(activations) != directions
    ):
        return spelled_activations(values)
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
        and lower.parameters == upper.parameters
        and upper.weights["weight_ih"].shape[2] == lower.directions * lower.hidden_size
        and lower.input(LENGTHS) == upper.input(LENGTHS)
        and states_follow(lower, upper)
    )


def states_follow(lower: Node, upper: Node) -> bool:
    """Whether neither layer has the caller's states, or one hx holds those of both in order."""
    if lower.attributes.batch_first:  # the rows of such a state are the batch's
        return not lower.callers and not upper.callers
    after = [(name, None if row is None else row + lower.directions) for name, row in lower.callers]
    return list(upper.callers) == after and all(row is not None for _, row in after)


def stack_attributes(stack: list[Node]) -> Attributes:
    """The attributes of a chain of nodes, which are alike in all but their states."""
    if any(node.states for node in stack) and any(node.callers for node in stack):
        reason = "initial states partly stored, partly given"
        return replace(stack[0].attributes, unsupported=reason)
    return replace(stack[0].attributes, given=stack[0].given)


def stack_parameters(stack: list[Node]) -> Iterator[tuple[str, Array]]:
    """The parameters of a chain of nodes as the layers of one module."""
    for layer, node in enumerate(stack):
        for name, array in node.weights.items():
            plain = name.removesuffix(SCALE)
            for part, direction in zip(array, ("", "_reverse"), strict=False):
                yield f"{plain}_l{layer}{direction}{name[len(plain) :]}", part


def stack_states(stack: list[Node]) -> Iterator[tuple[str, Array]]:
    """The stored initial states of a chain of nodes as (L*D, B, H); zeros for nodes without."""
    for name in ("h_0", "c_0"):
        stored = [node.states[name] for node in stack if name in node.states]
        if not stored:
            continue
        batch = max(state.shape[1] for state in stored)
        if any(state.shape[1] not in (1, batch) for state in stored):
            raise CheckpointError(f"{name} of different batch sizes")
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
