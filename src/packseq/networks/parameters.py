"""Named, read-only parameters: what every module and cell shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from packseq._core.recurrent import Network as KernelNetwork
from packseq.checks import as_read_only
from packseq.networks.architecture import SIGMOID, Architecture, cell_of
from packseq.networks.arguments import (
    as_module_dtype,
    as_precision,
    as_recurrent_activation,
    check_weight_sizes,
    checked,
)
from packseq.networks.engines import Network, pack
from packseq.networks.prepack import prepack
from packseq.networks.rounding import dequantized, is_matrix, rounded, to_bfloat16
from packseq.networks.state_dicts import (
    as_integers,
    as_prefix,
    as_weights,
    inferred,
    name_problems,
    names_under,
)
from packseq.settings.isa import kernels

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

    def packed_for_kernels(self) -> KernelNetwork:
        """The same for what the kernels alone can do, also where modules run on BLAS.

        Raises
        ------
        RuntimeError
            This build has no kernels.
        """
        kernels()  # who lacks them hears of that, not of what BLAS would need
        network = self.packed()
        return network if isinstance(network, KernelNetwork) else self.kept(_pack_for_kernels)


def _pack_for_kernels(weights: Weights) -> KernelNetwork:
    return prepack(weights.architecture, weights.parameters, kernels(), weights._batch_first)


class Parameterised:
    """Weights under torch's names, reachable as attributes and as a state dict.

    A subclass calls `_begin` with what it is and draws its weights, or gets them by `_of`.
    Arrays are replaced, never written to, so one module may serve many threads.
    """

    _kind: ClassVar[str]
    _one_step: ClassVar[bool]

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

    @classmethod
    def _from_state_dict(
        cls,
        mapping: Mapping[str, Any],
        prefix: str,
        dtype: DTypeLike | None,
        *,
        recurrent_activation: str = SIGMOID,
        cell: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """What a state dict tells, and what it cannot: the options of its `cell` among them."""
        prefix = as_prefix(mapping, prefix)
        architecture, double = inferred(cls._kind, mapping, prefix, cls._one_step)
        if dtype is None:
            dtype = np.float64 if double else np.float32
        if cell is not None:
            architecture = replace(architecture, cell=cell_of(cls._kind, cell))
        architecture = replace(
            architecture, recurrent_activation=as_recurrent_activation(recurrent_activation)
        )
        return cls._of(architecture, dtype, mapping, prefix, **options)

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
    def precision(self) -> str:
        """What the weights are: "int8", "bfloat16", or the name of the dtype."""
        return self._architecture.precision or self.dtype.name

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

        Examples
        --------
        >>> import packseq
        >>> {name: w.shape for name, w in packseq.RNN(3, 2, bias=False, rng=0).state_dict().items()}
        {'weight_ih_l0': (2, 3), 'weight_hh_l0': (2, 2)}
        """
        return {name: array[...] for name, array in self._weights.parameters.items()}

    def load_state_dict(
        self, mapping: Mapping[str, Any], prefix: str = "", strict: bool = True
    ) -> None:
        """Replace the parameters.

        Parameters
        ----------
        mapping : mapping of str to array_like
            float16, bfloat16, float32 or float64 arrays or torch tensors by torch's names; copied,
            and converted to the module's dtype. A module takes a cell's too, and a cell those of a
            module of one layer and one direction, whose names end in ``_l0``.
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

        Examples
        --------
        >>> import packseq
        >>> lstm, twin = packseq.LSTM(16, 32, rng=0), packseq.LSTM(16, 32, rng=1)
        >>> twin.load_state_dict(lstm.state_dict())
        >>> bool((twin.weight_ih_l0 == lstm.weight_ih_l0).all())
        True
        """
        self._set_parameters(self._loaded(mapping, prefix, strict))

    def quantize(self, precision: str) -> Self:
        """Make the same module with weights of fewer bits: faster, smaller and less exact.

        Parameters
        ----------
        precision : {"int8", "bfloat16"}
            What weight_ih, weight_hh and weight_hr become, and what they multiply is rounded to.
            Biases, peepholes, gates, states, input and output stay float32.

        Returns
        -------
        module
            A new one, of the same class and options. An int8 weight is an int8 array, with a
            float32 scale for each of its rows beside it, under its name and ``_scale``; a bfloat16
            weight shows as the float32 array of its numbers.

        Raises
        ------
        ValueError
            Another precision; this module is not float32, or has fewer bits already; for int8, a
            weight has NaN or infinity, or more than 66,000 columns.

        Notes
        -----
        Cost: some passes over the weights. docs/precision.md says what it gains and what it costs,
        and how the rounding is defined; :func:`packseq.compare` measures it on your own data.

        Examples
        --------
        >>> import packseq
        >>> packseq.LSTM(16, 32, rng=0).quantize("int8")
        LSTM(16, 32, precision='int8')
        """
        architecture = replace(self._architecture, precision=as_precision(precision))
        if self.precision != "float32":
            raise ValueError(f"only a float32 module can be quantized; this one is {self!r}")
        parameters = rounded(self._architecture, self._weights.parameters, precision)
        return self._with(architecture, parameters)

    def dequantize(self) -> Self:
        """Make the float32 module of the rounded weights.

        Returns
        -------
        module
            A new one, which computes in float32 what the rounded weights stand for.

        Raises
        ------
        ValueError
            This module is not of fewer bits.

        Examples
        --------
        >>> import packseq
        >>> packseq.LSTM(16, 32, rng=0).quantize("int8").dequantize()
        LSTM(16, 32)
        """
        if not self._architecture.precision:
            raise ValueError(f"only what was quantized can be dequantized; this is {self!r}")
        architecture = replace(self._architecture, precision=None)
        return self._with(architecture, dequantized(self._weights.parameters))

    def _with(self, architecture: Architecture, parameters: Mapping[str, Array]) -> Self:
        """The same with other weights."""
        made = type(self).__new__(type(self))
        fields = {"_architecture": architecture, "_weights": parameters}
        made.__setstate__(self.__getstate__() | fields)
        return made

    def _loaded(self, mapping: Mapping[str, Any], prefix: str, strict: bool) -> dict[str, Array]:
        """New parameters from a state dict, checked and copied."""
        prefix = as_prefix(mapping, prefix)
        shapes = self._architecture.shapes
        given = names_under(mapping, prefix, self._architecture.one_step)
        problems = name_problems(shapes, given, prefix) if strict else []
        before = self.__dict__.get("_weights")
        loaded = dict(before.parameters) if before else {}
        for name, shape in shapes.items():
            if name not in given:
                continue
            integers = self.precision == "int8" and len(shape) == 2
            take = as_integers if integers else as_weights
            array = take(mapping[given[name]], given[name])
            if array.shape == shape:
                loaded[name] = self._stored(name, array)
            else:
                problems.append(f"{given[name]} has shape {array.shape}, expected {shape}")
        if problems:
            raise ValueError(f"cannot load into {self!r}: " + "; ".join(problems))
        return loaded

    def _stored(self, name: str, array: Array) -> Array:
        """A copy of a parameter as the module keeps it."""
        if array.dtype == np.int8:
            return np.array(array, order="C")
        with np.errstate(all="ignore"):  # what float32 cannot hold becomes inf or 0
            stored = np.array(array, self.dtype, order="C")
        matrix = is_matrix(name, self._architecture)
        return to_bfloat16(stored) if matrix and self.precision == "bfloat16" else stored


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
