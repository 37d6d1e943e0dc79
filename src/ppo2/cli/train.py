"""`ppo2 train` and `ppo2 resume`."""

import contextlib
import dataclasses
import inspect
import os
import signal
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from ppo2.cli import options, sweep
from ppo2.cli.output import say, shown, start_processes
from ppo2.config import Config, Device, logs, placeholder_in
from ppo2.system.text import say_error, screen_width

IN_THE_PLAN = frozenset({"total_timesteps", "num_envs", "nsteps", "nminibatches", "noptepochs", "seed"})
"""Settings that the plan has, which `learn` prints (training/plan.py)."""

PLAIN_WIDTH = 80
"""Characters in a line of what goes to no terminal."""

AutoResume = Annotated[
    options.Flag,
    arg(help="continue the run in --run-dir, if there is one: for jobs that a launcher restarts"),
]
LoadPath = Annotated[
    str | None,
    arg(
        help="a checkpoint, or a run directory (its newest checkpoint). A new run takes its weights, optimiser and "
        "normaliser, and begins at its first update. If --run-dir is this directory, or the one that the checkpoint "
        "is in, and the settings are the same, that run is resumed instead; it starts again if it was stopped before "
        "its first checkpoint. Later checkpoints are set aside. Another --total-timesteps extends it."
    ),
]
LoadParts = Annotated[
    tuple[Literal["weights", "normaliser", "optimiser"], ...] | None,
    arg(help="the parts that a new run takes from --load-path; None: all. The others begin from scratch."),
]
RunDir = Annotated[str | None, arg(help="directory for logs, checkpoints and the learning curve; None writes nothing.")]


@dataclasses.dataclass(kw_only=True)
class Train(options.Command):
    """Train a policy. The defaults are presets, which depend on the environment."""

    @classmethod
    def with_options(cls, arguments: Sequence[str]) -> type:
        """The command with options and defaults for the environment and the network in `arguments`."""
        chosen = options.choose(arguments, env_words=cls.words.env)
        return cls.with_fields(
            chosen,
            [
                chosen.env_field(),
                ("config", options.ConfigFile, None),
                *(option.field() for option in chosen.options),
                ("load_path", LoadPath, None),
                ("load_parts", LoadParts, None),
                ("run_dir", RunDir, chosen.run_dir_pattern()),
                ("progress", options.Progress, True),
                ("auto_resume", AutoResume, False),
                *((field.name, field.type, field.default) for field in dataclasses.fields(options.TrainingOptions)),
            ],
        )

    def __call__(self) -> int:
        from ppo2.training import run_directory

        values = self.chosen.over(vars(self))
        del values["config"]
        extras = {field.name: values.pop(field.name) for field in dataclasses.fields(options.TrainingOptions)}
        auto_resume, by_default = values.pop("auto_resume"), values["run_dir"] == self.chosen.run_dir_pattern()
        if auto_resume and (values["load_path"] is not None or values["run_dir"] is None or by_default):
            raise ValueError(
                "--auto-resume continues the run in --run-dir when the same command is started again: give that, "
                "and leave --load-path out."
            )
        start_processes(device=values["device"], heartbeat=extras.pop("heartbeat"), debug=extras.pop("debug"))
        values |= self.environments_arguments(values["env"], values["eval_env"], self.chosen.file)
        made = self._make_run_dir(values)
        values |= options.loudness(extras.pop("verbose"), values["progress"])
        if values["verbose"]:
            say(_resolved(self.chosen, values))
        there = run_directory.absolute(values["run_dir"]) if auto_resume else None
        if there is not None and (there / run_directory.CONFIG).is_file():
            values["load_path"] = values["run_dir"]
        with options.removed_if_empty(made):
            return _learn(values, **extras)

    def _make_run_dir(self, values: dict[str, Any]) -> str | None:
        """Makes the directory that has no other name than its default, after drawing the seed, which is in it."""
        if values["run_dir"] != self.chosen.run_dir_pattern():
            return None
        from ppo2.distributed import collectives
        from ppo2.numerics.randomness import fresh_seed

        if values["seed"] is None:
            values["seed"] = collectives.run_on_first(fresh_seed)
        values["run_dir"] = options.new_run_dir(values["run_dir"], seed=values["seed"])
        return str(values["run_dir"])


@dataclasses.dataclass(kw_only=True)
class Resume(options.TrainingOptions):
    """Continue a run, or a sweep, that was stopped, to the total that was asked for; a run also to another total."""

    run: Annotated[
        Positional[Path], arg(metavar="RUN", help="run directory, or one of its checkpoints, to continue from")
    ]
    total_timesteps: Annotated[
        float | None,
        arg(
            help="another total for the whole run, which also extends a finished one. Schedules then follow the new "
            "total. None: as before"
        ),
    ] = None
    video_interval: Annotated[
        int | None, arg(help="updates between two films from now on; 0 makes none. None: as before")
    ] = None
    device: Annotated[
        Device | None,
        arg(help="processor from now on; None: as before, if this machine has it. Another one gives other bits"),
    ] = None
    progress: options.Progress = True

    def __call__(self) -> int:
        from ppo2.distributed import collectives

        if sweep.is_sweep(self.run):
            if self.total_timesteps is not None or self.until_solved or self.video_interval is not None:
                raise ValueError(f"{self.run} is a sweep, which continues as it began: leave the options of a run out.")
            _ask_for_logs(tensorboard=self.tensorboard, wandb=self.wandb)
            return sweep.resume(self.run, loudness=self._loudness, device=self.device)
        start_processes(device=self._device_to_start(), heartbeat=self.heartbeat, debug=self.debug)
        arguments: dict[str, Any] | None = collectives.run_on_first(self._arguments)  # whose files they are
        if arguments is not None:
            arguments |= {"run_dir": Path(arguments["run_dir"]), "load_path": self.run, **self._loudness}
            return _learn(arguments, until_solved=self.until_solved, tensorboard=self.tensorboard, wandb=self.wandb)
        return 0

    @property
    def _loudness(self) -> dict[str, Any]:
        return options.loudness(self.verbose, self.progress)

    def _arguments(self) -> dict[str, Any] | None:
        """The arguments of `learn` that the run was started with, and its directory; None if it is finished."""
        from ppo2.training import run_directory
        from ppo2.training.learn import learn
        from ppo2.training.start import read_start

        run_dir = run_directory.of(self.run)
        settings = run_directory.read_config(run_dir)
        settings = {name: value for name, value in settings.items() if name in Config.__dataclass_fields__}
        self._check_nameable(run_dir, settings)
        if self.total_timesteps is not None:
            settings["total_timesteps"] = self.total_timesteps
        if self.video_interval is not None:
            settings["video_interval"] = self.video_interval
        settings["device"] = self._device(settings)
        try:
            config = Config.from_json(settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{run_dir}: its {run_directory.CONFIG} has a setting that can't be: {error}") from error
        start = read_start(self.run, run_dir)
        if start.goes_on:
            done = start.progress.update
            run_directory.check_same(start.settings, config, run_dir, done)  # before anything is built as they say
            is_whole = start.resumed is not None and start.progress.unfinished is None
            if is_whole and done >= config.nupdates:
                self._say_finished(config)
                return None
        network_kwargs = settings.pop("network_kwargs", {})
        if taken := [name for name in network_kwargs if name in inspect.signature(learn).parameters]:
            raise ValueError(f"{run_dir}: its {run_directory.CONFIG} has {taken[0]!r} for an argument of the network.")
        return {**network_kwargs, **settings, "run_dir": str(run_dir)}

    def _say_finished(self, config: Config) -> None:
        if self.verbose != 0:
            say(
                f"{self.run} is finished: all {config.nupdates:,} updates are done. `ppo2 eval {self.run}` evaluates "
                f"it; `ppo2 resume {self.run} --total-timesteps {2 * config.total_timesteps}` extends it; "
                f"`ppo2 train {config.env} --load-path {self.run}` trains on from its weights."
            )

    def _device_to_start(self) -> Device:
        """The device asked for, or that of the run, where this process can read its files: JAX hasn't started yet."""
        from ppo2.training import run_directory

        if self.device is None:
            with contextlib.suppress(OSError, ValueError):  # what is wrong is told later
                return "cpu" if run_directory.read_config(run_directory.of(self.run)).get("device") == "cpu" else "auto"
        return self.device or Config.device

    def _device(self, settings: Mapping[str, Any]) -> Any:
        """The device to go on with: the one asked for, or that of the run, or what there is."""
        from ppo2.numerics.compilation import place_of

        before = settings.get("device", Config.device) if self.device is None else self.device
        is_elsewhere = before in ("cpu", "gpu") and self.device is None and place_of(before) is None
        return Config.device if is_elsewhere else before

    def _check_nameable(self, run_dir: Path, settings: Mapping[str, Any]) -> None:
        """Raises ValueError if the run was started with objects, which no file can hold."""
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


def _ask_for_logs(*, tensorboard: bool, wandb: bool) -> None:
    asked = [os.environ.get("PPO2_LOG_FORMAT", ""), "tensorboard" * tensorboard, "wandb" * wandb]
    os.environ["PPO2_LOG_FORMAT"] = ",".join(filter(None, asked))


def _learn(arguments: dict[str, Any], *, until_solved: bool, tensorboard: bool, wandb: bool) -> int:
    """Trains. Returns the exit status: 1 where the trained model could not be saved."""
    from ppo2.callbacks.stopping import RewardThreshold, reward_threshold
    from ppo2.training.interruption import interrupted
    from ppo2.training.learn import learn

    run_dir = None if arguments["run_dir"] is None else Path(arguments["run_dir"])
    solved = RewardThreshold() if until_solved else None
    if solved is not None:
        reward_threshold(arguments["env"], "--until-solved")  # complains before anything is made
    if tensorboard or wandb:  # saved with the run, as what --log says
        before = logs.formats("log", arguments.get("log") or os.environ.get("PPO2_LOG_FORMAT", ""))
        arguments["log"] = (*before, *("tensorboard",) * tensorboard, *("wandb",) * wandb)
    _ask_for_logs(tensorboard=tensorboard, wandb=wandb)
    with _telling_how_to_resume(run_dir, quiet=arguments["verbose"] == 0):
        model = learn(**arguments, callbacks=[] if solved is None else [solved])
        stopped = interrupted()
        if stopped is not None and stopped is model:  # at a prompt `learn` returns where Ctrl-C stops it
            raise KeyboardInterrupt
    if solved is not None and arguments["verbose"]:
        say(solved.verdict())
    return int(bool(getattr(model, "unsaved", "")))


@contextlib.contextmanager
def _telling_how_to_resume(run_dir: Path | None, *, quiet: bool) -> Iterator[None]:
    from ppo2.checkpoints import checkpoint
    from ppo2.distributed import processes

    # absolute now: an environment may change the current directory
    folder = None if run_dir is None else run_dir.expanduser().absolute() / checkpoint.FOLDER
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
        if (isinstance(stop, KeyboardInterrupt) or stop.code == 128 + number) and processes.is_first() and not quiet:
            saved = folder is not None and any(folder.glob(f"*{checkpoint.SUFFIX}"))
            how = f"; `ppo2 resume {run_dir}` continues it" if saved else ""
            say_error(f"stopped by {number.name}{how}")
        raise


def _resolved(chosen: options.Chosen, values: Mapping[str, Any]) -> str:
    """The settings that matter, in the style of the plan that `learn` prints next."""
    network = [chosen.network, *(f"{o.name} {shown(values[o.name])}" for o in options.network_options(chosen.network))]
    if values["value_network"] is not None:
        network.append(f"value_network {shown(values['value_network'])}")
    settings = [
        f"{option.name} {shown(values[option.name])}"
        for option in options.setting_options()
        if option.name not in IN_THE_PLAN | {"network", "value_network"}
        and (option.name in {**chosen.preset, **chosen.file} or values[option.name] != option.default)
    ]
    arguments = [f"{name} {shown(value)}" for name, value in (values["env_kwargs"] or {}).items()]
    env = [f"{values['env']} ({chosen.family} preset)", *arguments]
    rows = {"env": env, "network": network, "settings": settings}
    if values["load_path"] is not None:
        rows["from"] = [values["load_path"]]
    rows["run"] = [values["run_dir"] or "not kept (--run-dir None)"]
    return "\n".join(_row(label, items) for label, items in rows.items() if items)


def _row(label: str, items: list[str]) -> str:
    text = ", ".join(item.replace(" ", "\0") for item in items)  # an item stays on one line
    width = screen_width(sys.stdout) or PLAIN_WIDTH
    wrapper = textwrap.TextWrapper(
        width,
        initial_indent=f"{label:<10}",
        subsequent_indent=" " * 10,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapper.fill(text).replace("\0", " ")
