"""Keras's layers, out of the model that Keras loads or made of a file's config and arrays."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from packseq import weights

from .original import NotAtHandError, Original, inputs_for

ENDS = ("kernel:0", "recurrent_kernel:0", "bias:0")


def of_keras(path: Path, found: weights.Found) -> Original:
    """Keras's own layers out of the model that Keras loads."""
    keras = keras_on_torch()
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # of any kind, where a file is of another version
        raise NotAtHandError(f"Keras {keras.__version__}: {error!s:.80}") from error
    names = [layer.name for layer in model.layers]
    start = names.index(found.prefix.rstrip("."))
    recurrent = (keras.layers.RNN, keras.layers.Bidirectional)
    layers = [layer for layer in model.layers[start:] if isinstance(layer, recurrent)]
    return of_layers(layers[: found.num_layers], found)


def keras_on_torch() -> Any:
    """Keras with the one backend that is installed."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    keras.saving.register_keras_serializable()(old_hard_sigmoid)
    return keras


def old_hard_sigmoid(x: Any) -> Any:
    """Keras's before version 3."""
    import keras

    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def of_layers(layers: list[Any], found: weights.Found) -> Original:
    """Layers of Keras's, one after the other."""
    import torch

    def run(x: np.ndarray) -> np.ndarray:
        y = torch.from_numpy(x)
        with torch.inference_mode():
            for layer in layers:
                y = layer(y, training=False)
        return y.numpy()

    return Original("Keras", run, inputs_for(found))


def of_h5(path: Path, found: weights.Found, said: dict[str, str]) -> Original:
    """Keras's own layer by the config in the file, or by what is `said`, with the file's arrays."""
    import h5py

    name = found.prefix.rstrip(".").rpartition(".")[2]
    with h5py.File(path) as file:
        group = file.get("model_weights", file)[name]
        names: list[str] = []
        group.visit(names.append)
        arrays = {key: item[()] for key in names if hasattr(item := group[key], "shape")}
        config = json.loads(file.attrs["model_config"]) if "model_config" in file.attrs else {}
    ordered = [
        array
        for way in (("forward", "backward") if found.bidirectional else ("",))
        for end in ENDS
        for key, array in arrays.items()
        if way in key and key.rpartition("/")[2] == end
    ]
    if ordered[-1].shape[-1] == 2 * ordered[0].shape[-1]:
        raise NotAtHandError("weights of CuDNN, which Keras takes on a GPU only")
    layer = layer_of(settings_in(config, name) or plain_settings(found, said), found)
    layer.build((None, None, found.input_size))
    layer.set_weights(ordered)
    return of_layers([layer], found)


def settings_in(config: Any, name: str) -> dict[str, Any] | None:
    """The layer of that name, wherever it stands in a config."""
    if isinstance(config, dict):
        if config.get("class_name") and config.get("config", {}).get("name") == name:
            return config
        config = list(config.values())
    found = (settings_in(part, name) for part in config) if isinstance(config, list) else ()
    return next(filter(None, found), None)


def plain_settings(found: weights.Found, said: dict[str, str]) -> dict[str, Any]:
    """The config of a layer whose file has none."""
    inner = {"class_name": found.kind, "config": {"go_backwards": False, **said}}
    if not found.bidirectional:
        return inner
    return {"class_name": "Bidirectional", "config": {"layer": inner, "merge_mode": "concat"}}


def layer_of(described: dict[str, Any], found: weights.Found) -> Any:
    """The layer of a config of Keras 2, in Keras 3."""
    keras = keras_on_torch()
    config, kind = described["config"], described["class_name"]
    if kind == "Bidirectional":
        inner = layer_of(config["layer"], found)
        return keras.layers.Bidirectional(inner, merge_mode=config["merge_mode"])
    gates = config["recurrent_activation"]
    options = {"recurrent_activation": old_hard_sigmoid if "hard" in gates else gates}
    options |= {"reset_after": config.get("reset_after", False)} if kind == "GRU" else {}
    return getattr(keras.layers, kind)(
        found.hidden_size,
        go_backwards=config["go_backwards"],
        return_sequences=True,
        **options,
    )
