"""The update: advantages, then epochs of minibatches, each a step of Adam; and the normaliser's statistics."""

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ppo2 import spaces
from ppo2.algorithm import adam
from ppo2.algorithm.faults import Fault, FaultKind, find_fault, is_finite
from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.losses import Stats, normalise_advantages
from ppo2.algorithm.minibatches import flatten, minibatches, sequences, shuffle_bits
from ppo2.algorithm.normaliser import Normaliser
from ppo2.algorithm.rollout import Batch, Rollout
from ppo2.algorithm.train_state import TrainState, UpdateStats
from ppo2.distributions import ActionDistribution
from ppo2.numerics.compilation import platform
from ppo2.numerics.randomness import Purpose, stream
from ppo2.numerics.sharding import ONE_DEVICE, DataAxis
from ppo2.numerics.statistics import explained_variance

Gradients = Callable[
    [Float[Array, " P"], Normaliser, Batch, Hyperparameters], tuple[Float[Array, " P"], Stats]
]  # see `Model.gradients`


SMALL = 2**16
"""Numbers of an array up to which it is small."""
LANES = 16
"""Numbers that a CPU computes with at once: XLA's loops over an odd number take them one by one. It pays for large
vectors only."""

T = TypeVar("T")

Parts = tuple[tuple[int, int], ...]
"""Beginnings and ends of parts of the flat parameters."""


class UpdateSettings(Protocol):
    """The settings that fix an update's shape (`ppo2.Config`)."""

    @property
    def nminibatches(self) -> int: ...
    @property
    def noptepochs(self) -> int: ...
    @property
    def shards(self) -> int: ...


class Learner(Protocol):
    """The parts of a model that an update uses (`ppo2.Model`)."""

    @property
    def config(self) -> UpdateSettings: ...
    @property
    def observation_space(self) -> spaces.AnySpace: ...
    @property
    def distribution(self) -> ActionDistribution: ...
    @property
    def frozen(self) -> Parts: ...

    def advantages(self, normaliser: Normaliser, rollout: Rollout) -> Float[Array, "T N"]: ...
    def gradients(
        self, params: Float[Array, " P"], normaliser: Normaliser, batch: Batch, hyper: Hyperparameters
    ) -> tuple[Float[Array, " P"], Stats]: ...


class Carry(NamedTuple):
    """The state between two minibatches. `stopped`: True once `target_kl` has ended the update."""

    params: Float[Array, " P"]
    opt_state: adam.AdamState
    stopped: Bool[Array, ""]


class Step(NamedTuple):
    """The figures of one minibatch, or their sums over several.

    | field | meaning |
    |---|---|
    | stats | see `Stats` |
    | grad_norm | norm of the gradient before it is clipped |
    | finite | 1 if the gradient and the losses are finite, else 0 |
    | computed | 1 if a gradient was made; 0 if `target_kl` had ended the update before |
    | taken | 1 if the parameters were changed, else 0 |
    """

    stats: Stats
    grad_norm: Float[Array, ""]
    finite: Float[Array, ""]
    computed: Float[Array, ""]
    taken: Float[Array, ""]

    @classmethod
    def skipped(cls) -> "Step":
        """A minibatch without a gradient."""
        nothing = jnp.float32(0)
        return cls(Stats.zero(), grad_norm=nothing, finite=jnp.float32(1), computed=nothing, taken=nothing)

    def packed(self) -> Float[Array, " k"]:
        """All figures in one array, as a loop adds up each of its results by an operation of its own."""
        return jnp.stack(jax.tree.leaves(self))

    @classmethod
    def unpacked(cls, figures: Float[Array, " k"]) -> "Step":
        """The figures of `packed`, or of a sum of several."""
        found: Step = jax.tree.unflatten(jax.tree.structure(cls.skipped()), list(figures))
        return found


SoFar = tuple[Carry, Float[Array, " k"]]
"""The state between two minibatches, and the sums of the figures of those before (`Step.packed`)."""


def update(
    learner: Learner, state: TrainState, rollout: Rollout, hyper: Hyperparameters, axis: DataAxis = ONE_DEVICE
) -> tuple[TrainState, UpdateStats]:
    """One update, pure: learning from a rollout, then counting its observations into the normaliser's statistics.

    Numbers that are not finite, in the data or on the way, are reported in `UpdateStats.fault`; the caller looks at the
    result as well, and keeps them from the model: see `judged`.

    Args:
        learner: makes advantages and gradients.
        state: before the update.
        rollout: (T, N, ...), of this device's environments.
        hyper: the numbers of this update.
        axis: the devices that learn together, each from environments, or from samples, of its own; all get the same new
            state.
    """
    config, over_envs, size = learner.config, axis.of_environments, state.params.shape[0]
    shards = config.shards // over_envs.devices
    normaliser = state.normaliser.with_returns(rollout, over_envs)
    batch = flatten(sequences(batch_of(rollout, learner.advantages(normaliser, rollout))), shards)
    bits = shuffle_bits(
        stream(state.key, Purpose.SHUFFLE, state.counters.updates),
        epochs=config.noptepochs,
        total=batch.weights.shape[0] * over_envs.devices,
        shards=config.shards,
    )
    bits = jax.lax.dynamic_slice_in_dim(bits, over_envs.index * shards, shards, axis=1)
    step = functools.partial(
        minibatch_step if hyper.target_kl is None else step_unless_stopped,
        gradients=learner.gradients,
        normaliser=normaliser,
        hyper=hyper,
        axis=axis,
        frozen=learner.frozen,
        size=size,
    )

    def counted_step(so_far: SoFar, minibatch: tuple[Batch, Array]) -> tuple[SoFar, None]:
        carry, figures = so_far
        after, made = step(carry, minibatch)
        return (after, figures + made.packed()), None

    def epoch(so_far: SoFar, bits: Array) -> tuple[SoFar, None]:
        part = (axis.index, axis.devices) if axis.by_sample else (0, 1)
        cut = minibatches(batch, bits, nminibatches=config.nminibatches, part=part)
        normalised = jax.vmap(lambda a, w: normalise_advantages(a, w, axis))(cut.advantages, cut.weights)
        mine = jnp.sum(cut.weights.reshape(cut.weights.shape[0], -1), axis=1)
        share = mine / jnp.maximum(axis.sum(mine), 1.0)  # of each minibatch's valid steps, this device's
        return jax.lax.scan(counted_step, so_far, (cut._replace(advantages=normalised), share))

    start = jax.tree.map(_padded, Carry(state.params, state.opt_state, jnp.zeros((), bool)))
    nothing = jnp.zeros(len(jax.tree.leaves(Step.skipped())), jnp.float32)
    (end, figures), _ = jax.lax.scan(epoch, (start, nothing), bits)
    end = jax.tree.map(lambda x: x[:size] if x.ndim else x, end)
    sums = Step.unpacked(figures)
    fault = find_fault(
        learner.observation_space,
        learner.distribution,
        rollout,
        sums.finite == config.noptepochs * config.nminibatches,
        over_envs,
        statistics_finite=is_finite(normaliser.returns),
    )
    before = state.counters
    learned = state._replace(
        params=end.params,
        normaliser=normaliser.with_observations(rollout, over_envs),
        opt_state=end.opt_state,
        counters=before._replace(
            updates=before.updates + 1, gradient_steps=before.gradient_steps + sums.taken.astype(jnp.int32)
        ),
    )
    return learned, update_stats(sums, batch, fault, over_envs)


def batch_of(rollout: Rollout, advantages: Float[Array, "T N"]) -> Batch:
    """The rollout with its advantages and returns, (T, N, ...)."""
    return Batch(
        obs=rollout.obs,
        actions=rollout.actions,
        logp=rollout.logp,
        values=rollout.values,
        advantages=advantages,
        returns=advantages + rollout.values,
        weights=rollout.valid.astype(jnp.float32),
        episode_starts=rollout.episode_starts,
        recurrent_state=rollout.recurrent_state,
    )


def minibatch_step(
    carry: Carry,
    minibatch: tuple[Batch, Float[Array, ""]],
    *,
    gradients: Gradients,
    normaliser: Normaliser,
    hyper: Hyperparameters,
    axis: DataAxis,
    size: int,
    frozen: Parts = (),
) -> tuple[Carry, Step]:
    """One gradient step of Adam on a minibatch; not taken where its approximate KL divergence exceeds `target_kl`.

    Args:
        minibatch: the samples, and the share that they are of the minibatch on all devices.
        size: number of the parameters, which have zeros behind them (`_padded`).
        frozen: parameters that stay as they are, with their moments; the gradient's norm is that of the others.
    """
    batch, share = minibatch
    params = _after(jnp.sum(batch.weights), carry.params[:size])
    found, stats = gradients(params, normaliser, batch, hyper)
    gradient = _padded(found)
    if axis.devices > 1:
        gradient, stats = axis.sum(jax.tree.map(lambda x: x * share, (gradient, stats)))
    is_frozen = among(frozen, gradient.shape[0]) if frozen else None
    if is_frozen is not None:
        gradient = jnp.where(is_frozen, 0, gradient).astype(gradient.dtype)
    norm = jnp.linalg.norm(gradient[:size])
    if hyper.max_grad_norm is not None:
        gradient = gradient * (hyper.max_grad_norm / jnp.maximum(norm, hyper.max_grad_norm))
    state = carry.opt_state._replace(count=_after(norm, carry.opt_state.count))
    direction, opt_state = adam.direction(gradient, state)
    after = Carry(carry.params - hyper.lr * direction, opt_state, carry.stopped)
    if is_frozen is not None:
        after = jax.tree.map(
            lambda new, old: jnp.where(is_frozen, old, new) if new.shape == is_frozen.shape else new, after, carry
        )
    if hyper.target_kl is not None:
        stop = stats.approxkl > hyper.target_kl
        after = jax.tree.map(lambda new, old: jnp.where(stop, old, new), after, carry)._replace(stopped=stop)
    finite = jnp.isfinite(norm) & jnp.isfinite(stats.policy_loss) & jnp.isfinite(stats.value_loss)
    made = Step(stats, norm, finite, computed=jnp.float32(1), taken=~after.stopped)
    # flags, and what a subclass makes of other types
    return after, jax.tree.map(lambda figure: jnp.asarray(figure, jnp.float32), made)


def _after(number: Float[Array, ""], x: T) -> T:
    """Small arrays as they are, but no sooner than a number that is never below 0.

    XLA's executor on CPU hands operations over to another thread where more than eight are ready, which costs more than
    it brings where they are small. XLA forgets barriers before it schedules, so that they wait for a comparison.
    """
    if platform() != "cpu":
        return x
    waiting: T = jax.tree.map(lambda leaf: leaf if leaf.size > SMALL else jnp.where(number < 0, 0, leaf), x)
    return waiting


def _padded(x: Array) -> Array:
    """A vector that isn't small, on CPU with zeros behind it, up to a multiple of LANES; others as they are."""
    return jnp.pad(x, (0, -x.size % LANES)) if x.size > SMALL and platform() == "cpu" else x


def among(parts: Parts, size: int) -> Bool[Array, " P"]:
    """True for the elements of some parts of a vector."""
    index = jnp.arange(size, dtype=jnp.int32)
    inside = [(index >= start) & (index < end) for start, end in parts]
    return functools.reduce(jnp.logical_or, inside)


def step_unless_stopped(carry: Carry, minibatch: tuple[Batch, Float[Array, ""]], **more: object) -> tuple[Carry, Step]:
    """`minibatch_step`, or nothing once `target_kl` has ended the update."""

    def skip(carry: Carry) -> tuple[Carry, Step]:
        return carry, Step.skipped()

    def take(carry: Carry) -> tuple[Carry, Step]:
        return minibatch_step(carry, minibatch, **more)  # type: ignore[arg-type]

    stepped: tuple[Carry, Step] = jax.lax.cond(carry.stopped, skip, take, carry)
    return stepped


def update_stats(sums: Step, batch: Batch, fault: Fault, axis: DataAxis) -> UpdateStats:
    """The figures of an update, from the sums of those of its minibatches, and from its whole batch."""
    means: Step = jax.tree.map(lambda total: total / sums.computed, sums)
    return UpdateStats(
        **means.stats._asdict(),
        grad_norm=means.grad_norm,
        explained_variance=explained_variance(batch.values.ravel(), batch.returns.ravel(), batch.weights.ravel(), axis),
        gradient_steps=sums.taken.astype(jnp.int32),
        fault=fault.kind,
        fault_index=fault.step,
    )


def fill_normaliser(
    learner: Learner, state: TrainState, rollout: Rollout, axis: DataAxis = ONE_DEVICE
) -> tuple[TrainState, Fault]:
    """Counts a rollout into the normaliser's statistics without learning from it, unless it has a fault; pure."""
    seen = state.normaliser.with_returns(rollout, axis).with_observations(rollout, axis)
    fault = find_fault(
        learner.observation_space,
        learner.distribution,
        rollout,
        jnp.ones((), bool),
        axis,
        statistics_finite=is_finite(seen.returns),
    )
    good = fault.kind == FaultKind.NONE
    kind = jnp.where(good & ~is_finite(seen), FaultKind.STATISTICS_NOT_FINITE, fault.kind).astype(jnp.int32)
    kept = jax.tree.map(lambda new, old: jnp.where(kind == FaultKind.NONE, new, old), seen, state.normaliser)
    return state._replace(normaliser=kept), fault._replace(kind=kind)
