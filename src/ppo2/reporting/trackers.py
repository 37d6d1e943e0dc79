"""TensorBoard and Weights & Biases, which get the rows of the log if they are asked for."""

import contextlib
import json
import math
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ppo2.reporting.sinks import Row, Sink, append_bytes


class TensorBoard(Sink[Row]):
    """A file of events, written as the tables are. (A `SummaryWriter` has a thread for it, which dies on a full disk;
    training would wait for it for ever.)
    """

    def __init__(self, run_dir: Path, purge_step: int | None) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.waiting: list[Row] = []
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
        self.path = run_dir / "tensorboard" / name
        first = [Event(wall_time=time.time(), file_version="brain.Event:2")]
        if purge_step is not None:
            first.append(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))
        self._header = b"".join(map(_event_record, first))

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


class WeightsAndBiases(Sink[Row]):
    """A run of Weights & Biases, whose own process sends the rows."""

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
        with _as_os_error():
            for row in rows:
                self._run.log(dict(row), step=int(row["misc/total_timesteps"]))

    def close(self) -> None:
        with _as_os_error():
            self._run.finish()


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Context in which another package's errors are those of a file that refuses: a log never ends training."""
    try:
        yield
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
