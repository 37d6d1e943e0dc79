"""What processes tell each other over the connections of the watch (guard.py, hub.py): a JSON object a line."""

import contextlib
import json
import os
import re
import signal
import socket
from typing import Any, NamedTuple

MOST_BYTES = 2**16
"""Of a message."""


class ProcessLocation(NamedTuple):
    """A process, and among which others its number is its own."""

    pid: int
    host: str
    namespace: int

    @classmethod
    def here(cls) -> "ProcessLocation | None":
        """Of this process; None where that can't be told."""
        try:
            return cls(os.getpid(), socket.gethostname(), os.stat("/proc/self/ns/pid").st_ino)
        except OSError:
            return None

    def kill(self) -> None:
        """Ends it, if it is near: one that is stopped, or holds its interpreter's lock, can't end itself."""
        mine = ProcessLocation.here()
        if mine is not None and mine[1:] == self[1:]:
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)


class MonitorAddress(NamedTuple):
    """Where the hub listens and is, the word that lets a process in, and the heartbeat of all."""

    host: str
    port: int
    word: str
    heartbeat: float
    place: ProcessLocation | None


class ProcessProgress(NamedTuple):
    """How far a process has come.

    Attributes:
        collectives: how often it came to where all meet.
        ticks: a number that grows while it works.
        may_pause: whether what it does now may take any time.
    """

    collectives: int = 0
    ticks: int = 0
    may_pause: bool = True


class ProcessFailure(NamedTuple):
    """Why a process can't go on.

    Attributes:
        words: what comes after "rank 1".
        status: that all end with.
        is_secondary: it only says that another one is gone, or the network.
        collectives, may_pause: of its progress.
    """

    words: str
    status: int
    is_secondary: bool
    collectives: int
    may_pause: bool

    @property
    def cause(self) -> str:
        """The same for all to whom the same has happened: objects have other addresses in each."""
        return re.sub(r"0x[0-9a-fA-F]+", "0x", self.words)


def lines(text: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """The messages in what came, and what is left of one that hasn't come yet. Nonsense is left out."""
    *whole, rest = text.split(b"\n")
    said = []
    for line in whole:
        with contextlib.suppress(ValueError, RecursionError):
            one = json.loads(line)
            if isinstance(one, dict):
                said.append(one)
    return said, rest


def received(sock: socket.socket) -> bytes:
    """What came; nothing where the connection is gone.

    Raises:
        TimeoutError: nothing came.
    """
    try:
        return sock.recv(MOST_BYTES)
    except TimeoutError:
        raise
    except OSError:
        return b""


def send(sock: socket.socket | None, message: object) -> None:
    """Sends what JSON can hold."""
    if sock is not None:
        with contextlib.suppress(OSError):  # whoever reads will notice
            sock.sendall(json.dumps(message).encode() + b"\n")
