"""The five figures of README.md and docs/benchmarks.md, in a table and in a picture, from the kept results.

`python bench/document.py` writes both, the table between the marks `<!-- headline -->` and `<!-- end -->`; between
`<!-- headline zh -->` and the end it is in Chinese.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from results import Results, number

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "speed.png"
MARKED = re.compile(r"<!-- headline(?P<chinese> zh)? -->\n.*?<!-- end -->", re.DOTALL)
NAME = "figures"
"""The entry of the picture's metadata that has the figures it was drawn from."""


class Row(NamedTuple):
    """A comparison: the words that say what was trained, and where its result is.

    Attributes:
        file: a file of bench/results.
        title: the beginning of the row's title.
        peer: the column of the other library.
        name: the other library, in words.
        chinese: the same words in Chinese.
    """

    words: str
    file: str
    table: str
    title: str
    peer: str
    name: str
    chinese: str


SB3 = "Stable-Baselines3"
ROWS = (
    Row("CartPole, 8 environments", "host", "peers", "W1 ", SB3, SB3, "CartPole，8 个环境"),
    Row("HalfCheetah (MuJoCo), 8 environments", "host", "peers", "W3b ", SB3, SB3, "HalfCheetah（MuJoCo），8 个环境"),
    Row(
        "CartPole with an LSTM",
        "recurrent",
        "peers",
        "R1 ",
        "sb3-contrib's RecurrentPPO",
        "sb3-contrib",
        "CartPole，LSTM",
    ),
    Row(
        "CartPole in JAX, 1,024 environments",
        "device",
        "speed",
        "D2 ",
        "rejax",
        "rejax",
        "JAX 版 CartPole，1,024 个环境",
    ),
    Row("Breakout (Atari images)", "host", "peers", "W4 ", SB3, SB3, "Breakout（Atari 图像）"),
)


class Comparison(NamedTuple):
    """Timesteps per second of both, and the median of the ratios of runs by turns."""

    row: Row
    ours: float
    theirs: float
    ratio: float
    command: str


def comparisons(results: Callable[[str], Results]) -> list[Comparison]:
    found = []
    for row in ROWS:
        of = results(row.file)
        table = of["tables"][row.table]
        kept: Mapping[str, Any] = next(one for title, one in table["rows"].items() if title.startswith(row.title))
        cells = dict(zip(table["columns"], kept["cells"], strict=True))
        ours, theirs, ratio = (cells[name]["median"] for name in ("ppo2", row.peer, "ratio"))
        found.append(Comparison(row, ours, theirs, ratio, of["sources"][kept["source"]]["command"].split(" --")[0]))
    return found


HEAD = "| timesteps per second | ppo2 | other | ratio | measured by |"
HEAD_CHINESE = "| 每秒环境步数 | ppo2 | 其他库 | 比值 | 测量命令 |"


def markdown(found: list[Comparison], chinese: bool = False) -> list[str]:
    lines = [HEAD_CHINESE if chinese else HEAD, "|---|---|---|---|---|"]
    for one in found:
        ours, theirs = (number(value, "steps/s", value) for value in (one.ours, one.theirs))
        other, ratio = f"{theirs} ({one.row.name})", f"**{number(one.ratio, 'x', one.ratio)}**"
        words = one.row.chinese if chinese else one.row.words
        lines.append(f"| {words} | {ours} | {other} | {ratio} | `{one.command}` |")
    return lines


def written(page: str, results: Callable[[str], Results]) -> str:
    """The page with the table as the results have it."""

    def table(mark: re.Match[str]) -> str:
        rows = markdown(comparisons(results), mark["chinese"] is not None)
        return "\n".join([mark[0].partition("\n")[0], *rows, "<!-- end -->"])

    return MARKED.sub(table, page)


def figures(found: list[Comparison]) -> str:
    return json.dumps([[one.row.words, one.row.name, one.ratio] for one in found])


def drawn(found: list[Comparison], path: Path = PICTURE) -> None:
    """Draws how many times as fast each comparison is, unless the picture is of these figures already."""
    from matplotlib.figure import Figure
    from PIL import Image

    if path.exists():
        with Image.open(path) as before:
            if before.info.get(NAME) == figures(found):
                return
    figure = Figure(figsize=(8, 2.6), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    labels = [f"{one.row.words}\nbeside {one.row.name}" for one in reversed(found)]
    bars = axes.barh(labels, [one.ratio for one in reversed(found)], color="#4051b5", height=0.6)
    axes.bar_label(bars, [f"{number(one.ratio, 'x', one.ratio)} x" for one in reversed(found)], padding=4, fontsize=9)
    axes.axvline(1.0, color="#888888", linewidth=1)
    axes.set_xlim(0, 1.12 * max(one.ratio for one in found))
    axes.set_xlabel("times as many timesteps per second, on two cores", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={NAME: figures(found)})
