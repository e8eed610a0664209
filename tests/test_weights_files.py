"""Files as an enemy prepares them: huge and sparse, swapped while they are opened, of odd names."""

import functools
import io
import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import tracemalloc
import zipfile

import numpy as np
import pytest
from checkpoints import (
    gru_arrays,
    npy_bytes,
    op_dict,
    op_str,
    op_tensor,
    pickled,
    safetensors_bytes,
    torch_file_of,
    write,
    zip_bytes,
)

import packseq
from packseq import weights
from packseq.weights import beside, strict_json, writing
from packseq.weights.torch import pickles

HUGE = 8 << 30
SMALL = np.arange(4, dtype=np.float32)


# ---- sparse files: what is not needed is not read ------------------------------------------------


class Sparse(io.FileIO):
    """A file in which zeros are holes."""

    def write(self, data):
        if any(data):
            return super().write(data)
        self.seek(len(data), os.SEEK_CUR)
        return len(data)


def sparse_npz(path):
    """An array of a GiB of zeros before a small module's."""
    size, part = 1 << 28, bytes(1 << 20)
    head = npy_bytes(np.zeros(0, np.float32)).replace(b"(0,), ", b"(%d,), " % size)
    # The name ends its header at a multiple of 64, as torch sees to for its own files.
    entry = zipfile.ZipInfo(f"{'b' * 30}.npy")
    entry.file_size = 4 * size + 128
    with Sparse(path, "w") as file, zipfile.ZipFile(file, "w") as archive:
        with archive.open(entry, "w") as stream:
            stream.write(head.replace(b" " * 8 + b"\n", b"\n"))
            for _ in range(4 * size >> 20):
                stream.write(part)
        for name, array in gru_arrays().items():
            archive.writestr(f"{name}.npy", npy_bytes(array))
    return path


def sparse_safetensors(path):
    header, data = {}, b""
    for name, array in gru_arrays().items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": [*array.shape], "data_offsets": offsets}
        data += array.tobytes()
    header["big"] = {"dtype": "U8", "shape": [HUGE], "data_offsets": [len(data), len(data) + HUGE]}
    content = safetensors_bytes(header, data)
    write(path, content)
    os.truncate(path, len(content) + HUGE)
    return path


def sparse_hdf5(path):
    h5py = pytest.importorskip("h5py", reason="writes HDF5")
    with h5py.File(path, "w") as file:
        for i, shape in enumerate([(3, 12), (4, 12), (2, 12)]):
            file[f"layers/gru/cell/vars/{i}"] = np.ones(shape, np.float32)
    os.truncate(path, HUGE)
    return path


def sparse_legacy_torch(path):
    torch = pytest.importorskip("torch", reason="writes files of torch's older format")
    tensors = {n: torch.from_numpy(a) for n, a in gru_arrays().items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    os.truncate(path, HUGE)
    return path


def sparse_external(path):
    onnx = pytest.importorskip("onnx", reason="writes ONNX models")
    shapes = {"w": [1, 12, 3], "r": [1, 12, 4]}
    tensors = []
    for name, dims in shapes.items():
        tensor = onnx.TensorProto(name=name, data_type=1, dims=dims, data_location=1)
        entries = {"location": "data", "offset": str(HUGE // 2), "length": str(4 * np.prod(dims))}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        tensors.append(tensor)
    node = onnx.helper.make_node("GRU", ["X", "w", "r"], ["Y"], hidden_size=4,
                                 linear_before_reset=1)  # fmt: skip
    graph = onnx.helper.make_graph([node], "graph", [], [], tensors)
    write(path.parent / "data", b"")
    os.truncate(path.parent / "data", HUGE)
    return write(path, onnx.helper.make_model(graph).SerializeToString())


LIMITED = """
import resource, sys
import packseq
import numpy
for library in sys.argv[2:]:
    __import__(library)
# Of memory that must be had, files that are mapped left out.
used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (used + (300 << 20),) * 2)
{call}
"""


def run_limited(call, path, *libraries):
    """Run it with 300 MiB more than it has taken by then."""
    if sys.platform != "linux":
        pytest.skip("only Linux limits what is mapped privately")
    code = LIMITED.format(call=textwrap.dedent(call))
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), *libraries],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("make", "library"), [
    (sparse_npz, "zipfile"),
    (sparse_safetensors, "json"),
    (sparse_hdf5, "json"),
    (sparse_legacy_torch, "pickletools"),
    (sparse_external, "onnx"),
])  # fmt: skip
def test_a_small_module_in_a_huge_file_takes_little_memory(tmp_path, make, library):
    path = make(tmp_path / "file")
    call = "print(packseq.load(sys.argv[1], **OPTIONS))"
    options = "dict(recurrent_activation='sigmoid')" if make is sparse_hdf5 else "{}"
    printed = run_limited(call.replace("**OPTIONS", f"**{options}"), path, library)
    assert printed.startswith("GRU(3, 4")


def test_an_onnx_model_larger_than_protobuf_allows(tmp_path):
    path = sparse_external(tmp_path / "file")
    os.truncate(path, HUGE)
    printed = run_limited(
        """
        try:
            packseq.load(sys.argv[1])
        except packseq.weights.CheckpointError as error:
            print(error)
        """, path, "onnx",
    )  # fmt: skip
    assert "a model has at most 2147483647" in printed


def test_a_stored_entry_is_held_against_its_checksum(tmp_path):
    path = write(tmp_path / "file", torch_file_of(gru_arrays()))
    raw = bytearray(path.read_bytes())
    place = raw.index(gru_arrays()["rnn.weight_ih_l0"].tobytes())
    raw[place] ^= 1
    with pytest.raises(weights.CheckpointError, match="entry 'archive/data/0'"):
        packseq.load(write(path, bytes(raw)))


# ---- links that are swapped while a file is opened -----------------------------------------------


def external_model(folder, location):
    """A model whose only array lies in another file."""
    onnx = pytest.importorskip("onnx", reason="writes ONNX models")
    tensor = onnx.TensorProto(name="a", data_type=1, dims=[4], data_location=1)
    tensor.external_data.add(key="location", value=location)
    graph = onnx.helper.make_graph([], "graph", [], [], [tensor])
    return write(folder / "model", onnx.helper.make_model(graph).SerializeToString())


@pytest.fixture
def folder(tmp_path):
    """A folder with data in it, and a secret outside of it."""
    (tmp_path / "secret").mkdir()
    write(tmp_path / "secret" / "data", np.full(4, 9, np.float32).tobytes())
    inner = tmp_path / "model" / "inner"
    inner.mkdir(parents=True)
    write(inner / "data", SMALL.tobytes())
    return tmp_path / "model"


def swap_file(folder):
    (folder / "inner" / "data").unlink()
    (folder / "inner" / "data").symlink_to(folder.parent / "secret" / "data")


def swap_folder(folder):
    (folder / "inner").rename(folder / "was")
    (folder / "inner").symlink_to(folder.parent / "secret")


@pytest.mark.parametrize("stepwise", [True, False], ids=["stepwise", "compared"])
@pytest.mark.parametrize("swap", [swap_file, swap_folder])
def test_a_link_that_is_swapped_in_is_not_followed(monkeypatch, folder, swap, stepwise):
    path, resolved = external_model(folder, "inner/data"), beside.resolved
    np.testing.assert_array_equal(weights.read(path)["a"], SMALL)

    def then_swapped(*arguments):
        found = resolved(*arguments)
        monkeypatch.setattr(beside, "resolved", resolved)
        swap(folder)
        return found

    monkeypatch.setattr(beside, "STEPWISE", stepwise and beside.STEPWISE)
    monkeypatch.setattr(beside, "resolved", then_swapped)
    with pytest.raises(weights.CheckpointError, match="external data 'inner/data'"):
        weights.read(path)


def test_a_link_that_is_there_only_while_the_file_is_opened(monkeypatch, folder):
    path, opened = external_model(folder, "inner/data"), os.open

    def behind_a_link(name, *arguments, **options):
        (folder / "inner").rename(folder / "was")
        (folder / "inner").symlink_to(folder.parent / "secret")
        try:
            return opened(name, *arguments, **options)
        finally:
            (folder / "inner").unlink()
            (folder / "was").rename(folder / "inner")

    monkeypatch.setattr(beside, "STEPWISE", False)
    monkeypatch.setattr(beside.os, "open", behind_a_link)
    with pytest.raises(weights.CheckpointError, match="was replaced while it was opened"):
        weights.read(path)


def test_a_link_that_stays_in_the_folder_is_followed(folder):
    (folder / "link").symlink_to("inner")
    path = external_model(folder, "link/data")
    np.testing.assert_array_equal(weights.read(path)["a"], SMALL)


def ring(folder):
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("one")


def fifo(folder):
    os.mkfifo(folder / "one")


def directory(folder):
    (folder / "one").mkdir()


@pytest.mark.parametrize("make", [ring, fifo, directory])
def test_what_is_beside_is_a_file_or_refused_at_once(folder, make):
    make(folder)
    external = external_model(folder, "one")
    index = write(folder / "index", json.dumps({"weight_map": {"a": "one"}}).encode())
    for path in (external, index):
        with pytest.raises(weights.CheckpointError, match=r"model/\w+: .*'one'"):
            packseq.load(path)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "n" * 3000])
def test_names_that_no_system_has(folder, name):
    index = write(folder / "index", json.dumps({"weight_map": {"a": name}}).encode())
    with pytest.raises(weights.CheckpointError, match="shard"):
        packseq.load(index)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_paths_that_no_system_has(name):
    for call in (packseq.load, weights.read, weights.find, weights.unreadable):
        with pytest.raises(weights.CheckpointError, match="is no file's name") as caught:
            call(name)
        str(caught.value).encode()


# ---- whose exception it is -----------------------------------------------------------------------


class InterruptionError(Exception):
    """A program's own."""


def raising(error):
    """A signal handler."""

    def handler(number, frame):
        raise error

    return handler


def in_module(name, statement, **names):
    """A function that runs a statement as if it were in another module."""
    space = {"__name__": name, **names}
    exec(f"def function(*arguments, **options): {statement}", space)
    return space["function"]


@pytest.fixture
def handled():
    """Set a handler for the test's time."""
    before = signal.getsignal(signal.SIGUSR1)
    yield functools.partial(signal.signal, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("error", [
    InterruptionError("now"), ValueError("now"), TimeoutError("now"), OSError(5, "now"),
    RuntimeError("now"), KeyboardInterrupt(), RecursionError("now"),
], ids=repr)  # fmt: skip
@pytest.mark.parametrize(("owner", "function", "make"), [
    (strict_json.json, "loads", lambda folder: write(folder / "index", b"{}")),
    (pickles.pickletools.int4, "reader", lambda f: write(f / "file", pickled(b"J\0\0\0\0"))),
    (beside.os, "open", lambda folder: external_model(folder, "inner/data")),
    (beside.os, "open", lambda f: write(f / "index", b'{"weight_map": {"a": "inner"}}')),
], ids=["json", "pickle", "onnx", "shard"])  # fmt: skip
def test_an_exception_of_a_signal_handler_is_the_programs_own(
    monkeypatch, handled, folder, owner, function, make, error
):
    path = make(folder)
    handled(raising(error))
    interrupted = in_module("json", "send(number)", send=signal.raise_signal, number=signal.SIGUSR1)
    monkeypatch.setattr(owner, function, interrupted)
    with pytest.raises(type(error)) as caught:
        weights.read(path)
    assert caught.value is error


def test_an_exception_of_a_signal_handler_while_a_file_is_written(monkeypatch, handled, tmp_path):
    handled(raising(error := TimeoutError("now")))
    interrupted = in_module("json", "send(number)", send=signal.raise_signal, number=signal.SIGUSR1)
    monkeypatch.setattr(writing.os, "fsync", interrupted)
    with pytest.raises(TimeoutError) as caught:
        packseq.save(packseq.GRU(2, 3, rng=0), tmp_path / "file")
    assert caught.value is error
    assert not any(tmp_path.iterdir())


def test_a_lack_of_memory_is_no_fault_of_the_file(monkeypatch, tmp_path):
    path = write(tmp_path / "index", b"{}")
    monkeypatch.setattr(strict_json.json, "loads", in_module("json", "raise MemoryError"))
    with pytest.raises(MemoryError):
        packseq.load(path)


def test_what_a_library_says_is_quoted_in_part(monkeypatch, tmp_path):
    path = write(tmp_path / "index", b"{}")
    long = in_module("json", "raise ValueError('x' * 9999)")
    monkeypatch.setattr(strict_json.json, "loads", long)
    with pytest.raises(weights.CheckpointError, match="not JSON: ValueError: xxx") as caught:
        packseq.load(path)
    assert len(str(caught.value)) < 300 + len(str(path))


@pytest.mark.parametrize("depth", [10, 300, 600, 800, 900, 960, 980, 1000, 5000])
def test_a_config_that_nests_as_deep_as_python_can(tmp_path, depth):
    h5py = pytest.importorskip("h5py", reason="writes HDF5")
    with h5py.File(tmp_path / "h5", "w") as file:
        file["a"] = SMALL
    nested = "[" * depth + "]" * depth
    settings = ", ".join(f'"{name}": {nested}' for name in ("name", "units", "activation"))
    layer = f'{{"class_name": "GRU", "config": {{{settings}}}}}'
    config = f'{{"class_name": "Sequential", "config": {{"layers": [{layer}]}}}}'
    raw = (tmp_path / "h5").read_bytes()
    entries = [("config.json", config), ("model.weights.h5", raw), ("metadata.json", b"{}")]
    with pytest.raises(weights.CheckpointError):
        packseq.load(write(tmp_path / "file", zip_bytes(entries)))


def test_a_persistent_id_that_begins_with_a_tensor(tmp_path):
    tensor = op_tensor([4], [1])
    inner = b"(" + tensor + op_str("x") + op_str("0") + op_str("cpu") + b"K\x04t"
    body = op_dict([("a", op_tensor([4], [1], identifier=inner))])
    for content in (zip_bytes([("a/data.pkl", pickled(body)), ("a/data/0", SMALL.tobytes())]),
                    pickled(body)):  # fmt: skip
        with pytest.raises(weights.CheckpointError):
            packseq.load(write(tmp_path / "file", content))


@pytest.mark.parametrize("code", ["-" * 9000 + "1", "a." * 4000 + "a", "1+" * 4000 + "1",
                                  "1if 1else 1", "not 1", "(" * 9000])  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_a_header_that_is_code(tmp_path, code):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({code},), }}\n".encode()
    content = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text
    with pytest.raises(weights.CheckpointError, match=r"a\.npy: not a \.npy header"):
        packseq.load(write(tmp_path / "file", zip_bytes([("a.npy", content)])))


def test_heaps_laid_over_one_another(tmp_path):
    """Each of its strings was a copy of nearly the whole file."""
    h5py = pytest.importorskip("h5py", reason="writes HDF5")
    with h5py.File(tmp_path / "file", "w") as file:
        names = ["longest", *["name"] * 1999]
        file.attrs.create("layer_names", names, dtype=h5py.string_dtype())
    raw = bytearray((tmp_path / "file").read_bytes())
    heaps, size = len(raw), 1 << 20
    place = raw.index(struct.pack("<IQ", 7, raw.rindex(b"GCOL", 0, raw.index(b"longest"))))
    for i in range(2000):
        struct.pack_into("<IQI", raw, place + 16 * i, 4, heaps + 32 * i, 1)
        left = size - 32 * i
        raw += b"GCOL\1\0\0\0" + struct.pack("<QHHIQ", left, 1, 1, 0, left - 32)[:24]
    raw += bytes(heaps + size - len(raw))
    tracemalloc.start()
    # All of them have been read then: each is the beginning of the next heap.
    with pytest.raises(weights.CheckpointError, match="layer_names has a name twice"):
        packseq.load(write(tmp_path / "file", bytes(raw)))
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_one_long_text_a_thousand_times(tmp_path):
    h5py = pytest.importorskip("h5py", reason="writes HDF5")
    with h5py.File(tmp_path / "file", "w") as file:
        names = ["long" * 5000, *["name"] * 999]
        file.attrs.create("layer_names", names, dtype=h5py.string_dtype())
    raw = bytearray((tmp_path / "file").read_bytes())
    first = raw.index(struct.pack("<I", 20_000))  # the references, each of 16 bytes
    raw[first : first + 16_000] = raw[first : first + 16] * 1000
    with pytest.raises(weights.CheckpointError, match="lie over one another"):
        packseq.load(write(tmp_path / "file", bytes(raw)))
