"""Text of others: strict JSON, and characters that can't steer a terminal."""

import json
import math
from typing import Any

DEEPEST = 64
LARGEST = 2**1000  # what is larger doesn't fit a float


def parse_json(text: str) -> dict[str, Any]:
    """The object in a JSON text.

    Raises:
        ValueError: it is no JSON, or no object; has a key twice, NaN or infinities, which are no proper JSON; or is
            nested, or has numbers, beyond all that we write.
    """
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"its JSON is no object, but {type(found).__name__}")
    _check(found, 0)
    return found


def printable(text: object) -> str:
    """Text that only shows: characters that steer a terminal, or hide, become escapes. Lines and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in str(text))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its JSON has a key twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"its JSON has {name}, which is no number")


def _check(value: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError("its JSON is nested too deeply")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):  # written as 1e999
        raise ValueError("its JSON has a number beyond all floats")
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError("its JSON has a whole number beyond all that we write")
