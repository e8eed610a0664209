"""Keras's files: ``.keras``, ``.weights.h5`` and the older ``.h5``, without Keras.

The arrays come from HDF5; which layers there are, and how they are set, from the model's config
where the file has one. Without one (weights alone) kinds are told by the arrays' shapes and Keras's
default settings are assumed.

A layer's prefix is ``NAME.`` with the layer's name in its config, or the path of its group where
the config does not describe it. Modules are batch-first, as Keras's layers are.

Source: keras.src.saving.saving_lib and keras.src.legacy.saving.legacy_h5_format.
"""

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from .archive import Archive
from .arrays import Array
from .canonical import Attributes, Checkpoint
from .errors import CheckpointError
from .gates import KERAS, KIND_OF_GATE_COUNT, to_torch
from .hdf5 import Tree, open_tree
from .strict_json import parse_json

CONFIG = "config.json"
WEIGHTS = "model.weights.h5"

# The classes that are read, with the names of their groups in .weights.h5.
RECURRENT = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn"}
CONTAINERS = {"Sequential": "sequential", "Functional": "functional", "Model": "functional"}
GROUPS = RECURRENT | CONTAINERS | {"Bidirectional": "bidirectional"}
KIND = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}

# Layers that change nothing at inference: what they are fed is what they give.
TRANSPARENT = {"Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout"}

# Configs take kilobytes; as objects of Python some twenty times as much.
MAX_CONFIG = 8 << 20

# Deeper than any model nests, and well within Python's recursion.
MAX_DEPTH = 32


@dataclass(frozen=True)
class Cell:
    """The arrays of one direction of one layer, as Keras lays them out."""

    kernel: Array
    recurrent: Array
    bias: Array | None
    used: tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """A recurrent layer: where its arrays are, what its config says, and what it is fed by."""

    key: str
    prefix: str
    config: dict[str, Any] | None = None
    bidirectional: bool = False
    source: "Layer | None" = None  # set only where it feeds this layer alone


def read_keras(archive: Archive) -> Checkpoint:
    """A ``.keras`` file: a zip of the config and the weights."""
    if archive.size(CONFIG) > MAX_CONFIG:
        raise CheckpointError(f"{CONFIG} has {archive.size(CONFIG)} bytes; at most {MAX_CONFIG}")
    config = parse_json(archive.read(CONFIG), CONFIG)
    raw = archive.read(WEIGHTS)
    with open_tree(io.BytesIO(raw), len(raw)) as tree:
        return assemble(tree, modern_cells(tree), layers(config, modern=True))


def read_h5(file: BinaryIO, file_bytes: int) -> Checkpoint:
    """An HDF5 file of either kind."""
    with open_tree(file, file_bytes) as tree:
        root = "model_weights" if "model_weights" in tree.groups else ""
        names = tree.attribute(root, "layer_names")
        if names is None:
            return assemble(tree, modern_cells(tree), [])
        text = tree.attribute("", "model_config")
        config = parse_json(str(text).encode(), "model_config") if text is not None else {}
        return assemble(tree, legacy_cells(tree, root, names), layers(config, modern=False))


# --- where the arrays are -------------------------------------------------------------------


def modern_cells(tree: Tree) -> dict[str, list[Cell]]:
    """The cells of ``.weights.h5``, by the path of their layer's group; forward first."""
    cells: dict[str, list[Cell]] = {}
    for path in tree.groups:
        layer, found, _ = path.rpartition("/cell/vars")
        if not found or not path.endswith("/cell/vars") or f"{path}/1" not in tree.datasets:
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


def legacy_cells(tree: Tree, root: str, names: Any) -> dict[str, list[Cell]]:
    """The cells of an older ``.h5``, by layer name; a layer's weights are listed in order."""
    cells: dict[str, list[Cell]] = {}
    for layer in names:
        group = f"{root}/{layer}" if root else layer
        weights = tree.attribute(group, "weight_names") or []
        folders: dict[str, list[str]] = {}
        for name in weights:
            folders.setdefault(name.rpartition("/")[0], []).append(f"{group}/{name}")
        found = {
            folder: cell_of(tree, paths)
            for folder, paths in folders.items()
            if any(leaf(path) == "recurrent_kernel" for path in paths)
        }
        if len(found) == 1 or is_bidirectional(list(found)):
            cells[layer] = list(found.values())
        else:  # a model within the model
            cells |= {f"{layer}/{folder}": [cell] for folder, cell in found.items()}
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


# --- what the config says -------------------------------------------------------------------


def layers(config: Any, modern: bool) -> list[Layer]:
    """The recurrent layers of a model, each with the layer that feeds it, if recurrent too."""
    if not isinstance(config, dict):
        raise CheckpointError(f"config is a {type(config).__name__}; expected an object")
    return list(walk(config, "", "", modern, 0))


def walk(
    model: dict[str, Any], path: str, prefix: str, modern: bool, depth: int
) -> Iterator[Layer]:
    """The recurrent layers of `model` and of the models in it."""
    if depth > MAX_DEPTH:
        raise CheckpointError(f"config: models nest deeper than {MAX_DEPTH}")
    known: dict[str, Layer] = {}
    counts: dict[str, int] = {}
    members = members_of(model)
    sources = sources_of(model, members)
    for member in members:
        kind, settings = member.get("class_name"), member.get("config")
        if kind not in GROUPS or not isinstance(settings, dict):
            continue
        group = GROUPS[kind]
        number = counts[group] = counts.get(group, -1) + 1
        name = str(settings.get("name"))
        where = f"{path}layers/{group}" + (f"_{number}" if number else "")
        if kind in CONTAINERS:
            if modern:
                yield from walk(member, f"{where}/", f"{prefix}{name}.", modern, depth + 1)
            continue
        layer = Layer(
            key=where if modern else name,
            prefix=f"{prefix}{name}.",
            config=member,
            bidirectional=kind == "Bidirectional",
            source=known.get(sources.get(name, "")),
        )
        known[name] = layer
        yield layer


def members_of(model: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers that a model's config lists."""
    settings = model.get("config")
    listed = settings.get("layers") if isinstance(settings, dict) else settings
    return [m for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []


def name_of(member: dict[str, Any]) -> str:
    """The name in a layer's config."""
    settings = member.get("config")
    return str(settings.get("name")) if isinstance(settings, dict) else ""


def sources_of(model: dict[str, Any], members: list[dict[str, Any]]) -> dict[str, str]:
    """The one layer that feeds each layer and feeds nothing else; TRANSPARENT ones skipped."""
    names = [name_of(member) for member in members]
    if model.get("class_name") == "Sequential":
        feeds = dict(zip(names[1:], names, strict=False))
    else:
        inbound = {name_of(m): histories(m.get("inbound_nodes"), 0) for m in members}
        taken = Counter(source for sources in inbound.values() for source in sources)
        taken.update(histories_of_outputs(model))
        feeds = {
            name: sources[0]
            for name, sources in inbound.items()
            if len(sources) == 1 and taken[sources[0]] == 1
        }
    transparent = {name_of(m) for m in members if m.get("class_name") in TRANSPARENT}
    for name in names:
        # In a model's order a layer's source comes first, so one step is enough.
        if feeds.get(name) in transparent and feeds[name] in feeds:
            feeds[name] = feeds[feeds[name]]
    return feeds


def histories(nodes: Any, depth: int) -> list[str]:
    """The layers named in ``inbound_nodes``, in the form of Keras 3 or of Keras 2."""
    if depth > MAX_DEPTH:
        raise CheckpointError(f"config: inbound_nodes nest deeper than {MAX_DEPTH}")
    if isinstance(nodes, dict):
        history = nodes.get("keras_history")
        if isinstance(history, list) and history:
            return [str(history[0])]
        return [name for node in nodes.values() for name in histories(node, depth + 1)]
    if isinstance(nodes, list):
        if nodes and isinstance(nodes[0], str):
            return [nodes[0]]
        return [name for node in nodes for name in histories(node, depth + 1)]
    return []


def histories_of_outputs(model: dict[str, Any]) -> list[str]:
    """The layers whose output is the model's."""
    settings = model.get("config")
    return histories(settings.get("output_layers"), 0) if isinstance(settings, dict) else []


# --- from Keras's layers to modules ---------------------------------------------------------


def assemble(tree: Tree, cells: dict[str, list[Cell]], configured: list[Layer]) -> Checkpoint:
    """The checkpoint of a file: its recurrent layers under torch's names, the rest as it is."""
    told = {layer.key for layer in configured}
    found = configured + [Layer(key, f"{key}.") for key in cells if key not in told]
    arrays: dict[str, Array] = {}
    attributes: dict[str, Attributes] = {}
    used: set[str] = set()
    places: dict[str, tuple[str, int]] = {}
    for layer in found:
        if layer.key not in cells:
            raise CheckpointError(f"layer {layer.prefix!r} is in the config but has no weights")
        own = cells[layer.key]
        kind = kind_of(layer, own)
        said = attributes_of(layer, kind, own)
        prefix, level = place(layer, places, attributes, said, own, cells)
        places[layer.prefix] = (prefix, level)
        attributes[prefix] = said
        for direction, cell in zip(("", "_reverse"), own, strict=False):
            used.update(cell.used)
            for name, array in parameters(cell, kind):
                arrays[f"{prefix}{name}_l{level}{direction}"] = array
    for path in tree.datasets:
        if path not in used:
            arrays[path] = tree.read(path)
    return Checkpoint(arrays, attributes)


def place(
    layer: Layer,
    places: dict[str, tuple[str, int]],
    attributes: dict[str, Attributes],
    said: Attributes,
    own: list[Cell],
    cells: dict[str, list[Cell]],
) -> tuple[str, int]:
    """The prefix and level of a layer: on top of its source if both fit one module."""
    if layer.source is None:
        return layer.prefix, 0
    below = cells[layer.source.key]
    prefix, level = places[layer.source.prefix]
    alike = (
        said == attributes[prefix]
        and len(own) == len(below)
        and own[0].recurrent.shape == below[0].recurrent.shape
        and (own[0].bias is None) == (below[0].bias is None)
        and returns_sequences(layer.source)
    )
    return (prefix, level + 1) if alike else (layer.prefix, 0)


def settings_of(layer: Layer) -> list[dict[str, Any]]:
    """The settings of each direction of a layer; none where there is no config."""
    if layer.config is None:
        return []
    settings = layer.config.get("config")
    if not isinstance(settings, dict):
        return []
    if not layer.bidirectional:
        return [settings | {"class_name": layer.config.get("class_name")}]
    directions = [settings.get("layer"), settings.get("backward_layer")]
    return [
        inner | {"class_name": direction.get("class_name")}
        for direction in directions
        if isinstance(direction, dict) and isinstance(inner := direction.get("config"), dict)
    ]


def returns_sequences(layer: Layer) -> bool:
    """Whether a layer gives every step to the next one, and nothing else."""
    return all(
        settings.get("return_sequences") is True and not settings.get("return_state")
        for settings in settings_of(layer)
    )


def kind_of(layer: Layer, cells: list[Cell]) -> str:
    """The kind of a layer, by its shapes; every array is checked against it."""
    where = f"layer {layer.prefix!r}"
    if len(cells) > 2 or (layer.config and len(cells) != 1 + layer.bidirectional):
        raise CheckpointError(f"{where} has {len(cells)} cells, unlike its config")
    for cell in cells:
        hidden = cell.recurrent.shape[0] if cell.recurrent.ndim == 2 else 0
        columns = cell.recurrent.shape[1] if cell.recurrent.ndim == 2 else 0
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
            raise CheckpointError(
                f"{where}: bias of shape {cell.bias.shape}; expected one of {biases}"
            )
    for settings in settings_of(layer):
        if KIND.get(str(settings["class_name"]), kind) != kind:
            raise CheckpointError(
                f"{where} is a {settings['class_name']}, but its shapes are those of a {kind}"
            )
    return kind


def attributes_of(layer: Layer, kind: str, cells: list[Cell]) -> Attributes:
    """What the config says beyond the shapes, and the reason if it cannot be run."""
    bias = cells[0].bias
    settings = settings_of(layer)
    reset_after = kind != "GRU" or bias is None or bias.ndim == 2
    said = Attributes(reset_after=reset_after, batch_first=True)
    if layer.config is None:
        if kind == "GRU" and bias is None:
            return replace(said, unsupported="reset_after of a GRU without bias is not in the file")
        return said
    if kind == "GRU" and bias is None:
        said = replace(said, reset_after=bool(settings[0].get("reset_after", False)))
    if kind == "RNN":
        said = replace(said, nonlinearity=str(settings[0].get("activation")))
    return replace(said, unsupported=unsupported(layer, kind, settings))


def unsupported(layer: Layer, kind: str, settings: list[dict[str, Any]]) -> str:
    """The first setting that packseq cannot run, by name and value; "" if it can run all."""
    expected: dict[str, tuple[Any, ...]] = {
        "activation": ("tanh", "relu") if kind == "RNN" else ("tanh",),
        "recurrent_activation": (None,) if kind == "RNN" else ("sigmoid",),
        "time_major": (False, None),
    }
    for direction, values in enumerate(settings):
        if values["class_name"] not in RECURRENT:
            return f"class {values['class_name']!r}"
        for name, allowed in expected.items():
            if values.get(name) not in allowed:
                return f"{name}={values.get(name)!r}"
        if bool(values.get("go_backwards")) != bool(direction):
            return f"go_backwards={values.get('go_backwards')!r}"
        if values.get("activation") != settings[0].get("activation"):
            return f"activation={values.get('activation')!r} in one direction only"
        if values.get("reset_after") != settings[0].get("reset_after"):
            return "reset_after of the two directions differ"
    merge = layer.config["config"].get("merge_mode") if layer.config else None
    return f"merge_mode={merge!r}" if layer.bidirectional and merge != "concat" else ""


def parameters(cell: Cell, kind: str) -> Iterator[tuple[str, Array]]:
    """A cell's parameters under torch's names, without level and direction."""
    yield "weight_ih", to_torch(cell.kernel.T, kind, KERAS)
    yield "weight_hh", to_torch(cell.recurrent.T, kind, KERAS)
    if cell.bias is None:
        return
    # Torch has two biases everywhere; Keras only where they do not simply add up.
    both = cell.bias if cell.bias.ndim == 2 else [cell.bias, cell.bias * 0]
    yield "bias_ih", to_torch(both[0], kind, KERAS)
    yield "bias_hh", to_torch(both[1], kind, KERAS)
