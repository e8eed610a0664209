"""Keras's files: what a loaded module gives is what Keras gives."""

import json
import zipfile

import numpy as np
import pytest
from checkpoints import inputs, tolerance
from keras_models import (
    HIDDEN,
    INPUT,
    STEPS,
    SUFFIXES,
    L,
    assert_same,
    bidirectional,
    h5py,
    keras,
    result_of,
    save,
    sequence_of,
)

import packseq
from packseq import weights

# Keras and its backend warn of themselves, from their own code.
pytestmark = pytest.mark.filterwarnings(r"ignore:::(keras|torch)\.")


CASES = {
    "LSTM": lambda: [L.LSTM(HIDDEN, return_sequences=True)],
    "LSTM no bias": lambda: [L.LSTM(HIDDEN, use_bias=False, return_sequences=True)],
    "GRU": lambda: [L.GRU(HIDDEN, return_sequences=True)],
    "GRU reset before": lambda: [L.GRU(HIDDEN, reset_after=False, return_sequences=True)],
    "SimpleRNN": lambda: [L.SimpleRNN(HIDDEN, return_sequences=True)],
    "bidirectional LSTM": lambda: [bidirectional(L.LSTM(HIDDEN, return_sequences=True))],
    "bidirectional GRU reset before": lambda: [
        bidirectional(L.GRU(HIDDEN, reset_after=False, return_sequences=True))
    ],
    "bidirectional SimpleRNN": lambda: [bidirectional(L.SimpleRNN(HIDDEN, return_sequences=True))],
}


def said_by_the_caller(case, suffix):
    """What a file of weights alone does not say."""
    if suffix != ".weights.h5":
        return {}
    return {"nonlinearity": "tanh"} if "RNN" in case else {"recurrent_activation": "sigmoid"}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", CASES)
def test_one_layer(tmp_path, case, suffix):
    model = sequence_of(*CASES[case]())
    x = inputs(2, STEPS, INPUT)

    path = save(model, tmp_path / f"model{suffix}")
    module = packseq.load(path, **said_by_the_caller(case, suffix))

    assert module.batch_first
    expected = np.asarray(model(x).detach())
    atol = tolerance(STEPS, INPUT + 2 * HIDDEN)
    np.testing.assert_allclose(module(x)[0], expected, rtol=0, atol=atol)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_activation_of_a_simple_rnn_is_read(tmp_path, suffix):
    model = sequence_of(L.SimpleRNN(HIDDEN, activation="relu", return_sequences=True))
    x = inputs(2, STEPS, INPUT)
    expected = np.asarray(model(x).detach())
    module = packseq.load(save(model, tmp_path / f"model{suffix}"))
    atol = tolerance(STEPS, INPUT + 2 * HIDDEN, max(1.0, float(expected.max())))
    np.testing.assert_allclose(module(x)[0], expected, rtol=0, atol=atol)


def steep(model):
    """The same model with weights three times as large, so that some gates are 0 and some are 1."""
    for variable in model.weights:
        variable.assign(variable * 3)
    return model


def written_by(version, path):
    """The file as if another version of Keras had written it; None: one that does not say."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        entries["metadata.json"] = json.dumps({"keras_version": version} if version else {})
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        return path
    with h5py.File(path, "a") as file:
        del file.attrs["keras_version"]
        if version:
            file.attrs["keras_version"] = version
    return path


@keras.saving.register_keras_serializable()  # Bidirectional copies its layer by its config
def hard_sigmoid_before_keras_3(x):
    return keras.ops.clip(0.2 * x + 0.5, 0, 1)


HARD_LAYERS = {
    "LSTM": lambda activation: L.LSTM(
        HIDDEN, recurrent_activation=activation, return_sequences=True
    ),
    "GRU": lambda activation: L.GRU(HIDDEN, recurrent_activation=activation, return_sequences=True),
    "bidirectional GRU reset before": lambda activation: bidirectional(
        L.GRU(HIDDEN, recurrent_activation=activation, reset_after=False, return_sequences=True)
    ),
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(("version", "name"), [
    (keras.__version__, "hard_sigmoid"),
    ("3.0.0", "hard_sigmoid"),
    ("2.15.0", "hard_sigmoid_0.2"),
    ("2.2.4-tf", "hard_sigmoid_0.2"),
])  # fmt: skip
@pytest.mark.parametrize("case", HARD_LAYERS)
def test_a_hard_sigmoid_is_that_of_the_keras_that_wrote_it(tmp_path, case, version, name, suffix):
    # No Keras before 3 is here: the judge is today's layer around the arithmetic of theirs.
    activation = hard_sigmoid_before_keras_3 if name == "hard_sigmoid_0.2" else name
    saved = steep(sequence_of(HARD_LAYERS[case]("hard_sigmoid")))
    judge = steep(sequence_of(HARD_LAYERS[case](activation)))
    x = inputs(2, STEPS, INPUT)

    module = packseq.load(written_by(version, save(saved, tmp_path / f"model{suffix}")))

    assert module.recurrent_activation == name
    expected = np.asarray(judge(x).detach())
    atol = tolerance(STEPS, 3 * (INPUT + 2 * HIDDEN))
    np.testing.assert_allclose(module(x)[0], expected, rtol=0, atol=atol)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_hard_sigmoid_of_nobody_knows_which_keras_is_refused(tmp_path, suffix):
    model = sequence_of(L.GRU(HIDDEN, recurrent_activation="hard_sigmoid", name="a"), L.Dense(2))
    path = written_by(None, save(model, tmp_path / f"model{suffix}"))
    with pytest.raises(weights.CheckpointError, match="'hard_sigmoid' of a Keras whose version"):
        packseq.load(path)
    (found,) = weights.find(path)
    assert "whose version is not in the file" in str(found)


def test_directions_of_different_activations_are_refused_by_name(tmp_path):
    hard = L.LSTM(HIDDEN, recurrent_activation="hard_sigmoid", go_backwards=True)
    layer = bidirectional(L.LSTM(HIDDEN), backward_layer=hard)
    path = save(sequence_of(layer), tmp_path / "model.keras")
    with pytest.raises(weights.CheckpointError, match="'hard_sigmoid' in one direction only"):
        packseq.load(path)


ALONE = {
    "LSTM": (L.LSTM, "recurrent_activation, activation, go_backwards"),
    "GRU": (L.GRU, "recurrent_activation, activation, go_backwards"),
    "SimpleRNN": (L.SimpleRNN, "nonlinearity, go_backwards"),
    "bidirectional": (
        lambda size: bidirectional(L.LSTM(size)),
        "recurrent_activation, activation, go_backwards, merge_mode",
    ),
    "GRU without bias": (
        lambda size: L.GRU(size, use_bias=False),
        "recurrent_activation, activation, reset_after, go_backwards",
    ),
}


@pytest.mark.parametrize("case", ALONE)
def test_what_weights_alone_do_not_say_is_asked_for(tmp_path, case):
    """Sigmoids were assumed, which were hard ones in Keras before 2.3."""
    layer, unsaid = ALONE[case]
    path = save(sequence_of(layer(HIDDEN)), tmp_path / "model.weights.h5")
    (found,) = weights.find(path)

    assert found.attributes.unsaid == unsaid
    assert f"not in the file: {unsaid}" in str(found)
    with pytest.raises(weights.CheckpointError, match=f"does not say its {unsaid}; load it with"):
        packseq.load(path)


def test_weights_alone_run_as_the_caller_says(tmp_path):
    model = sequence_of(L.LSTM(HIDDEN, recurrent_activation="hard_sigmoid", return_sequences=True))
    path = save(model, tmp_path / "model.weights.h5")
    x = inputs(2, STEPS, INPUT)

    module = packseq.load(path, recurrent_activation="hard_sigmoid")

    expected = np.asarray(model(x).detach())
    atol = tolerance(STEPS, INPUT + 2 * HIDDEN)
    np.testing.assert_allclose(module(x)[0], expected, rtol=0, atol=atol)


def functional(*layers):
    """The same chain of layers as a functional model."""
    x = y = keras.Input((None, INPUT))
    for layer in layers:
        y = layer(y)
    return keras.Model(x, y)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("style", [sequence_of, functional], ids=lambda style: style.__name__)
@pytest.mark.parametrize("wrap", [lambda layer: layer, bidirectional], ids=["one way", "both ways"])
def test_stacked_layers_are_one_module(tmp_path, style, wrap, suffix):
    model = style(
        wrap(L.GRU(HIDDEN, return_sequences=True)),
        L.Dropout(0.5),
        L.SpatialDropout1D(0.2),
        wrap(L.GRU(HIDDEN, return_sequences=True)),
        wrap(L.GRU(HIDDEN, return_sequences=True)),
    )
    x = inputs(2, STEPS, INPUT)

    module = packseq.load(save(model, tmp_path / f"model{suffix}"))

    assert module.num_layers == 3
    expected = np.asarray(model(x, training=False).detach())
    atol = 3 * tolerance(STEPS, INPUT + 4 * HIDDEN)
    np.testing.assert_allclose(module(x)[0], expected, rtol=0, atol=atol)


def forked():
    x = keras.Input((None, INPUT))
    first = L.GRU(HIDDEN, return_sequences=True)(x)
    return keras.Model(x, [first, L.GRU(HIDDEN, return_sequences=True)(first)])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("build", [
    forked,
    lambda: sequence_of(L.GRU(HIDDEN, return_sequences=True), L.LSTM(HIDDEN)),
    lambda: sequence_of(L.GRU(HIDDEN, return_sequences=True), L.GRU(HIDDEN + 1)),
    lambda: sequence_of(L.GRU(HIDDEN, return_sequences=True), L.Dense(HIDDEN), L.GRU(HIDDEN)),
], ids=["output used twice", "other kind", "other size", "something between"])  # fmt: skip
def test_layers_that_are_no_stack_stay_apart(tmp_path, build, suffix):
    found = weights.find(save(build(), tmp_path / f"model{suffix}"))
    assert [one.num_layers for one in found] == [1, 1]


def test_the_layers_of_a_model_in_a_model_are_found(tmp_path):
    inner = keras.Sequential(
        [keras.Input((None, INPUT)), L.GRU(HIDDEN, return_sequences=True, name="deep")],
        name="inner",
    )
    model = sequence_of(inner, L.LSTM(HIDDEN, return_sequences=True, name="top"))
    x = inputs(2, STEPS, INPUT)
    path = save(model, tmp_path / "model.keras")

    between = packseq.load(path, "inner.deep.")(x)[0]
    output = packseq.load(path, "top.")(between)[0]

    atol = 2 * tolerance(STEPS, INPUT + 2 * HIDDEN)
    np.testing.assert_allclose(output, np.asarray(model(x).detach()), rtol=0, atol=atol)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_layers_around_come_along(tmp_path, suffix):
    model = sequence_of(L.GRU(HIDDEN, return_sequences=True), L.Dense(2))
    arrays = weights.read(save(model, tmp_path / f"model{suffix}")).values()
    kernel = model.layers[-1].kernel.numpy()
    assert any(a.shape == kernel.shape and (a == kernel).all() for a in arrays)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(("layer", "named"), [
    (lambda: L.LSTM(HIDDEN, activation="relu"), "activation='relu'"),
    (lambda: L.GRU(HIDDEN, recurrent_activation="relu"), "recurrent_activation='relu'"),
    (lambda: L.SimpleRNN(HIDDEN, activation=None), "activation='linear'"),
], ids=["activation", "recurrent", "linear"])  # fmt: skip
def test_what_cannot_run_is_refused_by_name_and_still_listed(tmp_path, layer, named, suffix):
    path = save(sequence_of(layer()), tmp_path / f"model{suffix}")
    with pytest.raises(weights.CheckpointError, match=named):
        packseq.load(path)
    (found,) = weights.find(path)
    assert named in str(found)


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_gru_without_bias_or_config_resets_as_the_caller_says(tmp_path, reset_after):
    gru = L.GRU(HIDDEN, use_bias=False, reset_after=reset_after, return_sequences=True)
    path = save(model := sequence_of(gru), tmp_path / "model.weights.h5")
    for given in ({"recurrent_activation": "sigmoid"}, {"reset_after": reset_after}):
        with pytest.raises(weights.CheckpointError, match="recurrent_activation and reset_after"):
            packseq.load(path, **given)

    module = packseq.load(path, recurrent_activation="sigmoid", reset_after=reset_after)

    x = inputs(2, STEPS, INPUT)
    assert_same(module(x)[0], result_of(model, x))


def test_a_gru_whose_bias_tells_how_it_resets_is_not_contradicted(tmp_path):
    path = save(sequence_of(L.GRU(HIDDEN)), tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match="reset_after is False; the file says True"):
        packseq.load(path, recurrent_activation="sigmoid", reset_after=False)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_convert_leaves_out_the_optimizers_state_unless_asked(tmp_path, suffix):
    model = sequence_of(L.LSTM(HIDDEN))
    model.compile("adam", "mse")
    model.fit(inputs(2, STEPS, INPUT), np.zeros((2, HIDDEN)), verbose=0)
    path = save(model, tmp_path / f"model{suffix}")

    left_out = weights.convert(path, tmp_path / "plain")
    weights.convert(path, tmp_path / "all", optimizer=True)

    parameters = {
        f"{weights.find(path)[0].prefix}{name}" for name in packseq.LSTM(1, 1).state_dict()
    }
    whole = weights.read(path)
    assert weights.read(tmp_path / "plain").keys() == parameters
    assert weights.read(tmp_path / "all").keys() == whole.keys()
    assert left_out.keys() == whole.keys() - parameters
    assert len(left_out) >= 6
