"""The monitor of a job in rank 0: hears of all processes, itself included, and ends the job where it can't go on."""

import contextlib
import hmac
import json
import math
import os
import socket
import threading
import time
import traceback
from typing import Any, BinaryIO, NoReturn

from ppo2.distributed.messages import (
    DIED,
    MonitorAddress,
    ProcessFailure,
    ProcessLocation,
    ProcessProgress,
    last_words,
    receive,
    send,
)
from ppo2.system.exits import FAILED, end
from ppo2.system.text import printable

JUDGE_SECONDS = 0.1
"""Time between two judgements."""

ALIKE_SECONDS = 1.0
"""If all processes report the same error within this time, each raises it; else the first is blamed."""

JOIN_SECONDS = 30.0
"""Time for a process to connect, once it knows the address."""

AUTHENTICATION_SECONDS = 10.0
"""Time for a new connection to authenticate."""

MAX_UNAUTHENTICATED = 256
"""Most unauthenticated connections at a time, in addition to the processes that have not joined yet."""

GREETING_BYTES = 2**12
"""Most bytes of what a process says first."""


class Member:
    """A process as the monitor knows it.

    Attributes:
        since: time of its last progress, or at which others began to wait for it.
        heard: time of its last message.
        left: True if it needs no other process any more.
        died: True if its connection broke.
    """

    def __init__(self, sock: socket.socket, location: ProcessLocation | None = None) -> None:
        self.sock, self.location = sock, location
        self.progress = ProcessProgress()
        self.since = self.heard = time.monotonic()
        self.failure: ProcessFailure | None = None
        self.failed_at = 0.0
        self.left = self.died = False

    def hear(self, message: dict[str, Any]) -> None:
        self.heard = time.monotonic()
        progress = ProcessProgress(*message.get("progress", self.progress))
        if progress != self.progress:
            self.progress, self.since = progress, self.heard
        if "failed" in message:
            failure = ProcessFailure(*message["failed"])
            self.failure, self.failed_at = failure._replace(words=printable(failure.words)), self.heard
        self.left |= "left" in message


class Monitor:
    """The threads that watch the processes of one job: one reads from each of them, and one judges.

    Args:
        size: number of processes.
        heartbeat: seconds without a sign of life after which a process is given up, and all end.
        beat: seconds between two signs of its own.
    """

    def __init__(self, size: int, heartbeat: float, *, beat: float) -> None:
        self._size, self._heartbeat, self._beat = size, heartbeat, beat
        self._token = os.urandom(16).hex()
        self._looked = self._beaten = time.monotonic()
        self._complete, self._expected_by = False, math.inf
        self._members: dict[int, Member] = {}
        self._unauthenticated = threading.Semaphore(MAX_UNAUTHENTICATED + size)
        self._lock = threading.Lock()

    def listen(self, host: str) -> MonitorAddress:
        """Waits for the other processes, at any port of an interface."""
        family, _, _, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        self._server = socket.create_server(where, family=family, backlog=self._size)
        self._server.settimeout(min(self._beat, JUDGE_SECONDS))
        return MonitorAddress(host, self._server.getsockname()[1], self._token, self._heartbeat, ProcessLocation.here())

    def start(self) -> socket.socket:
        """Starts, and returns the connection for this process itself."""
        own, theirs = socket.socketpair()
        self._members[0] = Member(theirs)
        threading.Thread(target=self._hear, args=(0, theirs.makefile("rb")), daemon=True).start()
        self._thread = threading.Thread(target=self._run, name="ppo2-monitor", daemon=True)
        self._thread.start()
        return own

    def expect_all(self) -> None:
        """Tells the monitor that from now on all processes know its address."""
        self._expected_by = time.monotonic() + JOIN_SECONDS

    def join(self) -> None:
        """Waits until all processes have left."""
        self._thread.join()

    def end_others(self, status: int) -> None:
        """Tells all other processes to end."""
        for rank, member in list(self._members.items()):
            if rank:
                send(member.sock, {"end": status})

    # --- connections ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            judged = 0.0
            while not self._complete or not all(member.left for member in self._members.values()):
                self._accept()
                now = time.monotonic()
                if now - judged > JUDGE_SECONDS / 2:
                    judged = now
                    with self._lock:
                        self._restart_clocks_after_stop(now)
                        self._judge(now)
                        self._beat_after(self._beat, now)
            self._send_all({"left": True})
            self._server.close()
        except Exception:
            self.end_others(FAILED)
            end("the monitor of the processes failed: " + traceback.format_exc())

    def _accept(self) -> None:
        try:
            sock, _ = self._server.accept()
        except TimeoutError:
            return
        except OSError:  # it has gone, or there is no room for it
            time.sleep(JUDGE_SECONDS)
            return
        if self._unauthenticated.acquire(blocking=False):
            threading.Thread(target=self._authenticate, args=(sock,), daemon=True).start()
        else:
            sock.close()

    def _authenticate(self, sock: socket.socket) -> None:
        """Receives the messages of a process that knows the token and has not joined yet; closes other connections."""
        sock.settimeout(AUTHENTICATION_SECONDS)
        rank, lines = None, sock.makefile("rb")
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            rank = self._admit(sock, json.loads(lines.readline(GREETING_BYTES)))
        self._unauthenticated.release()
        if rank is None:
            lines.close()
            sock.close()
        else:
            sock.settimeout(None)
            self._hear(rank, lines)

    def _admit(self, sock: socket.socket, greeting: dict[str, Any]) -> int | None:
        if not hmac.compare_digest(str(greeting["token"]).encode(), self._token.encode()):
            return None
        rank, location = int(greeting["rank"]), greeting.get("location")
        member = Member(sock, None if location is None else ProcessLocation(*location))
        with self._lock:
            if not 0 < rank < self._size or rank in self._members:
                return None
            self._members[rank] = member
        return rank

    def _hear(self, rank: int, lines: BinaryIO) -> None:
        member = self._members[rank]
        for message in receive(lines):
            with self._lock, contextlib.suppress(TypeError):
                member.hear(message)
        member.died = True
        lines.close()
        member.sock.close()

    def _send_all(self, message: object) -> None:
        for member in self._members.values():
            send(member.sock, message)

    def _beat_after(self, seconds: float, now: float) -> None:
        if now - self._beaten > seconds:
            self._beaten = now
            self._send_all({"beat": True})

    # --- judgement ------------------------------------------------------------------------------------------------

    def _restart_clocks_after_stop(self, now: float) -> None:
        """Restarts all timeouts if this process itself was suspended, as all may have been."""
        if now - self._looked > self._heartbeat / 2:
            for member in self._members.values():
                member.heard = member.since = now
        self._looked = now

    def _judge(self, now: float) -> None:
        """Ends the job where it can't go on."""
        members = self._members
        if len(members) == self._size and not self._complete:
            self._complete = True
            self._send_all({"complete": True})
        failed = {rank: member.failure for rank, member in members.items() if member.failure is not None}
        if failed:
            self._judge_failures(failed, now)
            return
        for rank, member in members.items():
            if member.died:
                self._end_job(rank, DIED)
            if now - member.heard > self._heartbeat:
                if member.location is not None:
                    member.location.kill()
                self._end_job(rank, f"hasn't been heard of for {self._heartbeat:g} s")
        if self._complete:
            self._judge_progress(now)
        elif now > self._expected_by:
            missing = ", ".join(str(rank) for rank in range(self._size) if rank not in members)
            self._end_job(missing, "can't be heard of: nothing came to its port from there")

    def _judge_progress(self, now: float) -> None:
        ahead = max(member.progress.collectives for member in self._members.values())
        some_left = any(member.left for member in self._members.values())
        for rank, member in self._members.items():
            is_behind = member.progress.collectives < ahead
            if member.left and is_behind:
                self._end_job(rank, "has ended, though the others continue")
            if member.left or member.progress.may_pause or not (is_behind or some_left):
                member.since = now  # nobody waits for it
            elif now - member.since > self._heartbeat:
                self._end_job(rank, f"hangs: the others have waited for it for {self._heartbeat:g} s")

    def _judge_failures(self, failed: dict[int, ProcessFailure], now: float) -> None:
        members, all_failed = self._members, len(failed) == self._size
        alike = len({failure.cause for failure in failed.values()}) == 1
        if all_failed and alike and not any(failure.is_secondary for failure in failed.values()):
            for member in members.values():
                member.failure = None
            self._send_all({"alike": True})
            return
        rank = min(failed, key=lambda rank: members[rank].failed_at)
        first, others = failed[rank], [member for other, member in members.items() if other not in failed]
        patience = self._heartbeat if first.may_pause else ALIKE_SECONDS
        is_clear = all_failed or members[rank].died or now - members[rank].failed_at > patience
        if is_clear or any(one.progress.collectives > first.collectives or one.left or one.died for one in others):
            self._end_job(rank, first.words, first.status)
        self._beat_after(JUDGE_SECONDS, now)  # which all answer by their progress

    def _end_job(self, rank: object, words: str, status: int = FAILED) -> NoReturn:
        self.end_others(status)
        end(last_words(rank, words), status)
