"""Max-pooling, against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.networks.pooling import max_pool
from support.images import assert_close, normal, value_and_gradients


def xlas_pool(images):
    return jax.lax.reduce_window(images, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")


@pytest.mark.parametrize("shape", [(2, 6, 6, 3), (2, 7, 9, 3), (2, 8, 5, 1), (1, 1, 2, 1), (2, 2, 1, 2)])
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_is_xlas_and_so_is_its_gradient(shape, ties):
    images = normal(*shape)
    if ties:
        images = np.round(images)
    assert_close(*(value_and_gradients(pool, images, by=0) for pool in (max_pool, xlas_pool)))


def test_max_pool_passes_nan_on():
    images = normal(1, 4, 4, 1)
    for place in np.ndindex(4, 4):
        broken = images.copy()
        broken[0, *place, 0] = np.nan
        np.testing.assert_array_equal(np.isnan(max_pool(broken)), np.isnan(xlas_pool(broken)))
