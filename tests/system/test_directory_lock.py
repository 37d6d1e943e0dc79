"""Directories that belong to one process: who is refused, who takes over from whom."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ppo2.system import directory_lock, lock_owner
from ppo2.system.directory_lock import LOCK, DirectoryLock
from ppo2.system.lock_owner import Owner, start_of
from support.children import STRICT_PYTHON

HOLDER = """
import sys, time
from pathlib import Path
from ppo2.system.directory_lock import DirectoryLock
DirectoryLock(Path(sys.argv[1]))
print("mine", flush=True)
time.sleep(100)
"""


def left(folder: Path, *, age: float = 0.0, **changes: Any) -> Path:
    """A lock in a folder, of this process but for the changes."""
    path = folder / LOCK
    path.write_text(json.dumps({**Owner.me()._asdict(), **changes}))
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_lock, "STALE_SECONDS", 0.3)
    monkeypatch.setattr(directory_lock, "LOOK_SECONDS", 0.02)


def test_one_at_a_time(tmp_path: Path) -> None:
    first = DirectoryLock(tmp_path / "run")
    with pytest.raises(ValueError, match=r"belongs to a training that still runs, of this very process.*run.lock"):
        DirectoryLock(tmp_path / "run")
    assert first.note == ""
    first.release()
    first.release()
    assert not (tmp_path / "run").exists()  # made for nothing
    second = DirectoryLock(tmp_path)
    (tmp_path / "file").touch()
    second.release()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_another_process_is_refused_while_it_lives(tmp_path: Path) -> None:
    with subprocess.Popen([*STRICT_PYTHON, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        with pytest.raises(ValueError, match=f"still runs, of process {holder.pid} on "):
            DirectoryLock(tmp_path)
        holder.kill()
        deadline = time.monotonic() + 30
        while start_of(holder.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        lock = DirectoryLock(tmp_path)  # a zombie still: nobody has waited for it
    assert f"was left locked by process {holder.pid} on " in lock.note
    lock.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes", [{"pid": 2**22 + 1}, {"pid": os.getppid(), "started": "1"}, {"token": "mine, once"}]
)
def test_locks_of_the_dead_of_this_machine(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A number that nobody has, one that another process has now, and a lock that this process no longer holds."""
    left(tmp_path, **changes)
    lock = DirectoryLock(tmp_path)
    assert "taken over" in lock.note
    lock.release()


ELSEWHERE = [{"host": "elsewhere"}, {"boot": "another"}, {"namespace": "pid:[1]", "pid": 1}]


@pytest.mark.parametrize("changes", ELSEWHERE)
def test_other_machines_and_containers_are_believed_by_their_sign_of_life(
    tmp_path: Path, quick: None, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = left(tmp_path, **changes)
    alive, done = threading.Event(), threading.Event()

    def renew() -> None:
        while not done.wait(0.02):
            os.utime(path)
            alive.set()

    thread = threading.Thread(target=renew)
    thread.start()
    assert alive.wait(10)
    with pytest.raises(ValueError, match="still runs"):
        DirectoryLock(tmp_path)
    done.set()
    thread.join()
    capsys.readouterr()
    lock = DirectoryLock(tmp_path)
    assert "waiting up to 0 s for a sign of life" in capsys.readouterr().err
    assert "taken over" in lock.note
    lock.release()


def test_an_old_lock_from_elsewhere_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left(tmp_path, age=100.0, host="elsewhere")
    DirectoryLock(tmp_path).release()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"pid": "x"}', b"\xff", b"{}"])
def test_a_lock_without_an_owner_counts_by_its_age(tmp_path: Path, quick: None, content: bytes) -> None:
    (tmp_path / LOCK).write_bytes(content)
    lock = DirectoryLock(tmp_path)
    assert "a process that left no name" in lock.note
    lock.release()


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def linked_in_vain(link: Callable[..., None], *paths: Any) -> None:
    link(*paths)
    raise FileExistsError(errno.EEXIST, "File exists")


@pytest.mark.parametrize("how", ["as it is", "no hard links", "the answer is lost"])
@pytest.mark.parametrize("stale", [False, True])
def test_of_many_at_once_one_wins(tmp_path: Path, how: str, stale: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "no hard links":
        monkeypatch.setattr(os, "link", no_links)
    elif how == "the answer is lost":  # by NFS, which asks again
        link = os.link
        monkeypatch.setattr(os, "link", lambda *paths: linked_in_vain(link, *paths))
    if stale:
        left(tmp_path, token="gone")
    won: list[DirectoryLock] = []
    refused: list[str] = []
    together = threading.Barrier(8)

    def claim() -> None:
        together.wait()
        try:
            won.append(DirectoryLock(tmp_path))
        except ValueError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 7)
    won[0].release()
    assert not list(tmp_path.iterdir())


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_lock_is_renewed_made_again_and_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_lock, "RENEW_SECONDS", 0.01)
    lock = DirectoryLock(tmp_path)
    path = tmp_path / LOCK
    os.utime(path, (0, 0))
    wait_until(lambda: path.stat().st_mtime > 0)
    path.unlink()
    wait_until(path.exists)
    lock.check()
    theirs = left(tmp_path, host="elsewhere").read_bytes()
    wait_until(lambda: not lock.is_mine)
    with pytest.raises(RuntimeError, match=r"now belongs to process .* on elsewhere"):
        lock.check()
    lock.release()
    assert path.read_bytes() == theirs  # and stays theirs


def test_a_child_does_not_release_its_parents_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = DirectoryLock(tmp_path)
    with monkeypatch.context() as context:
        context.setattr(os, "getpid", lambda: 1)
        lock.release()
    assert (tmp_path / LOCK).exists()
    lock.release()


def test_the_start_of_processes() -> None:
    assert start_of(os.getpid())
    assert start_of(os.getpid()) == start_of(os.getpid())
    assert start_of(2**22 + 1) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="hides /proc")
def test_the_start_of_processes_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(path: Path, *_: Any, **__: Any) -> str:
        raise FileNotFoundError(path)

    told = subprocess.CompletedProcess([], 0, "Fri Nov 27  19:00:00 2026\n")
    monkeypatch.setattr(Path, "read_text", hidden)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr(lock_owner.subprocess, "run", lambda *_, **__: told)
    assert start_of(os.getpid()) == "Fri Nov 27 19:00:00 2026"
    monkeypatch.setattr(Path, "exists", lambda _: True)
    assert start_of(os.getpid()) is None  # it hides what is another user's


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_in_the_place_of_the_lock_is_not_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOCK)
    with pytest.raises(FileExistsError, match="no regular file"):
        DirectoryLock(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [LOCK]
