"""`ppo2 sweep`."""

import dataclasses
import itertools
import types
import typing
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ppo2 import envs
from ppo2.cli import options
from ppo2.cli.output import console, say, shown, start_jax
from ppo2.reporting.tables import EPISODE_WINDOW
from ppo2.training.sweep import NOT_TAKEN, PICTURE, Sweep, sweep

LEFT_OUT = frozenset({"seed", "run_dir", "progress", *NOT_TAKEN})
FIGURES = ("final", "best", "auc")


def sweep_command(arguments: list[str]) -> type:
    """The command whose options and defaults suit the environment and the network in `arguments`."""
    chosen = options.choose(_essentials(arguments))
    fields: list[Any] = [
        (
            "env",
            Annotated[Positional[str], arg(metavar="ENV", help="environment id; `ppo2 envs` lists them")],
            dataclasses.field(),
        ),
        (
            "seeds",
            Annotated[int, arg(help="how many seeds to train each configuration with: 0, 1, ...")],
            dataclasses.field(default=5),
        ),
    ]
    swept = [option for option in chosen.options if option.name not in LEFT_OUT]
    fields += [_many(option) if option.is_single else option.field() for option in swept]
    fields += [
        (
            "run_dir",
            Annotated[str | None, arg(help="directory for table, curves and models; None writes nothing")],
            dataclasses.field(default=options.default_run_dir(f"sweep-{chosen.env or 'ENV'}")),
        ),
        ("progress", options.Progress, dataclasses.field(default=True)),
        ("debug", options.Debug, dataclasses.field(default=False)),
    ]

    def run(self: Any) -> int:
        if chosen.env is not None and self.env != chosen.env:
            raise ValueError(
                f"`env` (={self.env!r}): name the environment first, as in ppo2 sweep {self.env} --seeds 5."
            )
        start_jax()
        given = {o.name: getattr(self, o.name) if o.is_single else (getattr(self, o.name),) for o in swept}
        if len(self.network) > 1:  # defaults are of the first: each takes its own
            for option in options.network_options(chosen.network):
                if given.get(option.name) == (option.default,):
                    del given[option.name]
        result = sweep(
            env=self.env,
            seed=range(self.seeds),
            run_dir=self.run_dir,
            progress=self.progress,
            **{name: values[0] if len(values) == 1 else list(values) for name, values in given.items()},
        )
        _show(result)
        return 0

    made = dataclasses.make_dataclass("Sweep", fields, kw_only=True, namespace={"__call__": run})
    what = f"those of {chosen.env} ({chosen.family})" if chosen.env else "presets, which depend on the environment"
    made.__doc__ = (
        f"Train with several seeds, and every combination of settings given several values. Defaults: {what}."
    )
    return made


def _essentials(arguments: list[str]) -> list[str]:
    """The environment and the network in the arguments of `sweep`, whose other options may have many values."""
    words = itertools.takewhile(lambda word: word not in ("-h", "--help"), arguments)
    free = [word for word in words if not word.startswith("-")]
    env = next((word for word in free if _is_id(word)), free[0] if free else None)
    after = arguments[arguments.index("--network") + 1 :][:1] if "--network" in arguments else []
    return [*([] if env is None else [env]), *(["--network", *after] if after else [])]


def _is_id(word: str) -> bool:
    try:
        envs.check_id(word)
    except ValueError:
        return False
    return True


def _many(option: options.Option) -> tuple[str, Any, Any]:
    """The option of `train`, for one value or more."""
    kind: Any = types.GenericAlias(tuple, (option.kind, ...))
    annotated: Any = typing.Annotated[kind, arg(help=f"{option.help} One value or more.", metavar="VALUE [VALUE ...]")]
    return option.name, annotated, dataclasses.field(default=(option.default,))


def _show(result: Sweep) -> None:
    """The configurations, best first, and where the rest is."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for name in (*result.swept, "runs", *FIGURES):
        table.add_column(Text(name), justify="right")
    for row in result.configurations():
        table.add_row(
            *(Text(shown(row[name])) for name in (*result.swept, "runs")), *(f"{row[name]:,.1f}" for name in FIGURES)
        )
    screen = console()
    screen.print(table)
    screen.print(
        f"Interquartile means over seeds: of the last {EPISODE_WINDOW} episodes, of the best {EPISODE_WINDOW}, of all."
        " Best first.",
        style="dim",
        soft_wrap=True,
    )
    if result.run_dir is not None:
        say(f"runs, models and curves: {result.run_dir}, {result.run_dir / PICTURE}")
