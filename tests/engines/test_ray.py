"""Ray Data: the same bits for any blocks and actors, and nothing lost or doubled where one dies."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import gru, sequences_of, table_of

import packseq
from packseq import cli
from packseq.predict.predictor import RowError

ray = pytest.importorskip("ray", reason="the engine")


# Ray's own.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two workers, and a place for the tasks that read."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    pytest.importorskip("ray.data")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def read(path):
    return pa.concat_tables([pq.read_table(each) for each in sorted(Path(path).glob("part-*"))])


# ---- packseq run --engine ray --------------------------------------------------------------------


@pytest.mark.parametrize("actors", [1, 2])
@pytest.mark.parametrize("part_bytes", [1, 1 << 30])
def test_parts_on_actors_are_the_embedded_run(
    model, source, table, same, tmp_path, actors, part_bytes
):
    ran = packseq.run(
        model, source, tmp_path / "out", "x", engine="ray", actors=actors, part_bytes=part_bytes
    )
    assert (ran.rows, ran.rejected) == (60, 0)
    result = read(tmp_path / "out")
    same(result)
    assert result["id"].equals(table["id"])
    packseq.run(model, source, tmp_path / "embedded", "x", part_bytes=part_bytes)
    for path in (tmp_path / "embedded").iterdir():
        assert pq.read_table(tmp_path / "out" / path.name).equals(pq.read_table(path))


def test_the_command(model, source, same, tmp_path):
    arguments = [
        "run",
        model,
        "--input",
        source,
        "--output",
        str(tmp_path / "out"),
        "--column",
        "x",
    ]
    assert cli.main([*arguments, "--engine", "ray", "--actors", "2"]) == 0
    same(read(tmp_path / "out"))


def test_the_command_alone_starts_a_cluster_of_its_own(model, source, same, tmp_path):
    """Which nobody else can reach; and on standard error there are warnings and the sum."""
    options = ["--input", source, "--output", str(tmp_path / "out"), "--column", "x"]
    environment = driver_environment()
    del environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]
    ran = subprocess.run(
        [sys.executable, "-c", COMMAND, "run", model, *options, "--engine", "ray"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "127.0.0.1\n"
    assert "60 rows" in ran.stderr
    for noise in ("Execution plan", "Total Progress", "Progress bars disabled"):
        assert noise not in ran.stderr
    same(read(tmp_path / "out"))


COMMAND = """
import sys
from packseq import cli

code = cli.main(sys.argv[1:])
import ray
print(ray.util.get_node_ip_address())
sys.exit(code)
"""


def test_an_actor_that_is_killed_while_it_writes(model, table, same, tmp_path):
    """It has written some pieces of its part: with its one thread it computes three of eight ahead,
    so that the fourth comes after the first is in the file."""
    (tmp_path / "in").mkdir()
    for name, rows in (("a", table.slice(0, 32)), ("b", table.slice(32))):
        with pa.ipc.new_file(tmp_path / "in" / f"{name}.arrow", rows.schema) as writer:
            writer.write_table(rows, max_chunksize=4)
    out, flag = tmp_path / "out", tmp_path / "killed"

    def head(rows):
        if not flag.exists() and any(out.glob(".*.part")):
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return rows

    options = {"engine": "ray", "actors": 2, "sort_window": 1, "head": head}
    assert packseq.run(model, tmp_path / "in", out, "x", **options).rows == 60
    assert flag.exists()
    same(read(out))
    assert not list(out.glob(".*"))


# It takes its actor with it, or what that does in its last moments would be left to chance.
DRIVER = """
import os, signal, sys
import packseq

model, source, out = sys.argv[1:]
driver = os.getpid()

def head(rows):
    if any(name.startswith("part-") for name in os.listdir(out)):
        os.kill(driver, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return rows

packseq.run(model, source, out, "x", engine="ray", actors=1, part_bytes=1, head=head)
"""


def driver_environment(**more):
    """Of a process that does not see the cluster of the tests."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | more


def test_a_driver_that_is_killed_and_its_job_resumed(model, source, same, tmp_path):
    out = str(tmp_path / "out")
    command = [sys.executable, "-c", DRIVER, model, source, out]
    ran = subprocess.run(command, env=driver_environment(), capture_output=True)
    assert ran.returncode == -signal.SIGKILL, ran.stderr.decode()
    done = {path.name: path.read_bytes() for path in Path(out).glob("part-*")}
    assert len(done) == 1

    def head(rows):
        return rows

    head.__qualname__ = "head"  # as the driver's
    ran = packseq.run(
        model, source, out, "x", engine="ray", actors=2, part_bytes=1, head=head, resume=True
    )
    (first,) = done
    assert ran.rows == 60 - pq.read_metadata(Path(out) / first).num_rows
    same(read(out))
    assert (Path(out) / first).read_bytes() == done[first]


JOINING = """
import sys
import packseq

packseq.run(*sys.argv[1:], "x", engine="ray", actors=1)
"""


def test_a_cluster_that_is_there_is_joined(model, source, same, tmp_path):
    """As a driver of Ray's jobs is told of it."""
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", JOINING, model, source, str(tmp_path / "out")]
    environment = driver_environment(RAY_ADDRESS=address)
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert address in ran.stderr
    same(read(tmp_path / "out"))


def test_more_actors_than_cpus_wait_for_nothing(model, source, same, tmp_path):
    packseq.run(model, source, tmp_path / "out", "x", engine="ray", actors=6, part_bytes=1)
    same(read(tmp_path / "out"))


@pytest.mark.parametrize("actors", [0, -1])
def test_actors_are_checked_before_anything_starts(model, source, tmp_path, actors, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: pytest.fail("a cluster was looked for"))
    with pytest.raises(ValueError, match="actors must be at least 1"):
        packseq.run(model, source, tmp_path / "out", "x", engine="ray", actors=actors)


def poisoned(folder):
    sequences = sequences_of([3, 2, 4, 1, 2])
    sequences[2][1, 0] = np.nan
    sequences[4] = None
    pq.write_table(table_of(sequences), folder / "in.parquet")
    return folder / "in.parquet"


def test_bad_rows_are_put_aside_and_do_not_end_the_job(model, tmp_path):
    options = {"engine": "ray", "rejects": tmp_path / "bad"}
    ran = packseq.run(model, poisoned(tmp_path), tmp_path / "out", "x", **options)
    assert (ran.rows, ran.rejected) == (5, 2)
    assert read(tmp_path / "out")["id"].to_pylist() == [0, 1, 3]
    bad = read(tmp_path / "bad")
    assert bad["packseq_row"].to_pylist() == [2, 4]
    assert set(bad["packseq_file"].to_pylist()) == {str(tmp_path / "in.parquet")}


def test_a_bad_row_is_told_with_its_file_and_row(model, tmp_path):
    with pytest.raises(RowError, match=r"in\.parquet, row 2: 'x' has nan"):
        packseq.run(model, poisoned(tmp_path), tmp_path / "out", "x", engine="ray")


# ---- Predictor in map_batches, as docs/scale.md has it -------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, None])
@pytest.mark.parametrize("actors", [1, 2])
def test_a_predictor_in_map_batches(model, source, same, batch_size, actors):
    rows = ray.data.read_parquet(source).map_batches(
        packseq.Predictor,
        fn_constructor_args=(model, "x"),
        batch_format="pyarrow",
        batch_size=batch_size,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
    )
    same(pa.concat_tables(ray.get(rows.to_arrow_refs())))


@pytest.mark.parametrize("batch_size", [1, None])
def test_a_bad_row_in_map_batches_ends_nothing(model, tmp_path, batch_size):
    rows = ray.data.read_parquet(str(poisoned(tmp_path))).map_batches(
        packseq.Predictor,
        fn_constructor_args=(model, "x"),
        fn_constructor_kwargs={"errors": "why"},
        batch_format="pyarrow",
        batch_size=batch_size,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    found = {row["id"]: (row["prediction"] is None, row["why"]) for row in rows.take_all()}
    reasons = {2: "has nan, which is no finite float32, at step 1", 4: "is null"}
    assert found == {row: (row in reasons, reasons.get(row)) for row in range(5)}


def test_large_lists_and_lists_of_lists_go_through(model, table, same):
    for kind in (pa.large_list(pa.list_(pa.float32(), 3)), pa.list_(pa.list_(pa.float32()))):
        column = table["x"].cast(kind)
        rows = ray.data.from_arrow(table.set_column(1, "x", column)).map_batches(
            packseq.Predictor(model, "x"), batch_format="pyarrow", batch_size=16, num_cpus=1
        )
        same(pa.concat_tables(ray.get(rows.to_arrow_refs())))


def test_an_actor_of_one_cpu_takes_one_thread():
    def threads(batch):
        return {"threads": [packseq.get_num_threads()]}

    rows = ray.data.range(1).map_batches(threads, num_cpus=1).take_all()
    assert rows == [{"threads": 1}]


def test_an_actor_loads_its_model_once(model, source, same, tmp_path):
    path = Path(shutil.copy(model, tmp_path))

    def head(rows):
        path.unlink(missing_ok=True)  # once it has been loaded
        return rows

    rows = ray.data.read_parquet(source).map_batches(
        packseq.Predictor,
        fn_constructor_args=(str(path), "x"),
        fn_constructor_kwargs={"head": head},
        batch_format="pyarrow",
        batch_size=7,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    same(pa.concat_tables(ray.get(rows.to_arrow_refs())))
    assert not path.exists()


def test_a_module_travels_as_its_weights(table, same, model):
    rows = ray.data.from_arrow(table).map_batches(
        packseq.Predictor,
        fn_constructor_args=(gru(), "x"),
        batch_format="pyarrow",
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    same(pa.concat_tables(ray.get(rows.to_arrow_refs())))
