"""Distributions over choices: one, several, and bits."""

import math
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ppo2.distributions.base import ArrayActions, Distribution, for_each, split
from ppo2.spaces import Spec


@jax.custom_jvp
def log_softmax(logits: Float[Array, "... n"]) -> Float[Array, "... n"]:
    """`jax.nn.log_softmax`, whose derivative is made of the result: dx - sum(p dx), p = exp(result).

    JAX's divides by the sum of exponentials once more, in operations of its own.
    """
    result: Float[Array, "... n"] = jax.nn.log_softmax(logits)
    return result


@log_softmax.defjvp
def _derivative(logits: tuple[Array], tangent: tuple[Array]) -> tuple[Array, Array]:
    result = log_softmax(*logits)
    return result, tangent[0] - jnp.sum(jnp.exp(result) * tangent[0], axis=-1, keepdims=True)


def _chosen(log_probs: Float[Array, "... n"], actions: Int[Array, "..."]) -> Float[Array, "..."]:
    # A product with a one-hot is as fast as a gather forwards and much faster backwards (no scatter).
    chosen = jax.nn.one_hot(actions, log_probs.shape[-1], dtype=log_probs.dtype)
    return jnp.sum(log_probs * chosen, axis=-1)


def _entropy(log_probs: Float[Array, "... n"]) -> Float[Array, "..."]:
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


class Categorical(Distribution):
    """One of n actions; sampled by the Gumbel trick: argmax(logits + g) is distributed as softmax(logits)."""

    logits: Float[Array, "... n"]

    def sample(self, noise: Float[Array, "... n"]) -> Int[Array, "..."]:
        return jnp.argmax(self.logits + noise, axis=-1).astype(jnp.int32)

    def mode(self) -> Int[Array, "..."]:
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def logp(self, actions: Int[Array, "..."]) -> Float[Array, "..."]:
        return _chosen(log_softmax(self.logits), actions)

    def entropy(self) -> Float[Array, "..."]:
        return _entropy(log_softmax(self.logits))

    def logp_and_entropy(self, actions: Int[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        log_probs = log_softmax(self.logits)
        return _chosen(log_probs, actions), _entropy(log_probs)


class MultiCategorical(Distribution):
    """Several independent choices; the logits of all of them lie side by side on the last axis."""

    logits: Float[Array, "... sum_n"]
    sizes: tuple[int, ...] = eqx.field(static=True)

    def choices(self) -> list[Categorical]:
        return [Categorical(logits) for logits in split(self.logits, self.sizes)]

    def sample(self, noise: Float[Array, "... sum_n"]) -> Int[Array, "... k"]:
        pairs = zip(self.choices(), split(noise, self.sizes), strict=True)
        return jnp.stack([choice.sample(own) for choice, own in pairs], axis=-1)

    def mode(self) -> Int[Array, "... k"]:
        return jnp.stack([choice.mode() for choice in self.choices()], axis=-1)

    def logp(self, actions: Int[Array, "... k"]) -> Float[Array, "..."]:
        return sum(
            (c.logp(actions[..., i]) for i, c in enumerate(self.choices())), start=jnp.zeros((), self.logits.dtype)
        )

    def entropy(self) -> Float[Array, "..."]:
        return sum((choice.entropy() for choice in self.choices()), start=jnp.zeros((), self.logits.dtype))

    def logp_and_entropy(self, actions: Int[Array, "... k"]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        pairs = [c.logp_and_entropy(actions[..., i]) for i, c in enumerate(self.choices())]
        logps, entropies = zip(*pairs, strict=True)
        nothing = jnp.zeros((), self.logits.dtype)
        return sum(logps, start=nothing), sum(entropies, start=nothing)


class Bernoulli(Distribution):
    """k independent bits; a logit plus logistic noise is positive with probability sigmoid(logit)."""

    logits: Float[Array, "... k"]

    def sample(self, noise: Float[Array, "... k"]) -> Int[Array, "... k"]:
        return (self.logits + noise > 0).astype(jnp.int32)

    def mode(self) -> Int[Array, "... k"]:
        return (self.logits > 0).astype(jnp.int32)

    def logp(self, actions: Int[Array, "... k"]) -> Float[Array, "..."]:
        sign = 2 * actions.astype(self.logits.dtype) - 1
        return jnp.sum(jax.nn.log_sigmoid(sign * self.logits), axis=-1)

    def entropy(self) -> Float[Array, "..."]:
        on, off = jax.nn.log_sigmoid(self.logits), jax.nn.log_sigmoid(-self.logits)
        return -jnp.sum(jnp.exp(on) * on + jnp.exp(off) * off, axis=-1)


class CategoricalActions(ArrayActions):
    """Actions of a Discrete space; they count from 0, and the environment's from `start`."""

    draw = staticmethod(jax.random.gumbel)

    @classmethod
    def of(cls, space: Any) -> Self:
        n = int(space.n)
        return cls(spec=Spec(space), num_params=n, noise_size=n, shape=(), choices=(n,))

    def of_params(self, params: Array, log_std: Array | None) -> Distribution:
        return Categorical(params)

    def convert(self, actions: Any, dtype: np.dtype[Any]) -> Any:
        space: Any = self.spec.space
        return actions.astype(dtype) + for_each(np.asarray(space.start, dtype), actions)


class MultiCategoricalActions(CategoricalActions):
    """Actions of a MultiDiscrete space, row by row."""

    @classmethod
    def of(cls, space: Any) -> Self:
        sizes = tuple(int(n) for n in space.nvec.ravel())
        return cls(spec=Spec(space), num_params=sum(sizes), noise_size=sum(sizes), shape=(len(sizes),), choices=sizes)

    def of_params(self, params: Array, log_std: Array | None) -> Distribution:
        return MultiCategorical(params, self.choices)


class BernoulliActions(ArrayActions):
    """Actions of a MultiBinary space, row by row."""

    draw = staticmethod(jax.random.logistic)

    @classmethod
    def of(cls, space: Any) -> Self:
        k = math.prod(space.shape)
        return cls(spec=Spec(space), num_params=k, noise_size=k, shape=(k,))

    def of_params(self, params: Array, log_std: Array | None) -> Distribution:
        return Bernoulli(params)
