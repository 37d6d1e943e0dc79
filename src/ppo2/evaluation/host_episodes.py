"""Episodes of host environments for an evaluation."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ppo2 import spaces
from ppo2.agent.model import Model
from ppo2.config.info_keys import end_keys
from ppo2.envs.host.env_types import AnyVectorEnv
from ppo2.envs.host.stepper import Stepper
from ppo2.envs.host.transition import Transition
from ppo2.evaluation.limits import EpisodeEnd, EpisodeLimit, known_numbers
from ppo2.evaluation.not_finite import not_finite_obs, not_finite_reward
from ppo2.numerics.randomness import Purpose, root_key

NDArray = np.ndarray[Any, Any]

LOOK_EVERY = 16
"""Steps between two looks at how long the running episodes are."""


def run_on_host(
    model: Model,
    env: AnyVectorEnv,
    first: int,
    deterministic: bool,
    seed: int,
    left: NDArray,
    limit: EpisodeLimit,
    info_keys: Sequence[str],
) -> Iterator[Sequence[EpisodeEnd]]:
    """The episodes that end in each step.

    Args:
        first: global index of the first environment.
        left: (N,), the episodes that are still to be played; those of an environment that can't be reset become 0.
    """
    stepper = Stepper(env, model.distribution, info_keys=info_keys)
    keys = end_keys(stepper.info_keys)
    with model.acting():
        key = root_key(seed, Purpose.EVALUATE)
    nenvs = env.num_envs
    returns, lengths = np.zeros(nenvs), np.zeros(nenvs, int)
    obs = stepper.reset(seed, Purpose.EVALUATE, first=first)
    _check_obs(model, obs, first, 0)
    recurrent_state = model.initial_state(nenvs)
    episode_starts = np.ones(nenvs, bool) if model.is_recurrent else None
    for count in itertools.count():
        if not count % LOOK_EVERY:
            limit.look(lengths[left > 0])
        result = model.act_on(obs, key, count, recurrent_state, episode_starts)
        if result.no_legal_action is not None:
            spaces.check_legal(np.asarray(result.no_legal_action) & ~stepper.resetting, "`env`", f", at step {count}")
        step = stepper.step(jax.device_get(result.mode if deterministic else result.sampled))
        obs, recurrent_state = step.obs, result.recurrent_state
        if episode_starts is not None:
            episode_starts = step.episode_starts
        _check_step(model, step, stepper.resetting & step.terminated, first, count + 1)
        returns += np.where(step.valid, step.rewards, 0.0)
        lengths += step.valid
        over = ends = step.terminated | step.truncated
        # an episode in which its environment failed doesn't count
        counts, r, length, infos = ends & step.valid, returns, lengths, np.zeros((nenvs, 0))
        if step.ends is not None:
            own, infos = step.ends.counts, step.ends.infos
            counts = np.where(own, step.ends.lengths > 0, counts)
            r, length = np.where(own, step.ends.returns, r), np.where(own, step.ends.lengths, length)
            over = counts | (ends & ~(own & step.valid))
        ended = [
            EpisodeEnd(i, float(r[i]), int(length[i]), known_numbers(keys, infos[i]))
            for i in np.flatnonzero(counts).tolist()
        ]
        returns[over], lengths[over] = 0.0, 0
        cut = (lengths >= limit.steps) & (left > 0)
        if not cut.any():
            yield ended
            continue
        yield ended + [
            EpisodeEnd(i, float(returns[i]), int(lengths[i]), partial=True) for i in np.flatnonzero(cut).tolist()
        ]
        again = cut & (left > 0)
        anew = stepper.reset_some(again, left == 0) if again.any() else obs
        if anew is None:
            limit.give_up(int(left[again].sum()))
            left[again], anew = 0, obs
        obs = anew
        _check_obs(model, obs, first, count + 1, ignored=~again)
        returns[cut], lengths[cut] = 0.0, 0
        if episode_starts is not None:
            episode_starts = episode_starts | again


def _check_step(model: Model, step: Transition, ignored: NDArray, first: int, count: int) -> None:
    """Raises NotFiniteError for a step of the host; observations that only ended an episode may be `ignored`."""
    _check_obs(model, step.obs, first, count, ignored)
    for env, obs in (step.final_obs or {}).items():
        _check_obs(model, jax.tree.map(lambda x: np.asarray(x)[None], obs), first + env, count)
    bad = ~np.isfinite(step.rewards) & step.valid
    if bad.any():
        raise not_finite_reward(first + int(np.argmax(bad)), count)


def _check_obs(model: Model, obs: Any, first: int, count: int, ignored: NDArray | None = None) -> None:
    """Raises NotFiniteError for a batch of observations after so many steps of the evaluation."""
    bad = spaces.find_not_finite(model.observation_space, obs, ignored)
    if bad is not None:
        raise not_finite_obs(bad.part, first + bad.row, count)
