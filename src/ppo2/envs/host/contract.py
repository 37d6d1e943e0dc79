"""Gymnasium's contract: checks of environments and of what `reset` and `step` return; without JAX."""

import inspect
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from ppo2 import spaces
from ppo2.envs.host.env_types import NDArray
from ppo2.envs.host.failures import ContractError, DifferentSpacesError
from ppo2.spaces import MASK_KEY, MASK_METHOD

RESET, STEP = "(observation, info)", "(observation, reward, terminated, truncated, info)"
# without its extras, whose NumPy is older than 2
SHIMMY = "pip install shimmy, then env=lambda: shimmy.GymV21CompatibilityV0(env=...)"
REMEDY = f"Return that; or, if its class is one of the old package gym, convert it with the package shimmy: {SHIMMY}."

NUMBERS = frozenset({float, int, bool, np.float64, np.float32, np.int64, np.int32, np.bool_})
"""Types of rewards that need no look."""
FLAGS = frozenset({bool, np.bool_})
"""Types of `terminated` and `truncated` that need no look."""


def check_members(env: Any, name: str = "env") -> None:
    """Checks an environment before its first reset: spaces, and arguments of `reset`.

    Args:
        env: a gymnasium.Env or gymnasium.vector.VectorEnv.
        name: the argument's name, for errors.

    Raises:
        TypeError: a space is missing or none of Gymnasium's.
        ContractError: `reset` doesn't take `seed` and `options`.
    """
    is_vector = isinstance(env, gym.vector.VectorEnv)
    whose = f"`{name}` ({_class_of(env)})"
    for kind in ("observation_space", "action_space"):
        member = f"single_{kind}" if is_vector else kind
        space = getattr(env, member, None)
        if not isinstance(space, gym.Space):
            found = "has none" if space is None else f"has {space!r}, a {_type_name(space)}"
            raise TypeError(
                f"{whose}: `{member}` must be a space of gymnasium.spaces, such as gymnasium.spaces.Box or Discrete; "
                f"it {found}. Set it in __init__, as Gymnasium >= 1.0 wants. (The package shimmy converts "
                f"environments of the old package gym, with their spaces: {SHIMMY}.){_around(env)}"
            )
    if is_vector and not isinstance(getattr(env, "num_envs", None), int | np.integer):
        raise TypeError(f"{whose}: `num_envs` must be the number of its environments. Set it in __init__.")
    taker = _resetting_layer(env)
    try:
        inspect.signature(taker.reset).bind(seed=0, options=None)
    except TypeError as error:
        raise ContractError(
            f"{whose}: {_class_of(taker)}.reset() can't be called as Gymnasium >= 1.0 does, reset(seed=..., "
            f"options=...): {error}. Define it as `def reset(self, *, seed=None, options=None)`, and let it return "
            f"{RESET}; or, if its class is one of the old package gym, convert it with the package shimmy: {SHIMMY}."
        ) from None
    except ValueError:  # a function without a signature
        pass


def _around(env: Any) -> str:
    """Words for Gymnasium's wrappers around a vector environment in another form."""
    inner = env
    while isinstance(inner, gym.vector.VectorWrapper):
        inner = inner.env
    if inner is env or not hasattr(inner, "step_wait"):
        return ""
    return f" Pass the {type(inner).__name__} inside it as it is: Gymnasium's wrappers don't fit around one."


def _resetting_layer(env: Any) -> Any:
    """The outermost layer whose `reset` isn't one of Gymnasium's, which pass their arguments on."""
    while isinstance(env, gym.Wrapper | gym.vector.VectorWrapper) and getattr(
        type(env).reset, "__module__", ""
    ).startswith("gymnasium."):
        env = env.env
    return env


def check_seeds(seeds: Iterable[int | None]) -> None:
    """Raises ValueError for a seed that none of Gymnasium's environments could take."""
    for seed in seeds:
        if seed is not None and seed < 0:
            raise ValueError(f"`seed` (={seed}) must be a whole number of at least 0, or None.")


def unpack_reset(env: Any, returned: Any) -> tuple[Any, Mapping[str, Any]]:
    """The observation and the info that `reset` returned.

    Raises:
        ContractError: it returned something else.
    """
    if type(returned) is tuple and len(returned) == 2 and type(returned[1]) is dict:  # asking for a Mapping takes long
        return returned
    if isinstance(returned, tuple | list) and len(returned) == 2 and isinstance(returned[1], Mapping):
        return returned[0], returned[1]
    raise ContractError(f"{_returned(env, 'reset', returned)} wants {RESET}, with a dict as info. {REMEDY}")


def unpack_step(env: Any, returned: Any) -> tuple[Any, Any, Any, Any, Any]:
    """The five values that `step` returned, as they are.

    Raises:
        ContractError: it returned something else.
    """
    try:
        obs, reward, terminated, truncated, info = returned
    except (TypeError, ValueError):
        raise step_error(env, returned) from None
    return obs, reward, terminated, truncated, info


def step_error(env: Any, returned: Any) -> ContractError:
    """The error for what `step` returned, which isn't five values, or has no dict as info."""
    if isinstance(returned, tuple | list) and len(returned) == 5:
        found = f"an info that is {_type_name(returned[4])}"
        return ContractError(
            f"`env`: {_class_of(env)}.step() returned {found}; Gymnasium >= 1.0 wants {STEP}, with a dict as info. "
            "Return {} where there is nothing to say."
        )
    return ContractError(f"{_returned(env, 'step', returned)} wants {STEP}. {REMEDY}")


def _returned(env: Any, method: str, returned: Any) -> str:
    """Words for what a method returned, up to what is wanted."""
    if isinstance(returned, tuple | list):
        found = f"{len(returned)} values"
        if method == "reset" and len(returned) == 2:
            found = f"2 values, of which the second is {_type_name(returned[1])}"
    elif isinstance(returned, np.ndarray):
        found = f"one array, of shape {returned.shape}"
    else:
        found = "None" if returned is None else f"one value, of type {_type_name(returned)}"
    return f"`env`: {_class_of(env)}.{method}() returned {found}; Gymnasium >= 1.0"


def to_number(value: Any, what: str) -> float:
    """A reward as a number; `what` names it, for errors.

    Raises:
        ContractError: it is no real number, nor an array of one.
    """
    if isinstance(value, numbers.Real):
        return float(value)
    array = _array(value)
    if array is None or array.size != 1 or array.dtype.kind not in "biuf":
        raise ContractError(f"`env` gave {what}; it must be one number. Fix what `step` returns.")
    return float(array.reshape(()))


def to_flag(value: Any, what: str) -> bool:
    """`terminated` or `truncated` as a boolean; `what` names it, for errors.

    Raises:
        ContractError: it is neither True nor False, 1 nor 0, nor an array of one of them.
    """
    array = None if value is None else _array(value)
    if array is None or array.size != 1 or array.dtype.kind not in "biuf" or float(array.reshape(())) not in (0, 1):
        raise ContractError(f"`env` gave {what}; it must be True or False. Fix what `step` returns.")
    return bool(array.reshape(()))


def to_rewards(given: Any, count: int) -> NDArray:
    """Rewards of a vector environment as an array (N,). (N, 1) means the same.

    Raises:
        ContractError: they are no numbers, or another number of them.
    """
    array = _array(given)
    if array is not None and array.dtype.kind == "O" and array.shape == (count,):
        array = np.array([to_number(one, f"reward = {one!r} in environment {i}") for i, one in enumerate(array)])
    return _column(array, given, count, "rewards", "a number")


def to_flags(given: Any, count: int, name: str) -> NDArray:
    """`terminated` or `truncated` of a vector environment as booleans (N,). (N, 1) means the same.

    Raises:
        ContractError: they are neither booleans nor 0 and 1, or another number of them.
    """
    array = _column(_array(given), given, count, name, "True or False")
    if array.dtype.kind != "b" and not np.isin(array, (0, 1)).all():
        wrong = int(np.argmin(np.isin(array, (0, 1))))
        raise ContractError(
            f"`env` gave {name} = {array[wrong]!r} in environment {wrong}; it must be True or False. Fix what `step` "
            "returns."
        )
    return array.astype(bool, copy=False)


def _column(array: NDArray | None, given: Any, count: int, name: str, what: str) -> NDArray:
    if array is None or array.dtype.kind not in "biuf" or array.shape not in ((count,), (count, 1)):
        found = f"{given!r}" if array is None or array.dtype.kind == "O" else f"of shape {array.shape}, {array.dtype}"
        raise ContractError(
            f"`env` gave {name} {found}; expected an array of shape ({count},), {what} for each of its {count} "
            "environments. Fix what `step` returns."
        )
    return array.reshape(count)


def check_not_forgotten(env: Any, info: Mapping[str, Any], method: str) -> None:
    """Raises ContractError for an action mask that comes too late, as nothing was said of it at the first reset."""
    if MASK_METHOD in info and MASK_KEY not in info:
        raise ContractError(
            f"`env`: {_class_of(env)}.{method}() gave info[{MASK_METHOD!r}]; masks are read from info[{MASK_KEY!r}], "
            "at every reset and step: name it so."
        )
    if MASK_KEY in info:
        raise ContractError(
            f"`env`: {_class_of(env)}.{method}() gave info[{MASK_KEY!r}], but the first reset gave none, so that the "
            "policy doesn't see it and illegal actions would be taken: give it at every reset and step. (Masks are for "
            "Discrete and MultiDiscrete actions, and Tuple and Dict of these.)"
        )


def _array(value: Any) -> NDArray | None:
    """A value as an array; None if it can't be one."""
    try:
        return np.asarray(value)
    except Exception:  # of whatever it is
        return None


def _class_of(env: Any) -> str:
    return type(env.unwrapped).__name__ if hasattr(env, "unwrapped") else type(env).__name__


def _type_name(value: Any) -> str:
    kind = type(value)
    return "None" if value is None else f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def check_alike(env: Any, expected: Mapping[str, gym.Space[Any]], number: int) -> None:
    """Checks an environment among several.

    Args:
        expected: the spaces of environment 0, by kind.
        number: its index, for messages.

    Raises:
        ContractError: it has other spaces, or a method that gives masks, which nobody would ask.
    """
    if not spaces.is_masked(expected["observation"]) and env.has_wrapper_attr(MASK_METHOD):
        raise ContractError(
            f"`env`: environment {number} has a method `{MASK_METHOD}`, which is not asked here: "
            "pass its factory to `learn` or ppo2.make, or let observations be a Dict of observation and "
            "action_mask. (Masks are for Discrete and MultiDiscrete actions, and Tuple and Dict of these.)"
        )
    for kind, space in expected.items():
        found = getattr(env, f"{kind}_space")
        if space != found:
            raise DifferentSpacesError(
                f"`env`: its environments differ in {kind}_space: number 0 has {space}, number {number} {found}. All "
                "must be alike."
            )


def check_action(env: Any, action: Any, space: gym.Space[Any], number: int, error: BaseException) -> None:
    """Raises ContractError if environment `number` raised `error` at an action that isn't of its space."""
    if not space.contains(action):
        raise ContractError(
            f"`actions` have {action!r} for environment {number}, which is no action of {space}, and which "
            f"{_class_of(env)} refused ({type(error).__name__}: {error})."
        ) from error


def checked_step(env: Any, returned: Any, number: int) -> tuple[Any, float, bool, bool, Any]:
    """The five values that a step of an environment returned, each of its own type.

    Args:
        number: the environment's index, for messages.

    Raises:
        ContractError: it returned something else.
    """
    try:  # as `unpack_step`, whose call would cost every step of every environment
        obs, reward, over, cut, info = returned
    except (TypeError, ValueError):
        raise step_error(env, returned) from None
    if type(info) is not dict and not isinstance(info, Mapping):
        raise step_error(env, returned)
    if type(reward) in NUMBERS and type(over) in FLAGS and type(cut) in FLAGS:
        return obs, reward, over, cut, info
    where = f"in environment {number}"
    return (
        obs,
        to_number(reward, f"reward = {reward!r} {where}"),
        to_flag(over, f"terminated = {over!r} {where}"),
        to_flag(cut, f"truncated = {cut!r} {where}"),
        info,
    )
