"""Write tests/data/torch_values.npz: what torch computes, for tests that run without torch.

    python tools/make_torch_values.py

The weights, inputs and states are float16 numbers, which float32 and float64 hold exactly, so
that the outputs, computed by torch in float64, are those of either width but for rounding.
Each case has its arrays under "<number>/", described in the JSON under "cases".
"""

import json
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence, pad_sequence

INPUT_SIZE, HIDDEN_SIZE, PROJ_SIZE = 3, 5, 2
LENGTHS = (2, 6, 1, 4, 4)  # unsorted, with a tie; torch packs no empty sequence
TARGET = Path(__file__).parents[1] / "tests" / "data" / "torch_values.npz"

KINDS = [
    ("LSTM", {}),
    ("LSTM", {"proj_size": PROJ_SIZE}),
    ("GRU", {}),
    ("RNN", {"nonlinearity": "tanh"}),
    ("RNN", {"nonlinearity": "relu"}),
]
DEPTHS = [{}, {"num_layers": 2, "bidirectional": True}]


def halves(shape):
    """Uniform numbers within (-1/2, 1/2) that float16 holds: about torch's 1/sqrt(HIDDEN_SIZE)."""
    return (torch.rand(shape) - 0.5).to(torch.float16)


def tensors(state):
    """h or (h, c) -> (h,) or (h, c)."""
    return state if isinstance(state, tuple) else (state,)


def as_hx(parts):
    """The inverse, in float64."""
    parts = tuple(part.double() for part in parts)
    return parts if len(parts) == 2 else parts[0]


def by_part(group, parts):
    return {f"{group}/{part}": value for part, value in enumerate(parts)}


def with_new_weights(module):
    """The module in float64, and its state dict in float16."""
    weights = {name: halves(value.shape) for name, value in module.state_dict().items()}
    module.load_state_dict(weights)
    return module.double().eval(), weights


def run_module(name, options):
    module, weights = with_new_weights(getattr(torch.nn, name)(INPUT_SIZE, HIDDEN_SIZE, **options))
    sequences = [halves((length, INPUT_SIZE)) for length in LENGTHS]
    packed = pack_sequence([x.double() for x in sequences], enforce_sorted=False)
    state_0 = [halves(part.shape) for part in tensors(module(packed)[1])]
    output, state_n = module(packed, as_hx(state_0))
    padded = pad_sequence(sequences)
    results = {"output": pad_packed_sequence(output)[0]} | by_part("state_n", tensors(state_n))
    return weights, {"input": padded} | by_part("state_0", state_0) | results


def run_cell(name, options):
    cell, weights = with_new_weights(getattr(torch.nn, name)(INPUT_SIZE, HIDDEN_SIZE, **options))
    x = halves((len(LENGTHS), INPUT_SIZE))
    state_0 = [halves(part.shape) for part in tensors(cell(x.double()))]
    results = by_part("state_n", tensors(cell(x.double(), as_hx(state_0))))
    return weights, {"input": x} | by_part("state_0", state_0) | results


def main():
    torch.manual_seed(0)
    runs = [
        (run_module, name, kind | depth | {"bias": bias})
        for (name, kind), depth, bias in product(KINDS, DEPTHS, [True, False])
    ] + [
        (run_cell, name + "Cell", kind | {"bias": bias})
        for (name, kind), bias in product(KINDS, [True, False])
        if "proj_size" not in kind
    ]
    cases, arrays = [], {}
    for number, (run, name, options) in enumerate(runs):
        cases.append({"class": name, "options": options})
        with torch.no_grad():
            weights, values = run(name, options)
        values |= {f"weights/{n}": value for n, value in weights.items()}
        arrays |= {f"{number}/{key}": value.numpy() for key, value in values.items()}
    about = {"torch": torch.__version__, "lengths": LENGTHS, "cases": cases}
    np.savez_compressed(TARGET, about=np.array(json.dumps(about)), **arrays)
    print(f"{TARGET}: {len(cases)} cases, {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
