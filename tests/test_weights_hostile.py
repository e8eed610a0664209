"""Broken and hostile files: each gets a CheckpointError that says what is wrong, and nothing more.

Every file is made here, from bytes. A few of them would run code, fill the memory or read other
files if they were believed.
"""

import io
import json
import re
import struct
import time
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from checkpoints import (
    gru_arrays,
    npy_bytes,
    op_dict,
    op_global,
    op_int,
    op_str,
    op_tensor,
    pickled,
    safetensors_bytes,
    torch_bytes,
    torch_file_of,
    write,
    zip_bytes,
)

import packseq
from packseq import weights
from packseq.weights import limits
from packseq.weights.keras import model as keras_model
from packseq.weights.onnx import protobuf
from packseq.weights.torch import legacy, pickles

BIG = 2**40


@pytest.fixture(autouse=True)
def little_slack(monkeypatch):
    """What bounds the arrays of a large file bounds those of the small ones here."""
    monkeypatch.setattr(limits, "SLACK", 1 << 20)


def refused(path, message):
    """The file is refused with this message, which names it, in memory near the file's size."""
    tracemalloc.start()
    try:
        with pytest.raises(weights.CheckpointError, match=message) as caught:
            packseq.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    # The floor is what the readers' own libraries take when first imported.
    assert peak < 32 * path.stat().st_size + (32 << 20)


# --- what no reader takes -------------------------------------------------------------------


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is empty"),
    (b"hello, world", "is none of safetensors"),
    (b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00exittR.", "'' would be made by 'os.system'"),
    (b"sys_info\0" + bytes(503), "is a tar file, as torch wrote before 0.2"),
    (b"\x93NUMPY", "is none of"),
    (zip_bytes([("readme.txt", b"hello")]), "none of"),
    (b"PK\x03\x04 and no more", "not a readable zip file"),
    (b"\x89HDF\r\n\x1a\n and no more", "a superblock of version 32"),
    (b"\x89HDF\r\n\x1a\n\x00" + bytes(90), r"offsets and lengths of \(0, 0\) bytes"),
    (b"\x89HDF\r\n\x1a\n\x02\x08\x08\x00" + b"\x01" * 40, "begins elsewhere"),
    (b"\x89HDF\r\n\x1a\n\x02\x08\x08 and no more", "begins elsewhere"),
    (b"\x08\x07\x3a\x20 and no more", "a field reaches beyond its message"),
    (b"\x08\x07\x0b", "wire type 3"),
    (b"\x08\x07\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "an integer without an end"),
    (b"{}", "index has no weight_map"),
    (b"{ and no more", "not JSON"),
    (b'{"a":' * 100_000, "not JSON"),
    (zip_bytes([]), "holds no LSTM, GRU or RNN"),
], ids=lambda value: repr(value)[:24])  # fmt: skip
def test_content_that_is_no_checkpoint(tmp_path, content, message):
    if content.startswith(b"\x08\x07"):
        pytest.importorskip("onnx", reason="reads such files")
    refused(write(tmp_path / "file", content), message)


# --- zip ------------------------------------------------------------------------------------

ARRAY = npy_bytes(np.zeros(4, np.float32))


def patched(content, signature, offset, value):
    """The zip file with a field overwritten in every record of a signature."""
    raw, start = bytearray(content), 0
    while (start := raw.find(signature, start)) >= 0:
        raw[start + offset : start + offset + len(value)] = value
        start += 4
    return bytes(raw)


CENTRAL, LOCAL = b"PK\x01\x02", b"PK\x03\x04"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_twice(tmp_path):
    content = zip_bytes([("a.npy", ARRAY), ("a.npy", ARRAY)])
    refused(write(tmp_path / "file", content), "entry 'a.npy' appears twice")


@pytest.mark.parametrize("name", ["../a.npy", "/a.npy", "a/../../b.npy", "..\\a.npy"])
def test_an_entry_outside_the_archive(tmp_path, name):
    refused(write(tmp_path / "file", zip_bytes([(name, ARRAY)])), "points outside the archive")


def test_a_zip_bomb(tmp_path):
    content = zip_bytes([("a.npy", npy_bytes(np.zeros(1 << 24)))], zipfile.ZIP_DEFLATED)
    refused(write(tmp_path / "file", content), "unpacking 'a.npy' would take 134217856 bytes")


def test_a_zip_bomb_that_declares_little(tmp_path):
    content = zip_bytes([("a.npy", npy_bytes(np.zeros(1 << 24)))], zipfile.ZIP_DEFLATED)
    for signature, offset in ((CENTRAL, 24), (LOCAL, 22)):
        content = patched(content, signature, offset, struct.pack("<I", 1000))
    refused(write(tmp_path / "file", content), "entry 'a.npy'")


def test_overlapping_entries(tmp_path):
    content = zip_bytes([(f"{i}.npy", ARRAY) for i in range(9)])
    content = patched(content, CENTRAL, 42, struct.pack("<I", 0))
    content = patched(content, CENTRAL, 20, struct.pack("<II", 800, 800))
    refused(write(tmp_path / "file", content), "overlap")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_takes_memory_by_its_header(tmp_path, method):
    refused(write(tmp_path / "file", zip_bytes([("a.npy", ARRAY)], method)), "packed by method")


def test_an_encrypted_entry(tmp_path):
    content = patched(zip_bytes([("a.npy", ARRAY)]), CENTRAL, 8, b"\x01")
    refused(write(tmp_path / "file", content), "is encrypted")


def test_a_checksum_that_is_wrong(tmp_path):
    content = zip_bytes([("a.npy", ARRAY)]).replace(b"NUMPY", b"MUMPY", 1)
    refused(write(tmp_path / "file", content), "entry 'a.npy'.*CRC")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.99])
def test_a_truncated_zip(tmp_path, keep):
    content = torch_file_of(gru_arrays())
    refused(write(tmp_path / "file", content[: int(keep * len(content))]), "not a readable zip")


# --- npz ------------------------------------------------------------------------------------


def npy_with_header(header, data=b""):
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(("content", "message"), [
    (npy_bytes(np.array([{"a": 1}], dtype=object)), "Python objects"),
    (npy_bytes(np.array(["text"])), "is not a number's"),
    (npy_bytes(np.zeros(2, [("a", "f4")])), "is not a number's"),
    (ARRAY[:-1], "needs 16 bytes, found 15"),
    (ARRAY + b"x", "needs 16 bytes, found 17"),
    (ARRAY[:20], "not a .npy header"),
    (b"", "not a .npy header"),
    (b"\x93NUMPY\x04\x00" + ARRAY[8:], "version"),
    (npy_with_header(f"{{'descr':'<f4','fortran_order':False,'shape':({BIG},{BIG})}}"), "beyond"),
    (npy_with_header(f"{{'descr':'<f4','fortran_order':False,'shape':({BIG},)}}"), "needs"),
    (npy_with_header("{'descr':'<f4','fortran_order':False,'shape':(-1,)}"), "size -1"),
    (npy_with_header("{'descr':'<f4','fortran_order':False,'shape':(0,4611686018427387904)}"),
     "beyond"),
    (npy_with_header("__import__('os').abort()"), "not a .npy header"),
    (npy_with_header("(" * 110), "not a .npy header"),
], ids=lambda value: repr(value)[-24:])  # fmt: skip
def test_npy(tmp_path, content, message):
    refused(write(tmp_path / "file", zip_bytes([("a.npy", content)])), message)


# --- torch ----------------------------------------------------------------------------------

FOUR = {"0": np.arange(4, dtype=np.float32).tobytes()}


def test_a_pickle_that_would_run_code(tmp_path):
    mark = tmp_path / "ran"
    body = op_global("posix.system") + b"(" + op_str(f"touch {mark}") + b"tR"
    path = write(tmp_path / "file", torch_bytes(pickled(op_dict([("a", body)]))))

    refused(path, "'a' would be made by 'posix.system', which is not known here")

    assert not mark.exists()


def nested(depth):
    """A dict in a dict in a dict."""
    return b"}" + b"".join(op_str("a") + b"}" for _ in range(depth)) + b"s" * depth


def doubling(depth, pair):
    """Objects that each hold the one before twice, all in one dict: 2**depth, if ever walked."""
    items = [("k0", b"}q\x00")]
    items += [(f"k{i}", pair(b"h" + bytes([i - 1])) + b"q" + bytes([i])) for i in range(1, depth)]
    return op_dict(items)


def list_of_two(item):
    return b"](" + item + item + b"e"


def dict_of_two(item):
    return op_dict([("x", item), ("y", item)])


SELF = b"}q\x00" + op_str("me") + b"h\x00s"

PICKLES = [
    (op_dict([("a", op_global("builtins.eval"))]), "holds no LSTM"),
    (op_dict([("a", op_global("torch.load") + b"(" + op_str("x") + b"tR")]),
     "'a' would be made by 'torch.load'"),
    (op_dict([("a", op_global("torch.FloatStorage") + b")R")]),
     "'a' would be made by 'torch.FloatStorage'"),
    (op_str("os") + op_str("system") + b"\x93", "holds a Global"),
    (op_dict([("a", b"(cos\nsystem\no")]), "'a' would be made by 'os.system'"),
    (op_dict([("a", b"(ios\nsystem\n")]), "'a' would be made by 'os.system'"),
    (op_dict([("a", op_global("os.system") + b")\x81")]), "'a' would be made by 'os.system'"),
    (op_dict([("a", op_global("x" * 999 + ".y") + b")\x81")]), "made by 'x{80}...'"),
    (op_int(3) + b")R", "calls a int"),
    (op_int(3) + op_int(1) + b"b", "a int where a Inert or dict is needed"),
    (b"(o", "calls a NoneType"),
    (b"P7\n", "PERSID: this opcode"),
    (b"\x82\x01", "EXT1: this opcode"),
    (b"}" + b"0", "leaves 0 objects"),
    (b"(", "leaves 1 objects"),
    (b"0", "POP: the stack is empty"),
    (b"1", "POP_MARK: no mark"),
    (b"2", "DUP: the stack is empty"),
    (b"h\x05", "memo 5 was never stored"),
    (b"", "the pickle is cut off|stack|objects"),
    (b"t", "no mark"),
    (b"a", "the stack is empty"),
    (b"(a", "the stack is empty"),
    (b"]s", "stack is empty|where a dict"),
    (b"}(" + op_int(1) + b"u", "a key without a value"),
    (b"}(]" + op_tensor([5], [1], count=4) + b"u", "'<list>' a tensor"),
    (b"}((tq\x00" + op_tensor([5], [1], count=4) + b"u", r"'\(\)' a tensor"),
    (b"}" + op_int(2**70) + op_tensor([5], [1], count=4) + b"s", "'<int>' a tensor"),
    (op_int(1), "holds a int; expected a dict"),
    (b"]", "holds no LSTM"),
    (op_tensor([4], [1]), "one tensor without a name"),
    (op_int(1) * 3, "leaves 3 objects"),
    (b"X\xff\xff\xff\x7fabc", "cut off or malformed"),
    (b"\x8b\xff\xff\xff\x7f", "cut off or malformed"),
    (nested(40), "is more than 32 objects deep"),
    (SELF, "'me' holds itself"),
    (op_global("a.b") + b")\x81q\x00}" + op_str("me") + b"h\x00sb", "made by 'a.b'"),
    (op_dict([("a", op_tensor([4], [1])), ("a", op_tensor([4], [1]))]), "key 'a' appears twice"),
    (op_dict([("a.b", op_tensor([4], [1])), ("a", op_dict([("b", op_tensor([4], [1]))]))]),
     "'a.b' two tensors have this name"),
    (op_dict([("n" * 600, op_tensor([4], [1]))]), "over 512 characters"),
    (op_dict([("a", op_dict([("n" * 600, op_tensor([4], [1]))]))]), "over 512 characters"),
    (op_dict([("a", b"(" + op_str("storage") + b"tQ")]), "'a' is a storage without a tensor"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), PICKLES, ids=[message for _, message in PICKLES])
def test_pickles(tmp_path, body, message):
    refused(write(tmp_path / "file", torch_bytes(pickled(body), FOUR)), message)


def test_a_pickle_of_too_many_objects(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "MAX_OPCODES", 1000)
    path = write(tmp_path / "file", torch_bytes(pickled(b"]" * 1001)))
    refused(path, "more than 1000 opcodes")


@pytest.mark.parametrize(("pair", "message"), [
    (list_of_two, "holds no LSTM.*more than 32 objects deep|held under too many names"),
    (dict_of_two, "holds no LSTM.*more than 32 objects deep|held under too many names"),
])  # fmt: skip
def test_containers_that_double_at_every_level(tmp_path, pair, message):
    path = write(tmp_path / "file", torch_bytes(pickled(doubling(100, pair))))
    refused(path, message)


@pytest.mark.parametrize(("tensor", "message"), [
    (op_tensor([5], [1], count=4), "reaches outside its storage of 4"),
    (op_tensor([4], [1], offset=1, count=4), "reaches outside"),
    (op_tensor([2, 2], [3, 1], count=4), "reaches outside"),
    (op_tensor([2], [BIG], count=4), "reaches outside"),
    (op_tensor([BIG, BIG], [0, 0], count=4), "beyond any memory"),
    (op_tensor([BIG], [0], count=4), "expanded, would take"),
    (op_tensor([2**70], [0], count=4), "axis 0 is beyond any memory"),
    (op_tensor([1], [2**70], count=4), "axis 0 is beyond any memory"),
    (op_tensor([-1], [1], count=4), "size -1"),
    (op_tensor([4], [-1], count=4), "size -1"),
    (op_tensor([4], [1], offset=-1, count=4), "offset -1"),
    (op_tensor([2, 2], [2], count=4), "1 strides"),
    (op_tensor([1] * 65, [1] * 65, count=4), "65 axes"),
    (op_tensor([BIG], [1], count=BIG), f"{4 * BIG} bytes of float32 declared, 16 bytes found"),
    (op_tensor([4], [1], count=-4), "-4 elements"),
    (op_tensor([4], [1], key="7"), "entry 'archive/data/7' is missing"),
    (op_tensor([4], [1], key="../data.pkl"), "is missing"),
    (op_tensor([4], [1], storage="torch.QInt8Storage"), "in a 'torch.QInt8Storage', which is not"),
    (op_tensor([4], [1], storage="collections.OrderedDict"), "not a tensor storage's"),
    (op_global("torch._utils._rebuild_tensor_v2") + b")R", "not described by storage"),
    (op_global("torch._utils._rebuild_parameter") + b")R", "holds no tensor"),
    (op_tensor([4], [1], storage="os.Storage"), "not a tensor storage's"),
    (op_tensor([4], [1], storage="torch.storage.UntypedStorage"), "not a tensor storage's"),
    (op_tensor([4], [1], count=16, storage="torch.storage.UntypedStorage", version=3),
     "a tensor of dtype '', which is not read"),
    (op_tensor([4], [1], identifier=op_int(1)), "not a tensor storage's"),
    (op_tensor([4], [1], identifier=op_tensor([4], [1])), "not a tensor storage's"),
    (op_tensor([4], [1], identifier=b"(" + op_tensor([4], [1]) * 5 + b"t"), "not a tensor storage"),
    (op_int(1) + b"Q", "is a storage without a tensor"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_tensors_of_a_torch_file(tmp_path, tensor, message):
    path = write(tmp_path / "file", torch_bytes(pickled(op_dict([("a", tensor)])), FOUR))
    refused(path, message)


def test_one_storage_under_two_types(tmp_path):
    tensors = [
        ("a", op_tensor([4], [1])),
        ("b", op_tensor([2], [1], count=2, storage="torch.DoubleStorage")),
    ]
    path = write(tmp_path / "file", torch_bytes(pickled(op_dict(tensors)), FOUR))
    refused(path, "declared with different types")


def test_many_layers_of_one_storage(tmp_path):
    # 400 layers that are all views of 1 MiB: as a module of copies they would be 1.6 GiB.
    hidden, raw = 256, {"0": bytes(4 * 512 * 512)}
    square = op_tensor([4 * hidden, hidden], [hidden, 1], count=512 * 512)
    names = [f"weight_{role}_l{layer}" for layer in range(400) for role in ("ih", "hh")]
    content = torch_bytes(pickled(op_dict([(name, square) for name in names])), raw)
    refused(write(tmp_path / "file", content), "module '' would take 838860800 bytes")


def tuples_doubled(depth, inner=b")"):
    """A tuple of a tuple twice, and so on, through the memo: its repr would have 2**depth parts."""
    levels = (b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(depth))
    return inner + b"".join(levels)


HIDES = {
    "a size": lambda hidden: op_tensor([4], [1], size_of=hidden),
    "a size's entry": lambda hidden: op_tensor([4], [1], size_of=b"(" + hidden + b"t"),
    "a stride's entry": lambda hidden: op_tensor([4], [1], stride_of=b"(" + hidden + b"t"),
    "an identifier": lambda hidden: op_tensor([4], [1], identifier=hidden),
    "a key": lambda hidden: b"}" + hidden + op_tensor([5], [1], count=4) + b"s",
    "an argument": lambda hidden: op_global("os.system") + b"(" + hidden + b"tR",
    "a state": lambda hidden: op_global("os.system") + b")R" + hidden + b"b",
    "a function": lambda hidden: hidden + b")R",
    "a dtype": lambda hidden: op_global("numpy.core.multiarray._reconstruct")
    + b"(" + op_global("numpy.ndarray") + b"tR(" + op_int(1) + b")" + hidden + b"\x89)tb",
    "a shape": lambda hidden: op_global("numpy.core.multiarray._reconstruct")
    + b"(" + op_global("numpy.ndarray") + b"tR(" + op_int(1) + hidden + op_global("numpy.dtype")
    + b"(" + op_str("f4") + b"tR\x89)tb",
}  # fmt: skip


@pytest.mark.parametrize("place", HIDES)
def test_a_tuple_doubled_through_the_memo_is_never_shown(tmp_path, place):
    body = op_dict([("a", HIDES[place](tuples_doubled(60)))])
    path = write(tmp_path / "file", torch_bytes(pickled(body), FOUR))
    start = time.process_time()

    with pytest.raises(weights.CheckpointError) as caught:
        packseq.load(path)

    assert len(str(caught.value)) < 1000 + len(str(path))
    assert time.process_time() - start < 5


def test_what_is_held_often_takes_no_time(tmp_path):
    # 20,000 numbers and no name to speak of, under 20,000 names.
    inner = b"]q\x01(" + b"K\x01" * 20_000 + b"e"
    body = op_dict([("k", inner), *((f"k{i}", b"h\x01") for i in range(20_000))])
    start = time.process_time()
    refused(write(tmp_path / "file", torch_bytes(pickled(body))), "held under too many names")
    assert time.process_time() - start < 10


def test_names_take_no_memory(tmp_path):
    # One dict of long keys, under many names.
    inner = b"}q\x01(" + b"".join(op_str(f"{'n' * 400}{i}") + op_global("a.b") + b")R"
                                 for i in range(400)) + b"u"  # fmt: skip
    body = op_dict([("first", inner), *((f"k{i}", b"h\x01") for i in range(2000))])
    refused(write(tmp_path / "file", torch_bytes(pickled(body))), "names take more than")


LEGACY = pickled(op_int(legacy.MAGIC_NUMBER)) + pickled(op_int(legacy.PROTOCOL)) + pickled(b"}")
FOUR_OF_0 = struct.pack("<q", 4) + FOUR["0"]


@pytest.mark.parametrize(("content", "message"), [
    (LEGACY, "cut off"),
    (pickled(op_int(legacy.MAGIC_NUMBER)) + pickled(op_int(7)), "version other than 1001"),
    (LEGACY + pickled(op_dict([("a", op_tensor([4], [1]))])), "cut off"),
    (LEGACY + pickled(op_dict([("a", op_tensor([4], [1]))])) + pickled(b"}"), "no list"),
    (LEGACY + pickled(op_dict([("a", op_tensor([4], [1]))])) + pickled(b"]"), "'0' is missing"),
    (LEGACY + pickled(op_dict([("a", op_tensor([4], [1]))])) + pickled(b"]" + op_str("0") + b"a"),
     "storage '0' of 0 elements is cut off"),
    (LEGACY + pickled(op_dict([("a", op_tensor([4], [1]))])) + pickled(b"]" + op_str("0") + b"a")
     + struct.pack("<q", BIG), f"storage '0' of {BIG} elements is cut off"),
    (LEGACY + pickled(op_dict([("a", op_tensor([4], [1]))])) + pickled(b"]" + op_str("0") + b"a")
     + struct.pack("<q", -4), "storage '0' of -4 elements is cut off"),
    (LEGACY + pickled(op_dict([("a", op_tensor([4], [1]))])) + pickled(b"]" + op_str("1") + b"a")
     + FOUR_OF_0, "a storage '1' that no tensor names"),
    (LEGACY + pickled(op_dict([("a", op_tensor([5], [1], count=4))]))
     + pickled(b"]" + op_str("0") + b"a") + FOUR_OF_0, "reaches outside its storage"),
    (LEGACY + pickled(op_dict([("a", op_tensor([4], [1], identifier=op_int(1)))])),
     "not a tensor storage's"),
    (pickled(b"}") + b"x", "is a pickle with other bytes after it"),
    (b"\x80\x02", "cut off"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_files_from_before_torch_1_6(tmp_path, content, message):
    refused(write(tmp_path / "file", content), message)


def test_many_modules_take_no_longer_each(tmp_path):
    # A dict and four names each: 16,000 took a minute when each looked at all names.
    arrays = {}
    for i in range(4000):
        arrays |= gru_arrays(f"m{i}.", 1, 1)
    path = write(tmp_path / "file", torch_file_of(arrays))
    start = time.process_time()

    assert len(weights.find(path)) == 4000

    assert time.process_time() - start < 30


def test_a_torchscript_program_of_nothing(tmp_path):
    content = zip_bytes([("m/data.pkl", pickled(b"}")), ("m/code/__torch__.py", b"")])
    refused(write(tmp_path / "file", content), "holds no LSTM")


@pytest.mark.parametrize("opcode", [b"\x8d", b"\x8e", b"\x96"], ids=["text", "bytes", "bytearray"])
@pytest.mark.parametrize("size", [1 << 30, 1 << 40, 1 << 62])
@pytest.mark.parametrize("before", [b"", LEGACY], ids=["pickle", "torch"])
def test_a_pickle_of_less_than_it_says(tmp_path, before, opcode, size):
    content = before + pickled(opcode + size.to_bytes(8, "little"))
    refused(write(tmp_path / "file", content), "cut off or malformed: .*only 1 remain")


def test_two_pickles(tmp_path):
    content = zip_bytes([("a/data.pkl", pickled(b"}")), ("b/data.pkl", pickled(b"}"))])
    refused(write(tmp_path / "file", content), "2 files data.pkl")


def test_a_wrong_byteorder(tmp_path):
    content = zip_bytes([("a/data.pkl", pickled(b"}")), ("a/byteorder", b"middle")])
    refused(write(tmp_path / "file", content), "byteorder is b'middle'")


# --- weights that are read well and do not fit ----------------------------------------------


def changed(**arrays):
    merged = gru_arrays("") | arrays
    return {name: array for name, array in merged.items() if array is not None}


F = np.float32


@pytest.mark.parametrize(("arrays", "message"), [
    (changed(weight_hh_l0=None), "weight_hh_l0 is missing"),
    (changed(bias_hh_l0=None), "bias_hh_l0 is missing"),
    (changed(weight_ih_l0=np.ones((13, 3), F)), "13 rows for a hidden size of 4"),
    (changed(weight_hh_l0=np.ones((9, 4), F)), r"weight_hh_l0 has shape \(9, 4\)"),
    (changed(bias_ih_l0=np.ones(11, F)), r"bias_ih_l0 has shape \(11,\); expected \(12,\)"),
    (changed(bias_ih_l0=np.ones((12, 1), F)), "bias_ih_l0 has shape"),
    (changed(weight_ih_l0=np.ones(12, F)), "expected a matrix"),
    (changed(weight_ih_l0=np.ones((0, 3), F)), "expected a matrix, no side 0"),
    (changed(weight_ih_l1=np.ones((12, 4), F)), "weight_hh_l1 is missing"),
    (changed(weight_ih_l2=np.ones((12, 4), F)), "weight_ih_l2 has no place"),
    (changed(weight_hh_l0_reverse=np.ones((12, 4), F)), "has no place"),
    (changed(weight_hr_l0=np.ones((2, 4), F)), "projects a GRU"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_misshapen_weights(tmp_path, arrays, message):
    refused(write(tmp_path / "file", torch_file_of(arrays)), message)


def test_a_misshapen_module_hides_no_other(tmp_path):
    arrays = {"b.weight_ih_l0": np.ones((12, 3), F)} | gru_arrays("a.")
    path = write(tmp_path / "file", torch_file_of(arrays))

    broken, whole = weights.find(path)

    assert str(broken) == "'b.': cannot run here: b.weight_hh_l0 is missing"
    assert (broken.kind, broken.attributes.unsupported) == ("", "b.weight_hh_l0 is missing")
    assert str(whole) == "'a.': GRU(3, 4), float32"
    refused(path, r"choose one by prefix:\n  'b.': cannot run here.*\n  'a.': GRU\(3, 4\)")
    assert packseq.load(path, "a").hidden_size == 4
    with pytest.raises(weights.CheckpointError, match=r"b\.weight_hh_l0 is missing"):
        packseq.load(path, "b")


def test_weights_that_are_no_floats(tmp_path):
    arrays = {n: np.ones(a.shape, np.int32) for n, a in gru_arrays("").items()}
    content = zip_bytes([(f"{name}.npy", npy_bytes(array)) for name, array in arrays.items()])
    refused(write(tmp_path / "file", content), "has dtype int32; expected a float")


# --- safetensors ----------------------------------------------------------------------------


def entry(begin=0, end=16, shape=(4,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


SIXTEEN = bytes(16)


@pytest.mark.parametrize(("content", "message"), [
    (safetensors_bytes({"a": entry()}, SIXTEEN[:-1]), "not readable safetensors"),
    (safetensors_bytes({"a": entry(0, 32, (8,))}, SIXTEEN), "not readable"),
    (safetensors_bytes({"a": entry(), "b": entry()}, SIXTEEN), "not readable"),
    (safetensors_bytes({"a": entry(0, 8, (2,)), "b": entry(4, 16, (3,))}, SIXTEEN), "not readable"),
    (safetensors_bytes({"a": entry(0, 8, (2,)), "b": entry(12, 16, (1,))}, SIXTEEN), "not read"),
    (safetensors_bytes({"a": entry(shape=(BIG, BIG, 4))}, SIXTEEN), "not readable"),
    (safetensors_bytes({"a": entry(16, 0)}, SIXTEEN), "not readable"),
    (safetensors_bytes({"a": entry(-16, 0)}, SIXTEEN), "not readable"),
    (safetensors_bytes({"a": entry(dtype="F8_E4M3", shape=(16,))}, SIXTEEN),
     "has dtype 'F8_E4M3', which NumPy lacks"),
    (safetensors_bytes(b'{"a":1,"a":2}'), "key 'a' appears twice"),
    (safetensors_bytes(b'{"a":'), "not JSON"),
    (safetensors_bytes(b'{"a":' * 100_000), "not JSON"),
    (safetensors_bytes({"a": entry()}, SIXTEEN)[:20], "cut off"),
    (struct.pack("<Q", 90_000_000) + b"{}", "header of 90000000 bytes in a file of 10"),
    (safetensors_bytes({"__metadata__": {"packseq": "[]"}}), "expected an object"),
    (safetensors_bytes({"__metadata__": {"packseq": '{"":{"backward":1}}'}}), "backward is 1"),
    (safetensors_bytes({"__metadata__": {"packseq": '{"":{"code":"x"}}'}}), "keys among"),
    (safetensors_bytes({"__metadata__": {"packseq": "\ud800"}}), "metadata 'packseq'.*surrogates"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_safetensors(tmp_path, content, message):
    refused(write(tmp_path / "file", content), message)


@pytest.mark.parametrize(("shard", "message"), [
    ("../shard", "expected a name in its own folder"),
    ("/etc/passwd", "expected a name in its own folder"),
    ("folder/shard", "expected a name in its own folder"),
    ("..", "expected a name in its own folder"),
    ("", "expected a name in its own folder"),
    ("nothing", "not a file beside the checkpoint"),
    ("n" * 5000, "cannot be read: File name too long"),
    ("index", "shard 'index'"),
])  # fmt: skip
def test_shards(tmp_path, shard, message):
    content = json.dumps({"weight_map": {"a": shard}}).encode()
    refused(write(tmp_path / "index", content), message)


@pytest.mark.parametrize(("placed", "message"), [
    ({"a": "one", "b": "one"}, "does not hold 'b'"),
    ({"a": "one", "b": "two"}, "shard 'two' holds 'a', which the index places in 'one'"),
])  # fmt: skip
def test_an_index_that_lies(tmp_path, placed, message):
    for name in ("one", "two"):
        write(tmp_path / name, safetensors_bytes({"a": entry()}, SIXTEEN))
    refused(write(tmp_path / "index", json.dumps({"weight_map": placed}).encode()), message)


def test_an_index_with_a_tensor_twice(tmp_path):
    path = write(tmp_path / "index", b'{"weight_map": {"a": "one", "a": "two"}}')
    refused(path, "key 'a' appears twice")


# --- ONNX -----------------------------------------------------------------------------------


def onnx_with(initialisers=(), nodes=()):
    onnx = pytest.importorskip("onnx", reason="writes and reads ONNX models")
    graph = onnx.helper.make_graph(list(nodes), "graph", [], [], list(initialisers))
    return onnx.helper.make_model(graph).SerializeToString()


def onnx_tensor(**fields):
    onnx = pytest.importorskip("onnx", reason="writes and reads ONNX models")
    external = fields.pop("external", {})
    tensor = onnx.TensorProto(**({"name": "a", "data_type": 1, "dims": [4]} | fields))
    for key, value in external.items():
        tensor.external_data.add(key=key, value=value)
    if external:
        tensor.data_location = onnx.TensorProto.EXTERNAL
    return tensor


@pytest.mark.parametrize(("fields", "message"), [
    ({"raw_data": SIXTEEN[:-1]}, "needs 16 bytes, found 15"),
    ({"raw_data": SIXTEEN, "dims": [BIG]}, "needs"),
    ({"raw_data": SIXTEEN, "dims": [BIG, BIG]}, "beyond any memory"),
    ({"raw_data": SIXTEEN, "dims": [-4]}, "size -4"),
    ({"float_data": [1.0, 2.0]}, "needs 16 bytes, found 8"),
    ({"data_type": 7, "int64_data": [1]}, "needs 32 bytes, found 8"),
    ({"data_type": 3, "int32_data": [300] * 4}, "values of int8"),
    ({"external": {"location": "../data"}}, "outside the folder"),
    ({"external": {"location": "/etc/passwd"}}, "outside the folder"),
    ({"external": {"location": "sub/../../data"}}, "outside the folder"),
    ({"external": {"location": "link"}}, "outside the folder"),
    ({"external": {"location": "nothing"}}, "not a file"),
    ({"external": {"location": "n" * 3000}}, "cannot be read: File name too long"),
    ({"external": {"offset": "0"}}, "external data at ''"),
    ({"external": {"location": "data", "length": "17"}}, "bytes 0 to 17 of external data of 16"),
    ({"external": {"location": "data", "offset": "4", "length": "16"}}, "bytes 4 to 20"),
    ({"external": {"location": "data", "offset": "17"}}, "length is '-1'"),
    ({"external": {"location": "data", "offset": "-1"}}, "offset is '-1'"),
    ({"external": {"location": "data", "length": "9" * 40}}, "length is '999"),
], ids=str)  # fmt: skip
def test_onnx_tensors(tmp_path, fields, message):
    write(tmp_path / "data", SIXTEEN)
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder / "data", SIXTEEN)
    (folder / "link").symlink_to(tmp_path / "data")
    refused(write(folder / "file", onnx_with([onnx_tensor(**fields)])), message)


@pytest.mark.parametrize("spelled", [
    lambda i: "data",
    lambda i: "./" * i + "data",
], ids=["alike", "each otherwise"])  # fmt: skip
def test_many_onnx_tensors_of_one_external_file(tmp_path, spelled):
    # 300 names for 1 MiB of float16: read and widened, they would be 900 MiB.
    write(tmp_path / "data", bytes(1 << 20))
    tensors = [
        onnx_tensor(name=f"{i}", data_type=10, dims=[1 << 19], external={"location": spelled(i)})
        for i in range(300)
    ]
    refused(write(tmp_path / "file", onnx_with(tensors)), ": 16 times its size and 1048576")


def test_an_onnx_model_of_nothing_but_nodes(tmp_path):
    # Two bytes each, and hundreds of times that once they are objects.
    nodes = b"\x0a\x00" * 120_000
    content = b"\x08\x07\x3a" + bytes([0x80, 0xD3, 0x0E]) + nodes
    pytest.importorskip("onnx", reason="reads ONNX models")
    refused(write(tmp_path / "file", content), "holds 120000 nodes; at most 100000")


def test_an_onnx_model_of_too_many_fields(tmp_path, monkeypatch):
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 1000)
    pytest.importorskip("onnx", reason="reads ONNX models")
    refused(write(tmp_path / "file", b"\x08\x07" * 1001), "holds more than 1000 fields")


def test_an_onnx_name_twice(tmp_path):
    content = onnx_with([onnx_tensor(raw_data=SIXTEEN)] * 2)
    refused(write(tmp_path / "file", content), "initialiser 'a' appears twice")


def onnx_node(*inputs, kind="GRU", **attributes):
    onnx = pytest.importorskip("onnx", reason="writes and reads ONNX models")
    return onnx.helper.make_node(kind, list(inputs), ["Y"], name="n", **attributes)


@pytest.mark.parametrize(("node", "message"), [
    (lambda: onnx_node("X", "w", "r", hidden_size=3), "hidden_size is 3, but R has 4"),
    (lambda: onnx_node("X", "w", "r", direction="sideways"), "direction 'sideways'"),
    (lambda: onnx_node("X", "w", "r", direction="bidirectional"), "the first of size 2"),
    (lambda: onnx_node("X", "w", "r", direction=1), "is not of type STRING"),
    (lambda: onnx_node("X", "w", "r", activations=[1]), "is not of type STRINGS"),
    (lambda: onnx_node("X", "r", "w"), "expected 9 rows"),
    (lambda: onnx_node("X", "w", "b"), "expected 3 axes"),
    (lambda: onnx_node("X", "w", "r", "w"), "expected 2 axes"),
    (lambda: onnx_node("X", "w"), "weight_hh is left out"),
    (lambda: onnx_node("X", "w", "r", "", "", "b"), "h_0 has shape"),
    (lambda: onnx_node("X", "w", "r", "", "", "ghost"), "is made by nothing"),
    (lambda: onnx_node("X", "Y", "r"), "computed by GRU"),
], ids=lambda _: "")  # fmt: skip
def test_onnx_nodes(tmp_path, node, message):
    shapes = {"w": [1, 12, 3], "r": [1, 12, 4], "b": [1, 24]}
    tensors = [
        onnx_tensor(name=name, dims=dims, raw_data=np.ones(dims, F).tobytes())
        for name, dims in shapes.items()
    ]
    refused(write(tmp_path / "file", onnx_with(tensors, [node()])), message)


def test_onnx_nodes_that_feed_each_other_in_a_ring(tmp_path):
    onnx = pytest.importorskip("onnx", reason="writes and reads ONNX models")
    ring = [onnx.helper.make_node("Identity", [f"v{i}"], [f"v{(i + 1) % 3}"]) for i in range(3)]
    refused(
        write(tmp_path / "file", onnx_with([], [*ring, onnx_node("v0", "v1", "v2")])), "64 nodes"
    )


# --- HDF5 and Keras -------------------------------------------------------------------------


def hdf5_with(build, tmp_path):
    h5py = pytest.importorskip("h5py", reason="writes and reads HDF5")
    with h5py.File(tmp_path / "file", "w") as file:
        build(h5py, file)
    return tmp_path / "file"


def external_link(h5py, file):
    file["a"] = h5py.ExternalLink("/etc/passwd", "/a")


def soft_link(h5py, file):
    file["a"] = h5py.SoftLink("/b")


def ring(h5py, file):
    file.create_group("a")["b"] = file["/"]


def two_names(h5py, file):
    file["a"] = np.zeros(3)
    file["b"] = file["a"]


def external_storage(h5py, file):
    file.create_dataset("a", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def virtual(h5py, file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", (4,))
    file.create_virtual_dataset("a", layout)


def zeros(h5py, file):
    file.create_dataset("a", data=np.zeros(1 << 20), compression="gzip")


def many_zeros(h5py, file):
    for i in range(10):
        file.create_dataset(str(i), data=np.zeros(25_000), compression="gzip")


def one_chunk_missing(h5py, file):
    file.create_dataset("a", (128,), "f4", chunks=(64,))[:64] = np.arange(64)


def chunk_beyond_the_data(h5py, file):
    file.create_dataset("a", (1,), "f4", chunks=(1 << 20,), maxshape=(None,))


def other_filter(h5py, file):
    file.create_dataset("a", data=np.arange(64), chunks=(64,), scaleoffset=0)


def packed_as(h5py, file, raw, **options):
    """A dataset of one chunk of 4096 bytes that is stored as `raw`."""
    dataset = file.create_dataset("a", (1024,), "f4", chunks=(1024,), **options)
    dataset.id.write_direct_chunk((0,), raw)


def gzip_bomb(h5py, file):
    packed_as(h5py, file, zlib.compress(bytes(200 << 20)), compression="gzip")


def lzf_bomb(h5py, file):
    # A byte, and 264 times that byte again and again.
    packed_as(h5py, file, b"\0a" + b"\xe0\xff\0" * 200_000, compression="lzf")


def short_chunk(h5py, file):
    packed_as(h5py, file, zlib.compress(bytes(10)), compression="gzip")


def lzf_before_its_start(h5py, file):
    packed_as(h5py, file, b"\0a\x20\x05", compression="lzf")


def lzf_cut_off(h5py, file):
    packed_as(h5py, file, b"\0a\xe0", compression="lzf")


def not_gzip(h5py, file):
    packed_as(h5py, file, b"not gzip", compression="gzip")


def opaque(h5py, file):
    file.create_dataset("a", data=np.zeros(3, "V2"))


def chunks_of_nothing(h5py, file):
    file.create_dataset("a", (BIG, 0), "f4", chunks=(1, 1), maxshape=(None, None))


def chunked_and_empty(h5py, file):
    file.create_dataset("a", (BIG,), "f4", chunks=(1 << 20,))


def never_written(h5py, file):
    file.create_dataset("a", (BIG,), "f4")


def text(h5py, file):
    file["a"] = "text"


def deep(h5py, file):
    file.create_group("/".join("a" * 40))


@pytest.mark.parametrize(("build", "message"), [
    (external_link, "link 'a' in group '' is external"),
    (soft_link, "link 'a' in group '' is soft"),
    (ring, "leads to an object again|Recursion|deeper"),
    (two_names, "leads to an object again"),
    (external_storage, "keeps its data in another file"),
    (virtual, "is virtual"),
    (zeros, "would take 8388608 bytes out of a file of"),
    (many_zeros, "'7' would take 1[0-9]{6} bytes out of a file of"),
    (chunked_and_empty, "would take 4398046511104 bytes"),
    (one_chunk_missing, "1 of 2 chunks are there"),
    (chunks_of_nothing, "holds no LSTM"),
    (chunk_beyond_the_data, "would take 4194304 bytes"),
    (other_filter, "packed by filter 6, which is not read"),
    (gzip_bomb, "a chunk of 4096 bytes becomes more than that"),
    (lzf_bomb, "a chunk of 4096 bytes becomes more than that"),
    (short_chunk, "a chunk of 4096 bytes has 10"),
    (lzf_before_its_start, "LZF refers to before its start"),
    (lzf_cut_off, "LZF is cut off"),
    (not_gzip, "incorrect header"),
    (opaque, "opaque of 2 bytes is not a number's"),
    (never_written, "0 are stored"),
    (text, "is not a number's"),
    (deep, "nest deeper than 32"),
], ids=lambda value: "" if isinstance(value, str) else value.__name__)  # fmt: skip
def test_hdf5(tmp_path, build, message):
    refused(hdf5_with(build, tmp_path), message)


def test_a_long_name_of_a_group_that_all_paths_repeat(tmp_path):
    def many(h5py, file):
        group = file.create_group("a" * 50_000)
        for i in range(200):
            group.create_group(str(i))

    refused(hdf5_with(many, tmp_path), "paths would take [0-9]{7} bytes out of a file of")


def groups_and_chunks(h5py, file):
    for i in range(500):
        file.create_group(f"group/{i}")
    file.create_dataset("chunks", data=np.arange(300.0), chunks=(1,))


TREE = struct.Struct("<4sBBH16x")


def trees(raw, kind, level):
    """Where in a file the B-trees of a kind are whose roots are at this level."""
    found = [match.start() for match in re.finditer(b"TREE", raw)]
    return [at for at in found if TREE.unpack_from(raw, at)[1:3] == (kind, level)]


# libhdf5 followed these without end, its memory growing by gigabytes.
@pytest.mark.parametrize(("kind", "key"), [(0, 8), (1, 24)], ids=["of a group", "of chunks"])
def test_a_tree_that_leads_to_itself(tmp_path, kind, key):
    raw = bytearray(hdf5_with(groups_and_chunks, tmp_path).read_bytes())
    (root,) = trees(raw, kind, 1)
    struct.pack_into("<Q", raw, root + TREE.size + key, root)
    refused(write(tmp_path / "file", bytes(raw)), f"not a B-tree of HDF5 of kind {kind} below 1")


def test_a_tree_whose_leaves_are_all_the_same(tmp_path):
    raw = bytearray(hdf5_with(groups_and_chunks, tmp_path).read_bytes())
    (root,) = trees(raw, 1, 1)
    count = TREE.unpack_from(raw, root)[3]
    first = raw[root + TREE.size + 24 : root + TREE.size + 32]
    assert count > 3
    for i in range(count):
        raw[root + TREE.size + 32 * i + 24 : root + TREE.size + 32 * (i + 1)] = first
    refused(write(tmp_path / "file", bytes(raw)), " of 300 chunks are there")


def test_a_chunk_that_begins_elsewhere(tmp_path):
    def two(h5py, file):
        file.create_dataset("a", data=np.arange(6.0), chunks=(3,))

    raw = bytearray(hdf5_with(two, tmp_path).read_bytes())
    (root,) = trees(raw, 1, 0)
    second = root + TREE.size + 32 + 8  # past the first key and its chunk, and the size and filters
    assert struct.unpack_from("<Q", raw, second) == (3,)
    struct.pack_into("<Q", raw, second, 2)
    refused(write(tmp_path / "file", bytes(raw)), r"no chunk begins at \(2,\)")


def test_a_header_that_goes_on_in_itself(tmp_path):
    def many(h5py, file):
        for i in range(40):
            file.attrs[f"attribute {i}"] = i

    raw = bytearray(hdf5_with(many, tmp_path).read_bytes())
    (block,) = [m.start() for m in re.finditer(rb"\x10\0\x10\0", raw)][:1]  # type and size
    struct.pack_into("<QQ", raw, block + 8, block, 24)
    refused(write(tmp_path / "file", bytes(raw)), "lie over one another")


def long_names(h5py, file):
    file.attrs["layer_names"] = ["gru", "a longer name"]  # both kept in a global heap


LONG = b"a longer name"
# (what is looked for, where from there, what is written): a heap's own size, an object's size, the
# free space's size (at which libhdf5 hangs) and a string's length (which libhdf5 allocates).
HEAPS = {
    "cut off": lambda raw: (raw.index(b"GCOL") + 8, "<Q", 2**40),
    "reaches beyond its heap": lambda raw: (raw.index(b"GCOL") + 24, "<Q", 2**40),
    "not a global heap": lambda raw: (raw.index(b"GCOL"), "<4s", b"GCOM"),
    "of 3892314125 bytes where its heap has 13": lambda raw: (
        raw.index(struct.pack("<IQ", len(LONG), raw.index(b"GCOL"))), "<I", 0xE800000D
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", HEAPS)
def test_strings_that_libhdf5_would_believe(tmp_path, message):
    raw = bytearray(hdf5_with(long_names, tmp_path).read_bytes())
    place, layout, value = HEAPS[message](raw)
    struct.pack_into(layout, raw, place, value)
    refused(write(tmp_path / "file", bytes(raw)), message)


def test_free_space_without_a_size_ends_a_heap(tmp_path):
    raw = bytearray(hdf5_with(long_names, tmp_path).read_bytes())
    last = max(raw.index(LONG) + 16, raw.index(b"gru", raw.index(b"GCOL")) + 8)
    struct.pack_into("<HHIQ", raw, last, 0, 0, 0, 0)
    refused(write(tmp_path / "file", bytes(raw)), "holds no LSTM")


def test_a_layer_that_is_named_twice(tmp_path):
    """Each time would cost a walk through the attributes of its group."""

    def twice(h5py, file):
        file.attrs["layer_names"] = ["gru", "gru"]

    refused(hdf5_with(twice, tmp_path), "layer_names has a name twice")


def keras_file(tmp_path, config, build=lambda h5py, file: None, metadata=b"{}"):
    raw = hdf5_with(build, tmp_path).read_bytes()
    entries = [("config.json", config), ("model.weights.h5", raw), ("metadata.json", metadata)]
    return write(tmp_path / "model", zip_bytes(entries))


def cell(kernel, recurrent, bias=None):
    def build(h5py, file):
        for i, shape in enumerate([kernel, recurrent, bias]):
            if shape:
                file[f"layers/gru/cell/vars/{i}"] = np.ones(shape, F)

    return build


def model_config(*layers):
    members = [{"class_name": k, "config": {"name": f"layer{i}"}} for i, k in enumerate(layers)]
    return json.dumps({"class_name": "Sequential", "config": {"layers": members}}).encode()


@pytest.mark.parametrize(("config", "build", "message"), [
    (b"{", cell((3, 12), (4, 12)), "config.json: not JSON"),
    (b"[]", cell((3, 12), (4, 12)), "config is a list"),
    (b'{"a":' * 5000, cell((3, 12), (4, 12)), "not JSON"),
    (model_config("GRU", "GRU"), cell((3, 12), (4, 12)), "layer1.*its layer is in the config but"),
    (model_config("LSTM"), cell((3, 12), (4, 12)), "layer0.*its layer is in the config but"),
    (model_config("GRU"), cell((3, 16), (4, 16)), r"those of \['GRU', 'LSTM'\]"),
    (model_config("GRU"), cell((3, 12), (4, 13)), "expected .H, G.H."),
    (model_config("GRU"), cell((3, 11), (4, 12)), "expected .I, 12."),
    (model_config("GRU"), cell((0, 12), (4, 12)), "kernel of shape .0, 12."),
    (model_config("GRU"), cell((3, 12), (4, 12), (13,)), "bias of shape"),
    (model_config("GRU"), cell((3, 12), (12,)), "recurrent kernel of shape"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_keras(tmp_path, config, build, message):
    refused(keras_file(tmp_path, config, build), message)


def two_simple_cells(h5py, file):
    for direction in ("forward_layer", "backward_layer"):
        for i, shape in enumerate([(3, 4), (4, 4)]):
            file[f"layers/bidirectional/{direction}/cell/vars/{i}"] = np.ones(shape, F)


def test_two_directions_without_settings(tmp_path):
    path = keras_file(tmp_path, model_config("Bidirectional"), two_simple_cells)
    refused(path, "layer0.weight_ih_l0 cannot be read: a Bidirectional without a layer")


def test_a_config_that_is_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_model, "MAX_CONFIG", 100)
    refused(keras_file(tmp_path, b" " * 101), "config.json has 101 bytes; at most 100")


@pytest.mark.parametrize(("metadata", "message"), [
    (b"{", "metadata.json: not JSON"),
    (b" " * 201, "metadata.json has 201 bytes; at most 200"),
    (b"[]", "hard_sigmoid' of a Keras whose version"),
    (b'{"keras_version": [3]}', "hard_sigmoid' of a Keras whose version"),
    (b'{"keras_version": "latest"}', "hard_sigmoid' of a Keras whose version"),
    (b'{"keras_version": "' + b"9" * 50 + b'.0"}', "hard_sigmoid' of a Keras whose version"),
], ids=str)  # fmt: skip
def test_metadata_that_does_not_say_which_keras(tmp_path, monkeypatch, metadata, message):
    monkeypatch.setattr(keras_model, "MAX_CONFIG", 200)
    settings = {"name": "a", "activation": "tanh", "recurrent_activation": "hard_sigmoid"}
    layers = [{"class_name": "GRU", "config": settings}]
    config = json.dumps({"class_name": "Sequential", "config": {"layers": layers}}).encode()
    path = keras_file(tmp_path, config, cell((3, 12), (4, 12), (12,)), metadata)
    refused(path, message)


def of_class(kind, **settings):
    """A model of one layer, whose class may be of any type."""
    layer = {"class_name": kind, "config": {"name": "a", **settings}}
    return {"class_name": "Sequential", "config": {"layers": [layer]}}


WRONG_TYPES = [
    of_class(["GRU"]),
    of_class({"GRU": 1}),
    of_class(None),
    of_class("GRU", units="4"),
    of_class("GRU", activation={"class_name": "function"}, go_backwards=[1]),
    of_class("RNN", cell=["GRUCell"]),
    of_class("RNN", cell={"class_name": ["GRUCell"], "config": []}),
    of_class("RNN", cell={"class_name": "StackedRNNCells", "config": {"cells": 3}}),
    of_class("Bidirectional", layer=[], merge_mode={}),
    of_class("Bidirectional", layer={"class_name": []}, backward_layer={"config": 1}),
    of_class("TimeDistributed", layer="GRU"),
    of_class("Sequential", layers={"a": 1}),
    of_class("Functional", layers=[[], 1, {"inbound_nodes": {"keras_history": {}}}]),
    {"class_name": [], "config": {"layers": [{"config": {}}], "output_layers": [[[1]]]}},
]


@pytest.mark.parametrize("config", WRONG_TYPES, ids=range(len(WRONG_TYPES)))
def test_a_config_of_wrong_types(tmp_path, config):
    """A class_name that is a list was a TypeError."""
    path = keras_file(tmp_path, json.dumps(config).encode(), cell((3, 12), (4, 12), (2, 12)))
    refused(path, "model: ")
    weights.find(path)


def test_models_nested_without_end(tmp_path):
    config = {"class_name": "Sequential", "config": {"name": "a", "layers": []}}
    for _ in range(50):
        config = {"class_name": "Sequential", "config": {"name": "a", "layers": [config]}}
    path = keras_file(tmp_path, json.dumps(config).encode())
    refused(path, "models nest deeper than 32")


# --- a library that is not installed --------------------------------------------------------


def test_a_missing_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r'needs onnx: pip install .*"onnx>='):
        weights.read(write(tmp_path / "file", b"\x08\x07"))


def test_the_corpus_starts_from_files_that_load(tmp_path):
    """What is refused above is refused for what was done to it, not for how it is made here."""
    packseq.load(write(tmp_path / "pt", torch_file_of(gru_arrays())))
    npz = zip_bytes([(f"{n}.npy", npy_bytes(a)) for n, a in gru_arrays().items()])
    packseq.load(write(tmp_path / "npz", npz))
    assert zipfile.is_zipfile(io.BytesIO(npz))
