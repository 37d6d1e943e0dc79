"""The owner of a lock: which process on which machine, and whether it still lives."""

import contextlib
import os
import secrets
import socket
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from ppo2.system.text import parse_json, printable

HELD: set[str] = set()
"""Tokens of the locks that this process holds."""


class Owner(NamedTuple):
    """The owner of a lock.

    Attributes:
        host, boot, namespace: the machine, its start, and the system's own name for the container's process numbers.
        pid, started: number of the process, and the system's own words for its start.
        since: date and time of the lock, for people.
        token: random text, another for each lock.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: str
    since: str
    token: str

    @classmethod
    def me(cls) -> "Owner":
        """Names the process itself, with a new token."""
        pid = os.getpid()
        return cls(*_machine(), pid, start_of(pid) or "", time.strftime("%Y-%m-%d %H:%M:%S"), secrets.token_hex(8))

    @property
    def words(self) -> str:
        """The process, for people."""
        return f"process {self.pid} on {printable(self.host)}, since {printable(self.since)}"

    @property
    def lives(self) -> bool | None:
        """True if the process still works in its directory; None if that can't be seen from here."""
        if self[:3] != _machine():
            return None
        started = start_of(self.pid)
        if started is None:
            return None
        mine = self.pid == os.getpid() and started == self.started
        return self.token in HELD if mine else bool(started) and started == self.started


def start_of(pid: int) -> str | None:
    """The system's words for a process's start; "" if there is no such process, None if they can't be had."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if stat[0] in "ZX" else stat[19]  # a zombie has ended
    except (OSError, IndexError):
        pass
    if os.name == "nt":  # where os.kill would end the process
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except (OSError, OverflowError):  # another user's
        return None
    if Path("/proc/self/stat").exists():  # so it only hides what is another user's
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        return " ".join(told.stdout.split()) or None
    return None


def _machine() -> tuple[str, str, str]:
    """The machine, its start, and the container whose process numbers these are; "" for what the system doesn't say."""
    boot = namespace = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return socket.gethostname(), boot, namespace


def owner_in(content: bytes) -> Owner | None:
    """The owner that a lock names; None if it is half written, or of something else."""
    with contextlib.suppress(ValueError, TypeError):
        owner = Owner(**parse_json(content.decode()))
        texts = [value for name, value in owner._asdict().items() if name != "pid"]
        if type(owner.pid) is int and 0 < owner.pid < 2**31 and all(isinstance(text, str) for text in texts):
            return owner
    return None
