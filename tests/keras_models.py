"""Models of Keras for the tests, with telling weights, and the files that Keras writes of them."""

import os

import numpy as np
import pytest
from checkpoints import distinctive, inputs, tolerance

import packseq

pytest.importorskip("torch", reason="the backend that Keras runs on here")
h5py = pytest.importorskip("h5py", reason="reads Keras's files")
os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="writes the files and is the judge")

L = keras.layers
INPUT, HIDDEN, STEPS = 3, 4, 6
SUFFIXES = [".keras", ".weights.h5", ".h5"]
WITH_CONFIG = [".keras", ".h5"]


def telling(model):
    """The model, each gate of each layer with weights of its own."""
    for number, variable in enumerate(model.weights):
        gates = max(variable.shape[-1] // HIDDEN, 1) if "dense" not in variable.path else 1
        gates = gates if gates in (1, 3, 4) else 1
        turned = distinctive(tuple(variable.shape)[::-1], gates, number)
        variable.assign(turned.T)
    return model


def sequence_of(*layers):
    """A Sequential of layers on (B, T, INPUT)."""
    return telling(keras.Sequential([keras.Input((None, INPUT)), *layers]))


def save(model, path):
    """The file that Keras writes, under a name that tells nothing: formats are told by content."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path.rename(path.with_name("checkpoint"))


def bidirectional(layer, **options):
    return L.Bidirectional(layer, **options)


def result_of(model, x):
    """What Keras gives."""
    given = model(x, training=False)
    if isinstance(given, list | tuple):
        return [np.asarray(one.detach()) for one in given]
    return np.asarray(given.detach())


def assert_same(actual, expected, steps=STEPS, layers=1, **options):
    """Equal up to the rounding of so many steps and layers."""
    scale = max(1.0, float(np.abs(expected).max()))
    atol = layers * tolerance(steps, INPUT + 4 * HIDDEN, scale)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol, **options)


def assert_loads_as_keras_runs_it(model, path, prefix=None, layers=1, **options):
    """The module in a file gives what the whole model gives; it is returned."""
    x = inputs(2, STEPS, INPUT)
    module = packseq.load(path, prefix, **options)
    assert_same(module(x)[0], result_of(model, x), layers=layers)
    return module
