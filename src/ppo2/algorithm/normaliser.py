"""Running statistics that bring observations and rewards to a common scale."""

import contextvars
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from ppo2 import spaces
from ppo2.algorithm.rollout import Rollout
from ppo2.numerics.pieces import merge_leading_axes
from ppo2.numerics.recurrence import linear_recurrence
from ppo2.numerics.sharding import ONE_DEVICE, DataAxis
from ppo2.numerics.statistics import Moments, weighted_moments

CLIP = 10.0  # Baselines' VecNormalize: observations and rewards are clipped to +-10
EPSILON = 1e-8  # added to the variance, as there

RESOLUTION = 2.0**12
"""Distance from 0, in standard deviations, from which float32 (24 bits) leaves too little of an observation."""
FAR = 2.0**31 - 2.0**7
"""Largest float32 below 2**31."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class BoxStatistics:
    """Statistics of a Box's observations, kept relative to an origin near them, so that float32 holds them however far
    from 0 they are. The origin is 0 before the first observations, then stays their mean.

    Attributes:
        narrowed: observations arrive relative to the origin, subtracted in the host's float64 before they are cast to
            the device's 32 bits; others are subtracted here.
    """

    origin: Float[Array, "..."]
    relative: Moments
    narrowed: bool = field(metadata={"static": True}, default=False)

    @classmethod
    def start(cls, space: spaces.AnySpace) -> "BoxStatistics":
        """Statistics before any observation."""
        shape = space.shape or ()
        origin: Any = np.zeros(shape, np.float32)
        return cls(origin=origin, relative=Moments.start(shape), narrowed=spaces.is_narrowed(space))

    @property
    def mean(self) -> Float[Array, "..."]:
        """Mean of the observations, as exact as float32 is at this distance from 0."""
        return self.origin + self.relative.mean

    @property
    def var(self) -> Float[Array, "..."]:
        """Variance of the observations."""
        return self.relative.var

    @property
    def count(self) -> Float[Array, ""]:
        """Number of observations."""
        return self.relative.count

    def from_origin(self, obs: Shaped[Array, "..."]) -> Float[Array, "..."]:
        """Observations relative to the origin; of integers exactly."""
        if self.narrowed:
            return obs.astype(jnp.float32)
        origin = _beside(self.origin, obs)
        rough = obs.astype(jnp.float32) - origin
        if not jnp.issubdtype(obs.dtype, jnp.integer):
            return rough
        exact = (obs.astype(jnp.int32) - origin.astype(jnp.int32)).astype(jnp.float32)
        return jnp.where(jnp.abs(rough) < 2**30, exact, rough)  # elsewhere the difference may overflow

    def normalise(self, obs: Shaped[Array, "..."]) -> Float[Array, "..."]:
        """(obs - mean) / std, clipped to +-10."""
        mean, var = (_beside(x, obs) for x in (self.relative.mean, self.relative.var))
        return jnp.clip((self.from_origin(obs) - mean) * jax.lax.rsqrt(var + EPSILON), -CLIP, CLIP)

    def with_rows(self, obs: Shaped[Array, "B ..."], weights: Float[Array, " B"], axis: DataAxis) -> "BoxStatistics":
        """The statistics with rows of weight 1 counted in. The first rows find the origin; narrowed ones that are too
        far from 0 for float32 do only that, as the host must subtract it before they count.
        """
        first = self.relative.count == 0
        if self.narrowed:
            found = weighted_moments(self.from_origin(obs), weights, axis)
            far = first & jnp.any((jnp.abs(found.mean) > RESOLUTION * jnp.sqrt(found.var)) & (self.origin == 0))
            counted = self.relative.merge(found)
            relative = jax.tree.map(lambda old, new: jnp.where(far, old, new), self.relative, counted)
            return BoxStatistics(jnp.where(far, found.mean, self.origin), relative, narrowed=True)
        mean = weighted_moments(obs.astype(jnp.float32), weights, axis).mean
        whole = jnp.issubdtype(obs.dtype, jnp.integer)
        mean = jnp.clip(jnp.round(mean), -FAR, FAR) if whole else mean
        placed = BoxStatistics(jnp.where(first, mean, self.origin), self.relative)
        return BoxStatistics(placed.origin, placed.relative.update(placed.from_origin(obs), weights, axis))


def _beside(x: Float[Array, "..."], obs: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """`x` with leading axes of size 1, as many as observations have in front (`jax_numpy_rank_promotion`)."""
    return x.reshape((1,) * (obs.ndim - x.ndim) + x.shape)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Normaliser:
    """Statistics of observations and of discounted returns; None where not asked for.

    They belong to the model, beside its parameters: saved with it, frozen when it only acts. Of a Dict or Tuple each
    Box that is no image has its own. `masked`: observations bring a mask along, which has none.
    """

    obs: PyTree[BoxStatistics | None]
    returns: Moments | None
    masked: bool = field(metadata={"static": True}, default=False)

    @classmethod
    def start(
        cls,
        space: spaces.AnySpace,
        *,
        normalize_obs: bool,
        normalize_rewards: bool,
        encoding: int = spaces.ENCODING,
    ) -> "Normaliser":
        """The normaliser before any observation.

        Args:
            encoding: says which Boxes have statistics (see `ppo2.spaces.images`).
        """

        def statistics(space: spaces.AnySpace) -> BoxStatistics | None:
            return BoxStatistics.start(space) if spaces.has_statistics(space, encoding) else None

        return cls(
            obs=jax.tree.map(statistics, spaces.tree(spaces.unmasked(space))) if normalize_obs else None,
            returns=Moments.start(()) if normalize_rewards else None,
            masked=spaces.is_masked(space),
        )

    @property
    def is_empty(self) -> bool:
        """True if there are statistics to keep, and nothing was counted yet."""
        kept = jax.tree.leaves((self.obs, self.returns), is_leaf=_is_statistics)
        return any(float(statistics.count) < 1.0 for statistics in kept if statistics is not None)

    def observe(self, obs: PyTree[Shaped[Array, "..."]]) -> PyTree[Shaped[Array, "..."]]:
        """Observations (without a mask) as the policy shall see them: (obs - mean) / std, clipped to +-10.

        Narrowed ones arrive as `relative` or `on_device` gives them.
        """

        def scaled(statistics: BoxStatistics | None, obs: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
            return obs if statistics is None else statistics.normalise(obs)

        return obs if self.obs is None else jax.tree.map(scaled, self.obs, obs, is_leaf=_is_statistics)

    def origins(self) -> PyTree[np.ndarray[Any, Any] | None]:
        """The origin of each part whose observations the host is to give relative to it (`relative`), in float64.

        None of other parts, and where there are none such at all.
        """
        statistics = jax.tree.leaves(self.obs, is_leaf=_is_statistics)
        if not any(part is not None and part.narrowed for part in statistics):
            return None

        def of_part(part: BoxStatistics | None) -> np.ndarray[Any, Any] | None:
            return np.asarray(part.origin, np.float64) if part is not None and part.narrowed else None

        found = jax.tree.map(of_part, self.obs, is_leaf=_is_statistics)
        return {"observation": found, "action_mask": None} if self.masked else found

    def on_device(self, obs: PyTree[Shaped[Array, "..."]]) -> PyTree[Shaped[Array, "..."]]:
        """Observations of a device environment for the policy and the rollout: narrowed ones relative to their origin.

        As the host's `relative`, but in float32, the most that they have there.
        """

        def moved(part: BoxStatistics | None, obs: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
            if part is None or not part.narrowed:
                return obs
            return obs.astype(jnp.float32) - _beside(part.origin, obs)

        if self.obs is None:
            return obs
        if self.masked:
            return {**obs, "observation": jax.tree.map(moved, self.obs, obs["observation"], is_leaf=_is_statistics)}
        return jax.tree.map(moved, self.obs, obs, is_leaf=_is_statistics)

    def scale_rewards(self, rewards: Float[Array, "T N"]) -> Float[Array, "T N"]:
        """Rewards over the standard deviation of discounted returns, clipped to +-10; their mean is left alone."""
        if self.returns is None:
            return rewards
        return jnp.clip(rewards * jax.lax.rsqrt(self.returns.var + EPSILON), -CLIP, CLIP)

    def with_returns(self, rollout: Rollout, axis: DataAxis = ONE_DEVICE) -> "Normaliser":
        """The normaliser with the discounted returns of a rollout counted in; may precede learning from it."""
        if self.returns is None:
            return self
        returns = discounted_returns(rollout)
        moments = self.returns.update(returns.ravel(), rollout.valid.ravel().astype(jnp.float32), axis)
        return Normaliser(obs=self.obs, returns=moments, masked=self.masked)

    def with_observations(self, rollout: Rollout, axis: DataAxis = ONE_DEVICE) -> "Normaliser":
        """The normaliser with the observations of a rollout counted in.

        To be called after learning from the rollout, or its first ratio wouldn't be 1.
        """
        if self.obs is None:
            return self
        weights = rollout.valid.ravel().astype(jnp.float32)

        def counted(statistics: BoxStatistics | None, obs: Shaped[Array, "T N ..."]) -> BoxStatistics | None:
            return None if statistics is None else statistics.with_rows(merge_leading_axes(obs), weights, axis)

        seen = rollout.obs["observation"] if self.masked else rollout.obs
        obs = jax.tree.map(counted, self.obs, seen, is_leaf=_is_statistics)
        return Normaliser(obs=obs, returns=self.returns, masked=self.masked)


def relative(origins: PyTree[np.ndarray[Any, Any] | None], obs: PyTree[Any]) -> PyTree[Any]:
    """Observations of the host for the policy and the rollout: relative to their origins, where these are given."""
    if origins is None:
        return obs
    if isinstance(origins, np.ndarray):
        with np.errstate(all="ignore"):  # what the user has set is meant for code of the user's own
            return (obs - origins).astype(np.float32)
    if isinstance(obs, dict):
        return {key: relative(origins[key], part) for key, part in obs.items()}
    return tuple(map(relative, origins, obs))


def relative_writer(origin: np.ndarray[Any, Any]) -> Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], None]:
    """A function that writes `relative(origin, obs)` into an array of float32: (array, obs) -> None.

    It takes half the time, as the context in which NumPy says nothing of overflow is entered again and again instead of
    made anew.
    """
    with np.errstate(all="ignore"):
        quiet = contextvars.copy_context()

    def write(array: np.ndarray[Any, Any], obs: np.ndarray[Any, Any]) -> None:
        array[...] = obs - origin

    return lambda array, obs: quiet.run(write, array, obs)


def _is_statistics(x: object) -> bool:
    return x is None or isinstance(x, BoxStatistics | Moments)


def discounted_returns(rollout: Rollout) -> Float[Array, "T N"]:
    """The discounted sum of rewards so far of each step's episode: R_t = gamma R_{t-1} + r_t, from 0 at its start."""
    ended = rollout.terminated | rollout.truncated
    begun = jnp.concatenate([jnp.zeros_like(ended[:1]), ended[:-1]])
    factors = jnp.where(begun, 0.0, rollout.gamma)
    return linear_recurrence(factors, rollout.rewards, rollout.running_returns)
