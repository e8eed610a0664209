from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from packseq._core.pool import Pool
from packseq._core.recurrent import Network

@final
class Sessions:
    def __init__(
        self, shapes: tuple[tuple[int, ...], ...], dtype: np.dtype[Any], capacity: int
    ) -> None: ...
    def __len__(self) -> int: ...
    def open(self) -> int: ...
    def close(self, id: int) -> None: ...
    def read(self, id: int) -> tuple[NDArray[Any], ...]: ...
    def write(self, id: int, h: NDArray[Any] | None, c: NDArray[Any] | None) -> None: ...
    def ids(self) -> NDArray[np.int64]: ...
    def snapshot(self) -> tuple[NDArray[np.int64], int, tuple[NDArray[Any], ...]]: ...
    def restore(
        self, ids: NDArray[np.int64], next_id: int, states: tuple[NDArray[Any], ...]
    ) -> None: ...
    def push_plain(
        self,
        network: Network,
        ids: NDArray[np.int64],
        frames: object,
        crew: Callable[[], tuple[Pool, int]],
    ) -> NDArray[Any] | None: ...
    def push(
        self,
        network: Network,
        ids: NDArray[np.int64],
        x: NDArray[Any],
        out: NDArray[Any],
        where: tuple[Any, ...],
        pool: Pool,
        threads: int,
    ) -> None: ...

def as_ids(ids: object) -> NDArray[np.int64] | None: ...
