"""From a file to a module and back."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from packseq.checks import as_flag
from packseq.networks import cells, modules

from . import formats, safetensors_file
from .arrays import Array
from .backward import Backward
from .canonical import (
    Attributes,
    Checkpoint,
    Found,
    describe,
    listed,
    nothing_in,
    parameters,
    prefixes,
)
from .errors import CheckpointError

FilePath = str | os.PathLike[str]

NONLINEARITIES = ("tanh", "relu")
# Where those kinds are defined, here and in torch.
RECURRENT = (modules.__name__, cells.__name__, "torch.nn.modules.rnn")
# What a module of each kind is told beside its parameters.
OPTIONS = {
    "LSTM": ("batch_first",),
    "GRU": ("batch_first", "reset_after"),
    "RNN": ("batch_first", "nonlinearity"),
    "LSTMCell": (),
    "GRUCell": (),
    "RNNCell": ("nonlinearity",),
}


def read(path: FilePath) -> dict[str, Array]:
    """Every array in a checkpoint, by name: also those of the layers around the recurrent ones.

    Parameters
    ----------
    path : path
        A safetensors file or the index of a sharded one, an ``.npz``, a torch zip file, an ONNX
        model, or Keras's ``.keras`` or ``.h5``; recognised by content.

    Returns
    -------
    dict of str to ndarray
        Native-endian numbers. float16 and bfloat16 are widened to float32. A recurrent module's
        parameters have torch's names, shapes and gate order whatever the format. Arrays may be
        read-only.

    Raises
    ------
    CheckpointError
        The file is broken, hostile, or of no known format.
    ImportError
        The format's library is not installed; the message says how to install it.
    OSError
        The file cannot be opened.

    Notes
    -----
    No code in the file is run. Cost: the file is read once and copied at most twice; the arrays
    take at most 16 times its size (plus 1 MiB), which is checked before they are made.
    """
    return formats.read(Path(path))[0].arrays


def find(path: FilePath) -> list[Found]:
    """The recurrent modules in a checkpoint, in the file's order.

    Parameters
    ----------
    path : path
        As for `read`.

    Returns
    -------
    list of Found
        Prefix, kind and sizes of each. Cells (torch's ``LSTMCell`` and so on) are listed too, and
        so are modules whose parameters do not fit each other: with the reason as ``unsupported``,
        no kind and no sizes.

    Raises
    ------
    CheckpointError
        As for `read`.
    """
    checkpoint, _ = formats.read(Path(path))
    return [listed(checkpoint, prefix) for prefix in prefixes(checkpoint)]


def unreadable(path: FilePath) -> dict[str, str]:
    """What a checkpoint holds that `read` does not give, by name, each with the reason.

    Parameters
    ----------
    path : path
        As for `read`.

    Returns
    -------
    dict of str to str
        Objects of classes that are not known, sparse and quantised tensors and the like, in a
        torch file; numbers and texts are neither read nor listed. Empty for other formats.

    Raises
    ------
    CheckpointError
        As for `read`.
    """
    return dict(formats.read(Path(path))[0].placeholders)


def load(
    path: FilePath,
    prefix: str | None = None,
    *,
    nonlinearity: str | None = None,
    batch_first: bool = False,
    reset_after: bool = True,
) -> Any:
    """The LSTM, GRU or RNN in a checkpoint, ready to run; the framework need not be installed.

    Parameters
    ----------
    path : path
        As for `read`.
    prefix : str, optional
        Which module, by the prefix that `find` lists; its last dot may be left out. Needed where
        the file holds several.
    nonlinearity : {"tanh", "relu"}, optional
        Of an RNN whose file does not say, as no state dict does; "tanh" by default, as in torch.
    batch_first : bool
        True for a module that takes (B, T, I), from a file that does not say, as no state dict
        does. ONNX, Keras and what `save` wrote do say: their modules keep what they have, and True
        is refused where that is time first.
    reset_after : bool
        False for a GRU that applies r before the product, from a file that does not say; otherwise
        as for `batch_first`. A state dict of torch's has it True.

    Returns
    -------
    LSTM, GRU, RNN, one of their cells, or Backward
        In the file's precision. ``batch_first`` if asked for, or where the format is (Keras; ONNX
        with layout 1). Backward where an ONNX node has direction "reverse".

    Raises
    ------
    CheckpointError
        As for `read`; several modules and no prefix, or none at that prefix (the message lists
        those there are); a setting that packseq cannot run, by name; stored initial states, which
        would be lost (see `load_with_state`).
    ValueError
        `nonlinearity` is unknown; it, `batch_first` or `reset_after` is not what the file says, or
        has no meaning for the module.
    TypeError
        `batch_first` or `reset_after` is no flag.
    ImportError
        The format's library is not installed; the message says how to install it.
    OSError
        The file cannot be opened.
    """
    module, state = load_with_state(
        path, prefix, nonlinearity=nonlinearity, batch_first=batch_first, reset_after=reset_after
    )
    if state is not None:
        raise CheckpointError(
            f"{os.fspath(path)}: holds initial states, which a module does not; take both with "
            "packseq.weights.load_with_state and pass the state as hx"
        )
    return module


def load_with_state(
    path: FilePath,
    prefix: str | None = None,
    *,
    nonlinearity: str | None = None,
    batch_first: bool = False,
    reset_after: bool = True,
) -> tuple[Any, Any]:
    """The module in a checkpoint, and the initial states that are stored with it.

    Parameters
    ----------
    path, prefix, nonlinearity, batch_first, reset_after
        As for `load`.

    Returns
    -------
    module
        As for `load`.
    hx : ndarray of shape (L*D, B, H), a pair of them for an LSTM, or None
        To be passed as ``hx``; None where the file stores no state. B is as stored: 1 is meant for
        any batch.

    Raises
    ------
    CheckpointError
        As for `load`, but for stored states, which are returned; or their shapes do not fit.
    ValueError, TypeError, ImportError, OSError
        As for `load`.
    """
    checkpoint, file_bytes = formats.read(Path(path))
    found = choose(checkpoint, prefix, path)
    if found.attributes.unsupported:
        raise CheckpointError(
            f"{os.fspath(path)}: {found.prefix!r} uses {found.attributes.unsupported}, "
            "which packseq cannot run"
        )
    wanted = {"nonlinearity": nonlinearity, "batch_first": batch_first, "reset_after": reset_after}
    try:
        options = options_of(found, found.prefix in checkpoint.attributes, wanted)
        module = build(found, parameters(checkpoint, found, file_bytes), options)
        return module, initial_state(checkpoint, found)
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from error.__cause__


def save(module: Any, path: FilePath) -> None:
    """Write a module as safetensors, under torch's names.

    torch loads it with ``load_state_dict(safetensors.torch.load_file(path))``. What a state dict
    does not tell (``nonlinearity``, ``batch_first``, ``reset_after``) is kept in the file's
    metadata, where `load` finds it.

    Parameters
    ----------
    module : LSTM, GRU, RNN, one of their cells, or Backward
        packseq's or torch's own; of a larger model, its recurrent layer.
    path : path
        Overwritten if it exists.

    Raises
    ------
    TypeError
        `module` is anything else.
    ImportError
        safetensors is not installed; the message says how to install it.
    OSError
        The file cannot be written.
    """
    inner = module.module if isinstance(module, Backward) else module
    if not is_recurrent(inner):
        raise TypeError(
            f"module must be an LSTM, GRU or RNN, or a cell of one, got {type(inner).__name__}"
        )
    attributes = Attributes(
        nonlinearity=getattr(inner, "nonlinearity", None),
        reset_after=getattr(inner, "reset_after", True),
        batch_first=getattr(inner, "batch_first", False),
        backward=isinstance(module, Backward),
    )
    arrays = {name: np.asarray(array) for name, array in inner.state_dict().items()}
    safetensors_file.write(Checkpoint(arrays, {"": attributes}), Path(path))


def is_recurrent(module: Any) -> bool:
    """Whether a module is one of packseq's or torch's; torch need not be installed."""
    return any(
        base.__name__ in OPTIONS and base.__module__ in RECURRENT for base in type(module).__mro__
    )


def convert(source: FilePath, target: FilePath) -> None:
    """Write every array of a checkpoint, in its canonical form, as safetensors.

    Parameters
    ----------
    source : path
        As for `read`.
    target : path
        Overwritten if it exists.

    Raises
    ------
    CheckpointError
        As for `read`; or an array has a dtype that safetensors does not hold, such as complex128.
    OSError
        A file cannot be read or written.
    """
    safetensors_file.write(formats.read(Path(source))[0], Path(target))


def described(checkpoint: Checkpoint, prefix: str, path: FilePath) -> Found:
    """describe(), with the file's name in its error."""
    try:
        return describe(checkpoint, prefix)
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from error.__cause__


def choose(checkpoint: Checkpoint, prefix: str | None, path: FilePath) -> Found:
    """The one module that is meant, or an error that lists what there is."""
    there = prefixes(checkpoint)
    for wanted in [prefix, f"{prefix}."] if prefix is not None else []:
        if wanted in there:
            return described(checkpoint, str(wanted), path)
    if prefix is None and len(there) == 1:
        return described(checkpoint, there[0], path)
    if not there:
        raise CheckpointError(f"{os.fspath(path)}: {nothing_in(checkpoint)}")
    listing = "\n".join(f"  {listed(checkpoint, one)}" for one in there)
    problem = "holds several modules; choose one by prefix"
    if prefix is not None:
        problem = f"holds no module at prefix {prefix!r}"
    raise CheckpointError(f"{os.fspath(path)}: {problem}:\n{listing}")


def options_of(found: Found, told: bool, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of from_state_dict that the parameters do not tell.

    `told` is whether the file does; then it must not say otherwise.
    """
    options = {
        "nonlinearity": nonlinearity_of(found, wanted["nonlinearity"]),
        "batch_first": flag_of(found, told, wanted, "batch_first", not found.is_cell),
        "reset_after": flag_of(found, told, wanted, "reset_after", found.kind == "GRU"),
    }
    return {name: options[name] for name in OPTIONS[found.kind]}


def nonlinearity_of(found: Found, wanted: str | None) -> str:
    """An RNN's nonlinearity; "tanh" where nobody says."""
    if wanted is not None and wanted not in NONLINEARITIES:
        raise ValueError(f"nonlinearity is {wanted!r}; expected one of {NONLINEARITIES}")
    if wanted and not found.kind.startswith("RNN"):
        raise ValueError(f"nonlinearity is {wanted!r}, but {found.prefix!r} is {found.kind}")
    said = found.attributes.nonlinearity
    if wanted and said not in (None, wanted):
        raise ValueError(f"nonlinearity is {wanted!r}; the file says {said!r}")
    if said not in (None, *NONLINEARITIES):
        raise CheckpointError(f"nonlinearity {said!r} is not {NONLINEARITIES}")
    return wanted or said or "tanh"


def flag_of(found: Found, told: bool, wanted: Mapping[str, Any], name: str, fits: bool) -> bool:
    """A module's flag: the file's, unless the caller says what the file does not."""
    value = as_flag(wanted[name], name)
    said = bool(getattr(found.attributes, name))
    if value == getattr(Attributes(), name):
        return said
    if not fits:
        raise ValueError(f"{name} is {value}, but {found.prefix!r} is {found.kind}")
    if told and said != value:
        raise ValueError(f"{name} is {value}; the file says {said} of {found.prefix!r}")
    return value


def build(found: Found, arrays: dict[str, Array], options: dict[str, Any]) -> Any:
    """The module itself."""
    said = found.attributes
    if said.backward and (found.is_cell or found.bidirectional):
        raise CheckpointError(f"{found} cannot be: only a module in one direction runs backward")
    if found.is_cell and not said.reset_after:
        raise CheckpointError(f"{found} cannot be: a cell always has reset_after")
    if found.is_cell:
        sizes = (found.input_size, found.hidden_size, found.bias)
        cell = getattr(cells, found.kind)(*sizes, dtype=found.dtype, **options)
        cell.load_state_dict(arrays)
        return cell
    kind = getattr(modules, found.kind)
    module = kind.from_state_dict(arrays, dtype=found.dtype, **options)
    return Backward(module) if said.backward else module


def initial_state(checkpoint: Checkpoint, found: Found) -> Any:
    """The stored hx of a module: zeros stand for the half that an LSTM's file leaves out."""
    if not found.has_state:
        return None
    names = ("h_0", "c_0") if found.kind.startswith("LSTM") else ("h_0",)
    stored = {name: checkpoint.arrays.get(found.prefix + name) for name in names}
    layers = found.num_layers * (2 if found.bidirectional else 1)
    widths = {"h_0": found.proj_size or found.hidden_size, "c_0": found.hidden_size}
    batch = 1
    for name, state in stored.items():
        if state is None:
            continue
        if state.ndim != 3 or state.shape[::2] != (layers, widths[name]):
            raise CheckpointError(
                f"{found.prefix}{name} has shape {state.shape}; "
                f"expected ({layers}, B, {widths[name]})"
            )
        batch = max(batch, state.shape[1])
    states = [
        np.zeros((layers, batch, widths[name]), found.dtype)
        if state is None
        else state.astype(found.dtype)
        for name, state in stored.items()
    ]
    return tuple(states) if len(states) == 2 else states[0]
