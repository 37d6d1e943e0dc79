"""Settings as JSON: objects that a file can't hold become placeholders."""

import math
from collections.abc import Mapping
from typing import Any

from ppo2.config import secrets

PLACEHOLDER = "object"
"""The key of a placeholder in JSON: `{"object": "name of the object"}`."""
TUPLE, FLOAT = "tuple", "float"
"""Keys of what stands in JSON for a tuple and for a number that isn't finite: see `coded`."""
ENV_KWARGS = ("env_kwargs", "eval_env_kwargs")
"""Settings that are arguments of environments, of any type."""
HOLDING = ("encoders", *ENV_KWARGS)
"""Settings that are mappings, whose values may be objects."""


def jsonable(value: object) -> Any:
    """`value` if JSON can hold it, else a placeholder with its name."""
    import numpy as np  # here, as the help of the command line does without it

    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):  # before the others, as some of NumPy's are Python's too
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return {PLACEHOLDER: getattr(value, "__name__", type(value).__name__)}


def coded(value: object) -> Any:
    """`jsonable`, but for what JSON doesn't have: tuples, and numbers that aren't finite, which `decoded` makes again.

    An environment may need them, as MuJoCo's `healthy_z_range=(0.7, inf)`.
    """
    if isinstance(value, Mapping):
        return {str(key): coded(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return {TUPLE: [coded(item) for item in value]}
    if isinstance(value, list):
        return [coded(item) for item in value]
    plain = jsonable(value)
    return {FLOAT: str(plain)} if isinstance(plain, float) and not math.isfinite(plain) else plain


def for_file(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON: objects that a file can't hold as placeholders, options of trackers without secrets."""
    plain = {name: (coded if name in ENV_KWARGS else jsonable)(value) for name, value in settings.items()}
    if secrets.LOG_OPTIONS in plain:
        plain[secrets.LOG_OPTIONS] = secrets.without(plain[secrets.LOG_OPTIONS])
    return plain


def decoded(value: object) -> Any:
    """The inverse of `coded`; a value that was never coded stays as it is."""
    if isinstance(value, Mapping):
        if set(value) == {TUPLE} and isinstance(value[TUPLE], list):
            return tuple(map(decoded, value[TUPLE]))
        if set(value) == {FLOAT} and value[FLOAT] in ("inf", "-inf", "nan"):
            return float(value[FLOAT])
        return {key: decoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(decoded, value)) if type(value) in (list, tuple) else value
    return value


def placeholder_in(name: str, value: object) -> Mapping[str, str] | None:
    """The placeholder that the setting `name`, read from JSON, is or (a mapping) holds; None if there is none."""
    if name in HOLDING and isinstance(value, Mapping):
        return next(filter(None, map(_inner, value.values())), None)
    return value if isinstance(value, Mapping) and is_placeholder(value) else None


def _inner(value: object) -> Mapping[str, str] | None:
    """The first placeholder in a value, however deep."""
    if isinstance(value, Mapping):
        return value if is_placeholder(value) else next(filter(None, map(_inner, value.values())), None)
    return next(filter(None, map(_inner, value)), None) if isinstance(value, list | tuple) else None


def is_placeholder(value: object) -> bool:
    """True if `value`, read from JSON, stands for an object that the file could not hold."""
    return isinstance(value, Mapping) and set(value) == {PLACEHOLDER}
