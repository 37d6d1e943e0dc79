"""Stepping a vector environment, whatever its automatic reset: the one place that knows Gymnasium's three modes."""

from typing import Any, NamedTuple

import gymnasium as gym
import jax
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from ppo2 import spaces
from ppo2.envs.local import LocalVectorEnv
from ppo2.randomness import Purpose, environment_seeds

NDArray = np.ndarray[Any, Any]
AnyVectorEnv = VectorEnv[Any, Any, Any]


class Transition(NamedTuple):
    """One step of all environments.

    | field | shape | meaning |
    |---|---|---|
    | obs | (N, ...) | what to act on next: after a reset, the new episode's first |
    | rewards, terminated, truncated | (N,) | as the environments gave them |
    | valid | (N,) | False for a step that only reset its environment (NEXT_STEP) |
    | begins | (N,) | which environments begin an episode with the next step, which a step that only resets doesn't |
    | final_obs | by environment, or None | where an episode was truncated and reset, its last observation |
    """

    obs: Any
    rewards: NDArray
    terminated: NDArray
    truncated: NDArray
    valid: NDArray
    begins: NDArray
    final_obs: dict[int, Any] | None


class Stepper:
    """A vector environment, stepped and reset.

    Args:
        squash: how actions become the environment's: see `ppo2.spaces.to_environment`.

    Raises:
        ValueError: its automatic reset is of no kind that Gymnasium defines.
    """

    def __init__(self, env: AnyVectorEnv, *, squash: bool = False) -> None:
        self.env = env
        self.mode = autoreset_mode(env)
        self.space: spaces.AnySpace = env.single_observation_space
        self._action_space: spaces.AnySpace = env.single_action_space
        self._squash = squash
        # Gymnasium takes a Tuple or Dict of batches apart itself.
        composite = isinstance(self._action_space, gym.spaces.Tuple | gym.spaces.Dict)
        self._one_by_one = isinstance(env, LocalVectorEnv if composite else LocalVectorEnv | gym.vector.SyncVectorEnv)
        # Python's integers pass `Discrete.contains`, which many environments assert, in a fifth of NumPy's time.
        self._as_list = self._one_by_one and isinstance(self._action_space, gym.spaces.Discrete)
        self._start = int(self._action_space.start) if isinstance(self._action_space, gym.spaces.Discrete) else 0
        self._checks_itself = isinstance(env, LocalVectorEnv)
        composite = isinstance(self.space, gym.spaces.Tuple | gym.spaces.Dict)
        self._shape = None if composite else (env.num_envs, *(self.space.shape or ()))
        self._always_valid = np.ones(env.num_envs, bool)
        self._resetting = np.zeros(env.num_envs, bool)  # NEXT_STEP: the coming step of these only resets

    def reset(self, seed: int, purpose: Purpose, start: int = 0) -> Any:
        """The first observations, (N, ...); every environment with a seed of its own.

        Raises:
            ValueError: they are not of the declared space.
        """
        seeds: Any = environment_seeds(seed, purpose, self.env.num_envs, start=start)
        if not isinstance(self.env.unwrapped, LocalVectorEnv | gym.vector.SyncVectorEnv | gym.vector.AsyncVectorEnv):
            seeds = seeds[0]  # environments that are vectors by nature take one seed
        self._resetting[:] = False
        obs, _ = self.env.reset(seed=seeds)
        return self._checked(obs, "the first observation of `env`")

    def step(self, actions: Any) -> Transition:
        """One step, with actions as the policy's distribution gives them.

        Raises:
            ValueError: observations that are not of the declared space.
        """
        obs, rewards, terminated, truncated, infos = self.env.step(self._converted(actions))
        # What a user's environment calls a flag may be 0 and 1, or a list.
        terminated, truncated = np.asarray(terminated, bool), np.asarray(truncated, bool)
        valid, final_obs = self._always_valid, None
        begins = ended = terminated | truncated
        if self.mode is AutoresetMode.NEXT_STEP:
            begins = self._resetting
            if begins.any():
                valid = ~begins
            self._resetting = ended
        elif ended.any():
            cut = np.flatnonzero(truncated & ~terminated)
            if self.mode is AutoresetMode.SAME_STEP:
                final_obs = {i: self._final_obs(infos, i) for i in cut.tolist()}
            else:
                final_obs = {i: jax.tree.map(lambda x, i=i: np.array(x[i]), obs) for i in cut.tolist()}
                # The reset may clear the very arrays that the step handed out.
                rewards, terminated, truncated = np.array(rewards), terminated.copy(), truncated.copy()
                obs, _ = self.env.reset(options={"reset_mask": ended})
        if not self._checks_itself:
            obs = self._checked(obs, "an observation of `env`")
        return Transition(obs, rewards, terminated, truncated, valid, begins, final_obs or None)

    @property
    def resetting(self) -> NDArray:
        """(N,), of which environments the coming step is a reset alone, whatever the action."""
        return self._resetting

    def _checked(self, obs: Any, what: str) -> Any:
        """Observations as arrays (N, ...) of the space; the slow path only where shape or dtype differ."""
        if self._shape is None:
            batch, single = spaces.observation(self.space, obs, what)
            sizes = {len(leaf) for leaf in jax.tree.leaves(batch)}
            if single or sizes != {self.env.num_envs}:
                raise ValueError(
                    f"{what} is not one for each of its {self.env.num_envs} environments, as {self.space}."
                )
            return batch
        if type(obs) is np.ndarray and obs.shape == self._shape and obs.dtype == self.space.dtype:
            return obs
        if np.shape(obs) != self._shape:
            raise ValueError(
                f"{what} has the shape {np.shape(obs)}, but it declares {self.space} for each of its "
                f"{self.env.num_envs} environments, which makes {self._shape}. "
                "Mend its observation_space, or what it returns."
            )
        return spaces.observation(self.space, obs, what)[0]

    def _converted(self, actions: Any) -> Any:
        if self._as_list:
            return [action + self._start for action in actions.tolist()]
        sent = spaces.to_environment(self._action_space, actions, squash=self._squash)
        return spaces.separate(self._action_space, sent) if self._one_by_one else sent

    def _final_obs(self, infos: dict[str, Any], env: int) -> Any:
        given = infos.get("final_obs")
        if given is None:
            raise ValueError(
                "`env` resets in the same step (autoreset_mode SAME_STEP) but gives no infos['final_obs'], without "
                "which truncated episodes can't be bootstrapped. Give it as Gymnasium >= 1.0 does, or use another "
                "autoreset mode."
            )
        return jax.tree.map(np.array, given[env])  # its own: an environment may use the memory again


def autoreset_mode(env: AnyVectorEnv) -> AutoresetMode:
    """How `env` resets episodes that ended.

    Raises:
        ValueError: its metadata don't say, or name no mode of Gymnasium's.
    """
    declared = env.metadata.get("autoreset_mode")
    try:
        return declared if isinstance(declared, AutoresetMode) else AutoresetMode(declared)
    except ValueError:
        raise ValueError(
            f"`env` ({env}) has metadata['autoreset_mode'] = {declared!r}; it must be one of "
            f"{', '.join(str(mode) for mode in AutoresetMode)} (gymnasium.vector.AutoresetMode), or its episodes' ends "
            "would be misread. Set it to what the environment does."
        ) from None
