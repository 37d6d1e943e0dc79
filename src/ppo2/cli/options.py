"""The options of `ppo2 train`: the arguments of `learn` and of the network's builder, read from their signatures and
docstrings, so that nothing is written twice.
"""

import contextlib
import dataclasses
import inspect
import re
import time
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tyro

from ppo2 import envs, networks
from ppo2.distributed import processes
from ppo2.system import launch
from ppo2.training.learn import learn

NOT_OPTIONS = frozenset({"env", "model_fn", "update_fn", "init_fn"})
"""Arguments of `learn` that a command line can't give, and `env`, which is given by position."""


def argument_docs(function: Callable[..., Any]) -> dict[str, str]:
    """The texts under `Args:` in a docstring, by argument."""
    section = re.search(r"^Args:\n((?:[ ]+.*\n|\n)+)", (inspect.getdoc(function) or "") + "\n", re.MULTILINE)
    docs: dict[str, str] = {}
    for entry in re.split(r"^ {4}(?=\S)", section[1] if section else "", flags=re.MULTILINE):
        names, colon, text = entry.partition(":")
        if colon:
            docs |= dict.fromkeys(re.split(r", *", names), " ".join(text.split()))
    return docs


Debug = typing.Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(help="show the traceback of a failure")]
Progress = typing.Annotated[bool, tyro.conf.arg(help=argument_docs(learn)["progress"])]
UntilSolved = typing.Annotated[
    tyro.conf.FlagCreatePairsOff[bool],
    tyro.conf.arg(
        help="stop, after a checkpoint, once the mean return of the last 100 episodes reaches the environment's "
        "reward_threshold"
    ),
]
TensorBoard = typing.Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(help="log for TensorBoard too")]
WandB = typing.Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(help="log to Weights & Biases too")]

AutoResume = typing.Annotated[
    tyro.conf.FlagCreatePairsOff[bool],
    tyro.conf.arg(help="go on with the run in --run-dir, if there is one: for what a launcher starts again by itself"),
]
Heartbeat = typing.Annotated[
    float,
    tyro.conf.arg(
        help="of several processes: seconds without a sign of life, or in which others wait, that end the job"
    ),
]

EXTRAS: Mapping[str, tuple[Any, Any]] = {
    "auto_resume": (AutoResume, False),
    "until_solved": (UntilSolved, False),
    "tensorboard": (TensorBoard, False),
    "wandb": (WandB, False),
    "heartbeat": (Heartbeat, processes.HEARTBEAT_SECONDS),
    "debug": (Debug, False),
}
"""Options of the command line alone, and their defaults."""


class Option(NamedTuple):
    """`kind` is the type that tyro reads from text; `default` is `inspect.Parameter.empty` where there is none."""

    name: str
    kind: Any
    default: Any
    help: str

    @property
    def is_single(self) -> bool:
        """Whether a value is one word, not several."""
        members = typing.get_args(self.kind) or (self.kind,)
        return not any(typing.get_origin(member) in (tuple, list, dict) for member in (self.kind, *members))

    def field(self, default: Any = inspect.Parameter.empty) -> tuple[str, Any, Any]:
        """For `dataclasses.make_dataclass`, with another default if one is given."""
        default = self.default if default is inspect.Parameter.empty else default
        annotated: Any = typing.Annotated[self.kind, tyro.conf.arg(help=self.help)]
        if default is inspect.Parameter.empty:
            return self.name, annotated, dataclasses.field()
        return self.name, annotated, dataclasses.field(default=default)


class Chosen(NamedTuple):
    """What the rest of the options depends on.

    Attributes:
        env: the environment's id; None if the command line has none.
        network: its name.
        preset: defaults, over those of `learn`.
        family: where the preset comes from.
    """

    env: str | None
    network: str
    preset: Mapping[str, Any]
    family: str

    @property
    def options(self) -> list[Option]:
        """All options under their defaults: those of `learn`, then the network's."""
        mine = network_options(self.network)
        return [
            option._replace(default=self.preset.get(option.name, option.default)) for option in learn_options() + mine
        ]


def choose(arguments: Sequence[str]) -> Chosen:
    """Looks through the arguments of `train` for the environment and the network.

    Raises:
        ValueError: no such environment or network, in arguments that have no other fault.
    """
    env, network, unknown = _glance([word for word in arguments if word not in ("-h", "--help")])
    try:
        if env is not None:
            envs.check_id(env)
        family = envs.FAMILIES[-1] if env is None else envs.family_of(env)
        preset = {**family.settings} if env is None else envs.preset(env)
        if "num_envs" in preset:  # as many in each process
            processes_count = launch.detected().size
            preset["num_envs"] = -(-preset["num_envs"] // processes_count) * processes_count
        name = preset.get("network", "mlp") if network is None else network
        networks.check(name)
    except ValueError:
        if unknown:  # whose value may have been taken for the id: tyro has the better message
            return Chosen(None, "mlp", envs.FAMILIES[-1].settings, envs.FAMILIES[-1].name)
        raise
    return Chosen(env, name, {**preset, "network": name}, family.name)


def default_run_dir(env_id: str) -> str:
    """A directory of its own for each start."""
    name = re.sub(r"[^\w.+-]", "-", env_id)
    return f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def learn_options() -> list[Option]:
    """The arguments of `learn` that a command line can give."""
    parameters = inspect.signature(learn).parameters.values()
    given = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in NOT_OPTIONS}
    return _options(learn, given)


def network_options(name: str) -> list[Option]:
    """The arguments of a registered network's builder, but for those whose type no text can give."""
    builder = networks.known()[name]
    taken = {option.name for option in learn_options()} | NOT_OPTIONS
    given = {key: p for key, p in networks.options(builder).items() if key not in taken}
    return [option._replace(help=f"of {name}: {option.help}") for option in _options(builder, given)]


def _options(function: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]) -> list[Option]:
    helps, hints, found = argument_docs(function), {}, []
    with contextlib.suppress(NameError, TypeError):  # a user's builder may be annotated with what isn't there
        hints = typing.get_type_hints(function)
    for name, parameter in parameters.items():
        kind = _readable(hints.get(name, Any), parameter.default)
        if kind is not None:
            found.append(Option(name, kind, parameter.default, helps.get(name, "")))
    return found


def _readable(annotation: Any, default: Any) -> Any:
    """The part of a type that text can give, None first (or text would take it); None if nothing remains."""
    if annotation is Any:
        if isinstance(default, bool | int | float):
            return type(default)
        if default is None:
            return None | str
        return str if isinstance(default, str) or default is inspect.Parameter.empty else None
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    members = typing.get_args(annotation) if union else (annotation,)
    kept = [kind for kind in map(_of_text, members) if kind is not None]
    if not kept:
        return None
    if types.NoneType in members:
        kept.insert(0, None)
    return typing.Union[tuple(kept)]  # noqa: UP007 (made at run time)


def _of_text(member: Any) -> Any:
    """What a member of a type is read as: 1 2 for a sequence, camera cnn_small for a mapping; None: it can't be."""
    origin, of = typing.get_origin(member), typing.get_args(member)
    if origin is Mapping:
        return dict[str, str]
    if origin is Sequence:
        return types.GenericAlias(tuple, (*of, ...))
    return member if member in (bool, int, float, str) or origin in (typing.Literal, tuple, list) else None


def _glance(arguments: Sequence[str]) -> tuple[str | None, str | None, list[str]]:
    """The environment, the network and the unknown arguments, under the options of all networks."""
    known = learn_options() + [option for name in networks.known() for option in network_options(name)]
    kinds: dict[str, Any] = {
        o.name: o.kind if o.kind is bool else None | (str if o.is_single else list[str]) for o in known
    }
    # A list, since tyro 1.0 reads an absent text as "[]" where unknown arguments are let through.
    ids: Any = typing.Annotated[list[str], tyro.conf.Positional]
    fields: list[Any] = [("env", ids, dataclasses.field(default_factory=list))]
    fields += [
        (name, kind, dataclasses.field(default=False if kind is bool else None))
        for name, kind in (
            kinds | {name: bool if default is False else None | str for name, (_, default) in EXTRAS.items()}
        ).items()
    ]
    loose = dataclasses.make_dataclass("Loose", fields, kw_only=True)
    try:
        asked: Any
        asked, unknown = tyro.cli(
            loose, args=list(arguments), return_unknown_args=True, add_help=False, console_outputs=False
        )
    except SystemExit:  # the proper reading tells why
        return None, None, []
    return next(iter(asked.env), None), asked.network, list(unknown)
