"""Atari games: the treatment beside Gymnasium's wrappers and ale-py's own vector environment, step by step."""

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ppo2
from ppo2.envs.families.atari import AtariFactory, AtariTreatment
from ppo2.envs.families.factories import Options

ale_py = pytest.importorskip("ale_py")
pytest.importorskip("cv2")
gym.register_envs(ale_py)
GAMES = ("Breakout", "Pong", "SpaceInvaders", "Qbert")


def treated(game: str, **kwargs: Any) -> Any:
    return AtariFactory(gym.spec(f"{game}NoFrameskip-v4"), kwargs, Options())()


def gymnasiums(game: str) -> Any:
    env = gym.wrappers.AtariPreprocessing(gym.make(f"{game}NoFrameskip-v4", disable_env_checker=True), noop_max=30)
    return gym.wrappers.FrameStackObservation(env, 4, padding_type="zero")


@pytest.mark.parametrize("game", GAMES)
def test_frames_rewards_and_ends_are_those_of_gymnasiums_wrappers(game: str) -> None:
    ours, theirs = treated(game, life_loss_ends=False, clip_rewards=False), gymnasiums(game)
    ours._fires = False  # Gymnasium's wrappers have no such thing
    rng = np.random.default_rng(0)
    obs, their_obs = ours.reset(seed=3)[0], theirs.reset(seed=3)[0]
    ends = score = 0
    for _ in range(2500):
        assert np.array_equal(obs, np.moveaxis(their_obs, 0, -1))
        action = int(rng.integers(ours.action_space.n))
        obs, reward, *over, info = ours.step(action)
        their_obs, their_reward, *their_over, _ = theirs.step(action)
        assert (reward, *over) == (their_reward, *their_over)
        score += reward
        if any(over):
            assert np.array_equal(obs, np.moveaxis(their_obs, 0, -1))
            assert info["episode"]["r"] == score
            ends, score = ends + 1, 0
            obs, their_obs = ours.reset()[0], theirs.reset()[0]
    assert ends >= 2


@pytest.mark.parametrize("game", GAMES)
def test_frames_rewards_and_ends_are_those_of_the_vector_environment_in_cpp(game: str) -> None:
    """Without no-ops and firing, which it does in its own way; and it goes on after the loss of a life without any."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", game).lower()
    vector = ale_py.vector_env.AtariVectorEnv(
        name, 1, noop_max=0, use_fire_reset=False, life_loss_info=True, autoreset_mode="SameStep"
    )
    ours = treated(game, noops=0)
    ours._fires = False
    rng = np.random.default_rng(0)
    obs, (theirs, _) = ours.reset(seed=0)[0], vector.reset(seed=0)
    games = lives = 0
    for _ in range(2500):
        assert np.array_equal(obs, np.moveaxis(theirs[0], 0, -1))
        action = int(rng.integers(ours.action_space.n))
        obs, reward, terminated, truncated, info = ours.step(action)
        theirs, rewards, terminations, truncations, infos = vector.step(np.array([action]))
        assert (reward, terminated, truncated) == (rewards[0], bool(terminations[0]), bool(truncations[0]))
        lives += terminated
        if "episode" in info:
            assert np.array_equal(obs, np.moveaxis(infos["final_obs"][0], 0, -1))
            games += 1
            obs = ours.reset()[0]
    assert games >= 2
    assert lives > games or game == "Pong"


def test_a_life_ends_an_episode_and_the_game_goes_on() -> None:
    env = treated("Breakout")
    assert env.observation_space == gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
    env.reset(seed=0)
    lives, told, rewards, score = [], [], set(), 0.0
    rng = np.random.default_rng(1)
    while len(told) < 2:
        _, reward, terminated, truncated, info = env.step(int(rng.integers(4)))
        rewards.add(reward)
        score += reward  # every brick of the lower rows is worth 1, and random play reaches no others
        assert not truncated
        if terminated:
            lives.append(info["lives"])
            env.reset()
            if "episode" in info:
                told.append((info["episode"]["r"], score))
                score = 0.0
        else:
            assert "episode" not in info
    assert lives == [4, 3, 2, 1, 0] * 2
    assert rewards == {0.0, 1.0}
    assert all(theirs == pytest.approx(mine, abs=1) for theirs, mine in told)  # one may fall while it is fired


@pytest.mark.slow
def test_rewards_are_signs_and_returns_are_the_games_own(tmp_path: Any) -> None:
    env = ppo2.make("SpaceInvadersNoFrameskip-v4", num_envs=2, seed=0, workers=1)
    env.action_space.seed(0)
    env.reset(seed=1)
    seen: set[float] = set()
    told: list[float] = []
    for _ in range(700):
        *_, infos = outcome = env.step(env.action_space.sample())
        seen |= set(outcome[1].tolist())
        if "episode" in infos:
            told += infos["episode"]["r"][infos["_episode"]].tolist()
    env.close()
    assert seen == {0.0, 1.0}
    assert told
    assert all(r % 5 == 0 for r in told)  # points come in fives
    assert max(told) > 20
    model = ppo2.learn(
        env="SpaceInvadersNoFrameskip-v4",
        network="cnn_small",
        total_timesteps=1200,
        num_envs=2,
        nsteps=300,
        noptepochs=1,
        nminibatches=50,
        seed=0,
        run_dir=tmp_path,
    )
    assert model.observation_space.dtype == np.uint8
    returns = [float(row.split(",")[0]) for row in (tmp_path / "monitor.csv").read_text().splitlines()[2:]]
    assert returns
    assert all(r % 5 == 0 and r > 10 for r in returns)


class Recorder:
    """An emulator that records its moves."""

    def __init__(self, ale: Any) -> None:
        self._ale, self.moves = ale, []

    def act(self, move: Any) -> Any:
        self.moves.append(move)
        return self._ale.act(move)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ale, name)


def share_of_other_moves(env: Any) -> float:
    """Share of 2,000 frames with another move than was asked for; actions 2 and 3 in turn."""
    env.reset(seed=0)
    env._ale = recorder = Recorder(env._ale)
    env._skip, asked = 1, []
    for step in range(2_000):
        asked.append(env._moves[2 + step % 2])
        env.step(2 + step % 2)
        assert not env._over
    env._ale = recorder._ale
    return float(np.mean([a != b for a, b in zip(asked, recorder.moves, strict=True)]))


@pytest.mark.parametrize("env_id", ["ALE/Pong-v5", "BreakoutNoFrameskip-v4"])
def test_a_saved_state_goes_on_as_if_never_saved(env_id: str) -> None:
    one, other = (AtariFactory(gym.spec(env_id), {}, Options())() for _ in range(2))
    dice = np.random.default_rng(0)
    one.reset(seed=1)
    other.reset(seed=2)
    for _ in range(15):
        for env in (one, other):  # the other one is in the middle of something else
            for _ in range(20):
                _, _, terminated, truncated, _ = env.step(int(dice.integers(env.action_space.n)))
                if terminated or truncated:
                    env.reset()
        other.load_state({name: np.array(array) for name, array in one.save_state().items()})
        for action in dice.integers(one.action_space.n, size=20).tolist():
            mine, theirs = one.step(action), other.step(action)
            np.testing.assert_array_equal(mine[0], theirs[0])
            assert mine[1:] == theirs[1:]
            if mine[2] or mine[3]:
                np.testing.assert_array_equal(one.reset()[0], other.reset()[0])


def test_options_of_the_factory() -> None:
    pong = gym.make("PongNoFrameskip-v4").unwrapped
    assert pong.ale.getInt("max_num_frames_per_episode") == 108_000
    for env_id, sticky in (("PongNoFrameskip-v4", 0.0), ("ALE/Pong-v5", 0.25)):
        for kwargs, expected in (({}, sticky), ({"sticky_actions": True}, 0.25), ({"sticky_actions": 0.1}, 0.1)):
            env = AtariFactory(gym.spec(env_id), kwargs, Options())()
            # moves alternate, so q = p (1 - q): a frame differs where the one before it didn't and is repeated
            assert share_of_other_moves(env) == pytest.approx(expected / (1 + expected), abs=0.03)
            assert env.unwrapped.ale.getInt("max_num_frames_per_episode") == 108_000
            assert isinstance(env, AtariTreatment)
            assert env.action_space.n == 6
    assert treated("Pong", full_action_space=True).action_space.n == 18
    stacked = ppo2.make("ALE/Pong-v5", num_envs=1, frame_stack=2, max_episode_steps=100, workers=0)
    assert stacked.single_observation_space.shape == (84, 84, 2)
    stacked.reset(seed=0)
    lengths = []
    for _ in range(210):
        *_, truncated, infos = stacked.step([0])
        if truncated.any():
            lengths.append(infos["episode"]["l"].tolist())
    stacked.close()
    assert len(lengths) == 2
    assert all(92 <= length <= 100 for (length,) in lengths)  # up to 30 of the 400 frames are no-ops


@pytest.mark.slow
def test_the_vector_environment_in_cpp_is_opt_in_and_trains() -> None:
    env = ppo2.make("BreakoutNoFrameskip-v4", num_envs=3, seed=0, own_vector=True)
    assert env.single_observation_space.shape == (84, 84, 4)
    model = ppo2.learn(
        env=env, network="cnn_small", total_timesteps=600, nsteps=200, noptepochs=1, nminibatches=20, seed=0
    )
    assert int(model.state.counters.updates) == 1
    env.reset(seed=1)
    env.action_space.seed(0)
    told, ends = [], 0
    for _ in range(400):
        _, _, terminated, _, infos = env.step(env.action_space.sample())
        ends += int(terminated.sum())
        if "episode" in infos:
            told += infos["episode"]["l"][infos["_episode"]].tolist()
    assert told
    assert ends > 4 * len(told)
    env.close()
