"""Checkpoints that hold torch's state dicts: what a loaded module gives is what torch gives."""

import json

import numpy as np
import pytest
from checkpoints import distinctive, inputs, tolerance

import packseq
from packseq import weights

torch = pytest.importorskip("torch", reason="torch writes these checkpoints and is the judge")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="writes safetensors")

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
MODELS = [
    ("LSTM", {}),
    ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "proj_size": 3}),
    ("LSTM", {"bias": False}),
    ("GRU", {"num_layers": 3}),
    ("GRU", {"bidirectional": True, "bias": False}),
    ("RNN", {"nonlinearity": "relu", "num_layers": 2}),
    ("RNN", {"bidirectional": True}),
]
INPUT, HIDDEN, STEPS = 4, 5, 7


def torch_model(kind, options, seed=1):
    """torch's module among other layers, each gate with weights of its own."""
    core = getattr(torch.nn, kind)(INPUT, HIDDEN, **options)
    with torch.no_grad():
        for number, (name, parameter) in enumerate(core.named_parameters()):
            gates = 1 if name.startswith("weight_hr") else GATES[kind]
            values = distinctive(tuple(parameter.shape), gates, seed + number)
            parameter.copy_(torch.from_numpy(values))
    return torch.nn.ModuleDict({"embedding": torch.nn.Embedding(6, INPUT), "core": core}).eval()


def save_pt(state, path):
    torch.save(state, path)
    return path


def save_nested_pt(state, path):
    torch.save({"epoch": 3, "loss": 0.5, "history": [1, 2], "state_dict": state}, path)
    return path


def save_safetensors(state, path):
    safetensors_torch.save_file(state, path)
    return path


def save_sharded(state, path):
    names = list(state)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, held in shards.items():
        safetensors_torch.save_file({name: state[name] for name in held}, path.parent / shard)
    placed = {name: shard for shard, held in shards.items() for name in held}
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": placed}))
    return path


def save_npz(state, path):
    with path.open("wb") as file:
        np.savez(file, **{name: tensor.numpy() for name, tensor in state.items()})
    return path


SAVERS = [save_pt, save_nested_pt, save_safetensors, save_sharded, save_npz]


def assert_same_outputs(module, core, nonlinearity="tanh"):
    x = inputs(3, STEPS, INPUT)
    lengths = [STEPS, 2, 5]
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(x), lengths, batch_first=True, enforce_sorted=False
    )
    with torch.no_grad():
        output, state = core(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
    got, got_state = module(packseq.pack_padded_sequence(x, lengths, batch_first=True))
    got, _ = packseq.pad_packed_sequence(got, batch_first=True)
    scale = max(1.0, float(expected.abs().max()))
    atol = core.num_layers * tolerance(STEPS, INPUT + 2 * HIDDEN, scale)
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=atol)
    for one, other in zip(as_pair(got_state), as_pair(state), strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=atol * HIDDEN)


def as_pair(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("save", SAVERS, ids=lambda save: save.__name__)
@pytest.mark.parametrize(("kind", "options"), MODELS, ids=str)
def test_a_loaded_module_gives_torchs_outputs(tmp_path, save, kind, options):
    model = torch_model(kind, options)
    # The file's name says nothing: formats are told by content.
    path = save(model.state_dict(), tmp_path / "checkpoint")

    module = packseq.load(path, nonlinearity=options.get("nonlinearity"))

    assert_same_outputs(module, model["core"])


@pytest.mark.parametrize("save", SAVERS, ids=lambda save: save.__name__)
def test_the_layers_around_come_along(tmp_path, save):
    model = torch_model("GRU", {})
    arrays = weights.read(save(model.state_dict(), tmp_path / "checkpoint"))

    found = [array for name, array in arrays.items() if name.endswith("embedding.weight")]

    np.testing.assert_array_equal(found, [model["embedding"].weight.detach().numpy()])


@pytest.mark.parametrize("save", [save_pt, save_safetensors], ids=lambda save: save.__name__)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_half_precision_is_widened_and_double_kept(tmp_path, save, dtype):
    state = torch_model("LSTM", {}).to(dtype).state_dict()

    arrays = weights.read(save(state, tmp_path / "checkpoint"))

    wide = np.float64 if dtype == torch.float64 else np.float32
    for name, tensor in state.items():
        assert arrays[name].dtype == wide
        np.testing.assert_array_equal(arrays[name], tensor.to(torch.float64).numpy())
    assert packseq.load(tmp_path / "checkpoint").dtype == wide


def test_tensors_that_share_a_storage_or_are_transposed_keep_their_values(tmp_path):
    flat = torch.arange(24, dtype=torch.float32)
    state = {"whole": flat, "part": flat[3:9].view(2, 3), "turned": flat.view(4, 6).T}
    torch.save(state, tmp_path / "shared.pt")

    arrays = weights.read(tmp_path / "shared.pt")

    for name, tensor in state.items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy())


@pytest.mark.parametrize("value", [
    torch.tensor([True, False]),
    torch.tensor([1, -2], dtype=torch.int16),
    torch.tensor(3, dtype=torch.int64),
    torch.tensor([1 + 2j]),
    torch.nn.Parameter(torch.tensor([1.5])),
    torch.zeros(0, 3),
], ids=str)  # fmt: skip
def test_any_plain_tensor_is_read(tmp_path, value):
    torch.save({"value": value}, tmp_path / "value.pt")

    array = weights.read(tmp_path / "value.pt")["value"]

    np.testing.assert_array_equal(array, value.detach().numpy())
    assert array.dtype == value.detach().numpy().dtype


def test_a_training_checkpoint_with_its_optimizer_is_read(tmp_path):
    model = torch_model("GRU", {})
    optimizer = torch.optim.Adam(model.parameters())
    model["core"](torch.ones(2, 1, INPUT))[0].sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "c")

    assert_same_outputs(packseq.load(tmp_path / "c"), model["core"])


def test_several_modules_are_listed_and_chosen_by_prefix(tmp_path):
    models = {"a": torch_model("LSTM", {}, seed=1), "b": torch_model("GRU", {"num_layers": 2})}
    path = save_pt(torch.nn.ModuleDict(models).state_dict(), tmp_path / "two.pt")

    listed = [str(found) for found in weights.find(path)]
    assert listed == [
        "'a.core.': LSTM(4, 5), float32",
        "'b.core.': GRU(4, 5, num_layers=2), float32",
    ]
    with pytest.raises(weights.CheckpointError) as caught:
        packseq.load(path)
    assert all(line in str(caught.value) for line in listed)
    with pytest.raises(weights.CheckpointError, match=r"no module at prefix 'c\."):
        packseq.load(path, "c.")
    for prefix in ("b.core.", "b.core"):
        assert_same_outputs(packseq.load(path, prefix), models["b"]["core"])


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_cells_are_found_and_loaded(tmp_path, kind):
    cell = getattr(torch.nn, f"{kind}Cell")(INPUT, HIDDEN)
    path = save_pt({f"cell.{n}": t for n, t in cell.state_dict().items()}, tmp_path / "cell.pt")

    (found,) = weights.find(path)
    assert (found.prefix, found.kind) == ("cell.", f"{kind}Cell")

    x = inputs(3, 1, INPUT)[:, 0]
    with torch.no_grad():
        expected = as_pair(cell(torch.from_numpy(x)))
    for one, other in zip(as_pair(packseq.load(path)(x)), expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=tolerance(1, INPUT + HIDDEN))


@pytest.mark.parametrize(("kind", "options"), MODELS, ids=str)
def test_torch_loads_what_save_wrote(tmp_path, kind, options):
    module = getattr(packseq, kind)(INPUT, HIDDEN, **options)
    packseq.save(module, tmp_path / "saved.safetensors")

    core = getattr(torch.nn, kind)(INPUT, HIDDEN, **options)
    core.load_state_dict(safetensors_torch.load_file(tmp_path / "saved.safetensors"))

    assert_same_outputs(module, core)


OPTIMIZERS = {
    "alone": lambda model, optimizer: optimizer.state_dict(),
    "beside the model": lambda model, optimizer: {
        "model": model.state_dict(), "optimizer": optimizer.state_dict()},
    "in a list": lambda model, optimizer: {
        "state_dict": model.state_dict(), "optimizer_states": [optimizer.state_dict()] * 2},
    "the object": lambda model, optimizer: {"model": model.state_dict(), "optimizer": optimizer},
}  # fmt: skip


@pytest.mark.parametrize("case", OPTIMIZERS)
@pytest.mark.parametrize("new", [True, False], ids=["new", "before torch 1.6"])
def test_convert_leaves_out_the_optimizers_state_unless_asked(tmp_path, case, new):
    model = torch.nn.GRU(3, 4)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 1, 3))[0].sum().backward()
    optimizer.step()
    path = tmp_path / "x.pt"
    torch.save(
        OPTIMIZERS[case](model, optimizer), path, _use_new_zipfile_serialization=new
    )  # fmt: skip

    left_out = weights.convert(path, tmp_path / "plain")
    weights.convert(path, tmp_path / "all", optimizer=True)

    whole = weights.read(path)
    plain, everything = weights.read(tmp_path / "plain"), weights.read(tmp_path / "all")
    assert everything.keys() == whole.keys()
    assert len(plain) == (0 if case == "alone" else 4)
    assert not any("exp_avg" in name for name in plain)
    assert whole.keys() - plain.keys() <= left_out.keys()
    assert sum(why == "is of an optimizer's state" for why in left_out.values()) >= 4


def test_a_models_own_state_is_no_optimizers(tmp_path):
    arrays = {"state": {"weight": torch.ones(3)}, "group": torch.ones(2)}
    torch.save(arrays, tmp_path / "x.pt")
    assert weights.convert(tmp_path / "x.pt", tmp_path / "out") == {}
    assert weights.read(tmp_path / "out").keys() == {"state.weight", "group"}
