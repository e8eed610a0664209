from typing import Any

import numpy as np
from numpy.typing import NDArray

BUILD: dict[str, str]
CELLS: tuple[str, ...]

class Kernels:
    @property
    def name(self) -> str: ...
    @property
    def vector_bytes(self) -> int: ...
    @property
    def supported(self) -> bool: ...
    def activate(self, activation: str, x: NDArray[Any]) -> NDArray[Any]: ...

def compiled() -> list[Kernels]: ...

class Network:
    def __init__(
        self,
        kernels: Kernels,
        cell: str,
        hidden: int,
        state: int,
        n_directions: int,
        directions: list[tuple[Any, ...]],
        per_block: tuple[int, int, int],
        batch_first: bool,
    ) -> None: ...
    def stream(
        self, x: object, hx: object, lengths: object = None
    ) -> tuple[NDArray[Any], Any] | None: ...

class Pool:
    def reserve(self, workers: int) -> int: ...

class Call:
    @property
    def workers(self) -> int: ...
    @property
    def workspace_bytes(self) -> int: ...
    @property
    def cut(self) -> tuple[int, int]: ...
    def __init__(
        self,
        network: Network,
        x: NDArray[Any],
        out: NDArray[Any],
        batch: int,
        steps: int,
        batch_sizes: NDArray[np.int64] | None,
        offsets: NDArray[np.int64] | None,
        order: NDArray[np.int64] | None,
        hx: tuple[NDArray[Any] | None, NDArray[Any] | None],
        hn: tuple[NDArray[Any] | None, NDArray[Any] | None],
        threads: int,
        zero_tails: bool,
    ) -> None: ...
    def use(self, workspace: NDArray[np.uint8]) -> None: ...
    def run(self) -> None: ...
    def run_on(self, pool: Pool) -> None: ...
