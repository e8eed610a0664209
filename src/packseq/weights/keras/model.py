"""Keras's files: ``.keras``, ``.weights.h5`` and the older ``.h5``, without Keras.

The arrays come from HDF5; which layers there are, and how they are set, from the model's config
where the file has one. Without one (weights alone, or a model that is a class) kinds are told by
the arrays' shapes, and the settings by the caller.

A layer's prefix is ``NAME.`` with the layer's name in its config, or the path of its group where
the config does not describe it. Modules are batch-first, as Keras's layers are.

Source: keras.src.saving.saving_lib and keras.src.legacy.saving.legacy_h5_format.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from packseq.networks.architecture import KIND_OF_GATE_COUNT, SIGMOID

from ..archive import Archive
from ..arrays import BFLOAT16, Array
from ..canonical import FIRST_NAMES, Attributes, Checkpoint
from ..errors import CheckpointError
from ..gates import KERAS, in_torchs_order
from ..strict_json import parse_json
from .config import (
    KIND,
    Layer,
    brief,
    layers,
    members_of,
    recurrent_activation_of,
    returns_sequences,
    then,
    unsupported,
)
from .hdf5 import Tree
from .places import Paths, Places, leaf, legacy_places, modern_places

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"

# Configs take kilobytes; as objects of Python some twenty times as much.
MAX_CONFIG = 8 << 20

DIRECTIONS = ("", "_reverse")

# The groups of a compiled model's optimizer, in ``.weights.h5`` and in ``.h5``.
OPTIMIZERS = ("optimizer/", "optimizer_weights/")

# Why arrays of a recurrent layer's shapes are refused where the config describes other layers: in a
# layer of the user's own they may be anything.
UNKNOWN = "settings that the config does not give for this layer itself"


@dataclass(frozen=True)
class Cell:
    """The arrays of one direction of one layer, as Keras's plain layers have them.

    The bias is (G*H,), or (2, G*H) where there is one for each product. `of_cudnn`: the file has
    them as CuDNN does, whose gates are sigmoids.
    """

    kernel: Array
    recurrent: Array
    bias: Array | None
    of_cudnn: bool = False


def read_keras(archive: Archive) -> Checkpoint:
    """A ``.keras`` file: a zip of the config and the weights."""
    config = read_json(archive, CONFIG)
    metadata = read_json(archive, METADATA) if METADATA in archive.names else {}
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    tree = Tree(archive.view(WEIGHTS))
    places = modern_places(tree, configured := layers(config))
    assembly = Assembly(tree, places, major(str(version)), bool(members_of(config)))
    return assembly.checkpoint(configured)


def read_json(archive: Archive, name: str) -> Any:
    """The JSON of an entry, of a size that is bounded."""
    if archive.size(name) > MAX_CONFIG:
        raise CheckpointError(f"{name} has {archive.size(name)} bytes; at most {MAX_CONFIG}")
    return parse_json(archive.read(name), name)


def major(version: str) -> int | None:
    """The first number of a version of Keras; None if it is none."""
    number = re.match(r"\d{1,4}(?=\.)", version, re.ASCII)
    return int(number[0]) if number else None


def read_h5(content: memoryview) -> Checkpoint:
    """An HDF5 file of either kind."""
    tree = Tree(content)
    root = "model_weights" if "model_weights" in tree.groups else ""
    names = tree.attribute(root, "layer_names")
    if names is None:
        return Assembly(tree, modern_places(tree, []), None, False).checkpoint([])
    text = "".join(tree.attribute("", "model_config") or [])
    config = parse_json(text.encode(), "model_config") if text else {}
    tree.bfloat16 = f'"{BFLOAT16}"' in text  # as the name of a layer's dtype
    version = "".join(tree.attribute("", "keras_version") or [])
    places = legacy_places(tree, root, names, configured := layers(config))
    assembly = Assembly(tree, places, major(version), bool(members_of(config)))
    return assembly.checkpoint(configured)


# --- the arrays of a cell -------------------------------------------------------------------


def cell_of(tree: Tree, paths: Paths) -> Cell:
    """The cell whose kernel, recurrent kernel and bias, if any, are at `paths`."""
    by_name = {leaf(path): path for path in paths}
    # Keras 3 numbers the variables of an object.
    named = ("0", "1", "2") if "0" in by_name else ("kernel", "recurrent_kernel", "bias")
    if list(by_name) not in (list(named[:2]), list(named)) or len(by_name) != len(paths):
        raise CheckpointError(f"{paths[0]}: arrays {sorted(by_name)[:8]}; expected {named}")
    kernel, recurrent, *bias = [tree.read(path) for path in paths]
    return plain(Cell(kernel, recurrent, bias[0] if bias else None))


def plain(cell: Cell) -> Cell:
    """The cell, out of CuDNNLSTM's or CuDNNGRU's arrays too, which Keras tells by the bias as well.

    CuDNN's gates are matrices of their own, one after the other, each row by row; and there are two
    biases, one after the other.

    Source: tf_keras.src.saving.legacy.hdf5_format (``_convert_rnn_weights``).
    """
    kernel, recurrent, bias = cell.kernel, cell.recurrent, cell.bias
    if bias is None or kernel.ndim != 2 or recurrent.ndim != 2 or 0 in recurrent.shape:
        return cell
    hidden, columns = recurrent.shape
    if columns not in (3 * hidden, 4 * hidden) or kernel.shape[1] != columns:
        return cell
    if bias.shape != (2 * columns,):
        return cell
    gates = columns // hidden
    kernels = [one.T.reshape(one.shape, order="F") for one in np.hsplit(kernel, gates)]
    recurrents = [one.T for one in np.hsplit(recurrent, gates)]
    return Cell(np.hstack(kernels), np.hstack(recurrents), bias.reshape(2, -1), of_cudnn=True)


def kind_of(layer: Layer, cells: list[Cell]) -> str:
    """The kind of a layer, told by its shapes, which its config must agree with."""
    if len(cells) > len(DIRECTIONS):
        raise CheckpointError(f"{len(cells)} cells; expected 1 or 2")
    kinds = {kind_of_cell(cell) for cell in cells}
    for slot, cell in zip(layer.slots, cells, strict=False):
        kinds.add(KIND[slot.settings["class_name"]])
        units = slot.settings.get("units", len(cell.recurrent))
        if units != len(cell.recurrent):
            raise CheckpointError(f"its config has units={brief(units)}, not {len(cell.recurrent)}")
    if len(kinds) > 1:
        raise CheckpointError(f"its config and shapes are those of {sorted(kinds)}")
    return kinds.pop()


def kind_of_cell(cell: Cell) -> str:
    """The kind of a cell, every one of whose shapes fits it."""
    hidden, columns = cell.recurrent.shape if cell.recurrent.ndim == 2 else (0, 0)
    if not hidden or columns % hidden or columns // hidden not in KIND_OF_GATE_COUNT:
        shape = cell.recurrent.shape
        raise CheckpointError(f"recurrent kernel of shape {shape}; expected (H, G*H)")
    kind = KIND_OF_GATE_COUNT[columns // hidden]
    if cell.kernel.ndim != 2 or cell.kernel.shape[1] != columns or not len(cell.kernel):
        raise CheckpointError(f"kernel of shape {cell.kernel.shape}; expected (I, {columns})")
    biases = [(columns,)] if kind == "RNN" else [(columns,), (2, columns)]
    if cell.bias is not None and cell.bias.shape not in biases:
        raise CheckpointError(f"bias of shape {cell.bias.shape}; expected one of {biases}")
    return kind


def parameters(cell: Cell, kind: str) -> Iterator[tuple[str, Array]]:
    """A cell's parameters under torch's names, without level and direction."""
    yield "weight_ih", in_torchs_order(cell.kernel.T, kind, KERAS)
    yield "weight_hh", in_torchs_order(cell.recurrent.T, kind, KERAS)
    if cell.bias is None:
        return
    # Torch has two biases everywhere; Keras only where they do not simply add up.
    both = cell.bias if cell.bias.ndim == 2 else [cell.bias, cell.bias * 0]
    yield "bias_ih", in_torchs_order(both[0], kind, KERAS)
    yield "bias_hh", in_torchs_order(both[1], kind, KERAS)


# --- from Keras's layers to modules ---------------------------------------------------------


class Assembly:
    """Takes recurrent layers in the model's order and puts them under torch's names.

    A layer that fits on top of the one that feeds it becomes the next level of its module. One that
    cannot be had is listed with the reason, and its arrays stay as they are.

    Parameters
    ----------
    tree : Tree
    places : Places
    keras : int or None
        The first number of the version that wrote the file, None where it does not say.
    described : bool
        Whether the file's config describes layers at all.
    """

    def __init__(self, tree: Tree, places: Places, keras: int | None, described: bool) -> None:
        self._tree, self._places = tree, places
        self._keras, self._described = keras, described
        self._arrays: dict[str, Array] = {}
        self._attributes: dict[str, Attributes] = {}
        self._placeholders: dict[str, str] = {}
        self._used: set[str] = set()
        self._added: dict[Layer, tuple[str, int, list[Cell]]] = {}

    def checkpoint(self, configured: list[Layer]) -> Checkpoint:
        """The checkpoint of a file: its recurrent layers under torch's names, the rest as it is."""
        for layer in configured:
            self._add(layer, self._places.configured.get(layer, []))
        for prefix, paths in self._places.others.items():
            self._add(Layer(prefix, ""), paths)
        for path in self._tree.datasets:
            if path not in self._used:
                self._keep(path)
        return Checkpoint(self._arrays, self._attributes, self._placeholders, OPTIMIZERS)

    def _keep(self, path: str) -> None:
        """Give an array as it is."""
        if path in self._arrays or path in self._placeholders:
            raise CheckpointError(f"array {path!r} appears twice")
        try:
            self._arrays[path] = self._tree.read(path)
        except CheckpointError as error:
            self._placeholders[path] = str(error)

    def _add(self, layer: Layer, paths: list[Paths]) -> None:
        """Add a layer, or the reason why it cannot be had."""
        first = layer.prefix + FIRST_NAMES[0]
        if first in self._placeholders or layer.prefix in self._attributes:
            raise CheckpointError(f"layer {layer.prefix!r} appears twice")
        try:
            self._convert(layer, paths)
        except CheckpointError as error:
            self._placeholders[first] = str(error)

    def _convert(self, layer: Layer, paths: list[Paths]) -> None:
        """Put the arrays and attributes of a layer under torch's names."""
        if layer.problem:
            raise CheckpointError(layer.problem)
        if not paths:
            raise CheckpointError("its layer is in the config but has no weights")
        cells = [cell_of(self._tree, own) for own in paths]
        kind = kind_of(layer, cells)
        said = self._said_of(layer, kind, cells)
        prefix, level = self._place(layer, said, cells)
        self._added[layer] = prefix, level, cells
        self._attributes[prefix] = said
        for direction, cell in zip(DIRECTIONS[: len(cells)], cells, strict=True):
            for name, array in parameters(cell, kind):
                self._arrays[f"{prefix}{name}_l{level}{direction}"] = array
        self._used.update(*paths)

    def _said_of(self, layer: Layer, kind: str, cells: list[Cell]) -> Attributes:
        """What the file says beyond the shapes, and the reason if it cannot be run."""
        bias = cells[0].bias
        reset_after = kind != "GRU" or bias is None or bias.ndim == 2
        said = Attributes(reset_after=reset_after, batch_first=True)
        if layer.slots:
            return configured_attributes(layer, kind, said, bias is None, self._keras)
        if self._described:
            return replace(said, unsupported=UNKNOWN)
        unsaid = ["nonlinearity"] if kind == "RNN" else ["recurrent_activation", "activation"]
        unsaid += ["reset_after"] if kind == "GRU" and bias is None else []
        if cells[0].of_cudnn:
            said, unsaid = replace(said, recurrent_activation=SIGMOID), []
        unsaid += ["go_backwards", "merge_mode"][: len(cells)]
        return replace(said, unsaid=", ".join(unsaid))

    def _place(self, layer: Layer, said: Attributes, cells: list[Cell]) -> tuple[str, int]:
        """The prefix and level of a layer: on top of its source if both fit one module."""
        if layer.source is None or layer.source not in self._added:
            return layer.prefix, 0
        prefix, level, below = self._added[layer.source]
        alike = (
            replace(said, then="") == self._attributes[prefix]
            and not said.unsupported
            and len(cells) == len(below)
            and cells[0].recurrent.shape == below[0].recurrent.shape
            and cells[0].kernel.shape[0] == len(cells) * len(cells[0].recurrent)
            and (cells[0].bias is None) == (below[0].bias is None)
            and returns_sequences(layer.source)
        )
        return (prefix, level + 1) if alike else (layer.prefix, 0)


def configured_attributes(
    layer: Layer, kind: str, said: Attributes, no_bias: bool, keras: int | None
) -> Attributes:
    """What the config of a layer says."""
    first = layer.slots[0].settings
    said = replace(
        said,
        backward=len(layer.slots) == 1 and bool(first.get("go_backwards")),
        given=layer.given,
        then=then(layer),
        unsupported=unsupported(layer, kind, keras),
    )
    if kind == "GRU" and no_bias:
        said = replace(said, reset_after=bool(first.get("reset_after", False)))
    if kind == "RNN":
        return replace(said, nonlinearity=str(first.get("activation")))
    return replace(said, recurrent_activation=recurrent_activation_of(first, keras))
