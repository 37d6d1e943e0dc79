"""Check of a device environment's contract, by tracing it before anything is compiled or run."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppo2 import spaces
from ppo2.distributions import action_distribution
from ppo2.envs.device.env import DeviceEnv
from ppo2.numerics.randomness import abstract_key
from ppo2.spaces import MASK_KEY, MASK_METHOD

RETURNS = {"reset": ("state", "obs"), "step": ("state", "obs", "reward", "terminated", "truncated", "info")}
"""Values that the methods return."""


def check_device_env(env: DeviceEnv, name: str = "env") -> None:
    """Checks that `env` keeps the contract of `ppo2.envs.device.env`; nothing is run.

    Args:
        name: name of the environment, for errors.

    Raises:
        TypeError: a space that isn't supported.
        ValueError: `reset` or `step` returns something wrong; the message names the field, what was expected and what
            was found.
    """
    spaces.check_observation_space(env.observation_space)
    distribution = action_distribution(env.action_space)
    key = abstract_key()
    action = jax.eval_shape(distribution.to_environment, distribution.action)
    state, obs = _trace(env, name, "reset", key)
    _check_obs(env.observation_space, f"that `{name}`.reset returns", obs)
    by_step, info, is_masked = f"that `{name}`.step returns", None, spaces.is_masked(env.observation_space)
    if hasattr(env, MASK_METHOD) and not is_masked:
        raise ValueError(_mask_error(f"`{name}` has a method `{MASK_METHOD}`, which is not asked on the device"))
    # twice, so that Python code which does something else at a second call shows
    for _ in range(2):
        after, obs, reward, terminated, truncated, new_info = _trace(env, name, "step", state, action, key)
        _check_alike(f"the state {by_step}", "what `reset` returned", state, after)
        _check_obs(env.observation_space, by_step, obs)
        _check_scalar(f"the reward {by_step}", reward, "a number", jnp.number, jnp.bool_)
        _check_scalar(f"the terminated {by_step}", terminated, "bool", jnp.bool_)
        _check_scalar(f"the truncated {by_step}", truncated, "bool", jnp.bool_)
        if not isinstance(new_info, Mapping):
            raise ValueError(f"`{name}`.step must return a dict as `info`; it gave {type(new_info).__name__}.")
        if MASK_KEY in new_info and not is_masked:
            raise ValueError(_mask_error(f"`{name}`.step gives info[{MASK_KEY!r}], but `reset` has no info for one"))
        if MASK_METHOD in new_info and not is_masked:
            raise ValueError(_mask_error(f"`{name}`.step gives info[{MASK_METHOD!r}], which nobody reads"))
        if info is not None:
            _check_alike(f"the info {by_step}", "that of the step before", info, new_info)
        state, info = after, new_info


def _mask_error(words: str) -> str:
    return (
        f"{words}: let observations be a Dict of `observation` and `action_mask`. (Masks are for Discrete and "
        "MultiDiscrete actions, and Tuple and Dict of these.)"
    )


def _trace(env: DeviceEnv, name: str, method: str, *arguments: Any) -> Any:
    """Shapes and dtypes of the values that a method returns."""
    before = _tracers(env)
    kept = (
        f"`{name}`.{method} uses an array that an earlier call kept: environments of JAX must be pure functions. "
        "Carry what changes in `state`, not on `self` or in a global."
    )
    try:
        # a new function for each call, as JAX doesn't trace the same one again
        program, found = jax.make_jaxpr(lambda *given: getattr(env, method)(*given), return_shape=True)(*arguments)
    except jax.errors.UnexpectedTracerError as error:
        raise ValueError(f"{kept} ({_brief(error)})") from error
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:  # Python needs a number
        raise ValueError(
            f"`{name}`.{method} needs the value of an array while it is compiled (an `if`, a loop or a NumPy call on "
            f"it): use jax.numpy, jnp.where, jax.lax.cond or jax.lax.scan. ({_brief(error)})"
        ) from error
    except TypeError as error:
        if "is not a valid JAX type" not in str(error):
            raise
        raise ValueError(f"`{name}`.{method} returns what is no array: {_brief(error)}") from error
    if any(isinstance(constant, jax.core.Tracer) for constant in program.consts):
        raise ValueError(kept)
    leaked = sorted(_tracers(env) - before)
    if leaked:
        raise ValueError(
            f"`{name}`.{method} keeps an array on the environment (`self.{leaked[0]}`), where it is stale as soon as "
            "the method returns: environments of JAX must be pure functions. Carry what changes in `state`."
        )
    is_several = isinstance(found, tuple | list)
    if not is_several or len(found) != len(RETURNS[method]):
        count = f"{len(found)} values" if is_several else f"one value, a {type(found).__name__}"
        raise ValueError(f"`{name}`.{method} must return ({', '.join(RETURNS[method])}); it gave {count}.")
    return found


def _tracers(env: object) -> set[str]:
    """Names of attributes that hold an array of a trace."""
    attributes = getattr(env, "__dict__", {}).items()
    return {name for name, value in attributes if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(value))}


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _shown(found: Any) -> str:
    """An array's dtype and shape, such as float32[2]; else the structure of a pytree."""
    is_array = hasattr(found, "dtype")
    return f"{found.dtype}[{','.join(map(str, found.shape))}]" if is_array else str(jax.tree.structure(found))


def _check_obs(space: spaces.AnySpace, where: str, obs: Any) -> None:
    """Raises ValueError for an observation that isn't of a space."""
    parts = spaces.tree(space)
    wanted = jax.tree.map(lambda part: jax.ShapeDtypeStruct(part.shape or (), spaces.device_dtype(part)), parts)
    structures: list[Any] = [jax.tree.structure(wanted), jax.tree.structure(obs)]
    if structures[0] != structures[1]:
        count = "" if isinstance(wanted, tuple | dict) else "one array, "
        raise ValueError(f"the obs {where}: expected {count}{_shown(wanted)} ({space}), found {_shown(obs)}.")
    leaves = zip(jax.tree.leaves_with_path(parts), jax.tree.leaves(wanted), jax.tree.leaves(obs), strict=True)
    for (path, part), expected, found in leaves:
        dtype, kind = np.dtype(found.dtype), expected.dtype.kind
        fits = dtype.kind in ("iub" if kind in "iub" else "iubfV")  # V: bfloat16
        if kind in "iu" and expected.dtype.itemsize <= 2:
            fits = np.can_cast(dtype, expected.dtype, "safe")  # a number that is too large would become another
        if found.shape != expected.shape or not fits:
            raise ValueError(
                f"the obs{jax.tree_util.keystr(path)} {where}: expected {_shown(expected)} ({part}), found "
                f"{_shown(found)}. Fix observation_space, or what it returns."
            )


def _check_scalar(what: str, found: Any, expected: str, *kinds: Any) -> None:
    is_scalar = isinstance(found, jax.ShapeDtypeStruct) and found.shape == ()
    if not is_scalar or not any(jnp.issubdtype(found.dtype, kind) for kind in kinds):
        raise ValueError(f"{what}: expected a scalar, {expected}[], found {_shown(found)}.")


def _check_alike(what: str, reference: str, expected: Any, found: Any) -> None:
    """Raises ValueError if two pytrees differ in structure, shapes or dtypes."""
    structures: list[Any] = [jax.tree.structure(expected), jax.tree.structure(found)]
    if structures[0] != structures[1]:
        raise ValueError(
            f"{what} has another structure than {reference}: expected {structures[0]}, found {structures[1]}."
        )
    for (path, old), new in zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(found), strict=True):
        if old.shape != new.shape or old.dtype != new.dtype:
            where = jax.tree_util.keystr(path) or "it"
            raise ValueError(
                f"{what} differs from {reference} at {where}: expected {_shown(old)}, found {_shown(new)}."
            )
