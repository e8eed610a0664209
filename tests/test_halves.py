"""float16 and bfloat16 are taken as weights, inputs and states: the bits of the same float32."""

import pickle

import numpy as np
import pytest

import packseq
from packseq import GRU, LSTM, RNN, GRUCell, LSTMCell, Predictor, RNNCell, Streams
from packseq.weights import Backward

BATCH, STEPS, WIDTH, HIDDEN = 2, 5, 3, 4


def float16(x):
    return np.asarray(x, np.float16)


def swapped_float16(x):
    return np.asarray(x, np.dtype(np.float16).newbyteorder())


def bfloat16(x):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="NumPy's bfloat16")
    return np.asarray(x, ml_dtypes.bfloat16)


def torch_float16(x):
    torch = pytest.importorskip("torch")
    return torch.tensor(x, dtype=torch.float16)


def torch_bfloat16(x):
    torch = pytest.importorskip("torch")
    return torch.tensor(x, dtype=torch.bfloat16)


ARRAYS = [float16, swapped_float16, bfloat16]
by_form = pytest.mark.parametrize(
    "halve", [*ARRAYS, torch_float16, torch_bfloat16], ids=lambda form: form.__name__
)
by_array = pytest.mark.parametrize("halve", ARRAYS, ids=lambda form: form.__name__)


def in_float32(halves):
    """The same numbers, in float32."""
    return halves.astype(np.float32) if isinstance(halves, np.ndarray) else halves.float()


def drawn(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def parts(result):
    """The arrays in a result, whatever it is made of."""
    if isinstance(result, packseq.PackedSequence):
        return [np.asarray(result.data)]
    if isinstance(result, tuple | list):
        return [array for part in result for array in parts(part)]
    return [np.asarray(result)]


def sessions(module, frames):
    streams = Streams(module)
    return streams.push([streams.open() for _ in range(BATCH)], frames)


def with_state(streams, state):
    streams.set_state(streams.open(), state)
    return streams.state(0)


def restored(streams, state):
    saved = {"ids": [0], "next_id": np.array(1), "h": state}
    streams.load_state_dict(saved)
    return streams.state(0)


def packed(x):
    return packseq.pack_sequence([x[:, 0], x[:2, 1]])


def lstm(**options):
    return LSTM(WIDTH, HIDDEN, rng=0, **options)


def gru(**options):
    return GRU(WIDTH, HIDDEN, rng=0, **options)


# What takes x (T, B, I) and a state h (1, B, H).
ENTRIES = {
    "a padded batch": lambda x, h: lstm()(x),
    "a batch with lengths": lambda x, h: gru()(x, lengths=[STEPS, 2]),
    "one sequence": lambda x, h: RNN(WIDTH, HIDDEN, rng=0)(x[:, 0]),
    "a packed batch": lambda x, h: lstm()(packed(x)),
    "a state": lambda x, h: gru()(drawn(STEPS, BATCH, WIDTH), h),
    "a pair of states": lambda x, h: lstm()(x, (h, h)),
    "fewer bits": lambda x, h: lstm().quantize("int8")(x),
    "backward": lambda x, h: Backward(gru())(x, h),
    "backward with lengths": lambda x, h: Backward(gru())(x, h, lengths=[STEPS, 2]),
    "RNNCell": lambda x, h: RNNCell(WIDTH, HIDDEN, rng=0)(x[0], h[0]),
    "GRUCell": lambda x, h: GRUCell(WIDTH, HIDDEN, rng=0)(x[0]),
    "LSTMCell": lambda x, h: LSTMCell(WIDTH, HIDDEN, rng=0)(x[0], (h[0], h[0])),
    "frames": lambda x, h: sessions(lstm(), x[0]),
    "lists of frames": lambda x, h: sessions(lstm(), [x[:, 0], x[:2, 1]]),
    "packed frames": lambda x, h: sessions(lstm(), packed(x)),
    "the state of a session": lambda x, h: with_state(Streams(gru()), h[:, 0]),
    "the states of sessions": lambda x, h: restored(Streams(gru()), h[:, :1]),
}


@pytest.mark.parametrize("run", ENTRIES.values(), ids=ENTRIES)
@by_form
def test_inputs_and_states_are_widened(run, halve):
    x, h = halve(drawn(STEPS, BATCH, WIDTH)), halve(drawn(1, BATCH, HIDDEN))
    results = parts(run(x, h))
    assert results
    for result, expected in zip(results, parts(run(in_float32(x), in_float32(h))), strict=True):
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, expected)


@by_form
def test_a_module_of_float64_gives_float64(halve):
    x = halve(drawn(STEPS, BATCH, WIDTH))
    output, _ = gru(dtype=np.float64)(x)
    assert np.asarray(output).dtype == np.float64
    np.testing.assert_array_equal(output, gru(dtype=np.float64)(in_float32(x))[0])


@by_array
def test_arrays_are_widened_on_torchs_backend_too(halve):
    pytest.importorskip("torch")
    x = halve(drawn(STEPS, BATCH, WIDTH))
    output, _ = gru(backend="torch")(x)
    assert output.dtype == np.float32
    np.testing.assert_array_equal(output, gru(backend="torch")(in_float32(x))[0])


@by_form
def test_tensors_come_back_for_tensors(halve):
    x = halve(drawn(STEPS, BATCH, WIDTH))
    output, h = gru()(x)
    assert type(output) is type(h) is type(x)


# ---- weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lstm, lambda: LSTMCell(WIDTH, HIDDEN)], ids=["module", "cell"])
@by_form
def test_weights_are_widened(make, halve):
    halves = {name: halve(np.array(array)) for name, array in make().state_dict().items()}
    loaded = make()
    loaded.load_state_dict(halves)
    for module in (loaded, type(loaded).from_state_dict(halves)):
        assert module.dtype == np.float32
        for name, array in module.state_dict().items():
            np.testing.assert_array_equal(array, in_float32(halves[name]))


@by_form
def test_every_number_is_exact(halve):
    """All that 16 bits can say: subnormal numbers, infinities and NaN among them."""
    bits = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    halves = halve(np.zeros(1))
    if isinstance(halves, np.ndarray):
        native = np.dtype(halves.dtype).newbyteorder("=") if halves.dtype.kind == "f" else None
        every = bits.view(native or halves.dtype).astype(halves.dtype)
    else:
        torch = pytest.importorskip("torch")
        every = torch.from_numpy(bits.view(np.int16)).view(halves.dtype)
    expected = (bits.astype(np.uint32) << 16).view(np.float32)
    if halve not in (bfloat16, torch_bfloat16):
        expected = bits.view(np.float16).astype(np.float64)
    zeros = {"weight_hh": np.zeros((256, 256)), "bias_ih": np.zeros(256), "bias_hh": np.zeros(256)}
    weight = RNNCell.from_state_dict({"weight_ih": every, **zeros}, dtype=np.float32).weight_ih
    np.testing.assert_array_equal(weight, expected)


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_a_torch_module_of_halves_is_saved(tmp_path, name):
    torch = pytest.importorskip("torch")
    layer = torch.nn.LSTM(WIDTH, HIDDEN).to(getattr(torch, name))
    packseq.save(layer, tmp_path / "model.safetensors")
    loaded = packseq.load(tmp_path / "model.safetensors").state_dict()
    for key, weight in layer.state_dict().items():
        np.testing.assert_array_equal(loaded[key], weight.float())


@pytest.mark.parametrize("protocol", [2, 4])
@by_array
def test_arrays_in_pickles_are_widened(tmp_path, halve, protocol):
    halves = {name: halve(array) for name, array in gru().state_dict().items()}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(halves, protocol))
    for name, array in packseq.load(tmp_path / "model.pkl").state_dict().items():
        np.testing.assert_array_equal(array, in_float32(halves[name]))


def test_npz_of_bfloat16_has_no_numbers(tmp_path):
    """NumPy writes them as two bytes that might be anything."""
    halves = {name: bfloat16(array) for name, array in gru().state_dict().items()}
    np.savez(tmp_path / "model.npz", **halves)
    with pytest.raises(packseq.weights.CheckpointError, match=r"cannot be read: has dtype .*V2"):
        packseq.load(tmp_path / "model.npz")


def test_the_command_runs_halves(tmp_path):
    from packseq import cli

    x = float16(drawn(BATCH, STEPS, WIDTH))
    packseq.save(gru(), tmp_path / "model.safetensors")
    np.save(tmp_path / "x.npy", x)
    files = ["--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")]
    assert cli.main(["run", str(tmp_path / "model.safetensors"), *files]) == 0
    expected = gru(batch_first=True)(in_float32(x))[0]
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)


# ---- tables -------------------------------------------------------------------------------------


def test_columns_of_halves_are_widened():
    pa = pytest.importorskip("pyarrow")
    x = float16(drawn(STEPS, BATCH, WIDTH))
    column = packseq.to_arrow(packed(x))
    assert column.type.value_type.value_type == pa.float16()
    _, h = gru()(packed(in_float32(x)))
    found = Predictor(gru(), "x")(pa.table({"x": column}))["prediction"].to_pylist()
    np.testing.assert_array_equal(np.array(found, np.float32), h[0])
    np.testing.assert_array_equal(gru()(packseq.from_arrow(column))[1], h)


@by_array
def test_embeddings_and_heads_are_widened(halve):
    pa = pytest.importorskip("pyarrow")
    table, head = halve(drawn(7, WIDTH)), (halve(drawn(2, HIDDEN)), halve(drawn(2)))
    ids = pa.table({"x": [[1, 6], [3]]})
    results = [
        Predictor(gru(), "x", embedding=rows, head=layer)(ids)["prediction"].to_pylist()
        for rows, layer in ((table, head), (in_float32(table), tuple(map(in_float32, head))))
    ]
    assert results[0] == results[1]
