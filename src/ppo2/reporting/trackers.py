"""TensorBoard, and the runs of experiment trackers, which get what a run logs if they are asked for."""

import contextlib
import importlib
import json
import math
import os
import socket
import struct
import subprocess
import time
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from ppo2.reporting.sinks import Row, Sink, append_bytes
from ppo2.system import verbosity

FINAL_SCORE = "final_score"
"""Name of the last evaluation's mean return, or of the mean over the last episodes where nothing was evaluated."""
PROJECT = "ppo2"
"""Project, or experiment, of runs for which none was named."""
GIF_FRAMES, GIF_WIDTH = 150, 320
"""Most frames, and pixels of a row, of a video in TensorBoard, which shows GIFs."""


class TensorBoard(Sink[Row]):
    """A file of events, written as the tables are. (A `SummaryWriter` has a thread for it, which dies on a full disk;
    training would wait for it for ever.)
    """

    def __init__(self, run_dir: Path, purge_step: int | None, settings: Mapping[str, Any] | None = None) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import hparams

        self.waiting: list[Row] = []
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
        self.path = run_dir / "tensorboard" / name
        first = [Event(wall_time=time.time(), file_version="brain.Event:2")]
        if purge_step is not None:
            first.append(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))
        plain = {key: x if isinstance(x, bool | int | float | str) else str(x) for key, x in (settings or {}).items()}
        self._end: Any
        experiment, begin, self._end = hparams(plain, {FINAL_SCORE: 0.0}) if plain else (None, None, None)
        if purge_step is None:
            first += [Event(wall_time=time.time(), summary=one) for one in (experiment, begin) if one is not None]
        self._header = b"".join(map(_event_record, first))

    def film(self, path: Path, timestep: int) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        with as_os_error():
            data, (height, width) = _gif(path)
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
            value = Summary.Value(tag="video", image=image)
            self._append(Event(wall_time=time.time(), step=timestep, summary=Summary(value=[value])))

    def end(self, score: float, timestep: int, failed: bool) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        now = time.time()
        found = [scalar(FINAL_SCORE, score)] if math.isfinite(score) else []
        for summary in [*found, *([self._end] if self._end is not None and not failed else [])]:
            self._append(Event(wall_time=now, step=timestep, summary=summary))

    def _append(self, event: Any) -> None:
        if self.path.exists():  # else its rows wait for room on the disk
            append_bytes(self.path, _event_record(event))

    def append(self, rows: Iterable[Row]) -> None:
        self.waiting += rows
        records = b"".join(_event_record(event) for row in self.waiting for event in _events(row))
        self.path.parent.mkdir(exist_ok=True)
        append_bytes(self.path, records if self.path.exists() else self._header + records)
        self.waiting.clear()


def _events(row: Row) -> list[Any]:
    """The finite figures of a row, as TensorBoard's events."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import scalar

    step, now = int(row["misc/total_timesteps"]), time.time()
    figures = [(key, value) for key, value in row.items() if math.isfinite(value)]
    return [Event(wall_time=now, step=step, summary=scalar(key, value)) for key, value in figures]


def _event_record(event: Any) -> bytes:
    """An event in TensorFlow's format of records: length, its checksum, data, their checksum."""
    from tensorboardX.record_writer import masked_crc32c

    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return b"".join([length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))])


class TrackedRun(NamedTuple):
    """Facts about a run for trackers.

    Attributes:
        run_dir: its directory; None if it has none.
        name: the name to show.
        group: the runs that it belongs to, as those of a sweep.
        settings: its hyperparameters.
        options: see `ppo2.config.logs`.
        sent: the timestep up to which trackers have its rows; None: of a new run.
    """

    run_dir: Path | None
    name: str | None
    group: str | None
    settings: Mapping[str, Any]
    options: Mapping[str, Mapping[str, Any]] = {}
    sent: int | None = None

    @classmethod
    def of(
        cls,
        run_dir: Path | None,
        settings: Mapping[str, Any] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> "TrackedRun":
        """The facts about a run by its directory; those that aren't given as its config.json has them."""
        name = group = None
        if run_dir is not None:
            name, file = run_dir.name, run_dir / "config.json"
            if run_dir.parent.name == "runs" and (run_dir.parent.parent / "sweep.json").is_file():
                group = run_dir.parent.parent.name
                name = f"{group}-{name}"
            if settings is None and file.exists():
                settings = json.loads(file.read_text(encoding="utf-8"))
        return cls(run_dir, name, group, settings or {}, options or {})

    def after(self, timestep: int) -> "TrackedRun":
        """The same, going on: rows up to a timestep were sent."""
        return self._replace(sent=timestep)


class Tracker(Sink[Row]):
    """A run of an experiment tracker. A run that goes on goes on there too: the file NAME_id.txt has which it is.

    What the tracker raises becomes an OSError, as of a file that refuses: a log never ends training.

    Attributes:
        is_open: it has begun.
    """

    name: ClassVar[str]

    def __init__(self, run: TrackedRun) -> None:
        self.path = Path(self.name) if run.run_dir is None else run.run_dir / self.name
        self.run, self.options, self.is_open = run, dict(run.options.get(self.name, {})), False
        self._id_file = None if run.run_dir is None else run.run_dir / f"{self.name}_id.txt"
        self._sent = -1

    def begin(self, before: Sequence[Row] = ()) -> None:
        """Begins the run there, or goes on with it.

        Args:
            before: rows of the run so far, which a tracker gets that has none of it yet.
        """
        known = None
        if self._id_file is not None and self.run.sent is not None and self._id_file.exists():
            known = self._id_file.read_text().strip()
        with as_os_error():
            begun = self._begin(known)
        self.is_open = True
        if self._id_file is not None and begun != known:
            self._id_file.write_text(begun)
        if begun == known and self.run.sent is not None:  # else another, which the program has begun
            self._sent = self.run.sent
        elif before:
            self.append(before)

    def append(self, rows: Sequence[Row]) -> None:
        with as_os_error():
            for row in rows:
                timestep = int(row["misc/total_timesteps"])
                if timestep > self._sent:  # else it was sent before the run was stopped
                    self._log({key: value for key, value in row.items() if math.isfinite(value)}, timestep)

    def film(self, path: Path, timestep: int) -> None:
        with as_os_error():
            self._film(path, timestep)

    def end(self, score: float, timestep: int, failed: bool) -> None:
        with as_os_error():
            self._end(score, timestep, failed)

    @abstractmethod
    def _begin(self, known: str | None) -> str:
        """Begins the run, or goes on with the one that is known; returns which it is."""

    @abstractmethod
    def _log(self, row: Row, timestep: int) -> None: ...

    @abstractmethod
    def _film(self, path: Path, timestep: int) -> None: ...

    @abstractmethod
    def _end(self, score: float, timestep: int, failed: bool) -> None: ...


class WeightsAndBiases(Tracker):
    """A run of Weights & Biases, whose own process sends the rows. One that the program has begun itself is taken, and
    left open.
    """

    name = "wandb"

    def _begin(self, known: str | None) -> str:
        import wandb

        self._failed, own = False, getattr(wandb, "run", None)
        self._is_ours = own is None
        if own is not None:
            self._run: Any = own
            own.config.update(dict(self.run.settings), allow_val_change=True)
            return str(own.id)
        given = {"project": os.environ.get("WANDB_PROJECT", PROJECT), "name": self.run.name, **self.options}
        if self.run.run_dir is not None:
            given.setdefault("dir", str(self.run.run_dir))
        if self.run.group is not None and "WANDB_RUN_GROUP" not in os.environ:
            given.setdefault("group", self.run.group)
        if known is not None:
            given["id"] = known
        if verbosity.is_quiet():
            given.setdefault("settings", wandb.Settings(silent=True))
        self._run = wandb.init(**{"id": None, **given}, resume="allow", config=dict(self.run.settings) or None)
        return str(self._run.id)

    def _log(self, row: Row, timestep: int) -> None:
        if self._is_ours:
            self._run.log(dict(row), step=timestep)
        else:  # whose steps are the program's
            self._run.log(dict(row))

    def _film(self, path: Path, timestep: int) -> None:
        import wandb

        self._log({"video": wandb.Video(str(path), format=path.suffix[1:])}, timestep)

    def _end(self, score: float, timestep: int, failed: bool) -> None:
        self._failed = failed
        if math.isfinite(score) and hasattr(self._run, "summary"):
            self._run.summary[FINAL_SCORE] = score

    def close(self) -> None:
        if self._is_ours:
            with as_os_error():
                self._run.finish(**({"exit_code": 1} if self._failed else {}))


def _gif(path: Path) -> tuple[bytes, tuple[int, int]]:
    """A video as a small GIF, and its height and width."""
    if path.suffix.lower() != ".gif":
        return _small_gif(path)
    import imageio.v3 as iio

    frames = iio.imread(path)
    frames = frames[:: -(-len(frames) // GIF_FRAMES)]
    step = -(-frames.shape[2] // GIF_WIDTH)
    frames = frames[:, ::step, ::step]
    data: bytes = iio.imwrite("<bytes>", frames, extension=".gif", loop=0)
    return data, (int(frames.shape[1]), int(frames.shape[2]))


def _small_gif(path: Path) -> tuple[bytes, tuple[int, int]]:
    """`_gif` of a film that ffmpeg reads, which may be too large for memory as pictures."""
    ffmpeg: Any = importlib.import_module("imageio_ffmpeg")
    with warnings.catch_warnings():
        # JAX warns of every fork; the one for ffmpeg becomes another program at once.
        warnings.filterwarnings("ignore", ".*os.fork", RuntimeWarning)
        frames, seconds = ffmpeg.count_frames_and_secs(str(path))
        every = -(-frames // GIF_FRAMES)
        rate = max(1.0, frames / every / max(seconds, 1e-3))
        chosen = f"select=not(mod(n\\,{every})),setpts=N/{rate}/TB,scale=min({GIF_WIDTH}\\,iw):-2"
        words = [ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-vf", chosen]
        words += ["-r", str(rate), "-loop", "0", "-f", "gif", "-"]
        data = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    width, height = struct.unpack("<HH", data[6:10])
    return data, (int(height), int(width))


@contextlib.contextmanager
def as_os_error() -> Iterator[None]:
    """Context in which another package's errors are those of a file that refuses: a log never ends training."""
    try:
        yield
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
