"""What the tests of the operations share: ragged batches, and how results are compared."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from packseq import PackedSequence, pack_sequence, unpack_sequence

LENGTHS = st.lists(st.integers(0, 20), min_size=1, max_size=9)
ROW_SHAPES = st.sampled_from([(), (1,), (3,), (2, 3), (0,), (40, 30)])


@dataclass(frozen=True)
class Batch:
    """Sequences, and the same ones packed."""

    sequences: list
    packed: PackedSequence


def numbers(rng, shape, dtype):
    """Numbers of which many are equal, in any dtype."""
    values = rng.integers(-4, 5, shape)
    if np.dtype(dtype).kind == "u":
        values = np.abs(values)
    if np.dtype(dtype).kind == "c":
        return (values + 1j * rng.integers(-4, 5, shape)).astype(dtype)
    return (values / (4 if np.dtype(dtype).kind == "f" else 1)).astype(dtype)


def make_batch(lengths, row_shape=(), dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    sequences = [numbers(rng, (length, *row_shape), dtype) for length in lengths]
    return Batch(sequences, pack_sequence(sequences))


@st.composite
def batches(draw, dtypes=(np.float32,), lengths=LENGTHS, row_shapes=ROW_SHAPES):
    dtype = draw(st.sampled_from(dtypes))
    return make_batch(draw(lengths), draw(row_shapes), dtype, draw(st.integers(0, 99)))


def unusual_layouts(packed):
    """The same value with rows that are read-only, strided, or of another byte order."""
    data = packed.data
    read_only = data.copy()
    read_only.setflags(write=False)
    strided = np.repeat(data, 2, axis=0)[::2]
    fields = packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
    swapped = data.astype(data.dtype.newbyteorder())
    return [PackedSequence(rows, *fields) for rows in (read_only, strided, swapped)]


def assert_sequences(packed, expected, **tolerance):
    """`packed` holds the sequences `expected`: the same bits, or within a tolerance."""
    actual = unpack_sequence(packed)
    assert len(actual) == len(expected)
    for mine, other in zip(actual, expected, strict=True):
        assert_rows(mine, np.asarray(other), **tolerance)


def assert_rows(actual, expected, **tolerance):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if tolerance:
        np.testing.assert_allclose(actual, expected, **tolerance)
    else:
        np.testing.assert_array_equal(actual, expected)
