"""Pickles that are not torch's: of arrays, from Python 2, of objects of other people's classes."""

import pickle

import numpy as np
import pytest
from checkpoints import gru_arrays, python_2

import packseq
from packseq import weights
from packseq.cli import main


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", [dict, list])
def test_a_pickle_of_arrays_is_read_by_any_protocol(tmp_path, kind, protocol):
    """Protocols 0 and 1 begin without a protocol, and were none of the known formats."""
    arrays = gru_arrays()
    content = arrays if kind is dict else [{"epoch": 3}, arrays]
    (tmp_path / "file").write_bytes(pickle.dumps(content, protocol))

    found = weights.find(tmp_path / "file")

    assert [one.prefix for one in found] == ["rnn." if kind is dict else "1.rnn."]
    read = weights.read(tmp_path / "file")
    for array, own in zip(arrays.values(), read.values(), strict=True):
        np.testing.assert_array_equal(own, array)


def test_a_pickle_of_python_2_is_read(tmp_path):
    """The bytes of an array are a text there, and pickletools takes it for ASCII."""
    arrays = gru_arrays()
    every_byte = np.arange(256, dtype=np.uint8)
    (tmp_path / "file").write_bytes(python_2({**arrays, "bytes": every_byte}))

    assert pickle.loads(python_2(arrays), encoding="latin-1").keys() == arrays.keys()
    read = weights.read(tmp_path / "file")
    for name, array in {**arrays, "bytes": every_byte}.items():
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("content", [
    b"(dp1\nS'a",
    b"(dp1\nS'a\\x",
    b"(dp1\nS'a\\xg0'\np2\n.",
    b"(dp1\nS'a\\ '\np2\nI1\ns.",
    b"(dp1\nV\\ud800\np2\nI1\ns.",
    b"(dp1\nIx\n.",
    b"cos\nsystem\n(S'echo'\ntR",
    b"}q",
    b"}q\xff.",
])  # fmt: skip
def test_a_broken_pickle_of_python_2_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(weights.CheckpointError):
        packseq.load(tmp_path / "file")


# ---- classes of other people's -------------------------------------------------------------


class LSTMLayer:
    """Computes who knows what."""

    def __init__(self):
        self.gates = {"w": np.ones((3, 8), np.float32), "u": np.ones((2, 8), np.float32)}


class LSTMSettings:
    def __init__(self):
        self.units = 4


class RNNTrainer:
    """Is named like a layer and only holds one."""

    def __init__(self, layer):
        self.settings, self.layer = LSTMSettings(), layer


def test_a_layer_that_only_its_class_tells_is_listed(tmp_path, capsys):
    """The file was said to hold no LSTM, GRU or RNN."""
    (tmp_path / "file").write_bytes(pickle.dumps({"layers": [LSTMLayer(), LSTMSettings()]}))

    (found,) = weights.find(tmp_path / "file")

    assert found.prefix == "layers.0."
    assert "LSTMLayer', whose names and meaning are not known here" in str(found)
    with pytest.raises(weights.CheckpointError, match="LSTMLayer"):
        packseq.load(tmp_path / "file")
    assert main(["inspect", str(tmp_path / "file")]) == 0
    assert "layers.0.gates.w (3, 8)" in capsys.readouterr().out


def test_what_holds_a_layer_is_not_listed_beside_it(tmp_path):
    for layer, prefix in ((gru_arrays("a."), "layer.a."), (LSTMLayer(), "layer.")):
        (tmp_path / "file").write_bytes(pickle.dumps(RNNTrainer(layer)))

        assert [found.prefix for found in weights.find(tmp_path / "file")] == [prefix]
