"""`ppo2 eval` and `ppo2 play`."""

import re

import pytest

import ppo2
from ppo2.cli import main
from ppo2.system import runtime
from support.commands import finish, start
from support.places import no_card


def test_eval_in_a_process_agrees_with_python(place, resumed):
    status, out, err = finish(start(place, "eval", "runs/x", "--env", "CartPole-v1", "--episodes", "4", "--seed", "3"))
    assert (status, err) == (0, "")
    result = ppo2.evaluate(ppo2.load(place / "runs" / "x"), "CartPole-v1", episodes=4, seed=3)
    assert out.splitlines()[0] == "CartPole-v1, 4 episodes, most probable actions, seed 3"
    figures = [f"{x:,.2f}" for x in (result.mean, result.std, result.returns.min(), result.returns.max())]
    assert out.splitlines()[2].split() == ["return", *figures]


def test_play_films(place, resumed):
    pytest.importorskip("pygame")
    imageio = pytest.importorskip("imageio.v3")
    status, out, _ = finish(start(place, "play", "runs/x", "--video", "out.gif"))  # SDL may complain on stderr
    assert status == 0
    assert re.fullmatch(r"episode 1: return \d+, \d+ timesteps\nwrote out\.gif\n", out)
    assert imageio.imread(place / "out.gif").shape[1:] == (400, 600, 3)


def test_play_prints_returns_where_there_is_no_display(place, resumed, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["play", str(place / "runs" / "x"), "--episodes", "2", "--seed", "4"]) == 0
    assert re.fullmatch(r"(episode [12]: return \d+, \d+ timesteps\n){2}", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["eval"], "cpu"),
        (["play"], "cpu"),
        (["eval", "--device", "gpu"], "gpu"),
        (["resume"], "auto"),
        (["resume", "--device", "cpu"], "cpu"),
    ],
)
def test_which_processor_a_command_asks_for(words, expected, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(runtime, "leave_accelerators", asked.append)
    assert main([words[0], str(tmp_path / "absent"), *words[1:]]) == 1
    assert asked == [expected]


def test_a_run_on_the_cpu_is_resumed_without_a_look_at_other_devices(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(runtime, "leave_accelerators", asked.append)
    for settings in ('{"device": "cpu"}', '{"device": "gpu"}', "[]", "{"):
        (tmp_path / "config.json").write_text(settings)
        assert main(["resume", str(tmp_path)]) == 1
    assert main(["resume", str(tmp_path), "--device", "gpu"]) == 1
    assert asked == ["cpu", "auto", "auto", "auto", "gpu"]


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_which_processor_trains(command, monkeypatch, capsys):
    no_card(monkeypatch)
    asked = []
    monkeypatch.setattr(runtime, "leave_accelerators", asked.append)
    assert main([command, "CartPole-v1", "--device", "gpu", "--run-dir", "None"]) == 1
    assert asked == ["gpu"]
    assert "`device` (='gpu'): JAX has no GPU here" in capsys.readouterr().err
