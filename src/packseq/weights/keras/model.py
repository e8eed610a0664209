"""Keras's files: ``.keras``, ``.weights.h5`` and the older ``.h5``, without Keras.

The arrays come from HDF5; which layers there are, and how they are set, from the model's config
where the file has one. Without one (weights alone) kinds are told by the arrays' shapes, and the
settings are Keras's defaults where the caller does not say.

A layer's prefix is ``NAME.`` with the layer's name in its config, or the path of its group where
the config does not describe it. Modules are batch-first, as Keras's layers are.

Source: keras.src.saving.saving_lib and keras.src.legacy.saving.legacy_h5_format.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from packseq.networks.architecture import KIND_OF_GATE_COUNT

from ..archive import Archive
from ..arrays import Array
from ..canonical import Attributes, Checkpoint
from ..errors import CheckpointError
from ..gates import KERAS, in_torchs_order
from ..strict_json import parse_json
from .config import (
    KIND,
    Layer,
    layers,
    recurrent_activation_of,
    returns_sequences,
    settings_of,
    unsupported,
)
from .hdf5 import Tree, open_tree

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"

# Configs take kilobytes; as objects of Python some twenty times as much.
MAX_CONFIG = 8 << 20


# Why arrays of a recurrent layer's shapes are refused where the config says nothing of them: in a
# wrapper, in a cell of the user's, in a model that is a class, its settings may be any.
UNKNOWN = "settings that the config does not give for this layer itself"


@dataclass(frozen=True)
class Cell:
    """The arrays of one direction of one layer, as Keras lays them out."""

    kernel: Array
    recurrent: Array
    bias: Array | None
    used: tuple[str, ...]


def read_keras(archive: Archive) -> Checkpoint:
    """A ``.keras`` file: a zip of the config and the weights."""
    config = read_json(archive, CONFIG)
    metadata = read_json(archive, METADATA) if METADATA in archive.names else {}
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    with open_tree(archive.read(WEIGHTS)) as tree:
        configured = layers(config, modern=True)
        return assemble(tree, modern_cells(tree), configured, major(str(version)), UNKNOWN)


def read_json(archive: Archive, name: str) -> Any:
    """The JSON of an entry, of a size that is bounded."""
    if archive.size(name) > MAX_CONFIG:
        raise CheckpointError(f"{name} has {archive.size(name)} bytes; at most {MAX_CONFIG}")
    return parse_json(archive.read(name), name)


def major(version: str) -> int | None:
    """The first number of a version of Keras; None if it is none."""
    number = re.match(r"\d{1,4}(?=\.)", version, re.ASCII)
    return int(number[0]) if number else None


def read_h5(content: bytes) -> Checkpoint:
    """An HDF5 file of either kind."""
    with open_tree(content) as tree:
        root = "model_weights" if "model_weights" in tree.groups else ""
        names = tree.attribute(root, "layer_names")
        if names is None:
            return assemble(tree, modern_cells(tree), [], None, "")
        text = tree.attribute("", "model_config")
        config = parse_json("".join(text).encode(), "model_config") if text else {}
        version = "".join(tree.attribute("", "keras_version") or [])
        configured = layers(config, modern=False)
        unknown = UNKNOWN if text else ""
        return assemble(tree, legacy_cells(tree, root, names), configured, major(version), unknown)


# --- where the arrays are -------------------------------------------------------------------


def modern_cells(tree: Tree) -> dict[str, list[Cell]]:
    """The cells of ``.weights.h5``, by the path of their layer's group; forward first."""
    cells: dict[str, list[Cell]] = {}
    for path in tree.groups:
        layer = path.removesuffix("/cell/vars")
        if layer == path or f"{path}/1" not in tree.datasets:
            continue
        outer, _, direction = layer.rpartition("/")
        paths = [f"{path}/{i}" for i in range(3) if f"{path}/{i}" in tree.datasets]
        cell = cell_of(tree, paths)
        if direction == "forward_layer":
            cells.setdefault(outer, []).insert(0, cell)
        elif direction == "backward_layer":
            cells.setdefault(outer, []).append(cell)
        else:
            cells[layer] = [cell]
    return cells


def legacy_cells(tree: Tree, root: str, names: list[str]) -> dict[str, list[Cell]]:
    """The cells of an older ``.h5``, by layer name; a layer's weights are listed in order."""
    cells: dict[str, list[Cell]] = {}
    for layer in names:
        group = f"{root}/{layer}" if root else layer
        weights = tree.attribute(group, "weight_names") or []
        folders: dict[str, list[str]] = {}
        for name in weights:
            folders.setdefault(name.rpartition("/")[0], []).append(f"{group}/{name}")
        by_folder = {
            folder: cell_of(tree, paths)
            for folder, paths in folders.items()
            if any(leaf(path) == "recurrent_kernel" for path in paths)
        }
        if len(by_folder) == 1 or is_bidirectional(list(by_folder)):
            cells[layer] = list(by_folder.values())
        else:  # a model within the model
            cells |= {f"{layer}/{folder}": [cell] for folder, cell in by_folder.items()}
    return cells


def is_bidirectional(folders: list[str]) -> bool:
    """Whether these are the two cells of a Bidirectional, forward first."""
    return len(folders) == 2 and "/forward_" in folders[0] and "/backward_" in folders[1]


def leaf(path: str) -> str:
    """The last name of a path; TensorFlow's variables end in ":0"."""
    return path.rpartition("/")[2].removesuffix(":0")


def cell_of(tree: Tree, paths: list[str]) -> Cell:
    """The cell whose kernel, recurrent kernel and bias, if any, are at `paths`."""
    if len(paths) not in (2, 3):
        raise CheckpointError(f"{paths[0]}: a cell of {len(paths)} arrays; expected 2 or 3")
    kernel, recurrent, *bias = [tree.read(path) for path in paths]
    return Cell(kernel, recurrent, bias[0] if bias else None, tuple(paths))


# --- from Keras's layers to modules ---------------------------------------------------------


def assemble(
    tree: Tree,
    cells: dict[str, list[Cell]],
    configured: list[Layer],
    keras: int | None,
    unknown: str,
) -> Checkpoint:
    """The checkpoint of a file: its recurrent layers under torch's names, the rest as it is.

    `keras` is the first number of the version that wrote it, None where the file does not say;
    `unknown` is why layers that are not configured are refused, "" where none can be.
    """
    in_config = {layer.key for layer in configured}
    assembly = Assembly(cells, keras)
    others = [Layer(key, f"{key}.", unknown=unknown) for key in cells if key not in in_config]
    for layer in configured + others:
        assembly.add(layer)
    arrays = {path: tree.read(path) for path in tree.datasets if path not in assembly.used}
    if twice := arrays.keys() & assembly.arrays.keys():
        raise CheckpointError(f"array {min(twice)!r} appears twice")
    return Checkpoint(assembly.arrays | arrays, assembly.attributes)


class Assembly:
    """Takes recurrent layers in the model's order and puts them under torch's names.

    A layer that fits on top of the one that feeds it becomes the next level of its module.
    """

    def __init__(self, cells: dict[str, list[Cell]], keras: int | None) -> None:
        self.arrays: dict[str, Array] = {}
        self.attributes: dict[str, Attributes] = {}
        self.used: set[str] = set()
        self._cells = cells
        self._keras = keras
        self._places: dict[str, tuple[str, int]] = {}

    def add(self, layer: Layer) -> None:
        """Add the arrays and attributes of a layer."""
        if layer.key not in self._cells:
            raise CheckpointError(f"layer {layer.prefix!r} is in the config but has no weights")
        if layer.prefix in self._places:
            raise CheckpointError(f"layer {layer.prefix!r} appears twice")
        cells = self._cells[layer.key]
        kind = kind_of(layer, cells)
        said = attributes_of(layer, kind, cells, self._keras)
        prefix, level = self._places[layer.prefix] = self._place(layer, said)
        self.attributes[prefix] = said
        for direction, cell in zip(("", "_reverse"), cells, strict=False):
            self.used.update(cell.used)
            for name, array in parameters(cell, kind):
                self.arrays[f"{prefix}{name}_l{level}{direction}"] = array

    def _place(self, layer: Layer, said: Attributes) -> tuple[str, int]:
        """The prefix and level of a layer: on top of its source if both fit one module."""
        if layer.source is None:
            return layer.prefix, 0
        own, below = self._cells[layer.key], self._cells[layer.source.key]
        prefix, level = self._places[layer.source.prefix]
        alike = (
            said == self.attributes[prefix]
            and len(own) == len(below)
            and own[0].recurrent.shape == below[0].recurrent.shape
            and (own[0].bias is None) == (below[0].bias is None)
            and returns_sequences(layer.source)
        )
        return (prefix, level + 1) if alike else (layer.prefix, 0)


def kind_of(layer: Layer, cells: list[Cell]) -> str:
    """The kind of a layer, told by its shapes, which its config must agree with."""
    where = f"layer {layer.prefix!r}"
    if len(cells) > 2 or (layer.config and len(cells) != 1 + layer.bidirectional):
        raise CheckpointError(f"{where} has {len(cells)} cells, unlike its config")
    kinds = {kind_of_cell(cell, where) for cell in cells}
    for settings in settings_of(layer):
        kinds.add(KIND.get(str(settings["class_name"]), min(kinds)))
    if len(kinds) > 1:
        raise CheckpointError(f"{where}: its config and shapes are those of {sorted(kinds)}")
    return kinds.pop()


def kind_of_cell(cell: Cell, where: str) -> str:
    """The kind of a cell, every one of whose shapes fits it."""
    hidden, columns = cell.recurrent.shape if cell.recurrent.ndim == 2 else (0, 0)
    if not hidden or columns % hidden or columns // hidden not in KIND_OF_GATE_COUNT:
        raise CheckpointError(
            f"{where}: recurrent kernel of shape {cell.recurrent.shape}; expected (H, G*H)"
        )
    kind = KIND_OF_GATE_COUNT[columns // hidden]
    if cell.kernel.ndim != 2 or cell.kernel.shape[1] != columns:
        raise CheckpointError(
            f"{where}: kernel of shape {cell.kernel.shape}; expected (I, {columns})"
        )
    biases = [(columns,), (2, columns)] if kind == "GRU" else [(columns,)]
    if cell.bias is not None and cell.bias.shape not in biases:
        raise CheckpointError(f"{where}: bias of shape {cell.bias.shape}; expected one of {biases}")
    return kind


def attributes_of(layer: Layer, kind: str, cells: list[Cell], keras: int | None) -> Attributes:
    """What the config says beyond the shapes, and the reason if it cannot be run."""
    bias = cells[0].bias
    settings = settings_of(layer)
    first = settings[0] if settings else {}
    reset_after = kind != "GRU" or bias is None or bias.ndim == 2
    said = Attributes(reset_after=reset_after, batch_first=True)
    if layer.config is None:
        if kind == "GRU" and bias is None:
            return replace(said, unsupported="reset_after of a GRU without bias is not in the file")
        return replace(said, unsupported=layer.unknown)
    if kind == "GRU" and bias is None:
        said = replace(said, reset_after=bool(first.get("reset_after", False)))
    if kind == "RNN":
        said = replace(said, nonlinearity=str(first.get("activation")))
    else:
        said = replace(said, recurrent_activation=recurrent_activation_of(first, keras))
    return replace(said, unsupported=unsupported(layer, kind, settings, keras))


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
