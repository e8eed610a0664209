"""Small valid files of every format, and what reading a changed one may end in."""

import argparse
import io
import json
import pickle
import struct

import numpy as np
import pytest
from checkpoints import (
    gru_arrays,
    npy_bytes,
    op_dict,
    op_global,
    op_int,
    op_quantised,
    op_str,
    op_tensor,
    pickled,
    python_2,
    safetensors_bytes,
    torch_bytes,
    torch_file_of,
    zip_bytes,
)
from reference import run
from strategies import assert_close

from packseq import weights
from packseq.weights.torch import legacy


def npz_file():
    return zip_bytes([(f"{name}.npy", npy_bytes(array)) for name, array in gru_arrays().items()])


def safetensors_file():
    header, data = {}, b""
    for name, array in gru_arrays().items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    return safetensors_bytes(header, data)


def onnx_file():
    onnx = pytest.importorskip("onnx", reason="writes and reads ONNX models")
    shapes = {"W": (1, 12, 3), "R": (1, 12, 4), "B": (1, 24), "h": (1, 1, 4)}
    tensors = [
        onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
        for name, shape in shapes.items()
    ]
    node = onnx.helper.make_node(
        "GRU", ["X", "W", "R", "B", "", "h"], ["Y"], name="n", hidden_size=4, linear_before_reset=1
    )
    graph = onnx.helper.make_graph([node], "graph", [], [], tensors)
    return onnx.helper.make_model(graph).SerializeToString()


def onnx_graph_file():
    """A GRU in a body, whose weights are dequantised, cut and joined, and whose state is made."""
    onnx = pytest.importorskip("onnx", reason="writes and reads ONNX models")
    helper = onnx.helper
    stored = {
        "q": np.ones((1, 12, 4), np.int8),
        "s": np.array(0.1, np.float32),
        "z": np.array(1, np.int8),
        "sizes": np.array([1, 2, 4]),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"]),
        helper.make_node("Split", ["w"], ["a", "b"], axis=1),
        helper.make_node("Concat", ["a", "b"], ["r"], axis=1),
        helper.make_node("ConstantOfShape", ["sizes"], ["zeros"]),
    ]
    gru = helper.make_node("GRU", ["X", "w", "r", "", "", "zeros"], ["Y"], name="n", hidden_size=4)
    body = helper.make_graph([gru], "body", [], [onnx.ValueInfoProto(name="Y")])
    empty = helper.make_graph([], "empty", [], [])
    nodes.append(helper.make_node("If", ["c"], ["o"], then_branch=body, else_branch=empty))
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in stored.items()]
    return helper.make_model(helper.make_graph(nodes, "graph", [], [], tensors)).SerializeToString()


def hdf5_file():
    h5py = pytest.importorskip("h5py", reason="writes and reads HDF5")
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for i, shape in enumerate([(3, 12), (4, 12), (2, 12)]):
            file[f"layers/gru/cell/vars/{i}"] = np.ones(shape, np.float32)
    return buffer.getvalue()


def packed_hdf5_file():
    """In chunks, packed in both ways, one of them of bfloat16, and a list of names in two parts."""
    h5py = pytest.importorskip("h5py", reason="writes and reads HDF5")
    folder = "gru/gru_cell"
    shapes = {"kernel": (3, 12), "recurrent_kernel": (4, 12), "bias": (2, 12)}
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["layer_names0"], file.attrs["layer_names1"] = ["gru"], ["half"]
        group = file.create_group("gru")
        group.attrs["weight_names"] = [f"{folder}/{name}" for name in shapes]
        for (name, shape), packing in zip(shapes.items(), ["gzip", "lzf", None], strict=True):
            group.create_dataset(
                f"{folder}/{name}", data=np.ones(shape, np.float32), chunks=(2, 5),
                compression=packing, shuffle=True,
            )  # fmt: skip
        half = file.create_dataset("half", data=np.ones(3, np.uint16).view("V2"))
        half.attrs["dtype"] = "bfloat16"
    return buffer.getvalue()


def legacy_hdf5_file():
    h5py = pytest.importorskip("h5py", reason="writes and reads HDF5")
    names = ["kernel", "recurrent_kernel", "bias"]
    settings_of_gru = {"name": "gru", "activation": "tanh", "recurrent_activation": "sigmoid"}
    layer = {"class_name": "GRU", "config": settings_of_gru}
    config = {"class_name": "Sequential", "config": {"name": "model", "layers": [layer]}}
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = ["gru"]
        group.create_group("gru").attrs["weight_names"] = [f"gru/{name}" for name in names]
        for name, shape in zip(names, [(3, 12), (4, 12), (2, 12)], strict=True):
            group[f"gru/gru/{name}"] = np.ones(shape, np.float32)
    return buffer.getvalue()


def old_torch_file():
    """As torch wrote before 1.6."""
    storages = {str(key): array for key, array in enumerate(gru_arrays().values())}
    items = [
        (name, op_tensor(array.shape, [step // 4 for step in array.strides], key=str(key)))
        for key, (name, array) in enumerate(gru_arrays().items())
    ]
    keys = b"](" + b"".join(op_str(key) for key in storages) + b"e"
    parts = [op_int(legacy.MAGIC_NUMBER), op_int(legacy.PROTOCOL), b"}", op_dict(items), keys]
    data = (struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    return b"".join(map(pickled, parts)) + b"".join(data)


def pickle_file():
    """Arrays, a module's parts among them, and an object of an unknown class."""
    arrays = gru_arrays()
    matrix = arrays.pop("rnn.weight_hh_l0")
    arrays |= {"rnn.weight_hh_l0_g": matrix[:, :1], "rnn.weight_hh_l0_v": matrix}
    return pickle.dumps({"x": argparse.Namespace(a={1, 2}), **arrays}, protocol=4)


def keras_file():
    """As Keras 3 writes a model: its configuration, and its weights in HDF5, in a zip file."""
    layer = {
        "module": "keras.layers",
        "class_name": "GRU",
        "config": {
            "name": "gru",
            "units": 4,
            "activation": "tanh",
            "recurrent_activation": "sigmoid",
            "reset_after": True,
        },
    }
    config = {"class_name": "Sequential", "config": {"name": "model", "layers": [layer]}}
    return zip_bytes(
        [
            ("metadata.json", b"{}"),
            ("config.json", json.dumps(config)),
            ("model.weights.h5", hdf5_file()),
        ]
    )


def quantised_file():
    """A dynamically quantised GRU's state dict: packed weights of its only cell."""
    storages = {str(key): np.ones(12 * size, np.int8).tobytes() for key, size in enumerate((3, 4))}

    def packed(state, name):
        tagged = b"(" + state + op_str(f"__torch__.torch.classes.{name}") + b"t"
        return op_global("torch.ScriptObject") + b")\x81" + tagged + b"b"

    maps = [
        packed(
            b"(" + op_quantised((12, size), str(key)) + b"Nt", "quantized.LinearPackedParamsBase"
        )
        for key, size in enumerate((3, 4))
    ]
    state = b"(" + op_str("quantized_dynamic") + b"](e" * 3 + b"](" + b"".join(maps) + b"et"
    cell = packed(state, "rnn.CellParamsBase")
    return torch_bytes(pickled(op_dict([("gru._all_weight_values.0.param", cell)])), storages)


def python_2_file():
    return python_2(gru_arrays())


def torch_file():
    return torch_file_of(gru_arrays())


FORMATS = {
    "npz": npz_file,
    "safetensors": safetensors_file,
    "onnx": onnx_file,
    "onnx graph": onnx_graph_file,
    "hdf5": hdf5_file,
    "legacy hdf5": legacy_hdf5_file,
    "packed hdf5": packed_hdf5_file,
    "keras": keras_file,
    "torch": torch_file,
    "old torch": old_torch_file,
    "pickle": pickle_file,
    "python 2": python_2_file,
    "quantised": quantised_file,
}


def check_file(path):
    """Every module in a file is read and runs as its weights say, or a CheckpointError tells why.

    Returns how many modules were found.
    """
    try:
        found = weights.find(path)
        for one in found:
            str(one)
            asked = "recurrent_activation" in one.attributes.unsaid
            told = {"recurrent_activation": "sigmoid"} if asked else {}
            module, _ = weights.load_with_state(path, one.prefix, **told)
            check_small_module(module)
    except weights.CheckpointError as error:
        assert str(path) in str(error)
        return 0
    return len(found)


def check_small_module(module):
    """It gives what the reference gives with its weights, if it is one of those that were written.

    A change may have made another of it, which tests of that format judge.
    """
    if type(module).__name__ != "GRU" or module.input_size != 3 or module.bidirectional:
        return
    stored = module.state_dict()
    if not all(np.abs(array).max(initial=0) < 10 for array in stored.values()):
        return  # NaN, infinity or saturation, where rounding has no bound
    x = np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3)
    kind = "GRU" if module.reset_after else "GRU_RESET_BEFORE"
    (expected,), _ = run(kind, stored, [x], None, module.recurrent_activation)
    assert_close(module(x)[0].astype(np.float32), expected)
