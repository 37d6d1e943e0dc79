"""`ppo2 plot`, and what there is to choose from: `ppo2 envs`, `ppo2 networks`, `ppo2 presets`."""

import dataclasses
import importlib.util
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import gymnasium as gym
from tyro.conf import Positional, arg

from ppo2 import envs, networks
from ppo2.cli.options import Debug, learn_options
from ppo2.cli.output import console, say, shown
from ppo2.envs.families.ids import register_all
from ppo2.reporting import plot
from ppo2.reporting.tables import EPISODE_WINDOW

MODULES = {"atari": "ale_py", "box2d": "Box2D", "minigrid": "minigrid", "mujoco": "mujoco"}
"""By extra: the module that must be there."""
FAMILIES_ABREAST = 4


@dataclasses.dataclass(kw_only=True)
class Plot:
    """Draw learning curves; runs that differ only in the seed share a line and a band."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="run directory, also an unfinished one")]
    more: Annotated[Positional[tuple[Path, ...]], arg(metavar="[RUN ...]", help="more", help_behavior_hint="")] = ()
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE", help=f"one of {', '.join(plot.SUFFIXES)}")] = Path(
        "curves.png"
    )
    smooth: Annotated[int, arg(help="episodes that a point is the mean of")] = EPISODE_WINDOW
    debug: Debug = False

    def __call__(self) -> int:
        say(f"wrote {plot.curve([self.run, *self.more], self.out, smooth=self.smooth)}")
        return 0


@dataclasses.dataclass(kw_only=True)
class Envs:
    """List the environment ids that are registered, by family, and those of JAX libraries, by prefix."""

    debug: Debug = False

    def __call__(self) -> int:
        from rich.columns import Columns
        from rich.padding import Padding
        from rich.text import Text

        screen = console()
        register_all()
        ids = latest_ids()
        for family in envs.FAMILIES:
            its = [env_id for env_id in ids if envs.family_of(env_id) is family]
            mine = [env_id for env_id in its if re.fullmatch(family.listed, env_id)]
            if mine:
                needs = "" if _installed(family) else f"  (needs ppo2[{family.extra}])"
                screen.print(Text(family.name, "bold").append(needs, "not bold dim"))
                screen.print(Padding(Columns([Text(i, no_wrap=True) for i in mine], padding=(0, 3)), (0, 0, 0, 2)))
                screen.print()
        for adapter in envs.ADAPTERS.values():
            there = importlib.util.find_spec(adapter.package) is not None
            title = Text(f"{adapter.prefix}: (on the device)", "bold")
            if not there:
                title.append(f"  (needs {adapter.remedy})", "not bold dim")
            screen.print(title, soft_wrap=True)
            names = [Text(f"{adapter.prefix}:{name}", no_wrap=True) for name in adapter.ids()] if there else []
            if names:
                screen.print(Padding(Columns(names, padding=(0, 3)), (0, 0, 0, 2)))
            screen.print(Padding(Text(adapter.ends, "dim"), (0, 0, 0, 2)))
            screen.print()
        screen.print(
            "The newest versions; others, and ids of your own package as module:Name-v0, work too.", soft_wrap=True
        )
        return 0


@dataclasses.dataclass(kw_only=True)
class Networks:
    """List the networks that have a name, with their arguments and defaults."""

    debug: Debug = False

    def __call__(self) -> int:
        screen = console()
        for name, builder in networks.known().items():
            arguments = "  ".join(_argument(p) for p in networks.options(builder).values())
            about = (inspect.getdoc(builder) or "").partition("\n")[0]
            screen.print(name, style="bold", end="")
            screen.print(f"  {about}", soft_wrap=True)
            screen.print(f"  {arguments}", style="dim", soft_wrap=True)
        return 0


@dataclasses.dataclass(kw_only=True)
class Presets:
    """List what `ppo2 train` starts from: all families, or the settings for one environment."""

    env: Annotated[Positional[str | None], arg(metavar="ID", help="environment id; all families without it")] = None
    debug: Debug = False

    def __call__(self) -> int:
        from rich.table import Table
        from rich.text import Text

        if self.env is None:
            host = [family for family in envs.FAMILIES if family not in envs.DEVICE_FAMILIES]
            rows = [host[i : i + FAMILIES_ABREAST] for i in range(0, len(host), FAMILIES_ABREAST)]
            parts = [*rows, envs.DEVICE_FAMILIES]
            tables = [{family.name: family.settings for family in some} for some in parts]
            notes = [f"{family.name}: {family.source}" for family in envs.FAMILIES]
            notes.append("An empty cell: learn's own default; `ppo2 train ID --help` has them all.")
        else:
            tables = [{self.env: envs.preset(self.env)}]
            family = envs.family_of(self.env)
            notes = [f"{family.name}: {family.source}"]
        screen = console()
        for columns in tables:
            table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
            table.add_column("")
            for name in columns:
                table.add_column(Text(name), justify="right")
            for setting in _in_order(name for settings in columns.values() for name in settings):
                cells = (Text(shown(of[setting])) if setting in of else "" for of in columns.values())
                table.add_row(setting, *cells)
            screen.print(table)
            screen.print()
        for note in notes:
            screen.print(note, style="dim", soft_wrap=True)
        return 0


def latest_ids() -> list[str]:
    """The registered ids that can be made, each in its newest version."""
    latest: dict[tuple[str | None, str], gym.envs.registration.EnvSpec] = {}
    for spec in gym.registry.values():
        before = latest.get((spec.namespace, spec.name))
        if before is None or (before.version or 0) < (spec.version or 0):
            latest[spec.namespace, spec.name] = spec
    without = set() if importlib.util.find_spec("flax") else {"phys2d", "tabular"}  # Gymnasium's own in JAX
    adapters = ("GymV21Environment", "GymV26Environment")  # for its old interface
    return sorted(spec.id for spec in latest.values() if spec.namespace not in without and spec.name not in adapters)


def _installed(family: envs.Family) -> bool:
    return family.extra is None or importlib.util.find_spec(MODULES.get(family.extra, family.extra)) is not None


def _argument(parameter: inspect.Parameter) -> str:
    return parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}"


def _in_order(names: Iterable[str]) -> list[str]:
    """In the order of learn's arguments; a network's after them."""
    order = {option.name: index for index, option in enumerate(learn_options())}
    return sorted(dict.fromkeys(names), key=lambda name: order.get(name, len(order)))
