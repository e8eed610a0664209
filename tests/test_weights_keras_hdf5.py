"""What the HDF5 of Keras's files may be: packed, cut into parts, of half precision."""

import io
import zipfile

import numpy as np
import pytest
from checkpoints import inputs
from keras_models import (
    HIDDEN,
    INPUT,
    STEPS,
    SUFFIXES,
    L,
    assert_loads_as_keras_runs_it,
    assert_same,
    h5py,
    keras,
    result_of,
    save,
    sequence_of,
)

import packseq
from packseq import weights

pytestmark = pytest.mark.filterwarnings(r"ignore:::(keras|torch)\.")


def packed(path, chunk=None, **options):
    """The same file with every dataset in chunks, each of `chunk` elements along every axis."""
    target = path.with_name("packed")

    def copy(name, member):
        if isinstance(member, h5py.Group):
            copied = new.require_group(name)
        else:
            chunks = (chunk,) * member.ndim if chunk else True
            copied = new.create_dataset(name, data=member[()], chunks=chunks, **options)
        for key, value in member.attrs.items():
            copied.attrs[key] = value

    with h5py.File(path) as old, h5py.File(target, "w") as new:
        for key, value in old.attrs.items():
            new.attrs[key] = value
        old.visititems(copy)
    return target


@pytest.mark.parametrize("chunk", [None, 2, 3])
@pytest.mark.parametrize("options", [
    {},
    {"compression": "gzip"},
    {"compression": "lzf"},
    {"compression": "gzip", "shuffle": True},
    {"compression": "lzf", "shuffle": True},
    {"shuffle": True},
], ids=str)  # fmt: skip
def test_packed_data(tmp_path, options, chunk):
    """It was refused, and cost the whole file."""
    model = sequence_of(L.LSTM(HIDDEN, return_sequences=True))
    path = save(model, tmp_path / "model.h5")
    assert_loads_as_keras_runs_it(model, packed(path, chunk, **options))


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"compression": "lzf"}], ids=str)
def test_packed_data_are_what_h5py_reads(tmp_path, options):
    """Repeats of all lengths, bytes that do not repeat, and both mixed."""
    rng = np.random.default_rng(1)
    stored = {
        "zeros": np.zeros(3000, np.float32),
        "ramp": np.arange(5000) // 7,
        "noise": rng.standard_normal((70, 30)),
        "few": rng.integers(0, 3, 9000).astype(np.int16),
        "big-endian": rng.standard_normal(100).astype(">f4"),
        "scalar": np.float32(3),
    }
    with h5py.File(tmp_path / "file", "w") as file:
        for name, array in stored.items():
            file.create_dataset(name, data=array, **(options if np.ndim(array) else {}))
    arrays = weights.read(tmp_path / "file")
    for name, array in stored.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_what_is_packed_otherwise_hides_nothing(tmp_path):
    path = save(sequence_of(L.LSTM(HIDDEN)), tmp_path / "model.h5")
    with h5py.File(path, "a") as file:
        file.create_dataset("odd", data=np.arange(64), chunks=(64,), scaleoffset=0)
        file["text"] = "text"

    packseq.load(path)

    unread = weights.unreadable(path)
    assert "packed by filter 6" in unread["odd"]
    assert "not a number's" in unread["text"]


@pytest.mark.parametrize("name", ["layer_names", "weight_names"])
def test_names_that_keras_cut_into_parts(tmp_path, name):
    """An attribute of HDF5 ends at 64 KiB: Keras writes layer_names0, layer_names1 and so on."""
    model = sequence_of(L.GRU(HIDDEN, return_sequences=True), L.Dense(2, use_bias=False))
    x = inputs(2, STEPS, INPUT)
    path = save(model, tmp_path / "model.h5")
    with h5py.File(path, "a") as file:
        for group in (file["model_weights"], *file["model_weights"].values()):
            for i, part in enumerate(group.attrs.pop(name, [])):
                group.attrs[f"{name}{i}"] = [part]

    output = packseq.load(path)(x)[0]

    assert_same(output @ model.layers[-1].kernel.numpy(), result_of(model, x))


def test_keras_itself_cuts_names_into_parts(tmp_path):
    """The layers were looked for in the other format's places, and nothing was found."""
    names = [f"{'n' * 1000}{i}" for i in range(70)]
    layers = [L.SimpleRNN(1, return_sequences=True, name=name) for name in names]
    path = save(keras.Sequential([keras.Input((None, 1)), *layers]), tmp_path / "model.h5")
    with h5py.File(path) as file:
        assert "layer_names1" in file["model_weights"].attrs
    assert packseq.load(path).num_layers == 70


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_widened(tmp_path, dtype, suffix):
    """bfloat16 is two opaque bytes to HDF5, and was refused."""
    exact = sequence_of(L.GRU(HIDDEN, return_sequences=True))
    # No initializer of torch's has a QR decomposition in half precision.
    plain = {"recurrent_initializer": "zeros", "kernel_initializer": "zeros"}
    half = sequence_of(L.GRU(HIDDEN, return_sequences=True, dtype=dtype, **plain))
    for variable, value in zip(half.weights, exact.weights, strict=True):
        variable.assign(value)
    for variable, value in zip(exact.weights, half.weights, strict=True):
        variable.assign(keras.ops.cast(value, "float32"))
    path = save(half, tmp_path / f"model{suffix}")
    with hdf5_of(path) as file:
        assert {2} == {one.dtype.itemsize for one in datasets_of(file)}

    said = {"recurrent_activation": "sigmoid"} if suffix == ".weights.h5" else {}
    assert_loads_as_keras_runs_it(exact, path, **said)


def test_two_opaque_bytes_that_nobody_says_anything_of_are_refused(tmp_path):
    """An .h5 of weights alone says nothing of them, and they may be anything."""
    plain = {"recurrent_initializer": "zeros", "kernel_initializer": "zeros"}
    path = save(sequence_of(L.GRU(HIDDEN, dtype="bfloat16", **plain)), tmp_path / "model.h5")
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
    with pytest.raises(weights.CheckpointError, match="opaque of 2 bytes is not a number's"):
        packseq.load(path, recurrent_activation="sigmoid")


def datasets_of(file):
    """Every dataset in an HDF5 file."""
    members = []
    file.visititems(lambda _, member: members.append(member))
    return [member for member in members if isinstance(member, h5py.Dataset)]


def hdf5_of(path):
    """The HDF5 in a file of either kind."""
    if not zipfile.is_zipfile(path):
        return h5py.File(path)
    with zipfile.ZipFile(path) as archive:
        return h5py.File(io.BytesIO(archive.read("model.weights.h5")))
