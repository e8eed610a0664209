"""What packing saves: counts, batches of similar length, and pictures."""

import re
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragged import LENGTHS, make_batch

from packseq import PackedSequence, batches, plot_packing, plot_savings, savings

FIRST = [4, 6, 8, 5, 4, 3, 7, 8]
SECOND = [9, 8, 6, 4, 3, 2]


def test_the_first_worked_example():
    saved = savings(FIRST)
    assert (saved.padded.steps, saved.packed.steps) == (64, 45)
    assert saved.waste == 1 - 45 / 64
    assert str(saved) == "64 padded steps, 45 packed: 30% of padded work is padding"
    assert repr(saved) == f"Savings({saved})"


def test_the_second_worked_example():
    packed = PackedSequence(np.zeros(32), [6, 6, 5, 4, 3, 3, 2, 2, 1])
    for lengths in (packed, SECOND):
        saved = savings(lengths)
        assert (saved.padded.multiplications, saved.padded.additions) == (54, 48)
        assert (saved.packed.multiplications, saved.packed.additions) == (32, 26)


@given(LENGTHS)
def test_a_weighted_sum_is_counted_by_doing_it(lengths):
    def sums(sequences):
        products = [[1 for _ in range(length)] for length in sequences]
        return sum(map(len, products)), sum(max(len(p) - 1, 0) for p in products)

    saved = savings(lengths)
    padded = [max(lengths)] * len(lengths)
    assert (saved.packed.multiplications, saved.packed.additions) == sums(lengths)
    assert (saved.padded.multiplications, saved.padded.additions) == sums(padded)


def dot(size):
    """A dot product: multiplications, additions."""
    return np.array([size, size - 1])


ADD, MULTIPLY = np.array([0, 1]), np.array([1, 0])


def step_of(cell, I, H, R, P):  # noqa: E741
    """One direction's step, written out as the equations are."""
    gate = dot(I) + dot(R) + 3 * ADD  # the two products and two biases are joined by three
    if cell == "lstm":
        return H * (4 * gate + 2 * MULTIPLY + ADD + MULTIPLY) + P * dot(H)
    if cell == "gru":
        return H * (3 * gate + MULTIPLY + 2 * ADD + MULTIPLY)
    return H * gate


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("proj_size", [0, 2])
def test_a_network_is_counted_by_its_equations(cell, bidirectional, num_layers, proj_size):
    P = proj_size if cell == "lstm" else 0
    I, H, D, R = 5, 7, 1 + bidirectional, P or 7  # noqa: E741
    step = D * step_of(cell, I, H, R, P) + (num_layers - 1) * D * step_of(cell, D * R, H, R, P)
    saved = savings(
        FIRST,
        cell=cell,
        input_size=I,
        hidden_size=H,
        num_layers=num_layers,
        bidirectional=bidirectional,
        proj_size=P,
    )
    for work, steps in ((saved.padded, 64), (saved.packed, 45)):
        assert (work.multiplications, work.additions) == tuple(steps * step)
        assert work.bytes == steps * 4 * (I + num_layers * D * R)


def test_nothing_is_saved_of_nothing():
    for lengths in ([], [0, 0]):
        saved = savings(lengths)
        assert (saved.padded.steps, saved.packed.steps, saved.waste) == (0, 0, 0)
        assert (saved.padded.additions, saved.packed.additions) == (0, 0)


def test_counts_do_not_overflow():
    assert savings([2**62, 2**62, 2**62]).padded.steps == 3 * 2**62


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: savings([1, -2]), ValueError, r"negative, got lengths\[1\] = -2"),
        (lambda: savings([1.0]), TypeError, "lengths must be integers"),
        (lambda: savings([1], cell="cnn"), ValueError, "'lstm', 'gru' or 'rnn', got 'cnn'"),
        (lambda: savings([1], hidden_size=3), TypeError, "sizes of a network need its cell"),
        (lambda: savings([1], cell="gru"), TypeError, "needs input_size and hidden_size"),
        (lambda: savings([1], cell=["gru"]), ValueError, r"'lstm', 'gru' or 'rnn', got \['gru'\]"),
        (lambda: savings([1], bidirectional="no"), TypeError, "bidirectional must be True or Fal"),
        (
            lambda: savings([1], cell="gru", input_size=0, hidden_size=3),
            ValueError,
            "input_size must be at least 1, got 0",
        ),
        (
            lambda: savings([1], cell="gru", input_size=3, hidden_size=3, proj_size=2),
            ValueError,
            "proj_size must be less than hidden_size, and is an LSTM's alone",
        ),
        (lambda: batches([1]), TypeError, "needs max_steps, max_tokens, max_seq"),
        (lambda: batches([1, 9], max_tokens=8), ValueError, r"8 is less than lengths\[1\] = 9"),
        (lambda: batches([1, 9], max_steps=8), ValueError, r"steps = 8 is less than lengths\[1\]"),
        (lambda: [*batches(iter([1, 9]), max_steps=8)], ValueError, r"than lengths\[1\] = 9"),
        (lambda: [*batches(iter([1, -9]), max_steps=8)], ValueError, "must not be negative"),
        (lambda: batches(iter([1]), max_steps=8, sort_window=0), ValueError, "sort_window must be"),
        (lambda: batches([1], max_steps=8, sort_window=9), TypeError, "belongs to an iterator"),
        (lambda: batches(iter([1]), max_steps=8, shuffle="ties"), TypeError, "all lengths at once"),
        (lambda: batches([1], max_tokens=0), ValueError, "max_tokens must be at least 1, got 0"),
        (lambda: batches([1], max_sequences=1.5), TypeError, "max_sequences must be an integer"),
        (lambda: batches([1], max_tokens=1, shuffle="all"), ValueError, "got 'all'"),
        (lambda: batches([1], max_tokens=1, rng=0), TypeError, "shuffle is not"),
        (lambda: plot_packing([]), ValueError, "at least one sequence to be drawn"),
        (lambda: plot_savings([-1]), ValueError, r"negative, got lengths\[0\] = -1"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- batches ----


@given(
    lengths=st.lists(st.integers(0, 30), max_size=60),
    max_tokens=st.none() | st.integers(30, 200),
    max_sequences=st.none() | st.integers(1, 9),
    shuffle=st.sampled_from([None, "batches", "ties"]),
)
def test_batches_keep_their_promises(lengths, max_tokens, max_sequences, shuffle):
    if max_tokens is None and max_sequences is None:
        max_sequences = 5
    rng = None if shuffle is None else 0
    grouped = batches(
        lengths, max_tokens=max_tokens, max_sequences=max_sequences, shuffle=shuffle, rng=rng
    )
    counts = np.array(lengths, int)
    assert sorted(np.concatenate([[], *grouped]).tolist()) == list(range(len(lengths)))
    padded = 0
    for batch in grouped:
        ordered = counts[batch]
        assert np.all(np.diff(ordered) <= 0)
        assert max_sequences is None or len(batch) <= max_sequences
        assert max_tokens is None or len(batch) * ordered[0] <= max_tokens
        padded += len(batch) * ordered[0]
    assert (grouped.padded_steps, grouped.packed_steps) == (padded, counts.sum())
    assert grouped.waste == (1 - counts.sum() / padded if padded else 0)
    assert not isinstance(grouped.padded_steps, np.generic)


@given(lengths=st.lists(st.integers(0, 30), max_size=60), max_steps=st.integers(30, 200))
def test_batches_of_real_steps(lengths, max_steps):
    grouped = batches(lengths, max_steps=max_steps)
    counts = np.array(lengths, int)
    assert sorted(np.concatenate([[], *grouped]).tolist()) == list(range(len(lengths)))
    for batch, after in zip(grouped, [*grouped[1:], None], strict=bool(lengths)):
        assert np.all(np.diff(counts[batch]) <= 0)
        assert counts[batch].sum() <= max_steps
        if after is not None:  # no batch ends before it must
            assert counts[batch].sum() + counts[after[0]] > max_steps


@given(
    lengths=st.lists(st.integers(0, 30), max_size=60),
    sort_window=st.integers(1, 200),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_a_stream_is_batched_window_by_window(lengths, sort_window, cuts):
    ends = sorted({0, len(lengths), *(min(cut, len(lengths)) for cut in cuts)})
    arrays = [np.array(lengths[a:b], int) for a, b in pairwise(ends)]
    streams = [iter(lengths), iter(arrays)]
    one, many = ([*batches(s, max_steps=30, sort_window=sort_window)] for s in streams)
    assert [batch.tolist() for batch in one] == [batch.tolist() for batch in many]
    # The same by hand: as many as fit, a length of 0 counting as 1.
    expected, start = [], 0
    while start < len(lengths):
        stop = start + 1
        while (
            stop < len(lengths) and sum(max(n, 1) for n in lengths[start : stop + 1]) <= sort_window
        ):
            stop += 1
        expected += [start + batch for batch in batches(lengths[start:stop], max_steps=30)]
        start = stop
    assert [batch.tolist() for batch in one] == [batch.tolist() for batch in expected]


def test_a_stream_is_read_no_further_than_it_must():
    taken = []

    def lengths():
        for n in range(100):
            taken.append(n)
            yield 5

    stream = batches(lengths(), max_steps=5, sort_window=10)
    assert taken == []
    assert next(stream).tolist() == [0]
    assert len(taken) == 3


def test_batches_of_similar_length_waste_little():
    lengths = np.random.default_rng(0).integers(1, 500, 10_000)
    grouped = batches(lengths, max_tokens=16_384)
    assert savings(lengths).waste > 0.49
    assert grouped.waste < 0.02
    assert repr(grouped) == f"Batches({len(grouped)} of 10000 sequences, waste {grouped.waste:.1%})"


def test_shuffled_batches_repeat_with_their_seed_and_waste_the_same():
    lengths = np.random.default_rng(0).integers(1, 9, 200)

    def drawn(shuffle, rng):
        return batches(lengths, max_sequences=7, shuffle=shuffle, rng=rng)

    plain = batches(lengths, max_sequences=7)
    for shuffle in ("batches", "ties"):
        first, again, other = drawn(shuffle, 1), drawn(shuffle, 1), drawn(shuffle, 2)
        assert [b.tolist() for b in first] == [b.tolist() for b in again]
        assert [b.tolist() for b in first] != [b.tolist() for b in other]
        assert first.waste == plain.waste
    as_sets = {frozenset(batch.tolist()) for batch in plain}
    assert {frozenset(batch.tolist()) for batch in drawn("batches", 1)} == as_sets
    assert {frozenset(batch.tolist()) for batch in drawn("ties", 1)} != as_sets


def test_batches_select_from_a_packed_data_set():
    data = make_batch([3, 9, 2, 9, 3])
    grouped = batches(data.packed, max_tokens=18)
    parts = [data.packed.select(batch) for batch in grouped]
    assert [part.lengths.tolist() for part in parts] == [[9, 9], [3, 3, 2]]
    assert grouped[0].tolist() == [1, 3]


# ---- pictures ----


def test_html_is_bounded_and_tells_the_waste():
    small = PackedSequence(np.zeros(45), np.array([8, 8, 8, 7, 5, 4, 3, 2]))
    html = small._repr_html_()
    assert "PackedSequence(8 sequences of 3 to 8 steps, data (45,) float64)" in html
    assert "29.7% of 64 padded steps" in html
    assert html.count("M") == 8
    steps = np.arange(2**20, 0, -(2**10))
    large = PackedSequence(np.broadcast_to(np.int8(0), steps.sum()), steps)
    assert large.batch_size == 2**20
    assert len(large._repr_html_()) < 5000


def test_html_names_its_axes_in_the_colour_of_the_text_around_it():
    html = PackedSequence(np.zeros(45), np.array([8, 8, 8, 7, 5, 4, 3, 2]))._repr_html_()
    words = re.findall("<text [^>]*>(.*?)</text>", html)
    assert words == ["8", "steps", "0", "8 sequences, longest first"]
    fills = re.findall('fill="(.*?)"', html)
    assert fills[0] == "currentColor"  # of all but the bars
    assert len(fills) == 2


def test_html_is_escaped():
    packed = PackedSequence(np.zeros(2, np.dtype([("<b>", "i4")])), [1, 1])
    assert "<b>" in repr(packed)
    assert "<b>" not in packed._repr_html_()
    assert "&lt;b&gt;" in packed._repr_html_()


def test_html_of_an_empty_batch():
    empty = PackedSequence(np.zeros((0, 2)), [])
    assert empty._repr_html_() == "<div>PackedSequence(0 sequences, data (0, 2) float64)</div>"


@pytest.fixture
def pyplot(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib", reason="the library that draws")
    matplotlib.use("Agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    yield pyplot
    pyplot.close("all")


def colours_of(half):
    """How many cells of each half are drawn in a colour: neither padding nor nothing."""
    (image,) = half.images
    cells = image.get_array()
    return np.count_nonzero((cells[..., 3] > 0) & (np.ptp(cells[..., :3], axis=-1) > 0.01))


def test_plot_packing_draws_every_step_once_a_half(pyplot):
    padded, packed = plot_packing(FIRST).child_axes
    assert colours_of(padded) == 45
    assert colours_of(packed) == 45
    assert padded.get_title() == "padded: 64 steps"
    assert packed.get_title() == "packed: 45 steps, 30% saved"
    labels = [label.get_text() for label in packed.get_xticklabels()]
    assert labels == ["8", "8", "8", "7", "5", "4", "3", "2"]


SIZES = pytest.mark.parametrize("size", [(3, 2), (6, 3), (12, 4)])
LARGE = np.random.default_rng(0).integers(1, 500, 10_000)


def boxes(texts):
    """Where drawn texts are, of those that say something."""
    return [text.get_window_extent() for text in texts if text.get_text()]


def assert_apart(drawn):
    for one, other in combinations(drawn, 2):
        assert not one.overlaps(other)


@SIZES
@pytest.mark.parametrize("lengths", [FIRST, LARGE, [1], [10**9, 1]])
def test_no_text_of_plot_packing_lies_on_another(pyplot, size, lengths):
    figure, ax = pyplot.subplots(figsize=size, layout="constrained")
    plot_packing(lengths, ax=ax)
    figure.canvas.draw()
    texts = []
    for half in ax.child_axes:
        texts += [half.title, half.xaxis.label, half.yaxis.label]
        assert_apart(boxes(half.get_xticklabels()))
    assert_apart(boxes(texts))
    padded, packed = ax.child_axes
    assert not packed.yaxis.label.get_window_extent().overlaps(padded.get_window_extent())


@SIZES
@pytest.mark.parametrize(
    "lengths", [FIRST, LARGE, [5] * 2000, [1], np.tile(LARGE, 2), np.tile(LARGE, 100)], ids=len
)
def test_the_legend_of_plot_savings_is_off_the_curves(pyplot, size, lengths):
    figure, ax = pyplot.subplots(figsize=size, layout="constrained")
    plot_savings(lengths, ax=ax)
    figure.canvas.draw()
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1
    assert ax.get_legend().get_window_extent().x1 <= figure.bbox.x1
    assert_apart(boxes(ax.get_xticklabels()))
    shown = [label.get_text() for label in ax.get_xticklabels()]
    assert (shown[0], shown[-1]) == ("1", f"{len(lengths):,}")


@pytest.mark.parametrize("lengths", [[1], [0, 0], [5, 0], range(1, 1000), [3] * 10_000])
def test_pictures_of_any_size(pyplot, lengths):
    _, ax = pyplot.subplots()
    assert plot_packing(list(lengths), ax=ax) is ax
    for half in ax.child_axes:
        for image in half.images:
            assert max(image.get_array().shape[:2]) <= 400
    plot_savings(list(lengths))
    ax.figure.canvas.draw()


def test_plot_savings_draws_the_waste(pyplot):
    ax = plot_savings([4, 2, 4, 2])
    given, ordered = (line.get_ydata().tolist() for line in ax.lines[:2])
    assert ax.lines[0].get_xdata().tolist() == [1, 2, 4]
    assert given == [0, 25, 25]
    assert ordered == [0, 0, 25]


def test_the_committed_picture_is_small():
    picture = Path(__file__).parents[1] / "docs" / "packing.png"
    assert picture.stat().st_size < 60_000


def test_lengths_without_rows_take_no_memory_of_their_steps():
    pytest.importorskip("matplotlib").use("agg")
    halves = plot_packing([3, 2**62, 2**61]).child_axes
    labels = [label.get_text() for label in halves[1].get_xticklabels()]
    assert (labels[0], labels[2], labels[-1]) == ("3", "1", "1")
    picture = halves[0].images[0].get_array()
    padding = (picture == picture[0, -1]).all(axis=-1).sum(axis=1)
    np.testing.assert_array_equal(padding, [399, 0, 200])
