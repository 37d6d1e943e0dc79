"""`ppo2 tune`."""

import contextlib
import dataclasses
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from ppo2.cli import options
from ppo2.cli.output import start_jax
from ppo2.system.text import say_error

if TYPE_CHECKING:
    from ppo2.tuning.result import Tuning

NOT_TAKEN = frozenset({"seed", "eval_interval", "eval_episodes", "save_interval", "keep"})
"""Settings of `train` that a search has none of, or its own."""
Trials = Annotated[int, arg(help="trials to make: the preset's, failed ones and those given up early included")]
TimeLimit = Annotated[
    float | None,
    arg(metavar="MINUTES", help="minutes after which no trial begins; the comparison at the end is not in them"),
]
Seeds = Annotated[int, arg(help="trainings of each trial, with different seeds; its value is their mean")]
FinalSeeds = Annotated[int, arg(help="new seeds with which the best trial is compared with the preset; at least 2")]
SpaceFile = Annotated[
    str | None,
    arg(
        metavar="FILE",
        help="settings to search and their values, as YAML, TOML or JSON. None: the space of the environment's family, "
        "which --dry-run prints",
    ),
]
Seed = Annotated[int | None, arg(help="seed of the search and of all trainings. None draws one and reports it")]
Parallel = Annotated[
    Literal["auto"] | int,
    arg(
        help="trainings at a time, each in a process with its share of the processors; auto: one for each processor. "
        "On environments in JAX: trials in one program; auto: a quarter of all, at most 16"
    ),
]
RunDir = Annotated[
    str | None,
    arg(
        help="directory for the study, its table, pictures, trainings and best.yaml. The same command again continues "
        "the study in it, also with more --trials; None writes nothing"
    ),
]
EvalEpisodes = Annotated[
    int | None,
    arg(help="episodes in each evaluation of a trial; the comparison takes five times as many. None: 20, or 64 on JAX"),
]
DryRun = Annotated[options.Flag, arg(help="say what would be done and what it costs, and print the space")]


@dataclasses.dataclass(kw_only=True)
class TuneCommand(options.Command):
    """Search for settings that do better than the preset, and write them to a file for `ppo2 train --config`. The first
    trial is the preset. The best trial is compared with it on new seeds, and if it is no better, the result is the
    preset. Options of `train` are the same in all trials: a setting that is given isn't searched. Defaults: presets,
    which depend on the environment.
    """

    @classmethod
    def with_options(cls, arguments: Sequence[str]) -> type:
        """The command with options and defaults for the environment and the network in `arguments`."""
        chosen = options.choose(arguments, env_words=cls.words.env)
        return cls.with_fields(
            chosen,
            [
                chosen.env_field(),
                ("config", options.ConfigFile, None),
                ("trials", Trials, 30),
                ("time_limit", TimeLimit, None),
                ("seeds", Seeds, 1),
                ("final_seeds", FinalSeeds, 5),
                ("space", SpaceFile, None),
                ("dry_run", DryRun, False),
                *(option.field() for option in _taken(chosen)),
                ("eval_episodes", EvalEpisodes, None),
                ("seed", Seed, None),
                ("run_dir", RunDir, _run_dir(chosen)),
                ("verbose", options.Verbose, None),
                ("progress", options.Progress, True),
                ("parallel", Parallel, "auto"),
                ("debug", options.Debug, False),
            ],
        )

    def __call__(self) -> int:
        from ppo2.tuning.tune import tune

        chosen = self._without_what_tune_has()
        values = chosen.over(vars(self))
        start_jax(values["device"])
        names = {option.name for option in _taken(chosen)} & {*chosen.given, *chosen.file}
        fixed = {name: values[name] for name in names}
        if values["eval_episodes"] is not None:
            fixed["eval_episodes"] = values["eval_episodes"]
        kwargs = self.environments_arguments(values["env"], values["eval_env"], chosen.file)
        fixed |= {name: value for name, value in kwargs.items() if value}
        run_dir = None if values["run_dir"] is None else Path(values["run_dir"]).expanduser()
        new = run_dir is not None and not run_dir.exists()
        loudness = options.loudness(values["verbose"], values["progress"])
        if loudness["verbose"] == 1 and loudness["progress"]:  # lines of trials are enough where no table can be
            loudness["progress"] = None
        with options.removed_if_empty(str(run_dir) if new else None), _telling_how_to_go_on(run_dir):
            result = tune(
                env=values["env"],
                trials=values["trials"],
                time_limit=values["time_limit"],
                seeds=values["seeds"],
                final_seeds=values["final_seeds"],
                space=values["space"],
                seed=values["seed"],
                run_dir=run_dir,
                parallel=values["parallel"],
                dry_run=values["dry_run"],
                **loudness,
                **fixed,
            )
        return _status(result)

    def _without_what_tune_has(self) -> options.Chosen:
        """The environment, the network and the file, whose settings of single trainings say nothing here."""
        left_out = NOT_TAKEN | {"load_path", "load_parts"}
        return self.chosen._replace(file={n: v for n, v in self.chosen.file.items() if n not in left_out})


def _taken(chosen: options.Chosen) -> list[options.Option]:
    """The options that all trainings may have."""
    return [option for option in chosen.options if option.name not in NOT_TAKEN]


def _run_dir(chosen: options.Chosen) -> str:
    """The directory by default: always the same, so that the same command goes on with the study in it."""
    return chosen.run_dir_pattern("tune-", "").removesuffix("--{time}")


@contextlib.contextmanager
def _telling_how_to_go_on(run_dir: Path | None) -> Iterator[None]:
    there = None if run_dir is None else run_dir.absolute()
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
        if isinstance(stop, KeyboardInterrupt) or stop.code == 128 + number:
            how = "; the same command continues it" if there is not None and there.is_dir() else ""
            say_error(f"stopped by {number.name}{how}")
        raise


def _status(result: "Tuning") -> int:
    """The exit status: 1 where not all could be saved. A trial that failed was reported, and is a result too."""
    return int(bool(result.unsaved))
