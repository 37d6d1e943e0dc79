"""What a distribution over actions can do, and how several of them lie side by side."""

import abc
import itertools
from collections.abc import Sequence
from typing import Any, Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped


class Distribution(eqx.Module):
    """A batch of distributions over actions."""

    @abc.abstractmethod
    def sample(self, noise: Float[Array, "... k"]) -> PyTree[Shaped[Array, "..."]]:
        """One action for each distribution of the batch."""

    @abc.abstractmethod
    def mode(self) -> PyTree[Shaped[Array, "..."]]:
        """The most probable action."""

    @abc.abstractmethod
    def logp(self, actions: PyTree[Shaped[Array, "..."]]) -> Float[Array, "..."]:
        """Log-probability (continuous actions: log-density) of `actions`, in nats."""

    @abc.abstractmethod
    def entropy(self) -> Float[Array, "..."]:
        """Entropy (continuous actions: differential entropy), in nats."""

    @abc.abstractmethod
    def kl(self, other: Self) -> Float[Array, "..."]:
        """KL(self || other), in nats."""


class Elementary(Distribution):
    """A distribution whose actions are one array."""

    @staticmethod
    @abc.abstractmethod
    def noise(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """The standard noise that `sample` takes: along the last axis, a number for each that is drawn."""


def cut(flat: Shaped[Array, "... n"], sizes: Sequence[int]) -> list[Shaped[Array, "... k"]]:
    """What lies side by side on the last axis."""
    return jnp.split(flat, list(itertools.accumulate(sizes))[:-1], axis=-1)


def composed(keys: tuple[str, ...] | None, parts: list[Any]) -> Any:
    return tuple(parts) if keys is None else dict(zip(keys, parts, strict=True))


def parts_of(composed: Any, keys: tuple[str, ...] | None) -> list[Any]:
    return list(composed) if keys is None else [composed[key] for key in keys]
