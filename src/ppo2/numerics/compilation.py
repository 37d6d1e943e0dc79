"""Compiled functions of arrays, and the platform that they are compiled for."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ppo2.numerics.precision import products

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")
GUARDS = tuple(f"jax_transfer_guard_{way}" for way in ("host_to_device", "device_to_device", "device_to_host"))


def compiled(function: F, **options: Any) -> F:
    """`jax.jit(function, **options)`, whose products are those of `products()`.

    It sees JAX's arrays also where a user has switched `jit` off.
    """

    @functools.wraps(function)
    def of_arrays(*arguments: Any) -> Any:
        with products():
            return function(*jax.tree.map(_as_array, arguments))

    return jax.jit(of_arrays, **options)  # type: ignore[return-value]


def _as_array(leaf: Any) -> Any:
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf


def transfers_allowed(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, in which `jax_transfer_guard` lets arrays pass between host and device: it is what it is for."""

    @functools.wraps(function)
    def allowed(*args: P.args, **kwargs: P.kwargs) -> R:
        if all(getattr(jax.config, guard) in (None, "allow") for guard in GUARDS):  # most often, and sooner
            return function(*args, **kwargs)
        with jax.transfer_guard("allow"):
            return function(*args, **kwargs)

    return allowed


def devices_in_use() -> list[jax.Device]:
    """JAX's devices of all processes, or the one (or those of the platform) that `jax_default_device` names."""
    default = _default_device()
    if default is None:
        return list(jax.devices())
    return list(jax.devices(default)) if isinstance(default, str) else [default]


def devices_here() -> list[jax.Device]:
    """The devices in use that are of this process."""
    return [device for device in devices_in_use() if device.process_index == jax.process_index()]


def platform() -> str:
    """The platform that programs are compiled for, such as "cpu"."""
    return str(devices_in_use()[0].platform)


def _default_device() -> Any:
    """The device, or the name of a platform, that computations go to by default; None where the user has set none."""
    config: Any = jax.config
    return config.jax_default_device
