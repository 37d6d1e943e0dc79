"""Environments of NAVIX, which are MiniGrid's."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ppo2.envs.adapters import common
from ppo2.envs.adapters.common import AdaptedEnv, Info

ENDS = (
    "The library's step type says which: a goal reached or a mishap is a termination; after `max_steps` (100 unless "
    "given) it is truncated, unless both fall on one step: then it terminated."
)


class Navix(AdaptedEnv):
    """NAVIX's environments.

    Observations are bytes. Pictures (`observation_fn=navix.observations.rgb`) remain so; others, numbers of things,
    colours and states, become floats of 0 to 255: NAVIX declares narrower bounds, and oversteps them. An episode's
    randomness comes from the key of its reset.

    Args:
        name: such as "Navix-DoorKey-8x8-v0".
        kwargs: fields of the library's Environment, such as `max_steps` and `observation_fn`.

    Raises:
        ValueError: an unknown name or argument.
        TypeError: observations that are no grid.
    """

    prefix = "navix"

    def __init__(self, name: str, **kwargs: Any) -> None:
        common.check_name(self.prefix, name, ids())
        super().__init__(name, kwargs)
        library = common.imported("navix")
        fields = {field.name for field in dataclasses.fields(library.Environment)}
        common.check_options(f"navix:{name}", kwargs, fields - {"height", "width"})  # which the name says
        with common.quiet():
            self._env = library.make(name, **kwargs)
        shape = tuple(self._env.observation_space.shape)
        if len(shape) < 2:
            raise common.unsupported(self, "observation", f"of shape {shape}")
        is_picture = "rgb" in getattr(self._env.observation_fn, "__name__", "")
        self.observation_space = common.box(0, 255, shape, np.uint8 if is_picture else np.float32)
        self.action_space = common.discrete(len(self._env.action_set))

    def _reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        timestep = self._env.reset(key)
        return timestep, timestep.observation

    def _step(self, state: Any, action: Any, key: PRNGKeyArray) -> tuple[Any, Any, Any, Any, Any, Info]:
        after = self._env._step(state, jnp.asarray(action, jnp.int32))  # `step` resets
        return after, after.observation, after.reward, after.is_termination(), after.is_truncation(), {}


def ids() -> list[str]:
    return sorted(common.imported("navix").registry())
