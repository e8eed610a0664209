"""Checkpoints of any framework, read without it, as arrays under torch's names.

``find`` lists the recurrent modules in a file, ``load`` returns one, ``read`` gives every array and
``save`` writes safetensors. No code in a file is ever run.
"""

from .backward import Backward
from .canonical import Attributes, Found
from .errors import CheckpointError
from .store import convert, find, load, load_with_state, read, save, unreadable

__all__ = [
    "Attributes",
    "Backward",
    "CheckpointError",
    "Found",
    "convert",
    "find",
    "load",
    "load_with_state",
    "read",
    "save",
    "unreadable",
]
