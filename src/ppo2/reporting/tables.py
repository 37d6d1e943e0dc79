"""The tables of a run directory: CSV, JSON lines, finished episodes; and experiment trackers, where asked for."""

import contextlib
import csv
import errno
import io
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

from ppo2.config.logs import FORMATS
from ppo2.reporting.episode_file import COLUMNS, facts_line, keep_episodes, table_lines, with_share
from ppo2.reporting.logs import formats_from_environment
from ppo2.reporting.sinks import R, Row, Sink, append_bytes
from ppo2.reporting.tracked import TRACKERS, Films
from ppo2.reporting.trackers import TensorBoard, TrackedRun
from ppo2.runners.episodes import Episode, Episodes
from ppo2.system import files
from ppo2.system.text import parse_json

__all__ = ["FORMATS", "RunFiles", "formats_from_environment", "rows_of"]

FEW_EPISODES = 256
"""Episodes that are written at once, in a quarter of a millisecond; more by a thread, while training goes on."""
BLOCK_EPISODES = 256
"""Episodes between two pauses of that thread."""
TURN_SECONDS = 1e-4
"""Length of a pause: time enough for another thread to wake up."""


def rows_of(run_dir: Path) -> list[dict[str, float]]:
    """The rows of progress.jsonl that hold figures; NaN for those that weren't finite."""
    rows = []
    for line in files.whole_lines(run_dir / "progress.jsonl"):
        # a row that somebody has edited
        with contextlib.suppress(ValueError, TypeError, AttributeError, OverflowError):
            rows.append({key: math.nan if x is None else float(x) for key, x in parse_json(line).items()})
    return rows


def _append_text(path: Path, text: str) -> None:
    append_bytes(path, text.encode())


def _csv_text(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _json_text(rows: Iterable[Row]) -> str:
    return "".join(json.dumps({k: v if math.isfinite(v) else None for k, v in row.items()}) + "\n" for row in rows)


class _RowFile(Sink[R]):
    """A file of rows, which are in it when `append` returns. Those that the disk refused are tried again next time, and
    a file that vanished begins anew.
    """

    def __init__(self, path: Path, encode: Callable[[Sequence[R]], str], header: str = "") -> None:
        self.path, self._encode, self._header = path, encode, header
        self.waiting: Sequence[R] = []

    def append(self, rows: Sequence[R]) -> None:
        self.waiting = self._with_waiting(rows)
        text = self._encode(self.waiting)
        _append_text(self.path, text if self.path.exists() else self._header + text)
        self.waiting = []

    def _with_waiting(self, rows: Sequence[R]) -> Sequence[R]:
        return [*self.waiting, *rows]


class _Table(_RowFile[R]):
    """A table in CSV, which gets wider when a row has a new column.

    Args:
        facts: the line before the table; empty: none.
    """

    def __init__(self, path: Path, encode: Callable[[Sequence[R]], str], facts: str = "") -> None:
        super().__init__(path, encode)
        self._facts, self._columns = facts, next(csv.reader(table_lines(path)), list[str]())
        self._header = facts + _csv_text([self._columns])

    def widen(self, columns: Iterable[str]) -> None:
        """Rewrites the file under a wider header, where it lacks columns: rare, since most come with the first row."""
        new = [name for name in dict.fromkeys(columns) if name not in self._columns]
        if not new:
            return
        if not self.path.parent.is_dir():  # which only a checkpoint makes again
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        _, *rows = csv.reader(table_lines(self.path) or [""])
        columns = self._columns + new
        header = self._facts + _csv_text([columns])
        files.replace(self.path, (header + _csv_text(row + [""] * len(new) for row in rows)).encode())
        self._columns, self._header = columns, header  # now: a full disk leaves file and columns as they were


class _ProgressFile(_Table[Row]):
    """progress.csv."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, self._rows_text)

    def _rows_text(self, rows: Sequence[Row]) -> str:
        self.widen(key for row in rows for key in row)
        return _csv_text([row.get(column, "") for column in self._columns] for row in rows)


class _MonitorFile(_Table[Episode]):
    """monitor.csv.

    Args:
        info_keys: columns that it has from the start, beside those of every file.
    """

    def __init__(self, path: Path, facts: str, info_keys: Sequence[str]) -> None:
        super().__init__(path, self._rows_text, facts)
        self.widen(info_keys)

    def _with_waiting(self, rows: Sequence[Episode]) -> Episodes:
        return Episodes.joined([Episodes.of(self.waiting), Episodes.of(rows)])

    def _rows_text(self, rows: Sequence[Episode]) -> str:
        """Text of the rows, made in blocks, between which another thread may have the interpreter.

        One call of the CSV writer keeps it to its end: 70 ms for the 65,000 episodes of 32 large updates, in which the
        trainer couldn't start the next ones.
        """
        episodes, blocks = Episodes.of(rows), list[str]()
        self.widen(episodes.infos)
        for start in range(0, len(episodes), BLOCK_EPISODES):
            if blocks:
                time.sleep(TURN_SECONDS)
            blocks.append(self._block_text(episodes.chosen(slice(start, start + BLOCK_EPISODES))))
        return "".join(blocks)

    def _block_text(self, episodes: Episodes) -> str:
        columns, infos = episodes.lists()
        nothing = [math.nan] * len(episodes)
        numbers = ([x if x == x else "" for x in infos.get(key, nothing)] for key in self._columns[len(COLUMNS) :])
        return _csv_text(zip(*columns, *numbers, strict=True))

    def tell_share(self, share: float) -> None:
        """Writes into the first line the share of the episodes that the file has."""
        facts = with_share(self._facts, share)
        if len(facts) != len(self._facts):
            _, *rest = self.path.read_bytes().splitlines(keepends=True)
            files.replace(self.path, b"".join([facts.encode(), *rest]))
        elif facts != self._facts:
            with self.path.open("r+b") as file:
                file.write(facts.encode())
        self._facts, self._header = facts, facts + self._header.removeprefix(self._facts)


class RunFiles:
    """The tables of one run directory: `progress.csv`, `progress.jsonl`, `monitor.csv`, and those that `formats` adds.

    What the disk refuses doesn't end training: `warn` is called once, and again only after it worked, and the rows are
    written when they can be.

    Args:
        run_dir: None writes no files.
        formats: formats beside CSV and JSON lines.
        tracked: facts for trackers; None: those that the directory has.
        resume_from: the update that a resumed run goes on from (None: a new run): later rows of progress are dropped,
            and all but the first `monitor_rows` of monitor.csv (None: all stay), so that no row is there twice.
        env_id: id of the environment, for the first line of monitor.csv.
        seconds: seconds since the start of the run.
        info_keys: columns that monitor.csv has from the start, beside those of every run.

    Attributes:
        monitor_rows: rows of monitor.csv at the start.
        last_episodes: the last of them.
    """

    def __init__(
        self,
        run_dir: Path | None,
        *,
        formats: Iterable[str] = (),
        tracked: TrackedRun | None = None,
        resume_from: int | None = None,
        monitor_rows: int | None = None,
        env_id: str | None = None,
        seconds: float = 0.0,
        info_keys: Sequence[str] = (),
        warn: Callable[[str], None],
    ) -> None:
        self.monitor_rows, self.last_episodes = 0, list[Episode]()
        self._warn = warn
        self._refused: dict[Path, str] = {}
        self._monitor: list[_MonitorFile] = []
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None  # episodes, by the thread
        self._progress: list[Sink[Row]] = []
        self._films = Films(run_dir, is_new=resume_from is None)
        self._timestep, self._score, self._has_evaluation = 0, math.nan, False
        tracked = tracked or TrackedRun.of(run_dir)
        if run_dir is None:
            self._open_trackers(formats, tracked)
            return
        progress, lines, monitor = (run_dir / name for name in ("progress.csv", "progress.jsonl", "monitor.csv"))
        run_dir.mkdir(parents=True, exist_ok=True)
        if resume_from is not None:
            sent = [row.get("misc/total_timesteps", math.nan) for row in rows_of(run_dir)]
            tracked = tracked.after(int(max([0, *filter(math.isfinite, sent)])))
            _drop_later_rows(progress, resume_from)
            _drop_later_rows(lines, resume_from)
        elif found := [path.name for path in (progress, lines, monitor) if path.exists()]:
            raise ValueError(
                f"`run_dir` (={str(run_dir)!r}) holds a run already ({found[0]}); choose another, or resume it"
            )
        facts = facts_line(env_id, seconds)
        facts, self.monitor_rows, self.last_episodes = keep_episodes(monitor, monitor_rows, facts)
        self._monitor += [_MonitorFile(monitor, facts, info_keys)]
        self._progress += [_ProgressFile(progress), _RowFile(lines, _json_text)]
        if "tensorboard" in formats:
            purge = None if resume_from is None else _next_timestep(lines)
            self._progress.append(TensorBoard(run_dir, purge, tracked.settings))
        self._open_trackers(formats, tracked, rows_of(run_dir) if resume_from is not None else ())

    def _open_trackers(self, formats: Iterable[str], tracked: TrackedRun, before: Sequence[Row] = ()) -> None:
        """Begins, or goes on with, the runs of trackers; one that refuses is left out, with a warning.

        Args:
            before: rows of the run so far, for a tracker that has none of them.
        """
        for name in sorted({*formats} & TRACKERS.keys()):
            sink = TRACKERS[name](tracked)
            self._try(sink.path, partial(sink.begin, before), end="the run continues without it")
            if sink.is_open:
                self._progress.append(sink)

    def episodes(self, rows: Sequence[Episode], share: float = 1.0) -> None:
        """Writes episodes; many in a thread, see `settle`.

        Args:
            share: the share of all episodes that have a row by now.
        """
        self.settle()
        if not rows or not self._monitor:
            return
        if len(rows) <= FEW_EPISODES:
            self._try(self._monitor[0].path, partial(self._write_episodes, rows, share))
            return
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="ppo2-episodes")
        self._writing = self._thread.submit(self._write_episodes, rows, share)

    def _write_episodes(self, rows: Sequence[Episode], share: float) -> None:
        for sink in self._monitor:
            sink.append(rows)
            if share < 1.0:
                sink.tell_share(share)

    def settle(self) -> None:
        """Returns once all episodes are written, or refused."""
        if (writing := self._writing) is not None:
            wait([writing])  # before it is forgotten, as `sync` waits for it in another thread
            self._writing = None
            self._try(self._monitor[0].path, writing.result)

    def log(self, row: Row) -> None:
        self._timestep = int(row.get("misc/total_timesteps", self._timestep))
        score = row.get("eval_eprewmean", math.nan)
        self._has_evaluation = math.isfinite(score) or self._has_evaluation
        if math.isfinite(score) or not self._has_evaluation:
            self._score = score if math.isfinite(score) else row.get("eprewmean", math.nan)
        for sink in self._progress:
            self._try(sink.path, partial(sink.append, [row]))
        for film in self._films.new():
            self.film(film, self._timestep)

    def film(self, path: Path, timestep: int) -> None:
        """Passes a video file to whatever shows videos; once."""
        if self._films.take(path):
            for sink in self._progress:
                self._try(sink.path, partial(sink.film, path, timestep))

    def flush(self) -> None:
        """Writes the rows that wait, if they can be written now."""
        self.settle()
        for sink in self._all():
            self._try(sink.path, sink.flush)

    def sync(self) -> None:
        """Returns once all rows so far are on the disk; from any thread."""
        if (writing := self._writing) is not None:
            wait([writing])
        for sink in self._all():
            if sink.path.is_file():
                with contextlib.suppress(OSError):  # the next row will meet it too
                    files.sync(sink.path)

    def close(self, *, failed: bool = False) -> None:
        """Closes all, and says which rows could not be written to the end.

        Args:
            failed: an error, or a signal, ended the run before its end.
        """
        self.settle()
        for film in self._films.new():
            self.film(film, self._timestep)
        for sink in self._progress:
            self._try(sink.path, partial(sink.end, math.nan if failed else self._score, self._timestep, failed))
        if self._thread is not None:
            self._thread.shutdown()
        lost: dict[str, str] = {}
        for sink in self._all():
            try:
                sink.close()
            except OSError as error:
                rows = f" ({len(sink.waiting):,} rows)" if sink.waiting else ""
                lost[f"{sink.path.name}{rows}"] = error.strerror or str(error)
        if lost:
            why = ", ".join(dict.fromkeys(lost.values()))
            self._warn(f"the end of {', '.join(lost)} could not be written ({why}) and is lost")

    def _all(self) -> list[Sink[Any]]:
        return [*self._monitor, *self._progress]

    def _try(self, path: Path, write: Callable[[], None], end: str = "training continues") -> None:
        try:
            write()
        except OSError as error:
            what = error.strerror or str(error)
            if what not in self._refused.values():  # one full disk is all files' trouble
                wait = f", its rows wait in memory: {files.remedy(error)}, and they are written"
                self._warn(f"{path}: {what}; {end}{wait if error.errno is not None else ''}")
            self._refused[path] = what
        else:
            self._refused.pop(path, None)


def _drop_later_rows(path: Path, update: int) -> None:
    """Drops the rows after an update, and those that a crash damaged."""
    if path.exists():
        lines = files.whole_lines(path)
        header = next(csv.reader(lines[:1]), []) if path.suffix == ".csv" else None
        first = 0 if header is None else 1
        kept = lines[:first] + [line for line in lines[first:] if _update(line, header) <= update]
        files.replace(path, "".join(kept).encode())


def _update(line: str, header: Sequence[str] | None) -> float:
    """The update that a row of progress was logged at; infinite for a row that a crash damaged."""
    try:
        row = json.loads(line) if header is None else dict(zip(header, next(csv.reader([line])), strict=True))
        return float(row.get("misc/nupdates") or 0)
    except (ValueError, AttributeError, TypeError, RecursionError, csv.Error):  # JSON, but no object, or no JSON
        return math.inf


def _next_timestep(progress: Path) -> int:
    """The step from which TensorBoard hides events: those of the rows that were dropped."""
    lines = files.whole_lines(progress)
    return int(json.loads(lines[-1]).get("misc/total_timesteps") or 0) + 1 if lines else 0
