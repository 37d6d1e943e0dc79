"""Kept results: `bench/results/*.json`, one common form for every script, from which docs/benchmarks.md is written.

| part | content |
|---|---|
| `sources` | by a short name: the date, the command, the machine and the versions of a measurement |
| `tables` | by name: the columns, and by title the rows, each with the name of its source and a cell for each column |

A cell is a text, a number, a list of them, or a figure: the median with the least and the greatest, and a unit that
says how it is written. The script writes `--json FILE` in this form; single runs are beside it, under `runs`, and are
not kept.
"""

import datetime
import json
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from report import Spread, machine

FOLDER = Path(__file__).parent / "results"
SMALL_RATIO, LARGE_RATIO = 0.1, 3.0
MILLION = 1e6
WHOLE = ("MB", "%")
PRIVATE = re.compile(r"--(json|python|\w+-python)[ =]\S+ ?")  # options that say where things are on a machine
SHORT = re.compile(r"[A-Z]\d+b? ")  # names of workloads, at the beginning of a title

Cell = Any  # str, a number, a list of numbers, or a figure
Results = dict[str, Any]


def figure(values: Spread | Sequence[float], unit: str) -> dict[str, Any]:
    """A figure as it is kept: six significant digits.

    Args:
        unit: "x" for a ratio, which is written bold; "ms", "s", "MB", "%", "steps/s", "ns", "" ...
    """
    spread = values if isinstance(values, Spread) else Spread.of(values)
    return {**{name: float(f"{value:.6g}") for name, value in spread._asdict().items()}, "unit": unit}


def source(command: Sequence[str], versions: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The circumstances of a measurement that is being made."""
    about = machine()
    named = {f"{name} {version}": None for of in versions.values() for name, version in of.items()}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": PRIVATE.sub("", shlex.join(["python", f"bench/{Path(command[0]).name}", *command[1:]])).strip(),
        "machine": f"{about['cpu']}, {about['usable_cores']} of {about['cores']} cores, {about['system'].split()[0]}",
        "versions": ", ".join([f"Python {about['python']}", *named]),
    }


def merged(kept: Results, new: Results) -> Results:
    """The kept results, with the rows of new ones in the place of those of the same titles; of a table whose columns
    changed nothing is kept.
    """
    tables = {name: dict(table) for name, table in kept.get("tables", {}).items()}
    sources = {**kept.get("sources", {})}
    names = {name: _free_name(of, sources) for name, of in new["sources"].items()}
    sources |= {names[name]: of for name, of in new["sources"].items()}
    for name, table in new["tables"].items():
        rows = {title: {**row, "source": names[row["source"]]} for title, row in table["rows"].items()}
        before = tables.get(name, {"columns": None, "rows": {}})
        old = before["rows"] if before["columns"] == table["columns"] else {}
        tables[name] = {"columns": table["columns"], "rows": {**old, **rows}}
    used = {row["source"] for table in tables.values() for row in table["rows"].values()}
    return {"sources": {name: of for name, of in sources.items() if name in used}, "tables": tables}


def _free_name(of: Mapping[str, str], taken: Mapping[str, Any]) -> str:
    """A name for a source: its date, and a letter where that is taken by another."""
    names = (f"{of['date']}{suffix}" for suffix in ("", *"bcdefghijklmnopqrstuvwxyz"))
    return next(str(name) for name in names if taken.get(name, of) == of)


def load(name: str) -> Results:
    """The kept results of a script: `host` for `bench/results/host.json`."""
    results: Results = json.loads((FOLDER / f"{name}.json").read_text())
    return results


def save(path: Path, results: Results) -> None:
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def on_screen(name: str, table: Mapping[str, Any]) -> Table:
    """A table for a terminal."""
    shown = Table("", *table["columns"], title=name, title_justify="left", title_style="bold")
    for title, row in table["rows"].items():
        shown.add_row(title, *(text(cell).replace("**", "") for cell in row["cells"]))
    return shown


def markdown(results: Results, name: str) -> list[str]:
    """The lines of a table, and below it when, on what and by which command it was measured."""
    table = results["tables"][name]
    lines = [_line(["", *table["columns"]]), "|---" * (1 + len(table["columns"])) + "|"]
    lines += [_line([title, *map(text, row["cells"])]) for title, row in table["rows"].items()]
    titles: dict[str, list[str]] = {}
    for title, row in table["rows"].items():
        short = SHORT.match(title)
        titles.setdefault(row["source"], []).append(short[0].strip() if short else title)
    for key, of in titles.items():
        about = results["sources"][key]
        which = f"{'; '.join(of)}: " if len(titles) > 1 else ""
        told = f"{which}{about['date']}, {about['machine']}; {about['versions']} (`{about['command']}`)."
        lines += ["", *textwrap.wrap(told, 120, break_long_words=False, break_on_hyphens=False)]
    return lines


def text(cell: Cell) -> str:
    """A cell as people read it."""
    if isinstance(cell, list):
        return ", ".join(map(text, cell))
    if isinstance(cell, Mapping):
        median, low, high = (number(cell[name], cell["unit"], cell["median"]) for name in ("median", "low", "high"))
        shown = f"**{median}**" if cell["unit"] == "x" else median
        unit = f" {cell['unit']}" if cell["unit"] in ("s", "MB", "%") else ""
        return f"{shown}{unit}" if low == high else f"{shown}{unit} ({low}-{high})"
    return number(cell, "", cell) if isinstance(cell, int | float) else str(cell)


def number(value: float, unit: str, like: float) -> str:
    """A number with as many decimals as leave three digits of `like`, or of a ratio two."""
    if unit == "steps/s" and like >= MILLION:
        return f"{value / MILLION:.3g} M"
    if unit == "x":
        return f"{value:.{3 if like < SMALL_RATIO else 2 if like < LARGE_RATIO else 1}f}"
    if unit in WHOLE:
        return f"{value:.0f}"
    like = abs(like)
    digits = len(str(int(like)))
    if digits > 3:
        return f"{round(value, 3 - digits):,.0f}"
    decimals = 3 - digits if like >= 1 else 2
    return f"{value:.{decimals}f}".rstrip("0").rstrip(".") if decimals else f"{value:.0f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells).strip() + " |"
