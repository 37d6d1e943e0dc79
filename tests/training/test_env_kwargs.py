"""Arguments of environments, given to learn: built, saved, taken up again, inherited."""

import json
import math

import gymnasium as gym
import numpy as np
import pytest

import ppo2
from ppo2.config import Config, coded, decoded
from ppo2.training import run_directory

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SMALL = {"total_timesteps": 64, "num_envs": 2, "nsteps": 16, "nminibatches": 2, "num_hidden": 4, "progress": False}
FROZEN = {"is_slippery": False, "max_episode_steps": 5, "workers": 0}


class Noise(gym.Env):
    """Observations of a shape that is a tuple, and episodes that never end by themselves."""

    def __init__(self, shape, high=1.0):
        self.observation_space = gym.spaces.Box(-high, high, (1, *shape[1:]))
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 1.0, False, False, {}


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """A run on an id with arguments, evaluated on the way, and its directory."""
    path = tmp_path_factory.mktemp("runs") / "frozen"
    model = ppo2.learn(
        env="FrozenLake-v1",
        env_kwargs=FROZEN,
        eval_env="FrozenLake-v1",
        eval_interval=1,
        eval_episodes=4,
        run_dir=path,
        **SMALL,
    )
    return model, path


def test_an_id_with_arguments_trains_is_saved_and_evaluated_alike(frozen):
    model, path = frozen
    assert run_directory.read_config(path)["env_kwargs"] == FROZEN
    rows = [json.loads(line) for line in (path / "progress.jsonl").read_text().splitlines()]
    assert max(row["eval_eplenmean"] for row in rows) <= 5
    for one in (model, ppo2.load(path)):
        assert ppo2.evaluate(one, "FrozenLake-v1", episodes=8).lengths.max() <= 5
        free = ppo2.evaluate(one, "FrozenLake-v1", episodes=2, env_kwargs={"max_episode_steps": 1})
        assert free.lengths.max() == 1


def test_a_run_goes_on_with_the_same_environment_only(frozen, tmp_path):
    whole = ppo2.learn(env="FrozenLake-v1", env_kwargs=FROZEN, seed=1, **SMALL | {"total_timesteps": 128})
    ppo2.learn(env="FrozenLake-v1", env_kwargs=FROZEN, seed=1, run_dir=tmp_path / "r", **SMALL)
    more = {"load_path": tmp_path / "r", "run_dir": tmp_path / "r", "seed": 1, **SMALL, "total_timesteps": 128}
    with pytest.raises(ValueError, match=r"`env_kwargs` was \{.*\}, is \{\}"):
        ppo2.learn(env="FrozenLake-v1", **more)
    resumed = ppo2.learn(env="FrozenLake-v1", env_kwargs=FROZEN, **more)
    assert resumed.config == whole.config


def test_a_class_with_treatment_and_numbers_that_json_has_not(tmp_path):
    kwargs = {"shape": (9, 3), "high": math.inf, "max_episode_steps": 4, "frame_stack": 2}
    model = ppo2.learn(env=Noise, env_kwargs=kwargs, eval_env=Noise, run_dir=tmp_path, **SMALL)
    assert model.observation_space.shape == (1, 6)
    assert decoded(run_directory.read_config(tmp_path)["env_kwargs"]) == kwargs
    assert Config.from_json(json.loads(json.dumps({"env_kwargs": coded(kwargs)}))).env_kwargs == kwargs
    np.testing.assert_array_equal(ppo2.evaluate(model, Noise, episodes=3).lengths, [4, 4, 4])


def test_a_device_environment_takes_its_librarys_arguments():
    pytest.importorskip("gymnax")
    model = ppo2.learn(env="gymnax:CartPole-v1", env_kwargs={"max_steps_in_episode": 7}, **SMALL)
    assert ppo2.evaluate(model, "gymnax:CartPole-v1", episodes=16).lengths.max() == 7


def test_runs_of_a_sweep_have_them(tmp_path):
    fast = {name: value for name, value in SMALL.items() if name != "progress"}
    found = ppo2.sweep(
        env="CartPole-v1", env_kwargs={"max_episode_steps": 3}, seed=range(2), run_dir=tmp_path / "s", parallel=1,
        progress=False, **fast,
    )  # fmt: skip
    assert [row["best"] for row in found.table] == [3.0, 3.0]
    with pytest.raises(ValueError, match=r"`env_kwargs` .* can't be swept over"):
        ppo2.sweep(env="CartPole-v1", env_kwargs=[{}, {}], **fast)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"env": Noise((2, 2)), "env_kwargs": {"high": 2.0}}, r"`env_kwargs` .* exists already: leave it out"),
        ({"env": "CartPole-v1", "env_kwargs": {"sutton_barto": True}}, "did you mean 'sutton_barto_reward'.*frame_st"),
        ({"env": "CartPole-v1", "env_kwargs": {"max_episode_step": 3}}, "did you mean 'max_episode_steps'"),
        ({"env": "CartPole-v1", "env_kwargs": {"seed": 3}}, "'seed', an argument by itself"),
        ({"env": "CartPole-v1", "env_kwargs": 3}, r"`env_kwargs` \(=3\) must be a dict"),
        ({"env": Noise, "env_kwargs": {"shap": (1, 2)}}, r"`env_kwargs` .*did you mean 'shape'"),
        ({"env": "CartPole-v1", "eval_env_kwargs": {"x": 1}}, "`eval_env_kwargs` .* is for `eval_env`, which is None"),
        (
            {"env": "CartPole-v1", "eval_env": "CartPole-v1", "eval_env_kwargs": {"x": 1}},
            r"`eval_env_kwargs` \(=\{'x': 1\}\): CartPole-v1 has no argument 'x'",
        ),
        ({"env": "CartPole-v1", "env_kwargs": {"frame_stack": 0}}, r"`frame_stack` \(=0\)"),
    ],
)
def test_arguments_that_can_not_be(arguments, words):
    with pytest.raises((ValueError, TypeError), match=words):
        ppo2.learn(**arguments, **SMALL)


def test_the_environment_to_evaluate_on_has_arguments_of_its_own():
    ends = []
    ppo2.learn(
        env="FrozenLake-v1",
        env_kwargs=FROZEN,
        eval_env="FrozenLake-v1",
        eval_env_kwargs={"max_episode_steps": 2},
        eval_interval=1,
        eval_episodes=4,
        update_fn=lambda _update, _model, stats: ends.append(stats.evaluation.lengths.max()),
        **SMALL | {"num_hidden": 5},  # no other test has compiled its programs
    )
    assert ends == [2, 2]
