from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq._core.pool import Pool

def gather(
    packed: NDArray[Any],
    row_bytes: int,
    addresses: NDArray[np.int64],
    step_strides: NDArray[np.int64],
    lengths: NDArray[np.int64],
    offsets: NDArray[np.int64],
    pool: Pool,
    threads: int,
) -> None: ...
def scatter(
    packed: NDArray[Any],
    row_bytes: int,
    addresses: NDArray[np.int64],
    step_strides: NDArray[np.int64],
    lengths: NDArray[np.int64],
    offsets: NDArray[np.int64],
    padding: NDArray[Any] | None,
    padded: int,
    pool: Pool,
    threads: int,
) -> None: ...
def alike(sequences: list[Any]) -> list[NDArray[Any]] | None: ...
def locate(
    sequences: list[NDArray[Any]],
    addresses: NDArray[np.int64],
    step_strides: NDArray[np.int64],
) -> None: ...
def locate_padded(
    padded: NDArray[Any], order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def transfer(
    target: NDArray[Any],
    target_offsets: NDArray[np.int64],
    source: NDArray[Any],
    source_offsets: NDArray[np.int64],
    row_bytes: int,
    stride: int,
    runs: NDArray[np.int64],
    pool: Pool,
    threads: int,
) -> None: ...
