"""``packseq run --column``: options for tables, and what they do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from packseq.predict.predictor import NULLS, OUTPUTS
from packseq.tables import ray_engine
from packseq.tables.running import run
from packseq.tables.sources import SUFFIXES

# Options that a table has and other input has not, with their defaults.
_OPTIONS = (
    *("take", "name", "embedding", "head", "argmax", "nulls", "keep"),
    *("max_steps", "sort_window", "part_bytes", "threads", "rejects", "resume"),
    *("engine", "address", "actors"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add a group of options to those of ``packseq run``."""
    group = parser.add_argument_group(
        "tables",
        "With --column, input is Parquet or Arrow IPC, a folder or a glob, or - for a "
        "stream of Arrow IPC.",
    )
    add = group.add_argument
    add("--column", help="the column of sequences")
    add("--take", choices=OUTPUTS, help="last state (the default), mean, max or all steps")
    add("--name", help="of the new column; prediction by default")
    add("--embedding", metavar="ARRAY", help="of ids: the name of its rows in FILE")
    add("--head", metavar="PREFIX", help="of a linear layer in FILE: PREFIX.weight, PREFIX.bias")
    add("--argmax", action="store_true", default=None, help="write the place of the greatest")
    add("--nulls", choices=NULLS, help="what a null is: an error (the default), or a null again")
    add("--keep", action="store_true", default=None, help="keep the sequences")
    add("--max-steps", type=int, help="steps that are computed together")
    add("--sort-window", type=int, help="steps that are looked at for rows of like length")
    add("--part-bytes", type=int, help="of the input, that are done or lost together")
    add("--threads", type=int, help="all cores by default")
    add("--rejects", metavar="FOLDER", help="put rows there that cannot be run")
    add("--resume", action="store_true", default=None, help="keep the parts that are there")
    add("--engine", choices=("embedded", "ray"), help="embedded by default")
    add("--address", help="of the Ray cluster; by default RAY_ADDRESS, or one of its own")
    add("--actors", type=int, help="on Ray; one for each CPU by default")


def given(options: argparse.Namespace) -> dict[str, Any]:
    """Those of a table's options that have been given."""
    values = {name: getattr(options, name) for name in _OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


def check_none(options: argparse.Namespace) -> None:
    """Refuse tables and their options where no column is named.

    Raises
    ------
    ValueError
        One is given without ``--column``.
    """
    if Path(options.input).suffix in SUFFIXES or Path(options.input).is_dir():
        raise ValueError(f"{options.input} holds tables: --column says what is to be run of them")
    for name in given(options):
        raise ValueError(f"--{name.replace('_', '-')} belongs to a table: --column says which")


def run_table(options: argparse.Namespace) -> None:
    """``packseq run FILE --input IN --output OUT --column NAME``.

    Raises
    ------
    ValueError, TypeError, OSError, ImportError
        As for :func:`packseq.run`.
    """
    if options.lengths is not None:
        raise ValueError("--lengths belongs to a padded .npy; a column has lists")
    wanted = given(options)
    renamed = {"take": "output", "threads": "num_threads"}
    load = ("prefix", "nonlinearity", "recurrent_activation", "reset_after")
    wanted |= {name: value for name in load if (value := getattr(options, name)) is not None}
    if options.engine == "ray" and ray_engine.address_of(options.address) is None:
        ray_engine.keep_to_this_machine()  # nothing else is in this process
    ran = run(
        options.file,
        options.input,
        options.output,
        options.column,
        force=options.force,
        bar=True,
        **{renamed.get(name, name): value for name, value in wanted.items()},
    )
    aside = f"; {ran.rejected:,} rows put aside" if ran.rejected else ""
    rate = ran.steps / ran.seconds if ran.seconds else 0
    done = f"{ran.rows:,} rows, {ran.steps:,} steps in {ran.seconds:.1f} s"
    print(f"{done}, {rate:,.0f} steps/s{aside}", file=sys.stderr)
