"""The examples of the docs and docstrings do what they show; the reference lacks nothing public."""

import doctest
import inspect
import re
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pages
import pytest

import packseq
from packseq.settings import threads

MODULES = ["packseq", "packseq.weights", *["packseq.torch"] * bool(find_spec("torch"))]
PUBLIC = [(module, name) for module in MODULES for name in import_module(module).__all__]
REFERENCE = pages.DOCS / "reference"
# The special methods that a class's page has: its calls are what one looks up there.
CLASS_PAGE = (pages.DOCS / "_templates" / "autosummary" / "class.rst").read_text("utf-8")
SHOWN = re.findall(r"__\w+__", CLASS_PAGE)


def skip_without_what_it_imports(code):
    for library in pages.imported(code):
        pytest.importorskip(library, reason="the example imports it")


@pytest.mark.parametrize("page", pages.pages())
def test_the_examples_of_a_page(page):
    skip_without_what_it_imports("".join(pages.session_of(page)))
    assert not pages.run(page, small=True)


def test_the_walk_through_beside_torch():
    skip_without_what_it_imports("".join(pages.session_of("packed", beside="torch")))
    assert not pages.run("packed", beside="torch")


def documented(value):
    """What has an example: a function or class, and the methods of one that are shown, by name."""
    yield "", value
    if inspect.isclass(value) and not issubclass(value, Exception):
        for name in dir(value):
            member = inspect.getattr_static(value, name)
            is_shown = not name.startswith("_") or (name in SHOWN and inspect.isfunction(member))
            if is_shown and callable(getattr(member, "__func__", member)):
                yield name, getattr(value, name)


def examples(module, name):
    value = getattr(import_module(module), name)
    for method, member in documented(value):
        yield f"{module}.{name}.{method}".rstrip("."), inspect.getdoc(member) or ""


WITH_EXAMPLES = [
    pytest.param(text, id=name)
    for module, public in PUBLIC
    if public != "__version__"
    for name, text in examples(module, public)
]


@pytest.mark.parametrize("text", WITH_EXAMPLES)
@pytest.mark.usefixtures("unset_backend")
def test_every_public_name_has_an_example_that_runs(text, tmp_path, monkeypatch):
    skip_without_what_it_imports(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threads, "_num_threads", None)  # what an example sets is undone
    names = {name: getattr(packseq, name) for name in packseq.__all__}
    names |= {"np": np, "packseq": packseq}
    test = doctest.DocTestParser().get_doctest(text, names, "docstring", None, 0)
    assert test.examples
    failures = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=failures.append)
    assert not failures, "".join(failures)


@pytest.mark.parametrize("name", ["LSTM.__call__", "LSTMCell.__call__", "Predictor.__call__"])
def test_the_page_of_a_class_shows_how_it_is_called(name):
    assert f"packseq.{name}" in [param.id for param in WITH_EXAMPLES]


def listed(module):
    """The names of a module that the reference's pages list."""
    text = "".join(path.read_text("utf-8") for path in sorted(REFERENCE.glob("*.md")))
    lists = re.findall(
        rf"currentmodule:: {re.escape(module)}\n.*?toctree: generated\n\n((?:   \w+\n)+)",
        text,
        re.DOTALL,
    )
    return [name for names in lists for name in names.split()]


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_lists_every_public_name_once(module):
    public = set(import_module(module).__all__) - {"__version__"}
    if module == "packseq.weights":
        public -= set(packseq.__all__)  # load and save, listed as packseq's
    assert sorted(listed(module)) == sorted(public)
