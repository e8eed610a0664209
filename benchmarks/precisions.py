"""int8 and bfloat16 beside float32, and beside the low-precision peers that are installed.

    python benchmarks/precisions.py [SECONDS [WORDS OF CASES...]]

One thread, through the public calls, all in turn; a table in Markdown. A ratio is how many times as
fast packseq's int8 or bfloat16 is. A peer's error is beside it: their results change with the
batch, and a peer that has no such cell or no lengths is left out.
"""

import os
import platform
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import peers
from cases import BOTH, Case, Problem, equal, sentences, speech, zipf
from timing import in_turn_until, measure_each, ms, print_head, print_row, times_as_fast

import packseq
from packseq.settings import isa

SHAPES = [
    ("one sequence", 256, equal(1, 100), {}),
    ("one sequence", 512, equal(1, 100), {"num_layers": 2}),
    ("one sequence", 1536, equal(1, 25), {}),
    ("four sequences", 1024, equal(4, 25), {}),
    ("sentences", 256, sentences(32), BOTH),
    ("speech", 512, speech(8, 50), BOTH | {"num_layers": 2}),
    ("Zipf", 128, zipf(256, 120), {}),
    ("one step", 128, equal(1, 1), {"stream": True}),
]
CASES = [
    Case(about, cell, hidden, hidden, lengths, **options)
    for cell in ("LSTM", "GRU")
    for about, hidden, lengths, options in SHAPES
]


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
    rnn, lengths = torch.nn.utils.rnn, torch.from_numpy(problem.case.lengths)

    def run():
        with torch.inference_mode():
            if problem.lengths is None:
                return small(x, hx)[0].numpy()
            packed = rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            return rnn.pad_packed_sequence(small(packed, hx)[0])[0].numpy()

    return run


WAYS = {
    "float32": packseq_in(None),
    "int8": packseq_in("int8"),
    "bfloat16": packseq_in("bfloat16"),
    "ORT int8": onnx_runtime_int8,
    "torch int8": torch_int8,
}
RATIOS = [
    ("int8", "float32"),
    ("bfloat16", "float32"),
    ("int8", "ORT int8"),
    ("int8", "torch int8"),
]
found: dict[tuple[str, str, str], list[float]] = {}


def measure(case, end):
    problem = Problem(case)
    calls = {name: make(problem) for name, make in WAYS.items()}
    calls = {name: call for name, call in calls.items() if call is not None}
    exact = calls["float32"]()
    with peers.using_threads(1):
        seconds = in_turn_until(end, calls)
    cells = [case.model + ", " + case.about, ms(seconds["float32"])]
    for name, other in RATIOS:
        if other in seconds:
            ratio = times_as_fast(seconds, name, other)
            found.setdefault((case.cell, name, other), []).append(ratio)
        cells.append(f"{ratio:.2f}" if other in seconds else "")
    for name in WAYS:
        if name in calls and name != "float32":
            off = np.abs(calls[name]() - exact)[problem.real]
            cells.append(f"{off.max():.0e}, {off.mean():.0e}")
        elif name != "float32":
            cells.append("")
    print_row(*cells)


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")


def main(arguments):
    seconds = float(arguments[0]) if arguments else 120
    words = arguments[1:]
    cases = [case for case in CASES if all(word in case.name for word in words)]
    kernels = f"{isa.kernels().name}; packseq {packseq.__version__}"
    print(f"{processor()}, {os.cpu_count()} cores; {kernels}")
    ratios = [f"{name} / {other}" for name, other in RATIOS]
    errors = [f"error of {name}" for name in WAYS if name != "float32"]
    print_head("One thread", "case", "float32, ms", *ratios, *errors)
    failed = measure_each(measure, cases, seconds)
    for (cell, name, other), values in found.items():
        print(f"\n{cell}, {name} over {other}: {np.exp(np.mean(np.log(values))):.2f}", end="")
    print()
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
