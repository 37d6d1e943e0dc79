"""Networks made of a `network` argument, and the errors that making them raises."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2 import networks
from ppo2.networks.layers import as_float

KEY = jax.random.key(0)


class Doubler(eqx.Module):
    factor: jax.Array = eqx.field(default_factory=lambda: jnp.float32(2))

    def __call__(self, x):
        return self.factor * as_float(x).ravel()


def build(network, shape=(3,), /, **kwargs):
    return networks.build(network, shape, kwargs, key=KEY)


def message(kind, *arguments, **kwargs):
    with pytest.raises(kind) as error:
        build(*arguments, **kwargs)
    return str(error.value)


def assert_orthogonal(weight, gain):
    """Rows are orthogonal and of length `gain`, or columns where there are fewer."""
    weight = np.asarray(weight, float)
    smaller = weight @ weight.T if len(weight) <= weight.shape[1] else weight.T @ weight
    np.testing.assert_allclose(smaller, gain**2 * np.eye(len(smaller)), atol=1e-5 * gain**2)
