"""Embeddings and losses on packed rows, against a loop, and against torch where it is installed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragged import LENGTHS, assert_sequences, make_batch

from packseq import cross_entropy, embedding, mse_loss, pack_sequence

REDUCTIONS = ("mean", "sum", "none", "sequence")


def classes_of(lengths, shape, size, seed, ignored=-100):
    """Integer targets, of which some are `ignored`."""
    rng = np.random.default_rng(seed)
    sequences = [rng.integers(0, size, (n, *shape)) for n in lengths]
    return [np.where(rng.random(s.shape) < 0.2, ignored, s) for s in sequences]


def distributions_of(lengths, shape, size, seed):
    rng = np.random.default_rng(seed)
    powers = [np.exp(rng.standard_normal((n, size, *shape))) for n in lengths]
    return [p / p.sum(axis=1, keepdims=True) for p in powers]


def row_losses(logits, targets, weight, ignored, smoothing):
    """The definition, in float64: (L, C, *) -> losses (L, *), and what each counts."""
    logits = logits.astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    classes = logits.shape[1]
    by_class = weight.reshape(-1, *[1] * (logits.ndim - 2))
    if targets.dtype.kind == "f":
        wanted = targets * (1 - smoothing) + smoothing / classes
        return -(wanted * by_class * log_p).sum(axis=1), np.ones((len(logits), *logits.shape[2:]))
    chosen = np.where(targets == ignored, 0, targets)
    one_hot = np.moveaxis(np.eye(classes)[chosen], -1, 1)
    exact = -(one_hot * by_class * log_p).sum(axis=1)
    spread = -(by_class * log_p).sum(axis=1) / classes
    counts = np.where(targets == ignored, 0, weight[chosen])
    loss = (1 - smoothing) * exact + smoothing * spread
    return np.where(targets == ignored, 0, loss), counts


@pytest.mark.parametrize("reduction", REDUCTIONS)
@given(
    lengths=LENGTHS,
    shape=st.sampled_from([(), (2,)]),
    size=st.integers(1, 5),
    weighted=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    distributions=st.booleans(),
)
def test_cross_entropy(reduction, lengths, shape, size, weighted, smoothing, distributions):
    logits = make_batch(lengths, (size, *shape), np.float64)
    make = distributions_of if distributions else classes_of
    targets = make(lengths, shape, size, 3)
    weight = np.linspace(0.5, 2, size) if weighted else None
    actual = cross_entropy(
        logits.packed,
        pack_sequence(targets),
        weight,
        reduction=reduction,
        label_smoothing=smoothing,
    )
    weight = np.ones(size) if weight is None else weight
    pairs = zip(logits.sequences, targets, strict=True)
    rows = [row_losses(*pair, weight, -100, smoothing) for pair in pairs]
    totals = np.array([loss.sum() for loss, _ in rows])
    counts = np.array([count.sum() for _, count in rows])
    near = {"rtol": 1e-12, "atol": 1e-12}
    with np.errstate(invalid="ignore"):
        if reduction == "none":
            assert_sequences(actual, [loss for loss, _ in rows], **near)
        elif reduction == "sequence":
            np.testing.assert_allclose(actual, totals / counts, **near)
        else:
            divisor = counts.sum() if reduction == "mean" else 1
            np.testing.assert_allclose(actual, totals.sum() / divisor, **near)


@pytest.mark.parametrize("reduction", REDUCTIONS[:3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["classes", "distributions"])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_cross_entropy_is_torchs(reduction, weighted, smoothing, kind, shape):
    torch = pytest.importorskip("torch", reason="the peer that is compared with")
    lengths, size = [4, 0, 30, 7], 11
    logits = make_batch(lengths, (size, *shape), np.float32).packed * 3
    make = {"classes": classes_of, "distributions": distributions_of}[kind]
    targets = pack_sequence(make(lengths, shape, size, 4))
    if kind == "distributions":
        targets = targets.astype(np.float32)
    weight = np.linspace(0, 2, size, dtype=np.float32) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing}
    actual = cross_entropy(logits, targets, weight, **options)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits.data),
        torch.from_numpy(targets.data),
        None if weight is None else torch.from_numpy(weight),
        **options,
    )
    actual = actual.data if reduction == "none" else actual
    # torch adds up to 123 losses in float32: errors grow as the root of their number, 11 ulps.
    np.testing.assert_allclose(actual, expected.numpy(), rtol=2e-6, atol=2e-6)
    assert actual.dtype == np.float32


@pytest.mark.parametrize("reduction", REDUCTIONS[:3])
def test_mse_loss_is_torchs(reduction):
    torch = pytest.importorskip("torch", reason="the peer that is compared with")
    one, two = (make_batch([4, 0, 9], (3,), np.float32, seed=k).packed for k in (1, 2))
    actual = mse_loss(one, two, reduction)
    expected = torch.nn.functional.mse_loss(
        torch.from_numpy(one.data), torch.from_numpy(two.data), reduction=reduction
    )
    actual = actual.data if reduction == "none" else actual
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-6)


def test_mse_loss_of_each_sequence():
    one, two = (make_batch([4, 0, 9], (3,), np.float32, seed=k) for k in (1, 2))
    pairs = zip(one.sequences, two.sequences, strict=True)
    expected = [np.square(a - b).mean() if len(a) else np.nan for a, b in pairs]
    np.testing.assert_allclose(mse_loss(one.packed, two.packed, "sequence"), expected, rtol=1e-6)


def test_the_loss_of_each_sequence_is_that_of_it_alone():
    lengths = [5, 0, 3]
    logits = make_batch(lengths, (4,), np.float32).packed
    targets = pack_sequence(classes_of(lengths, (), 4, 1))
    alone = [cross_entropy(logits.select([b]), targets.select([b])) for b in range(3)]
    together = cross_entropy(logits, targets, reduction="sequence")
    np.testing.assert_allclose(together, alone, rtol=1e-7)
    assert np.isnan(together[1])


def test_blocks_do_not_show():
    """More logits than one block holds."""
    lengths, size = [3000, 2000], 30
    logits = make_batch(lengths, (size,), np.float64)
    targets = classes_of(lengths, (), size, 0)
    whole = cross_entropy(logits.packed, pack_sequence(targets), reduction="none")
    pairs = zip(logits.sequences, targets, strict=True)
    expected = [row_losses(*pair, np.ones(size), -100, 0)[0] for pair in pairs]
    assert_sequences(whole, expected, rtol=1e-12, atol=1e-12)


def test_logits_that_are_large_or_infinite():
    logits = pack_sequence([np.array([[1e4, 0], [0, -np.inf], [np.nan, 0]], np.float32)])
    targets = pack_sequence([np.array([1, 1, 0])])
    loss = cross_entropy(logits, targets, reduction="none").data
    np.testing.assert_array_equal(loss, np.array([1e4, np.inf, np.nan], np.float32))


def test_float16_is_worked_out_in_float32():
    logits = pack_sequence([np.full((3, 2), 1000, np.float16)])
    loss = cross_entropy(logits, pack_sequence([np.zeros(3, int)]))
    assert loss == np.float16(np.log(2))
    assert loss.dtype == np.float16


def test_another_ignored_class():
    logits = make_batch([6], (4,), np.float32).packed
    targets = pack_sequence([np.array([0, 3, 3, 1, 2, 3])])
    kept = cross_entropy(logits, targets, ignore_index=3, reduction="none").data
    np.testing.assert_array_equal(kept == 0, targets.data == 3)


@given(LENGTHS, st.sampled_from([(), (3,)]), st.sampled_from([(), (4,)]))
def test_embedding(lengths, id_shape, row_shape):
    table = np.random.default_rng(0).standard_normal((7, *row_shape)).astype(np.float32)
    ids = classes_of(lengths, id_shape, 7, 2, ignored=0)
    assert_sequences(embedding(table, pack_sequence(ids)), [table[i] for i in ids])


LOGITS = make_batch([3, 1], (4,), np.float32).packed
WIDE = LOGITS.astype(np.longdouble)
TARGETS = pack_sequence([np.array([0, 1, 2]), np.array([3])])
IDS = pack_sequence([np.array([0]), np.array([1, 2, 9])])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: embedding(np.ones((5, 2)), IDS),
            ValueError,
            "0 and 4, got 9 at step 2 of seq.* 1",
        ),
        (lambda: embedding(np.ones((5, 2)), IDS - 1), ValueError, "got -1 at step 0 of sequence 0"),
        (lambda: embedding(np.ones((5, 2)), IDS * 1.0), TypeError, "ids must be of integer dtype"),
        (lambda: embedding(np.ones((5, 2)), [1]), TypeError, "ids must be a PackedSequence, got"),
        (lambda: embedding(1, IDS), ValueError, r"table must have shape \(V, \*\), got a scalar"),
        (lambda: cross_entropy(LOGITS.data, TARGETS), TypeError, "logits must be a Packed"),
        (lambda: cross_entropy(TARGETS, TARGETS), TypeError, "logits must be of float dtype"),
        (
            lambda: cross_entropy(LOGITS, IDS),
            ValueError,
            "logits and targets must share one layout",
        ),
        (lambda: cross_entropy(LOGITS, TARGETS + 1), ValueError, "got 4 at step 0 of sequence 1"),
        (lambda: cross_entropy(LOGITS, TARGETS - 1), ValueError, "got -1 at step 0 of sequence 0"),
        (
            lambda: cross_entropy(LOGITS, LOGITS > 0),
            TypeError,
            "targets must be of integer or float",
        ),
        (
            lambda: cross_entropy(LOGITS, LOGITS @ np.eye(4)[:, :3]),
            ValueError,
            r"float rows \(3,\)",
        ),
        (lambda: cross_entropy(LOGITS, LOGITS.astype(int)), ValueError, r"rows \(\) for logits of"),
        (lambda: cross_entropy(LOGITS, TARGETS, [1, 2]), ValueError, r"shape \(4,\), a number a"),
        (lambda: cross_entropy(LOGITS, TARGETS, ["a"] * 4), TypeError, "weight must be of float"),
        (lambda: cross_entropy(LOGITS, TARGETS, reduction="max"), ValueError, "got 'max'"),
        (lambda: cross_entropy(LOGITS, TARGETS, ignore_index=1.5), TypeError, "ignore_index must"),
        (
            lambda: cross_entropy(LOGITS, TARGETS, label_smoothing="0.1"),
            TypeError,
            "label_smoothing must be a number, got '0.1'",
        ),
        (
            lambda: cross_entropy(LOGITS, TARGETS, label_smoothing=1.5),
            ValueError,
            "between 0 and 1, got 1.5",
        ),
        (
            lambda: cross_entropy(LOGITS.map(lambda x: x[:, 0]), TARGETS),
            ValueError,
            r"logits must have rows \(C, \*\) of at least one class, got \(\)",
        ),
        (lambda: mse_loss(LOGITS, TARGETS), TypeError, "target must be of float dtype"),
        (lambda: mse_loss(LOGITS, LOGITS @ np.ones(4)), ValueError, r"rows \(4,\) as input"),
        (lambda: mse_loss(LOGITS, LOGITS.slice(1)), ValueError, "input and target must share"),
        (lambda: mse_loss(LOGITS, LOGITS, "max"), ValueError, "reduction must be .* got 'max'"),
        (lambda: cross_entropy(WIDE, TARGETS), TypeError, "logits .* of at most 64 bits, got"),
        (lambda: cross_entropy(LOGITS, WIDE), TypeError, "targets .* of at most 64 bits, got"),
        (lambda: mse_loss(WIDE, LOGITS), TypeError, "input .* of at most 64 bits, got"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponentials_of_every_magnitude(dtype):
    """The normalizer is log(1 + exp(x)), whose exp has its own kernel."""
    x = -np.logspace(-6, np.log10(700 if dtype == np.float64 else 87), 4000).astype(dtype)
    logits = pack_sequence([np.stack([np.zeros_like(x), x], axis=1)])
    loss = cross_entropy(
        logits, logits.map(lambda rows: np.zeros(len(rows), int)), reduction="none"
    )
    # 1 + exp(x) is rounded once, after exp's own error of at most one ulp.
    eps = np.finfo(dtype).eps
    expected = np.log1p(np.exp(x.astype(np.longdouble)))
    np.testing.assert_allclose(loss.data, expected.astype(np.float64), rtol=2 * eps, atol=2 * eps)
    # Below 1, the two weights of a softmax over two steps tell exp alone.
    pairs = pack_sequence([np.array([0, v], dtype) for v in x])
    exact = np.exp(x.astype(np.longdouble))
    weights = np.array([pairs.softmax()[b][1] for b in range(0, 4000, 50)])
    exact = (exact / (1 + exact))[::50].astype(np.float64)
    np.testing.assert_allclose(weights, exact, rtol=4 * eps)


@pytest.mark.parametrize("reduction", ["mean", "sequence"])
def test_a_smoothed_mean_over_classes_that_count_nothing_is_nan_as_torchs(reduction):
    torch = pytest.importorskip("torch", reason="the judge")
    logits = pack_sequence([np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)])
    targets = pack_sequence([np.zeros(2, np.int64), np.zeros(1, np.int64)])
    weight = np.array([0, 1, 1], np.float32)
    with np.errstate(all="raise"):
        loss = cross_entropy(
            logits, targets, weight=weight, label_smoothing=0.1, reduction=reduction
        )
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits.data),
        torch.from_numpy(targets.data),
        torch.from_numpy(weight),
        label_smoothing=0.1,
    )
    assert torch.isnan(expected)
    assert np.isnan(loss).all()
