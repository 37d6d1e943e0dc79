"""Checks of a command line before tyro reads it: options that there are not, with what they might be."""

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ppo2.cli.env_options import UsageError, literal

IN_PYTHON = ("callbacks", "init_fn", "model_fn", "update_fn")
"""Arguments of `learn` that no text can give."""
KWARGS = {"env_kwargs": "--env.NAME", "eval_env_kwargs": "--eval-env.NAME"}
"""Arguments of `learn` that have options of another form."""


def given_options(arguments: Sequence[str]) -> dict[str, str | None]:
    """The options in the words behind a command, by their names in Python, with the word behind each, if there is one.

    `--no-NAME` is NAME where it stands.
    """
    found: dict[str, str | None] = {}
    for i, word in enumerate(arguments):
        if word == "--":
            break
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            following = arguments[i + 1] if i + 1 < len(arguments) else None
            behind = None if following is None or following.startswith("--") else following
            found[name.replace("-", "_")] = value if equals else behind
    return found


def flags_of(command: type) -> set[str]:
    """The names of a command's options, with dashes as underscores."""
    hints = typing.get_type_hints(command, include_extras=True)
    names = {field.name for field in dataclasses.fields(command)}
    for name in list(names):
        for fact in getattr(hints[name], "__metadata__", ()):
            aliases: Iterable[str] = getattr(fact, "aliases", None) or ()
            names |= {alias.lstrip("-").replace("-", "_") for alias in aliases}
        names.add(f"no_{name}")
    return names | {"help", "help_verbose"}


def positional_of(command: type) -> set[str]:
    """The names of what a command takes by position."""
    hints = typing.get_type_hints(command, include_extras=True)
    return {field.name for field in dataclasses.fields(command) if "positional" in str(hints[field.name]).lower()}


def check_options(name: str, command: type, arguments: Sequence[str], known: Mapping[str, Any]) -> None:
    """Raises UsageError for options that a command doesn't have.

    Args:
        name: the command's name.
        known: its settings, for the values of those that other libraries call something else.
    """
    from ppo2.config.foreign_names import explained

    positional = positional_of(command)
    flags = flags_of(command) - positional
    given = given_options(arguments)
    unknown = {option: word for option, word in given.items() if option not in flags}
    if not unknown:
        return
    settings = {option: literal(word) for option, word in given.items() if option in flags and word is not None}
    values = {option: True if word is None else literal(word) for option, word in unknown.items()}
    foreign = explained(values, {**known, **settings}) if "lr" in flags else {}
    told, listed = [], ", ".join(f"--{option.replace('_', '-')}" for option in unknown)
    for option in unknown:
        flag = f"--{option.replace('_', '-')}"
        called = next(iter(foreign[option].settings), "") if option in foreign else option
        if option in positional:
            told.append(f"{flag}: it is given without a name: `ppo2 {name} {unknown[option] or option.upper()}`.")
        elif called in IN_PYTHON:
            told.append(f"{flag}: `{called}` is an argument of ppo2.learn, in Python.")
        elif option in KWARGS:
            told.append(f"{flag}: they are given one by one: {KWARGS[option]} VALUE.")
        elif option in foreign:
            told.append(f"{flag}: {foreign[option].words('option')}")
        elif close := difflib.get_close_matches(option, sorted(flags - {f"no_{one}" for one in flags}), n=1):
            told.append(f"Did you mean --{close[0].replace('_', '-')}?")
    hints = " ".join(told)
    raise UsageError(
        f"Unrecognized options: {listed}. {hints}{' ' * bool(hints)}`ppo2 {name} --help` lists those that there are."
    )
