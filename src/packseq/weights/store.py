"""From a file to a module and back."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from packseq.checks import as_flag
from packseq.networks import cells, modules
from packseq.networks.architecture import (
    PLAIN,
    RECURRENT_ACTIVATIONS,
    SIGMOID,
    Architecture,
    cell_of,
)
from packseq.networks.arguments import as_precision
from packseq.networks.rounding import rounded

from . import formats, safetensors_file
from .arrays import BFLOAT16, Array
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
# The kind of each class of modules and cells, and where such a class is defined, here and in torch.
KINDS = {name: kind for kind in PLAIN for name in (kind, f"{kind}Cell")}
HOMES = (modules.__name__, cells.__name__, "torch.nn.modules.rnn")


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
    return modules_in(formats.read(Path(path))[0])


def modules_in(checkpoint: Checkpoint) -> list[Found]:
    """What `find` lists of a checkpoint."""
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
        torch file, where numbers and texts are neither read nor listed; in an ONNX model, arrays of
        types that NumPy lacks, and the first weight of a module that cannot be had; in a Keras
        file, the same of its layers, and data that are no numbers or packed in unknown ways. Empty
        for other formats.

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
    recurrent_activation: str | None = None,
    batch_first: bool | None = None,
    reset_after: bool | None = None,
    precision: str | None = None,
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
        Of an RNN whose file does not say, as no state dict does; "tanh" by default, as in torch;
        to be given for Keras's weights alone.
    recurrent_activation : {"sigmoid", "hard_sigmoid", "hard_sigmoid_0.2"}, optional
        Of an LSTM or GRU whose file does not say, as no state dict does; "sigmoid" by default, as
        in torch; to be given for Keras's weights alone. See :class:`packseq.LSTM`.
    batch_first : bool, optional
        Whether the module takes (B, T, I), from a file that does not say, as no state dict does;
        False by default, as in torch. ONNX, Keras and what `save` wrote do say: their modules keep
        what they have, and the other value is refused.
    reset_after : bool, optional
        Whether a GRU applies r after the product, from a file that does not say; True by default,
        as in torch. Otherwise as for `batch_first`.
    precision : {"int8", "bfloat16"}, optional
        Weights of fewer bits, as :meth:`packseq.LSTM.quantize` makes them; those of a file that was
        written so need no word.

    Returns
    -------
    LSTM, GRU, RNN, one of their cells, or Backward
        In the file's precision. ``batch_first`` if asked for, or where the format is (Keras; ONNX
        with layout 1). Backward where an ONNX node has direction "reverse",
        or a Keras layer ``go_backwards``.

    Raises
    ------
    CheckpointError
        As for `read`; several modules and no prefix, or none at that prefix (the message lists
        those there are); a setting that packseq cannot run, by name; an activation that has to be
        given and is not; stored initial states, which would be lost (see `load_with_state`).
    ValueError
        `nonlinearity`, `recurrent_activation` or `precision` is unknown; one of them, `batch_first`
        or `reset_after` is not what the file says, or has no meaning for the module; it cannot be
        had in that precision.
    TypeError
        `batch_first` or `reset_after` is no flag.
    ImportError
        The format's library is not installed; the message says how to install it.
    OSError
        The file cannot be opened.
    """
    module, state = load_with_state(
        path,
        prefix,
        nonlinearity=nonlinearity,
        recurrent_activation=recurrent_activation,
        batch_first=batch_first,
        reset_after=reset_after,
        precision=precision,
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
    recurrent_activation: str | None = None,
    batch_first: bool | None = None,
    reset_after: bool | None = None,
    precision: str | None = None,
) -> tuple[Any, Any]:
    """The module in a checkpoint, and the initial states that are stored with it.

    Parameters
    ----------
    path, prefix, nonlinearity, recurrent_activation, batch_first, reset_after, precision
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
    if precision is not None:
        as_precision(precision)
    checkpoint, file_bytes = formats.read(Path(path))
    found = choose(checkpoint, prefix, path)
    if found.architecture is None or found.attributes.unsupported:
        raise CheckpointError(
            f"{os.fspath(path)}: {found.prefix!r} uses {found.attributes.unsupported}, "
            "which packseq cannot run"
        )
    wanted = {
        "nonlinearity": nonlinearity,
        "recurrent_activation": recurrent_activation,
        "batch_first": batch_first,
        "reset_after": reset_after,
    }
    try:
        settings = settings_of(found, found.prefix in checkpoint.attributes, wanted)
        check_whole(found, found.architecture)
        architecture = completed(found.architecture, settings)
        arrays = parameters(checkpoint, found.prefix, architecture, file_bytes)
        module = build(found, architecture, arrays, settings["batch_first"])
        if precision not in (None, found.precision):
            module = module.quantize(str(precision))
        return module, initial_state(checkpoint, found, architecture)
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from error.__cause__


def save(module: Any, path: FilePath) -> None:
    """Write a module as safetensors, under torch's names.

    torch loads it with ``load_state_dict(safetensors.torch.load_file(path))``, where it has such a
    module: none with peepholes, and none whose gates are not sigmoids. What a state dict does not
    tell (``nonlinearity``, ``recurrent_activation``, ``batch_first``, ``reset_after``) is kept in
    the file's metadata, where `load` finds it. Weights of int8 are written as such, with their
    scales; those of bfloat16 as bfloat16: files are 4 and 2 times smaller, and load bit for bit.

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
    kind = kind_of(inner)
    if kind is None:
        raise TypeError(
            f"module must be an LSTM, GRU or RNN, or a cell of one, got {type(inner).__name__}"
        )
    torchs = SIGMOID if PLAIN[kind].has_sigmoid else None
    attributes = Attributes(
        nonlinearity=getattr(inner, "nonlinearity", None),
        recurrent_activation=getattr(inner, "recurrent_activation", torchs),
        reset_after=getattr(inner, "reset_after", True),
        batch_first=getattr(inner, "batch_first", False),
        backward=isinstance(module, Backward),
    )
    arrays = {name: np.asarray(array) for name, array in inner.state_dict().items()}
    precisions = {"": BFLOAT16} if getattr(inner, "precision", "") == BFLOAT16 else {}
    checkpoint = Checkpoint(arrays, {"": attributes}, precisions=precisions)
    safetensors_file.write(checkpoint, Path(path))


def kind_of(module: Any) -> str | None:
    """The kind of a module or cell of packseq's or torch's, which need not be installed."""
    classes = (one for one in type(module).__mro__ if one.__module__ in HOMES)
    return next((KINDS[one.__name__] for one in classes if one.__name__ in KINDS), None)


def convert(source: FilePath, target: FilePath, *, precision: str | None = None) -> None:
    """Write every array of a checkpoint, in its canonical form, as safetensors.

    Parameters
    ----------
    source : path
        As for `read`.
    target : path
        Overwritten if it exists.
    precision : {"int8", "bfloat16"}, optional
        What the weights of every module that packseq can run become; all else stays as it is.

    Raises
    ------
    CheckpointError
        As for `read`; or an array has a dtype that safetensors does not hold, such as complex128.
    ValueError
        `target` is `source`; another precision, or a module that cannot be had in it.
    OSError
        A file cannot be read or written.
    """
    if os.path.exists(target) and os.path.samefile(source, target):
        raise ValueError(f"{os.fspath(target)} is the source, which would be lost")
    checkpoint, _ = formats.read(Path(source))
    if precision is not None:
        checkpoint = in_precision(checkpoint, as_precision(precision))
    safetensors_file.write(checkpoint, Path(target))


def in_precision(checkpoint: Checkpoint, precision: str) -> Checkpoint:
    """The same with every module that can run here in weights of fewer bits."""
    arrays, precisions = dict(checkpoint.arrays), dict(checkpoint.precisions)
    for found in modules_in(checkpoint):
        architecture = found.architecture
        if architecture is None or found.attributes.unsupported or found.precision == precision:
            continue
        if found.precision != "float32":
            raise ValueError(f"only float32 can be rounded to {precision}; the file has {found}")
        prefix = found.prefix
        before = {name: arrays[prefix + name] for name in architecture.shapes}
        after = rounded(architecture, before, precision)
        arrays |= {prefix + name: array for name, array in after.items()}
        if precision == BFLOAT16:
            precisions[prefix] = precision
    return replace(checkpoint, arrays=arrays, precisions=precisions)


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


def settings_of(found: Found, said_by_file: bool, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What the parameters do not tell: by the file or, where it does not say, by the caller."""
    cell = PLAIN[found.kind.removesuffix("Cell")]
    is_rnn, is_gru = "nonlinearity" in cell.options, found.kind == "GRU"
    choices = {
        "nonlinearity": choice_of(found, wanted, "nonlinearity", NONLINEARITIES, is_rnn),
        "recurrent_activation": choice_of(
            found, wanted, "recurrent_activation", RECURRENT_ACTIVATIONS, cell.has_sigmoid
        ),
    }
    flags = {
        "batch_first": flag_of(found, said_by_file, wanted, "batch_first", not found.is_cell),
        "reset_after": flag_of(found, said_by_file, wanted, "reset_after", is_gru),
    }
    return choices | flags


def choice_of(
    found: Found, wanted: Mapping[str, Any], name: str, choices: Sequence[str], fits: bool
) -> str:
    """One of several words; the first, which is torch's default, where nobody says."""
    value = wanted[name]
    if value is not None and value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {choices}")
    if value and not fits:
        raise ValueError(f"{name} is {value!r}, but {found.prefix!r} is {found.kind}")
    if value is None and fits and found.attributes.unsaid:
        raise CheckpointError(
            f"{found.prefix!r}: the file does not say its {found.attributes.unsaid}; load it with "
            f"{name} given, where the others are those of a plain layer"
        )
    said = getattr(found.attributes, name)
    if value and said not in (None, value):
        raise ValueError(f"{name} is {value!r}; the file says {said!r}")
    if said not in (None, *choices):
        raise CheckpointError(f"{name} {said!r} is not {choices}")
    return str(value or said or choices[0])


def flag_of(
    found: Found, said_by_file: bool, wanted: Mapping[str, Any], name: str, fits: bool
) -> bool:
    """A module's flag: the file's, unless the caller says what the file does not."""
    said = bool(getattr(found.attributes, name))
    if wanted[name] is None:
        return said
    value = as_flag(wanted[name], name)
    if not fits:
        raise ValueError(f"{name} is {value}, but {found.prefix!r} is {found.kind}")
    if said_by_file and said != value:
        raise ValueError(f"{name} is {value}; the file says {said} of {found.prefix!r}")
    return value


def check_whole(found: Found, architecture: Architecture) -> None:
    """Refuse what a file says of a module that can have no such thing."""
    said, is_cell = found.attributes, architecture.one_step
    if said.backward and (is_cell or architecture.bidirectional):
        raise CheckpointError(f"{found} cannot be: only a module in one direction runs backward")
    if is_cell and not said.reset_after:
        raise CheckpointError(f"{found} cannot be: a cell always has reset_after")
    if is_cell and architecture.proj_size:
        raise CheckpointError(f"{found} cannot be: a cell has no projection")
    if said.recurrent_activation and not architecture.cell.has_sigmoid:
        raise CheckpointError(f"{found} cannot be: an RNN has no recurrent_activation")


def completed(architecture: Architecture, settings: Mapping[str, Any]) -> Architecture:
    """The network that the parameters tell, with what they do not tell."""
    cell = architecture.cell
    options = {name: settings.get(name, value) for name, value in cell.options.items()}
    return replace(
        architecture,
        cell=cell_of(cell.kind, options),
        recurrent_activation=settings["recurrent_activation"],
    )


def build(
    found: Found, architecture: Architecture, arrays: dict[str, Array], batch_first: bool
) -> Any:
    """The module itself."""
    if architecture.one_step:
        return getattr(cells, found.kind)._of(architecture, found.dtype, arrays)
    kind = getattr(modules, found.kind)
    module = kind._of(architecture, found.dtype, arrays, batch_first=batch_first)
    return Backward(module) if found.attributes.backward else module


def initial_state(checkpoint: Checkpoint, found: Found, architecture: Architecture) -> Any:
    """The stored hx of a module: zeros stand for the half that an LSTM's file leaves out."""
    if not found.has_state:
        return None
    names = [f"{state}_0" for state in architecture.cell.states]
    widths = dict(zip(names, architecture.state_widths, strict=True))
    stored = {name: checkpoint.arrays.get(found.prefix + name) for name in names}
    layers = architecture.num_layers * architecture.directions
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
