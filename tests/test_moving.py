"""The pages on moving over: what the two sides of each pair compute is the same."""

import os

import numpy as np
import pages
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
pytestmark = pytest.mark.filterwarnings(r"ignore:::(keras|torch)\.")

# What a page needs: Keras runs on torch here.
FROM = {"torch": ["torch"], "keras": ["keras", "torch"], "onnxruntime": ["onnx", "onnxruntime"]}


def pairs(library):
    """What comes before, and each pair: the code of the library, and of packseq."""
    found = pages.blocks(pages.DOCS / "moving" / f"{library}.md")
    given = "".join(code for word, code in found if word == "given")
    theirs = [code for word, code in found if word == library]
    ours = [code for word, code in found if word == ""]
    return given, list(zip(theirs, ours, strict=True))


def is_numbers(value):
    """Whether it can be compared: an array or tensor of floats, on either side."""
    return hasattr(value, "shape") and np.asarray(value).dtype.kind == "f"


def assigned(code, names):
    """Run code, and return the variables that it set."""
    before = dict(names)
    exec(code, names)
    return {name for name, value in names.items() if value is not before.get(name)}


@pytest.mark.parametrize("library", FROM)
def test_both_sides_of_a_page_compute_the_same(library, tmp_path, monkeypatch):
    for needed in FROM[library]:
        pytest.importorskip(needed, reason="the page is about moving over from it")
    monkeypatch.chdir(tmp_path)
    given, both = pairs(library)
    theirs = {}
    exec(given, theirs)
    ours = dict(theirs)
    for place, (there, here) in enumerate(both):
        made = assigned(there, theirs)
        # What the other side alone makes, such as a file's weights or a session, is there to use.
        ours |= {name: theirs[name] for name in made - set(ours)}
        made &= assigned(here, ours)
        compared = [name for name in made if is_numbers(theirs[name]) and is_numbers(ours[name])]
        assert compared or place == 0  # the first pair makes the models
        for name in compared:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5, err_msg=name)
