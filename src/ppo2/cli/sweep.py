"""`ppo2 sweep`."""

import dataclasses
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from ppo2.cli import options
from ppo2.cli.output import console, say, shown, start_jax, table, write_line

if TYPE_CHECKING:
    from ppo2.training.sweep_result import Sweep as Result

FIGURES = ("final", "best", "auc")
RUN_DIR = ("sweep-", "seeds{seeds}")
"""Parts of the name of the run directory by default."""


@dataclasses.dataclass(kw_only=True)
class SweepCommand(options.Command):
    """Train with several seeds, and every combination of settings given several values. Defaults: presets, which depend
    on the environment.
    """

    @classmethod
    def with_options(cls, arguments: Sequence[str]) -> type:
        """The command with options and defaults for the environment and the network in `arguments`."""
        chosen = options.choose(arguments, many=True)
        seeds = Annotated[int, arg(help="how many seeds to train each configuration with: 0, 1, ...")]
        run_dir = Annotated[str | None, arg(help="directory for table, curves and models; None writes nothing")]
        return cls.with_fields(
            chosen,
            [
                ("env", options.Env),
                ("seeds", seeds, 5),
                *(_many(option) if option.is_single else option.field() for option in _swept(chosen)),
                ("run_dir", run_dir, chosen.run_dir_pattern(*RUN_DIR)),
                ("progress", options.Progress, True),
                ("debug", options.Debug, False),
            ],
        )

    def __call__(self) -> int:
        from ppo2.training.sweep import sweep

        given = vars(self)
        start_jax(given["device"][0])
        settings = {o.name: given[o.name] if o.is_single else (given[o.name],) for o in _swept(self.chosen)}
        if len(settings["network"]) > 1:  # defaults are of the first: each takes its own
            for option in options.network_options(self.chosen.network):
                if settings.get(option.name) == (option.default,):
                    del settings[option.name]
        run_dir, made = given["run_dir"], None
        if run_dir == self.chosen.run_dir_pattern(*RUN_DIR):
            run_dir = made = options.new_run_dir(run_dir, seeds=given["seeds"])
        with options.removed_if_empty(made):
            result = sweep(
                env=given["env"],
                seed=range(given["seeds"]),
                run_dir=run_dir,
                progress=given["progress"],
                **{name: values[0] if len(values) == 1 else list(values) for name, values in settings.items()},
            )
        _show(result)
        return int(bool(getattr(result, "unsaved", "")))


def _swept(chosen: options.Chosen) -> list[options.Option]:
    """The options that may have several values."""
    from ppo2.training.sweep_axes import NOT_TAKEN

    return [option for option in chosen.options if option.name not in {"seed", *NOT_TAKEN}]


def _many(option: options.Option) -> tuple[Any, ...]:
    """The field of an option of `train`, for one value or more."""
    kind: Any = types.GenericAlias(tuple, (option.kind, ...))
    annotated: Any = Annotated[kind, arg(help=f"{option.help} One value or more.", metavar="VALUE [VALUE ...]")]
    return option.name, annotated, (option.default,)


def _show(result: "Result") -> None:
    """Prints the configurations, best first, and the directory of the results."""
    from ppo2.runners.episodes import EPISODE_WINDOW

    rows = [
        [*(shown(row[name]) for name in (*result.swept, "runs")), *(f"{row[name]:,.1f}" for name in FIGURES)]
        for row in result.configurations()
    ]
    screen = console()
    screen.print(table((*result.swept, "runs", *FIGURES), rows))
    words = (
        f"Interquartile means over seeds: of the last {EPISODE_WINDOW} episodes, of the best {EPISODE_WINDOW}, of all. "
        "Best first."
    )
    write_line(screen, words, "dim")
    if result.run_dir is not None:
        say(f"runs, models and curves: {result.run_dir}, {result.run_dir / 'curves.png'}")
