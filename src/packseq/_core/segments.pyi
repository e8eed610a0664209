from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq._core.pool import Pool

def walk(
    name: str,
    data: NDArray[Any],
    offsets: NDArray[np.int64],
    width: int,
    out: NDArray[Any],
    other: NDArray[Any] | None,
    group: int,
    pool: Pool,
    threads: int,
) -> None: ...
