"""The ``packseq`` command: look into a checkpoint, convert it, run it on a file of sequences."""

import argparse
import contextlib
import io
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import packseq
from packseq import weights
from packseq.halves import is_half
from packseq.networks.architecture import LOADED_PRECISIONS, RECURRENT_ACTIVATIONS
from packseq.rows.plan import starts_of
from packseq.tables import command
from packseq.tables.sources import ARROW_MAGIC, PARQUET_MAGIC
from packseq.weights import formats
from packseq.weights.errors import library_errors
from packseq.weights.store import OF_AN_OPTIMIZER, modules_in
from packseq.weights.writing import check_suffix, replace_file

Array = NDArray[Any]

SEQUENCE_MODULES = (packseq.LSTM, packseq.GRU, packseq.RNN, weights.Backward)

# How files of .npz and .npy begin.
ARRAYS_MAGIC = (b"PK", b"\x93NUMPY")

# Rows are run this many at a time: enough to keep the kernels busy, little beside the file itself.
CHUNK_ROWS = 65536


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0; 1 where `inspect` finds no recurrent module; 2 with an error on stderr, of one line and the
    modules where one is to be chosen; 1 and no word where whoever reads stdout has gone, as
    ``head`` does; 130 after Ctrl-C, as in a shell.
    """
    options = parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may have what a terminal's locale lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status: int = options.command(options) or 0
        print(end="", flush=True)
    except BrokenPipeError:
        discard_stdout()
        return 1
    except KeyboardInterrupt:
        return 130
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        tell(str(error))
        return 2
    return status


def discard_stdout() -> None:
    """What is still buffered has nowhere to go, and Python would complain of it at exit."""
    with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def parser() -> argparse.ArgumentParser:
    """The three commands and their options; without any, the configuration is shown."""
    top = argparse.ArgumentParser(
        prog="packseq",
        description="Look into a checkpoint, convert it, run it on a file of sequences. "
        "Without a command, show how packseq is configured.",
    )
    top.add_argument("--version", action="version", version=f"packseq {packseq.__version__}")
    top.set_defaults(command=run_nothing)
    commands = top.add_subparsers(metavar="COMMAND")

    inspect = commands.add_parser("inspect", help="list the modules and arrays in a checkpoint")
    inspect.add_argument("file", metavar="FILE")
    inspect.add_argument("--optimizer", action="store_true", help="list an optimizer's state too")
    inspect.set_defaults(command=run_inspect)

    convert = commands.add_parser("convert", help="write a checkpoint as safetensors")
    convert.add_argument("file", metavar="FILE")
    convert.add_argument("output", metavar="OUT.safetensors")
    convert.add_argument("--precision", choices=LOADED_PRECISIONS, help="of the weights")
    convert.add_argument("--force", action="store_true", help="overwrite OUT if it exists")
    convert.add_argument("--optimizer", action="store_true", help="write an optimizer's state too")
    convert.set_defaults(command=run_convert)

    run = commands.add_parser("run", help="run a checkpoint's module on a file of sequences")
    run.add_argument("file", metavar="FILE")
    run.add_argument(
        "--input",
        required=True,
        help=".npz with values (rows, features) and offsets (sequences + 1), "
        "or .npy padded to (sequences, steps, features); with --column, a table",
    )
    run.add_argument("--output", required=True, help="written in the form of the input")
    run.add_argument("--force", action="store_true", help="overwrite the output if it exists")
    run.add_argument("--lengths", help=".npy of the steps of each padded sequence")
    run.add_argument("--prefix", help="which module, as inspect lists it")
    run.add_argument("--nonlinearity", choices=("tanh", "relu"), help="of an RNN")
    run.add_argument(
        "--recurrent-activation", choices=RECURRENT_ACTIVATIONS, help="of an LSTM or GRU"
    )
    run.add_argument(
        "--reset-after",
        action=argparse.BooleanOptionalAction,
        help="whether a GRU applies r after the product, where the file does not say",
    )
    command.add_options(run)
    run.set_defaults(command=run_run)
    return top


def run_nothing(options: argparse.Namespace) -> None:
    """``packseq`` alone."""
    packseq.show_config()


def run_inspect(options: argparse.Namespace) -> int:
    """``packseq inspect FILE``."""
    whole, _ = formats.read(Path(options.file))
    checkpoint = whole if options.optimizer else whole.without_optimizer()
    modules = modules_in(checkpoint)
    for found in modules:
        print(escaped(str(found)))
    if not modules:
        print("no recurrent modules")
    for name, array in checkpoint.arrays.items():
        print(f"  {printable(name)} {array.shape} {array.dtype}")
    for name, reason in checkpoint.placeholders.items():
        print(f"  {name!r} {escaped(reason)}")
    if left_out := len(whole.arrays) - len(checkpoint.arrays):
        print(f"  and {left_out} arrays of the optimizer, which --optimizer lists")
    return 0 if modules else 1


def printable(name: str) -> str:
    """A name as it is, or quoted if it could write more than a name to a terminal."""
    return name if name.isprintable() else repr(name)


def run_convert(options: argparse.Namespace) -> None:
    """``packseq convert FILE OUT``."""
    check_output("OUT", Path(options.output), [options.file], options.force)
    check_suffix("OUT", Path(options.output), ".safetensors")
    left_out = weights.convert(
        options.file, options.output, optimizer=options.optimizer, precision=options.precision
    )
    for name, reason in left_out.items():
        if reason != OF_AN_OPTIMIZER:
            tell(f"left out {name!r}: {reason}")
    if count := [*left_out.values()].count(OF_AN_OPTIMIZER):
        tell(f"left out {count} arrays of the optimizer, which --optimizer writes")


def tell(text: str) -> None:
    """A line on stderr, or several."""
    print("packseq:", "\n".join(map(escaped, text.split("\n"))), file=sys.stderr)


def escaped(text: str) -> str:
    """Text of a file's, in which what could write more than text to a terminal is spelled out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def run_run(options: argparse.Namespace) -> None:
    """``packseq run FILE --input X --output Y``."""
    if options.column is not None:
        command.run_table(options)
        return
    command.check_none(options)
    output_path = Path(options.output)
    inputs = [options.file, options.input, *filter(None, [options.lengths])]
    check_output("--output", output_path, inputs, options.force)
    with warnings.catch_warnings(
        record=True, action="always", category=weights.CheckpointWarning
    ) as caught:
        module, hx = weights.load_with_state(
            options.file,
            options.prefix,
            nonlinearity=options.nonlinearity,
            recurrent_activation=options.recurrent_activation,
            reset_after=options.reset_after,
        )
    for warning in caught:
        tell(str(warning.message))
    if not isinstance(module, SEQUENCE_MODULES):
        raise ValueError(
            f"{options.file}: holds {module!r}, which runs one step; expected an LSTM, GRU or RNN"
        )
    batch = read_batch(Path(options.input), options.lengths)
    check_suffix("--output", output_path, ".npz" if batch.padded_length is None else ".npy")
    check_values(options.input, batch, module)
    output, states = run_batch(module, hx, batch)
    write_batch(output_path, batch, output, states)


def check_output(name: str, path: Path, inputs: Sequence[str], force: bool) -> None:
    """Refuse what cannot be written to, or should not be, before any work is done for it."""
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OSError(f"{name} {path} cannot be written")
    for each in inputs:
        if path.exists() and Path(each).exists() and path.samefile(each):
            raise ValueError(f"{name} {path} is an input, which would be lost")
    if path.is_file() and not force:
        raise ValueError(f"{name} {path} exists; --force overwrites it")


@dataclass(frozen=True)
class Batch:
    """Sequences end to end: sequence b is ``values[offsets[b] : offsets[b + 1]]``.

    `padded_length` is the T that they came padded to, or None.
    """

    values: Array
    offsets: NDArray[np.int64]
    padded_length: int | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1


def read_batch(path: Path, lengths: str | None) -> Batch:
    """The sequences of an ``.npz`` or ``.npy`` file, told apart by content."""
    arrays = read_arrays(path)
    if isinstance(arrays, np.ndarray):
        return read_padded(path, arrays, lengths)
    if missing := {"values", "offsets"} - arrays.keys():
        raise ValueError(f"{path}: holds no array {min(missing)!r}")
    values, offsets = arrays["values"], arrays["offsets"]
    if lengths is not None:
        raise ValueError("--lengths belongs to a padded .npy; offsets tell the lengths of an .npz")
    if values.ndim != 2:
        raise ValueError(f"{path}: values has shape {values.shape}; expected (rows, features)")
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or not len(offsets):
        raise ValueError(f"{path}: offsets is {offsets.dtype} of shape {offsets.shape}")
    if offsets[0] != 0 or offsets[-1] != len(values) or (offsets[1:] < offsets[:-1]).any():
        raise ValueError(f"{path}: offsets must rise from 0 to the {len(values)} rows of values")
    return Batch(values, offsets.astype(np.int64))


def check_values(path: str, batch: Batch, module: Any) -> None:
    """Refuse rows that the module does not take, by the name that they have in the file."""
    what = f"{path}: values" if batch.padded_length is None else f"{path}: the array"
    inner = module.module if isinstance(module, weights.Backward) else module
    if not is_half(batch.values) and batch.values.dtype.type not in (np.float32, np.float64):
        raise ValueError(f"{what} must be float32 or float64, got {batch.values.dtype}")
    if batch.values.shape[1] != inner.input_size:
        raise ValueError(
            f"{what} must have rows of input_size = {inner.input_size}, got {batch.values.shape[1]}"
        )


def read_arrays(path: Path) -> Array | dict[str, Array]:
    """The array of an ``.npy`` file or the arrays of an ``.npz``; never a pickle."""
    with path.open("rb") as file:
        head = file.read(6)
        file.seek(0)
        if head.startswith((PARQUET_MAGIC, ARROW_MAGIC)):
            raise ValueError(f"{path}: is a table; --column names its column of sequences")
        if not head.startswith(ARRAYS_MAGIC):
            raise ValueError(f"{path}: is neither .npz nor .npy, begins with {head!r}")
        with library_errors(str(path)):
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                return dict(loaded.items())


def read_padded(path: Path, padded: Array, lengths: str | None) -> Batch:
    """The sequences of a padded array (B, T, I), their padding left out."""
    if padded.ndim != 3:
        raise ValueError(f"{path}: shape {padded.shape}; expected (sequences, steps, features)")
    count, longest, features = padded.shape
    steps: Array | dict[str, Array] = np.full(count, longest)
    if lengths is not None:
        steps = read_arrays(Path(lengths))
    if not isinstance(steps, np.ndarray) or steps.shape != (count,) or steps.dtype.kind not in "iu":
        raise ValueError(f"{lengths}: expected {count} whole numbers, one per sequence")
    wrong = np.flatnonzero((steps < 0) | (steps > longest))
    if len(wrong):
        b = int(wrong[0])
        raise ValueError(f"{lengths}: sequence {b} has length {steps[b]}; expected 0 to {longest}")
    alive = np.arange(longest) < steps[:, None]
    offsets = starts_of(steps.astype(np.int64))
    return Batch(padded[alive].reshape(-1, features), offsets, longest)


def write_batch(path: Path, batch: Batch, output: Array, states: dict[str, Array]) -> None:
    """Write what came out in the form of what went in; an ``.npz`` also gets the last states."""
    if batch.padded_length is None:
        arrays: dict[str, Any] = {"values": output, "offsets": batch.offsets} | states
        replace_file(path, lambda file: np.savez(file, **arrays))
        return
    alive = np.arange(batch.padded_length) < np.diff(batch.offsets)[:, None]
    padded = np.zeros((*alive.shape, output.shape[1]), output.dtype)
    padded[alive] = output
    replace_file(path, lambda file: np.save(file, padded))


def run_batch(module: Any, hx: Any, batch: Batch) -> tuple[Array, dict[str, Array]]:
    """The module's output rows and last states, computed some sequences at a time."""
    outputs: list[Array] = []
    states: dict[str, list[Array]] = {}
    with progress(len(batch.values)) as report:
        for first, last in chunks(batch.offsets):
            spans = zip(batch.offsets[first:last], batch.offsets[first + 1 : last + 1], strict=True)
            packed = packseq.pack_sequence([batch.values[start:stop] for start, stop in spans])
            output, state = module(packed, state_of(hx, first, last, len(batch)))
            outputs += packseq.unpack_sequence(output)
            last_states = state if isinstance(state, tuple) else (state,)
            for name, value in zip(("h_n", "c_n"), last_states, strict=False):
                states.setdefault(name, []).append(value)
            report(int(batch.offsets[last]))
    if not outputs:
        raise ValueError("the input holds no sequence")
    return np.concatenate(outputs), {
        name: np.concatenate(parts, axis=1) for name, parts in states.items()
    }


def chunks(offsets: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of sequences of about CHUNK_ROWS rows, each of one sequence at least."""
    first, count = 0, len(offsets) - 1
    while first < count:
        fits = int(np.searchsorted(offsets, offsets[first] + CHUNK_ROWS, side="right")) - 1
        last = min(max(fits, first + 1), first + CHUNK_ROWS, count)
        yield first, last
        first = last


def state_of(hx: Any, first: int, last: int, count: int) -> Any:
    """The initial states of some of `count` sequences; a stored batch of 1 is for all."""
    if hx is None:
        return None
    if isinstance(hx, tuple):
        return tuple(state_of(part, first, last, count) for part in hx)
    layers, stored, width = hx.shape
    if stored == 1:
        return np.broadcast_to(hx, (layers, last - first, width))
    if stored != count:
        raise ValueError(f"the file stores states of {stored} sequences; the input has {count}")
    return hx[:, first:last]


@contextmanager
def progress(total: int) -> Iterator[Any]:
    """A bar on stderr, if that is a terminal and the work takes more than a second."""
    start = time.monotonic()
    shown = False

    def report(done: int) -> None:
        nonlocal shown
        if sys.stderr.isatty() and time.monotonic() - start > 1:
            part = done / max(total, 1)
            bar = "#" * round(40 * part)
            print(f"\r[{bar:<40}] {part:4.0%}", end="", file=sys.stderr, flush=True)
            shown = True

    try:
        yield report
    finally:
        if shown:
            print(file=sys.stderr)
