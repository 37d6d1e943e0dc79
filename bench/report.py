"""Medians, spreads and tables."""

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.table import Table

TABLE_WIDTH = 132  # in a file or a pipe, too
NOISE = 0.3  # clean runs on an idle machine are spread over about 15 %


class Spread(NamedTuple):
    """A median, and the least and the greatest value: with five repetitions quartiles would say no more."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


def spread(runs: Iterable[Mapping[str, Any]], name: str) -> Spread:
    """The spread of one figure over several runs."""
    return Spread.of([run[name] for run in runs])


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Ratio of `ours` to `theirs`: of the medians, and of each pair of runs that followed one another."""
    paired = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "of_medians": statistics.median(ours) / statistics.median(theirs),
        "paired": Spread.of(paired)._asdict(),
    }


def machine() -> dict[str, Any]:
    """Facts about the machine that a number about speed must be read with."""
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
    """Everything of `bench/host.py` as tables."""
    _show_machine(console, results, noisy_rows(results))
    for workload in results["workloads"].values():
        console.print(_speed_table(workload))
    if results["stepping"]:
        console.print(_stepping_table(results["stepping"]))
    if results["startup"]:
        console.print(_startup_table(results["startup"]))
    console.print(
        "Spread is least to greatest. Ratio: our plain steps per second over that row's, of the medians; "
        "paired: median and spread of the ratios of runs that followed one another.",
        style="dim",
    )


def show_device(console: Console, results: Mapping[str, Any]) -> None:
    """Everything of `bench/device.py` as tables."""
    _show_machine(console, results, noisy_device_rows(results))
    for workload in results["workloads"].values():
        console.print(_device_table(workload))
    if "sweep" in results:
        console.print(_sweep_table(results["sweep"]))
    if "scaling" in results:
        console.print(_scaling_table(results["scaling"]))
    console.print(
        "Spread is least to greatest. Ratio: that row's steps per second over the peer's, or the sweep's over one "
        "run's, of the medians; paired: median and spread of the ratios of runs that followed one another. Devices: "
        "those that share the environments, or a sweep's runs.",
        style="dim",
    )


def _show_machine(console: Console, results: Mapping[str, Any], noisy: Sequence[str]) -> None:
    about = results["machine"]
    load = "" if about["load_before"] is None else f", load {about['load_before']:.2f} before"
    console.print(f"\n{about['cpu']}, {about['usable_cores']} of {about['cores']} cores{load}; {about['system']}")
    if noisy:
        console.print(f"Not to be trusted, runs differ by more than {NOISE:.0%}: {'; '.join(noisy)}", style="yellow")
    for title, versions in results["versions"].items():
        console.print(f"{title}: " + ", ".join(f"{name} {version}" for name, version in versions.items()))


def noisy_rows(results: Mapping[str, Any]) -> list[str]:
    """Rows whose steps per second were spread so far that the machine must have been busy with something else."""
    rows = [
        (f"{name} {title}", row["steps_per_second"])
        for name, workload in results["workloads"].items()
        for title, row in (*workload["contenders"].items(), ("environment alone", workload["environment_alone"]))
    ]
    return [title for title, rate in rows if is_noisy(rate)]


def noisy_device_rows(results: Mapping[str, Any]) -> list[str]:
    """`noisy_rows` for device environments."""
    rows = [
        (f"{name} {title}", row["steps_per_second"])
        for name, workload in results["workloads"].items()
        for title, row in workload["contenders"].items()
    ]
    for title, row in results.get("sweep", {"contenders": {}})["contenders"].items():
        rows += [(f"{name} {title}", row[name]["steps_per_second"]) for name in ("single", "sweep")]
    for title, row in results.get("scaling", {"contenders": {}})["contenders"].items():
        rows += [(f"{size} environments {title}", cost["nanoseconds"]) for size, cost in row["sizes"].items()]
    return [title for title, rate in rows if is_noisy(rate)]


def is_noisy(rate: Mapping[str, float]) -> bool:
    return rate["high"] - rate["low"] > NOISE * rate["median"]


def _speed_table(result: Mapping[str, Any]) -> Table:
    columns = ("steps/s", "spread", "ratio", "paired", "step / act / train", "of env alone")
    table = _table(result["title"], *columns)
    alone = result["environment_alone"]["steps_per_second"]
    for title, row in result["contenders"].items():
        rate, share = row["steps_per_second"], row.get("shares")
        table.add_row(
            title,
            f"{rate['median']:,.0f}",
            _between(rate, ",.0f"),
            *_ratio_cells(row.get("ratio")),
            "" if share is None else " / ".join(f"{share[name]:.0%}" for name in ("step", "act", "train")),
            f"{rate['median'] / alone['median']:.0%}",
        )
    table.add_row("environment alone", f"{alone['median']:,.0f}", _between(alone, ",.0f"), "", "", "", "")
    return table


def _stepping_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(
        "Environments alone, steps/s", "this process", "to Sync", "with workers", "to Sync", "to Async", "Sync"
    )
    for row in rows:
        engines = row["engines"]
        cells = []
        for name in ("alone", "workers"):
            engine = engines[name]
            mark = " *" if row["chosen"] == name else ""
            cells += [f"{engine['steps_per_second']['median']:,.0f}{mark}", _ratio_cells(engine["to_sync"])[1]]
        cells += [_ratio_cells(engines["workers"].get("to_async"))[1]]
        table.add_row(
            f"{row['num_envs']} x {row['env']}", *cells, f"{engines['sync']['steps_per_second']['median']:,.0f}"
        )
    table.caption = "* what `ppo2.make` chooses; ratios paired: median, least and greatest"
    return table


def _startup_table(result: Mapping[str, Any]) -> Group:
    title = f"Start-up and memory ({result['workload']})"
    table = _table(title, "start → first update", "peak memory", "import")

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


def _device_table(result: Mapping[str, Any]) -> Table:
    peers = list(dict.fromkeys(peer for row in result["contenders"].values() for peer in row.get("ratios", ())))
    table = _table(
        result["title"],
        *("devices", "steps/s", "spread"),
        *(name for peer in peers for name in (f"ratio to {peer}", "paired")),
        *("compiling", "spread"),
    )
    for title, row in result["contenders"].items():
        rate, compiling = row["steps_per_second"], row["compile_seconds"]
        table.add_row(
            title,
            str(row["devices"]),
            f"{rate['median']:,.0f}",
            _between(rate, ",.0f"),
            *(cell for peer in peers for cell in _ratio_cells(row.get("ratios", {}).get(peer))),
            f"{compiling['median']:.1f} s",
            _between(compiling, ".1f"),
        )
    return table


def _sweep_table(result: Mapping[str, Any]) -> Table:
    table = _table(result["title"], "devices", "all runs, steps/s", "spread", "one run", "spread", "ratio", "paired")
    for title, row in result["contenders"].items():
        together, single = (row[name]["steps_per_second"] for name in ("sweep", "single"))
        table.add_row(
            title,
            str(row["sweep"]["devices"]),
            f"{together['median']:,.0f}",
            _between(together, ",.0f"),
            f"{single['median']:,.0f}",
            _between(single, ",.0f"),
            *_ratio_cells(row["ratio"]),
        )
    return table


def _scaling_table(result: Mapping[str, Any]) -> Table:
    contenders = result["contenders"]
    table = _table(result["title"], *(name for title in contenders for name in (title, "spread", "devices")))
    for size in next(iter(contenders.values()))["sizes"]:
        cells = []
        for row in contenders.values():
            cost = row["sizes"][size]["nanoseconds"]
            cells += [f"{cost['median']:,.0f} ns", _between(cost, ",.0f"), str(row["sizes"][size]["devices"])]
        table.add_row(f"{int(size):,} environments", *cells)
    table.add_section()
    most_over_least = (cell for row in contenders.values() for cell in (f"{row['most_over_least']:.2f}", "", ""))
    table.add_row("most / least", *most_over_least)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table("", title=title, title_justify="left", title_style="bold")
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _ratio_cells(ratio: Mapping[str, Any] | None) -> tuple[str, str]:
    """Table cells of a ratio: of the medians, and paired."""
    if ratio is None:
        return "", ""
    paired = ratio["paired"]
    return f"{ratio['of_medians']:.2f}", f"{paired['median']:.2f} ({_between(paired, '.2f')})"


def _between(spread: Mapping[str, float], spec: str) -> str:
    return f"{format(spread['low'], spec)}-{format(spread['high'], spec)}"
