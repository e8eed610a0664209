"""The pages' examples: the tests run them, and so does the site's build, which keeps the figures.

A page's blocks of Python are one session, in the order of the page. Where a block leaves a `figure`
behind, the build saves it as pictures/PAGE-NUMBER.svg, from 1 on, which the page shows.
"""

import doctest
import os
import re
import tempfile
from contextlib import chdir
from pathlib import Path

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"
PICTURES = DOCS / "pictures"
# What the test runs a page with instead of what it says, since it would take long.
SMALLER = {"200_000": "2_000"}


def pages():
    """Every page with a session, by its path from docs/ and without the suffix."""
    paths = sorted(DOCS.rglob("*.md"))
    return [
        path.relative_to(DOCS).with_suffix("").as_posix()
        for path in paths
        if any(">>>" in code for _, code in blocks(path))
    ]


def blocks(path):
    """The blocks of Python of a page: the word after "python", or "", and the code."""
    return re.findall(r"^```python ?(\w*)\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.M)


def draws(page):
    """Whether a page shows pictures that its session makes."""
    return bool(re.search(rf"pictures/{_name(page)}-[0-9]", _path(page).read_text("utf-8")))


def session_of(page, beside=""):
    """The code of a page's blocks, with those of `beside` (torch) too."""
    return [code for word, code in blocks(_path(page)) if word in ("", beside)]


def imported(code):
    """The libraries that examples import, without what lies in examples/."""
    names = set(re.findall(r"^ *>>> (?:import|from) (\w+)", code, re.M))
    return sorted(name for name in names if not (EXAMPLES / f"{name}.py").exists())


def run(page, beside="", small=False, on_figure=None):
    """Run a page's session and return its failures.

    It runs in a folder of its own that has the repository's examples/, and may write there.
    """
    failures, session = [], {}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.symlink(EXAMPLES, "examples")
        for code in session_of(page, beside):
            test = doctest.DocTestParser().get_doctest(_code(code, small), session, page, None, 0)
            runner.run(test, out=failures.append, clear_globs=False)
            session = test.globs
            figure = session.pop("figure", None)
            if figure is not None and on_figure:
                on_figure(figure)
    if not runner.tries:
        failures.append(f"{page} has no example")
    return "".join(failures)


def draw(page):
    """Run a page and save its figures, or raise an error that shows what failed."""

    def save(figure):
        numbers.append(len(numbers) + 1)
        path = PICTURES / f"{_name(page)}-{numbers[-1]}.svg"
        figure.savefig(path, metadata={"Date": None})

    numbers = []
    failures = run(page, on_figure=save)
    if failures:
        raise RuntimeError(failures)


def draw_all():
    """Run every page that draws."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "packseq", "font.size": 9, "figure.dpi": 100})
    PICTURES.mkdir(exist_ok=True)
    for page in pages():
        if draws(page):
            draw(page)
            matplotlib.pyplot.close("all")


def _path(page):
    return DOCS / f"{page}.md"


def _name(page):
    return page.rpartition("/")[2]


def _code(code, small):
    for large, less in SMALLER.items() if small else ():
        code = code.replace(large, less)
    return code
