"""Sequences of a gated cell.

In a loop over the steps of a few sequences a CPU spends its time on reading the weights and on beginning operations.
Therefore a step multiplies by weights that lie in the order in which the product reads them; the loop of the gradient
makes only what depends on later steps; and the gradient of the weights is one product over all steps after it.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ppo2.networks.cells import Gated, State
from ppo2.numerics.precision import multiplied, users_own


def run(
    cell: Gated, inputs: Float[Array, "B L gates"], state: State, episode_starts: Bool[Array, "B L"]
) -> Float[Array, "B L units"]:
    """The outputs at L steps of B environments, whose first states are `state`, (B, ...)."""
    # without the weights, whose gradients would be summed step by step
    rest = eqx.tree_at(lambda c: (c.input_weight, c.state_weight, c.bias), cell, (None, None, None))
    known = inputs.swapaxes(0, 1), state, cell.initial_state(), episode_starts.T
    states: State = _states(users_own(), cell.state_weight, rest, *known)
    return cell.hidden(states).swapaxes(0, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _states(
    precision: str | None,
    weight: Float[Array, "gates units"],
    cell: Gated,
    inputs: Float[Array, "L B gates"],
    first: State,
    initial: State,
    starts: Bool[Array, "L B"],
) -> State:
    """The states after each step, (L, B, ...), from `first`, (B, ...), and from `initial` where an episode begins.

    Args:
        precision: bits of the products. An argument, as JAX derives the gradient in another context.
    """
    return _forward(precision, weight, cell, inputs, first, initial, starts)[0]


def _forward(
    precision: str | None, weight: Array, cell: Gated, inputs: Array, first: State, initial: State, starts: Array
) -> tuple[State, Any]:
    transposed = jax.lax.optimization_barrier(weight.T)  # else each step of the loop would transpose it

    def step(state: State, now: tuple[Array, Array]) -> tuple[State, tuple[State, Array]]:
        inputs, starts = now
        state = _where(starts, initial, state)
        product = multiplied(jnp.matmul, cell.hidden(state), transposed)
        after = jax.vmap(cell.following)(inputs, product, state)
        return after, (after, product)

    with jax.default_matmul_precision(precision):
        states, products = jax.lax.scan(step, first, (inputs, starts))[1]
    return states, (weight, cell, inputs, first, initial, starts, states, products)


def _backward(precision: str | None, residuals: Any, by_states: State) -> tuple[Any, ...]:
    weight, cell, inputs, first, initial, starts, states, products = residuals
    before = jax.tree.map(lambda one, later: jnp.concatenate([one[None], later[:-1]]), first, states)
    before = jax.vmap(lambda starts, state: _where(starts, initial, state))(starts, before)
    # the gates and their derivatives, which are factors in the loop, at all steps at once
    pulls = jax.vmap(jax.vmap(functools.partial(_pull, cell)))(inputs, products, before)

    def step(carry: tuple[State, Gated], now: Any) -> tuple[tuple[State, Gated], tuple[Array, Array]]:
        by_after, by_cell = carry
        own, pull, starts = now
        by_after = jax.tree.map(jnp.add, by_after, own)
        more, by_inputs, by_product, by_before = jax.vmap(lambda pull, by: pull(by))(pull, by_after)
        by_hidden = multiplied(jnp.matmul, by_product, weight)
        through_product = jax.linear_transpose(cell.hidden, by_before)(by_hidden)[0]
        by_before = jax.tree.map(jnp.add, by_before, through_product)
        by_cell = jax.tree.map(lambda sum_, x: sum_ + jnp.sum(x, axis=0), by_cell, more)
        return (_where(starts, nothing, by_before), by_cell), (by_inputs, by_product)

    nothing = jax.tree.map(jnp.zeros_like, initial)
    with jax.default_matmul_precision(precision):
        zeros = jax.tree.map(jnp.zeros_like, (first, cell))
        carry, (by_inputs, by_products) = jax.lax.scan(step, zeros, (by_states, pulls, starts), reverse=True)
        rows = (x.reshape(-1, x.shape[-1]) for x in (by_products, cell.hidden(before)))
        by_weight = multiplied(lambda by, h, **more: jnp.matmul(by.T, h, **more), *rows)
    by_first, by_cell = carry
    by_inputs = by_products if cell.summed else by_inputs  # the other then isn't made
    return by_weight, by_cell, by_inputs, by_first, nothing, np.zeros(starts.shape, jax.dtypes.float0)


_states.defvjp(_forward, _backward)


def _pull(cell: Gated, inputs: Array, product: Array, state: State) -> Any:
    """The function from the gradient by the next state to those by cell, inputs, product and state."""
    return jax.vjp(lambda cell, *of: cell.following(*of), cell, inputs, product, state)[1]


def _where(flags: Bool[Array, " B"], new: State, old: State) -> State:
    """The states of B environments, `new` where flagged."""
    return jax.tree.map(lambda x, y: jnp.where(flags.reshape(-1, *[1] * (y.ndim - 1)), x, y), new, old)
