"""How single environments are made, in whatever process; without JAX, for the workers."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from ppo2.envs.group import AnyEnv, Factory, traits
from ppo2.envs.masking import MaskedEnv


@dataclass(frozen=True)
class FromSpec:
    """Makes environments of a registered kind. The spec travels, not the id, which another process may not know.

    Gymnasium's wrappers that check the order of calls and count steps cost a fifth of a CartPole's step: the first is
    left out, as whoever steps these environments does reset them, and the steps are counted by `Group`.

    Attributes:
        spec: as registered.
        kwargs: for the constructor.
        max_episode_steps: after which an episode is cut; None: never.
        wrappers: around it, innermost first.
    """

    spec: EnvSpec
    kwargs: Mapping[str, Any]
    max_episode_steps: int | None
    wrappers: tuple[Callable[[AnyEnv], AnyEnv], ...] = ()

    def __call__(self) -> AnyEnv:
        spec = dataclasses.replace(self.spec, order_enforce=False, max_episode_steps=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what libraries say of their own constructors is not for our users
            env: AnyEnv = gym.make(spec, disable_env_checker=True, **self.kwargs)
        inner = env.unwrapped
        space = vars(inner).get("action_space")
        if type(space) is gym.spaces.Discrete:
            inner.action_space = _QuickDiscrete(space)
        for wrap in self.wrappers:
            env = wrap(env)
        return env


class _QuickDiscrete(gym.spaces.Discrete):
    """The same space. Many environments assert that an action is in it, and the answer takes a third of a CartPole's
    step (1.7 to 2.3 of 6 microseconds with Gymnasium 1.4).
    """

    def __init__(self, space: gym.spaces.Discrete) -> None:
        super().__init__(space.n, start=space.start, dtype=space.dtype.type)
        self._choices = frozenset(range(int(space.start), int(space.start + space.n)))

    def contains(self, x: Any) -> bool:
        return (type(x) is int and x in self._choices) or super().contains(x)


class Masked:
    """Makes environments whose masks, in `info`, become part of their observations."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        vars(self).update(traits(factory))

    def __call__(self) -> AnyEnv:
        return MaskedEnv(self._factory())
