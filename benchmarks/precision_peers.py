"""int8 and bfloat16 by whoever has them, each run on one problem from padded in to padded out.

As in ``peers.py``: a function of a problem that returns what is called, or None where the library
has no such cell. All take float32 in, and give float32 out.
"""

import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import peers


def packseq_in(precision):
    def made(problem):
        module = problem.module.quantize(precision) if precision else problem.module
        x, hx, lengths = problem.x, problem.hx, problem.lengths
        return lambda: module(x, hx, lengths=lengths)[0]

    return made


def onnx_runtime_int8(problem):
    """DynamicQuantizeLSTM; there is none of a GRU."""
    if problem.case.cell != "LSTM" or "ONNX Runtime" not in peers.PEERS:
        return None
    import onnx
    import onnxruntime
    from onnxruntime.quantization import quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        full, small = Path(folder, "full.onnx"), Path(folder, "small.onnx")
        onnx.save(peers._onnx_model(problem), full)
        quantize_dynamic(full, small, per_channel=True)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(small, options, ["CPUExecutionProvider"])
    feeds = peers._onnx_feeds(problem)
    return lambda: session.run(None, feeds)[0]


def torch_int8(problem):
    """Dynamically quantized, packed where lengths differ."""
    if "torch packed" not in peers.PEERS:
        return None
    import torch

    module, x, hx = peers._torch_module(problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated
        # Its quantized class is of a layer inside of a model.
        model = torch.nn.Sequential(module)
        small = torch.ao.quantization.quantize_dynamic(model, {type(module)}, torch.qint8)[0]
    return _torch_call(problem, small, x, hx)


def torch_bfloat16(problem):
    """The module in bfloat16, states and sums too, packed where lengths differ."""
    if "torch packed" not in peers.PEERS:
        return None
    import torch

    module, x, hx = peers._torch_module(problem)
    if hx is not None:
        hx = tuple(h.bfloat16() for h in hx) if isinstance(hx, tuple) else hx.bfloat16()
    return _torch_call(problem, module.to(torch.bfloat16), x, hx, torch.bfloat16)


def _torch_call(problem, module, x, hx, dtype=None):
    import torch

    rnn, lengths = torch.nn.utils.rnn, torch.from_numpy(problem.case.lengths)

    def run():
        with torch.inference_mode():
            given = x if dtype is None else x.to(dtype)
            if problem.lengths is None:
                return module(given, hx)[0].float().numpy()
            packed = rnn.pack_padded_sequence(given, lengths, enforce_sorted=False)
            return rnn.pad_packed_sequence(module(packed, hx)[0])[0].float().numpy()

    return run


def openvino_bfloat16(problem):
    """The graph that ONNX Runtime has, compiled for bfloat16."""
    if not find_spec("openvino") or "ONNX Runtime" not in peers.PEERS:
        return None
    import openvino

    core = openvino.Core()
    model = core.read_model(peers._onnx_model(problem).SerializeToString())
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    feeds = peers._onnx_feeds(problem)
    return lambda: np.array(request.infer(feeds)[0])


WAYS = {
    "float32": packseq_in(None),
    "int8": packseq_in("int8"),
    "bfloat16": packseq_in("bfloat16"),
    "ORT int8": onnx_runtime_int8,
    "torch int8": torch_int8,
    "torch bf16": torch_bfloat16,
    "OpenVINO bf16": openvino_bfloat16,
}
