"""What a Keras model's config says of its recurrent layers: their settings, and what feeds them.

Wrappers and models in models are walked into. A class that is not Keras's own is no layer of ours,
whatever its name: its name is kept with where it comes from.

Source: keras.src.models.functional and .sequential (``get_config``), and saving_lib for the names
of groups.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from packseq.networks.architecture import SIGMOID

from ..errors import CheckpointError

# The classes that are read, and their cells in an RNN. The CuDNN layers of Keras 1 and 2 have no
# settings but these.
KIND = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}
CELLS = {f"{name}Cell": name for name in KIND}
CUDNN = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}
OF_CUDNN = {"activation": "tanh", "recurrent_activation": SIGMOID, "reset_after": True}
# What an RNN says for the cells in it.
OF_THE_LAYER = ("go_backwards", "return_sequences", "return_state", "time_major")
CONVOLUTIONAL = re.compile("ConvLSTM[123]D")
# Keras under its several names; a config of before Keras 3 names no module.
HOMES = {"keras", "tf_keras", "keras_core", "tensorflow"}

# Layers that change nothing at inference: what they are fed is what they give.
TRANSPARENT = {"Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout"}

CONCAT = "concat"
MERGES = (CONCAT, "sum", "ave", "mul", None)

# Deeper than any model nests, and well within Python's recursion.
MAX_DEPTH = 32


@dataclass(frozen=True, eq=False)
class Slot:
    """One cell of a layer: what its config says, and where its arrays are.

    `path` is its group in ``.weights.h5``. In ``.h5`` the folder of its variables has a name out of
    each of `names`. `problem` is why its class cannot be run, or "".
    """

    settings: dict[str, Any]
    path: str
    names: tuple[tuple[str, ...], ...]
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Layer:
    """A recurrent layer: a cell for each direction, and what it is fed by.

    `home` is the layer of the outermost model that it is or is in; `frozen` layers come last among
    the variables of that. `inner` ones have the next cell of the same RNN above them.
    """

    prefix: str
    home: str
    slots: tuple[Slot, ...] = ()
    frozen: bool = False
    merge: Any = CONCAT
    inner: bool = False
    source: "Layer | None" = None  # set only where it feeds this layer alone
    given: str = ""  # the layers that give its first states
    problem: str = ""  # why it cannot be run, whatever its settings


@dataclass(frozen=True)
class Where:
    """Where a member of a model is: as Layer has it, and its group's path."""

    path: str = ""
    prefix: str = ""
    home: str = ""
    name: str = ""
    frozen: bool = False
    given: str = ""
    depth: int = 0


def layers(config: Any) -> list[Layer]:
    """The recurrent layers of a model, each with the layer that feeds it, if recurrent too."""
    if not isinstance(config, dict):
        raise CheckpointError(f"config is a {type(config).__name__}; expected an object")
    return list(walk(config, Where()))


# --- the members of a model -----------------------------------------------------------------


def walk(model: dict[str, Any], outer: Where) -> Iterator[Layer]:
    """The recurrent layers of `model` and of the models in it."""
    known: dict[str, Layer] = {}
    groups: Counter[str] = Counter()
    members = members_of(model)
    sources = sources_of(model, members)
    for member in members:
        name = name_of(member)
        where = replace(
            outer,
            path=f"{outer.path}layers/{unique(member, groups)}",
            prefix=f"{outer.prefix}{name}.",
            home=outer.home or name,
            name=name,
            given=", ".join(states_of(member)),
        )
        for layer in layers_of(member, where, known.get(sources.get(name, ""))):
            yield layer
            if is_recurrent(member):
                known[name] = layer


def layers_of(member: dict[str, Any], where: Where, source: Layer | None) -> Iterator[Layer]:
    """The recurrent layers that a member of a model is or holds."""
    if where.depth > MAX_DEPTH:
        raise CheckpointError(f"config: models nest deeper than {MAX_DEPTH}")
    kind, settings = class_of(member), settings_of(member)
    where = replace(
        where, frozen=where.frozen or settings.get("trainable") is False, depth=where.depth + 1
    )
    if members_of(member):
        yield from walk(member, replace(where, path=f"{where.path}/"))
    elif kind == "TimeDistributed" and isinstance(settings.get("layer"), dict):
        inner = settings["layer"]
        within = replace(where, path=f"{where.path}/layer", name=name_of(inner))
        yield from layers_of(inner, within, None)
    elif kind == "Bidirectional":
        yield both_ways(settings, where, source)
    elif is_recurrent(member):
        yield from one_way(member, where, source)


def is_recurrent(member: dict[str, Any]) -> bool:
    """Whether a member is one recurrent layer, of a class that is read or refused by name."""
    kind = class_of(member)
    ours = kind in KIND or kind in CUDNN or kind in ("RNN", "Bidirectional")
    return ours or CONVOLUTIONAL.fullmatch(kind) is not None


def one_way(member: dict[str, Any], where: Where, source: Layer | None) -> Iterator[Layer]:
    """A layer, or one for each cell of an RNN of several, which run one on top of the other."""
    slots = slots_of(member, where.path, ((where.name,),))
    if not slots:
        yield Layer(where.prefix, where.home, problem="an RNN without cells")
    for level, slot in enumerate(slots):
        source = Layer(
            prefix=f"{where.prefix}cells.{level}." if len(slots) > 1 else where.prefix,
            home=where.home,
            slots=(slot,),
            frozen=where.frozen,
            inner=level + 1 < len(slots),
            source=source,
            given=where.given,
            problem=slot.problem,
        )
        yield source


def both_ways(settings: dict[str, Any], where: Where, source: Layer | None) -> Layer:
    """A Bidirectional; before Keras 3 its second layer is named only where it differs."""
    forward = settings.get("layer")
    if not isinstance(forward, dict):
        return Layer(where.prefix, where.home, problem="a Bidirectional without a layer")
    backward = settings.get("backward_layer")
    if not isinstance(backward, dict):
        inner = settings_of(forward)
        backward = forward | {"config": inner | {"go_backwards": not inner.get("go_backwards")}}
    slots: list[Slot] = []
    for direction, layer in (("forward", forward), ("backward", backward)):
        name = name_of(layer)
        names = ((name, f"{direction}_{name}"),)
        slots += slots_of(layer, f"{where.path}/{direction}_layer", names)
    problem = next((slot.problem for slot in slots if slot.problem), "")
    return Layer(
        prefix=where.prefix,
        home=where.home,
        slots=tuple(slots),
        frozen=where.frozen,
        merge=settings.get("merge_mode", ""),
        source=source,
        given=where.given,
        problem=problem or ("" if len(slots) == 2 else "several cells in a Bidirectional"),
    )


def slots_of(layer: dict[str, Any], path: str, names: tuple[tuple[str, ...], ...]) -> list[Slot]:
    """The cell of a layer; of an RNN, the cells that it is made of, the first at the bottom."""
    kind, settings = class_of(layer), settings_of(layer)
    if kind != "RNN":
        if kind in CUDNN:
            kind, settings = CUDNN[kind], settings | OF_CUDNN
        problem = "" if kind in KIND else f"class {brief(kind)}"
        return [Slot(settings | {"class_name": kind}, f"{path}/cell", names, problem)]
    cell = settings.get("cell")
    if not isinstance(cell, dict):
        return []
    outer = {name: settings.get(name) for name in OF_THE_LAYER}
    if class_of(cell) != "StackedRNNCells":
        return [slot_of_cell(cell, outer, f"{path}/cell", names)]
    groups: Counter[str] = Counter()
    listed = settings_of(cell).get("cells")
    cells = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [
        slot_of_cell(one, outer, f"{path}/cell/cells/{unique(one, groups)}", names) for one in cells
    ]


def slot_of_cell(
    cell: dict[str, Any], outer: dict[str, Any], path: str, names: tuple[tuple[str, ...], ...]
) -> Slot:
    """A cell of an RNN as the layer that it equals."""
    kind = class_of(cell)
    settings = settings_of(cell) | outer | {"class_name": CELLS.get(kind)}
    problem = "" if kind in CELLS else f"a cell of class {brief(kind)}"
    return Slot(settings, path, (*names, (name_of(cell),)), problem)


# --- what stands in a config ----------------------------------------------------------------


def members_of(model: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers that a model's config lists; an old Sequential's config is that list."""
    settings = model.get("config")
    listed = settings.get("layers") if isinstance(settings, dict) else settings
    return [m for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []


def settings_of(member: dict[str, Any]) -> dict[str, Any]:
    """The settings of a layer or cell."""
    settings = member.get("config")
    return settings if isinstance(settings, dict) else {}


def name_of(member: dict[str, Any]) -> str:
    """The name in a layer's config."""
    return str(settings_of(member).get("name", ""))


def class_of(member: dict[str, Any]) -> str:
    """The name of a class of Keras's own; of any other, one that no class of Keras's has."""
    name, module = member.get("class_name"), member.get("module", "keras")
    if not isinstance(name, str):
        return ""
    if isinstance(module, str) and module.partition(".")[0] in HOMES:
        return name
    return f"{name} of {module or 'the user'}"


def unique(member: dict[str, Any], groups: Counter[str]) -> str:
    """The name of a member's group among those of the members before it."""
    name = re.sub(r"\W+", "", str(member.get("class_name")))
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    name = re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
    if name == "model":  # what Keras 2 calls a Functional
        name = "functional"
    number = groups[name]
    groups[name] += 1
    return f"{name}_{number}" if number else name


def brief(value: object) -> str:
    """A value for a message, of which a file may make any length."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def sources_of(model: dict[str, Any], members: list[dict[str, Any]]) -> dict[str, str]:
    """The one layer that feeds each layer and feeds nothing else; TRANSPARENT ones skipped."""
    names = [name_of(member) for member in members]
    if class_of(model) == "Sequential":
        feeds = dict(zip(names[1:], names, strict=False))
    else:
        inbound = {name_of(m): histories(m.get("inbound_nodes"), 0) for m in members}
        taken = Counter(source for sources in inbound.values() for source in sources)
        taken.update(histories(settings_of(model).get("output_layers"), 0))
        feeds = {
            name: sources[0]
            for name, sources in inbound.items()
            if len(sources) == 1 and taken[sources[0]] == 1
        }
    transparent = {name_of(m) for m in members if class_of(m) in TRANSPARENT}
    for name in names:
        # In a model's order a layer's source comes first, so one step is enough.
        if feeds.get(name) in transparent and feeds[name] in feeds:
            feeds[name] = feeds[feeds[name]]
    return feeds


def states_of(member: dict[str, Any]) -> list[str]:
    """The layers whose outputs are a recurrent layer's first states, where it is called once."""
    nodes = member.get("inbound_nodes")
    return histories(nodes, 0)[1:] if isinstance(nodes, list) and len(nodes) == 1 else []


def histories(nodes: Any, depth: int) -> list[str]:
    """The layers named in ``inbound_nodes``, in the form of Keras 3 or of Keras 2."""
    if depth > MAX_DEPTH:
        raise CheckpointError(f"config: inbound_nodes nest deeper than {MAX_DEPTH}")
    if isinstance(nodes, dict):
        history = nodes.get("keras_history")
        if isinstance(history, list) and history:
            return [str(history[0])]
        # A mask changes neither what a layer is nor where it starts.
        others = [node for name, node in nodes.items() if name != "mask"]
        return [name for node in others for name in histories(node, depth + 1)]
    if not isinstance(nodes, list) or not nodes:
        return []
    if isinstance(nodes[0], str):  # Keras 2: layer, node, tensor and the other arguments
        arguments = nodes[3] if len(nodes) > 3 and isinstance(nodes[3], dict) else {}
        return [nodes[0], *histories(arguments, depth + 1)]
    return [name for node in nodes for name in histories(node, depth + 1)]


# --- what the settings of a layer mean ------------------------------------------------------


def returns_sequences(layer: Layer) -> bool:
    """Whether a layer gives every step to the next one, and nothing else."""
    return layer.inner or all(
        slot.settings.get("return_sequences") is True and not slot.settings.get("return_state")
        for slot in layer.slots
    )


def then(layer: Layer) -> str:
    """What Keras makes of the outputs after the steps, which the caller of a module does."""
    if len(layer.slots) == 2:
        return "" if layer.merge == CONCAT else f"merge_mode={layer.merge!r}"
    settings = layer.slots[0].settings
    turned = settings.get("go_backwards") and settings.get("return_sequences") and not layer.inner
    return "steps in the order they were read (go_backwards=True)" if turned else ""


def recurrent_activation_of(settings: dict[str, Any], keras: int | None) -> str | None:
    """Our name for what the gates of a layer go through; None where packseq lacks it.

    Keras 3 gave "hard_sigmoid" another slope, so that the name means what the version makes of it.
    """
    name = settings.get("recurrent_activation")
    if name == "hard_sigmoid" and keras is not None:
        return "hard_sigmoid" if keras >= 3 else "hard_sigmoid_0.2"
    return SIGMOID if name == SIGMOID else None


def unsupported(layer: Layer, kind: str, keras: int | None) -> str:
    """The first setting that packseq cannot run, by name and value; "" if it can run all."""
    expected: dict[str, tuple[Any, ...]] = {
        "activation": ("tanh", "relu") if kind == "RNN" else ("tanh",),
        "recurrent_activation": (None,) if kind == "RNN" else (SIGMOID, "hard_sigmoid"),
        "time_major": (False, None),
        "go_backwards": (False, True, None),
    }
    first = layer.slots[0].settings
    for direction, slot in enumerate(layer.slots):
        values = slot.settings
        for name, allowed in expected.items():
            if values.get(name) not in allowed:
                return f"{name}={brief(values.get(name))}"
        if len(layer.slots) == 2 and bool(values.get("go_backwards")) != bool(direction):
            return f"go_backwards={values.get('go_backwards')!r}"
        if values.get("recurrent_activation") == "hard_sigmoid" and keras is None:
            return "recurrent_activation='hard_sigmoid' of a Keras whose version is not in the file"
        for name in ("activation", "recurrent_activation"):
            if values.get(name) != first.get(name):
                return f"{name}={values.get(name)!r} in one direction only"
        if values.get("reset_after") != first.get("reset_after"):
            return "reset_after of the two directions differ"
    return "" if layer.merge in MERGES else f"merge_mode={brief(layer.merge)}"
