"""Calls that mean well: each error names the argument, what it was, and what was expected."""

import sys

import numpy as np
import pytest

import packseq
from packseq import (
    GRU,
    LSTM,
    PackedSequence,
    batches,
    compare,
    cross_entropy,
    embedding,
    linear,
    load,
    pack_sequence,
    pad_packed_sequence,
    run,
    save,
    savings,
    unpack_sequence,
    weights,
)

X, Y = np.ones((4, 3), np.float32), np.ones((2, 3), np.float32)
PACKED = pack_sequence([X, Y])
BATCH = np.ones((4, 2, 3), np.float32)
WEIGHT = np.ones((5, 3), np.float32)
IDS = pack_sequence([np.array([0, 2]), np.array([1])])
LSTM_, GRU_ = LSTM(3, 5, rng=0), GRU(3, 5, rng=0)
RESULT = LSTM_(PACKED)


def says(error, message):
    return pytest.raises(error, match=message)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        # Sequences where one array is wanted, and one where there should be several.
        (lambda: linear([X, Y], WEIGHT), TypeError, r"input\[0\] is a ndarray.*pack_sequence"),
        (lambda: linear([X], WEIGHT), TypeError, r"input must be one array .* got a list"),
        (lambda: linear((X, X), WEIGHT), TypeError, r"input must be one array .* got a tuple"),
        (lambda: LSTM_([X, Y]), TypeError, r"input\[0\] is a ndarray.*pack_sequence"),
        (lambda: pack_sequence({"a": X}), TypeError, "sequences must be a list .* got dict"),
        (lambda: pack_sequence("ab"), TypeError, "sequences must be a list .* got str"),
        (lambda: pack_sequence([X, None]), TypeError, r"sequences\[1\] must be .* got None"),
        (lambda: pack_sequence(X, Y), TypeError, r"enforce_sorted .* ndarray of shape \(2, 3\)"),
        (lambda: compare(LSTM_, LSTM_, PACKED), TypeError, "sequences .* unpack_sequence"),
        # What is no array at all.
        (lambda: LSTM_(None), TypeError, "input must be an array, got None"),
        (lambda: linear(None, WEIGHT), TypeError, "input must be an array, got None"),
        (lambda: linear(iter([X]), WEIGHT), TypeError, "input must be an array, got <list_iter"),
        (lambda: PACKED.map("tanh"), TypeError, "function must be callable, got 'tanh'"),
        # Sequences where their lengths are wanted.
        (lambda: savings([X, Y]), TypeError, r"lengths\[0\], a ndarray of shape \(4, 3\)"),
        (lambda: batches([X, X], max_steps=9), TypeError, r"lengths\[0\], a ndarray of shape"),
        # A module's result, of which the first is packed.
        (lambda: pad_packed_sequence(RESULT), TypeError, r"got tuple: .* \(output, state\)"),
        (lambda: unpack_sequence(RESULT), TypeError, r"got tuple: .* \(output, state\)"),
        (lambda: cross_entropy(RESULT, IDS), TypeError, r"logits .* \(output, state\)"),
        # Lengths, another module's state, or another batch's, in the place of a first state.
        (lambda: LSTM_(BATCH, [4, 2]), TypeError, r"hx .* got integers, \[4, 2\]: .*lengths="),
        (lambda: GRU_(BATCH, np.array([4, 2])), TypeError, r"hx .* integers, .*lengths="),
        (lambda: GRU_(PACKED, RESULT[1]), TypeError, r"hx must be one array.*only an LSTM"),
        (lambda: LSTM_(PACKED, RESULT[1][0]), TypeError, r"hx must be a pair \(h, c\)"),
        (
            lambda: LSTM_(pack_sequence([X] * 3), RESULT[1]),
            ValueError,
            r"h_0 must have shape \(1, 3, 5\), got \(1, 2, 5\)",
        ),
        # Arguments in the other order.
        (lambda: linear(WEIGHT, PACKED), TypeError, "weight must be an array, got Packed"),
        (lambda: embedding(IDS, WEIGHT), TypeError, "table must be an array, got Packed"),
        (lambda: save("x.safetensors", LSTM_), TypeError, r"path must be a path, got LSTM\(3, 5\)"),
        (lambda: PackedSequence(X, [4, 2]), ValueError, "batch_sizes sum to 6, but data has 4"),
        (lambda: weights.Backward("x.pt"), TypeError, "module must be an LSTM, .* got 'x.pt'"),
        # Shapes that do not go together.
        (lambda: PACKED + np.ones(2), ValueError, r"np\.add: .*\(6,3\) \(2,\)"),
        (lambda: PACKED @ np.ones((5, 2)), ValueError, r"rows of shape \(3,\) .* \(5, 2\)"),
        (lambda: LSTM_(pack_sequence([X[:, 0]])), ValueError, r"\(N, 3\), got \(4,\)"),
        # Prefixes that are none.
        (
            lambda: LSTM.from_state_dict(LSTM_.state_dict(), prefix="encoder."),
            ValueError,
            "under prefix 'encoder.'; there are such under ''",
        ),
    ],
)
def test_arguments(call, error, message):
    with says(error, message):
        call()


@pytest.mark.parametrize(
    "call",
    [load, weights.find, weights.read, weights.split, lambda model: weights.convert(model, "x")],
)
@pytest.mark.parametrize("model", [None, 3, LSTM_])
def test_what_is_no_path(call, model):
    with says(TypeError, r"(path|source) must be a path, got (None|3|LSTM\(3, 5\))"):
        call(model)


def test_an_empty_file(tmp_path):
    (tmp_path / "model.pt").touch()
    with says(weights.CheckpointError, r"model\.pt: is empty"):
        load(tmp_path / "model.pt")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".onnx", ".npz", ".keras", ".h5"])
def test_weights_are_not_written_under_another_formats_name(tmp_path, suffix):
    """Its readers would not read it."""
    save(LSTM_, tmp_path / "model.safetensors")
    path = tmp_path / f"model{suffix}"
    message = f"model{suffix} is not the name of what is written, which is .safetensors"
    with says(ValueError, f"path .*{message}"):
        save(LSTM_, path)
    with says(ValueError, f"target .*{message}"):
        weights.convert(tmp_path / "model.safetensors", path)
    assert not path.exists()


def test_a_name_without_a_suffix_may_be_given_to_any(tmp_path):
    save(LSTM_, tmp_path / "model")
    assert repr(load(tmp_path / "model")) == repr(LSTM_)


@pytest.mark.parametrize("sink", ["out.csv", "out.json", "OUT.CSV", "out.npz"])
def test_tables_are_not_written_under_another_formats_name(tmp_path, sink):
    with says(ValueError, f"sink .*{sink} is not the name of what is written"):
        run(LSTM_, tables_of(tmp_path), tmp_path / sink, "frames")
    assert not (tmp_path / sink).exists()


def test_files_that_are_no_tables(tmp_path):
    pytest.importorskip("pyarrow", reason="reads tables")
    (tmp_path / "notes.txt").write_text("not a table\n")
    with says(ValueError, r"notes\.txt: is neither Parquet nor Arrow IPC"):
        run(LSTM_, tmp_path / "notes.txt", tmp_path / "out.parquet", "frames")


@pytest.mark.parametrize("source", [None, 3, {"frames": [1]}])
def test_sources_that_are_no_paths(tmp_path, source):
    with says(TypeError, f"source must be a path or a list of paths, got {type(source).__name__}"):
        run(LSTM_, source, tmp_path / "out.parquet", "frames")


def tables_of(folder):
    pa = pytest.importorskip("pyarrow", reason="writes the table")
    parquet = pytest.importorskip("pyarrow.parquet", reason="writes the table")
    parquet.write_table(pa.table({"frames": [X.tolist(), Y.tolist()]}), folder / "in.parquet")
    return folder / "in.parquet"


@pytest.mark.parametrize("name", ["weights", "torch"])
def test_dir_of_a_part_has_what_is_public_alone(name):
    if name == "torch":
        pytest.importorskip("torch", reason="packseq.torch needs it")
    assert dir(getattr(packseq, name)) == sorted(sys.modules[f"packseq.{name}"].__all__)


def test_torchs_packed_batches_are_told_from_packseqs():
    """Both classes have the same name."""
    torch = pytest.importorskip("torch", reason="makes the batch")
    theirs = torch.nn.utils.rnn.pack_sequence([torch.ones(3, 3)])
    for call in (unpack_sequence, packseq.torch.to_torch, LSTM_):
        with says(TypeError, "got torch's PackedSequence: packseq.torch.from_torch makes it"):
            call(theirs)
