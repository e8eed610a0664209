"""The classes that replace a layer's own: all but ``forward`` stays the layer's."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from packseq.torch.calls import attempt
from packseq.torch.layers import kind_of
from packseq.torch.records import WEIGHTS_LEARN, doubt, record_of


class _Replaced(nn.Module):
    """What the two classes of a layer share. No annotations here: torch.jit.script reads them."""

    _original = nn.Module  # the layer's own class

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Name the layer's class, which can be imported; its drop-in is made at run time.
        reduced: Any = super().__reduce_ex__(max(protocol, 2))
        return _new_drop_in, (self._original,), *reduced[2:]


class DropIn(_Replaced):
    """Put before a layer's own class by a change of ``__class__``."""

    _kind: Any = None

    def forward(self, input: Any, hx: Any = None) -> Any:
        if torch.compiler.is_compiling():  # nothing of ours is to be compiled
            return super().forward(input, hx)
        record = record_of(self)
        result = attempt(self, self._kind, record, input, hx)
        if not isinstance(result, str):
            record.ran += 1
            return result
        record.fell_back[result] = record.fell_back.get(result, 0) + 1
        if result is WEIGHTS_LEARN and not self.training:
            _warn_once(type(self).__name__)
        return super().forward(input, hx)

    def train(self, mode: bool = True) -> Any:
        doubt()
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        doubt()

    def __prepare_scriptable__(self) -> Any:
        # torch.jit.script compiles `forward` as it stands in the class, and puts whatever comes
        # back from here into the eager model: the same object, then, and the original's forward.
        _become(self, _waiting(self._original))
        return self


class _Waiting(_Replaced):
    """A drop-in that torch.jit.script may read; at the next call of its own it is one again.

    It has the name of the layer's class, by which torch finds the overloads of ``forward``.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        _become(self, _drop_in(self._original))
        return self(*args, **kwargs)


def is_replaced(module: nn.Module) -> bool:
    """Whether a layer is a drop-in."""
    return isinstance(module, _Replaced)


def replace(layer: nn.Module) -> None:
    """Make a layer a drop-in."""
    cls: Any = type(layer)
    layer.__class__ = _drop_in(cls)


def put_back(layer: nn.Module) -> None:
    """Give a drop-in its own class again."""
    _become(layer, layer._original)


def original_name(layer: nn.Module) -> str:
    """The name of a layer's own class."""
    cls: Any = layer._original if is_replaced(layer) else type(layer)
    return str(cls.__name__)


def _become(layer: nn.Module, cls: Any) -> None:
    if is_parametrized(layer):  # torch has put a class of this one layer's on top
        type(layer).__bases__ = (cls,)
    else:
        layer.__class__ = cls


@cache
def _drop_in(cls: Any) -> Any:
    # The module's name is kept because torch.fx takes layers from torch.nn for its leaves.
    members = {
        "_original": cls,
        "_kind": kind_of(cls),
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
    }
    return type(f"Accelerated{cls.__name__}", (DropIn, cls), members)


@cache
def _waiting(cls: Any) -> Any:
    found = {name: vars(cls)[name] for name in ("__firstlineno__",) if name in vars(cls)}
    names = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(cls.__name__, (_Waiting, cls), {"_original": cls, **names, **found})


def _new_drop_in(cls: Any) -> Any:
    return object.__new__(_drop_in(cls))


# ---- a word to whoever forgot to turn autograd off ----

_warned = False


def warn_again() -> None:
    """Let the next call that torch must record be told of, once."""
    global _warned
    _warned = False


def _warn_once(name: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"{name} runs torch's own code: the model is in eval mode, but {WEIGHTS_LEARN}. "
            "packseq.torch.report(model) counts such calls; this is said once",
            RuntimeWarning,
            stacklevel=2,
        )
