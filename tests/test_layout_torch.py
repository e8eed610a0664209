"""The layout functions give what torch.nn.utils.rnn gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import packseq

torch = pytest.importorskip("torch", reason="compares with live torch")
rnn = pytest.importorskip("torch.nn.utils.rnn", reason="compares with live torch")

# Unlike torch, ours take lengths of 0 and sort by default.
distinct_lengths = st.lists(st.integers(1, 12), min_size=1, max_size=8, unique=True)


def sequences_of(lengths, trailing_shape=(3,)):
    rng = np.random.default_rng(len(lengths))
    return [rng.standard_normal((length, *trailing_shape), np.float32) for length in lengths]


def tensors_of(arrays):
    return [torch.from_numpy(array) for array in arrays]


def assert_same_packed(ours, theirs):
    # torch's sort is not stable, so lengths are distinct wherever this is called.
    np.testing.assert_array_equal(ours.data, theirs.data)
    np.testing.assert_array_equal(ours.batch_sizes, theirs.batch_sizes)
    if ours.sorted_indices is None:
        order = theirs.sorted_indices
        assert order is None or torch.equal(order, torch.arange(len(order)))
    else:
        np.testing.assert_array_equal(ours.sorted_indices, theirs.sorted_indices)
        np.testing.assert_array_equal(ours.unsorted_indices, theirs.unsorted_indices)


@settings(max_examples=30)
@given(distinct_lengths, st.sampled_from([(), (3,), (2, 2)]))
def test_lists(lengths, trailing_shape):
    arrays = sequences_of(lengths, trailing_shape)
    packed = packseq.pack_sequence(arrays)
    theirs = rnn.pack_sequence(tensors_of(arrays), enforce_sorted=False)
    assert_same_packed(packed, theirs)
    for ours, tensor in zip(
        packseq.unpack_sequence(packed), rnn.unpack_sequence(theirs), strict=True
    ):
        np.testing.assert_array_equal(ours, tensor)


@settings(max_examples=30)
@given(distinct_lengths, st.booleans(), st.integers(0, 3))
def test_padded_batches(lengths, batch_first, extra):
    arrays = sequences_of(lengths)
    padded = packseq.pad_sequence(arrays, batch_first)
    packed = packseq.pack_padded_sequence(padded, lengths, batch_first)
    theirs = rnn.pack_padded_sequence(
        torch.from_numpy(padded), torch.tensor(lengths), batch_first, enforce_sorted=False
    )
    assert_same_packed(packed, theirs)
    total = max(lengths) + extra
    ours, our_lengths = packseq.pad_packed_sequence(packed, batch_first, -1.5, total)
    tensor, their_lengths = rnn.pad_packed_sequence(theirs, batch_first, -1.5, total)
    np.testing.assert_array_equal(ours, tensor)
    np.testing.assert_array_equal(our_lengths, their_lengths)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_pad_and_unpad_sequence(batch_first, side):
    lengths = [3, 1, 5, 5]
    arrays = sequences_of(lengths)
    ours = packseq.pad_sequence(arrays, batch_first, 2.5, side)
    theirs = rnn.pad_sequence(tensors_of(arrays), batch_first, 2.5, side)
    np.testing.assert_array_equal(ours, theirs)
    unpadded = packseq.unpad_sequence(ours, lengths, batch_first)
    # torch transposes its argument in place, so it gets a copy.
    tensors = rnn.unpad_sequence(theirs.clone(), torch.tensor(lengths), batch_first)
    for array, tensor in zip(unpadded, tensors, strict=True):
        np.testing.assert_array_equal(array, tensor)


def test_a_sequence_packed_by_torch_is_taken_as_it_is():
    lengths = [2, 7, 4]
    arrays = sequences_of(lengths)
    packed = packseq.PackedSequence(*rnn.pack_sequence(tensors_of(arrays), enforce_sorted=False))
    for array, original in zip(packseq.unpack_sequence(packed), arrays, strict=True):
        np.testing.assert_array_equal(array, original)


def test_invert_permutation():
    permutation = np.random.default_rng(0).permutation(20)
    np.testing.assert_array_equal(
        packseq.invert_permutation(permutation),
        rnn.invert_permutation(torch.from_numpy(permutation)),
    )
