"""The demo is the main job on real input: what it prints must be what training recorded."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
RECORDED = json.loads((EXAMPLES / "language_id.json").read_text())

# Runs the script in a process where importing torch fails.
WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def demo(*lines: str) -> str:
    script = str(EXAMPLES / "language_id.py")
    command = [sys.executable, "-c", WITHOUT_TORCH, script, *lines]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout


@pytest.fixture(scope="module")
def report() -> str:
    return demo()


@pytest.fixture(scope="module")
def held_out() -> list[tuple[str, str]]:
    rows = (EXAMPLES / "held_out.tsv").read_text(encoding="utf-8").splitlines()
    return [tuple(row.split("\t")) for row in rows]


def test_accuracy_is_what_training_recorded(report):
    correct, lines = map(int, re.search(r"Accuracy: (\d+) of (\d+) lines", report).groups())
    assert lines == RECORDED["held_out_lines"]
    # torch sums in another order, which can only change the answer on a near tie.
    assert abs(correct - RECORDED["held_out_correct"]) <= RECORDED["held_out_near_ties"]


def test_held_out_lines_are_many_varied_and_distinct(held_out):
    lengths = [len(line.encode()) for _, line in held_out]
    assert len(held_out) >= 2000
    assert max(lengths) >= 20 * min(lengths)
    assert len({line for _, line in held_out}) == len(held_out)


def test_model_is_under_one_megabyte():
    assert (EXAMPLES / "language_id.safetensors").stat().st_size < 1_000_000


def test_saving_is_counted_from_the_lengths(report, held_out):
    lengths = [len(line.encode()) for _, line in held_out]
    padded, packed, batch = (
        int(re.search(pattern, report)[1].replace(",", ""))
        for pattern in (r"([\d,]+) padded", r"([\d,]+) packed", r"batches of (\d+)")
    )
    batches = [lengths[i : i + batch] for i in range(0, len(lengths), batch)]
    assert packed == sum(lengths)
    assert padded == sum(len(batch) * max(batch) for batch in batches)


def test_one_by_one_answers_as_packed_and_padded_does_not(report):
    differ = {
        way: int(re.search(rf"{way} .* (\d+) of its answers differ", report)[1])
        for way in ("one by one", "padded")
    }
    assert differ["one by one"] <= RECORDED["held_out_near_ties"]
    assert differ["padded"] > RECORDED["held_out_near_ties"]


def test_lines_from_the_command_line():
    lines = {
        "de": "Guten Morgen, wie geht es Ihnen?",
        "uk": "Доброго ранку, як у вас справи?",
        "pt": "Você não tem permissão para fazer isso",
    }
    *rows, threads = demo(*lines.values()).splitlines()
    assert [row.split()[0] for row in rows] == list(lines)
    assert re.fullmatch(r"on \d+ threads? of \d+ cores", threads)


def test_lines_that_start_with_a_dash_follow_two():
    row, _ = demo("--", "-v gibt mehr Meldungen aus, und zwar über jede Datei").splitlines()
    assert row.split()[:2] == ["de", "-v"]


def test_help_says_what_it_is_and_takes():
    text = demo("--help")
    assert "Which language is a line of text written in?" in text
    assert "a line to tell the language of" in text


def test_the_speeds_name_their_threads(report):
    assert re.search(r"median of 5 runs on \d+ threads? of \d+ cores", report)
