"""Packed batches to and from torch's, sharing their rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence as TorchPackedSequence

from packseq.packed import PackedSequence, check_packed
from packseq.tensor_checks import check_memory

__all__ = ["from_torch", "to_torch"]


def from_torch(packed: TorchPackedSequence) -> PackedSequence:
    """Turn torch's PackedSequence into packseq's.

    Parameters
    ----------
    packed : torch.nn.utils.rnn.PackedSequence
        On the CPU, of a dtype that NumPy has.

    Returns
    -------
    packseq.PackedSequence
        Its `data` shares the tensor's memory, detached; the index arrays are copies.

    Raises
    ------
    TypeError
        Not a PackedSequence of torch's; or data on another device or of a dtype NumPy lacks.
    ValueError
        The fields contradict each other, and the message names the field and the position; or the
        memory of one cannot be read.

    Notes
    -----
    Cost: O(T + B); the rows are not touched.

    Examples
    --------
    >>> import torch, packseq.torch
    >>> from torch.nn.utils.rnn import pack_sequence
    >>> theirs = pack_sequence([torch.tensor([1, 2, 3]), torch.tensor([4, 5])])
    >>> packseq.torch.from_torch(theirs)[1]
    array([4, 5])
    """
    if not isinstance(packed, TorchPackedSequence):
        kind = "packseq's own" if isinstance(packed, PackedSequence) else type(packed).__name__
        raise TypeError(f"packed must be a torch.nn.utils.rnn.PackedSequence, got {kind}")
    arrays: list[Any] = []
    for name, tensor in zip(packed._fields, packed, strict=True):
        if tensor is not None:
            check_memory(tensor, name)
        arrays.append(None if tensor is None else tensor.detach().numpy())
    rows, batch_sizes, *indices = arrays
    return PackedSequence(rows, batch_sizes, *indices)


def to_torch(packed: PackedSequence) -> TorchPackedSequence:
    """Turn packseq's PackedSequence into torch's.

    Parameters
    ----------
    packed : packseq.PackedSequence
        Without sequences of length 0, which torch cannot hold.

    Returns
    -------
    torch.nn.utils.rnn.PackedSequence
        Its `data` is the tensor, or shares the array's memory. Only an array that torch cannot
        hold as it is, read-only or with a negative stride, is copied. The index tensors are copies.

    Raises
    ------
    TypeError
        Not a packseq.PackedSequence; or of a dtype that torch lacks.
    ValueError
        A sequence has length 0; the message says which.

    Notes
    -----
    Cost: O(T + B); the rows are not touched but for a copy.

    Examples
    --------
    >>> import packseq.torch
    >>> ours = packseq.pack_sequence([np.array([1, 2]), np.array([3, 4, 5])])
    >>> packseq.torch.to_torch(ours).batch_sizes
    tensor([2, 2, 1])
    """
    check_packed(packed, "packed")
    if len(empty := np.flatnonzero(packed.lengths == 0)):
        raise ValueError(
            f"lengths[{empty[0]}] = 0: torch's PackedSequence cannot hold a sequence of length 0"
        )
    order = (packed.sorted_indices, packed.unsorted_indices)
    return TorchPackedSequence(
        _as_tensor(packed.data),
        torch.tensor(packed.batch_sizes),
        *(None if indices is None else torch.tensor(indices) for indices in order),
    )


def _as_tensor(data: Any) -> torch.Tensor:
    if isinstance(data, torch.Tensor):
        return data
    if not data.flags.writeable or any(stride < 0 for stride in data.strides):
        data = data.copy()
    return torch.from_numpy(data)
