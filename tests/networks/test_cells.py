"""Gated cells: their equations, step by step, and their first weights."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.networks.cells import gru, lnlstm, lstm
from ppo2.numerics.randomness import root_key


def some(shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def randomly(cell: Any) -> Any:
    """The cell with numbers where it has zeros and ones."""
    leaves, structure = jax.tree.flatten(cell)
    return jax.tree.unflatten(structure, [jnp.asarray(some(x.shape, i)) for i, x in enumerate(leaves)])


def stepped(cell: Any, xs: Any) -> Any:
    state, outs = cell.initial_state(), []
    for x in xs:
        out, state = cell.step(cell.inputs(x), state)
        outs.append(out)
    return np.stack(outs)


def normalised(x: Any, norm: Any) -> Any:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * np.asarray(norm.weight) + np.asarray(norm.bias)


def test_lstm_step_by_step() -> None:
    cell, xs = randomly(lstm(4)((3,), key=root_key(0))), some((5, 3), seed=9)
    w, u, b = (np.asarray(x) for x in (cell.input_weight, cell.state_weight, cell.bias))
    c = h = np.zeros(4)
    expected = []
    for x in xs:
        i, f, o, new = np.split(w @ x + u @ h + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
        h = sigmoid(o) * np.tanh(c)
        expected.append(h)
    np.testing.assert_allclose(stepped(cell, xs), expected, rtol=1e-4, atol=1e-5)


def test_layer_normalised_lstm_step_by_step() -> None:
    cell, xs = randomly(lnlstm(4)((3,), key=root_key(0))), some((5, 3), seed=9)
    w, u, b = (np.asarray(x) for x in (cell.input_weight, cell.state_weight, cell.bias))
    c = h = np.zeros(4)
    expected = []
    for x in xs:
        z = normalised(w @ x, cell.input_norm) + normalised(u @ h, cell.state_norm) + b
        i, f, o, new = np.split(z, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
        h = sigmoid(o) * np.tanh(normalised(c, cell.memory_norm))
        expected.append(h)
    np.testing.assert_allclose(stepped(cell, xs), expected, rtol=1e-3, atol=1e-4)


def test_gru_is_equinox() -> None:
    cell, xs = randomly(gru(4)((3,), key=root_key(0))), some((5, 3), seed=9)
    theirs = eqx.nn.GRUCell(3, 4, key=root_key(0))
    theirs = eqx.tree_at(
        lambda m: (m.weight_ih, m.weight_hh, m.bias, m.bias_n),
        theirs,
        (cell.input_weight, cell.state_weight, cell.bias, cell.candidate_bias),
    )
    h, expected = jnp.zeros(4), []
    for x in xs:
        h = theirs(x, h)
        expected.append(h)
    np.testing.assert_allclose(stepped(cell, xs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("builder", [lstm, lnlstm, gru])
def test_cells_begin_orthogonal(builder: Any) -> None:
    cell = builder(4)((3,), key=root_key(0))
    for weight in (cell.input_weight, cell.state_weight):
        np.testing.assert_allclose(weight.T @ weight, np.eye(weight.shape[1]), atol=1e-5)
    assert not np.any(cell.bias)
