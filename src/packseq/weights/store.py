"""From a file to a module and back."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from packseq.checks import as_path
from packseq.halves import widened
from packseq.networks import cells, modules
from packseq.networks.architecture import LOADED_PRECISIONS, PLAIN, SIGMOID, Architecture
from packseq.networks.arguments import as_precision
from packseq.networks.rounding import dequantized, rounded

from . import formats, safetensors_file
from .arrays import BFLOAT16, Array
from .backward import Backward
from .canonical import Attributes, Checkpoint, Found, describe, listed, nothing_in, prefixes
from .errors import CheckpointError
from .making import Loaded, made
from .renaming import prefixes_of, renamed
from .writing import check_suffix

# Why `convert` leaves out what it was not asked for.
OF_AN_OPTIMIZER = "is of an optimizer's state"

FilePath = str | os.PathLike[str]

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
    No code in the file is run. Cost: the file is mapped or read once, and copied at most twice;
    the arrays take at most 16 times its size and 64 MiB, which is checked before they are made.
    Those that stay mapped change with the file, and whoever shortens it ends the process.

    Examples
    --------
    >>> packseq.save(packseq.RNN(3, 2, bias=False, rng=0), "rnn.safetensors")
    >>> {name: array.shape for name, array in packseq.weights.read("rnn.safetensors").items()}
    {'weight_hh_l0': (2, 2), 'weight_ih_l0': (2, 3)}
    """
    return formats.read(as_path(path, "path"))[0].arrays


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

    Examples
    --------
    >>> lstm = packseq.LSTM(16, 32, bidirectional=True, rng=0)
    >>> np.savez("model.npz", **{f"encoder.{name}": w for name, w in lstm.state_dict().items()})
    >>> (found,) = packseq.weights.find("model.npz")
    >>> found.prefix, found.kind, found.hidden_size, found.bidirectional
    ('encoder.', 'LSTM', 32, True)
    """
    return modules_in(formats.read(as_path(path, "path"))[0])


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
        Objects of classes that are not known, sparse tensors and the like, in a
        torch file, where numbers and texts are neither read nor listed; in an ONNX model, arrays of
        types that NumPy lacks, and the first weight of a module that cannot be had; in a Keras
        file, the same of its layers, and data that are no numbers or packed in unknown ways; in
        safetensors, numbers that NumPy lacks; in an ``.npz``, objects, texts and records, and what
        would unpack to more than a file of its size may.

    Raises
    ------
    CheckpointError
        As for `read`.

    Examples
    --------
    >>> np.savez("model.npz", **packseq.GRU(3, 2, rng=0).state_dict(), note="trained on Friday")
    >>> list(packseq.weights.unreadable("model.npz"))
    ['note']
    """
    return dict(formats.read(as_path(path, "path"))[0].placeholders)


def load(
    path: FilePath,
    prefix: str | None = None,
    *,
    rename: Mapping[str, str] | None = None,
    nonlinearity: str | None = None,
    recurrent_activation: str | None = None,
    batch_first: bool | None = None,
    reset_after: bool | None = None,
    precision: str | None = None,
) -> Loaded:
    """The LSTM, GRU or RNN in a checkpoint, ready to run; the framework need not be installed.

    Parameters
    ----------
    path : path
        As for `read`.
    prefix : str, optional
        Which module, by the prefix that `find` lists; its last dot may be left out. Needed where
        the file holds several.
    rename : mapping of str to str, optional
        Parameters' names for arrays that have names of their own in the file, as `read` gives them:
        ``{"enc_w_ih": "weight_ih_l0", ...}``. They must have torch's shapes and gate order. Of
        several modules, the one that has the new names is meant.
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
        as in torch; to be given for Keras's weights alone, of a GRU without bias. Otherwise as for
        `batch_first`, but that it is the caller's for a GRU that torch's exporter wrote wrongly.
    precision : {"int8", "bfloat16", "float32"}, optional
        Weights of fewer bits, as :meth:`packseq.LSTM.quantize` makes them; those of a file that has
        such need no word, and "float32" makes of them the module of the rounded weights.

    Returns
    -------
    LSTM, GRU, RNN, one of their cells, or Backward
        The type is the union of these; ``assert isinstance(module, packseq.LSTM)`` tells type
        checkers which. In the file's precision: int8 also of ONNX's DynamicQuantizeLSTM and
        torch's dynamically quantised layers, where it can hold their integers. ``batch_first`` if
        asked for, or where the format is (Keras; ONNX with layout 1). Backward where an ONNX node
        has direction "reverse", or a Keras layer ``go_backwards``.

    Raises
    ------
    CheckpointError
        As for `read`; several modules and no prefix, or none at that prefix (the message lists
        those there are); a setting that packseq cannot run, by name; an activation that has to be
        given and is not; stored initial states, which would be lost (see `load_with_state`).
    ValueError
        `nonlinearity`, `recurrent_activation` or `precision` is unknown; one of them, `batch_first`
        or `reset_after` is not what the file says, or has no meaning for the module; it cannot be
        had in that precision. `rename` has a name that is not in the file, gives one name to two
        arrays, or makes no module.
    TypeError
        `batch_first` or `reset_after` is no flag; `rename` is no mapping of strings.
    ImportError
        The format's library is not installed; the message says how to install it.
    OSError
        The file cannot be opened.

    Warns
    -----
    CheckpointWarning
        The file says ``linear_before_reset=0`` of a GRU, as one of torch's exporters wrote it by
        mistake, and `reset_after` is not given.

    Examples
    --------
    >>> lstm = packseq.LSTM(16, 32, rng=0)
    >>> np.savez("model.npz", **{f"encoder.{name}": w for name, w in lstm.state_dict().items()})
    >>> packseq.load("model.npz", prefix="encoder")
    LSTM(16, 32)
    """
    module, state = load_with_state(
        path,
        prefix,
        rename=rename,
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
    rename: Mapping[str, str] | None = None,
    nonlinearity: str | None = None,
    recurrent_activation: str | None = None,
    batch_first: bool | None = None,
    reset_after: bool | None = None,
    precision: str | None = None,
) -> tuple[Loaded, Any]:
    """The module in a checkpoint, and the initial states that are stored with it.

    Parameters
    ----------
    path, prefix, rename, nonlinearity, recurrent_activation, batch_first, reset_after, precision
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

    Examples
    --------
    >>> packseq.save(packseq.GRU(16, 32, rng=0), "gru.safetensors")
    >>> packseq.weights.load_with_state("gru.safetensors")
    (GRU(16, 32), None)
    """
    if precision is not None:
        as_precision(precision, LOADED_PRECISIONS)
    checkpoint, file_bytes = formats.read(as_path(path, "path"))
    if rename is not None:
        checkpoint = renamed(checkpoint, rename)
        own = prefixes_of(rename)
        prefix = own[0] if prefix is None and len(own) == 1 else prefix
    found = choose(checkpoint, prefix, path)
    wanted = {
        "nonlinearity": nonlinearity,
        "recurrent_activation": recurrent_activation,
        "batch_first": batch_first,
        "reset_after": reset_after,
    }
    try:
        return made(checkpoint, found, file_bytes, wanted, precision)
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from error.__cause__


def save(module: Any, path: FilePath) -> None:
    """Write a module as safetensors, under torch's names.

    torch loads it with ``load_state_dict(safetensors.torch.load_file(path))``, where it has such a
    module: none with peepholes, and none whose gates are not sigmoids. What a state dict does not
    tell (``nonlinearity``, ``recurrent_activation``, ``batch_first``, ``reset_after``) is kept in
    the file's metadata, where `load` finds it. Weights of int8 are written as such, with their
    scales; those of bfloat16 as bfloat16: files are 4 and 2 times smaller, and load bit for bit.
    torch's modules of half precision are widened to float32.

    Parameters
    ----------
    module : LSTM, GRU, RNN, one of their cells, or Backward
        packseq's or torch's own; of a larger model, its recurrent layer.
    path : path
        Overwritten if it exists.

    Raises
    ------
    TypeError
        `module` is anything else; `path` is none.
    ValueError
        `path` has another format's suffix, such as .pt.
    OSError
        The file cannot be written; what was there is left as it was.

    Examples
    --------
    >>> packseq.save(packseq.GRU(16, 32, batch_first=True, rng=0), "gru.safetensors")
    >>> packseq.load("gru.safetensors")
    GRU(16, 32, batch_first=True)
    """
    file = _as_target(path, "path")
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
    arrays = {name: np.asarray(widened(array)) for name, array in inner.state_dict().items()}
    precisions = {"": BFLOAT16} if getattr(inner, "precision", "") == BFLOAT16 else {}
    checkpoint = Checkpoint(arrays, {"": attributes}, precisions=precisions)
    safetensors_file.write(checkpoint, file)


def _as_target(path: FilePath, name: str) -> Path:
    """Check the path of what is to be written, which is safetensors."""
    target = as_path(path, name)
    check_suffix(name, target, ".safetensors")
    return target


def kind_of(module: Any) -> str | None:
    """The kind of a module or cell of packseq's or torch's, which need not be installed."""
    classes = (one for one in type(module).__mro__ if one.__module__ in HOMES)
    return next((KINDS[one.__name__] for one in classes if one.__name__ in KINDS), None)


def convert(
    source: FilePath,
    target: FilePath,
    *,
    optimizer: bool = False,
    precision: str | None = None,
) -> dict[str, str]:
    """Write the arrays of a checkpoint, in their canonical form, as safetensors.

    Parameters
    ----------
    source : path
        As for `read`.
    target : path
        Overwritten if it exists.
    optimizer : bool
        Whether the state of an optimizer is written too, where a file of torch's or Keras's has it.
    precision : {"int8", "bfloat16", "float32"}, optional
        What the weights of every module that packseq can run become; all else stays as it is.
        float32 is what those of fewer bits stand for.

    Returns
    -------
    dict of str to str
        What the file holds and `target` does not, by name, each with the reason: what `unreadable`
        lists, arrays of dtypes that safetensors lacks, such as complex128, and the optimizer's.

    Raises
    ------
    CheckpointError
        As for `read`.
    ValueError
        `target` is `source`, or a file that it names, such as a shard, or has another format's
        suffix; another precision, or a module that cannot be had in it.
    OSError
        A file cannot be read or written; what was at `target` is left as it was.

    Examples
    --------
    >>> np.savez("model.npz", **packseq.GRU(3, 2, rng=0).state_dict(), note="trained on Friday")
    >>> left_out = packseq.weights.convert("model.npz", "model.safetensors")
    >>> list(left_out)
    ['note']
    >>> packseq.load("model.safetensors")
    GRU(3, 2)
    """
    file = _as_target(target, "target")
    whole = formats.read(as_path(source, "source"))[0]
    for each in (source, *whole.files):
        if os.path.exists(file) and os.path.samefile(each, file):
            raise ValueError(f"{os.fspath(target)} is a source, which would be lost")
    kept = whole if optimizer else whole.without_optimizer()
    if precision is not None:
        kept = in_precision(kept, as_precision(precision, LOADED_PRECISIONS))
    left_out = dict.fromkeys(whole.arrays.keys() - kept.arrays.keys(), OF_AN_OPTIMIZER)
    left_out |= kept.placeholders
    for name, array in kept.arrays.items():
        if not safetensors_file.holds(array):
            left_out[name] = f"has dtype {array.dtype}, which safetensors lacks"
    arrays = {name: array for name, array in kept.arrays.items() if name not in left_out}
    safetensors_file.write(replace(kept, arrays=arrays), file)
    return left_out


def in_precision(checkpoint: Checkpoint, precision: str) -> Checkpoint:
    """The same with the weights of every module that can run here in `precision`."""
    arrays, precisions = dict(checkpoint.arrays), dict(checkpoint.precisions)
    for found in modules_in(checkpoint):
        architecture = found.architecture
        if architecture is None or found.attributes.unsupported or found.precision == precision:
            continue
        prefix = found.prefix
        before = {name: arrays.pop(prefix + name) for name in architecture.shapes}
        after = changed(found, architecture, before, precision)
        arrays |= {prefix + name: array for name, array in after.items()}
        precisions.pop(prefix, None)
        if precision == BFLOAT16:
            precisions[prefix] = precision
    return replace(checkpoint, arrays=arrays, precisions=precisions)


def changed(
    found: Found, architecture: Architecture, parameters: dict[str, Array], precision: str
) -> dict[str, Array]:
    """A module's parameters in another precision than its own."""
    if architecture.precision and precision == "float32":
        return dequantized(parameters)
    if found.precision == "float32":
        return rounded(architecture, parameters, precision)
    raise ValueError(f"only float32 can be rounded to {precision}; the file has {found}")


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
