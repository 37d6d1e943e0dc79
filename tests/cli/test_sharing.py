"""`ppo2 push`: the words about what was uploaded."""

import pytest

from ppo2.cli import main
from ppo2.sharing import push as module


@pytest.mark.parametrize("repo", ["someone/x", "hf://someone/x"])
def test_the_address_to_play_from(repo, monkeypatch, capsys):
    monkeypatch.setattr(module, "push", lambda *_, **__: "https://page")
    assert main(["push", "runs/x", repo]) == 0
    assert capsys.readouterr().out == "https://page; ppo2 play hf://someone/x plays it\n"
