"""`out=`: the output goes where the caller says, and nowhere that it must not."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from strategies import DTYPES, KINDS, Case, as_state, assert_close, assert_same_bits, state_parts

from packseq import PackedSequence, pack_sequence

LENGTHS = (3, 0, 7, 1, 5, 7)
FORMS = ("packed", "padded", "batch_first", "one sequence")

by_form = pytest.mark.parametrize("form", FORMS)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


class Call:
    """A module and its arguments in one form; two layers and directions, with first states."""

    def __init__(self, form, kind="LSTM", dtype=np.float32):
        lengths = LENGTHS[2:3] if form == "one sequence" else LENGTHS
        options = {"num_layers": 2, "bidirectional": True, "batch_first": form == "batch_first"}
        case = Case(kind, 4, 9, lengths, options, seed=1)
        self.module = case.module(dtype)
        self.hx = as_state(kind, case.state(dtype))
        self.lengths = None
        if form == "packed":
            self.input = pack_sequence(case.sequences(dtype))
        elif form == "one sequence":
            (self.input,) = case.sequences(dtype)
            self.hx = as_state(kind, [part[:, 0] for part in case.state(dtype)])
        else:
            self.input, self.lengths = case.padded(dtype, extra_steps=2), lengths

    def __call__(self, **how):
        return self.module(self.input, self.hx, lengths=self.lengths, **how)

    @property
    def array(self):
        """The input's memory."""
        return rows(self.input)

    @property
    def shape(self):
        """What `out` must have."""
        return (*self.array.shape[:-1], 18)


def rows(output):
    return output.data if isinstance(output, PackedSequence) else output


def cut_from_a_larger_array(shape, dtype):
    return np.full([extent + 3 for extent in shape], np.nan, dtype)[tuple(map(slice, shape))]


def backwards(shape, dtype):
    return np.full(shape, np.nan, dtype)[::-1]


def every_other_row(shape, dtype):
    return np.full((2 * shape[0], *shape[1:]), np.nan, dtype)[::2]


def axes_swapped(shape, dtype):
    """The last axis stays."""
    leading = shape[:-1][::-1]
    array = np.full((*leading, shape[-1]), np.nan, dtype)
    return array.transpose(*range(len(leading))[::-1], len(leading))


def plain(shape, dtype):
    return np.full(shape, np.nan, dtype)


@pytest.mark.parametrize(
    "make", [plain, cut_from_a_larger_array, backwards, every_other_row, axes_swapped]
)
@pytest.mark.parametrize("num_threads", [None, 2])
@by_form
@by_dtype
def test_output_is_written_there(dtype, form, num_threads, make):
    """Whatever was there before, the padding's zeros included."""
    call = Call(form, dtype=dtype)
    expected, state_expected = call()
    out = make(call.shape, dtype)
    output, state = call(out=out, num_threads=num_threads)
    assert np.shares_memory(rows(output), out)
    assert_same_bits(out, rows(expected))
    for part, part_expected in zip(state_parts(state), state_parts(state_expected), strict=True):
        assert_same_bits(part, part_expected)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_writes_there(kind):
    call = Call("packed", kind)
    out = plain(call.shape, np.float32)
    call(out=out)
    assert_same_bits(out, rows(call()[0]))


def test_nothing_is_written_beside_it():
    call = Call("padded")
    room = np.full([extent + 2 for extent in call.shape], np.nan, np.float32)
    call(out=room[1:-1, 1:-1, 1:-1])
    room[1:-1, 1:-1, 1:-1] = np.nan
    assert np.isnan(room).all()


@by_form
def test_first_states_may_lie_in_it(form):
    """They are read while it is written, so they are copied first."""
    for place in (slice(0, None), slice(None, None, -1)):  # from the first row on, or the last
        call = Call(form)
        expected, _ = call()
        h, c = call.hx
        out = np.empty(call.shape, np.float32)
        inside = out.reshape(-1)[place][: h.size].reshape(h.shape)
        inside[...] = h
        call.hx = inside, c
        call(out=out)
        assert_same_bits(out, rows(expected))


def test_the_last_step_of_a_stream_may_be_the_next_state():
    """out and hx one array, call after call: no allocation, and still the right state."""
    call = Call("one sequence", "GRU")
    module = Case("GRU", 4, 9, (7,), seed=1).module(np.float32)
    expected, _ = module(call.input)
    out = np.zeros((1, 9), np.float32)
    for x, row in zip(call.input, expected, strict=True):
        module(x[None], out, out=out)
        assert_close(out[0], row)


def test_an_empty_batch_takes_it_too():
    module = Call("packed").module
    out = np.empty((0, 18), np.float32)
    output, _ = module(pack_sequence([np.empty((0, 4), np.float32)]), out=out)
    assert output.data.shape == out.shape


# ---- what is refused ---------------------------------------------------------------------------


def assert_refused(call, out, error, message):
    before = call.array.copy()
    with pytest.raises(error, match=message):
        call(out=out)
    np.testing.assert_array_equal(call.array, before)


@by_form
def test_wrong_shape(form):
    call = Call(form)
    good = call.shape
    for shape in [(good[0] + 1, *good[1:]), (*good[:-1], 17), good[1:], (1, *good)]:
        out = np.empty(shape, np.float32)
        assert_refused(call, out, ValueError, r"out must have shape \(.*\), got \(")


@pytest.mark.parametrize("dtype", [np.float64, np.int32, object, ">f4"])
@by_form
def test_wrong_dtype(form, dtype):
    call = Call(form)
    out = np.empty(call.shape, dtype)
    assert_refused(call, out, TypeError, "out must be of float32, got dtype")


def test_no_array():
    call = Call("packed")
    out = np.empty(call.shape, np.float32).tolist()
    assert_refused(call, out, TypeError, "out must be an ndarray, got list")
    assert_refused(call, call.input, TypeError, "out must be an ndarray, got PackedSequence")
    out = np.ma.zeros(call.shape, np.float32)
    assert_refused(call, out, TypeError, "out must not be a masked array")


def read_only(shape):
    array = np.empty(shape, np.float32)
    array.flags.writeable = False
    return array


def last_axis_apart(shape):
    return np.empty((*shape[:-1], 2 * shape[-1]), np.float32)[..., ::2]


def last_axis_backwards(shape):
    return np.empty(shape, np.float32)[..., ::-1]


def misaligned(shape):
    memory = np.empty(4 * int(np.prod(shape)) + 1, np.uint8)
    return memory[1:].view(np.float32).reshape(shape)


@by_form
def test_memory_that_cannot_be_written(form):
    call = Call(form)
    assert_refused(call, read_only(call.shape), ValueError, "out must be writeable")


@pytest.mark.parametrize("make", [last_axis_apart, last_axis_backwards, misaligned])
@by_form
def test_memory_that_cannot_be_written_in_rows(form, make):
    call = Call(form)
    message = "out must be aligned, and contiguous along its last axis"
    assert_refused(call, make(call.shape), ValueError, message)


def one_row_for_all(shape):
    strides = (*[0] * (len(shape) - 1), 4)
    return as_strided(np.empty(shape[-1], np.float32), shape, strides)


def rows_that_overlap(shape):
    """Each begins one number after the last one: a sliding window."""
    strides = (*[4] * (len(shape) - 1), 4)
    return as_strided(np.empty(sum(shape), np.float32), shape, strides)


@pytest.mark.parametrize("make", [one_row_for_all, rows_that_overlap])
@by_form
def test_memory_that_overlaps_itself(form, make):
    call = Call(form)
    message = "out must not overlap itself"
    assert_refused(call, make(call.shape), ValueError, message)


@by_form
def test_memory_of_the_input(form):
    """Its first numbers are the input's last."""
    call = Call(form)
    size, room = call.array.size, np.empty(2 * call.array.size + 18 * call.array.size, np.float32)
    shared = room[:size].reshape(call.array.shape)
    shared[...] = call.array
    if form == "packed":
        plan = call.input.batch_sizes, call.input.sorted_indices, call.input.unsorted_indices
        call.input = PackedSequence(shared, *plan)
    else:
        call.input = shared
    out = room[size - 1 :][: int(np.prod(call.shape))].reshape(call.shape)
    assert_refused(call, out, ValueError, "out must lie apart from input's memory")
