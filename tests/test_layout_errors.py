"""What the layout functions refuse, and the message that says why."""

import numpy as np
import pytest

import packseq
from packseq import (
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)

BATCH = np.zeros((4, 3, 2))  # T = 4, B = 3
BAD_LENGTHS = [
    ([4, -1, 2], ValueError, r"between 0 and 4, the steps of {name}, got lengths\[1\] = -1"),
    ([4, 1, 5], ValueError, r"between 0 and 4, the steps of {name}, got lengths\[2\] = 5"),
    ([4, 1], ValueError, r"lengths has 2 entries, but {name} has a batch of 3"),
    ([], ValueError, r"lengths has 0 entries, but {name} has a batch of 3"),
    (3, ValueError, r"lengths must be 1-D, got shape \(\)"),
    ([[4, 1, 2]], ValueError, r"lengths must be 1-D, got shape \(1, 3\)"),
    ([[4], [1, 2]], ValueError, r"lengths must be 1-D integers"),
    ([4.0, 1.0, 2.0], TypeError, r"lengths must be integers, got lengths\[0\] = 4.0, a float"),
    (np.zeros(0), TypeError, r"lengths must be integers, got dtype float64"),
    ([True, False, True], TypeError, r"lengths must be integers, got .*bool"),
    (["4", "1", "2"], TypeError, r"lengths must be integers, got lengths\[0\] = '4', a str"),
    ([4, None, 2], TypeError, r"lengths must be integers, got lengths\[1\] = None"),
    ([4, np.nan, 2], TypeError, r"lengths must be integers, got lengths\[1\] = nan, a float"),
    ("412", TypeError, "lengths must be 1-D integers, got '412'"),
    ({4, 1, 2}, TypeError, r"lengths must be 1-D integers, got {{1, 2, 4}}"),
    (np.ma.array([4, 1, 2]), TypeError, r"lengths must not be a masked array"),
    (np.array([4, 2**63, 2], np.uint64), ValueError, r"lengths\[1\] = 9223372036854775808 is bey"),
]


@pytest.mark.parametrize(("lengths", "error", "message"), BAD_LENGTHS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    ("function", "name"),
    [(pack_padded_sequence, "input"), (unpad_sequence, "padded_sequences")],
)
def test_lengths(form, function, name, lengths, error, message, batch_first):
    batch = form(BATCH).swapaxes(0, 1) if batch_first else BATCH
    with pytest.raises(error, match=message.format(name=name)):
        function(batch, form(lengths), batch_first)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (np.zeros(4), ValueError, r"must have shape \(T, B, \*\), got \(4,\)"),
        (1.0, ValueError, r"must have shape \(T, B, \*\), got \(\)"),
        ([[1, 2], [3]], ValueError, r"must be an array"),
        (BATCH.astype(object), TypeError, r"must not hold Python objects, got dtype object"),
        (np.zeros((4, 3), "i4,O"), TypeError, r"must not hold Python objects"),
        (np.zeros((4, 3), np.dtypes.StringDType()), TypeError, r"must not hold Python objects"),
        (np.ma.array(BATCH), TypeError, r"must not be a masked array: the mask would be lost"),
    ],
)
@pytest.mark.parametrize(
    ("function", "name"),
    [(pack_padded_sequence, "input"), (unpad_sequence, "padded_sequences")],
)
def test_padded_batches(form, function, name, batch, error, message):
    with pytest.raises(error, match=f"{name} {message}"):
        function(form(batch), [1, 2, 3])


@pytest.mark.parametrize(
    ("batch", "place"),
    [
        ([np.zeros((4, 2)), np.zeros((4, 2))], r"\[0\]"),
        ([np.zeros((4, 2)), np.zeros((3, 2))], r"\[0\]"),
        ((np.zeros((4, 2)),), r"\[0\]"),
        ([[1.0, 2.0], np.zeros(2)], r"\[1\]"),
        ([[np.zeros(2), np.zeros(2)]], r"\[0\]\[0\]"),
    ],
)
@pytest.mark.parametrize(
    ("function", "name"),
    [(pack_padded_sequence, "input"), (unpad_sequence, "padded_sequences")],
)
def test_a_list_of_arrays_is_no_padded_batch(form, function, name, batch, place):
    with pytest.raises(TypeError, match=f"{name}{place} is a (ndarray|Tensor).*pack_sequence"):
        function(form(batch), [1, 1])


def test_a_list_of_numbers_is_one_even_if_they_are_arrays_of_no_axes():
    batch = [[np.array(1.0), np.float64(2.0)], [3.0, 4]]
    np.testing.assert_array_equal(pack_padded_sequence(batch, [2, 1]).data, [1, 2, 3])


def test_batch_first_is_in_the_message(form):
    with pytest.raises(ValueError, match=r"input must have shape \(B, T, \*\), got \(4,\)"):
        pack_padded_sequence(form(np.zeros(4)), [1], batch_first=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda batch: pack_padded_sequence(batch, [2, 1, 4], enforce_sorted=True),
        lambda batch: pack_sequence([batch[:2], batch[:1], batch], enforce_sorted=True),
    ],
    ids=["pack_padded_sequence", "pack_sequence"],
)
def test_enforce_sorted(form, call):
    with pytest.raises(ValueError, match=r"lengths\[2\] = 4 follows lengths\[1\] = 1"):
        call(form(BATCH))


@pytest.mark.parametrize("function", [pack_sequence, pad_sequence])
@pytest.mark.parametrize(
    ("sequences", "error", "message"),
    [
        ([], ValueError, r"sequences must hold at least one sequence, got none"),
        (3, TypeError, r"sequences must be a list of arrays, got int"),
        ([np.zeros(2), 1.0], ValueError, r"sequences\[1\] must have shape \(L, \*\), got a scalar"),
        (
            [np.zeros((2, 3)), np.zeros((2, 4))],
            ValueError,
            r"trailing shape: sequences\[1\] has \(4,\), sequences\[0\] has \(3,\)",
        ),
        (
            [np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(2)],
            ValueError,
            r"trailing shape: sequences\[2\] has \(\), sequences\[0\] has \(3,\)",
        ),
        (
            [np.zeros(2, "f8"), np.zeros(2, "f4")],
            ValueError,
            r"dtype: sequences\[1\] has float32, sequences\[0\] has float64",
        ),
        ([np.zeros(2, "<f4"), np.zeros(2, ">f4")], ValueError, r"dtype: sequences\[1\] has >f4"),
        ([np.zeros(2), np.zeros(2, object)], TypeError, r"sequences\[1\] must not hold Python obj"),
        ([np.ma.zeros(2)], TypeError, r"sequences\[0\] must not be a masked array"),
        ([[1, 2], [[1], [2, 3]]], ValueError, r"sequences\[1\] must be an array"),
    ],
)
def test_lists_of_sequences(form, function, sequences, error, message):
    with pytest.raises(error, match=message):
        function(form(sequences))


@pytest.mark.parametrize("side", ["middle", "Left", None, True])
def test_padding_side(form, side):
    with pytest.raises(ValueError, match=rf"padding_side must be 'right' or 'left', got {side!r}"):
        pad_sequence(form([np.zeros(2)]), padding_side=side)


@pytest.mark.parametrize("value", [-1.0, 1, "no", None])
def test_flags_are_no_numbers(form, value):
    """The padding value in their place would be taken for True."""
    batch, parts = form(BATCH), form([BATCH[:, 0]])
    packed = pack_sequence(parts)
    for name, call in {
        "batch_first": lambda: pack_padded_sequence(batch, [1, 2, 3], value),
        "enforce_sorted": lambda: pack_padded_sequence(batch, [1, 2, 3], True, value),
        " batch_first": lambda: pad_packed_sequence(packed, value),
        " enforce_sorted": lambda: pack_sequence(parts, value),
        "  batch_first": lambda: pad_sequence(parts, value),
        "   batch_first": lambda: unpad_sequence(batch, [1, 2, 3], value),
    }.items():
        with pytest.raises(TypeError, match=f"{name.strip()} must be True or False, got {value!r}"):
            call()


def test_a_list_that_changes_meanwhile(monkeypatch):
    """As another thread may change it, after it was looked at."""
    parts = [np.ones((2, 3)), np.ones((4, 3))]
    expected = pack_sequence(parts).data

    def change(sequences):
        found = alike(sequences)
        parts[1] = np.zeros((1, 3))
        return found

    alike = packseq.layout.alike
    monkeypatch.setattr(packseq.layout, "alike", change)
    np.testing.assert_array_equal(pack_sequence(parts).data, expected)


@pytest.mark.parametrize(
    ("function", "name"),
    [(pad_packed_sequence, "sequence"), (unpack_sequence, "packed_sequences")],
)
def test_only_packed_sequences_are_unpacked(function, name):
    with pytest.raises(TypeError, match=f"{name} must be a PackedSequence, got ndarray"):
        function(BATCH)


@pytest.mark.parametrize(
    ("total_length", "error", "message"),
    [
        (3, ValueError, r"total_length must be at least the longest length 4, got 3"),
        (-1, ValueError, r"total_length must be at least the longest length 4, got -1"),
        (4.0, TypeError, r"total_length must be an integer, got 4.0"),
        ("9", TypeError, r"total_length must be an integer, got '9'"),
        (2**70, ValueError, r"the result of shape \(1180591620717411303424, 1, 2\) would take"),
        (2**61, ValueError, r"the result of shape \(2305843009213693952, 1, 2\) would take"),
    ],
)
def test_total_length(form, total_length, error, message):
    packed = pack_sequence(form([np.zeros((4, 2))]))
    with pytest.raises(error, match=message):
        pad_packed_sequence(packed, total_length=total_length)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("i8", 1.5),
        ("i8", float("nan")),
        ("u1", 300),
        ("u1", -1),
        ("bool", 2),
        ("f4", 1e300),
        ("f4", 1j),
        ("f8", None),
        ("f8", "1.5"),
        ("f8", [1.0, 2.0]),
        ("S3", b"abcd"),
        ("S3", "abc"),
        ("U3", 1.5),
        ("M8[s]", "soon"),
        ("i4,f8", (1.5, 2.0)),
    ],
)
def test_a_padding_value_that_would_change_is_refused(form, dtype, value):
    sequences = form([np.zeros(2, dtype), np.zeros(3, dtype)])
    message = "padding_value .* does not fit dtype"
    with pytest.raises(ValueError, match=message):
        pad_sequence(sequences, padding_value=value)
    with pytest.raises(ValueError, match=message):
        pad_packed_sequence(pack_sequence(sequences), padding_value=value)
