"""A speech decoder as torch runs it, and after one line: cells called step by step.

    taskset -c 1 python -m pytest benchmarks/bench_decoder.py

The sizes are Tacotron 2's: two LSTM cells of 1024 units, and each frame fed back.
The two agree before either is timed; both have one thread.
"""

import pytest

torch = pytest.importorskip("torch", reason="the peer that is timed")

from torch import nn  # noqa: E402

from packseq.torch import accelerate, restore  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

FRAME, CONTEXT, PRENET, STEPS = 80, 512, 256, 50


class Decoder(nn.Module):
    """From a fixed context to frames, each made of the one before."""

    def __init__(self, hidden_size):
        super().__init__()
        self.prenet = nn.Sequential(nn.Linear(FRAME, PRENET), nn.ReLU())
        self.attention = nn.LSTMCell(PRENET + CONTEXT, hidden_size)
        self.decoder = nn.LSTMCell(hidden_size + CONTEXT, hidden_size)
        self.frame = nn.Linear(hidden_size + CONTEXT, FRAME)

    def forward(self, context):
        first = second = None
        frame, frames = context.new_zeros(len(context), FRAME), []
        for _ in range(STEPS):
            first = self.attention(torch.cat([self.prenet(frame), context], -1), first)
            second = self.decoder(torch.cat([first[0], context], -1), second)
            frame = self.frame(torch.cat([second[0], context], -1))
            frames.append(frame)
        return torch.stack(frames)


@pytest.mark.parametrize("library", ["torch", "packseq"])
@pytest.mark.parametrize(("hidden_size", "batch"), [(256, 1), (1024, 1), (1024, 8)])
def bench_decoder(benchmark, hidden_size, batch, library):
    torch.manual_seed(0)
    decoder = Decoder(hidden_size).eval()
    context = torch.randn(batch, CONTEXT)
    with torch.inference_mode():
        expected = decoder(context)
        frames = accelerate(decoder)(context)
        torch.testing.assert_close(frames, expected, rtol=0, atol=1e-5)
        if library == "torch":
            restore(decoder)
        benchmark.group = f"{hidden_size} units, batch {batch}"
        benchmark(decoder, context)
