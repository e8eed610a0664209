"""The modules on BLAS: the numbers, where its routines come from, and when it is chosen."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from processes import in_a_new_process
from strategies import DTYPES, assert_close

import packseq
from packseq._core.blas import Network
from packseq._core.gemm import MOST_INT, Library
from packseq._core.recurrent import GATE_ACTIVATIONS, compiled
from packseq.networks import kernels as runner
from packseq.networks.architecture import CELLS, Architecture
from packseq.networks.blas import on_blas
from packseq.rows.plan import Plan
from packseq.settings import isa

cython_blas = pytest.importorskip("scipy.linalg.cython_blas")
LIBRARY = Library(cython_blas)
LENGTHS = (9, 7, 7, 3, 1, 0)

by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


# ---- the numbers ----


def each_case():
    for cell in CELLS:
        for activation in GATE_ACTIVATIONS if cell.has_sigmoid else ("sigmoid",):
            for projection in (0, 4) if cell.may_project else (0,):
                yield pytest.param(
                    cell, activation, projection, id=f"{cell.name}-{activation}-{projection}"
                )


class Net:
    """Two layers of two directions, with weights wide enough to saturate some gates."""

    def __init__(self, cell, activation, projection, dtype):
        self.architecture = Architecture(
            cell=cell,
            input_size=5,
            hidden_size=7,
            num_layers=2,
            bidirectional=True,
            proj_size=projection,
            recurrent_activation=activation,
        )
        self.dtype, self.activation = dtype, activation
        rng = np.random.default_rng(0)
        self.parameters = {
            name: rng.uniform(-1, 1, shape).astype(dtype)
            for name, shape in self.architecture.shapes.items()
        }
        self.network = on_blas(self.architecture, self.parameters, LIBRARY)

    def states(self, batch):
        rng = np.random.default_rng(1)
        shapes = self.architecture.state_shapes(batch)
        return [rng.uniform(-1, 1, shape).astype(self.dtype) for shape in shapes]

    def expected(self, sequences, hx):
        name = self.architecture.cell.name.upper()
        return reference.run(name, self.parameters, sequences, hx, self.activation)


@pytest.mark.parametrize("with_hx", [False, True])
@pytest.mark.parametrize(("cell", "activation", "projection"), [*each_case()])
@by_dtype
def test_beside_the_reference(dtype, cell, activation, projection, with_hx):
    net = Net(cell, activation, projection, dtype)
    plan = Plan.from_lengths(np.array(LENGTHS))
    x = np.random.default_rng(2).standard_normal((plan.rows, 5)).astype(dtype)
    last = net.states(len(LENGTHS))
    first = net.states(len(LENGTHS)) if with_hx else [None] * len(last)
    out = np.empty((plan.rows, net.architecture.output_size), dtype)
    runner.forward(net.network, x, out, plan, first, last, 1)
    rows = [plan.offsets[:length] + b for b, length in enumerate(LENGTHS)]
    outputs, states = net.expected([x[of] for of in rows], first if with_hx else None)
    for of, output in zip(rows, outputs, strict=True):
        assert_close(out[of], output)
    for part, part_e in zip(last, states, strict=True):
        assert_close(part, part_e)


def windows(x):
    """Rows that share memory: each begins one number after the one before."""
    return np.lib.stride_tricks.sliding_window_view(x.ravel()[: x.shape[0] + 4], 5)


ROWS = {
    "apart": lambda x: np.repeat(x, 2, 0)[::2],
    "within wider ones": lambda x: np.concatenate([x, x], -1)[:, 2:7],
    "backwards": lambda x: x[::-1],
    "one row again and again": lambda x: np.broadcast_to(x[0], x.shape),
    "overlapping": windows,
}


@pytest.mark.parametrize("form", ROWS)
def test_rows_that_blas_cannot_read_as_they_lie(form):
    """A stride of BLAS's is at least a row's length, and positive."""
    net = Net(CELLS[0], "sigmoid", 0, np.float64)
    plan = Plan.from_lengths(np.array([4, 3, 1]))
    x = ROWS[form](np.random.default_rng(3).standard_normal((8, 5)))
    results = []
    for rows in (x, np.ascontiguousarray(x)):
        out, last = (
            np.empty((8, 14)),
            [np.empty(shape) for shape in net.architecture.state_shapes(3)],
        )
        runner.forward(net.network, rows, out, plan, [None, None], last, 1)
        results.append(out)
    assert_close(*results)


@pytest.mark.parametrize(
    ("batch", "steps", "shards"),
    [
        pytest.param(40_000, 3, 2, id="more sequences than a shard has"),
        pytest.param(40, 400, 1, id="more steps than a block has"),
    ],
)
def test_the_same_however_it_is_cut(batch, steps, shards):
    net = Net(CELLS[0], "sigmoid", 4, np.float64)
    made, *_, size = net.network.cut(batch, steps, None, 1)
    assert made == shards
    assert size < 64 << 20
    x = np.random.default_rng(4).standard_normal((steps, batch, 5))

    def run(rows):
        out = np.empty((*rows.shape[:2], 8))
        last = [np.empty(shape) for shape in net.architecture.state_shapes(rows.shape[1])]
        runner.forward(net.network, rows, out, None, [None, None], last, 1)
        return out, *last

    whole = run(x)
    for b in (0, batch // 2, batch - 1):
        for part, part_e in zip(whole, run(x[:, b : b + 1]), strict=True):
            assert_close(part[:, b : b + 1], part_e)


# ---- where the routines come from ----


def capsule_named(name):
    """A capsule like those of cython_blas, with another signature."""
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = (
        ctypes.py_object,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
    )
    return make(1, name, None)


SIGNATURE = (
    b"void (char *, char *, int64_t *, int *, int *, float *, float *, int *, float *, int *, "
    b"float *, float *, int *)"
)


def test_another_signature_is_refused():
    capsules = dict(cython_blas.__pyx_capi__) | {"sgemm": capsule_named(SIGNATURE)}
    changed = SimpleNamespace(__name__="scipy.linalg.cython_blas", __pyx_capi__=capsules)
    with pytest.raises(
        ImportError, match=r"cython_blas.sgemm is 'void \(char \*, char \*, int64_t"
    ):
        Library(changed)


def test_a_missing_routine_is_named():
    capsules = dict(cython_blas.__pyx_capi__)
    del capsules["dgemv"]
    changed = SimpleNamespace(__name__="scipy.linalg.cython_blas", __pyx_capi__=capsules)
    with pytest.raises(ImportError, match="exports no dgemv: packseq needs another version of"):
        Library(changed)


def test_a_weight_too_large_for_its_int():
    """Memory that no one touches: one number, seen from everywhere."""
    shape = (MOST_INT + 1, 1)
    huge = np.broadcast_to(np.float32(0), shape)
    architecture = Architecture(cell=CELLS[-1], input_size=1, hidden_size=MOST_INT + 1)
    vector = np.zeros(1, np.float32)
    with pytest.raises(ValueError, match=rf"shape \({MOST_INT + 1}, 1\) is too large for BLAS"):
        Network(
            LIBRARY,
            architecture.cell.name,
            "sigmoid",
            architecture.hidden_size,
            architecture.state_size,
            1,
            [(huge, huge, None, vector, None, True)],
        )


# ---- who is chosen ----


def chosen(monkeypatch, names):
    """Of a machine that has kernels of these names."""
    table = [SimpleNamespace(name=name, supported=True) for name in names]
    monkeypatch.setattr(isa, "compiled", lambda: table)
    monkeypatch.delenv("PACKSEQ_ISA", raising=False)
    return isa.engine.__wrapped__().name


@pytest.mark.parametrize(
    ("compiled", "name"),
    [
        (["avx2", "baseline"], "avx2"),
        (["neon", "baseline"], "neon"),
        (["baseline"], "blas"),
        ([], "blas"),
    ],
)
def test_kernels_of_vectors_go_before_blas_and_blas_before_the_baseline(
    monkeypatch, compiled, name
):
    assert chosen(monkeypatch, compiled) == name


def test_without_scipy_the_baseline_is_chosen(monkeypatch):
    monkeypatch.setattr(isa.importlib.util, "find_spec", lambda name: None)
    assert chosen(monkeypatch, ["baseline"]) == "baseline"


NO_SCIPY = """
import importlib.util
import sys
import numpy as np


class NoSciPy:
    def find_spec(name, *more):
        if name == "scipy":
            raise ModuleNotFoundError("No module named 'scipy'", name="scipy")


sys.meta_path.insert(0, NoSciPy)
importlib.util.find_spec = lambda name: None
import packseq
packed = packseq.pack_sequence([np.ones((2, 3))])
print(packed.sum())
packseq.LSTM(3, 4)(packed)
"""


def test_asked_for_without_scipy():
    """All but the modules works, and they say what to install."""
    result = in_a_new_process(NO_SCIPY, PACKSEQ_ISA="blas")
    assert result.stdout == "[[2. 2. 2.]]\n"
    assert 'ImportError: this needs scipy: pip install "scipy' in result.stderr


def test_scipy_is_imported_when_a_module_is_called_and_not_before():
    code = (
        "import sys, numpy as np, packseq\n"
        "module = packseq.LSTM(3, 4)\n"
        "print('scipy' in sys.modules)\n"
        "module(np.ones((2, 3), np.float32))\n"
        "print('scipy.linalg' in sys.modules)\n"
    )
    assert in_a_new_process(code, PACKSEQ_ISA="blas").stdout == "False\nTrue\n"


@pytest.mark.skipif(not compiled(), reason="built without kernels")
def test_kernels_need_no_scipy():
    code = (
        "import sys, numpy as np, packseq\n"
        "packseq.LSTM(3, 4)(np.ones((2, 3), np.float32))\n"
        "print('scipy' in sys.modules)\n"
    )
    assert in_a_new_process(code, PACKSEQ_ISA="baseline").stdout == "False\n"


# ---- what runs on the kernels all the same ----

ON_KERNELS = """
import sys
import numpy as np
import packseq
x = np.linspace(-1, 1, 4 * 5, dtype=np.float32).reshape(4, 5)
lstm = packseq.LSTM(5, 9, rng=0)
streams = packseq.Streams(lstm)
parts = [lstm.quantize("int8")(x)[0], lstm.quantize("bfloat16")(x)[0]]
parts.append(streams.push([streams.open() for _ in x], x))
print(b"".join(part.tobytes() for part in parts).hex())
"""


@pytest.mark.skipif(not compiled(), reason="built without kernels")
def test_fewer_bits_and_streams_have_the_bits_of_the_kernels():
    """Those that are chosen where PACKSEQ_ISA names none."""
    on_blas, on_kernels = (in_a_new_process(ON_KERNELS, PACKSEQ_ISA=n) for n in ("blas", ""))
    assert on_blas.stdout == on_kernels.stdout != ""


@pytest.fixture
def without_kernels(monkeypatch):
    """As if this build had none."""
    monkeypatch.delenv("PACKSEQ_ISA", raising=False)
    monkeypatch.setattr(isa, "compiled", list)
    for choice in (isa.engine, isa.kernels):
        choice.cache_clear()
    yield
    for choice in (isa.engine, isa.kernels):
        choice.cache_clear()


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
def test_fewer_bits_without_kernels(without_kernels, precision):
    module, x = packseq.GRU(3, 4, rng=0).quantize(precision), np.ones((2, 3), np.float32)
    with pytest.raises(RuntimeError, match=r"fewer bits.*PACKSEQ_NO_KERNELS"):
        module(x)
    assert module.dequantize()(x)[0].shape == (2, 4)


def test_streams_without_kernels(without_kernels):
    with pytest.raises(RuntimeError, match=r"Streams.*PACKSEQ_NO_KERNELS"):
        packseq.Streams(packseq.GRU(3, 4, rng=0))


# ---- what is said of it ----


def test_the_configuration_says_what_it_is():
    scipy = pytest.importorskip("scipy")
    built = scipy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    config = packseq.show_config("dicts")
    assert config["blas"] == {
        "scipy": scipy.__version__,
        "library": f"{built['name']} {built['version']}",
    }
    assert "blas" in config["kernels"]["available"]


@pytest.mark.parametrize("name", isa.available_isas())
def test_the_configuration_says_whose_bits_depend_on_the_batch(name):
    code = "import packseq; print(packseq.show_config('dicts')['kernels']['same bits'])"
    assert in_a_new_process(code, PACKSEQ_ISA=name).stdout == f"{name != 'blas'}\n"
