"""Compiled functions of arrays, and the devices that they are compiled for."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple, ParamSpec, TypeVar

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


class Place(NamedTuple):
    """The devices, of all processes, that some work is done on.

    Attributes:
        kind: "cpu", "gpu" or "tpu".
    """

    kind: str
    devices: tuple[jax.Device, ...]

    @property
    def here(self) -> jax.Device:
        """The first of its devices that is of this process."""
        return next(device for device in self.devices if device.process_index == jax.process_index())


_chosen: ContextVar[Place | None] = ContextVar("place", default=None)


def place_of(kind: str | None = None) -> Place | None:
    """The place of a kind, or of JAX's own choice; None where JAX has none here, or is told to leave it alone."""
    try:
        found = _all_devices(kind)
    except RuntimeError:
        return None
    return Place(kind or _kind_of(found[0]), tuple(found))


def portable() -> contextlib.AbstractContextManager[None]:
    """Context of traces that are exported: functions take the form that isn't made for a platform, such as XLA's own
    convolution.
    """
    return computing_on(Place("portable", tuple(_all_devices("cpu"))))


def _all_devices(kind: str | None) -> list[jax.Device]:
    return list(jax.devices() if kind is None else jax.devices(kind))


def _kind_of(device: jax.Device) -> str:
    return str(device.platform)


class _Computing:
    """See `computing_on`."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> None:
        self._default = jax.default_device(self._place.here)
        self._default.__enter__()
        self._token = _chosen.set(self._place)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _chosen.reset(self._token)
        self._default.__exit__(kind, error, trace)


_nothing: contextlib.AbstractContextManager[None] = contextlib.nullcontext()


def computing_on(place: Place | None) -> contextlib.AbstractContextManager[None]:
    """Context in which this thread computes on a place; with None nothing changes."""
    return _nothing if place is None else _Computing(place)


def chosen_place() -> Place | None:
    """The place of `computing_on`; None where nobody has chosen one, or the user another device inside of it."""
    place = _chosen.get()
    return place if place is not None and _default_device() == place.here else None


def user_has_chosen() -> bool:
    """True if the user has set the device that computations go to by default (`jax_default_device`)."""
    return _default_device() is not None and chosen_place() is None


def devices_in_use() -> list[jax.Device]:
    """JAX's devices of all processes, or those that `computing_on` or `jax_default_device` has chosen."""
    place, default = chosen_place(), _default_device()
    if place is not None:
        return list(place.devices)
    if default is None:
        return _all_devices(None)
    return _all_devices(default) if isinstance(default, str) else [default]


def devices_here() -> list[jax.Device]:
    """The devices in use that are of this process."""
    return [device for device in devices_in_use() if device.process_index == jax.process_index()]


def platform() -> str:
    """The platform that programs are compiled for, such as "cpu"."""
    place = chosen_place()
    return _kind_of(devices_in_use()[0]) if place is None else place.kind


def memory_limit() -> int | None:
    """Bytes that JAX may take on each of the devices in use, the least of them; None where they don't tell (CPUs)."""
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in devices_here()]
    known = [int(limit) for limit in limits if limit]
    return min(known, default=None)


def _default_device() -> Any:
    """The device, or the name of a platform, that computations go to by default; None where nobody has set one."""
    config: Any = jax.config
    return config.jax_default_device


# --- ahead of calls -----------------------------------------------------------------------------------------------


class Aside:
    """Has programs compiled by another thread, one after the other, while this one traces the next; calls find them so.

    What can't be compiled raises when it is called.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "compiling")
        self._programs: list[Future[Any]] = []

    def __call__(self, function: Any, *arguments: Any) -> Any:
        """Has a program compiled for some arguments, or their shapes; returns the shapes of its result."""
        lowered = function.lower(*arguments)
        self._programs.append(self._thread.submit(lowered.compile))
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), lowered.out_info)

    def so_far(self) -> Callable[[], object]:
        """A function that waits for the programs that were given until now."""
        return functools.partial(wait, tuple(self._programs))

    def close(self, *, finish: bool) -> None:
        """Takes no more programs, and doesn't wait. `finish=False` leaves those that haven't begun."""
        self._thread.shutdown(wait=False, cancel_futures=not finish)


@contextlib.contextmanager
def compiling_aside() -> Iterator[Aside]:
    """Context that gives an `Aside`, which goes on after it with the programs that it has."""
    aside = Aside()
    try:
        yield aside
    except BaseException:
        aside.close(finish=False)
        raise
    aside.close(finish=True)


def prepare_products() -> None:
    """Computes a small product of the form of weights' gradients. On a CPU, XLA makes the machine code for all products
    of this form when it meets the first, which takes 28 ms of one core.
    """
    product(np.zeros((8, 8), np.float32))


@compiled
def product(x: Any) -> jax.Array:
    """x^T x."""
    return jax.lax.dot_general(x, x, (((0,), (0,)), ((), ())))


def can_compile_aside() -> bool:
    """True if calls find programs that were compiled of shapes: on a CPU, where arrays are bound to no device."""
    config: Any = jax.config
    return platform() == "cpu" and chosen_place() is None and not config.jax_disable_jit
