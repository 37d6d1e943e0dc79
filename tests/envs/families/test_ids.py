"""Ids of environments, and packages that aren't installed."""

import importlib.util
import sys

import pytest

import ppo2


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "envpool" else found(name))
    for package in ("ale_py", "minigrid", "shimmy"):
        monkeypatch.setitem(sys.modules, package, None)
    for env_id, words in (
        ("ALE/Nowhere-v5", r"pip install '\.\[atari\]'"),
        ("MiniGrid-Nowhere-v0", r"pip install '\.\[minigrid\]'"),
        ("dm_control/nowhere-v0", "pip install 'shimmy"),
        ("envpool:Pong-v5", "pip install envpool"),
    ):
        with pytest.raises(ValueError, match=words):
            ppo2.make(env_id)
