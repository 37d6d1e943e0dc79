"""Names of formats and options of trackers."""

from typing import Any

import pytest

from ppo2.config import Config
from ppo2.config.logs import check_installed, formats, tracker_options


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((), ()),
        ("tensorboard", ("tensorboard",)),
        ("csv, wandb,", ("csv", "wandb")),
        (["wandb", "WandB", "mlflow"], ("wandb", "mlflow")),
    ],
)
def test_names(given: Any, found: tuple[str, ...]) -> None:
    assert Config(log=given).log == found


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        (("tensorbord",), ValueError, "has 'tensorbord', which is none of csv, .*; did you mean 'tensorboard'"),
        ("stdout", ValueError, "has 'stdout', which is none of csv"),
        (3, TypeError, r"`log` \(=3\) must be a list of names"),
        ([None], TypeError, "must be a list of names"),
    ],
)
def test_other_names(given: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        formats("log", given)


def test_options_in_one_word_and_in_two() -> None:
    nested = {"wandb": {"project": "x", "tags": ["a", "b"]}, "mlflow": {"experiment": "y"}}
    words = {"wandb.project": "x", "wandb.tags": "a,b", "mlflow.experiment": "y"}
    assert tracker_options("log_options", words) == tracker_options("log_options", nested) == nested
    assert Config(log_options=words).log_options == nested
    assert tracker_options("log_options", {"trackio.private": "false"}) == {"trackio": {"private": False}}
    assert Config.from_json(Config(log_options=words).to_json()) == Config(log_options=nested)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"wanb": {}}, ValueError, "has 'wanb', which is none of wandb, trackio, mlflow; did you mean 'wandb'"),
        ({"wandb": {"projct": "x"}}, ValueError, "has 'projct' for wandb, .* did you mean 'project'"),
        ({"wandb.entty": "x"}, ValueError, "did you mean 'entity'"),
        ({"wandb.save_code": "no"}, ValueError, r"'save_code' \(='no'\) must be true or false"),
        ({"wandb": "x"}, TypeError, "'wandb' must be a dict of options: entity, project"),
        ("wandb", TypeError, "must be a dict of trackers"),
    ],
)
def test_other_options(given: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        tracker_options("log_options", given)


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"`log` asks for 'trackio', .* trackio: pip install 'ppo2\[trackio\]'"):
        check_installed(["csv", "trackio"], "`log`")
