"""What a network is, apart from its weights: the only place that knows.

``CELLS`` has one row for each cell: its gates, its states, its parameters beside the two matrices,
and what it is called by the constructors, by torch and by the kernels. An ``Architecture`` is one
network of such a cell: its sizes, and all that follows from them. Whoever needs a gate count, a
parameter's name or shape, or the sizes that a state dict implies, reads it here.

Letters: I input, H hidden, R state (H, or the projection's width), G gates, D directions, L layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Shape = tuple[int, ...]

SIGMOID = "sigmoid"
# What may stand in the sigmoid's place: torch's and Keras 3's, relu6(x + 3) / 6; and the older one,
# max(0, min(1, 0.2 x + 0.5)), which is ONNX's default and Keras's before version 3.
RECURRENT_ACTIVATIONS = (SIGMOID, "hard_sigmoid", "hard_sigmoid_0.2")
# Fewer bits than a float has, for the weights of the products and what they multiply.
PRECISIONS = ("int8", "bfloat16")
# What the weights of a file can be had in; float32 is that of rounded ones.
LOADED_PRECISIONS = (*PRECISIONS, "float32")
# What the name of an int8 weight's scales ends in.
SCALE = "_scale"


@dataclass(frozen=True)
class Cell:
    """One kind of cell.

    Attributes
    ----------
    name : str
        The kernels' name for it.
    kind : str
        Its class, here and in torch: "LSTM", "GRU" or "RNN".
    gates : str
        torch's letters for them in torch's order; each is H rows of both matrices.
    states : str
        A letter for each: the first has R columns, the others H.
    options : mapping
        What the constructor of `kind` takes to mean this cell and no other of its kind.
    in_torch : bool
        Whether torch and cuDNN have it; then the options that torch shares are `torch_options`.
    vectors : tuple of str
        Names of further parameters of shape (H,).
    unit_multiplications, unit_additions : int
        What a unit's step takes beside the two products and the values of its activations.
    """

    name: str
    kind: str
    gates: str
    states: str
    options: Mapping[str, Any]
    in_torch: bool
    unit_multiplications: int
    unit_additions: int
    vectors: tuple[str, ...] = ()
    torch_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_sigmoid(self) -> bool:
        """Whether there is one that another recurrent activation could replace."""
        return len(self.gates) > 1

    @property
    def may_project(self) -> bool:
        """Whether h may be narrower than c: only where there is a c that keeps the whole."""
        return len(self.states) > 1


# The plain cell of a kind comes before its variants. Additions and multiplications of a unit: LSTM
# c = f c + i g and h = o tanh(c), a peephole one of each; GRU r times the recurrent part,
# h = n + z (h - n).
CELLS = (
    Cell("lstm", "LSTM", "ifgo", "hc", {"peephole": False}, True, 3, 1),
    Cell(
        "lstm_peephole",
        "LSTM",
        "ifgo",
        "hc",
        {"peephole": True},
        False,
        6,
        4,
        vectors=("weight_ci", "weight_cf", "weight_co"),
    ),
    Cell("gru", "GRU", "rzn", "h", {"reset_after": True}, True, 2, 2),
    Cell("gru_reset_before", "GRU", "rzn", "h", {"reset_after": False}, False, 2, 2),
    Cell(
        "rnn_tanh",
        "RNN",
        "n",
        "h",
        {"nonlinearity": "tanh"},
        True,
        0,
        0,
        torch_options={"nonlinearity": "tanh"},
    ),
    Cell(
        "rnn_relu",
        "RNN",
        "n",
        "h",
        {"nonlinearity": "relu"},
        True,
        0,
        0,
        torch_options={"nonlinearity": "relu"},
    ),
)

# The plain cell of each kind, and the kind that has so many gates.
PLAIN = {cell.kind: cell for cell in reversed(CELLS)}
KIND_OF_GATE_COUNT = {len(cell.gates): kind for kind, cell in PLAIN.items()}


def cell_of(kind: str, options: Mapping[str, Any]) -> Cell:
    """The cell that a constructor's options mean; those that are left out are the plain cell's.

    Raises
    ------
    LookupError
        There is none: an option has another value than any cell's.
    """
    wanted = {**PLAIN[kind].options, **options}
    for cell in CELLS:
        if cell.kind == kind and dict(cell.options) == wanted:
            return cell
    raise LookupError(f"no {kind} has {wanted}")


@dataclass(frozen=True)
class Architecture:
    """One network: a cell, sizes, layers and directions.

    Attributes
    ----------
    cell : Cell
    input_size, hidden_size, num_layers, bias, bidirectional, proj_size
        As torch's modules have them; `proj_size` is 0 without a projection.
    recurrent_activation : str
        One of RECURRENT_ACTIVATIONS.
    one_step : bool
        Whether it is a cell that is called for one step: its parameters' names end in no "_l0", and
        its states have no axis of layers.
    precision : str or None
        One of PRECISIONS; None where weights are of the module's dtype.
    """

    cell: Cell
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    proj_size: int = 0
    recurrent_activation: str = SIGMOID
    one_step: bool = False
    precision: str | None = None

    @property
    def directions(self) -> int:
        """D."""
        return 2 if self.bidirectional else 1

    @property
    def state_size(self) -> int:
        """R, the width of h."""
        return self.proj_size or self.hidden_size

    @property
    def output_size(self) -> int:
        """Width of an output row, D * R."""
        return self.directions * self.state_size

    @property
    def gate_rows(self) -> int:
        """Rows of both matrices, G * H."""
        return len(self.cell.gates) * self.hidden_size

    @cached_property
    def suffixes(self) -> tuple[tuple[str, ...], ...]:
        """Endings of the parameters' names, by layer and direction."""
        if self.one_step:
            return (("",),)
        directions = ("", "_reverse")[: self.directions]
        return tuple(
            tuple(f"_l{layer}{direction}" for direction in directions)
            for layer in range(self.num_layers)
        )

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Every parameter's name and shape, in torch's order."""
        shapes: dict[str, Shape] = {}
        width = self.input_size
        for layer in self.suffixes:
            for suffix in layer:
                shapes["weight_ih" + suffix] = (self.gate_rows, width)
                shapes["weight_hh" + suffix] = (self.gate_rows, self.state_size)
                if self.bias:
                    shapes["bias_ih" + suffix] = (self.gate_rows,)
                    shapes["bias_hh" + suffix] = (self.gate_rows,)
                if self.proj_size:
                    shapes["weight_hr" + suffix] = (self.proj_size, self.hidden_size)
                for name in self.cell.vectors:
                    shapes[name + suffix] = (self.hidden_size,)
            width = self.output_size
        if self.precision == "int8":
            shapes |= {name + SCALE: of[:1] for name, of in shapes.items() if len(of) == 2}
        return shapes

    @cached_property
    def row_multiplications(self) -> int:
        """Multiplications by weights that one step of one sequence takes, in all layers."""
        return sum(shape[0] * shape[1] for shape in self.shapes.values() if len(shape) == 2)

    @property
    def state_widths(self) -> tuple[int, ...]:
        """Width of h, and of c where there is one."""
        return (self.state_size, self.hidden_size)[: len(self.cell.states)]

    def state_shapes(self, batch: int | None) -> tuple[Shape, ...]:
        """Shape of each state of a batch of so many; None: of one sequence without an axis B."""
        layers = () if self.one_step else (self.num_layers * self.directions,)
        middle = () if batch is None else (batch,)
        return tuple((*layers, *middle, width) for width in self.state_widths)

    @property
    def not_in_torch(self) -> str | None:
        """What torch and cuDNN lack to run it, named as its constructor is called, or None."""
        if not self.cell.in_torch:
            ((name, value),) = self.cell.options.items()
            return f"{self.cell.kind}({name}={value!r})"
        if self.recurrent_activation != SIGMOID:
            return f"{self.cell.kind}(recurrent_activation={self.recurrent_activation!r})"
        if self.precision:
            return f"{self.cell.kind} of {self.precision}"
        return None


# ---- the sizes that a state dict implies --------------------------------------------------------

_MATRICES = ("weight_ih", "weight_hh", "weight_hr")
_VECTORS = tuple(dict.fromkeys(name for cell in CELLS for name in cell.vectors))
PARAMETER_NAMES = (*_MATRICES, "bias_ih", "bias_hh", *_VECTORS)
_PLACE = "(?:_l\\d+(?:_reverse)?)?"
PARAMETER = re.compile(
    f"(?:{'|'.join(PARAMETER_NAMES)}){_PLACE}|(?:{'|'.join(_MATRICES)}){_PLACE}{SCALE}"
)


def infer(shapes: Mapping[str, Shape], prefix: str = "", one_step: bool = False) -> Architecture:
    """The plain network whose parameters have these names and shapes.

    Only what the sizes are read off is checked; ``Architecture.shapes`` tells what all must be.
    What no parameter tells, such as a GRU's ``reset_after``, is the plain cell's.

    Parameters
    ----------
    shapes : mapping
        Shapes by the parameters' names, which have no prefix any more.
    prefix : str
        For messages: what the names began with.
    one_step : bool
        Whether the names are those of a cell, without "_l0".

    Raises
    ------
    ValueError
        A matrix is missing or has no rows or columns; the rows are no cell's; a projection has no
        place or does not fit.
    """
    end = "" if one_step else "_l0"
    weight_ih, weight_hh = (_matrix(shapes, prefix, name + end) for name in _MATRICES[:2])
    projected = f"weight_hr{end}" in shapes
    hidden = _matrix(shapes, prefix, f"weight_hr{end}")[1] if projected else weight_hh[1]
    gates, rest = divmod(weight_ih[0], hidden)
    kind = None if rest else KIND_OF_GATE_COUNT.get(gates)
    if projected:
        _check_projection(shapes[f"weight_hr{end}"], weight_hh, kind, f"{prefix}weight_hr{end}")
    if kind is None:
        raise ValueError(
            f"{prefix}weight_ih{end} has {weight_ih[0]} rows for a hidden size of {hidden}; "
            "expected 1 (RNN), 3 (GRU) or 4 (LSTM) times as many"
        )
    return Architecture(
        cell=_with_vectors(kind, {name for name in _VECTORS if name + end in shapes}),
        input_size=weight_ih[1],
        hidden_size=hidden,
        num_layers=1 if one_step else _count_layers(shapes),
        bias=f"bias_ih{end}" in shapes,
        bidirectional=not one_step and f"weight_ih{end}_reverse" in shapes,
        proj_size=weight_hh[1] if projected else 0,
        one_step=one_step,
        precision="int8" if f"weight_ih{end}{SCALE}" in shapes else None,
    )


def _matrix(shapes: Mapping[str, Shape], prefix: str, name: str) -> Shape:
    """The shape of a parameter that must be a matrix without an empty side."""
    if name not in shapes:
        raise ValueError(f"{prefix}{name} is missing")
    if len(shapes[name]) != 2 or 0 in shapes[name]:
        raise ValueError(f"{prefix}{name} has shape {shapes[name]}; expected a matrix, no side 0")
    return shapes[name]


def _check_projection(weight_hr: Shape, weight_hh: Shape, kind: str | None, name: str) -> None:
    if kind and not PLAIN[kind].may_project:
        raise ValueError(f"{name} projects a {kind}; only an LSTM has one")
    size = weight_hh[1]
    if size != weight_hr[0] or size >= weight_hr[1]:
        raise ValueError(
            f"{name} has shape {weight_hr}; expected ({size}, H) with H > {size}, the columns of "
            "weight_hh"
        )


def _with_vectors(kind: str, names: Iterable[str]) -> Cell:
    """The first cell of a kind that has the further parameters `names`, or some of them."""
    wanted = set(names)
    cells = [cell for cell in CELLS if cell.kind == kind]
    return next((cell for cell in cells if wanted and wanted <= {*cell.vectors}), cells[0])


def _count_layers(shapes: Mapping[str, Shape]) -> int:
    """Layers in a row from the first; what lies beyond a gap has no place in the network."""
    layers = 1
    while f"weight_ih_l{layers}" in shapes:
        layers += 1
    return layers
