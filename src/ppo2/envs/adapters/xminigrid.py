"""Environments of XLand-MiniGrid: MiniGrid's rooms, and XLand's rooms with rules."""

from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import PRNGKeyArray

from ppo2.envs.adapters import common
from ppo2.envs.adapters.common import AdaptedEnv, StepResult


class XMiniGrid(AdaptedEnv):
    """XLand-MiniGrid's environments; arguments are fields of their parameters, such as `view_size` and `max_steps`.

    Observations are the agent's view, (view_size, view_size, 2): kind and colour of each tile. They are categories,
    hence MultiDiscrete, which networks see as one-hots.
    """

    prefix = package = "xminigrid"
    remedy = common.JAX_ENVS
    ends = (
        "A goal reached is a termination (the library's discount of 0); after `max_steps` it is truncated, unless both "
        "fall on one step: then it terminated."
    )

    @classmethod
    def ids(cls) -> list[str]:
        return sorted(common.imported("xminigrid").registered_environments())

    def _build(self, name: str, **kwargs: Any) -> None:
        self._env, params = common.imported("xminigrid").make(name)
        self._check_options(kwargs, common.fields_of(params))
        self._params = params.replace(**kwargs)
        self.max_episode_steps = self._params.max_steps
        shape = self._env.observation_shape(self._params)
        constants = common.imported("xminigrid.core.constants")
        kinds = np.array([constants.NUM_TILES, constants.NUM_COLORS])
        self.observation_space = gym.spaces.MultiDiscrete(np.broadcast_to(kinds, shape), dtype=np.uint8)
        self.action_space = gym.spaces.Discrete(int(self._env.num_actions(self._params)))

    def _reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        timestep = self._env.reset(self._params, key)
        return timestep, timestep.observation

    def render(self, state: Any) -> Any:
        """A picture of a state, (height, width, 3) of bytes."""
        return self._env.render(self._params.replace(render_mode="rgb_array"), state)

    def _step(self, state: Any, action: Any, key: PRNGKeyArray) -> StepResult:
        after = self._env.step(self._params, state, action)
        terminated = after.discount == 0
        return after, after.observation, after.reward, terminated, after.last() & ~terminated, {}
