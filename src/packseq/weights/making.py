"""A module of what a file holds of it, and of what the caller says where the file does not."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from packseq.checks import as_flag
from packseq.networks import cells, modules
from packseq.networks.architecture import PLAIN, RECURRENT_ACTIVATIONS, Architecture, cell_of

from .arrays import Array
from .backward import Backward
from .canonical import Checkpoint, Found, parameters
from .errors import CheckpointError, CheckpointWarning

NONLINEARITIES = ("tanh", "relu")
# What `load` has an argument for, so that what a file leaves open has to be given.
ASKED = ("nonlinearity", "recurrent_activation", "reset_after")
ACTIVATIONS = ASKED[:2]


def made(
    checkpoint: Checkpoint,
    found: Found,
    file_bytes: int,
    wanted: Mapping[str, Any],
    precision: str | None,
) -> tuple[Any, Any]:
    """The module that was found, and its stored first states.

    Parameters
    ----------
    checkpoint, found, file_bytes
        The file, the module in it, and the size of the file.
    wanted : mapping
        What the caller says, None for what is not said: nonlinearity, recurrent_activation,
        batch_first and reset_after.
    precision : str or None
        Of the weights; None: the file's.
    """
    if found.architecture is None or found.attributes.unsupported:
        raise CheckpointError(
            f"{found.prefix!r} uses {found.attributes.unsupported}, which packseq cannot run"
        )
    settings = settings_of(found, found.prefix in checkpoint.attributes, wanted)
    check_whole(found, found.architecture)
    architecture = completed(found.architecture, settings)
    arrays = parameters(checkpoint, found.prefix, architecture, file_bytes)
    module = build(found, architecture, arrays, settings["batch_first"])
    if precision not in (None, found.precision):
        module = module.quantize(str(precision))
    return module, initial_state(checkpoint, found, architecture)


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
    if value is None and fits:
        check_said(found, name)
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
    doubt = found.attributes.doubted if name == "reset_after" else ""
    if wanted[name] is None:
        check_said(found, name)
        if doubt:
            warnings.warn(f"{found.prefix!r}: {doubt}", CheckpointWarning, stacklevel=6)
        return said
    value = as_flag(wanted[name], name)
    if not fits:
        raise ValueError(f"{name} is {value}, but {found.prefix!r} is {found.kind}")
    sure = said_by_file and not doubt and name not in unsaid_of(found)
    if sure and said != value:
        raise ValueError(f"{name} is {value}; the file says {said} of {found.prefix!r}")
    return value


def check_said(found: Found, name: str) -> None:
    """Refuse a module without a setting that its file does not say and its format leaves open.

    What `load` has no argument for is taken to be as in a plain layer, which the listing says, once
    the caller has said that the layer is one: by its activation.
    """
    unsaid = unsaid_of(found)
    if name in unsaid or (name in ACTIVATIONS and found.attributes.unsaid):
        asked = " and ".join(each for each in ASKED if each in unsaid) or name
        raise CheckpointError(
            f"{found.prefix!r}: the file does not say its {found.attributes.unsaid}; load it with "
            f"{asked} given, where the others are those of a plain layer"
        )


def unsaid_of(found: Found) -> list[str]:
    """The settings that a file of weights alone leaves open."""
    return found.attributes.unsaid.split(", ")


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
