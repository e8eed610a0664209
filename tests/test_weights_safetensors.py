"""The format that packseq writes: read and written without its library, which is the judge."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from checkpoints import safetensors_bytes, write

import packseq
from packseq import weights

DTYPES = ("float64", "float32", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16",
          "uint8", "bool", "complex64")  # fmt: skip


def arrays_of_every_dtype():
    rng = np.random.default_rng(0)
    shapes = {"matrix": (3, 5), "vector": (7,), "scalar": (), "empty": (0, 4)}
    return {
        f"{dtype} {name}": np.asarray(100 * rng.random(shape)).astype(dtype)
        for dtype in DTYPES
        for name, shape in shapes.items()
    }


@pytest.fixture
def library():
    return pytest.importorskip("safetensors.numpy", reason="judges its own format")


def test_the_library_reads_what_packseq_writes(tmp_path, library):
    source = tmp_path / "arrays.npz"
    np.savez(source, **(arrays := arrays_of_every_dtype()))
    weights.convert(source, tmp_path / "file")
    found = library.load_file(tmp_path / "file")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_packseq_reads_what_the_library_writes(tmp_path, library):
    arrays = arrays_of_every_dtype() | {"float16": np.arange(6, dtype=np.float16)}
    library.save_file(arrays, tmp_path / "file", {"some": "metadata"})
    found = weights.read(tmp_path / "file")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_both_write_the_same_bytes(tmp_path, library):
    module = packseq.LSTM(3, 4, num_layers=2, bidirectional=True, rng=0)
    packseq.save(module, tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert content == library.save(dict(module.state_dict()), header["__metadata__"])


def test_tensors_are_aligned(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones(3, np.uint8), b=np.ones(5), c=np.ones(7, np.float32))
    weights.convert(tmp_path / "a.npz", tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    for name, entry in json.loads(content[8:start]).items():
        itemsize = {"a": 1, "b": 8, "c": 4}[name]
        assert (start + entry["data_offsets"][0]) % itemsize == 0


def test_it_takes_nothing_but_numpy(tmp_path):
    code = (
        "import sys; sys.modules['safetensors'] = None; import packseq\n"
        "packseq.save(packseq.GRU(3, 4, rng=0), sys.argv[1])\n"
        "print(packseq.load(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "file"], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("GRU(3, 4)\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM and wants sparse files")
def test_a_large_file_is_mapped_and_not_read(tmp_path):
    size = 4 << 30
    module = packseq.GRU(3, 4, rng=0)
    header, data = {}, b""
    for name, array in module.state_dict().items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    offsets = [len(data), len(data) + size]
    header["embedding"] = {"dtype": "U8", "shape": [size], "data_offsets": offsets}
    path = write(tmp_path / "file", safetensors_bytes(header, data))
    os.truncate(path, path.stat().st_size + size)
    code = (
        "import sys, packseq; module = packseq.load(sys.argv[1])\n"
        "print(float(module.weight_ih_l0.sum()))\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    total, kibibytes = done.stdout.split()
    assert float(total) == float(module.weight_ih_l0.sum())
    assert int(kibibytes) < 500 << 10


# ---- writing: all of it or nothing ----


def test_a_link_goes_on_pointing_where_it_does(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"old")
    target.chmod(0o640)
    (tmp_path / "link").symlink_to(target)
    packseq.save(packseq.GRU(3, 4), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert repr(packseq.load(target)) == "GRU(3, 4)"
    assert target.stat().st_mode & 0o777 == 0o640


def test_what_is_no_file_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE)
    packseq.save(packseq.GRU(3, 4), tmp_path / "pipe")
    content = reader.communicate(timeout=60)[0]
    assert repr(packseq.load(write(tmp_path / "file", content))) == "GRU(3, 4)"
    assert (tmp_path / "pipe").is_fifo()


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    packseq.save(packseq.GRU(3, 4), tmp_path / "file")
    before = (tmp_path / "file").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*file'"):
        packseq.save(packseq.LSTM(30, 40), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_ctrl_c_leaves_the_old_file(tmp_path, monkeypatch):
    packseq.save(packseq.GRU(3, 4), tmp_path / "file")
    before = (tmp_path / "file").read_bytes()

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        packseq.save(packseq.LSTM(30, 40), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
