"""`ppo2 plot`, and lists of what there is: `ppo2 envs`, `ppo2 networks`, `ppo2 presets`."""

import dataclasses
import importlib.util
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from ppo2.cli.options import Debug
from ppo2.cli.output import console, say, shown, table, write_line
from ppo2.config import Config

if TYPE_CHECKING:
    from ppo2.envs import Family

MODULES = {"atari": "ale_py", "box2d": "Box2D", "minigrid": "minigrid", "mujoco": "mujoco"}
"""The module that each extra of environments installs."""
TABLE_FAMILIES = 4
"""Families in one table of presets, which has to fit on a screen."""


@dataclasses.dataclass(kw_only=True)
class Plot:
    """Draw learning curves; runs that differ only in the seed share a line and a band."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="run directory, also of an unfinished run or of a sweep")]
    more: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="[RUN ...]", help="more runs", help_behavior_hint="")
    ] = ()
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE", help="picture: .png, .svg or .pdf")] = Path("curves.png")
    x: Annotated[Literal["timesteps", "updates", "time"], arg(aliases=["-x"], help="the horizontal axis")] = "timesteps"
    y: Annotated[
        tuple[str, ...],
        arg(
            aliases=["-y"],
            metavar="COLUMN [COLUMN ...]",
            help="return or length of episodes, or any column of progress.csv, such as loss/approxkl; each has "
            "its own axes",
        ),
    ] = ("return",)
    smooth: Annotated[
        int | None,
        arg(
            help="number of episodes, or of rows of the log, over which a point is the mean. None: episodes within a "
            "twentieth of the timesteps, single rows"
        ),
    ] = None
    labels: Annotated[
        tuple[str, ...] | None,
        arg(metavar="NAME [NAME ...]", help="a label for each run; runs with the same label share a line and a band"),
    ] = None
    title: Annotated[str | None, arg(help="title of the picture; None: the environment's id")] = None
    debug: Debug = False

    def __call__(self) -> int:
        from ppo2 import plot

        runs, how = [self.run, *self.more], {"smooth": self.smooth, "labels": self.labels, "title": self.title}
        plot.curve(runs, self.out, x=self.x, y=self.y, **how)  # type: ignore[arg-type]
        say(f"wrote {self.out}")
        return 0


@dataclasses.dataclass(kw_only=True)
class Envs:
    """List the environment ids that are registered, by family, and those of JAX libraries, by prefix."""

    debug: Debug = False

    def __call__(self) -> int:
        from ppo2 import envs
        from ppo2.envs.families.ids import register_all

        register_all()
        ids = latest_ids()
        for family in envs.FAMILIES:
            own = [env_id for env_id in ids if envs.family_of(env_id) is family]
            if listed := [env_id for env_id in own if re.fullmatch(family.listed, env_id)]:
                _print_ids(family.name, listed, needs=None if _is_installed(family) else family.remedy)
        for adapter in envs.ADAPTERS.values():
            is_there = importlib.util.find_spec(adapter.package) is not None
            names = [f"{adapter.prefix}:{name}" for name in adapter.ids()] if is_there else []
            title = f"{adapter.prefix}: (on the device)"
            _print_ids(title, names, needs=None if is_there else adapter.remedy, note=adapter.ends)
        write_line(console(), "The newest versions; others, and ids of your own package as module:Name-v0, work too.")
        return 0


def _print_ids(title: str, ids: Iterable[str], *, needs: str | None, note: str | None = None) -> None:
    """Prints ids in columns under a title, which says what must be installed for them, if it isn't."""
    from rich.columns import Columns
    from rich.padding import Padding
    from rich.text import Text

    screen = console()
    heading = Text(title, "bold").append("" if needs is None else f"  (needs {needs})", "not bold dim")
    write_line(screen, heading)
    if names := [Text(env_id, no_wrap=True) for env_id in ids]:
        screen.print(Padding(Columns(names, padding=(0, 3)), (0, 0, 0, 2)))
    if note is not None:
        screen.print(Padding(Text(note, "dim"), (0, 0, 0, 2)))
    screen.print()


@dataclasses.dataclass(kw_only=True)
class Networks:
    """List the networks that have a name, with their arguments and defaults."""

    debug: Debug = False

    def __call__(self) -> int:
        from ppo2 import networks

        screen = console()
        for name, builder in networks.known().items():
            parameters = networks.options(builder).values()
            title, *_ = (inspect.getdoc(builder) or "").splitlines() or [""]
            arguments = (p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters)
            screen.print(name, style="bold", end="")
            write_line(screen, f"  {title}")
            write_line(screen, f"  {'  '.join(arguments)}", "dim")
        return 0


@dataclasses.dataclass(kw_only=True)
class Presets:
    """List the presets from which `ppo2 train` starts: all of them, or the one of an environment."""

    env: Annotated[
        Positional[str | None],
        arg(metavar="[ID]", help="environment id; all families without it", help_behavior_hint=""),
    ] = None
    debug: Debug = False

    def __call__(self) -> int:
        from ppo2 import envs

        if self.env is None:
            host = [family for family in envs.FAMILIES if family not in envs.DEVICE_FAMILIES]
            parts = [host[i : i + TABLE_FAMILIES] for i in range(0, len(host), TABLE_FAMILIES)]
            tables = [{family.name: family.settings for family in part} for part in (*parts, envs.DEVICE_FAMILIES)]
            notes = [f"{family.name}: {family.source}" for family in envs.FAMILIES]
            notes.append("An empty cell: learn's own default; `ppo2 train ID --help` has them all.")
        else:
            preset = envs.preset(self.env)
            tables, family = [{self.env: preset}], envs.family_with(self.env, preset)
            notes = [f"{family.name}: {family.source}"]
        screen, order = console(), list(Config.__dataclass_fields__)
        for presets in tables:
            names = dict.fromkeys(name for preset in presets.values() for name in preset)
            in_order = sorted(names, key=lambda name: order.index(name) if name in order else len(order))
            rows = (
                [name, *(shown(preset[name]) if name in preset else "" for preset in presets.values())]
                for name in in_order
            )
            screen.print(table(["", *presets], rows))
            screen.print()
        for note in notes:
            write_line(screen, note, "dim")
        return 0


def latest_ids() -> list[str]:
    """The registered ids that can be made, each in its newest version."""
    import gymnasium as gym

    latest: dict[tuple[str | None, str], gym.envs.registration.EnvSpec] = {}
    for spec in gym.registry.values():
        before = latest.get((spec.namespace, spec.name))
        if before is None or (before.version or 0) < (spec.version or 0):
            latest[spec.namespace, spec.name] = spec
    without = set() if importlib.util.find_spec("flax") else {"phys2d", "tabular"}  # Gymnasium's own in JAX
    adapters = ("GymV21Environment", "GymV26Environment")  # for its old interface
    return sorted(spec.id for spec in latest.values() if spec.namespace not in without and spec.name not in adapters)


def _is_installed(family: "Family") -> bool:
    return family.extra is None or importlib.util.find_spec(MODULES.get(family.extra, family.extra)) is not None
