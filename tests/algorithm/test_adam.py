"""Adam: its first step by hand, and the same bits under JAX's switches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.algorithm import adam


def test_first_direction_is_the_sign_of_the_gradient():
    # m / (1 - b1) = g and v / (1 - b2) = g^2, so that the direction is g / (|g| + eps)
    direction, state = adam.direction(jnp.float32([2.0, -4.0]), adam.start(jnp.zeros(2, jnp.float32)))
    np.testing.assert_allclose(direction, [2 / (2 + 1e-5), -4 / (4 + 1e-5)], rtol=1e-5)
    assert int(state.count) == 1


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "switch",
    [
        lambda: jax.enable_x64(True),
        lambda: jax.numpy_dtype_promotion("strict"),
        lambda: jax.numpy_rank_promotion("raise"),
    ],
)
def test_switches_of_jax_change_no_bit(switch, compiled):
    gradients = jnp.float32([[1.0, -2.0], [0.5, 3.0], [0.0, 1e-6], [7.0, -0.1]])
    step = jax.jit(adam.direction) if compiled else adam.direction

    def run():
        state, directions = adam.start(jnp.zeros(2, jnp.float32)), []
        for gradient in gradients:
            found, state = step(gradient, state)
            directions.append(found)
        return [*directions, *jax.tree.leaves(state)]

    expected = run()
    with switch():
        for one, other in zip(run(), expected, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_start_is_that_of_optax():
    params = jnp.ones(3, jnp.float32)
    mine, theirs = adam.start(params), adam.ADAM.init(params)
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    for one, other in zip(mine, theirs, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
