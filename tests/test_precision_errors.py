"""What fewer bits cost, on networks as they are initialised and on one that was trained."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from packseq import GRU, LSTM, pack_sequence

EXAMPLES = Path(__file__).parent.parent / "examples"

# Largest and mean error against float64.
LIMITS = {
    ("LSTM", "int8"): (2e-2, 1.5e-3),
    ("GRU", "int8"): (2e-2, 2.5e-3),
    ("LSTM", "bfloat16"): (5e-3, 4e-4),
    ("GRU", "bfloat16"): (7e-3, 8e-4),
}
SHAPES = {
    "wide": {"size": 256, "steps": 100, "batch": 8},
    "stacked": {"size": 128, "steps": 60, "batch": 8, "num_layers": 2, "bidirectional": True},
    "long": {"size": 64, "steps": 1000, "batch": 2},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "precision"), LIMITS)
def test_networks_as_they_are_initialised(kind, precision, shape):
    size, steps, batch, options = split(SHAPES[shape])
    module = {"LSTM": LSTM, "GRU": GRU}[kind](size, size, rng=0, **options)
    exact = type(module).from_state_dict(module.state_dict(), dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((steps, batch, size)).astype(np.float32)
    output, _ = module.quantize(precision)(x)
    off = np.abs(output - exact(x.astype(np.float64))[0])
    largest, mean = LIMITS[kind, precision]
    assert off.max() <= largest
    assert off.mean() <= mean
    assert off.mean() > mean / 100  # it was rounded


def split(shape):
    options = dict(shape)
    return options.pop("size"), options.pop("steps"), options.pop("batch"), options


@pytest.fixture(scope="module")
def demonstration():
    """The trained model, its held-out lines, and its logits for them in float32."""
    spec = importlib.util.spec_from_file_location("language_id", EXAMPLES / "language_id.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    model = demo.LanguageIdentifier(EXAMPLES / "language_id.safetensors")
    text = (EXAMPLES / "held_out.tsv").read_text(encoding="utf-8").splitlines()
    truth, lines = zip(*(row.split("\t") for row in text), strict=True)
    packed = pack_sequence([model.embed(line.encode()) for line in lines])
    return model, np.array(truth), packed, logits_of(model, model.lstm, packed)


def logits_of(model, lstm, packed):
    _, (last, _) = lstm(packed)
    return np.concatenate(list(last), axis=-1) @ model.weight.T + model.bias


# Answers changed at most, and the mean error of a logit. Accuracy alone is blind: with weights of
# 4 bits it loses three lines.
@pytest.mark.parametrize(
    ("precision", "changed", "mean"), [("int8", 8, 9e-3), ("bfloat16", 2, 2.5e-3)]
)
def test_a_trained_classifier(demonstration, precision, changed, mean):
    model, truth, packed, exact = demonstration
    logits = logits_of(model, model.lstm.quantize(precision), packed)
    answers = logits.argmax(axis=-1)
    correct = np.count_nonzero(model.languages[answers] == truth)
    recorded = json.loads((EXAMPLES / "language_id.json").read_text())["held_out_correct"]
    assert correct >= recorded - 5
    assert np.count_nonzero(answers != exact.argmax(axis=-1)) <= changed
    assert np.abs(logits - exact).mean() <= mean
    assert np.abs(logits - exact).mean() > mean / 100
