"""Repeating a run: the command and the Python call that its config.json stands for."""

import dataclasses
import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ppo2.config import PLACEHOLDER, Config, is_placeholder, placeholder_in
from ppo2.config.placeholders import ENV_KWARGS
from ppo2.config.settings_file import began_from
from ppo2.config.yaml_text import parsed
from ppo2.envs.families.registry import FAMILIES, family_of
from ppo2.envs.presets import is_known
from ppo2.system.text import printable

NOT_ARGUMENTS = ("network_kwargs", *ENV_KWARGS, "log", "log_options")
"""Settings that are no options of these names, or make no other run."""
ALWAYS = ("seed", "total_timesteps", "num_envs", "shards")
"""Settings whose defaults depend on more than this library's version."""
LINE = 90
"""Characters of a line of the command, from which on options go to the next."""


def arguments_of(config: Mapping[str, Any], preset_names: Iterable[str] = ()) -> dict[str, Any]:
    """The arguments of `learn` that a run was made with, but for those that are its defaults.

    Args:
        preset_names: settings that are among them even so.
    """
    chosen = {name: config[name] for name in ("env", "network") if name in config}
    always = {*ALWAYS, *preset_names}
    for field in dataclasses.fields(Config):
        name, default = field.name, field.default
        if name in config and name not in NOT_ARGUMENTS and name not in chosen:
            plain = json.loads(json.dumps(default, default=str))
            if name in always or config[name] != plain:
                chosen[name] = config[name]
    for name in ENV_KWARGS:
        if isinstance(config.get(name), Mapping) and config[name]:
            chosen[name] = dict(config[name])
    chosen |= began_from(config)
    network_kwargs = config.get("network_kwargs")
    more = network_kwargs if isinstance(network_kwargs, Mapping) else {}
    return {**chosen, **{name: value for name, value in more.items() if name.isidentifier()}}


def objects_in(config: Mapping[str, Any]) -> list[str]:
    """The arguments that were given as objects, which no file can hold."""
    return [name for name, value in arguments_of(config).items() if placeholder_in(name, value) is not None]


def python_call(config: Mapping[str, Any]) -> str:
    """The call of `learn`; an object that the file could not hold is a name in angle brackets."""
    lines = [f"    {name}={_literal(name, value)}," for name, value in arguments_of(config).items()]
    return "\n".join(["import ppo2", "", "model = ppo2.learn(", *lines, ")"])


def untold(config: Mapping[str, Any]) -> str:
    """A sentence about what took part in a run and neither the command nor the call says; "" if there is nothing."""
    sessions = config.get("sessions")
    known = [one for one in sessions if isinstance(one, Mapping)] if isinstance(sessions, list) else []
    named = [name for one in known if isinstance(one.get("callbacks"), list) for name in one["callbacks"]]
    is_told = isinstance(began_from(config).get("load_path"), str)
    from_weights = not is_told and any(one.get("from_weights") is True for one in known)
    parts = ["it began with the weights of another"] if from_weights else []
    parts += [f"it had the callbacks {', '.join(map(printable, dict.fromkeys(map(str, named))))}"] if named else []
    return f"These settings are not all of this run: {' and '.join(parts)}." if parts else ""


def command_line(config: Mapping[str, Any]) -> str | None:
    """The command, for a shell; None where an object was given, which no command can name.

    All settings that any preset has are given, so that no other preset changes the run.
    """
    if objects_in(config) or not isinstance(config.get("env"), str):
        return None
    names = {name for family in FAMILIES for name in family.settings}
    names |= set() if is_known(config["env"], config.get("env_kwargs")) else {"encoders"}  # its preset may have some
    arguments = {**arguments_of(config, names), **_of_network(config)}
    parts = [["ppo2", "train", arguments.pop("env")]]
    for prefix in ("env", "eval_env"):
        for name, value in arguments.pop(f"{prefix}_kwargs", {}).items():
            parts.append(_env_option(f"--{prefix}.{name}".replace("_", "-"), value))
    parts += [option(name, value) for name, value in arguments.items()]
    lines = [""]
    for part in (" ".join(shlex.quote(printable(word)) for word in words) for words in parts):
        if len(lines[-1]) + len(part) < LINE:
            lines[-1] = f"{lines[-1]} {part}".lstrip() if len(lines) == 1 else f"{lines[-1]} {part}"
        else:
            lines.append(f"    {part}")
    return " \\\n".join(lines)


def _of_network(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the network that the run left at their defaults, where the environment's preset has others."""
    given = config.get("network_kwargs")
    names = [name for name in family_of(config["env"]).settings if name not in Config.__dataclass_fields__]
    names = [name for name in names if not (isinstance(given, Mapping) and name in given)]
    if not names:
        return {}
    from ppo2 import networks  # which starts JAX

    builder = networks.known().get(str(config.get("network")))
    options = {} if builder is None else networks.options(builder)
    return {name: options[name].default for name in names if name in options}


def option(name: str, value: Any) -> list[str]:
    """The words of a command line for a setting."""
    words = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{words}" if value else f"--no-{words}"]
    return [f"--{words}", *_words(value)]


def _env_option(name: str, value: Any) -> list[str]:
    """The words for an argument of an environment; a text that would be read as something else is in quotes."""
    if not isinstance(value, str):
        return [name, json.dumps(value)]
    try:
        is_plain = parsed(value) == value and not value.startswith(("-", "("))
    except ValueError:
        is_plain = not value.startswith(("-", "("))
    return [name, value if is_plain else json.dumps(value)]


def _words(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [str(word) for pair in value.items() for word in pair]
    if isinstance(value, list | tuple):
        return [str(word) for word in value]
    return [str(value)]


def _literal(name: str, value: Any) -> str:
    is_object = is_placeholder(value) and name not in ENV_KWARGS
    return f"<{printable(value[PLACEHOLDER])}>" if is_object else printable(repr(value))
