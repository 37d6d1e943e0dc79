"""`ppo2 sweep`."""

import contextlib
import dataclasses
import signal
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from ppo2.cli import options
from ppo2.cli.env_options import UsageError
from ppo2.cli.output import console, say, shown, start_jax, write_line
from ppo2.system.text import say_error

if TYPE_CHECKING:
    from ppo2.sweeps.result import Sweep as Result

FIGURES = ("final", "best", "auc")
RUN_DIR = ("sweep-", "seeds{seeds}")
"""Parts of the name of the run directory by default."""
Parallel = Annotated[
    Literal["auto"] | int,
    arg(
        help="runs on host environments that train at a time, each in a process with its share of the processors; "
        "auto: one for each processor; 1: one after another. Results are the same"
    ),
]
Backend = Annotated[
    Literal["local", "ray"],
    arg(help="ray: runs train in actors of a Ray cluster; --run-dir is then on a disk that all its machines have"),
]


@dataclasses.dataclass(kw_only=True)
class SweepCommand(options.Command):
    """Train with several seeds, and with every combination of the settings that get several values. Defaults: presets,
    which depend on the environment.
    """

    @classmethod
    def with_options(cls, arguments: Sequence[str]) -> type:
        """The command with options and defaults for the environment and the network in `arguments`."""
        chosen = options.choose(arguments, many=True, env_words=cls.words.env)
        seeds = Annotated[int, arg(help="number of seeds for each combination of settings: 0, 1, ...")]
        run_dir = Annotated[str | None, arg(help="directory for table, curves and models; None writes nothing")]
        return cls.with_fields(
            chosen,
            [
                chosen.env_field(),
                ("config", options.ConfigFile, None),
                ("seeds", seeds, 5),
                *(_many(option) if option.is_single else option.field() for option in _swept(chosen)),
                ("run_dir", run_dir, chosen.run_dir_pattern(*RUN_DIR)),
                ("verbose", options.Verbose, None),
                ("progress", options.Progress, True),
                ("parallel", Parallel, "auto"),
                ("backend", Backend, "local"),
                ("debug", options.Debug, False),
            ],
        )

    def __call__(self) -> int:
        from ppo2.sweeps.sweep import sweep

        given = self._with_file()
        if given["seeds"] < 1:
            raise UsageError(f"--seeds (={given['seeds']}) must be at least 1.")
        start_jax(given["device"][0])
        settings = {o.name: given[o.name] if o.is_single else (given[o.name],) for o in _swept(self.chosen)}
        if len(settings["network"]) > 1:  # defaults are of the first: each takes its own
            for option in options.network_options(self.chosen.network):
                if settings.get(option.name) == (option.default,):
                    del settings[option.name]
        if self.words.eval_env:
            raise UsageError("--eval-env.NAME: a sweep evaluates on nothing by itself; leave it out.")
        if kwargs := self.env_kwargs(given["env"], self.chosen.file.get("env_kwargs")):
            settings["env_kwargs"] = (kwargs,)
        run_dir, made = given["run_dir"], None
        if run_dir == self.chosen.run_dir_pattern(*RUN_DIR):
            run_dir = made = options.new_run_dir(run_dir, seeds=given["seeds"])
        swept: dict[str, Any] = {
            name: values[0] if len(values) == 1 else list(values) for name, values in settings.items()
        }
        with options.removed_if_empty(made), _telling_how_to_resume(run_dir):
            result = sweep(
                env=given["env"],
                seed=range(given["seeds"]),
                run_dir=run_dir,
                **options.loudness(given["verbose"], given["progress"]),
                parallel=given["parallel"],
                backend=given["backend"],
                **swept,
            )
        return _finish(result, quiet=given["verbose"] == 0)

    def _with_file(self) -> dict[str, Any]:
        """The options' values, the file's in place of defaults; there a list is values to sweep over.

        Raises:
            ValueError: the file has settings that a sweep can't take.
        """
        from ppo2.config import Config
        from ppo2.sweeps.axes import NOT_TAKEN

        single = {option.name for option in _swept(self.chosen) if option.is_single}
        values, found = dict(vars(self)), dict[str, Any]()
        for name, value in self.chosen.file.items():
            if name in NOT_TAKEN and value not in (None, getattr(Config, name, None)):
                raise ValueError(f"{self.chosen.path}: `{name}` (={value!r}) is of no use in a sweep: take it out.")
            found[name] = (tuple(value) if isinstance(value, list) else (value,)) if name in single else value
        if found.get("seed") is not None and values["verbose"] != 0:
            say(f"{self.chosen.path}: `seed` is left out, as --seeds says how many there are")
        taken = {name: value for name, value in found.items() if name not in {"seed", *NOT_TAKEN}}
        return self.chosen._replace(file=taken).over(values)


def resume(run_dir: Path, *, loudness: Mapping[str, Any], device: str | None) -> int:
    """Goes on with the sweep in a directory. Returns the exit status.

    Args:
        loudness: the arguments `verbose` and `progress` of `sweep`.
        device: the processor to compute on; None: as before.

    Raises:
        ValueError: it was started with objects, which no file can hold.
    """
    from ppo2.config import placeholder_in
    from ppo2.sweeps import directory
    from ppo2.sweeps.sweep import sweep

    found = directory.settings_in(run_dir) or {"env": None, "swept": {}, "fixed": {}}
    swept = {name: [_thawed(value) for value in values] for name, values in found["swept"].items()}
    fixed = {name: _thawed(value) for name, value in found["fixed"].items()}
    each = {"env": found["env"], **fixed, **{f"{name} {i}": v for name, vs in swept.items() for i, v in enumerate(vs)}}
    if objects := [name.partition(" ")[0] for name, value in each.items() if placeholder_in(name, value)]:
        raise ValueError(
            f"{run_dir} was started from Python with what no file can hold: {', '.join(dict.fromkeys(objects))}. Go on "
            f"with it from there: ppo2.sweep(run_dir={str(run_dir)!r}, ...) with the same arguments."
        )
    start_jax(device or fixed.get("device", "auto"))
    if device is not None:
        fixed["device"] = device
    with _telling_how_to_resume(str(run_dir)):
        arguments: dict[str, Any] = {**fixed, **swept, **loudness}
        return _finish(sweep(env=found["env"], run_dir=run_dir, **arguments), quiet=loudness["verbose"] == 0)


def is_sweep(path: Path) -> bool:
    """True if a directory is that of a sweep."""
    from ppo2.plot.sources import SETTINGS

    return (path / SETTINGS).is_file()


def _thawed(value: Any) -> Any:
    """A setting as it was given: JSON has lists for tuples, and a list is swept over."""
    return tuple(map(_thawed, value)) if isinstance(value, list) else value


@contextlib.contextmanager
def _telling_how_to_resume(run_dir: str | None) -> Iterator[None]:
    from ppo2.plot.sources import RUNS

    runs = None if run_dir is None else Path(run_dir).expanduser().absolute() / RUNS
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
        if isinstance(stop, KeyboardInterrupt) or stop.code == 128 + number:
            how = f"; `ppo2 resume {run_dir}` continues it" if runs is not None and runs.is_dir() else ""
            say_error(f"stopped by {number.name}{how}")
        raise


def _finish(result: "Result", *, quiet: bool) -> int:
    """Shows the result. Returns the exit status: 1 where a run failed, or not all could be saved."""
    if not quiet:
        _show(result)
    failures = getattr(result, "failures", ())
    for failure in failures:
        say_error(failure.words)
    if failures and result.run_dir is not None:
        say_error(
            f"{len(failures)} of {len(result.table)} runs failed; `ppo2 resume {result.run_dir}` tries them again"
        )
    return int(bool(failures) or bool(getattr(result, "unsaved", "")))


def _swept(chosen: options.Chosen) -> list[options.Option]:
    """The options that may have several values."""
    from ppo2.sweeps.axes import NOT_TAKEN

    return [option for option in chosen.options if option.name not in {"seed", *NOT_TAKEN}]


def _many(option: options.Option) -> tuple[Any, ...]:
    """The field of an option of `train`, for one value or more."""
    kind: Any = types.GenericAlias(tuple, (option.kind, ...))
    annotated: Any = Annotated[kind, arg(help=f"{option.help} One value or more.", metavar="VALUE [VALUE ...]")]
    return option.name, annotated, (option.default,)


def _show(result: "Result") -> None:
    """Prints the configurations, best first, and the directory of the results."""
    from ppo2.reporting.screens import table_of_lines
    from ppo2.runners.episodes import EPISODE_WINDOW

    rows = [
        [*(shown(row[name]) for name in (*result.swept, "runs")), *(f"{row[name]:,.1f}" for name in FIGURES)]
        for row in result.configurations()
    ]
    screen = console()
    screen.print(table_of_lines((*result.swept, "runs", *FIGURES), rows, screen.width))
    words = (
        f"Interquartile means over seeds: of the last {EPISODE_WINDOW} episodes, of the best {EPISODE_WINDOW}, of all. "
        "Best first."
    )
    write_line(screen, words, "dim")
    if result.run_dir is not None:
        say(f"runs, models and curves: {result.run_dir}, {result.run_dir / 'curves.png'}")
