"""`ppo2 train` and `ppo2 resume`."""

import contextlib
import dataclasses
import inspect
import os
import signal
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
from tyro.conf import Positional, arg

from ppo2 import envs
from ppo2.checkpoints import checkpoint
from ppo2.cli import options
from ppo2.cli.output import say, shown, start_processes
from ppo2.config import Config, placeholder_in
from ppo2.distributed import collectives, processes
from ppo2.reporting.tables import EPISODE_WINDOW
from ppo2.training import run_directory
from ppo2.training.learn import learn
from ppo2.training.start import read_start

IN_THE_PLAN = frozenset({"total_timesteps", "num_envs", "nsteps", "nminibatches", "noptepochs", "seed"})
"""Settings that learn's own lines tell of (plan.py)."""

_SETTINGS = frozenset(field.name for field in dataclasses.fields(Config))

NOT_SETTINGS = frozenset({"network", "value_network", "run_dir", "progress", "load_path"})


def train_command(arguments: list[str]) -> type:
    """The command whose options and defaults suit the environment and the network in `arguments`."""
    chosen = options.choose(arguments)
    fields: list[Any] = [
        (
            "env",
            Annotated[Positional[str], arg(metavar="ENV", help="environment id; `ppo2 envs` lists them")],
            dataclasses.field(),
        )
    ]
    extra = {"run_dir": options.default_run_dir(chosen.env or "ENV"), "progress": True}
    fields += [option.field(extra.get(option.name, option.default)) for option in chosen.options]
    fields += [(name, kind, dataclasses.field(default=default)) for name, (kind, default) in options.EXTRAS.items()]

    def run(self: Any) -> int:
        return _train(chosen, {name: getattr(self, name) for name, *_ in fields})

    made = dataclasses.make_dataclass("Train", fields, kw_only=True, namespace={"__call__": run})
    what = f"those of {chosen.env} ({chosen.family})" if chosen.env else "presets, which depend on the environment"
    made.__doc__ = f"Train a policy. The defaults are {what}."
    return made


@dataclasses.dataclass(kw_only=True)
class Resume:
    """Go on with a run that was stopped, to the total that was asked for."""

    run: Annotated[
        Positional[Path], arg(metavar="RUN", help="run directory, or the one of its checkpoints to go on from")
    ]
    progress: options.Progress = True
    until_solved: options.UntilSolved = False
    tensorboard: options.TensorBoard = False
    wandb: options.WandB = False
    heartbeat: options.Heartbeat = processes.HEARTBEAT_SECONDS
    debug: options.Debug = False

    def __call__(self) -> int:
        start_processes(heartbeat=self.heartbeat, debug=self.debug)
        arguments: dict[str, Any] | None = collectives.run_on_first(self._arguments)  # whose files they are
        if arguments is not None:
            arguments |= {"run_dir": Path(arguments["run_dir"]), "load_path": self.run, "progress": self.progress}
            _learn(arguments, until_solved=self.until_solved, tensorboard=self.tensorboard, wandb=self.wandb)
        return 0

    def _arguments(self) -> dict[str, Any] | None:
        """Those of `learn` that the run was started with, and its directory; None: it is finished."""
        run_dir = run_directory.of(self.run)
        settings = run_directory.read_config(run_dir)
        settings = {name: value for name, value in settings.items() if name in _SETTINGS}
        self._check_nameable(run_dir, settings)
        try:
            config = Config.from_json(settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{run_dir}: its {run_directory.CONFIG} has a setting that can't be: {error}") from error
        start = read_start(self.run, run_dir)
        if start.goes_on:
            run_directory.check_same(start.settings, config, run_dir)  # before anything is built as they say
            if start.resumed is not None and start.progress.update >= config.nupdates:
                say(
                    f"{self.run} is finished: all {config.nupdates:,} updates are done. `ppo2 eval {self.run}` "
                    f"evaluates it; `ppo2 train {config.env} --load-path {self.run}` trains on from its weights."
                )
                return None
        network_kwargs = settings.pop("network_kwargs", {})
        if taken := [name for name in network_kwargs if name in inspect.signature(learn).parameters]:
            raise ValueError(f"{run_dir}: its {run_directory.CONFIG} has {taken[0]!r} for an argument of the network.")
        return {**network_kwargs, **settings, "run_dir": str(run_dir)}

    def _check_nameable(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        """Raises ValueError where the run was started with objects, which no file can hold."""
        network_kwargs = settings.get("network_kwargs")
        flat = {**settings, **(network_kwargs if isinstance(network_kwargs, dict) else {})}
        found = {name: placeholder_in(name, value) for name, value in flat.items()}
        objects = {name: placeholder["object"] for name, placeholder in found.items() if placeholder is not None}
        if objects:
            listed = ", ".join(f"`{name}` ({what})" for name, what in objects.items())
            given = ", ".join(f"{name}=..." for name in objects)
            raise ValueError(
                f"{run_dir} was started from Python with what no file can hold: {listed}. Resume it from there: "
                f"ppo2.learn({given}, load_path={str(self.run)!r}, run_dir={str(run_dir)!r}) with its other settings."
            )


def _train(chosen: options.Chosen, values: dict[str, Any]) -> int:
    assert values["env"] == chosen.env
    extras = {name: values.pop(name) for name in options.EXTRAS}
    start_processes(heartbeat=extras.pop("heartbeat"), debug=extras.pop("debug"))
    say(_resolved(chosen, values))
    if extras.pop("auto_resume"):
        if values["load_path"] is not None or values["run_dir"] is None:
            raise ValueError("--auto-resume goes on with the run in --run-dir: give that, and leave --load-path out.")
        if (Path(values["run_dir"]) / run_directory.CONFIG).is_file():
            values["load_path"] = values["run_dir"]
    _learn(values, **extras)
    return 0


def _learn(arguments: dict[str, Any], *, until_solved: bool, tensorboard: bool, wandb: bool) -> None:
    run_dir = None if arguments["run_dir"] is None else Path(arguments["run_dir"])
    solved = _UntilSolved(arguments["env"]) if until_solved else None
    asked = [os.environ.get("PPO2_LOG_FORMAT", ""), "tensorboard" * tensorboard, "wandb" * wandb]
    os.environ["PPO2_LOG_FORMAT"] = ",".join(filter(None, asked))
    with _telling_how_to_resume(run_dir):
        learn(**arguments, update_fn=solved)
    if solved is not None:
        say(solved.verdict())


class _UntilSolved:
    """An `update_fn` that stops training once an environment counts as solved.

    Raises:
        ValueError: the environment has no reward_threshold.
    """

    def __init__(self, env_id: str) -> None:
        envs.check_id(env_id)
        threshold = None if envs.adapter_of(env_id) else gym.spec(env_id.rpartition(":")[2]).reward_threshold
        if threshold is None:
            raise ValueError(
                f"--until-solved: {env_id} is registered without a reward_threshold. Leave the option out."
            )
        self.threshold, self.mean, self.solved = float(threshold), float("nan"), False

    def __call__(self, update: int, model: Any, stats: Any) -> bool:
        self.mean = float(stats.eprewmean)
        self.solved = self.mean >= self.threshold and stats.episodes >= EPISODE_WINDOW
        return not self.solved

    def verdict(self) -> str:
        """What came of it, for a person."""
        if self.solved:
            return f"solved: the mean return of {self.mean:.1f} reaches the threshold of {self.threshold:g}"
        few = f" in {EPISODE_WINDOW} episodes" if self.mean >= self.threshold else ""
        return f"not solved: the mean return did not reach the threshold of {self.threshold:g}{few}"


@contextlib.contextmanager
def _telling_how_to_resume(run_dir: Path | None) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
        if isinstance(stop, KeyboardInterrupt) or stop.code == 128 + number:
            saved = run_dir is not None and any((run_dir / checkpoint.FOLDER).glob(f"*{checkpoint.SUFFIX}"))
            how = f"; `ppo2 resume {run_dir}` goes on" if saved else ""
            if processes.is_first():
                say(f"ppo2: stopped by {number.name}{how}", to_error=True)
        raise


def _resolved(chosen: options.Chosen, values: Mapping[str, Any]) -> str:
    """The settings that matter, in the style of learn's plan, which follows and tells the rest."""
    learns = {option.name: option.default for option in options.learn_options()}
    mine = [option.name for option in options.network_options(chosen.network)]
    network = [chosen.network, *(f"{name} {shown(values[name])}" for name in mine)]
    if values["value_network"] is not None:
        network.append(f"value_network {shown(values['value_network'])}")
    left_out = IN_THE_PLAN | NOT_SETTINGS
    settings = [
        f"{name} {shown(values[name])}"
        for name, default in learns.items()
        if name not in left_out and (name in chosen.preset or values[name] != default)
    ]
    rows = {"env": [f"{values['env']} ({chosen.family} preset)"], "network": network, "settings": settings}
    if values["load_path"] is not None:
        rows["from"] = [values["load_path"]]
    rows["run"] = [values["run_dir"] or "not kept (--run-dir None)"]
    return "\n".join(_row(label, items) for label, items in rows.items() if items)


def _row(label: str, items: list[str]) -> str:
    text = ", ".join(item.replace(" ", "\0") for item in items)  # an item stays on one line
    lines = textwrap.wrap(text, 70, break_long_words=False, break_on_hyphens=False)
    return f"{label:<10}" + f"\n{'':10}".join(line.replace("\0", " ") for line in lines)
