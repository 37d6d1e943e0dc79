"""Probability distributions over actions.

Sampling is split in two: `noise` draws, once for a whole rollout and with no parameters at hand, the standard noise
that `sample` then shifts into an action. On CPU a random draw inside every acting step costs twice the rest of the
step; one draw for the rollout costs next to nothing, and its bits don't depend on how the rollout is cut up.

Shapes: `...` are batch axes, the same for parameters, noise and actions.
"""

import abc
import math
from dataclasses import dataclass
from typing import Self

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped


class Distribution(eqx.Module):
    """A batch of distributions over actions."""

    @staticmethod
    @abc.abstractmethod
    def noise(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """The standard noise that `sample` takes, of any shape whose last axis is the distribution's parameters."""

    @abc.abstractmethod
    def sample(self, noise: Float[Array, "... k"]) -> Shaped[Array, "..."]:
        """One action for each distribution of the batch."""

    @abc.abstractmethod
    def mode(self) -> Shaped[Array, "..."]:
        """The most probable action."""

    @abc.abstractmethod
    def logp(self, actions: Shaped[Array, "..."]) -> Float[Array, "..."]:
        """Log-probability (continuous actions: log-density) of `actions`, in nats."""

    @abc.abstractmethod
    def entropy(self) -> Float[Array, "..."]:
        """Entropy (continuous actions: differential entropy), in nats."""

    @abc.abstractmethod
    def kl(self, other: Self) -> Float[Array, "..."]:
        """KL(self || other), in nats."""


class Categorical(Distribution):
    """One of n actions; sampled by the Gumbel trick: argmax(logits + g) is distributed as softmax(logits)."""

    logits: Float[Array, "... n"]

    @staticmethod
    def noise(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return jax.random.gumbel(key, shape)

    def sample(self, noise: Float[Array, "... n"]) -> Int[Array, "..."]:
        return jnp.argmax(self.logits + noise, axis=-1).astype(jnp.int32)

    def mode(self) -> Int[Array, "..."]:
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def logp(self, actions: Int[Array, "..."]) -> Float[Array, "..."]:
        # A product with a one-hot is as fast as a gather forwards and much faster backwards (no scatter).
        chosen = jax.nn.one_hot(actions, self.logits.shape[-1], dtype=self.logits.dtype)
        return jnp.sum(jax.nn.log_softmax(self.logits) * chosen, axis=-1)

    def entropy(self) -> Float[Array, "..."]:
        log_probs = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    def kl(self, other: "Categorical") -> Float[Array, "..."]:
        log_p, log_q = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(other.logits)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


class MultiCategorical(Distribution):
    """Several independent choices; the logits of all of them lie side by side on the last axis."""

    logits: Float[Array, "... sum_n"]
    sizes: tuple[int, ...] = eqx.field(static=True)

    def parts(self, flat: Float[Array, "... sum_n"]) -> list[Float[Array, "... n"]]:
        return jnp.split(flat, np.cumsum(self.sizes)[:-1].tolist(), axis=-1)

    def choices(self) -> list[Categorical]:
        return [Categorical(logits) for logits in self.parts(self.logits)]

    @staticmethod
    def noise(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return Categorical.noise(key, shape)

    def sample(self, noise: Float[Array, "... sum_n"]) -> Int[Array, "... k"]:
        return jnp.stack([c.sample(n) for c, n in zip(self.choices(), self.parts(noise), strict=True)], axis=-1)

    def mode(self) -> Int[Array, "... k"]:
        return jnp.stack([choice.mode() for choice in self.choices()], axis=-1)

    def logp(self, actions: Int[Array, "... k"]) -> Float[Array, "..."]:
        return sum((c.logp(actions[..., i]) for i, c in enumerate(self.choices())), start=jnp.zeros(()))

    def entropy(self) -> Float[Array, "..."]:
        return sum((choice.entropy() for choice in self.choices()), start=jnp.zeros(()))

    def kl(self, other: "MultiCategorical") -> Float[Array, "..."]:
        pairs = zip(self.choices(), other.choices(), strict=True)
        return sum((mine.kl(theirs) for mine, theirs in pairs), start=jnp.zeros(()))


class Bernoulli(Distribution):
    """k independent bits; a logit plus logistic noise is positive with probability sigmoid(logit)."""

    logits: Float[Array, "... k"]

    @staticmethod
    def noise(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return jax.random.logistic(key, shape)

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

    def kl(self, other: "Bernoulli") -> Float[Array, "..."]:
        on, off = jax.nn.log_sigmoid(self.logits), jax.nn.log_sigmoid(-self.logits)
        other_on, other_off = jax.nn.log_sigmoid(other.logits), jax.nn.log_sigmoid(-other.logits)
        return jnp.sum(jnp.exp(on) * (on - other_on) + jnp.exp(off) * (off - other_off), axis=-1)


class DiagGaussian(Distribution):
    """k independent normal numbers."""

    mean: Float[Array, "... k"]
    log_std: Float[Array, " k"]

    @staticmethod
    def noise(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return jax.random.normal(key, shape)

    def sample(self, noise: Float[Array, "... k"]) -> Float[Array, "... k"]:
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> Float[Array, "... k"]:
        return self.mean

    def logp(self, actions: Float[Array, "... k"]) -> Float[Array, "..."]:
        z = (actions - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self) -> Float[Array, "..."]:
        per_number = self.log_std + 0.5 * math.log(2 * math.pi * math.e)
        return jnp.sum(jnp.broadcast_to(per_number, self.mean.shape), axis=-1)

    def kl(self, other: "DiagGaussian") -> Float[Array, "..."]:
        variance_ratio = jnp.exp(2 * (self.log_std - other.log_std))
        distance = ((self.mean - other.mean) * jnp.exp(-other.log_std)) ** 2
        return 0.5 * jnp.sum(variance_ratio + distance - 1 - 2 * (self.log_std - other.log_std), axis=-1)


@dataclass(frozen=True)
class ActionDistribution:
    """What a policy needs to know to build the distribution of an action space: hashable, no arrays.

    Attributes:
        kind: the class of distribution.
        num_params: how many numbers the policy's head gives; sampling takes as much noise.
        sizes: for MultiCategorical, how many actions each choice has; else ().
        shape: of one action inside the library, flattened: () for Discrete, (k,) else.
    """

    kind: type[Distribution]
    num_params: int
    sizes: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()

    @classmethod
    def of(cls, space: gym.Space[object]) -> "ActionDistribution":
        """The distribution for `space`.

        Raises:
            TypeError: `space` is of a kind that no distribution is known for.
        """
        match space:
            case gym.spaces.Discrete():
                return cls(Categorical, int(space.n))
            case gym.spaces.MultiDiscrete():
                sizes = tuple(int(n) for n in space.nvec.ravel())
                return cls(MultiCategorical, sum(sizes), sizes, (len(sizes),))
            case gym.spaces.MultiBinary():
                k = int(np.prod(space.shape))
                return cls(Bernoulli, k, (), (k,))
            case gym.spaces.Box() if np.issubdtype(space.dtype, np.floating):
                k = int(np.prod(space.shape))
                return cls(DiagGaussian, k, (), (k,))
        raise TypeError(
            f"`env` has the action space {space}; known are Discrete, MultiDiscrete, MultiBinary and Box of floats. "
            "Wrap the environment to give one of these (gymnasium.wrappers.TransformAction)."
        )

    @property
    def dtype(self) -> type[np.generic]:
        """Of actions inside the library."""
        return np.float32 if self.kind is DiagGaussian else np.int32

    @property
    def has_log_std(self) -> bool:
        """Whether the policy keeps a state-independent log standard deviation beside the head."""
        return self.kind is DiagGaussian

    def build(self, params: Float[Array, "... p"], log_std: Float[Array, " p"] | None) -> Distribution:
        if self.kind is DiagGaussian:
            assert log_std is not None
            return DiagGaussian(params, log_std)
        if self.kind is MultiCategorical:
            return MultiCategorical(params, self.sizes)
        return Categorical(params) if self.kind is Categorical else Bernoulli(params)

    def noise(self, key: PRNGKeyArray, batch: tuple[int, ...]) -> Float[Array, "... p"]:
        return self.kind.noise(key, (*batch, self.num_params))
