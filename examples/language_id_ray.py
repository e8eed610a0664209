"""Which language is each of many lines written in? On a local cluster of Ray, and without one.

    python examples/language_id_ray.py

The held-out lines are written as a folder of Parquet parts, each line a list of its bytes. The
model of language_id.py reads them as ids: `packseq.run` looks up its embedding, runs its LSTM and
applies its linear layer, once in this process and once on two actors of Ray; both must say the
same. So few lines are done before Ray has started: it is for tables of some minutes and more.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import packseq

HERE = Path(__file__).parent
MODEL = HERE / "language_id.safetensors"
PARTS = 6


def write_parts(lines, truth, folder):
    """Files of some lines each, so that actors have something to share out."""
    for number, rows in enumerate(np.array_split(np.arange(len(lines)), PARTS)):
        table = pa.table(
            {
                "id": rows,
                "language": [truth[row] for row in rows],
                "bytes": pa.array([list(lines[row]) for row in rows], pa.list_(pa.uint8())),
            }
        )
        pq.write_table(table, folder / f"{number}.parquet")


def predicted(source, sink, engine):
    ran = packseq.run(
        MODEL,
        source,
        sink,
        "bytes",
        prefix="lstm.",
        embedding="embedding.weight",
        head="linear",
        argmax=True,
        engine=engine,
        **({"actors": 2} if engine == "ray" else {}),
    )
    print(f"  {engine:<9} {ran.rows:,} lines, {ran.steps:,} bytes in {ran.seconds:.2f} s")
    return pa.concat_tables([pq.read_table(path) for path in sorted(sink.glob("part-*"))])


def set_up_ray():
    """What Ray asks the environment of when it is imported: its cluster listens on the loopback
    address alone, behind a token. The error that it logs is one that all of its data sets log."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")


def main():
    set_up_ray()
    rows = [
        row.split("\t") for row in (HERE / "held_out.tsv").read_text(encoding="utf-8").splitlines()
    ]
    lines = [text.encode() for _, text in rows]
    recorded = json.loads((HERE / "language_id.json").read_text())
    with MODEL.open("rb") as file:  # the free metadata of its header
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    languages = header["__metadata__"]["languages"].split()

    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "in"
        source.mkdir()
        write_parts(lines, [language for language, _ in rows], source)
        print(f"{len(lines):,} lines in {PARTS} files; {os.cpu_count()} cores")
        embedded = predicted(source, Path(name) / "embedded", "embedded")
        print("  the same on Ray, which takes some seconds to start:", flush=True)
        on_ray = predicted(source, Path(name) / "ray", "ray")
    if not on_ray.equals(embedded):
        raise SystemExit("the cluster says something else than the process alone")
    answers = np.array(languages)[embedded["prediction"].to_numpy()]
    correct = int((answers == np.array(embedded["language"].to_pylist())).sum())
    print(
        f"Both say the same of every line: {correct} of {len(lines)} correct"
        f" (training recorded {recorded['held_out_correct']})"
    )


if __name__ == "__main__":
    main()
