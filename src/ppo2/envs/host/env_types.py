"""Types of single and vector environments, of their factories, and what a factory may declare; without JAX."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

AnyEnv = gym.Env[Any, Any]
AnyVectorEnv = gym.vector.VectorEnv[Any, Any, Any]
NDArray = np.ndarray[Any, Any]
Factory = Callable[[], AnyEnv]


class EnvTraits:
    """A factory that says more of its environments; others are taken to say this.

    Attributes:
        max_episode_steps: after so many steps an episode is cut, as Gymnasium's TimeLimit would, which costs more.
        reseeds: whether every episode can begin with a seed; else only the first does.
        counts_episodes: whether `info["episode"]` alone tells of episodes that ended; others end for training's sake.
    """

    max_episode_steps: int | None = None
    reseeds: bool = True
    counts_episodes: bool = False

    def copy_traits(self, other: Factory) -> None:
        """Says what another one says."""
        traits = traits_of(other)
        self.max_episode_steps, self.reseeds = traits.max_episode_steps, traits.reseeds
        self.counts_episodes = traits.counts_episodes


def traits_of(factory: Any) -> EnvTraits:
    return factory if isinstance(factory, EnvTraits) else EnvTraits()
