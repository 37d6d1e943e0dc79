"""A run on the Hugging Face Hub."""

import os
import re
from pathlib import Path
from typing import Any

from ppo2.checkpoints import checkpoint, hub
from ppo2.config import secrets
from ppo2.reporting import card
from ppo2.reports.runs import newest_clip
from ppo2.system.text import parse_json, printable

NAME = re.compile(r"[\w.-]+/[\w.-]+")
FILES = ("config.json", "progress.csv", "monitor.csv", "curve.png")
"""Files of a run directory that are uploaded, if they are there, beside its newest checkpoint, card and newest film."""


def push(
    run: str | os.PathLike[str],
    repo: str,
    *,
    private: bool = False,
    message: str = "Upload a policy trained with ppo2",
) -> str:
    """Uploads a run to a repository of the Hugging Face Hub, which is made if it isn't there, in one commit.

    Uploaded are the newest checkpoint, the settings, the logs, the learning curve, the newest film and the model card:
    README.md of the run directory, or one made now. `ppo2.load("hf://user/name")` loads the model then.

    Args:
        run: run directory, or a checkpoint.
        repo: name of the repository, "user/name".
        private: a new repository can be seen by its owner alone.
        message: the commit's.

    Returns:
        The address of the repository's page.

    Raises:
        ValueError: no run, no such name, settings with a password or key, or what arrived isn't what was sent; or the
            Hub refuses it; or `huggingface_hub` isn't installed.
        OSError: the Hub can't be reached.
    """
    if not NAME.fullmatch(str(repo).removeprefix(hub.SCHEME)):
        raise ValueError(f"`repo` (={repo!r}) must be of the form user/name.")
    repo = repo.removeprefix(hub.SCHEME)
    found = checkpoint.load(run)  # it is whole
    files = files_of(Path(run).expanduser(), found.path)
    _check_secrets(found, files.get("config.json"))
    client = hub.client()
    api = client.HfApi()
    try:
        page = api.create_repo(repo, private=private or None, exist_ok=True)
        made = [client.CommitOperationAdd(name, of if isinstance(of, bytes) else str(of)) for name, of in files.items()]
        commit = api.create_commit(repo, made, commit_message=message)
        listed = api.model_info(repo, revision=commit.oid, files_metadata=True)
    except client.errors.HfHubHTTPError as error:
        raise hub.refusal(error, repo) from error
    except Exception as error:  # of the HTTP library
        if not hub.is_of_network(error):
            raise
        raise OSError(f"the Hugging Face Hub can't be reached ({error}): push {repo} again later.") from error
    there = {sibling.rfilename: sibling for sibling in listed.siblings or ()}
    for name, of in files.items():
        _check_arrived(name, of, there.get(name), repo)
    return str(page)


def files_of(run: Path, newest: Path) -> dict[str, Path | bytes]:
    """The files to upload, by their names in the repository: paths, or the content."""
    if run.is_file():
        run = newest
    if not run.is_dir():
        return {"model.safetensors": newest, "README.md": card.of_checkpoint(newest).encode()}
    files: dict[str, Path | bytes] = {name: run / name for name in FILES if (run / name).is_file()}
    files[f"{checkpoint.FOLDER}/{newest.name}"] = newest
    if (clip := newest_clip(run)) is not None:
        files[clip.relative_to(run).as_posix()] = clip
    own = run / card.NAME
    files[card.NAME] = own if own.is_file() else card.of_run(run).encode()
    return files


def _check_secrets(found: checkpoint.Checkpoint, config: Path | bytes | None) -> None:
    """Raises ValueError for a password or key among the settings, which earlier versions saved."""
    told = secrets.in_settings(found.section("config"))
    if isinstance(config, Path):
        told += secrets.in_settings(parse_json(config.read_text(encoding="utf-8")))
    if told:
        listed = ", ".join(map(printable, dict.fromkeys(told)))
        raise ValueError(
            f"{found.path}, or the config.json of its run, holds what looks like a secret: {listed}. Nothing is "
            "uploaded. Without it: ppo2.load(...).save('policy.safetensors') keeps no options of trackers, and `ppo2 "
            "push policy.safetensors USER/NAME` shares that; arguments of environments stay, so train without the "
            "secret."
        )


def _check_arrived(name: str, of: Path | bytes, sibling: Any, repo: str) -> None:
    if sibling is None:
        raise ValueError(f"{repo} on the Hugging Face Hub lacks {printable(name)} after the upload: push it again.")
    if isinstance(of, Path):
        hub.check_hash(of, sibling, f"hf://{repo}")
