"""What a state dict says: names under a prefix, and the network that its shapes tell.

The parameters of a cell have the names of those of a module of one layer and one direction, but for
``_l0`` at the end; each may be given where the other is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq.checks import as_array, is_number
from packseq.halves import widened
from packseq.networks.architecture import PARAMETER_NAMES, PLAIN, Architecture, infer

Array = NDArray[Any]

FIRST_LAYER = "_l0"


def as_prefix(mapping: object, prefix: object) -> str:
    """Check a state dict and the prefix of one module in it, whose final dot may be left out.

    Raises
    ------
    TypeError
        No mapping of names, such as a file's name or a module; `prefix` is no string.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a string, got {prefix!r}")
    if not isinstance(mapping, Mapping):
        raise TypeError(
            "mapping must be a mapping of names to arrays (a state dict), "
            f"got {type(mapping).__name__}"
        )
    for key in mapping:
        if not isinstance(key, str):
            raise TypeError(f"mapping must have names for keys, got {key!r}")
    dotted = f"{prefix}."
    return dotted if prefix and any(key.startswith(dotted) for key in mapping) else prefix


def names_under(mapping: Mapping[str, Any], prefix: str, one_step: bool) -> dict[str, str]:
    """The keys under a prefix by the parameters' names, those of a cell or those of a module."""
    given = {key[len(prefix) :]: key for key in mapping if key.startswith(prefix)}
    own, other = ("", FIRST_LAYER) if one_step else (FIRST_LAYER, "")
    if f"weight_ih{own}" in given or f"weight_ih{other}" not in given:
        return given
    ours = {name + other: name + own for name in PARAMETER_NAMES}
    return {ours.get(name, name): key for name, key in given.items()}


def name_problems(
    shapes: Mapping[str, tuple[int, ...]], given: Mapping[str, str], prefix: str
) -> list[str]:
    missing = [prefix + name for name in shapes if name not in given]
    unexpected = [key for name, key in given.items() if name not in shapes]
    return [
        f"{kind} {', '.join(names)}"
        for kind, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]


def inferred(
    kind: str, mapping: Mapping[str, Any], prefix: str, one_step: bool
) -> tuple[Architecture, bool]:
    """The architecture that a state dict tells, and whether its weights are float64.

    Raises
    ------
    TypeError
        A weight is not of floats.
    ValueError
        There is no network at `prefix`, or one of another kind, or a projection in a cell.
    """
    given = names_under(mapping, prefix, one_step)
    end = "" if one_step else FIRST_LAYER
    names = [name + end for name in ("weight_ih", "weight_hh", "weight_hr")]
    first = {n: as_weights(mapping[given[n]], given[n]) for n in names if n in given}
    for name in names[:2]:
        if name not in first:
            raise ValueError(
                f"missing {prefix}{name}: no {kind} under prefix {prefix!r}"
                + _other_prefixes(mapping)
            )
    if one_step and names[2] in first:
        raise ValueError(f"{given[names[2]]} projects a state; a cell has no projection")
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(given, ())
    shapes |= {name: array.shape for name, array in first.items()}
    architecture = infer(shapes, prefix, one_step)
    found = architecture.cell
    if found.kind != kind:
        rows, hidden = first[names[1]].shape[0], architecture.hidden_size
        raise ValueError(
            f"{given[names[1]]} has {rows} rows for hidden_size {hidden}, but the "
            f"{len(PLAIN[kind].gates)} gate(s) of {kind} need {len(PLAIN[kind].gates) * hidden}; "
            f"{found.kind} has {len(found.gates)}"
        )
    return architecture, first[names[0]].dtype.itemsize == 8


def _other_prefixes(mapping: Mapping[str, Any]) -> str:
    ends = ("weight_ih", f"weight_ih{FIRST_LAYER}")
    found = {name.removesuffix(end) for name in mapping for end in ends if name.endswith(end)}
    return f"; there are such under {', '.join(map(repr, sorted(found)))}" if found else ""


def as_integers(value: Any, name: str) -> Array:
    """Take an int8 array, or a tensor of them.

    Raises
    ------
    TypeError
        Of another dtype.
    """
    array = as_array(value, name)
    if array.dtype != np.int8:
        raise TypeError(f"{name} must be int8, got dtype {array.dtype}")
    return array


def as_weights(value: Any, name: str) -> Array:
    """Take an array or a torch tensor of floats, uncopied where possible.

    Raises
    ------
    TypeError
        Masked, or not float32 or float64, or half precision, which is widened.
    ValueError
        Nested sequences that are ragged.
    """
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        value = widened(value.detach().cpu())
    array = widened(as_array(value, name))
    if not is_number(array.dtype, "f"):
        raise TypeError(f"{name} must be float16, float32 or float64, got dtype {array.dtype}")
    weights: Array = array
    return weights
