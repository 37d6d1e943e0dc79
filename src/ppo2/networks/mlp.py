"""The multi-layer perceptron."""

import itertools
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from ppo2.networks.layers import SQRT2, as_float, dense, linear, linear_on_batch
from ppo2.numerics.randomness import host_split
from ppo2.system.whole_numbers import is_whole

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    name: getattr(jax.nn, name) for name in ("tanh", "relu", "elu", "gelu", "silu", "leaky_relu", "sigmoid")
}

MOST_LAYERS = 100
"""Largest number of layers: more never learn, and a damaged or hostile file may ask for a billion."""


class MLP(eqx.Module):
    """Flattens its input, then num_layers times: dense, layer norm if asked for, activation."""

    layers: list[eqx.nn.Linear]
    norms: list[eqx.nn.LayerNorm] | None
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __call__(self, x: Shaped[Array, "*shape"]) -> Float[Array, " features"]:
        h = as_float(x).ravel()
        for i, layer in enumerate(self.layers):
            h = linear(layer, h)
            if self.norms is not None:
                h = self.norms[i](h)
            h = self.activation(h)
        return h

    def on_batch(self, x: Shaped[Array, "B *shape"]) -> Float[Array, "B features"]:
        """The features of each row."""
        h = as_float(x).reshape(x.shape[0], -1)
        for i, layer in enumerate(self.layers):
            h = linear_on_batch(layer, h)
            if self.norms is not None:
                h = jax.vmap(self.norms[i])(h)
            h = jax.vmap(self.activation)(h)
        return h


def mlp(
    num_layers: int = 2,
    num_hidden: int = 64,
    activation: str | Callable[[Array], Array] = "tanh",
    layer_norm: bool = False,
) -> Callable[..., MLP]:
    """A multi-layer perceptron, of the same width throughout.

    Args:
        num_layers: number of hidden layers; usually 1 to 4.
        num_hidden: units in each; usually 32 to 512.
        activation: tanh, relu, elu, gelu, silu, leaky_relu or sigmoid, or any function of arrays.
        layer_norm: normalise each layer's output before its activation (Ba et al. 2016, arXiv:1607.06450).

    Raises:
        ValueError: fewer than one unit, a number of layers that can't be, or an unknown activation.
    """
    whole: tuple[tuple[str, object, int], ...] = (("num_layers", num_layers, 0), ("num_hidden", num_hidden, 1))
    for name, value, least in whole:
        if not is_whole(value) or value < least:
            raise ValueError(f"`{name}` (={value!r}) must be a whole number of at least {least}, for example 2 or 64.")
    if num_layers > MOST_LAYERS:
        raise ValueError(f"`num_layers` (={num_layers}) must be at most {MOST_LAYERS}; usually it is 1 to 4.")
    if isinstance(activation, str) and activation not in ACTIVATIONS:
        raise ValueError(f"`activation` (={activation!r}) is unknown; known are {', '.join(ACTIVATIONS)}.")
    function = ACTIVATIONS[activation] if isinstance(activation, str) else activation
    if not callable(function):
        raise ValueError(f"`activation` (={function!r}) must be a name ({', '.join(ACTIVATIONS)}) or a function.")

    def build(input_shape: tuple[int, ...], *, key: PRNGKeyArray) -> MLP:
        sizes = (math.prod(input_shape), *[num_hidden] * num_layers)
        keys = host_split(key, num_layers)
        layers = [dense(*pair, SQRT2, key=one) for pair, one in zip(itertools.pairwise(sizes), keys, strict=True)]
        norms = [eqx.nn.LayerNorm(num_hidden, dtype=jnp.float32) for _ in layers] if layer_norm else None
        return MLP(layers, norms, function)

    return build
