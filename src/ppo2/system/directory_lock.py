"""Directories that belong to one process at a time, among all processes and machines that share the disk.

The lock is a file that only one process can make: a hard link to a file that is written before, which is atomic on NFS
too. It names its owner: machine, process, and the process's start, as numbers of processes are used again. A lock whose
owner died is taken over. On the same machine the system knows that; elsewhere, and in other containers, the lock's time
tells, which the owner renews. The kernel's own locks are of no use here: NFS may keep them to one machine, and a worker
that was forked would hold them after its parent's death.
"""

import contextlib
import errno
import hashlib
import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import NamedTuple

from ppo2.system import files
from ppo2.system.exits import EXIT_HOOKS
from ppo2.system.lock_owner import HELD, Owner, owner_in
from ppo2.system.text import say_error

LOCK = "run.lock"
"""Name of the file in the directory."""
RENEW_SECONDS = 10.0
"""Interval at which an owner renews the time of its lock."""
STALE_SECONDS = 60.0
"""Age from which on the lock of another machine counts as left behind."""
LARGEST = 65536
"""Bytes of a lock's content beyond which nothing is read."""
LOOK_SECONDS = 1.0
"""Interval of looking for a sign of life."""


class _Found(NamedTuple):
    """A lock that was found: its content and its time; no owner if the content says none."""

    content: bytes
    changed: float
    owner: Owner | None

    @property
    def words(self) -> str:
        return "a process that left no name" if self.owner is None else self.owner.words


class DirectoryLock:
    """The claim of this process to a directory, from its making to `release`.

    Attributes:
        folder: the directory; made if it wasn't there.
        note: a line about the lock of a dead process that was taken over; "" if there was none.

    Raises:
        ValueError: another training works there, in this process or another.
        OSError: the lock can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.note, self._given = folder.resolve(), "", folder
        self._path = self.folder / LOCK
        self._made = not self.folder.exists()
        self._owner = Owner.me()
        self._content = json.dumps(self._owner._asdict()).encode()
        self._taken_by: str | None = None
        self._released, self._busy = threading.Event(), threading.Lock()
        HELD.add(self._owner.token)
        try:
            files.make_folder(self.folder)
            self._claim()
        except BaseException:
            self.release()
            raise
        EXIT_HOOKS.add(self.release)
        threading.Thread(target=self._renew, name="ppo2-lock", daemon=True).start()

    def check(self) -> None:
        """Raises RuntimeError if another process has taken the directory, as after hours in which this one slept."""
        if self._taken_by is not None:
            raise RuntimeError(
                f"{self.folder} now belongs to {self._taken_by}, after this process had shown no sign of life for "
                f"{STALE_SECONDS:.0f} s (or someone had removed {LOCK}): training ends, and writes nothing more."
            )

    @property
    def is_mine(self) -> bool:
        """False once another process has taken the directory."""
        return self._taken_by is None

    def release(self) -> None:
        """Gives the directory free, and removes it where it was made for nothing. A second call does nothing."""
        if self._owner.pid != os.getpid():  # a child that was forked
            return
        with self._busy:
            if self._released.is_set():
                return
            self._released.set()
            EXIT_HOOKS.discard(self.release)
            with contextlib.suppress(OSError):
                if self._path.is_file() and self._path.read_bytes() == self._content:
                    self._path.unlink()
            HELD.discard(self._owner.token)
            if self._made:
                with contextlib.suppress(OSError):  # it isn't empty
                    self.folder.rmdir()

    def _claim(self) -> None:
        while not self._create():
            found = self._read()
            if found is not None and self._is_left_behind(found):
                self._remove(found.content)
                self.note = f"{self._given} was left locked by {found.words}, which runs no more: taken over"

    def _create(self) -> bool:
        """Makes the lock; False if there is one."""
        temporary = self.folder / f".{LOCK}.{self._owner.token}{files.TEMPORARY}"
        try:
            _write_new(temporary, self._content)
            # by the clock of the file system, which may be another machine's
            self._clock = temporary.stat().st_mtime - time.monotonic()
            try:
                os.link(temporary, self._path)
            except FileExistsError:  # by this call after all, if NFS lost its first answer
                return temporary.stat().st_nlink > 1
            except OSError:  # a file system without hard links
                return self._create_without_link()
            return True
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _create_without_link(self) -> bool:
        try:
            _write_new(self._path, self._content)
        except FileExistsError:
            return False
        return True

    def _read(self) -> _Found | None:
        """The lock that is there; opened, as NFS answers from memory otherwise."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # or a pipe would be waited on
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileExistsError(errno.EEXIST, f"its {LOCK} is no regular file: remove it")
            content, changed = os.read(descriptor, LARGEST), status.st_mtime
        finally:
            os.close(descriptor)
        return _Found(content, changed, owner_in(content))

    def _is_left_behind(self, found: _Found) -> bool:
        """True if the owner of a lock works no more; False if the lock changed meanwhile.

        Raises:
            ValueError: the owner lives.
        """
        lives = None if found.owner is None else found.owner.lives
        if lives is None:
            return self._shows_no_life(found)
        if lives:
            self._refuse(found)
        return True

    def _shows_no_life(self, found: _Found) -> bool:
        """`_is_left_behind` by the time of the lock alone."""
        began, told = time.monotonic(), False
        while max(time.monotonic() - began, self._clock + time.monotonic() - found.changed) < STALE_SECONDS:
            if not told:
                say_error(
                    f"{self._given} is locked by {found.words}: waiting up to {STALE_SECONDS:.0f} s for a sign of "
                    "life, to take it over if none comes"
                )
                told = True
            time.sleep(LOOK_SECONDS)
            now = self._read()
            if now is None or now.content != found.content:
                return False
            if now.changed != found.changed:
                self._refuse(found)
        return True

    def _refuse(self, found: _Found) -> None:
        mine = found.owner is not None and found.owner.token in HELD
        who = f"this very process, since {found.owner.since}" if mine and found.owner is not None else found.words
        raise ValueError(
            f"`run_dir` (={str(self._given)!r}) belongs to a training that still runs, of {who}. Choose another "
            f"directory, or wait until it has ended. If it can't be running any more, remove {self._given / LOCK}."
        )

    def _remove(self, content: bytes) -> None:
        """Removes a lock that was left behind: this one and no other, which another process may have made since.

        Only who made a file named after its content may remove it, so that what is read there is what is removed.
        """
        right = self.folder / f".{LOCK}.{hashlib.sha256(content).hexdigest()[:16]}{files.TEMPORARY}"
        try:
            _write_new(right, b"")
        except FileExistsError:  # another process is about to
            time.sleep(0.01)
            with contextlib.suppress(FileNotFoundError):
                if self._clock + time.monotonic() - right.stat().st_mtime > STALE_SECONDS:  # it died meanwhile
                    right.unlink()
            return
        try:
            found = self._read()
            if found is not None and found.content == content:
                self._path.unlink()
        finally:
            with contextlib.suppress(FileNotFoundError):  # the new owner has tidied up
                right.unlink()

    def _renew(self) -> None:
        """Renews the time of the lock at an interval, makes it again where it vanished, and sees who took it."""
        while not self._released.wait(RENEW_SECONDS):
            with self._busy, contextlib.suppress(OSError):  # the next time
                if self._released.is_set():
                    return
                found = self._read()
                if found is None:
                    self._create()
                elif found.content == self._content:
                    os.utime(self._path)
                elif found.owner is not None:
                    self._taken_by = found.words


def _write_new(path: Path, data: bytes) -> None:
    """Writes a file that must not exist yet."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
