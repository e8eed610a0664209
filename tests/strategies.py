"""What the tests of the recurrent modules share: how one is built, fed and compared."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from packseq import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

# As the reference calls them: those that torch has, and those that it lacks.
KINDS = ("LSTM", "GRU", "RNN_TANH", "RNN_RELU")
OWN_KINDS = ("LSTM_PEEPHOLE", "GRU_RESET_BEFORE")
DTYPES = (np.float32, np.float64)
PRECISIONS = ("float32", "float64", "int8", "bfloat16")

_MODULES = {"LSTM": (LSTM, LSTMCell), "GRU": (GRU, GRUCell), "RNN": (RNN, RNNCell)}

# Around one vector of lanes (8 or 16) and its multiples, and below it.
HIDDEN_SIZES = (1, 7, 8, 9, 16, 17, 33, 64)
INPUT_SIZES = (1, 2, 3, 7, 8, 9, 16, 17, 33)


_OPTIONS = {
    "LSTM_PEEPHOLE": {"peephole": True},
    "GRU_RESET_BEFORE": {"reset_after": False},
    "RNN_TANH": {"nonlinearity": "tanh"},
    "RNN_RELU": {"nonlinearity": "relu"},
}


def split_kind(kind):
    """ "RNN_RELU" -> "RNN" and the options that say relu."""
    return kind.partition("_")[0], _OPTIONS.get(kind, {})


def make_module(kind, *sizes, **options):
    name, variant = split_kind(kind)
    return _MODULES[name][0](*sizes, **variant, **options)


def make_cell(kind, *sizes, **options):
    name, variant = split_kind(kind)
    return _MODULES[name][1](*sizes, **variant, **options)


def dtype_of(precision):
    """Of the input and the states of a module of this precision."""
    return np.dtype(np.float64 if precision == "float64" else np.float32)


def pad(sequences, width, batch_first=False, value=0.0, extra_steps=0):
    """(T_b, width) arrays -> one padded batch, without any help of packseq's."""
    longest = max(map(len, sequences), default=0) + extra_steps
    dtype = sequences[0].dtype if sequences else np.float32
    padded = np.full((len(sequences), longest, width), value, dtype)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded if batch_first else np.ascontiguousarray(padded.swapaxes(0, 1))


def as_state(kind, parts):
    """(h,) or (h, c) -> what a module of this kind takes as hx and returns as its state."""
    return tuple(parts) if kind.startswith("LSTM") else parts[0]


def state_parts(state):
    return state if isinstance(state, tuple) else (state,)


@dataclass(frozen=True)
class Case:
    """One module and one ragged batch for it: everything random follows from `seed`."""

    kind: str
    input_size: int
    hidden_size: int
    lengths: tuple[int, ...]
    options: dict = field(default_factory=dict)
    seed: int = 0

    def module(self, dtype, **overrides):
        options = self.options | {"dtype": dtype, "rng": self.seed} | overrides
        return make_module(self.kind, self.input_size, self.hidden_size, **options)

    def module_of(self, precision):
        """One of PRECISIONS; below float32 all else is float32."""
        if precision in ("float32", "float64"):
            return self.module(precision)
        return self.module(np.float32).quantize(precision)

    def sequences(self, dtype):
        rng = np.random.default_rng(self.seed)
        shapes = [(length, self.input_size) for length in self.lengths]
        return [rng.standard_normal(shape).astype(dtype) for shape in shapes]

    def state(self, dtype):
        """(h,) or (h, c), each of shape (L*D, B, ·), in the range that a network's own have."""
        rng = np.random.default_rng([self.seed, 1])
        cells = self.options.get("num_layers", 1) * (1 + self.options.get("bidirectional", False))
        sizes = [self.options.get("proj_size", 0) or self.hidden_size]
        if self.kind.startswith("LSTM"):
            sizes.append(self.hidden_size)
        shapes = [(cells, len(self.lengths), size) for size in sizes]
        return tuple(rng.uniform(-1, 1, shape).astype(dtype) for shape in shapes)

    def padded(self, dtype, **how):
        batch_first = self.options.get("batch_first", False)
        return pad(self.sequences(dtype), self.input_size, batch_first, **how)


@st.composite
def cases(draw, kinds=KINDS, min_batch=0, min_length=0, **fixed):
    """Modules of every option with ragged batches; `fixed` options are not drawn."""
    kind = draw(st.sampled_from(kinds))
    hidden_size = draw(st.sampled_from(HIDDEN_SIZES))
    drawn = {
        "num_layers": st.integers(1, 3),
        "bidirectional": st.booleans(),
        "bias": st.booleans(),
        "batch_first": st.booleans(),
    }
    if kind.startswith("LSTM"):
        drawn["proj_size"] = st.integers(0, hidden_size - 1)
    options = {name: draw(values) for name, values in drawn.items() if name not in fixed}
    return Case(
        kind=kind,
        input_size=draw(st.sampled_from(INPUT_SIZES)),
        hidden_size=hidden_size,
        lengths=tuple(draw(st.lists(st.integers(min_length, 9), min_size=min_batch, max_size=9))),
        options=options | fixed,
        seed=draw(st.integers(0, 2**16)),
    )


# Of the largest value that is compared, or of 1 where all are smaller. Half an ulp is 6e-8 in
# float32: 2e-6 is room for 33 of them. A pre-activation, a sum of K rounded products of which no
# partial sum is far above 1, is off by some sqrt(K)/2 of them (10 at K = 400), the slopes of tanh
# and sigmoid only shrink that, and the recurrence, with weights within 1/sqrt(H), does not build
# it up. In float64 the same argument gives 4e-15; 1e-12 is what packseq promises.
TOLERANCE = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-12}
# On a GPU exponentials may be the fast ones, off by 2 + 1.2 |x| ulps: of a gate some 1e-6. A step
# of an LSTM has four, whose errors c sums up and forgets as it does its values. (On an H100 cuDNN's
# way for full batches is 5.7e-6 away from its packed one after two steps.)
FLOAT32_ON_A_GPU = 2e-5


def assert_close(actual, expected):
    """Equal up to the rounding of actual's dtype; a NaN must meet a NaN."""
    assert actual.shape == expected.shape
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, finite.max(initial=0))
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=TOLERANCE[actual.dtype] * scale, equal_nan=True
    )


def assert_states_close(actual, expected):
    """`actual` as a module returns it against `expected`, a tuple of parts."""
    assert len(state_parts(actual)) == len(expected)
    for a, e in zip(state_parts(actual), expected, strict=True):
        assert_close(a, e)


def assert_same_bits(actual, expected):
    """The same numbers, signs of zero and NaNs included."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes()


# ---- the same numbers in other memory ----


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


FORMS = {
    "read-only": read_only,
    "fortran order": np.asfortranarray,
    "every other element": lambda x: np.repeat(np.repeat(x, 2, -1), 2, 0)[::2, ..., ::2],
    "negative strides": lambda x: np.flip(np.flip(x).copy()),
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "subclass": lambda x: x.view(np.recarray),
}
