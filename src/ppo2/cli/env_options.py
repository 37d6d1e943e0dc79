"""Options `--env.NAME VALUE` and `--eval-env.NAME VALUE`: arguments of environments, as text.

A command that takes them is a `TakesEnvironment`. Another way in is `env_kwargs(env_id, words)`.
"""

import difflib
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

from ppo2.config.yaml_text import parsed

PREFIXES = {"--env.": "env", "--eval-env.": "eval_env"}
NOT_GIVEN_HERE = frozenset({"env_id", "num_envs", "seed", "info_keys", "kwargs", "verbose"})
"""Arguments of `ppo2.make` that are options by themselves, or none."""
TEXTS = {
    "max_episode_steps": "steps after which an episode is truncated; None: as registered",
    "reward_scale": "factor of rewards, for training; logs have returns as they are",
    "frame_stack": "observations that make one, the newest last; None: as usual for the environment",
    "flatten": "observations become vectors",
    "workers": "processes that step environments beside this one; auto: if that saves time",
    "groups": "2: the policy acts for one half while the other is stepped; 1: for all at once",
    "env_timeout": "seconds that a step of one environment may take",
    "replay_limit": "steps of an episode up to which a resumed run brings it back",
    "own_vector": "the vector form of the environment's own package: faster, by its own rules",
    "backend": "ray: actors of Ray hold the environments; for brax: its physics",
    "actors": "number of Ray's actors",
    "env_kwargs": "{NAME: VALUE}: for the constructor, where a name is one of these too",
}
"""Words for arguments of `ppo2.make`."""
SIMPLE = (bool, int, float, str, types.NoneType)


class EnvWords(NamedTuple):
    """Words of a command line by the environment's and the argument's name; None: an option without a value."""

    env: Mapping[str, str | None] = {}
    eval_env: Mapping[str, str | None] = {}


class EnvArgument(NamedTuple):
    """An argument that an environment takes on the command line.

    Attributes:
        kind: its type as annotated; None if that isn't known.
        default: `inspect.Parameter.empty` if there is none.
        is_own: it is one of `ppo2.make`.
    """

    kind: Any
    default: Any
    is_own: bool

    @property
    def members(self) -> tuple[Any, ...]:
        """The types, and values of a Literal, that it may be; none if that isn't known."""
        return _members(self.kind)


NO_INHERIT = "make the environment without the `--env.NAME` that the policy was trained with"


class UsageError(ValueError):
    """A command line that says what can't be."""


class TakesEnvironment:
    """A command that takes `--env.NAME VALUE`; `words` are those that it was given."""

    words: ClassVar[EnvWords] = EnvWords()

    @classmethod
    def with_words(cls, words: EnvWords) -> type[Self]:
        """The command with words that were taken out of its line (`separated`)."""
        return type(cls.__name__, (cls,), {"words": words, "__doc__": cls.__doc__})

    def env_kwargs(self, env_id: str, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The arguments for an environment: those of before, such as a run's, under those of the command line."""
        return {**(before or {}), **env_kwargs(env_id, self.words.env)}

    def environments_arguments(self, env: str, eval_env: str | None, file: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of the environments, of which those to evaluate on have all of the others'.

        Args:
            file: settings of the file that was given.

        Raises:
            UsageError: see `env_kwargs`; or arguments of `eval_env` without it.
        """
        mine = self.env_kwargs(env, file.get("env_kwargs"))
        before = file.get("eval_env_kwargs")
        if not self.words.eval_env:
            return {"env_kwargs": mine or None, "eval_env_kwargs": before}
        if eval_env is None:
            raise UsageError(f"--eval-env.{next(iter(self.words.eval_env))}: give --eval-env ID too.")
        from ppo2.envs import inherited

        others = inherited(eval_env, env, mine, "eval_env") if before is None else before
        theirs = env_kwargs(eval_env, self.words.eval_env, "eval-env")
        return {"env_kwargs": mine or None, "eval_env_kwargs": {**others, **theirs}}


def separated(arguments: Sequence[str]) -> tuple[list[str], EnvWords]:
    """The words of a command line without `--env.NAME VALUE`, `--env.NAME=VALUE` and `--eval-env...`, and these.

    Raises:
        UsageError: a name is missing, or given twice.
    """
    rest, found = list[str](), {name: dict[str, str | None]() for name in PREFIXES.values()}
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            return [*rest, word, *waiting], EnvWords(**found)
        prefix = next((one for one in PREFIXES if word.replace("_", "-").startswith(one)), None)
        if prefix is None:
            rest.append(word)
            continue
        option, equals, value = word.partition("=")
        name = option[len(prefix) :].replace("-", "_")
        where = found[PREFIXES[prefix]]
        if not name:
            raise UsageError(f"{word}: the argument's name is missing, as in {prefix}max-episode-steps 50.")
        if name in where:
            raise UsageError(f"{option} is given twice: give it once.")
        if equals:
            where[name] = value
        elif waiting and (not waiting[0].startswith("-") or _is_number(waiting[0])):
            where[name] = waiting.pop(0)
        else:
            where[name] = None
    return rest, EnvWords(**found)


def env_arguments(env_id: str) -> tuple[dict[str, EnvArgument], bool]:
    """The arguments that an environment takes, by name, and True if its constructor may take others too.

    Raises:
        ValueError: no environment of this id is registered.
    """
    from ppo2 import envs
    from ppo2.envs.families.arguments import constructor_arguments

    known, is_open = constructor_arguments(env_id)
    found: dict[str, EnvArgument] = {}
    if envs.adapter_of(env_id) is None:
        hints = typing.get_type_hints(envs.make)
        for name, parameter in inspect.signature(envs.make).parameters.items():
            if name not in NOT_GIVEN_HERE:
                found[name] = EnvArgument(hints.get(name), parameter.default, True)
    constructors = {name: EnvArgument(one.kind, one.default, False) for name, one in known.items()}
    return {**constructors, **found}, is_open


def env_kwargs(env_id: str, words: Mapping[str, str | None], option: str = "env") -> dict[str, Any]:
    """The arguments for an environment from words of the command line, in the types that it takes.

    Args:
        words: by name: from `separated`.
        option: the option's name, for errors: "env" or "eval-env".

    Raises:
        UsageError: an unknown name, with the nearest and all that there are; or a value of another type.
    """
    if not words:
        return {}
    known, is_open = env_arguments(env_id)
    for name in words:
        flag = f"--{option}.{name.replace('_', '-')}"
        if name in NOT_GIVEN_HERE - {"env_id", "kwargs"}:
            raise UsageError(f"{flag}: this is an option by itself: --{name.replace('_', '-')}.")
        if name not in known and not is_open:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean --{option}.{close[0].replace('_', '-')}?" if close else "."
            listed = ", ".join(one.replace("_", "-") for one in sorted(known, key=lambda one: known[one].is_own))
            raise UsageError(f"{flag}: {env_id} has no such argument{hint} It takes {listed}.")
    unknown = EnvArgument(None, inspect.Parameter.empty, False)
    return {
        name: read(word, known.get(name, unknown), f"--{option}.{name.replace('_', '-')}")
        for name, word in words.items()
    }


def read(word: str | None, argument: EnvArgument, flag: str) -> Any:
    """The value that a word means for an argument.

    Args:
        flag: the option, for errors.

    Raises:
        UsageError: it can't be one.
    """
    members = argument.members or (_members(type(argument.default)) if _is_text(argument.default) else ())
    if word is None:
        if bool in members or (not members and isinstance(argument.default, bool)):
            return True
        raise UsageError(f"{flag}: a value is missing.")
    value = literal(word)
    if not members:
        if isinstance(argument.default, int | float) and isinstance(value, str):
            raise UsageError(f"{flag} {word}: this must be {_name_of(type(argument.default))}.")
        return value
    for member in members:
        if member not in SIMPLE and not isinstance(member, type) and value == member and type(value) is type(member):
            return value  # of a Literal
    kinds = tuple(member for member in members if isinstance(member, type))
    if type(value) in kinds:
        return value
    if type(value) is int and float in kinds:
        return float(value)
    if isinstance(value, float) and int in kinds and value == int(value if abs(value) < 2**63 else 0):
        return int(value)  # 1e6
    if str in kinds:
        return word
    if set(kinds) <= set(SIMPLE) and len(kinds) + sum(not isinstance(m, type) for m in members) == len(members):
        allowed = " or ".join(dict.fromkeys(_name_of(member) for member in members))
        raise UsageError(f"{flag} {word}: this must be {allowed}.")
    return tuple(value) if isinstance(value, list) and tuple in kinds else value


def literal(word: str) -> Any:
    """The value of a word as YAML and JSON have it: 3, 1e-3, true, null, [1, 2], {a: 1}; else the word itself."""
    if word.startswith("(") and word.endswith(")"):  # a tuple, as Python has it
        value = literal(f"[{word[1:-1]}]")
        return tuple(value) if isinstance(value, list) else word
    try:
        value = parsed(word)
    except ValueError:
        return word
    if word in ("True", "False"):
        return word == "True"
    return value


def _members(kind: Any) -> tuple[Any, ...]:
    """Types, and values of a Literal; `object` for what isn't known to be simple."""
    if kind in (None, Any, inspect.Parameter.empty):
        return ()
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        parts = [_members(part) for part in typing.get_args(kind)]
        return () if () in parts else tuple(member for part in parts for member in part)
    if origin is Literal:
        return typing.get_args(kind)
    if origin is not None:
        return (origin,)
    return (kind,) if isinstance(kind, type) else ()


def _name_of(member: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", types.NoneType: "None", str: "text"}
    return names.get(member, str(member)) if isinstance(member, type) else str(member)


def _is_text(default: Any) -> bool:
    return isinstance(default, str)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
