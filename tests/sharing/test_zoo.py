"""The trained policies in this package."""

import re
import shlex
import sys
from pathlib import Path

import pytest

import ppo2
from ppo2.checkpoints import addresses
from ppo2.cli import main
from ppo2.sharing.zoo import entries

ROOT = Path(__file__).parents[2]


def test_each_policy_has_its_command_and_score() -> None:
    found = {entry.name: entry for entry in entries()}
    assert sorted(found) == addresses.names_in_zoo()
    assert {"CartPole-v1", "LunarLander-v3", "HalfCheetah-v5", "gymnax:SpaceInvaders-MinAtar"} < set(found)
    for name, entry in found.items():
        assert shlex.split(entry.command)[:3] == ["ppo2", "train", name]
        assert addresses.of_zoo(name).stat().st_size < 3_000_000


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1"])
def test_a_policy_does_what_its_score_says(name: str) -> None:
    (entry,) = (entry for entry in entries() if entry.name == name)
    score, interval = (float(of.replace(",", "")) for of in entry.score.split(" ± "))
    result = ppo2.evaluate(ppo2.load(f"zoo:{name}"), name, episodes=20, seed=5)
    assert abs(result.mean - score) <= max(4 * interval, 1.0) * (100 / 20) ** 0.5


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"there is no zoo:cartpole-v1\. Did you mean zoo:CartPole-v1\? There are"):
        ppo2.load("zoo:cartpole-v1")


def test_the_list_and_an_evaluation_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"zoo:HalfCheetah-v5 +1,767 ± 5\.15 +mujoco\n", out)
    assert "  ppo2 train CartPole-v1 --seed 1\n" in out
    assert main(["eval", "zoo:CartPole-v1", "--episodes", "3"]) == 0
    assert "500.00" in capsys.readouterr().out
    assert main(["eval", "zoo:CartPole", "--episodes", "3"]) == 1
    assert "Did you mean zoo:CartPole-v1?" in capsys.readouterr().err


def test_the_commands_are_those_of_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delitem(sys.modules, "zoo", raising=False)
    from zoo import POLICIES  # type: ignore[import-not-found]

    assert {entry.name: (entry.extra, entry.command) for entry in entries()} == POLICIES


@pytest.mark.parametrize("command", [["resume"], ["report"], ["plot"], ["watch", "--port", "0"]])
@pytest.mark.parametrize("address", ["zoo:CartPole-v1", "hf://someone/x"])
def test_a_policy_by_itself_is_no_run(
    command: list[str],
    address: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command, address]) == 1
    err = capsys.readouterr().err
    assert re.search(r"hf:/+someone/x is the address of|zoo:CartPole-v1 is the address of a policy by itself", err), err
    with pytest.raises(ValueError, match=r"`run_dir` .* is the address of a policy; it must name a directory"):
        ppo2.learn(env="CartPole-v1", total_timesteps=2048, run_dir=address)
    assert not [*tmp_path.iterdir()]


def test_a_policy_is_exported_and_trained_on(tmp_path: Path) -> None:
    (file,) = ppo2.export("zoo:CartPole-v1", numpy=tmp_path / "p.npz")
    assert file.recorded is not None
    model = ppo2.learn(env="CartPole-v1", total_timesteps=0, load_path="zoo:CartPole-v1", value_network="copy")
    assert ppo2.evaluate(model, "CartPole-v1", episodes=2).mean == 500.0
