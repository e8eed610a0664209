"""Named, read-only parameters: what every module and cell shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from packseq.checks import as_array, as_read_only
from packseq.networks.architecture import Architecture
from packseq.networks.arguments import as_module_dtype, check_weight_sizes, checked
from packseq.networks.engines import Network, pack

Array = NDArray[Any]
Rng = int | np.random.Generator | None

T = TypeVar("T")


class Weights:
    """One set of parameters, never changed, and what is made of it when first asked for.

    A module replaces the whole in one step, so that whoever calls meanwhile, or is interrupted,
    has all of the old or all of the new. Two threads may both make what is missing: the results are
    equal. (functools.cached_property of Python 3.11 would hold a lock, which a fork may copy.)
    """

    def __init__(
        self, architecture: Architecture, parameters: Mapping[str, Array], batch_first: bool
    ) -> None:
        self.architecture = architecture
        self.parameters = {name: as_read_only(array) for name, array in parameters.items()}
        self._batch_first = batch_first
        self._kept: dict[Any, Any] = {}
        # What packed() made, for calls that take a microsecond: they look here first.
        self.network: Network | None = None

    def kept(self, make: Callable[[Weights], T]) -> T:
        """What `make` makes of these weights, made once."""
        if make not in self._kept:
            self._kept[make] = make(self)
        made: T = self._kept[make]
        return made

    def packed(self) -> Network:
        """The weights as the kernels read them, or BLAS."""
        if self.network is None:
            self.network = pack(self.architecture, self.parameters, self._batch_first)
        return self.network


class Parameterised:
    """Weights under torch's names, reachable as attributes and as a state dict.

    A subclass calls `_begin` with what it is and draws its weights, or gets them by `_of`.
    Arrays are replaced, never written to, so one module may serve many threads.
    """

    _architecture: Architecture
    _weights: Weights
    dtype: np.dtype[Any]

    def _begin(self, architecture: Architecture, dtype: DTypeLike) -> None:
        """Take on an architecture and a dtype; weights come next."""
        self._architecture = architecture
        self.dtype = as_module_dtype(dtype)
        check_weight_sizes(architecture, self.dtype)

    def _set_options(self) -> None:
        """Take what is no part of the architecture; a cell has nothing of the kind."""

    @classmethod
    def _of(
        cls,
        architecture: Architecture,
        dtype: DTypeLike,
        mapping: Mapping[str, Any],
        prefix: str = "",
        **options: Any,
    ) -> Self:
        """One of this architecture and these options, with weights from a state dict."""
        made = cls.__new__(cls)
        made._set_options(**options)
        made._begin(architecture, dtype)
        made.load_state_dict(mapping, prefix)
        return made

    def _shown(self) -> dict[str, Any]:
        """What repr shows after the sizes: everything that is not the default."""
        raise NotImplementedError

    def __repr__(self) -> str:
        parts = [str(self.input_size), str(self.hidden_size)]
        parts += [f"{name}={value!r}" for name, value in self._shown().items()]
        return f"{type(self).__name__}({', '.join(parts)})"

    @property
    def input_size(self) -> int:
        """Width I of an input row."""
        return self._architecture.input_size

    @property
    def hidden_size(self) -> int:
        """Units H."""
        return self._architecture.hidden_size

    @property
    def bias(self) -> bool:
        """Whether there are biases."""
        return self._architecture.bias

    @property
    def _batch_first(self) -> bool:
        """Whether padded batches are (B, T, I)."""
        return False

    def _initialise(self, rng: Rng) -> None:
        """Uniform in ±1/sqrt(hidden_size), as torch does."""
        try:
            generator = np.random.default_rng(rng)
        except (TypeError, ValueError) as error:
            raise type(error)(f"rng must be None, a seed or a Generator, got {rng!r}") from error
        bound = self.dtype.type(1 / np.sqrt(self.hidden_size))
        self._set_parameters(
            {
                name: (generator.random(shape, self.dtype) * 2 - 1) * bound
                for name, shape in self._architecture.shapes.items()
            }
        )

    def _set_parameters(self, parameters: Mapping[str, Array]) -> None:
        self._weights = Weights(self._architecture, parameters, self._batch_first)

    def __getattr__(self, name: str) -> Array:
        try:
            array: Array = self.__dict__["_weights"].parameters[name]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
            ) from None
        return array[...]  # a new view: one that is reshaped in place is the caller's alone

    def __setattr__(self, name: str, value: object) -> None:
        # The packed weights, and the kernels' idea of every size, follow from what is public.
        built = "_weights" in self.__dict__ and not name.startswith("_")
        if built and getattr(getattr(type(self), name, None), "fset", None) is None:
            raise AttributeError(
                f"{name} cannot be set: make another module, or use load_state_dict for weights"
            )
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_weights": self._weights.parameters}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a pickle's fields, through the checks of a constructor and of load_state_dict."""
        fields = dict(state)
        parameters = fields.pop("_weights")
        self._begin(checked(fields.pop("_architecture")), fields.pop("dtype"))
        self._set_rest(fields)
        self._set_parameters(self._loaded(parameters, "", strict=True))

    def _set_rest(self, fields: Mapping[str, Any]) -> None:
        """Take what else a pickle has; a cell has nothing else."""
        if fields:
            raise ValueError(f"a pickled {type(self).__name__} has no {', '.join(fields)}")

    def state_dict(self) -> dict[str, Array]:
        """Return the parameters by torch's names.

        Returns
        -------
        dict of str to ndarray
            Read-only arrays in torch's order: views, not copies.

        Notes
        -----
        Source: torch.nn.Module.state_dict.
        """
        return {name: array[...] for name, array in self._weights.parameters.items()}

    def load_state_dict(
        self, mapping: Mapping[str, Any], prefix: str = "", strict: bool = True
    ) -> None:
        """Replace the parameters.

        Parameters
        ----------
        mapping : mapping of str to array_like
            float16, float32 or float64 arrays (or torch tensors) by torch's names; copied and
            converted to the module's dtype.
        prefix : str
            What the names begin with, such as ``"encoder.lstm"``, with its final dot or without.
            Others are not looked at.
        strict : bool
            Missing and unexpected names are errors; otherwise what is missing keeps its value.

        Raises
        ------
        TypeError
            No mapping, or an array is not of floats.
        ValueError
            Names are missing or unexpected while `strict`, or a shape is wrong; the message lists
            all of them. Nothing has been replaced then.

        Notes
        -----
        Cost: one copy; the first call after it packs the weights for the kernels.
        Source: torch.nn.Module.load_state_dict.
        """
        self._set_parameters(self._loaded(mapping, prefix, strict))

    def _loaded(self, mapping: Mapping[str, Any], prefix: str, strict: bool) -> dict[str, Array]:
        """New parameters from a state dict, checked and copied."""
        prefix = as_prefix(mapping, prefix)
        shapes = self._architecture.shapes
        given = {key[len(prefix) :]: key for key in mapping if key.startswith(prefix)}
        problems = _name_problems(shapes, given, prefix) if strict else []
        before = self.__dict__.get("_weights")
        loaded = dict(before.parameters) if before else {}
        for name, shape in shapes.items():
            if name not in given:
                continue
            array = as_weights(mapping[given[name]], given[name])
            if array.shape == shape:
                with np.errstate(all="ignore"):  # what float32 cannot hold becomes inf or 0
                    loaded[name] = np.array(array, self.dtype, order="C")
            else:
                problems.append(f"{given[name]} has shape {array.shape}, expected {shape}")
        if problems:
            raise ValueError(f"cannot load into {self!r}: " + "; ".join(problems))
        return loaded


def cell_option(name: str, doc: str) -> Any:
    """A property: what a constructor's option says of the cell."""

    def get(module: Parameterised) -> Any:
        return module._architecture.cell.options[name]

    return property(get, doc=doc)


def gate_activation(doc: str) -> Any:
    """A property: what stands in the place of the gates' sigmoid."""

    def get(module: Parameterised) -> str:
        return module._architecture.recurrent_activation

    return property(get, doc=doc)


def as_prefix(mapping: object, prefix: object) -> str:
    """Check a state dict and the prefix of one module in it, whose final dot may be left out.

    Raises
    ------
    TypeError
        No mapping of names, such as a file's name or a module; `prefix` is no string.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a string, got {prefix!r}")
    if not isinstance(mapping, Mapping):
        raise TypeError(
            "mapping must be a mapping of names to arrays (a state dict), "
            f"got {type(mapping).__name__}"
        )
    for key in mapping:
        if not isinstance(key, str):
            raise TypeError(f"mapping must have names for keys, got {key!r}")
    dotted = f"{prefix}."
    return dotted if prefix and any(key.startswith(dotted) for key in mapping) else prefix


def _name_problems(
    shapes: Mapping[str, tuple[int, ...]], given: Mapping[str, str], prefix: str
) -> list[str]:
    missing = [prefix + name for name in shapes if name not in given]
    unexpected = [key for name, key in given.items() if name not in shapes]
    return [
        f"{kind} {', '.join(names)}"
        for kind, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]


def as_weights(value: Any, name: str) -> Array:
    """Take an array or a torch tensor of floats, uncopied where possible.

    Raises
    ------
    TypeError
        Masked, or not float16, float32 or float64 (or a tensor of bfloat16, which is widened).
    ValueError
        Nested sequences that are ragged.
    """
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    array = as_array(value, name)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} must be float16, float32 or float64, got dtype {array.dtype}")
    return array
