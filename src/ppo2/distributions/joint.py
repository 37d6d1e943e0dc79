"""Several distributions as one, for Tuple and Dict."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, Shaped

from ppo2.distributions.base import ActionDistribution, Distribution, Mask, split, summary
from ppo2.spaces import AnySpace, Spec

Keys: TypeAlias = tuple[str, ...] | None


class Joint(Distribution):
    """Several independent distributions. Parameters and noise lie side by side on the last axis; actions are a tuple,
    or a dict with the keys of the parts.

    Attributes:
        parts: the distributions, by `keys`.
        keys: keys of a dict; None for a tuple.
        noise_sizes: numbers of noise that each part takes.
    """

    parts: tuple[Distribution, ...]
    keys: Keys = eqx.field(static=True)
    noise_sizes: tuple[int, ...] = eqx.field(static=True)

    def sample(self, noise: Float[Array, "... k"]) -> PyTree[Shaped[Array, "..."]]:
        pairs = zip(self.parts, split(noise, self.noise_sizes), strict=True)
        return _compose(self.keys, [part.sample(own) for part, own in pairs])

    def mode(self) -> PyTree[Shaped[Array, "..."]]:
        return _compose(self.keys, [part.mode() for part in self.parts])

    def logp(self, actions: PyTree[Shaped[Array, "..."]]) -> Float[Array, "..."]:
        pairs = zip(self.parts, _parts(self.keys, actions), strict=True)
        return sum((part.logp(own) for part, own in pairs), start=jnp.zeros((), jnp.float32))

    def entropy(self) -> Float[Array, "..."]:
        return sum((part.entropy() for part in self.parts), start=jnp.zeros((), jnp.float32))

    def logp_and_entropy(
        self, actions: PyTree[Shaped[Array, "..."]]
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        pairs = zip(self.parts, _parts(self.keys, actions), strict=True)
        logps, entropies = zip(*(part.logp_and_entropy(own) for part, own in pairs), strict=True)
        nothing = jnp.zeros((), jnp.float32)
        return sum(logps, start=nothing), sum(entropies, start=nothing)


@dataclass(frozen=True, kw_only=True)
class JointActions(ActionDistribution):
    """Actions of a Tuple or Dict.

    Attributes:
        parts: distributions of the parts, by `keys`.
        keys: keys of a Dict in alphabetical order, as JAX sorts them: its own order is lost in files. None for a Tuple.
    """

    parts: tuple[ActionDistribution, ...]
    keys: Keys

    @classmethod
    def of(cls, space: Any, of_part: Callable[[AnySpace], ActionDistribution]) -> Self:
        """The distribution of `space`; `of_part` gives that of a part."""
        keys = tuple(sorted(space.spaces)) if isinstance(space.spaces, Mapping) else None
        parts = tuple(map(of_part, _parts(keys, space.spaces)))
        return cls(
            spec=Spec(space),
            num_params=sum(part.num_params for part in parts),
            noise_size=sum(part.noise_size for part in parts),
            log_std_size=sum(part.log_std_size for part in parts),
            parts=parts,
            keys=keys,
        )

    @property
    def action(self) -> PyTree[jax.ShapeDtypeStruct]:
        return _compose(self.keys, [part.action for part in self.parts])

    @property
    def can_be_masked(self) -> bool:
        return any(part.can_be_masked for part in self.parts)

    def noise(self, key: PRNGKeyArray, batch: tuple[int, ...]) -> Float[Array, "... k"]:
        keys = jax.random.split(key, len(self.parts))
        return jnp.concatenate([part.noise(own, batch) for part, own in zip(self.parts, keys, strict=True)], -1)

    def build(self, params: Array, log_std: Array | None = None, mask: Mask = None) -> Distribution:
        nothing = [None] * len(self.parts)
        pieces = zip(
            self.parts,
            split(params, [part.num_params for part in self.parts]),
            nothing if log_std is None else split(log_std, [part.log_std_size for part in self.parts]),
            nothing if mask is None else self._masks(mask),
            strict=True,
        )
        parts = tuple(part.build(*piece) for part, *piece in pieces)
        return Joint(parts, self.keys, tuple(part.noise_size for part in self.parts))

    def none_legal(self, mask: Mask) -> Bool[Array, "..."]:
        pairs = zip(self.parts, self._masks(mask), strict=True)
        none = [part.none_legal(own) for part, own in pairs if own is not None]
        return functools.reduce(operator.or_, none) if none else jnp.zeros((), bool)

    def _masks(self, mask: Mask) -> list[Any]:
        """The mask of each part; None for parts that have no choices."""
        if self.keys is None:
            fits, expected = isinstance(mask, Sequence) and len(mask) == len(self.parts), f"tuple of {len(self.parts)}"
        else:
            fits = isinstance(mask, Mapping) and set(mask) <= set(self.keys)
            expected = f"dict with keys of {', '.join(self.keys)}"
        if not fits:
            raise ValueError(f"`action_mask`: expected a {expected}, found {summary(mask)}.")
        masks = list(mask) if self.keys is None else [mask.get(key) for key in self.keys]
        return [own if part.can_be_masked else None for part, own in zip(self.parts, masks, strict=True)]

    def to_environment(self, actions: PyTree[Shaped[Any, "..."]]) -> PyTree[Shaped[Any, "..."]]:
        pairs = zip(self.parts, _parts(self.keys, actions), strict=True)
        sent = _compose(self.keys, [part.to_environment(own) for part, own in pairs])
        space: Any = self.spec.space
        return sent if self.keys is None else {key: sent[key] for key in space.spaces}  # in the space's own order


def _compose(keys: Keys, parts: list[Any]) -> Any:
    return tuple(parts) if keys is None else dict(zip(keys, parts, strict=True))


def _parts(keys: Keys, composed: Any) -> list[Any]:
    return list(composed) if keys is None else [composed[key] for key in keys]
