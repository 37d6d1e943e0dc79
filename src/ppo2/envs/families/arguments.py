"""The arguments of environments' constructors, as far as these tell: names, types and defaults."""

import difflib
import functools
import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from gymnasium.envs.registration import load_env_creator

from ppo2.envs import adapters
from ppo2.envs.families.atari import AtariFactory, AtariTreatment
from ppo2.envs.families.ids import ENVPOOL, spec_of
from ppo2.envs.families.keywords import SHADOWING, as_given, check_arguments, name_of
from ppo2.envs.families.registry import family_of

TREATMENT = ("noops", "frame_skip", "clip_rewards", "life_loss_ends")
"""Arguments of `AtariTreatment` that users give."""
SET_HERE = ("game", "frameskip", "obs_type", "max_num_frames_per_episode")
"""Arguments of Atari's constructor that `AtariFactory` sets."""


class Argument(NamedTuple):
    """An argument of a constructor: its type as annotated, None if it isn't, and its default, if it has one."""

    kind: Any = None
    default: Any = inspect.Parameter.empty


class Arguments(NamedTuple):
    """The arguments of a constructor, by name; `is_open`: it may take more."""

    known: Mapping[str, Argument]
    is_open: bool


def constructor_arguments(env: str | Callable[..., Any]) -> Arguments:
    """The arguments of the constructor of an id, or of a function or class.

    Raises:
        ValueError: no environment of this id is registered.
    """
    if not isinstance(env, str):
        return _parameters(env)
    if adapters.adapter_of(env) is not None:
        found = adapters.arguments(env)
        return Arguments({name: Argument(default=default) for name, default in found.items()}, False)
    if env.startswith(ENVPOOL):
        return Arguments({}, True)
    spec = spec_of(env)
    try:
        creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    except Exception:  # of whatever it imports: whoever makes the environment tells what is wrong
        return Arguments({}, True)
    if creator is None:  # it has a vector form alone
        return Arguments({}, True)
    known, is_open = _parameters(creator)
    registered = {name: Argument(known.get(name, Argument()).kind, value) for name, value in spec.kwargs.items()}
    known = {**known, **registered}
    if family_of(env).factory is AtariFactory:
        treatment = _parameters(AtariTreatment).known
        known = {name: argument for name, argument in known.items() if name not in SET_HERE}
        known |= {name: treatment[name] for name in TREATMENT}
        known["sticky_actions"] = Argument(bool | float, spec.kwargs.get("repeat_action_probability", 0.25))
    return Arguments(known, is_open)


def fitting(
    env: str | Callable[..., Any], kwargs: Mapping[str, Any], name: str, by_keyword: Collection[str] = ()
) -> dict[str, Any]:
    """Arguments for a constructor: a list, as files have it, as a tuple where that is what the constructor expects.

    Args:
        name: the name of the argument that the environment is, for errors.
        by_keyword: see `as_given`.

    Raises:
        ValueError: the constructor has no argument of a name.
    """
    if not isinstance(env, str):
        check_arguments(env, kwargs, name, by_keyword)
    if not kwargs:
        return {}
    known, is_open = constructor_arguments(env)
    for key in kwargs:
        if key not in known and not is_open and isinstance(env, str):
            takes = takes_words(env, key)
            given = as_given({key: kwargs[key]} if key in by_keyword else kwargs, name, by_keyword)
            raise ValueError(f"{given}: {name_of(env)} has no argument {key!r}{takes}")
    return {key: _suited(value, known.get(key, Argument())) for key, value in kwargs.items()}


def takes_words(env: str | Callable[..., Any], wrong: str = "") -> str:
    """The end of a sentence about an argument that isn't there: the nearest one, and all that there are."""
    own = () if isinstance(env, str) and adapters.adapter_of(env) is not None else SHADOWING
    known = constructor_arguments(env).known
    close = difflib.get_close_matches(wrong, [*known, *own], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    beside = f"; ppo2.make has {', '.join(own)}" if own else ""
    return f"{hint} It takes {', '.join(known) or 'none'}{beside}."


def _suited(value: Any, argument: Argument) -> Any:
    is_tuple = isinstance(argument.default, tuple) or typing.get_origin(argument.kind) is tuple
    return tuple(_suited(item, Argument()) for item in value) if is_tuple and isinstance(value, list) else value


def _parameters(creator: Any) -> Arguments:
    """The parameters of a function or class. A class that takes any hands them to its base, whose they are."""
    while isinstance(creator, functools.partial) and not creator.args and not creator.keywords:
        creator = creator.func
    known: dict[str, Argument] = {}
    own = [creator]
    if isinstance(creator, type):
        own = [base for base in creator.__mro__ if "__init__" in vars(base) and base is not object]
    is_open = None
    for function in own:
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # of a class that says nothing about itself
            return Arguments(known, True)
        hints = _hints(function)
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in known:
                known[p.name] = Argument(hints.get(p.name), p.default)
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        is_open = takes_any if is_open is None else is_open
        if not takes_any:
            break
    return Arguments(known, bool(is_open))


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(vars(function)["__init__"] if isinstance(function, type) else function)
    except (NameError, TypeError, AttributeError, KeyError):  # annotated with what isn't there
        return {}
