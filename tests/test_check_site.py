"""tools/check_site.py finds each link of a built site that leads nowhere, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "check_site.py"

pytestmark = pytest.mark.skipif(not TOOL.exists(), reason="an installed package has no tools")

GOOD = """
<link rel="stylesheet" href="_static/a%20style.css">
<img src="data:image/png;base64,AAAA">
<h1 id="top">A page</h1> <a name="old"></a>
<a href="#top">here</a> <a href="#old">by name</a> <a href="inner/other.html">there</a>
<a href="inner/other.html#caf%C3%A9">a place there</a>
<a href="https://example.org/x#y">elsewhere</a>
"""
OTHER = '<h2 id="café">A place</h2> <a href="../index.html#top">back</a>'


def built(folder, **pages):
    """A site of two pages, whose links are right, and of others that are given."""
    (folder / "_static").mkdir()
    (folder / "inner").mkdir()
    (folder / "_static" / "a style.css").touch()
    (folder / "index.html").write_text(GOOD, "utf-8")
    (folder / "inner" / "other.html").write_text(OTHER, "utf-8")
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return folder


def checked(site):
    """The exit status, and the lines that were printed."""
    ran = subprocess.run(
        [sys.executable, TOOL, site], capture_output=True, encoding="utf-8", check=False
    )
    assert not ran.stderr
    return ran.returncode, ran.stdout.splitlines()


def test_a_site_whose_links_lead_somewhere(tmp_path):
    assert checked(built(tmp_path)) == (0, ["links of 2 pages lead somewhere"])


@pytest.mark.parametrize(
    ("tag", "fault"),
    [
        ('<a href="gone.html">', "gone.html leads to no file"),
        ('<a href="inner">', "inner leads to no file"),
        ('<a href="gone.html#top">', "gone.html#top leads to no file"),
        ('<a href="#gone">', "#gone leads to no place in that file"),
        ('<a href="index.html#gone">', "index.html#gone leads to no place in that file"),
        ('<a href="_static/a%20style.css#x">', "_static/a%20style.css#x leads to no place in"),
        ('<img src="gone.png">', "gone.png leads to no file"),
        ('<script src="gone.js">', "gone.js leads to no file"),
        ('<link href="gone.css">', "gone.css leads to no file"),
        ('<script src="https://example.org/a.js">', "a.js is loaded from elsewhere"),
        ('<link href="//example.org/a.css">', "//example.org/a.css is loaded from elsewhere"),
    ],
)
def test_what_leads_nowhere_is_told_with_its_page(tmp_path, tag, fault):
    status, (line,) = checked(built(tmp_path, bad=tag))
    assert status == 1
    assert line.startswith("bad.html: ")
    assert fault in line


def test_every_fault_is_told(tmp_path):
    status, lines = checked(built(tmp_path, a='<a href="x">', b='<a href="y"><a href="#z">'))
    assert status == 1
    assert [line.split(" leads")[0] for line in lines] == ["a.html: x", "b.html: y", "b.html: #z"]


def test_a_folder_without_pages_is_no_site(tmp_path):
    status, (line,) = checked(tmp_path)
    assert status == 1
    assert line.endswith("has no pages")


def test_the_links_of_the_search_are_made_by_scripts(tmp_path):
    status, _ = checked(built(tmp_path, search='<a href="gone.html">'))
    assert status == 0
