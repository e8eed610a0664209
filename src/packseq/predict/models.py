"""What a predictor computes with: a module, its embedding and its head, from objects or a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from packseq.arguments import as_numpy_data
from packseq.halves import widened
from packseq.networks.recurrent import Recurrent
from packseq.rows import products
from packseq.weights.backward import Backward
from packseq.weights.store import load, read

Array = NDArray[Any]
# What makes rows (N, K) of rows (N, D); a Linear takes a number of threads too.
Rows = Callable[[Array], Array]
Embedding: TypeAlias = str | ArrayLike | None
Head: TypeAlias = str | Rows | tuple[ArrayLike, ArrayLike] | None


@dataclass(frozen=True, eq=False)
class Linear:
    """A head that is a linear layer, whose results do not depend on what else is in the batch.

    Attributes
    ----------
    weight : (K, D)
    bias : (K,)
    """

    weight: Array
    bias: Array

    def __call__(self, rows: Array, num_threads: int | None = None) -> Array:
        """(N, D) to (N, K)."""
        return products.linear(rows, self.weight, self.bias, num_threads)


@dataclass(frozen=True, eq=False)
class Model:
    """A module and what goes around it.

    Attributes
    ----------
    module : LSTM, GRU, RNN or Backward
    embedding : (V, I), or None
        In the module's dtype.
    head : Linear or callable, or None
    """

    module: Any
    embedding: Array | None
    head: Rows | None

    @property
    def network(self) -> Recurrent:
        """The module, or the one that runs backward."""
        inner: Recurrent = self.module.module if isinstance(self.module, Backward) else self.module
        return inner


def is_path(model: object) -> bool:
    return isinstance(model, str | os.PathLike)


def model_of(model: Any, embedding: Embedding, head: Head, options: Mapping[str, Any]) -> Model:
    """The model of a module as it is, or of a file: once in a process, while the file stays.

    Raises
    ------
    TypeError
        `model` is no module that takes sequences; `embedding` or `head` is none.
    ValueError
        Shapes do not fit the module's; the file has no array of that name.
    CheckpointError, OSError, ImportError
        As for packseq.load.
    """
    if not is_path(model):
        return _assembled(model, embedding, head)
    names = [name if isinstance(name, str) else None for name in (embedding, head)]
    status = os.stat(model)
    stamp = (os.path.realpath(model), status.st_mtime_ns, status.st_size)
    with _LOADING:  # the threads of one predictor come here together at first
        module, arrays = _from_file(stamp, names[0], names[1], _frozen(options))
    if isinstance(embedding, str):
        embedding = arrays[embedding]
    if isinstance(head, str):
        head = arrays[f"{head}.weight"], arrays[f"{head}.bias"]
    return _assembled(module, embedding, head)


_LOADING = Lock()


def _frozen(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Options that a cache can look up; `rename` is a mapping."""
    return tuple(
        (name, _frozen(value) if isinstance(value, Mapping) else value)
        for name, value in sorted(options.items())
    )


@lru_cache(maxsize=4)
def _from_file(
    stamp: tuple[str, int, int],
    embedding: str | None,
    head: str | None,
    options: tuple[tuple[str, Any], ...],
) -> tuple[Any, dict[str, Array]]:
    """A file's module, and those of its arrays that have been named."""
    path = Path(stamp[0])
    given: dict[str, Any] = {
        name: dict(value) if isinstance(value, tuple) else value for name, value in options
    }
    module = load(path, **given)
    wanted = [] if embedding is None else [embedding]
    if head is not None:
        wanted += [f"{head}.weight", f"{head}.bias"]
    if not wanted:
        return module, {}
    arrays = read(path)
    if missing := [name for name in wanted if name not in arrays]:
        raise ValueError(f"{path} holds no array {missing[0]!r}")
    return module, {name: arrays[name] for name in wanted}


def _assembled(module: Any, embedding: Embedding, head: Head) -> Model:
    if not isinstance(module, Recurrent | Backward):
        raise TypeError(
            f"model must be an LSTM, GRU or RNN, or a path, got {type(module).__name__}"
        )
    made = Model(module, None, None)
    network = made.network
    table = None
    if embedding is not None:
        table = _floats(embedding, "embedding", network)
        if table.ndim != 2 or table.shape[1] != network.input_size:
            raise ValueError(
                f"embedding must have shape (V, {network.input_size}), got {table.shape}"
            )
    return Model(module, table, _as_head(head, network))


def _as_head(head: Any, network: Recurrent) -> Rows | None:
    if head is None:
        return None
    if callable(head):
        rows: Rows = head
        return rows
    if not isinstance(head, tuple | list) or len(head) != 2:
        raise TypeError(f"head must be a callable, or a weight and a bias, got {head!r}")
    width = network._architecture.output_size
    weight, bias = (_floats(value, f"head[{k}]", network) for k, value in enumerate(head))
    if weight.ndim != 2 or not len(weight) or weight.shape[1] != width:
        raise ValueError(f"head[0] must have shape (K, {width}), got {weight.shape}")
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"head[1] must have shape ({len(weight)},), got {bias.shape}")
    return Linear(weight, bias)


def _floats(values: Any, name: str, network: Recurrent) -> Array:
    array = widened(as_numpy_data(values, name))
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    return np.ascontiguousarray(array, network.dtype)


def fingerprint_of(
    model: Any, embedding: Embedding, head: Head, options: Mapping[str, Any], more: str
) -> str:
    """A hash of what a model is made of, and of a text."""
    digest = hashlib.sha256(more.encode())
    digest.update(repr(sorted(options.items())).encode())
    if is_path(model):
        with open(model, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    else:
        inner = model.module if isinstance(model, Backward) else model
        digest.update(repr(model).encode())
        for name, array in sorted(inner.state_dict().items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    for value in (embedding, *(head if isinstance(head, tuple | list) else [head])):
        if value is None or isinstance(value, str) or callable(value):
            digest.update(getattr(value, "__qualname__", repr(value)).encode())
        else:
            array = np.ascontiguousarray(value)
            digest.update(f"{array.shape} {array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()
