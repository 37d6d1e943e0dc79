"""Environments of Pgx for one player: its MinAtar, which is under the GPL."""

from typing import Any

import gymnasium as gym
from jaxtyping import PRNGKeyArray

from ppo2.envs.adapters import common
from ppo2.envs.adapters.common import AdaptedEnv, StepResult


class Pgx(AdaptedEnv):
    """Pgx's MinAtar, without arguments; observations are planes of zeros and ones, (10, 10, channels)."""

    prefix = package = "pgx"
    remedy = "pip install pgx"  # in no extra: its MinAtar is under the GPL, for users to choose
    ends = (
        "A game that is over is a termination. There are no time limits, but for Freeway's 2500 steps, which truncate "
        "(Pgx itself says terminated)."
    )

    @classmethod
    def ids(cls) -> list[str]:
        return sorted(name for name in common.imported("pgx").available_envs() if name.startswith("minatar-"))

    @classmethod
    def _refusal(cls, name: str) -> str:
        if name not in common.imported("pgx").available_envs():
            return ""
        if name == "2048":
            return "most of its actions are illegal at a time, and device environments have no action masks yet."
        return f"{name!r} is a game of several players, and ppo2 trains one agent."

    def _build(self, name: str, **kwargs: Any) -> None:
        self._check_options(kwargs, {})
        self._env = common.imported("pgx").make(name)
        self.observation_space = gym.spaces.MultiBinary(self._env.observation_shape)
        self.action_space = gym.spaces.Discrete(int(self._env.num_actions))

    def _reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        state = self._env.init(key)
        return state, state.observation

    def _step(self, state: Any, action: Any, key: PRNGKeyArray) -> StepResult:
        after = self._env.step(state, action, key)
        truncated = after.truncated
        if hasattr(after, "_terminate_timer"):  # Freeway has no other end than its timer's
            truncated = truncated | (after._terminate_timer < 0)
        return after, after.observation, after.rewards[0], after.terminated & ~truncated, truncated, {}
