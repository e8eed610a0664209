"""Trains the demo's classifier: which language is a line of text written in?

    pip install torch==2.13.0 safetensors babel
    python examples/catalogues.py
    python examples/train.py              # -> language_id.safetensors, language_id.json

Bytes are the tokens: embedding -> bidirectional LSTM -> linear layer on the two last states.
Everything was chosen on the validation lines; the held-out lines are measured once, at the end.
"""

import json
import random
import time
from collections import Counter
from itertools import groupby
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent
DATA = HERE.parent / "build" / "language_id"

EMBEDDING, HIDDEN = 32, 112  # 0.6 MB of float32
EPOCHS, BATCH, PEAK_RATE = 8, 128, 6e-3
LONGEST = 160  # bytes of a line that one training step looks at
NEAR_TIE = 1e-3  # logits this close may change places under another order of summation

Row = tuple[str, bytes]  # language, line


class Classifier(nn.Module):
    def __init__(self, languages: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, EMBEDDING)
        self.lstm = nn.LSTM(EMBEDDING, HIDDEN, bidirectional=True)
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(2 * HIDDEN, languages)

    def forward(self, lines: list[bytes]) -> torch.Tensor:
        """Logits (B, languages) of lines that are all of one length."""
        tokens = torch.frombuffer(bytearray(b"".join(lines)), dtype=torch.uint8)
        tokens_tb = tokens.view(len(lines), -1).T.int()
        _, (last, _) = self.lstm(self.embedding(tokens_tb))
        return self.linear(self.dropout(torch.cat([last[0], last[1]], dim=1)))


def read(path: Path) -> list[Row]:
    rows = (row.split("\t") for row in path.read_text(encoding="utf-8").splitlines())
    return [(language, line.encode()) for language, line in rows]


def vary(line: bytes) -> bytes:
    """The line or a few of its words, perhaps in another case: real labels are short and Titled."""
    text = line.decode()
    words = text.split()
    if len(words) > 2 and random.random() < 0.5:
        count = random.randint(1, min(len(words), 12))
        start = random.randint(0, len(words) - count)
        text = " ".join(words[start : start + count])
    if random.random() < 0.3:
        text = random.choice([str.lower, str.capitalize, str.title])(text)
    return text.encode()[:LONGEST]


def training_batches(rows: list[Row]) -> list[list[Row]]:
    """Shuffled batches of lines of like length, cut to their shortest.

    torch's packed LSTM would train on whole lines, but here its backward pass took three times
    as long as that of a dense batch (59 and 20 us per byte, one core).
    """
    rows = [(language, vary(line)) for language, line in rows]
    random.shuffle(rows)
    rows.sort(key=lambda row: len(row[1]))
    groups = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    random.shuffle(groups)
    return [[(language, line[: len(group[0][1])]) for language, line in group] for group in groups]


@torch.no_grad()
def evaluate(model: Classifier, rows: list[Row], number: dict[str, int]) -> tuple[int, int]:
    """Lines that the model gets right, and lines whose two best logits are a near tie."""
    model.eval()
    correct = near_ties = 0
    for _, group in groupby(sorted(rows, key=lambda row: len(row[1])), lambda row: len(row[1])):
        languages, lines = zip(*group, strict=True)
        best = model(list(lines)).topk(2, dim=1)
        correct += int((best.indices[:, 0] == torch.tensor([number[x] for x in languages])).sum())
        near_ties += int((best.values[:, 0] - best.values[:, 1] < NEAR_TIE).sum())
    return correct, near_ties


def main() -> None:
    random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train, validation = read(DATA / "train.tsv"), read(DATA / "validation.tsv")
    count = Counter(language for language, _ in train)
    languages = sorted(count)
    number = {language: i for i, language in enumerate(languages)}

    model = Classifier(len(languages))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    steps = EPOCHS * -(-len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    # Weighted because the packages hold more of some languages than of others.
    weight = torch.tensor([len(train) / len(languages) / count[x] for x in languages])
    loss = nn.CrossEntropyLoss(weight, label_smoothing=0.05)
    started = time.process_time()
    for epoch in range(EPOCHS):
        model.train()
        for rows in training_batches(train):
            optimizer.zero_grad()
            target = torch.tensor([number[language] for language, _ in rows])
            loss(model([line for _, line in rows]), target).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        validation_correct, _ = evaluate(model, validation, number)
        seconds = time.process_time() - started
        print(
            f"epoch {epoch}: {validation_correct / len(validation):.2%} of the validation lines,",
            f"{seconds:.0f} s",
            flush=True,
        )

    held_out = read(HERE / "held_out.tsv")
    held_out_correct, near_ties = evaluate(model, held_out, number)
    result = {
        "held_out_lines": len(held_out),
        "held_out_correct": held_out_correct,
        "held_out_accuracy": round(held_out_correct / len(held_out), 4),
        "held_out_near_ties": near_ties,
        "validation_lines": len(validation),
        "validation_correct": validation_correct,
        "training_lines": len(train),
        "epochs": EPOCHS,
        "torch": torch.__version__,
    }
    print(json.dumps(result, indent=2))
    (HERE / "language_id.json").write_text(json.dumps(result, indent=2) + "\n")
    save_file(
        model.state_dict(),
        HERE / "language_id.safetensors",
        metadata={"languages": " ".join(languages)},
    )


if __name__ == "__main__":
    main()
