"""How much memory a checkpoint may ask for, and the checks made before it gets any."""

import math
from collections.abc import Iterable

from .errors import CheckpointError

# Trained weights hardly compress: float32 loses about a tenth to DEFLATE, a table that is mostly
# zeros becomes a few times smaller. Weights that nobody has trained yet are another matter: zeros
# pack a thousandfold. So SLACK is read of any file, however small: it holds most models as they are
# before training, and is less than twice what importing onnx takes (38 MiB).
EXPANSION = 16
SLACK = 64 << 20

# NumPy refuses a shape whose sizes, the zeros left out, multiply to more bytes than an index holds.
MAX_ELEMENTS = 1 << 58


def budget(file_bytes: int) -> int:
    """The most bytes of arrays that a file of `file_bytes` may become.

    What a reader need not unpack to find the modules of a file it leaves packed: such an array is
    listed as one that is not read, and hides no other.
    """
    return EXPANSION * file_bytes + SLACK


def check_budget(wanted: int, file_bytes: int, what: str) -> None:
    """Refuse `wanted` bytes where the file is too small to be worth them."""
    if wanted > budget(file_bytes):
        raise CheckpointError(
            f"{what} would take {wanted} bytes out of a file of {file_bytes}; "
            f"at most {budget(file_bytes)} are read: {EXPANSION} times its size and {SLACK}"
        )


def element_count(shape: Iterable[object], what: str) -> int:
    """The product of `shape`, whose entries are checked to be sizes (and may be huge)."""
    sizes = list(shape)
    for axis, size in enumerate(sizes):
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            # Whatever else it is may be too large to be shown.
            shown = size if isinstance(size, int) else f"a {type(size).__name__}"
            raise CheckpointError(f"{what}: axis {axis} has size {shown}; expected an int >= 0")
        if size > MAX_ELEMENTS:
            raise CheckpointError(f"{what}: axis {axis} is beyond any memory")
    if len(sizes) > 64:  # NumPy's own bound
        raise CheckpointError(f"{what}: {len(sizes)} axes; at most 64 are possible")
    known = [size for size in sizes if isinstance(size, int)]
    if math.prod(size or 1 for size in known) > MAX_ELEMENTS:
        raise CheckpointError(f"{what}: shape {tuple(known)} is beyond any memory")
    return math.prod(known)
