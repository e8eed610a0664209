"""What the tests of tables share: sequences in every form that Arrow has for them."""

import numpy as np
import pyarrow as pa

import packseq

FEATURES = 3


def gru(**options):
    return packseq.GRU(FEATURES, 5, bidirectional=True, rng=0, **options)


def sequences_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((length, FEATURES)).astype(np.float32) for length in lengths]


def nested(sequences):
    return [None if one is None else one.tolist() for one in sequences]


STEP = pa.list_(pa.float32(), FEATURES)
# Every type of a column that holds the same sequences.
KINDS = {
    "fixed": pa.list_(STEP),
    "large": pa.large_list(STEP),
    "lists": pa.list_(pa.list_(pa.float32())),
    "large lists": pa.large_list(pa.large_list(pa.float32())),
    "view": pa.list_view(STEP),
    "large view of views": pa.large_list_view(pa.list_view(pa.float32())),
    "double": pa.list_(pa.list_(pa.float64(), FEATURES)),
}


def column_of(sequences, kind="fixed"):
    return pa.array(nested(sequences), KINDS[kind])


def table_of(sequences, kind="fixed"):
    return pa.table({"id": np.arange(len(sequences)), "x": column_of(sequences, kind)})


def predictions(table, name="prediction"):
    """(B, *) of a column of numbers or lists of one length."""
    return np.array(table[name].to_pylist(), np.float32)


def expected_last(module, sequences):
    """The last states of each sequence by itself, (B, D * R)."""
    states = [module(sequence)[1] for sequence in sequences]
    states = [state[0] if isinstance(state, tuple) else state for state in states]
    return np.stack([np.concatenate(list(state), axis=-1) for state in states])
