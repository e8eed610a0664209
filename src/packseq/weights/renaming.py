"""Arrays under names of a file's own, given those of a recurrent module by the caller."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from .canonical import MEMBER, Checkpoint, prefixes

# Of the names that there are, an error shows those that are most alike.
MAX_SHOWN = 4


def renamed(checkpoint: Checkpoint, names: Mapping[str, str]) -> Checkpoint:
    """The checkpoint with some of its arrays under the parameters' names that `names` gives them.

    Raises
    ------
    TypeError
        `names` is no mapping of strings to strings.
    ValueError
        The file holds no array of a name; a new name is no parameter's, or that of two arrays; or
        a module of new names has no first weight.
    """
    check(names, [*checkpoint.arrays, *checkpoint.placeholders])
    result = replace(
        checkpoint,
        arrays={names.get(name, name): array for name, array in checkpoint.arrays.items()},
        placeholders={names.get(n, n): why for n, why in checkpoint.placeholders.items()},
    )
    for prefix in prefixes_of(names):
        if prefix not in prefixes(result):
            raise ValueError(f"rename: makes no module at {prefix!r}: there is no weight_ih_l0")
    return result


def prefixes_of(names: Mapping[str, str]) -> list[str]:
    """The prefixes of the modules that the new names are parameters of."""
    matches = map(MEMBER.fullmatch, names.values())
    return list(dict.fromkeys(match[1] for match in matches if match))


def check(names: object, held: Iterable[str]) -> None:
    """Refuse new names that cannot be given."""
    if not isinstance(names, Mapping):
        raise TypeError(f"rename must be a mapping of names, got {type(names).__name__}")
    for old, new in names.items():
        if not isinstance(old, str) or not isinstance(new, str):
            raise TypeError(f"rename must be a mapping of strings to strings, got {old!r}: {new!r}")
    there = list(held)
    for old, new in names.items():
        if old not in there:
            like = difflib.get_close_matches(old, there, MAX_SHOWN, 0) or "none at all"
            raise ValueError(f"rename: there is no array {old!r}; the most alike are {like}")
        if not MEMBER.fullmatch(new):
            raise ValueError(
                f"rename: {new!r} is the name of no parameter, such as 'weight_ih_l0' or "
                "'encoder.weight_ih_l0'"
            )
    counts = Counter(names.get(name, name) for name in there)
    if twice := [new for new in names.values() if counts[new] > 1]:
        both = [name for name in there if names.get(name, name) == twice[0]]
        raise ValueError(f"rename: {' and '.join(map(repr, both))} would both be {twice[0]!r}")
