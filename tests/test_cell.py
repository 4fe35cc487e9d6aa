"""One step of a cell, and a recurrence read step by step: torch's own cells and fused calls are the judges."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from rnnforecast.nn import cell
from rnnforecast.nn.recurrence import Recurrence

KINDS = [("rnn", "tanh"), ("rnn", "relu"), ("gru", "tanh"), ("lstm", "tanh")]


def torch_cell(kind, inputs, size, activation="tanh"):
    if kind == "rnn":
        return nn.RNNCell(inputs, size, nonlinearity=activation)
    return {"gru": nn.GRUCell, "lstm": nn.LSTMCell}[kind](inputs, size)


def one_step(kind, of, seen, *, hidden, memory, activation="tanh"):
    share = F.linear(seen, of.weight_ih, of.bias_ih)
    weights = {"weight_hh": of.weight_hh, "bias_hh": of.bias_hh}
    return cell.step(kind, share, hidden=hidden, memory=memory, activation=activation, **weights)


@pytest.mark.parametrize(("kind", "activation"), KINDS)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), spread=st.floats(0.1, 20))
def test_a_step_is_the_step_of_torchs_cell(kind, activation, seed, spread):
    torch.manual_seed(seed)
    of = torch_cell(kind, 3, 5, activation).double()  # in float32 large inputs differ by rounding alone
    seen, hidden, memory = (torch.randn(4, size).double() * spread for size in (3, 5, 5))
    found = one_step(kind, of, seen, hidden=hidden, memory=memory, activation=activation)
    if kind == "lstm":
        expected, expected_memory = of(seen, (hidden, memory))
        torch.testing.assert_close(found.memory, expected_memory, rtol=1e-12, atol=1e-12)
    else:
        expected = of(seen, hidden)
        assert found.memory is memory
    torch.testing.assert_close(found.hidden, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kind", "activation"), KINDS)
def test_a_built_cell_is_torchs_cell_from_the_same_draws(kind, activation):
    torch.manual_seed(1)
    built = cell.build(kind, 3, hidden_size=5, activation=activation)
    torch.manual_seed(1)
    expected = torch_cell(kind, 3, 5, activation)
    seen = torch.randn(2, 3)
    for found, wanted in zip(built(seen), expected(seen), strict=True):
        assert torch.equal(found, wanted)
    assert built.weight_hh.shape[0] == cell.BLOCKS[kind] * 5


@pytest.mark.parametrize(
    ("kind", "names"),
    [("gru", ("reset", "update", "new")), ("lstm", ("input", "forget", "cell", "output")), ("rnn", ())],
)
def test_each_gate_bears_its_name(kind, names):
    """With no weights a gate is its bias squashed: the biases tell which block of the weights a name stands for."""
    biases = torch.tensor([-2.0, 0.5, 1.5, 3.0])[: cell.BLOCKS[kind]]
    zero = torch.zeros(1)
    found = cell.step(kind, biases, hidden=zero, memory=zero, weight_hh=torch.zeros(len(biases), 1), bias_hh=0 * biases)
    assert tuple(found.gates) == names
    for name, bias in zip(names, biases, strict=kind != "rnn"):
        squash = torch.tanh if name in ("new", "cell") else torch.sigmoid
        assert found.gates[name].item() == pytest.approx(squash(bias).item())
    if kind == "gru":  # torch's update gate keeps the old state
        assert found.hidden.item() == pytest.approx(
            (1 - torch.sigmoid(biases[1])).item() * torch.tanh(biases[2]).item()
        )


@pytest.mark.parametrize(("kind", "activation"), KINDS)
def test_the_state_keeps_its_precision_when_products_run_in_bfloat16(kind, activation):
    torch.manual_seed(0)
    of = torch_cell(kind, 3, 8, activation)
    hidden = memory = torch.randn(4, 8)
    seen = torch.randn(4, 3)
    exact = one_step(kind, of, seen, hidden=hidden, memory=memory, activation=activation)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = one_step(kind, of, seen, hidden=hidden, memory=memory, activation=activation)
    assert found.hidden.dtype == found.memory.dtype == torch.float32
    torch.testing.assert_close(found.hidden, exact.hidden, rtol=0, atol=0.05)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("kind", "activation"), KINDS)
def test_a_trace_goes_through_the_states_of_the_fused_call(kind, activation, residual):
    """At step t the trace holds the state that the fused call returns for the inputs up to t."""
    torch.manual_seed(0)
    recurrence = Recurrence(3, 4, cell=kind, num_layers=3, residual=residual, activation=activation, dropout=0.5).eval()
    inputs = torch.randn(2, 7, 3)
    start = tuple(torch.randn_like(part) for part in recurrence.initial(2))
    found = cell.trace(recurrence, inputs, start)
    assert found.hidden.shape == (2, 7, 3, 4)
    for step in range(7):
        _, (hidden, memory) = recurrence(inputs[:, : step + 1], start)
        torch.testing.assert_close(found.hidden[:, step], hidden.transpose(0, 1), rtol=1e-5, atol=1e-6)
        if kind == "lstm":
            torch.testing.assert_close(found.cell[:, step], memory.transpose(0, 1), rtol=1e-5, atol=1e-6)
    outputs, _ = recurrence(inputs, start)
    top = found.hidden.sum(dim=2) if residual else found.hidden[:, :, -1]  # each layer adds to the one below
    torch.testing.assert_close(outputs, top, rtol=1e-5, atol=1e-6)


def test_a_trace_reads_the_gates_of_every_step_and_layer():
    torch.manual_seed(0)
    recurrence = Recurrence(3, 4, cell="lstm", num_layers=2)
    found = cell.trace(recurrence, torch.randn(2, 6, 3))
    assert found.gates.keys() == {"input", "forget", "cell", "output"}
    assert all(gate.shape == (2, 6, 2, 4) for gate in found.gates.values())
    before = torch.cat([torch.zeros(2, 1, 2, 4), found.cell[:, :-1]], dim=1)
    memory = found.gates["forget"] * before + found.gates["input"] * found.gates["cell"]
    torch.testing.assert_close(found.cell, memory)
    torch.testing.assert_close(found.hidden, found.gates["output"] * memory.tanh())


def test_a_trace_of_a_gru_has_no_cell_and_of_a_vanilla_rnn_no_gates():
    inputs = torch.randn(1, 4, 2)
    gru, rnn = (cell.trace(Recurrence(2, 3, cell=kind), inputs) for kind in ("gru", "rnn"))
    assert gru.cell is None
    assert rnn.cell is None
    assert gru.gates.keys() == {"reset", "update", "new"}
    assert rnn.gates == {}


def test_a_trace_drops_nothing_out_in_training():
    torch.manual_seed(0)
    recurrence = Recurrence(2, 3, num_layers=2, dropout=0.9)
    inputs = torch.randn(1, 5, 2)
    expected, _ = recurrence.eval()(inputs)
    torch.testing.assert_close(cell.trace(recurrence.train(), inputs).hidden[:, :, -1], expected)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_the_gradient_through_a_trace_is_that_of_the_fused_call(kind):
    torch.manual_seed(0)
    recurrence = Recurrence(2, 3, cell=kind, num_layers=2)
    one = torch.randn(1, 9, 2, requires_grad=True)
    other = one.detach().clone().requires_grad_()
    recurrence(one)[0][:, -1].sum().backward()
    cell.trace(recurrence, other).hidden[:, -1, -1].sum().backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-7)


def test_a_trace_of_a_bidirectional_recurrence_is_refused():
    with pytest.raises(ValueError, match=r"this one is bidirectional: give one built with bidirectional=False"):
        cell.trace(Recurrence(2, 3, bidirectional=True), torch.zeros(1, 4, 2))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("lanes", [1, 2, 300])
def test_a_step_without_a_gradient_is_the_step_of_torchs_cells(layers, lanes):
    """However its inputs lie in memory: features are written one after the other, lanes side by side."""
    torch.manual_seed(lanes)
    recurrence = Recurrence(3, 4, cell="lstm", num_layers=layers)
    inputs = torch.randn(3, 1, lanes).permute(2, 1, 0)
    before = (torch.randn(lanes, layers, 4).transpose(0, 1), torch.randn(lanes, layers, 4).transpose(0, 1))
    with torch.inference_mode():
        outputs, (hidden, memory) = recurrence(inputs, before)
    seen = inputs[:, 0]
    for number, layer in enumerate(recurrence.layers):
        of = nn.LSTMCell(seen.shape[1], 4)
        of.load_state_dict({name.removesuffix("_l0"): weight for name, weight in layer.state_dict().items()})
        seen, expected = of(seen, (before[0][number], before[1][number]))
        torch.testing.assert_close(hidden[number], seen)
        torch.testing.assert_close(memory[number], expected)
    torch.testing.assert_close(outputs[:, 0], seen)
    assert outputs.data_ptr() != hidden[-1].data_ptr()  # who writes into the state does not write into what was read


def test_a_step_of_no_lanes_is_one():
    with torch.inference_mode():
        outputs, (hidden, memory) = Recurrence(3, 4, cell="lstm")(torch.zeros(0, 1, 3))
    assert outputs.shape == (0, 1, 4)
    assert hidden.shape == memory.shape == (1, 0, 4)
