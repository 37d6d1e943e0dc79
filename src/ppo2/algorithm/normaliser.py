"""Running statistics that bring observations and rewards to a common scale."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, Shaped

from ppo2 import spaces
from ppo2.algorithm.rollout import Rollout
from ppo2.numerics.pieces import merge_leading_axes
from ppo2.numerics.sharding import ONE_DEVICE, DataAxis
from ppo2.numerics.statistics import Moments

CLIP = 10.0  # Baselines' VecNormalize: observations and rewards are clipped to +-10
EPSILON = 1e-8  # added to the variance, as there


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Normaliser:
    """Statistics of observations and of discounted returns; None where not asked for.

    They belong to the model, beside its parameters: saved with it, frozen when it only acts. Of a Dict or Tuple each
    Box of floats has its own. `masked`: observations bring a mask along, which has none.
    """

    obs: PyTree[Moments | None]
    returns: Moments | None
    masked: bool = field(metadata={"static": True}, default=False)

    @classmethod
    def start(cls, space: spaces.AnySpace, *, normalize_obs: bool, normalize_rewards: bool) -> "Normaliser":
        """The normaliser before any observation. Only Boxes of floats have statistics of observations."""
        return cls(
            obs=jax.tree.map(_moments, spaces.tree(spaces.unmasked(space))) if normalize_obs else None,
            returns=Moments.start(()) if normalize_rewards else None,
            masked=spaces.is_masked(space),
        )

    @property
    def is_empty(self) -> bool:
        """True if there are statistics to keep, and nothing was counted yet."""
        kept = jax.tree.leaves((self.obs, self.returns), is_leaf=_is_moments)
        return any(float(moments.count) < 1.0 for moments in kept if moments is not None)

    def observe(self, obs: PyTree[Shaped[Array, "..."]]) -> PyTree[Shaped[Array, "..."]]:
        """Observations (without a mask) as the policy shall see them: (obs - mean) / std, clipped to +-10."""

        def scaled(moments: Moments | None, obs: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
            if moments is None:
                return obs
            centred = (obs.astype(jnp.float32) - moments.mean) * jax.lax.rsqrt(moments.var + EPSILON)
            return jnp.clip(centred, -CLIP, CLIP)

        return obs if self.obs is None else jax.tree.map(scaled, self.obs, obs, is_leaf=_is_moments)

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

        def counted(moments: Moments | None, obs: Shaped[Array, "T N ..."]) -> Moments | None:
            if moments is None:
                return None
            return moments.update(merge_leading_axes(obs.astype(jnp.float32)), weights, axis)

        seen = rollout.obs["observation"] if self.masked else rollout.obs
        moments = jax.tree.map(counted, self.obs, seen, is_leaf=_is_moments)
        return Normaliser(obs=moments, returns=self.returns, masked=self.masked)


def _moments(space: spaces.AnySpace) -> Moments | None:
    return Moments.start(space.shape or ()) if spaces.is_float_box(space) else None


def _is_moments(x: object) -> bool:
    return x is None or isinstance(x, Moments)


def discounted_returns(rollout: Rollout) -> Float[Array, "T N"]:
    """The discounted sum of rewards so far of each step's episode: R_t = gamma R_{t-1} + r_t, from 0 at its start."""
    ended = rollout.terminated | rollout.truncated

    def forwards(running: Float[Array, " N"], step: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, end = step
        running = rollout.gamma * running + reward
        return jnp.where(end, 0.0, running), running

    _, returns = jax.lax.scan(forwards, rollout.running_returns, (rollout.rewards, ended))
    return returns
