"""Models on the Hugging Face Hub: `hf://user/name`, downloaded and checked."""

import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ppo2.system.text import install_command, printable

SCHEME = "hf://"
ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w.-]+))?(/(?P<file>[^@]+))?")
RULE = "hf://user/name, hf://user/name@REVISION or hf://user/name/FILE"
CHECKPOINT = re.compile(r"(checkpoints/)?([0-9]+)\.safetensors|model\.safetensors")
CHUNK = 2**20


class Address(NamedTuple):
    """A model on the Hub.

    Attributes:
        revision: branch, tag or commit; None: the main branch.
        file: a file of it; None: its newest checkpoint.
    """

    repo: str
    revision: str | None
    file: str | None


def parsed(text: str) -> Address:
    """The parts of an address.

    Raises:
        ValueError: it is none.
    """
    found = ADDRESS.fullmatch(text)
    if found is None:
        raise ValueError(f"`path` (={text!r}) must be of the form {RULE}.")
    return Address(found["repo"], found["revision"], found["file"])


def client() -> ModuleType:
    """The package `huggingface_hub`.

    Raises:
        ValueError: it isn't installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError(
            "models on the Hugging Face Hub need a package that isn't installed, huggingface_hub: "
            f"{install_command('hub')}."
        ) from error
    return huggingface_hub


def download(text: str) -> Path:
    """The file that an address means, in the Hub's cache on this machine, where its hash is checked against the Hub's.

    Without a connection, the file that was downloaded before is taken, with a warning.

    Raises:
        ValueError: no such address, repository or file; or what arrived isn't what the Hub has; or see `client`.
        OSError: the Hub can't be reached, and nothing was downloaded before.
    """
    address, hub = parsed(text), client()
    try:
        info = hub.HfApi().model_info(address.repo, revision=address.revision, files_metadata=True)
    except hub.errors.HfHubHTTPError as error:
        raise refusal(error, address.repo, address.revision) from error
    except Exception as error:
        if not (isinstance(error, OSError) or is_of_network(error)):
            raise
        return _downloaded_before(hub, text, address, error)
    files = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    name = _chosen(text, address, list(files))
    try:
        path = Path(hub.hf_hub_download(address.repo, name, revision=address.revision))  # its name is kept for later
    except hub.errors.HfHubHTTPError as error:
        raise refusal(error, address.repo, address.revision) from error
    check_hash(path, files[name], text)
    return path


def refusal(error: Any, repo: str, revision: str | None = None) -> ValueError:
    """The Hub's refusal as an error with a remedy."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    at = "" if revision is None else f" at revision {revision!r}"
    if status in (401, 403, 404):
        return ValueError(
            f"the Hugging Face Hub has no repository {repo!r}{at}, or you may not use it: look at its name, and for a "
            "private one log in by `hf auth login`, or set HF_TOKEN."
        )
    return ValueError(f"the Hugging Face Hub refused {repo!r}{at}: {_first_line(error)}")


def check_hash(path: Path, sibling: Any, text: str) -> None:
    """Raises ValueError where a file isn't the one that the Hub has, by the hash in the Hub's listing."""
    lfs = sibling.lfs
    if lfs is not None:
        expected = lfs["sha256"] if isinstance(lfs, Mapping) else lfs.sha256
        found = _hash(hashlib.sha256(), path)
    else:
        expected = sibling.blob_id
        found = _hash(hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False), path)
    if expected is not None and found != expected:
        raise ValueError(
            f"{text}: the file {sibling.rfilename} isn't what the Hugging Face Hub has (hash {found[:12]}..., expected "
            f"{expected[:12]}...): remove {path} and load it again."
        )


def _hash(digest: Any, path: Path) -> str:
    with path.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return str(digest.hexdigest())


def _chosen(text: str, address: Address, names: list[str]) -> str:
    """The name of the file that an address means, of those in the repository."""
    if address.file is not None:
        if address.file not in names:
            raise ValueError(f"{text}: {address.repo} has no file {address.file!r}; it has {_listed(names)}.")
        return address.file
    found = [(int(match[2] or -1), name) for name in names if (match := CHECKPOINT.fullmatch(name))]
    if not found:
        raise ValueError(f"{text}: {address.repo} has no checkpoint of ppo2; it has {_listed(names)}.")
    return max(found)[1]


def _listed(names: list[str]) -> str:
    return ", ".join(map(printable, sorted(names)[:10])) or "no file"


def _first_line(error: Exception) -> str:
    return printable(next(iter(str(error).splitlines()), "") or type(error).__name__)


def is_of_network(error: Exception) -> bool:
    """True for an error about the connection: of the HTTP library, which changed from version to version, or of the
    Hub's, which was told to work without one.
    """
    names = {"TransportError", "RequestException", "OfflineModeIsEnabled"}
    return any(base.__name__ in names for base in type(error).__mro__)


def _downloaded_before(hub: ModuleType, text: str, address: Address, error: Exception) -> Path:
    """The file from the cache on this machine.

    Raises:
        OSError: it isn't there.
    """
    why = _first_line(error)
    patterns = [address.file] if address.file else ["checkpoints/*", "*.safetensors"]
    try:
        folder = hub.snapshot_download(
            address.repo, revision=address.revision, allow_patterns=patterns, local_files_only=True
        )
    except OSError:
        raise OSError(f"{text}: the Hugging Face Hub can't be reached ({why}), and no copy is here.") from error
    root = Path(folder)
    names = [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]
    path = root / _chosen(text, address, names)
    warnings.warn(
        f"{text}: the Hugging Face Hub can't be reached ({why}); the copy downloaded before is taken.", stacklevel=2
    )
    return path
