"""Running mean and variance, and explained variance."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ppo2.numerics.sharding import ONE_DEVICE, DataAxis


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and (population) variance of data, and their number.

    A registered dataclass, as JAX takes it apart in a fraction of an equinox.Module's time: each acting step does.
    """

    mean: Float[Array, "..."]
    var: Float[Array, "..."]
    count: Float[Array, ""]

    @classmethod
    def start(cls, shape: tuple[int, ...]) -> "Moments":
        """Moments of no data: mean 0, variance 1, count 0; the first data replace them.

        Baselines' count of 1e-4 lets an invented mean of 0 weigh in, which spoils the variance of data far from it.
        """
        numbers: Any = np.zeros(shape, np.float32), np.ones(shape, np.float32), np.zeros((), np.float32)
        return cls(*numbers)

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets of data together.

        With d = mean_b - mean_a, n = n_a + n_b:
        mean = mean_a + d n_b / n,  var = (n_a var_a + n_b var_b) / n + d^2 n_a n_b / n^2

        Source: Chan, Golub and LeVeque 1979, updating formulae for sample variances.
        """
        count = self.count + other.count
        total = jnp.maximum(count, 1e-30)  # there may be no data yet
        share, mine = other.count / total, jnp.where(count > 0, self.count / total, 1.0)
        delta = other.mean - self.mean
        mean = self.mean + delta * share
        var = self.var * mine + other.var * share + delta**2 * share * mine
        return Moments(mean, var, count)

    def update(
        self, data: Float[Array, "B ..."], weights: Float[Array, " B"], axis: DataAxis = ONE_DEVICE
    ) -> "Moments":
        """The moments after adding the rows of `data` in all blocks, each counting `weights` (0 or 1) times."""
        return self.merge(weighted_moments(data, weights, axis))


def weighted_mean(data: Float[Array, "B ..."], weights: Float[Array, " B"]) -> Float[Array, "..."]:
    """Mean of `data` over the rows of weight 1, whatever stands in the others; 0 if there are none."""
    return _total(_only(data, weights), weights) / jnp.maximum(jnp.sum(weights), 1.0)


def weighted_moments(data: Float[Array, "B ..."], weights: Float[Array, " B"], axis: DataAxis = ONE_DEVICE) -> Moments:
    """Moments of the rows of weight 1, whatever stands in the others; mean, variance and count 0 if there are none.

    Over the rows of all blocks, where `axis` has several.
    """
    count, total = axis.sum((jnp.sum(weights), _total(_only(data, weights), weights)))
    mean = total / jnp.maximum(count, 1.0)
    squares = axis.sum(_total(_only((data - jnp.broadcast_to(mean, data.shape)) ** 2, weights), weights))
    return Moments(mean, squares / jnp.maximum(count, 1.0), count)


def explained_variance(
    predictions: Float[Array, " B"],
    targets: Float[Array, " B"],
    weights: Float[Array, " B"],
    axis: DataAxis = ONE_DEVICE,
) -> Float[Array, ""]:
    """1 - Var[targets - predictions] / Var[targets]: 1 is perfect, 0 as good as a constant; NaN if all are equal."""

    def sums(columns: Float[Array, "B 2"]) -> Float[Array, " 3"]:
        """Sums of the weights and of two columns, all at once, as each sum is several operations."""
        rows = jnp.concatenate([weights[:, None], _only(columns, weights)], axis=-1)
        return axis.sum(jnp.sum(rows, axis=0))

    columns = jnp.stack([targets, targets - predictions], axis=-1)
    totals = sums(columns)
    means = totals[1:] / jnp.maximum(totals[0], 1.0)
    _, spread, left = sums((columns - jnp.broadcast_to(means, columns.shape)) ** 2)
    varies = spread > 1e-12 * means[0] ** 2 * totals[0]  # less is what rounding makes of equal targets
    return jnp.where(varies, 1 - left / jnp.where(varies, spread, 1.0), jnp.nan)


def _total(data: Float[Array, "B ..."], weights: Float[Array, " B"]) -> Float[Array, "..."]:
    """The sum over the axes that `weights` has: one, or two for sequences."""
    return jnp.sum(data, axis=tuple(range(weights.ndim)))


def _only(data: Float[Array, "B ..."], weights: Float[Array, " B"]) -> Float[Array, "B ..."]:
    """`data` with 0 in the rows of weight 0. Not a product: there, 0 times NaN would be NaN."""
    counts = jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (data.ndim - weights.ndim)) > 0, data.shape)
    return jax.lax.select(counts, data, jnp.zeros_like(data))  # traced in a fifth of the time of `jnp.where`
