"""What stands between the brackets takes sequences, and what len() would switch on stays off."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragged import LENGTHS, assert_sequences, batches, make_batch

from packseq import PackedSequence, pack_sequence

BATCH = make_batch([3, 0, 5, 1], (2,))
PACKED = BATCH.packed
PLACES = st.none() | st.integers(-12, 12)


@given(batches())
def test_len_is_the_number_of_sequences(batch):
    assert len(batch.packed) == len(batch.sequences) == batch.packed.batch_size


@given(batches(), PLACES, PLACES, st.none() | st.integers(-3, 3).filter(bool))
def test_a_slice_takes_sequences(batch, start, stop, step):
    at = slice(start, stop, step)
    assert_sequences(batch.packed[at], batch.sequences[at])


@given(batches(), st.data())
def test_a_mask_takes_sequences(batch, data):
    size = len(batch.sequences)
    mask = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    expected = [s for s, taken in zip(batch.sequences, mask, strict=True) if taken]
    assert_sequences(batch.packed[mask], expected)
    assert_sequences(batch.packed[np.array(mask)], expected)


@given(batches(), st.data())
def test_integers_take_sequences_as_select_does(batch, data):
    size = len(batch.sequences)
    indices = data.draw(st.lists(st.integers(-size, size - 1), max_size=12))
    selected = batch.packed.select(indices)
    for index in (indices, np.array(indices, np.int16)):
        taken = batch.packed[index]
        np.testing.assert_array_equal(taken.data, selected.data)
        np.testing.assert_array_equal(taken.lengths, selected.lengths)


def test_a_range_takes_sequences():
    assert_sequences(PACKED[range(3, 0, -2)], [BATCH.sequences[3], BATCH.sequences[1]])


@given(LENGTHS)
def test_a_slice_of_all_is_the_batch(lengths):
    packed = make_batch(lengths).packed
    np.testing.assert_array_equal(packed[:].data, packed.data)
    np.testing.assert_array_equal(packed[:].lengths, packed.lengths)


def test_an_index_gives_copies_but_for_one_sequence():
    equal = make_batch([2, 2, 2]).packed
    assert not np.shares_memory(equal[:].data, equal.data)
    assert np.shares_memory(equal[1], equal.data)


@pytest.mark.parametrize("index", [np.int8(2), np.array(2), -2])
def test_one_integer_of_any_type_gives_an_array(index):
    np.testing.assert_array_equal(PACKED[index], BATCH.sequences[2])


def test_tensors_index_as_arrays_do():
    torch = pytest.importorskip("torch", reason="makes the tensors")
    assert_sequences(PACKED[torch.tensor([2, -1])], [BATCH.sequences[2], BATCH.sequences[3]])
    assert_sequences(PACKED[torch.tensor([True, False, False, False])], BATCH.sequences[:1])
    np.testing.assert_array_equal(PACKED[torch.tensor(2)], BATCH.sequences[2])


def test_a_batch_of_tensors_says_that_sequences_are_taken_of_numpys_rows():
    torch = pytest.importorskip("torch", reason="makes the tensors")
    packed = pack_sequence([torch.ones(2), torch.ones(3)])
    assert len(packed) == 2
    for index in (0, slice(1), [0], [True, False]):
        with pytest.raises(TypeError, match="works on rows of NumPy, but the batch holds a torch"):
            packed[index]


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ((1, 2), TypeError, r"slice\(\) cuts .* select\(\) takes several sequences, got \(1, 2\)"),
        (..., TypeError, r"slice\(\) cuts their steps, split\(\) their rows, .* got Ellipsis"),
        (None, TypeError, "an index takes sequences: .* got None"),
        (PACKED > 0, TypeError, r"got a PackedSequence: np.where\(\) chooses among steps"),
        (4, IndexError, "sequence 4 is out of range: there are 4"),
        ([0, 4], IndexError, r"index must be between -4 and 3, got index\[1\] = 4"),
        (np.array([-5]), IndexError, r"got index\[0\] = -5"),
        ([True], IndexError, r"mask of sequences must have shape \(4,\), .* got \(1,\)"),
        (np.ones((4, 2), bool), IndexError, r"shape \(4,\), one for each, got \(4, 2\)"),
        (np.ones((2, 2), int), ValueError, r"index must be 1-D, got shape \(2, 2\)"),
        ([True, 2], TypeError, r"index must be integers, got index\[0\] = True"),
        ([1.0], TypeError, r"index must be integers, got index\[0\] = 1.0"),
        (np.ma.array([1]), TypeError, "index must not be a masked array"),
        (True, TypeError, "the index of one sequence must be an integer, got True"),
        (1.0, TypeError, "the index of one sequence must be an integer, got 1.0"),
        ("a", TypeError, "the index of one sequence must be an integer, got 'a'"),
        (slice("a", 2), TypeError, "slice indices must be integers"),
    ],
)
def test_what_is_no_index_of_sequences(index, error, message):
    with pytest.raises(error, match=message):
        PACKED[index]


# ---- what a length and an index would switch on ----


def unpacked_as_torchs(packed):
    data, batch_sizes, *_ = packed
    return data, batch_sizes


@pytest.mark.parametrize(
    "use",
    [
        list,
        iter,
        reversed,
        lambda p: 1.0 in p,
        unpacked_as_torchs,
        lambda p: [*zip(p, p, strict=True)],
        lambda p: max(*p),
    ],
)
def test_it_is_never_a_sequence_of_sequences(use):
    with pytest.raises(TypeError, match=r"not iterable, .* unpack_sequence\(p\) lists"):
        use(PACKED)


@pytest.mark.parametrize(
    "use",
    [
        np.asarray,
        lambda p: np.array([p, p]),
        lambda p: np.array(p, dtype=object),
        lambda p: np.arange(9)[p],
        lambda p: np.random.default_rng(0).permutation(p),
        lambda p: np.random.default_rng(0).choice(p),
        lambda p: np.zeros(4).__setitem__(slice(None), p),
    ],
)
def test_numpy_makes_no_array_of_it(use):
    with pytest.raises(TypeError, match="a PackedSequence is no array"):
        use(PACKED)


@pytest.mark.parametrize("packed", [PACKED, PACKED[:0]])
def test_its_truth_is_not_that_of_its_length(packed):
    with pytest.raises(ValueError, match="truth of a PackedSequence is ambiguous"):
        bool(packed)


def test_it_has_no_shape_of_an_array():
    assert not hasattr(PACKED, "shape")
    assert not hasattr(PACKED, "ndim")
    with pytest.raises(TypeError, match="does not support item assignment"):
        random.Random(0).shuffle(PACKED)


@pytest.mark.parametrize(
    "make", [pack_sequence, lambda p: pack_sequence([p]), lambda p: PackedSequence(p, [4])]
)
def test_it_is_not_packed_again(make):
    with pytest.raises(TypeError, match=r"must be (a list of arrays|an array), got PackedSequence"):
        make(PACKED)
