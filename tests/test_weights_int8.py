"""Weights of 8 bits, whoever made the file: no zero points, and one precision a module."""

import numpy as np
import pytest

from packseq.weights.int8 import by_module, centred


@pytest.mark.parametrize(
    ("dtype", "integers", "zero", "expected"),
    [
        (np.int8, [-128, 0, 127], None, [-128, 0, 127]),
        (np.int8, [-128, 0, 127], 0, [-128, 0, 127]),
        (np.uint8, [0, 128, 255], 128, [-128, 0, 127]),
        (np.uint8, [3, 100, 227], 100, [-97, 0, 127]),
        (np.int8, [-27, 127], 1, [-28, 126]),
        (np.uint8, [0, 127], None, [0, 127]),
        (np.uint8, [0, 128], None, None),
        (np.uint8, [0, 255], 127, None),
        (np.int8, [-128, 0], 1, None),
        (np.int8, [0, 1], 1 << 31, None),
        (np.int32, [0, 1], 0, None),
    ],
)
def test_integers_less_their_zero_point(dtype, integers, zero, expected):
    found = centred(np.array(integers, dtype), None if zero is None else np.array(zero))
    if expected is None:
        assert found is None
    else:
        assert found.dtype == np.int8
        assert found.tolist() == expected


def test_a_module_has_one_precision():
    """Matrices without scales, or too wide for int8's sums, make their module float32."""
    q = np.array([[1, -2], [3, 4]], np.int8)
    scale = np.array([0.5, 2], np.float32)
    wide = np.zeros((1, 66_001), np.int8)
    arrays = {
        "a.weight_ih_l0": q, "a.weight_ih_l0_scale": scale, "a.weight_hh_l0": q * np.float32(1),
        "b.weight_ih": q, "b.weight_ih_scale": scale, "b.bias_ih": scale,
        "c.weight_hh_l1": wide, "c.weight_hh_l1_scale": scale[:1],
        "d.other": q, "d.other_scale": scale,
    }  # fmt: skip
    found = by_module(arrays)
    assert list(found) == [
        "a.weight_ih_l0", "a.weight_hh_l0", "b.weight_ih", "b.weight_ih_scale", "b.bias_ih",
        "c.weight_hh_l1", "d.other", "d.other_scale",
    ]  # fmt: skip
    assert found["a.weight_ih_l0"].tolist() == [[0.5, -1], [6, 8]]
    assert found["a.weight_ih_l0"].dtype == found["c.weight_hh_l1"].dtype == np.float32
    assert found["b.weight_ih"] is q
