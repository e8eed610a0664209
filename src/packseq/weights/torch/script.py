"""What the code of a TorchScript program says of its recurrent modules; it is searched, not run.

A scripted module's class has its settings as constants (``mode : Final[str] = "RNN_RELU"``). A
traced or frozen one only has the call: ``torch.gru(x, hx, weights, has_biases, num_layers, dropout,
train, bidirectional, batch_first)``.
"""

import re
from dataclasses import replace

from ..archive import Archive
from ..canonical import Attributes, Checkpoint
from . import tree
from .pickles import Inert

CODE = "code/"
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
ANY_CALL = re.compile(r"torch\.(lstm|gru|rnn_tanh|rnn_relu)\(")


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

    def attributes(self, module: Inert) -> Attributes:
        """What a recurrent module's class says."""
        if unsupported := tree.foreign(module):
            return unsupported
        text = self._class(module.name)
        mode, batch_first = MODE.search(text), BATCH_FIRST.search(text)
        calls = set(CALL.findall(text))
        said = Attributes()
        if mode and batch_first:
            said = Attributes(tree.MODES.get(mode[1]), batch_first=batch_first[1] == "True")
        elif len(calls) == 1:
            ((kind, *_, first),) = calls
            said = Attributes(tree.MODES.get(kind.upper()), batch_first=first == "True")
        return replace(said, nonlinearity=said.nonlinearity or nonlinearity(module))

    def _class(self, name: str) -> str:
        """The text of one class."""
        module, _, kind = name.rpartition(".")
        text = self._texts.get(f"{module.replace('.', '/')}.py", "")
        start = text.find(f"class {kind}(Module):\n")
        end = text.find("\nclass ", start)
        return text[start : end if end > 0 else None] if start >= 0 else ""

    def with_constants(self, checkpoint: Checkpoint, constants: Checkpoint) -> Checkpoint:
        """The program's tensors and those that stand in its code, under their names there."""
        arrays = {f"CONSTANTS.c{number}": array for number, array in constants.arrays.items()}
        placeholders = {f"CONSTANTS.c{n}": reason for n, reason in constants.placeholders.items()}
        return replace(
            checkpoint,
            arrays=checkpoint.arrays | arrays,
            placeholders={**checkpoint.placeholders, **placeholders},
        )


def nonlinearity(module: Inert) -> str | None:
    """An RNN's own word, which a scripted one keeps as an attribute."""
    said = module.state.get("nonlinearity")
    return said if isinstance(said, str) else None
