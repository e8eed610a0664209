"""No import of the package points up: the house as it is, and faults that the check must find."""

import importlib.util
import re
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "check_imports.py"
if not TOOL.exists():
    pytest.skip("the package is tested without its source", allow_module_level=True)


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("check_imports", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def faults_of(tool, tmp_path):
    """What is wrong with a package of these files, from its own folder."""

    def faults(**files):
        package = tmp_path / "packseq"
        for name, text in {"checks.py": "", "packed.py": "", "layout.py": "", **files}.items():
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        _, found = tool.check(package)
        return [fault.removeprefix(f"{package}/") for fault in found]

    return faults


def test_no_import_points_up(tool):
    arrows, faults = tool.check(tool.PACKAGE)
    assert faults == []
    assert ("layout", "packed") in arrows
    assert ("rows/movers", "rows/tensors") in arrows  # inside a function
    assert ("_core/segments", "_core/pool") in arrows  # a cimport
    assert ("weights/onnx/layers", "weights/gates") in arrows  # relative
    assert ("__init__", "weights/__init__") in arrows


def test_contributing_has_the_floors_in_their_order(tool):
    text = (TOOL.parents[1] / "CONTRIBUTING.md").read_text()
    rows = [re.findall(r"`(.+?)`", row) for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)]
    inits = tool.FLOORS[-1][0].split()  # each beside its folder

    def has(row, name):
        return any(file.partition(".")[0] == name or name.startswith(file) for file in row)

    places = [
        [place for place, row in enumerate(rows) if has(row, name)]
        for name in tool.FLOOR_OF
        if name not in inits
    ]
    assert {len(place) for place in places} == {1}
    assert places == sorted(places)


def test_no_file_is_on_two_floors(tool):
    names = [name for names, _ in tool.FLOORS for name in names.split()]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    "line",
    [
        "from packseq.layout import pack_sequence",
        "from packseq import layout",
        "import packseq.layout as below",
        "from . import layout",
        "from .layout import pack_sequence",
        "def late():\n    from packseq import layout",
        "if TYPE_CHECKING:\n    import packseq.layout",
        "module = import_module('packseq.layout')",
        "module = importlib.import_module('.layout', __package__)",
        "module = __import__('packseq.layout')",
        "module = load('packseq.layout', 'torch')",
    ],
)
def test_an_import_that_points_up(faults_of, line):
    number = 2 + line.count("\n")
    assert faults_of(**{"packed.py": f"import os\n{line}\n"}) == [
        f"packed.py:{number}: imports layout: this points up"
    ]
    assert faults_of(**{"packed.py": "", "functional.py": f"import os\n{line}\n"}) == []


@pytest.mark.parametrize(
    "line",
    [
        "from packseq._core.recurrent cimport Network",
        "from packseq._core cimport recurrent",
        "from packseq._core cimport (\n    order,\n    recurrent)",
        "from .recurrent cimport Network",
        "cimport packseq._core.recurrent as above",
        "import numpy, packseq._core.recurrent",
        "def late():\n    from packseq._core import recurrent",
    ],
)
@pytest.mark.parametrize("suffix", ["pyx", "pxd"])
def test_a_cimport_that_points_up(faults_of, line, suffix):
    number = 3 if line.startswith("def") else 2
    files = {"_core/order.pyx": "", "_core/recurrent.pyx": ""}
    files[f"_core/order.{suffix}"] = f"cimport cython\n{line}\n"
    assert faults_of(**files) == [
        f"_core/order.{suffix}:{number}: imports _core/recurrent: this points up"
    ]


def test_an_import_on_the_same_floor(faults_of):
    files = {"combining.py": "", "functional.py": "from packseq.combining import windows\n"}
    assert faults_of(**files) == ["functional.py:1: imports combining: this points up"]


def test_an_import_by_a_name_that_only_the_run_shows(faults_of):
    text = "def find(name):\n    return import_module(name)\n"
    (fault,) = faults_of(**{"packed.py": text})
    assert fault.startswith("packed.py:2: imports a module whose name only the run shows")
    assert faults_of(**{"packed.py": "", "optional.py": text}) == []


def test_a_file_without_a_floor(faults_of):
    assert faults_of(**{"news.py": ""}) == ["news.py:1: has no floor in tools/check_imports.py"]


def test_an_import_of_what_is_not_there(faults_of):
    assert faults_of(**{"layout.py": "from packseq.rows.plan import Plan\n"}) == [
        "layout.py:1: imports packseq.rows.plan, which is no file of the package"
    ]
