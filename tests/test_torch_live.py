"""The reference and packseq against the installed torch, number by number."""

import inspect

import numpy as np
import pytest
import reference
from hypothesis import given
from strategies import (
    DTYPES,
    KINDS,
    Case,
    as_state,
    assert_close,
    assert_states_close,
    cases,
    make_cell,
    make_module,
    split_kind,
    state_parts,
)

from packseq import pack_sequence, unpack_sequence

torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")

MODULES = [
    ("LSTM", {}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "proj_size": 3}),
    ("LSTM", {"bias": False, "proj_size": 2}),
    ("GRU", {"num_layers": 2, "batch_first": True}),
    ("GRU", {"bidirectional": True, "bias": False}),
    ("RNN_TANH", {"num_layers": 3, "dropout": 0.5}),
    ("RNN_TANH", {"bidirectional": True}),
]


def torch_module(case, weights, dtype=torch.float64):
    """torch's module of the case with the given state dict, in evaluation mode."""
    name, nonlinearity = split_kind(case.kind)
    sizes = case.input_size, case.hidden_size
    module = getattr(torch.nn, name)(*sizes, **nonlinearity, **case.options, dtype=dtype).eval()
    module.load_state_dict({n: torch.tensor(value) for n, value in weights.items()})
    return module


def run_torch(case, weights):
    """What torch computes, in float64, for a case without empty sequences: torch packs none."""
    module = torch_module(case, weights)
    sequences = [torch.from_numpy(x) for x in case.sequences(np.float64)]
    packed = torch.nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)
    hx = as_state(case.kind, [torch.from_numpy(part) for part in case.state(np.float64)])
    with torch.no_grad():
        output, state = module(packed, hx)
    outputs = [x.numpy() for x in torch.nn.utils.rnn.unpack_sequence(output)]
    return outputs, tuple(part.numpy() for part in state_parts(state))


def to_numpy(torch_module):
    return {name: value.numpy() for name, value in torch_module.state_dict().items()}


def random_weights(case):
    name, nonlinearity = split_kind(case.kind)
    torch.manual_seed(case.seed)
    sizes = case.input_size, case.hidden_size
    module = getattr(torch.nn, name)(*sizes, **nonlinearity, **case.options, dtype=torch.float64)
    return to_numpy(module)


@given(case=cases(min_batch=1, min_length=1))
def test_the_reference_computes_what_torch_computes(case):
    weights = random_weights(case)
    outputs, state = run_torch(case, weights)
    sequences = case.sequences(np.float64)
    expected, state_expected = reference.run(case.kind, weights, sequences, case.state(np.float64))
    for output, e in zip(outputs, expected, strict=True):
        assert_close(output, e)
    assert_states_close(state, state_expected)


@given(case=cases(min_batch=1, min_length=1))
def test_packseq_computes_what_torch_computes(case):
    module = case.module(np.float64)
    outputs, state = run_torch(case, module.state_dict())
    hx = as_state(case.kind, case.state(np.float64))
    packed, state_n = module(pack_sequence(case.sequences(np.float64)), hx)
    for output, expected in zip(unpack_sequence(packed), outputs, strict=True):
        assert_close(output, expected)
    assert_states_close(state_n, state)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_padded_batches_and_single_sequences_have_torch_shapes(kind, batch_first):
    options = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first}
    case = Case(kind, 3, 5, (4, 4), options)
    module = case.module(np.float64)
    theirs = torch_module(case, module.state_dict())
    batch = case.padded(np.float64)
    for x, hx in [
        (batch, as_state(kind, case.state(np.float64))),
        (batch, None),
        (batch[0], None),
        (batch[0], as_state(kind, [part[:, 0] for part in case.state(np.float64)])),
    ]:
        output, state = module(x, hx)
        hx_theirs = None
        if hx is not None:
            hx_theirs = as_state(kind, [torch.tensor(part) for part in state_parts(hx)])
        with torch.no_grad():
            output_theirs, state_theirs = theirs(torch.tensor(x), hx_theirs)
        assert_close(output, output_theirs.numpy())
        assert_states_close(state, [part.numpy() for part in state_parts(state_theirs)])


@pytest.mark.parametrize("batch", [(6,), ()])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_cells_compute_what_torch_computes(kind, bias, batch):
    cell = make_cell(kind, 3, 5, bias=bias, dtype=np.float64, rng=0)
    name, nonlinearity = split_kind(kind)
    theirs = getattr(torch.nn, name + "Cell")(3, 5, bias=bias, **nonlinearity, dtype=torch.float64)
    theirs.load_state_dict({n: torch.tensor(value) for n, value in cell.state_dict().items()})
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*batch, 3))
    parts = [rng.standard_normal((*batch, 5)) for _ in range(2 if kind == "LSTM" else 1)]
    for hx in [None, parts]:
        hx_theirs = hx and as_state(kind, [torch.tensor(part) for part in hx])
        with torch.no_grad():
            expected = theirs(torch.tensor(x), hx_theirs)
        state = cell(x, hx and as_state(kind, hx))
        assert_states_close(state, [part.numpy() for part in state_parts(expected)])


@pytest.mark.parametrize(("kind", "options"), MODULES)
def test_state_dicts_have_torch_names_shapes_and_order(kind, options):
    case = Case(kind, 3, 5, (), options)
    expected = [(name, value.shape) for name, value in random_weights(case).items()]
    ours = case.module(np.float32).state_dict()
    assert [(name, value.shape) for name, value in ours.items()] == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "options"), MODULES)
def test_a_torch_state_dict_is_all_a_module_needs(kind, options, dtype):
    case = Case(kind, 3, 5, (4, 1, 6), options)
    weights = random_weights(case)
    how = {"dtype": dtype, "batch_first": options.get("batch_first", False)}
    module = type(case.module(dtype)).from_state_dict(weights, **how)
    outputs, state = run_torch(case, weights)
    hx = as_state(kind, case.state(dtype))
    packed, state_n = module(pack_sequence(case.sequences(dtype)), hx)
    # The inputs and weights are rounded to dtype as well: a few more half ulps of 1, well within.
    for output, expected in zip(unpack_sequence(packed), outputs, strict=True):
        assert_close(output, expected)
    assert_states_close(state_n, state)


@pytest.mark.parametrize(("kind", "options"), MODULES)
def test_repr_is_torch_repr(kind, options):
    case = Case(kind, 3, 5, (), options)
    name, _ = split_kind(kind)
    assert repr(case.module(np.float32)) == repr(getattr(torch.nn, name)(3, 5, **options))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN_TANH"])
@pytest.mark.parametrize("make", [make_module, make_cell])
def test_options_have_torch_names_and_positions(kind, make):
    ours = type(make(kind, 2, 3))
    theirs = getattr(torch.nn, ours.__name__)
    # torch hides its modules' options behind *args: this is the order it documents.
    order = "input_size hidden_size num_layers bias batch_first dropout bidirectional proj_size"
    if make is make_cell:
        order = list(inspect.signature(theirs).parameters)[:-2]  # not device, dtype
    else:
        order = order.split()[: 8 if kind == "LSTM" else 7]
        if kind == "RNN_TANH":
            order.insert(3, "nonlinearity")
    positional = [
        name
        for name, parameter in inspect.signature(ours).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    assert positional == order
