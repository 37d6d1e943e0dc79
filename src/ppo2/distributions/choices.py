"""Distributions over choices: one, several, and bits; and what a mask makes of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ppo2.distributions.base import Elementary, cut

ILLEGAL = -1e9
"""The logit of an action that a mask rules out, the best legal one's being 0: its probability is 0 in any precision,
and all that is made of it stays finite, gradients and squares too."""


class Categorical(Elementary):
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


class MultiCategorical(Elementary):
    """Several independent choices; the logits of all of them lie side by side on the last axis."""

    logits: Float[Array, "... sum_n"]
    sizes: tuple[int, ...] = eqx.field(static=True)

    def choices(self) -> list[Categorical]:
        return [Categorical(logits) for logits in cut(self.logits, self.sizes)]

    @staticmethod
    def noise(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return Categorical.noise(key, shape)

    def sample(self, noise: Float[Array, "... sum_n"]) -> Int[Array, "... k"]:
        pairs = zip(self.choices(), cut(noise, self.sizes), strict=True)
        return jnp.stack([choice.sample(own) for choice, own in pairs], axis=-1)

    def mode(self) -> Int[Array, "... k"]:
        return jnp.stack([choice.mode() for choice in self.choices()], axis=-1)

    def logp(self, actions: Int[Array, "... k"]) -> Float[Array, "..."]:
        return sum((c.logp(actions[..., i]) for i, c in enumerate(self.choices())), start=jnp.zeros(()))

    def entropy(self) -> Float[Array, "..."]:
        return sum((choice.entropy() for choice in self.choices()), start=jnp.zeros(()))

    def kl(self, other: "MultiCategorical") -> Float[Array, "..."]:
        pairs = zip(self.choices(), other.choices(), strict=True)
        return sum((mine.kl(theirs) for mine, theirs in pairs), start=jnp.zeros(()))


class Bernoulli(Elementary):
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


def masked(logits: Float[Array, "... n"], mask: Bool[Array, "... n"]) -> Float[Array, "... n"]:
    """The logits of legal actions, of which the best is moved to 0, and ILLEGAL."""
    legal = mask | ~jnp.any(mask, axis=-1, keepdims=True)
    best = jnp.max(logits, axis=-1, keepdims=True, where=legal, initial=-jnp.inf)
    return jnp.where(legal, logits - jax.lax.stop_gradient(best), ILLEGAL)
