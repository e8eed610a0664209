"""save and load without any framework: a module comes back as it was."""

import json

import numpy as np
import pytest
from checkpoints import (
    gru_arrays,
    inputs,
    npy_bytes,
    safetensors_file_of,
    torch_file_of,
    write,
    zip_bytes,
)

import packseq
from packseq import weights

MODULES = [
    packseq.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2, rng=1),
    packseq.LSTM(3, 4, bias=False, batch_first=True, dtype=np.float64, rng=2),
    packseq.GRU(3, 4, reset_after=False, rng=3),
    packseq.RNN(3, 4, nonlinearity="relu", rng=4),
    weights.Backward(packseq.GRU(3, 4, reset_after=False, batch_first=True, rng=5)),
    packseq.LSTM(3, 4, peephole=True, num_layers=2, bidirectional=True, proj_size=2, rng=6),
    packseq.LSTM(3, 4, recurrent_activation="hard_sigmoid", rng=7),
    packseq.GRU(3, 4, recurrent_activation="hard_sigmoid_0.2", batch_first=True, rng=8),
    packseq.GRU(3, 4, recurrent_activation="hard_sigmoid", reset_after=False, rng=9),
]
CELLS = [
    packseq.LSTMCell(3, 4, peephole=True, recurrent_activation="hard_sigmoid_0.2", rng=1),
    packseq.GRUCell(3, 4, recurrent_activation="hard_sigmoid", bias=False, rng=2),
    packseq.RNNCell(3, 4, nonlinearity="relu", rng=3),
]


@pytest.mark.parametrize("module", MODULES, ids=repr)
def test_a_saved_module_loads_as_it_was(tmp_path, module):
    packseq.save(module, tmp_path / "module.safetensors")

    loaded = packseq.load(tmp_path / "module.safetensors")

    x = inputs(2, 5, 3)
    assert repr(loaded) == repr(module)
    np.testing.assert_array_equal(loaded(x)[0], module(x)[0])


@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_a_saved_cell_loads_as_it_was(tmp_path, cell):
    packseq.save(cell, tmp_path / "cell.safetensors")

    loaded = packseq.load(tmp_path / "cell.safetensors")

    x = inputs(2, 1, 3)[:, 0]
    assert repr(loaded) == repr(cell)
    np.testing.assert_array_equal(loaded(x), cell(x))


@pytest.mark.parametrize(("module", "listed"), [
    (MODULES[5], "LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2, peephole=True)"),
    (MODULES[7], "GRU(3, 4, recurrent_activation='hard_sigmoid_0.2', batch_first=True)"),
    (CELLS[0], "LSTMCell(3, 4, peephole=True, recurrent_activation='hard_sigmoid_0.2')"),
], ids=repr)  # fmt: skip
def test_what_a_saved_module_is_shows_in_the_listing_also_after_convert(tmp_path, module, listed):
    packseq.save(module, tmp_path / "saved")
    weights.convert(tmp_path / "saved", tmp_path / "converted")

    for name in ("saved", "converted"):
        (found,) = weights.find(tmp_path / name)
        assert str(found) == f"'': {listed}, float32"
        assert found.peephole == getattr(module, "peephole", False)
        assert hash(found) == hash(weights.find(tmp_path / name)[0])
        assert repr(packseq.load(tmp_path / name)) == repr(module)


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("given", [{}, {"lengths": [5, 2]}], ids=["whole", "ragged"])
def test_backward_takes_tensors_and_gives_tensors(backend, given):
    torch = pytest.importorskip("torch", reason="makes the tensors")
    module = weights.Backward(packseq.GRU(3, 4, batch_first=True, backend=backend, rng=1))
    x = torch.from_numpy(inputs(2, 5, 3))

    output, state = module(x, **given)

    # The judge is the same backend on arrays, which computes the same products.
    expected, expected_state = module(x.numpy(), **given)
    assert isinstance(output, torch.Tensor)
    assert isinstance(state, torch.Tensor)
    np.testing.assert_array_equal(output.numpy(), expected)
    np.testing.assert_array_equal(state.numpy(), expected_state)


def test_backward_is_the_second_half_of_a_bidirectional_module():
    both = packseq.GRU(3, 4, bidirectional=True, batch_first=True, rng=1)
    second = {
        name.removesuffix("_reverse"): array
        for name, array in both.state_dict().items()
        if name.endswith("_reverse")
    }
    backward = weights.Backward(packseq.GRU.from_state_dict(second, batch_first=True))
    x, lengths = inputs(3, 6, 3), [6, 2, 4]

    for given in ({"lengths": lengths}, {}):
        output, state = backward(x, **given)
        expected, expected_state = both(x, **given)
        np.testing.assert_array_equal(output, expected[..., 4:])
        np.testing.assert_array_equal(state, expected_state[1:])
    one, _ = backward(x[0])
    np.testing.assert_array_equal(one, both(x[0])[0][..., 4:])


@pytest.mark.parametrize("container", ["npz", "pt"])
def test_files_written_without_their_library(tmp_path, container):
    arrays = gru_arrays()
    if container == "npz":
        content = zip_bytes([(f"{name}.npy", npy_bytes(array)) for name, array in arrays.items()])
    else:
        content = torch_file_of(arrays)
    path = write(tmp_path / "file", content)

    module = packseq.load(path)

    assert str(weights.find(path)[0]) == "'rnn.': GRU(3, 4), float32"
    expected = packseq.GRU.from_state_dict(arrays, "rnn.")
    np.testing.assert_array_equal(module(inputs(2, 5, 3))[0], expected(inputs(2, 5, 3))[0])


@pytest.mark.parametrize("array", [
    np.arange(6, dtype=">f4").reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array(2.5, np.float16),
    np.zeros((0, 3), np.int8),
], ids=repr)  # fmt: skip
def test_npz_keeps_values_and_becomes_native(tmp_path, array):
    path = write(tmp_path / "a.npz", zip_bytes([("a.npy", npy_bytes(array))]))

    (got,) = weights.read(path).values()

    np.testing.assert_array_equal(got, array)
    assert got.dtype.isnative
    assert got.dtype == (np.float32 if array.dtype == np.float16 else array.dtype.newbyteorder("="))


def test_convert_keeps_arrays_and_modules(tmp_path):
    arrays = gru_arrays() | {"embedding.weight": inputs(1, 5, 3)[0]}
    source = write(tmp_path / "file.pt", torch_file_of(arrays))

    weights.convert(source, tmp_path / "out.safetensors")

    converted = weights.read(tmp_path / "out.safetensors")
    assert converted.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(converted[name], array)
    assert weights.find(tmp_path / "out.safetensors") == weights.find(source)


@pytest.mark.parametrize("dtype", [np.complex128, np.longdouble])
def test_convert_names_what_safetensors_cannot_hold(tmp_path, dtype):
    np.savez(tmp_path / "g.npz", window=np.zeros(2, dtype), words=np.array("a"), **gru_arrays())

    left_out = weights.convert(tmp_path / "g.npz", tmp_path / "out.safetensors")

    assert left_out == {
        "words": "has dtype '<U1', which is not a number's",
        "window": f"has dtype {np.dtype(dtype)}, which safetensors lacks",
    }
    assert weights.read(tmp_path / "out.safetensors").keys() == gru_arrays().keys()


def test_convert_overwrites_no_shard_of_its_source(tmp_path):
    packseq.save(packseq.GRU(3, 4), tmp_path / "one.safetensors")
    names = dict.fromkeys(packseq.GRU(3, 4).state_dict(), "one.safetensors")
    index = write(tmp_path / "index.json", json.dumps({"weight_map": names}).encode())
    before = (tmp_path / "one.safetensors").read_bytes()
    for target in (index, tmp_path / "one.safetensors"):
        with pytest.raises(ValueError, match="is a source, which would be lost"):
            weights.convert(index, target)
    assert (tmp_path / "one.safetensors").read_bytes() == before


@pytest.mark.parametrize(("place", "error"), [
    ("nothing/out.safetensors", FileNotFoundError),
    (".", IsADirectoryError),
])  # fmt: skip
def test_save_where_nothing_can_be_written(tmp_path, place, error):
    with pytest.raises(error):
        packseq.save(packseq.GRU(3, 4), tmp_path / place)


def test_stored_states_are_not_silently_lost(tmp_path):
    state = inputs(1, 1, 4)
    arrays = gru_arrays("") | {"h_0": state}
    path = write(tmp_path / "file.pt", torch_file_of(arrays))

    with pytest.raises(weights.CheckpointError, match="load_with_state"):
        packseq.load(path)
    module, hx = weights.load_with_state(path)

    np.testing.assert_array_equal(hx, state)
    assert module(inputs(1, 2, 3).swapaxes(0, 1), hx)[0].shape == (2, 1, 4)


def test_a_file_that_does_not_say_is_loaded_as_the_caller_says(tmp_path):
    path = write(tmp_path / "file.pt", torch_file_of(gru_arrays()))
    x = inputs(2, 5, 3)

    module = packseq.load(path, batch_first=True, reset_after=False)
    with_state, hx = weights.load_with_state(path, batch_first=True, reset_after=False)

    assert repr(module) == repr(with_state)
    assert hx is None
    expected = packseq.GRU.from_state_dict(
        gru_arrays(), "rnn.", batch_first=True, reset_after=False
    )
    np.testing.assert_array_equal(module(x)[0], expected(x)[0])


SETTINGS = {"batch_first": True, "reset_after": False}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_file_that_says_is_not_contradicted(tmp_path, setting):
    path = tmp_path / "file"
    packseq.save(packseq.GRU(3, 4), path)
    with pytest.raises(ValueError, match=f"{setting} is {SETTINGS[setting]}; the file says"):
        packseq.load(path, **{setting: SETTINGS[setting]})

    packseq.save(packseq.GRU(3, 4, **{setting: SETTINGS[setting]}), path)
    for given in ({}, {setting: SETTINGS[setting]}):
        assert getattr(packseq.load(path, **given), setting) == SETTINGS[setting]
    usual = not SETTINGS[setting]  # torch's default is told from nothing said
    with pytest.raises(ValueError, match=f"{setting} is {usual}; the file says {not usual}"):
        packseq.load(path, **{setting: usual})


@pytest.mark.parametrize("said", ["sigmoid", "hard_sigmoid", "hard_sigmoid_0.2"])
def test_a_recurrent_activation_that_the_file_says_is_not_contradicted(tmp_path, said):
    packseq.save(packseq.GRU(3, 4, recurrent_activation=said), tmp_path / "file")

    for given in ({}, {"recurrent_activation": said}):
        assert packseq.load(tmp_path / "file", **given).recurrent_activation == said
    for other in {"sigmoid", "hard_sigmoid", "hard_sigmoid_0.2"} - {said}:
        with pytest.raises(ValueError, match=f"is '{other}'; the file says '{said}'"):
            packseq.load(tmp_path / "file", recurrent_activation=other)


def test_a_recurrent_activation_that_the_file_does_not_say_is_the_callers(tmp_path):
    path = write(tmp_path / "file.pt", torch_file_of(gru_arrays()))

    assert packseq.load(path).recurrent_activation == "sigmoid"
    hard = packseq.load(path, recurrent_activation="hard_sigmoid")
    assert hard.recurrent_activation == "hard_sigmoid"
    cell = write(tmp_path / "cell.pt", torch_file_of(cell_arrays()))
    hard = packseq.load(cell, recurrent_activation="hard_sigmoid_0.2")
    assert hard.recurrent_activation == "hard_sigmoid_0.2"


def test_what_an_older_packseq_saved_says_nothing_of_recurrent_activations(tmp_path):
    said = {"reset_after": False, "batch_first": False}
    path = write(tmp_path / "file", safetensors_file_of(gru_arrays(""), said))

    assert packseq.load(path).recurrent_activation == "sigmoid"
    assert not packseq.load(path, recurrent_activation="hard_sigmoid").reset_after


def test_peepholes_are_told_by_their_names(tmp_path):
    module = packseq.LSTM(3, 4, peephole=True)
    path = write(tmp_path / "file.pt", torch_file_of(module.state_dict()))
    assert packseq.load(path).peephole

    whole = module.state_dict()
    for missing in ("weight_ci_l0", "weight_cf_l0", "weight_co_l0"):
        arrays = {name: array for name, array in whole.items() if name != missing}
        path = write(tmp_path / "file.pt", torch_file_of(arrays))
        with pytest.raises(weights.CheckpointError, match=rf"{missing} is missing; .* \(4,\)"):
            packseq.load(path)
    for name in ("weight_ci_l0_reverse", "weight_ci_l1"):
        arrays = whole | {name: whole["weight_ci_l0"]}
        path = write(tmp_path / "file.pt", torch_file_of(arrays))
        with pytest.raises(weights.CheckpointError, match=f"{name} has no place"):
            packseq.load(path)


def cell_arrays():
    return {name.removesuffix("_l0"): array for name, array in gru_arrays().items()}


@pytest.mark.parametrize(("arrays", "given", "error", "message"), [
    (gru_arrays(), {"nonlinearity": "gelu"}, ValueError, "nonlinearity is 'gelu'"),
    (gru_arrays(), {"nonlinearity": "relu"}, ValueError, "'rnn.' is GRU"),
    (gru_arrays(), {"batch_first": 1}, TypeError, "batch_first must be True or False, got 1"),
    (gru_arrays(), {"reset_after": 0}, TypeError, "reset_after must be True or False"),
    (cell_arrays(), {"batch_first": True}, ValueError, "batch_first is True, but 'rnn.' is GRU"),
    (cell_arrays(), {"reset_after": False}, ValueError, "reset_after is False, but 'rnn.' is GRU"),
    (packseq.LSTM(3, 4).state_dict(), {"reset_after": False}, ValueError, "is False, but '' is L"),
    (gru_arrays(), {"recurrent_activation": "relu"}, ValueError, "is 'relu'; expected one of"),
    (packseq.RNN(3, 4).state_dict(), {"recurrent_activation": "sigmoid"}, ValueError, "'' is RNN"),
])  # fmt: skip
def test_a_setting_that_does_not_fit_is_refused(tmp_path, arrays, given, error, message):
    path = write(tmp_path / "file.pt", torch_file_of(arrays))
    with pytest.raises(error, match=message):
        packseq.load(path, **given)


@pytest.mark.parametrize(("module", "said", "message"), [
    (packseq.GRU(3, 4, bidirectional=True), "backward", "one direction runs backward"),
    (packseq.GRUCell(3, 4), "backward", "one direction runs backward"),
    (packseq.GRUCell(3, 4), "reset_after", "a cell always has reset_after"),
], ids=str)  # fmt: skip
def test_metadata_that_does_not_fit_the_module(tmp_path, module, said, message):
    content = safetensors_file_of(module.state_dict(), {said: said == "backward"})
    with pytest.raises(weights.CheckpointError, match=message):
        packseq.load(write(tmp_path / "file", content))


@pytest.mark.parametrize(("module", "activation", "message"), [
    (packseq.RNN(3, 4), "hard_sigmoid", "an RNN has no recurrent_activation"),
    (packseq.GRU(3, 4), "relu", "recurrent_activation 'relu' is not"),
], ids=str)  # fmt: skip
def test_a_recurrent_activation_in_metadata_that_cannot_be(tmp_path, module, activation, message):
    said = {"recurrent_activation": activation}
    content = safetensors_file_of(module.state_dict(), said)
    with pytest.raises(weights.CheckpointError, match=message):
        packseq.load(write(tmp_path / "file", content))


def test_a_cell_has_no_projection(tmp_path):
    arrays = packseq.LSTM(3, 4, proj_size=2).state_dict()
    arrays = {name.removesuffix("_l0"): array for name, array in arrays.items()}
    with pytest.raises(weights.CheckpointError, match="a cell has no projection"):
        packseq.load(write(tmp_path / "file.pt", torch_file_of(arrays)))


@pytest.mark.parametrize("module", [{}, packseq.GRU, weights.Backward], ids=str)
def test_save_takes_modules_only(tmp_path, module):
    with pytest.raises(TypeError, match="must be an LSTM, GRU or RNN, or a cell of one"):
        packseq.save(module, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_save_takes_torchs_recurrent_modules_and_no_others(tmp_path):
    nn = pytest.importorskip("torch.nn", reason="makes the modules")
    wanted = [nn.LSTM(3, 4, bidirectional=True, batch_first=True), nn.RNN(3, 4), nn.GRUCell(3, 4)]
    for module in wanted:
        packseq.save(module, tmp_path / "x")
        assert repr(packseq.load(tmp_path / "x")) == repr(module)

    for module in (nn.Linear(2, 3), nn.Sequential(nn.LSTM(3, 4))):
        with pytest.raises(TypeError, match=f"module must be .*, got {type(module).__name__}"):
            packseq.save(module, tmp_path / "y")
    assert not (tmp_path / "y").exists()


def test_a_file_that_is_not_there_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        packseq.load(tmp_path / "nothing.pt")
