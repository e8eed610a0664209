"""What the calls of modules give for what they take, as type checkers and editors see it.

At run time there is one call, Recurrent's. A PackedSequence may hold a tensor: the states are
tensors then too, though its type does not tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar, overload

from numpy.typing import ArrayLike

from packseq.networks.arguments import Array
from packseq.networks.recurrent import Recurrent
from packseq.packed import PackedSequence
from packseq.tensor_checks import TensorLike

Tensor = TypeVar("Tensor")


class OneState(Recurrent):
    """A module whose state is one array: h."""

    if TYPE_CHECKING:

        @overload
        def __call__(
            self,
            input: PackedSequence,
            hx: ArrayLike | None = None,
            *,
            lengths: None = None,
            out: Array | None = None,
            num_threads: SupportsIndex | None = None,
        ) -> tuple[PackedSequence, Array]: ...
        @overload
        def __call__(
            self,
            input: TensorLike[Tensor],
            hx: ArrayLike | None = None,
            *,
            lengths: ArrayLike | None = None,
            out: None = None,
            num_threads: SupportsIndex | None = None,
        ) -> tuple[Tensor, Tensor]: ...
        @overload
        def __call__(
            self,
            input: ArrayLike,
            hx: ArrayLike | None = None,
            *,
            lengths: ArrayLike | None = None,
            out: Array | None = None,
            num_threads: SupportsIndex | None = None,
        ) -> tuple[Array, Array]: ...
        def __call__(self, input: Any, hx: Any = None, **options: Any) -> Any: ...


class TwoStates(Recurrent):
    """A module whose state is a pair: (h, c)."""

    if TYPE_CHECKING:

        @overload
        def __call__(
            self,
            input: PackedSequence,
            hx: Sequence[ArrayLike] | None = None,
            *,
            lengths: None = None,
            out: Array | None = None,
            num_threads: SupportsIndex | None = None,
        ) -> tuple[PackedSequence, tuple[Array, Array]]: ...
        @overload
        def __call__(
            self,
            input: TensorLike[Tensor],
            hx: Sequence[ArrayLike] | None = None,
            *,
            lengths: ArrayLike | None = None,
            out: None = None,
            num_threads: SupportsIndex | None = None,
        ) -> tuple[Tensor, tuple[Tensor, Tensor]]: ...
        @overload
        def __call__(
            self,
            input: ArrayLike,
            hx: Sequence[ArrayLike] | None = None,
            *,
            lengths: ArrayLike | None = None,
            out: Array | None = None,
            num_threads: SupportsIndex | None = None,
        ) -> tuple[Array, tuple[Array, Array]]: ...
        def __call__(self, input: Any, hx: Any = None, **options: Any) -> Any: ...
