"""Craftax and Craftax-Classic, with observations as numbers."""

import dataclasses
from typing import Any

from jaxtyping import PRNGKeyArray

from ppo2.envs.adapters import common
from ppo2.envs.adapters.common import AdaptedEnv, Info

ENDS = (
    "Death and victory are terminations; after `max_timesteps` (100,000; Classic 10,000) it is truncated, unless both "
    "fall on one step: then it terminated."
)
NEVER = 2**30
"""Steps beyond any episode that fit into an int32."""
IDS = ["Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1"]


class Craftax(AdaptedEnv):
    """Craftax with symbolic observations.

    Args:
        name: "Craftax-Symbolic-v1" or "Craftax-Classic-Symbolic-v1".
        kwargs: fields of the environment's parameters, such as `max_timesteps`.

    Raises:
        ValueError: an unknown name or argument.
    """

    prefix = "craftax"

    def __init__(self, name: str, **kwargs: Any) -> None:
        reason = "observations as pixels aren't adapted." if "Pixels" in name else ""
        common.check_name(self.prefix, name, IDS, reason)
        super().__init__(name, kwargs)
        library = common.imported("craftax.craftax_env")
        with common.quiet():
            self._env = library.make_craftax_env_from_name(name, auto_reset=False)
            params = self._env.default_params
            common.check_options(f"craftax:{name}", kwargs, {field.name for field in dataclasses.fields(params)})
            self._params = params.replace(**kwargs)
            space = self._env.observation_space(self._params)
            self.observation_space = common.unbounded(tuple(space.shape))  # oversteps the bounds that it declares
            self.action_space = common.discrete(self._env.num_actions)
        self._unlimited = self._params.replace(max_timesteps=NEVER)

    def _reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        obs, state = self._env.reset_env(key, self._params)
        return state, obs

    def _step(self, state: Any, action: Any, key: PRNGKeyArray) -> tuple[Any, Any, Any, Any, Any, Info]:
        obs, after, reward, ended, info = self._env.step_env(key, state, action, self._params)
        terminated = self._env.is_terminal(after, self._unlimited)
        return after, obs, reward, terminated, ended & ~terminated, info


def ids() -> list[str]:
    return list(IDS)
