"""Films: frames of environments in a file that takes its name when it is whole."""

import contextlib
import importlib.util
import logging
import os
import shutil
import struct
import time
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ppo2.envs.host.failures import ContractError
from ppo2.evaluation.pictures import as_picture, fitted
from ppo2.system.text import install_command, say_error

SUFFIXES = (".mp4", ".gif")
"""Endings of the names of films."""
DEFAULT_FPS = 30
"""Frames a second of environments whose metadata name no `render_fps`."""
FULL_BYTES = 2**20
"""Free bytes of a disk below which it is called full."""
PROGRESS_SECONDS = 5.0
"""Seconds between two lines that say how far a film is."""


def missing_packages(suffix: str) -> str:
    """Words for the packages that films of a suffix need and that aren't installed; "" if all are."""
    needed = ["imageio"] if suffix == ".gif" else ["imageio", "imageio_ffmpeg"]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)}: {install_command('video')}" if missing else ""


class Film:
    """Context in which frames are added to a film.

    At its end the file takes its name; an interrupt (SIGINT, SIGTERM) keeps what was filmed until then, and an error
    leaves no file, but an earlier one as it was.

    All frames have the size of the first: another is put in its middle.

    Args:
        path: the file, of one of SUFFIXES.
        fps: frames a second; None: DEFAULT_FPS.
        episodes: number of episodes to come, for the lines about progress.
        progress: True says on standard error how far the film is.

    Attributes:
        frames: number of frames so far.
        episode: number of the episode that is being filmed, from 1.
    """

    def __init__(self, path: Path, fps: float | None, episodes: int, *, progress: bool) -> None:
        self._path, self._fps, self._episodes, self._progress = path, fps or DEFAULT_FPS, episodes, progress
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        self.frames, self.episode = 0, 1
        self._size: tuple[int, int] | None = None
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        import imageio.v2 as imageio

        self._path.parent.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"format": "FFMPEG", "fps": self._fps, "macro_block_size": 2}
        if self._path.suffix.lower() == ".gif":
            options = {"format": "GIF", "duration": 1000 / self._fps, "loop": 0}
        self._writer = imageio.get_writer(self._temporary, mode="I", **options)
        return self

    def add(self, frame: Any) -> None:
        """Adds a frame, as `render` gives it.

        Raises:
            ContractError: it is no picture, or can't be written.
        """
        try:
            picture = as_picture(frame)
            even = 2 if self._path.suffix.lower() == ".mp4" else 1  # as its colours have half as many pixels
            if self._size is None:
                height, width = picture.shape[:2]
                self._size = height + height % even, width + width % even
            picture = fitted(picture, *self._size)
            with warnings.catch_warnings():
                # JAX warns of every fork; the one for ffmpeg becomes another program at once.
                warnings.filterwarnings("ignore", ".*os.fork", RuntimeWarning)
                self._writer.append_data(picture)
        except Exception as error:
            raise self._unwritten(error) from error
        self.frames += 1
        if self._progress and time.monotonic() - self._said > PROGRESS_SECONDS:
            self._said = time.monotonic()
            self._say(f"{self.frames:,} frames, episode {self.episode} of {self._episodes}")

    def __exit__(self, kind: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt | SystemExit)
        try:
            if kind is None or (interrupted and self.frames):
                self._close()
                self._temporary.replace(self._path)
                if interrupted:
                    self._say(f"stopped; it has the {self.frames:,} frames until then")
            else:
                with contextlib.suppress(Exception):  # of a file that goes; there is an error already
                    self._writer.close()
        finally:
            self._temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        """Writes the end of the file.

        Raises:
            ContractError: the file isn't whole, which ffmpeg tells by its status alone, and imageio doesn't look at it.
        """
        try:
            self._writer.close()
            if self.frames and self._path.suffix.lower() == ".mp4":
                _check_whole(self._temporary)
        except Exception as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: Exception) -> ContractError:
        """An error that says why the film can't be written."""
        words, _, rest = str(error).partition("FFMPEG COMMAND:")  # imageio's, which quotes ffmpeg after it
        words = " ".join(f"{words} {rest.partition('FFMPEG STDERR OUTPUT:')[2]}".split())
        with contextlib.suppress(OSError):
            if shutil.disk_usage(self._path.parent).free < FULL_BYTES:
                words = f"{words}. The disk is full: make room on it"
        return ContractError(f"`video` (={str(self._path)!r}) can't be written: {words}")

    def _say(self, text: str) -> None:
        say_error(f"{self._path}: {text}", level=logging.INFO)


def _check_whole(path: Path) -> None:
    """Raises ValueError where an MP4 file isn't whole: its boxes, each with its size before it, end with the file."""
    size, at, kinds = path.stat().st_size, 0, []
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:  # a size of 64 bits follows
                (length,) = struct.unpack(">Q", file.read(8))
            kinds.append(kind)
            at += max(length, 8)
    if at != size or b"moov" not in kinds:
        raise ValueError("ffmpeg could not write all of it")
