"""Ids of environments, and packages that aren't installed."""

import importlib.util
import sys
import types
from pathlib import Path

import gymnasium as gym
import pytest

import ppo2


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "envpool" else found(name))
    packages = ("shimmy", "metaworld", "miniworld", "gymnasium_robotics", "highway_env", "vizdoom.gymnasium_wrapper")
    for package in ("ale_py", "minigrid", "flappy_bird_gymnasium", *packages):
        monkeypatch.setitem(sys.modules, package, None)
    for env_id, words in (
        ("ALE/Nowhere-v5", r"pip install 'ppo2\[atari\]'"),
        ("MiniGrid-Nowhere-v0", r"pip install 'ppo2\[minigrid\]'"),
        ("dm_control/nowhere-v0", "pip install 'shimmy"),
        ("envpool:Pong-v5", "pip install envpool"),
        ("bsuite/nowhere-v0", "bsuite"),
        ("Meta-World/MT99", "pip install metaworld"),
        ("MiniWorld-Hallway-v0", "pip install miniworld"),
        ("FetchReach-v4", "pip install gymnasium-robotics"),
        ("highway-fast-v0", "pip install highway-env"),
        ("VizdoomBasic-v1", "pip install vizdoom"),
        ("FlappyBird-v0", "pip install flappy-bird-gymnasium"),
        ("procgen:procgen-coinrun-v0", "envpool:CoinrunEasy-v0"),
        ("pistonball_v6", "several agents, .*supersuit"),
        ("SuperMarioBros-v0", "shimmy"),
    ):
        with pytest.raises(ValueError, match=words):
            ppo2.make(env_id)


def test_a_package_without_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setitem(sys.modules, "shimmy", types.ModuleType("shimmy"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "dm_control" else found(name))
    with pytest.raises(ValueError, match=r"pip install 'shimmy\[dm-control\]'"):
        ppo2.make("dm_control/cartpole-balance-v0")


def test_a_package_that_fails_where_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flappy_bird_gymnasium.py").write_text("raise OSError('no screen')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "flappy_bird_gymnasium", raising=False)
    with pytest.raises(ValueError, match=r"gymnasium is there, but can't be imported \(OSError: no screen\)"):
        ppo2.make("FlappyBird-v0")


def test_a_package_is_imported_for_its_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "import gymnasium\ngymnasium.register('FlappyBird-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    (tmp_path / "flappy_bird_gymnasium.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "flappy_bird_gymnasium", raising=False)
    try:
        ppo2.make("FlappyBird-v0", num_envs=1).close()
    finally:
        gym.registry.pop("FlappyBird-v0", None)


def test_the_closest_ids_are_those_of_other_namespaces_too() -> None:
    pytest.importorskip("ale_py")
    with pytest.raises(ValueError, match=r"closest known (is|are) .*ALE/Pong-v5"):
        ppo2.make("pong")
    with pytest.raises(ValueError, match="closest known are CartPole-v1, CartPole-v0"):
        ppo2.make("cartpole-v7")


def test_a_module_that_fails_where_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spoiled_envs.py").write_text("import gymnasium\n\n1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = (
        r"importing 'spoiled_envs' raised ZeroDivisionError: division by zero, in <module> \(.*spoiled_envs.py, line 3"
    )
    with pytest.raises(ValueError, match=words):
        ppo2.make("spoiled_envs:X-v0")


def test_the_name_of_a_class_is_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_envs.py").write_text("class Tank: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"Tank is in the module own_envs, .*entry_point='own_envs:Tank'"):
        ppo2.make("own_envs:Tank")


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("cartpole_v1", "The closest known (is|are) .*CartPole-v1"),
        ("lunar_lander_v3", "The closest known (is|are) .*LunarLander-v3"),
        ("pistonball_v6", "PettingZoo's environments have several agents"),
    ],
)
def test_a_misspelt_id_is_none_of_pettingzoo(env_id: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ppo2.make(env_id)
