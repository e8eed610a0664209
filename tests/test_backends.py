"""Which backend a call runs on, and what the torch backend does beside the tests that all share."""

import copy
import pickle
import re
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from strategies import KINDS, Case, as_state, assert_same_bits, state_parts
from tensors import as_arrays, as_tensors, device

import packseq
from packseq import GRU, LSTM, LSTMCell, PackedSequence, pack_padded_sequence, pack_sequence
from packseq.networks import runners

torch = pytest.importorskip("torch", reason="the torch backend needs torch")
# ruff: noqa: E402  what follows imports torch
import packseq.torch
from packseq.networks import offload, torch_layers

pytestmark = pytest.mark.usefixtures("unset_backend")
by_kind = pytest.mark.parametrize("kind", KINDS)
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

RAGGED = (3, 0, 7, 1, 5, 7)


@pytest.fixture
def gpu(monkeypatch):
    """A machine where `auto` finds a GPU; on one without, torch's CPU device stands in for it."""
    monkeypatch.setattr(runners, "has_driver", lambda: True)
    monkeypatch.setattr(runners, "_has_gpu", lambda: True)
    monkeypatch.setattr(packseq.networks.recurrent, "has_driver", lambda: True)


@pytest.fixture
def moved():
    """Counts the calls on NumPy arrays that run in torch."""
    with mock.patch.object(offload, "forward", wraps=offload.forward) as forward:
        yield forward


def case_of(kind, lengths=RAGGED, **options):
    return Case(kind, 4, 9, lengths, {"num_layers": 2, "bidirectional": True} | options, seed=1)


# ---- the choice ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["auto", "cpu", "torch"])
def test_the_environment_sets_the_backend(monkeypatch, name):
    monkeypatch.setenv("PACKSEQ_BACKEND", name)
    assert packseq.get_backend() == name


def test_a_modules_own_backend_goes_first_and_stays_with_it(moved):
    module = LSTM(2, 3, backend="torch", rng=0)
    assert repr(module) == "LSTM(2, 3, backend='torch')"
    packseq.set_backend("cpu")
    x = np.ones((4, 2), np.float32)
    for twin in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        twin(x)
    assert moved.call_count == 3
    module.backend = None
    module(x)
    assert moved.call_count == 3
    assert repr(module) == "LSTM(2, 3)"


def test_auto_keeps_arrays_on_the_cpu_without_a_gpu(monkeypatch, moved):
    monkeypatch.setattr(packseq.networks.recurrent, "has_driver", lambda: False)
    packseq.set_backend("auto", offload_flops=0)
    LSTM(2, 3)(np.ones((4, 100, 2), np.float32))
    assert not moved.called


def test_auto_moves_arrays_from_the_threshold_on(gpu, moved):
    """One layer of weights (12, 2) and (12, 3): 2 * 60 operations a row, 50 rows a step."""
    module, x = LSTM(2, 3), np.ones((4, 50, 2), np.float32)
    packseq.set_backend("auto", offload_flops=6001)
    module(x, num_threads=1)
    assert not moved.called
    packseq.set_backend("auto", offload_flops=6000)
    module(x, num_threads=1)
    assert moved.called


def test_the_environment_sets_the_threshold(gpu, moved, monkeypatch):
    monkeypatch.setenv("PACKSEQ_OFFLOAD_FLOPS", "0")
    LSTM(2, 3)(np.ones((4, 50, 2), np.float32), num_threads=1)
    assert moved.called


def test_tensors_on_the_cpu_stay_there(gpu, moved):
    packseq.set_backend("auto", offload_flops=0)
    LSTM(2, 3)(torch.ones(4, 50, 2))
    assert not moved.called


def test_a_gru_that_torch_lacks(gpu, moved):
    module, x = GRU(2, 3, reset_after=False), np.ones((4, 50, 2), np.float32)
    packseq.set_backend("auto", offload_flops=0)
    module(x, num_threads=1)
    assert not moved.called
    module.backend = "torch"
    for form in (x, torch.from_numpy(x)):
        with pytest.raises(ValueError, match=r"GRU\(reset_after=False\) runs on backend 'cpu'"):
            module(form)


# ---- modules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["auto", "cpu"])
@by_kind
def test_tensors_on_the_cpu_run_on_the_kernels(kind, backend):
    case = case_of(kind)
    module, padded, hx = case.module(np.float32), case.padded(np.float32), case.state(np.float32)
    expected, state_expected = module(padded, as_state(kind, hx), lengths=RAGGED)
    module.backend = backend
    tensors = as_state(kind, [torch.from_numpy(part) for part in hx])
    output, state = module(torch.from_numpy(padded), tensors, lengths=torch.tensor(RAGGED))
    assert isinstance(output, torch.Tensor)
    assert_same_bits(output.numpy(), expected)
    for part, e in zip(state_parts(state), state_parts(state_expected), strict=True):
        assert_same_bits(part.numpy(), e)
    packed = pack_padded_sequence(torch.from_numpy(padded), RAGGED)
    output, _ = module(packed, tensors)
    assert_same_bits(output.data.numpy(), pack_padded_sequence(expected, RAGGED).data)


def test_cells_take_tensors():
    cell, x = LSTMCell(3, 4, rng=0), np.ones((2, 3), np.float32)
    for part, expected in zip(cell(torch.from_numpy(x)), cell(x), strict=True):
        assert_same_bits(part.numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@by_kind
def test_halves_stay_halves_in_torch(kind, dtype):
    """Each of 5 steps of 2 layers rounds weights, sums and gates: 60 roundings of values below 1,
    each of eps / 2, is more than the recurrence makes of them."""
    case = case_of(kind, lengths=(5, 0, 3))
    module = case.module(np.float32, backend="torch")
    expected, _ = module(case.padded(np.float32), lengths=case.lengths)
    x = as_tensors(case.padded(np.float32)).to(dtype)
    output, state = module(x, lengths=case.lengths)
    assert output.dtype == dtype
    assert all(part.dtype == dtype for part in state_parts(state))
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(
        as_arrays(output.float()), expected, rtol=0, atol=30 * torch.finfo(dtype).eps * scale
    )


def test_weights_go_up_once_and_again_when_they_change():
    module, x = LSTM(2, 3, backend="torch", rng=0), torch.ones(4, 2, device=device())
    upload = torch_layers.Layers._upload
    with mock.patch.object(
        torch_layers.Layers, "_upload", autospec=True, side_effect=upload
    ) as uploads:
        for _ in range(3):
            module(x)
        assert uploads.call_count == 1
        weights = LSTM(2, 3, rng=1).state_dict()
        module.load_state_dict(weights)
        output, _ = module(x)
        assert uploads.call_count == 2
    twin = LSTM.from_state_dict(weights)
    twin.backend = "torch"
    assert torch.equal(output, twin(x)[0])


def test_weights_that_went_up_in_inference_mode_serve_outside_of_it():
    module, x = GRU(2, 3, backend="torch", rng=0), torch.ones(4, 2, device=device())
    with torch.inference_mode():
        expected, _ = module(x)
    assert torch.equal(module(x)[0], expected)
    with torch.no_grad():
        assert torch.equal(module(x.requires_grad_())[0], expected)


def test_torchs_random_numbers_are_not_drawn():
    before = torch.get_rng_state()
    LSTM(2, 3, backend="torch", rng=0)(np.ones((4, 2), np.float32))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("name", ["input", "h_0"])
def test_gradients_are_refused_rather_than_lost(name, backend):
    module = GRU(2, 3, backend=backend)
    x, h = torch.ones(4, 2), torch.ones(1, 3)
    {"input": x, "h_0": h}[name].requires_grad_()
    with pytest.raises(ValueError, match=f"{name} requires a gradient.*no_grad"):
        module(x, h)
    with torch.no_grad():
        output, _ = module(x, h)
    assert not output.requires_grad


def test_devices_that_do_not_fit():
    module, elsewhere = GRU(2, 3), torch.ones(4, 2, device="meta")
    module.backend = "cpu"
    with pytest.raises(ValueError, match="input is on meta, where backend 'cpu' does not run"):
        module(elsewhere)
    # No weights are packed for a call that is not the CPU's.
    assert module._weights.network is None
    module.backend = "torch"
    with pytest.raises(ValueError, match="h_0 must be on cpu, where the input is, got meta"):
        module(torch.ones(4, 2), torch.ones(1, 3, device="meta"))


@pytest.mark.filterwarnings("ignore")  # torch's own, about such tensors
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("kind", ["sparse", "nested"])
@pytest.mark.parametrize("name", ["input", "h_0"])
def test_modules_take_dense_tensors(name, kind, backend):
    module = GRU(2, 3, backend=backend)
    given = {"input": torch.ones(3, 4, 2), "h_0": torch.ones(1, 4, 3)}
    x = given[name]
    given[name] = x.to_sparse() if kind == "sparse" else torch.nested.nested_tensor(list(x))
    with pytest.raises(TypeError, match=f"{name} must be a dense tensor, got a {kind} one"):
        module(given["input"], given["h_0"])


def test_lengths_on_the_meta_device():
    with pytest.raises(ValueError, match="lengths is on the meta device"):
        pack_padded_sequence(torch.ones(3, 2), torch.ones(2, dtype=torch.int64, device="meta"))


def test_torchs_packed_sequence_is_told_apart():
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(4, 2)])
    message = "must be an? .*, got torch's PackedSequence: packseq.torch.from_torch"
    for call in (GRU(2, 3), packseq.pad_packed_sequence, packseq.unpack_sequence):
        with pytest.raises(TypeError, match=message):
            call(packed)
    with pytest.raises(TypeError, match="got packseq's own"):
        packseq.torch.from_torch(pack_sequence([np.ones((4, 2))]))


def test_a_dtype_may_be_torchs():
    assert GRU(2, 3, dtype=torch.float64).dtype == np.float64
    with pytest.raises(TypeError, match=r"dtype must be float32 or float64, got torch\.float16"):
        GRU(2, 3, dtype=torch.float16)


def test_threads_are_counted_for_tensors_too():
    with pytest.raises(ValueError, match="num_threads must be at least 1, got 0"):
        GRU(2, 3, backend="torch")(torch.ones(4, 2), num_threads=0)


def test_out_is_for_arrays():
    with pytest.raises(ValueError, match="out must be None for tensors"):
        GRU(2, 3, backend="torch")(torch.ones(4, 2), out=np.ones((4, 3), np.float32))


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("sequences", [1, 2, 5])
@by_kind
def test_chunks_of_sequences_give_what_the_whole_batch_gives(monkeypatch, kind, sequences, lanes):
    """Bit for bit on the CPU, where each sequence's sums are in one order."""
    case = case_of(kind, lengths=(3, 0, 7, 1, 5, 7, 4, 4, 0, 2))
    module = case.module(np.float64, backend="torch")
    padded, hx = case.padded(np.float64), as_state(kind, case.state(np.float64))
    packed = pack_sequence(case.sequences(np.float64))
    runs = [lambda: module(padded, hx, lengths=case.lengths), lambda: module(packed, hx)]
    whole = [run() for run in runs]
    monkeypatch.setattr(offload, "count_chunks", lambda count, nbytes: max(1, count // sequences))
    streams = tuple(offload._Lane(device()) for _ in range(lanes))
    monkeypatch.setattr(offload, "_lanes", lambda device: streams)
    for run, (output_whole, state_whole) in zip(runs, whole, strict=True):
        output, state = run()
        rows, rows_whole = (getattr(y, "data", y) for y in (output, output_whole))
        np.testing.assert_allclose(rows, rows_whole, rtol=0, atol=1e-14)
        for part, e in zip(state_parts(state), state_parts(state_whole), strict=True):
            np.testing.assert_allclose(part, e, rtol=0, atol=1e-14)


def test_arrays_are_cut_where_chunks_are_large_enough(monkeypatch):
    monkeypatch.setattr(offload, "CHUNK_SEQUENCES", 10)
    monkeypatch.setattr(offload, "CUT_BYTES", 8000)
    monkeypatch.setattr(offload, "CHUNK_BYTES", 40000)
    module, run = LSTM(8, 2, backend="torch"), torch_layers.Layers.run
    for batch, steps, chunks in [
        (19, 100, 1),
        (20, 9, 1),
        (20, 10, 2),
        (20, 100, 2),
        (45, 60, 2),
        (45, 67, 3),
        (45, 500, 4),
    ]:
        with mock.patch.object(torch_layers.Layers, "run", autospec=True, side_effect=run) as runs:
            module(np.ones((steps, batch, 8), np.float32))
        assert runs.call_count == chunks  # 10 columns of 4 bytes cross for each row


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("before", ["tf32", "ieee"])
def test_tf32_is_off_unless_asked_and_put_back(before, allow):
    packseq.set_backend("auto", allow_tf32=allow)
    on_gpu = SimpleNamespace(device=SimpleNamespace(type="cuda"), dtype=torch.float32)
    owner, name, off = torch_layers._tf32_switch()
    on = "tf32" if off == "ieee" else True
    given, setting = getattr(owner, name), on if before == "tf32" else off
    try:
        setattr(owner, name, setting)
        with torch_layers._float32_products(on_gpu):
            assert getattr(owner, name) == (setting if allow else off)
        assert getattr(owner, name) == setting
    finally:
        setattr(owner, name, given)


# ---- packed sequences and layout ----------------------------------------------------------------


def packed_tensors():
    """Sequences of 1, 3, 0 and 2 steps."""
    data = torch.arange(12.0, device=device()).reshape(6, 2)
    return PackedSequence(data, [3, 2, 1], [1, 3, 0, 2])


def test_a_packed_sequence_of_tensors():
    packed = packed_tensors()
    assert (packed.dtype, packed.nbytes) == (torch.float32, 48)
    assert repr(packed) == "PackedSequence(4 sequences of 0 to 3 steps, data (6, 2) torch.float32)"
    assert isinstance(packed.batch_sizes, np.ndarray)
    assert packed.data.data_ptr() == packed.data.data_ptr()


@pytest.mark.parametrize("dtype", [torch.int16, np.int16, "int16"])
def test_astype_takes_either_librarys_dtype(dtype):
    packed = packed_tensors().astype(dtype)
    assert packed.dtype == torch.int16
    np.testing.assert_array_equal(as_arrays(packed.data), np.arange(12).reshape(6, 2))


@pytest.mark.parametrize("dtype", [object, "S3", "M8[s]"])
def test_astype_to_what_torch_lacks(dtype):
    with pytest.raises(TypeError, match="dtype must"):
        packed_tensors().astype(dtype)


@pytest.mark.parametrize(
    "copier", [copy.copy, copy.deepcopy, lambda packed: pickle.loads(pickle.dumps(packed))]
)
def test_copies_and_pickles_of_tensors(copier):
    packed = packed_tensors()
    copied = copier(packed)
    assert copied.data.device == packed.data.device
    assert torch.equal(copied.data, packed.data)
    np.testing.assert_array_equal(copied.lengths, packed.lengths)
    assert (copied.data.data_ptr() == packed.data.data_ptr()) == (copier is copy.copy)


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("sparse", lambda x: x.to_sparse()),
        ("nested", lambda x: torch.nested.nested_tensor(list(x))),
        ("quantized", lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch's own, about such tensors
def test_tensors_that_are_not_dense(kind, make):
    with pytest.raises(TypeError, match=f"input must be a dense tensor, got a {kind} one"):
        pack_padded_sequence(make(torch.eye(3)), [1, 2, 3])


def test_lengths_in_a_tensor_are_integers():
    for dtype in (torch.bfloat16, torch.float32, torch.bool):
        name = str(dtype).removeprefix("torch.")
        with pytest.raises(TypeError, match=f"lengths must be integers, got dtype {name}"):
            pack_padded_sequence(torch.ones(3, 2, 1), torch.ones(2, dtype=dtype))


def test_a_list_is_of_arrays_or_of_tensors_on_one_device():
    with pytest.raises(ValueError, match=r"\[1\] is an ndarray, sequences\[0\] is a tensor on cpu"):
        pack_sequence([torch.ones(2), np.ones(2, np.float32)])
    with pytest.raises(ValueError, match=r"\[1\] is a tensor on meta, sequences\[0\] is a tensor"):
        pack_sequence([torch.ones(2), torch.ones(2, device="meta")])


def test_padding_that_a_short_float_cannot_hold():
    sequences = [torch.ones(2, dtype=torch.bfloat16), torch.ones(1, dtype=torch.bfloat16)]
    assert packseq.pad_sequence(sequences, True, -1.5)[1, 1] == -1.5
    for value in (3.4e38, 1e300, "x"):
        message = re.escape(f"padding_value {value!r} does not fit dtype bfloat16")
        with pytest.raises(ValueError, match=message):
            packseq.pad_sequence(sequences, padding_value=value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("float8_e4m3fn", 1e9), ("float8_e4m3fn", np.inf), ("float8_e5m2", -1e9)],
)
def test_padding_that_eight_bits_cannot_hold(name, value):
    sequences = [torch.ones(n).to(getattr(torch, name)) for n in (2, 1)]
    assert packseq.pad_sequence(sequences, True, -1.5).float()[1, 1] == -1.5
    with pytest.raises(ValueError, match=f"does not fit dtype {name}"):
        packseq.pad_sequence(sequences, padding_value=value)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_tensor_without_values_is_refused(backend):
    module = LSTM(2, 3, backend=backend)
    with pytest.raises(ValueError, match="input is on the meta device"):
        module(torch.ones(4, 2, device="meta"))


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.uint16, torch.uint32, torch.uint64, torch.float8_e5m2]
)
def test_dtypes_that_torch_hardly_moves(dtype):
    rng = np.random.default_rng(0)
    whole = [rng.integers(0, 9, (n, 2)).astype(np.float32) for n in (3, 0, 7, 1)]
    sequences = [torch.tensor(array).to(dtype).to(device()) for array in whole]
    packed = pack_sequence(sequences)
    for got in (
        packseq.unpack_sequence(packed),
        packseq.unpad_sequence(*packseq.pad_packed_sequence(packed)),
        packseq.unpad_sequence(packseq.pad_sequence(sequences), [3, 0, 7, 1]),
    ):
        for tensor, expected in zip(got, sequences, strict=True):
            assert tensor.dtype == dtype
            np.testing.assert_array_equal(as_arrays(tensor.float()), as_arrays(expected.float()))


def test_gradients_pass_through_the_layout():
    """Even if the plan was first used in inference mode, whose tensors no graph may keep."""
    padded = torch.ones(7, 3, 2, device=device())
    packed = pack_padded_sequence(padded, [2, 7, 0])
    with torch.inference_mode():
        packseq.pad_packed_sequence(packed)
        packseq.unpack_sequence(packed)
    data = packed.data.clone().requires_grad_()
    again = PackedSequence._of(data, packed._plan)
    out = packseq.pad_packed_sequence(again)[0].sum() + packseq.unpack_sequence(again)[1].sum()
    out.backward()
    expected = pack_padded_sequence(torch.tensor([1.0, 2.0, 0.0]).expand(7, 3), [2, 7, 0]).data
    np.testing.assert_array_equal(as_arrays(data.grad)[:, 0], expected)


# ---- with a GPU ---------------------------------------------------------------------------------


@cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_nothing_waits_for_the_gpu_but_lengths_that_are_on_it():
    x = torch.ones(9, 4, 8, device="cuda")
    module = LSTM(8, 16, backend="torch")
    module(x)  # the weights are there
    try:
        torch.cuda.set_sync_debug_mode("error")
        packed = pack_padded_sequence(x, [9, 0, 4, 9])
        output, _ = module(packed)
        packseq.pad_packed_sequence(output)
        packseq.unpack_sequence(output)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@cuda
def test_lengths_on_the_gpu():
    x = torch.arange(12.0, device="cuda").reshape(4, 3)
    packed = pack_padded_sequence(x, torch.tensor([1, 4, 2], device="cuda"))
    assert packed.data.device == x.device
    np.testing.assert_array_equal(packed.lengths, [1, 4, 2])


def test_tensors_turn_round_as_arrays_do():
    sequences = [np.arange(4 * n).reshape(n, 4) for n in (3, 0, 5, 5, 1)]
    turned = pack_sequence([torch.tensor(sequence) for sequence in sequences]).reverse()
    expected = pack_sequence(sequences).reverse()
    np.testing.assert_array_equal(turned.data.numpy(), expected.data)


@pytest.mark.parametrize(
    "operation",
    [
        lambda p: p + 1,
        lambda p: p @ np.eye(4),
        lambda p: p[0],
        lambda p: p.sum(),
        lambda p: p.shift(1),
        lambda p: p.slice(1),
        lambda p: packseq.concatenate([p, p]),
        lambda p: packseq.cross_entropy(p, p),
    ],
)
def test_operations_on_rows_say_that_they_are_numpys(operation):
    packed = pack_sequence([torch.zeros(3, 4), torch.zeros(2, 4)])
    with pytest.raises(TypeError, match="holds a torch tensor"):
        operation(packed)
