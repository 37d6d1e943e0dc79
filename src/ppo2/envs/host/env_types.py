"""Types of environments and of their factories, and the traits that a factory may declare; without JAX."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

AnyEnv = gym.Env[Any, Any]
AnyVectorEnv = gym.vector.VectorEnv[Any, Any, Any]
NDArray = np.ndarray[Any, Any]
Factory = Callable[[], AnyEnv]


class EnvTraits:
    """Base class of factories that declare traits of their environments; every other factory has these defaults.

    Attributes:
        max_episode_steps: steps after which an episode is truncated, as by Gymnasium's TimeLimit, which costs more.
        reseeds: True if every episode is reset with a seed; False if only the first one is.
        counts_episodes: True if only `info["episode"]` marks the end of an episode; other ends serve training alone
            (a RecordEpisodeStatistics among the wrappers is found without it).
        python_integers: True if Discrete actions may be Python's integers, which are quicker, as these environments
            can't tell; False gives them NumPy's, as Gymnasium does.
    """

    max_episode_steps: int | None = None
    reseeds: bool = True
    counts_episodes: bool = False
    python_integers: bool = False

    def copy_traits(self, factory: Any) -> None:
        """Declares the traits of another factory."""
        traits = traits_of(factory)
        self.max_episode_steps, self.reseeds = traits.max_episode_steps, traits.reseeds
        self.counts_episodes, self.python_integers = traits.counts_episodes, traits.python_integers


def time_limit_of(env: AnyEnv) -> int | None:
    """Steps after which an environment itself truncates every episode; None if it has no limit, or none that shows."""
    steps: Any = getattr(env.spec, "max_episode_steps", None)
    for name in ("_max_episode_steps", "max_episode_steps", "max_steps"):  # Gymnasium's TimeLimit first
        if env.has_wrapper_attr(name):
            steps = env.get_wrapper_attr(name)
            break
    return int(steps) if isinstance(steps, int | np.integer) and steps > 0 else None


def traits_of(factory: Any) -> EnvTraits:
    """Traits of a factory's environments; attributes of the same names on a user's own class mean nothing here."""
    return factory if isinstance(factory, EnvTraits) else EnvTraits()
