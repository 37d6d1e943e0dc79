"""monitor.csv: a row for each finished episode, in the form that Baselines' and Stable-Baselines3's loaders read.

They demand a first line of JSON after a "#", with `t_start`, the time of the run's start in seconds since 1970, and
`env_id`; then a table with the columns r, l and t at least. A run that goes on keeps both lines.
"""

import csv
import json
import time
from pathlib import Path

from ppo2.runners.episodes import Episode
from ppo2.system import files

COLUMNS = ",".join(Episode._fields) + "\n"
EPISODE_WINDOW = 100
"""Episodes that eprewmean and eplenmean are means over, as in Baselines."""


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
        The two lines above the episodes, the number of episodes, and the last of them.

    Raises:
        ValueError: it is damaged.
    """
    names, *rows = table_lines(path) or [COLUMNS]
    first, *_ = files.whole_lines(path) or [""]
    head = (first if first.startswith("#") else facts) + names
    rows = rows[:count]
    files.replace(path, "".join([head, *rows]).encode())
    try:
        last = csv.DictReader([names, *rows[-EPISODE_WINDOW:]])
        return head, len(rows), [Episode(float(e["r"]), int(e["l"]), float(e["t"]), int(e["env"])) for e in last]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error}): mend it, or move it away to go on without it.") from error
