"""Packing, padding and their inverses, bit for bit, against plain loops and against each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_layout import order_of, pack, pad
from tensors import as_arrays

from packseq import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)

# Row sizes with a copy of their own (1 to 64 bytes) and without (3, 7, 20).
DTYPES = [
    np.dtype(name)
    for name in (
        *("bool", "i1", "u2", "i4", "i8", "f2", "f4", ">f4", "f8", "c8", "c16"),
        *("S3", "U5", "V7", "M8[s]", "m8[ns]", "i4,f8,S8", ">i2,?"),
    )
]

dtypes = st.sampled_from(DTYPES)
trailing_shapes = st.sampled_from([(), (1,), (2,), (3, 4), (16,), (0,), (2, 0)])
# Longer than the block of steps that the kernels move at a time.
lengths_lists = st.lists(st.integers(0, 21), min_size=1, max_size=9)


def contiguous(array):
    return array.copy()


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


def reversed_steps(array):
    return array[::-1].copy()[::-1]


def every_other(array):
    wide = np.repeat(array, 2, axis=-1) if array.ndim > 1 else np.repeat(array, 2)
    return wide[..., ::2]


def fortran(array):
    return np.asfortranarray(array)


def unaligned(array):
    buffer = np.zeros(array.nbytes + 1, np.uint8)
    shifted = np.ndarray(array.shape, array.dtype, buffer.data, offset=1)
    shifted[...] = array
    return shifted


layouts = st.sampled_from([contiguous, read_only, reversed_steps, every_other, fortran, unaligned])


def random_rows(rng, count, trailing_shape, dtype):
    """Rows of random bytes, NaN payloads included, where every byte pattern is a value."""
    shape = (count, *trailing_shape)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind == "U":
        return rng.integers(0, 10**5, shape).astype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    array = np.frombuffer(rng.bytes(size), np.uint8).copy()
    return array.view(dtype).reshape(shape) if size else np.zeros(shape, dtype)


@st.composite
def batches(draw):
    """Sequences of one dtype and trailing shape, of any lengths and strides."""
    dtype, trailing_shape, layout = draw(dtypes), draw(trailing_shapes), draw(layouts)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths = draw(lengths_lists)
    return [layout(random_rows(rng, length, trailing_shape, dtype)) for length in lengths]


def assert_same_bits(actual, expected):
    actual, expected = as_arrays(actual), as_arrays(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes()


def assert_all_same_bits(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        assert_same_bits(one, other)


@given(sequences=batches())
def test_pack_sequence_lays_rows_out_as_the_loops_do(form, sequences):
    packed = pack_sequence(form(sequences))
    data, batch_sizes = pack(sequences)
    assert_same_bits(packed.data, data)
    np.testing.assert_array_equal(packed.batch_sizes, batch_sizes)
    np.testing.assert_array_equal(packed.lengths, [len(sequence) for sequence in sequences])


@given(sequences=batches())
def test_unpack_sequence_undoes_pack_sequence(form, sequences):
    assert_all_same_bits(unpack_sequence(pack_sequence(form(sequences))), sequences)


@given(sequences=batches(), extra=st.integers(0, 9), batch_first=st.booleans(), layout=layouts)
def test_padded_batches_round_trip(form, sequences, extra, batch_first, layout):
    packed = pack_sequence(form(sequences))
    total = packed.max_length + extra
    padded, lengths = pad_packed_sequence(packed, batch_first, total_length=total)
    expected = pad(sequences, total, np.zeros((), sequences[0].dtype))
    by_time = expected if batch_first else expected.swapaxes(0, 1)
    assert_same_bits(padded, np.ascontiguousarray(by_time))
    again = pack_padded_sequence(form(layout(as_arrays(padded))), lengths, batch_first)
    assert_same_bits(again.data, packed.data)
    np.testing.assert_array_equal(again.batch_sizes, packed.batch_sizes)


@given(sequences=batches(), batch_first=st.booleans(), side=st.sampled_from(["right", "left"]))
def test_pad_sequence_pads_as_the_loops_do(form, sequences, batch_first, side):
    steps = max(map(len, sequences))
    expected = pad(sequences, steps, np.zeros((), sequences[0].dtype), side)
    padded = pad_sequence(form(sequences), batch_first, padding_side=side)
    assert_same_bits(padded, expected if batch_first else expected.swapaxes(0, 1))


@given(sequences=batches(), batch_first=st.booleans(), layout=layouts)
def test_unpad_sequence_undoes_pad_sequence(form, sequences, batch_first, layout):
    padded = form(layout(pad_sequence(sequences, batch_first)))
    unpadded = unpad_sequence(padded, list(map(len, sequences)), batch_first)
    assert_all_same_bits(unpadded, sequences)
    for sequence in unpadded:
        assert not np.shares_memory(as_arrays(sequence), as_arrays(padded))


@pytest.mark.parametrize("row_bytes", [1, 2, 3, 4, 8, 16, 20, 32, 64, 100, 4096])
@pytest.mark.parametrize("batch_first", [False, True])
def test_every_row_size_moves_whole(form, row_bytes, batch_first):
    rng = np.random.default_rng(row_bytes)
    sequences = [
        rng.integers(0, 256, (length, row_bytes), np.uint8) for length in (3, 0, 33, 8, 9, 16, 9)
    ]
    packed = pack_sequence(form(sequences))
    assert_same_bits(packed.data, pack(sequences)[0])
    assert_all_same_bits(unpack_sequence(packed), sequences)
    padded, _ = pad_packed_sequence(packed, batch_first, padding_value=7, total_length=40)
    expected = pad(sequences, 40, 7)
    assert_same_bits(padded, expected if batch_first else expected.swapaxes(0, 1))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("bool", True),
        ("u1", 255),
        ("i8", -(2**63)),
        ("f4", float("nan")),
        ("f4", -0.0),
        ("f4", 0.1),
        (">f8", float("inf")),
        ("c16", 1 + 2j),
        ("S3", b"abc"),
        ("U2", "é"),
        ("M8[s]", np.datetime64("2020-01-01")),
        ("i4,f8", (3, 0.5)),
    ],
)
def test_padding_value_fills_the_tails_alone(form, dtype, value):
    sequences = [np.zeros((2, 3), dtype), np.zeros((4, 3), dtype)]
    fill = np.array(value, dtype)
    expected = pad(sequences, 5, fill)
    padded, _ = pad_packed_sequence(pack_sequence(form(sequences)), True, value, 5)
    assert_same_bits(padded, expected)
    padded = pad_sequence(form(sequences), True, value)
    assert_same_bits(padded, np.ascontiguousarray(expected[:, :4]))


def test_what_is_in_the_padding_is_never_read(form):
    lengths = [2, 0, 5]
    clean = np.arange(15.0).reshape(5, 3)
    dirty = clean.copy()
    dirty[2:, 0] = dirty[:, 1] = np.nan
    assert_same_bits(
        pack_padded_sequence(form(clean), lengths).data,
        pack_padded_sequence(form(dirty), lengths).data,
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_sequences_are_sorted_stably(lengths):
    packed = pack_sequence([np.full(length, b) for b, length in enumerate(lengths)])
    np.testing.assert_array_equal(packed.data[: packed.batch_size], order_of(lengths))


def test_input_in_order_needs_no_indices_unless_a_length_is_zero():
    assert pack_sequence([np.zeros(3), np.zeros(3), np.zeros(1)]).sorted_indices is None
    with_empty = pack_sequence([np.zeros(3), np.zeros(1), np.zeros(0)])
    np.testing.assert_array_equal(with_empty.sorted_indices, [0, 1, 2])


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_batch_of_empty_sequences(form, batch_first):
    shape = (2, 4, 3) if batch_first else (4, 2, 3)
    packed = pack_padded_sequence(form(np.ones(shape)), [0, 0], batch_first)
    assert packed.data.shape == (0, 3)
    assert (packed.batch_size, packed.max_length) == (2, 0)
    padded, lengths = pad_packed_sequence(packed, batch_first, -1.0, total_length=4)
    assert_same_bits(padded, np.full(shape, -1.0))
    np.testing.assert_array_equal(lengths, [0, 0])
    assert [len(sequence) for sequence in unpack_sequence(packed)] == [0, 0]


def test_a_batch_without_sequences(form):
    packed = pack_padded_sequence(form(np.ones((4, 0, 3))), [])
    padded, lengths = pad_packed_sequence(packed, total_length=4)
    assert padded.shape == (4, 0, 3)
    assert lengths.shape == (0,)
    assert unpack_sequence(packed) == []


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "u8", ">i8"])
def test_lengths_of_any_integer_dtype(form, dtype):
    lengths = form(np.array([1, 3, 2], dtype))
    packed = pack_padded_sequence(form(np.arange(9).reshape(3, 3)), lengths)
    assert_same_bits(packed.data, np.array([1, 2, 0, 4, 5, 7]))
    assert packed.lengths.dtype == np.int64


def test_a_broadcast_batch_is_packed_without_being_filled():
    packed = pack_padded_sequence(np.broadcast_to(np.arange(2.0), (4, 3, 2)), [1, 4, 2])
    np.testing.assert_array_equal(packed.data, np.tile([0.0, 1.0], (7, 1)))


def test_lists_of_numbers_are_sequences():
    packed = pack_sequence([[1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(packed.data, [3, 1, 4, 2, 5])


def test_unpacked_sequences_share_one_buffer():
    first, second = unpack_sequence(pack_sequence([np.arange(2.0), np.arange(3.0)]))
    assert first.base is second.base
    np.testing.assert_array_equal(first.base, [0, 1, 0, 1, 2])


def test_packing_copies(form):
    sequences = form([np.zeros(2), np.zeros(3)])
    packed = pack_sequence(sequences)
    packed.data[:] = 1
    assert not any(sequence.any() for sequence in sequences)


def test_rows_given_with_gaps_unpack_too(form):
    wide = np.arange(24.0).reshape(6, 4)
    packed = PackedSequence(form(wide)[:, ::2], [3, 2, 1])
    contiguous = PackedSequence(form(wide[:, ::2].copy()), [3, 2, 1])
    assert_all_same_bits(unpack_sequence(packed), unpack_sequence(contiguous))
    assert_same_bits(pad_packed_sequence(packed)[0], pad_packed_sequence(contiguous)[0])


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=300))
def test_many_sequences(form, lengths):
    sequences = [np.arange(length) + 1000 * b for b, length in enumerate(lengths)]
    packed = pack_sequence(form(sequences))
    assert_same_bits(packed.data, pack(sequences)[0])
    assert_all_same_bits(unpack_sequence(packed), sequences)


@pytest.mark.parametrize(
    ("sequences", "dtype", "row_shape"),
    [
        ([[5, 6], []], np.int64, ()),
        ([[], (), [0.5]], np.float64, ()),
        ([[], np.ones((2, 3), np.float32)], np.float32, (3,)),
        ([[[1, 2]], []], np.int64, (2,)),
        ([[], ()], np.float64, ()),
        ([np.array([]), []], np.float64, ()),
    ],
)
@pytest.mark.parametrize("function", [pack_sequence, pad_sequence])
def test_an_empty_list_takes_dtype_and_shape_from_the_others(function, sequences, dtype, row_shape):
    made = function(sequences)
    assert made.dtype == dtype
    if function is pack_sequence:
        assert made.data.shape[1:] == row_shape
        np.testing.assert_array_equal(made.lengths, [len(s) for s in sequences])
    else:
        assert made.shape == (max(map(len, sequences)), len(sequences), *row_shape)


def test_an_empty_list_beside_tensors():
    torch = pytest.importorskip("torch", reason="makes the tensors")
    packed = pack_sequence([[], torch.ones(2, 3, dtype=torch.int16)])
    assert packed.data.dtype == torch.int16
    np.testing.assert_array_equal(packed.lengths, [0, 2])


def test_an_empty_array_says_its_dtype():
    with pytest.raises(ValueError, match=r"sequences\[1\] has float64, sequences\[0\] has int64"):
        pack_sequence([[5, 6], np.array([])])
