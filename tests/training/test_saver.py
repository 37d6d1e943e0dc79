"""Checkpoints of a run: written while training continues, kept or deleted, and what happens when the disk refuses."""

import csv
import errno
import functools
import operator
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ppo2
from ppo2.checkpoints import checkpoint
from ppo2.checkpoints.writer import CheckpointWriter
from ppo2.system import files
from support.runs import learn_and_save, saved_updates


def wait_for(run_dir: Path, update: int) -> None:
    """Until its checkpoint is written."""
    deadline = time.monotonic() + 60
    while not checkpoint.file_of(run_dir, update).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, save = threading.Event(), checkpoint.save

    def slow(*arguments: Any) -> Any:
        assert gate.wait(60)
        return save(*arguments)

    def look(update: int) -> None:
        seen.append((update, saved_updates(tmp_path)))
        if update == 2:
            gate.set()

    seen: list[tuple[int, list[int]]] = []
    monkeypatch.setattr(checkpoint, "save", slow)
    quick = learn_and_save(run_dir=tmp_path, update_fn=look)
    assert seen[:2] == [(1, []), (2, [])]
    monkeypatch.undo()
    np.testing.assert_array_equal(quick.state.params, learn_and_save().state.params)  # the copies were training's own
    for update in range(1, 7):
        np.testing.assert_array_equal(
            ppo2.load(checkpoint.file_of(tmp_path, update)).state.params,
            learn_and_save(update_fn=functools.partial(operator.gt, update)).state.params,
        )


def test_the_logs_up_to_a_checkpoint_are_on_the_disk_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, replace = os.fsync, os.replace
    done: list[tuple[str, int]] = []

    def rows(name: str) -> int:
        return len((tmp_path / name).read_text().splitlines()) if (tmp_path / name).exists() else 0

    def synced(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            done.append((name, rows(name)))
        sync(descriptor)

    def replaced(source: Any, target: Any) -> None:
        if Path(target).suffix == ".safetensors":
            update = int(Path(target).stem)
            synced_rows = {name: max(count for n, count in done if n == name) for name in LOGS}
            assert synced_rows["progress.csv"] >= 1 + update
            assert synced_rows["progress.jsonl"] >= update
            assert synced_rows["monitor.csv"] >= 2 + checkpoint.load(source).metadata["run"]["episodes"]
            told.append(update)
        replace(source, target)

    told: list[int] = []
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    learn_and_save(run_dir=tmp_path)
    assert told == [1, 2, 3, 4, 5, 6]


LOGS = ("progress.csv", "progress.jsonl", "monitor.csv")


# --- which stay


def test_keep_none_keeps_all(tmp_path: Path) -> None:
    learn_and_save(run_dir=tmp_path)
    assert saved_updates(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_keep_the_last(tmp_path: Path) -> None:
    learn_and_save(run_dir=tmp_path, keep=2)
    assert saved_updates(tmp_path) == [5, 6]


@pytest.mark.parametrize("keep", [0, -1, 1.5, "2", True])
def test_keep_counts(keep: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="`keep`"):
        learn_and_save(keep=keep)


# --- the disk


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if "training continues" in line]


def test_a_file_in_the_way_of_the_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said once; written once it is out of the way; said again when it is back."""
    way = tmp_path / "checkpoints"

    def hinder(update: int) -> None:
        if update == 3:
            time.sleep(0.5)
            way.unlink()
        elif update == 5:
            wait_for(tmp_path, 5)
            time.sleep(0.2)
            shutil.rmtree(way)
            way.touch()

    way.touch()
    learn_and_save(run_dir=tmp_path, total_timesteps=8 * 32, update_fn=hinder)
    lines = said(capsys)
    assert len(lines) == 2
    assert "the checkpoint of update 1 could not be written" in lines[0]
    assert "move away what is in its place" in lines[0]
    assert "the checkpoint of update 6 could not be written" in lines[1]
    way.unlink()
    learn_and_save(run_dir=tmp_path, total_timesteps=8 * 32, load_path=tmp_path)  # it begins again
    assert saved_updates(tmp_path)[-1] == 8


def test_a_directory_that_vanishes_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"

    def vanish(update: int) -> None:
        if update == 3:
            wait_for(run, 1)
            time.sleep(0.2)
            run.rename(tmp_path / "gone")

    learn_and_save(run_dir=run, save_interval=5, update_fn=vanish)
    lines = said(capsys)
    assert len(lines) == 1
    assert "progress.csv: No such file or directory" in lines[0] or "monitor.csv: No such file" in lines[0]
    assert saved_updates(tmp_path / "gone") == [1]
    assert saved_updates(run) == [5, 6]
    with (run / "progress.csv").open() as file:
        assert [row["misc/nupdates"] for row in csv.DictReader(file)] == ["4", "5", "6"]
    assert (run / "monitor.csv").read_text().splitlines()[1] == "r,l,t,env"
    learn_and_save(run_dir=run, load_path=run, save_interval=5)
    assert "all done before" in capsys.readouterr().out


def full_from(update: int, monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOSPC) -> None:
    """Has the disk refuse checkpoints from an update on."""
    save = checkpoint.save

    def saved(path: Any, *arguments: Any) -> Path:
        if int(Path(path).stem) >= update:
            raise OSError(number, os.strerror(number))
        return save(path, *arguments)

    monkeypatch.setattr(checkpoint, "save", saved)


@pytest.mark.parametrize("interval", [0, 1, 4])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_last_model_that_can_not_be_saved_is_the_last_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, interval: int, number: int
) -> None:
    full_from(5, monkeypatch, number)
    model = learn_and_save(run_dir=tmp_path, save_interval=interval)
    assert int(model.state.counters.updates) == 6  # which isn't lost
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ppo2: the model of update 6 could not be saved in {tmp_path} ({os.strerror(number)}): ")
    newest = f"the newest checkpoint on the disk is that of update 4. {files.remedy(OSError(number, '')).capitalize()}."
    assert (newest if interval else "no checkpoint of this run is on the disk") in line
    assert (f"Then `ppo2 resume {tmp_path}` continues from there" if interval else "Then train again") in line
    assert "model.save(PATH) keeps the model that `learn` returns" in line
    assert f"ppo2: {model.unsaved}" == line
    monkeypatch.undo()
    if interval:
        again = learn_and_save(run_dir=tmp_path, save_interval=interval, load_path=tmp_path)
        assert again.unsaved == capsys.readouterr().err == ""
        assert saved_updates(tmp_path)[-1] == 6


def test_an_error_on_a_full_disk_has_last_words_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(update: int) -> None:
        if update == 3:
            raise KeyError("mine")

    full_from(3, monkeypatch)
    with pytest.raises(KeyError, match="mine"):
        learn_and_save(run_dir=tmp_path, update_fn=fails)
    (line,) = capsys.readouterr().err.splitlines()
    assert "the newest checkpoint on the disk is that of update 2" in line
    assert "returns" not in line


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [(None, None, [1, 2, 3]), (1, None, [4]), (3, None, [2, 3, 4]), (3, 1, [1, 3, 4])],
)
def test_on_a_full_disk_old_ones_give_way_to_the_newest(
    tmp_path: Path, keep: int | None, best: int | None, left: list[int]
) -> None:
    """There is room for three, of which one is given up where `keep` lets it: neither the newest nor the best."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()

    def write(path: Path) -> None:
        if len(list(folder.iterdir())) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.touch()

    written = CheckpointWriter(tmp_path, keep=None, best=best)
    for update in (1, 2, 3):
        written.save(update, write, is_best=False)
    written.wait()
    writer = CheckpointWriter(tmp_path, keep=keep, best=best)
    writer.save(4, write, is_best=False)
    writer.wait()
    (result,) = writer.results()
    assert (result.error is None) == (4 in left)
    assert saved_updates(tmp_path) == left


def outcome(program: str, *arguments: object, wrapper: tuple[str, ...] = ()) -> str:
    """The output of a training process that runs `program` to its end."""
    source = f"import sys\nfrom tests.training.test_saver import *\n{program}"
    command = [*wrapper, sys.executable, "-c", source, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


LIMITED = """
import resource
run = Path(sys.argv[1])

def limit(update):
    if update == 2:  # nothing can be written, as if the disk were full
        wait_for(run, 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    if update in (3, 4):
        time.sleep(0.5)
    if update == 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

learn_and_save(run_dir=run, update_fn=limit)
print("there", saved_updates(run))
for file in checkpoint.numbered(run / "checkpoints").values():
    ppo2.load(file)
print("rows", [len((run / name).read_text().splitlines()) for name in ("progress.csv", "progress.jsonl")])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the sizes of files")
def test_files_that_may_not_grow(tmp_path: Path) -> None:
    out = outcome(LIMITED, tmp_path / "run")
    assert out.count("training continues") == 2, out  # once of the logs, once of the checkpoints
    assert out.count("File too large") >= 2
    assert "make room" in out
    assert "there [1, 2, 5, 6]" in out
    assert "rows [7, 6]" in out


FULL = """
import subprocess
place = Path(sys.argv[1])
place.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=True)
run = place / "run"

def fill(update):
    if update == 2:
        wait_for(run, 2)
        try:
            with (place / "filler").open("wb") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()
        except OSError:
            pass
    if update in (3, 4, 5):
        time.sleep(0.5)
    if update == 5:
        print("meanwhile", saved_updates(run), checkpoint.load(run).metadata["run"]["update"])
        (place / "filler").unlink()

learn_and_save(run_dir=run, total_timesteps=8 * 32, update_fn=fill)
print("there", saved_updates(run), os.listdir(run / "checkpoints"))
print("rows", [len((run / name).read_text().splitlines()) for name in ("progress.csv", "progress.jsonl")])
again = learn_and_save(run_dir=run, load_path=run, total_timesteps=8 * 32)

os.mkdir(place / "fixed")
def freeze(update):
    if update == 2:
        wait_for(place / "fixed", 2)
        time.sleep(0.2)
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    if update in (3, 4):
        time.sleep(0.5)
    if update == 4:
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)

learn_and_save(run_dir=place / "fixed", update_fn=freeze)
print("fixed", saved_updates(place / "fixed"))
print("rows", [len((place / "fixed" / name).read_text().splitlines()) for name in ("progress.csv", "progress.jsonl")])
"""


def test_a_full_disk_and_one_that_is_read_only(tmp_path: Path) -> None:
    """Real ones, in a mount namespace of their own, where that is permitted."""
    unshare = ("unshare", "--mount", "--propagation", "private")
    mount = "mount -t tmpfs -o size=1m tmpfs "
    tried = shutil.which("unshare") and subprocess.run(
        [*unshare, "sh", "-c", mount + str(tmp_path)], capture_output=True, check=False
    )
    if not tried or tried.returncode:
        pytest.skip("needs the right to mount")
    out = outcome(FULL, tmp_path / "disk", wrapper=unshare)
    full, _, fixed = out.partition("there [")
    assert full.count("could not be written ([Errno 28] No space left on device)") == 1, out
    assert full.count("training continues") <= 2  # the logs too, if their last blocks had no room
    assert "make room" in full
    assert "meanwhile [1, 2] 2" in full
    assert ".tmp" not in fixed.splitlines()[0]
    assert fixed.startswith("1, 2, 6, 7, 8]")
    assert "rows [9, 8]" in fixed
    assert fixed.count("Read-only file system") == 2, out
    assert "make the directory writable" in fixed
    assert "fixed [1, 2, 5, 6]" in fixed
    assert "rows [7, 6]" in fixed


# --- killed


KILLED = """
import signal
run = Path(sys.argv[1])
replace = os.replace

def killed(source, target):
    if Path(target).name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = killed
learn_and_save(run_dir=run)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills itself")
def test_a_process_killed_while_it_writes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(AssertionError):
        outcome(KILLED, run, "00003.safetensors")
    (left,) = (run / "checkpoints").glob(f".*{files.TEMPORARY}")
    assert checkpoint.load(run).metadata["run"]["update"] == 2  # it is never taken for one
    (run / ".config.json.1234.tmp").touch()
    again = learn_and_save(run_dir=run, load_path=run)
    assert not left.exists()
    assert not list(run.glob(".*"))
    assert saved_updates(run) == [1, 2, 3, 4, 5, 6]
    assert int(again.state.counters.updates) == 6
