"""Calls of the public functions, each made from a byte string: right, or the documented error.

The bytes decide sizes, values and memory layouts, and what is made wrong, if anything. That is
written down as it is made: a call must be refused if something is wrong, and only then.
"""

import itertools

import numpy as np
import reference
import reference_layout
from strategies import (
    FORMS,
    as_state,
    assert_close,
    assert_same_bits,
    make_module,
    pad,
    state_parts,
)

import packseq

DOCUMENTED = TypeError, ValueError
KINDS = ["LSTM", "GRU", "RNN_TANH", "RNN_RELU", "LSTM_PEEPHOLE", "GRU_RESET_BEFORE"]
LAYOUTS = [lambda x: x, *FORMS.values()]
DTYPES = [np.float32, np.float64, np.int16, np.complex64, np.bool_]


class Choices:
    """What a byte string decides, a byte each; beyond its end every choice is the first one."""

    def __init__(self, data):
        self._data = iter(data)
        self.faults = []

    def integer(self, low, high):
        return low + next(self._data, 0) % (high - low + 1)

    def integers(self, count, low, high):
        return [self.integer(low, high) for _ in range(count)]

    def one_of(self, values):
        return values[self.integer(0, len(values) - 1)]

    def maybe_wrong(self, what, right, wrongs):
        """`right`, or rarely one of `wrongs`, functions that make something wrong of it."""
        chosen = self.integer(0, 20 * len(wrongs))
        if not 0 < chosen <= len(wrongs):
            return right
        self.faults.append((what, chosen - 1))
        return wrongs[chosen - 1](right)

    def array(self, shape, dtype):
        values = np.array([*self.integers(16, 0, 255)]) / 64 - 2
        return np.resize(values, shape).astype(dtype)

    def attempt(self, call):
        """The result of a call, or None where it was refused, as it had to be."""
        try:
            result = call()
        except DOCUMENTED as error:
            assert self.faults, f"refused, though nothing is wrong: {error}"
            return None
        assert not self.faults, f"taken in spite of {self.faults}"
        return result


def check_facade(data):
    """One call, made from bytes and judged by the plain reference."""
    choices = Choices(data)
    choices.one_of([check_module, check_packing, check_ragged, check_fields])(choices)


# ---- modules -----------------------------------------------------------------------------------


def check_module(choices):
    """A padded batch with lengths, first states and a place for the output."""
    kind, dtype = choices.one_of(KINDS), choices.one_of([np.float32, np.float64])
    batch_first = choices.one_of([False, True])
    options = {
        "num_layers": choices.integer(1, 2),
        "bidirectional": choices.one_of([False, True]),
        "bias": choices.one_of([True, False]),
    }
    inputs, hidden = choices.integer(1, 5), choices.integer(1, 18)
    module = make_module(
        kind, inputs, hidden, batch_first=batch_first, dtype=dtype, rng=inputs, **options
    )  # fmt: skip
    lengths = choices.integers(choices.integer(1, 5), 0, 6)
    sequences = [choices.array((length, inputs), dtype) for length in lengths]
    extra = choices.integer(0, 1)
    padded = pad(sequences, inputs, batch_first, np.nan, extra)
    width = hidden * (1 + options["bidirectional"])
    cells = options["num_layers"] * (1 + options["bidirectional"])
    hx = first_states(choices, kind, (cells, len(lengths), hidden), dtype)
    result = choices.attempt(
        lambda: module(
            wrong_or_not(choices, padded),
            hx and as_state(kind, wrong_states(choices, hx)),
            lengths=given_lengths(choices, lengths, max(lengths) + extra),
            out=place(choices, (*padded.shape[:2], width), dtype),
            num_threads=choices.one_of([1, 2, 3]),
        )
    )
    if result is not None:
        outputs, finals = reference.run(kind, module.state_dict(), sequences, hx)
        assert_close(result[0], pad(outputs, width, batch_first, 0.0, extra))
        for part, final in zip(state_parts(result[1]), finals, strict=True):
            assert_close(part, final)


def wrong_or_not(choices, padded):
    wrongs = [
        lambda x: x[..., None],
        lambda x: x[..., 0],
        lambda x: np.concatenate([x, x], axis=2),
        lambda x: np.zeros(x.shape, np.int32),
        lambda x: np.ma.masked_invalid(x),
        lambda x: x.astype(object),
    ]
    return choices.maybe_wrong("input", choices.one_of(LAYOUTS)(padded), wrongs)


def given_lengths(choices, lengths, steps):
    """As a list or an array, of the right count and within the steps."""
    wrongs = [
        lambda x: [*x, 0],
        lambda x: x[:-1],
        lambda x: [*x[:-1], -1],
        lambda x: [*x[:-1], steps + 1],
        lambda x: [*x[:-1], 2**63],
        lambda x: np.array(x, np.float32),
        lambda x: np.array([x]),
    ]
    forms = [list, tuple, np.array, lambda x: np.array(x, np.uint8), lambda x: np.array(x, ">i4")]
    return choices.maybe_wrong("lengths", choices.one_of(forms)(lengths), wrongs)


def first_states(choices, kind, shape, dtype):
    """(h,), (h, c) or None."""
    if choices.one_of([True, False]):
        return None
    return tuple(choices.array(shape, dtype) / 2 for _ in range(1 + kind.startswith("LSTM")))


def wrong_states(choices, hx):
    wrongs = [
        lambda x: x[:, :-1],
        lambda x: x[..., :-1],
        lambda x: x.astype(complex),
        lambda x: np.concatenate([x, x]),
    ]
    last = choices.maybe_wrong("hx", choices.one_of(LAYOUTS)(hx[-1]), wrongs)
    return (*hx[:-1], last)


def place(choices, shape, dtype):
    """An array for the output, or None."""
    if choices.one_of([True, False]):
        return None
    wrongs = [
        lambda x: x[..., :-1],
        lambda x: np.empty((*shape, 1), dtype),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: np.broadcast_to(x[:1, :1, :1], (3, *shape)),
        lambda x: x.tolist(),
    ]
    return choices.maybe_wrong("out", np.full(shape, np.nan, dtype), wrongs)


# ---- the layout --------------------------------------------------------------------------------


def check_packing(choices):
    """Padded to packed, and back."""
    dtype, row = choices.one_of(DTYPES), choices.one_of([(), (3,), (2, 2), (0,)])
    lengths = choices.integers(choices.integer(1, 6), 0, 6)
    steps = max(lengths) + choices.integer(0, 2)
    sequences = [choices.array((length, *row), dtype) for length in lengths]
    padded = reference_layout.pad(sequences, steps, 0).swapaxes(0, 1)
    packed = choices.attempt(
        lambda: packseq.pack_padded_sequence(
            choices.maybe_wrong(
                "input",
                choices.one_of(LAYOUTS)(padded) if padded.size else padded,
                [lambda x: x.astype(object), lambda x: np.ma.array(x)],
            ),
            given_lengths(choices, lengths, steps),
        )
    )
    if packed is not None:
        check_packed(packed, sequences)
        back, ends = packseq.pad_packed_sequence(packed, total_length=steps)
        assert_same_bits(native(back), np.ascontiguousarray(padded))
        assert ends.tolist() == lengths


def native(array):
    """Rows keep the byte order in which they came."""
    return array.astype(array.dtype.newbyteorder("="))


def check_packed(packed, sequences):
    """It holds the sequences, as the reference lays them out."""
    if max(map(len, sequences)):
        data, batch_sizes = reference_layout.pack(sequences)
        assert_same_bits(native(packed.data), data)
        assert packed.batch_sizes.tolist() == batch_sizes
    for mine, sequence in zip(packseq.unpack_sequence(packed), sequences, strict=True):
        assert_same_bits(native(mine), sequence)


def check_ragged(choices):
    """Rows end to end, and offsets of any kind."""
    dtype, rows = choices.one_of(DTYPES), choices.integer(0, 12)
    values = choices.array((rows, 2), dtype)
    offsets = sorted(choices.integers(choices.integer(1, 6), 0, rows))
    wrongs = [
        lambda x: [],
        lambda x: [*x, rows + 1],
        lambda x: [-1, *x],
        lambda x: [*x, rows + 2, rows],
        lambda x: np.array(x, np.float64),
        lambda x: [x],
        lambda x: [*x, 2**63],
    ]
    packed = choices.attempt(
        lambda: packseq.PackedSequence.from_ragged(
            choices.maybe_wrong("values", values, [lambda x: x.astype(object), lambda x: 1.0]),
            choices.maybe_wrong("offsets", offsets, wrongs),
        )
    )
    if packed is not None and len(offsets) > 1:
        check_packed(packed, [values[a:b] for a, b in itertools.pairwise(offsets)])


def check_fields(choices):
    """The constructor, with fields that are or are not those of a packed batch."""
    lengths = choices.integers(choices.integer(1, 6), 0, 5)
    sequences = [choices.array((length, 2), np.float32) for length in lengths]
    whole = packseq.pack_sequence(sequences)
    sizes = whole.batch_sizes.tolist()
    order = reference_layout.order_of(lengths)
    wrongs_of_sizes = [
        lambda x: [*x, 1],
        lambda x: [*x, 0],
        lambda x: [1, *x, 1] if x else [1],
        lambda x: [len(whole.data) - 2**63, *x],
        lambda x: np.array(x, np.float32),
    ]
    wrongs_of_order = [
        lambda x: [*x[:-1], len(x)],
        lambda x: [*x, x[0]],
        lambda x: [-1, *x[1:]],
        lambda x: np.array(x, np.float32),
        lambda x: [[*x]],
    ]
    packed = choices.attempt(
        lambda: packseq.PackedSequence(
            whole.data,
            choices.maybe_wrong("batch_sizes", sizes, wrongs_of_sizes),
            choices.maybe_wrong("sorted_indices", order, wrongs_of_order),
        )
    )
    if packed is not None:
        check_packed(packed, sequences)
