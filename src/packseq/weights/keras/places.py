"""Where a Keras file keeps the arrays of each cell, and which cells its config says nothing of.

``.weights.h5`` has a group for each object of the model, so that a cell's path follows from the
config. The older ``.h5`` has one for each layer of the outermost model, with the variables of all
that is in it: they are told apart by the names in their paths, or else by their order, which is
how Keras loads them.

Source: keras.src.saving.saving_lib and keras.src.legacy.saving.legacy_h5_format.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from ..errors import CheckpointError
from .config import Layer, Slot
from .hdf5 import Tree

Paths = list[str]

# The two cells of a Bidirectional, by the names that it gives to its layers.
DIRECTION = re.compile(r"((?:.*?/)?)(forward|backward)_([^/]+)", re.DOTALL)


@dataclass
class Places:
    """The arrays of each layer's cells, and by their prefix those of cells in no config."""

    configured: dict[Layer, list[Paths]] = field(default_factory=dict)
    others: dict[str, list[Paths]] = field(default_factory=dict)

    def add(self, layers: Iterable[Layer], found: dict[Slot, Paths]) -> None:
        """Those of `layers` all of whose cells were found."""
        for layer in layers:
            if layer.slots and all(slot in found for slot in layer.slots):
                self.configured[layer] = [found[slot] for slot in layer.slots]


def modern_places(tree: Tree, layers: list[Layer]) -> Places:
    """The cells of ``.weights.h5``; those in no config, by the path of their layer's group."""
    held: dict[str, Paths] = {}
    for path in tree.datasets:
        group = path.rpartition("/")[0]
        if group.endswith("/vars"):
            held.setdefault(group.removesuffix("/vars"), []).append(path)
    places = Places()
    slots = [slot for layer in layers for slot in layer.slots]
    places.add(layers, {slot: held.pop(slot.path) for slot in slots if slot.path in held})
    for path, paths in held.items():
        layer, _, last = path.rpartition("/")
        outer, _, direction = layer.rpartition("/")
        if layer.endswith("/cell/cells"):
            places.others[f"{path}."] = [paths]
        elif last == "cell" and direction == "forward_layer":
            places.others.setdefault(f"{outer}.", []).insert(0, paths)
        elif last == "cell" and direction == "backward_layer":
            places.others.setdefault(f"{outer}.", []).append(paths)
        elif last == "cell":
            places.others[f"{layer}."] = [paths]
    return places


def legacy_places(tree: Tree, root: str, homes: list[str], layers: list[Layer]) -> Places:
    """The cells of an older ``.h5``, whose groups are `homes` in the group `root`."""
    if len(set(homes)) < len(homes):
        raise CheckpointError("layer_names has a name twice")
    places = Places()
    at_home: dict[str, list[Layer]] = {}
    for layer in layers:
        at_home.setdefault(layer.home, []).append(layer)
    for home in homes:
        folders = folders_of(tree, f"{root}/{home}" if root else home)
        wanted = at_home.get(home, [])
        found = matched(wanted, list(folders))
        places.add(wanted, {slot: folders[folder] for slot, folder in found.items()})
        claimed = set(found.values())
        pairs = list(paired([folder for folder in folders if folder not in claimed]))
        for pair in pairs:
            alone = len(pairs) == 1 and not wanted
            prefix = f"{home}." if alone else f"{home}/{pair[0]}."
            places.others[prefix] = [folders[folder] for folder in pair]
    return places


def folders_of(tree: Tree, group: str) -> dict[str, Paths]:
    """The variables of each recurrent cell in a group, in the order that the group lists."""
    folders: dict[str, Paths] = {}
    for name in tree.attribute(group, "weight_names") or []:
        folders.setdefault(name.rpartition("/")[0], []).append(f"{group}/{name}")
    return {
        folder: paths
        for folder, paths in folders.items()
        if any(leaf(path) == "recurrent_kernel" for path in paths)
    }


def leaf(path: str) -> str:
    """The last name of a path; TensorFlow's variables end in ":0"."""
    return path.rpartition("/")[2].removesuffix(":0")


def matched(layers: Sequence[Layer], folders: list[str]) -> dict[Slot, str]:
    """The folder of each cell: by name where that is unique, else by order where that is sure."""
    slots = [slot for layer in layers for slot in layer.slots]
    by_name = {slot: found[0] for slot, found in named(slots, folders) if len(found) == 1}
    claimed = set(by_name.values())
    rest = [slot for slot in slots if slot not in by_name]
    left = [folder for folder in folders if folder not in claimed]
    if len(claimed) == len(by_name) and all(slot.problem for slot in rest):
        # Which array is whose does not matter among those that cannot be run.
        return by_name | (dict(zip(rest, left, strict=True)) if len(rest) == len(left) else {})
    # What is frozen stands behind what is not.
    if len(slots) == len(folders) and len({layer.frozen for layer in layers}) == 1:
        return dict(zip(slots, folders, strict=True))
    return {}


def named(slots: Sequence[Slot], folders: list[str]) -> Iterator[tuple[Slot, list[str]]]:
    """Each cell with the folders that have all of its names."""
    holders: dict[str, set[str]] = {}
    for folder in folders:
        for name in folder.split("/"):
            holders.setdefault(name, set()).add(folder)
    # Many cells may have one name, and many folders too: what has it is gathered once.

    @cache
    def having(names: tuple[str, ...]) -> set[str]:
        return set[str]().union(*(holders.get(name, ()) for name in names))

    @cache
    def having_all(levels: tuple[tuple[str, ...], ...]) -> list[str]:
        return list(set.intersection(*map(having, levels)))

    for slot in slots:
        yield slot, having_all(slot.names)


def paired(folders: list[str]) -> Iterator[list[str]]:
    """Each folder, or the two of a Bidirectional, forward first."""
    halves: dict[tuple[str, str], dict[str, list[str]]] = {}
    for folder in folders:
        if half := DIRECTION.match(folder):
            by_direction = halves.setdefault((half[1], half[3]), {})
            by_direction.setdefault(half[2], []).append(folder)
    twins = {
        both["forward"][0]: both["backward"][0]
        for both in halves.values()
        if {way: len(own) for way, own in both.items()} == {"forward": 1, "backward": 1}
    }
    backward = set(twins.values())
    for folder in folders:
        if folder not in backward:
            yield [folder, twins[folder]] if folder in twins else [folder]
