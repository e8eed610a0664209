"""A whole tagging model as torch runs it, and after one line.

    taskset -c 1 python -m pytest benchmarks/bench_accelerate.py

The two agree before either is timed; both have one thread. What is timed is the model, embedding,
packing and scores included, in inference mode.
"""

import pytest

torch = pytest.importorskip("torch", reason="the peer that is timed")

from torch import nn  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402

from packseq.torch import accelerate, restore  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS, TAGS, WIDTH = 20_000, 18, 100
# name -> (kind, hidden size, sentence lengths)
CASES = {
    "one short sentence": (nn.LSTM, 256, [12]),
    "32 sentences": (nn.LSTM, 256, [5 + 7 * i % 41 for i in range(32)]),
    "32 sentences, GRU": (nn.GRU, 256, [5 + 7 * i % 41 for i in range(32)]),
    "256 messages": (nn.LSTM, 128, [1 + 60 // (1 + i % 32) for i in range(256)]),
}


class Tagger(nn.Module):
    """Embedding, a two-layer bidirectional encoder on the packed batch, a score for each tag."""

    def __init__(self, kind, hidden_size):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.encoder = kind(WIDTH, hidden_size, 2, bidirectional=True, batch_first=True)
        self.tags = nn.Linear(2 * hidden_size, TAGS)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(
            self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False
        )
        output, _ = self.encoder(packed)
        return self.tags(output.data)


@pytest.mark.parametrize("library", ["torch", "packseq"])
@pytest.mark.parametrize("case", CASES)
def bench_tagger(benchmark, case, library):
    kind, hidden_size, lengths = CASES[case]
    torch.manual_seed(0)
    tagger = Tagger(kind, hidden_size).eval()
    tokens = torch.randint(0, WORDS, (len(lengths), max(lengths)))
    lengths = torch.tensor(lengths)
    with torch.inference_mode():
        expected = tagger(tokens, lengths)
        scores = accelerate(tagger)(tokens, lengths)
        # Sums of 2 * hidden_size products below 1, each off by some ulps of the recurrence.
        torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)
        if library == "torch":
            restore(tagger)
        benchmark.group = case
        benchmark(tagger, tokens, lengths)
