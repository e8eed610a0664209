"""Packing and unpacking beside torch and a plain copy of as many bytes.

    taskset -c 1 python -m pytest benchmarks/bench_layout.py

Each case first checks that packseq and torch agree. `GB/s` counts the bytes of the result, which
each call allocates; `copy` is numpy's copy of an array of that size, allocated likewise.
"""

import numpy as np
import pytest

import packseq

rnn = pytest.importorskip("torch.nn.utils.rnn", reason="the peer that is timed")
torch = pytest.importorskip("torch", reason="the peer that is timed")

BATCH, STEPS = 256, 100


class Case:
    """One ragged batch, lengths uniform in 1 to STEPS, as each function and library wants it."""

    def __init__(self, row_bytes):
        rng = np.random.default_rng(0)
        lengths = rng.integers(1, STEPS + 1, BATCH)
        self.arrays = [rng.standard_normal((n, row_bytes // 4), np.float32) for n in lengths]
        self.tensors = [torch.from_numpy(array) for array in self.arrays]
        self.lengths, self.torch_lengths = lengths, torch.from_numpy(lengths)
        self.padded = packseq.pad_sequence(self.arrays)
        self.torch_padded = torch.from_numpy(self.padded)
        self.packed = packseq.pack_sequence(self.arrays)
        self.torch_packed = rnn.pack_sequence(self.tensors, enforce_sorted=False)


# name -> (packseq, torch)
CALLS = {
    "pack_sequence": (
        lambda case: packseq.pack_sequence(case.arrays),
        lambda case: rnn.pack_sequence(case.tensors, enforce_sorted=False),
    ),
    "pack_padded_sequence": (
        lambda case: packseq.pack_padded_sequence(case.padded, case.lengths),
        lambda case: rnn.pack_padded_sequence(
            case.torch_padded, case.torch_lengths, enforce_sorted=False
        ),
    ),
    "pad_packed_sequence": (
        lambda case: packseq.pad_packed_sequence(case.packed)[0],
        lambda case: rnn.pad_packed_sequence(case.torch_packed)[0],
    ),
    "pad_packed_sequence, batch first": (
        lambda case: packseq.pad_packed_sequence(case.packed, batch_first=True)[0],
        lambda case: rnn.pad_packed_sequence(case.torch_packed, batch_first=True)[0],
    ),
    "unpack_sequence": (
        lambda case: packseq.unpack_sequence(case.packed),
        lambda case: rnn.unpack_sequence(case.torch_packed),
    ),
    "pad_sequence": (
        lambda case: packseq.pad_sequence(case.arrays),
        lambda case: rnn.pad_sequence(case.tensors),
    ),
}


def sequences_of(result):
    """What a result holds, whichever library made it and however it broke ties."""
    if hasattr(result, "batch_sizes"):
        fields = (result.data, result.batch_sizes, result.sorted_indices, result.unsorted_indices)
        return packseq.unpack_sequence(packseq.PackedSequence(*fields))
    return result if isinstance(result, list) else [result]


def check(ours, theirs):
    for array, tensor in zip(sequences_of(ours), sequences_of(theirs), strict=True):
        np.testing.assert_array_equal(array, tensor)


@pytest.fixture(scope="module", params=[4, 64, 256, 1024], ids="{}B rows".format)
def case(request):
    torch.set_num_threads(1)
    packseq.set_num_threads(1)
    return Case(request.param)


@pytest.mark.parametrize("library", ["packseq", "torch", "copy"])
@pytest.mark.parametrize("name", CALLS)
def bench_layout(benchmark, case, name, library):
    ours, theirs = CALLS[name]
    result = ours(case)
    check(result, theirs(case))
    arrays = [result.data] if hasattr(result, "batch_sizes") else sequences_of(result)
    nbytes = sum(array.nbytes for array in arrays)
    source = np.ones(nbytes, np.uint8)
    call = {"packseq": ours, "torch": theirs, "copy": lambda case: source.copy()}[library]
    benchmark.group = f"{name}, {case.packed.data.strides[0]}-byte rows"
    benchmark(call, case)
    benchmark.extra_info["GB/s"] = float(f"{nbytes / benchmark.stats.stats.min / 1e9:.3g}")
