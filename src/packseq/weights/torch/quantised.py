"""torch's dynamically quantised layers: packed weights, given the names of the plain layer's.

An LSTM or GRU keeps an object of torch's C++ for each layer and direction, by its number in
``_all_weight_values``, a cell one for each weight; what they pickle is quantised tensors or, for
float16, plain ones. Inputs and states, which torch quantises at every step, are not quantised here.

Source: torch.ao.nn.quantized.dynamic.modules.rnn, ATen/native/RNN.cpp (``__getstate__``).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..arrays import Array
from ..canonical import Checkpoint
from .pickles import Inert

# The class stands with the state of an object that Python pickled; TorchScript names it.
SCRIPT_OBJECT = "torch.ScriptObject"
LINEAR = "__torch__.torch.classes.quantized.LinearPackedParamsBase"
CELL = "__torch__.torch.classes.rnn.CellParamsBase"
RECURRENT = re.compile(
    r"torch\.(?:ao\.)?nn\.quantized\.dynamic\.modules\.rnn\.(?:LSTM|GRU|RNN)(?:Cell)?"
)
# How the state of a cell begins whose two linear maps are the last of its five entries.
SCHEMES = ("quantized_dynamic", "quantized_fp16")
TAGGED = "torch.jit._pickle.restore_type_tag"

OF_LAYER = re.compile(
    r"(.*?)_all_weight_values\.(\d{1,4})\.param\.([ih]h)\.(weight|bias)", re.DOTALL
)
OF_CELL = re.compile(r"(.*?)_packed_weight_([ih]h)\.(weight|bias)", re.DOTALL)


def is_packed(value: Inert) -> bool:
    """Whether an object is packed weights of a linear map or of a cell, of a scheme known here."""
    return any(True for _ in parts(value))


def class_of(value: Inert) -> Any:
    """The class of an object of torch's C++; of another, its name."""
    is_tagged = value.name == SCRIPT_OBJECT and is_tuple(value.state, 2)
    return value.state[1] if is_tagged else value.name


def parts(value: Inert) -> Iterator[tuple[str, Any]]:
    """The tensors of a packed linear map, or the two maps of a cell; nothing of other objects."""
    kind = class_of(value)
    state = value.state if kind == value.name else value.state[0]
    if kind == LINEAR and is_tuple(state, 2):
        yield from zip(("weight", "bias"), state, strict=True)
    elif kind == CELL and is_tuple(state, 5) and isinstance(state[0], str) and state[0] in SCHEMES:
        linears = state[4]
        if isinstance(linears, Inert) and linears.name == TAGGED and linears.arguments:
            linears = linears.arguments[0]
        if isinstance(linears, list) and len(linears) == 2:
            yield from zip(("ih", "hh"), linears, strict=True)


def is_tuple(value: Any, count: int) -> bool:
    """Whether something is a tuple of `count`."""
    return isinstance(value, tuple) and len(value) == count


def packed_in(state: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """The packed weights among a module's attributes."""
    for key, value in state.items():
        if isinstance(value, Inert) and is_packed(value):
            yield key, value


def name_of(name: str) -> str:
    """A name of packed weights as the plain layer has it, but for the layer's number and way."""
    if match := OF_CELL.fullmatch(name):
        return f"{match[1]}{match[3]}_{match[2]}"
    if match := OF_LAYER.fullmatch(name):
        return f"{match[1]}{match[4]}_{match[3]}_l0"
    return name


def renamed(checkpoint: Checkpoint, directions: Mapping[str, int]) -> Checkpoint:
    """The checkpoint with the plain layers' names; `directions` are those that the file says."""
    ways = {**told_by_shapes(checkpoint.arrays), **directions}

    def new(name: str) -> str:
        match = OF_LAYER.fullmatch(name)
        if not match:
            return name_of(name)
        count = ways.get(match[1])
        if count is None:
            return name
        layer, backwards = divmod(int(match[2]), count)
        way = "_reverse" if backwards else ""
        return f"{match[1]}{match[4]}_{match[3]}_l{layer}{way}"

    placeholders = {new(name): reason for name, reason in checkpoint.placeholders.items()}
    for prefix, count in ways.items():
        if count is None:
            placeholders[f"{prefix}weight_ih_l0"] = (
                "the file does not say whether its two quantised cells are layers or directions"
            )
    return replace(
        checkpoint,
        arrays={new(name): array for name, array in checkpoint.arrays.items()},
        placeholders=placeholders,
    )


def told_by_shapes(arrays: Mapping[str, Array]) -> dict[str, int | None]:
    """The directions of each quantised layer by how wide the inputs of its last cell are.

    None where they do not tell: two cells may be two layers or two directions if I is H.
    """
    cells: dict[str, dict[int, tuple[int, ...]]] = {}
    hidden: dict[str, int] = {}
    for name, array in arrays.items():
        match = OF_LAYER.fullmatch(name)
        if match and match[4] == "weight" and array.ndim == 2:
            if match[3] == "ih":
                cells.setdefault(match[1], {})[int(match[2])] = array.shape
            else:
                hidden[match[1]] = array.shape[1]
    return {
        prefix: ways_of(len(of), of[min(of)][1], of[max(of)][1], hidden.get(prefix, 0))
        for prefix, of in cells.items()
    }


def ways_of(count: int, first: int, last: int, hidden: int) -> int | None:
    """The directions of `count` cells, by the widths of the first input and of the last."""
    if count == 1:
        return 1
    widths = {1: hidden, 2: first if count == 2 else 2 * hidden}
    fitting = [ways for ways, width in widths.items() if width == last]
    return fitting[0] if len(fitting) == 1 else None
