"""Embeddings and losses on packed rows: torch's functions, where no padding can count."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any, Literal, SupportsIndex, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from packseq.arguments import as_numpy_data
from packseq.checks import as_integer, is_number
from packseq.packed import PackedSequence, check_packed
from packseq.rows import along, reducing
from packseq.rows.elementwise import shared_plan
from packseq.rows.plan import Plan

Array: TypeAlias = NDArray[Any]
Reduction: TypeAlias = Literal["mean", "sum", "none", "sequence"]
Loss: TypeAlias = np.floating[Any] | Array | PackedSequence

# Elements of logits that are worked on at a time: 256 KiB of float32, which stays in cache.
_BLOCK = 1 << 16


def embedding(table: ArrayLike, ids: PackedSequence) -> PackedSequence:
    """Look up a row of `table` for each id.

    Parameters
    ----------
    table : array_like of shape (V, *)
        Any dtype but object.
    ids : PackedSequence of int, rows of any shape
        Each in 0 to V - 1.

    Returns
    -------
    PackedSequence
        Rows of the ids' shape followed by (*); a copy, in the ids' layout.

    Raises
    ------
    TypeError
        `ids` is no PackedSequence of integers; `table` is masked, of object dtype or
        a tensor.
    ValueError
        `table` is a scalar; an id is out of range: the message names its sequence and step.

    Notes
    -----
    Cost: one gather of N rows.
    Source: torch.nn.functional.embedding.

    Examples
    --------
    >>> ids = pack_sequence([np.array([0, 2]), np.array([1])])
    >>> table = np.array([[0.0, 0.1], [1.0, 1.1], [2.0, 2.1]])
    >>> embedding(table, ids)[0]
    array([[0. , 0.1],
           [2. , 2.1]])
    """
    rows = as_numpy_data(table, "table")
    if rows.ndim == 0:
        raise ValueError("table must have shape (V, *), got a scalar")
    _check_rows(ids, "ids", "iu")
    _check_range(ids, "ids", ids.data < 0, ids.data >= len(rows), len(rows))
    return PackedSequence._of(rows[ids.data], ids._plan)


@overload
def cross_entropy(
    logits: PackedSequence,
    targets: PackedSequence,
    weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    reduction: Literal["mean", "sum"] = "mean",
    label_smoothing: float = 0.0,
) -> np.floating[Any]: ...
@overload
def cross_entropy(
    logits: PackedSequence,
    targets: PackedSequence,
    weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    reduction: Literal["sequence"] = ...,
    label_smoothing: float = 0.0,
) -> Array: ...
@overload
def cross_entropy(
    logits: PackedSequence,
    targets: PackedSequence,
    weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    reduction: Literal["none"] = ...,
    label_smoothing: float = 0.0,
) -> PackedSequence: ...
def cross_entropy(
    logits: PackedSequence,
    targets: PackedSequence,
    weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Loss:
    """Compare logits with the classes, or the distributions over classes, that they should give.

    Parameters
    ----------
    logits : PackedSequence of float, rows (C, *)
    targets : PackedSequence, in the layout of `logits`
        Integer rows (*), each a class in 0 to C - 1 or `ignore_index`; or float rows (C, *), each a
        distribution, which is not checked to sum to 1.
    weight : array_like of float, shape (C,), optional
        Of each class; 1 by default.
    ignore_index : int
        Targets of this class count for nothing. Not used with distributions.
    reduction : {"mean", "sum", "none", "sequence"}
        "mean" divides the sum by the weights of the targets that count, or with distributions by
        the number of them. "sequence" is the "mean" of each sequence alone, shape (B,). "none" is a
        PackedSequence of rows (*).
    label_smoothing : float
        In 0 to 1: how much of each target is spread evenly over all classes.

    Returns
    -------
    numpy scalar, ndarray or PackedSequence
        In the dtype of `logits`. A mean over nothing is NaN, as torch's.

    Raises
    ------
    TypeError
        An argument is of the wrong type or dtype.
    ValueError
        Layouts or shapes differ; a class, `label_smoothing` or `reduction` is out of range. The
        message names the sequence and the step.

    Notes
    -----
    Sums over rows are in float64, whatever the dtype. Cost: one read of the logits, another with
    smoothing or distributions; nothing of their size is allocated, unless they are float16 or have
    axes after C.
    Source: torch.nn.functional.cross_entropy, which takes the same rows as ``logits.data``.

    Examples
    --------
    >>> logits = pack_sequence([np.zeros((2, 4)), np.zeros((1, 4))])
    >>> classes = pack_sequence([np.array([0, 3]), np.array([1])])
    >>> float(cross_entropy(logits, classes).round(4))
    1.3863
    >>> cross_entropy(logits, classes, reduction="sequence").round(4)
    array([1.3863, 1.3863])
    """
    _check_rows(logits, "logits", "f")
    _check_rows(targets, "targets", "iuf")
    plan = shared_plan([logits._plan, targets._plan], "logits and targets")
    _check_reduction(reduction)
    shape = logits.data.shape
    if len(shape) < 2 or shape[1] == 0:
        raise ValueError(f"logits must have rows (C, *) of at least one class, got {shape[1:]}")
    if not isinstance(label_smoothing, Real):
        raise TypeError(f"label_smoothing must be a number, got {label_smoothing!r}")
    smoothing = float(label_smoothing)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {label_smoothing!r}")
    weights = _as_weights(weight, shape[1], logits.dtype)
    if targets.dtype.kind == "f":
        if targets.data.shape != shape:
            raise ValueError(
                f"targets must be distributions of rows {shape[1:]} as logits, or integers, got "
                f"float rows {targets.data.shape[1:]}"
            )
        loss = _against_distributions(logits.data, targets.data, weights, smoothing)
        counted = np.ones(loss.shape, logits.dtype)
    else:
        if targets.data.shape != (shape[0], *shape[2:]):
            raise ValueError(
                f"targets must have rows {shape[2:]} for logits of rows {shape[1:]}, got "
                f"{targets.data.shape[1:]}"
            )
        counts = targets.data != as_integer(ignore_index, "ignore_index")
        low, high = targets.data < 0, targets.data >= shape[1]
        _check_range(targets, "targets", counts & low, counts & high, shape[1])
        classes = np.where(counts, targets.data, 0).astype(np.int64, copy=False)
        loss = _against_classes(logits.data, classes, weights, smoothing)
        loss[~counts] = 0
        counted = np.where(counts, weights[classes], 0)
    return _reduced(loss, counted, plan, reduction, logits.dtype)


@overload
def mse_loss(
    input: PackedSequence, target: PackedSequence, reduction: Literal["mean", "sum"] = "mean"
) -> np.floating[Any]: ...
@overload
def mse_loss(
    input: PackedSequence, target: PackedSequence, reduction: Literal["sequence"]
) -> Array: ...
@overload
def mse_loss(
    input: PackedSequence, target: PackedSequence, reduction: Literal["none"]
) -> PackedSequence: ...
def mse_loss(input: PackedSequence, target: PackedSequence, reduction: Reduction = "mean") -> Loss:
    """Compare rows with those they should be, by the squares of their differences.

    Parameters
    ----------
    input, target : PackedSequence of float
        Of one layout and one shape of rows.
    reduction : {"mean", "sum", "none", "sequence"}
        Over all elements, or each sequence's own: shape (B,). "none" is a PackedSequence.

    Returns
    -------
    numpy scalar, ndarray or PackedSequence
        In the common dtype. A mean over nothing is NaN, as torch's.

    Raises
    ------
    TypeError
        One is no PackedSequence of floats.
    ValueError
        Layouts or shapes differ; `reduction` is none of these.

    Notes
    -----
    Sums are in float64, whatever the dtype.
    Source: torch.nn.functional.mse_loss.

    Examples
    --------
    >>> wanted = pack_sequence([np.array([1.0, 2.0]), np.array([3.0])])
    >>> float(mse_loss(wanted + 0.5, wanted))
    0.25
    >>> mse_loss(wanted * 2, wanted, reduction="sequence")
    array([2.5, 9. ])
    """
    _check_rows(input, "input", "f")
    _check_rows(target, "target", "f")
    plan = shared_plan([input._plan, target._plan], "input and target")
    _check_reduction(reduction)
    if input.data.shape != target.data.shape:
        raise ValueError(
            f"target must have rows {input.data.shape[1:]} as input, got {target.data.shape[1:]}"
        )
    loss: Array = input.data - target.data
    np.square(loss, out=loss)
    return _reduced(loss, np.ones((), loss.dtype), plan, reduction, loss.dtype)


# ---- losses of rows: what is infinite or NaN goes into the loss, as torch's ----


@np.errstate(all="ignore")
def _against_classes(logits: Array, classes: Array, weights: Array, smoothing: float) -> Array:
    """(N, C, *) and (N, *) -> (N, *)."""
    flat, top, log_total = _normalizers(logits, weights.dtype)
    chosen = classes.reshape(-1)
    picked = flat[np.arange(len(flat)), chosen] - top
    loss: Array = weights[chosen] * (log_total - picked) * (1 - smoothing)
    if smoothing:
        share = smoothing / len(weights)
        for block in _blocks(flat):
            spread = (flat[block] - top[block, np.newaxis]) @ weights
            loss[block] += share * (log_total[block] * weights.sum() - spread)
    return loss.reshape(classes.shape)


@np.errstate(all="ignore")
def _against_distributions(
    logits: Array, targets: Array, weights: Array, smoothing: float
) -> Array:
    """(N, C, *) twice -> (N, *)."""
    flat, top, log_total = _normalizers(logits, weights.dtype)
    flat_targets = _by_class(targets)
    loss = np.empty(len(flat), weights.dtype)
    share = smoothing / len(weights)
    for block in _blocks(flat):
        wanted = (flat_targets[block] * (1 - smoothing) + share) * weights
        log_p = flat[block] - top[block, np.newaxis] - log_total[block, np.newaxis]
        loss[block] = -(wanted * log_p).sum(axis=1)
    return loss.reshape(len(logits), *logits.shape[2:])


def _normalizers(logits: Array, dtype: np.dtype[Any]) -> tuple[Array, Array, Array]:
    """Logits as (M, C), their maxima, (M,), and the logarithms of their exps' sums without them."""
    flat = np.require(_by_class(logits), dtype, ["C", "A"])
    top, total = along.totals(flat)
    return flat, top, np.log(total)


def _by_class(values: Array) -> Array:
    """(N, C, *) -> (M, C)."""
    return np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])


def _blocks(flat: Array) -> Iterator[slice]:
    size = max(1, _BLOCK // flat.shape[1])
    for start in range(0, len(flat), size):
        yield slice(start, start + size)


def _reduced(
    loss: Array, counted: Array, plan: Plan, reduction: Reduction, dtype: np.dtype[Any]
) -> Loss:
    """Reduce losses (N, *), of which each counts as much as `counted` says."""
    if reduction == "none":
        return PackedSequence._of(loss.astype(dtype, copy=False), plan)
    if reduction == "sequence":
        counted = np.broadcast_to(counted, loss.shape)
        totals, counts = (reducing.sum_(_row_sums(values), plan) for values in (loss, counted))
        return _mean(totals, counts).astype(dtype)
    total = loss.sum(dtype=np.float64)
    if reduction == "mean":
        total = _mean(total, np.broadcast_to(counted, loss.shape).sum(dtype=np.float64))
    scalar: np.floating[Any] = dtype.type(total)
    return scalar


def _mean(total: Any, count: Any) -> Array:
    """NaN where nothing counts, as torch's, though a smoothed loss may be left there."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count == 0, np.nan, np.asarray(total / count))


def _row_sums(values: Array) -> Array:
    """(N, *) -> (N,)."""
    sums: Array = values.sum(axis=tuple(range(1, values.ndim)), dtype=np.float64)
    return sums


# ---- what is checked ----


def _check_rows(value: object, name: str, kinds: str) -> None:
    dtype = check_packed(value, name)._array.dtype
    if not is_number(dtype, kinds):
        wanted = "float" if kinds == "f" else "integer" if kinds == "iu" else "integer or float"
        raise TypeError(f"{name} must be of {wanted} dtype of at most 64 bits, got {dtype}")


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none", "sequence"):
        raise ValueError(
            f"reduction must be 'mean', 'sum', 'none' or 'sequence', got {reduction!r}"
        )


def _check_range(packed: PackedSequence, name: str, low: Array, high: Array, size: int) -> None:
    if low.any() or high.any():
        place = np.argwhere(low | high)[0]
        b, t = packed._plan.step_of(int(place[0]))
        raise ValueError(
            f"{name} must be between 0 and {size - 1}, got {packed.data[tuple(place)]} at step {t} "
            f"of sequence {b}"
        )


def _as_weights(weight: ArrayLike | None, classes: int, dtype: np.dtype[Any]) -> Array:
    """(C,), in the dtype that losses are worked out in: that of the logits, at least float32."""
    working = np.result_type(dtype, np.float32)
    if weight is None:
        return np.ones(classes, working)
    array = as_numpy_data(weight, "weight")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"weight must be of float dtype, got {array.dtype}")
    if array.shape != (classes,):
        raise ValueError(
            f"weight must have shape ({classes},), a number a class, got {array.shape}"
        )
    return array.astype(working)
