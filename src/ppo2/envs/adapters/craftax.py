"""Craftax and Craftax-Classic, with observations as numbers."""

from typing import Any

import gymnasium as gym
from jaxtyping import PRNGKeyArray

from ppo2.envs.adapters import common
from ppo2.envs.adapters.common import AdaptedEnv, StepResult


class Craftax(AdaptedEnv):
    """Craftax with symbolic observations; arguments are fields of its parameters, such as `max_timesteps`."""

    prefix = package = "craftax"
    remedy = "pip install craftax"  # in no extra: it asks for pygame, which overwrites the files of pygame-ce
    ends = (
        "Death and victory are terminations; after `max_timesteps` (100,000; Classic 10,000) it is truncated, unless "
        "both fall on one step: then it terminated."
    )

    @classmethod
    def ids(cls) -> list[str]:
        return ["Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1"]

    @classmethod
    def _refusal(cls, name: str) -> str:
        return "observations as pixels aren't adapted." if "Pixels" in name else ""

    def _build(self, name: str, **kwargs: Any) -> None:
        self._env = common.imported("craftax.craftax_env").make_craftax_env_from_name(name, auto_reset=False)
        params = self._env.default_params
        self._check_options(kwargs, common.fields_of(params))
        self._params = params.replace(**kwargs)
        self.max_episode_steps = int(self._params.max_timesteps)
        self._unlimited = self._params.replace(max_timesteps=common.NEVER)
        space = self._env.observation_space(self._params)
        self.observation_space = common.box(tuple(space.shape))  # oversteps the bounds that it declares
        self.action_space = gym.spaces.Discrete(int(self._env.num_actions))

    def _reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        obs, state = self._env.reset_env(key, self._params)
        return state, obs

    def _step(self, state: Any, action: Any, key: PRNGKeyArray) -> StepResult:
        obs, after, reward, ended, info = self._env.step_env(key, state, action, self._params)
        terminated = self._env.is_terminal(after, self._unlimited)
        return after, obs, reward, terminated, ended & ~terminated, info
