"""The packed layout as plain Python loops: what the tests hold the fast code to."""

import numpy as np


def order_of(lengths):
    """Longest first; equal lengths keep their order."""
    return sorted(range(len(lengths)), key=lambda b: -lengths[b])


def pack(sequences):
    """Return (data, batch_sizes) of sequences of one dtype and trailing shape."""
    lengths = [len(sequence) for sequence in sequences]
    rows, batch_sizes = [], []
    for t in range(max(lengths)):
        alive = [b for b in order_of(lengths) if lengths[b] > t]
        batch_sizes.append(len(alive))
        rows += [sequences[b][t] for b in alive]
    data = np.empty((len(rows), *sequences[0].shape[1:]), sequences[0].dtype)
    for i, row in enumerate(rows):
        data[i] = row
    return data, batch_sizes


def pad(sequences, steps, padding, padding_side="right"):
    """Return a (B, T, *) batch."""
    batch = np.empty((len(sequences), steps, *sequences[0].shape[1:]), sequences[0].dtype)
    batch[...] = padding
    for b, sequence in enumerate(sequences):
        start = steps - len(sequence) if padding_side == "left" else 0
        for t, row in enumerate(sequence):
            batch[b, start + t] = row
    return batch
