"""The monitor: how it judges what it hears, without the processes; and whom it lets in."""

import contextlib
import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ppo2.distributed import monitor
from ppo2.distributed.heartbeat import Heartbeat
from ppo2.distributed.messages import DIED, ProcessFailure, ProcessProgress
from ppo2.distributed.monitor import Member, Monitor
from ppo2.system.exits import FAILED


@pytest.fixture
def watched() -> Iterator[Heartbeat]:
    first = Heartbeat(0, 2, heartbeat=10.0)
    yield first
    first.close()


def test_strangers_are_turned_away(watched: Heartbeat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "AUTHENTICATION_SECONDS", 0.5)
    address = watched.listen("127.0.0.1")
    for words in (
        b"nonsense\n",
        b'{"rank": 1, "token": "guess"}\n',
        b'{"rank": 7}\n',
        b"x" * 70_000,
        b'["a"]\n',
        b"[" * 9999 + b"\n",
        b"waits",
    ):
        with socket.create_connection(address[:2], timeout=10) as stranger:
            stranger.sendall(words)
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(100) == b""  # hung up on
    with socket.create_connection(address[:2], timeout=10) as friend:
        friend.sendall(json.dumps({"rank": 1, "token": address.token}).encode() + b"\n")
        assert b"complete" in friend.recv(1000)
        friend.sendall(b'nonsense\n[]\n{"left": true}\n')
        watched.close()
        assert b"left" in friend.recv(1000)


class Ended(BaseException):
    pass


class Watch:
    """A monitor and what it hears, without the processes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, size: int = 3) -> None:
        def end(words: str, status: int) -> None:
            raise Ended(words, status)

        self.now = 0.0
        monkeypatch.setattr(monitor, "end", end)
        monkeypatch.setattr(monitor, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.monitor = Monitor(size, 10.0, beat=1.0)
        self.pairs = [socket.socketpair() for _ in range(size)]
        self.members = self.monitor._members
        self.members.update({rank: Member(theirs) for rank, (theirs, _) in enumerate(self.pairs)})
        self.monitor._complete = True

    def hear(self, rank: int, **message: Any) -> None:
        self.members[rank].hear(json.loads(json.dumps(message)))

    def sent(self, rank: int) -> bytes:
        self.pairs[rank][1].setblocking(False)
        return self.pairs[rank][1].recv(1000)

    def after(self, seconds: float) -> tuple[str, int] | None:
        """The judgement at that time: why all end, and their status; None: they don't."""
        self.now = seconds
        try:
            self.monitor._judge(seconds)
        except Ended as ended:
            words, status = ended.args
            return words.partition(" All processes")[0].removesuffix("."), status
        return None

    def close(self) -> None:
        for sock in (sock for pair in self.pairs for sock in pair):
            sock.close()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    made = Watch(monkeypatch)
    yield made
    made.close()


def at_work(met: int, ticks: int = 0) -> ProcessProgress:
    return ProcessProgress(met, ticks, may_pause=False)


def test_a_process_that_the_others_wait_for_hangs(watch: Watch) -> None:
    def hear_all(of_one: ProcessProgress) -> None:
        for rank in range(3):
            watch.hear(rank, progress=of_one if rank == 1 else at_work(6))

    hear_all(at_work(5))
    assert watch.after(9.0) is None
    hear_all(at_work(5, ticks=1))
    assert watch.after(18.0) is None
    hear_all(ProcessProgress(5, ticks=1, may_pause=True))
    assert watch.after(27.0) is None
    for now in (28.0, 37.0):
        hear_all(at_work(5, ticks=2))
        assert watch.after(now) is None
    assert watch.after(37.5) == ("rank 1 hangs: the others have waited for it for 10 s", FAILED)


def test_a_silent_process_is_given_up(watch: Watch) -> None:
    assert watch.after(11.0) == ("rank 0 hasn't been heard of for 10 s", FAILED)


@pytest.mark.parametrize(("left", "expected"), [(6, None), (5, "rank 2 has ended, though the others continue")])
def test_a_process_that_leaves_before_the_others(watch: Watch, left: int, expected: str | None) -> None:
    for rank in range(2):
        watch.hear(rank, progress=at_work(6))
    watch.hear(2, progress=ProcessProgress(left), left=True)
    judged = watch.after(1.0)
    assert judged == (None if expected is None else (expected, FAILED))


def test_a_process_hangs_that_never_comes_to_the_end(watch: Watch) -> None:
    def hear_all() -> None:
        for rank in range(3):
            watch.hear(rank, progress=at_work(6), **({"left": True} if rank == 2 else {}))

    hear_all()
    assert watch.after(9.0) is None
    hear_all()
    assert watch.after(11.0) == ("rank 0 hangs: the others have waited for it for 10 s", FAILED)


def test_a_process_that_dies_after_it_left_is_missed_too(watch: Watch) -> None:
    watch.hear(1, left=True)
    watch.members[1].died = True
    assert watch.after(1.0) == (f"rank 1 {DIED}", FAILED)


def test_time_in_which_all_were_stopped_does_not_count(watch: Watch) -> None:
    watch.monitor._restart_clocks_after_stop(60.0)
    assert watch.after(60.0) is None
    for now in (64.0, 68.0):
        watch.monitor._restart_clocks_after_stop(now)
    assert watch.after(71.0) == ("rank 0 hasn't been heard of for 10 s", FAILED)


def test_a_process_that_never_comes_is_named(watch: Watch) -> None:
    del watch.members[1]
    watch.monitor._complete = False
    assert watch.after(5.0) is None
    watch.now = 0.0
    watch.monitor.expect_all()
    assert watch.after(9.0) is None
    watch.monitor._restart_clocks_after_stop(31.0)
    judged = watch.after(31.0)
    assert judged is not None
    assert judged[0].startswith("rank 1 can't be heard of")


def test_secondary_errors_are_not_shared_ones(watch: Watch) -> None:
    for rank in range(3):
        watch.hear(rank, failed=failure()._replace(is_secondary=True))
    assert watch.after(0.1) == ("rank 0 failed: x", FAILED)


def failure(words: str = "failed: x", met: int = 5, status: int = FAILED, *, may_pause: bool = False) -> ProcessFailure:
    return ProcessFailure(words, status, is_secondary=False, collectives=met, may_pause=may_pause)


def test_an_error_that_all_share_is_theirs_to_raise(watch: Watch) -> None:
    for rank in range(3):
        assert watch.after(0.5 + 0.1 * rank) is None
        watch.hear(rank, failed=failure(f"failed: <Net object at 0x7f{rank}>"))
    assert watch.after(0.9) is None
    assert all(b"alike" in watch.sent(rank) for rank in range(3))
    assert watch.after(9.0) is None  # and they may go on


@pytest.mark.parametrize(
    ("may_pause", "seconds", "ends"), [(False, 0.5, False), (False, 2.0, True), (True, 5.0, False), (True, 12.0, True)]
)
def test_others_may_still_fail_alike(watch: Watch, may_pause: bool, seconds: float, ends: bool) -> None:
    watch.hear(1, failed=failure(may_pause=may_pause))
    for rank in range(3):
        watch.hear(rank, progress=ProcessProgress(5))
    judged = watch.after(seconds)
    assert judged == (("rank 1 failed: x", FAILED) if ends else None)


@pytest.mark.parametrize(
    "others",
    [
        {"progress": ProcessProgress(6)},
        {"progress": ProcessProgress(5), "left": True},
        {"failed": failure("failed: y")},
    ],
    ids=["wait", "left", "failed of another cause"],
)
def test_an_error_of_one_ends_all_once_it_is_clear_that_others_are_well(watch: Watch, others: dict[str, Any]) -> None:
    watch.hear(1, failed=failure("was stopped by SIGINT", status=130))
    watch.now = 0.05
    for rank in (0, 2):
        watch.hear(rank, **others)
    assert watch.after(0.1) == ("rank 1 was stopped by SIGINT", 130)


def test_a_dead_process_is_named_unless_another_failed_before(watch: Watch) -> None:
    watch.members[2].died = True
    assert watch.after(0.1) == (f"rank 2 {DIED}", FAILED)
    watch.hear(1, failed=failure())
    assert watch.after(0.1) == ("rank 1 failed: x", FAILED)
