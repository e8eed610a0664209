"""The packseq command: what it prints and writes, and what it says where it cannot."""

import argparse
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from checkpoints import gru_arrays, inputs, safetensors_file_of, torch_file_of, write

import packseq
from packseq import cli, weights

LENGTHS = [5, 0, 2, 7]


@pytest.fixture
def checkpoint(tmp_path):
    return write(tmp_path / "model.pt", torch_file_of(gru_arrays()))


@pytest.fixture
def sequences():
    return [inputs(1, length, 3, seed)[0] for seed, length in enumerate(LENGTHS)]


@pytest.fixture
def ragged(tmp_path, sequences):
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    np.savez(tmp_path / "x.npz", values=np.concatenate(sequences), offsets=offsets)
    return tmp_path / "x.npz"


def expected_outputs(sequences):
    module = packseq.GRU.from_state_dict(gru_arrays(), "rnn.")
    output, state = module(packseq.pack_sequence(sequences))
    return packseq.unpack_sequence(output), state


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_no_command_shows_the_configuration(capsys):
    assert run() == 0
    assert packseq.__version__ in capsys.readouterr().out


def test_inspect_lists_modules_and_arrays(checkpoint, capsys):
    assert run("inspect", checkpoint) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "'rnn.': GRU(3, 4), float32"
    assert "  rnn.weight_ih_l0 (12, 3) float32" in lines


def test_inspect_lists_what_is_not_read(tmp_path, capsys):
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps({"x": argparse.Namespace(), "y": np.zeros(2)}))
    assert run("inspect", path) == 1
    assert capsys.readouterr().out.splitlines() == [
        "no recurrent modules",
        "  y (2,) float64",
        "  'x' would be made by 'argparse.Namespace', which is not known here",
    ]


@pytest.fixture
def trained(tmp_path):
    """A file with an optimizer's state, and with what is not read."""
    state = {i: {"exp_avg": array} for i, array in enumerate(gru_arrays().values())}
    optimizer = {"state": state, "param_groups": [{"lr": 0.1, "params": [0, 1, 2, 3]}]}
    content = {"model": gru_arrays(), "optimizer": optimizer, "options": argparse.Namespace()}
    return write(tmp_path / "trained", pickle.dumps(content))


UNKNOWN = "would be made by 'argparse.Namespace', which is not known here"


def test_inspect_leaves_out_the_optimizers_state_unless_asked(trained, capsys):
    assert run("inspect", trained) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        f"  'options' {UNKNOWN}",
        "  and 4 arrays of the optimizer, which --optimizer lists",
    ]
    assert not any("exp_avg" in line for line in lines)
    assert run("inspect", trained, "--optimizer") == 0
    listed = capsys.readouterr().out.splitlines()
    assert set(lines[:-1]) < set(listed)
    assert "  optimizer.state.0.exp_avg (12, 3) float32" in listed


def test_convert_says_what_it_leaves_out(trained, tmp_path, capsys):
    assert run("convert", trained, tmp_path / "out.safetensors") == 0
    assert capsys.readouterr().err.splitlines() == [
        f"packseq: left out 'options': {UNKNOWN}",
        "packseq: left out 4 arrays of the optimizer, which --optimizer writes",
    ]
    assert len(weights.read(tmp_path / "out.safetensors")) == 4
    arguments = [trained, tmp_path / "out.safetensors", "--force", "--optimizer"]
    assert run("convert", *arguments) == 0
    assert capsys.readouterr().err == f"packseq: left out 'options': {UNKNOWN}\n"
    assert len(weights.read(tmp_path / "out.safetensors")) == 8


def test_convert_writes_safetensors(checkpoint, tmp_path):
    assert run("convert", checkpoint, tmp_path / "out.safetensors") == 0
    assert weights.find(tmp_path / "out.safetensors") == weights.find(checkpoint)


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
def test_convert_to_fewer_bits(checkpoint, tmp_path, capsys, precision):
    out = tmp_path / "out.safetensors"
    assert run("convert", checkpoint, out, "--precision", precision) == 0
    assert run("inspect", out) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"'rnn.': GRU(3, 4), {precision}"
    expected = packseq.load(checkpoint).quantize(precision).state_dict()
    for name, array in packseq.load(out).state_dict().items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("output", ["nothing/out.safetensors", "."])
def test_convert_to_where_nothing_can_be_written(checkpoint, tmp_path, capsys, output):
    assert run("convert", checkpoint, tmp_path / output) == 2
    error = capsys.readouterr().err
    assert error.startswith("packseq: ")
    assert error.count("\n") == 1


def test_run_on_values_and_offsets(checkpoint, ragged, sequences, tmp_path):
    assert run("run", checkpoint, "--input", ragged, "--output", tmp_path / "y.npz") == 0

    outputs, state = expected_outputs(sequences)
    with np.load(tmp_path / "y.npz") as got:
        np.testing.assert_array_equal(got["values"], np.concatenate(outputs))
        np.testing.assert_array_equal(got["offsets"], np.load(ragged)["offsets"])
        np.testing.assert_array_equal(got["h_n"], state)


def test_run_on_a_padded_array_and_lengths(checkpoint, sequences, tmp_path):
    padded = packseq.pad_sequence(sequences, batch_first=True, padding_value=np.nan)
    np.save(tmp_path / "x.npy", padded)
    np.save(tmp_path / "lengths.npy", np.array(LENGTHS))

    arguments = ["--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy"]
    assert run("run", checkpoint, *arguments, "--lengths", tmp_path / "lengths.npy") == 0

    expected = packseq.pad_sequence(expected_outputs(sequences)[0], batch_first=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)


def test_run_on_a_padded_array_without_lengths_runs_every_step(checkpoint, tmp_path):
    x = inputs(3, 4, 3)
    np.save(tmp_path / "x.npy", x)
    arguments = ["--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy"]
    assert run("run", checkpoint, *arguments, "--prefix", "rnn") == 0

    expected = np.stack(expected_outputs(list(x))[0])
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)


def test_run_in_chunks_gives_the_same(checkpoint, ragged, sequences, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "CHUNK_ROWS", 6)
    assert run("run", checkpoint, "--input", ragged, "--output", tmp_path / "y.npz") == 0

    outputs, state = expected_outputs(sequences)
    with np.load(tmp_path / "y.npz") as got:
        # Rows of another batch may come from another matrix product: equal to rounding.
        np.testing.assert_allclose(got["values"], np.concatenate(outputs), rtol=0, atol=2e-6)
        np.testing.assert_allclose(got["h_n"], state, rtol=0, atol=2e-6)


def test_run_with_a_recurrent_activation_that_the_file_does_not_say(checkpoint, tmp_path):
    x = inputs(3, 4, 3)
    np.save(tmp_path / "x.npy", x)
    arguments = ["--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy"]
    assert run("run", checkpoint, *arguments, "--recurrent-activation", "hard_sigmoid") == 0

    module = packseq.GRU.from_state_dict(
        gru_arrays(), "rnn.", recurrent_activation="hard_sigmoid", batch_first=True
    )
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), module(x)[0])


@pytest.mark.parametrize(("option", "reset_after"), [
    ([], True), (["--reset-after"], True), (["--no-reset-after"], False)
])  # fmt: skip
def test_run_of_a_gru_that_resets_as_the_file_does_not_say(
    checkpoint, tmp_path, option, reset_after
):
    np.save(tmp_path / "x.npy", x := inputs(3, 4, 3))
    arguments = ["--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy", *option]
    assert run("run", checkpoint, *arguments) == 0

    module = packseq.GRU.from_state_dict(
        gru_arrays(), "rnn.", reset_after=reset_after, batch_first=True
    )
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), module(x)[0])


def test_run_says_what_is_doubtful_on_one_line(tmp_path, capsys):
    said = {"reset_after": False, "doubted": "it says 0"}
    path = write(tmp_path / "file", safetensors_file_of(gru_arrays(""), said))
    np.save(tmp_path / "x.npy", inputs(3, 4, 3))
    arguments = ["--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy"]
    assert run("run", path, *arguments) == 0
    assert capsys.readouterr().err == "packseq: '': it says 0\n"
    assert run("run", path, *arguments, "--force", "--reset-after") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stored", [1, len(LENGTHS)])
def test_run_starts_from_stored_states(ragged, sequences, tmp_path, stored, monkeypatch):
    monkeypatch.setattr(cli, "CHUNK_ROWS", 6)
    state = inputs(1, stored, 4, seed=9)
    path = write(tmp_path / "m.pt", torch_file_of(gru_arrays("") | {"h_0": state}))
    assert run("run", path, "--input", ragged, "--output", tmp_path / "y.npz") == 0

    module = packseq.GRU.from_state_dict(gru_arrays(""))
    hx = np.broadcast_to(state, (1, len(LENGTHS), 4))
    _, expected = module(packseq.pack_sequence(sequences), hx)
    with np.load(tmp_path / "y.npz") as got:
        np.testing.assert_allclose(got["h_n"], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("output", ["nothing/y.npz", "."])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    checkpoint, ragged, tmp_path, capsys, monkeypatch, output
):
    monkeypatch.setattr(cli, "run_batch", lambda *_: pytest.fail("ran all the same"))
    assert run("run", checkpoint, "--input", ragged, "--output", tmp_path / output) == 2
    assert capsys.readouterr().err == f"packseq: --output {tmp_path / output} cannot be written\n"


def test_run_refuses_a_cell_by_name(ragged, tmp_path, capsys):
    arrays = {name.removesuffix("_l0"): array for name, array in gru_arrays("").items()}
    path = write(tmp_path / "cell.pt", torch_file_of(arrays))
    assert run("run", path, "--input", ragged, "--output", tmp_path / "y.npz") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"packseq: {path}: holds GRUCell(3, 4), which runs one step")
    assert error.count("\n") == 1


X = np.zeros((5, 3), np.float32)
BAD_INPUTS = {
    "holds no array 'offsets'": {"values": X},
    "expected (rows, features)": {"values": X[0], "offsets": np.array([0, 3])},
    "offsets is float64": {"values": X, "offsets": np.array([0.0, 5.0])},
    "offsets must rise from 0 to the 5 rows": {"values": X, "offsets": np.array([0, 4])},
    "must rise": {"values": X, "offsets": np.array([0, 4, 2, 5])},
    "no sequence": {"values": X[:0], "offsets": np.array([0])},
    "x.npz: values must have rows of input_size = 3, got 2": {
        "values": X[:, :2],
        "offsets": np.array([0, 5]),
    },
    "x.npz: values must be float32 or float64, got int64": {
        "values": X.astype(np.int64),
        "offsets": np.array([0, 5]),
    },
}


@pytest.mark.parametrize("message", BAD_INPUTS)
def test_a_bad_input_is_one_line_on_stderr(checkpoint, tmp_path, capsys, message):
    np.savez(tmp_path / "x.npz", **BAD_INPUTS[message])
    arguments = ["--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz"]

    assert run("run", checkpoint, *arguments) == 2

    error = capsys.readouterr().err
    assert error.startswith("packseq: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "y.npz").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x93NUMPY\x01\x00"], ids=repr)
def test_an_input_that_is_no_numpy_file(checkpoint, tmp_path, capsys, content):
    path = write(tmp_path / "x", content)
    assert run("run", checkpoint, "--input", path, "--output", tmp_path / "y") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"packseq: {path}: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1" + bytes(8), "is a table; --column names its column of sequences"),
        (b"ARROW1" + bytes(8), "is a table; --column names its column of sequences"),
        (b"1.0, 2.0", "is neither .npz nor .npy, begins with b'1.0, 2'"),
    ],
)
def test_an_input_that_is_something_else(checkpoint, tmp_path, capsys, content, message):
    """NumPy takes it for a pickle, and says how to load that unsafely."""
    path = write(tmp_path / "x", content)
    assert run("run", checkpoint, "--input", path, "--output", tmp_path / "y") == 2
    assert capsys.readouterr().err == f"packseq: {path}: {message}\n"


@pytest.mark.parametrize(("lengths", "message"), [
    (np.array([4, 5]), "sequence 1 has length 5; expected 0 to 4"),
    (np.array([-1, 2]), "sequence 0 has length -1"),
    (np.array([2]), "expected 2 whole numbers"),
    (np.array([2.0, 2.0]), "expected 2 whole numbers"),
], ids=repr)  # fmt: skip
def test_bad_lengths(checkpoint, tmp_path, capsys, lengths, message):
    np.save(tmp_path / "x.npy", inputs(2, 4, 3))
    np.save(tmp_path / "lengths.npy", lengths)
    arguments = ["--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy"]
    assert run("run", checkpoint, *arguments, "--lengths", tmp_path / "lengths.npy") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("array", "message"), [
    (np.zeros((2, 3), np.float32), "x.npy: shape (2, 3); expected (sequences, steps, features)"),
    (np.array([{}], dtype=object), "x.npy: "),
    (np.zeros((2, 4, 2), np.float32), "x.npy: the array must have rows of input_size = 3, got 2"),
    (np.zeros((2, 4, 3), np.int8), "x.npy: the array must be float32 or float64, got int8"),
], ids=["two axes", "objects", "width", "dtype"])  # fmt: skip
def test_a_npy_that_is_no_padded_batch(checkpoint, tmp_path, capsys, array, message):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    arguments = ["--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy"]
    assert run("run", checkpoint, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("packseq: ")
    assert message in error


def test_several_modules_are_listed_below_the_error(ragged, tmp_path, capsys):
    arrays = gru_arrays("encoder.") | gru_arrays("decoder.")
    path = write(tmp_path / "model.pt", torch_file_of(arrays))
    assert run("run", path, "--input", ragged, "--output", tmp_path / "y.npz") == 2
    assert capsys.readouterr().err.splitlines() == [
        f"packseq: {path}: holds several modules; choose one by prefix:",
        "  'encoder.': GRU(3, 4), float32",
        "  'decoder.': GRU(3, 4), float32",
    ]


@pytest.mark.parametrize("values", [np.float64, ">f4"])
def test_run_takes_doubles_and_foreign_floats(checkpoint, ragged, tmp_path, values):
    with np.load(ragged) as stored:
        np.savez(
            tmp_path / "other.npz",
            values=stored["values"].astype(values),
            offsets=stored["offsets"],
        )
    for source, target in ((ragged, "y.npz"), (tmp_path / "other.npz", "z.npz")):
        assert run("run", checkpoint, "--input", source, "--output", tmp_path / target) == 0
    with np.load(tmp_path / "y.npz") as one, np.load(tmp_path / "z.npz") as other:
        np.testing.assert_array_equal(one["values"], other["values"])


def test_run_checks_the_width_of_a_backward_module(ragged, tmp_path, capsys):
    packseq.save(weights.Backward(packseq.GRU(2, 4)), tmp_path / "model")
    arguments = ["--input", ragged, "--output", tmp_path / "y.npz"]
    assert run("run", tmp_path / "model", *arguments) == 2
    assert "values must have rows of input_size = 2, got 3" in capsys.readouterr().err


def test_version_and_help(capsys):
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as exit:
            run(option)
        assert exit.value.code == 0
    version, help = capsys.readouterr().out.split("\n", 1)
    assert version == f"packseq {packseq.__version__}"
    assert "``" not in help


@pytest.mark.parametrize("count", [1, 3000], ids=["less than a buffer", "more than a buffer"])
def test_a_reader_that_leaves_is_no_error(tmp_path, count):
    arrays = {f"array{i}": np.zeros(1, np.float32) for i in range(count)}
    path = write(tmp_path / "model.pt", torch_file_of(arrays))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "packseq", "inspect", str(path)]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_broken_checkpoint_is_no_traceback(tmp_path):
    path = write(tmp_path / "broken", b"nothing")
    done = subprocess.run(
        [sys.executable, "-m", "packseq", "inspect", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"packseq: {path}: begins with b'nothing'")
    assert done.stderr.count("\n") == 1


class Terminal:
    """A stderr that says it is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


@pytest.mark.parametrize(("seconds", "bar"), [(0.5, ""), (2.0, f"\r[{'#' * 20:<40}]  50%\n")])
def test_a_bar_only_where_work_is_long(monkeypatch, seconds, bar):
    clock = iter([0.0, seconds])
    terminal = Terminal()
    monkeypatch.setattr(cli.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "stderr", terminal)

    with cli.progress(10) as report:
        report(5)

    assert terminal.text == bar


# ---- what is there already ---------------------------------------------------------------------


def test_convert_never_overwrites_its_input(checkpoint, tmp_path, capsys):
    before = checkpoint.read_bytes()
    link = tmp_path / "link.safetensors"
    link.symlink_to(checkpoint)
    for output in (checkpoint, link):
        assert run("convert", checkpoint, output, "--force") == 2
        assert "is an input, which would be lost" in capsys.readouterr().err
    with pytest.raises(ValueError, match="is a source, which would be lost"):
        weights.convert(checkpoint, link)
    assert checkpoint.read_bytes() == before


def test_an_existing_output_is_overwritten_by_force_only(checkpoint, tmp_path, capsys):
    output = tmp_path / "out.safetensors"
    output.write_bytes(b"precious")
    assert run("convert", checkpoint, output) == 2
    assert "exists; --force overwrites it" in capsys.readouterr().err
    assert output.read_bytes() == b"precious"
    assert run("convert", checkpoint, output, "--force") == 0
    assert weights.find(output) == weights.find(checkpoint)


@pytest.mark.parametrize("name", ["out.onnx", "out.pt", "out.npz"])
def test_convert_refuses_the_name_of_another_format(checkpoint, tmp_path, capsys, name):
    assert run("convert", checkpoint, tmp_path / name) == 2
    assert "is not the name of what is written, which is .safetensors" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_run_refuses_the_name_of_another_format(checkpoint, ragged, tmp_path, capsys):
    assert run("run", checkpoint, "--input", ragged, "--output", tmp_path / "o.npy") == 2
    assert "which is .npz" in capsys.readouterr().err
    assert run("run", checkpoint, "--input", ragged, "--output", ragged, "--force") == 2
    assert "is an input" in capsys.readouterr().err


def test_inspect_of_a_file_without_recurrent_modules_says_so(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", table=np.zeros((2, 3)))
    assert run("inspect", tmp_path / "a.npz") == 1
    assert capsys.readouterr().out == "no recurrent modules\n  table (2, 3) float64\n"


def test_hostile_names_cannot_write_to_a_terminal(tmp_path, capsys):
    name = "\x1b[2Jx\n'rnn.': GRU(3, 4)"
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps({name: np.zeros(2)}))
    run("inspect", path)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count("\n") == 2


def test_hostile_texts_cannot_write_to_a_terminal(tmp_path, capsys):
    for said in ("then", "unsupported", "doubted"):
        content = safetensors_file_of(gru_arrays(""), {said: "\x1b[2J\n'': GRU(9, 9)\u202e"})
        path = write(tmp_path / "file", content)
        np.save(tmp_path / "x.npy", inputs(3, 4, 3))
        run("inspect", path)
        run("run", path, "--input", tmp_path / "x.npy", "--output", tmp_path / "y", "--force")
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        assert "\u202e" not in out + err
        assert out.count("\n") == 5


def test_ctrl_c_ends_without_a_traceback(checkpoint, ragged, tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_batch", interrupted)
    assert run("run", checkpoint, "--input", ragged, "--output", tmp_path / "o.npz") == 130
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "o.npz").exists()
