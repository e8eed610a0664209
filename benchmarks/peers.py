"""The libraries a user would otherwise pick, each run on one problem from padded in to padded out.

A peer is a function of (problem, threads) that does what is done once (load weights, build a
session) and returns what is done per call, a function without arguments that returns the output
(T, B, D * R); or None, where the library cannot do the case or would give a wrong answer. All get
the same arrays. A library that is not installed is not in PEERS.
"""

import copy
import os
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np

import packseq
from packseq._core.gemm import Library
from packseq.networks.blas import on_blas
from packseq.weights import gates

# ---- packseq ----


def packseq_module(problem, threads):
    return _call(problem, problem.module)


def packseq_on_blas(problem, threads):
    """The same module, where BLAS stands in the kernels' place, with its own threads."""
    twin = copy.deepcopy(problem.module)
    weights = twin._weights
    weights.network = on_blas(weights.architecture, weights.parameters, BLAS)
    return _call(problem, twin)


def _call(problem, module):
    x, hx, lengths = problem.x, problem.hx, problem.lengths
    if lengths is None:
        return lambda: module(x, hx)[0]
    return lambda: module(x, hx, lengths=lengths)[0]


# ---- torch ----


def _torch_module(problem):
    """torch's module, input and states, sharing the problem's memory."""
    case = problem.case
    dtype = getattr(torch, case.dtype)
    make = getattr(torch.nn, case.cell)
    module = make(case.input_size, case.hidden_size, dtype=dtype, **case.options())
    weights = {name: torch.tensor(w) for name, w in problem.module.state_dict().items()}
    module.load_state_dict(weights)
    hx = problem.hx
    if hx is not None:
        hx = tuple(map(torch.from_numpy, hx)) if case.cell == "LSTM" else torch.from_numpy(hx)
    return module.eval(), torch.from_numpy(problem.x), hx


def torch_packed(problem, threads):
    """Pack, run, pad: right for every case."""
    module, x, hx = _torch_module(problem)
    lengths = torch.from_numpy(problem.case.lengths)
    rnn = torch.nn.utils.rnn

    def run():
        with torch.inference_mode():
            packed = rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            return rnn.pad_packed_sequence(module(packed, hx)[0])[0]

    return run


def torch_padded(problem, threads):
    """Compute the padding too. Its reverse direction would start in the padding."""
    if problem.case.bidirectional and problem.case.ragged:
        return None
    module, x, hx = _torch_module(problem)

    def run():
        with torch.inference_mode():
            return module(x, hx)[0]

    return run


# ---- ONNX Runtime ----


def onnx_runtime(problem, threads):
    """One graph for all layers. Its operators have neither float64 nor a projection."""
    case = problem.case
    if case.dtype != "float32" or case.proj_size:
        return None
    session, feeds = onnx_session(problem, threads), _onnx_feeds(problem)
    return lambda: session.run(None, feeds)[0]


def onnx_session(problem, threads):
    """What runs the graph, from x, and lengths, h and c as the problem has them, to y, h_n, c_n."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Its threads spin while a call runs, but not on into the next peer's turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    model = _onnx_model(problem).SerializeToString()
    return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])


def _onnx_feeds(problem):
    feeds = {"x": problem.x}
    if problem.lengths is not None:
        feeds["lengths"] = problem.lengths.astype(np.int32)
    if problem.hx is not None:
        states = problem.hx if problem.case.cell == "LSTM" else (problem.hx,)
        feeds |= dict(zip(("h", "c"), states, strict=False))
    return feeds


def _onnx_model(problem):
    helper, case = onnx.helper, problem.case
    given = _onnx_feeds(problem)
    nodes, weights, value = [], [], "x"
    for layer in range(case.num_layers):
        made, arrays = _onnx_layer(problem, layer, value, given)
        nodes += made
        weights += [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
        value = nodes[-1].output[0]
    # A user who streams needs the states; the others need the output.
    results = [value, *(name + "_n" for name in given if name in ("h", "c"))]
    graph = helper.make_graph(
        nodes,
        "layers",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in given.items()
        ],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in results],
        weights,
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def _onnx_layer(problem, layer, value, given):
    """One layer's nodes, (T, B, *) to (T, B, D * H), and its weights by name."""
    case = problem.case
    ends = [f"_l{layer}", f"_l{layer}_reverse"][: 1 + case.bidirectional]
    state = problem.module.state_dict()

    def stacked(name):
        return np.stack([_onnx_gates(state[name + end], case.cell) for end in ends])

    arrays = {
        f"w{layer}": stacked("weight_ih"),
        f"r{layer}": stacked("weight_hh"),
        f"b{layer}": np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1),
    }
    options = {"hidden_size": case.hidden_size}
    options["direction"] = "bidirectional" if case.bidirectional else "forward"
    if case.cell == "GRU":
        options["linear_before_reset"] = 1
    if case.cell == "RNN":
        options["activations"] = [case.nonlinearity.capitalize()] * len(ends)
    inputs = [value, *arrays, *(name if name in given else "" for name in ("lengths", "h", "c"))]
    outputs = [f"y{layer}", *(name + "_n" for name in ("h", "c") if name in given)]
    make = onnx.helper.make_node
    nodes = [make(case.cell, inputs[: 7 if case.cell == "LSTM" else 6], outputs, **options)]
    # The operator gives (T, D, B, H).
    if case.bidirectional:
        arrays[f"shape{layer}"] = np.array([0, 0, -1])
        nodes += [
            make("Transpose", [f"y{layer}"], [f"t{layer}"], perm=[0, 2, 1, 3]),
            make("Reshape", [f"t{layer}", f"shape{layer}"], [f"x{layer + 1}"]),
        ]
    else:
        arrays[f"axis{layer}"] = np.array([1])
        nodes += [make("Squeeze", [f"y{layer}", f"axis{layer}"], [f"x{layer + 1}"])]
    return nodes, arrays


def _onnx_gates(parameter, cell):
    ours, theirs = gates.TORCH[cell], gates.ONNX[cell]
    by_gate = parameter.reshape(len(ours), -1, *parameter.shape[1:])
    return by_gate[[ours.index(gate) for gate in theirs]].reshape(parameter.shape)


# ---- NumPy ----


def numpy_loop(problem, threads):
    """What one would write: a loop over the steps of the padded batch, with a mask."""
    case, weights = problem.case, problem.module.state_dict()
    weights = {name: np.array(array) for name, array in weights.items()}
    lengths = case.lengths[:, None]
    ends = ["", "_reverse"][: 1 + case.bidirectional]

    def run():
        value = problem.x
        for layer in range(case.num_layers):
            outputs = []
            for end in ends:
                p = {
                    name: weights[f"{name}_l{layer}{end}"]
                    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                }
                p["weight_hr"] = weights.get(f"weight_hr_l{layer}{end}")
                states = _numpy_states(problem, layer)
                outputs.append(_numpy_direction(case, p, value, lengths, states, end))
            value = np.concatenate(outputs, axis=2) if case.bidirectional else outputs[0]
        return value

    return run


def _numpy_states(problem, layer):
    case = problem.case
    if problem.hx is not None:
        states = problem.hx if case.cell == "LSTM" else (problem.hx,)
        return [state[layer] for state in states]
    h = np.zeros((case.batch_size, case.proj_size or case.hidden_size), case.dtype)
    return [h, np.zeros((case.batch_size, case.hidden_size), case.dtype)][: len(case.cell) // 2]


def _numpy_direction(case, p, x, lengths, states, end):
    steps = range(len(x))
    from_input = x @ p["weight_ih"].T + p["bias_ih"]
    output = np.zeros((*x.shape[:2], states[0].shape[1]), x.dtype)
    for t in reversed(steps) if end else steps:
        from_state = states[0] @ p["weight_hh"].T + p["bias_hh"]
        live = t < lengths
        new = NUMPY_CELLS[case.cell](case, p, from_input[t], from_state, states)
        states = [np.where(live, n, old) for n, old in zip(new, states, strict=True)]
        output[t] = np.where(live, new[0], 0)
    return output


def _numpy_lstm(case, p, from_input, from_state, states):
    i, f, g, o = np.split(from_input + from_state, 4, axis=1)
    c = expit(f) * states[1] + expit(i) * np.tanh(g)
    h = expit(o) * np.tanh(c)
    return (h if p["weight_hr"] is None else h @ p["weight_hr"].T), c


def _numpy_gru(case, p, from_input, from_state, states):
    x_r, x_z, x_n = np.split(from_input, 3, axis=1)
    h_r, h_z, h_n = np.split(from_state, 3, axis=1)
    z = expit(x_z + h_z)
    return ((1 - z) * np.tanh(x_n + expit(x_r + h_r) * h_n) + z * states[0],)


def _numpy_rnn(case, p, from_input, from_state, states):
    total = from_input + from_state
    return (np.tanh(total) if case.nonlinearity == "tanh" else np.maximum(total, 0),)


NUMPY_CELLS = {"LSTM": _numpy_lstm, "GRU": _numpy_gru, "RNN": _numpy_rnn}


# ---- all of them ----

OURS_ON_BLAS = "packseq on BLAS"
PEERS = {"packseq": packseq_module}
if find_spec("torch"):
    import torch

    PEERS |= {"torch packed": torch_packed, "torch padded": torch_padded}
if find_spec("onnx") and find_spec("onnxruntime"):
    import onnx
    import onnxruntime

    PEERS["ONNX Runtime"] = onnx_runtime
if find_spec("scipy"):
    from scipy.linalg import cython_blas
    from scipy.special import expit

    BLAS = Library(cython_blas)
    PEERS |= {OURS_ON_BLAS: packseq_on_blas, "NumPy": numpy_loop}


@contextmanager
def using_threads(threads):
    """Let every library use so many threads, and one thread one core.

    ONNX Runtime is told when a session is made.
    """
    import threadpoolctl  # which timing packseq beside torch alone can do without

    with _on_cores(threads), threadpoolctl.threadpool_limits(threads):
        packseq.set_num_threads(threads)
        if "torch packed" in PEERS:
            torch.set_num_threads(threads)
        yield


@contextmanager
def _on_cores(threads):
    """Keep one thread where it is; the system would move it, and its caches would not follow."""
    if threads > 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def calls_for(problem, threads):
    """What to call, by the peer's name, for all that can do the problem."""
    made = {name: make(problem, threads) for name, make in PEERS.items()}
    return {name: call for name, call in made.items() if call is not None}


# Two results, each within the bound that packseq's tests hold it to (2e-6 of scale in float32,
# 1e-12 in float64), differ by at most twice that.
TOLERANCE = {"float32": 4e-6, "float64": 2e-12}


def disagreement(problem, output, reference):
    """The largest difference over real steps, in units of the tolerance."""
    output, reference = (np.asarray(array)[problem.real] for array in (output, reference))
    scale = max(1, np.abs(reference).max())
    return float(np.abs(output - reference).max() / (TOLERANCE[problem.case.dtype] * scale))
