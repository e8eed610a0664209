"""``packseq.run`` and ``packseq run --column``: files of tables, in parts that survive a kill."""

import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import packseq
from packseq import Predictor, cli

pa = pytest.importorskip("pyarrow", reason="tables are its")

import pyarrow.parquet as pq  # noqa: E402
from tables import KINDS, gru, predictions, sequences_of, table_of  # noqa: E402

from packseq.predict.predictor import RowError  # noqa: E402

LENGTHS = np.random.default_rng(0).integers(0, 9, 60).tolist()


@pytest.fixture
def model(tmp_path):
    packseq.save(gru(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def table():
    return table_of(sequences_of(LENGTHS))


@pytest.fixture
def source(tmp_path, table):
    """Two files of six row groups together."""
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(table.slice(0, 25), folder / "a.parquet", row_group_size=10)
    pq.write_table(table.slice(25), folder / "b.parquet", row_group_size=15)
    return folder


def write(table, path):
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=10)
    elif path.suffix == ".arrows":
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=10)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=10)


def read(path):
    if path.is_dir():
        return pa.concat_tables([read(each) for each in sorted(path.glob("part-*"))])
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.suffix == ".arrows":
        with pa.ipc.open_stream(path) as reader:
            return reader.read_all()
    with pa.ipc.open_file(path) as reader:
        return reader.read_all()


def check(result, table, **options):
    """The rows of `table` once each and in order, with the bits of Predictor alone."""
    expected = Predictor(gru(), "x", **options)(table)
    assert result.column_names == expected.column_names
    assert result["id"].to_pylist() == table["id"].to_pylist()
    np.testing.assert_array_equal(predictions(result), predictions(expected))


# ---- formats and places --------------------------------------------------------------------------


@pytest.mark.parametrize("sink", ["out.parquet", "out.arrow", "out.arrows", "out", "new/folder"])
@pytest.mark.parametrize("part_bytes", [1, 1 << 30])
def test_a_folder_into_a_file_or_a_folder(model, source, table, tmp_path, sink, part_bytes):
    target = tmp_path / sink
    target.parent.mkdir(exist_ok=True)
    ran = packseq.run(model, source, target, "x", part_bytes=part_bytes, sort_window=7, max_steps=5)
    check(read(target), table)
    assert (ran.rows, ran.steps, ran.rejected) == (60, sum(LENGTHS), 0)
    assert not list(tmp_path.rglob("*.parts"))
    assert not list(tmp_path.rglob(".*.part"))


@pytest.mark.parametrize("name", ["in.parquet", "in.arrow", "in.feather", "in.arrows"])
def test_every_format_in(model, table, tmp_path, name):
    write(table, tmp_path / name)
    packseq.run(model, tmp_path / name, tmp_path / "out.parquet", "x", part_bytes=1)
    check(read(tmp_path / "out.parquet"), table)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"view", "large view of views", "double"}))
def test_every_type_in_parquet(model, tmp_path, kind):
    table = table_of(sequences_of(LENGTHS), kind)
    write(table, tmp_path / "in.parquet")
    packseq.run(model, tmp_path / "in.parquet", tmp_path / "out.parquet", "x")
    check(read(tmp_path / "out.parquet"), table)


def test_globs_lists_and_hidden_files(model, source, table, tmp_path):
    (source / "_notes.parquet").write_text("no table")
    (source / ".hidden").mkdir()
    (source / ".hidden" / "c.parquet").write_text("no table")
    for each in (source, f"{source}/[ab].parquet", [source / "a.parquet", source / "b.parquet"]):
        packseq.run(model, each, tmp_path / "out", "x", force=True)
        check(read(tmp_path / "out"), table)


def test_a_file_without_a_row(model, tmp_path):
    write(table_of([]), tmp_path / "in.parquet")
    ran = packseq.run(model, tmp_path / "in.parquet", tmp_path / "out.parquet", "x")
    assert ran.rows == 0
    assert read(tmp_path / "out.parquet").column_names == ["id", "prediction"]


def test_options_are_predictors(model, source, table, tmp_path):
    options = {"output": "mean", "name": "m", "keep": True, "num_threads": 1}
    packseq.run(model, source, tmp_path / "out", "x", **options)
    result = read(tmp_path / "out")
    assert result.column_names == ["id", "x", "m"]
    expected = Predictor(gru(), "x", **options)(table)
    np.testing.assert_array_equal(predictions(result, "m"), predictions(expected, "m"))


def test_nulls_come_back_from_parquet(model, tmp_path):
    first, last = sequences_of([3, 2])
    write(table_of([first, None, last]), tmp_path / "in.parquet")
    packseq.run(model, tmp_path / "in.parquet", tmp_path / "out.parquet", "x", nulls="null")
    result = read(tmp_path / "out.parquet")
    assert result["prediction"].is_null().to_pylist() == [False, True, False]


# ---- what was killed -----------------------------------------------------------------------------


def parts(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}


@pytest.mark.parametrize("sink", ["out", "out.parquet"])
def test_a_run_that_ends_in_the_middle_goes_on(model, source, table, tmp_path, sink, monkeypatch):
    target, folder = tmp_path / sink, tmp_path / (sink + ".parts" * ("." in sink))
    original = packseq.tables.pipeline.Worker.one

    def one(worker, piece):
        if piece.table["id"][0].as_py() >= 25:
            raise OSError("the disk is full")
        return original(worker, piece)

    monkeypatch.setattr(packseq.tables.pipeline.Worker, "one", one)
    with pytest.raises(OSError, match="the disk is full"):
        packseq.run(model, source, target, "x", part_bytes=1)
    done = parts(folder)
    assert 0 < len(done) < 6
    assert not list(folder.glob(".*"))
    (folder / ".0123456789abcdef.part").write_text("what a killed run leaves")

    monkeypatch.undo()
    with pytest.raises(ValueError, match="exists; resume goes on with it, force overwrites it"):
        packseq.run(model, source, target, "x", part_bytes=1)
    rewritten = []
    original = packseq.tables.jobs.Job._write

    def write_part(job, number, pieces, report):
        rewritten.append(job.target(number).name)
        return original(job, number, pieces, report)

    monkeypatch.setattr(packseq.tables.jobs.Job, "_write", write_part)
    packseq.run(model, source, target, "x", part_bytes=1, resume=True)
    check(read(target), table)
    assert len(rewritten) + len(done) == 6
    assert not set(rewritten) & set(done)
    assert not list(tmp_path.rglob(".*.part"))
    again = packseq.run(model, source, target, "x", part_bytes=1, resume=True)
    assert again.rows == 0


KILLED = """
import os, signal, sys
import packseq
from packseq.tables.pipeline import Worker

original = Worker.one

def one(worker, piece):
    if piece.table["id"][0].as_py() >= 40:  # the fifth, when the first is written at last
        os.kill(os.getpid(), signal.SIGKILL)
    return original(worker, piece)

Worker.one = one
packseq.run(*sys.argv[1:4], "x", part_bytes=1, num_threads=1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system kills no processes")
def test_a_killed_process_loses_and_doubles_nothing(model, source, table, tmp_path):
    command = [sys.executable, "-c", KILLED, str(model), str(source), str(tmp_path / "out.parquet")]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert not (tmp_path / "out.parquet").exists()
    assert parts(tmp_path / "out.parquet.parts")
    packseq.run(model, source, tmp_path / "out.parquet", "x", part_bytes=1, resume=True)
    check(read(tmp_path / "out.parquet"), table)
    assert not (tmp_path / "out.parquet.parts").exists()


def test_a_run_that_is_killed_while_it_removes_its_parts(
    model, source, table, tmp_path, monkeypatch
):
    target = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(packseq.tables.jobs.Path, "unlink", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            packseq.run(model, source, target, "x", part_bytes=1)
    whole = parts(tmp_path / "out.parquet.parts")
    assert len(whole) == 6
    (tmp_path / "out.parquet.parts" / "part-000003.parquet").unlink()
    assert packseq.run(model, source, target, "x", part_bytes=1, resume=True).rows == 0
    check(read(target), table)
    assert not (tmp_path / "out.parquet.parts").exists()


def test_an_output_stays_until_there_is_another(model, source, table, tmp_path):
    target = tmp_path / "out.parquet"
    packseq.run(model, source, target, "x", part_bytes=1)
    sequences = sequences_of([1])
    sequences[0][0, 0] = np.nan
    write(table_of(sequences), source / "c.parquet")
    with pytest.raises(RowError):
        packseq.run(model, source, target, "x", part_bytes=1, force=True)
    check(read(target), table)


def other_model(model, source):
    packseq.save(packseq.GRU(3, 5, bidirectional=True, rng=1), model)


def other_file(model, source):
    write(table_of(sequences_of([1])), source / "a.parquet")


def one_more_file(model, source):
    write(table_of(sequences_of([1])), source / "c.parquet")


@pytest.mark.parametrize("change", [other_model, other_file, one_more_file])
@pytest.mark.parametrize("sink", ["out", "out.parquet"])
def test_what_another_job_wrote_is_not_gone_on_with(model, source, tmp_path, change, sink):
    packseq.run(model, source, tmp_path / sink, "x")
    change(model, source)
    with pytest.raises(ValueError, match="was not written by this job"):
        packseq.run(model, source, tmp_path / sink, "x", resume=True)


def test_other_options_are_another_job(model, source, tmp_path):
    packseq.run(model, source, tmp_path / "out", "x")
    with pytest.raises(ValueError, match="was not written by this job"):
        packseq.run(model, source, tmp_path / "out", "x", output="mean", resume=True)
    # These change no bit.
    ran = packseq.run(model, source, tmp_path / "out", "x", max_steps=3, num_threads=1, resume=True)
    assert ran.rows == 0


def test_force_removes_the_parts_of_a_longer_run(model, source, table, tmp_path):
    packseq.run(model, source, tmp_path / "out", "x", part_bytes=1)
    (tmp_path / "out" / "mine.txt").write_text("stays")
    packseq.run(model, source, tmp_path / "out", "x", force=True)
    check(read(tmp_path / "out"), table)
    assert (tmp_path / "out" / "mine.txt").exists()


# ---- rows that cannot be run ---------------------------------------------------------------------


def poisoned(tmp_path):
    sequences = sequences_of([3, 2, 4, 1, 2])
    sequences[2][1, 0] = np.nan
    sequences[4] = None
    (tmp_path / "in").mkdir()
    write(table_of(sequences[:2]), tmp_path / "in" / "a.parquet")
    write(table_of(sequences[2:]), tmp_path / "in" / "b.parquet")
    return sequences


def test_a_bad_row_is_told_with_its_file_and_row(model, tmp_path):
    poisoned(tmp_path)
    message = r"in/b\.parquet, row 0: 'x' has nan, which is no finite float32, at step 1"
    with pytest.raises(RowError, match=message) as error:
        packseq.run(model, tmp_path / "in", tmp_path / "out.parquet", "x")
    assert (error.value.row, error.value.file) == (0, str(tmp_path / "in" / "b.parquet"))
    assert not (tmp_path / "out.parquet").exists()


def test_rows_count_through_the_pieces_of_a_file(model, tmp_path):
    sequences = sequences_of([5] * 50)
    sequences[37][4, 2] = np.inf
    write(table_of(sequences), tmp_path / "in.parquet")
    with pytest.raises(RowError, match=r"in\.parquet, row 37: .* at step 4"):
        packseq.run(
            model, tmp_path / "in.parquet", tmp_path / "out", "x", sort_window=20, part_bytes=1
        )


@pytest.mark.parametrize("sink", ["out", "out.parquet"])
def test_bad_rows_go_to_a_table_of_their_own(model, tmp_path, sink):
    sequences = poisoned(tmp_path)
    ran = packseq.run(model, tmp_path / "in", tmp_path / sink, "x", rejects=tmp_path / "bad")
    assert (ran.rows, ran.rejected) == (5, 2)
    good = [sequences[k] for k in (0, 1, 3)]
    result = read(tmp_path / sink)
    np.testing.assert_array_equal(
        predictions(result), predictions(Predictor(gru(), "x")(table_of(good)))
    )
    bad = read(tmp_path / "bad")
    assert bad.column_names == ["id", "x", "packseq_row", "packseq_file", "packseq_error"]
    assert bad["packseq_row"].to_pylist() == [0, 2]
    assert bad["packseq_file"].to_pylist() == [str(tmp_path / "in" / "b.parquet")] * 2
    assert bad["packseq_error"].to_pylist() == [
        "has nan, which is no finite float32, at step 1",
        "is null",
    ]
    assert bad["id"].to_pylist() == [0, 2]
    assert [path.name for path in (tmp_path / "bad").iterdir()] == ["part-000001.parquet"]


# ---- what is refused -----------------------------------------------------------------------------


def test_inputs_are_not_overwritten(model, source, tmp_path, monkeypatch):
    for sink in (source / "a.parquet", source, model):
        with pytest.raises(ValueError, match="an input"):
            packseq.run(model, source, sink, "x", force=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(source)
    (source / "a.parquet").rename(source / "part-000000.parquet")  # as force removes them
    for sink in ("in", "./link", "in/../in/b.parquet", "link/b.parquet"):
        with pytest.raises(ValueError, match="is or holds an input"):
            packseq.run(model, "in", sink, "x", force=True)
        with pytest.raises(ValueError, match="is or holds an input"):
            packseq.run(model, "in", "out", "x", rejects=sink, force=True)
    assert sorted(path.name for path in source.iterdir()) == ["b.parquet", "part-000000.parquet"]


def test_output_is_not_put_among_what_is_read(model, source, tmp_path):
    for sink in (source / "out", source / "out.parquet"):
        for options in ({"sink": sink}, {"sink": tmp_path / "out", "rejects": sink}):
            with pytest.raises(ValueError, match=r"is in .*in, which a resumed run would read"):
                packseq.run(model, [source], column="x", **options)
    # No hidden folder is read.
    packseq.run(model, source, source / "_out", "x", part_bytes=1)
    assert packseq.run(model, source, source / "_out", "x", part_bytes=1, resume=True).rows == 0


def test_predictions_and_rejects_have_places_of_their_own(model, source, tmp_path):
    with pytest.raises(ValueError, match="cannot have both the predictions"):
        packseq.run(model, source, tmp_path / "out", "x", rejects=tmp_path / "in" / ".." / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1 and no more", "in.parquet: "),
        (b"ARROW1 and no", "in.parquet: "),
        (b"", "in.parquet: is neither Parquet nor Arrow IPC: "),
        (b"id,x\n7,0.5\n" * 100, "in.parquet: is neither Parquet nor Arrow IPC: "),
    ],
)
def test_broken_files_are_named(model, tmp_path, content, message):
    (tmp_path / "in.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        packseq.run(model, tmp_path / "in.parquet", tmp_path / "out", "x")


def test_offsets_that_lie_in_a_file_are_refused(model, tmp_path):
    write(table_of(sequences_of([2, 3])), tmp_path / "in.arrow")
    content = bytearray((tmp_path / "in.arrow").read_bytes())
    offsets = np.array([0, 2, 5], np.int32).tobytes()
    assert content.count(offsets) == 1
    place = content.index(offsets)
    content[place : place + 12] = np.array([0, 200000, 5], np.int32).tobytes()
    (tmp_path / "in.arrow").write_bytes(content)
    with pytest.raises(ValueError, match=r"in\.arrow: .*"):
        packseq.run(model, tmp_path / "in.arrow", tmp_path / "out", "x")


def test_other_mistakes(model, source, tmp_path):
    with pytest.raises(OSError, match="nothing: there is no such file"):
        packseq.run(model, tmp_path / "nothing", tmp_path / "out", "x")
    with pytest.raises(ValueError, match=r"a\.parquet: has no columns 'y', among 'id', 'x'"):
        packseq.run(model, source, tmp_path / "out", "y")
    twice = table_of(sequences_of([1])).rename_columns(["x", "x"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(ValueError, match=r"twice\.parquet: has 2 columns 'x', among 'x', 'x'"):
        packseq.run(model, tmp_path / "twice.parquet", tmp_path / "out", "x")
    with pytest.raises(ValueError, match="engine must be"):
        packseq.run(model, source, tmp_path / "out", "x", engine="spark")
    for option in ({"address": "auto"}, {"actors": 2}):
        with pytest.raises(ValueError, match="address and actors belong to the engine 'ray'"):
            packseq.run(model, source, tmp_path / "out", "x", **option)
    with pytest.raises(TypeError, match="run has rejects="):
        packseq.run(model, source, tmp_path / "out", "x", errors="e")
    with pytest.raises(ValueError, match=r"a\.parquet: .*'id' already"):
        packseq.run(model, source, tmp_path / "other", "x", name="id")


def test_what_is_wrong_with_the_model_is_not_told_of_a_row(model, source, tmp_path):
    with pytest.raises(ValueError, match=r"^\S*model\.safetensors holds no array 'top\.weight'"):
        packseq.run(model, source, tmp_path / "out", "x", head="top")
    with pytest.raises(TypeError, match=r"^load\(\) got an unexpected keyword argument 'part'"):
        packseq.run(model, source, tmp_path / "out", "x", part=3)


def test_a_column_of_another_type_is_told_with_its_file_and_cast(model, tmp_path):
    strings = pa.array([[["1", "2", "3"]]])
    pq.write_table(pa.table({"x": strings}), tmp_path / "in.parquet")
    named = r"column\.cast\(pyarrow\.list_\(pyarrow\.list_\(pyarrow\.float32\(\)\)\)\) helps"
    with pytest.raises(TypeError, match=rf"in\.parquet: 'x': column must .* {named}"):
        packseq.run(model, tmp_path / "in.parquet", tmp_path / "out", "x")


# ---- the command ---------------------------------------------------------------------------------


def command(*arguments):
    return cli.main(["run", *map(str, arguments)])


def test_the_command(model, source, table, tmp_path, capsys):
    out = tmp_path / "out.parquet"
    options = ["--input", source, "--output", out, "--column", "x", "--take", "max", "--name", "m"]
    assert command(model, *options) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(f"60 rows, {sum(LENGTHS)} steps in ")
    assert captured.out == ""
    expected = Predictor(gru(), "x", output="max", name="m")(table)
    np.testing.assert_array_equal(predictions(read(out), "m"), predictions(expected, "m"))
    assert command(model, *options) == 2
    assert "exists" in capsys.readouterr().err
    assert command(model, *options, "--resume") == 0
    assert command(model, *options, "--force") == 0


def test_the_command_puts_bad_rows_aside(model, tmp_path, capsys):
    poisoned(tmp_path)
    options = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--column", "x"]
    assert command(model, *options) == 2
    assert "b.parquet, row 0: 'x' has nan" in capsys.readouterr().err
    assert command(model, *options, "--rejects", tmp_path / "bad", "--force") == 0
    assert "2 rows put aside" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--take", "max"], ["--resume"], ["--max-steps", "3"], ["--keep"]]
)
def test_options_of_tables_without_a_column(model, tmp_path, capsys, option):
    np.save(tmp_path / "x.npy", np.zeros((1, 2, 3), np.float32))
    options = ["--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy", *option]
    assert command(model, *options) == 2
    assert f"{option[0]} belongs to a table" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["in", "in/a.parquet", "b.arrow"])
def test_a_table_without_a_column(model, source, tmp_path, capsys, name):
    assert command(model, "--input", tmp_path / name, "--output", tmp_path / "y.npz") == 2
    assert f"{tmp_path / name} holds tables: --column says" in capsys.readouterr().err


def test_parts_through_the_command(model, source, table, tmp_path):
    options = ["--input", source, "--output", tmp_path / "out", "--column", "x"]
    assert command(model, *options, "--part-bytes", "1") == 0
    assert len(parts(tmp_path / "out")) == 6
    check(read(tmp_path / "out"), table)


def test_a_stream_through_the_command(model, table):
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    arguments = [str(model), "--input", "-", "--output", "-", "--column", "x"]
    ran = subprocess.run(
        [sys.executable, "-m", "packseq", "run", *arguments],
        input=buffer.getvalue(),
        capture_output=True,
        check=True,
    )
    with pa.ipc.open_stream(ran.stdout) as reader:
        check(reader.read_all(), table)
    assert b"60 rows" in ran.stderr
    assert b"\r" not in ran.stderr  # no bar: this is no terminal
    resumed = subprocess.run(
        [sys.executable, "-m", "packseq", "run", *arguments, "--resume"],
        input=b"",
        capture_output=True,
    )
    assert b"a stream cannot be resumed" in resumed.stderr


def test_what_is_wrong_with_a_stream_is_told_of_standard_input(model, table):
    buffer = io.BytesIO()
    poisoned = sequences_of([3, 2])
    poisoned[1][0, 0] = np.nan
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
        writer.write_table(table_of(poisoned))
    for content, message in (
        (b"PAR1" * 9, b"standard input: is no stream of Arrow IPC: "),
        (buffer.getvalue(), b"standard input, row 61: 'x' has nan"),
    ):
        arguments = [str(model), "--input", "-", "--output", "-", "--column", "x"]
        command = [sys.executable, "-m", "packseq", "run", *arguments]
        ran = subprocess.run(command, input=content, capture_output=True)
        assert ran.returncode == 2
        assert message in ran.stderr


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="the system has no terminals")
def test_a_bar_on_a_terminal(model, source, tmp_path):
    pytest.importorskip("tqdm")
    ours, theirs = os.openpty()
    arguments = [
        str(model),
        "--input",
        str(source),
        "--output",
        str(tmp_path / "o"),
        "--column",
        "x",
    ]
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        subprocess.run(
            [sys.executable, "-m", "packseq", "run", *arguments], stderr=theirs, check=True
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += terminal.read(65536)
            except OSError:  # nobody writes to it any more
                break
    assert b"/60.0" in shown
    assert f"{sum(LENGTHS):,} steps".encode() in shown


def test_the_files_say_which_kernels_made_them(model, source, tmp_path):
    packseq.run(model, source, tmp_path / "out", "x")
    metadata = pq.read_schema(tmp_path / "out" / "part-000000.parquet").metadata
    assert json.loads(metadata[b"packseq"])["isa"] == packseq.settings.isa.engine().name
