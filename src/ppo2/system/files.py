"""Files that are there whole or not at all, whatever happens to the process, the machine or the disk."""

import contextlib
import errno
import os
import secrets
from pathlib import Path

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of a disk or a quota that is full."""
TEMPORARY = ".tmp"
"""End of the names of files that aren't whole yet; they begin with a dot."""


def replace(path: Path, data: bytes) -> None:
    """Makes `data` the content of `path`: written beside it, on the disk, and only then renamed.

    Raises:
        OSError: it can't be written; what was at `path` is untouched.
    """
    try:
        _replace(path, data)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        _replace(path, data)  # something in this process has closed descriptors that aren't its own


def _replace(path: Path, data: bytes) -> None:
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        # by this call, not tempfile's, for the permissions of any other file: a umask is read by changing it, which
        # other threads would notice
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def whole_lines(path: Path) -> list[str]:
    """The lines of a text file without a last one that a crash cut short; none where there is no file."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, if they aren't there, so that a power cut doesn't take them back."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync(path: Path) -> None:
    """Returns once all that was written to a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Returns once the names in a folder are on the disk: those of its files, after a rename, are not by themselves."""
    if os.name == "nt":  # which opens no folders
        return
    try:
        sync(path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that can't
            raise


def remove_temporaries(folder: Path) -> None:
    """Removes files that killed processes left half written; nobody else may be writing there."""
    for file in folder.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            file.unlink()


def remedy(error: OSError) -> str:
    """Advice for a file to be written next time."""
    if error.errno in NO_ROOM | {errno.EFBIG}:
        return "make room on the disk"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "make the directory writable"
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return "put the directory back, or move away what is in its place"
    return "look after the disk"
