"""Several distributions as one."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, Shaped

from ppo2.distributions.base import Distribution, composed, cut, parts_of


class Joint(Distribution):
    """Several independent distributions. Parameters and noise lie side by side on the last axis; actions are a tuple,
    or a dict with the keys of the parts.

    Attributes:
        parts: the distributions, by `keys`.
        keys: of a dict; None for a tuple.
        noise_sizes: how many numbers of noise each part takes.
    """

    parts: tuple[Distribution, ...]
    keys: tuple[str, ...] | None = eqx.field(static=True)
    noise_sizes: tuple[int, ...] = eqx.field(static=True)

    def sample(self, noise: Float[Array, "... k"]) -> PyTree[Shaped[Array, "..."]]:
        pairs = zip(self.parts, cut(noise, self.noise_sizes), strict=True)
        return composed(self.keys, [part.sample(own) for part, own in pairs])

    def mode(self) -> PyTree[Shaped[Array, "..."]]:
        return composed(self.keys, [part.mode() for part in self.parts])

    def logp(self, actions: PyTree[Shaped[Array, "..."]]) -> Float[Array, "..."]:
        pairs = zip(self.parts, parts_of(actions, self.keys), strict=True)
        return sum((part.logp(own) for part, own in pairs), start=jnp.zeros(()))

    def entropy(self) -> Float[Array, "..."]:
        return sum((part.entropy() for part in self.parts), start=jnp.zeros(()))

    def kl(self, other: "Joint") -> Float[Array, "..."]:
        pairs = zip(self.parts, other.parts, strict=True)
        return sum((mine.kl(theirs) for mine, theirs in pairs), start=jnp.zeros(()))
