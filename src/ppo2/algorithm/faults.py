"""Faults: reasons why an update can't be made, where they are found, and their messages."""

from enum import IntEnum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ppo2 import spaces
from ppo2.algorithm.rollout import Rollout
from ppo2.algorithm.train_state import TrainState, UpdateStats, in_types_of
from ppo2.distributions import ActionDistribution
from ppo2.numerics.sharding import ONE_DEVICE, DataAxis


class FaultKind(IntEnum):
    """Reasons why an update can't be made. The first of several is reported, as it causes the others.

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
    REWARD_TOO_LARGE = 7
    LOSS_OR_GRADIENT_NOT_FINITE = 8
    STEP_NOT_FINITE = 9
    STATISTICS_NOT_FINITE = 10


FATAL = frozenset({FaultKind.OBS_OUT_OF_RANGE, FaultKind.NO_LEGAL_ACTION, FaultKind.STATE_NOT_FINITE})
"""Faults that end training even where others are skipped: they would come again at every update."""
LARGE_REWARD = 1e12
"""Reward above which it is to blame where the loss, which has its discounted sum's square, overflows float32 (3e38)."""


class Fault(NamedTuple):
    """A `FaultKind`, and the flat (T, N) index of the step to blame."""

    kind: Int[Array, ""]
    step: Int[Array, ""]


def find_fault(
    space: spaces.AnySpace,
    distribution: ActionDistribution,
    rollout: Rollout,
    finite: Bool[Array, ""],
    axis: DataAxis = ONE_DEVICE,
    statistics_finite: Bool[Array, ""] | bool = True,
) -> Fault:
    """The first fault, in the order of `FaultKind`, and the flat (T, N) index of its first step, N counting the
    environments of all blocks.

    Args:
        finite: losses and gradients are.
        statistics_finite: the normaliser's statistics of returns are.
    """
    large = jnp.abs(rollout.rewards) > LARGE_REWARD
    not_finite = ~spaces.all_finite(rollout.obs, 2)
    # V of what came next is only NaN by its observation, where V itself is finite
    unseen = jnp.isfinite(rollout.values) & ~jnp.isfinite(rollout.next_values) & ~rollout.terminated
    no_legal_action = jnp.zeros(rollout.valid.shape, bool)
    if spaces.is_masked(space):
        no_legal_action |= distribution.none_legal(rollout.obs["action_mask"])
    # What the policy makes of observations that are not finite, or remembers of them, is not its own fault.
    steps = len(not_finite)
    seen_well = jnp.where(jnp.any(not_finite, axis=0), jnp.argmax(not_finite, axis=0).astype(jnp.int32), steps)
    wild = ~spaces.all_finite(rollout.actions, 2) & (jnp.arange(steps, dtype=jnp.int32)[:, None] < seen_well[None])
    in_turn = [
        (FaultKind.ACTION_NOT_FINITE, wild),
        (FaultKind.OBS_NOT_FINITE, not_finite | unseen),
        (FaultKind.OBS_OUT_OF_RANGE, spaces.out_of_range(space, rollout.obs)),
        (FaultKind.REWARD_NOT_FINITE, ~jnp.isfinite(rollout.rewards)),
        (FaultKind.NO_LEGAL_ACTION, no_legal_action),
        (FaultKind.REWARD_TOO_LARGE, large & ~(finite & statistics_finite)),
    ]
    nothing = np.int32(len(FaultKind))
    kinds = jnp.full(
        rollout.valid.shape, nothing, jnp.int32
    )  # of each step the first: one search finds the first of all
    for kind, where in reversed(in_turn):
        kinds = jnp.where(where & rollout.valid, np.int32(kind), kinds)
    kinds = kinds.ravel()
    index = jax.lax.argmin(kinds, 0, jnp.int32)
    otherwise = jnp.where(finite, np.int32(FaultKind.NONE), np.int32(FaultKind.LOSS_OR_GRADIENT_NOT_FINITE))
    fault = jnp.where(kinds[index] == nothing, otherwise, kinds[index])
    return _across(axis, Fault(fault, index), rollout.valid.shape[1])


def is_finite(of: Any) -> Bool[Array, ""]:
    """True if a state, or a part of one, has no NaN and no infinity; pure."""
    return first_not_finite(of) == 1


def first_not_finite(*parts: Any) -> Int[Array, ""]:
    """The index of the first of some parts of states that has NaN or infinity; their number where none has; pure."""
    first: Array = jnp.int32(len(parts))
    for index, part in reversed([*enumerate(parts)]):
        first = jnp.where(_zeros_of(part) == 0, first, np.int32(index))
    return first


def _zeros_of(part: Any) -> Float[Array, ""]:
    """0 if all numbers of a part are finite, else NaN: the sum of x - x. On CPU a sum of many numbers is one operation,
    and one for all of a shape, where a search takes four.
    """
    by_shape: dict[tuple[int, ...], Any] = {}
    for leaf in jax.tree.leaves(part):
        if leaf.size and jnp.issubdtype(leaf.dtype, jnp.floating):
            by_shape[leaf.shape] = by_shape.get(leaf.shape, 0.0) + (leaf - leaf).astype(jnp.float32)
    total: Array = jnp.float32(0)
    for zeros in by_shape.values():
        total += jnp.sum(zeros)
    return total


def judged(before: TrainState, after: TrainState, stats: UpdateStats) -> UpdateStats:
    """The figures of an update, with the fault where the state before or after it is not finite; pure.

    Applied around `Model.update`, which a user may have overridden. Where there is a fault, see `unlearned`.
    """
    found = first_not_finite(before, (after.params, after.opt_state), after.normaliser)
    fault = jnp.asarray(stats.fault, jnp.int32)
    # What learning came to is to blame for nothing else, what it began from for all.
    late = jnp.where(found == 1, np.int32(FaultKind.STEP_NOT_FINITE), np.int32(FaultKind.STATISTICS_NOT_FINITE))
    fault = jnp.where((fault == FaultKind.NONE) & (found < 3), late, fault)
    fault = jnp.where(found == 0, np.int32(FaultKind.STATE_NOT_FINITE), fault)
    return stats._replace(fault=fault).in_program()


def unlearned(before: TrainState, after: TrainState) -> TrainState:
    """The state after an update that has a fault: as it was, but for the counters."""
    counters = before.counters
    skipped = counters.skipped_updates + 1
    return before._replace(counters=counters._replace(updates=after.counters.updates, skipped_updates=skipped))


def only_finite(before: TrainState, after: TrainState, stats: UpdateStats) -> tuple[TrainState, UpdateStats]:
    """`judged`, and `unlearned` where there is a fault; pure."""
    after, stats = in_types_of(before, after), judged(before, after, stats)
    good = stats.fault == FaultKind.NONE
    kept: TrainState = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, unlearned(before, after))
    return kept, stats


def _across(axis: DataAxis, mine: Fault, nenvs: int) -> Fault:
    """The fault of all blocks: the lowest kind, where the first block has it."""
    if axis.devices == 1:
        return mine
    t, env = jnp.divmod(mine.step, nenvs)
    step = t * nenvs * axis.devices + axis.index * nenvs + env
    kinds, steps = axis.gather((mine.kind, step))
    block = jnp.argmin(jnp.where(kinds == FaultKind.NONE, len(FaultKind), kinds))
    return Fault(kinds[block], steps[block].astype(jnp.int32))


def fault_words(kind: FaultKind, step: int, num_envs: int, observation_space: spaces.AnySpace) -> str:
    """The fault and its remedy in words; `step` is the flat (T, N) index of the step to blame."""
    t, env = divmod(step, num_envs)
    where = f"environment {env} gave it at step {t} of the rollout"
    return {
        FaultKind.STATE_NOT_FINITE: "the parameters, the optimiser's moments or the normaliser's statistics were NaN "
        "or infinite before it, which learning doesn't make them: look into `model_fn` and `update_fn`, or load an "
        "earlier checkpoint",
        FaultKind.ACTION_NOT_FINITE: "an action is NaN or infinite, though what was observed is not, so that the "
        f"policy's network overflows; environment {env} was to take it at step {t} of the rollout: try a lower `lr`, "
        "or `normalize_obs=True`",
        FaultKind.OBS_NOT_FINITE: f"an observation is NaN or infinite; {where}: fix the environment",
        FaultKind.OBS_OUT_OF_RANGE: f"an observation is out of range for {observation_space}; {where}: fix its "
        "observation_space, or what it returns",
        FaultKind.REWARD_NOT_FINITE: f"a reward is NaN or infinite; {where}: fix the environment",
        FaultKind.NO_LEGAL_ACTION: f"a state has no legal action (its action_mask is all 0); {where}: fix the "
        "environment, or end the episode there",
        FaultKind.REWARD_TOO_LARGE: f"a reward is too large to learn from (beyond {LARGE_REWARD:g}: squares overflow); "
        f"{where}: fix the environment, or scale its rewards down, by `reward_scale` of ppo2.make or, up to about "
        "1e15, `normalize_rewards=True`",
        FaultKind.LOSS_OR_GRADIENT_NOT_FINITE: "the loss or its gradient is NaN or infinite; try a lower `lr`, "
        "`normalize_obs=True`, or a smaller `max_grad_norm`",
        FaultKind.STEP_NOT_FINITE: "the gradient is finite, but parameters or moments are NaN or infinite after the "
        "optimiser's step; try a lower `lr`, or a `max_grad_norm`",
        FaultKind.STATISTICS_NOT_FINITE: "observations or rewards are finite, but too large for their statistics "
        "to be; scale them down in the environment (`reward_scale` of ppo2.make does, for rewards)",
    }[kind]
