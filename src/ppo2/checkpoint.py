"""Tensors and metadata in one safetensors file: nothing in it can run, and it is never half there."""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

FORMAT = "ppo2"
VERSION = 1
SUFFIX = ".safetensors"
FOLDER = "checkpoints"

Tensors = dict[str, np.ndarray[Any, Any]]


class Checkpoint(NamedTuple):
    """What a file holds: named tensors, and `metadata` that JSON can hold."""

    path: Path
    tensors: Tensors
    metadata: dict[str, Any]


def save(path: str | os.PathLike[str], tensors: Tensors, metadata: Mapping[str, Any]) -> Path:
    """Writes beside `path`, then renames: whatever happens, `path` is the old file or the new one, whole.

    Raises:
        OSError: the file can't be written; what was at `path` is untouched.
    """
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    text = json.dumps(metadata, allow_nan=False)
    header = {"format": FORMAT, "version": str(VERSION), "metadata": text, "sha256": _digest(tensors, text)}
    data = safetensors.numpy.save(tensors, header)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return path


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """The newest checkpoint at `path`: a file, a folder of checkpoints, or a run directory.

    Raises:
        ValueError: there is none, or the file is damaged, foreign, or of a newer format.
    """
    file = newest(path)
    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            header = opened.metadata() or {}
            _check_header(file, header)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
        if _digest(tensors, header["metadata"]) != header["sha256"]:
            raise _damaged(file, "its content isn't what was written")
        metadata = json.loads(header["metadata"])
    except (safetensors.SafetensorError, KeyError, json.JSONDecodeError, TypeError, OSError) as error:
        raise _damaged(file, error) from error
    return Checkpoint(file, tensors, metadata)


def newest(path: str | os.PathLike[str]) -> Path:
    """The file that `path` means: itself, or the one of the latest update in a folder of checkpoints or a run.

    Raises:
        ValueError: nothing is there, or no checkpoint in it.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise ValueError(f"there is no checkpoint at {path}: no such file or directory.")
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    numbered = [(int(file.stem), file) for file in folder.glob(f"*{SUFFIX}") if re.fullmatch(r"\d+", file.stem)]
    if not numbered:
        raise ValueError(
            f"there is no checkpoint in {folder}: expected files such as 00010{SUFFIX}. "
            "A run writes its first with save_interval, and always one at its end."
        )
    return max(numbered)[1]


def file_of(run_dir: Path, update: int) -> Path:
    """Where a run keeps the checkpoint of an update."""
    return run_dir / FOLDER / f"{update:05d}{SUFFIX}"


def _check_header(file: Path, header: Mapping[str, str]) -> None:
    if header.get("format") != FORMAT:
        raise ValueError(f"{file} is a safetensors file, but no checkpoint of ppo2: it was written by something else.")
    version = header["version"]
    if not version.isdecimal():
        raise _damaged(file, f"its version is {version[:20]!r}")
    if int(version) > VERSION:
        raise ValueError(
            f"the checkpoint {file} has format {version}; this version of ppo2 reads up to {VERSION}: "
            "install a newer ppo2."
        )


def _damaged(file: Path, why: object) -> ValueError:
    return ValueError(
        f"the checkpoint {file} is damaged, or is no checkpoint ({why}); use another one, or train afresh."
    )


def _digest(tensors: Tensors, metadata: str) -> str:
    """A checksum of the content: formats such as safetensors only check their structure."""
    digest = hashlib.sha256(metadata.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].data)
    return digest.hexdigest()


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
