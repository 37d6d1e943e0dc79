"""`ppo2 plot`, `envs`, `networks` and `presets`."""

import importlib.util
import re

import pytest

import ppo2
from ppo2.cli import main


def test_plot(place, resumed, tmp_path, capsys):
    runs = [str(place / "runs" / "x")] * 2
    assert main(["plot", *runs, "-o", str(tmp_path / "out.svg"), "--smooth", "10"]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'out.svg'}\n"
    assert "mean of 2 runs" in (tmp_path / "out.svg").read_text()


def test_envs(capsys, monkeypatch):
    absent = {"Box2D", *(adapter.package for adapter in ppo2.envs.ADAPTERS.values())}
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *of: None if name in absent else find(name, *of))
    assert main(["envs"]) == 0
    out = capsys.readouterr().out
    assert "Box2D  (needs pip install 'ppo2[box2d]')\n" in out
    assert "MuJoCo\n" in out
    assert "CartPole-v1" in out
    assert "CartPole-v0" not in out.split()
    assert "gymnax: (on the device)  (needs pip install 'ppo2[jax-envs]')\n" in out


def test_envs_of_jax_libraries(capsys):
    pytest.importorskip("gymnax")
    assert main(["envs"]) == 0
    assert "gymnax:CartPole-v1" in capsys.readouterr().out.split()


def test_presets(capsys):
    assert main(["presets"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ +classic control +Box2D +MuJoCo +Atari", out, re.MULTILINE)
    assert re.search(r"^total_timesteps +300,000 +1,000,000 +1,000,000 +10,000,000", out, re.MULTILINE)
    assert re.search(r"^ +gymnax +locomotion +grid worlds$", out, re.MULTILINE)
    assert main(["presets", "CartPole-v1"]) == 0
    rows = dict(line.split() for line in capsys.readouterr().out.splitlines()[1:-2])
    assert set(rows) == set(ppo2.preset("CartPole-v1"))
    assert rows["lr"] == ppo2.preset("CartPole-v1")["lr"]
