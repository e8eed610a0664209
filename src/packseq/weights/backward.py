"""A module that reads every sequence from its end: ONNX's direction "reverse"."""

from typing import Any, SupportsIndex, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from packseq.arguments import refuse_list_of_arrays
from packseq.checks import shown
from packseq.layout import pack_padded_sequence, pad_packed_sequence
from packseq.networks.recurrent import Recurrent
from packseq.packed import PackedSequence
from packseq.tensor_checks import TensorLike, is_tensor

Array: TypeAlias = NDArray[Any]
Tensor = TypeVar("Tensor")


class Backward:
    """Run a module over each sequence from its last step to its first.

    torch has no such module, only the second half of a bidirectional one, which this equals: step t
    of the output is the state after reading steps T-1 down to t, and the final state is that at
    step 0.

    Parameters
    ----------
    module : LSTM, GRU or RNN
        In one direction.

    Raises
    ------
    TypeError
        `module` is none of these.

    Examples
    --------
    >>> backward = packseq.weights.Backward(packseq.GRU(3, 2, rng=0))
    >>> output, h_n = backward(np.ones((4, 3), np.float32))
    >>> bool((output[0] == h_n[0]).all())
    True
    """

    def __init__(self, module: Recurrent) -> None:
        if not isinstance(module, Recurrent):
            raise TypeError(f"module must be an LSTM, GRU or RNN, got {shown(module)}")
        self.module = module

    @overload
    def __call__(
        self,
        input: PackedSequence,
        hx: Any = None,
        *,
        lengths: None = None,
        num_threads: SupportsIndex | None = None,
    ) -> tuple[PackedSequence, Array | tuple[Array, Array]]: ...
    @overload
    def __call__(
        self,
        input: TensorLike[Tensor],
        hx: Any = None,
        *,
        lengths: ArrayLike | None = None,
        num_threads: SupportsIndex | None = None,
    ) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]: ...
    @overload
    def __call__(
        self,
        input: ArrayLike,
        hx: Any = None,
        *,
        lengths: ArrayLike | None = None,
        num_threads: SupportsIndex | None = None,
    ) -> tuple[Array, Array | tuple[Array, Array]]: ...
    def __call__(
        self,
        input: Any,
        hx: Any = None,
        *,
        lengths: Any = None,
        num_threads: SupportsIndex | None = None,
    ) -> Any:
        """As the module's own call, each sequence taken by its own length.

        Notes
        -----
        Cost: the module's, and two gathers of the rows.

        Examples
        --------
        >>> gru, x = packseq.GRU(3, 2, rng=0), np.float32([[[1, 2, 3]], [[4, 5, 6]]])
        >>> backward, _ = packseq.weights.Backward(gru)(x)
        >>> bool((backward[::-1] == gru(x[::-1])[0]).all())
        True
        """
        if isinstance(input, PackedSequence):
            output, state = self.module(input.reverse(), hx, num_threads=num_threads)
            return output.reverse(), state
        refuse_list_of_arrays(input, "input")
        batch_first = self.module.batch_first
        if lengths is None:
            axis = 1 if batch_first and np.ndim(input) == 3 else 0
            output, state = self.module(flip(input, axis), hx, num_threads=num_threads)
            return flip(output, axis), state
        packed = pack_padded_sequence(input, lengths, batch_first)
        output, state = self(packed, hx, num_threads=num_threads)
        longest = np.shape(input)[1 if batch_first else 0]
        padded, _ = pad_packed_sequence(output, batch_first, total_length=longest)
        return padded, state

    @property
    def precision(self) -> str:
        """The module's."""
        return str(self.module.precision)

    def quantize(self, precision: str) -> "Backward":
        """The same with weights of fewer bits, as the module's own `quantize` makes it.

        Examples
        --------
        >>> packseq.weights.Backward(packseq.GRU(3, 2, rng=0)).quantize("int8").precision
        'int8'
        """
        return Backward(self.module.quantize(precision))

    def dequantize(self) -> "Backward":
        """The same in float32, of the rounded weights.

        Examples
        --------
        >>> int8 = packseq.weights.Backward(packseq.GRU(3, 2, rng=0)).quantize("int8")
        >>> int8.dequantize().precision
        'float32'
        """
        return Backward(self.module.dequantize())

    def __repr__(self) -> str:
        return f"Backward({self.module!r})"


def flip(batch: Any, axis: int) -> Any:
    """A padded batch with its time turned round: a view of an array, a copy of a tensor."""
    return batch.flip(axis) if is_tensor(batch) else np.flip(batch, axis)
