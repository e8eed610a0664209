import numpy as np
from numpy.typing import NDArray

def rise(lengths: NDArray[np.int64]) -> int: ...
def outside(lengths: NDArray[np.int64], most: int) -> int: ...
def arrange(
    lengths: NDArray[np.int64], keep_order: bool
) -> tuple[
    NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]
]: ...
