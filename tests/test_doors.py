"""Arrays that change while a call looks at them, and arrays that lie: checked once, then a view."""

import numpy as np
import pytest

from packseq import LSTM, pack_padded_sequence, pack_sequence
from packseq.packed import PackedSequence

# NumPy 2.5 warns of it; whoever does it all the same must not harm packseq.
pytestmark = pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")


class Reshaping:
    """Array-like whose conversion reshapes another array in place, as any user's code may."""

    def __init__(self, values, victim, shape):
        self._values, self._victim, self._shape = values, victim, shape

    def __array__(self, dtype=None, copy=None):
        self._victim.shape = self._shape
        return np.array(self._values, dtype)


def batch():
    return np.random.default_rng(0).standard_normal((6, 4, 8)).astype(np.float32)


LENGTHS = [6, 2, 1, 5]


def test_lengths_that_reshape_the_batch():
    module, x = LSTM(8, 5, rng=0), batch()
    expected = module(x.copy(), lengths=LENGTHS)[0]
    output, _ = module(x, lengths=Reshaping(LENGTHS, x, (192,)))
    np.testing.assert_array_equal(output, expected)


def test_a_state_that_reshapes_the_batch():
    module, x = LSTM(8, 5, rng=0), batch()
    states = [np.zeros((1, 4, 5), np.float32), np.zeros((1, 4, 5), np.float32)]
    expected = module(x.copy(), tuple(states))[0]
    output, _ = module(x, (states[0], Reshaping(states[1], x, (1, 192))))
    np.testing.assert_array_equal(output, expected)


def test_a_state_that_reshapes_the_output():
    module, x = LSTM(8, 5, rng=0), batch()
    out = np.empty((6, 4, 5), np.float32)
    zeros = np.zeros((1, 4, 5), np.float32)
    expected = module(x)[0]
    output, _ = module(x, (zeros, Reshaping(zeros, out, (120,))), out=out)
    assert output is out
    np.testing.assert_array_equal(out.reshape(6, 4, 5), expected)


def test_lengths_that_reshape_what_is_packed():
    x = batch()
    expected = pack_padded_sequence(x.copy(), LENGTHS).data
    packed = pack_padded_sequence(x, Reshaping(LENGTHS, x, (192,)))
    np.testing.assert_array_equal(packed.data, expected)


def test_a_sequence_that_reshapes_the_one_before():
    first, second = np.ones((3, 2)), np.full((2, 2), 2.0)
    packed = pack_sequence([first, Reshaping(second, first, (6,))])
    np.testing.assert_array_equal(packed.sum(), [[3, 3], [4, 4]])


def test_batch_sizes_that_reshape_the_rows():
    data = np.arange(8.0).reshape(4, 2)
    packed = PackedSequence(data, Reshaping([2, 1, 1], data, (8,)))
    np.testing.assert_array_equal(packed.sum(), [[10, 13], [2, 3]])


# ---- subclasses that say what is not so --------------------------------------------------------


class Liar(np.ndarray):
    """Says another shape, dtype and flags than it has."""

    shape = property(lambda self: (6, 4, 5))
    dtype = property(lambda self: np.dtype(np.float32))

    @property
    def flags(self):
        return np.empty(1).flags


def lying(array):
    return array.view(Liar)


def test_a_lying_output_is_looked_at_under_its_lies():
    module, x = LSTM(8, 5, rng=0), batch()
    small = lying(np.empty(3, np.float32))
    with pytest.raises(ValueError, match=r"out must have shape \(6, 4, 5\), got \(3,\)"):
        module(x, out=small)
    fixed = np.zeros((6, 4, 5), np.float32)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="out must be writeable"):
        module(x, out=lying(fixed))
    assert not fixed.any()
    with pytest.raises(TypeError, match="out must be of float32, got dtype int64"):
        module(x, out=lying(np.empty((6, 4, 5), np.int64)))


def test_a_lying_input_is_looked_at_under_its_lies():
    module = LSTM(5, 3, rng=0)
    with pytest.raises(ValueError, match="input must be 2-D"):
        module(lying(np.ones(7, np.float32)))
    with pytest.raises(TypeError, match="input must be float32 or float64, got dtype int64"):
        module(lying(np.ones((6, 4, 5), np.int64)))
    with pytest.raises(ValueError, match="lengths has 4 entries"):
        pack_padded_sequence(lying(np.ones((3, 2))), LENGTHS)
