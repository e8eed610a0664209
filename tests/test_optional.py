"""A library that is missing: the line that installs it names packages that can be had anywhere."""

import re
from importlib import metadata
from pathlib import Path

import pytest

from packseq.optional import load

ROWS = [
    "numpy>=2.0",
    'onnx>=1.15; extra == "weights"',
    'h5py>=3.10; extra == "weights"',
    'pyarrow>=16; extra == "run"',
    'packseq[run]; extra == "ray"',
    'ray[data]>=2.40; extra == "ray"',
    'packseq[weights,ray]; extra == "all"',
]


def said(name, extra):
    with pytest.raises(ImportError) as caught:
        load(name, extra)
    assert caught.value.name == name
    return str(caught.value)


@pytest.mark.parametrize(
    ("extra", "packages"),
    [
        ("weights", '"onnx>=1.15" "h5py>=3.10"'),
        ("ray", '"pyarrow>=16" "ray[data]>=2.40"'),
        ("all", '"onnx>=1.15" "h5py>=3.10" "pyarrow>=16" "ray[data]>=2.40"'),
    ],
)
def test_what_an_extra_asks_for(extra, packages, monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: ROWS)
    assert said("no_such.part", extra) == f"this needs no_such: pip install {packages}"


@pytest.mark.parametrize("rows", [None, ROWS])
def test_an_extra_that_nothing_is_known_of(rows, monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: rows)
    assert said("no_such", "unheard-of") == "this needs no_such: pip install no_such"


def test_a_package_that_was_not_installed(monkeypatch):
    def requires(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert said("no_such", "weights") == "this needs no_such: pip install no_such"


@pytest.mark.parametrize("extra", ["weights", "plot", "arrow", "run", "ray", "awkward", "torch"])
def test_the_extras_of_this_package(extra):
    assert re.fullmatch(
        r'this needs no_such: pip install( "(?!packseq)[a-z0-9\[\]]+>=[\d.]+")+',
        said("no_such", extra),
    )


def test_a_fault_in_a_library_that_is_there(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import what_it_lacks")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'what_it_lacks'"):
        load("broken_library", "weights")


@pytest.mark.parametrize("page", ["README.md", "docs/checkpoints.md", "docs/scale.md"])
def test_the_lines_of_the_docs(page):
    path = Path(__file__).parents[1] / page
    lines = re.findall(r"pip install ([^#`\n]+)", path.read_text())
    assert lines
    assert not [line for line in lines if "packseq" in line]
