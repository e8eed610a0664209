"""What is timed: a recurrent module, the lengths of a batch, and the arrays that all peers get.

Sizes are such that one call takes 1 to 100 ms on one core; a peer's speed does not depend on the
values, apart from the decaying case, which exists to show that.
"""

from dataclasses import dataclass, field

import numpy as np

import packseq
from packseq.weights.gates import TORCH

# ---- lengths: name -> steps per sequence, in no order ----


def _rng():
    return np.random.default_rng(0)


def equal(batch, steps):
    return np.full(batch, steps)


def uniform(batch, least, most):
    return _rng().integers(least, most + 1, batch)


def zipf(batch, most):
    """A long tail: half are 1 or 2 steps, a few are a hundred times longer."""
    return np.minimum(_rng().zipf(1.6, batch), most)


def one_long(batch, long, short):
    return np.array([short] * (batch - 1) + [long])


def sentences(batch):
    """Words of written English: 18 at the median, log-normal."""
    return np.clip(_rng().lognormal(np.log(18), 0.6, batch).astype(np.int64), 2, 90)


def speech(batch, mean):
    """Frames of utterances: a broad hump, few very short."""
    return np.clip(_rng().gamma(5, mean / 5, batch).astype(np.int64), 5, 3 * mean)


# ---- cases ----


@dataclass(frozen=True, eq=False)
class Case:
    """One module on one batch.

    `values` are "noise"; or, with weights that let a state decay, "decays" (there is no input after
    a while) or "stays" (there is).
    """

    about: str
    cell: str
    input_size: int
    hidden_size: int
    lengths: np.ndarray = field(repr=False)
    num_layers: int = 1
    bidirectional: bool = False
    proj_size: int = 0
    nonlinearity: str = "tanh"
    dtype: str = "float32"
    values: str = "noise"
    stream: bool = False

    @property
    def batch_size(self):
        return len(self.lengths)

    @property
    def max_length(self):
        return int(self.lengths.max())

    @property
    def rows(self):
        """Real steps, padding excluded."""
        return int(self.lengths.sum())

    @property
    def ragged(self):
        return self.rows < self.batch_size * self.max_length

    @property
    def dense(self):
        """Whether many sequences run at once for most of the steps, in a layer that is not small.

        A batch where under a quarter of the padded steps are real runs a few rows at a time however
        many sequences it has.
        """
        filled = self.rows / (self.batch_size * self.max_length)
        return self.ragged and self.batch_size >= 8 and self.hidden_size >= 256 and filled >= 0.25

    @property
    def flops(self):
        """Multiplications and additions of the matrix products that are needed.

        Real steps only; and where no first state is given, a first step has nothing to multiply it
        with. (packseq leaves that product out; the others compute it.)
        """
        directions = 1 + self.bidirectional
        state = self.proj_size or self.hidden_size
        continuing = self.rows if self.stream else self.rows - np.count_nonzero(self.lengths)
        width, total = self.input_size, 0
        for _ in range(self.num_layers):
            columns = len(TORCH[self.cell]) * self.hidden_size
            products = columns * (width * self.rows + state * continuing)
            products += self.hidden_size * self.proj_size * self.rows
            total += 2 * directions * products
            width = directions * state
        return int(total)

    @property
    def model(self):
        words = [self.cell, str(self.hidden_size)]
        words += [f"to {self.proj_size}"] * bool(self.proj_size)
        words += [self.nonlinearity] * (self.nonlinearity != "tanh")
        words += [f"{self.num_layers} layers"] * (self.num_layers > 1)
        words += ["bidirectional"] * self.bidirectional
        words += [self.dtype] * (self.dtype != "float32")
        return " ".join(words)

    @property
    def name(self):
        return f"{self.about}, {self.model}, B={self.batch_size}"

    def options(self):
        """Keyword arguments that packseq's and torch's modules share."""
        options = {"num_layers": self.num_layers, "bidirectional": self.bidirectional}
        if self.cell == "LSTM":
            options["proj_size"] = self.proj_size
        if self.cell == "RNN":
            options["nonlinearity"] = self.nonlinearity
        return options


class Problem:
    """A case's arrays: a module with weights, a padded batch (T, B, I), its lengths and states."""

    def __init__(self, case):
        self.case = case
        rng = _rng()
        options = {"dtype": case.dtype, "rng": rng, "backend": "cpu"} | case.options()
        self.module = getattr(packseq, case.cell)(case.input_size, case.hidden_size, **options)
        # Without padding nobody would say how long the sequences are.
        self.lengths = case.lengths if case.ragged else None
        shape = (case.max_length, case.batch_size, case.input_size)
        self.x = rng.standard_normal(shape).astype(case.dtype)
        self.real = np.arange(case.max_length)[:, None] < case.lengths
        self.x[~self.real] = 0
        self.hx = self._states(rng) if case.stream else None
        if case.values in ("decays", "stays"):
            self._let_states_decay()
        if case.values == "decays":
            self.x[10:] = 0

    def _states(self, rng):
        case = self.case
        shape = (case.num_layers * (1 + case.bidirectional), case.batch_size, case.hidden_size)
        h, c = rng.uniform(-1, 1, (2, *shape)).astype(case.dtype)
        return (h, c) if case.cell == "LSTM" else h

    def _let_states_decay(self):
        """Without input, c shrinks by about 0.7 a step, is denormal from step 300 on, and stays so.

        (0.7 times the least denormal rounds to itself.) Output gates near 1 pass it on to h, hence
        to every product of the next step.
        """
        hidden = self.case.hidden_size
        weights = dict(self.module.state_dict())
        bias = np.zeros_like(weights["bias_ih_l0"])
        bias[hidden : 2 * hidden] = 0.8
        bias[3 * hidden :] = 5
        weights["bias_ih_l0"], weights["bias_hh_l0"] = bias, np.zeros_like(bias)
        weights["weight_hh_l0"] = weights["weight_hh_l0"] * np.float32(0.1)
        self.module.load_state_dict(weights)


BOTH = {"bidirectional": True}

DECAYING, STEADY = (
    Case(about, "LSTM", 32, 128, equal(4, 1000), values=values)
    for about, values in (("states decay", "decays"), ("states do not decay", "stays"))
)

STEP = Case("one step", "LSTM", 128, 128, equal(1, 1), stream=True)

CASES = [
    # LSTM, lengths as they come
    Case("sentences", "LSTM", 256, 256, sentences(32), **BOTH),
    Case("text lines (OCR)", "LSTM", 64, 256, uniform(16, 20, 80), num_layers=2, **BOTH),
    Case("speech", "LSTM", 80, 512, speech(8, 50), num_layers=2, **BOTH),
    Case("uniform", "LSTM", 256, 256, uniform(32, 1, 60)),
    Case("uniform", "LSTM", 512, 512, uniform(16, 1, 60)),
    Case("equal", "LSTM", 384, 384, equal(64, 12)),
    Case("time series, uniform", "LSTM", 16, 64, uniform(1024, 5, 25), num_layers=2),
    Case("Zipf", "LSTM", 128, 128, zipf(256, 120)),
    Case("Zipf", "LSTM", 256, 256, zipf(64, 120), **BOTH),
    Case("one long, many short", "LSTM", 256, 256, one_long(32, 200, 4)),
    Case("one long, many short", "LSTM", 128, 128, one_long(32, 300, 4), **BOTH),
    # DeepBench's inference shapes
    *(
        Case("DeepBench", "LSTM", hidden, hidden, equal(batch, 50 if hidden == 256 else 25))
        for hidden in (256, 512, 1024, 1536)
        for batch in (1, 2, 4)
    ),
    # Sizes that are no power of two
    Case("odd sizes, uniform", "LSTM", 127, 127, uniform(16, 5, 60)),
    Case("odd sizes, uniform", "LSTM", 200, 200, uniform(16, 5, 40)),
    Case("odd sizes, uniform", "LSTM", 320, 320, uniform(16, 5, 40)),
    Case("odd sizes, uniform", "GRU", 200, 200, uniform(16, 5, 60)),
    # The other cells
    Case("sentences", "GRU", 256, 256, sentences(32), **BOTH),
    Case("speech", "GRU", 80, 512, speech(8, 50), num_layers=2, **BOTH),
    Case("uniform", "GRU", 256, 256, uniform(32, 1, 60)),
    Case("Zipf", "GRU", 128, 128, zipf(256, 120)),
    Case("one sequence", "GRU", 512, 512, equal(1, 25)),
    Case("sentences", "RNN", 256, 256, sentences(32), **BOTH),
    Case("uniform", "RNN", 512, 512, uniform(32, 1, 60)),
    Case("Zipf", "RNN", 128, 128, zipf(256, 120), nonlinearity="relu"),
    Case("sentences", "LSTM", 256, 512, sentences(32), proj_size=128),
    Case("sentences", "LSTM", 256, 256, sentences(32), dtype="float64"),
    Case("sentences", "GRU", 256, 256, sentences(32), dtype="float64"),
    # Long runs, and one step at a time
    DECAYING,
    STEADY,
    STEP,
    Case("one step", "GRU", 128, 128, equal(1, 1), stream=True),
]
