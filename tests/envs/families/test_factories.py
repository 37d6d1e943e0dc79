"""Factories of single environments: options, treatments, and silence."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ppo2
from ppo2.envs.families.factories import FrameStack
from support.environments import Script, Spaced

MUJOCO = ("HalfCheetah", "Hopper", "Walker2d", "InvertedPendulum", "InvertedDoublePendulum", "Swimmer", "Reacher")


def test_reward_scale_scales_rewards_and_logs_unscaled_returns(tmp_path: Any) -> None:
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


@pytest.mark.parametrize(
    ("shape", "dtype", "high", "axis", "stacked"),
    [
        ((9, 9, 3), np.uint8, 255, -1, (9, 9, 6)),
        ((3, 9, 9), np.uint8, 255, 0, (6, 9, 9)),
        ((5, 9, 9), np.float32, 1, 0, (10, 9, 9)),
        ((9, 9), np.uint8, 255, -1, (9, 9, 2)),  # grey, without an axis for channels
        ((9, 9), np.float32, 1, -1, (9, 9, 2)),
        ((3, 4), np.float32, np.inf, -1, (3, 8)),  # a matrix
        ((5,), np.uint8, 9, -1, (10,)),
    ],
)
def test_images_are_stacked_along_their_channels(
    shape: Any, dtype: Any, high: float, axis: int, stacked: tuple[int, ...]
) -> None:
    env = FrameStack(Spaced(gym.spaces.Box(0, high, shape, dtype), gym.spaces.Discrete(2)), 2)
    assert env.observation_space.shape == stacked
    assert env.observation_space.dtype == dtype
    first, second = env.reset(seed=0)[0], env.step(0)[0]
    assert first in env.observation_space
    older, newer = np.split(second, 2, axis)
    np.testing.assert_array_equal(older, np.split(first, 2, axis)[1])
    assert not np.split(first, 2, axis)[0].any()
    assert not np.array_equal(older, newer)


def test_frames_of_several_parts_can_not_be_stacked() -> None:
    with pytest.raises(ValueError, match=r"`frame_stack` \(=2\) needs observations that are one array"):
        ppo2.make("Blackjack-v1", frame_stack=2)


@pytest.mark.parametrize("options", [{"flatten": True}, {"frame_stack": 2}])
def test_an_observation_that_is_missing_at_an_episodes_end_stays_missing(options: dict[str, Any]) -> None:
    class Ending(Script):
        def step(self, action: Any) -> Any:
            return None, 1.0, True, False, {}

    env = ppo2.make(Ending, num_envs=1, **options)
    env.reset()
    infos = env.step([0])[-1]
    assert infos["final_obs"].tolist() == [None]
    assert infos["_final_obs"].tolist() == [True]


def test_flatten_makes_observations_one_vector() -> None:
    env = ppo2.make("FrozenLake-v1", num_envs=2, flatten=True, frame_stack=2, workers=0)
    assert env.single_observation_space.shape == (32,)
    obs, _ = env.reset(seed=0)
    assert obs.sum() == 2
    env.close()


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


def test_dm_control_is_made_or_its_error_names_the_remedy() -> None:
    for package in ("shimmy", "dm_control"):
        pytest.importorskip(package)
    mujoco = pytest.importorskip("mujoco")
    if mujoco.__version__.startswith("3."):
        ppo2.make("dm_control/cartpole-balance-v0", num_envs=1, seed=0).close()
    else:
        with pytest.raises(ValueError, match="need mujoco < 4"):
            ppo2.make("dm_control/cartpole-balance-v0", num_envs=1)
