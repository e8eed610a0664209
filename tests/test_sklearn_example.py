"""A Pipeline of scikit-learn takes a PackedSequence as its X: examples/sklearn_pipeline.py."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from packseq import PackedSequence, unpack_sequence

SCRIPT = Path(__file__).parent.parent / "examples" / "sklearn_pipeline.py"


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("sklearn", reason="the library of the example")
    spec = importlib.util.spec_from_file_location("sklearn_pipeline", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_learns_families_of_languages(example, capsys):
    example.main()
    folds, few, *answers = capsys.readouterr().out.splitlines()
    # Who always says Slavic, or Romance, is right in a third.
    scores = [float(score) for score in re.findall(r"([\d.]+)%", folds)]
    assert len(scores) == 3
    assert min(scores) > 90
    assert float(re.search(r"([\d.]+)%", few)[1]) > 90
    assert [answer.split()[0] for answer in answers] == ["Romance", "Germanic", "Turkic"]


def test_a_batch_and_its_sequences_give_the_same_bits(example):
    X, lengths, families = example.read_lines()
    lines = example.packed_from(X, lengths)
    np.testing.assert_array_equal(lines.to_ragged()[0], X)
    assert len(lines) == len(families)
    part = lines[:50]
    model = example.make_model().fit(lines[:200], families[:200])
    for same in (unpack_sequence(part), [lines[b] for b in range(50)]):
        np.testing.assert_array_equal(model.predict_proba(same), model.predict_proba(part))
        assert not isinstance(same, PackedSequence)
