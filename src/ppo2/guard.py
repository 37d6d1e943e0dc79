"""Watching the processes of one job: where one dies, fails or hangs, all end, and one line says which and why.

JAX's own runtime notices a lost process late or by its own abrupt end, and a hanging one never. So every process keeps
a connection to rank 0, over which it tells a few times a second that it lives and how far it has come.
"""

import contextlib
import ctypes
import hmac
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from ppo2.stops import LAST_ACTS
from ppo2.untrusted import printable

FAILED = 75
"""The exit status of a process whose job failed by another's fault: sysexits' EX_TEMPFAIL, "try again"."""

LOOK_SECONDS = 0.1
"""How often rank 0 looks whether something has ended or failed here."""

LOOKS = 20
"""Beats in the time without one after which a process is given up."""

ALIKE_SECONDS = 0.5
"""Within which all processes may fail of the same cause, which is then no other's fault."""

ECHO_SECONDS = 3.0
"""That a process whose collective failed waits for the cause: another one that died."""

MOST_BYTES = 2**16
"""Of a message."""

DIED = "died without a word: killed, or out of memory?"
RANK_0_DIED = f"rank 0 {DIED}"


class Address(NamedTuple):
    """Where the guard of rank 0 listens, and the word that lets a process in."""

    host: str
    port: int
    word: str


class Progress(NamedTuple):
    """How far a process has come.

    Attributes:
        met: how often it came to where all meet.
        lived: a number that grows while it works.
        patient: whether what it does now may take any time.
    """

    met: int = 0
    lived: int = 0
    patient: bool = True


class Member:
    """What rank 0 knows of a process. `since`: when its progress changed last, or others began to wait for it; `heard`:
    when it last said anything.
    """

    def __init__(self, sock: socket.socket | None) -> None:
        self.sock = sock
        self.unread = b""
        self.progress = Progress()
        self.since = self.heard = time.monotonic()
        self.failure: str | None = None
        self.failed_at = 0.0
        self.left = False

    def fail(self, words: str) -> None:
        if self.failure is None:
            self.failure, self.failed_at = words, time.monotonic()

    def tell(self, progress: Progress) -> None:
        self.heard = time.monotonic()
        if progress != self.progress:
            self.progress, self.since = progress, self.heard


class Guard:
    """The part of one process in the watch.

    Args:
        rank, size: which of how many.
        heartbeat: seconds without a sign after which a process is given up, and all end.
    """

    def __init__(self, rank: int, size: int, heartbeat: float) -> None:
        self.rank, self.size, self.heartbeat = rank, size, heartbeat
        self._met = self._lived = 0
        self._patience = 1
        self._failure: str | None = None
        self._closing = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._to_hub: socket.socket | None = None

    # --- what the process tells -----------------------------------------------------------------------------------

    def meet(self) -> None:
        """Before anything that all processes do together."""
        self._met += 1

    def live(self) -> None:
        """Now and then while this process works by itself."""
        self._lived += 1

    def work(self) -> None:
        """From now on, until `rest`, this process is at what it does again and again: to stop there is to hang."""
        self._patience = 0

    def rest(self) -> None:
        """From now on what this process does may take any time, as compiling does."""
        self._patience = 1

    @contextlib.contextmanager
    def patient(self) -> Iterator[None]:
        """What is done in it may take any time."""
        self._patience += 1
        try:
            yield
        finally:
            self._patience -= 1

    @property
    def progress(self) -> Progress:
        return Progress(self._met, self._lived, self._patience > 0)

    # --- rank 0 ---------------------------------------------------------------------------------------------------

    def listen(self, host: str) -> Address:
        """Waits for the other processes, at any port of an interface."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.create_server((host, 0), family=family)
        word = os.urandom(16).hex()
        self._start(lambda: self._watch(server, word))
        return Address(host, server.getsockname()[1], word)

    def _watch(self, server: socket.socket, word: str) -> None:
        members: dict[int, Member] = {0: Member(None)}
        strangers: dict[socket.socket, bytes] = {}
        beat = self.heartbeat / LOOKS
        with selectors.DefaultSelector() as selector:
            selector.register(server, selectors.EVENT_READ)
            beaten = time.monotonic()
            while not self._closing:
                for key, _ in selector.select(min(beat / 2, LOOK_SECONDS)):
                    sock: Any = key.fileobj
                    if sock is server:
                        new, _address = server.accept()
                        new.settimeout(self.heartbeat)
                        strangers[new] = b""
                        selector.register(new, selectors.EVENT_READ)
                        continue
                    given = _received(sock)
                    rank = next((rank for rank, member in members.items() if member.sock is sock), None)
                    if rank is None:
                        strangers[sock] += given
                        if not given or b"\n" in strangers[sock] or len(strangers[sock]) > MOST_BYTES:
                            said = strangers.pop(sock)
                            named = _named(said.partition(b"\n")[0], word, self.size) if given else None
                            if named is None or named in members:
                                selector.unregister(sock)
                                _close(sock)
                            else:
                                members[named] = Member(sock)
                                self._hear(members[named], said.partition(b"\n")[2])
                        continue
                    if given:
                        self._hear(members[rank], given)
                    else:
                        selector.unregister(sock)
                        _close(sock)
                        members[rank].sock = None
                        if not members[rank].left:
                            self._end_all(members, f"rank {rank} {DIED}")
                now = time.monotonic()
                members[0].tell(self.progress)
                if self._failure is not None:
                    members[0].fail(self._failure)
                self._judge(members, now)
                if now - beaten > beat:
                    beaten = now
                    for member in members.values():
                        _send(member.sock, {"beat": True})
            for member in members.values():
                _send(member.sock, {"left": True})
                _close(member.sock)
            for sock in (server, *strangers):
                _close(sock)

    def _hear(self, member: Member, given: bytes) -> None:
        member.unread += given
        *lines, member.unread = member.unread.split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                said = json.loads(line)
                member.heard = time.monotonic()
                member.left |= "left" in said
                if "failed" in said:
                    member.fail(str(said["failed"]))
                if "progress" in said:
                    member.tell(Progress(*said["progress"]))

    def _judge(self, members: dict[int, Member], now: float) -> None:
        """Ends the job where it can't go on."""
        failed = sorted((member.failed_at, rank) for rank, member in members.items() if member.failure is not None)
        if failed:
            at, rank = failed[0]
            words = members[rank].failure or ""
            if len(failed) == self.size and all(member.failure == words for member in members.values()):
                self._end_all(members, words, status=1)
            if now - at > ALIKE_SECONDS:
                self._end_all(members, f"rank {rank} failed: {words}")
            return
        for rank, member in members.items():
            if rank and member.sock is not None and now - member.heard > self.heartbeat:
                self._end_all(members, f"rank {rank} hasn't been heard of for {self.heartbeat:g} s")
        if len(members) < self.size:
            return
        ahead = max(member.progress.met for member in members.values())
        for rank, member in members.items():
            progress = member.progress
            if progress.met == ahead or progress.patient or member.left:
                member.since = now  # nobody waits for it
            elif now - member.since > self.heartbeat:
                self._end_all(members, f"rank {rank} hangs: the others have waited for it for {self.heartbeat:g} s")

    def _end_all(self, members: dict[int, Member], words: str, status: int = FAILED) -> NoReturn:
        for member in members.values():
            _send(member.sock, {"end": status})
        _end(words if status == 1 else _advised(words), status)

    # --- the others -----------------------------------------------------------------------------------------------

    def join(self, address: Address) -> None:
        """Takes up the connection to rank 0.

        Raises:
            OSError: it can't be reached.
        """
        sock = socket.create_connection(address[:2], timeout=self.heartbeat)
        _send(sock, {"rank": self.rank, "word": address.word})
        self._to_hub = sock
        self._start(lambda: self._report(sock))

    def _report(self, sock: socket.socket) -> None:
        beat = self.heartbeat / LOOKS
        sock.settimeout(beat)
        unread, heard = b"", time.monotonic()
        while not self._closing:
            with self._lock:
                _send(sock, {"progress": self.progress})
            given: bytes | None = None
            with contextlib.suppress(TimeoutError):
                given = _received(sock)
            if given == b"":
                # of the others, the first one speaks
                _end(_advised(RANK_0_DIED) if self.rank == 1 else None)
            if given is None:
                if time.monotonic() - heard > self.heartbeat:
                    _end(_advised(f"rank {self.rank} hasn't heard of rank 0 for {self.heartbeat:g} s"))
                continue
            heard = time.monotonic()
            *lines, unread = (unread + given).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if "end" in said:
                    _end(None, int(said["end"]))
                self._closing |= "left" in said
        _close(sock)

    # --- both -----------------------------------------------------------------------------------------------------

    def _start(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, name="ppo2-guard", daemon=True)
        self._thread.start()
        _end_as_we_do(self)

    def wait_for_cause(self, error: BaseException) -> None:
        """Where an error only says that a collective failed, the guard ends this process once it knows why."""
        if any(sign in str(error) for sign in ("Gloo", "NCCL", "nccl", "coordination service", "UNAVAILABLE:")):
            time.sleep(ECHO_SECONDS)

    def fail(self, error: BaseException) -> NoReturn:
        """To be called where this process can't go on, and so none can."""
        words = printable(str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")
        if self.rank == 0:
            self._failure = words
        else:
            with self._lock:
                _send(self._to_hub, {"progress": self.progress, "failed": words[: MOST_BYTES // 8]})
        time.sleep(ALIKE_SECONDS + ECHO_SECONDS)  # the guard ends this process
        _end(_advised(f"rank {self.rank} failed: {words}"))

    def close(self) -> None:
        """To be called where this process is done, and needs no other."""
        if self.rank:
            with self._lock:
                _send(self._to_hub, {"left": True})
        self._closing = True
        if self._thread is not None:
            self._thread.join(self.heartbeat / LOOKS + 1.0)


def _advised(words: str) -> str:
    stop = "" if words.endswith((".", "?")) else "."
    return f"{words}{stop} All processes of this job end; started again, it can go on from its last checkpoint."


def _named(line: bytes, word: str, size: int) -> int | None:
    """The rank of a process that says the word."""
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        said = json.loads(line)
        if hmac.compare_digest(str(said["word"]).encode(), word.encode()) and 0 < said["rank"] < size:
            return int(said["rank"])
    return None


def _received(sock: socket.socket) -> bytes:
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


def _send(sock: socket.socket | None, message: Any) -> None:
    if sock is not None:
        with contextlib.suppress(OSError):  # whoever reads will notice
            sock.sendall(json.dumps(message).encode() + b"\n")


_ENDING = threading.Lock()


def _end(words: str | None, status: int = FAILED) -> NoReturn:
    """Ends the process, whatever its main thread does."""
    if not _ENDING.acquire(blocking=False):  # another thread is at it
        time.sleep(60.0)
    if words is not None:
        _say(words)
    acts = threading.Thread(target=_last_acts, daemon=True)
    acts.start()
    acts.join(1.0)
    os._exit(status)


def _say(words: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"ppo2: {words}\n".encode())


def _last_acts() -> None:
    for act in [*LAST_ACTS, sys.stdout.flush]:
        with contextlib.suppress(Exception):
            act()


_ABORTED: list[Any] = []


def _close(sock: socket.socket | None) -> None:
    if sock is not None:
        sock.close()


def _end_as_we_do(guard: Guard) -> None:
    """Makes JAX's runtime, which aborts the process where rank 0 is gone, end it with our status."""
    if sys.platform == "win32" or guard.rank == 0:
        return

    def ended(_number: int) -> None:
        _end(_advised(RANK_0_DIED) if guard.rank == 1 else None)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(ended)
    _ABORTED.append(handler)
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(int(signal.SIGABRT), ctypes.cast(handler, ctypes.c_void_p))


CURRENT: list[Guard] = []
"""This process's guard, if it is one of several."""


def meet() -> None:
    """See `Guard.meet`."""
    if CURRENT:
        CURRENT[0].meet()


def live() -> None:
    """See `Guard.live`."""
    if CURRENT:
        CURRENT[0].live()


def work() -> None:
    """See `Guard.work`."""
    if CURRENT:
        CURRENT[0].work()


def rest() -> None:
    """See `Guard.rest`."""
    if CURRENT:
        CURRENT[0].rest()


def patient() -> contextlib.AbstractContextManager[None]:
    """See `Guard.patient`."""
    return CURRENT[0].patient() if CURRENT else contextlib.nullcontext()
