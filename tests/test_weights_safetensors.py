"""The format that packseq writes: read and written without its library, which is the judge."""

import json
import os
import subprocess
import sys
from unittest import mock

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


# ---- what is valid, though nobody expects it ----

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
# Header and bytes after it, as the library takes them: `weights.read` gives these arrays.
ODD = {
    "no tensors": ({}, b"", {}),
    "metadata alone": ({"__metadata__": None}, b"", {}),
    "an empty name": ({"": ONE}, b"\0\0\x80?", {"": [1]}),
    "another member": ({"a": ONE | {"quantised": False}}, b"\0\0\x80?", {"a": [1]}),
    "bytes in another order than names": (
        {"a": ONE | {"data_offsets": [4, 8]}, "b": ONE},
        b"\0\0\0\0\0\0\x80?",
        {"a": [1], "b": [0]},
    ),
    "empty tensors between others": (
        {"a": ONE, "b": {"dtype": "I8", "shape": [3, 0], "data_offsets": [4, 4]},
         "c": {"dtype": "F32", "shape": [], "data_offsets": [4, 8]},
         "d": {"dtype": "F64", "shape": [0], "data_offsets": [8, 8]}},
        b"\0\0\x80?\0\0\0@",
        {"a": [1], "b": np.empty((3, 0)), "c": 2, "d": []},
    ),
    "white space after the header": (
        json.dumps({"a": ONE}).encode() + b" \n\t", b"\0\0\x80?", {"a": [1]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("padding", range(4))
def test_a_valid_header_of_any_length_is_read(tmp_path, library, case, padding):
    header, data, arrays = ODD[case]
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    content = safetensors_bytes(text + b" " * padding, data)  # so that numbers lie anywhere
    found = weights.read(write(tmp_path / "file", content))
    for read in (found, library.load(content)):
        assert read.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)


# The library's own names of dtypes, and the bits of an element.
LIBRARYS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8,
            "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16,
            "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64,
            "I64": 64, "U64": 64}  # fmt: skip
UNREAD = {"F4", "F6_E2M3", "F6_E3M2"} | {name for name in LIBRARYS if name.startswith("F8")}


def file_of_every_dtype(**first):
    """A tensor of every dtype that the library has, of 8 elements, after those that are given."""
    header, data = {}, b""
    for name, array in first.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    for dtype, bits in LIBRARYS.items():
        offsets = [len(data), len(data) + bits]
        header[f"of {dtype}"] = {"dtype": dtype, "shape": [8], "data_offsets": offsets}
        data += bytes(bits)
    return safetensors_bytes(header, data)


def test_what_numpy_lacks_hides_nothing(tmp_path):
    library = pytest.importorskip("safetensors", reason="judges its own format")
    module = packseq.GRU(3, 4, rng=0)
    content = file_of_every_dtype(**module.state_dict())
    assert len(library.deserialize(content)) == len(LIBRARYS) + 4
    path = write(tmp_path / "file", content)

    np.testing.assert_array_equal(packseq.load(path).weight_hh_l0, module.weight_hh_l0)
    read, unread = weights.read(path), weights.unreadable(path)
    assert unread == {f"of {name}": f"has dtype {name!r}, which NumPy lacks" for name in UNREAD}
    assert read.keys() | unread.keys() == {name for name, _ in library.deserialize(content)}


def test_only_a_module_that_needs_what_numpy_lacks_is_refused(tmp_path):
    shapes = {f"{name}.{key}": value.shape for name in ("whole", "eighth")
              for key, value in packseq.GRU(3, 4).state_dict().items()}  # fmt: skip
    header, data = {}, b""
    for name, shape in shapes.items():
        wide = name != "eighth.weight_hh_l0"
        raw = bytes(int(np.prod(shape)) * (4 if wide else 1))
        header[name] = {"dtype": "F32" if wide else "F8_E4M3", "shape": list(shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}  # fmt: skip
        data += raw
    path = write(tmp_path / "file", safetensors_bytes(header, data))

    assert repr(packseq.load(path, "whole")) == "GRU(3, 4)"
    reason = "eighth.weight_hh_l0 cannot be read: has dtype 'F8_E4M3', which NumPy lacks"
    with pytest.raises(weights.CheckpointError, match=reason):
        packseq.load(path, "eighth")
    assert reason in str(weights.find(path)[1])


def test_a_shard_may_hold_what_numpy_lacks(tmp_path):
    write(tmp_path / "one", file_of_every_dtype())
    names = [f"of {name}" for name in LIBRARYS]
    index = json.dumps({"weight_map": dict.fromkeys(names, "one")}).encode()
    path = write(tmp_path / "index.json", index)
    assert set(weights.unreadable(path)) == {f"of {name}" for name in UNREAD}
    assert len(weights.read(path)) == len(LIBRARYS) - len(UNREAD)


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
    read = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    command = [sys.executable, "-c", read, tmp_path / "pipe"]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE)
    packseq.save(packseq.GRU(3, 4), tmp_path / "pipe")
    content = reader.communicate(timeout=60)[0]
    assert repr(packseq.load(write(tmp_path / "file", content))) == "GRU(3, 4)"
    assert (tmp_path / "pipe").is_fifo()


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    packseq.save(packseq.GRU(3, 4), tmp_path / "file")
    before = (tmp_path / "file").read_bytes()

    # What a function of this file raised would count as the program's own.
    full = mock.Mock(side_effect=OSError(28, "No space left on device"))
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
