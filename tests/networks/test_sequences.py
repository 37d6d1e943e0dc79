"""Sequences of gated cells: the numbers and the gradients of their steps one by one."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.networks import sequences
from ppo2.networks.cells import CELLS
from ppo2.numerics.precision import products
from ppo2.numerics.randomness import root_key

STARTS = np.array([[0, 0, 1, 0, 1], [1, 0, 0, 0, 0]], bool)


def some(shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def step_by_step(cell: Any, inputs: Any, state: Any, starts: Any) -> Any:
    """`sequences.run` as it says."""
    environments = []
    for row in range(len(inputs)):
        now, outs = jax.tree.map(lambda x, row=row: x[row], state), []
        for x, new in zip(inputs[row], starts[row], strict=True):
            out, now = cell.step(x, cell.initial_state() if new else now)
            outs.append(out)
        environments.append(jnp.stack(outs))
    return jnp.stack(environments)


def case(name: str, units: int = 3) -> tuple[Any, Any, Any]:
    """A cell with numbers everywhere, inputs of two environments for five steps, and first states."""
    argument = {"lstm": "nlstm", "lnlstm": "nlstm", "gru": "ngru"}[name]
    cell = CELLS[name](**{argument: units})((2,), key=root_key(0))
    leaves, structure = jax.tree.flatten(cell)
    cell = jax.tree.unflatten(structure, [jnp.asarray(some(x.shape, i)) for i, x in enumerate(leaves)])
    state = jax.tree.map(lambda x: jnp.asarray(some((2, *x.shape), 8)), cell.initial_state())
    return cell, jnp.asarray(some((2, 5, len(cell.bias)), 9)), state


@pytest.mark.parametrize("name", CELLS)
def test_numbers_and_gradients_are_those_of_single_steps(name: str) -> None:
    """Also of what follows an episode's start within a sequence, and of the first state."""
    weights = some((2, 5, 3), 7)

    def loss(of: Any, run: Any) -> Any:
        return jnp.sum(run(*of, STARTS) * weights)

    of = case(name)
    np.testing.assert_allclose(sequences.run(*of, STARTS), step_by_step(*of, STARTS), atol=1e-6)
    found, expected = (jax.tree.leaves(jax.grad(loss)(of, run)) for run in (sequences.run, step_by_step))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_what_was_before_an_episode_does_not_matter() -> None:
    """Not even if it is NaN."""
    cell, inputs, state = case("lstm")
    state = jax.tree.map(lambda x: x.at[1].set(jnp.nan), state)
    assert np.all(np.isfinite(sequences.run(cell, inputs, state, STARTS)))
    gradient = jax.grad(lambda cell: jnp.sum(sequences.run(cell, inputs, state, STARTS)))(cell)
    assert np.all(np.isfinite(gradient.state_weight))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_gradients_multiply_at_the_precision_of_the_outputs(precision: str) -> None:
    """Though JAX derives them after the context was left."""
    cell, inputs, state = case("gru")

    def loss(cell: eqx.Module) -> Any:
        with products(precision):
            return jnp.sum(sequences.run(cell, inputs, state, STARTS))

    with jax.default_matmul_precision("tensorfloat32"):
        traced = str(jax.make_jaxpr(jax.grad(loss))(cell))
    assert traced.count("dot_general") >= 3
    assert "tensorfloat32" not in traced.lower()
    assert "tf32" not in traced.lower()
    assert (traced.count("bf16") > 0) == (precision == "bf16")


def test_the_loop_of_the_gradient_sums_no_weights() -> None:
    """They are one product over all steps, after it."""
    cell, inputs, state = case("lstm")
    traced = jax.make_jaxpr(jax.grad(lambda cell: jnp.sum(sequences.run(cell, inputs, state, STARTS))))(cell)
    loops = [eqn for eqn in traced.eqns if eqn.primitive.name == "scan"]
    assert len(loops) == 2
    made = [out.aval.shape for eqn in loops for body in eqn.params["jaxpr"].eqns for out in body.outvars]
    assert cell.state_weight.shape not in made


def test_loops_make_and_store_only_what_depends_on_other_steps() -> None:
    """Few operations, which XLA then runs one after the other: outputs and derivatives of gates are made outside."""
    cell, inputs, state = case("lstm")
    traced = jax.make_jaxpr(jax.grad(lambda cell: jnp.sum(sequences.run(cell, inputs, state, STARTS) ** 2)))(cell)
    forwards, backwards = (eqn for eqn in traced.eqns if eqn.primitive.name == "scan")
    stored = [len(eqn.outvars) - eqn.params["num_carry"] for eqn in (forwards, backwards)]
    assert stored == [2, 1]
    assert "tanh" in str(forwards.params["jaxpr"])
    assert "tanh" not in str(backwards.params["jaxpr"])
