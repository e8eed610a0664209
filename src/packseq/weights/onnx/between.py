"""What may stand between two layers of one module: a proof that it changes nothing but the axes.

Y is (T, D, B, H), or (B, T, D, H) with layout 1; the next layer's X must be the same elements as
(T, B, D*H) or (B, T, D*H). Exporters may spell that as they like, so the axes' names are followed
from step to step; a step that cannot be followed for certain ends the proof.

Source: Squeeze, Transpose, Reshape, Shape, Slice, Concat and Mul in the ONNX operators.
"""

import math
from typing import Any

from .nodes import INITIAL_C, INITIAL_H, Node, X, Y, attribute_values
from .values import Values, is_operator, permutation

STEPS = ("Squeeze", "Transpose", "Reshape", "Identity")
# A size: a number, or the letter of an axis that differs from run to run.
Size = int | str
# Nodes that may compute one shape: torch takes a Concat of three Reshapes of Mul of Slice of Shape.
MAX_NODES = 40


def joins(steps: list[Any], lower: Node, values: Values) -> bool:
    """Whether the steps make of the lower node's Y what its next layer reads."""
    return Between(lower, values).after(steps) == [*outer_axes(lower), "DH"]


def outer_axes(node: Node) -> list[str]:
    """The axes of X but the last."""
    return ["B", "T"] if node.attributes.batch_first else ["T", "B"]


class Between:
    """The axes of each value on the way from one layer to the next, and what is known of sizes."""

    def __init__(self, lower: Node, values: Values) -> None:
        self._values = values
        self._directions = lower.directions
        self._outer = outer_axes(lower)
        self._left = 0
        first = ["B", "T", "D", "H"] if lower.attributes.batch_first else ["T", "D", "B", "H"]
        self._axes = {lower.output(Y): first}
        width = lower.directions * lower.hidden_size
        self._sizes: dict[str, Size] = {"T": "T", "B": "B"}
        self._sizes |= {"D": lower.directions, "H": lower.hidden_size, "DH": width}
        self._sizes |= self._known(lower)

    def _known(self, lower: Node) -> dict[str, int]:
        """T and B, where the node's input or an initial state can have no other."""
        batch = ["B", "D", "H"] if lower.attributes.batch_first else ["D", "B", "H"]
        operands = {X: [*self._outer, "I"], INITIAL_H: batch, INITIAL_C: batch}
        return {
            axis: size
            for position, axes in operands.items()
            for axis, size in zip(axes, self._values.sizes(lower.input(position)), strict=False)
            if size is not None and axis in self._outer
        }

    def after(self, steps: list[Any]) -> list[str]:
        """The axes after all steps; none if one of them does anything else."""
        for step in steps:
            self._axes[step.output[0]] = self._after(step, self._axes[step.input[0]])
        return self._axes[steps[-1].output[0]] if steps else []

    def _after(self, step: Any, axes: list[str]) -> list[str]:
        if step.op_type == "Identity":
            return axes
        if step.op_type == "Transpose":
            return [axes[i] for i in permutation(step, len(axes))]
        return self._squeezed(step, axes) if step.op_type == "Squeeze" else self._merged(step, axes)

    def _squeezed(self, step: Any, axes: list[str]) -> list[str]:
        """A single direction's axis taken away."""
        if self._directions != 1 or "D" not in axes:
            return []
        place = axes.index("D")
        if self._values.setting(step, "axes", 1) not in ([place], [place - len(axes)]):
            return []
        return ["DH" if axis == "H" else axis for axis in axes if axis != "D"]

    def _merged(self, step: Any, axes: list[str]) -> list[str]:
        """D and H, side by side, made one.

        A reshape keeps the number of elements: two right sizes of three prove the third.
        """
        shape = self._shape(step)
        if axes[2:] != ["D", "H"] or shape is None or len(shape) != 3:
            return []
        if not attribute_values(step, {"allowzero": "INT"}).get("allowzero"):
            copied = [self._sizes[axis] for axis in axes[:3]]
            shape = [old if new == 0 else new for old, new in zip(copied, shape, strict=True)]
        merged = [*axes[:2], "DH"]
        pairs = list(zip(shape, (self._sizes[axis] for axis in merged), strict=True))
        proven = sum(new == size for new, size in pairs)
        return merged if proven >= 2 and all(may_be(new, size) for new, size in pairs) else []

    def _shape(self, step: Any) -> list[Size] | None:
        """The shape that a Reshape takes: an attribute before opset 5, a constant, or computed."""
        stored = self._values.setting(step, "shape", 1)
        if stored is not None:
            return [*stored]
        self._left = MAX_NODES
        return self._computed(step.input[1]) if len(step.input) > 1 else None

    def _computed(self, value: str) -> list[Size] | None:
        """The sizes that a value holds; None if they cannot be told for certain."""
        stored = self._values.integers(value)
        if stored is not None:
            return [*stored]
        node = self._values.producer(value)
        self._left -= 1
        if node is None or self._left < 0:
            return None
        if is_operator(node, ("Shape",)):
            return self._shape_of(node)
        # Concat and Mul take sizes alone; of Slice and Reshape the other inputs are settings.
        count = len(node.input) if is_operator(node, ("Concat", "Mul")) else 1
        if not 0 < count <= len(node.input) or count > self._left:
            return None
        parts = [self._computed(name) for name in node.input[:count]]
        known = [part for part in parts if part is not None]
        return self._combined(node, known) if len(known) == count else None

    def _combined(self, node: Any, parts: list[list[Size]]) -> list[Size] | None:
        """What a node makes of lists of sizes."""
        if is_operator(node, ("Concat",)):
            return [size for part in parts for size in part]
        if is_operator(node, ("Mul",)):
            return product(parts)
        if is_operator(node, ("Slice",)):
            bounds = self._values.stretch(node)
            # Python and ONNX cut alike: from the end where negative, and never beyond it.
            return None if bounds is None else parts[0][slice(*bounds)]
        flat = is_operator(node, ("Reshape",)) and self._values.setting(node, "shape", 1) == [-1]
        return parts[0] if flat else None

    def _shape_of(self, node: Any) -> list[Size] | None:
        """The sizes of a value on the way; of any other, nothing is known."""
        axes = self._axes.get(node.input[0] if node.input else "")
        if not axes:
            return None
        bounds = attribute_values(node, {"start": "INT", "end": "INT"})
        return [self._sizes[axis] for axis in axes][bounds.get("start", 0) : bounds.get("end")]


def may_be(new: Size, size: Size) -> bool:
    """Whether what a Reshape takes can turn out as the size: -1, or a number for a letter."""
    return new in (size, -1) or (isinstance(new, int) and isinstance(size, str))


def product(parts: list[list[Size]]) -> list[Size] | None:
    """The product of single numbers; a letter has none."""
    numbers = [part[0] for part in parts if len(part) == 1 and isinstance(part[0], int)]
    return [math.prod(numbers)] if len(numbers) == len(parts) else None
