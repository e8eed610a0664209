from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from packseq._core.pool import Pool
from packseq._core.recurrent import Network

def call(
    network: Network,
    x: object,
    hx: object,
    lengths: object,
    crew: Callable[[], tuple[Pool, int]],
    elsewhere: Callable[[], bool] | None,
) -> tuple[NDArray[Any], Any] | None: ...
