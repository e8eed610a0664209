"""PackedSequence: a value that checks itself and then cannot change."""

import copy
import pickle

import numpy as np
import pytest

from packseq import LSTM, PackedSequence, pack_sequence, unpack_sequence

DATA = np.arange(12.0, dtype=np.float32).reshape(6, 2)


def packed_example():
    """Sequences of 1, 3, 0 and 2 steps."""
    return PackedSequence(DATA.copy(), [3, 2, 1], [1, 3, 0, 2])


def test_properties():
    packed = packed_example()
    np.testing.assert_array_equal(packed.data, DATA)
    np.testing.assert_array_equal(packed.batch_sizes, [3, 2, 1])
    np.testing.assert_array_equal(packed.sorted_indices, [1, 3, 0, 2])
    np.testing.assert_array_equal(packed.unsorted_indices, [2, 0, 3, 1])
    np.testing.assert_array_equal(packed.lengths, [1, 3, 0, 2])
    assert (packed.batch_size, packed.max_length) == (4, 3)
    assert (packed.dtype, packed.nbytes) == (np.float32, 48)
    assert repr(packed) == "PackedSequence(4 sequences of 0 to 3 steps, data (6, 2) float32)"


def test_repr_of_an_empty_batch():
    assert repr(PackedSequence(DATA[:0], [])) == "PackedSequence(0 sequences, data (0, 2) float32)"


def test_sequences_are_read_off_the_fields():
    sequences = unpack_sequence(packed_example())
    expected = [DATA[[2]], DATA[[0, 3, 5]], DATA[:0], DATA[[1, 4]]]
    for sequence, rows in zip(sequences, expected, strict=True):
        np.testing.assert_array_equal(sequence, rows)


def test_without_indices_the_sequences_came_sorted():
    packed = PackedSequence(DATA, [3, 2, 1])
    assert packed.sorted_indices is None
    assert packed.unsorted_indices is None
    np.testing.assert_array_equal(packed.lengths, [3, 2, 1])


@pytest.mark.parametrize("name", ["data", "batch_sizes", "lengths", "_plan", "new"])
def test_fields_cannot_be_set_or_deleted(name):
    packed = packed_example()
    with pytest.raises(AttributeError, match=f"PackedSequence is immutable: cannot set '{name}'"):
        setattr(packed, name, None)
    with pytest.raises(AttributeError, match="PackedSequence is immutable: cannot delete"):
        delattr(packed, name)


def test_it_is_no_tuple():
    assert not isinstance(packed_example(), tuple)
    with pytest.raises(TypeError):
        tuple(packed_example())


def test_index_arrays_are_copied_and_the_rows_are_not():
    data, batch_sizes = DATA.copy(), np.array([3, 3])
    packed = PackedSequence(data, batch_sizes)
    batch_sizes[:] = 99
    data[0, 0] = 99
    np.testing.assert_array_equal(packed.batch_sizes, [3, 3])
    assert packed.data[0, 0] == 99
    with pytest.raises(ValueError, match="read-only"):
        packed.batch_sizes[0] = 1


def test_data_is_a_view_whose_shape_is_not_the_sequences_own():
    packed = packed_example()
    assert packed.data is not packed.data
    packed.data[0, 0] = 99
    assert packed.data[0, 0] == 99


@pytest.mark.parametrize(
    "copier", [copy.copy, copy.deepcopy, lambda packed: pickle.loads(pickle.dumps(packed))]
)
def test_copies_and_pickles(copier):
    packed = packed_example()
    copied = copier(packed)
    for name in ("data", "batch_sizes", "sorted_indices", "unsorted_indices", "lengths"):
        np.testing.assert_array_equal(getattr(copied, name), getattr(packed, name))
    assert not copied.batch_sizes.flags.writeable
    assert np.shares_memory(copied.data, packed.data) == (copier is copy.copy)


def test_astype_casts_the_rows_and_keeps_the_plan():
    packed = packed_example().astype("int16")
    assert packed.dtype == np.int16
    np.testing.assert_array_equal(packed.data, DATA)
    np.testing.assert_array_equal(packed.lengths, [1, 3, 0, 2])


def test_astype_to_objects_is_refused():
    with pytest.raises(TypeError, match="dtype must not hold Python objects, got object"):
        packed_example().astype(object)


def test_an_unusual_index_dtype_is_taken():
    packed = PackedSequence(DATA, np.array([3, 3], ">u2"), np.array([2, 1, 0], np.int8)[::1])
    np.testing.assert_array_equal(packed.batch_sizes, [3, 3])
    assert packed.batch_sizes.dtype == np.int64


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"batch_sizes": [3, 2]}, ValueError, r"batch_sizes sum to 5, but data has 6 rows"),
        ({"batch_sizes": [2**62] * 4 + [6]}, ValueError, r"non-increasing|sum to"),
        ({"batch_sizes": [2**62] * 5}, ValueError, rf"sum to {5 * 2**62}, but data has 6 rows"),
        ({"batch_sizes": [3, 3, 0]}, ValueError, r"positive, got batch_sizes\[2\] = 0"),
        ({"batch_sizes": [7, -1]}, ValueError, r"positive, got batch_sizes\[1\] = -1"),
        ({"batch_sizes": [2, 4]}, ValueError, r"batch_sizes\[1\] = 4 after batch_sizes\[0\] = 2"),
        ({"batch_sizes": [[3, 3]]}, ValueError, r"batch_sizes must be 1-D, got shape \(1, 2\)"),
        ({"batch_sizes": 6}, ValueError, r"batch_sizes must be 1-D, got shape \(\)"),
        ({"batch_sizes": [3.0, 3.0]}, TypeError, r"integers, got batch_sizes\[0\] = 3.0, a float"),
        ({"sorted_indices": [0, 0, 1]}, ValueError, r"sorted_indices .* 0 occurs at 0 and at 1"),
        ({"sorted_indices": [0, 1]}, ValueError, r"sorted_indices has 2 entries, .*\[0\] = 3"),
        ({"sorted_indices": [0, 1, 3]}, ValueError, r"sorted_indices\[2\] = 3"),
        ({"unsorted_indices": [0, 1, -3]}, ValueError, r"unsorted_indices\[2\] = -3"),
        (
            {"sorted_indices": [1, 2, 0], "unsorted_indices": [1, 2, 0]},
            ValueError,
            r"inverse of sorted_indices: unsorted_indices\[0\] = 1, expected 2",
        ),
        (
            {"sorted_indices": [1, 2, 0], "unsorted_indices": [0, 1]},
            ValueError,
            r"unsorted_indices has 2 entries, but sorted_indices has 3",
        ),
        ({"data": 1.0}, ValueError, r"data must have shape \(N, \*\), got a scalar"),
        ({"data": [[1], [2, 3]]}, ValueError, r"data must be an array"),
        ({"data": np.ma.zeros((6, 2))}, TypeError, r"data must not be a masked array"),
        ({"data": np.array([None] * 6)}, TypeError, r"data must not hold Python objects"),
        ({"data": np.zeros(6, "i4,O")}, TypeError, r"data must not hold Python objects"),
    ],
)
def test_fields_that_contradict_each_other_are_named(fields, error, message):
    with pytest.raises(error, match=message):
        PackedSequence(**{"data": DATA, "batch_sizes": [3, 3], **fields})


def test_packing_and_the_constructor_agree():
    made = pack_sequence([DATA[:1], DATA[:3], DATA[:0], DATA[:2]])
    rebuilt = PackedSequence(made.data, made.batch_sizes, None, made.unsorted_indices)
    np.testing.assert_array_equal(rebuilt.lengths, [1, 3, 0, 2])
    np.testing.assert_array_equal(rebuilt.sorted_indices, made.sorted_indices)


# ---- what comes back from a user, and goes to one, is never the array itself ----


@pytest.mark.filterwarnings("ignore:Setting the (shape|dtype):DeprecationWarning")
def test_what_map_was_returned_may_be_reshaped_by_its_owner():
    packed = pack_sequence([np.ones((3, 2)), np.ones((1, 2))])
    kept = []
    mapped = packed.map(lambda rows: kept.append(rows * 2) or kept[0])
    kept[0].shape = (8,)
    np.testing.assert_array_equal(mapped.sum(), [[6, 6], [2, 2]])


@pytest.mark.parametrize("name", ["batch_sizes", "sorted_indices", "unsorted_indices", "lengths"])
@pytest.mark.filterwarnings("ignore:Setting the (shape|dtype):DeprecationWarning")
def test_indices_may_be_reshaped_by_whoever_asked_for_them(name):
    packed = pack_sequence([np.ones((1, 2)), np.ones((3, 2))])
    getattr(packed, name).dtype = np.int8
    np.testing.assert_array_equal(packed.sum(), [[1, 1], [3, 3]])
    assert getattr(packed, name).dtype == np.int64


@pytest.mark.filterwarnings("ignore:Setting the (shape|dtype):DeprecationWarning")
def test_out_may_be_reshaped_by_its_owner():
    packed = pack_sequence([np.ones((1, 2), np.float32), np.ones((3, 2), np.float32)])
    out = np.empty((4, 5), np.float32)
    output, _ = LSTM(2, 5, rng=0)(packed, out=out)
    expected = output.sum()
    out.shape = (20,)
    np.testing.assert_array_equal(output.sum(), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda data, plan: (data[:2], plan),
        lambda data, plan: (data[0, 0], plan),
        lambda data, plan: (data, None),
    ],
)
def test_a_pickle_whose_rows_do_not_fit_its_plan(change):
    rebuild, fields = pack_sequence([np.ones((1, 2)), np.ones((3, 2))]).__reduce__()
    with pytest.raises(ValueError, match="the rows that its plan counts"):
        rebuild(*change(*fields))


@pytest.mark.parametrize(
    ("batch_sizes", "sorted_indices"),
    [([2, 1, 2], [1, 0]), ([2, 1], [1, 0]), ([2, 1, 1], [1, 1]), ([2, 1, 1], [5, 0]), ([-4], None)],
)
def test_a_pickled_plan_is_checked_as_a_constructors_fields_are(batch_sizes, sorted_indices):
    rebuild, fields = pack_sequence([np.ones((1, 2)), np.ones((3, 2))])._plan.__reduce__()
    with pytest.raises(ValueError, match=r"batch_sizes|sorted_indices"):
        rebuild(np.array(batch_sizes), sorted_indices, *fields[2:])
