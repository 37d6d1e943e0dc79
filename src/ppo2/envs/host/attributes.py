"""Attributes and methods of environments, through their wrappers, as `HostVectorEnv.call` and `set_attr` reach them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ppo2.envs.host.env_types import AnyEnv

OWN_METHODS = {
    "reset": "reset(), or reset(options={'reset_mask': ...}) for some",
    "step": "step()",
    "close": "close()",
}
"""Methods that must not be called in single environments, and how the vector environment does the same."""


class Call(NamedTuple):
    """A method to call in environments, or an attribute to read."""

    name: str
    arguments: Sequence[Any] = ()
    options: Mapping[str, Any] = {}


class Assignment(NamedTuple):
    """An attribute to set in environments, with the value of each."""

    name: str
    values: Sequence[Any]


def check_callable(name: Any) -> None:
    """Raises ValueError for a method that only the vector environment may call, as it counts episodes and steps."""
    if name in OWN_METHODS:
        raise ValueError(
            f"call({name!r}) would do it behind the vector environment's back; use its own {OWN_METHODS[name]}."
        )


def values_for(name: str, values: Any, count: int) -> Sequence[Any]:
    """One value of an attribute for each of `count` environments: those of a list or tuple, else the same for all."""
    if not isinstance(values, list | tuple):
        return [values] * count
    if len(values) != count:
        raise ValueError(
            f"set_attr({name!r}): `values` has {len(values)} for {count} environments; give one for each, or one that "
            "is neither list nor tuple for all."
        )
    return values


def called(env: AnyEnv, call: Call) -> Any:
    """The answer of a method of an environment or of its wrappers, or the value of an attribute."""
    found = env.get_wrapper_attr(call.name)
    return found(*call.arguments, **call.options) if callable(found) else found


def assign(env: AnyEnv, name: str, value: Any) -> None:
    """Sets an attribute where the environment or a wrapper has it; else in the environment itself, which may read it.

    Gymnasium sets one that nobody has in the outermost wrapper, where the environment doesn't see it.
    """
    if not env.set_wrapper_attr(name, value, force=False):
        setattr(env.unwrapped, name, value)
