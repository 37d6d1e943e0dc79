"""monitor.csv: a row for each finished episode, in the form that Baselines' and Stable-Baselines3's loaders read.

They demand a first line of JSON after a "#", with `t_start`, the time of the run's start in seconds since 1970, and
`env_id`; then a table with the columns r, l and t at least. A run that goes on keeps both lines.
"""

import csv
import json
import time
from collections.abc import Mapping
from pathlib import Path

from ppo2.config.info_keys import MONITOR_COLUMNS
from ppo2.runners.episodes import Episode
from ppo2.system import files

COLUMNS = MONITOR_COLUMNS
"""Columns of every file; numbers of `info` at the episodes' ends follow, each in a column of its name."""
EPISODE_WINDOW = 100
"""Episodes that eprewmean and eplenmean are means over, as in Baselines."""
RECENT_SHARE = 0.05
"""Share of a run's timesteps within which episodes are recent: 100 of them may be most of a run."""


def facts_line(env_id: str | None, seconds: float) -> str:
    """The first line of the file.

    Args:
        seconds: seconds since the start of the run.
    """
    return "#" + json.dumps({"t_start": time.time() - seconds, "env_id": env_id}) + "\n"


def table_lines(path: Path) -> list[str]:
    """The whole lines of the table: the row of names first. Files of earlier versions have no other line before it."""
    lines = files.whole_lines(path)
    return lines[1:] if lines and lines[0].startswith("#") else lines


def keep_episodes(path: Path, count: int | None, facts: str) -> tuple[str, int, list[Episode]]:
    """Cuts the file to its first `count` episodes (None: all), and makes it where it isn't there.

    Args:
        facts: first line of a file that has none.

    Returns:
        The first line, the number of episodes, and the last of them.

    Raises:
        ValueError: it is damaged.
    """
    names, *rows = table_lines(path) or [",".join(COLUMNS) + "\n"]
    first, *_ = files.whole_lines(path) or [""]
    facts = first if first.startswith("#") else facts
    rows = rows[:count]
    files.replace(path, "".join([facts, names, *rows]).encode())
    try:
        last = csv.DictReader([names, *rows[-EPISODE_WINDOW:]])
        return (
            facts,
            len(rows),
            [Episode(float(e["r"]), int(e["l"]), float(e["t"]), int(e["env"]), _numbers(e)) for e in last],
        )
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error}): mend it, or move it away to go on without it.") from error


def _numbers(row: Mapping[str, str]) -> dict[str, float]:
    """The numbers of `info` in a row; an empty cell is none."""
    return {name: float(cell) for name, cell in row.items() if name not in COLUMNS and cell}
