import numpy as np
from numpy.typing import NDArray

def rise(lengths: NDArray[np.int64]) -> int: ...
def outside(lengths: NDArray[np.int64], most: int) -> int: ...
def all_equal(lengths: NDArray[np.int64], steps: int) -> bool: ...
def longest_first(
    lengths: NDArray[np.int64], keep_order: bool
) -> tuple[
    NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]
]: ...
def index_groups(
    sizes: NDArray[np.int64],
    of_group: NDArray[np.int64],
    of_place: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None: ...
def index_reversed(
    batch_sizes: NDArray[np.int64],
    offsets: NDArray[np.int64],
    sorted_lengths: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None: ...
