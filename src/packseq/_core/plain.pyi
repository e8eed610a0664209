from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from packseq._core import blas, recurrent
from packseq._core.pool import Pool

def call(
    engine: recurrent.Network | blas.Network,
    x: object,
    hx: object,
    lengths: object,
    crew: Callable[[], tuple[Pool, int]],
    elsewhere: Callable[[], bool] | None,
) -> tuple[NDArray[Any], Any] | None: ...
