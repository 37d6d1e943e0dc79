"""Construction of vector environments: notices and errors."""

import functools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers.vector import DictInfoToList

import ppo2
from ppo2.envs.construction import inherited, resolve
from support.adapters import needs
from support.environments import Script
from support.host_envs import Counting


class Tuned(Script):
    """Has arguments of the names of ours; observations of their values."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))

    def __init__(self, frame_stack: int = 7, backend: str = "none", length: int = 3) -> None:
        super().__init__(length)
        self.values = [frame_stack, len(backend)]

    def _obs(self) -> Any:
        return np.array(self.values, np.float32)


def test_make_prints_which_processes_step(capsys: pytest.CaptureFixture[str]) -> None:
    ppo2.make("CartPole-v1", num_envs=3, workers=0).close()
    ppo2.make("CartPole-v1", num_envs=3, workers=1).close()
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "ppo2: 3 x CartPole-v1, stepped by this process",
        "ppo2: 3 x CartPole-v1, stepped by this process and 1 worker",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_episode_steps": 0}, r"`max_episode_steps` \(=0\) must be a whole number of at least 1"),
        ({"frame_stack": 1.5}, r"`frame_stack` \(=1.5\)"),
        ({"reward_scale": 0.0}, r"`reward_scale` \(=0.0\) must be a finite number that is not 0"),
        ({"workers": 8}, r"`workers` \(=8\) must be a whole number from 0 to 7"),
        (
            {"own_vector": True, "flatten": True},
            r"`flatten` \(=True\) applies to environments that are made one by one",
        ),
        (
            {"own_vector": True, "workers": 1},
            r"`workers` \(=1\) applies .*`env_id` \(='CartPole-v1', own_vector=True\)",
        ),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ppo2.make("CartPole-v1", **options)


def test_infos_in_lists_are_read_as_they_were_before() -> None:
    env = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    assert resolve(DictInfoToList(env)).env is env
    env.close()


def test_a_class_or_a_function_is_made_with_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    env = ppo2.make(
        Tuned, num_envs=3, seed=0, workers=1, info_keys=("x",), frame_stack=2, max_episode_steps=2, reward_scale=0.5,
        env_kwargs={"backend": "abc"}, length=9,
    )  # fmt: skip
    assert env.num_envs == 3
    obs, _ = env.reset()
    assert obs.tolist() == [[0, 0, 7, 3]] * 3
    env.step([0, 0, 0])
    _, rewards, terminated, truncated, infos = env.step([0, 0, 0])
    assert rewards.tolist() == [1.0] * 3
    assert truncated.all()
    assert not terminated.any()
    assert infos["episode"]["r"].tolist() == [3.0] * 3
    env.close()
    told = capsys.readouterr().err
    assert "`frame_stack` (=2) is taken as ppo2.make's own; Tuned has one too, which env_kwargs={'frame_stack'" in told
    assert "ppo2: 3 x Tuned, stepped by this process and 1 worker" in told
    made = ppo2.make(lambda: Counting(4), num_envs=2, workers=0)
    assert made.reset()[0][:, 1].tolist() == [4, 4]
    flat = ppo2.make(functools.partial(gym.make, "FrozenLake-v1"), num_envs=2, flatten=True, workers=0)
    assert flat.single_observation_space.shape == (16,)


def test_env_kwargs_reach_the_environment_whatever_they_are_called() -> None:
    env = ppo2.make(Tuned, num_envs=1, env_kwargs={"frame_stack": 4, "backend": "ab"}, backend="local")
    assert env.reset()[0].tolist() == [[4, 2]]
    gym.register("Tuned-v0", entry_point=Tuned)
    try:
        env = ppo2.make("Tuned-v0", num_envs=1, env_kwargs={"frame_stack": 5}, length=2)
        assert env.reset()[0].tolist() == [[5, 4]]
    finally:
        del gym.registry["Tuned-v0"]


def test_ours_is_told_where_an_environment_has_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    ppo2.make(Tuned, num_envs=1, frame_stack=2, env_kwargs={"frame_stack": 3})
    ppo2.make(Script, num_envs=1, frame_stack=2, length=1)
    assert capsys.readouterr().err == ""


@needs("brax")
def test_a_keyword_of_brax_goes_to_brax() -> None:
    for how in ({"backend": "spring"}, {"env_kwargs": {"backend": "spring"}}):
        assert repr(ppo2.make("brax:reacher", **how)) == "brax:reacher(backend='spring')"
    with pytest.raises(ValueError, match="`backend` is given twice: in `env_kwargs` and beside it"):
        ppo2.make("brax:reacher", backend="spring", env_kwargs={"backend": "mjx"})


class Timed(Script):
    def __init__(self) -> None:
        super().__init__(length=99)


@pytest.mark.parametrize(
    ("given", "how", "kind", "words"),
    [
        (Script(), {}, TypeError, r"is one environment that exists already; .*lambda: MyEnv\(\).*learn\(env=...\)"),
        (gym.vector.SyncVectorEnv([Script]), {}, TypeError, "is one vector environment that exists already"),
        (3, {}, TypeError, r"`env_id` \(=3\) must be an id, such as 'CartPole-v1', or a function or class"),
        (int, {}, TypeError, r"is a factory that gave 0; it must make a gymnasium.Env"),
        (Script, {"size": 3}, ValueError, r"^`size` \(=3\) doesn't fit `env_id`, Script\(.*'size'"),
        (Script, {"env_kwargs": {"size": 3}}, ValueError, r"^`env_kwargs` \(=\{'size': 3\}\) don't fit `env_id`, Scr"),
        (Script, {"env_kwargs": {"size": 3}, "length": 4}, ValueError, r"^`length` \(=4\), `env_kwargs` .*3\}\) don't"),
        ("CartPole-v1", {"size": 3}, ValueError, r"^`size` \(=3\): CartPole-v1 has no argument 'size'"),
        ("CartPole-v1", {"env_kwargs": {"size": 3}}, ValueError, r"^`env_kwargs` \(=\{'size': 3\}\): CartPole-v1"),
        (Script, {"env_kwargs": 3}, ValueError, r"`env_kwargs` \(=3\) must be a dict"),
        (Script, {"env_kwargs": {"length": 3}, "length": 4}, ValueError, "`length` is given twice"),
        (Script, {"own_vector": True}, ValueError, "own_vector"),
        (Script, {"backend": "dask"}, ValueError, r"`backend` \(='dask'\) must be 'local' or 'ray'"),
        (
            lambda: gym.wrappers.TimeLimit(Timed(), 5), {"max_episode_steps": 9}, ValueError,
            r"`max_episode_steps` \(=9\) is more than the 5 after which a TimeLimit",
        ),
        ("CartPole-v1", {"backend": "spring"}, ValueError, r"`backend` \(='spring'\) must be 'local' or 'ray'.*env_kw"),
    ],
)  # fmt: skip
def test_what_makes_no_environments_is_refused(given: Any, how: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        ppo2.make(given, num_envs=1, **how)


def test_env_id_is_an_argument_of_a_function_that_has_one() -> None:
    def make_env(env_id: str, size: int = 1) -> Any:
        return gym.make(env_id)

    made = resolve(make_env, 2, env_kwargs={"env_id": "CartPole-v1", "workers": 0})
    made.env.close()
    made = resolve(make_env, 2, env_kwargs={"env_id": "CartPole-v1"})
    assert made.env.single_observation_space.shape == (4,)
    made.env.close()


def test_a_function_is_the_same_by_its_name_where_a_file_names_it() -> None:
    kwargs = {"size": 5}
    assert inherited(Counting, Counting, kwargs) == kwargs
    assert inherited(Counting, {"object": "Counting"}, kwargs) == kwargs
    assert inherited(Counting, {"object": "Script"}, kwargs) == {}
    assert inherited(lambda: Counting(), {"object": "<lambda>"}, kwargs) == {}
    with pytest.raises(ValueError, match="that no file can hold"):
        inherited("CartPole-v1", "CartPole-v1", {"wrappers": [{"object": "Wrapper"}]})


def test_another_environment_inherits_what_it_takes() -> None:
    kwargs = {"is_slippery": False, "max_episode_steps": 5}
    assert inherited("FrozenLake8x8-v1", "FrozenLake-v1", kwargs) == kwargs
    assert inherited("CartPole-v1", "FrozenLake-v1", {"max_episode_steps": 5}) == {"max_episode_steps": 5}
    words = (
        r"^`env` \(='CartPole-v1'\) takes no `is_slippery` \(=False\), .* `env_kwargs`, \{\} for none \(--no-inherit"
    )
    with pytest.raises(ValueError, match=words):
        inherited("CartPole-v1", "FrozenLake-v1", kwargs)
    with pytest.raises(ValueError, match=r"^`eval_env` .* give `eval_env_kwargs`, \{\} for none\.$"):
        inherited("CartPole-v1", "FrozenLake-v1", kwargs, "eval_env")
