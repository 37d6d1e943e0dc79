"""Running statistics that bring observations and rewards to a common scale."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from ppo2.rollout import Rollout
from ppo2.sharding import WHOLE, Split
from ppo2.spaces import AnySpace, is_float_box
from ppo2.statistics import Moments

CLIP = 10.0  # Baselines' VecNormalize: observations and rewards are clipped to +-10
EPSILON = 1e-8  # added to the variance, as there


class Normaliser(eqx.Module):
    """Statistics of observations and of discounted returns; None where not asked for.

    They belong to the model, beside its parameters: saved with it, frozen when it only acts.
    """

    obs: Moments | None
    returns: Moments | None

    @classmethod
    def start(cls, space: AnySpace, *, normalize_obs: bool, normalize_rewards: bool) -> "Normaliser":
        """Nothing seen yet. Only Boxes of floats have statistics of observations."""
        return cls(
            obs=Moments.start(space.shape or ()) if normalize_obs and is_float_box(space) else None,
            returns=Moments.start(()) if normalize_rewards else None,
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is something to keep statistics of, and nothing was seen yet."""
        return any(moments is not None and float(moments.count) < 1.0 for moments in (self.obs, self.returns))

    def observe(self, obs: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
        """Observations as the policy shall see them: (obs - mean) / std, clipped to +-10."""
        if self.obs is None:
            return obs
        scaled = (obs.astype(jnp.float32) - self.obs.mean) * jax.lax.rsqrt(self.obs.var + EPSILON)
        return jnp.clip(scaled, -CLIP, CLIP)

    def scale_rewards(self, rewards: Float[Array, "T N"]) -> Float[Array, "T N"]:
        """Rewards over the standard deviation of discounted returns, clipped to +-10; their mean is left alone."""
        if self.returns is None:
            return rewards
        return jnp.clip(rewards * jax.lax.rsqrt(self.returns.var + EPSILON), -CLIP, CLIP)

    def with_returns(self, rollout: Rollout, split: Split = WHOLE) -> "Normaliser":
        """With the discounted returns of a rollout counted in. Only scales rewards, so it may precede learning."""
        if self.returns is None:
            return self
        returns = discounted_returns(rollout)
        moments = self.returns.update(returns.ravel(), rollout.valid.ravel().astype(jnp.float32), split)
        return Normaliser(obs=self.obs, returns=moments)

    def with_observations(self, rollout: Rollout, split: Split = WHOLE) -> "Normaliser":
        """With the observations of a rollout counted in: after learning from it, or its first ratio wouldn't be 1."""
        if self.obs is None:
            return self
        obs = rollout.obs.astype(jnp.float32)
        obs = obs.reshape(-1, *obs.shape[2:])
        moments = self.obs.update(obs, rollout.valid.ravel().astype(jnp.float32), split)
        return Normaliser(obs=moments, returns=self.returns)


def discounted_returns(rollout: Rollout) -> Float[Array, "T N"]:
    """The discounted sum of rewards so far of each step's episode: R_t = gamma R_{t-1} + r_t, from 0 at its start."""
    ended = rollout.terminated | rollout.truncated

    def forwards(running: Float[Array, " N"], step: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, end = step
        running = rollout.gamma * running + reward
        return jnp.where(end, 0.0, running), running

    _, returns = jax.lax.scan(forwards, rollout.running_returns, (rollout.rewards, ended))
    return returns
