"""Environments of Pgx for one player: its MinAtar, which is under the GPL."""

from typing import Any

import gymnasium as gym
from jaxtyping import PRNGKeyArray

from ppo2.envs.adapters import common
from ppo2.envs.adapters.common import AdaptedEnv, Info

ENDS = (
    "A game that is over is a termination. There are no time limits, but for Freeway's 2500 steps, which truncate "
    "(Pgx itself says terminated)."
)


class Pgx(AdaptedEnv):
    """Pgx's MinAtar; observations are planes of zeros and ones, (10, 10, channels).

    Args:
        name: such as "minatar-breakout".

    Raises:
        ValueError: an unknown name, an argument, or a game that isn't for one agent with all actions legal.
    """

    prefix = "pgx"

    def __init__(self, name: str, **kwargs: Any) -> None:
        common.check_name(self.prefix, name, ids(), _refusal(name))
        common.check_options(f"pgx:{name}", kwargs, ())
        super().__init__(name, kwargs)
        with common.quiet():
            self._env = common.imported("pgx").make(name)
            self.observation_space = gym.spaces.MultiBinary(self._env.observation_shape)
            self.action_space = common.discrete(self._env.num_actions)

    def _reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        state = self._env.init(key)
        return state, state.observation

    def _step(self, state: Any, action: Any, key: PRNGKeyArray) -> tuple[Any, Any, Any, Any, Any, Info]:
        after = self._env.step(state, action, key)
        over, limit = after.terminated, getattr(after, "_terminate_timer", None)
        # Freeway has no other end than its timer's.
        truncated = after.truncated if limit is None else after.truncated | (limit < 0)
        return after, after.observation, after.rewards[0], over & ~truncated, truncated, {}


def _refusal(name: str) -> str:
    if name not in common.imported("pgx").available_envs():
        return ""
    if name == "2048":
        return "most of its actions are illegal at a time, and device environments have no action masks yet."
    return f"{name!r} is a game of several players, and ppo2 trains one agent."


def ids() -> list[str]:
    return sorted(name for name in common.imported("pgx").available_envs() if name.startswith("minatar-"))
