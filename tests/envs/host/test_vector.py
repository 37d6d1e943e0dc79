"""The vector environment: the same in any process, errors that name an environment, Gymnasium's interface."""

import copy
import gc
import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest

import ppo2
from ppo2.envs.host.constructors import ConstructorError
from ppo2.envs.host.failures import ContractError
from ppo2.envs.host.replay import episode_seed
from ppo2.envs.host.vector import HostVectorEnv
from support.environments import Script
from support.host_envs import FAILURES, Counting, NDArray, once, outcomes, same

SPACES: dict[str, Any] = {
    "discrete": gym.spaces.Discrete(3, start=-1),
    "multi": gym.spaces.MultiDiscrete([2, 3]),
    "binary": gym.spaces.MultiBinary(4),
    "box": gym.spaces.Box(-1, 1, (2, 3), np.float32),
    "number": gym.spaces.Box(-1, 1, (), np.float32),
    "image": gym.spaces.Box(0, 255, (8, 8, 3), np.uint8),
    "tuple": gym.spaces.Tuple([gym.spaces.Discrete(3), gym.spaces.Box(0, 1, (), np.float64)]),
    "dict": gym.spaces.Dict(
        {"b": gym.spaces.Box(-1, 1, (2,), np.float32), "a": gym.spaces.Tuple([gym.spaces.MultiBinary(2)])}
    ),
}


class Sampling(gym.Env[Any, Any]):
    """Observations and actions of any space; an observation depends on the seed and on the action before."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.observation_space, self.action_space = copy.deepcopy((observation_space, action_space))

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        reward = float(sum(np.sum(leaf) for leaf in jax.tree.leaves(action)))
        return self.observation_space.sample(), reward, bool(self.np_random.random() < 0.2), False, {}


@pytest.mark.parametrize("kind", sorted(SPACES))
def test_every_space_is_stepped_alike_everywhere(kind: str, made: Any) -> None:
    def factory(space: Any = SPACES[kind]) -> Any:
        return Sampling(space, space)

    alone = outcomes(made([factory] * 5), 40)
    assert same(alone, outcomes(made([factory] * 5, workers=2, groups=1 + (kind in ("discrete", "dict", "image"))), 40))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "LunarLander-v3", "HalfCheetah-v5"])
def test_real_environments_are_stepped_alike_everywhere(env_id: str) -> None:
    if env_id.startswith("Lunar"):
        pytest.importorskip("Box2D")  # no wheel for Python 3.14

    def of(**how: Any) -> list[Any]:
        env = ppo2.make(env_id, num_envs=4, seed=0, **how)
        try:
            return outcomes(env, 200)
        finally:
            env.close()

    assert same(of(workers=0), of(workers=1, groups=2))


def test_several_processes_take_shares_and_every_episode_its_seed(made: Any) -> None:
    env = made([lambda i=i: Counting(i) for i in range(7)], workers=2, info_keys=("is_success", "noise", "absent"))
    obs, _ = env.reset(seed=list(range(10, 17)))
    assert obs[:, 1].tolist() == list(range(7))
    assert len(set(obs[:, 0])) == 3
    assert obs[0, 0] == os.getpid()
    noise = []
    for _ in range(5):
        *_, truncated, infos = env.step(np.zeros(7, int))
        noise.append(infos["noise"])
    assert truncated.all()
    assert infos["is_success"].tolist() == [1.0] * 7
    assert np.isnan(infos["absent"]).all()
    expected = [np.random.Generator(np.random.PCG64(10 + i)).random(5) for i in range(7)]
    assert np.array_equal(np.stack(noise, axis=1), expected)
    second = env.step(np.zeros(7, int))[-1]["noise"]
    assert second.tolist() == [np.random.Generator(np.random.PCG64(episode_seed(10 + i, 1))).random() for i in range(7)]


def test_a_wrong_observation_in_a_worker_is_an_error_that_says_whose(made: Any) -> None:
    class Wrong(Counting):
        def _obs(self) -> NDArray:
            return np.zeros(4 if self.t == 2 else 3)

    env = made([lambda: Counting(0), lambda: Wrong(1)], workers=1)
    env.reset(seed=0)
    env.step([0, 0])
    with pytest.raises(ValueError, match=r"environment 1 .*\(4,\)"):
        env.step([0, 0])


def test_numbers_that_do_not_fit() -> None:
    for how, words in (
        ({"workers": 4}, r"`workers` \(=4\) must be a whole number from 0 to 3"),
        ({"workers": -1}, r"`workers` \(=-1\)"),
        ({"env_timeout": 0}, r"`env_timeout` \(=0\) must be a number of seconds above 0"),
        ({"info_keys": "is_success"}, r"`info_keys` \(='is_success'\) must be names"),
        ({"groups": 3}, r"`groups` \(=3\) must be 1 or 2"),
        ({"workers": 3, "groups": 2}, r"`workers` \(=3\) must be a whole number from 0 to 2"),
    ):
        with pytest.raises(ValueError, match=words):
            HostVectorEnv([lambda: Counting(0)] * 4, **how)  # type: ignore[arg-type]


def test_lengths_that_do_not_fit(made: Any) -> None:
    env = made([lambda: Counting(0)] * 3, workers=1)
    with pytest.raises(ValueError, match=r"`seed` has 2 numbers for 3 environments"):
        env.reset(seed=[1, 2])
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"`actions` have the shape \(1,\).*it must be \(3,\)"):
        env.step(np.zeros(1, int))


@pytest.mark.parametrize("workers", [0, 1])
def test_some_are_reset_for_their_next_episodes(workers: int, made: Any) -> None:
    env = made([lambda i=i: Counting(i) for i in range(4)], workers=workers, groups=2, info_keys=("noise",))
    mask = np.array([True, False, False, True])
    with pytest.raises(gym.error.ResetNeeded):
        env.reset(options={"reset_mask": mask})
    env.reset(seed=[5, 6, 7, 8])
    env.step(np.zeros(4, int))
    obs, _ = env.reset(options={"reset_mask": mask})
    assert obs[:, 2].tolist() == [0, 1, 1, 0]
    noise = env.step(np.zeros(4, int))[-1]["noise"]
    draws = [np.random.Generator(np.random.PCG64(seed)) for seed in (episode_seed(5, 1), 6, 7, episode_seed(8, 1))]
    assert noise.tolist() == [draw.random(1 + skip)[-1] for draw, skip in zip(draws, (0, 1, 1, 0), strict=True)]
    env.reset(seed=[1, 2, 3, 4], options={"reset_mask": mask})
    assert env.position.seeds.tolist() == [1, 6, 7, 4]
    assert env.position.episodes.tolist() == [0, 0, 0, 0]
    for wrong, kind in ((mask[:3], ValueError), (mask.astype(int), TypeError), (~(mask | True), ValueError)):
        with pytest.raises(kind, match=r"`options\['reset_mask'\]`"):
            env.reset(options={"reset_mask": wrong})


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_is_stepped_before_a_reset_after_an_error_or_after_the_end(workers: int, made: Any) -> None:
    class Wrong(Counting):
        def _obs(self) -> NDArray:
            return np.zeros(4 if self.t == 2 and self.number == 0 else 3)

    env = made([lambda: Wrong(0), lambda: Counting(1)], workers=workers)
    with pytest.raises(gym.error.ResetNeeded, match=r"call reset\(\) first"):
        env.step([0, 0])
    env.reset(seed=0)
    env.step([0, 0])
    with pytest.raises(ValueError, match="environment 0"):
        env.step([0, 0])
    with pytest.raises(gym.error.ResetNeeded):
        env.step([0, 0])
    obs, _ = env.reset(seed=0)
    assert obs[:, 2].tolist() == [0, 0]
    assert env.step([0, 0])[1].tolist() == [1, 1]
    env.close()
    with pytest.raises(RuntimeError, match="were closed"):
        env.reset(seed=0)


def test_a_failed_step_says_nothing_of_later_ones(made: Any, tmp_path: Path) -> None:
    kill = once(tmp_path / "killed", FAILURES["is killed"][0])
    fail = once(tmp_path / "failed", FAILURES["raises"][0])
    whats = {0: (4, fail), 3: (3, kill)}
    env = made(
        [lambda i=i: Counting(i, 50, *whats.get(i, (-1, int))) for i in range(4)], workers=1, info_keys=("is_success",)
    )
    env.reset(seed=0)
    lost = []
    for _ in range(5):
        *_, infos = env.step([0] * 4)
        lost.append(infos.get("failed", np.zeros(4, bool)).tolist())
        assert (np.isnan(infos["is_success"]) == lost[-1]).all()
    no, yes = False, True
    assert lost == [[no] * 4, [no] * 4, [no, no, yes, yes], [yes, no, no, no], [no] * 4]


def test_a_users_own_environment_is_not_closed() -> None:
    closed: list[int] = []

    class Mine(Counting):
        def close(self) -> None:
            closed.append(1)

    env = Mine(0)
    model = ppo2.learn(env=env, total_timesteps=16, nsteps=16, nminibatches=1, seed=0)
    ppo2.evaluate(model, env, episodes=1)
    del model
    gc.collect()
    assert not closed


def test_copies_or_not() -> None:
    kept, reused = (HostVectorEnv([lambda: Script(5)], copy=copy) for copy in (True, False))
    for env, is_reused in ((kept, False), (reused, True)):
        first, _ = env.reset(seed=np.int64(3))
        assert np.shares_memory(env.step([0])[0], first) == is_reused


def test_environments_made_before_a_failure_are_closed() -> None:
    closed = []

    class Closes(Script):
        def close(self) -> None:
            closed.append(self)

    made = iter([Closes, Closes, lambda: 1 / 0])
    with pytest.raises(ConstructorError, match=r"environment 2 could not be made: .* ZeroDivisionError"):
        HostVectorEnv([lambda: next(made)()] * 3)
    assert len(closed) == 2


def test_a_step_of_two_groups_that_broke_off_is_no_step_that_was_started(made: Any) -> None:
    class Wrong(Counting):
        def step(self, action: Any) -> Any:
            return None

    env = made([lambda: Wrong(0), lambda: Counting(1)], groups=2)
    env.reset()
    with pytest.raises(ContractError, match="step"):
        env.step(np.zeros(2, int))
    assert env.get_attr("number") == (0, 1)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_learners_step_is_plain_unless_an_episode_ends(workers: int, made: Any) -> None:
    """Episodes of two and three steps: of the first five steps, the first and the last end none."""
    env = made([lambda: Counting(0, length=2), lambda: Counting(1, length=3)], workers=workers, copy=True)
    env.reset(seed=0)
    steps = []
    for _ in range(5):
        env.start(np.zeros(2, int))
        step = env.finish()
        assert step.episode_starts.tolist() == step.truncated.tolist()
        assert (step.valid & ~step.terminated).all()
        ended = [*step.truncated.tolist(), *sorted(step.final_obs or {})]
        steps.append((step.is_plain, ended, step.obs[:, 2].tolist(), step.rewards.tolist()))
    assert steps == [
        (True, [False, False], [1, 1], [1, 1]),
        (False, [True, False, 0], [0, 2], [2, 2]),
        (False, [False, True, 1], [1, 0], [1, 3]),
        (False, [True, False, 0], [0, 1], [2, 1]),
        (True, [False, False], [1, 2], [1, 2]),
    ]
    assert not env.buffers.truncated.any()
