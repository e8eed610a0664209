"""Weights that a file holds in parts, put together as torch does when the module runs.

torch's ``weight_norm`` keeps a length and a direction of each row, ``spectral_norm`` a matrix and
its singular vectors, pruning a matrix and a mask, AWD's weight dropping a raw matrix beside one
that is stale. Only the parameters of recurrent modules are put together; others stay as they are.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packseq.networks.architecture import PARAMETER

from .arrays import Array
from .canonical import Checkpoint
from .errors import CheckpointError
from .limits import check_budget

Numbers = NDArray[Any]

PART = re.compile(
    rf"(.*?)(parametrizations\.)?({PARAMETER.pattern})"
    r"(_g|_v|_u|_orig|_mask|_raw|\.original[01]?|\.\d{1,3}\..{1,100})",
    re.DOTALL,
)
WRAPPED = "module."
FIRST, SECOND, ALONE = ".original0", ".original1", ".original"
U, V = ".0._u", ".0._v"


@dataclass
class Whole:
    """A parameter in parts: the names of these by how they end."""

    prefix: str
    name: str
    parts: dict[str, str] = field(default_factory=dict)


def folded(checkpoint: Checkpoint, file_bytes: int) -> Checkpoint:
    """The checkpoint with whole parameters in the place of their parts.

    A scheme that cannot be computed from what the file holds leaves a placeholder that names it.
    """
    wholes = find(checkpoint)
    if not wholes:
        return checkpoint
    arrays, placeholders, total = dict(checkpoint.arrays), dict(checkpoint.placeholders), 0
    made: dict[str, Array] = {}
    for whole in wholes:
        target = target_of(whole, checkpoint.arrays)
        arrays.pop(target, None)
        try:
            total += largest(checkpoint, whole)
            check_budget(total, file_bytes, "what is put together")
            made[whole.prefix + whole.name] = put_together(checkpoint, whole)
        except CheckpointError as error:
            placeholders[target] = str(error)
        else:
            placeholders.pop(target, None)
    return replace(
        checkpoint, arrays=placed(arrays, wholes, made, checkpoint), placeholders=placeholders
    )


def find(checkpoint: Checkpoint) -> list[Whole]:
    """The recurrent parameters that are held in parts."""
    wholes: dict[str, Whole] = {}
    for name in [*checkpoint.arrays, *checkpoint.placeholders]:
        match = PART.fullmatch(name)
        # A parametrization's names have both of its marks, the others' neither.
        if match and bool(match[2]) == match[4].startswith("."):
            whole = wholes.setdefault(match[1] + match[3], Whole(match[1], match[3]))
            whole.parts[match[4]] = name
    return list(wholes.values())


def target_of(whole: Whole, arrays: Mapping[str, Array]) -> str:
    """The name of the parameter; a wrapper's raw weights are those of the module in it."""
    wrapped = f"{whole.prefix}{WRAPPED}"
    others = (whole.name, whole.name.replace("weight_hh", "weight_ih"))
    if "_raw" in whole.parts and any(wrapped + name in arrays for name in others):
        return wrapped + whole.name
    return whole.prefix + whole.name


def placed(
    arrays: dict[str, Array], wholes: list[Whole], made: dict[str, Array], checkpoint: Checkpoint
) -> dict[str, Array]:
    """The arrays in the file's order, each whole where the first of its parts was."""
    first, parts = {}, set()
    for whole in wholes:
        if whole.prefix + whole.name in made:
            names = list(whole.parts.values())
            first[names[0]] = whole
            parts.update(names)
    result: dict[str, Array] = {}
    for name, array in arrays.items():
        if name in first:
            whole = first[name]
            result[target_of(whole, checkpoint.arrays)] = made[whole.prefix + whole.name]
        elif name not in parts:
            result[name] = array
    return result


def largest(checkpoint: Checkpoint, whole: Whole) -> int:
    """The bytes that putting it together may take."""
    held = (checkpoint.arrays.get(name) for name in whole.parts.values())
    return max((array.nbytes for array in held if array is not None), default=0)


def put_together(checkpoint: Checkpoint, whole: Whole) -> Array:
    """The parameter itself."""
    schemes: dict[frozenset[str], Callable[..., Array]] = {
        frozenset({"_g", "_v"}): weight_norm,
        frozenset({FIRST, SECOND}): weight_norm,
        frozenset({"_orig", "_mask"}): pruned,
        frozenset({"_orig", "_u", "_v"}): spectral_norm,
        frozenset({ALONE, U, V}): spectral_norm,
        frozenset({"_raw"}): raw,
    }
    scheme = schemes.get(frozenset(whole.parts))
    if scheme is None:
        raise CheckpointError(f"it is held in parts by {scheme_of(whole)}, which is not known here")
    values = []
    for end in sorted(whole.parts, key=ORDER.index):
        name = whole.parts[end]
        if name in checkpoint.placeholders:
            raise CheckpointError(f"its part {name!r} {checkpoint.placeholders[name]}")
        values.append(checkpoint.arrays[name])
    if values[0].dtype.kind != "f":
        raise CheckpointError(f"its part {whole.parts[min(whole.parts)]!r} is no float")
    with np.errstate(all="ignore"):  # a NaN, or a row of zeros, is what the file says
        return scheme(*values)


# In which order a scheme takes its parts.
ORDER = ["_g", FIRST, SECOND, "_orig", ALONE, "_mask", "_u", U, "_v", V, "_raw"]


def scheme_of(whole: Whole) -> str:
    """What holds a parameter in parts of these names, as far as they tell."""
    ends = set(whole.parts)
    if ends == {ALONE, ".0.base"}:
        return "torch.nn.utils.parametrizations.orthogonal"
    if ALONE in ends or FIRST in ends:
        return f"torch.nn.utils.parametrize ({', '.join(sorted(ends)[:4])})"
    return f"a scheme of its own ({', '.join(sorted(ends)[:4])})"


def weight_norm(length: Numbers, direction: Numbers) -> Array:
    """g v / |v|, the norm over all axes along which g has one entry."""
    sizes = zip(length.shape, direction.shape, strict=False)
    if length.ndim not in (0, direction.ndim) or any(g not in (1, v) for g, v in sizes):
        raise CheckpointError(
            f"it is held in parts of shapes {length.shape} and {direction.shape}, which are not a "
            "weight norm's"
        )
    v = direction.astype(np.float64)
    axes = tuple(a for a in range(v.ndim) if length.ndim == 0 or length.shape[a] == 1)
    norm = np.sqrt(np.square(v).sum(axis=axes, keepdims=True))
    return np.asarray(v * (length / norm), direction.dtype)


def pruned(original: Numbers, mask: Numbers) -> Array:
    """What a mask leaves."""
    if mask.shape != original.shape or mask.dtype.kind not in "fbiu":
        raise CheckpointError(f"its mask has shape {mask.shape}; expected {original.shape}")
    return np.asarray(original * mask, original.dtype)


def spectral_norm(original: Numbers, u: Numbers, v: Numbers) -> Array:
    """W / (u W v), with the vectors of the last training step, as torch does in eval."""
    if original.ndim != 2 or u.ndim != 1 or v.ndim != 1:
        raise CheckpointError("it is held in parts of shapes that are not a spectral norm's")
    matrix = original.astype(np.float64)
    if (len(u), len(v)) != matrix.shape or is_transposed(matrix, u, v):
        raise CheckpointError(
            "it is held in parts by a spectral norm along another axis than the first, which is "
            "not known here"
        )
    return np.asarray(matrix / (u @ matrix @ v), original.dtype)


def is_transposed(matrix: Numbers, u: Numbers, v: Numbers) -> bool:
    """Whether the vectors of a square matrix are rather those of its transpose."""
    if matrix.shape[0] != matrix.shape[1]:
        return False
    norm = np.linalg.norm
    apart = [norm(u * norm(m @ v) - m @ v) for m in (matrix, matrix.T)]
    return bool(apart[1] < apart[0])


def raw(weights: Array) -> Array:
    """Dropped weights before the dropping."""
    return weights
