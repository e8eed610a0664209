"""What a file does not say and its package's code does: settings, and torch's names of its weights.

Read off the code by hand; none of it is run.
"""

import re
from pathlib import Path

import numpy as np

from packseq import weights

# What only a package's code, or the version of Keras that its file names, says of a layer.
SAID = {
    # Keras 2.2.0 wrote these files; its default was not yet sigmoid.
    "chars2vec": {"recurrent_activation": "hard_sigmoid_0.2"},
    # eval_model.json and train_model.json beside the weights.
    "rnnmorph": {"recurrent_activation": "hard_sigmoid_0.2"},
    # CuDNN's layers have no other.
    "textgenrnn": {"recurrent_activation": "sigmoid"},
}


def renamed(package: str, path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file under torch's names; none where the package's own are not known."""
    if package == "g2p_en" and path.suffix == ".npz":
        return of_g2p_en(weights.read(path))
    if package == "madmom" and path.suffix == ".pkl":
        return of_madmom(weights.read(path), weights.unreadable(path))
    return {}


def of_g2p_en(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """An encoder and a decoder, each a GRU in torch's order."""
    short = {"w": "weight", "b": "bias"}
    return {
        f"{match[1]}.{short[match[2]]}_{match[3]}_l0": array
        for name, array in arrays.items()
        if (match := re.fullmatch(r"(enc|dec)_([wb])_(ih|hh)", name))
    }


# madmom's gates in torch's order, by how many arrays of weights a layer has.
GATES = {
    "LSTMLayer": ("input_gate.", "forget_gate.", "cell.", "output_gate."),
    "GRUCell": ("reset_gate.", "update_gate.", "cell."),
}
PEEPHOLES = {"ci": "input_gate.", "cf": "forget_gate.", "co": "output_gate."}


def of_madmom(arrays: dict[str, np.ndarray], unread: dict[str, str]) -> dict[str, np.ndarray]:
    """Layers of LSTMs with peepholes or of GRUs, in one or two directions.

    The matrices are for rows, (I, H), and there is one bias. A GRU keeps the new state by its
    update gate, where torch keeps the old one: the gate's sign is turned.
    """
    result: dict[str, np.ndarray] = {}
    states: dict[str, np.ndarray] = {}
    for name, reason in unread.items():
        match = re.fullmatch(
            r"(layers\.(\d+)\.(?:(fwd|bwd)_layer\.)?)(?:cell\.)?weight_ih_l0", name
        )
        kind = next((kind for kind in GATES if kind in reason), None)
        if match and kind:
            suffix = f"_l{match[2]}{'_reverse' if match[3] == 'bwd' else ''}"
            layer = madmom_layer(arrays, match[1], kind)
            result |= {f"{part}{suffix}": array for part, array in layer.items()}
            if (first := arrays.get(f"{match[1]}hid_init")) is not None:
                states[suffix] = first
    if states:
        result["h_0"] = np.stack([states[suffix] for suffix in sorted(states)])[:, None]
    return result


def madmom_layer(arrays: dict[str, np.ndarray], at: str, kind: str) -> dict[str, np.ndarray]:
    """One layer in one direction."""

    def joined(part: str) -> np.ndarray:
        signs = (-1 if gate == "update_gate." else 1 for gate in GATES[kind])
        parts = [s * arrays[at + g + part].T for s, g in zip(signs, GATES[kind], strict=True)]
        return np.ascontiguousarray(np.concatenate(parts))

    layer = {"weight_ih": joined("weights"), "weight_hh": joined("recurrent_weights")}
    layer |= {"bias_ih": joined("bias")}
    layer |= {"bias_hh": np.zeros_like(layer["bias_ih"])}
    if kind == "LSTMLayer":
        peepholes = {
            f"weight_{end}": arrays[f"{at}{gate}peephole_weights"]
            for end, gate in PEEPHOLES.items()
        }
        layer |= peepholes
    return layer
