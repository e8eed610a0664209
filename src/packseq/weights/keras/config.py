"""What a Keras model's config says of its recurrent layers: their settings, and what feeds them.

Source: keras.src.models.functional and .sequential (``get_config``), and saving_lib for the names
of groups.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from packseq.networks.architecture import SIGMOID

from ..errors import CheckpointError

# The classes that are read, with the names of their groups in .weights.h5.
RECURRENT = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn"}
CONTAINERS = {"Sequential": "sequential", "Functional": "functional", "Model": "functional"}
GROUPS = RECURRENT | CONTAINERS | {"Bidirectional": "bidirectional"}
KIND = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}

# Layers that change nothing at inference: what they are fed is what they give.
TRANSPARENT = {"Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout"}

# Deeper than any model nests, and well within Python's recursion.
MAX_DEPTH = 32


@dataclass(frozen=True)
class Layer:
    """A recurrent layer: where its arrays are, what its config says, and what it is fed by."""

    key: str
    prefix: str
    config: dict[str, Any] | None = None
    bidirectional: bool = False
    source: "Layer | None" = None  # set only where it feeds this layer alone
    unknown: str = ""  # why it cannot run, where its arrays are all that there is of it


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


def recurrent_activation_of(settings: dict[str, Any], keras: int | None) -> str | None:
    """Our name for what the gates of a layer go through; None where packseq lacks it.

    Keras 3 gave "hard_sigmoid" another slope, so that the name means what the version makes of it.
    """
    name = settings.get("recurrent_activation")
    if name == "hard_sigmoid" and keras is not None:
        return "hard_sigmoid" if keras >= 3 else "hard_sigmoid_0.2"
    return SIGMOID if name == SIGMOID else None


def unsupported(layer: Layer, kind: str, settings: list[dict[str, Any]], keras: int | None) -> str:
    """The first setting that packseq cannot run, by name and value; "" if it can run all."""
    expected: dict[str, tuple[Any, ...]] = {
        "activation": ("tanh", "relu") if kind == "RNN" else ("tanh",),
        "recurrent_activation": (None,) if kind == "RNN" else (SIGMOID, "hard_sigmoid"),
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
        if values.get("recurrent_activation") == "hard_sigmoid" and keras is None:
            return "recurrent_activation='hard_sigmoid' of a Keras whose version is not in the file"
        for name in ("activation", "recurrent_activation"):
            if values.get(name) != settings[0].get(name):
                return f"{name}={values.get(name)!r} in one direction only"
        if values.get("reset_after") != settings[0].get("reset_after"):
            return "reset_after of the two directions differ"
    merge = layer.config["config"].get("merge_mode") if layer.config else None
    return f"merge_mode={merge!r}" if layer.bidirectional and merge != "concat" else ""
