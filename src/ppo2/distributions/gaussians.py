"""Distributions over numbers: normal, and normal squashed between bounds."""

import math
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ppo2.distributions.base import ArrayActions, Distribution, for_each, namespace
from ppo2.spaces import Spec

LOG_STD_BOUNDS = (-10.0, 10.0)
"""Bounds of a log standard deviation that no observation changes. Wide, as it is in units of the actions; within them
no power or ratio that learning takes of it overflows, nor is it lost in the mean's rounding."""

SQUASHED_LOG_STD_BOUNDS = (-5.0, 2.0)
"""Bounds of one that the network gives, before tanh: beyond 2 nearly every action is at a bound already."""


class DiagGaussian(Distribution):
    """k independent normal numbers; their standard deviations may depend on the observation (... k) or not (k)."""

    mean: Float[Array, "... k"]
    log_std: Float[Array, "... k"]

    def sample(self, noise: Float[Array, "... k"]) -> Float[Array, "... k"]:
        return self.mean + self._of_each(jnp.exp(self.log_std)) * noise

    def mode(self) -> Float[Array, "... k"]:
        return self.mean

    def logp(self, actions: Float[Array, "... k"]) -> Float[Array, "..."]:
        z = (actions - self.mean) * self._of_each(jnp.exp(-self.log_std))
        return jnp.sum(-0.5 * z**2 - self._of_each(self.log_std) - 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self) -> Float[Array, "..."]:
        per_number = self.log_std + 0.5 * math.log(2 * math.pi * math.e)
        return jnp.sum(self._of_each(per_number), axis=-1)

    def _of_each(self, numbers: Float[Array, "... k"]) -> Float[Array, "... k"]:
        """Numbers that may be alike for the whole batch, for each of it."""
        return jnp.broadcast_to(numbers, self.mean.shape)


class SquashedGaussian(Distribution):
    """k independent numbers between bounds: a = low + (high - low) (1 + tanh u) / 2, u normal.

    Its actions are u: from an a that was rounded to a bound no u could be found again.

    Attributes:
        gaussian: distribution of u.
        log_scale: sum over the numbers of log((high - low) / 2).
    """

    gaussian: DiagGaussian
    log_scale: float = eqx.field(static=True)

    def sample(self, noise: Float[Array, "... k"]) -> Float[Array, "... k"]:
        return self.gaussian.sample(noise)

    def mode(self) -> Float[Array, "... k"]:
        """The u of the median: the density of a may be highest at the bounds."""
        return self.gaussian.mode()

    def logp(self, actions: Float[Array, "... k"]) -> Float[Array, "..."]:
        """Log-density of a: log p(a) = log p(u) - sum of log |da/du|."""
        return self.gaussian.logp(actions) - jnp.sum(_log_tanh_slope(actions), axis=-1) - self.log_scale

    def entropy(self) -> Float[Array, "..."]:
        """Entropy of a: H(a) = H(u) + E[sum of log |da/du|], the expectation by Gauss-Hermite quadrature.

        There is no closed form. Off by up to 4e-4 for each number of a standard deviation of 1.6, 0.01 of 2.7 and 0.2
        of 7.4, the largest.
        """
        std, mean = jnp.exp(self.gaussian.log_std)[..., None], self.gaussian.mean[..., None]
        nodes, weights = (jnp.expand_dims(x, tuple(range(mean.ndim - 1))) for x in (_NODES, _WEIGHTS))
        slopes = _log_tanh_slope(mean + std * nodes)
        return self.gaussian.entropy() + jnp.sum(slopes * weights, axis=(-1, -2)) + self.log_scale


_NODES, _WEIGHTS = (x.astype(np.float32) for x in np.polynomial.hermite_e.hermegauss(20))
_WEIGHTS /= _WEIGHTS.sum()  # the density's, not the quadrature's own


def _log_tanh_slope(u: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 - tanh(u)^2) = 2 (log 2 - |u| - softplus(-2 |u|)), which no u makes infinite."""
    size = jnp.abs(u)
    return 2 * (math.log(2) - size - jax.nn.softplus(-2 * size))


class GaussianActions(ArrayActions):
    """Actions of a Box, flattened; clipped to its bounds. The standard deviations are parameters beside the network."""

    draw = staticmethod(jax.random.normal)

    @classmethod
    def of(cls, space: Any) -> Self:
        k = math.prod(space.shape)
        return cls(spec=Spec(space), num_params=k, noise_size=k, log_std_size=k, shape=(k,), dtype=np.float32)

    def of_params(self, params: Array, log_std: Array | None) -> Distribution:
        assert log_std is not None
        return DiagGaussian(params, clipped_log_std(log_std))

    def convert(self, actions: Any, dtype: np.dtype[Any]) -> Any:
        low, high = self.bounds(dtype)
        return actions.astype(dtype, copy=False).clip(for_each(low, actions), for_each(high, actions))

    def bounds(self, dtype: np.dtype[Any]) -> tuple[Any, Any]:
        """Lowest and highest action."""
        space: Any = self.spec.space
        return space.low.astype(dtype, copy=False), space.high.astype(dtype, copy=False)


class SquashedGaussianActions(GaussianActions):
    """Actions of a Box with bounds, flattened; tanh brings them between these. The network gives means, then standard
    deviations.
    """

    is_exact = False

    @classmethod
    def of(cls, space: Any) -> Self:
        """Raises ValueError for a Box without bounds."""
        if not np.all(np.isfinite(space.low) & np.isfinite(space.high) & (space.low < space.high)):
            raise ValueError(
                f"`action_dist` (='squashed_gaussian') needs finite bounds, low < high, but `env` has the action space "
                f"{space}. Use 'gaussian', or wrap the environment (gymnasium.wrappers.TransformAction)."
            )
        k = math.prod(space.shape)
        return cls(spec=Spec(space), num_params=2 * k, noise_size=k, shape=(k,), dtype=np.float32)

    def of_params(self, params: Array, log_std: Array | None) -> Distribution:
        mean, raw = jnp.split(params, 2, axis=-1)
        low, high = self.bounds(np.dtype(np.float64))
        log_scale = float(np.sum(np.log(high / 2 - low / 2)))
        return SquashedGaussian(DiagGaussian(mean, bounded_log_std(raw)), log_scale)

    def convert(self, actions: Any, dtype: np.dtype[Any]) -> Any:
        share = namespace(actions).tanh(actions)
        low, high = (for_each(bound, actions) for bound in self.bounds(dtype))
        # not low + share * (high - low): the difference may be too large for a float
        return super().convert((1 - share) / 2 * low + (1 + share) / 2 * high, dtype)


def clipped_log_std(log_std: Float[Array, " k"]) -> Float[Array, " k"]:
    """The parameter within LOG_STD_BOUNDS; its gradient is as if it were not clipped, so that it can come back."""
    return log_std + jax.lax.stop_gradient(jnp.clip(log_std, *LOG_STD_BOUNDS) - log_std)


def bounded_log_std(raw: Float[Array, "... k"]) -> Float[Array, "... k"]:
    """Number within SQUASHED_LOG_STD_BOUNDS, near `raw` around 0: middle + half tanh(offset + raw / slope)."""
    low, high = SQUASHED_LOG_STD_BOUNDS
    middle, half = (low + high) / 2, (high - low) / 2
    start = -middle / half
    return middle + half * jnp.tanh(math.atanh(start) + raw / (half * (1 - start**2)))
