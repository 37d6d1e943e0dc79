"""Layers as Baselines initialises them, and the inputs of all networks."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

SQRT2 = math.sqrt(2.0)


def dense(in_features: int, out_features: int, gain: float, *, key: PRNGKeyArray) -> eqx.nn.Linear:
    """A linear layer with orthogonal weights of the given gain, and zero bias."""
    layer: eqx.nn.Linear = eqx.nn.Linear(in_features, out_features, key=key)
    weight = jax.nn.initializers.orthogonal(gain)(key, (out_features, in_features), jnp.float32)
    layer = eqx.tree_at(lambda m: (m.weight, m.bias), layer, (weight, jnp.zeros(out_features)))
    return layer


def as_float(x: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """The input in float32; 8-bit integers (images) are scaled from 0..255 to 0..1."""
    return x.astype(jnp.float32) / 255.0 if x.dtype == jnp.uint8 else x.astype(jnp.float32)
