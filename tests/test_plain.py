"""The short way of plain calls gives what the general way gives, and leaves to it what it refuses.

A call without keywords may go the short way (packseq/_core/plain.pyx); one that names a number of
threads goes the general way. Both are given the same input, in every odd form, and must return the
same bits or raise the same error.
"""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import FORMS, KINDS, assert_same_bits, make_cell, make_module

import packseq
from packseq._core import plain
from packseq.networks import cells
from packseq.settings.threads import crew

WIDTH, HIDDEN = 3, 5
DTYPES = (np.float32, np.float64)


class Subclass(np.ndarray):
    pass


# An array as it is, in other memory, of other types, of other shapes, and what is no array.
ARRAYS = {
    "plain": lambda x: x,
    **FORMS,
    "another width of floats": lambda x: x.astype(np.float64 if x.itemsize == 4 else np.float32),
    "half": lambda x: x.astype(np.float16),
    "integers": lambda x: x.astype(np.int64),
    "complex": lambda x: x.astype(np.complex64),
    "objects": lambda x: x.astype(object),
    "strings": lambda x: x.astype(str),
    "another subclass": lambda x: x.view(Subclass),
    "masked": np.ma.masked_array,
    "nested lists": lambda x: x.tolist(),
    "one row too wide": lambda x: np.concatenate([x, x[..., :1]], -1),
    "no columns": lambda x: x[..., :0],
    "nothing along the first axis": lambda x: x[:0],
    "one more along the first axis": lambda x: np.concatenate([x, x[:1]]),
    "one axis more": lambda x: x[None],
    "one axis less": lambda x: x[0],
    "no axes": lambda x: x.ravel()[0],
    "none": lambda x: None,
    "text": lambda x: "text",
}

LENGTHS = {
    "list": list,
    "tuple": tuple,
    "a list of other integers": lambda x: [np.int32(n) for n in x],
    "a list of floats": lambda x: [float(n) for n in x],
    "a list of bools": lambda x: [bool(n) for n in x],
    "a list with a bool": lambda x: [True, *x[1:]],
    "a list with None": lambda x: [None, *x[1:]],
    "a list with a huge number": lambda x: [2**70, *x[1:]],
    "a list of text": lambda x: [str(n) for n in x],
    **{
        name: lambda x, name=name: np.array(x).astype(name)
        for name in ("i8", "i4", "u8", "u1", ">i8", "f8", "?", "O")
    },
    "every other element": lambda x: np.repeat(np.array(x), 2)[::2],
    "unaligned": lambda x: np.frombuffer(b"." + np.array(x).tobytes(), np.int64, offset=1),
    "read-only": lambda x: np.frombuffer(np.array(x).tobytes(), np.int64),
    "subclass": lambda x: np.array(x).view(Subclass),
    "masked": lambda x: np.ma.masked_array(np.array(x)),
    "two axes": lambda x: np.array(x)[None],
    "one too many": lambda x: [*x, 1],
    "one too few": lambda x: x[1:],
    "one that is negative": lambda x: [-1, *x[1:]],
    "one that is too long": lambda x: [100, *x[1:]],
    "one number": lambda x: x[0] if x else 0,
}

# States are mostly of the right form, so that what is odd about the others is seen.
odd_arrays = st.one_of(st.just("plain"), st.just("plain"), st.sampled_from(sorted(ARRAYS)))
odd_lengths = st.one_of(st.none(), st.just("list"), st.just("i8"), st.sampled_from(sorted(LENGTHS)))
odd_pairs = st.sampled_from(["tuple", "tuple", "tuple", "list", "one", "three", "array"])


def outcome(call):
    """What a call returns, as a flat tuple of arrays, or what it raises."""
    with np.errstate(all="ignore"):
        try:
            result = call()
        except Exception as error:  # of any type: that is what is compared
            return type(error), str(error)
    return flatten(result)


def flatten(result):
    """(output, (h, c)) -> (output, h, c), and the like of what else calls return."""
    if not isinstance(result, tuple):
        return (result,)
    return sum(map(flatten, result), ())


def assert_same_outcome(actual, expected):
    assert len(actual) == len(expected)
    for part, part_e in zip(actual, expected, strict=True):
        if isinstance(part_e, np.ndarray):
            assert type(part) is type(part_e)
            assert_same_bits(part, part_e)
        else:
            assert part == part_e


def as_pair(states, form):
    """(h,) of other kinds than LSTM is h alone, an LSTM's (h, c) is a pair of some form."""
    if len(states) == 1:
        return states[0]
    forms = {"tuple": tuple, "list": list, "one": lambda s: s[:1], "three": lambda s: (*s, s[0])}
    return forms[form](states) if form in forms else states[0]


@st.composite
def calls(draw):
    """(kind, options, input, hx, lengths) of a module, each part of which may be odd."""
    kind, dtype = draw(st.sampled_from(KINDS)), draw(st.sampled_from(DTYPES))
    options = {"dtype": dtype, "batch_first": draw(st.booleans()), "rng": 0}
    options |= {"bidirectional": draw(st.booleans()), "num_layers": draw(st.integers(1, 2))}
    steps, batch, single = draw(st.integers(0, 4)), draw(st.integers(0, 3)), draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    shape = (batch, steps) if options["batch_first"] else (steps, batch)
    x = rng.standard_normal((steps, WIDTH) if single else (*shape, WIDTH)).astype(dtype)
    slots = options["num_layers"] * (1 + options["bidirectional"])
    hx = None
    if draw(st.booleans()):
        middle = () if single else (batch,)
        state = rng.standard_normal((slots, *middle, HIDDEN)).astype(dtype)
        parts = [odd(ARRAYS, draw(odd_arrays), state) for _ in range(1 + (kind == "LSTM"))]
        hx = as_pair(parts, draw(odd_pairs))
    form = draw(odd_lengths)
    count = len(x) if single else batch
    numbers = [draw(st.integers(0, steps)) for _ in range(count)]
    if numbers and draw(st.booleans()):
        numbers[draw(st.integers(0, count - 1))] = steps
    lengths = None if form is None else odd(LENGTHS, form, numbers)
    return kind, options, odd(ARRAYS, draw(odd_arrays), x), hx, lengths


def odd(forms, name, values):
    """In a form, where these values have it."""
    try:
        return forms[name](values)
    except (IndexError, ValueError, TypeError, OverflowError):
        return values


@settings(max_examples=1500)
@given(calls())
def test_modules(call):
    kind, options, x, hx, lengths = call
    module = make_module(kind, WIDTH, HIDDEN, backend="cpu", **options)
    expected = outcome(lambda: module(x, hx, lengths=lengths, num_threads=1))
    assert_same_outcome(outcome(lambda: module(x, hx, lengths=lengths)), expected)


@st.composite
def steps_of_cells(draw):
    kind, dtype = draw(st.sampled_from(KINDS)), draw(st.sampled_from(DTYPES))
    batch = draw(st.sampled_from([(), (0,), (1,), (3,)]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    x = rng.standard_normal((*batch, WIDTH)).astype(dtype)
    hx = None
    if draw(st.booleans()):
        state = rng.standard_normal((*batch, HIDDEN)).astype(dtype)
        parts = [odd(ARRAYS, draw(odd_arrays), state) for _ in range(1 + (kind == "LSTM"))]
        hx = as_pair(parts, draw(odd_pairs))
    return kind, dtype, odd(ARRAYS, draw(odd_arrays), x), hx


@settings(max_examples=800)
@given(steps_of_cells())
def test_cells(call):
    kind, dtype, x, hx = call
    cell = make_cell(kind, WIDTH, HIDDEN, dtype=dtype, rng=0)
    actual = outcome(lambda: cell(x, hx))
    # Cells have no keyword for the general way.
    with mock.patch.object(cells, "call_arrays", return_value=None):
        expected = outcome(lambda: cell(x, hx))
    assert_same_outcome(actual, expected)


@pytest.mark.usefixtures("on_kernels")
@pytest.mark.parametrize("kind", KINDS)
def test_plain_calls_do_go_the_short_way(kind):
    """Or all of the above would compare the general way with itself."""
    module, cell = make_module(kind, WIDTH, HIDDEN, rng=0), make_cell(kind, WIDTH, HIDDEN, rng=0)
    x = np.ones((4, 2, WIDTH), np.float32)
    h = np.ones((1, 2, HIDDEN), np.float32)
    hx = (h, h) if kind == "LSTM" else h
    for state in (None, hx):
        for lengths in (None, [4, 1], np.array([0, 4])):
            assert plain.call(module._weights.packed(), x, state, lengths, crew, None) is not None
    assert plain.call(module._weights.packed(), x[:, 0].copy(), None, None, crew, None) is not None
    assert plain.call(cell._weights.packed(), x[0], None, None, crew, None) is not None
    assert plain.call(module._weights.packed(), x, None, [4, 1, 1], crew, None) is None


@pytest.mark.usefixtures("on_kernels")
def test_only_what_is_not_small_may_go_elsewhere():
    asked = []

    def elsewhere():
        asked.append(True)
        return True

    few, many = np.ones((1, 1, WIDTH), np.float32), np.ones((5000, 50, WIDTH), np.float32)
    network = packseq.LSTM(WIDTH, 64, rng=0)._weights.packed()
    assert plain.call(network, few, None, None, crew, elsewhere) is not None
    assert not asked
    assert plain.call(network, many, None, None, crew, elsewhere) is None
    assert asked
