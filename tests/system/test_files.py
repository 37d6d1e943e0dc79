import errno
import os
import stat

import pytest

from ppo2.system import files


def test_content_is_replaced(tmp_path):
    path = tmp_path / "deep" / "er" / "file"
    for content in (b"old", b"new"):
        files.replace(path, content)
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["file"]


def test_permissions_are_those_of_any_other_file(tmp_path):
    files.replace(tmp_path / "file", b"")
    (tmp_path / "other").touch()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_the_file_then_its_name_then_its_folder(tmp_path, monkeypatch):
    """After a power cut the disk has only what was synced: content before name, name before we go on."""
    done, sync, replace = [], os.fsync, os.replace

    def synced(descriptor):
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("name"), replace(*names)))
    files.replace(tmp_path / "file", b"x")
    assert done == ["file", "name", "folder"]
    done.clear()
    files.replace(tmp_path / "new" / "er" / "file", b"x")
    assert done == ["folder", "folder", "file", "name", "folder"]


def test_file_systems_that_know_no_synced_folders(tmp_path, monkeypatch):
    sync = os.fsync

    def fail(number):
        def synced(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))
            sync(descriptor)

        return synced

    monkeypatch.setattr(os, "fsync", fail(errno.EINVAL))
    files.replace(tmp_path / "file", b"x")
    monkeypatch.setattr(os, "fsync", fail(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        files.replace(tmp_path / "file", b"y")


def test_temporaries_of_killed_processes_are_removed(tmp_path):
    for name in (".00010.safetensors.1234.tmp", ".config.json.1234.tmp", ".hidden", "mine.tmp", "00010.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / ".folder.tmp").mkdir()
    files.remove_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".folder.tmp", ".hidden", "00010.safetensors", "mine.tmp"]
    files.remove_temporaries(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EFBIG, "make room"),
        (errno.EROFS, "writable"),
        (errno.EACCES, "writable"),
        (errno.ENOENT, "put the directory back"),
        (errno.EIO, "look after the disk"),
    ],
)
def test_remedies(number, words):
    assert words in files.remedy(OSError(number, os.strerror(number)))
