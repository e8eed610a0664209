"""Operations on packed rows beside the user's alternatives: masked padded torch, np.add.reduceat.

    taskset -c 1 python -m pytest benchmarks/bench_operations.py

Each case first checks that all agree. Lengths are uniform in 1 to STEPS, which makes half of the
padded batch padding. torch gets its tensors and its mask ready-made, in its own best layout, and
reduceat the rows sequence by sequence with their offsets; only the operation is timed.
"""

import numpy as np
import pytest

import packseq

torch = pytest.importorskip("torch", reason="the peer that is timed")

BATCH, STEPS = 128, 200
CLASSES = 64


class Case:
    """One ragged batch of float32, as each library wants it."""

    def __init__(self, width):
        rng = np.random.default_rng(0)
        lengths = rng.integers(1, STEPS + 1, BATCH)
        arrays = [rng.standard_normal((n, width), np.float32) for n in lengths]
        self.packed = packseq.pack_sequence(arrays)
        self.scores = self.packed.map(lambda rows: rows[:, 0].copy())
        self.values, offsets = self.packed.to_ragged()
        self.starts = offsets[:-1]
        self.padded = torch.from_numpy(packseq.pad_sequence(arrays, batch_first=True))
        self.lengths = torch.from_numpy(lengths)
        self.mask = torch.arange(STEPS)[None, : self.padded.shape[1]] < self.lengths[:, None]
        self.mask_rows = self.mask[..., None]
        self.float_mask = self.mask_rows.float()
        self.torch_scores = self.padded[..., 0].contiguous()
        self.targets = packseq.PackedSequence(
            rng.integers(0, width, len(self.values)),
            self.packed.batch_sizes,
            self.packed.sorted_indices,
        )
        padded_targets, _ = packseq.pad_packed_sequence(self.targets, True, -100)
        self.torch_targets = torch.from_numpy(padded_targets)


def torch_softmax(case):
    return case.padded.masked_fill(~case.mask_rows, -torch.inf).softmax(1)


def torch_attend(case):
    weights = case.torch_scores.masked_fill(~case.mask, -torch.inf).softmax(1)
    return torch.bmm(weights[:, None], case.padded)[:, 0]


def torch_reverse(case):
    """Each by its own length: one gather."""
    steps = torch.arange(case.padded.shape[1])[None]
    index = torch.where(case.mask, case.lengths[:, None] - 1 - steps, steps)
    return case.padded.gather(1, index[..., None].expand_as(case.padded))


def torch_last(case):
    return case.padded[torch.arange(BATCH), case.lengths - 1]


def torch_cross_entropy(case):
    logits = case.padded.flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, case.torch_targets.flatten())


# name -> library -> call; what they return is compared, packed ones padded.
CALLS = {
    "sum": {
        "packseq": lambda case: case.packed.sum(),
        "torch": lambda case: (case.padded * case.float_mask).sum(1),
        "numpy": lambda case: np.add.reduceat(case.values, case.starts),
    },
    "mean": {
        "packseq": lambda case: case.packed.mean(),
        "torch": lambda case: (case.padded * case.float_mask).sum(1) / case.lengths[:, None],
        "numpy": lambda case: (
            np.add.reduceat(case.values, case.starts)
            / case.packed.lengths[:, None].astype(np.float32)
        ),
    },
    "max": {
        "packseq": lambda case: case.packed.max(),
        "torch": lambda case: case.padded.masked_fill(~case.mask_rows, -torch.inf).amax(1),
        "numpy": lambda case: np.maximum.reduceat(case.values, case.starts),
    },
    "argmax": {
        "packseq": lambda case: case.packed.argmax(),
        "torch": lambda case: case.padded.masked_fill(~case.mask_rows, -torch.inf).argmax(1),
    },
    "logsumexp": {
        "packseq": lambda case: case.packed.logsumexp(),
        "torch": lambda case: case.padded.masked_fill(~case.mask_rows, -torch.inf).logsumexp(1),
    },
    "softmax": {
        "packseq": lambda case: case.packed.softmax(),
        "torch": torch_softmax,
    },
    "attend": {
        "packseq": lambda case: case.packed.attend(case.scores),
        "torch": torch_attend,
    },
    "cumsum": {
        "packseq": lambda case: case.packed.cumsum(),
        "torch": lambda case: (case.padded * case.float_mask).cumsum(1) * case.float_mask,
    },
    "reverse": {
        "packseq": lambda case: case.packed.reverse(),
        "torch": torch_reverse,
    },
    "last": {
        "packseq": lambda case: case.packed.last(),
        "torch": torch_last,
    },
    "cross_entropy": {
        "packseq": lambda case: packseq.cross_entropy(case.packed, case.targets),
        "torch": torch_cross_entropy,
    },
}


def as_array(result):
    if isinstance(result, packseq.PackedSequence):
        return packseq.pad_packed_sequence(result, batch_first=True)[0]
    return np.asarray(result)


def check(ours, theirs):
    # Sums of up to 200 numbers near 1 in float32, in either's order.
    np.testing.assert_allclose(as_array(ours), as_array(theirs), rtol=1e-5, atol=1e-4)


@pytest.fixture(scope="module", params=[1, 64, 512], ids="width {}".format)
def case(request):
    torch.set_num_threads(packseq.get_num_threads())
    return Case(request.param)


@pytest.mark.parametrize(
    ("name", "library"), [(n, lib) for n, libs in CALLS.items() for lib in libs]
)
def bench_operation(benchmark, case, name, library):
    calls = CALLS[name]
    check(calls["packseq"](case), calls[library](case))
    benchmark.group = f"{name}, width {case.packed.data.shape[1]}"
    benchmark(calls[library], case)
