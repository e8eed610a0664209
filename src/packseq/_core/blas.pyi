from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from packseq._core.gemm import Library
from packseq._core.pool import Pool

@final
class Network:
    def __init__(
        self,
        library: Library,
        cell: str,
        gate_activation: str,
        hidden: int,
        state: int,
        n_directions: int,
        directions: list[tuple[Any, ...]],
    ) -> None: ...
    def forward(
        self,
        x: NDArray[Any],
        out: NDArray[Any],
        batch: int,
        steps: int,
        batch_sizes: NDArray[np.int64] | None,
        offsets: NDArray[np.int64] | None,
        order: NDArray[np.int64] | None,
        hx: tuple[NDArray[Any] | None, NDArray[Any] | None],
        hn: tuple[NDArray[Any] | None, NDArray[Any] | None],
        pool: Pool,
        threads: int,
        padded_steps: int,
    ) -> None: ...
    def cut(
        self, batch: int, steps: int, batch_sizes: NDArray[np.int64] | None, threads: int
    ) -> tuple[int, int, int, int, int]: ...
