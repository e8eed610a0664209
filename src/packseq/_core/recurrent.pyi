from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from packseq._core.pool import Pool

BUILD: dict[str, str]
CELLS: tuple[str, ...]
GATE_ACTIVATIONS: tuple[str, ...]
FORMATS: tuple[str, ...]
ALONG: tuple[str, ...]

class Kernels:
    @property
    def name(self) -> str: ...
    @property
    def vector_bytes(self) -> int: ...
    @property
    def supported(self) -> bool: ...
    def has(self, format: str) -> bool: ...
    def activate(self, activation: str, x: NDArray[Any]) -> NDArray[Any]: ...
    def linear(
        self, rows: object, weight: object, start: object, pool: Pool, threads: int
    ) -> NDArray[Any] | None: ...

def along(kernels: Kernels | None, name: str, rows: NDArray[Any], out: NDArray[Any]) -> None: ...
def compiled() -> list[Kernels]: ...

@final
class Network:
    def __init__(
        self,
        kernels: Kernels,
        cell: str,
        gate_activation: str,
        format: str,
        hidden: int,
        state: int,
        n_directions: int,
        directions: list[tuple[Any, ...]],
        per_block: tuple[int, int, int],
        batch_first: bool,
        one_step: bool,
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
    ) -> tuple[list[float], int, int, int, int]: ...
