"""Values and gradients of functions of images, and how close two of them are."""

import jax
import jax.numpy as jnp
import numpy as np


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_close(found, expected):
    """To 1e-5 of the largest number."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * max(1.0, float(np.abs(other).max())))


def value_and_gradients(function, *arguments, by):
    def loss(*arguments):
        found = function(*arguments)
        return jnp.mean(jnp.sin(found)), found

    return jax.jit(jax.value_and_grad(loss, argnums=by, has_aux=True))(*arguments)
