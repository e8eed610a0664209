"""NumPy arrays as torch's tensors and back, on CUDA where there is a device, else on the CPU."""

import numpy as np

from packseq import PackedSequence
from packseq.tensor_checks import is_tensor


def device():
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def as_tensors(value):
    """An array as a tensor, its strides kept if torch can; and so the arrays that `value` holds.

    What torch has no dtype for stays as it is, with the list that it is in.
    """
    import torch

    if isinstance(value, PackedSequence):
        fields = (value.batch_sizes, value.sorted_indices, value.unsorted_indices)
        return PackedSequence(as_tensors(value.data), *fields)
    if isinstance(value, tuple | list):
        made = type(value)(map(as_tensors, value))
        return value if any(isinstance(part, np.ndarray) for part in made) else made
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        return value
    if not value.dtype.isnative or not hasattr(torch, value.dtype.name):
        return value
    plain = value.flags.writeable and value.flags.aligned and min(value.strides, default=0) >= 0
    return torch.from_numpy(value if plain else value.copy()).to(device())


def as_arrays(value):
    """`value` with every tensor as an array."""
    if isinstance(value, PackedSequence):
        fields = (value.batch_sizes, value.sorted_indices, value.unsorted_indices)
        return PackedSequence(as_arrays(value.data), *fields)
    if isinstance(value, tuple | list):
        return type(value)(map(as_arrays, value))
    return value.numpy(force=True) if is_tensor(value) else value


def as_they_are(value):
    return value
