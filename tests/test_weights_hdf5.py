"""HDF5 is read here: what h5py writes, in each of its forms, comes back to the bit."""

import numpy as np
import pytest

import packseq
from packseq import weights

h5py = pytest.importorskip("h5py", reason="writes HDF5")

FORMS = ["earliest", "v108", "v110", "latest"]
# Chunks have one index in the oldest form and others in the newer ones, which are refused by name.
OLDEST = FORMS[:2]

RNG = np.random.default_rng(0)
ARRAYS = {
    "float32": RNG.standard_normal((3, 4)).astype(np.float32),
    "float64": RNG.standard_normal(5),
    "float16": RNG.standard_normal(5).astype(np.float16),
    "big-endian": RNG.standard_normal((2, 3)).astype(">f8"),
    "big-endian integers": np.arange(-3, 3, dtype=">i4"),
    "bytes": np.arange(256, dtype=np.uint8),
    "signed bytes": np.arange(-128, 128, dtype=np.int8),
    "integers": np.array([-(2**63), 2**63 - 1]),
    "unsigned": np.array([0, 2**64 - 1], np.uint64),
    "booleans": np.array([[True, False], [False, True]]),
    "scalar": np.float32(3.5),
    "empty": np.empty((0, 4), np.float32),
    "of no elements": np.empty((2, 0)),
    "many axes": np.arange(64.0).reshape((2,) * 6),
}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_come_back(tmp_path, form):
    path = tmp_path / "file"
    with h5py.File(path, "w", libver=form) as file:
        for i, (name, array) in enumerate(ARRAYS.items()):
            file[f"group {i % 3}/{name}"] = array  # a few in a group: more lie in a heap

    arrays = weights.read(path)

    assert set(arrays) == {f"group {i % 3}/{name}" for i, name in enumerate(ARRAYS)}
    for path, array in arrays.items():
        expected = ARRAYS[path.partition("/")[2]]
        exact = expected.astype(np.float32) if expected.dtype == np.float16 else expected
        assert array.dtype == exact.dtype.newbyteorder("="), path
        np.testing.assert_array_equal(array, exact, err_msg=path, strict=False)
        assert array.shape == expected.shape
        assert array.flags.writeable, "the caller's own"


@pytest.mark.parametrize("form", FORMS)
def test_data_within_the_header(tmp_path, form):
    path, array = tmp_path / "file", np.arange(6.0).reshape(2, 3)
    with h5py.File(path, "w", libver=form) as file:
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(array.shape)
        made = h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F64LE, space, dcpl=compact)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
    np.testing.assert_array_equal(weights.read(path)["a"], array)


@pytest.mark.parametrize("form", OLDEST)
def test_chunks_of_a_tree_of_several_levels(tmp_path, form):
    path, array = tmp_path / "file", RNG.standard_normal((61, 53))
    with h5py.File(path, "w", libver=form) as file:
        file.create_dataset("a", data=array, chunks=(2, 3), compression="gzip", shuffle=True)
        assert file["a"].id.get_num_chunks() == 31 * 18
    np.testing.assert_array_equal(weights.read(path)["a"], array)


def test_a_group_of_many(tmp_path):
    """A tree of several levels, whose names h5py gives in their order."""
    path = tmp_path / "file"
    with h5py.File(path, "w") as file:
        for i in RNG.permutation(1000):
            file[f"group/{i}"] = np.float32(i)
    arrays = weights.read(path)
    assert list(arrays) == sorted(f"group/{i}" for i in range(1000))
    assert all(arrays[f"group/{i}"] == i for i in range(1000))


@pytest.mark.parametrize(("form", "message"), [
    ("v108", "its links in a fractal heap.*libver='earliest'"),
    ("latest", "layout 2 of version [45], which is not read"),
], ids=["links", "chunks"])  # fmt: skip
def test_newer_forms_are_refused_by_name(tmp_path, form, message):
    path = tmp_path / "file"
    with h5py.File(path, "w", libver=form) as file:
        for i in range(20 if form == "v108" else 1):
            file.create_dataset(str(i), data=np.arange(6), chunks=(2,))
    with pytest.raises(weights.CheckpointError, match=message):
        packseq.load(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", ["a", "a longer text, in a heap", "\u00e9\u4e16", ""])
def test_the_text_of_a_model(tmp_path, form, text):
    """A layer's name is text of an attribute and of a path."""
    name = f"layer{text}"
    path = tmp_path / "file"
    shapes = {"kernel": (3, 12), "recurrent_kernel": (4, 12), "bias": (2, 12)}
    with h5py.File(path, "w", libver=form) as file:
        file.attrs["layer_names"] = [name]
        file.create_group(name).attrs["weight_names"] = [f"cell/{one}" for one in shapes]
        for one, shape in shapes.items():
            file[f"{name}/cell/{one}"] = np.ones(shape, np.float32)
    (found,) = weights.find(path)
    assert found.prefix == f"{name}."
