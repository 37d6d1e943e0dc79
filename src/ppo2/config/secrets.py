"""Passwords and keys among settings, which no file of a run may hold: runs are shared."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

WORDS = (
    *("api_?key", "access_?key", "secret_?key", "private_?key", "secret", "token", "password", "passwd", "passphrase"),
    *("pwd", "credentials?", "auth", "authorization", "webhook", "webhook_url"),
)
NAME = re.compile(rf"(.*[\W_])?({'|'.join(WORDS)})", re.IGNORECASE | re.DOTALL)
"""Names of what is secret, if it is a text: those that end in one of these words, as `hf_token` does."""
OF_TRACKERS = re.compile(rf"{NAME.pattern}|(.*[\W_])?key", re.IGNORECASE | re.DOTALL)
"""The same among options of trackers, where a key opens something; in an environment it may be a thing."""
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+@")
"""User and password in an address."""
IN_QUERY = re.compile(rf"(?<=[?&])(?:[\w.-]*[_.-])?(?:{'|'.join(WORDS)}|key|sig)=[^&\s#]+&?", re.IGNORECASE)
"""A secret among what stands behind the `?` of an address."""
ENVIRONMENTS = ("env_kwargs", "eval_env_kwargs", "network_kwargs")
"""Settings that a run can't be built again without."""
LOG_OPTIONS = "log_options"


def found_in(value: Any, *, of_trackers: bool = False, path: str = "") -> Iterator[str]:
    """The names, with dots between the parts, of what is or holds a secret in a mapping."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            name = f"{path}.{key}" if path else str(key)
            if _names_secret(key, item, of_trackers):
                yield name
            else:
                yield from found_in(item, of_trackers=of_trackers, path=name)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from found_in(item, of_trackers=of_trackers, path=path)
    elif isinstance(value, str) and without(value) != value:
        yield path


def without(value: Any) -> Any:
    """Options of trackers without what is secret: entries are left out, addresses lose user, password and key."""
    if isinstance(value, Mapping):
        return {key: without(item) for key, item in value.items() if not _names_secret(key, item, True)}
    if isinstance(value, list | tuple):
        return [without(item) for item in value]
    return IN_QUERY.sub("", IN_ADDRESS.sub("", value)) if isinstance(value, str) else value


def in_settings(settings: Mapping[str, Any]) -> list[str]:
    """The secrets in the settings of a run, as "log_options.wandb.settings.api_key"."""
    found = [f"{name}.{key}" for name in ENVIRONMENTS for key in found_in(settings.get(name) or {})]
    options = found_in(settings.get(LOG_OPTIONS) or {}, of_trackers=True)
    return [*(f"{LOG_OPTIONS}.{key}" for key in options), *found]


def shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run for a page that may be shared; an earlier version saved what is secret, too."""
    hidden = {name: _hidden(settings[name]) for name in ENVIRONMENTS if name in settings}
    options = {LOG_OPTIONS: without(settings[LOG_OPTIONS])} if LOG_OPTIONS in settings else {}
    return {**settings, **hidden, **options}


def _hidden(value: Any) -> Any:
    """Arguments with stars in the place of what is secret."""
    if isinstance(value, Mapping):
        return {k: "***" if _names_secret(k, item, False) else _hidden(item) for k, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(item) for item in value]
    return without(value) if isinstance(value, str) else value


def check_none_would_be_saved(settings: Mapping[str, Any]) -> None:
    """Raises ValueError for a secret among the arguments of environments and networks.

    They are saved with the run, which is built again from them, and shared with it.
    """
    for name in ENVIRONMENTS:
        if found := [*found_in(settings.get(name) or {})]:
            raise ValueError(
                f"`{name}` has {', '.join(map(repr, found))}, which looks like a secret: it would be saved with the "
                "run, as plain text, and shared with it. Have the constructor read it from an environment variable or "
                "a file, or pass a function without arguments that gives it."
            )


def _names_secret(key: object, value: Any, of_trackers: bool) -> bool:
    """True for an entry that is a secret by its name."""
    name = HUMP.sub("_", str(key))
    return isinstance(value, str) and value != "" and (OF_TRACKERS if of_trackers else NAME).fullmatch(name) is not None
