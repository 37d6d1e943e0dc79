"""Addresses that stand in the place of a path: `hf://user/name` on the Hugging Face Hub, `zoo:NAME` in this package."""

import difflib
import os
import shlex
from pathlib import Path

from ppo2.checkpoints import hub
from ppo2.system.text import printable

ZOO = "zoo:"
ZOO_FOLDER = Path(__file__).parents[1] / "zoo"
SUFFIX = ".safetensors"
ONE_SLASH = "hf:/"
"""`hf://` as a `pathlib.Path` has it."""
SEARCH = "tune.json"
"""The file with the settings of a search by `tune`, in its directory."""


def local(path: str | os.PathLike[str]) -> Path:
    """The file on this machine that a path or an address means; a path is itself, whether it is there or not.

    Raises:
        ValueError, OSError: an address of what isn't there; see `hub.download`.
    """
    text = os.fspath(path)
    if text.startswith(ZOO):
        return of_zoo(text.removeprefix(ZOO))
    if text.startswith(ONE_SLASH):
        return hub.download(hub.SCHEME + text.removeprefix(ONE_SLASH).removeprefix("/"))
    return Path(text).expanduser()


def is_elsewhere(path: str | os.PathLike[str]) -> bool:
    """True for an address, False for a path."""
    return str(path).startswith((ZOO, ONE_SLASH))


def check_is_no_address(path: str | os.PathLike[str]) -> None:
    """Raises ValueError for an address where the directory of a run is wanted, with its logs."""
    if is_elsewhere(path):
        text = str(path)
        raise ValueError(
            f"{text} is the address of a policy by itself, and no run directory: `ppo2 eval {text}` and `ppo2 play "
            f"{text}` play with it, `ppo2 train ENV --load-path {text}` trains on from its weights in a new run."
        )


def check_is_no_search(path: str | os.PathLike[str]) -> None:
    """Raises ValueError for the directory of a search by `tune` where that of a run is wanted."""
    folder = Path(path).expanduser()
    if not (folder / SEARCH).is_file() or (folder / "config.json").exists():
        return
    name = shlex.quote(printable(folder))
    runs = f" Its trainings are in {name}/runs: `ppo2 plot {name}/runs/*`." if (folder / "runs").is_dir() else ""
    raise ValueError(
        f"{printable(folder)} is the directory of a search by `ppo2 tune`, and no run directory: the same command `ppo2"
        f" tune ENV --run-dir {name} ...` continues it, `ppo2 train --config {name}/best.yaml` trains with the "
        f"settings that it found.{runs}"
    )


def of_zoo(name: str) -> Path:
    """The file of a trained policy in this package.

    Raises:
        ValueError: there is none of this name.
    """
    known = names_in_zoo()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean zoo:{close[0]}?" if close else ""
        raise ValueError(f"there is no zoo:{name}.{hint} There are {', '.join(known)}; `ppo2 zoo` tells of each.")
    return ZOO_FOLDER / f"{file_name(name)}{SUFFIX}"


def names_in_zoo() -> list[str]:
    """The environments' ids of which a trained policy is in this package."""
    return sorted(path.stem.replace("__", "/").replace("--", ":") for path in ZOO_FOLDER.glob(f"*{SUFFIX}"))


def file_name(name: str) -> str:
    """The stem of the file for an environment's id."""
    return name.replace("/", "__").replace(":", "--")
