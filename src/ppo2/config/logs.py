"""Logs: the formats and experiment trackers that `log` may name, and the options of trackers."""

import difflib
import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any

from ppo2.system.text import install_command

PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "trackio": "trackio", "mlflow": "mlflow"}
"""Formats beside CSV and JSON lines, and the package that each needs."""
FORMATS = ("csv", "json", *PACKAGES)
OPTIONS = {
    "wandb": (
        *("entity", "project", "group", "tags", "name", "notes", "job_type", "mode", "id", "dir", "save_code"),
        "settings",
    ),
    "trackio": ("project", "name", "group", "space_id", "server_url", "bucket_id", "private", "webhook_url"),
    "mlflow": ("tracking_uri", "experiment", "name", "tags"),
}
"""Options of trackers: arguments of `wandb.init` and `trackio.init`; MLflow's store, experiment, run and tags."""
YES_OR_NO = {"save_code", "private"}
"""Options that are true or false: trackers would take the text "false" for yes."""


def formats(name: str, value: Any) -> tuple[str, ...]:
    """Names of formats; a text may have several, with commas between them: the rule of the setting `log`."""
    listed = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    if not all(isinstance(word, str) for word in listed):
        raise TypeError(f"`{name}` (={value!r}) must be a list of names, as in ('csv', 'tensorboard').")
    found = dict.fromkeys(word.strip().lower() for text in listed for word in text.split(","))
    for word in found:
        if word and word not in FORMATS:
            raise ValueError(f"`{name}` (={value!r}) has {word!r}, which is none of {_listed(word, FORMATS)}")
    return tuple(word for word in found if word)


def tracker_options(name: str, value: Any) -> dict[str, dict[str, Any]]:
    """Options by tracker, {"wandb": {"project": "x"}}; "wandb.project" is one in one word, as the command line has it:
    the rule of the setting `log_options`. None is none.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"`{name}` (={value!r}) must be a dict of trackers, as in {{'wandb': {{'project': 'x'}}}}.")
    found: dict[str, dict[str, Any]] = {}
    for key, given in value.items():
        tracker, dot, option = key.partition(".")
        if tracker not in OPTIONS:
            raise ValueError(f"`{name}` (={value!r}) has {tracker!r}, which is none of {_listed(tracker, OPTIONS)}")
        if not dot and not isinstance(given, Mapping):
            raise TypeError(f"`{name}` (={value!r}): {key!r} must be a dict of options: {', '.join(OPTIONS[tracker])}.")
        for one, content in {option: given}.items() if dot else given.items():
            if one not in OPTIONS[tracker]:
                known = _listed(one, OPTIONS[tracker])
                raise ValueError(f"`{name}` (={value!r}) has {one!r} for {tracker}, which is none of {known}")
            found.setdefault(tracker, {})[one] = _from_text(name, one, content) if isinstance(content, str) else content
    return found


def _from_text(name: str, option: str, text: str) -> Any:
    """An option that was given as text, as the command line has it."""
    if option == "tags":
        return text.split(",")
    if option not in YES_OR_NO:
        return text
    if text.lower() not in ("true", "false"):
        raise ValueError(f"`{name}`: {option!r} (={text!r}) must be true or false.")
    return text.lower() == "true"


def check_installed(asked: Iterable[str], who: str) -> None:
    """Raises ValueError for a format whose package isn't installed.

    Args:
        who: the beginning of the message, such as "`log`".
    """
    for name in asked:
        if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
            raise ValueError(f"{who} asks for {name!r}, which needs {PACKAGES[name]}: {install_command(name)}")


def _listed(word: str, known: Iterable[str]) -> str:
    """The known names, and the one that is nearest to a word."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"{', '.join(known)}" + (f"; did you mean {close[0]!r}?" if close else ".")
