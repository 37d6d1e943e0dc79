"""Passwords and keys among settings: found, left out of files, refused."""

import json
from typing import Any

import pytest

import ppo2
from ppo2.config import Config, secrets
from support.runs import SMALL

OPTIONS: dict[str, Any] = {
    "wandb": {"project": "x", "settings": {"api_key": "K1", "apiKey": "K2", "mode": "token"}, "tags": ["a", "key"]},
    "mlflow": {"tracking_uri": "https://me:K3@mlflow.example:5000/a?x=1&api_key=K4&y=2", "experiment": "legs"},
    "trackio": {"webhook_url": "https://hooks.example/K5"},
}
CLEAN = {
    "wandb": {"project": "x", "settings": {"mode": "token"}, "tags": ["a", "key"]},
    "mlflow": {"tracking_uri": "https://mlflow.example:5000/a?x=1&y=2", "experiment": "legs"},
    "trackio": {},
}
TOLD = [
    "log_options.wandb.settings.api_key",
    "log_options.wandb.settings.apiKey",
    "log_options.mlflow.tracking_uri",
    "log_options.trackio.webhook_url",
]


def test_options_of_trackers_are_saved_without_them() -> None:
    config = Config(log_options=OPTIONS)
    assert config.log_options == OPTIONS  # the tracker gets them
    assert config.to_json()["log_options"] == CLEAN
    again = Config.from_json(config.to_json()).log_options
    assert again == {name: of for name, of in CLEAN.items() if of}
    assert secrets.in_settings(vars(config)) == TOLD
    assert secrets.in_settings(config.to_json()) == []


@pytest.mark.parametrize(
    ("kwargs", "found"),
    [
        ({"hf_token": "x"}, ["hf_token"]),
        ({"nested": [{"dbPassword": "x"}]}, ["nested.dbPassword"]),
        ({"url": "postgresql://a:b@host/db"}, ["url"]),
        ({"key": "red", "key_color": "red", "token_type": "bpe", "num_keys": 3, "secret": 3, "password": ""}, []),
        ({"repository": "ssh://git@host/x", "path": "C:/a:b@c", "address": "https://host:80/a@b"}, []),
    ],
)
def test_arguments_of_environments(kwargs: dict[str, Any], found: list[str]) -> None:
    assert secrets.in_settings({"env_kwargs": kwargs}) == [f"env_kwargs.{name}" for name in found]
    if found:
        for name in ("env_kwargs", "eval_env_kwargs", "network_kwargs"):
            with pytest.raises(ValueError, match=rf"^`{name}` has '{found[0]}', which looks like a secret"):
                secrets.check_none_would_be_saved({name: kwargs})
    else:
        secrets.check_none_would_be_saved({"env_kwargs": kwargs})


def test_nothing_is_made_of_an_environment_with_one(tmp_path: Any) -> None:
    def never(**_: Any) -> Any:
        pytest.fail("it was made")

    for call in (ppo2.learn, ppo2.sweep):
        with pytest.raises(ValueError, match="`env_kwargs` has 'password'"):
            call(**{**SMALL, "env": never, "env_kwargs": {"password": "x"}, "run_dir": tmp_path / "r"})
    assert not (tmp_path / "r").exists()


def test_pages_of_older_runs_hide_them() -> None:
    old = {"lr": 1, "log_options": OPTIONS, "env_kwargs": {"a": [{"token": "K"}], "url": "http://a:b@h/", "n": 3}}
    assert secrets.shown(old) == {
        "lr": 1, "log_options": CLEAN, "env_kwargs": {"a": [{"token": "***"}], "url": "http://h/", "n": 3}
    }  # fmt: skip
    assert "K1" not in json.dumps(secrets.shown(old))
