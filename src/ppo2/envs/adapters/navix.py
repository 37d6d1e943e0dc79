"""Environments of NAVIX, which are MiniGrid's."""

import dataclasses
from typing import Any

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ppo2.envs.adapters import common
from ppo2.envs.adapters.common import AdaptedEnv, StepResult


class Navix(AdaptedEnv):
    """NAVIX's environments; arguments are fields of its Environment, such as `max_steps` and `observation_fn`.

    Observations are bytes. Pictures (`observation_fn=navix.observations.rgb`) remain so; others, numbers of things,
    colours and states, become floats of 0 to 255: NAVIX declares narrower bounds, and oversteps them. An episode's
    randomness comes from the key of its reset.
    """

    prefix = package = "navix"
    remedy = "pip install navix"  # in no extra: it brings 60 packages, wandb, black and pylint among them
    ends = (
        "The library's step type says which: a goal reached or a mishap is a termination; after `max_steps` (100 "
        "unless given) it is truncated, unless both fall on one step: then it terminated."
    )

    @classmethod
    def ids(cls) -> list[str]:
        return sorted(common.imported("navix").registry())

    def _build(self, name: str, **kwargs: Any) -> None:
        library = common.imported("navix")
        fields = dataclasses.fields(library.Environment)
        said = ("height", "width")  # by the name
        self._check_options(kwargs, {f.name: f.default for f in fields if f.name not in said})
        self._env = library.make(name, **kwargs)
        self.max_episode_steps = int(self._env.max_steps)
        shape = tuple(self._env.observation_space.shape)
        if len(shape) < 2:
            raise self._unsupported("observation", f"of shape {shape}")
        is_picture = "rgb" in getattr(self._env.observation_fn, "__name__", "")
        picture = common.box(shape, 0, 255, np.uint8)
        self.observation_space = picture if is_picture else common.box(shape, 0, np.inf, np.float32)
        self.action_space = gym.spaces.Discrete(len(self._env.action_set))

    def _reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        timestep = self._env.reset(key)
        return timestep, timestep.observation

    def _step(self, state: Any, action: Any, key: PRNGKeyArray) -> StepResult:
        after = self._env._step(state, jnp.asarray(action, jnp.int32))  # `step` resets
        return after, after.observation, after.reward, after.is_termination(), after.is_truncation(), {}
