"""Rank 0's part of the watch over the processes of one job: hears of all of them, itself included, and judges."""

import contextlib
import hmac
import json
import os
import selectors
import socket
import sys
import threading
import time
import traceback
from typing import Any, NamedTuple, NoReturn

from ppo2.stops import LAST_ACTS
from ppo2.untrusted import printable

FAILED = 75
"""The exit status of a process whose job failed: sysexits' EX_TEMPFAIL, "try again"."""

LOOK_SECONDS = 0.1
"""How often it looks."""

ALIKE_SECONDS = 1.0
"""Within which all processes may fail of the same cause, which is then no other's fault, where they were at work."""

STRANGER_SECONDS = 10.0
"""That whoever connects has to say who it is."""

STRANGERS = 256
"""That may be connected at once, the processes still to come among them."""

MOST_BYTES = 2**16
"""Of a message."""

DIED = "died without a word: killed, or out of memory?"


class Address(NamedTuple):
    """Where the hub listens, the word that lets a process in, and the heartbeat of all."""

    host: str
    port: int
    word: str
    heartbeat: float


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


class Failure(NamedTuple):
    """Why a process can't go on.

    Attributes:
        words: what comes after "rank 1".
        status: that all end with.
        met, patient: of its progress.
    """

    words: str
    status: int
    met: int
    patient: bool


class Member:
    """What is known of a process.

    Attributes:
        since: when its progress changed last, or others began to wait for it.
        heard: when it last said anything.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket | None = sock
        self.unread = b""
        self.progress = Progress()
        self.since = self.heard = time.monotonic()
        self.failure: Failure | None = None
        self.failed_at = 0.0
        self.left = self.died = False

    def hear(self, given: bytes) -> None:
        self.heard = time.monotonic()
        said, self.unread = lines(self.unread + given)
        for one in said:
            with contextlib.suppress(ValueError, TypeError):
                if "progress" in one:
                    progress = Progress(*one["progress"])
                    if progress != self.progress:
                        self.progress, self.since = progress, self.heard
                if "failed" in one:
                    words, *rest = one["failed"]
                    self.failure, self.failed_at = Failure(printable(words), *rest), self.heard
                self.left |= "left" in one

    def hang_up(self) -> None:
        if self.sock is not None:
            self.sock.close()
        self.sock = None


class Hub:
    """Watches the processes of one job, from a thread.

    Args:
        size: how many there are.
        heartbeat: seconds without a sign after which a process is given up, and all end.
        beat: seconds between two signs of its own.
    """

    def __init__(self, size: int, heartbeat: float, *, beat: float) -> None:
        self._size, self._heartbeat, self._beat = size, heartbeat, beat
        self._word = os.urandom(16).hex()
        self._members: dict[int, Member] = {}
        self._strangers: dict[socket.socket, tuple[bytes, float]] = {}
        self._selector = selectors.DefaultSelector()

    def listen(self, host: str) -> Address:
        """Waits for the other processes, at any port of an interface."""
        family, _, _, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        self._server = socket.create_server(where, family=family, backlog=self._size)
        self._server.setblocking(False)
        self._selector.register(self._server, selectors.EVENT_READ)
        return Address(host, self._server.getsockname()[1], self._word, self._heartbeat)

    def own_end(self) -> socket.socket:
        """Starts; and gives the connection for this process itself."""
        mine, its = socket.socketpair()
        self._let_in(0, its)
        self._thread = threading.Thread(target=self._run, name="ppo2-hub", daemon=True)
        self._thread.start()
        return mine

    def join(self) -> None:
        """Until all processes have left."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._watch()
        except Exception:
            self._end_all("the watch over the processes failed: " + traceback.format_exc())

    def _watch(self) -> None:
        members, beaten = self._members, time.monotonic()
        while len(members) < self._size or not all(member.left for member in members.values()):
            for key, _ in self._selector.select(min(self._beat / 2, LOOK_SECONDS)):
                sock: Any = key.fileobj
                if sock is self._server:
                    self._accept()
                elif sock in self._strangers:
                    self._ask_who(sock)
                else:
                    member = next(member for member in members.values() if member.sock is sock)
                    given = received(sock)
                    if given:
                        member.hear(given)
                    else:
                        self._selector.unregister(sock)
                        member.hang_up()
                        member.died = not member.left
            now = time.monotonic()
            for sock in [sock for sock, (_, since) in self._strangers.items() if now - since > STRANGER_SECONDS]:
                self._turn_away(sock)
            self._judge(now)
            if now - beaten > self._beat:
                beaten = now
                self._tell_all({"beat": True})
        self._tell_all({"left": True})
        for sock in (self._server, *self._strangers):
            sock.close()
        for member in members.values():
            member.hang_up()
        self._selector.close()

    def _accept(self) -> None:
        try:
            new, _ = self._server.accept()
        except OSError:  # it has gone, or there is no room for it
            time.sleep(LOOK_SECONDS)
            return
        if len(self._strangers) >= STRANGERS:
            new.close()
            return
        new.settimeout(self._heartbeat)
        self._strangers[new] = b"", time.monotonic()
        self._selector.register(new, selectors.EVENT_READ)

    def _ask_who(self, sock: socket.socket) -> None:
        given, (before, since) = received(sock), self._strangers[sock]
        line, newline, rest = (before + given).partition(b"\n")
        rank = self._rank_of(line) if newline else None
        if rank is not None:
            del self._strangers[sock]
            self._selector.unregister(sock)
            self._let_in(rank, sock)
            self._members[rank].hear(rest)
        elif not given or newline or len(line) > MOST_BYTES:
            self._turn_away(sock)
        else:
            self._strangers[sock] = line, since

    def _rank_of(self, line: bytes) -> int | None:
        """The rank of a process that says the word, and is still to come."""
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            said = json.loads(line)
            if hmac.compare_digest(str(said["word"]).encode(), self._word.encode()):
                rank = int(said["rank"])
                return rank if 0 < rank < self._size and rank not in self._members else None
        return None

    def _let_in(self, rank: int, sock: socket.socket) -> None:
        self._members[rank] = Member(sock)
        self._selector.register(sock, selectors.EVENT_READ)

    def _turn_away(self, sock: socket.socket) -> None:
        del self._strangers[sock]
        self._selector.unregister(sock)
        sock.close()

    def _judge(self, now: float) -> None:
        """Ends the job where it can't go on."""
        members = self._members
        failed = {rank: member.failure for rank, member in members.items() if member.failure is not None}
        if failed:
            self._judge_failures(failed, now)
            return
        for rank, member in members.items():
            if member.died:
                self._end_all(advised(f"rank {rank} {DIED}"))
            if member.sock is not None and now - member.heard > self._heartbeat:
                self._end_all(advised(f"rank {rank} hasn't been heard of for {self._heartbeat:g} s"))
        if len(members) < self._size:
            return
        ahead = max(member.progress.met for member in members.values())
        for rank, member in members.items():
            if member.progress.met == ahead or member.progress.patient:
                member.since = now  # nobody waits for it
            elif now - member.since > self._heartbeat:
                waited = f"the others have waited for it for {self._heartbeat:g} s"
                self._end_all(advised(f"rank {rank} hangs: {waited}"))
            if member.left and member.progress.met < ahead:
                self._end_all(advised(f"rank {rank} has ended, though the others go on"))

    def _judge_failures(self, failed: dict[int, Failure], now: float) -> None:
        members = self._members
        if len(failed) == self._size and len({failure.words for failure in failed.values()}) == 1:
            for member in members.values():
                member.failure = None
            self._tell_all({"alike": True})
            return
        rank = min(failed, key=lambda rank: members[rank].failed_at)
        first, others = failed[rank], [member for other, member in members.items() if other not in failed]
        patience = self._heartbeat if first.patient else ALIKE_SECONDS
        they_wait = any(member.progress.met > first.met or member.left or member.died for member in others)
        if they_wait or members[rank].died or not others or now - members[rank].failed_at > patience:
            self._end_all(advised(f"rank {rank} {first.words}"), first.status)
        self._tell_all({"beat": True})  # which all answer by how far they have come

    def _tell_all(self, message: object) -> None:
        for member in self._members.values():
            send(member.sock, message)

    def _end_all(self, words: str, status: int = FAILED) -> NoReturn:
        for rank, member in self._members.items():
            send(member.sock if rank else None, {"end": status})
        end(words, status)


# --- messages and ends, of all processes ------------------------------------------------------------------------------


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


def advised(words: str) -> str:
    """Words of why all end, and what to do."""
    stop = "" if words.endswith((".", "?")) else "."
    return f"{words}{stop} All processes of this job end; started again, it can go on from its last checkpoint."


LAST_WORDS: list[str] = []
"""What this process says before it is ended: the traceback of its own error."""

_ENDING = threading.Lock()


def end(words: str | None, status: int = FAILED) -> NoReturn:
    """Ends this process, whatever its main thread does."""
    if not _ENDING.acquire(blocking=False):  # another thread is at it
        time.sleep(60.0)
    said = "".join(LAST_WORDS) + ("" if words is None else f"ppo2: {words}\n")
    with contextlib.suppress(OSError):
        os.write(2, said.encode())
    acts = threading.Thread(target=_last_acts, daemon=True)
    acts.start()
    acts.join(1.0)
    os._exit(status)


def _last_acts() -> None:
    for act in [*LAST_ACTS, sys.stdout.flush]:
        with contextlib.suppress(Exception):
            act()
