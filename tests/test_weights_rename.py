"""Files with names of their own: the caller says in one line which array is which."""

import numpy as np
import pytest
from checkpoints import gru_arrays, inputs

import packseq
from packseq import weights

# As a published encoder and decoder for reading words aloud has them.
OWN = {"w_ih": "weight_ih_l0", "w_hh": "weight_hh_l0", "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}
ENCODER = {f"enc_{own}": name for own, name in OWN.items()}


@pytest.fixture
def path(tmp_path):
    arrays = {}
    for part, seed in (("enc", 1), ("dec", 2)):
        module = packseq.GRU(3, 4, rng=seed)
        arrays |= {f"{part}_{own}": getattr(module, name) for own, name in OWN.items()}
    np.savez(tmp_path / "file.npz", enc_emb=np.zeros((5, 3)), **arrays)
    return tmp_path / "file.npz"


def test_arrays_under_names_of_their_own_make_a_module(path):
    x = inputs(2, 5, 3)
    for part, seed in (("enc", 1), ("dec", 2)):
        rename = {f"{part}_{own}": name for own, name in OWN.items()}
        module = packseq.load(path, rename=rename, batch_first=True)
        expected = packseq.GRU(3, 4, batch_first=True, rng=seed)
        np.testing.assert_array_equal(module(x)[0], expected(x)[0])


def test_an_error_tells_of_rename_where_no_name_is_known(path):
    with pytest.raises(weights.CheckpointError, match="names of their own, load with rename"):
        packseq.load(path)


def test_the_module_of_the_new_names_is_meant(tmp_path):
    other = gru_arrays("other.")
    np.savez(tmp_path / "file.npz", **other, **{f"enc_{own}": other[f"other.{name}"] * 2
                                               for own, name in OWN.items()})  # fmt: skip
    for prefix in ("", "enc."):
        rename = {old: prefix + new for old, new in ENCODER.items()}
        module = packseq.load(tmp_path / "file.npz", rename=rename)
        np.testing.assert_array_equal(module.bias_ih_l0, 2 * other["other.bias_ih_l0"])
    module = packseq.load(tmp_path / "file.npz", "other", rename=ENCODER)
    np.testing.assert_array_equal(module.bias_ih_l0, other["other.bias_ih_l0"])


def test_cells_become_modules_and_back(tmp_path):
    packseq.save(cell := packseq.GRUCell(3, 4, rng=1), tmp_path / "cell")
    longer = {name: f"{name}_l0" for name in cell.state_dict()}
    module = packseq.load(tmp_path / "cell", rename=longer)
    assert repr(module) == "GRU(3, 4)"
    packseq.save(module, tmp_path / "module")
    shorter = {new: old for old, new in longer.items()}
    assert repr(packseq.load(tmp_path / "module", rename=shorter)) == "GRUCell(3, 4)"


def test_stored_states_may_be_renamed_too(tmp_path):
    arrays = {f"enc_{own}": gru_arrays("")[name] for own, name in OWN.items()}
    state = inputs(1, 1, 4)
    np.savez(tmp_path / "file.npz", start=state, **arrays)
    rename = ENCODER | {"start": "h_0"}
    _, hx = weights.load_with_state(tmp_path / "file.npz", rename=rename)
    np.testing.assert_array_equal(hx, state)


@pytest.mark.parametrize(("rename", "error", "message"), [
    (ENCODER | {"enc_w_hi": "weight_hh_l0"}, ValueError,
     "there is no array 'enc_w_hi'; the most alike are .*'enc_w_hh'"),
    (ENCODER | {"dec_w_hh": "weight_hh_l0"}, ValueError,
     "'enc_w_hh' and 'dec_w_hh' would both be 'weight_hh_l0'"),
    (ENCODER | {"enc_emb": "embedding"}, ValueError, "'embedding' is the name of no parameter"),
    ({"enc_b_ih": "rnn.bias_ih_l0"}, ValueError, "no module at 'rnn.': there is no weight_ih_l0"),
    ({"enc_w_ih": "weight_ih_l0"}, weights.CheckpointError, "weight_hh_l0 is missing"),
    ({"enc_emb": "weight_ih_l0", "enc_w_hh": "weight_hh_l0"}, weights.CheckpointError,
     "weight_ih_l0 has 5 rows for a hidden size of 4"),
    ([("enc_w_ih", "weight_ih_l0")], TypeError, "rename must be a mapping of names, got list"),
    ({"enc_w_ih": 0}, TypeError, "a mapping of strings to strings, got 'enc_w_ih': 0"),
], ids=str)  # fmt: skip
def test_names_that_cannot_be_given(path, rename, error, message):
    with pytest.raises(error, match=message):
        packseq.load(path, rename=rename)


def test_a_name_that_the_file_has_already(tmp_path):
    arrays = gru_arrays("")
    np.savez(tmp_path / "file.npz", other=arrays["bias_hh_l0"], **arrays)
    with pytest.raises(ValueError, match="'other' and 'bias_hh_l0' would both be 'bias_hh_l0'"):
        packseq.load(tmp_path / "file.npz", rename={"other": "bias_hh_l0"})
