"""On a GPU: packseq on tensors beside plain torch, and from where NumPy arrays pay to move there.

    python benchmarks/bench_cuda.py > table.md

Prints the tables of docs/gpu.md, the device's name first. Every case is checked before it is timed.
`--device cpu --quick` runs the same code on small cases without a GPU, to see that it works; its
numbers mean nothing.
"""

import argparse
import statistics
import time
from functools import partial

import numpy as np

import packseq

REPEATS = 11
INPUT = 256


def lengths_of(kind, batch, rng):
    """Steps of each sequence: uniform in 1 to 200, or a long tail of median 16 cut at 800."""
    if kind == "uniform":
        return rng.integers(1, 201, batch)
    return np.minimum(8 * (1 + rng.pareto(1.0, batch)), 800).astype(np.int64)


class Case:
    """One padded batch on the device, and one LSTM in both libraries."""

    def __init__(self, batch, hidden, kind, device):
        import torch

        rng = np.random.default_rng(0)
        self.torch, self.device = torch, device
        self.lengths = lengths_of(kind, batch, rng)
        steps = int(self.lengths.max())
        self.array = rng.standard_normal((steps, batch, INPUT), np.float32)
        self.tensor = torch.from_numpy(self.array).to(device)
        self.torch_lengths = torch.from_numpy(self.lengths)
        self.ours = packseq.LSTM(INPUT, hidden, rng=0, backend="torch")
        self.theirs = torch.nn.LSTM(INPUT, hidden).to(device).eval()
        state = {name: torch.tensor(value) for name, value in self.ours.state_dict().items()}
        self.theirs.load_state_dict(state)
        self.packed = self.torch_packed()

    def torch_packed(self):
        return self.torch.nn.utils.rnn.pack_padded_sequence(
            self.tensor, self.torch_lengths, enforce_sorted=False
        )

    def run_ours(self):
        packed = packseq.pack_padded_sequence(self.tensor, self.lengths)
        return packseq.pad_packed_sequence(self.ours(packed)[0])[0]

    def run_theirs(self):
        output = self.theirs(self.torch_packed())[0]
        return self.torch.nn.utils.rnn.pad_packed_sequence(output)[0]

    def layout_of_ours(self):
        packed = packseq.pack_padded_sequence(self.tensor, self.lengths)
        return packseq.pad_packed_sequence(packed)[0]

    def layout_of_theirs(self):
        return self.torch.nn.utils.rnn.pad_packed_sequence(self.torch_packed())[0]

    def rnn_alone(self):
        """The recurrent layer on rows that are packed and sorted already."""
        rows = type(self.packed)(self.packed.data, self.packed.batch_sizes)
        return self.theirs(rows)

    def check(self):
        # Sums of INPUT + H products, each below 1, in two orders: some ulps, as in the tests.
        full = self.run_ours() - self.run_theirs()
        assert float(full.abs().max()) < 1e-5
        assert self.torch.equal(self.layout_of_ours(), self.layout_of_theirs())

    def seconds(self, call):
        """The median call, from the first queued operation to the last one's end."""
        times = []
        for _ in range(REPEATS):
            self.wait()
            start = time.perf_counter()
            call()
            self.wait()
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:])

    def wait(self):
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()


def print_tensors(batches, hiddens, device):
    print("| B | H | lengths | packseq, tokens/s | torch, tokens/s | ratio | outside the layer: "
          "packseq, torch | pack and unpack: ratio |")  # fmt: skip
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for batch in batches:
        for hidden in hiddens:
            for kind in ("uniform", "long-tailed"):
                case = Case(batch, hidden, kind, device)
                case.check()
                ours, theirs, alone = map(
                    case.seconds, (case.run_ours, case.run_theirs, case.rnn_alone)
                )
                layout = case.seconds(case.layout_of_theirs) / case.seconds(case.layout_of_ours)
                tokens = case.lengths.sum()
                outside = f"{max(0, 1 - alone / ours):.0%}, {max(0, 1 - alone / theirs):.0%}"
                print(
                    f"| {batch} | {hidden} | {kind} | {tokens / ours:.3g} | {tokens / theirs:.3g} "
                    f"| {theirs / ours:.2f} | {outside} | {layout:.1f} |"
                )


def print_threshold(batches, hidden, device):
    """NumPy arrays on the kernels and moved: offload_flops belongs where the ratio crosses 1."""
    print("| B | H | MFLOP a step | kernels, ms | moved, ms | kernels / moved |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for batch in batches:
        case = Case(batch, hidden, "uniform", device)
        flops = 8 * hidden * (INPUT + hidden) * case.lengths.sum() / case.lengths.max()
        times = []
        for backend in ("cpu", "torch"):
            module = packseq.LSTM.from_state_dict(case.ours.state_dict())
            module.backend = backend
            call = partial(module, case.array, lengths=case.lengths)
            times.append(1e3 * case.seconds(call))
        kernels, moved = times
        print(
            f"| {batch} | {hidden} | {flops / 1e6:.3g} | {kernels:.3g} | {moved:.3g} "
            f"| {kernels / moved:.2f} |"
        )


def main():
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", type=torch.device)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    batches, hiddens = ([4, 8], [16]) if options.quick else ([64, 256, 1024], [256, 512, 1024])
    gpu = options.device.type == "cuda"
    name = torch.cuda.get_device_name() if gpu else "the CPU, as a trial"
    # Both libraries multiply in float32 proper; packseq does of itself.
    torch.backends.cudnn.allow_tf32 = False
    with torch.inference_mode():
        print(f"{name}; torch {torch.__version__}; {packseq.get_num_threads()} CPU threads\n")
        print_tensors(batches, hiddens, options.device)
        print()
        print_threshold(
            batches if options.quick else [1, 4, 16, 64, 256], hiddens[0], options.device
        )


if __name__ == "__main__":
    main()
