"""RNN, GRU and LSTM: layers and directions of recurrent cells, for inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import DTypeLike

from packseq.checks import as_flag
from packseq.networks.arguments import as_architecture, as_nonlinearity
from packseq.networks.parameters import Rng, cell_option, gate_activation
from packseq.networks.typed_calls import OneState, TwoStates

__all__ = ["GRU", "LSTM", "RNN"]


class RNN(OneState):
    """Elman RNN: ``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``, or relu.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths I of an input row and H of a state.
    num_layers : int
        Stacked layers; each but the first reads the outputs of the one below.
    nonlinearity : {"tanh", "relu"}
    bias : bool
    batch_first : bool
        Padded batches are (B, T, I); states stay (L * D, B, R).
    dropout : float
        Accepted and inactive: this is inference.
    bidirectional : bool
        A second set of weights reads each sequence from its end; D is 2.
    dtype : {numpy.float32, numpy.float64}
    rng : int or numpy.random.Generator, optional
        Where the initial weights come from, uniform in ±1/sqrt(H).
    backend : {"auto", "cpu", "torch"}, optional
        Where calls run, as for packseq.set_backend, whose setting is the default. Can be set later.

    Attributes
    ----------
    weight_ih_l[k] : (H, I), for k > 0 (H, D * H)
    weight_hh_l[k] : (H, H)
    bias_ih_l[k], bias_hh_l[k] : (H,)
        With the suffix ``_reverse`` for the second direction. All are read-only.

    Raises
    ------
    TypeError
        A size is no integer; dtype is neither float32 nor float64.
    ValueError
        A size is below 1 or their product beyond the machine's; another nonlinearity; dropout
        outside [0, 1].

    Notes
    -----
    Source: torch.nn.RNN.

    Examples
    --------
    >>> rnn = RNN(16, 32, nonlinearity="relu", rng=0)
    >>> packed = pack_sequence([np.ones((n, 16), np.float32) for n in (4, 2)])
    >>> output, h_n = rnn(packed)
    >>> output[1].shape, h_n.shape
    ((2, 32), (1, 2, 32))
    """

    _kind = "RNN"

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_size: SupportsIndex,
        num_layers: SupportsIndex = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = np.float32,
        rng: Rng = None,
        backend: str | None = None,
    ) -> None:
        architecture = as_architecture(
            "RNN",
            input_size,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            bidirectional=bidirectional,
            options={"nonlinearity": as_nonlinearity(nonlinearity)},
        )
        super().__init__(architecture, batch_first, dropout, dtype, rng, backend)

    nonlinearity: str = cell_option("nonlinearity", "What the pre-activations go through.")

    @classmethod
    def from_state_dict(
        cls,
        mapping: Mapping[str, Any],
        prefix: str = "",
        *,
        nonlinearity: str = "tanh",
        batch_first: bool = False,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Make the RNN that a state dict holds: sizes, layers, directions and bias follow from it.

        Parameters
        ----------
        mapping, prefix
            As for load_state_dict.
        nonlinearity, batch_first
            Which no state dict tells.
        dtype : optional
            float64 if the weights are, else float32.

        Raises
        ------
        TypeError, ValueError
            The entries under `prefix` are not those of an RNN; the message says what is wrong.

        Examples
        --------
        >>> RNN.from_state_dict(RNN(16, 32, num_layers=2, rng=0).state_dict())
        RNN(16, 32, num_layers=2)
        """
        return cls._from_state_dict(
            mapping,
            prefix,
            dtype,
            batch_first=batch_first,
            cell={"nonlinearity": as_nonlinearity(nonlinearity)},
        )


class GRU(OneState):
    """Gated recurrent unit.

    ``r, z = sigmoid(W_i x + b_i + W_h h + b_h)``,
    ``n = tanh(W_in x + b_in + r * (W_hn h + b_hn))``, ``h' = (1 - z) * n + z * h``.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths I of an input row and H of a state.
    num_layers, bias, batch_first, dropout, bidirectional, dtype, rng, backend
        As for :class:`RNN`.
    reset_after : bool
        Where r comes in: after the product with W_hn (torch, cuDNN, Keras's default, ONNX's
        ``linear_before_reset=1``), or before it, ``n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)``
        (the first GRU, ONNX's default).
    recurrent_activation : {"sigmoid", "hard_sigmoid", "hard_sigmoid_0.2"}
        As for :class:`LSTM`.

    Attributes
    ----------
    weight_ih_l[k] : (3 * H, I), for k > 0 (3 * H, D * H)
        Gates r, z, n.
    weight_hh_l[k] : (3 * H, H)
    bias_ih_l[k], bias_hh_l[k] : (3 * H,)
        With the suffix ``_reverse`` for the second direction. All are read-only.

    Raises
    ------
    TypeError, ValueError
        As for :class:`RNN`.

    Notes
    -----
    Source: torch.nn.GRU.

    Examples
    --------
    >>> gru = GRU(16, 32, num_layers=2, batch_first=True, rng=0)
    >>> output, h_n = gru(np.ones((3, 5, 16), np.float32), lengths=[5, 2, 4])
    >>> output.shape, h_n.shape
    ((3, 5, 32), (2, 3, 32))
    >>> bool(output[1, 2:].any())  # after the end of sequence 1
    False
    """

    _kind = "GRU"

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_size: SupportsIndex,
        num_layers: SupportsIndex = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        recurrent_activation: str = "sigmoid",
        dtype: DTypeLike = np.float32,
        rng: Rng = None,
        backend: str | None = None,
    ) -> None:
        architecture = as_architecture(
            "GRU",
            input_size,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            bidirectional=bidirectional,
            recurrent_activation=recurrent_activation,
            options={"reset_after": as_flag(reset_after, "reset_after")},
        )
        super().__init__(architecture, batch_first, dropout, dtype, rng, backend)

    reset_after: bool = cell_option(
        "reset_after", "Whether r comes in after the product with W_hn."
    )

    recurrent_activation: str = gate_activation("What r and z go through.")

    @classmethod
    def from_state_dict(
        cls,
        mapping: Mapping[str, Any],
        prefix: str = "",
        *,
        reset_after: bool = True,
        recurrent_activation: str = "sigmoid",
        batch_first: bool = False,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Make the GRU that a state dict holds: sizes, layers, directions and bias follow from it.

        Parameters
        ----------
        mapping, prefix
            As for load_state_dict.
        reset_after, recurrent_activation, batch_first
            Which no state dict tells.
        dtype : optional
            float64 if the weights are, else float32.

        Raises
        ------
        TypeError, ValueError
            The entries under `prefix` are not those of a GRU; the message says what is wrong.

        Examples
        --------
        >>> gru = GRU(8, 4, rng=0)
        >>> weights = {f"encoder.{name}": array for name, array in gru.state_dict().items()}
        >>> GRU.from_state_dict(weights, prefix="encoder")
        GRU(8, 4)
        """
        return cls._from_state_dict(
            mapping,
            prefix,
            dtype,
            batch_first=batch_first,
            recurrent_activation=recurrent_activation,
            cell={"reset_after": as_flag(reset_after, "reset_after")},
        )


class LSTM(TwoStates):
    """Long short-term memory.

    ``i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of W_ih x + b_ih + W_hh h + b_hh``,
    ``c' = f * c + i * g``, ``h' = o * tanh(c')``; with a projection, ``h' = W_hr (o * tanh(c'))``.

    Parameters
    ----------
    input_size, hidden_size : int
        Widths I of an input row and H of a state.
    num_layers, bias, batch_first, dropout, bidirectional, dtype, rng, backend
        As for :class:`RNN`.
    proj_size : int
        Width of a projected h, less than hidden_size; 0 for none.
    peephole : bool
        Whether gates see the cell's state: i and f the c of the step before, o the new one. Each
        adds its own weight times c, unit by unit, to its pre-activation. torch has no such LSTM.
    recurrent_activation : {"sigmoid", "hard_sigmoid", "hard_sigmoid_0.2"}
        What i, f and o go through. "hard_sigmoid" is torch's and Keras 3's,
        ``min(max(x + 3, 0), 6) / 6``; "hard_sigmoid_0.2" the older one, ONNX's default and Keras's
        before version 3, ``min(max(0.2 * x + 0.5, 0), 1)``. torch's LSTM has neither.

    Attributes
    ----------
    weight_ih_l[k] : (4 * H, I), for k > 0 (4 * H, D * R)
        Gates i, f, g, o.
    weight_hh_l[k] : (4 * H, R)
    bias_ih_l[k], bias_hh_l[k] : (4 * H,)
    weight_hr_l[k] : (R, H), with a projection
    weight_ci_l[k], weight_cf_l[k], weight_co_l[k] : (H,), with peepholes
        With the suffix ``_reverse`` for the second direction. All are read-only.

    Raises
    ------
    TypeError
        As for :class:`RNN`.
    ValueError
        As for :class:`RNN`; proj_size is negative, or hidden_size or more.

    Notes
    -----
    Source: torch.nn.LSTM.

    Examples
    --------
    >>> lstm = LSTM(16, 32, bidirectional=True, rng=0)
    >>> packed = pack_sequence([np.ones((n, 16), np.float32) for n in (4, 6, 3)])
    >>> output, (h_n, c_n) = lstm(packed)
    >>> output
    PackedSequence(3 sequences of 3 to 6 steps, data (13, 64) float32)
    >>> h_n.shape
    (2, 3, 32)
    """

    _kind = "LSTM"

    def __init__(
        self,
        input_size: SupportsIndex,
        hidden_size: SupportsIndex,
        num_layers: SupportsIndex = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: SupportsIndex = 0,
        *,
        peephole: bool = False,
        recurrent_activation: str = "sigmoid",
        dtype: DTypeLike = np.float32,
        rng: Rng = None,
        backend: str | None = None,
    ) -> None:
        architecture = as_architecture(
            "LSTM",
            input_size,
            hidden_size,
            num_layers=num_layers,
            bias=bias,
            bidirectional=bidirectional,
            proj_size=proj_size,
            recurrent_activation=recurrent_activation,
            options={"peephole": as_flag(peephole, "peephole")},
        )
        super().__init__(architecture, batch_first, dropout, dtype, rng, backend)

    peephole: bool = cell_option("peephole", "Whether i, f and o see c.")

    recurrent_activation: str = gate_activation("What i, f and o go through.")

    @classmethod
    def from_state_dict(
        cls,
        mapping: Mapping[str, Any],
        prefix: str = "",
        *,
        recurrent_activation: str = "sigmoid",
        batch_first: bool = False,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Make the LSTM that a state dict holds.

        Sizes, layers, directions, bias, projection and peepholes follow from it.

        Parameters
        ----------
        mapping, prefix
            As for load_state_dict.
        recurrent_activation, batch_first
            Which no state dict tells.
        dtype : optional
            float64 if the weights are, else float32.

        Raises
        ------
        TypeError, ValueError
            The entries under `prefix` are not those of an LSTM; the message says what is wrong.

        Examples
        --------
        >>> LSTM.from_state_dict(LSTM(16, 32, proj_size=8, rng=0).state_dict())
        LSTM(16, 32, proj_size=8)
        """
        return cls._from_state_dict(
            mapping,
            prefix,
            dtype,
            batch_first=batch_first,
            recurrent_activation=recurrent_activation,
        )
