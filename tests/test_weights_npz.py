"""NumPy's .npz: what stands beside the weights, and what packs a thousandfold."""

import zipfile

import numpy as np
import pytest
from checkpoints import gru_arrays, write, zip_bytes

import packseq
from packseq import weights
from packseq.weights import limits

BESIDE = {
    "objects": (np.array([{"a": 1}, None], object), "holds Python objects (a pickle), which are"),
    "text": (np.array("words"), "has dtype '<U5', which is not a number's"),
    "bytes": (np.array([b"a", b"bc"]), "has dtype '|S2', which is not a number's"),
    "records": (np.zeros(2, [("a", "f4"), ("ß", "i8")]), "which is not a number's"),
    "days": (np.array(["2020-01-01"], "M8[D]"), "has dtype 'datetime64[D]', which is not a"),
    "opaque": (np.zeros(3, "V2"), "has dtype '|V2', which is not a number's"),
}


def test_what_is_no_number_hides_no_weights(tmp_path):
    path = tmp_path / "file.npz"
    np.savez(path, **{name: array for name, (array, _) in BESIDE.items()}, **gru_arrays())

    assert repr(packseq.load(path)) == "GRU(3, 4)"
    assert weights.read(path).keys() == gru_arrays().keys()
    unread = weights.unreadable(path)
    assert unread.keys() == BESIDE.keys()
    for name, (_, reason) in BESIDE.items():
        assert reason in unread[name]


def test_only_a_module_that_needs_it_is_refused(tmp_path):
    arrays = gru_arrays("good.") | gru_arrays("bad.")
    arrays["bad.bias_hh_l0"] = arrays["bad.bias_hh_l0"].astype(object)
    np.savez(tmp_path / "file.npz", **arrays)

    assert repr(packseq.load(tmp_path / "file.npz", "good")) == "GRU(3, 4)"
    with pytest.raises(weights.CheckpointError, match=r"bad.bias_hh_l0 cannot be read: holds Py"):
        packseq.load(tmp_path / "file.npz", "bad")


class Mark:
    """An object whose unpickling leaves a mark."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_no_object_is_ever_unpickled(tmp_path):
    mark = tmp_path / "mark"
    np.savez(tmp_path / "file.npz", a=np.array([Mark(str(mark))], object), **gru_arrays())
    packseq.load(tmp_path / "file.npz")
    assert not mark.exists()


def test_other_files_in_the_archive_are_passed_over(tmp_path):
    np.savez(tmp_path / "file.npz", **gru_arrays())
    with zipfile.ZipFile(tmp_path / "file.npz", "a") as archive:
        archive.writestr("README.txt", "weights")
    assert repr(packseq.load(tmp_path / "file.npz")) == "GRU(3, 4)"
    assert weights.unreadable(tmp_path / "file.npz") == {"README.txt": "is no .npy"}


# ---- zeros, which pack a thousandfold ----


@pytest.mark.parametrize("module", [
    packseq.LSTM(300, 512, num_layers=2, bidirectional=True),
    packseq.GRU(80, 256),
], ids=repr)  # fmt: skip
def test_a_model_that_nobody_trained_is_read(tmp_path, module):
    path = tmp_path / "file.npz"
    zeros = {name: np.zeros_like(array) for name, array in module.state_dict().items()}
    zeros["table"] = np.zeros((10_000, 300), np.float32)
    np.savez_compressed(path, **zeros)
    expanded = sum(array.nbytes for array in zeros.values())
    assert path.stat().st_size < expanded / 500

    assert repr(packseq.load(path)) == repr(module)
    assert weights.read(path)["table"].shape == (10_000, 300)


@pytest.mark.parametrize("first", [True, False], ids=["before the weights", "after them"])
def test_what_is_too_large_for_the_file_hides_no_weights(tmp_path, monkeypatch, first):
    monkeypatch.setattr(limits, "SLACK", 1 << 20)
    table = {"table": np.zeros((10_000, 300), np.float32)}
    path = tmp_path / "file.npz"
    np.savez_compressed(path, **(table | gru_arrays() if first else gru_arrays() | table))

    assert repr(packseq.load(path)) == "GRU(3, 4)"
    assert list(weights.read(path)) == list(gru_arrays())
    assert list(weights.unreadable(path)) == ["table"]
    assert "unpacking 'table.npy' would take 120" in weights.unreadable(path)["table"]


def test_what_is_too_large_is_never_unpacked(tmp_path, monkeypatch):
    """Its bytes are broken, and nobody notices."""
    monkeypatch.setattr(limits, "SLACK", 1 << 10)
    entries = [("table.npy", bytes(1 << 20))]
    content = zip_bytes(entries, zipfile.ZIP_DEFLATED)
    middle = content.index(b"table.npy") + 100
    path = write(tmp_path / "file.npz", content[:middle] + b"broken" + content[middle + 6 :])
    assert list(weights.unreadable(path)) == ["table"]
    monkeypatch.setattr(limits, "SLACK", 1 << 21)
    with pytest.raises(weights.CheckpointError, match=r"entry 'table.npy'"):
        weights.read(path)
