"""Models: their recurrent layers replaced, put back, doubted, reported."""

from __future__ import annotations

import warnings
from typing import TypeVar

from torch import nn

from packseq.networks.arguments import as_precision
from packseq.torch.dropins import is_replaced, put_back, replace, warn_again
from packseq.torch.records import doubt, forget, set_precision
from packseq.torch.reports import NOT_YET, Report, report_of, why_left

Model = TypeVar("Model", bound=nn.Module)


def accelerate(model: Model, *, precision: str | None = None) -> Model:
    """Let packseq run every recurrent layer of torch's in a model where no gradient is wanted.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place: each nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell and nn.LSTMCell,
        however deep, becomes a drop-in. It stays the same object and an instance of its class, with
        its parameters, hooks and state dict. Layers whose class overrides ``forward``, and
        parametrized, scripted and quantized ones, are left alone.
    precision : {"int8", "bfloat16"}, optional
        Weights of fewer bits here, as :meth:`packseq.LSTM.quantize` makes them; the layers keep
        theirs. Holds for every drop-in of the model until the next `accelerate` of it, and not for
        its copies.

    Returns
    -------
    torch.nn.Module
        `model` itself.

    Raises
    ------
    TypeError
        `model` is not a torch.nn.Module.
    ValueError
        Another precision.

    Warns
    -----
    RuntimeWarning
        There is no drop-in in the model after this. Later, once: a call in eval mode ran in torch
        because autograd was on.

    See Also
    --------
    report : What was replaced, and which calls run here.
    refresh : For weights that were written to unseen.
    restore : The way back.

    Notes
    -----
    A drop-in runs packseq when autograd records nothing (``torch.inference_mode()``,
    ``torch.no_grad()``, or nothing requires a gradient), no dropout is active, and input, states
    and weights are float32 or float64 tensors of one dtype on the CPU. Otherwise, and under
    ``torch.compile``, tracing, autocast or a transform of ``torch.func``, torch's own code runs; so
    it does on bad input, to raise torch's own error.

    Cost: nothing here; the first call, and each one that finds other weights, packs them, which
    takes up to twice their memory. Outputs share no memory with anything else; inputs are not
    copied. ``packseq.set_num_threads`` sets the threads, not ``torch.set_num_threads``.

    Changed weights are seen by torch's own counters. Writes that torch does not count (through
    ``.data`` in place, a NumPy alias, another process) are seen if they reach one of 16 elements
    spread over each weight; else at the first call after a step of one of torch's optimizers, after
    ``train()``, ``eval()`` or ``load_state_dict``, after a tenth of a second without a call, or
    after `refresh`.

    Examples
    --------
    >>> import torch, packseq.torch
    >>> lstm = packseq.torch.accelerate(torch.nn.LSTM(16, 32)).eval()
    >>> with torch.inference_mode():
    ...     output, (h_n, c_n) = lstm(torch.ones(5, 2, 16))
    >>> output.shape
    torch.Size([5, 2, 32])
    >>> packseq.torch.report(lstm).layers[0].ran
    1
    """
    _check(model)
    if precision is not None:
        as_precision(precision)
    layers = list(model.modules())
    for module in layers:
        if not is_replaced(module) and why_left(module) == NOT_YET:
            replace(module)
        if is_replaced(module):
            set_precision(module, precision)
    doubt()
    warn_again()
    if not any(map(is_replaced, layers)):
        warnings.warn(
            "nothing was replaced in the model: packseq.torch.report(model) says what is in it",
            RuntimeWarning,
            stacklevel=2,
        )
    return model


def restore(model: Model) -> Model:
    """Undo `accelerate`, in place.

    Parameters
    ----------
    model : torch.nn.Module
        With or without drop-ins.

    Returns
    -------
    torch.nn.Module
        `model` itself; every layer has the class it had.

    Raises
    ------
    TypeError
        `model` is not a torch.nn.Module.

    Examples
    --------
    >>> import torch, packseq.torch
    >>> lstm = packseq.torch.accelerate(torch.nn.LSTM(16, 32))
    >>> type(packseq.torch.restore(lstm)) is torch.nn.LSTM
    True
    """
    _check(model)
    for module in model.modules():
        if is_replaced(module):
            forget(module)
            put_back(module)
    return model


def refresh(model: Model) -> Model:
    """Let every drop-in compare all its weights at its next call, and pack those that differ.

    For weights that were written to in a way that torch does not count: through ``.data`` in place,
    through NumPy, by another process.

    Parameters
    ----------
    model : torch.nn.Module
        With drop-ins.

    Returns
    -------
    torch.nn.Module
        `model` itself.

    Raises
    ------
    TypeError
        `model` is not a torch.nn.Module.

    Notes
    -----
    Cost: nothing here; at the next call of each drop-in, of other models too, 0.04 to 0.08 ms for
    each megabyte of its weights.

    Examples
    --------
    >>> import torch, packseq.torch
    >>> lstm = packseq.torch.accelerate(torch.nn.LSTM(16, 32))
    >>> lstm.weight_ih_l0.detach().numpy()[:] = 0  # a write that torch does not count
    >>> packseq.torch.refresh(lstm) is lstm
    True
    """
    _check(model)
    doubt()
    return model


def report(model: nn.Module) -> Report:
    """Tell which recurrent layers of a model were replaced, which not and why, and who ran them.

    Parameters
    ----------
    model : torch.nn.Module
        With or without drop-ins.

    Returns
    -------
    Report
        Its `layers` are in the model's order; printed, it says a line for each.

    Raises
    ------
    TypeError
        `model` is not a torch.nn.Module.

    Notes
    -----
    Calls are counted from when a layer was replaced, or copied; those under ``torch.compile`` are
    not. A module of a class of its own is listed if it has weights named as torch names them, or a
    class named as one that recurs with none of torch's layers inside.

    Examples
    --------
    >>> import torch, packseq.torch
    >>> model = packseq.torch.accelerate(torch.nn.Sequential(torch.nn.LSTM(16, 32)))
    >>> print(packseq.torch.report(model))
    1 of 1 recurrent layers replaced
      0: LSTM, replaced; 0 calls ran here
    """
    _check(model)
    return report_of(model)


def _check(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
