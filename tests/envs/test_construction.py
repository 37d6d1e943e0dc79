"""What `ppo2.make` puts around environments, and what it says of ids."""

import importlib.util
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ppo2
from ppo2 import envs
from ppo2.envs.families.registry import FAMILIES

MUJOCO = ("HalfCheetah", "Hopper", "Walker2d", "InvertedPendulum", "InvertedDoublePendulum", "Swimmer", "Reacher")


def test_it_says_what_it_chose(capsys: pytest.CaptureFixture[str]) -> None:
    ppo2.make("CartPole-v1", num_envs=3, workers=0).close()
    ppo2.make("CartPole-v1", num_envs=3, workers=1).close()
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "ppo2: 3 x CartPole-v1, stepped by this process",
        "ppo2: 3 x CartPole-v1, stepped by this process and 1 worker",
    ]


def test_reward_scale_trains_on_scaled_and_tells_unscaled_returns(tmp_path: Any) -> None:
    env = ppo2.make("CartPole-v1", num_envs=2, seed=0, reward_scale=0.1, max_episode_steps=7, workers=1)
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(7):
        _, rewards, _, truncated, infos = env.step(np.array([0, 1]) if _ % 2 else np.array([1, 0]))
        assert rewards.tolist() == pytest.approx([0.1, 0.1])
    assert truncated.all()
    assert infos["episode"]["r"].tolist() == [7.0, 7.0]
    ppo2.learn(env=env, total_timesteps=128, nsteps=64, seed=0, run_dir=tmp_path)
    returns = [float(row.split(",")[0]) for row in (tmp_path / "monitor.csv").read_text().splitlines()[2:]]
    assert len(returns) >= 16
    assert set(returns) <= {float(r) for r in range(4, 8)}
    model = ppo2.load(tmp_path)
    assert set(ppo2.evaluate(model, env, episodes=10).returns) <= {float(r) for r in range(4, 8)}
    env.close()


def test_frames_are_stacked_along_the_last_axis() -> None:
    env, plain = ppo2.make("Pendulum-v1", num_envs=1, frame_stack=3, workers=0), gym.make("Pendulum-v1")
    obs, first = env.reset(seed=[4])[0], plain.reset(seed=4)[0]
    seen = [np.zeros(3), np.zeros(3), first]
    assert obs[0].tolist() == np.concatenate(seen).tolist()
    for _ in range(4):
        obs, *_ = env.step(np.array([[0.5]], np.float32))
        seen.append(plain.step(np.array([0.5], np.float32))[0])
        assert obs[0].tolist() == np.concatenate(seen[-3:]).tolist()
    env.close()


def test_flattened() -> None:
    env = ppo2.make("FrozenLake-v1", num_envs=2, flatten=True, frame_stack=2, workers=0)
    assert env.single_observation_space.shape == (32,)
    obs, _ = env.reset(seed=0)
    assert obs.sum() == 2
    env.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_episode_steps": 0}, r"`max_episode_steps` \(=0\) must be a whole number of at least 1"),
        ({"frame_stack": 1.5}, r"`frame_stack` \(=1.5\)"),
        ({"reward_scale": 0.0}, r"`reward_scale` \(=0.0\) must be a finite number that is not 0"),
        ({"workers": 8}, r"`workers` \(=8\) must be a whole number from 0 to 7"),
        ({"own_vector": True, "flatten": True}, r"leave them out"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ppo2.make("CartPole-v1", **options)


def test_frames_of_several_parts_can_not_be_stacked() -> None:
    with pytest.raises(ValueError, match=r"`frame_stack` \(=2\) needs observations that are one array"):
        ppo2.make("Blackjack-v1", frame_stack=2)


def test_a_vector_form_of_its_own_is_opt_in() -> None:
    env = ppo2.make("CartPole-v1", num_envs=3, seed=0, own_vector=True)
    assert type(env.unwrapped).__name__ == "CartPoleVectorEnv"
    model = ppo2.learn(env=env, total_timesteps=3 * 64, nsteps=64, seed=0)
    assert int(model.state.counters.updates) == 1
    with pytest.raises(ValueError, match="has no vector form of its own"):
        ppo2.make("Pendulum-v1", own_vector=True)


def test_envpool_by_prefix() -> None:
    pytest.importorskip("envpool")
    first, same, other = (ppo2.make("envpool:CartPole-v1", num_envs=3, seed=seed) for seed in (0, 0, 1))
    obs = [env.reset()[0] for env in (first, same, other)]
    assert np.array_equal(obs[0], obs[1])
    assert not np.array_equal(obs[0], obs[2])
    model = ppo2.learn(env=first, total_timesteps=3 * 64, nsteps=64, seed=0)
    assert int(model.state.counters.updates) == 1
    with pytest.raises(ValueError, match="EnvPool has no such environment"):
        ppo2.make("envpool:Nowhere-v0")


def test_dm_control_or_why_not() -> None:
    for package in ("shimmy", "dm_control"):
        pytest.importorskip(package)
    mujoco = pytest.importorskip("mujoco")
    if mujoco.__version__.startswith("3."):
        ppo2.make("dm_control/cartpole-balance-v0", num_envs=1, seed=0).close()
    else:
        with pytest.raises(ValueError, match="need mujoco < 4"):
            ppo2.make("dm_control/cartpole-balance-v0", num_envs=1)


def test_minigrid_has_no_mission_and_numbers_for_an_image() -> None:
    pytest.importorskip("minigrid")
    env = ppo2.make("MiniGrid-Empty-5x5-v0", num_envs=2, seed=0, workers=0)
    assert set(env.single_observation_space.spaces) == {"direction", "image"}
    assert env.single_observation_space["image"].dtype == np.float32
    env.close()
    flat = ppo2.make("MiniGrid-Empty-5x5-v0", num_envs=2, flatten=True, workers=0)
    assert flat.single_observation_space.shape == (4 + 7 * 7 * 3,)
    model = ppo2.learn(env=flat, total_timesteps=128, nsteps=64, seed=0)
    assert int(model.state.counters.updates) == 1
    flat.close()


@pytest.mark.parametrize("name", MUJOCO)
def test_every_mujoco_task_is_made_quietly(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    env = ppo2.make(f"{name}-v5", num_envs=2, seed=0, workers=1)
    env.reset(seed=0)
    env.close()
    assert capfd.readouterr().err == f"ppo2: 2 x {name}-v5, stepped by this process and 1 worker\n"


def test_every_family_says_where_its_settings_come_from() -> None:
    for family in FAMILIES:
        assert family.source
    for env_id, named in (
        ("CartPole-v1", "classic control"),
        ("LunarLander-v3", "Box2D"),
        *((f"{name}-v5", "MuJoCo") for name in MUJOCO),
        ("ALE/Pong-v5", "Atari"),
        ("PongNoFrameskip-v4", "Atari"),
        ("MiniGrid-DoorKey-5x5-v0", "MiniGrid"),
    ):
        if named in ("Atari", "MiniGrid") and not importlib.util.find_spec(
            "ale_py" if named == "Atari" else "minigrid"
        ):
            continue
        assert ppo2.preset(env_id)["total_timesteps"] > 0
        assert envs.family_of(env_id).name == named


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "envpool" else found(name))
    for package in ("ale_py", "minigrid", "shimmy"):
        monkeypatch.setitem(sys.modules, package, None)
    for env_id, words in (
        ("ALE/Nowhere-v5", r"pip install 'ppo2\[atari\]'"),
        ("MiniGrid-Nowhere-v0", r"pip install 'ppo2\[minigrid\]'"),
        ("dm_control/nowhere-v0", "pip install 'shimmy"),
        ("envpool:Pong-v5", "pip install envpool"),
    ):
        with pytest.raises(ValueError, match=words):
            ppo2.make(env_id)
