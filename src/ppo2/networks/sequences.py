"""Sequences of a gated cell.

In a loop over the steps of a few sequences a CPU spends its time on reading the weights and on beginning operations.
Therefore a step multiplies by weights that lie in the order in which the product reads them; the loops make only what
depends on other steps, in the eight operations up to which XLA runs a loop's body without looking for what is ready;
and the gradient of the weights is one product over all steps after it.
"""

import functools
from typing import Any, NamedTuple

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
    outputs: Array = _outputs(users_own(), cell.state_weight, rest, *known)
    return outputs.swapaxes(0, 1)


class Steps(NamedTuple):
    """The part of a sequence's steps that their gradients are made of, (L, B, ...).

    | field | meaning |
    |---|---|
    | inputs, products | as for `Gated.following` |
    | kept | `Gated.kept` of the state before each step |
    | starts | True where an episode begins |
    """

    inputs: Float[Array, "L B gates"]
    products: Float[Array, "L B gates"]
    kept: Float[Array, "L B units"]
    starts: Bool[Array, "L B"]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _outputs(
    precision: str | None,
    weight: Float[Array, "gates units"],
    cell: Gated,
    inputs: Float[Array, "L B gates"],
    first: State,
    initial: State,
    starts: Bool[Array, "L B"],
) -> Float[Array, "L B units"]:
    """The outputs of each step, from the state `first`, (B, ...), and from `initial` where an episode begins.

    Args:
        precision: bits of the products. An argument, as JAX derives the gradient in another context.
    """
    return _forward(precision, weight, cell, inputs, first, initial, starts)[0]


def _forward(
    precision: str | None, weight: Array, cell: Gated, inputs: Array, first: State, initial: State, starts: Array
) -> tuple[Array, Any]:
    transposed = jax.lax.optimization_barrier(weight.T)  # else each step of the loop would transpose it

    def step(carry: tuple[Array, Array], now: tuple[Array, Array, Array]) -> tuple[Any, tuple[Array, Array]]:
        kept, hidden = carry
        inputs, starts, starts_next = now
        product = multiplied(jnp.matmul, hidden, transposed)
        after = jax.vmap(cell.following)(inputs, product, _where(starts, cell.kept(initial), kept))
        hidden = _where(starts_next, cell.hidden(initial), cell.hidden(after))
        return (cell.kept(after), hidden), (cell.kept(after), product)

    with jax.default_matmul_precision(precision):
        start = cell.kept(first), _where(starts[0], cell.hidden(initial), cell.hidden(first))
        kept, products = jax.lax.scan(step, start, (inputs, starts, _next(starts)))[1]
    steps = Steps(inputs, products, _before(cell.kept(first), kept, cell.kept(initial), starts), starts)
    # the outputs, which the loop doesn't store, at all steps at once
    outputs = cell.hidden(jax.vmap(jax.vmap(cell.following))(inputs, products, steps.kept))
    return outputs, (weight, cell, steps, first, initial, outputs)


def _backward(precision: str | None, residuals: Any, by_outputs: Float[Array, "L B units"]) -> tuple[Any, ...]:
    weight, cell, steps, first, initial, outputs = residuals
    nothing = jnp.zeros_like(cell.kept(first)), jnp.zeros_like(cell.hidden(first))
    pulls = jax.vmap(jax.vmap(functools.partial(_pull, cell)))(steps)

    def step(carry: tuple[Array, Array], now: Any) -> tuple[tuple[Array, Array], Any]:
        by_kept, by_hidden = carry
        own, pull, starts_next = now
        by = by_kept, own + _where(starts_next, nothing[1], by_hidden)
        by_product, by_before = jax.vmap(lambda pull, by: pull(by))(pull, by)
        return (by_before, multiplied(jnp.matmul, by_product, weight)), by_product if cell.summed else by

    with jax.default_matmul_precision(precision):
        now = by_outputs, pulls, _next(steps.starts)
        (by_kept, by_hidden), found = jax.lax.scan(step, nothing, now, reverse=True)
        by_cell, by_inputs, by_products = _rest(cell, steps, found)
        hidden = _before(cell.hidden(first), outputs, cell.hidden(initial), steps.starts)
        rows = (x.reshape(-1, x.shape[-1]) for x in (by_products, hidden))
        by_weight = multiplied(lambda by, h, **more: jnp.matmul(by.T, h, **more), *rows)
    by_parts = by_kept, _where(steps.starts[0], nothing[1], by_hidden)
    by_first = jax.linear_transpose(functools.partial(_parts, cell), first)(by_parts)[0]
    by_initial = jax.tree.map(jnp.zeros_like, initial)
    return by_weight, by_cell, by_inputs, by_first, by_initial, np.zeros(steps.starts.shape, jax.dtypes.float0)


_outputs.defvjp(_forward, _backward)


def _parts(cell: Gated, state: State) -> tuple[Array, Array]:
    """The parts of a state that the next step takes: into its gates, and through the weights."""
    return cell.kept(state), cell.hidden(state)


def _pull(cell: Gated, now: Steps) -> Any:
    """The function from the gradients by a step's `_parts` to those by its product and by the kept part before it."""

    def step(product: Array, kept: Array) -> tuple[Array, Array]:
        kept = jnp.where(now.starts, jax.lax.stop_gradient(kept), kept)
        return _parts(cell, cell.following(now.inputs, product, kept))

    after, pull = jax.vjp(step, now.products, now.kept)
    if not cell.by_unit:
        return pull
    ones, zeros = (jax.tree.map(fill, after) for fill in (jnp.ones_like, jnp.zeros_like))
    return _Factors(pull((ones[0], zeros[1])), pull((zeros[0], ones[1])))


class _Factors(eqx.Module):
    """The same function where no unit's gates depend on another unit's: by factors, made before the loop."""

    of_kept: tuple[Float[Array, " gates"], Float[Array, " units"]]
    of_hidden: tuple[Float[Array, " gates"], Float[Array, " units"]]

    def __call__(self, by: tuple[Float[Array, " units"], Float[Array, " units"]]) -> tuple[Array, Array]:
        def combined(of_kept: Array, of_hidden: Array) -> Array:
            rows = (x.reshape(-1, by[0].shape[0]) for x in (of_kept, of_hidden))
            terms = [row * jnp.broadcast_to(x, row.shape) for row, x in zip(rows, by, strict=True)]
            return (terms[0] + terms[1]).reshape(of_kept.shape)

        return jax.tree.map(combined, self.of_kept, self.of_hidden)  # type: ignore[no-any-return]


def _rest(cell: Gated, steps: Steps, found: Any) -> tuple[Gated, Array, Array]:
    """The gradients by cell, inputs and products, of what the loop has found for all steps."""
    if cell.summed:
        return jax.tree.map(jnp.zeros_like, cell), found, found

    def of(cell: Gated, inputs: Array, product: Array, kept: Array) -> tuple[Array, Array]:
        return _parts(cell, cell.following(inputs, product, kept))

    def after(cell: Gated, inputs: Array, products: Array) -> tuple[Array, Array]:
        each = jax.vmap(jax.vmap(functools.partial(of, cell)))
        made: tuple[Array, Array] = each(inputs, products, steps.kept)
        return made

    by_cell, by_inputs, by_products = jax.vjp(after, cell, steps.inputs, steps.products)[1](found)
    return by_cell, by_inputs, by_products


def _before(
    first: Float[Array, "B units"],
    after: Float[Array, "L B units"],
    initial: Float[Array, " units"],
    starts: Bool[Array, "L B"],
) -> Float[Array, "L B units"]:
    """A part of the states that the steps begin with, given the same part after each step."""
    before = jnp.concatenate([first[None], after[:-1]])
    states: Array = jax.vmap(lambda starts, state: _where(starts, initial, state))(starts, before)
    return states


def _next(starts: Bool[Array, "L B"]) -> Bool[Array, "L B"]:
    """The flags of each next step."""
    return jnp.concatenate([starts[1:], jnp.zeros_like(starts[:1])])


def _where(flags: Bool[Array, " B"], new: State, old: State) -> State:
    """The states of B environments, `new` where flagged."""
    return jax.tree.map(lambda x, y: jnp.where(flags.reshape(-1, *[1] * (y.ndim - 1)), x, y), new, old)
