"""Common parts of the adapters: the base class, spaces, and silence of libraries."""

import abc
import contextlib
import dataclasses
import difflib
import importlib
import inspect
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeAlias

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ppo2.envs.device.env import strongly_typed
from ppo2.numerics.randomness import IMPLEMENTATION
from ppo2.spaces import device_dtype
from ppo2.system.text import install_command

AnySpace: TypeAlias = gym.Space[Any]
StepResult: TypeAlias = tuple[Any, Any, Any, Any, Any, dict[str, Any]]
"""(state, obs, reward, terminated, truncated, info)."""
JAX_ENVS = install_command("jax-envs")
"""Words that say how to install the libraries of the extra."""
NEVER = 2**30
"""Steps beyond any episode that fit into an int32."""


class AdaptedEnv(abc.ABC):
    """Base class of adapters: a subclass turns the environments of one library into device environments.

    A value: equal and hashed by class, name and arguments, so that compiled programs can be cached by it. What `_reset`
    and `_step` return is made to keep the contract: a state whose dtypes never change, observations of the space's
    dtype, and flags that are never both True.

    Args:
        name: an environment's name in the library.
        kwargs: arguments of the library's environment.

    Attributes:
        prefix: text before the colon of an id.
        package: module that must be importable.
        remedy: command that installs the library.
        ends: words that say how terminations and truncations are told apart.
        observation_space, action_space: spaces of one environment, set by `_build`.
        max_episode_steps: steps after which an episode is truncated, set by `_build` where it is known; else None.
        defaults: the arguments that its library's environment takes, with their defaults.

    Raises:
        ValueError: an unknown name or argument, or an argument that can't be hashed.
        TypeError: a space that isn't supported.
    """

    prefix: ClassVar[str]
    package: ClassVar[str]
    remedy: ClassVar[str]
    ends: ClassVar[str]
    observation_space: AnySpace
    action_space: AnySpace
    max_episode_steps: int | None = None
    defaults: Mapping[str, Any]

    def __init__(self, name: str, **kwargs: Any) -> None:
        self.check_name(name)
        self.name = name
        self.kwargs = tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in kwargs.items()))
        for key, value in self.kwargs:
            try:
                hash(value)
            except TypeError:
                raise ValueError(
                    f"`{key}` (={value!r}) can't be hashed; an environment is known by its id and keyword arguments, "
                    "so pass numbers, text or tuples of them."
                ) from None
        # with the type of each value: 1 == True == 1.0, but an environment may tell them apart
        self._identity = (type(self), name, self.kwargs, tuple(type(value) for _, value in self.kwargs))
        with usual_settings():
            self._build(name, **kwargs)

    @classmethod
    @abc.abstractmethod
    def ids(cls) -> list[str]:
        """Names of all that can be made, sorted; imports the library."""

    @classmethod
    def _refusal(cls, name: str) -> str:  # noqa: ARG003
        """Reason why a name of the library is none of `ids`; "" if there is no better one than that."""
        return ""

    @abc.abstractmethod
    def _build(self, name: str, **kwargs: Any) -> None:
        """Makes the library's environment and sets the spaces."""

    @abc.abstractmethod
    def _reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        """Calls the library's reset; returns (state, obs)."""

    @abc.abstractmethod
    def _step(self, state: Any, action: Any, key: PRNGKeyArray) -> StepResult:
        """Calls the library's step, without any reset."""

    def reset(self, key: PRNGKeyArray) -> tuple[Any, Array]:
        with usual_settings():
            state, obs = self._reset(key)
        return jax.tree.map(strongly_typed, state), self._observed(obs)

    def step(self, state: Any, action: Any, key: PRNGKeyArray) -> StepResult:
        # a copy, as some libraries write into the dicts of the state that they are given
        copy = jax.tree.map(lambda leaf: leaf, state)
        with usual_settings():
            after, obs, reward, terminated, truncated, info = self._step(copy, action, key)
        after = jax.tree.map(self._steady, after, state)
        terminated = jnp.asarray(terminated, bool).reshape(())
        truncated = jnp.asarray(truncated, bool).reshape(()) & ~terminated
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        return after, self._observed(obs), reward, terminated, truncated, jax.tree.map(strongly_typed, dict(info))

    def _observed(self, obs: Any) -> Array:
        space = self.observation_space
        return jnp.asarray(obs, device_dtype(space)).reshape(space.shape or ())

    def _steady(self, after: Any, before: Any) -> Array:
        """A leaf of the state in the dtype and shape that it had before the step."""
        new, old = strongly_typed(after), strongly_typed(before)
        if new.dtype == old.dtype and new.shape == old.shape:
            return new
        if new.size != old.size or jnp.promote_types(new.dtype, old.dtype) != old.dtype:
            raise TypeError(
                f"`env` (={str(self)!r}) turns a part of its state from {old.dtype}{old.shape} into "
                f"{new.dtype}{new.shape}; a state must keep its dtypes and shapes to be stepped on the device."
            )
        return new.astype(old.dtype).reshape(old.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AdaptedEnv) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.kwargs)
        return f"{self.prefix}:{self.name}" + (f"({arguments})" if arguments else "")

    @classmethod
    def check_name(cls, name: str) -> None:
        """Raises ValueError, with the closest known names, for an unknown one."""
        known = cls.ids()
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            reason = cls._refusal(name) or f"{cls.prefix} has no environment of this name that can be made."
            which = f"The closest known are {', '.join(close)}." if close else f"Known are {', '.join(known)}."
            raise ValueError(f"`env` (={f'{cls.prefix}:{name}'!r}): {reason} {which}")

    def _check_options(self, kwargs: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        """Raises ValueError for keyword arguments that the environment doesn't take.

        Args:
            defaults: those that it takes, with their defaults.
        """
        self.defaults, known = dict(defaults), sorted(defaults)
        for key in sorted(set(kwargs) - set(known)):
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else "."
            takes = f"takes {', '.join(f'`{option}`' for option in known) or 'none'}{hint}"
            env = f"`env` (='{self.prefix}:{self.name}')"
            raise ValueError(f"`{key}` (={kwargs[key]!r}) is no argument of {env}, which {takes}")

    def _unsupported(self, kind: str, space: object) -> TypeError:
        """Error for a space that isn't supported."""
        known = "known are Box, Discrete, MultiDiscrete and MultiBinary"
        return TypeError(f"`env` (={str(self)!r}) has the {kind} space {space}; {known}.")


def box(shape: tuple[int, ...], low: Any = -np.inf, high: Any = np.inf, dtype: Any = np.float32) -> AnySpace:
    """A Box whose bounds are single numbers or arrays, of NumPy or JAX, of any dtype; by default any numbers."""
    lowest, highest = (np.broadcast_to(np.asarray(bound, dtype), shape).copy() for bound in (low, high))
    return gym.spaces.Box(lowest, highest, shape, dtype=np.dtype(dtype).type)


def fields_of(record: Any) -> dict[str, Any]:
    """Names and values of a dataclass's fields."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def defaults_of(function: Any) -> dict[str, Any]:
    """Names and defaults of a function's parameters; `inspect.Parameter.empty` where there is none."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def quiet() -> Any:
    """Context in which warnings of libraries are hidden, which users can't fix."""
    return warnings.catch_warnings(action="ignore")


@contextlib.contextmanager
def usual_settings() -> Iterator[None]:
    """Context in which a library's code is traced under the settings of JAX that it was written for, and `quiet`.

    That its numbers may be promoted, and its keys of the kind that it makes by itself, is for the library to say.
    """
    with (
        quiet(),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.default_prng_impl(IMPLEMENTATION),
    ):
        yield


def imported(module: str) -> Any:
    """Imports a module without its warnings and output."""
    with quiet(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return importlib.import_module(module)
