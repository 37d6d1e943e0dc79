"""Settings as JSON: objects that a file can't hold become placeholders."""

from collections.abc import Mapping
from typing import Any

PLACEHOLDER = "object"
"""The key of a placeholder in JSON: `{"object": "name of the object"}`."""


def jsonable(value: object) -> Any:
    """`value` if JSON can hold it, else a placeholder with its name."""
    import numpy as np  # here, as the help of the command line does without it

    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    return {PLACEHOLDER: getattr(value, "__name__", type(value).__name__)}


def placeholder_in(name: str, value: object) -> Mapping[str, str] | None:
    """The placeholder that the setting `name`, read from JSON, is or (encoders) holds; None if there is none."""
    parts = value.values() if name == "encoders" and isinstance(value, Mapping) else [value]
    return next((part for part in parts if isinstance(part, Mapping) and is_placeholder(part)), None)


def is_placeholder(value: object) -> bool:
    """True if `value`, read from JSON, stands for an object that the file could not hold."""
    return isinstance(value, Mapping) and set(value) == {PLACEHOLDER}
