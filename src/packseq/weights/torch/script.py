"""What the code of a TorchScript program says of its recurrent modules; it is searched, not run.

A scripted module's class has its settings as constants (``mode : Final[str] = "RNN_RELU"``). A
traced or frozen one only has the call: ``torch.gru(x, hx, weights, has_biases, num_layers, dropout,
train, bidirectional, batch_first)``.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from ..archive import Archive
from ..canonical import Attributes, Checkpoint
from . import tree
from .pickles import Inert

CODE = "code/"
T = "True"
CONSTANTS = "constants.pkl"
MAX_CODE = 1 << 24

BATCH_FIRST = re.compile(r"batch_first : Final\[bool\] = (True|False)")
MODE = re.compile(r'mode : Final\[str\] = "(\w{1,20})"')
VALUE = r"(?:\[[^\]]{0,200}\]|[\w.]{1,200})"
# A call on packed sequences has as many arguments, and a name where this one has has_biases.
CALL = re.compile(
    rf"torch\.(lstm|gru|rnn_tanh|rnn_relu)\({VALUE}, {VALUE}, ({VALUE}), "
    r"(True|False), (\d{1,4}), [\w.]{1,30}, \w{1,40}, (True|False), (True|False)\)"
)
# Both stand in the code of an RNNCell that was scripted, beside an attribute that tells which; in a
# traced one's the function itself.
CELL = re.compile(r"torch\.(?:rnn_)?(tanh|relu)_?(?:_cell)?\(")
ANY_CALL = re.compile(r"torch\.((?:lstm|gru|rnn_tanh|rnn_relu)(?:_cell)?)\(")
FLAT_WEIGHTS = re.compile(
    r"^ *(?:self_)?(\w{1,200}) = \[(CONSTANTS\.c\d{1,9}(?:, CONSTANTS\.c\d{1,9})*)\]$", re.MULTILINE
)
FLAT = "__flat_weights"
# The methods of torch's own classes, which take their weights from the object.
LIBRARY = "__torch__/torch/nn/modules/rnn"


class Code:
    """The Python-like text of a program."""

    def __init__(self, archive: Archive, root: str) -> None:
        self._texts: dict[str, str] = {}
        folder, total = f"{root}{CODE}", 0
        for name in archive.names:
            if name.startswith(folder) and name.endswith(".py"):
                total += archive.size(name)
                if total <= MAX_CODE:
                    text = archive.read(name).decode("utf-8", "replace")
                    self._texts[name.removeprefix(folder)] = text

    def attributes(self, module: Inert) -> Attributes | None:
        """What a recurrent module's class says; None where it says nothing."""
        if unsupported := tree.foreign(module):
            return unsupported
        text = self._class(module.name)
        mode, batch_first = MODE.search(text), BATCH_FIRST.search(text)
        calls = set(CALL.findall(text))
        if mode and batch_first:
            return tree.settings(mode[1], tree.MODES.get(mode[1]), batch_first[1] == T)
        if len(calls) == 1:
            ((kind, *_, first),) = calls
            return tree.settings(kind, tree.MODES.get(kind.upper()), first == T)
        if not tree.class_of(module).endswith(".RNNCell"):
            return None
        functions = set(CELL.findall(text))
        said = module.state.get("nonlinearity") or (functions.pop() if len(functions) == 1 else "")
        return Attributes(nonlinearity=said) if said and isinstance(said, str) else None

    def _class(self, name: str) -> str:
        """The text of one class."""
        module, _, kind = name.rpartition(".")
        text = self._texts.get(f"{module.replace('.', '/')}.py", "")
        start = text.find(f"class {kind}(Module):\n")
        end = text.find("\nclass ", start)
        return text[start : end if end > 0 else None] if start >= 0 else ""

    def with_constants(self, checkpoint: Checkpoint, constants: Checkpoint) -> Checkpoint:
        """The program's tensors and those that stand in its code, under their names there.

        Freezing a program makes constants of its weights: a call's flat list of them tells whose.
        """
        held = {f"CONSTANTS.c{number}": array for number, array in constants.arrays.items()}
        unread = {f"CONSTANTS.c{n}": reason for n, reason in constants.placeholders.items()}
        attributes: dict[str, Attributes] = {}
        for prefix, said, names in self._frozen():
            if held.keys() >= set(names.values()) and prefix not in checkpoint.attributes:
                held |= {prefix + name: held[constant] for name, constant in names.items()}
                attributes[prefix] = said
        if held and (calls := self._calls() - len(attributes)) > 0:
            unread["CONSTANTS"] = (
                f"hold the weights of {calls} recurrent layers, and not their names"
            )
        return replace(
            checkpoint,
            arrays=checkpoint.arrays | held,
            attributes={**checkpoint.attributes, **attributes},
            placeholders={**checkpoint.placeholders, **unread},
        )

    def _frozen(self) -> Iterator[tuple[str, Attributes, dict[str, str]]]:
        """Each call on a list of constants: a prefix, and which constant each parameter is."""
        seen: set[str] = set()
        for text in self._texts.values():
            lists = {name: names.split(", ") for name, names in FLAT_WEIGHTS.findall(text)}
            for kind, weights, biased, layers, both, first in CALL.findall(text):
                flat = weights.removeprefix("self_")
                # Few weights stand in the call itself, and have no name but the layer's kind.
                prefix = f"{flat.removesuffix(FLAT) if flat in lists else kind}."
                if prefix in seen:
                    continue
                seen.add(prefix)
                listed = lists.get(flat) or weights.strip("[]").split(", ")
                names = parameter_names(kind, len(listed), biased, layers, both)
                said = tree.settings(kind, tree.MODES.get(kind.upper()), first == T)
                if names:
                    yield prefix, said, dict(zip(names, listed, strict=True))

    def _calls(self) -> int:
        """The calls of recurrent functions outside of torch's own classes."""
        own = (text for name, text in self._texts.items() if not name.startswith(LIBRARY))
        return sum(len(ANY_CALL.findall(text)) for text in own)


def parameter_names(kind: str, count: int, biased: str, layers: str, both: str) -> list[str]:
    """The names of a flat list of so many weights; none if they are not so many."""
    each = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if biased == T else [])]
    directions = ("", "_reverse") if both == T else ("",)
    suffixes = [f"_l{layer}{way}" for layer in range(int(layers)) for way in directions]
    if kind == "lstm" and count == (len(each) + 1) * len(suffixes):
        each.append("weight_hr")
    if len(each) * len(suffixes) != count:
        return []
    return [name + suffix for suffix in suffixes for name in each]
