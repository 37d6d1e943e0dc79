"""Environments that say in `info["action_mask"]` which actions are legal: the mask becomes part of the observation."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ppo2 import spaces

AnyEnv = gym.Env[Any, Any]
AnyVectorEnv = VectorEnv[Any, Any, Any]
KEY = "action_mask"


def gives_mask(env: AnyEnv | AnyVectorEnv) -> bool:
    """Whether the environment's info has a mask and its observations have none. Resets it."""
    _, info = env.reset()
    single = env.single_observation_space if isinstance(env, VectorEnv) else env.observation_space
    return KEY in info and not spaces.is_masked(single)


def _masked_space(space: spaces.AnySpace, mask: Any) -> gym.spaces.Dict:
    shape = np.shape(mask)
    return gym.spaces.Dict({"observation": space, KEY: gym.spaces.Box(0, 1, shape, np.int8)})


class MaskedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """One environment whose observations are {"observation": ..., "action_mask": ...}.

    Raises:
        ValueError: a step without a mask, unless it ends the episode (where nobody looks at it).
    """

    def __init__(self, env: AnyEnv) -> None:
        super().__init__(env)
        _, info = env.reset()
        self._all = np.ones(np.shape(info[KEY]), np.int8)
        self.observation_space = _masked_space(env.observation_space, self._all)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return self._with_mask(obs, info, over=False), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._with_mask(obs, info, over=bool(terminated or truncated)), reward, terminated, truncated, info

    def _with_mask(self, obs: Any, info: dict[str, Any], *, over: bool) -> dict[str, Any]:
        if KEY not in info and not over:
            raise ValueError(
                f"`env` gave no info[{KEY!r}] at a step, but did at its first reset: give it at every one."
            )
        mask = self._all if over else np.asarray(info[KEY], np.int8)
        return {"observation": obs, KEY: mask}


class MaskedVectorEnv(gym.vector.VectorWrapper):
    """The same for a vector environment; its masks are (N, n)."""

    def __init__(self, env: AnyVectorEnv) -> None:
        super().__init__(env)
        _, infos = env.reset()
        self._all = np.ones(np.shape(infos[KEY]), np.int8)
        self.single_observation_space = _masked_space(env.single_observation_space, self._all[0])
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, infos = self.env.reset(seed=seed, options=options)
        masks = self._all.copy()
        given = np.asarray(infos.get(f"_{KEY}", np.ones(self.num_envs, bool)))
        masks[given] = np.asarray(infos[KEY])[given]
        return {"observation": obs, KEY: masks}, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        obs, rewards, terminated, truncated, infos = self.env.step(actions)
        ended = np.asarray(terminated, bool) | np.asarray(truncated, bool)
        masks = self._all.copy()
        given = np.asarray(infos.get(f"_{KEY}", np.zeros(self.num_envs, bool)))
        if KEY in infos:
            masks[given] = np.asarray([np.asarray(mask, np.int8) for mask in np.asarray(infos[KEY])[given]])
        if self.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP:
            masks[ended] = 1
        if not np.all(given | ended):
            missing = int(np.argmin(given | ended))
            raise ValueError(f"`env` gave no infos[{KEY!r}] for environment {missing}: give it at every step.")
        if "final_obs" in infos:
            infos = {**infos, "final_obs": infos["final_obs"].copy()}
            for i in np.flatnonzero(ended):
                infos["final_obs"][i] = {"observation": infos["final_obs"][i], KEY: self._all[i]}
        return {"observation": obs, KEY: masks}, rewards, terminated, truncated, infos
