"""A module that reads every sequence from its end: ONNX's direction "reverse"."""

from typing import Any

import numpy as np

from packseq.layout import pack_padded_sequence, pad_packed_sequence
from packseq.packed import PackedSequence


class Backward:
    """Run a module over each sequence from its last step to its first.

    torch has no such module, only the second half of a bidirectional one, which this equals: step t
    of the output is the state after reading steps T-1 down to t, and the final state is that at
    step 0.

    Parameters
    ----------
    module : LSTM, GRU or RNN
        In one direction.
    """

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, input: Any, hx: Any = None, *, lengths: Any = None) -> Any:
        """As the module's own call, each sequence taken by its own length.

        Notes
        -----
        Cost: the module's, and two gathers of the rows.
        """
        if isinstance(input, PackedSequence):
            output, state = self.module(reverse(input), hx)
            return reverse(output), state
        batch_first = self.module.batch_first
        if lengths is None:
            axis = 1 if batch_first and np.ndim(input) == 3 else 0
            output, state = self.module(np.flip(input, axis), hx)
            return np.flip(output, axis), state
        packed = pack_padded_sequence(input, lengths, batch_first)
        output, state = self(packed, hx)
        longest = np.shape(input)[1 if batch_first else 0]
        padded, _ = pad_packed_sequence(output, batch_first, total_length=longest)
        return padded, state

    def __repr__(self) -> str:
        return f"Backward({self.module!r})"


def reverse(sequence: PackedSequence) -> PackedSequence:
    """The same batch with every sequence turned round."""
    plan = sequence._plan
    steps = np.repeat(np.arange(plan.max_length), plan.batch_sizes)
    places = np.arange(plan.rows) - plan.offsets[steps]
    rows = plan.offsets[plan.sorted_lengths[places] - 1 - steps] + places
    return PackedSequence._of(sequence.data[rows], plan)
