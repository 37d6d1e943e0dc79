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

RETURNS = ("state", "obs", "reward", "terminated", "truncated", "info")
"""Values that `step` returns."""
_CONCRETE_VALUE_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
"""Errors of JAX where Python needs a number that exists only when the program runs."""


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
    first = _trace(env, name, "reset", key)
    if not isinstance(first, tuple | list) or len(first) != 2:
        raise ValueError(f"`{name}`.reset must return (state, obs); it gave {_counted(first)}.")
    state, obs = first
    _check_obs(env, name, "reset", obs)
    info = None
    # twice, so that Python code which does something else at a second call shows
    for _ in range(2):
        stepped = _trace(env, name, "step", state, action, key)
        if not isinstance(stepped, tuple | list) or len(stepped) != len(RETURNS):
            raise ValueError(f"`{name}`.step must return ({', '.join(RETURNS)}); it gave {_counted(stepped)}.")
        after, obs, reward, terminated, truncated, new_info = stepped
        _check_like(f"the state that `{name}`.step returns", "what `reset` returned", state, after)
        _check_obs(env, name, "step", obs)
        _check_scalar(name, "reward", reward, (jnp.number, jnp.bool_), "a number")
        _check_scalar(name, "terminated", terminated, (jnp.bool_,), "bool")
        _check_scalar(name, "truncated", truncated, (jnp.bool_,), "bool")
        if not isinstance(new_info, Mapping):
            raise ValueError(f"`{name}`.step must return a dict as `info`; it gave {type(new_info).__name__}.")
        if "action_mask" in new_info and distribution.can_be_masked and not spaces.is_masked(env.observation_space):
            raise ValueError(
                f"`{name}`.step gives info['action_mask'], but `reset` has no info to give one in: on the device let "
                "observations be a Dict of `observation` and `action_mask`."
            )
        if info is not None:
            _check_like(f"the info that `{name}`.step returns", "that of the step before", info, new_info)
        state, info = after, new_info


def _trace(env: DeviceEnv, name: str, method: str, *arguments: Any) -> Any:
    """Shapes and dtypes that a method returns."""
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
    except _CONCRETE_VALUE_ERRORS as error:
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
    return found


def _tracers(env: object) -> set[str]:
    """Names of attributes that hold an array of a trace."""
    return {
        field
        for field, value in getattr(env, "__dict__", {}).items()
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))
    }


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _counted(found: Any) -> str:
    is_several = isinstance(found, tuple | list)
    return f"{len(found)} values" if is_several else f"one value, a {type(found).__name__}"


def _shown(leaf: Any) -> str:
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def _check_obs(env: DeviceEnv, name: str, method: str, obs: Any) -> None:
    expected = spaces.tree(env.observation_space)
    if not isinstance(expected, tuple | dict):
        _check_array(env.observation_space, f"the obs that `{name}`.{method} returns", obs)
        return
    structures: list[Any] = [jax.tree.structure(expected), jax.tree.structure(obs)]
    if structures[0] != structures[1]:
        raise ValueError(
            f"the obs that `{name}`.{method} returns: expected {structures[0]} ({env.observation_space}), found "
            f"{structures[1]}."
        )
    for (path, space), found in zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(obs), strict=True):
        _check_array(space, f"the obs{jax.tree_util.keystr(path)} that `{name}`.{method} returns", found)


def _check_array(space: spaces.AnySpace, what: str, obs: Any) -> None:
    shape, dtype = space.shape or (), spaces.device_dtype(space)
    expected = f"{dtype}[{','.join(map(str, shape))}]"
    if not isinstance(obs, jax.ShapeDtypeStruct):
        raise ValueError(f"{what}: expected one array, {expected} ({space}), found {jax.tree.structure(obs)}.")
    found = np.dtype(obs.dtype)
    fits = found.kind in ("iub" if dtype.kind in "iub" else "iubfV")  # V: bfloat16
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        fits = np.can_cast(found, dtype, "safe")  # a number that is too large would become another
    if obs.shape != shape or not fits:
        raise ValueError(
            f"{what}: expected {expected} ({space}), found {_shown(obs)}. Mend observation_space, or what it returns."
        )


def _check_scalar(name: str, field: str, found: Any, kinds: tuple[Any, ...], expected: str) -> None:
    is_scalar = isinstance(found, jax.ShapeDtypeStruct) and found.shape == ()
    if not is_scalar or not any(jnp.issubdtype(found.dtype, kind) for kind in kinds):
        shown = _shown(found) if isinstance(found, jax.ShapeDtypeStruct) else str(jax.tree.structure(found))
        raise ValueError(f"the {field} that `{name}`.step returns: expected a scalar, {expected}[], found {shown}.")


def _check_like(what: str, reference: str, expected: Any, found: Any) -> None:
    """Raises ValueError if two pytrees differ in structure, shapes or dtypes."""
    structures: list[Any] = [jax.tree.structure(expected), jax.tree.structure(found)]
    if structures[0] != structures[1]:
        raise ValueError(
            f"{what} has another structure than {reference}: expected {structures[0]}, found {structures[1]}."
        )
    leaves = zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(found), strict=True)
    for (path, old), new in leaves:
        if old.shape != new.shape or old.dtype != new.dtype:
            where = jax.tree_util.keystr(path) or "it"
            raise ValueError(
                f"{what} differs from {reference} at {where}: expected {_shown(old)}, found {_shown(new)}."
            )
