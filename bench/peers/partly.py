"""CartPole of which only the positions are seen, as the id "partly:CartPolePositions-v1": imported by Gymnasium when an
environment is made, in whichever library and process. Needs Gymnasium alone.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

POSITIONS = np.array([0, 2])


class Positions(gym.ObservationWrapper[Any, Any, Any]):
    """Drops the two velocities: one observation doesn't tell to which side the pole is falling."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, gym.spaces.Box)
        self.observation_space = gym.spaces.Box(space.low[POSITIONS], space.high[POSITIONS], dtype=np.float32)

    def observation(self, observation: Any) -> Any:
        return observation[POSITIONS]


def positions(**options: Any) -> gym.Env[Any, Any]:
    return Positions(CartPoleEnv(**options))


gym.register("CartPolePositions-v1", entry_point=positions, max_episode_steps=500)
