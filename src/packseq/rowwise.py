"""NumPy's operators and functions on packed rows: each acts on every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from packseq.arguments import as_numpy_data
from packseq.checks import kind_of
from packseq.operators import Operators
from packseq.rows import elementwise, joining, products
from packseq.rows.plan import Plan
from packseq.tensor_checks import is_tensor

_NO_ARRAY = (
    "a PackedSequence is no array: data holds its rows, map() takes any function of them, and "
    "pad_packed_sequence pads them"
)


class Rowwise(Operators):
    """Rows and their plan, as NumPy sees them: what :class:`packseq.PackedSequence` starts from."""

    __slots__ = ("_data", "_plan")

    _data: NDArray[Any]
    _plan: Plan

    @classmethod
    def _of(cls, data: NDArray[Any], plan: Plan) -> Self:
        """Join rows to a plan that is known to fit them."""
        packed = cls.__new__(cls)
        object.__setattr__(packed, "_data", data[...])
        object.__setattr__(packed, "_plan", plan)
        return packed

    @property
    def _array(self) -> NDArray[Any]:
        """The rows, for what works on NumPy's only."""
        if is_tensor(self._data):
            raise TypeError(
                "this works on rows of NumPy, but the batch holds a torch tensor: apply torch to "
                "its data, or pack its data.numpy()"
            )
        return self._data

    if not TYPE_CHECKING:  # whose types are those of Operators

        def __matmul__(self, other: Any) -> Any:
            """For an array at once: NumPy's way, through __array_ufunc__, takes 2 us more."""
            if type(other) is np.ndarray:
                product = products.at_once(self._data, other.T)
                if product is not None:
                    return self._of(product, self._plan)
                return _matmul((self, other), (), {})
            return super().__matmul__(other)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and not kwargs:
            arrays = self._plain_rows(inputs)
            if arrays is not None and ufunc.signature is None and ufunc.nout == 1:
                return _packed_result(ufunc(*arrays), self, f"np.{ufunc.__name__}")
        outputs = kwargs.pop("out", ())
        where = kwargs.pop("where", True)
        if not all(map(_is_operand, (*inputs, *outputs, where))):
            return NotImplemented
        if method != "__call__":
            raise TypeError(
                f"np.{ufunc.__name__}.{method} would mix the sequences: sum(), max(), cumsum() and "
                "so on go along each one, and data holds the rows"
            )
        if ufunc is np.matmul:
            return _matmul(inputs, outputs, kwargs)
        if ufunc.signature is not None:
            raise TypeError(f"np.{ufunc.__name__} works on whole arrays: use map() or data")
        return _elementwise(ufunc, inputs, outputs, where, kwargs)

    def _plain_rows(self, inputs: Sequence[Any]) -> list[Any] | None:
        """Operands that need no alignment: Python's numbers, and rows of the same shape that share
        the plan itself. None where there is another: to align them takes 5 us of a call."""
        arrays: list[Any] = []
        for value in inputs:
            if type(value) is int or type(value) is float:
                arrays.append(value)
            elif type(value) is type(self) and value._plan is self._plan:
                if value._data.shape != self._data.shape:
                    return None
                arrays.append(value._array)
            else:
                return None
        return arrays

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        if not all(issubclass(each, Rowwise | np.ndarray) for each in types):
            return NotImplemented
        if func not in _FUNCTIONS:
            raise TypeError(f"np.{func.__name__}: {_NO_ARRAY}")
        return _FUNCTIONS[func](*args, **kwargs)

    if not TYPE_CHECKING:  # which would take it for an array everywhere, np.tanh(p) included

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
            raise TypeError(_NO_ARRAY)

    def __bool__(self) -> NoReturn:
        raise ValueError("the truth of a PackedSequence is ambiguous: ask data.any() or data.all()")


# ---- universal functions ----


def _is_operand(value: object) -> bool:
    """Whether no other type's `__array_ufunc__` should be asked."""
    if isinstance(value, Rowwise | np.ndarray | np.generic) or value is None:
        return True
    return not hasattr(value, "__array_ufunc__")


def _elementwise(
    ufunc: np.ufunc, inputs: Sequence[Any], outputs: Sequence[Any], where: Any, kwargs: Any
) -> Any:
    name = f"np.{ufunc.__name__}"
    (*arrays, mask), owner = _aligned((*inputs, where), outputs, name)
    if outputs:
        kwargs["out"] = tuple(_out_rows(out, name) for out in outputs)
    if mask is not True:
        kwargs["where"] = mask
    try:
        results = ufunc(*arrays, **kwargs)
    except ValueError as error:  # shapes that do not go together
        text = str(error).strip()
        raise ValueError(f"{name}: {text}, of which packed ones begin with the rows") from error
    results = results if ufunc.nout > 1 else (results,)
    wanted = outputs or (None,) * ufunc.nout
    wrapped = tuple(
        _packed_result(result, owner, name) if out is None else out
        for result, out in zip(results, wanted, strict=True)
    )
    return wrapped if ufunc.nout > 1 else wrapped[0]


def _aligned(values: Sequence[Any], outputs: Sequence[Any], name: str) -> tuple[list[Any], Rowwise]:
    """Operands whose rows NumPy pairs with rows, and one that has the layout of all."""
    operands = [_as_operand(value, name) for value in values]
    packed = [value for value in (*operands, *outputs) if isinstance(value, Rowwise)]
    elementwise.shared_plan([value._plan for value in packed], f"{name}: operands")
    if not any(isinstance(value, Rowwise) for value in operands):
        raise TypeError(f"{name}: out is a PackedSequence, but no operand is")
    axes = max(value._array.ndim - 1 for value in packed)
    return elementwise.aligned(operands, [*map(_rows, operands)], axes, name), packed[0]


def _as_operand(value: Any, name: str) -> Any:
    # Python's numbers stay so, since NumPy lets them keep the rows' dtype.
    if isinstance(value, Rowwise | int | float | complex):
        return value
    return as_numpy_data(value, f"{name}: an operand")


def _rows(value: object) -> NDArray[Any] | None:
    return value._array if isinstance(value, Rowwise) else None


def _out_rows(out: object, name: str) -> NDArray[Any] | None:
    if out is not None and not isinstance(out, Rowwise):
        raise TypeError(f"{name}: out must be a PackedSequence, got {type(out).__name__}")
    return _rows(out)


def _packed_result(result: NDArray[Any], owner: Rowwise, name: str) -> Rowwise:
    if result.dtype.hasobject:
        raise TypeError(f"{name} gives Python objects, which are no rows")
    return owner._of(result, owner._plan)


def _matmul(inputs: Sequence[Any], outputs: Sequence[Any], kwargs: Any) -> Rowwise:
    left, right = inputs
    if not isinstance(left, Rowwise) or isinstance(right, Rowwise):
        raise TypeError("matmul needs a PackedSequence on its left and a matrix on its right")
    if outputs or kwargs:
        raise TypeError("matmul of a PackedSequence takes no further arguments")
    matrix = as_numpy_data(right, "matmul: the matrix")
    return left._of(products.matmul(left._array, matrix), left._plan)


# ---- functions: under NumPy's names, since Python's errors of calls show them ----


def clip(
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    out: Any = None,
    *,
    min: Any = None,
    max: Any = None,
) -> Any:
    """numpy.clip: limits are numbers, arrays for every row, or packed."""
    limits = [
        (np.maximum, min if a_min is None else a_min),
        (np.minimum, max if a_max is None else a_max),
    ]
    wanted = [(ufunc, limit) for ufunc, limit in limits if limit is not None]
    if not wanted:
        return np.positive(a, out=out)
    for ufunc, limit in wanted[:-1]:
        a = ufunc(a, limit)
    last, limit = wanted[-1]
    return last(a, limit, out=out)


def where(condition: Any, *choices: Any) -> Any:
    """numpy.where of three arguments, each packed, a number, or an array for every row."""
    if len(choices) != 2:
        raise TypeError(
            "np.where of a condition alone would find rows, not steps: give it both choices, or "
            "take the condition's data"
        )
    arrays, owner = _aligned((condition, *choices), (), "np.where")
    return _packed_result(np.where(*arrays), owner, "np.where")


def concatenate(arrays: Sequence[Any], axis: Any = 0) -> Any:
    """numpy.concatenate: axis 0 joins batches, as in :func:`packseq.concatenate`."""
    parts = [check_rows(part, f"arrays[{k}]") for k, part in enumerate(arrays)]
    joined = joining.join([(part._array, part._plan) for part in parts], axis, "arrays")
    return parts[0]._of(*joined)


def check_rows(value: object, name: str) -> Rowwise:
    """Return what is packed, or raise a TypeError that names `name`."""
    if not isinstance(value, Rowwise):
        hint = ""
        if isinstance(value, tuple) and value and isinstance(value[0], Rowwise):
            hint = ": of a module's result, (output, state), the output is the first"
        raise TypeError(f"{name} must be a PackedSequence, got {kind_of(value)}{hint}")
    return value


def _reduction(name: str) -> Callable[..., Any]:
    """NumPy's function of a method's name: along an axis of each row."""

    def reduce(a: Any, axis: Any = None, **others: Any) -> Any:
        if others:
            raise TypeError(
                f"np.{name} of a PackedSequence takes no {', '.join(others)}: map() takes any "
                "function of the rows"
            )
        if axis is None:
            raise TypeError(
                f"np.{name} of a PackedSequence needs the axis of a row, such as -1: p.{name}() "
                f"goes over the steps of each sequence, and p.data.{name}() over all rows"
            )
        return getattr(a, name)(axis)

    return reduce


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.clip: clip,
    np.where: where,
    np.concatenate: concatenate,
    np.sum: _reduction("sum"),
    np.mean: _reduction("mean"),
    np.max: _reduction("max"),
    np.amax: _reduction("max"),
    np.min: _reduction("min"),
    np.amin: _reduction("min"),
    np.argmax: _reduction("argmax"),
    np.cumsum: _reduction("cumsum"),
}
