"""Vector environments in the form of Stable-Baselines3 and SuperSuit, by stand-ins that return what these do."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2.envs.construction import resolve
from ppo2.envs.host.failures import ContractError
from ppo2.envs.host.vec_env import VecEnvAdapter, as_gymnasium, is_made

OBS, ACTIONS = gym.spaces.Box(-100, 100, (1,), np.float32), gym.spaces.Discrete(2)
SETTINGS: dict[str, Any] = {"network": "mlp", "nsteps": 8, "nminibatches": 2, "seed": 0, "num_hidden": 4}


class VecEnv:
    """Stands for one of Stable-Baselines3: environment i's episodes last 3 + i steps, and are cut for odd i."""

    observation_space, action_space, num_envs, metadata = OBS, ACTIONS, 2, None

    def __init__(self) -> None:
        self.t = np.zeros(2, int)
        self.seeds: list[Any] = []
        self.reset_infos: list[dict[str, Any]] = [{}, {}]

    def has_attr(self, name: str) -> bool:
        return False

    def seed(self, seed: int | None = None) -> None:
        self.seeds.append(seed)

    def reset(self) -> Any:
        self.t[:] = 0
        return np.zeros((2, 1), np.float32)

    def step_async(self, actions: Any) -> None:
        self.actions = actions

    def step_wait(self) -> Any:
        self.t += 1
        dones = self.t == np.array([3, 4])
        infos: list[dict[str, Any]] = [{}, {}]
        for i in np.flatnonzero(dones):
            last = np.array([self.t[i]], np.float32)
            infos[i] = {"terminal_observation": last, "TimeLimit.truncated": bool(i % 2), "is_success": 1.0}
        self.t[dones] = 0
        return self.t[:, None].astype(np.float32), np.ones(2, np.float32), dones, infos

    def step(self, actions: Any) -> Any:
        self.step_async(actions)
        return self.step_wait()

    def close(self) -> None:
        pass


class Agents(gym.vector.VectorEnv):
    """Stands for one of SuperSuit, with spaces of one agent: agent 0 ends before agent 1, whose end resets both."""

    step_async = step_wait = None

    def __init__(self) -> None:
        self.observation_space, self.action_space, self.num_envs = OBS, ACTIONS, 2
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def reset(self, seed: Any = None, options: Any = None) -> Any:
        self.t, self.seed = 0, seed
        return np.zeros((2, 1), np.float32), [{}, {}]

    def step(self, actions: Any) -> Any:
        self.t += 1
        over = self.t == 4
        obs = np.full((2, 1), self.t, np.float32)
        infos: list[dict[str, Any]] = [{}, {}]
        if over:
            infos = [{"terminal_observation": row} for row in obs]
            obs, self.t = np.zeros((2, 1), np.float32), 0
        terminated, truncated = np.array([self.t == 2, False], np.uint8), np.array([over, over], np.uint8)
        return obs, np.ones(2, np.float32), terminated, truncated, infos


def test_a_vec_env_becomes_one_of_gymnasium() -> None:
    venv = VecEnv()
    env = as_gymnasium(venv)
    assert isinstance(env, VecEnvAdapter)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.single_observation_space is OBS
    env.reset(seed=7)
    assert venv.seeds == [7]
    for _ in range(3):
        obs, _, terminated, truncated, infos = env.step(np.zeros(2, int))
    assert (terminated.tolist(), truncated.tolist(), obs.tolist()) == ([True, False], [False, False], [[0.0], [3.0]])
    assert infos["final_obs"][0].tolist() == [3.0]
    assert infos["final_obs"][1] is None
    assert infos["final_info"]["is_success"][0] == 1.0
    assert "terminal_observation" not in infos["final_info"]
    *_, terminated, truncated, infos = env.step(np.zeros(2, int))
    assert (terminated.tolist(), truncated.tolist()) == ([False, False], [False, True])
    assert infos["final_obs"][1].tolist() == [4.0]


def test_agents_that_end_apart() -> None:
    env = as_gymnasium(Agents())
    env.reset(seed=3)
    assert env.venv.seed == 3
    ends = []
    for _ in range(4):
        obs, _, terminated, truncated, infos = env.step(np.zeros(2, int))
        last = [None if one is None else one.tolist() for one in infos.get("final_obs", [])]
        ends.append((terminated.tolist(), truncated.tolist(), last))
    assert ends[1] == ([True, False], [False, False], [[2.0], None])
    assert ends[3] == ([False, False], [True, True], [[4.0], [4.0]])
    assert obs.tolist() == [[0.0], [0.0]]


def test_learning_and_evaluating() -> None:
    seen: list[Any] = []
    model = ppo2.learn(env=VecEnv(), total_timesteps=32, update_fn=lambda *given: seen.append(given[2]), **SETTINGS)
    assert 3 <= seen[-1].eplenmean <= 4
    assert seen[-1].infos["is_success"] == 1.0
    assert sorted(set(ppo2.evaluate(model, VecEnv(), episodes=4).lengths.tolist())) == [3, 4]
    ppo2.learn(env=Agents(), total_timesteps=32, update_fn=lambda *given: seen.append(given[2]), **SETTINGS)
    assert seen[-1].episodes == 2 * 4 + 4  # of agent 0 two in four steps, of agent 1 one; 16 steps of each


def test_masks_by_a_method_are_asked_of_each_environment() -> None:
    class Masked(VecEnv):
        def has_attr(self, name: str) -> bool:
            return name == "action_masks"

        def env_method(self, name: str) -> Any:
            return [np.array([0, 1])] * 2

        def step_wait(self) -> Any:
            assert self.actions.tolist() == [1, 1]
            return super().step_wait()

    ppo2.learn(env=Masked(), total_timesteps=16, **SETTINGS)


def test_one_that_is_trained_on_is_known_again() -> None:
    venv = VecEnv()
    with pytest.raises(ContractError, match="`eval_env` is `env` itself"):
        ppo2.learn(env=venv, eval_env=venv, eval_interval=1, total_timesteps=16, **SETTINGS)
    assert is_made(venv)
    with pytest.raises(ValueError, match=r"`num_envs` .*this one has 2"):
        resolve(venv, 3)
    with pytest.raises(TypeError, match="one vector environment that exists already"):
        ppo2.make(venv)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a vector environment already: pass it as it is"):
        ppo2.learn(env=VecEnv, total_timesteps=16, **SETTINGS)


def test_what_it_returns_is_checked() -> None:
    class Wrong(VecEnv):
        def step(self, actions: Any) -> Any:
            return super().step(actions)[:3]

    with pytest.raises(ContractError, match=r"Wrong\.step\(\) must return \(observations.*it returned 3 values"):
        ppo2.learn(env=Wrong(), total_timesteps=16, **SETTINGS)
    wrapped = gym.wrappers.vector.RecordEpisodeStatistics
    with pytest.raises(TypeError, match="Pass the Agents inside it as it is"):
        ppo2.learn(env=wrapped(Agents()), total_timesteps=16, **SETTINGS)


def test_a_runner_takes_one() -> None:
    model = ppo2.learn(env=VecEnv(), total_timesteps=16, **SETTINGS)
    rollout = ppo2.Runner(env=VecEnv(), model=model, nsteps=8, gamma=0.99, lam=0.95).run()  # type: ignore[arg-type]
    assert rollout.truncated.sum() == 2
    assert rollout.terminated.sum() == 2
