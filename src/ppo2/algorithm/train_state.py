"""What learning changes, what an update is told, and what it tells."""

import math
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ppo2 import spaces
from ppo2.algorithm.normaliser import Normaliser
from ppo2.algorithm.rollout import Rollout
from ppo2.distributions import ActionDistribution
from ppo2.numerics.randomness import copied_key
from ppo2.numerics.sharding import ONE_DEVICE, DataAxis


class FaultKind(IntEnum):
    """What kept an update from being made. Of several the first is told, as it brings the others about.

    STATE is what learning began from; STEP what it came to, though losses and gradients were finite; STATISTICS the
    normaliser's.
    """

    NONE = 0
    STATE_NOT_FINITE = 1
    ACTION_NOT_FINITE = 2
    OBS_NOT_FINITE = 3
    OBS_OUT_OF_RANGE = 4
    REWARD_NOT_FINITE = 5
    NO_LEGAL_ACTION = 6
    LOSS_OR_GRADIENT_NOT_FINITE = 7
    STEP_NOT_FINITE = 8
    STATISTICS_NOT_FINITE = 9


FATAL = frozenset({FaultKind.OBS_OUT_OF_RANGE, FaultKind.NO_LEGAL_ACTION, FaultKind.STATE_NOT_FINITE})
"""What ends training even where others are skipped: it will be so again, whatever comes."""


class Fault(NamedTuple):
    """A `FaultKind`, and the flat (T, N) index of the step to blame."""

    kind: Int[Array, ""]
    step: Int[Array, ""]


class Counters(NamedTuple):
    updates: Int[Array, ""]
    gradient_steps: Int[Array, ""]
    skipped_updates: Int[Array, ""]

    @classmethod
    def zero(cls) -> "Counters":
        return cls(*(jnp.zeros((), jnp.int32) for _ in cls._fields))


class TrainState(NamedTuple):
    """Everything that learning changes. Parameters and Adam's moments are one flat vector each: one update of it, one
    norm and, over several devices, one mean.
    """

    params: Float[Array, " P"]
    normaliser: Normaliser
    opt_state: optax.ScaleByAdamState
    key: PRNGKeyArray
    counters: Counters


def copied(state: TrainState, copy: Callable[[Any], Any]) -> TrainState:
    """The state in memory of its own, which stays while training goes on and donates its arrays."""
    words = state._replace(key=jax.random.key_data(state.key))
    twin: TrainState = jax.tree.map(copy, words)
    return twin._replace(key=copied_key(state.key))


class Hyperparameters(NamedTuple):
    """What an update is told by number, so that schedules never recompile. None switches a thing off for good."""

    lr: Float[Array, ""]
    cliprange: Float[Array, ""]
    value_cliprange: Float[Array, ""] | None
    ent_coef: Float[Array, ""]
    vf_coef: Float[Array, ""]
    max_grad_norm: Float[Array, ""] | None
    target_kl: Float[Array, ""] | None


class UpdateStats(NamedTuple):
    """One update, on the device: means over its minibatches, then figures of the whole batch.

    `fault` is a `FaultKind`, `fault_index` the flat (T, N) index of the step to blame. `eprewmean` and
    `eplenmean`, over the last 100 episodes, and `episodes`, how many ended so far, are filled in
    by `learn` for its `update_fn`.
    """

    policy_loss: Float[Array, ""]
    value_loss: Float[Array, ""]
    policy_entropy: Float[Array, ""]
    approxkl: Float[Array, ""]
    clipfrac: Float[Array, ""]
    grad_norm: Float[Array, ""]
    explained_variance: Float[Array, ""]
    gradient_steps: Int[Array, ""]
    fault: Int[Array, ""]
    fault_index: Int[Array, ""]
    eprewmean: float | Float[Array, ""] = math.nan
    eplenmean: float | Float[Array, ""] = math.nan
    episodes: int | Int[Array, ""] = 0

    @classmethod
    def blank(cls) -> Self:
        """All 0, in the dtypes that figures have on the device."""
        whole = ("gradient_steps", "fault", "fault_index", "episodes")
        zeros: dict[str, Any] = {name: np.zeros((), np.int32 if name in whole else np.float32) for name in cls._fields}
        return cls(**zeros)


def find_fault(
    space: spaces.AnySpace,
    distribution: ActionDistribution,
    rollout: Rollout,
    finite: Bool[Array, ""],
    axis: DataAxis = ONE_DEVICE,
) -> Fault:
    """The first of the faults that `Fault` lists, and the flat (T, N) index of the first step that has it, N counting
    the environments of all blocks.
    """
    not_finite = ~spaces.all_finite(rollout.obs, 2)
    # V of what came next is only NaN by its observation, where V itself is finite
    unseen = jnp.isfinite(rollout.values) & ~jnp.isfinite(rollout.next_values) & ~rollout.terminated
    no_legal_action = jnp.zeros(rollout.valid.shape, bool)
    if spaces.is_masked(space):
        no_legal_action |= distribution.none_legal(rollout.obs["action_mask"])
    # What the policy makes of observations that are not finite, or remembers of them, is not its own fault.
    steps = len(not_finite)
    seen_well = jnp.where(jnp.any(not_finite, axis=0), jnp.argmax(not_finite, axis=0), steps)
    wild = ~spaces.all_finite(rollout.actions, 2) & (jnp.arange(steps)[:, None] < seen_well)
    in_turn = [
        (FaultKind.ACTION_NOT_FINITE, wild),
        (FaultKind.OBS_NOT_FINITE, not_finite | unseen),
        (FaultKind.OBS_OUT_OF_RANGE, spaces.out_of_range(space, rollout.obs)),
        (FaultKind.REWARD_NOT_FINITE, ~jnp.isfinite(rollout.rewards)),
        (FaultKind.NO_LEGAL_ACTION, no_legal_action),
    ]
    fault = jnp.where(finite, FaultKind.NONE, FaultKind.LOSS_OR_GRADIENT_NOT_FINITE).astype(jnp.int32)
    index = jnp.zeros((), jnp.int32)
    for kind, where in reversed(in_turn):
        where = (where & rollout.valid).ravel()
        found = jnp.any(where)
        fault = jnp.where(found, kind, fault)
        index = jnp.where(found, jnp.argmax(where).astype(jnp.int32), index)
    return _across(axis, Fault(fault, index), rollout.valid.shape[1])


def is_finite(of: Any) -> Bool[Array, ""]:
    """Whether there is no NaN and no infinity in a state, or in a part of one; pure."""
    finite = jnp.ones((), bool)
    for leaf in jax.tree.leaves(of):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            finite &= jnp.all(jnp.isfinite(leaf))
    return finite


def only_finite(before: TrainState, after: TrainState, stats: UpdateStats) -> tuple[TrainState, UpdateStats]:
    """What an update made of a state, unless either isn't finite: then the state as it was, and the fault; pure.

    It stands around `Model.update`, as that may be anybody's.
    """
    step_finite, statistics_finite = is_finite((after.params, after.opt_state)), is_finite(after.normaliser)
    fault = jnp.asarray(stats.fault, jnp.int32)
    late = jnp.where(step_finite, FaultKind.STATISTICS_NOT_FINITE, FaultKind.STEP_NOT_FINITE)
    fault = jnp.where((fault == FaultKind.NONE) & ~(step_finite & statistics_finite), late, fault)
    fault = jnp.where(is_finite(before), fault, FaultKind.STATE_NOT_FINITE).astype(jnp.int32)
    good = fault == FaultKind.NONE
    kept: TrainState = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, before)
    counters = Counters(
        updates=after.counters.updates,
        gradient_steps=kept.counters.gradient_steps,
        skipped_updates=before.counters.skipped_updates + ~good,
    )
    return kept._replace(counters=counters), stats._replace(fault=fault)


def _across(axis: DataAxis, mine: Fault, nenvs: int) -> Fault:
    """The fault of all blocks: the lowest kind, where the first block has it."""
    if axis.devices == 1:
        return mine
    t, env = jnp.divmod(mine.step, nenvs)
    step = t * nenvs * axis.devices + axis.index * nenvs + env
    kinds, steps = axis.gather((mine.kind, step))
    block = jnp.argmin(jnp.where(kinds == FaultKind.NONE, len(FaultKind), kinds))
    return Fault(kinds[block], steps[block].astype(jnp.int32))
