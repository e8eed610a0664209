"""Checkpoints of any framework, read without it, as arrays under torch's names.

``find`` lists the recurrent modules in a file, ``load`` returns one, ``read`` gives every array and
``save`` writes safetensors; ``split`` cuts an ONNX model around one. No code in a file is ever run.
"""

from .backward import Backward
from .canonical import Attributes, Found
from .errors import CheckpointError, CheckpointWarning
from .onnx.splitting import split
from .store import convert, find, load, load_with_state, read, save, unreadable

__all__ = [
    "Attributes",
    "Backward",
    "CheckpointError",
    "CheckpointWarning",
    "Found",
    "convert",
    "find",
    "load",
    "load_with_state",
    "read",
    "save",
    "split",
    "unreadable",
]


def __dir__() -> list[str]:
    """What is public."""
    return sorted(__all__)
