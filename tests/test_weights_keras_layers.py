"""Layers that are not plain members of a Keras model: in wrappers, cells, models and classes.

What the config says of them is found where it stands; what it does not say is refused by name.
"""

import json

import numpy as np
import pytest
from checkpoints import distinctive, inputs
from keras_models import (
    HIDDEN,
    INPUT,
    STEPS,
    SUFFIXES,
    WITH_CONFIG,
    L,
    assert_loads_as_keras_runs_it,
    assert_same,
    bidirectional,
    h5py,
    keras,
    result_of,
    save,
    sequence_of,
    telling,
)

import packseq
from packseq import weights
from packseq.weights.backward import Backward

pytestmark = pytest.mark.filterwarnings(r"ignore:::(keras|torch)\.")

with_config = pytest.mark.parametrize("suffix", WITH_CONFIG)


def found_in(model, path):
    return weights.find(save(model, path))


# --- cells in an RNN ------------------------------------------------------------------------

CELLS = {
    "LSTMCell": lambda: L.LSTMCell(HIDDEN),
    "GRUCell": lambda: L.GRUCell(HIDDEN),
    "GRUCell reset before": lambda: L.GRUCell(HIDDEN, reset_after=False),
    "hard GRUCell": lambda: L.GRUCell(HIDDEN, recurrent_activation="hard_sigmoid"),
    "SimpleRNNCell": lambda: L.SimpleRNNCell(HIDDEN),
    "SimpleRNNCell with relu": lambda: L.SimpleRNNCell(HIDDEN, activation="relu"),
    "no bias": lambda: L.GRUCell(HIDDEN, use_bias=False),
}


@with_config
@pytest.mark.parametrize("case", CELLS)
def test_a_cell_in_an_rnn_is_the_layer_that_it_equals(tmp_path, case, suffix):
    model = sequence_of(L.RNN(CELLS[case](), return_sequences=True))
    assert_loads_as_keras_runs_it(model, save(model, tmp_path / f"model{suffix}"))


@with_config
@pytest.mark.parametrize("case", CELLS)
def test_a_cell_in_an_rnn_both_ways(tmp_path, case, suffix):
    model = sequence_of(bidirectional(L.RNN(CELLS[case](), return_sequences=True)))
    assert_loads_as_keras_runs_it(model, save(model, tmp_path / f"model{suffix}"))


@with_config
def test_the_settings_of_a_cell_are_those_of_its_layer(tmp_path, suffix):
    """This ran tanh."""
    model = sequence_of(L.RNN(L.LSTMCell(HIDDEN, activation="relu")))
    path = save(model, tmp_path / f"model{suffix}")
    with pytest.raises(weights.CheckpointError, match="activation='relu'"):
        packseq.load(path)


@with_config
@pytest.mark.parametrize("form", [list, L.StackedRNNCells], ids=["list", "StackedRNNCells"])
def test_cells_upon_cells_are_layers_upon_layers(tmp_path, form, suffix):
    cells = form([L.LSTMCell(HIDDEN), L.LSTMCell(HIDDEN), L.LSTMCell(HIDDEN)])
    model = sequence_of(L.RNN(cells, return_sequences=True))
    path = save(model, tmp_path / f"model{suffix}")

    module = assert_loads_as_keras_runs_it(model, path, layers=3)

    assert module.num_layers == 3


@with_config
def test_cells_upon_cells_both_backwards(tmp_path, suffix):
    cells = [L.GRUCell(HIDDEN), L.GRUCell(HIDDEN)]
    model = sequence_of(L.RNN(cells, return_sequences=True, go_backwards=True))
    x = inputs(2, STEPS, INPUT)

    module = packseq.load(save(model, tmp_path / f"model{suffix}"))

    assert module.module.num_layers == 2
    assert_same(module(x)[0][:, ::-1], result_of(model, x), layers=2)


@with_config
def test_unlike_cells_upon_one_another_are_a_module_each(tmp_path, suffix):
    cells = [L.LSTMCell(HIDDEN), L.GRUCell(HIDDEN + 1), L.GRUCell(HIDDEN + 1)]
    model = sequence_of(L.RNN(cells, return_sequences=True, name="three"))
    x = inputs(2, STEPS, INPUT)
    path = save(model, tmp_path / f"model{suffix}")

    between = packseq.load(path, "three.cells.0.")(x)[0]
    upper = packseq.load(path, "three.cells.1.")

    assert upper.num_layers == 2
    assert_same(upper(between)[0], result_of(model, x), layers=3)


@with_config
def test_cells_upon_cells_both_ways_are_no_module_of_ours(tmp_path, suffix):
    cells = [L.GRUCell(HIDDEN), L.GRUCell(HIDDEN)]
    (found,) = found_in(sequence_of(bidirectional(L.RNN(cells))), tmp_path / f"model{suffix}")
    assert "several cells in a Bidirectional" in str(found)


@keras.saving.register_keras_serializable()  # Bidirectional copies its layer by its config
class Own(L.Layer):
    """A cell of a user's that has an LSTM's arrays and computes something else."""

    def __init__(self, units=HIDDEN, **options):
        super().__init__(**options)
        self.state_size = [units, units]

    def build(self, shape):
        units = self.state_size[0]
        sizes = {"kernel": (shape[-1], 4 * units), "recurrent_kernel": (units, 4 * units)}
        for name, size in {**sizes, "bias": (4 * units,)}.items():
            setattr(self, name, self.add_weight(shape=size, name=name))

    def call(self, x, states, training=False):
        return states[0], states


@with_config
@pytest.mark.parametrize("wrap", [lambda layer: layer, bidirectional], ids=["one way", "both"])
def test_a_cell_of_a_users_is_refused_by_name_and_hides_no_other(tmp_path, wrap, suffix):
    """This loaded as an LSTM: three arrays have an LSTM's shapes."""
    own = wrap(L.RNN(Own(name="own"), return_sequences=True))
    model = sequence_of(own, L.Dense(INPUT), L.GRU(HIDDEN, name="gru"))
    path = save(model, tmp_path / f"model{suffix}")

    gru, refused = sorted(weights.find(path), key=lambda found: not found.kind)

    assert gru.prefix == "gru."
    assert "a cell of class 'Own" in str(refused)
    assert not refused.kind
    arrays = weights.read(path)
    assert not any(name.startswith(refused.prefix) for name in arrays)
    assert any(array.shape == (HIDDEN, 4 * HIDDEN) for array in arrays.values())


def changed(config, name, changes):
    """A config with other settings for the member of a name."""
    if isinstance(config, list):
        return [changed(one, name, changes) for one in config]
    if not isinstance(config, dict):
        return config
    inner = {key: changed(value, name, changes) for key, value in config.items()}
    own = inner.get("config")
    return inner | changes if isinstance(own, dict) and own.get("name") == name else inner


def with_config_of(path, change):
    """The ``.h5`` file with another config."""
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = json.dumps(change(json.loads(file.attrs["model_config"])))
    return path


@pytest.mark.parametrize("module", [None, "packseqs.layers", "keras_of_mine"])
def test_a_class_of_a_users_with_a_name_of_keras_is_not_keras(tmp_path, module):
    path = save(sequence_of(L.LSTM(HIDDEN, name="a")), tmp_path / "model.h5")
    with_config_of(path, lambda config: changed(config, "a", {"module": module}))
    with pytest.raises(weights.CheckpointError, match="settings that the config does not give"):
        packseq.load(path)


# --- backwards, and both ways ---------------------------------------------------------------


@with_config
@pytest.mark.parametrize("layer", [
    lambda **options: L.LSTM(HIDDEN, **options),
    lambda **options: L.SimpleRNN(HIDDEN, activation="relu", **options),
    lambda **options: L.RNN(L.GRUCell(HIDDEN), **options),
], ids=["LSTM", "SimpleRNN", "RNN"])  # fmt: skip
def test_a_layer_that_goes_backwards(tmp_path, layer, suffix):
    """An RNN's cell was run forwards. Keras gives the steps in the order they were read."""
    model = sequence_of(layer(go_backwards=True, return_sequences=True))
    x = inputs(2, STEPS, INPUT)
    path = save(model, tmp_path / f"model{suffix}")

    module = packseq.load(path)
    (found,) = weights.find(path)

    assert isinstance(module, Backward)
    assert_same(module(x)[0][:, ::-1], result_of(model, x))
    assert "from the end only, then steps in the order they were read" in str(found)


@with_config
def test_the_last_state_of_a_layer_that_goes_backwards(tmp_path, suffix):
    model = sequence_of(L.GRU(HIDDEN, go_backwards=True))
    x = inputs(2, STEPS, INPUT)
    path = save(model, tmp_path / f"model{suffix}")
    assert_same(packseq.load(path)(x)[1][0], result_of(model, x))
    assert not weights.find(path)[0].attributes.then


@with_config
def test_layers_that_turn_time_round_are_no_stack(tmp_path, suffix):
    both = [L.GRU(HIDDEN, go_backwards=True, return_sequences=True) for _ in range(2)]
    model = sequence_of(*both)
    x = inputs(2, STEPS, INPUT)
    path = save(model, tmp_path / f"model{suffix}")

    for found in weights.find(path):
        x = packseq.load(path, found.prefix)(x)[0][:, ::-1]

    assert_same(x, result_of(model, inputs(2, STEPS, INPUT)), layers=2)


MERGES = {
    "sum": lambda forward, backward: forward + backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
    "mul": lambda forward, backward: forward * backward,
    None: lambda forward, backward: np.stack([forward, backward]),
}


@with_config
@pytest.mark.parametrize("merge", MERGES, ids=str)
def test_another_merge_is_said_and_left_to_the_caller(tmp_path, merge, suffix):
    layer = bidirectional(L.GRU(HIDDEN, return_sequences=True), merge_mode=merge)
    model = sequence_of(layer)
    x = inputs(2, STEPS, INPUT)
    path = save(model, tmp_path / f"model{suffix}")

    output = packseq.load(path)(x)[0]
    (found,) = weights.find(path)

    halves = output[..., :HIDDEN], output[..., HIDDEN:]
    assert_same(MERGES[merge](*halves), np.asarray(result_of(model, x)))
    assert found.attributes.then == f"merge_mode={merge!r}"
    assert f"then merge_mode={merge!r}" in str(found)


@with_config
def test_nothing_is_stacked_upon_another_merge(tmp_path, suffix):
    both = [
        bidirectional(L.GRU(HIDDEN, return_sequences=True), merge_mode="sum"),
        bidirectional(L.GRU(HIDDEN, return_sequences=True)),
    ]
    found = found_in(sequence_of(*both), tmp_path / f"model{suffix}")
    assert [(one.num_layers, one.input_size) for one in found] == [(1, INPUT), (1, HIDDEN)]


@with_config
def test_another_merge_on_top_of_a_stack_is_that_of_the_whole(tmp_path, suffix):
    plain = bidirectional(L.GRU(HIDDEN, return_sequences=True))
    top = bidirectional(L.GRU(HIDDEN, return_sequences=True), merge_mode="sum")
    model = sequence_of(plain, top)
    x = inputs(2, STEPS, INPUT)
    path = save(model, tmp_path / f"model{suffix}")

    module = packseq.load(path)
    output = module(x)[0]

    assert module.num_layers == 2
    assert weights.find(path)[0].attributes.then == "merge_mode='sum'"
    assert_same(output[..., :HIDDEN] + output[..., HIDDEN:], result_of(model, x), layers=2)


@with_config
def test_a_backward_layer_of_its_own(tmp_path, suffix):
    forward = L.LSTM(HIDDEN, return_sequences=True)
    own = L.LSTM(HIDDEN, return_sequences=True, go_backwards=True, name="own")
    model = sequence_of(bidirectional(forward, backward_layer=own))
    assert_loads_as_keras_runs_it(model, save(model, tmp_path / f"model{suffix}"))


@with_config
@pytest.mark.parametrize(("options", "named"), [
    ({"activation": "relu"}, "activation='relu'"),
    ({"recurrent_activation": "hard_sigmoid"}, "'hard_sigmoid' in one direction only"),
], ids=["activation", "recurrent"])  # fmt: skip
def test_a_backward_layer_unlike_the_forward_one(tmp_path, options, named, suffix):
    own = L.LSTM(HIDDEN, go_backwards=True, name="own", **options)
    model = sequence_of(bidirectional(L.LSTM(HIDDEN), backward_layer=own))
    (found,) = found_in(model, tmp_path / f"model{suffix}")
    assert named in str(found)


# --- wrappers, and models in models ---------------------------------------------------------

DISTRIBUTED = {
    "LSTM": lambda: L.LSTM(HIDDEN, return_sequences=True),
    "bidirectional": lambda: bidirectional(L.GRU(HIDDEN, return_sequences=True)),
    "model": lambda: keras.Sequential(
        [keras.Input((STEPS, INPUT)), L.GRU(HIDDEN, return_sequences=True)]
    ),
}


@with_config
@pytest.mark.parametrize("case", DISTRIBUTED)
def test_a_time_distributed_layer(tmp_path, case, suffix):
    layer = L.TimeDistributed(DISTRIBUTED[case]())
    model = telling(keras.Sequential([keras.Input((2, STEPS, INPUT)), layer]))
    x = inputs(6, STEPS, INPUT)

    output = packseq.load(save(model, tmp_path / f"model{suffix}"))(x)[0]

    expected = result_of(model, x.reshape(3, 2, STEPS, INPUT))
    assert_same(output.reshape(expected.shape), expected)


@with_config
def test_the_settings_of_a_time_distributed_layer(tmp_path, suffix):
    """This ran tanh."""
    layer = L.TimeDistributed(L.LSTM(HIDDEN, activation="relu"))
    model = keras.Sequential([keras.Input((2, STEPS, INPUT)), layer])
    (found,) = found_in(model, tmp_path / f"model{suffix}")
    assert "activation='relu'" in str(found)


def chain(*layers, name=None):
    """A functional model."""
    x = y = keras.Input((None, INPUT))
    for layer in layers:
        y = layer(y)
    return keras.Model(x, y, name=name)


def sequential(*layers, name=None):
    return keras.Sequential([keras.Input((None, INPUT)), *layers], name=name)


@with_config
@pytest.mark.parametrize("outer", [chain, sequential], ids=lambda style: style.__name__)
@pytest.mark.parametrize("inner", [chain, sequential], ids=lambda style: style.__name__)
def test_the_layers_of_a_model_in_a_model(tmp_path, inner, outer, suffix):
    """In .h5 their settings were not looked for, and a Bidirectional's halves were two modules."""
    model = outer(
        inner(
            inner(L.SimpleRNN(INPUT, activation="relu", return_sequences=True, name="a"), name="x"),
            bidirectional(L.GRU(HIDDEN, return_sequences=True), name="b", merge_mode="sum"),
            L.LSTM(HIDDEN, return_sequences=True, go_backwards=True, name="c"),
            name="y",
        ),
        L.GRU(HIDDEN, return_sequences=True, name="d"),
    )
    telling(model)
    x = inputs(2, STEPS, INPUT)
    path = save(model, tmp_path / f"model{suffix}")

    a = packseq.load(path, "y.x.a.")(x)[0]
    b = packseq.load(path, "y.b.")(a)[0]
    c = packseq.load(path, "y.c.")(b[..., :HIDDEN] + b[..., HIDDEN:])[0][:, ::-1]
    d = packseq.load(path, "d.")(c)[0]

    assert [one.prefix for one in weights.find(path)] == ["y.x.a.", "y.b.", "y.c.", "d."]
    assert_same(d, result_of(model, x), layers=4)


@pytest.mark.parametrize("frozen", [0, 1])
def test_frozen_layers_of_a_model_in_an_h5_file_stand_last(tmp_path, frozen):
    """Keras lists variables that are not trained behind those that are."""
    both = [L.GRU(INPUT, return_sequences=True, name=name) for name in "ab"]
    model = telling(sequential(sequential(*both, name="inner")))
    both[frozen].trainable = False
    path = save(model, tmp_path / "model.h5")

    module = assert_loads_as_keras_runs_it(model, path, layers=2)

    assert module.num_layers == 2


def test_frozen_layers_whose_names_the_variables_lack_are_refused(tmp_path):
    both = [L.GRU(INPUT, return_sequences=True, name=name) for name in "ab"]
    path = save(telling(sequential(sequential(*both, name="inner"))), tmp_path / "model.h5")
    with_config_of(path, lambda config: changed(config, "a", {"config": {"name": "c"}}))
    frozen = {"config": {"name": "b", "trainable": False}}
    with_config_of(path, lambda config: changed(config, "b", frozen))

    assert all(found.attributes.unsupported for found in weights.find(path))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.relu = L.LSTM(HIDDEN, activation="relu", return_sequences=True)
        self.blocks = [L.GRU(HIDDEN, return_sequences=True), L.RNN(L.LSTMCell(HIDDEN))]

    def call(self, x):
        return self.blocks[1](self.blocks[0](self.relu(x)))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_that_is_a_class_says_nothing_of_its_layers(tmp_path, suffix):
    model = Subclassed()
    result_of(model, inputs(2, STEPS, INPUT))
    path = save(telling(model), tmp_path / f"model{suffix}")

    found = weights.find(path)

    assert len(found) == 3
    for one in found:
        assert one.attributes.unsaid == "recurrent_activation, activation, go_backwards"
        with pytest.raises(weights.CheckpointError, match="the file does not say"):
            packseq.load(path, one.prefix)


class Holder(L.Layer):
    """A layer of a user's that holds one of Keras's."""

    def __init__(self, **options):
        super().__init__(**options)
        self.lstm = L.LSTM(HIDDEN, activation="relu")

    def build(self, shape):
        self.lstm.build(shape)

    def call(self, x):
        return self.lstm(x)


@with_config
def test_a_layer_in_a_layer_of_a_users_is_refused_and_hides_no_other(tmp_path, suffix):
    gru = L.GRU(INPUT, return_sequences=True, name="gru")
    model = sequence_of(gru, Holder())
    path = save(model, tmp_path / f"model{suffix}")

    packseq.load(path, "gru.")

    (held,) = (found for found in weights.find(path) if found.prefix != "gru.")
    assert "settings that the config does not give for this layer itself" in str(held)


@with_config
def test_convolutional_layers_are_named_and_hide_no_other(tmp_path, suffix):
    """They cost the whole file."""
    convolution = L.ConvLSTM1D(2, 3, return_sequences=True, name="convolution")
    layers = [convolution, L.Reshape((STEPS, 2 * 3)), L.GRU(HIDDEN, return_sequences=True)]
    model = telling(keras.Sequential([keras.Input((STEPS, 5, 1)), *layers]))
    path = save(model, tmp_path / f"model{suffix}")

    gru, other = weights.find(path)

    assert gru.kind == "GRU"
    assert "class 'ConvLSTM1D'" in str(other)
    with pytest.raises(weights.CheckpointError, match="class 'ConvLSTM1D'"):
        packseq.load(path, "convolution.")


def test_convolutional_layers_in_weights_alone_are_named(tmp_path):
    layers = [L.ConvLSTM1D(2, 3), L.Reshape((3, 2)), L.GRU(HIDDEN)]
    model = keras.Sequential([keras.Input((STEPS, 5, 1)), *layers])
    path = save(model, tmp_path / "model.weights.h5")

    packseq.load(path, "layers/gru.", recurrent_activation="sigmoid")

    (other,) = (found for found in weights.find(path) if not found.kind)
    assert "recurrent kernel of shape (3, 2, 8)" in str(other)


def test_a_layer_in_two_models_is_listed_where_its_weights_are(tmp_path):
    shared = L.GRU(INPUT, return_sequences=True, name="shared")
    x = keras.Input((None, INPUT))
    model = telling(keras.Model(x, [chain(shared, name="a")(x), chain(shared, name="b")(x)]))
    path = save(model, tmp_path / "model.keras")

    packseq.load(path, "a.shared.")

    assert "is in the config but has no weights" in str(weights.find(path)[1])


@with_config
def test_first_states_of_another_layer_are_the_callers(tmp_path, suffix):
    x, state = keras.Input((None, INPUT)), keras.Input((2,))
    below = L.GRU(HIDDEN, return_sequences=True, name="below")(x)
    dense = L.Dense(HIDDEN, name="start")(state)
    model = telling(keras.Model([x, state], L.GRU(HIDDEN)(below, initial_state=dense)))

    lower, upper = found_in(model, tmp_path / f"model{suffix}")

    assert not lower.attributes.given
    assert upper.attributes.given == "start"


# --- files of Keras 2, which is not here: made by hand, judged by today's layers ------------------


def legacy_file(path, members, arrays, version="2.15.0"):
    """An ``.h5`` file with the variables of each layer of the outermost model, in order."""
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": members}}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["model_config"] = json.dumps(config)
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = list(arrays)
        for layer, named in arrays.items():
            root.create_group(layer).attrs["weight_names"] = list(named)
            for name, array in named.items():
                root[layer][name] = array
    return path


def variables(folder, gates, width, seed=0):
    """The variables of a cell, whose names end in ":0" in TensorFlow."""
    shapes = {
        "kernel": (width, gates * HIDDEN),
        "recurrent_kernel": (HIDDEN, gates * HIDDEN),
        "bias": (gates * HIDDEN,),
    }
    return {
        f"{folder}/{name}:0": distinctive(shape[::-1], gates, seed + number).T
        for number, (name, shape) in enumerate(shapes.items())
    }


def member(kind, name, **settings):
    """A layer in a config of Keras 2."""
    given = {"activation": "tanh", "go_backwards": False, "return_sequences": True, **settings}
    if kind in ("LSTM", "GRU"):
        given.setdefault("recurrent_activation", "sigmoid")
    return {"class_name": kind, "config": {"name": name, **given}}


def with_weights(model, *named):
    """The model with these variables, in order."""
    model.set_weights([array for own in named for array in own.values()])
    return model


def test_a_bidirectional_of_keras_2_in_a_model_in_a_model(tmp_path):
    """Its config names no backward layer; each cell's name has another number."""
    halves = [
        variables("both/forward_lstm_3/lstm_cell_4", 4, INPUT),
        variables("both/backward_lstm_3/lstm_cell_5", 4, INPUT, 3),
    ]
    layer = {"name": "both", "merge_mode": "ave", "layer": member("LSTM", "lstm_3")}
    inner = {"name": "inner", "layers": [{"class_name": "Bidirectional", "config": layer}]}
    members = [{"class_name": "Functional", "config": inner}]
    path = legacy_file(tmp_path / "file", members, {"inner": halves[0] | halves[1]})
    judge = with_weights(sequence_of(bidirectional(L.LSTM(HIDDEN, return_sequences=True))), *halves)

    assert_loads_as_keras_runs_it(judge, path, "inner.both.")

    assert weights.find(path)[0].attributes.then == "merge_mode='ave'"


def test_a_bidirectional_of_keras_2_with_a_backward_layer_of_its_own(tmp_path):
    halves = [
        variables("both/forward_f/lstm_cell", 4, INPUT),
        variables("both/own/lstm_cell", 4, INPUT, 3),
    ]
    layer = {
        "name": "both",
        "merge_mode": "concat",
        "layer": member("LSTM", "f"),
        "backward_layer": member("LSTM", "own", go_backwards=True),
    }
    members = [{"class_name": "Bidirectional", "config": layer}]
    path = legacy_file(tmp_path / "file", members, {"both": halves[0] | halves[1]})
    judge = sequence_of(bidirectional(L.LSTM(HIDDEN, return_sequences=True)))

    assert_loads_as_keras_runs_it(with_weights(judge, *halves), path)


@pytest.mark.parametrize("folder", ["distributed/gru/gru_cell", "distributed/gru_cell", "d"])
def test_a_time_distributed_layer_of_keras_2_whatever_its_variables_are_called(tmp_path, folder):
    own = variables(folder, 3, INPUT)
    layer = member("GRU", "gru", reset_after=False)
    members = [{"class_name": "TimeDistributed", "config": {"name": "distributed", "layer": layer}}]
    path = legacy_file(tmp_path / "file", members, {"distributed": own})
    judge = sequence_of(L.GRU(HIDDEN, reset_after=False, return_sequences=True))

    assert_loads_as_keras_runs_it(with_weights(judge, own), path)


def test_the_two_directions_in_weights_alone_of_keras_2(tmp_path):
    """With another layer in the same model they were two layers that go forward."""
    groups = {
        "m": {
            **variables("a/gru_cell", 3, INPUT),
            **variables("b/forward_lstm/lstm_cell_1", 4, INPUT),
            **variables("b/backward_lstm/lstm_cell_2", 4, INPUT),
        }
    }
    path = legacy_file(tmp_path / "file", [], groups)
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]

    found = weights.find(path)

    assert [(one.kind, one.bidirectional) for one in found] == [("GRU", False), ("LSTM", True)]
    assert [one.prefix for one in found] == ["m/a/gru_cell.", "m/b/forward_lstm/lstm_cell_1."]


# --- CuDNNLSTM and CuDNNGRU -----------------------------------------------------------------


def converted(kernel, recurrent, bias, gates):
    """Keras's own conversion, when it loads CuDNN's arrays into a plain layer.

    Source: tf_keras.src.saving.legacy.hdf5_format, ``_convert_rnn_weights``.
    """

    def of_each_gate(kernels, function):
        return np.hstack([function(one) for one in np.hsplit(kernels, gates)])

    kernel = of_each_gate(kernel, lambda k: k.T.reshape(k.shape, order="F"))
    recurrent = of_each_gate(recurrent, lambda k: k.T)
    if gates == 4:
        return [kernel, recurrent, np.sum(np.split(bias, 2, axis=0), axis=0)]
    return [kernel, recurrent, bias.reshape((2, -1))]


def cudnn_variables(folder, gates, seed=0):
    plain = variables(folder, gates, INPUT, seed)
    second = variables(folder, gates, INPUT, seed + 9)
    bias = f"{folder}/bias:0"
    return plain | {bias: np.concatenate([plain[bias], second[bias]])}


CUDNN = {"LSTM": 4, "GRU": 3}


@pytest.mark.parametrize("kind", CUDNN)
@pytest.mark.parametrize("in_config", [True, False], ids=["CuDNN layer", "plain layer"])
def test_cudnns_arrays_are_converted_as_keras_converts_them(tmp_path, kind, in_config):
    """CuDNNLSTM was refused, and cost the whole file."""
    gates = CUDNN[kind]
    own = cudnn_variables("l", gates)
    named = {"name": "l", "go_backwards": False, "return_sequences": True}
    cudnn = {"class_name": f"CuDNN{kind}", "config": named}
    members = [cudnn if in_config else member(kind, "l", reset_after=True)]
    path = legacy_file(tmp_path / "file", members, {"l": own}, "2.1.6")
    judge = sequence_of(getattr(L, kind)(HIDDEN, return_sequences=True))
    judge.set_weights(converted(*own.values(), gates))

    assert_loads_as_keras_runs_it(judge, path)


@pytest.mark.parametrize("kind", CUDNN)
def test_cudnns_arrays_both_ways(tmp_path, kind):
    gates = CUDNN[kind]
    halves = [cudnn_variables(f"b/{way}_l", gates, 3 * i) for i, way in
              enumerate(["forward", "backward"])]  # fmt: skip
    layer = {"class_name": f"CuDNN{kind}", "config": {"name": "l", "return_sequences": True}}
    both = {"name": "b", "merge_mode": "concat", "layer": layer}
    members = [{"class_name": "Bidirectional", "config": both}]
    path = legacy_file(tmp_path / "file", members, {"b": halves[0] | halves[1]}, "2.1.6")
    judge = sequence_of(bidirectional(getattr(L, kind)(HIDDEN, return_sequences=True)))
    judge.set_weights([a for own in halves for a in converted(*own.values(), gates)])

    assert_loads_as_keras_runs_it(judge, path)


@pytest.mark.parametrize("kind", CUDNN)
def test_cudnns_weights_alone_say_that_their_gates_are_sigmoids(tmp_path, kind):
    """The other sigmoids were taken from the caller; go_backwards is still not in the file."""
    own = cudnn_variables("l", CUDNN[kind])
    path = legacy_file(tmp_path / "file", [], {"l": own}, "2.1.5")
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
    judge = sequence_of(getattr(L, kind)(HIDDEN, return_sequences=True))
    judge.build((None, None, INPUT))
    judge.set_weights(converted(*own.values(), CUDNN[kind]))

    (found,) = weights.find(path)
    assert found.attributes.unsaid == "go_backwards"
    with pytest.raises(weights.CheckpointError, match="does not say its go_backwards"):
        packseq.load(path)
    with pytest.raises(ValueError, match="the file says 'sigmoid'"):
        packseq.load(path, recurrent_activation="hard_sigmoid_0.2")
    x = np.ones((2, 3, INPUT), np.float32)
    output, _ = packseq.load(path, recurrent_activation="sigmoid")(x)
    np.testing.assert_allclose(output, judge.predict(x, verbose=0), atol=1e-6)
