"""torch's ``.pt`` and ``.pth`` zip files, without torch and without running their pickle.

Such a file holds ``ROOT/data.pkl``, a pickle whose tensors refer to the storages ``ROOT/data/KEY``.
A TorchScript program has the constants of its code in the same form beside it.

Source: torch.serialization (``_save``), torch/csrc/jit/serialization.
"""

from ..archive import Archive
from ..canonical import Checkpoint
from ..errors import CheckpointError
from . import pickles, script, tree
from .tensors import Byteorder, Tensors

PICKLE = "data.pkl"


def read(archive: Archive) -> Checkpoint:
    """Every tensor in the file; the keys that lead to it are joined by dots."""
    root = find_root(archive)
    content = pickles.load(archive.read(f"{root}{PICKLE}"))
    decode = Tensors(Storages(archive, root, "data/")).array
    if not any(name.startswith(f"{root}{script.CODE}") for name in archive.names):
        return tree.checkpoint(content, decode)
    code = script.Code(archive, root)
    checkpoint = tree.checkpoint(content, decode, code.attributes)
    if f"{root}{script.CONSTANTS}" not in archive.names:
        return checkpoint
    constants = pickles.load(archive.read(f"{root}{script.CONSTANTS}"))
    decode = Tensors(Storages(archive, root, "constants/")).array
    return code.with_constants(checkpoint, tree.checkpoint(constants, decode))


def find_root(archive: Archive) -> str:
    """The folder that the archive's pickle stands in."""
    roots = [name.removesuffix(PICKLE) for name in archive.names if name.endswith(f"/{PICKLE}")]
    if len(roots) != 1:
        raise CheckpointError(f"holds {len(roots)} files {PICKLE}; expected 1")
    return roots[0]


class Storages:
    """The storages in a folder of the archive."""

    def __init__(self, archive: Archive, root: str, folder: str) -> None:
        self._archive = archive
        self._folder = f"{root}{folder}"
        self.file_bytes = archive.file_bytes
        self.byteorder: Byteorder = "<"
        if f"{root}byteorder" in archive.names:
            order = archive.read(f"{root}byteorder")
            if order not in (b"little", b"big"):
                raise CheckpointError(f"byteorder is {order[:20]!r}; expected little or big")
            self.byteorder = "<" if order == b"little" else ">"

    def size(self, key: str) -> int:
        """The bytes of a storage."""
        return self._archive.size(f"{self._folder}{key}")

    def read(self, key: str) -> memoryview:
        """A storage."""
        return self._archive.view(f"{self._folder}{key}")
