"""One interface to step vector environments: the one place that knows Gymnasium's three modes of automatic reset."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import jax
import numpy as np
from gymnasium.vector import AutoresetMode

from ppo2 import spaces
from ppo2.distributions import ActionDistribution
from ppo2.envs.host import contract
from ppo2.envs.host.actions import splitter
from ppo2.envs.host.env_types import AnyVectorEnv, NDArray
from ppo2.envs.host.episode_statistics import UNEXPLAINED, VectorReader
from ppo2.envs.host.failures import ContractError
from ppo2.envs.host.transition import Transition
from ppo2.envs.host.vector import HostVectorEnv, StepResult
from ppo2.numerics.randomness import Purpose, environment_seeds
from ppo2.spaces import MASK_KEY, MASK_METHOD
from ppo2.system.text import say_error


class Stepper:
    """Steps and resets a vector environment, Gymnasium's or ours.

    Args:
        distribution: makes the policy's actions those of the environment.
        info_keys: keys of `info` whose numbers are recorded at episodes' ends; those that our own environment was made
            with, and `is_success`, are so without being asked for.

    Attributes:
        host: the environment, if it is ours, which can be brought to a place in its episodes; else None.
        groups: indices of each group's environments.
        info_keys: keys of `info` that are recorded because somebody asked for them.
        resetting: (N,), True for environments whose coming step only resets, whatever the action (NEXT_STEP).

    Raises:
        ValueError: its autoreset mode is none that Gymnasium defines.
    """

    def __init__(self, env: AnyVectorEnv, distribution: ActionDistribution, *, info_keys: Sequence[str] = ()) -> None:
        self.env = env
        self.host = env if isinstance(env, HostVectorEnv) else None
        self.mode = autoreset_mode(env)
        self.space: spaces.AnySpace = env.single_observation_space
        self._action_space: spaces.AnySpace = env.single_action_space
        self._distribution = distribution
        is_composite = isinstance(self._action_space, spaces.COMPOSITE)  # whose batches Gymnasium splits itself
        one_by_one = isinstance(env, gym.vector.SyncVectorEnv) and not is_composite
        self._split = splitter(self._action_space) if one_by_one else None
        space = self._action_space
        self._start = space.start if isinstance(space, gym.spaces.Discrete) and space.dtype == np.int64 else None
        self._is_masked = spaces.is_masked(self.space)
        self.groups = [slice(0, env.num_envs)] if self.host is None else self.host.groups
        self.info_keys = tuple(info_keys if self.host is None else self.host.info_keys)
        self._reader = VectorReader(env, info_keys) if self.host is None else None
        self._has_warned = False
        self.resetting = np.zeros(env.num_envs, bool)
        self._all_valid = np.ones(env.num_envs, bool)
        self._actions: Any = None

    def reset(self, seed: int, purpose: Purpose, start: int = 0, first: int = 0) -> Any:
        """First observations, (N, ...), after a reset of every environment with its own of `environment_seeds`."""
        seeds: Any = environment_seeds(seed, purpose, self.env.num_envs, first=first, start=start)
        if not isinstance(self.env.unwrapped, HostVectorEnv | gym.vector.SyncVectorEnv | gym.vector.AsyncVectorEnv):
            seeds = seeds[0]  # environments that are vectors by nature take one seed
        self.resetting[:] = False
        obs = self._reset(seed=seeds)
        return self._as_batch(obs, "the first observation of `env`")

    def _reset(self, **how: Any) -> Any:
        obs, infos = contract.unpack_reset(self.env, self.env.reset(**how))
        if not self._is_masked:
            contract.check_not_forgotten(self.env, infos, "reset")
        return obs

    def reset_some(self, which: NDArray, others: NDArray) -> Any:
        """Resets environments in the midst of their episodes.

        Args:
            which: (N,), True for those to reset.
            others: (N,), True for those that may be reset as well.

        Returns:
            All observations, (N, ...); None where the environments can't be reset one by one.
        """
        known = isinstance(self.env.unwrapped, HostVectorEnv | gym.vector.SyncVectorEnv | gym.vector.AsyncVectorEnv)
        if known or self.mode is AutoresetMode.DISABLED:
            obs = self._reset(options={"reset_mask": which.copy()})
        elif (which | others).all():
            which = which | others
            obs = self._reset()
        else:
            return None
        self.resetting = self.resetting & ~which
        return self._as_batch(obs, "an observation of `env`")

    def leaves_of(self, actions: Any) -> list[NDArray]:
        """The distribution's actions, (T, ...), as the actions of an `EpisodeReplay`."""
        return spaces.leaves(self._action_space, self._distribution.to_environment(actions))

    def step(self, actions: Any) -> Transition:
        """Steps all environments with the distribution's actions; see `finish`."""
        if self.host is not None:
            return self._explained(self.host.advance(self._converted(actions)))
        self.start(actions)
        return self.finish()

    def start(self, actions: Any, group: int = 0) -> None:
        """Starts a step of a group of environments, on which workers go on until `finish`."""
        if self.host is None:
            self._actions = actions
        else:
            self.host.start(self._converted(actions), group)

    def finish(self, group: int = 0) -> Transition:
        """Waits for a group's step; raises ValueError for observations that are not of the declared space."""
        if self.host is not None:
            step = self.host.finish(group)
            return step if step.is_plain else self._explained(step)
        obs, rewards, terminated, truncated, infos = self._step(self._converted(self._actions))
        valid, final_obs = self._all_valid, None
        episode_starts = ended = terminated | truncated
        if self.mode is AutoresetMode.NEXT_STEP:
            episode_starts = self.resetting
            if episode_starts.any():
                valid = ~episode_starts
            self.resetting = ended
        elif ended.any():
            cut = np.flatnonzero(truncated & ~terminated)
            if self.mode is AutoresetMode.SAME_STEP:
                final_obs = {i: self._final_obs(infos, i) for i in cut.tolist()}
            else:
                final_obs = {i: jax.tree.map(lambda x, i=i: np.array(x[i]), obs) for i in cut.tolist()}
                # The reset may clear the very arrays that the step handed out.
                rewards, terminated, truncated = np.array(rewards), terminated.copy(), truncated.copy()
                obs = self._reset(options={"reset_mask": ended})
        obs = self._as_batch(obs, "an observation of `env`")
        ends = None if self._reader is None else self._reader.read(infos, ended)
        step = Transition(obs, rewards, terminated, truncated, valid, episode_starts, final_obs or None, ends)
        return self._explained(step)

    def _step(self, actions: Any) -> StepResult:
        """Steps the environment; flags may be 0 and 1, or a list.

        Raises:
            ContractError: it isn't what Gymnasium wants.
        """
        env, nenvs = self.env, self.env.num_envs
        returned = env.step(actions)
        try:
            obs, rewards, terminated, truncated, infos = returned
            forgotten = not self._is_masked and (MASK_KEY in infos or MASK_METHOD in infos)
        except (TypeError, ValueError):
            raise contract.step_error(env, returned) from None
        if forgotten:
            contract.check_not_forgotten(env, infos, "step")
        flags = (contract.to_flags(terminated, nenvs, "terminated"), contract.to_flags(truncated, nenvs, "truncated"))
        return obs, contract.to_rewards(rewards, nenvs), *flags, infos

    def _explained(self, step: Transition) -> Transition:
        """The step as it is; says once that an end which the environment doesn't count is no episode."""
        ends = step.ends
        if ends is not None and not self._has_warned and (ends.lengths == UNEXPLAINED).any():
            self._has_warned = True
            say_error(
                "`env` counts its episodes in info['episode'], but one ended without it: such ends (the loss of a "
                "life?) are learned from, and neither logged nor evaluated. If a time limit ended it, put "
                "RecordEpisodeStatistics around the time limit."
            )
        return step

    def _as_batch(self, obs: Any, what: str) -> Any:
        """Observations as arrays (N, ...) of the space, checked."""
        space, nenvs = self.space, self.env.num_envs
        if type(obs) is np.ndarray and obs.shape == (nenvs, *(space.shape or ())) and obs.dtype == space.dtype:
            return obs
        batch, is_one = spaces.observation(space, obs, what)
        if is_one or {len(leaf) for leaf in spaces.leaves(space, batch)} != {nenvs}:
            raise ValueError(
                f"{what} is not one {space} for each of its {nenvs} environments. Fix its single_observation_space, "
                "or what it returns."
            )
        return batch

    def _converted(self, actions: Any) -> Any:
        if self._start is not None:  # the same, 3 microseconds sooner: 3 % of a step of 8 CartPoles
            if self.host is not None:
                return actions + self._start if self._start else actions
            sent = np.array(actions, np.int64)
            sent += self._start
            return sent
        sent = self._distribution.to_environment(actions)
        if self.host is not None:
            return sent
        # theirs to keep and to change, which an array of JAX is not
        return jax.tree.map(np.array, sent) if self._split is None else self._split([sent])

    def _final_obs(self, infos: dict[str, Any], env: int) -> Any:
        given = infos.get("final_obs")
        if given is None:
            raise ValueError(
                "`env` resets in the same step (autoreset_mode SAME_STEP) but gives no infos['final_obs'], without "
                "which truncated episodes can't be bootstrapped. Give it as Gymnasium >= 1.0 does, or use another "
                "autoreset mode."
            )
        if given[env] is None:
            raise ContractError(
                f"`env` gave None as the last observation of environment {env}, whose episode was truncated: the value "
                "of what it would have gone on with counts. Return an observation; None will only do where an episode "
                "is terminated."
            )
        return jax.tree.map(np.array, given[env])  # a copy: the environment may use the memory again


def autoreset_mode(env: AnyVectorEnv) -> AutoresetMode:
    """Gymnasium's mode in which `env` resets episodes that ended; raises ValueError if its metadata name none."""
    declared = env.metadata.get("autoreset_mode")
    try:
        return declared if isinstance(declared, AutoresetMode) else AutoresetMode(declared)
    except ValueError:
        raise ValueError(
            f"`env` ({env}) has metadata['autoreset_mode'] = {declared!r}; it must be one of "
            f"{', '.join(str(mode) for mode in AutoresetMode)} (gymnasium.vector.AutoresetMode), or its episodes' ends "
            "would be misread. Set it to what the environment does."
        ) from None
