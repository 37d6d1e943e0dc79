"""Common parts of the adapters: the base class, spaces, checks of names and arguments, silence of libraries."""

import abc
import contextlib
import difflib
import importlib
import io
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped, UInt32

from ppo2.envs.device.env import strongly_typed
from ppo2.numerics.randomness import abstract_key
from ppo2.spaces import device_dtype

AnySpace: TypeAlias = gym.Space[Any]
AnyBox: TypeAlias = "gym.spaces.Box[Any]"
Obs: TypeAlias = Shaped[Array, "*obs"]
Info: TypeAlias = dict[str, Any]
Result: TypeAlias = tuple[Any, Obs, Float[Array, ""], Bool[Array, ""], Bool[Array, ""], Info]


class AdaptedEnv(abc.ABC):
    """Base class of a library's environments as device environments.

    A value: equal and hashed by class, name and keyword arguments, so that compiled programs can be cached by it.
    `_reset` and `_step` call the library; their results are made to keep the contract: a state whose dtypes never
    change, observations of the space's dtype, and flags that are never both True.

    Attributes:
        observation_space, action_space: spaces of one environment.

    Raises:
        ValueError: a keyword argument that can't be hashed.
    """

    prefix: ClassVar[str]
    observation_space: AnySpace
    action_space: AnySpace

    def __init__(self, name: str, kwargs: Mapping[str, Any]) -> None:
        self.name, self.kwargs = name, tuple(sorted((key, _hashable(key, value)) for key, value in kwargs.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AdaptedEnv) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.kwargs)
        return f"{self.prefix}:{self.name}" + (f"({arguments})" if arguments else "")

    def _identity(self) -> Hashable:
        # with the type of each value: 1 == True == 1.0, but an environment may tell them apart
        return type(self), self.name, self.kwargs, tuple(type(value) for _, value in self.kwargs)

    @abc.abstractmethod
    def _reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        """Calls the library's reset; returns (state, obs)."""

    @abc.abstractmethod
    def _step(self, state: Any, action: Any, key: PRNGKeyArray) -> tuple[Any, Any, Any, Any, Any, Info]:
        """Calls the library's step, without any reset; returns (state, obs, reward, terminated, truncated, info)."""

    def reset(self, key: PRNGKeyArray) -> tuple[Any, Obs]:
        with quiet():
            state, obs = self._reset(key)
        return jax.tree.map(strongly_typed, state), self._observed(obs)

    def step(self, state: Any, action: Any, key: PRNGKeyArray) -> Result:
        # a copy, as some libraries write into the dicts of the state that they are given
        copy = jax.tree.map(lambda leaf: leaf, state)
        with quiet():
            after, obs, reward, terminated, truncated, info = self._step(copy, action, key)
        after = jax.tree.map(self._steady, after, state)
        terminated = jnp.asarray(terminated, bool).reshape(())
        truncated = jnp.asarray(truncated, bool).reshape(()) & ~terminated
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        return after, self._observed(obs), reward, terminated, truncated, jax.tree.map(strongly_typed, dict(info))

    def _observed(self, obs: Any) -> Obs:
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


def _hashable(key: str, value: Any) -> Hashable:
    frozen: Any = tuple(value) if isinstance(value, list) else value
    try:
        hash(frozen)
    except TypeError:
        raise ValueError(
            f"`{key}` (={value!r}) can't be hashed; an environment is known by its id and keyword arguments, so pass "
            "numbers, text or tuples of them."
        ) from None
    return frozen  # type: ignore[no-any-return]


# --- spaces -------------------------------------------------------------------------------------------------------


def box(low: Any, high: Any, shape: tuple[int, ...], dtype: Any = np.float32) -> AnyBox:
    """A Box whose bounds are single numbers or arrays, of NumPy or JAX, of any dtype."""
    lowest, highest = (np.broadcast_to(np.asarray(bound, dtype), shape).copy() for bound in (low, high))
    space: AnyBox = gym.spaces.Box(lowest, highest, shape, dtype=np.dtype(dtype).type)
    return space


def unbounded(shape: tuple[int, ...]) -> AnyBox:
    """A Box of any float32 numbers, for libraries that declare no bounds."""
    return box(-np.inf, np.inf, shape)


def observed(declared: AnySpace, reset: Callable[[PRNGKeyArray], tuple[Any, Any]]) -> AnySpace:
    """A declared space with its shape and kind of number corrected to what `reset` returns."""
    with quiet():
        obs = jax.eval_shape(lambda key: reset(key)[1], abstract_key())
    if not isinstance(declared, gym.spaces.Box):
        return declared
    if declared.shape != obs.shape:
        return unbounded(obs.shape)
    # floats declared as integers would be rounded
    wrong = np.issubdtype(declared.dtype, np.integer) and jnp.issubdtype(obs.dtype, jnp.floating)
    return box(declared.low, declared.high, declared.shape) if wrong else declared


def discrete(n: Any) -> gym.spaces.Discrete:
    """A Discrete space of 0 to n - 1."""
    return gym.spaces.Discrete(int(n))


def unsupported(env: object, kind: str, space: object) -> TypeError:
    """Error for a space that isn't supported."""
    return TypeError(
        f"`env` (={str(env)!r}) has the {kind} space {space}; known are Box, Discrete, MultiDiscrete and MultiBinary."
    )


# --- names and arguments ------------------------------------------------------------------------------------------


def check_name(prefix: str, name: str, known: Sequence[str], reason: str = "") -> None:
    """Raises ValueError, with the closest known names, for an unknown one; `reason`: why it can't be made, if known."""
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    reason = reason or f"{prefix} has no environment of this name that can be made."
    which = f"The closest known are {', '.join(close)}." if close else f"Known are {', '.join(known)}."
    raise ValueError(f"`env` (={f'{prefix}:{name}'!r}): {reason} {which}")


def check_options(env_id: str, kwargs: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raises ValueError for keyword arguments that the environment doesn't take."""
    known = sorted(known)
    for key, value in kwargs.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else "."
            takes = ", ".join(f"`{option}`" for option in known) or "none"
            raise ValueError(f"`{key}` (={value!r}) is no argument of `env` (={env_id!r}), which takes {takes}{hint}")


def check_counts(counts: Mapping[str, Any]) -> None:
    """Raises ValueError for a value that isn't a whole number of at least 1."""
    for key, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{key}` (={value!r}) must be a whole number of at least 1.")


# --- libraries ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides warnings of libraries while they are imported or traced, which users can't mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def raw(key: PRNGKeyArray) -> UInt32[Array, " 2"]:
    """A key as an array of two integers, for libraries that were written before JAX had typed keys."""
    bits: Array = jax.random.key_data(key)
    return bits


def imported(module: str) -> Any:
    """Imports a module without its warnings and output."""
    with quiet(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return importlib.import_module(module)
