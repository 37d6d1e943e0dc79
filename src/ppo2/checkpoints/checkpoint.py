"""Tensors and metadata in one safetensors file: nothing in it can run, and it is never half there."""

import contextlib
import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from ppo2.checkpoints import addresses
from ppo2.system import files
from ppo2.system.text import parse_json, printable

FORMAT = "ppo2"
VERSION = 3
SUFFIX = ".safetensors"
FOLDER = "checkpoints"

Tensors = dict[str, np.ndarray[Any, Any]]


class Checkpoint(NamedTuple):
    """The content of a file: named tensors, and `metadata` that JSON can hold."""

    path: Path
    tensors: Tensors
    metadata: dict[str, Any]

    def section(self, *names: str) -> dict[str, Any]:
        """The object under these names in the metadata.

        Raises:
            ValueError: there is none.
        """
        found: Any = self.metadata
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise ValueError(f"the checkpoint {printable(self.path)} has no {'.'.join(names)}: it isn't of a model.")
        return found


class DamagedError(ValueError):
    """A file that isn't what was written, or never was a checkpoint."""

    def __init__(self, file: Path, why: object) -> None:
        self.words = f"the checkpoint {printable(file)} is damaged, or is no checkpoint ({printable(why)})"
        super().__init__(f"{self.words}; use another one, or train afresh.")


def _without_runner(metadata: dict[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
    """Format 2 may hold the runner's state, of which format 1 knew nothing: runs of it go on with new episodes."""
    return metadata, tensors


def _with_first_encoding(metadata: dict[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Tensors]:
    """Format 3 names the rules that encode observations, and has statistics of them relative to an origin: 0 before."""
    moved = {}
    for name, tensor in tensors.items():
        folder, _, last = name.rpartition("/")
        if not re.fullmatch("normaliser/obs(/.*)?", folder):
            moved[name] = tensor
            continue
        moved[f"{folder}/relative/{last}"] = tensor
        if last == "mean":
            moved[f"{folder}/origin"] = np.zeros_like(tensor)
    return {**metadata, "encoding": 1}, moved


Migration = Callable[[dict[str, Any], Tensors], tuple[dict[str, Any], Tensors]]

MIGRATIONS: Mapping[int, Migration] = {1: _without_runner, 2: _with_first_encoding}
"""Functions from the content of each earlier format to that of the next; tests/checkpoints/golden has files of each."""


def save(path: str | os.PathLike[str], tensors: Tensors, metadata: Mapping[str, Any]) -> Path:
    """Writes a file that is never half there: whatever happens, `path` is the old one or the new one.

    Raises:
        OSError: the file can't be written; what was at `path` is untouched.
        TypeError, ValueError: it is no path, or a pipe, a socket or a device is there.
    """
    if addresses.is_elsewhere(path):
        raise ValueError(
            f"`path` (={str(path)!r}) is an address, where nothing can be saved: save here, `ppo2 push` it."
        )
    path = _checked_path(path)
    _check_regular(path)
    if path.is_dir():
        raise IsADirectoryError(f"`path` (={str(path)!r}) is a directory: name a file, such as {path}/model{SUFFIX}.")
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    text = json.dumps(metadata, allow_nan=False)
    header = {"format": FORMAT, "version": str(VERSION), "metadata": text, "sha256": digest(tensors, text)}
    files.replace(path, safetensors.numpy.save(tensors, header))
    return path


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """The newest checkpoint at `path`: a file, a folder of checkpoints, a run directory, or an address (`addresses`).

    Raises:
        ValueError: there is none, or the file is damaged, foreign, or of a newer format. Beside a damaged one it names
            the one before it that is whole, which is never taken unasked.
    """
    file = newest(path)
    try:
        return _read(file)
    except DamagedError as error:
        if Path(path).expanduser().is_dir() and not os.path.lexists(file):  # removed by a run that goes on (`keep`)
            return load(path)
        before = _whole_before(file)
        if before is None:
            raise
        name = printable(before)
        raise ValueError(
            f"{error.words}. The one before it, {name}, is whole: `ppo2 resume {shlex.quote(name)}` continues from "
            f"there, ppo2.load({name!r}) loads it."
        ) from error


def newest(path: str | os.PathLike[str]) -> Path:
    """The file that `path` means: itself, or the one of the latest update in a folder of checkpoints or a run.

    Raises:
        TypeError, ValueError: it is no path; no file is there, or no checkpoint in the folder.
    """
    path = _checked_path(path)
    if path.is_file():
        return path
    _check_regular(path)
    if not path.is_dir():
        raise ValueError(f"there is no checkpoint at {path}: no such file or directory.")
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    found = numbered(folder)
    if not found:
        addresses.check_is_no_search(path)
        raise ValueError(
            f"there is no checkpoint in {folder}: expected files such as 00010{SUFFIX}. "
            "A run writes its first with save_interval, and always one at its end."
        )
    return found[max(found)]


def numbered(folder: Path) -> dict[int, Path]:
    """The checkpoints of a run, by their updates, the last first."""
    files_of_updates = (file for file in folder.glob(f"*{SUFFIX}") if re.fullmatch("[0-9]+", file.stem))
    return {int(file.stem): file for file in sorted(files_of_updates, key=lambda file: int(file.stem), reverse=True)}


def file_of(run_dir: Path, update: int) -> Path:
    """The path of the checkpoint of an update."""
    return run_dir / FOLDER / f"{update:05d}{SUFFIX}"


def digest(tensors: Tensors, metadata: str) -> str:
    """The checksum of the content: safetensors only checks its structure."""
    found = hashlib.sha256(metadata.encode())
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        found.update(tensors[name].data)
    return found.hexdigest()


def _checked_path(path: Any) -> Path:
    """The path that an argument means; raises TypeError or ValueError for what is none."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` (={path!r}) must be the path of a checkpoint, or of a run directory.")
    if not os.fspath(path) or "\0" in str(path):
        raise ValueError(f"`path` (={str(path)!r}) must name a file or a directory.")
    return addresses.local(path)


def _check_regular(path: Path) -> None:
    """Raises ValueError for what is there but no file: reading a pipe or a device would wait, or never end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(
            f"{printable(path)} is no checkpoint, but a pipe, a socket or a device, which is never read: copy what it "
            "gives into a file, and name that."
        )


def _read(file: Path) -> Checkpoint:
    _check_regular(file)
    try:
        with safetensors.safe_open(file, framework="numpy") as opened:
            header = opened.metadata() or {}
            version = None if header.get("format") != FORMAT else _version(header["version"])
            tensors, metadata = {}, {}
            if version is not None and version <= VERSION:  # a newer one may have tensors that we don't know
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
                if digest(tensors, header["metadata"]) != header["sha256"]:
                    raise ValueError("its content isn't what was written")
                metadata = parse_json(header["metadata"])
    except Exception as error:  # whatever a hostile file brings about
        raise DamagedError(file, error) from error
    if version is None:
        raise ValueError(
            f"{printable(file)} is a safetensors file, but no checkpoint of ppo2: it was written by something else."
        )
    if version > VERSION:
        raise ValueError(
            f"the checkpoint {printable(file)} has format {version}; this version of ppo2 reads up to {VERSION}: "
            "install a newer ppo2."
        )
    for earlier in range(version, VERSION):
        metadata, tensors = MIGRATIONS[earlier](metadata, tensors)
    return Checkpoint(file, tensors, metadata)


def _version(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise ValueError(f"its version is {text[:20]!r}")
    return int(text)


def _whole_before(file: Path) -> Path | None:
    """The last checkpoint before a run's damaged one that is whole."""
    there = numbered(file.parent)
    if file in there.values():
        for earlier in [path for update, path in there.items() if update < int(file.stem)]:
            with contextlib.suppress(ValueError):
                return _read(earlier).path
    return None
