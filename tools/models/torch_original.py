"""torch's layers, with weights that torch, NumPy or safetensors read from a file.

Pickles are read with stand-ins for all classes but torch's own layers and containers: no code of a
file is run, and none of a package imported.
"""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from packseq import weights

from .original import Original, inputs_for

# What a pickle may name: makers of tensors, arrays and containers, and torch's own layers.
KNOWN = re.compile(
    r"torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|torch\.\w+Storage|torch\.(device|Size)"
    r"|torch\.nn\.modules\.(?!module\b)\w+\.[A-Z]\w+|collections\.OrderedDict"
    r"|(builtins|__builtin__)\.(set|object)|copy_?reg\._reconstructor|_codecs\.encode"
    r"|numpy\.(ndarray|dtype)|numpy\._?core\.multiarray\.(_reconstruct|scalar)"
)


class Unpickler(pickle.Unpickler):
    """Python's own, with a stand-in for every class that is not known."""

    def find_class(self, module: str, name: str) -> Any:
        """The class itself, or one that only keeps its state."""
        if KNOWN.fullmatch(f"{module}.{name}"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        return type(name, (StandIn,), {})


class StandIn:
    """An object of a class that is not imported; a module's state dict is that of its parts."""

    def __init__(self, *_: Any) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        """As of a torch module."""
        modules = vars(self)["_modules"].items()
        return {f"{name}.{key}": t for name, m in modules for key, t in m.state_dict().items()}


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by their dotted names, read without packseq."""
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    if path.suffix == ".onnx":
        import onnx

        stored = onnx.load(path).graph.initializer
        return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in stored}
    return numbers(of_torch(path))


def of_torch(path: Path) -> Any:
    """What torch reads of a file: weights alone where it can, else with stand-ins in it."""
    import torch

    if is_script(path):
        return torch.jit.load(path, map_location="cpu")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError):
        pass
    if zipfile.is_zipfile(path):
        with_stand_ins = type("module", (), {"Unpickler": Unpickler, "load": pickle.load})
        return torch.load(path, "cpu", with_stand_ins, weights_only=False)
    with path.open("rb") as file:
        return Unpickler(file, encoding="latin-1").load()


def is_script(path: Path) -> bool:
    """Whether a file is a TorchScript program."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def numbers(content: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Tensors and arrays in dicts and modules as arrays, their keys joined by dots."""
    if hasattr(content, "state_dict"):
        content = content.state_dict()
    arrays = {}
    for key, value in content.items():
        if hasattr(value, "items"):
            arrays |= numbers(value, f"{prefix}{key}.")
        elif hasattr(value, "detach"):
            arrays[f"{prefix}{key}"] = value.detach().numpy()
        elif isinstance(value, np.ndarray):
            arrays[f"{prefix}{key}"] = value
    return arrays


def of_arrays(arrays: dict[str, np.ndarray], found: weights.Found) -> Original:
    """torch's own layer with these weights."""
    import torch

    options: dict[str, Any] = {"bias": found.bias}
    if not found.is_cell:
        options |= {"num_layers": found.num_layers, "bidirectional": found.bidirectional}
        options |= {"batch_first": found.attributes.batch_first}
    layer = getattr(torch.nn, found.kind)(found.input_size, found.hidden_size, **options).eval()
    own = {name: torch.from_numpy(arrays[found.prefix + name]) for name in layer.state_dict()}
    layer.load_state_dict(own)
    x = inputs_for(found)
    hx = arrays.get(f"{found.prefix}h_0")
    if hx is not None:
        hx = np.repeat(hx, x.shape[found.attributes.batch_first ^ 1], axis=1)
    first = () if hx is None else (torch.from_numpy(hx),)

    def run(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            output = layer(torch.from_numpy(x), *first)
        return (output[0] if isinstance(output, tuple) else output).numpy()

    return Original("torch", run, x, hx)
