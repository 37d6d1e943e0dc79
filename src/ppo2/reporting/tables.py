"""The tables of a run directory: CSV, JSON lines, finished episodes, and TensorBoard or Weights & Biases if asked."""

import contextlib
import csv
import errno
import importlib.util
import io
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ppo2.runners.episodes import Episode
from ppo2.system import files
from ppo2.system.text import parse_json

Row = Mapping[str, float]
R = TypeVar("R")

# Format: the package it needs. CSV and JSON lines need none and are always written.
OPTIONAL_FORMATS = {"tensorboard": "tensorboardX", "wandb": "wandb"}
FORMATS = frozenset({"csv", "json", *OPTIONAL_FORMATS})

EPISODE_WINDOW = 100  # Baselines': eprewmean and eplenmean are means over this many episodes


def formats_from_environment() -> frozenset[str]:
    """The formats to write: CSV, JSON lines, and those that `PPO2_LOG_FORMAT` names ("tensorboard,wandb")."""
    asked = {name.strip().lower() for name in os.environ.get("PPO2_LOG_FORMAT", "").split(",")} - {""}
    return check_formats(asked)


def check_formats(asked: Iterable[str]) -> frozenset[str]:
    formats = frozenset(asked) | {"csv", "json"}
    if unknown := sorted(formats - FORMATS):
        raise ValueError(f"PPO2_LOG_FORMAT names {', '.join(map(repr, unknown))}; known: {', '.join(sorted(FORMATS))}")
    for name in sorted(formats & OPTIONAL_FORMATS.keys()):
        if importlib.util.find_spec(OPTIONAL_FORMATS[name]) is None:
            raise ValueError(
                f"PPO2_LOG_FORMAT asks for {name!r}, which needs {OPTIONAL_FORMATS[name]}: pip install 'ppo2[{name}]'"
            )
    return formats


def _append_text(path: Path, text: str) -> None:
    """Append whole or not at all, so that a full disk never leaves half a line between two others."""
    data = text.encode()
    with path.open("ab", buffering=0) as file:
        start = file.tell()
        if file.write(data) != len(data):
            file.truncate(start)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _replace_text(path: Path, text: str) -> None:
    files.replace(path, text.encode())


def _whole_lines(path: Path) -> list[str]:
    """The file's lines without a last one that a crash cut short."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def rows_of(run_dir: Path) -> list[dict[str, float]]:
    """The rows of progress.jsonl that hold figures; NaN for those that weren't finite."""
    rows = []
    for line in _whole_lines(run_dir / "progress.jsonl"):
        with contextlib.suppress(
            ValueError, TypeError, AttributeError, OverflowError
        ):  # a row that somebody has edited
            rows.append({key: math.nan if x is None else float(x) for key, x in parse_json(line).items()})
    return rows


def _csv_text(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


class _RowFile(ABC, Generic[R]):
    """Rows appended to a file, in it when `append` returns. Those that the disk refused are tried again next time, and
    a file that vanished begins anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[R] = []

    def append(self, rows: Iterable[R]) -> None:
        self._waiting += rows
        text = self._encode(self._waiting)
        _append_text(self.path, text if self.path.exists() else self._header() + text)
        self._waiting.clear()

    def flush(self) -> None:
        """Writes what waits."""
        if self._waiting:
            self.append(())

    def close(self) -> None:
        self.flush()

    def _header(self) -> str:
        return ""

    @abstractmethod
    def _encode(self, rows: Sequence[R]) -> str: ...


class _JsonFile(_RowFile[Row]):
    def _encode(self, rows: Sequence[Row]) -> str:
        return "".join(json.dumps({k: v if math.isfinite(v) else None for k, v in row.items()}) + "\n" for row in rows)


class _EpisodeFile(_RowFile[Episode]):
    """monitor.csv. On the device episodes end by the ten thousand a second, so nothing is done twice to a row."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if not _whole_lines(path):
            _replace_text(path, self._header())

    def _header(self) -> str:
        return _csv_text([Episode._fields])

    def _encode(self, rows: Sequence[Episode]) -> str:
        return _csv_text(rows)


class _CsvFile(_RowFile[Row]):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._columns: list[str] = next(csv.reader(_whole_lines(path)), [])

    def _encode(self, rows: Sequence[Row]) -> str:
        self._add_columns(key for row in rows for key in row)
        return _csv_text([row.get(column, "") for column in self._columns] for row in rows)

    def _header(self) -> str:
        return _csv_text([self._columns])

    def _add_columns(self, keys: Iterable[str]) -> None:
        """Rewrite the file under a wider header: rare, since most keys come with the first row."""
        new = [key for key in dict.fromkeys(keys) if key not in self._columns]
        if not new:
            return
        if not self.path.parent.is_dir():  # which only a checkpoint makes again
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        _, *rows = csv.reader(_whole_lines(self.path) or [""])
        _replace_text(self.path, _csv_text([self._columns + new, *(row + [""] * len(new) for row in rows)]))
        self._columns += new


class _TensorBoard:
    def __init__(self, run_dir: Path, purge_step: int | None) -> None:
        from tensorboardX import SummaryWriter

        self.path = run_dir / "tensorboard"
        self._writer = SummaryWriter(str(self.path), purge_step=purge_step)

    def append(self, rows: Iterable[Row]) -> None:
        for row in rows:
            for key in (key for key, value in row.items() if math.isfinite(value)):
                self._writer.add_scalar(key, row[key], int(row["misc/total_timesteps"]))
        self.flush()

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, run_dir: Path) -> None:
        import wandb

        self.path, id_file = run_dir / "wandb", run_dir / "wandb_id.txt"
        config = run_dir / "config.json"
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "ppo2"),
            name=run_dir.name,
            dir=str(run_dir),
            id=id_file.read_text().strip() if id_file.exists() else None,
            resume="allow",
            config=json.loads(config.read_text(encoding="utf-8")) if config.exists() else None,
        )
        id_file.write_text(self._run.id)

    def append(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._run.log(dict(row), step=int(row["misc/total_timesteps"]))

    def flush(self) -> None:
        """Its own process sends what it was given."""

    def close(self) -> None:
        self._run.finish()


class _Kept(Protocol):
    path: Path

    def flush(self) -> None: ...
    def close(self) -> None: ...


class _Sink(_Kept, Protocol):
    def append(self, rows: Iterable[Row]) -> None: ...


class RunFiles:
    """The tables of one run directory: `progress.csv`, `progress.jsonl`, `monitor.csv`, and what `formats` adds.

    `resume_from` is the update that a resumed run goes on from (None: a new run): later rows of progress are dropped,
    and all but the first `monitor_rows` of monitor.csv (None: all stay), so that no row is there twice.
    What the disk refuses doesn't end training: `warn` hears of it once, and again only after it worked, and the rows
    are written when they can be.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        formats: Iterable[str] = ("csv", "json"),
        resume_from: int | None = None,
        monitor_rows: int | None = None,
        warn: Callable[[str], None],
    ) -> None:
        formats = check_formats(formats)
        progress, lines, monitor = (run_dir / name for name in ("progress.csv", "progress.jsonl", "monitor.csv"))
        run_dir.mkdir(parents=True, exist_ok=True)
        if resume_from is None:
            _refuse_existing(run_dir, (progress, lines, monitor))
        else:
            _drop_later_rows(progress, resume_from)
            _drop_later_rows(lines, resume_from)
        self.monitor_rows, self.last_episodes = _keep_episodes(monitor, monitor_rows)
        self._warn = warn
        self._refused: dict[Path, str] = {}
        self._monitor = _EpisodeFile(monitor)
        self._progress: list[_Sink] = [_CsvFile(progress), _JsonFile(lines)]
        if "tensorboard" in formats:
            self._progress.append(_TensorBoard(run_dir, None if resume_from is None else _next_timestep(lines)))
        if "wandb" in formats:
            self._progress.append(_WeightsAndBiases(run_dir))

    def episodes(self, rows: Sequence[Episode]) -> None:
        if rows:
            self._guard(self._monitor.path, partial(self._monitor.append, rows))

    def log(self, row: Row) -> None:
        for sink in self._progress:
            self._guard(sink.path, partial(sink.append, [row]))

    def flush(self) -> None:
        """Writes the rows that wait, if they can be written now."""
        for file in self._all():
            self._guard(file.path, file.flush)

    def sync(self) -> None:
        """Returns once all rows that were written are on the disk; from any thread."""
        for file in self._all():
            if file.path.is_file():
                with contextlib.suppress(OSError):  # of which the next row will tell
                    files.sync(file.path)

    def close(self) -> None:
        for file in self._all():
            self._guard(file.path, file.close)

    def _all(self) -> list[_Kept]:
        return [self._monitor, *self._progress]

    def _guard(self, path: Path, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            what = error.strerror or str(error)
            if what not in self._refused.values():  # one full disk is all files' trouble
                self._warn(
                    f"{path}: {what}; training goes on, its rows wait in memory: {files.remedy(error)}, and they are "
                    "written"
                )
            self._refused[path] = what
        else:
            self._refused.pop(path, None)


def _refuse_existing(run_dir: Path, paths: Iterable[Path]) -> None:
    if found := [path.name for path in paths if path.exists()]:
        raise ValueError(
            f"`run_dir` (={str(run_dir)!r}) holds a run already ({found[0]}); choose another, or resume it"
        )


def _drop_later_rows(path: Path, update: int) -> None:
    if path.exists():
        lines = _whole_lines(path)
        header = next(csv.reader(lines[:1]), []) if path.suffix == ".csv" else None
        first = 0 if header is None else 1
        _replace_text(
            path, "".join(lines[:first] + [line for line in lines[first:] if _update(line, header) <= update])
        )


def _update(line: str, header: Sequence[str] | None) -> float:
    """The update that a row of progress was logged at; infinite for a row that a crash damaged."""
    try:
        row = json.loads(line) if header is None else dict(zip(header, next(csv.reader([line])), strict=True))
        return float(row.get("misc/nupdates") or 0)
    except (ValueError, AttributeError, TypeError, RecursionError, csv.Error):  # JSON, but no object, or no JSON
        return math.inf


def _next_timestep(progress: Path) -> int:
    """TensorBoard hides events from this step on: those of the rows that were dropped."""
    lines = _whole_lines(progress)
    return int(json.loads(lines[-1]).get("misc/total_timesteps") or 0) + 1 if lines else 0


def _keep_episodes(path: Path, count: int | None) -> tuple[int, list[Episode]]:
    """Cut monitor.csv to its first `count` rows; how many there are then, and the last of them."""
    header, *rows = _whole_lines(path) or [""]
    rows = rows[:count]
    if path.exists():
        _replace_text(path, "".join([header, *rows]))
    try:
        last = csv.DictReader([header, *rows[-EPISODE_WINDOW:]])
        return len(rows), [Episode(float(e["r"]), int(e["l"]), float(e["t"]), int(e["env"])) for e in last]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error}): mend it, or move it away to go on without it.") from error
