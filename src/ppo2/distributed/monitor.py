"""Rank 0's part of the watch over the processes of one job: hears of all of them, itself included, and judges."""

import contextlib
import hmac
import json
import math
import os
import selectors
import socket
import threading
import time
import traceback
from typing import Any, NoReturn

from ppo2.distributed.messages import (
    MOST_BYTES,
    MonitorAddress,
    ProcessFailure,
    ProcessLocation,
    ProcessProgress,
    lines,
    received,
    send,
)
from ppo2.system.exits import DIED, FAILED, advised, end
from ppo2.system.text import printable

LOOK_SECONDS = 0.1
"""How often it looks."""

ALIKE_SECONDS = 1.0
"""Within which all processes may fail of the same cause, which is then no other's fault, where they were at work."""

JOIN_SECONDS = 30.0
"""That a process has to come, once it knows where to."""

STRANGER_SECONDS = 10.0
"""That whoever connects has to say who it is."""

STRANGERS = 256
"""That may be connected at once, beside the processes still to come."""


class Member:
    """What is known of a process.

    Attributes:
        since: when its progress changed last, or others began to wait for it.
        heard: when it last said anything.
    """

    def __init__(self, sock: socket.socket, place: ProcessLocation | None) -> None:
        self.sock: socket.socket | None = sock
        self.place = place
        self.unread = b""
        self.progress = ProcessProgress()
        self.since = self.heard = time.monotonic()
        self.failure: ProcessFailure | None = None
        self.failed_at = 0.0
        self.left = self.died = False

    def hear(self, given: bytes) -> None:
        self.heard = time.monotonic()
        said, self.unread = lines(self.unread + given)
        for one in said:
            with contextlib.suppress(ValueError, TypeError):
                if "progress" in one:
                    progress = ProcessProgress(*one["progress"])
                    if progress != self.progress:
                        self.progress, self.since = progress, self.heard
                if "failed" in one:
                    words, *rest = one["failed"]
                    self.failure, self.failed_at = ProcessFailure(printable(words), *rest), self.heard
                self.left |= "left" in one

    def hang_up(self) -> None:
        if self.sock is not None:
            self.sock.close()
        self.sock = None


class Monitor:
    """Watches the processes of one job, from a thread.

    Args:
        size: how many there are.
        heartbeat: seconds without a sign after which a process is given up, and all end.
        beat: seconds between two signs of its own.
    """

    def __init__(self, size: int, heartbeat: float, *, beat: float) -> None:
        self._size, self._heartbeat, self._beat = size, heartbeat, beat
        self._word = os.urandom(16).hex()
        self._looked = self._beaten = time.monotonic()
        self._complete, self._expected_by = False, math.inf
        self._members: dict[int, Member] = {}
        self._strangers: dict[socket.socket, tuple[bytes, float]] = {}
        self._selector = selectors.DefaultSelector()

    def listen(self, host: str) -> MonitorAddress:
        """Waits for the other processes, at any port of an interface."""
        family, _, _, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        self._server = socket.create_server(where, family=family, backlog=self._size)
        self._server.setblocking(False)
        self._selector.register(self._server, selectors.EVENT_READ)
        return MonitorAddress(host, self._server.getsockname()[1], self._word, self._heartbeat, ProcessLocation.here())

    def own_end(self) -> socket.socket:
        """Starts; and gives the connection for this process itself."""
        mine, its = socket.socketpair()
        self._let_in(0, its, None)
        self._thread = threading.Thread(target=self._run, name="ppo2-monitor", daemon=True)
        self._thread.start()
        return mine

    def expect_all(self) -> None:
        """From now on all processes know where to come to."""
        self._expected_by = time.monotonic() + JOIN_SECONDS

    def join(self) -> None:
        """Until all processes have left."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._watch()
        except Exception:
            self._end_all("the watch over the processes failed: " + traceback.format_exc())

    def _watch(self) -> None:
        members, judged = self._members, 0.0
        while not self._complete or not all(member.left for member in members.values()):
            for key, _ in self._selector.select(min(self._beat / 2, LOOK_SECONDS)):
                sock: Any = key.fileobj
                if sock is self._server:
                    self._accept()
                elif sock in self._strangers:
                    self._ask_who(sock)
                else:
                    given = received(sock)
                    if given:
                        key.data.hear(given)
                    else:
                        self._selector.unregister(sock)
                        key.data.hang_up()
                        key.data.died = True
            now = time.monotonic()
            self._forgive(now)
            for sock in [sock for sock, (_, since) in self._strangers.items() if now - since > STRANGER_SECONDS]:
                self._turn_away(sock)
            if len(members) == self._size and not self._complete:
                self._complete = True
                self._tell_all({"complete": True})
            if now - judged > LOOK_SECONDS:  # a thousand processes wake it all the time
                judged = now
                self._judge(now)
            self._beat_after(self._beat, now)
        self._tell_all({"left": True})
        for sock in (self._server, *self._strangers):
            sock.close()
        for member in members.values():
            member.hang_up()
        self._selector.close()

    def _forgive(self, now: float) -> None:
        """Time in which this process was stopped, as all may have been, counts for nobody's silence."""
        if now - self._looked > self._heartbeat / 2:
            for member in self._members.values():
                member.heard = member.since = now
        self._looked = now

    def _beat_after(self, seconds: float, now: float) -> None:
        if now - self._beaten > seconds:
            self._beaten = now
            self._tell_all({"beat": True})

    def _accept(self) -> None:
        try:
            new, _ = self._server.accept()
        except OSError:  # it has gone, or there is no room for it
            time.sleep(LOOK_SECONDS)
            return
        if len(self._strangers) >= STRANGERS + self._size:
            new.close()
            return
        new.settimeout(self._heartbeat)
        self._strangers[new] = b"", time.monotonic()
        self._selector.register(new, selectors.EVENT_READ)

    def _ask_who(self, sock: socket.socket) -> None:
        given, (before, since) = received(sock), self._strangers[sock]
        line, newline, rest = (before + given).partition(b"\n")
        who = self._who(line) if newline else None
        if who is not None:
            del self._strangers[sock]
            self._selector.unregister(sock)
            self._let_in(who[0], sock, who[1])
            self._members[who[0]].hear(rest)
        elif not given or newline or len(line) > MOST_BYTES:
            self._turn_away(sock)
        else:
            self._strangers[sock] = line, since

    def _who(self, line: bytes) -> tuple[int, ProcessLocation | None] | None:
        """The rank and place of a process that says the word, and is still to come."""
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            said = json.loads(line)
            if hmac.compare_digest(str(said["word"]).encode(), self._word.encode()):
                rank, place = int(said["rank"]), said.get("place")
                if 0 < rank < self._size and rank not in self._members:
                    return rank, None if place is None else ProcessLocation(*place)
        return None

    def _let_in(self, rank: int, sock: socket.socket, place: ProcessLocation | None) -> None:
        self._members[rank] = Member(sock, place)
        self._selector.register(sock, selectors.EVENT_READ, self._members[rank])

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
            if now - member.heard > self._heartbeat:
                if member.place is not None:
                    member.place.kill()
                self._end_all(advised(f"rank {rank} hasn't been heard of for {self._heartbeat:g} s"))
        if not self._complete:
            if now > self._expected_by:
                missing = ", ".join(str(rank) for rank in range(self._size) if rank not in members)
                self._end_all(advised(f"rank {missing} can't be heard of: nothing came to its port from there"))
            return
        ahead, some_left = (
            max(one.progress.collectives for one in members.values()),
            any(one.left for one in members.values()),
        )
        for rank, member in members.items():
            is_behind = member.progress.collectives < ahead
            if member.left and is_behind:
                self._end_all(advised(f"rank {rank} has ended, though the others go on"))
            if member.left or member.progress.may_pause or not (is_behind or some_left):
                member.since = now  # nobody waits for it
            elif now - member.since > self._heartbeat:
                waited = f"the others have waited for it for {self._heartbeat:g} s"
                self._end_all(advised(f"rank {rank} hangs: {waited}"))

    def _judge_failures(self, failed: dict[int, ProcessFailure], now: float) -> None:
        members = self._members
        alike = len({failure.cause for failure in failed.values()}) == 1
        if len(failed) == self._size and alike and not any(failure.is_secondary for failure in failed.values()):
            for member in members.values():
                member.failure = None
            self._tell_all({"alike": True})
            return
        rank = min(failed, key=lambda rank: members[rank].failed_at)
        first, others = failed[rank], [member for other, member in members.items() if other not in failed]
        patience = self._heartbeat if first.may_pause else ALIKE_SECONDS
        clear = members[rank].died or len(failed) == self._size
        clear |= any(member.progress.collectives > first.collectives or member.left or member.died for member in others)
        if clear or now - members[rank].failed_at > patience:
            self._end_all(advised(f"rank {rank} {first.words}"), first.status)
        self._beat_after(LOOK_SECONDS, now)  # which all answer by how far they have come

    def leave(self, status: int) -> None:
        """Tells all others that rank 0 ends at once, and they with it."""
        for rank, member in self._members.items():
            send(member.sock if rank else None, {"end": status})

    def _tell_all(self, message: object) -> None:
        for member in self._members.values():
            send(member.sock, message)

    def _end_all(self, words: str, status: int = FAILED) -> NoReturn:
        self.leave(status)
        end(words, status)
