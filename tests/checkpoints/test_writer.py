"""The thread that writes the checkpoints of a run."""

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from ppo2.checkpoints import checkpoint
from ppo2.checkpoints.writer import CheckpointWriter, WriteResult


def there(run_dir: Path) -> list[int]:
    return sorted(checkpoint.numbered(run_dir / "checkpoints"))


def write(path: Path) -> None:
    checkpoint.save(path, {"x": np.zeros(2)}, {})


def test_checkpoints_are_written_in_order_and_all(tmp_path: Path) -> None:
    saving = CheckpointWriter(tmp_path, keep=None, best=None)
    for update in range(1, 6):
        saving.save(update, write, is_best=False)
    saving.wait()
    assert saving.results() == [WriteResult(update, None) for update in range(1, 6)]
    assert saving.results() == []
    assert there(tmp_path) == [1, 2, 3, 4, 5]
    saving.close()


def test_at_most_one_waits(tmp_path: Path) -> None:
    gate, begun = threading.Event(), []

    def slow(path: Path) -> None:
        begun.append(path.name)
        assert gate.wait(60)
        write(path)

    saving = CheckpointWriter(tmp_path, keep=None, best=None)
    for update in (1, 2):
        saving.save(update, slow, is_best=False)  # returns at once
    assert saving.results() == []
    third = threading.Thread(target=lambda: saving.save(3, slow, is_best=False))
    third.start()
    third.join(0.2)
    assert third.is_alive()
    assert begun == ["00001.safetensors"]
    gate.set()
    third.join(60)
    saving.wait()
    assert [outcome.update for outcome in saving.results()] == [1, 2, 3]
    saving.close()


def test_failures_are_told_and_other_errors_raised(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def wrong(path: Path) -> None:
        raise TypeError("not JSON")

    saving = CheckpointWriter(tmp_path, keep=None, best=None)
    saving.save(1, full, is_best=False)
    saving.save(2, write, is_best=False)
    saving.wait()
    (first, second) = saving.results()
    assert first.update == 1
    assert isinstance(first.error, OSError)
    assert first.error.errno == errno.ENOSPC
    assert second == WriteResult(2, None)
    saving.save(3, wrong, is_best=False)
    with pytest.raises(TypeError, match="not JSON"):
        saving.wait()
    saving.close()


def test_none_goes_before_a_newer_one_is_there(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    saving = CheckpointWriter(tmp_path, keep=1, best=None)
    for update, writes in ((1, write), (2, full), (3, full)):
        saving.save(update, writes, is_best=False)
    saving.wait()
    assert there(tmp_path) == [1]
    saving.save(4, write, is_best=False)
    saving.wait()
    assert there(tmp_path) == [4]
    saving.close()


def test_others_files_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for name in ("99999.safetensors", "mine.safetensors", "00001.safetensors.superseded", "notes.txt"):
        folder.mkdir(exist_ok=True)
        (folder / name).touch()
    saving = CheckpointWriter(tmp_path, keep=1, best=None)
    for update in (1, 2, 3):
        saving.save(update, write, is_best=False)
    saving.wait()
    saving.close()
    assert sorted(os.listdir(folder)) == [
        "00001.safetensors.superseded", "00003.safetensors", "99999.safetensors", "mine.safetensors", "notes.txt",
    ]  # fmt: skip
