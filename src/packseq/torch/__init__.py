"""Inside a torch program: run its recurrent layers here, and share packed batches with it."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("packseq.torch needs torch: pip install torch") from error

from packseq.torch.batches import from_torch, to_torch
from packseq.torch.models import accelerate, refresh, report, restore
from packseq.torch.reports import Layer, Report

__all__ = [
    "Layer",
    "Report",
    "accelerate",
    "from_torch",
    "refresh",
    "report",
    "restore",
    "to_torch",
]


def __dir__() -> list[str]:
    """What is public."""
    return sorted(__all__)
