"""The examples of the docs and of the docstrings do what they show."""

import doctest
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import packseq
from packseq import batching, comparing, costs, linear_layer, packed, reductions
from packseq.networks import parameters, streams
from packseq.predict import predictor
from packseq.settings import threadpools

DOCS = Path(__file__).parents[1] / "docs"


def failures_of(examples):
    found = []
    runner = doctest.DocTestRunner()
    runner.run(examples, out=found.append)
    assert runner.tries
    return "".join(found)


@pytest.mark.parametrize("beside_torch", [False, True])
def test_the_walk_through(beside_torch):
    if beside_torch and not find_spec("torch"):
        pytest.skip("torch, which half of the page runs, is not installed")
    text = (DOCS / "packed.md").read_text()
    blocks = re.findall(r"```python( torch)?\n(.*?)```", text, re.DOTALL)
    chosen = "".join(code for torch, code in blocks if beside_torch or not torch)
    assert not failures_of(doctest.DocTestParser().get_doctest(chosen, {}, "packed.md", None, 0))


def test_streaming():
    text = (DOCS / "streaming.md").read_text()
    chosen = "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    assert not failures_of(doctest.DocTestParser().get_doctest(chosen, {}, "streaming.md", None, 0))


@pytest.mark.parametrize(
    "module",
    [
        batching,
        comparing,
        costs,
        linear_layer,
        packed,
        parameters,
        predictor,
        reductions,
        streams,
        threadpools,
    ],
)
def test_examples_of_docstrings(module):
    if module is predictor:
        pytest.importorskip("pyarrow", reason="its tables")
    if module is threadpools:
        pytest.importorskip("threadpoolctl", reason="whose limits these are")
    names = {name: getattr(packseq, name) for name in packseq.__all__}
    names |= {"np": np, "packseq": packseq}
    for examples in doctest.DocTestFinder().find(module, globs=names):
        if examples.examples:
            assert not failures_of(examples)
