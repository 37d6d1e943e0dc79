"""Factories of single environments, called in whatever process; without JAX, for the workers."""

import contextlib
import copy
import dataclasses
import functools
import importlib.util
import operator
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from ppo2 import spaces
from ppo2.envs.families.masks import MaskedEnv
from ppo2.envs.host.env_types import AnyEnv, EnvTraits, Factory, NDArray
from ppo2.envs.host.episode_statistics import recorder_in
from ppo2.envs.host.registrations import portable_spec


@dataclass(frozen=True)
class Options:
    """Options of `ppo2.make` for any environment.

    Attributes:
        max_episode_steps: steps after which an episode is truncated; None: as registered.
        reward_scale: factor of rewards, for training: logs have unscaled returns.
        frame_stack: number of observations that make one, the newest last: images along their channels, others along
            the last axis; None: as the family's treatment has it.
        flatten: True makes observations vectors, Discrete parts one-hot.

    Raises:
        ValueError: a value out of range.
    """

    max_episode_steps: int | None = None
    reward_scale: float = 1.0
    frame_stack: int | None = None
    flatten: bool = False

    def __post_init__(self) -> None:
        for name in ("max_episode_steps", "frame_stack"):
            value = getattr(self, name)
            if value is not None and not (type(value) is int and value >= 1):
                raise ValueError(f"`{name}` (={value!r}) must be a whole number of at least 1, or None.")
        scale: Any = self.reward_scale
        if isinstance(scale, bool | str | None) or not np.isfinite(scale) or scale == 0:
            raise ValueError(f"`reward_scale` (={self.reward_scale!r}) must be a finite number that is not 0.")
        if not isinstance(self.flatten, bool):
            raise ValueError(f"`flatten` (={self.flatten!r}) must be True or False.")


class SpecFactory(EnvTraits):
    """Makes registered environments. The spec travels, not the id, which another process may not know.

    Gymnasium's wrappers that check the order of calls and count steps cost a fifth of a CartPole's step: the first is
    left out, as these environments are always reset before they are stepped; `SerialEnvs` counts the steps.

    Args:
        spec: the registered environment.
        kwargs: for the constructor.
        options: see `Options`.
        wrappers: wrappers of the environment's family, innermost first.
    """

    def __init__(
        self, spec: EnvSpec, kwargs: Mapping[str, Any], options: Options, wrappers: Sequence[Callable[..., AnyEnv]] = ()
    ) -> None:
        limit = spec.max_episode_steps if options.max_episode_steps is None else options.max_episode_steps
        self.max_episode_steps = limit
        # Gymnasium's own environments take an integer for what it is.
        self.python_integers = str(spec.entry_point).startswith("gymnasium.envs.") and not spec.additional_wrappers
        self._spec = dataclasses.replace(spec, order_enforce=False, max_episode_steps=None)
        self._kwargs, self._options, self._wrappers = kwargs, options, wrappers

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        return {**state, "_spec": portable_spec(state["_spec"])} if "_spec" in state else state

    def _made(self) -> AnyEnv:
        """An environment without treatment."""
        with _quiet(self._spec):
            env: AnyEnv = gym.make(self._spec, disable_env_checker=True, **self._kwargs)
        space = vars(env.unwrapped).get("action_space")
        if type(space) is gym.spaces.Discrete:
            env.unwrapped.action_space = QuickDiscrete(space)
        return env

    def with_kwargs(self, **kwargs: Any) -> "SpecFactory":
        """The same, with other arguments of the constructor too."""
        other = copy.copy(self)
        other._kwargs = {**self._kwargs, **kwargs}
        return other

    def __call__(self) -> AnyEnv:
        env = self._made()
        for wrap in self._wrappers:
            env = wrap(env)
        if self._options.reward_scale != 1.0:
            if recorder_in(env) is None:
                env = gym.wrappers.RecordEpisodeStatistics(env)  # of unscaled rewards
            env = gym.wrappers.TransformReward(env, functools.partial(operator.mul, self._options.reward_scale))
        if self._options.flatten:
            if spaces.is_masked(env.observation_space):
                raise ValueError("`flatten` (=True) would make the action_mask of these observations part of a vector.")
            env = Flatten(env)
        return env if self._options.frame_stack is None else FrameStack(env, self._options.frame_stack)


class OwnFactory(SpecFactory):
    """Makes environments by a user's function or class, with the treatment of `Options`.

    Args:
        factory: makes an environment.
        kwargs: for the factory.
        options: see `Options`.
    """

    def __init__(self, factory: Callable[..., AnyEnv], kwargs: Mapping[str, Any], options: Options) -> None:
        self.max_episode_steps = options.max_episode_steps
        self._factory, self._kwargs, self._options, self._wrappers = factory, kwargs, options, ()

    @property
    def function(self) -> Callable[..., AnyEnv]:
        """The user's function or class."""
        return self._factory

    def _made(self) -> AnyEnv:
        env: Any = self._factory(**self._kwargs)
        if not isinstance(env, gym.Env):
            from ppo2.envs.families.foreign import hint  # imports JAX, which workers do without

            raise TypeError(
                f"`env` is a factory that gave {env!r}; it must make a gymnasium.Env at each call.{hint(env)}"
            )
        made: AnyEnv = env
        inner, limit = made, self._options.max_episode_steps
        while limit is not None and isinstance(inner, gym.Wrapper):
            if isinstance(inner, gym.wrappers.TimeLimit) and inner._max_episode_steps < limit:
                raise ValueError(
                    f"`max_episode_steps` (={limit}) is more than the {inner._max_episode_steps} after which a "
                    "TimeLimit inside the environment ends its episodes; set it where the environment is made."
                )
            inner = inner.env
        return made


@contextlib.contextmanager
def _quiet(spec: EnvSpec) -> Iterator[None]:
    """Silences what libraries say and users can't fix, such as MuJoCo of `settotalmass` in a constructor, or pygame,
    which greets on standard output where the first frame is drawn.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with warnings.catch_warnings(action="ignore"), contextlib.ExitStack() as stack:
        if str(spec.entry_point).startswith("gymnasium.envs.mujoco") and importlib.util.find_spec("mujoco"):
            import mujoco  # comes with the extra

            stack.callback(mujoco.set_mju_user_warning, mujoco.get_mju_user_warning())
            mujoco.set_mju_user_warning(lambda _: None)
        yield


class Flatten(gym.wrappers.FlattenObservation):
    """Gymnasium's wrapper, but an observation that is missing stays missing: it may be an episode's last."""

    def observation(self, observation: Any) -> Any:
        return None if observation is None else super().observation(observation)


class FrameStack(gym.ObservationWrapper[NDArray, Any, Any]):
    """Stacks the last observations, as in Baselines; before the first of them are zeros.

    Images are stacked along their channels, first or last; those without get a last axis. Others are side by side along
    the last axis.

    Raises:
        ValueError: observations that are no array of at least one axis.
    """

    def __init__(self, env: AnyEnv, count: int) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, gym.spaces.Box) or not space.shape:
            raise ValueError(
                f"`frame_stack` (={count}) needs observations that are one array; these are {space}. `flatten=True` "
                "makes them one."
            )
        shape = space.shape
        self._shape = (*shape, 1) if len(shape) == 2 and spaces.looks_like_image(space) else shape
        is_first = len(shape) == 3 and spaces.channels_place(shape) == "first"
        axis = 0 if is_first else len(self._shape) - 1
        before: tuple[slice, ...] = (slice(None),) * axis
        width = self._shape[axis]
        self._earlier, self._later = (*before, slice(None, -width)), (*before, slice(width, None))
        self._newest = (*before, slice(-width, None))
        low, high = np.minimum(space.low, 0), np.maximum(space.high, 0)
        low, high = (np.concatenate([bound.reshape(self._shape)] * count, axis=axis) for bound in (low, high))
        self.observation_space = gym.spaces.Box(low, high, dtype=space.dtype.type)
        self._frames = np.zeros(low.shape, space.dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._frames[:] = 0
        return super().reset(seed=seed, options=options)

    def observation(self, observation: Any) -> Any:
        if observation is None:  # a number of an array can't be; it may be an episode's last
            return None
        self._frames[self._earlier] = self._frames[self._later]
        self._frames[self._newest] = np.reshape(observation, self._shape)
        return self._frames.copy()


class QuickDiscrete(gym.spaces.Discrete):
    """A Discrete space that answers quickly to `contains` of integers, Python's and NumPy's.

    Many environments assert that an action is in their space, which takes a third of a CartPole's step (1.7 to 2.3 of
    6 microseconds with Gymnasium 1.4): without this class training on 8 CartPoles takes 20 % longer (542 updates of
    each, alternating).
    """

    def __init__(self, space: gym.spaces.Discrete) -> None:
        super().__init__(space.n, start=space.start, dtype=space.dtype.type)
        self._choices = frozenset(range(int(space.start), int(space.start + space.n)))

    def contains(self, x: Any) -> bool:
        return (type(x) in _INTEGERS and x in self._choices) or super().contains(x)


_INTEGERS = frozenset({int, np.int64})


class MaskedFactory(EnvTraits):
    """Makes environments whose action masks become part of their observations: see `MaskedEnv`."""

    def __init__(self, factory: Factory, *, by_method: bool) -> None:
        self.factory, self._by_method = factory, by_method
        self.copy_traits(factory)

    def around(self, factory: Factory) -> "MaskedFactory":
        """The same for what another factory makes."""
        return MaskedFactory(factory, by_method=self._by_method)

    def __call__(self) -> AnyEnv:
        return MaskedEnv(self.factory(), by_method=self._by_method)


MINIGRID_CODES = 10
"""Largest code of an object, a colour or a state in MiniGrid."""


def numeric_minigrid(env: AnyEnv) -> AnyEnv:
    """MiniGrid's observations without the mission, which is a text.

    Their "image" is three numbers for each cell (object, colour, state) and no picture, though it is declared as one.
    """
    parts: Any = env.observation_space
    return gym.wrappers.TransformObservation(
        env,
        lambda obs: {"direction": obs["direction"], "image": obs["image"].astype(np.float32)},
        gym.spaces.Dict(
            {"direction": parts["direction"], "image": gym.spaces.Box(0, MINIGRID_CODES, parts["image"].shape)}
        ),
    )
