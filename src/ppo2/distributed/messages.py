"""Messages between the heartbeats of processes and the monitor in rank 0: a JSON object a line."""

import contextlib
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

DIED = "died without a word: killed, or out of memory?"


def last_words(rank: object, words: str) -> str:
    """The line that says why all processes end, and what to do; `words` say what the process of a rank did."""
    stop = "" if words.endswith((".", "?")) else "."
    advice = "All processes of this job end; started again, it can continue from its last checkpoint."
    return f"rank {rank} {words}{stop} {advice}"


class ProcessLocation(NamedTuple):
    """The number of a process, with the host and the PID namespace in which it is valid."""

    pid: int
    host: str
    namespace: int

    @classmethod
    def here(cls) -> "ProcessLocation | None":
        """The location of this process; None where the system doesn't tell."""
        try:
            return cls(os.getpid(), socket.gethostname(), os.stat("/proc/self/ns/pid").st_ino)
        except OSError:
            return None

    def kill(self) -> None:
        """Kills the process, if it is near: one that is stopped, or holds its interpreter's lock, can't end itself."""
        mine = ProcessLocation.here()
        if mine is not None and mine[1:] == self[1:]:
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)


class MonitorAddress(NamedTuple):
    """The monitor's address, the token that admits a process, the heartbeat of all, and where rank 0 runs."""

    host: str
    port: int
    token: str
    heartbeat: float
    location: ProcessLocation | None


class ProcessProgress(NamedTuple):
    """The progress of a process.

    Attributes:
        collectives: number of collectives that it has come to.
        ticks: a number that grows while it works.
        may_pause: True if its present work may take any time.
    """

    collectives: int = 0
    ticks: int = 0
    may_pause: bool = True


class ProcessFailure(NamedTuple):
    """The reason why a process can't go on.

    Attributes:
        words: the words after "rank 1".
        status: the exit status of all.
        is_secondary: True if it only says that another process is gone, or the network.
        collectives, may_pause: see `ProcessProgress`.
    """

    words: str
    status: int
    is_secondary: bool
    collectives: int
    may_pause: bool

    @property
    def cause(self) -> str:
        """Words that are the same in all processes that failed alike: objects have other addresses in each."""
        return re.sub(r"0x[0-9a-fA-F]+", "0x", self.words)


def receive(lines: BinaryIO) -> Iterator[dict[str, Any]]:
    """The messages that come over a connection, until it is gone. Lines that are no messages are left out."""
    with contextlib.suppress(OSError):
        for line in lines:
            message = None
            with contextlib.suppress(ValueError, RecursionError):
                message = json.loads(line)
            if isinstance(message, dict):
                yield message


def send(sock: socket.socket | None, message: object) -> None:
    """Sends what JSON can hold. A connection that is gone is no error here: whoever reads from it notices."""
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.sendall(json.dumps(message).encode() + b"\n")
