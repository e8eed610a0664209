"""What lengths decide: batch sizes, offsets and the permutation."""

import copy
import pickle
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packseq.rows.plan import Plan, invert_permutation

lengths_lists = st.lists(st.integers(0, 12), max_size=20)


def plan_of(lengths, **options):
    return Plan.from_lengths(np.array(lengths, np.int64), **options)


def assert_same(actual, expected):
    for field in fields(Plan):
        np.testing.assert_array_equal(getattr(actual, field.name), getattr(expected, field.name))


def test_the_worked_example():
    plan = plan_of([4, 6, 8, 5, 4, 3, 7, 8])
    np.testing.assert_array_equal(plan.batch_sizes, [8, 8, 8, 7, 5, 4, 3, 2])
    np.testing.assert_array_equal(plan.offsets, [0, 8, 16, 24, 31, 36, 40, 43, 45])
    np.testing.assert_array_equal(plan.sorted_lengths, [8, 8, 7, 6, 5, 4, 4, 3])
    np.testing.assert_array_equal(plan.sorted_indices, [2, 7, 6, 1, 3, 0, 4, 5])
    assert (plan.batch_size, plan.max_length, plan.rows) == (8, 8, 45)


@given(lengths_lists)
def test_every_field_follows_from_the_lengths(lengths):
    plan = plan_of(lengths)
    longest = max(lengths, default=0)
    alive = [sum(length > t for length in lengths) for t in range(longest)]
    order = sorted(range(len(lengths)), key=lambda b: -lengths[b])
    np.testing.assert_array_equal(plan.lengths, lengths)
    np.testing.assert_array_equal(plan.sorted_lengths, [lengths[b] for b in order])
    np.testing.assert_array_equal(plan.batch_sizes, alive)
    np.testing.assert_array_equal(plan.offsets, [sum(alive[:t]) for t in range(longest + 1)])
    if order == list(range(len(lengths))) and 0 not in lengths:
        assert plan.sorted_indices is None
        assert plan.unsorted_indices is None
    else:
        np.testing.assert_array_equal(plan.sorted_indices, order)
        np.testing.assert_array_equal(plan.unsorted_indices[plan.sorted_indices], range(len(order)))


@given(lengths_lists, st.sampled_from(["sorted_indices", "unsorted_indices", "both"]))
def test_the_public_fields_tell_the_whole_plan(lengths, given_indices):
    plan = plan_of(lengths)
    names = ["sorted_indices", "unsorted_indices"] if given_indices == "both" else [given_indices]
    indices = {name: getattr(plan, name) for name in names}
    assert_same(Plan.from_batch_sizes(plan.batch_sizes, **indices, rows=plan.rows), plan)


def test_a_plan_cannot_be_changed():
    lengths = np.array([2, 3, 0])
    plan = Plan.from_lengths(lengths)
    lengths[0] = 99
    np.testing.assert_array_equal(plan.lengths, [2, 3, 0])
    with pytest.raises(FrozenInstanceError):
        plan.lengths = lengths
    for copied in (plan, copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
        assert_same(copied, plan)
        for field in fields(Plan):
            array = getattr(copied, field.name)
            assert array.dtype == np.int64
            assert array.flags.c_contiguous
            with pytest.raises(ValueError, match="read-only"):
                array[:1] = 0


def test_enforce_sorted_names_the_first_rise():
    with pytest.raises(ValueError, match=r"lengths\[2\] = 4 follows lengths\[1\] = 2"):
        plan_of([5, 2, 4, 9], enforce_sorted=True)
    assert plan_of([5, 4, 4], enforce_sorted=True).sorted_indices is None


@given(st.permutations(range(9)))
def test_invert_permutation(permutation):
    inverse = invert_permutation(permutation)
    np.testing.assert_array_equal(inverse[permutation], range(9))
    np.testing.assert_array_equal(invert_permutation(inverse), permutation)


def test_the_inverse_of_no_permutation_is_none():
    assert invert_permutation(None) is None


@pytest.mark.parametrize(
    ("permutation", "error", "message"),
    [
        ([0, 3, 1], ValueError, r"permutation of 0 to 2, got permutation\[1\] = 3"),
        ([0, -1], ValueError, r"permutation\[1\] = -1"),
        ([1, 0, 1], ValueError, r"1 occurs at 0 and at 2"),
        ([[0, 1]], ValueError, r"permutation must be 1-D, got shape \(1, 2\)"),
        ([0, np.array(True)], TypeError, r"permutation must be integers, got permutation\[1\] = "),
        ([0.0, 1.0], TypeError, r"permutation must be integers, got permutation\[0\] = 0.0"),
    ],
)
def test_what_is_no_permutation_is_named(permutation, error, message):
    with pytest.raises(error, match=message):
        invert_permutation(permutation)


def test_nobody_can_write_to_a_plan():
    """Kernels trust it; the arrays behind it are not handed out."""
    plan = Plan.from_lengths(np.array([1, 3, 0, 2]))
    for array in (plan.batch_sizes, plan.offsets, plan.lengths, plan.sorted_indices):
        with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
            array.setflags(write=True)


def test_a_plan_does_not_ask_for_its_slots(monkeypatch):
    """Until Python 3.11.2 they name __weakref__, the descriptor of another class, which raises."""

    def refuse(plan):
        raise TypeError("descriptor '__weakref__' for 'Plan' objects doesn't apply")

    names = tuple(field.name for field in fields(Plan))
    monkeypatch.setattr(Plan, "__slots__", (*names, "__weakref__"))
    monkeypatch.setattr(Plan, "__weakref__", property(refuse))
    np.testing.assert_array_equal(plan_of([1, 3, 2]).batch_sizes, [3, 2, 1])
