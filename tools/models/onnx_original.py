"""A model's own recurrent nodes in onnxruntime, and the whole model cut around them."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from packseq import weights

from .original import NotAtHandError, Original, Whole, random

RECURRENT = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
# The sizes that an axis without one gets, the first that the model takes.
SIZES = (64, 576, 288)
X, H, C, Y = 0, 5, 6, 0


def of_onnx(path: Path, found: weights.Found) -> Original:
    """The nodes of the module in onnxruntime, on what the model's own nodes give them."""
    model = onnx.load(path)
    name = inline(model, found.prefix.rstrip("."))
    chain = chain_of(model.graph, name, found.num_layers)
    x, y = chain[0].input[X], chain[-1].output[Y]
    states = [node.input[at] for node in chain for at in (H, C) if at < len(node.input)]
    given = [x, *filter(None, dict.fromkeys(states))]
    values, feed = first_run(model, [*given, y])
    part = cut_out(model, given, y, values)
    known = {name: values[name] for name in given}
    shipped = rows_of(session(part), known, x)
    quantised = any(node.op_type == "DynamicQuantizeLSTM" for node in chain)
    return Original(
        "onnxruntime",
        rows_of(session(in_float(part)), known, x) if quantised else shipped,
        values[x],
        stacked(chain, values) if found.attributes.given else None,
        whole_of(model, name, feed),
        shipped if quantised else None,
    )


def inline(model: Any, name: str) -> str:
    """Put the bodies that lead to a node in the place of their If; its name without their path."""
    graph = model.graph
    for node in list(graph.node):
        for attribute in node.attribute if node.op_type == "If" else ():
            path = f"{node.name or f'If:{node.output[0]}'}.{attribute.name}."
            if not name.startswith(path):
                continue
            at = list(graph.node).index(node)
            body = attribute.g
            same = [
                helper.make_node("Identity", [inner.name], [outer])
                for inner, outer in zip(body.output, node.output, strict=True)
            ]
            nodes = [*graph.node[:at], *body.node, *same, *graph.node[at + 1 :]]
            graph.initializer.extend(body.initializer)
            copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in nodes]
            del graph.node[:]
            graph.node.extend(copies)
            del graph.value_info[:]
            return inline(model, name.removeprefix(path))
    return name


def chain_of(graph: Any, name: str, layers: int) -> list[Any]:
    """The recurrent nodes from the one of that name on."""
    nodes = [node for node in graph.node if node.op_type in RECURRENT]
    names = [node.name or f"{node.op_type}:{node.output[0]}" for node in nodes]
    if name not in names:
        raise NotAtHandError("no node: only its parameters' names tell it")
    start = names.index(name)
    return nodes[start : start + layers]


def session(model: Any) -> Any:
    """onnxruntime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def first_run(model: Any, names: list[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The values of these names, and the model's inputs that gave them."""
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    have = {value.name for value in [*shown.graph.output, *shown.graph.input]}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in have)
    runtime = session(shown)
    outputs = [value.name for value in runtime.get_outputs()]
    for size in SIZES:
        feed = {value.name: example(value, size) for value in runtime.get_inputs()}
        with contextlib.suppress(Exception):  # onnxruntime's own, of many kinds
            return feed | dict(zip(outputs, runtime.run(None, feed), strict=True)), feed
    raise NotAtHandError(f"the model takes no input of sizes {SIZES}")


def example(value: Any, size: int) -> np.ndarray:
    """An input of a model: numbers around zero, or small whole ones."""
    shape = [
        n if isinstance(n, int) else (size if axis or len(value.shape) == 1 else 1)
        for axis, n in enumerate(value.shape)
    ]
    if value.name == "sr":
        return np.array(16000)
    if value.name == "state":
        shape[1] = 1
    if "int" in value.type:
        return random().integers(1, 10, shape)
    return random().standard_normal(shape, np.float32) / 10


def cut_out(model: Any, inputs: list[str], output: str, values: dict[str, np.ndarray]) -> Any:
    """The part of a model between values."""
    makers = {name: node for node in model.graph.node for name in node.output if name}
    pending, nodes = [output], []
    while pending:
        name = pending.pop()
        node = makers.get(name)
        if name in inputs or node is None or node in nodes:
            continue
        nodes.append(node)
        pending += node.input
    ordered = [node for node in model.graph.node if node in nodes]
    infos = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(values[name].dtype), [None] * values[name].ndim
        )
        for name in [*inputs, output]
    ]
    graph = helper.make_graph(
        ordered, "part", infos[:-1], infos[-1:], list(model.graph.initializer)
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def rows_of(
    runtime: Any, known: dict[str, np.ndarray], x_name: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Runs nodes whose Y is (T, D, B, H), and gives (T, B, D*H) as packseq does."""

    def run(x: np.ndarray) -> np.ndarray:
        (y,) = runtime.run(None, known | {x_name: x})
        return y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)

    return run


def in_float(model: Any) -> Any:
    """The same with plain LSTMs, whose weights are what the integers stand for."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DynamicQuantizeLSTM":
            continue
        x, w, r, *others = node.input
        for at, (name, scale, zero) in enumerate(((w, 8, 9), (r, 10, 11)), start=1):
            each = [stored[node.input[place]] for place in (scale, zero)]
            scales, zeros = (a.reshape(len(a), 1, -1) for a in each)
            whole = (stored[name].astype(np.float32) - zeros) * scales
            array = whole.astype(np.float32).transpose(0, 2, 1)
            tensor = numpy_helper.from_array(np.ascontiguousarray(array), f"{name}_{at}_float")
            model.graph.initializer.append(tensor)
            others.insert(at - 1, tensor.name)
        del node.input[:]
        node.input.extend([x, *others[:7]])
        node.op_type, node.domain = "LSTM", ""
    return model


def stacked(chain: list[Any], values: dict[str, np.ndarray]) -> Any:
    """The first states of all layers as packseq takes them."""
    parts = [
        np.concatenate([values[node.input[at]] for node in chain])
        for at in ((H, C) if "LSTM" in chain[0].op_type else (H,))
    ]
    return tuple(parts) if len(parts) == 2 else parts[0]


def whole_of(model: Any, name: str, feed: dict[str, Any]) -> Whole:
    """The whole model in onnxruntime, and with the module run here."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(model.SerializeToString())
        front, module, back = weights.split(path, f"{name}.")
    unsplit = session(model)
    before, after = (session(side) if side is not None else None for side in (front, back))
    prefix = f"{name}."

    def in_three() -> list[Any]:
        known = feed | (named_run(before, feed) if before else {})
        x = known[f"{prefix}x"] if before else next(iter(feed.values()))
        hx = tuple(known[key] for end in "hc" if (key := f"{prefix}{end}_0") in known)
        output, state = module(x, hx if len(hx) == 2 else next(iter(hx), None))
        parts = state if isinstance(state, tuple) else (state,)
        known |= {f"{prefix}output": output}
        known |= {f"{prefix}{end}_n": part for end, part in zip("hc", parts, strict=False)}
        known |= named_run(after, known) if after else {}
        return [known[value.name] for value in unsplit.get_outputs()]

    return Whole(lambda: unsplit.run(None, feed), in_three)


def named_run(runtime: Any, known: dict[str, Any]) -> dict[str, Any]:
    """What a model gives, by name, of what is known."""
    feed = {value.name: known[value.name] for value in runtime.get_inputs()}
    names = [value.name for value in runtime.get_outputs()]
    return dict(zip(names, runtime.run(None, feed), strict=True))
