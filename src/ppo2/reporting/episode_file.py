"""monitor.csv: a row for each finished episode, in the form that Baselines' and Stable-Baselines3's loaders read.

They demand a first line of JSON after a "#", with `t_start`, the time of the run's start in seconds since 1970, and
`env_id`; then a table with the columns r, l and t at least. A run that goes on keeps both lines. Where episodes end
faster than `monitor_limit` allows, the first line also has their `share`: rows over episodes.
"""

import csv
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppo2.config.info_keys import MONITOR_COLUMNS
from ppo2.runners.episodes import EPISODE_WINDOW, Episode
from ppo2.system import files
from ppo2.system.text import parse_json

COLUMNS = MONITOR_COLUMNS
"""Columns of every file; numbers of `info` at the episodes' ends follow, each in a column of its name."""
RECENT_SHARE = 0.05
"""Share of a run's timesteps within which episodes are recent: 100 of them may be most of a run."""
SHARE_WIDTH = len(', "share": 0.000001')
"""Characters that a share takes in the first line, so that another can be written over it."""


def facts_line(env_id: str | None, seconds: float) -> str:
    """The first line of the file.

    Args:
        seconds: seconds since the start of the run.
    """
    return "#" + json.dumps({"t_start": time.time() - seconds, "env_id": env_id}) + "\n"


def with_share(facts: str, share: float) -> str:
    """The first line of a file that has this share of the episodes, as long for any share; one that is no JSON as it
    is.
    """
    try:
        found = {name: value for name, value in parse_json(facts[1:]).items() if name != "share"}
    except ValueError:
        return facts
    length = len(json.dumps(found)) + SHARE_WIDTH
    return "#" + json.dumps({**found, "share": round(max(share, 1e-6), 6)}).ljust(length) + "\n"


def has_all_episodes(path: Path) -> bool:
    """True unless the first line tells of a share of the episodes."""
    first, *_ = files.whole_lines(path) or [""]
    try:
        return not first.startswith("#") or "share" not in parse_json(first[1:])
    except ValueError:
        return True


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
        return facts, len(rows), [episode_of(row) for row in last]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error}): fix it, or move it away to continue without it.") from error


def episode_of(row: Mapping[str, Any]) -> Episode:
    """The episode of a row, from text or numbers; an empty cell is no number."""
    infos = {name: float(cell) for name, cell in row.items() if name not in COLUMNS and cell not in ("", None)}
    return Episode(float(row["r"]), int(row["l"]), float(row["t"]), int(row["env"]), infos)


def row_of_episode(episode: Episode) -> dict[str, float]:
    """The inverse of `episode_of`, in numbers."""
    return {"r": episode.r, "l": episode.l, "t": episode.t, "env": episode.env, **episode.infos}
