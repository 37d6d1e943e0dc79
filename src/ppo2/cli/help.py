"""Help of the commands that train: options in groups, in the words of the command line."""

import dataclasses
import inspect
import shutil
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ppo2.cli.env_options import TEXTS as ENV_TEXTS
from ppo2.cli.env_options import EnvArgument, env_arguments
from ppo2.cli.options import network_options
from ppo2.cli.output import shown
from ppo2.system.text import printable

GROUPS: Mapping[str, tuple[str, ...]] = {
    "search": ("trials", "time_limit", "final_seeds", "space", "dry_run"),
    "environment": ("env", "num_envs", "info_keys", "max_steps"),
    "learning": (
        "total_timesteps", "seed", "seeds", "nsteps", "nminibatches", "noptepochs", "lr", "cliprange",
        "value_cliprange", "gamma", "lam", "ent_coef", "vf_coef", "max_grad_norm", "target_kl", "bootstrap_truncated",
        "normalize_obs", "normalize_rewards", "on_nonfinite", "until_solved", "load_path", "load_parts",
    ),
    "evaluation": ("eval_env", "eval_interval", "eval_episodes", "episodes", "stochastic", "partial_episodes"),
    "saving": (
        "config", "run_dir", "auto_resume", "save_interval", "keep", "log", "log_options", "log_interval",
        "monitor_limit", "tensorboard", "wandb", "video", "video_interval", "video_envs", "video_steps",
    ),
    "network": ("network", "value_network", "encoders", "action_dist", "precision"),
    "display": ("progress", "verbose", "debug"),
    "processes": ("device", "devices", "shards", "heartbeat", "parallel", "backend"),
}  # fmt: skip
"""Options by group. Arguments of the network's builder are in `network`; what isn't named here, in `OTHERS`."""
OTHERS = "options"
ANOTHER_NAME = "a registered name: `ppo2 networks` lists them"
SCHEDULE = "A SCHEDULE is a number, or linear:NUMBER or cosine:NUMBER, which fall to 0 over the run."
TEXTS = {
    "network": f"network of the policy, {ANOTHER_NAME}",
    "value_network": "shared: the value is a second head on the network; copy: it has a separate network of the "
    "same kind; or another name. None: shared",
    "encoders": "networks that encode parts of a Dict or Tuple observation, by path: camera cnn_small arm/angles mlp. "
    "Other parts are flattened, and images are encoded by cnn, or by cnn_small if they are small",
    "num_envs": "environments, stepped side by side. Several processes (torchrun, srun, ...) share them",
    "eval_env": "id of an environment to evaluate on at intervals, with frozen statistics",
    "eval_episodes": "episodes in each evaluation",
    "info_keys": "names of numbers in the environment's info to record at the end of each episode. They go to "
    "monitor.csv, and their means over the last 100 episodes to the log (info/NAME). is_success is always recorded",
    "cliprange": "largest distance of the probability ratio from 1 that the loss rewards, a SCHEDULE; usually 0.1 to "
    "0.3",
    "lr": "learning rate of Adam, a SCHEDULE; usually 1e-4 to 1e-3",
    "value_cliprange": "limit of the value's change in an update: same as --cliprange, a SCHEDULE, or None: no limit",
    "total_timesteps": "steps to take, over all environments; cut to whole updates of num-envs x nsteps",
    "nsteps": "steps of each environment between two updates; the batch is num-envs x nsteps",
    "seed": "seed of everything random; the same seed gives the same bits. None draws one and reports it",
    "shards": "blocks of environments that are shuffled separately; must divide --num-envs. With device environments, "
    "as many devices as divide the blocks share the work. None: by the number of processes and devices",
    "devices": "most devices of this machine that device environments use; None: all",
    "device": "processor to compute on. auto: for device environments the accelerator, for others the faster one for "
    "each part of the work. A resumed run computes where it did before",
    "action_dist": "distribution of continuous actions: gaussian, clipped to the bounds, with standard deviations "
    "that don't depend on the observation; squashed_gaussian, mapped between the bounds by tanh, with standard "
    "deviations that the network computes",
    "precision": "precision of products in the networks: float32; tf32, which NVIDIA's cards multiply faster; bf16, "
    "with 7 bits of each factor. None: float32",
    "keep": "number of the last checkpoints to keep; with --eval-env the best one is kept, too. None keeps all",
    "on_nonfinite": "if a number is NaN or infinite: raise an error, or skip that update",
    "bootstrap_truncated": "count the value of the last observation if a time limit cut an episode short; if off, that "
    "is a true end, as in the original",
    "normalize_rewards": "divide rewards by the running standard deviation of discounted returns",
    "eval_interval": "updates between two evaluations; None: as --log-interval",
    "video_interval": "updates between two films of the policy, with one after the first and one after the last "
    "update, in the directory videos of --run-dir; 0 makes none. Another process makes them during training",
    "video_envs": "environments in a film, side by side; each plays one episode, and its last picture stays until all "
    "episodes have ended",
    "log": "formats of the log beside CSV and JSON lines, which --run-dir always has: tensorboard, and the trackers "
    "wandb, trackio and mlflow. Without the option: those that the environment variable PPO2_LOG_FORMAT names",
    "log_options": "options of trackers, by name: wandb.project robots mlflow.experiment legs",
    "env_kwargs": "arguments of the environment, and of how it is made: --env.NAME on the command line",
    "eval_env_kwargs": "the same for the environment to evaluate on, in place of env_kwargs; null: env_kwargs",
}
"""Words for options whose text in Python speaks of what only Python has."""


class Shown(NamedTuple):
    """An option as help shows it."""

    flags: str
    text: str
    default: Any = inspect.Parameter.empty

    def _has_default(self) -> bool:
        """True where there is a default, and the text has not said what None means."""
        if self.default is inspect.Parameter.empty or _is_tuple(self.default):
            return False
        is_none = self.default is None or _is_tuple(self.default, None)
        return not (is_none and (not self.text or "None" in self.text)) and self.flags != "-h, --help"

    def lines(self, width: int, column: int) -> Iterator[str]:
        """The option in a column of its own, its text beside it, or below where it is longer."""
        default = f"Default: {_default(self.default)}." if self._has_default() else ""
        text = self.text.strip()
        words = " ".join(filter(None, [text if not text or text.endswith(".") else f"{text}.", default]))
        wrapped = textwrap.wrap(words, width - column, break_on_hyphens=False) or [""]
        first = f"  {self.flags}"
        if len(first) >= column:
            yield first
        else:
            yield f"{first:<{column}}{wrapped.pop(0)}".rstrip()
        yield from (" " * column + line for line in wrapped)


def _is_tuple(default: Any, *content: Any) -> bool:
    """True for a tuple of this content; an array isn't compared, as that would give an array."""
    return isinstance(default, tuple) and default == content


def help_page(name: str, command: type) -> str:
    """The help of a command, a dataclass with a field for each option, for the screen's width."""
    chosen = getattr(command, "chosen", None)
    network = [] if chosen is None else [option.name for option in network_options(chosen.network)]
    env = None if chosen is None else chosen.env
    width = min(max(shutil.get_terminal_size((80, 24)).columns, 40), 110)
    column = 26
    positional, groups = list[Shown](), {group: list[Shown]() for group in (OTHERS, *GROUPS)}
    hints = typing.get_type_hints(command, include_extras=True)
    for field in dataclasses.fields(command):
        facts = getattr(hints[field.name], "__metadata__", ())
        option = _shown(field, hints[field.name], facts, {} if chosen is None else TEXTS)
        if any("positional" in str(fact).lower() for fact in facts) or "Positional" in str(hints[field.name]):
            metavar = next((fact.metavar for fact in facts if getattr(fact, "metavar", None)), field.name.upper())
            positional.append(option._replace(flags=metavar, default=inspect.Parameter.empty))
        else:
            group = next((title for title, names in GROUPS.items() if field.name in names), None)
            group = group or ("network" if field.name in network else OTHERS)
            groups[group].append(option)
    if hasattr(command, "words"):
        groups["environment"] += _environment(env)
        if "eval_env" in {field.name for field in dataclasses.fields(command)}:
            groups["evaluation"].append(
                Shown("--eval-env.NAME VALUE", "the same for --eval-env, beside what --env.* says")
            )
    groups["display"].append(Shown("-h, --help", "show this"))
    usage = f"ppo2 {name} {' '.join(one.flags for one in positional)} [OPTIONS]"
    described = textwrap.fill(" ".join((inspect.getdoc(command) or "").split()), width)
    parts = [f"Usage: {usage}", "", described, ""]
    for one in positional:
        parts += one.lines(width, column)
    for title, options in groups.items():
        if options:
            parts += ["", title.upper()]
            if title == "learning" and any(one.flags.startswith("--lr") for one in options):
                parts += textwrap.wrap(SCHEDULE, width, initial_indent="  ", subsequent_indent="  ")
            for one in options:
                parts += one.lines(width, column)
    return "\n".join(parts)


def _environment(env: str | None) -> list[Shown]:
    """The options `--env.NAME` of an environment; of none, the form."""
    form = Shown("--env.NAME VALUE", "an argument of the environment, or of how it is made: `ppo2 train ID --help`")
    if env is None:
        return [form]
    known, is_open = env_arguments(env)
    listed = [
        Shown(
            f"--env.{name.replace('_', '-')} {_word_of(one)}",
            ENV_TEXTS.get(name, "") if one.is_own else "",
            str(one.default).lower() if isinstance(one.default, bool) else one.default,
        )
        for name, one in sorted(known.items(), key=lambda item: item[1].is_own)
    ]
    return [*listed, Shown("--env.NAME VALUE", "others that its constructor takes")] if is_open else listed


def _shown(field: Any, hint: Any, facts: Sequence[Any], texts: Mapping[str, str]) -> Shown:
    told = next((fact.help for fact in facts if getattr(fact, "help", None)), "")
    metavar = next((fact.metavar for fact in facts if getattr(fact, "metavar", None)), None)
    aliases = next((fact.aliases for fact in facts if getattr(fact, "aliases", None)), ())
    text = texts.get(field.name, told).replace(", or any function of arrays", "")
    if "One value or more" in told and field.name in texts:
        text += ". One value or more"
    kind = typing.get_args(hint)[0] if facts else hint
    flag = "--" + field.name.replace("_", "-")
    default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
    if kind is bool:
        is_flag = default is False and any("FlagCreatePairsOff" in str(fact) for fact in facts)
        empty = inspect.Parameter.empty
        return Shown(flag if is_flag else f"{flag}, --no-{flag[2:]}", text, empty if is_flag else default)
    return Shown(f"{', '.join([*aliases, flag])} {metavar or _value_word(kind)}", text, default)


def _word_of(argument: EnvArgument) -> str:
    """The word for the values of an environment's argument: by its type, or else by its default's."""
    kind, default = argument.kind, argument.default
    if kind is None and type(default) in (bool, int, float, str):
        kind = type(default)
    word = _value_word(kind) if kind is not None else "VALUE"
    return f"[{word[:-4]}, ...]" if word.endswith(" ...") else word


def _value_word(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        words = dict.fromkeys(_value_word(one) for one in arguments if one is not types.NoneType)
        return "SCHEDULE" if set(words) == {"NUMBER", "TEXT"} else "|".join(words)
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin in (tuple, list, dict):
        return f"{_value_word(arguments[0])} ..." if arguments else "VALUE ..."
    shown_as: dict[Any, str] = {bool: "true|false", int: "INT", float: "NUMBER", str: "TEXT"}
    return shown_as.get(kind, "VALUE") if isinstance(kind, type) else "VALUE"  # an annotation may be anything


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple) and len(value) == 1:
        return _default(value[0])
    return shown(value) if not isinstance(value, tuple) else " ".join(map(printable, value))
