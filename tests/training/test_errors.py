"""Bad input: a clear error that names the argument, its value, the rule and the remedy, before the first step."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ppo2
from ppo2.agent.model import Model
from ppo2.envs.families import registry
from support.environments import Broken, Script, Spaced

pytestmark = pytest.mark.usefixtures("quickly_compiled")

BOX = gym.spaces.Box(-1, 1, (2,))


@pytest.fixture(autouse=True)
def _no_step(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No environment is stepped before the error."""
    from ppo2.envs.host.stepper import Stepper

    if "steps" not in request.keywords:
        monkeypatch.setattr(Stepper, "start", lambda *_: pytest.fail("an environment was stepped before the error"))


def learn(**arguments: Any) -> Model:
    return ppo2.learn(**{"network": "mlp", "env": "CartPole-v1", "total_timesteps": 8 * 2048, "seed": 0, **arguments})


@pytest.mark.core
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"network": "mpl"}, ValueError, r"`network` \(='mpl'\): unknown network type; did you mean 'mlp'\?.*mlp"),
        ({"network": 3}, TypeError, r"`network` \(=3\) must be a name"),
        ({"value_network": "nope"}, ValueError, r"`value_network` \(='nope'\): unknown network type"),
        ({"num_layer": 2}, ValueError, r"`num_layer` \(=2\) is no argument of learn.* nor .*'mlp'.*mean `num_layers`"),
        ({"num_hidden": 0}, ValueError, r"`num_hidden` \(=0\) must be a whole number of at least 1"),
        ({"activation": "step"}, ValueError, r"`activation` \(='step'\) is unknown; known are tanh"),
        ({"env": "CartPol-v1"}, ValueError, r"`env` \(='CartPol-v1'\): no environment of this id.*CartPole-v1"),
        ({"env": "CartPole-v7"}, ValueError, r"`env` \(='CartPole-v7'\).*closest known are CartPole-v"),
        ({"env": "nowhere:Env-v0"}, ValueError, r"module 'nowhere' can't be imported"),
        ({"env": "ALE/Pung-v5"}, ValueError, r"`env` \(='ALE/Pung-v5'\).*ALE/Pong-v5"),
        ({"load_parts": 3, "load_path": "x"}, ValueError, r"`load_parts` \(=3\) must name one or more of"),
        ({"load_path": ""}, ValueError, r"`load_path` \(=''\) must name a checkpoint"),
        ({"run_dir": "a\0b"}, ValueError, r"`run_dir` \(=.*\) must name a directory"),
        ({"run_dir": 3}, TypeError, r"`run_dir` \(=3\) must be the path of a directory; None writes nothing"),
        ({"env": 3}, TypeError, r"`env` \(=3\) must be an environment id, a gymnasium\.Env"),
        ({"env": lambda: 3}, TypeError, r"`env` is a factory that gave 3; it must make a gymnasium\.Env"),
        ({"env": None}, TypeError, r"`env` \(=None\) must be an environment id"),
        ({"num_envs": 0}, ValueError, r"`num_envs` \(=0\) must be .* at least 1"),
        ({"num_envs": 2.5}, ValueError, r"`num_envs` \(=2\.5\) must be a whole number"),
        ({"nminibatches": 5}, ValueError, r"`nminibatches` \(=5\) must divide .*8 \* 2048 = 16384\); 4 and 8 do"),
        ({"num_envs": 6, "shards": 4}, ValueError, r"`shards` \(=4\) must divide `num_envs` \(=6\)"),
        ({"total_timesteps": 100}, ValueError, r"`total_timesteps` \(=100\) is less than one batch.*16384.*raise it"),
        ({"total_timesteps": -1}, ValueError, r"`total_timesteps` \(=-1\) must be at least 0"),
        ({"total_timesteps": "many"}, TypeError, r"`total_timesteps` \(='many'\) must be a whole number"),
        ({"total_timesteps": float("nan")}, TypeError, r"`total_timesteps` \(=nan\)"),
        ({"nsteps": 0}, ValueError, r"`nsteps` \(=0\) must be at least 1"),
        ({"lr": float("nan")}, ValueError, r"`lr` \(=nan\) must be finite and not negative"),
        ({"lr": -1e-3}, ValueError, r"`lr` \(=-0\.001\) must be finite and not negative"),
        ({"lr": "line:3e-4"}, ValueError, r"`lr` \(='line:3e-4'\) is not a schedule.*linear:NUMBER"),
        ({"lr": "linear"}, ValueError, r"`lr` \(='linear'\) is not a schedule"),
        ({"lr": lambda frac: -frac}, ValueError, r"`lr` \(=-1\.0 at frac=1\)"),
        ({"lr": None}, TypeError, r"`lr` \(=None\) must be a number"),
        ({"cliprange": -0.1}, ValueError, r"`cliprange` \(=-0\.1\)"),
        ({"value_cliprange": "off"}, ValueError, r"`value_cliprange` \(='off'\) is not a schedule"),
        ({"gamma": 1.5}, ValueError, r"`gamma` \(=1\.5\) must be finite and between 0 and 1"),
        ({"lam": float("inf")}, ValueError, r"`lam` \(=inf\)"),
        ({"max_grad_norm": 0.0}, ValueError, r"`max_grad_norm` \(=0\.0\).*None switches it off"),
        ({"target_kl": -1.0}, ValueError, r"`target_kl` \(=-1\.0\)"),
        ({"normalize_obs": 1}, TypeError, r"`normalize_obs` \(=1\) must be True or False"),
        ({"precision": "fp16"}, ValueError, r"`precision` \(='fp16'\) must be 'float32' or 'tf32' or 'bf16'"),
        ({"on_nonfinite": "ignore"}, ValueError, r"`on_nonfinite` \(='ignore'\) must be 'raise' or 'skip'"),
        ({"log_interval": 0}, ValueError, r"`log_interval` \(=0\) must be at least 1"),
        ({"eval_env": "Pendulum-v1"}, ValueError, r"`eval_env` has another observation space"),
        ({"model_fn": lambda **_: 3}, TypeError, r"`model_fn` gave 3; it must give a ppo2\.Model"),
        ({"load_path": "/nowhere/at/all"}, ValueError, r"no checkpoint at /nowhere/at/all"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        learn(**arguments)


@pytest.mark.parametrize(
    ("space", "which"),
    [
        (gym.spaces.Text(5), "observation"),
        (gym.spaces.Graph(BOX, None), "observation"),
        (gym.spaces.Text(5), "action"),
        (gym.spaces.Box(0, 5, (2,), np.int32), "action"),
    ],
)
def test_unsupported_spaces(space: Any, which: str) -> None:
    spaces = (space, gym.spaces.Discrete(2)) if which == "observation" else (BOX, space)
    with pytest.raises(TypeError, match=rf"`env` has the {which} space .*; known are .*Discrete.*Wrap the environment"):
        learn(env=lambda: Spaced(*spaces))


def test_num_envs_with_a_ready_environment() -> None:
    with pytest.raises(
        ValueError, match=r"`num_envs` \(=4\) applies where `env` is an id or a factory; this one has 1"
    ):
        learn(env=Script(3), num_envs=4)


def test_evaluating_on_the_training_environment() -> None:
    env = Script(3)
    with pytest.raises(ValueError, match="`eval_env` is `env` itself"):
        learn(env=env, eval_env=env, nsteps=16, total_timesteps=16)


def test_environments_that_differ() -> None:
    made = iter([Spaced(BOX, gym.spaces.Discrete(2)), Spaced(BOX, gym.spaces.Discrete(3))])
    with pytest.raises(ValueError, match=r"differ in action_space: number 0 has Discrete\(2\), number 1 Discrete\(3\)"):
        learn(env=lambda: next(made), num_envs=2)


@pytest.mark.parametrize(
    ("space", "obs", "message"),
    [
        (BOX, np.zeros(3, np.float32), r"first observation of environment 0.*shape \(3,\)"),
        (BOX, np.zeros((1, 2), np.float32), r"first observation of environment 0.*shape \(1, 2\)"),
        (BOX, np.array(["a", "b"]), r"first observation of environment 0.*dtype <U1.*real numbers"),
        (gym.spaces.Discrete(3), 1.5, r"dtype float64.*wants integers"),
        (gym.spaces.Discrete(3), 3, r"holds 3, which is out of range for the observation space Discrete\(3\)"),
        (gym.spaces.Box(0, 255, (1,), np.uint8), np.array([300]), r"holds 300, which is out of range"),
    ],
)
def test_first_observations_that_are_not_of_the_space(space: Any, obs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learn(env=lambda: Broken(space, obs, at_reset=True))


@pytest.mark.steps
@pytest.mark.parametrize(
    ("space", "obs", "message"),
    [
        (BOX, np.zeros(3, np.float32), r"an observation of environment 0.*shape \(3,\)"),
        (gym.spaces.Discrete(3), 3, r"an observation of environment 0.*holds 3.*out of range"),
    ],
)
def test_later_observations_that_are_not_of_the_space(space: Any, obs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learn(env=lambda: Broken(space, obs))


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise gym.error.DependencyNotInstalled("Box2D is not installed")

    monkeypatch.setattr(gym, "make", fails)
    monkeypatch.setattr(registry, "sys", SimpleNamespace(version_info=(3, 13)))
    with pytest.raises(ValueError, match=r"LunarLander-v3.*pip install 'ppo2\[box2d\]'"):
        learn(env="LunarLander-v3")
    monkeypatch.setattr(registry, "sys", SimpleNamespace(version_info=(3, 14)))
    with pytest.raises(ValueError, match=r"LunarLander-v3.*none for Python 3\.14 yet: use Python 3\.13"):
        learn(env="LunarLander-v3")


# --- checkpoints


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn(total_timesteps=0).save(tmp_path_factory.mktemp("saved") / "model.safetensors")


def test_an_empty_directory_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no checkpoint in .*expected files such as"):
        learn(load_path=tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "pickle", "empty", "text"])
def test_damaged_and_foreign_files(tmp_path: Path, saved: Path, damage: str) -> None:
    data = saved.read_bytes()
    wrong = {
        "cut": data[: len(data) // 2],
        "flipped": bytes([data[0] ^ 255]) + data[1:],
        "pickle": pickle.dumps({"weights": [1.0]}),
        "empty": b"",
        "text": b"not a checkpoint at all, but long enough for a header",
    }[damage]
    path = tmp_path / "model.safetensors"
    path.write_bytes(wrong)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged, or is no checkpoint"):
        learn(load_path=path)


def test_a_checkpoint_of_another_environment(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"another observation space: expected Box\(.*3,\).*found Box\(.*4,\)"):
        learn(env="Pendulum-v1", load_path=saved)


def test_a_failed_run_leaves_what_was_saved(tmp_path: Path, saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(ValueError, match="lr"):
        learn(load_path=saved, run_dir=tmp_path / "run", lr=-1)
    assert saved.read_bytes() == before
    assert not (tmp_path / "run").exists()
