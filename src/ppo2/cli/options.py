"""Options of `ppo2 train` and `ppo2 sweep`: the settings of a run, the arguments of its network's builder, and a few of
their own. Defaults are the preset of the environment.
"""

import contextlib
import dataclasses
import functools
import inspect
import itertools
import os
import re
import time
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import docstring_parser
import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg

from ppo2.cli import checks
from ppo2.cli.env_options import TakesEnvironment, UsageError, env_kwargs
from ppo2.cli.output import start_processes
from ppo2.config import Config, settings_file
from ppo2.system import launch

NOT_OPTIONS = frozenset(
    {"env", "env_kwargs", "eval_env_kwargs", "model_fn", "network_kwargs", "update_fn", "callbacks", "init_fn"}
)
"""Arguments of `learn` that are no options: `env` is given by position, `env_kwargs` as --env.NAME, objects can't be
given as text.
"""

LEARN_DEFAULTS: Mapping[str, Any] = {
    "total_timesteps": 1e6,
    "num_envs": None,
    "seed": None,
    "shards": None,
    "log_options": None,
}
"""Defaults of `learn` that differ from those of `Config`: numbers that `learn` works out where they are None."""

Flag = FlagCreatePairsOff[bool]
Debug = Annotated[Flag, arg(help="show the traceback of a failure")]
Progress = Annotated[bool, arg(help="show progress: a table updated in place on a terminal, lines elsewhere.")]
Verbose = Annotated[
    Literal[0, 1, 2] | None,
    arg(
        help="0 prints only warnings and errors; 1 the plan, and on a terminal a table of the progress; 2 elsewhere "
        "also lines of progress. None: 2"
    ),
]
ConfigFile = Annotated[
    str | None,
    arg(
        metavar="FILE",
        help="settings from a YAML, TOML or JSON file, such as a run's config.json; options override it. `ppo2 config` "
        "prints one",
    ),
]
Env = Annotated[Positional[str], arg(metavar="ENV", help="environment id; `ppo2 envs` lists them")]


@dataclasses.dataclass(kw_only=True)
class TrainingOptions:
    """Options of `ppo2 train` and `ppo2 resume` that are no arguments of `learn`."""

    until_solved: Annotated[
        Flag,
        arg(
            help="stop, after a checkpoint, once the mean return of the last 100 episodes reaches the environment's "
            "reward_threshold. If these took more than a twentieth of all timesteps, fewer are enough (10 at least), "
            "if their mean minus its standard error reaches it"
        ),
    ] = False
    verbose: Verbose = None
    tensorboard: Annotated[Flag, arg(help="the same as --log tensorboard")] = False
    wandb: Annotated[Flag, arg(help="the same as --log wandb")] = False
    heartbeat: Annotated[
        float,
        arg(
            help="with several processes: seconds without a sign of life from one, or of waiting for one, that end the "
            "job"
        ),
    ] = 30.0  # as in `ppo2.distributed.init`, which would import JAX
    debug: Debug = False


class Option(NamedTuple):
    """A setting, or an argument of a network's builder, as an option.

    Attributes:
        kind: the type that tyro reads from text.
        default: `inspect.Parameter.empty` if there is none.
    """

    name: str
    kind: Any
    default: Any
    help: str

    @property
    def is_single(self) -> bool:
        """True if a value is one word, not several."""
        members = typing.get_args(self.kind) or (self.kind,)
        return not any(typing.get_origin(member) in (tuple, list, dict) for member in (self.kind, *members))

    def field(self) -> tuple[Any, ...]:
        """Name, type and default, for `dataclasses.make_dataclass`."""
        annotated: Any = Annotated[self.kind, arg(help=self.help)]
        if isinstance(self.default, dict):  # of a preset: each command has its own
            return self.name, annotated, dataclasses.field(default_factory=functools.partial(dict, self.default))
        return (self.name, annotated, self.default)[: 2 if self.default is inspect.Parameter.empty else 3]


class Chosen(NamedTuple):
    """The environment and the network of a command line, on which its other options depend.

    Attributes:
        env: the environment's id; None if the command line has none.
        network: its name.
        preset: defaults that go before those of `learn`.
        family: name of the family that has the preset.
        file: the settings in the file of --config, which go before the preset; path: its name.
        given: names of the options on the command line, which go before the file.
    """

    env: str | None
    network: str
    preset: Mapping[str, Any]
    family: str
    file: Mapping[str, Any] = {}
    path: str = ""
    given: frozenset[str] = frozenset()

    @property
    def options(self) -> list[Option]:
        """Settings, then the network's arguments, with the preset's values as defaults."""
        known = setting_options() + network_options(self.network)
        found = [option._replace(default=self.preset.get(option.name, option.default)) for option in known]
        missing = [o.name for o in found if o.default is inspect.Parameter.empty and o.name in self.file]
        return [o._replace(default=self.file[o.name]) if o.name in missing else o for o in found]

    def defaults(self) -> dict[str, Any]:
        """The settings of a command line that says nothing of them."""
        return {option.name: option.default for option in self.options} | dict(self.file)

    def env_field(self) -> tuple[Any, ...]:
        """The field for the environment's id, which the file may have."""
        return ("env", Env) if self.file.get("env") is None else ("env", Env, self.file["env"])

    def over(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a command's options, the file's in place of defaults.

        Raises:
            ValueError: the file has settings that there are not.
        """
        known = {*values, *Config.__dataclass_fields__}
        settings_file.check_names(self.path, self.file, known, self.defaults())
        for name, value in self.file.items():
            if value is not None and name not in {*values, "env_kwargs", "eval_env_kwargs"}:
                raise ValueError(f"{self.path}: `{name}` (={value!r}) is an object, given from Python: take it out.")
            if isinstance(values.get(name), bool) and not isinstance(value, bool | None):
                raise ValueError(f"{self.path}: `{name}` (={value!r}) must be true or false.")
        from_file = {name: value for name, value in self.file.items() if name in values and name not in self.given}
        return {**values, **{n: _tuples(v) if isinstance(values[n], tuple) else v for n, v in from_file.items()}}

    def run_dir_pattern(self, kind: str = "", number: str = "seed{seed}") -> str:
        """The run directory by default, from which `new_run_dir` makes one of its own for each start."""
        name = re.sub(r"[^\w.+-]", "-", self.env or "ENV")
        return f"runs/{kind}{name}-{number}-{{time}}"


def _tuples(value: Any) -> Any:
    """A value as options have it, which are tuples where files have lists."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def new_run_dir(pattern: str, **numbers: int) -> str:
    """Makes a run directory that no other process gets; of several processes, the first does."""
    from ppo2.distributed import collectives
    from ppo2.training import run_directory

    name = pattern.format(**numbers, time=time.strftime("%Y%m%d-%H%M%S"))
    made: str = collectives.run_on_first(lambda: str(run_directory.make_new(name)))
    return made


@contextlib.contextmanager
def removed_if_empty(path: str | None) -> Iterator[None]:
    """Context after which a new run directory is removed where training never got to write in it."""
    try:
        yield
    finally:
        if path is not None:
            with contextlib.suppress(OSError):  # there is something in them
                os.removedirs(path)


class Command(TakesEnvironment):
    """A command whose options depend on its environment and network."""

    chosen: ClassVar[Chosen]

    @classmethod
    def with_fields(cls, chosen: Chosen, fields: Sequence[tuple[Any, ...]]) -> type:
        """The command with an option for each field (name, type[, default])."""
        text = " ".join((cls.__doc__ or "").split())
        if chosen.env is not None:
            text = text.replace("presets, which depend on the environment", f"those of {chosen.env} ({chosen.family})")
        namespace = {"chosen": chosen, "__doc__": text}
        return dataclasses.make_dataclass(cls.__name__, fields, bases=(cls,), kw_only=True, namespace=namespace)


def loudness(verbose: int | None, progress: bool) -> dict[str, Any]:
    """The arguments `verbose` and `progress` of `learn` and `sweep` that options mean."""
    if verbose is None:
        return {"verbose": 1, "progress": progress}
    return {"verbose": verbose, "progress": None if progress else False}


def choose(
    arguments: Sequence[str], *, many: bool = False, env_words: Mapping[str, str | None] | None = None
) -> Chosen:
    """Looks through the arguments of a command for the environment and the network.

    Args:
        arguments: the words behind the command's name.
        many: options take several values, as those of `sweep` do.
        env_words: words of `--env.NAME`, on which the preset may depend.

    Raises:
        ValueError: no such environment or network, in arguments that have no other fault.
    """
    from ppo2 import envs, networks
    from ppo2.system import runtime

    words = [word for word in arguments if word not in ("-h", "--help")]
    env, network, unknown, path = _read_loosely(words, many)
    file = {} if path is None else settings_file.read(path)
    env, network, file = _with_file(env, network, file)
    try:
        family, preset = envs.FAMILIES[-1], dict(envs.FAMILIES[-1].settings)
        if env is not None:
            if _asks_for_cpu(arguments):  # some libraries of environments start JAX when they are imported
                runtime.leave_accelerators("cpu")
            if not many and len(words) == len(arguments) and envs.adapter_of(env) is not None:
                _join_others(words)
            kwargs = dict(file["env_kwargs"]) if file.get("env_kwargs") else {}
            with contextlib.suppress(UsageError):  # the proper reading tells why
                kwargs |= env_kwargs(env, env_words or {})
            preset = envs.preset(env, kwargs) if kwargs else envs.preset(env)
            family = envs.family_with(env, preset)
        if "num_envs" in preset:  # as many in each process
            size = launch.detected().size
            preset["num_envs"] = -(-preset["num_envs"] // size) * size
        preset = {"network": "mlp", **preset, **({} if network is None else {"network": network})}
        networks.check(preset["network"])
    except ValueError:
        if unknown:  # whose value may have been taken for the id: tyro has the better message
            return choose([])
        raise
    given = checks.given_options(arguments)
    names = frozenset(name for name in given) | frozenset(name.removeprefix("no_") for name in given)
    return Chosen(env, preset["network"], preset, family.name, file, path or "", names)


def _with_file(
    env: str | None, network: str | None, file: Mapping[str, Any]
) -> tuple[str | None, str | None, dict[str, Any]]:
    """The environment, the network and the file's settings, without those of another network than that."""
    from ppo2 import networks

    if not file:
        return env, network, {}
    before, left_out = file.get("network"), set[str]()
    if isinstance(before, str) and network not in (None, before) and {network, before} <= {*networks.known()}:
        mine, others = (networks.options(networks.known()[str(one)]) for one in (network, before))
        left_out = {*others} - {*mine}
    kept = {name: value for name, value in file.items() if name not in left_out}
    if env is not None:
        kept["env"] = env
    if network is not None:
        kept["network"] = network
    env, network = kept.get("env"), kept.get("network")
    return env if isinstance(env, str) else None, network if isinstance(network, str) else None, kept


def _join_others(words: Sequence[str]) -> None:
    """Joins the other processes of a job, if there are any, before a library of environments starts JAX."""
    if launch.detected().size > 1:
        given = dict(itertools.pairwise(" ".join(words).replace("=", " ").replace("_", "-").split(" ")))
        with contextlib.suppress(ValueError):  # the proper reading tells why
            heartbeat = float(given.get("--heartbeat", TrainingOptions.heartbeat))
            start_processes(device=given.get("--device", "auto"), heartbeat=heartbeat, debug="--debug" in words)


def setting_options() -> list[Option]:
    """The settings that a command line can give."""
    hints = typing.get_type_hints(Config)
    settings = [field for field in dataclasses.fields(Config) if field.name not in NOT_OPTIONS]
    defaults = {field.name: LEARN_DEFAULTS.get(field.name, field.default) for field in settings}
    kinds = {name: _readable(hints[name], default) for name, default in defaults.items()}
    return [Option(f.name, kinds[f.name], defaults[f.name], f.metadata["info"].text) for f in settings]


def network_options(name: str) -> list[Option]:
    """The arguments of a registered network's builder, but for those whose type no text can give."""
    from ppo2 import networks

    builder = networks.known()[name]
    taken = {*Config.__dataclass_fields__, "load_path", "load_parts", "run_dir", "verbose", "progress", *NOT_OPTIONS}
    texts = {p.arg_name: p.description or "" for p in docstring_parser.parse(inspect.getdoc(builder) or "").params}
    hints = {}
    with contextlib.suppress(NameError, TypeError):  # a user's builder may be annotated with what isn't there
        hints = typing.get_type_hints(builder)
    found = []
    for key, parameter in networks.options(builder).items():
        kind = _readable(hints.get(key, Any), parameter.default)
        if key not in taken and kind is not None:
            text = f"of {name}: {' '.join(texts.get(key, '').split())}"
            found.append(Option(key, kind, parameter.default, text))
    return found


def _readable(annotation: Any, default: Any) -> Any:
    """The part of a type that text can give; None if nothing remains. In a union None is first, as text would do for
    the others.
    """
    if annotation in (Any, object):
        annotation = str if default is None or default is inspect.Parameter.empty else type(default)
    elif annotation is int and isinstance(default, float):  # 1e6, as people write it
        annotation = float
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    members = typing.get_args(annotation) if union else (annotation,)
    kept = [kind for kind in map(_readable_member, members) if kind is not None]
    if kept and (default is None or types.NoneType in members):
        kept.insert(0, None)
    return typing.Union[tuple(kept)] if kept else None  # noqa: UP007 (made at run time)


def _readable_member(member: Any) -> Any:
    """The type for a union's member: 1 2 is read for a sequence, camera cnn_small for a mapping; None if none is."""
    origin, arguments = typing.get_origin(member), typing.get_args(member)
    if origin is Mapping:
        return dict[str, str]
    if origin is Sequence:
        return types.GenericAlias(tuple, (*arguments, ...))
    return member if member in (bool, int, float, str) or origin in (typing.Literal, tuple, list) else None


def _asks_for_cpu(arguments: Sequence[str]) -> bool:
    words = " ".join(arguments).replace("--device=", "--device ").split(" ")
    return any(pair == ("--device", "cpu") for pair in itertools.pairwise(words))


def _read_loosely(arguments: Sequence[str], many: bool) -> tuple[str | None, str | None, list[str], str | None]:
    """The environment, the network, the unknown arguments, and the file of settings, where the options of all networks
    are known.
    """
    from ppo2 import networks

    known = setting_options() + [option for name in networks.known() for option in network_options(name)]
    kinds: dict[str, Any] = {
        o.name: list[str] | None if many or not o.is_single else bool if o.kind is bool else str | None for o in known
    }
    words = ("config", "load_path", "run_dir", "seeds", "heartbeat", "parallel", "backend", "verbose")
    of_tune = ("trials", "time_limit", "final_seeds", "space")
    kinds |= dict.fromkeys((*words, *of_tune), str | None)
    kinds |= {"load_parts": list[str] | None}
    flags = ("progress", "auto_resume", "until_solved", "tensorboard", "wandb", "debug", "dry_run")
    kinds |= dict.fromkeys(flags, bool)
    fields = [(name, kind, False if kind is bool else None) for name, kind in kinds.items()]
    # A list, since tyro 1.0 reads an absent text as "[]" where unknown arguments are let through.
    env: Any = ("env", Annotated[list[str], Positional], dataclasses.field(default_factory=list))
    loose: Any = dataclasses.make_dataclass("Loose", [env, *fields], kw_only=True)
    try:
        asked, unknown = tyro.cli(
            loose, args=list(arguments), return_unknown_args=True, add_help=False, console_outputs=False
        )
    except SystemExit:  # the proper reading tells why
        return None, None, [], None
    network = asked.network[0] if many and asked.network else asked.network
    return next(iter(asked.env), None), network, list(unknown), asked.config
