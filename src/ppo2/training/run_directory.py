"""The directory of a run: its settings and its checkpoints."""

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ppo2.checkpoints import checkpoint
from ppo2.checkpoints.addresses import check_is_no_address, check_is_no_search, is_elsewhere
from ppo2.config import Config
from ppo2.distributed import collectives
from ppo2.system import files
from ppo2.system.directory_lock import DirectoryLock
from ppo2.system.text import parse_json, printable
from ppo2.training import sessions

if TYPE_CHECKING:
    from ppo2.training.start import Start

CONFIG = "config.json"
CURVE = "curve.png"
LOGS = ("progress.csv", "progress.jsonl", "monitor.csv")
MAY_CHANGE = (
    "total_timesteps", "device", "log", "log_options", "video_interval", "video_envs", "video_steps",
)  # fmt: skip
"""Settings that may be others when a run goes on."""
SUPERSEDED = ".superseded"
"""Suffix of checkpoints that a run, resumed from an earlier one, will write again."""


def of(path: Path) -> Path:
    """The run directory that a path means: itself, or the one that holds this checkpoint, or this folder of them."""
    folder = path.parent if path.is_file() else path
    if folder.resolve().name == checkpoint.FOLDER:
        run_dir = folder.parent if folder.name == checkpoint.FOLDER else folder.resolve().parent
        if (run_dir / CONFIG).is_file():
            return run_dir
    return path


def contains(run_dir: Path, load_path: Path) -> bool:
    """True if `load_path` is the run directory itself, the folder of its checkpoints, or one of them."""
    run_dir = run_dir.resolve()
    path, folder = load_path.expanduser().resolve(), run_dir / checkpoint.FOLDER
    return path in (run_dir, folder) or path.parent == folder


def make_new(name: str) -> Path:
    """Makes a directory of this name, with -2, -3, ... behind it where others were faster: no other process gets it."""
    for number in itertools.count(1):
        path = Path(name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            _make(path)
            break
    return path


def _make(path: Path) -> None:
    while True:
        files.make_folder(path.parent)
        with contextlib.suppress(FileNotFoundError):  # another process has just removed the folder, empty as it was
            path.mkdir()
            return


def lock(path: Path) -> DirectoryLock:
    """Claims a directory for this process.

    Raises:
        ValueError: another training works there, it can't be a directory, or nothing can be written there.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"`run_dir` (={str(path)!r}) is a file; it must be a directory, or not exist yet.")
    try:
        return DirectoryLock(path)
    except OSError as error:
        why = error.strerror or error
        raise ValueError(
            f"`run_dir` (={str(path)!r}) can't be written to ({why}): {files.remedy(error)}, or choose another one."
        ) from error


@contextlib.contextmanager
def locked(run_dir: str | os.PathLike[str] | None) -> Iterator[DirectoryLock | None]:
    """Context in which a run directory belongs to this process; of several, to the first, the others get None.

    Raises:
        ValueError: see `lock`.
    """
    mine: DirectoryLock | None = None

    def claim() -> None:
        nonlocal mine
        path = absolute(run_dir)
        mine = None if path is None else lock(path)

    collectives.run_on_first(claim)
    try:
        yield mine
    finally:
        if mine is not None:
            mine.release()


def check_free(path: Path) -> None:
    """Makes sure that a new run may write to `path`; removes the logs of a run that never got to its first update.

    Raises:
        ValueError: it holds a run already.
    """
    logs = [path / name for name in LOGS]
    found = [*sorted((path / checkpoint.FOLDER).glob("[!.]*")), *filter(_has_rows, logs)]
    if found:
        raise ValueError(
            f"`run_dir` (={str(path)!r}) already holds a run (it has {printable(found[0].name)}), and a run is never "
            f"overwritten. Choose another directory, remove this one, or continue it: ppo2 resume {path}, or "
            f"learn(load_path={str(path)!r}, run_dir={str(path)!r}) with the same arguments."
        )
    for log in logs:
        log.unlink(missing_ok=True)


def _has_rows(log: Path) -> bool:
    """True if it tells of an update: a table of progress with a row under its header. True for a folder, too."""
    if not log.is_file():
        return log.exists()
    with log.open("rb") as opened:
        return log.stem == "progress" and sum(1 for _ in opened) > (log.suffix == ".csv")


def set_aside(path: Path, update: int) -> str:
    """Renames the checkpoints of later updates, which training is about to make again. Returns a line about it."""
    later = [file for number, file in checkpoint.numbered(path / checkpoint.FOLDER).items() if number > update]
    if not later:
        return ""
    for file in later:
        aside, number = file.with_name(file.name + SUPERSEDED), 1
        while aside.exists():
            number += 1
            aside = file.with_name(f"{file.name}{SUPERSEDED}-{number}")
        file.rename(aside)
    files.sync_folder(path / checkpoint.FOLDER)
    names = ", ".join(file.name for file in reversed(later))
    return f"continuing from update {update:,}; later checkpoints are set aside, as *{SUPERSEDED}: {names}"


def remove_interim(path: Path, config: Config, update: int) -> None:
    """Removes checkpoints before an update that only a stop brought about, and that a killed process left there."""
    for number, file in checkpoint.numbered(path / checkpoint.FOLDER).items():
        if 1 < number < update and number % (config.save_interval or update):
            with contextlib.suppress(OSError, ValueError):  # a damaged one is left to people
                if checkpoint.load(file).section("run").get("interim") is True:
                    file.unlink()


def write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings of a run, its sessions and versions, as JSON that a person can read."""
    files.replace(path / CONFIG, (json.dumps(settings, indent=2, allow_nan=False) + "\n").encode())


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings of a run, its sessions, and the versions that it was made with last.

    Raises:
        ValueError: `path` is no run directory.
    """
    check_is_no_address(path)
    check_is_no_search(path)
    file = Path(path).expanduser() / CONFIG
    try:
        if file.exists() and not file.is_file():  # reading a pipe would wait for ever
            raise ValueError("it is no regular file")
        return parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{printable(path)} is no run directory: its {CONFIG} can't be read ({error}).") from error


def check_same(saved: Mapping[str, Any], config: Config, path: Path, done: int) -> None:
    """Raises ValueError where a run can't go on under these settings, naming those that differ.

    Another total is fine, if it is no less than what was done.

    Args:
        done: updates that were made.
    """
    mine = config.to_json()
    saved = {**Config().to_json(), **saved}  # an earlier version did by default what it had no setting for
    different = [name for name in mine if saved[name] != mine[name] and name not in MAY_CHANGE]
    if done > config.nupdates:
        raise ValueError(
            f"`total_timesteps` (={config.total_timesteps:,}) is less than what the run in `run_dir` (={str(path)!r}) "
            f"has done: {done:,} updates of {config.nbatch:,} timesteps. Raise it to {done * config.nbatch:,} at "
            "least, or continue from an earlier checkpoint."
        )
    if different:
        listed = "; ".join(f"`{name}` was {saved[name]!r}, is {mine[name]!r}" for name in different)
        raise ValueError(
            f"`run_dir` (={str(path)!r}) holds a run with other settings: {listed}. Resume it with the same ones, or "
            "leave `run_dir` out or choose another to begin a new run from its weights."
        )


class Prepared(NamedTuple):
    """A run directory that is ready.

    Attributes:
        path: its absolute path; None: nothing is written.
        settings: the content of its config.json.
        lines: to be told to a person: checkpoints put aside, another total, other versions.
    """

    path: str | None
    settings: dict[str, Any]
    lines: list[str]


def absolute(run_dir: str | os.PathLike[str] | None) -> Path | None:
    """The directory that the argument `run_dir` means, wherever an environment moves this process to later.

    Raises:
        TypeError: it is no path.
        ValueError: it names nothing.
    """
    if run_dir is None:
        return None
    if not isinstance(run_dir, str | os.PathLike):
        raise TypeError(f"`run_dir` (={run_dir!r}) must be the path of a directory; None writes nothing.")
    if not os.fspath(run_dir) or "\0" in str(run_dir):
        raise ValueError(f"`run_dir` (={str(run_dir)!r}) must name a directory; None writes nothing.")
    if is_elsewhere(run_dir):
        raise ValueError(f"`run_dir` (={str(run_dir)!r}) is the address of a policy; it must name a directory.")
    return Path(run_dir).expanduser().absolute()


def prepare(
    run_dir: Path | None,
    config: Config,
    start: "Start",
    layout: Mapping[str, int],
    kept: Mapping[str, Any] | None = None,
    callbacks: Sequence[str] = (),
) -> Prepared:
    """Makes the directory ready for the run.

    Args:
        run_dir: see `absolute`; None does nothing.
        layout: see `RolloutRunner.layout`.
        kept: more that a run does as before when it goes on, by name; see `Start.kept`.
        callbacks: names of the classes of callbacks, which no setting tells.

    Raises:
        ValueError: it holds another run, or this one under other settings.
    """
    if run_dir is None:
        return Prepared(None, {}, [])
    path, done, history = run_dir, start.progress.update, list[Any]()
    if start.goes_on:
        check_same(start.settings, config, path, done)
        with contextlib.suppress(ValueError):  # somebody has removed or spoiled it
            history = sessions.sessions_in(read_config(path))
    else:
        check_free(path)
    now = sessions.current_session(done, config.total_timesteps, start.loaded)
    if start.kind == "weights":
        now[sessions.FROM_WEIGHTS] = True
    if callbacks:
        now[sessions.CALLBACKS] = list(callbacks)
    aside = "" if start.resumed is None else set_aside(path, done)
    remove_interim(path, config, done)
    lines = [aside, _other_total(start, config), sessions.changes(history, now)]
    for folder in (path, path / checkpoint.FOLDER):
        files.remove_temporaries(folder)
    settings = {**config.to_json(), "engine": dict(layout), **(kept or {}), "versions": now["versions"]}
    settings[sessions.SESSIONS] = [*history, now]
    try:
        write_settings(path, settings)
    except OSError as error:
        why = error.strerror or error
        raise ValueError(f"{path / CONFIG} can't be written ({why}): {files.remedy(error)}.") from error
    return Prepared(str(path), settings, [line for line in lines if line])


def _other_total(start: "Start", config: Config) -> str:
    """A line about a total that isn't that of the run so far; "" if it is."""
    before, done = start.settings.get("total_timesteps"), start.progress.update
    if not start.goes_on or not isinstance(before, int) or before // config.nbatch == config.nupdates:
        return ""
    left = f", and continue at frac {config.frac(done + 1):.3g}" if done < config.nupdates else ""
    return (
        f"the total of this run was {before:,} timesteps ({before // config.nbatch:,} updates) and is now "
        f"{config.total_timesteps:,} ({config.nupdates:,}); schedules follow the new total{left}"
    )
