"""What moves rows between layouts: one contract, met by NumPy's arrays and by torch's tensors."""

from __future__ import annotations

from typing import Any, Protocol

from packseq.rows import arrays
from packseq.rows.plan import IndexArray, Plan
from packseq.tensor_checks import is_tensor


class Mover(Protocol):
    """The functions of :mod:`packseq.rows.arrays` and :mod:`packseq.rows.tensors`.

    Everything is checked by now. Rows come and go in the mover's own form, arrays or tensors; a
    sequence is (L, *), a padded batch (T, B, *), packed rows are (N, *).

    mypy holds both modules to this where :func:`mover_of` returns them, but for the names of
    parameters, which tests/test_movers.py compares.
    """

    def gather_padded(self, padded: Any, plan: Plan) -> Any:
        """(T, B, *) -> (N, *)."""

    def scatter_padded(
        self, data: Any, plan: Plan, steps: int, batch_first: bool, padding: Any
    ) -> Any:
        """(N, *) -> (T, B, *) with T = `steps`, or (B, T, *) if `batch_first`; contiguous."""

    def gather_sequences(self, sequences: list[Any], plan: Plan) -> Any:
        """A list of (L, *) -> (N, *)."""

    def scatter_sequences(self, data: Any, plan: Plan) -> list[Any]:
        """(N, *) -> a list of (L, *), views of one buffer."""

    def stack(
        self, sequences: list[Any], steps: int, batch_first: bool, left: bool, padding: Any
    ) -> Any:
        """A list of (L, *) -> (T, B, *) with T = `steps`, or (B, T, *) if `batch_first`."""

    def split(self, padded: Any, lengths: IndexArray) -> list[Any]:
        """(T, B, *) -> a list of (L, *), no views of `padded`."""

    def reverse(self, data: Any, plan: Plan) -> Any:
        """(N, *) -> (N, *), each sequence from its own last step to its first."""

    def copy_lengths(self, plan: Plan) -> Any:
        """(B,), in the caller's order."""

    def as_padding(self, value: Any, data: Any) -> Any:
        """`value` as the dtype of `data` holds it; a ValueError if it would change."""

    def astype(self, data: Any, dtype: Any) -> Any:
        """Copy, cast to a dtype; a TypeError if it holds Python objects or is none."""


def mover_of(rows: Any) -> Mover:
    """What moves such rows; torch's is imported with the first tensor that comes."""
    if is_tensor(rows):
        from packseq.rows import tensors

        return tensors
    return arrays
