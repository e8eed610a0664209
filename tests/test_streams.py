"""Many live sessions of one module: each gives what it gives alone, whatever is pushed with it."""

import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    DTYPES,
    KINDS,
    OWN_KINDS,
    assert_same_bits,
    make_module,
    state_parts,
)

import packseq
from packseq import GRU, LSTM, LSTMCell, PackedSequence, Streams, pack_sequence, unpack_sequence

# A session's bits are those of the module alone, on the kernels; tests/test_blas.py has the rest.
pytestmark = pytest.mark.usefixtures("on_kernels")

INPUT, HIDDEN = 5, 9


@pytest.fixture
def lstm():
    return LSTM(INPUT, HIDDEN, 2, rng=0)


@pytest.fixture
def streams(lstm):
    """Four open sessions, 0 to 3, whose states are not zeros."""
    made = Streams(lstm)
    made.push([made.open() for _ in range(4)], frames_of(4))
    return made


def frames_of(n, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((n, INPUT)).astype(dtype)


def states_of(streams):
    return {id: [part.copy() for part in state_parts(streams.state(id))] for id in streams}


def assert_same_states(actual, expected):
    assert actual.keys() == expected.keys()
    for id, parts in expected.items():
        for part, part_e in zip(actual[id], parts, strict=True):
            assert_same_bits(part, part_e)


# ---- the same bits as alone --------------------------------------------------------------------

FORMS = ("rows", "list", "packed")


@st.composite
def histories(draw):
    """A module, and pushes: (form, threads, frames of each session, by its number)."""
    kind = draw(st.sampled_from(KINDS + OWN_KINDS))
    hidden = draw(st.sampled_from((1, 8, 17, 33)))
    options = {"num_layers": draw(st.integers(1, 3)), "dtype": draw(st.sampled_from(DTYPES))}
    options["bias"] = draw(st.booleans())
    if kind.startswith("LSTM"):
        options["proj_size"] = draw(st.integers(0, hidden - 1))
    sessions = draw(st.integers(1, 40))
    pushes = []
    for _ in range(draw(st.integers(1, 6))):
        form = draw(st.sampled_from(FORMS))
        which = draw(st.lists(st.integers(0, sessions - 1), unique=True))
        lengths = [1 if form == "rows" else draw(st.integers(0, 4)) for _ in which]
        pushes.append((form, draw(st.integers(1, 3)), which, lengths))
    return kind, hidden, options, sessions, pushes


def push(streams, form, ids, frames):
    """A list of (L, I) in one of the forms, and the outputs as a list again."""
    if form == "rows":
        rows = np.concatenate(frames) if frames else np.zeros((0, INPUT), streams.module.dtype)
        return list(streams.push(np.array(ids, np.int64), rows)[:, None])
    if form == "list" or not frames:
        return streams.push(ids, frames)
    return unpack_sequence(streams.push(ids, pack_sequence(frames)))


@given(histories())
def test_any_grouping_is_each_session_alone(history):
    kind, hidden, options, sessions, pushes = history
    module = make_module(kind, INPUT, hidden, rng=0, **options)
    streams, rng, before = Streams(module), np.random.default_rng(0), packseq.get_num_threads()
    ids = [streams.open() for _ in range(sessions)]
    given_, got = {id: [] for id in ids}, {id: [] for id in ids}
    for form, threads, which, lengths in pushes:
        packseq.set_num_threads(threads)
        chosen = [ids[b] for b in which]
        frames = [rng.standard_normal((n, INPUT)).astype(options["dtype"]) for n in lengths]
        outputs = push(streams, form, chosen, frames)
        for id, x, y in zip(chosen, frames, outputs, strict=True):
            given_[id].append(x)
            got[id].append(y)
    packseq.set_num_threads(before)
    zeros = [np.zeros(part.shape, part.dtype) for part in state_parts(streams.state(ids[0]))]
    hx = tuple(zeros) if len(zeros) > 1 else zeros[0]
    for id in ids:
        if not given_[id]:
            assert not any(part.any() for part in state_parts(streams.state(id)))
            continue
        output, state = module(np.concatenate(given_[id]), hx, num_threads=1)
        assert_same_bits(np.concatenate(got[id]), output)
        for part, part_e in zip(state_parts(streams.state(id)), state_parts(state), strict=True):
            assert_same_bits(part, part_e)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("kind", "hidden", "sessions"), [("LSTM", 256, 3), ("GRU", 96, 700)])
def test_teams_and_shards(kind, hidden, sessions, threads):
    """Few sessions, whose hidden units threads share, and more than a shard has."""
    module = make_module(kind, INPUT, hidden, rng=0)
    streams, before = Streams(module), packseq.get_num_threads()
    ids = np.random.default_rng(0).permutation([streams.open() for _ in range(sessions)])
    steps = [frames_of(sessions, seed) for seed in range(12)]
    packseq.set_num_threads(threads)
    outputs = [streams.push(ids, rows) for rows in steps]
    packseq.set_num_threads(before)
    for b in range(0, sessions, 101 if sessions > 100 else 1):
        output, state = module(np.stack([rows[b] for rows in steps]), num_threads=1)
        assert_same_bits(np.stack([rows[b] for rows in outputs]), output)
        for part, part_e in zip(
            state_parts(streams.state(ids[b])), state_parts(state), strict=True
        ):
            assert_same_bits(part, part_e)


@pytest.mark.parametrize("options", [{"recurrent_activation": "hard_sigmoid"}, {"bias": False}])
@pytest.mark.parametrize("kind", ["GRU_RESET_BEFORE", "LSTM_PEEPHOLE"])
def test_variants(kind, options):
    module = make_module(kind, INPUT, HIDDEN, rng=0, **options)
    streams, x = Streams(module), frames_of(6)
    id = streams.open()
    outputs = [streams.push([id], row[None])[0] for row in x]
    assert_same_bits(np.stack(outputs), module(x)[0])


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_fewer_bits(kind, precision):
    module = make_module(kind, INPUT, HIDDEN, num_layers=2, rng=0).quantize(precision)
    streams, sequences = Streams(module), [frames_of(6, seed) for seed in range(5)]
    ids = [streams.open() for _ in sequences]
    outputs = [
        streams.push(ids[::-1], np.stack(rows)) for rows in zip(*sequences[::-1], strict=True)
    ]
    for b, x in enumerate(sequences):
        assert_same_bits(np.stack([rows[-1 - b] for rows in outputs]), module(x)[0])


# ---- forms of frames ---------------------------------------------------------------------------


def test_outputs_have_the_form_of_the_frames(streams):
    rows = streams.push([2, 0], frames_of(2))
    assert rows.shape == (2, HIDDEN)
    arrays = streams.push([2, 0], [frames_of(3), frames_of(0)])
    assert [array.shape for array in arrays] == [(3, HIDDEN), (0, HIDDEN)]
    packed = streams.push([2, 0], pack_sequence([frames_of(1), frames_of(2)]))
    assert isinstance(packed, PackedSequence)
    assert packed.lengths.tolist() == [1, 2]
    assert streams.push([], []) == []
    assert streams.push([], np.zeros((0, INPUT), np.float32)).shape == (0, HIDDEN)


def test_an_empty_array_leaves_its_state_alone(streams):
    before = states_of(streams)
    streams.push([1, 3], [frames_of(0), frames_of(0)])
    assert_same_states(states_of(streams), before)
    streams.push([1, 3], [frames_of(0), frames_of(2)])
    after = states_of(streams)
    assert_same_states({1: after[1]}, {1: before[1]})
    assert not np.array_equal(after[3][0], before[3][0])


@pytest.mark.parametrize("ids", [(3, 1), np.array([3, 1], np.int32), np.array([3, 0, 1, 0])[::2]])
def test_ids_in_any_form(streams, ids):
    twin = pickle.loads(pickle.dumps(streams))
    assert_same_bits(streams.push(ids, frames_of(2)), twin.push([3, 1], frames_of(2)))


def test_frames_of_the_other_width_and_any_strides(streams):
    twin, x = pickle.loads(pickle.dumps(streams)), frames_of(8)
    expected = twin.push([0, 1, 2, 3], x[::2].copy())
    assert_same_bits(streams.push([0, 1, 2, 3], x[::2].astype(np.float64)), expected)


def test_tensors_give_tensors(streams):
    torch = pytest.importorskip("torch")
    twin = pickle.loads(pickle.dumps(streams))
    output = streams.push([1, 2], torch.from_numpy(frames_of(2)))
    assert isinstance(output, torch.Tensor)
    assert_same_bits(output.numpy(), twin.push([1, 2], frames_of(2)))


# ---- sessions come and go ----------------------------------------------------------------------


def test_ids_are_given_in_turn_and_never_again(lstm):
    streams = Streams(lstm)
    assert [streams.open() for _ in range(3)] == [0, 1, 2]
    streams.close(1)
    assert streams.open() == 3
    assert list(streams) == [0, 2, 3]
    assert len(streams) == 3


def test_a_session_that_has_anothers_place_begins_with_zeros(streams):
    streams.close(2)
    for part in streams.state(streams.open()):
        assert not part.any()


def test_many_come_and_go(lstm):
    """Against a set and a dict: what is open, and whose state is whose."""
    streams, rng, expected = Streams(lstm), np.random.default_rng(0), {}
    for value in range(3000):
        if expected and rng.random() < 0.45:
            id = int(rng.choice(list(expected)))
            streams.close(id)
            del expected[id]
        else:
            id = streams.open()
            streams.set_state(id, [np.full((2, HIDDEN), value, np.float32)] * 2)
            expected[id] = value
    assert list(streams) == sorted(expected)
    for id, value in expected.items():
        assert all((part == value).all() for part in streams.state(id))


def test_capacity(lstm):
    streams = Streams(lstm, capacity=2)
    streams.open(), streams.open()
    with pytest.raises(RuntimeError, match="all 2 sessions that there may be are open"):
        streams.open()
    streams.close(0)
    assert streams.open() == 2


def test_reset_is_a_new_session(streams):
    streams.reset(1)
    assert not any(part.any() for part in streams.state(1))
    assert streams.state(0)[0].any()


@pytest.mark.parametrize("kind", KINDS)
def test_states_have_the_modules_form(kind):
    module = make_module(kind, INPUT, HIDDEN, 2, rng=0)
    streams = Streams(module)
    id, x = streams.open(), frames_of(4)
    _, state = module(x)
    streams.set_state(id, state)
    for part, part_e in zip(state_parts(streams.state(id)), state_parts(state), strict=True):
        assert_same_bits(part, part_e)
    assert_same_bits(streams.push([id], [x])[0], module(x, state)[0])


def test_new_weights_count_from_the_next_push(streams, lstm):
    state = streams.state(0)
    lstm.load_state_dict(LSTM(INPUT, HIDDEN, 2, rng=7).state_dict())
    assert_same_bits(streams.push([0], frames_of(1)), lstm(frames_of(1), state)[0])


# ---- all or nothing ----------------------------------------------------------------------------

BAD_PUSHES = {
    "closed": ([0, 9], 2, ValueError, r"ids\[1\] = 9 is of a session that was closed"),
    "never opened": ([10, 0], 2, ValueError, r"ids\[0\] = 10 is of no session: it was never"),
    "negative": ([0, -1], 2, ValueError, r"ids\[1\] = -1 is of no session"),
    "beyond int64": ([0, 2**63], 2, ValueError, r"ids\[1\] = .* is beyond int64"),
    "twice": ([0, 1, 0], 3, ValueError, r"ids\[2\] = 0 is there twice"),
    "too few rows": ([0, 1], 1, ValueError, "frames has 1 rows, but ids has 2"),
    "floats": ([0.0, 1.0], 2, TypeError, "ids must be integers"),
    "booleans": ([True, False], 2, TypeError, "ids must be integers"),
    "two axes": ([[0, 1]], 2, ValueError, "ids must be 1-D"),
}


@pytest.mark.parametrize("name", BAD_PUSHES)
@pytest.mark.parametrize("listed", [False, True])
def test_bad_ids_change_no_state(streams, name, listed):
    ids, n, error, message = BAD_PUSHES[name]
    for _ in range(5, 11):
        streams.open()
    streams.close(9)
    before = states_of(streams)
    frames = list(frames_of(n)[:, None]) if listed else frames_of(n)
    with pytest.raises(error, match=message.replace("rows", "sequences" if listed else "rows")):
        streams.push(ids, frames)
    assert_same_states(states_of(streams), before)
    streams.push([0, 1], frames_of(2))  # nothing is left claimed


BAD_FRAMES = {
    "width": (np.zeros((2, 4), np.float32), ValueError, "frames must have rows of input_size = 5"),
    "one row": (np.zeros(5, np.float32), ValueError, "frames must have rows of input_size = 5"),
    "integers": (np.zeros((2, 5), int), TypeError, "frames must be float32 or float64"),
    "masked": (np.ma.zeros((2, 5), np.float32), TypeError, "frames must not be a masked array"),
    "ragged widths": ([np.zeros((1, 5)), np.zeros((1, 4))], ValueError, r"frames\[1\] has \(4,\)"),
    "a scalar": ([np.zeros((1, 5)), 1.0], ValueError, r"frames\[1\] must have shape \(L, \*\)"),
    "an empty list": ([], ValueError, "frames must hold at least one sequence"),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_frames_change_no_state(streams, name):
    frames, error, message = BAD_FRAMES[name]
    before = states_of(streams)
    with pytest.raises(error, match=message):
        streams.push([0, 1], frames)
    assert_same_states(states_of(streams), before)


def test_a_bad_id_with_no_frames_is_an_error(streams):
    with pytest.raises(ValueError, match=r"ids\[0\] = 7"):
        streams.push([7], [frames_of(0)])


@pytest.mark.parametrize("call", ["close", "reset", "state"])
def test_of_what_is_not_open(streams, call):
    streams.close(2)
    with pytest.raises(ValueError, match="id = 2 is of a session that was closed"):
        getattr(streams, call)(2)
    with pytest.raises(ValueError, match="id = 4 is of no session: it was never opened"):
        getattr(streams, call)(4)
    with pytest.raises(ValueError, match="is of no session"):
        getattr(streams, call)(2**80)
    with pytest.raises(TypeError, match="id must be an integer"):
        getattr(streams, call)("0")


def test_bad_states(streams):
    h, c = streams.state(0)
    with pytest.raises(TypeError, match="hx must be a pair"):
        streams.set_state(0, h)
    with pytest.raises(ValueError, match=r"c must have shape \(2, 9\), got \(1, 9\)"):
        streams.set_state(0, (h, c[:1]))
    assert_same_bits(streams.state(0)[0], h)


# ---- modules -----------------------------------------------------------------------------------


def test_two_directions_are_refused():
    with pytest.raises(ValueError, match="module must have one direction"):
        Streams(GRU(2, 3, bidirectional=True))


@pytest.mark.parametrize("module", [LSTMCell(2, 3), None, LSTM])
def test_only_modules(module):
    with pytest.raises(TypeError, match="module must be an LSTM, GRU or RNN"):
        Streams(module)


@pytest.mark.parametrize("capacity", [0, -1])
def test_capacity_is_at_least_one(lstm, capacity):
    with pytest.raises(ValueError, match="capacity must be at least 1"):
        Streams(lstm, capacity)


def test_torch_backend_is_refused(streams, lstm, unset_backend):
    pytest.importorskip("torch")
    lstm.backend = "torch"
    with pytest.raises(ValueError, match="but the backend is 'torch'"):
        streams.push([0], frames_of(1))
    with pytest.raises(ValueError, match="but the backend is 'torch'"):
        Streams(lstm)
    lstm.backend = None
    packseq.set_backend("torch")
    with pytest.raises(ValueError, match="but the backend is 'torch'"):
        streams.push([0], frames_of(1))


# ---- snapshots ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, *OWN_KINDS])
def test_a_restored_server_goes_on(kind):
    module = make_module(kind, INPUT, HIDDEN, 2, rng=0, dtype=np.float64)
    streams = Streams(module)
    ids = [streams.open() for _ in range(9)]
    streams.push(ids, frames_of(9))
    for id in (0, 4, 8):
        streams.close(id)
    file = io.BytesIO()
    np.savez(file, **streams.state_dict())
    file.seek(0)
    restored = Streams(module, capacity=7)
    restored.open()
    restored.load_state_dict(np.load(file))
    assert_same_states(states_of(restored), states_of(streams))
    rows, left = frames_of(6, 1), list(streams)
    assert_same_bits(restored.push(left, rows), streams.push(left, rows))
    with pytest.raises(ValueError, match="id = 8 is of a session that was closed"):
        restored.state(8)
    assert restored.open() == streams.open() == 9


def test_a_snapshot_is_a_copy(streams):
    snapshot, before = streams.state_dict(), states_of(streams)
    streams.push([0], frames_of(1, 1))
    streams.load_state_dict(snapshot)
    assert_same_states(states_of(streams), before)


def test_pickles(streams):
    twin = pickle.loads(pickle.dumps(Streams(streams.module, capacity=9)))
    assert (len(twin), twin.capacity) == (0, 9)
    twin = pickle.loads(pickle.dumps(streams))
    assert_same_states(states_of(twin), states_of(streams))
    assert_same_bits(twin.push([3, 1], frames_of(2)), streams.push([3, 1], frames_of(2)))


BAD_SNAPSHOTS = {
    "no mapping": (lambda d: list(d), TypeError, "mapping must be a state dict"),
    "missing": (lambda d: {"ids": d["ids"]}, ValueError, "mapping must have ids, next_id, h, c"),
    "unexpected": (lambda d: d | {"x": 1}, ValueError, "mapping must have ids, next_id, h, c"),
    "twice": (lambda d: d | {"ids": [0, 1, 2, 1]}, ValueError, "got 1 twice"),
    "not below": (lambda d: d | {"ids": [0, 1, 2, 4]}, ValueError, r"got ids\[3\] = 4"),
    "negative": (lambda d: d | {"ids": [0, -1, 2, 3]}, ValueError, r"got ids\[1\] = -1"),
    "too many": (lambda d: d | {"next_id": 2**63 - 1}, ValueError, "next_id must be at most"),
    "shape": (lambda d: d | {"c": d["c"][:1]}, ValueError, r"c must have shape \(2, 4, 9\)"),
    "count": (lambda d: d | {"ids": d["ids"][:3]}, ValueError, r"h must have shape \(2, 3, 9\)"),
    "dtype": (lambda d: d | {"h": d["h"].astype(int)}, TypeError, "h must be float32 or float64"),
}


@pytest.mark.parametrize("name", BAD_SNAPSHOTS)
def test_a_bad_snapshot_changes_nothing(streams, name):
    change, error, message = BAD_SNAPSHOTS[name]
    before = states_of(streams)
    with pytest.raises(error, match=message):
        streams.load_state_dict(change(streams.state_dict()))
    assert_same_states(states_of(streams), before)


def test_a_snapshot_beyond_the_capacity(streams):
    with pytest.raises(ValueError, match="ids has 4 sessions, the capacity is 3"):
        Streams(streams.module, capacity=3).load_state_dict(streams.state_dict())


# ---- threads -----------------------------------------------------------------------------------


def test_threads_push_while_others_open_and_take_snapshots():
    """Each of four owns some sessions; the rest come and go, so that the table grows meanwhile."""
    module = LSTM(INPUT, 40, rng=0)
    streams, stop = Streams(module), threading.Event()
    owned = [[streams.open() for _ in range(10)] for _ in range(4)]
    steps = [frames_of(10, seed) for seed in range(60)]

    def open_and_close():
        kept = []
        while not stop.is_set() and len(kept) < 3000:
            kept += [streams.open() for _ in range(20)]
            streams.close(kept.pop(0))
            streams.state(owned[0][0])
        return len(kept)

    def snapshot():
        while not stop.is_set():
            taken = streams.state_dict()
            assert taken["h"].shape == (1, len(taken["ids"]), 40)
            assert {*map(int, taken["ids"])} >= {id for ids in owned for id in ids}

    with ThreadPoolExecutor(6) as pool:
        others = [pool.submit(open_and_close), pool.submit(snapshot)]
        pushing = [
            pool.submit(lambda ids=ids: [streams.push(ids, rows) for rows in steps])
            for ids in owned
        ]
        outputs = [future.result() for future in pushing]
        stop.set()
        opened = others[0].result()
        others[1].result()
    assert len(streams) == 40 + opened
    for rows in outputs:
        for b in range(10):
            alone, _ = module(np.stack([x[b] for x in steps]), num_threads=1)
            assert_same_bits(np.stack([y[b] for y in rows]), alone)


def test_a_session_in_two_pushes_at_once_is_an_error():
    """A push is refused as a whole, or comes after the other: never anything between."""
    module = GRU(INPUT, 64, rng=0)
    streams = Streams(module)
    ids = [streams.open() for _ in range(50)]
    x = frames_of(50)

    def push_often(own):
        done = 0
        for _ in range(200):
            try:
                streams.push([*own, *ids[20:]], x[: len(own) + 30])
                done += 1
            except RuntimeError as error:
                assert "is in another push" in str(error)
        return done

    with ThreadPoolExecutor(2) as pool:
        counts = [*pool.map(push_often, (ids[:10], ids[10:20]))]
    for id, row, count in ((0, 0, counts[0]), (10, 0, counts[1]), (20, 10, sum(counts))):
        _, state = module(np.repeat(x[row][None], count, 0))
        assert_same_bits(streams.state(id), state)
