import jax
import jax.numpy as jnp
import numpy as np
import optax

from ppo2.algorithm import adam


def test_adam_is_optax_to_the_last_bit():
    reference = optax.scale_by_adam(eps=adam.EPSILON)

    def run(step, state):
        directions = []
        for gradient in jnp.float32([[1.0, -2.0], [0.5, 3.0], [0.0, 1e-6], [7.0, -0.1]]):
            direction, state = step(gradient, state)
            directions.append(direction)
        return jnp.stack(directions), state

    start = adam.start(jnp.zeros(2, jnp.float32))
    found, expected = (
        jax.jit(lambda state, step=step: run(step, state)) for step in (adam.direction, reference.update)
    )
    for one, other in zip(jax.tree.leaves(found(start)), jax.tree.leaves(expected(start)), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_first_direction_is_the_sign_of_the_gradient():
    # m / (1 - b1) = g and v / (1 - b2) = g^2, so that the direction is g / (|g| + eps)
    direction, state = adam.direction(jnp.float32([2.0, -4.0]), adam.start(jnp.zeros(2, jnp.float32)))
    np.testing.assert_allclose(direction, [2 / (2 + 1e-5), -4 / (4 + 1e-5)], rtol=1e-5)
    assert int(state.count) == 1


def test_steps_are_counted_no_further_than_32_bits():
    full = adam.start(jnp.zeros(1, jnp.float32))._replace(count=jnp.int32(2**31 - 1))
    assert int(adam.direction(jnp.float32([1.0]), full)[1].count) == 2**31 - 1
