"""Check that no import of packseq points up.

    python tools/check_imports.py

A file may import from any floor below its own, and from no other file of its own floor: then each
can be read with what is below it alone. An import inside a function, for types only or by a string
counts like any other, as does a cimport.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# From the top down: the files of a floor, from the package's folder and without their suffix, and
# what they are. A new file has to find its floor here.
FLOORS = [
    ("__main__", "python -m packseq"),
    ("cli", "the packseq command"),
    ("__init__", "the public names"),
    ("torch/__init__", "the public names of torch"),
    ("torch/models", "torch models sped up in place"),
    ("torch/reports", "what was replaced in a model, and what was not and why"),
    ("torch/dropins", "the classes that replace those of a model's layers"),
    ("torch/calls", "one call of a layer: run here, or a reason why not"),
    ("torch/records", "what is kept of a layer: its packed weights, what became of its calls"),
    ("torch/layers", "what torch's layers are here"),
    ("torch/batches", "packed batches to and from torch's"),
    ("tables/command", "the options of packseq run for tables"),
    ("tables/running", "packseq.run"),
    ("tables/ray_engine", "a job's parts on Ray"),
    ("tables/jobs", "a job: its parts, where they go, and which are done"),
    ("tables/pipeline tables/sinks tables/progress", "pieces predicted in order, written, counted"),
    ("tables/sources", "files of tables in parts and pieces"),
    ("predict/predictor", "a callable from Arrow to Arrow"),
    ("predict/computing", "what a model makes of sequences, some of like length at a time"),
    ("predict/models predict/sequences", "what is computed with, and of what"),
    ("weights/__init__", "the public names of weights"),
    ("weights/onnx/splitting", "an ONNX model cut in three"),
    ("weights/store", "modules and files: load, save, convert"),
    ("weights/making", "a module of what a file holds and the caller says"),
    ("weights/formats", "which reader a file is for"),
    ("weights/backward", "a module that runs back in time alone, as a file may have"),
    ("weights/npz weights/safetensors_file", "readers of the small formats, of one file each"),
    (
        "weights/onnx/model weights/keras/model weights/torch/zip_file weights/torch/legacy "
        "weights/parts weights/renaming",
        "readers of the others; what puts parts of weights together; names given by the caller",
    ),
    ("weights/onnx/between weights/onnx/layers", "what is between two layers, and each of them"),
    ("weights/onnx/values", "what is known of a graph's values"),
    ("weights/onnx/folding", "values that follow from stored arrays"),
    ("weights/onnx/nodes", "a recurrent node: its attributes, inputs and weights"),
    ("weights/onnx/tensors weights/onnx/protobuf", "ONNX's arrays, and messages by their fields"),
    ("weights/keras/places", "where the arrays of a layer of Keras's are"),
    ("weights/keras/config weights/keras/hdf5", "Keras's description of a model, and its arrays"),
    ("weights/keras/hdf5_attributes weights/keras/hdf5_datasets", "what HDF5 says of an object"),
    ("weights/keras/hdf5_chunks weights/keras/hdf5_types", "chunks and numbers of HDF5"),
    ("weights/keras/hdf5_structure", "objects and links of HDF5, read without its library"),
    ("weights/torch/script", "what the code of a TorchScript program says"),
    ("weights/torch/tree", "a pickle's tensors by their dotted names"),
    ("weights/torch/quantised", "packed weights under the plain layer's names"),
    ("weights/canonical", "the one mapping that every format becomes"),
    ("weights/torch/tensors", "tensors and NumPy's arrays, as pickles describe them"),
    ("weights/int8", "weights of 8 bits as other libraries write them"),
    ("weights/torch/pickles", "torch's pickles, read without running them"),
    (
        "weights/archive weights/arrays weights/gates weights/strict_json weights/writing",
        "what readers share: zip files, arrays, gate orders, JSON, writing",
    ),
    ("weights/beside", "files that are mapped, and files beside a checkpoint"),
    ("weights/limits", "what a file may cost"),
    ("weights/errors", "what is wrong with a file"),
    (
        "functional linear_layer combining comparing interchange batching plotting",
        "what is done with packed batches",
    ),
    ("columns costs", "Arrow's columns of sequences, and what packing saves"),
    (
        "networks/modules networks/cells networks/streams",
        "RNN, GRU and LSTM, one step of each, and many live sessions of one",
    ),
    ("networks/typed_calls", "what the modules' calls give, to type checkers"),
    ("networks/recurrent", "what the modules share: the one way through a call"),
    ("networks/plain_tensors", "the short way of plain calls, for tensors"),
    ("networks/runners", "which runner takes a call"),
    ("networks/kernels networks/offload", "runners: the kernels, and arrays through a GPU"),
    ("networks/torch_layers", "the same calls in torch"),
    ("networks/parameters", "named, read-only weights"),
    ("networks/engines", "weights as this process's engine reads them"),
    ("networks/state_dicts", "what a state dict says"),
    (
        "networks/prepack networks/blas networks/rounding",
        "weights in the kernels' order, in BLAS's, and of fewer bits",
    ),
    ("networks/call", "one call, and the contract of whoever runs it"),
    ("networks/arguments", "checks of what modules and cells take"),
    ("networks/architecture", "what a network is, apart from its weights"),
    ("layout", "pack, pad, unpack: checks, then one call down"),
    ("packed", "PackedSequence: thin methods over rows/"),
    ("reductions", "its sums, extremes and softmax"),
    ("rowwise", "its rows under NumPy's operators and functions"),
    ("rows/joining", "several packed batches made one"),
    ("rows/movers", "the contract of the two movers, and which one rows need"),
    ("rows/tensors", "rows moved between layouts of tensors"),
    ("rows/arrays", "rows moved between layouts of arrays"),
    ("rows/along", "what is done to each row along its axes"),
    (
        "rows/moving rows/reducing rows/elementwise rows/products rows/ragged rows/picture "
        "rows/indexing rows/lists",
        "what is done to packed rows, as functions of rows and their plan",
    ),
    ("rows/plan", "what lengths alone decide: order, steps, offsets"),
    (
        "settings/config settings/threadpools",
        "what this build is, and what it runs on; threadpoolctl's way to the threads",
    ),
    ("settings/backend settings/threads settings/isa", "what a process sets"),
    ("arguments", "checks of arguments that are arrays, or that say how one is cut"),
    ("tensor_checks", "what is asked of tensors, without importing torch"),
    (
        "checks halves optional version operators",
        "checks of single arguments, half precision, libraries that may be missing, operators with "
        "their types",
    ),
    ("_core/plain _core/streams", "the short way of plain calls; states of live sessions"),
    ("_core/blas", "the recurrent layers on BLAS"),
    ("_core/cells", "one step of each cell on BLAS"),
    (
        "_core/recurrent _core/segments _core/rows",
        "the kernels, walks over the steps of each sequence, rows moved as bytes",
    ),
    ("_core/pool _core/order _core/gemm", "threads, the order of a batch, products by BLAS"),
    (
        "_core/__init__ networks/__init__ predict/__init__ rows/__init__ settings/__init__ "
        "tables/__init__ weights/keras/__init__ weights/onnx/__init__ weights/torch/__init__",
        "what a folder has, in words: importing it must bring nothing else",
    ),
]
FLOOR_OF = {name: floor for floor, (names, _) in enumerate(FLOORS) for name in names.split()}

PACKAGE = Path(__file__).parents[1] / "src" / "packseq"
SUFFIXES = (".py", ".pyi", ".pyx", ".pxd")
# The one file that may import a module by a name that it does not know.
LOADER = "optional"


class Import(NamedTuple):
    """A module's full name, and a name in it, which may be a module too, or a variable."""

    line: int
    module: str
    name: str = ""


def main() -> int:
    arrows, faults = check(PACKAGE)
    print(*faults, sep="\n", end="\n" if faults else "")
    up = sum(not _points_down(*arrow) for arrow in arrows)
    print(f"{len(arrows)} arrows between files, {up} of them up")
    return 1 if faults else 0


def check(package: Path) -> tuple[set[tuple[str, str]], list[str]]:
    """The arrows (from, to) between the files of a package, and what is wrong, by file and line."""
    files = sorted(path for path in package.rglob("*") if path.suffix in SUFFIXES)
    modules = {_module(path, package) for path in files}
    arrows, faults = set(), []
    for path in files:
        source = _module(path, package)
        if source not in FLOOR_OF:
            faults.append(f"{path}:1: has no floor in tools/check_imports.py")
            continue
        for each in sorted(imports_of(path, package)):
            target = _target(each, package.name, modules)
            if target is not None and target != source:
                arrows.add((source, target))
            if fault := _fault(source, target, each, package.name):
                faults.append(f"{path}:{each.line}: {fault}")
    return arrows, faults


def _module(path: Path, package: Path) -> str:
    """A file's name in FLOORS: a stub and a declaration are at home where their module is."""
    return path.relative_to(package).with_suffix("").as_posix()


def _target(each: Import, package: str, modules: set[str]) -> str | None:
    """The file that an import reads, or None where it is none of the package's."""
    top, *folders = each.module.split(".")
    if top != package:
        return None
    for parts in ([*folders, each.name], folders, [*folders, "__init__"]):
        if "/".join(parts) in modules:
            return "/".join(parts)
    return None


def _fault(source: str, target: str | None, each: Import, package: str) -> str | None:
    if target is not None:
        return None if _points_down(source, target) else f"imports {target}: this points up"
    if not each.module and source != LOADER:
        return "imports a module whose name only the run shows; optional.py may, for libraries"
    if each.module.split(".")[0] == package:
        return f"imports {each.module}, which is no file of the package"
    return None


def _points_down(source: str, target: str) -> bool:
    """Whether a file may import another; what has no floor is a fault of its own."""
    return source == target or FLOOR_OF[source] < FLOOR_OF.get(target, len(FLOORS))


# ---- what a file imports ----


def imports_of(path: Path, package: Path) -> Iterator[Import]:
    """All imports of a file, of this package and of others."""
    text = path.read_text(encoding="utf-8")
    folder = [package.name, *path.relative_to(package).parent.parts]
    if path.suffix in (".pyx", ".pxd"):
        yield from _cython_imports(text, folder)
        return
    for node in ast.walk(ast.parse(text, str(path))):
        yield from _python_imports(node, folder)


def _absolute(module: str, folder: list[str]) -> str:
    """A module's full name from what a file in `folder` calls it, with a dot for each folder up."""
    name = module.lstrip(".")
    level = len(module) - len(name)
    base = folder[: len(folder) - level + 1] if level else []
    return ".".join([*base, *filter(None, [name])])


def _python_imports(node: ast.AST, folder: list[str]) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(node.lineno, alias.name)
    elif isinstance(node, ast.ImportFrom):
        module = _absolute("." * node.level + (node.module or ""), folder)
        for alias in node.names:
            yield Import(node.lineno, module, alias.name)
    elif isinstance(node, ast.Call):
        yield from _import_by_string(node, folder)


def _import_by_string(call: ast.Call, folder: list[str]) -> Iterator[Import]:
    """``import_module``, ``__import__``, and ``load`` of optional.py, which is for libraries."""
    called = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if called not in ("import_module", "__import__", "load") or not call.args:
        return
    name = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
    if isinstance(name, str):
        yield Import(call.lineno, _absolute(name, folder))
    elif called != "load":  # checkpoints are loaded too, from a path
        yield Import(call.lineno, "")


_CYTHON = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<module>[\w.]+)[ \t]+c?import[ \t]+(?P<names>\([^)]*\)|[^\n#]*)"
    r"|c?import[ \t]+(?P<modules>[^\n#]*))",
    re.MULTILINE,
)


def _cython_imports(text: str, folder: list[str]) -> Iterator[Import]:
    for match in _CYTHON.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        for entry in (match["names"] or match["modules"]).strip("() \t\n").split(","):
            name = (entry.split() or [""])[0]  # without what follows "as"
            if match["module"]:
                yield Import(line, _absolute(match["module"], folder), name)
            elif name:
                yield Import(line, name)


if __name__ == "__main__":
    sys.exit(main())
