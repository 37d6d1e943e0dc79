"""Medians, spreads and tables."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.table import Table

NOISE = 0.3  # clean runs on an idle machine are spread over about 15 %


class Spread(NamedTuple):
    """A median, and the least and the greatest value: with five repetitions quartiles would say no more."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """How many times `ours` is of `theirs`: of the medians, and of each pair of runs that followed one another."""
    paired = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "of_medians": statistics.median(ours) / statistics.median(theirs),
        "paired": Spread.of(paired)._asdict(),
    }


def machine() -> dict[str, Any]:
    """What a number about speed must be read with."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": load,
    }


def show(console: Console, results: Mapping[str, Any]) -> None:
    """Everything as tables."""
    about = results["machine"]
    load = "" if about["load_before"] is None else f", load {about['load_before']:.2f} before"
    console.print(f"\n{about['cpu']}, {about['usable_cores']} of {about['cores']} cores{load}; {about['system']}")
    noisy = noisy_rows(results)
    if noisy:
        console.print(f"Not to be trusted, runs differ by more than {NOISE:.0%}: {'; '.join(noisy)}", style="yellow")
    for title, versions in results["versions"].items():
        console.print(f"{title}: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    for workload in results["workloads"].values():
        console.print(_speed_table(workload))
    if results["startup"]:
        console.print(_startup_table(results["startup"]))
    console.print(
        "Spread is least to greatest. Ratio: our configured steps per second over that row's, of the medians; "
        "paired: median and spread of the ratios of runs that followed one another.",
        style="dim",
    )


def noisy_rows(results: Mapping[str, Any]) -> list[str]:
    """Whose steps per second were spread so far that the machine must have been busy with something else."""
    rows = [
        (f"{name} {title}", row["steps_per_second"])
        for name, workload in results["workloads"].items()
        for title, row in (*workload["contenders"].items(), ("environment alone", workload["environment_alone"]))
    ]
    return [title for title, rate in rows if rate["high"] - rate["low"] > NOISE * rate["median"]]


def _speed_table(result: Mapping[str, Any]) -> Table:
    table = Table(title=result["title"], title_justify="left", title_style="bold")
    for name in ("", "steps/s", "spread", "ratio", "paired", "step / act / train", "of env alone"):
        table.add_column(name, justify="left" if not name else "right")
    alone = result["environment_alone"]["steps_per_second"]
    for title, row in result["contenders"].items():
        rate, ratio, share = row["steps_per_second"], row.get("ratio"), row.get("shares")
        table.add_row(
            title,
            f"{rate['median']:,.0f}",
            _between(rate, ",.0f"),
            "" if ratio is None else f"{ratio['of_medians']:.2f}",
            "" if ratio is None else f"{ratio['paired']['median']:.2f} ({_between(ratio['paired'], '.2f')})",
            "" if share is None else " / ".join(f"{share[name]:.0%}" for name in ("step", "act", "train")),
            f"{rate['median'] / alone['median']:.0%}",
        )
    table.add_row("environment alone", f"{alone['median']:,.0f}", _between(alone, ",.0f"), "", "", "", "")
    return table


def _startup_table(result: Mapping[str, Any]) -> Group:
    table = Table(title=f"Start-up and memory ({result['workload']})", title_justify="left", title_style="bold")
    for name in ("", "start → first update", "peak memory", "import"):
        table.add_column(name, justify="left" if not name else "right")

    def cell(row: Mapping[str, Any], name: str, spec: str, unit: str) -> str:
        if name not in row:
            return ""
        return f"{format(row[name]['median'], spec)} {unit} ({_between(row[name], spec)})"

    for title, row in result["contenders"].items():
        table.add_row(
            title,
            cell(row, "seconds", ".2f", "s"),
            cell(row, "peak_mb", ",.0f", "MB"),
            cell(row, "import_seconds", ".2f", "s"),
        )
    return Group(table)


def _between(spread: Mapping[str, float], spec: str) -> str:
    return f"{format(spread['low'], spec)}-{format(spread['high'], spec)}"
