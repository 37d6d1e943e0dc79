"""Files of settings: YAML, TOML or JSON, the config.json of a run among them.

A file has arguments of `learn` by name, those of the network's builder beside them:

    env: CartPole-v1
    env_kwargs: {max_episode_steps: 200}
    lr: linear:1e-3
    num_layers: 3
"""

import difflib
import json
import os
import textwrap
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ppo2.config import secrets
from ppo2.config.config import SETTINGS, check_settings
from ppo2.config.foreign_names import explained
from ppo2.config.placeholders import ENV_KWARGS, HOLDING, decoded, is_placeholder, jsonable, placeholder_in
from ppo2.config.yaml_text import dumped, parsed

OF_A_RUN = frozenset({"engine", "placement", "acts_with", "most_parts", "versions", "sessions"})
"""Entries of a run's config.json that are no settings."""
LOADED, LOAD = "loaded", ("load_path", "load_parts")
"""The entry of a session that has the arguments by which its run began from a checkpoint, and these."""
FORMATS = {".yaml": "YAML", ".yml": "YAML", ".toml": "TOML", ".json": "JSON"}
WIDTH = 80


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings in a file: arguments for `ppo2.learn(**...)`, whose own check tells which can't be.

    Args:
        path: a file whose name ends in .yaml, .yml, .toml or .json; or the directory of a run.

    Raises:
        ValueError: it can't be read, or has settings that were given as objects, which no file can hold.
    """
    file = Path(path).expanduser()
    file = file / "config.json" if file.is_dir() else file
    try:
        found = _parsed(file)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"the settings file {str(path)!r} can't be read: {why}.") from None
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise ValueError(f"the settings file {str(path)!r} must have settings by name, as in `lr: 3e-4`.")
    settings = {name: decoded(value) for name, value in found.items() if name not in OF_A_RUN}
    settings = {**began_from(found), **settings}
    network_kwargs = settings.pop("network_kwargs", None)
    if network_kwargs is not None and not isinstance(network_kwargs, Mapping):
        raise ValueError(f"{path}: `network_kwargs` (={network_kwargs!r}) must be arguments by name.")
    settings |= network_kwargs or {}
    for name in {*ENV_KWARGS} & {*settings}:
        try:
            settings |= check_settings({name: settings[name]}) if settings[name] is not None else {}
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from None
    objects = [name for name, value in settings.items() if placeholder_in(name, value)]
    if objects:
        raise ValueError(
            f"{path} has what was given as an object, which no file can hold: {', '.join(objects)}. Name it there, or "
            "take the line out."
        )
    return settings


def began_from(config: Mapping[str, Any]) -> dict[str, Any]:
    """`load_path` and `load_parts` of the run that has this config.json, from its first session; {}: it began anew."""
    sessions = config.get("sessions")
    first = sessions[0] if isinstance(sessions, list) and sessions else None
    loaded = first.get(LOADED) if isinstance(first, Mapping) else None
    return {name: loaded[name] for name in LOAD if name in loaded} if isinstance(loaded, Mapping) else {}


def check_names(
    path: str | os.PathLike[str], settings: Mapping[str, Any], known: Collection[str], defaults: Mapping[str, Any]
) -> None:
    """Raises ValueError for settings that aren't known, with the nearest names; other libraries' are explained.

    Args:
        known: names that there are.
        defaults: settings that hold where the file says nothing.
    """
    unknown = {name: value for name, value in settings.items() if name not in known}
    foreign = explained(unknown, {**defaults, **settings})
    told = []
    for name, value in unknown.items():
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else "."
        words = f": {foreign[name].words('file')}" if name in foreign else hint
        told.append(f"`{name}` (={value!r}) is no setting{words}")
    if told:
        raise ValueError(f"{path}: {' '.join(told)}")


def write(
    path: str | os.PathLike[str],
    settings: Mapping[str, Any],
    *,
    title: str = "",
    texts: Mapping[str, str] | None = None,
) -> None:
    """Writes settings to a file that `read`, and `ppo2 train --config`, take: see `text`."""
    Path(path).expanduser().write_text(text(settings, title=title, texts=texts), encoding="utf-8")


def text(settings: Mapping[str, Any], *, title: str = "", texts: Mapping[str, str] | None = None) -> str:
    """Settings as a YAML file, each with a comment that says what it is.

    Args:
        settings: arguments of `learn`, those of the network beside them; objects are written by name, in a comment.
        title: lines of a comment at the top.
        texts: words about settings that `Config` doesn't have, such as arguments of the network.
    """
    known = {name: info.text for name, info in SETTINGS.items()} | dict(texts or {})
    parts = [_comment(line) for line in title.splitlines()] + ([""] if title else [])
    for name, value in settings.items():
        if name in known:
            parts.append(_comment(known[name]))
        plain = secrets.without(jsonable(value)) if name == secrets.LOG_OPTIONS else jsonable(value)
        if is_placeholder(plain) and name not in HOLDING:
            parts.append(f"# {name}: {plain['object']} (an object, given from Python)")
        elif isinstance(plain, Mapping) and plain:
            parts += [f"{name}:", *(f"  {dumped(key)}: {dumped(one)}" for key, one in plain.items())]
        else:
            parts.append(f"{name}: {dumped(plain)}")
    return "\n".join(parts) + "\n"


def _comment(words: str) -> str:
    return textwrap.fill(words, WIDTH, initial_indent="# ", subsequent_indent="#   ", break_long_words=False)


def _parsed(file: Path) -> Any:
    kind = FORMATS.get(file.suffix.lower())
    if kind is None:
        raise ValueError(f"its name must end in {', '.join(FORMATS)}")
    if file.exists() and not file.is_file():  # reading a pipe would wait for ever
        raise ValueError("it is no regular file")
    words = file.read_text(encoding="utf-8-sig")  # some editors begin with a byte order mark
    if kind == "TOML":
        import tomllib

        return _nulls(tomllib.loads(words))
    return json.loads(words) if kind == "JSON" else parsed(words)


def _nulls(found: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: the text "None" stands for it, as on the command line."""
    return {name: None if value == "None" else value for name, value in found.items()}
