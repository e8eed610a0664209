"""Which language is a line of text written in?

    python examples/language_id.py                       # the held-out lines, and how fast
    python examples/language_id.py "Die Datei wurde gespeichert" "O arquivo foi salvo"
    python examples/language_id.py --help

A small bidirectional LSTM (trained by train.py) reads a line byte by byte, once from each end;
its two last states decide. Lines differ in length 200-fold, so that a padded batch is mostly
padding. Packed, the LSTM never runs over any of it.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

from packseq import LSTM, get_num_threads, linear, pack_sequence, pad_sequence, weights

HERE = Path(__file__).parent
BATCH = 64
TIMED_LINES = 20 * BATCH
ROUNDS = 5


def metadata_of(path):
    """The free metadata of a safetensors file, whose header is JSON behind 8 bytes of length."""
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    return json.loads(header)["__metadata__"]


class LanguageIdentifier:
    def __init__(self, path):
        arrays = weights.read(path)
        self.languages = np.array(metadata_of(path)["languages"].split())
        self.embedding = arrays["embedding.weight"]
        self.lstm = LSTM.from_state_dict(arrays, prefix="lstm.")
        self.weight, self.bias = arrays["linear.weight"], arrays["linear.bias"]

    def embed(self, line):
        """The (T, E) vectors of a line's T bytes."""
        return self.embedding[np.frombuffer(line, np.uint8)]

    def languages_of(self, last):
        """The best language, given each line's last states in both directions: h_n (2, B, H)."""
        logits = linear(np.concatenate(list(last), axis=-1), self.weight, self.bias)
        return self.languages[logits.argmax(axis=-1)]

    def packed(self, lines):
        _, (last, _) = self.lstm(pack_sequence([self.embed(line) for line in lines]))
        return self.languages_of(last)

    def padded(self, lines):
        """Pad, and ignore the lengths: the forward states run on through the padding after a line,
        and the backward ones come to it through the padding. More steps, and wrong answers."""
        _, (last, _) = self.lstm(pad_sequence([self.embed(line) for line in lines]))
        return self.languages_of(last)

    def one_by_one(self, lines):
        states = [self.lstm(self.embed(line))[1][0] for line in lines]
        return self.languages_of(np.stack(states, axis=1))


def in_batches(identify, lines):
    batches = [lines[i : i + BATCH] for i in range(0, len(lines), BATCH)]
    return np.concatenate([identify(batch) for batch in batches])


def print_table(lines, truth, predicted):
    print("\n  true  answer  bytes  line")
    for line, true, answer in zip(lines, truth, predicted, strict=True):
        text = line.decode()
        print(f"  {true:<4}  {answer:<6}  {len(line):>5}  {text[:69] + '…' * (len(text) > 69)}")


def print_saving(lengths):
    packed = lengths.sum()
    padded = sum(
        len(batch) * batch.max() for batch in np.split(lengths, range(BATCH, len(lengths), BATCH))
    )
    print(
        f"\nSteps in batches of {BATCH} lines as they come: {padded:,} padded, {packed:,} packed:"
        f" packing saves {1 - packed / padded:.0%} of the work"
    )


def print_speeds(model, lines):
    """Median time of each way over the same lines, in turn: a busy machine slows all alike."""
    ways = {"packed": model.packed, "padded": model.padded, "one by one": model.one_by_one}
    answers = {name: in_batches(way, lines) for name, way in ways.items()}  # warms up, too
    seconds = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            in_batches(way, lines)
            seconds[name].append(time.perf_counter() - start)

    tokens = sum(map(len, lines))
    print(
        f"\nSpeed on {len(lines):,} of the lines, {tokens:,} tokens (bytes);"
        f" median of {ROUNDS} runs on {threads_in_words()}"
    )
    for name in ways:
        differ = np.count_nonzero(answers[name] != answers["packed"])
        note = f"   {differ} of its answers differ from packed" if name != "packed" else ""
        print(f"  {name:<10} {tokens / statistics.median(seconds[name]):>10,.0f} tokens/s{note}")
    print(
        "Padded, and not told the lengths, the LSTM reads the padding too: wasted, and misleading."
    )


def threads_in_words():
    threads = get_num_threads()
    return f"{threads} thread{'s' * (threads != 1)} of {os.cpu_count()} cores"


def lines_asked_for():
    """The lines of the command line; --help shows the words at the top of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "line",
        nargs="*",
        help="a line to tell the language of; without one, the held-out lines are read. Put -- "
        "before lines that start with a dash",
    )
    return parser.parse_args().line


def main():
    asked = lines_asked_for()
    model = LanguageIdentifier(HERE / "language_id.safetensors")
    if asked:
        answers = model.packed([os.fsencode(text) for text in asked])
        for text, language in zip(asked, answers, strict=True):
            print(f"  {language}  {text}")
        print(f"on {threads_in_words()}")
        return

    rows = [
        row.split("\t") for row in (HERE / "held_out.tsv").read_text(encoding="utf-8").splitlines()
    ]
    truth = np.array([language for language, _ in rows])
    lines = [text.encode() for _, text in rows]
    lengths = np.array([len(line) for line in lines])
    recorded = json.loads((HERE / "language_id.json").read_text())

    predicted = in_batches(model.packed, lines)
    print(
        f"Which language? {len(model.languages)} languages;"
        f" {len(lines):,} lines never trained on, {lengths.min()} to {lengths.max()} bytes."
    )
    first = [int(np.argmax(truth == language)) for language in model.languages]
    print_table([lines[i] for i in first], truth[first], predicted[first])

    correct = np.count_nonzero(predicted == truth)
    print(
        f"\nAccuracy: {correct} of {len(lines)} lines, {correct / len(lines):.2%}"
        f" (training recorded {recorded['held_out_correct']})"
    )
    print_saving(lengths)
    print_speeds(model, lines[:TIMED_LINES])


if __name__ == "__main__":
    main()
