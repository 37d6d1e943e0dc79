"""Warnings before the first update."""

import functools
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import numpy as np
import pytest
from gymnasium import spaces

import ppo2
from ppo2.agent.policy import build_policy
from ppo2.config import Config
from ppo2.system import processors
from ppo2.training import remarks
from support.device_envs import good
from support.environments import Spaced
from support.places import fake_card
from support.runs import learn

BOX = spaces.Box(-1, 1, (2,))


def said(capsys: pytest.CaptureFixture[str], env: Any, **more: Any) -> list[str]:
    """Warnings of an untrained model."""
    learn(env=env, num_envs=None, total_timesteps=0, **more)
    captured = capsys.readouterr()
    return [line for line in (captured.out + captured.err).splitlines() if line.startswith("warning: ")]


def bounded(low: Any, high: Any, shape: tuple[int, ...] = (2,), dtype: Any = np.float32) -> Any:
    return spaces.Box(low, high, shape, dtype)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (bounded(100, 1000), "bounds [100, 1000]"),
        (bounded(20, 30), "100% of its actions are clipped"),
        (bounded(0, 255), "reaches 1.2% of that range"),
        (bounded(-3000, -1), "bounds [-3000, -1]"),
        (bounded(-0.01, 0.01), "99% of its actions are clipped"),
        (bounded(20, 30, (), np.float64), 'action_dist="squashed_gaussian"'),
        (bounded(np.array([-1, 100], np.float32), np.array([1, 200], np.float32)), "bounds [100, 200]"),
        (bounded(50, np.inf), "TransformAction"),
        (spaces.Dict({"steer": BOX, "gear": spaces.Tuple([bounded(20, 30)])}), "the actions ('gear/0')"),
    ],
    ids=str,
)
def test_bounds_out_of_reach(capsys: pytest.CaptureFixture[str], space: Any, words: str) -> None:
    env = Spaced(BOX, space)
    (line,) = said(capsys, env)
    assert words in line
    if space.__class__ is spaces.Box and space.is_bounded():
        assert not said(capsys, env, action_dist="squashed_gaussian")


@pytest.mark.parametrize(
    "space",
    [
        BOX,
        bounded(-2, 2),
        bounded(0, 1),
        bounded(-0.4, 0.4),
        bounded(-10, 10),
        bounded(0, np.inf),
        bounded(-np.inf, np.inf),
        spaces.Discrete(300, start=100),
    ],
    ids=str,
)
def test_bounds_within_reach(capsys: pytest.CaptureFixture[str], space: Any) -> None:
    assert not said(capsys, Spaced(BOX, space))


def test_a_precision_that_is_not_had_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    env = Spaced(BOX, BOX)
    with jax.default_device("cpu"):
        (line,) = said(capsys, env, precision="tf32")
    assert "`precision` (='tf32') changes nothing on the CPU" in line
    monkeypatch.setattr(processors, "lacks_bfloat16_tiles", lambda: True)
    with jax.default_device("cpu"):
        (line,) = said(capsys, env, precision="bf16")
    assert "slower than 'float32' on this processor, which has no AMX" in line
    monkeypatch.setattr(processors, "lacks_bfloat16_tiles", lambda: False)
    assert not said(capsys, env, precision="bf16")
    fake_card(monkeypatch)
    assert not said(capsys, env, precision="tf32", device="gpu")
    assert len(said(capsys, env, precision="tf32")) == 1  # so little is learned on the CPU

    def mlp(num_hidden: int) -> Any:
        return lambda input_shape, *, key: eqx.nn.MLP(*input_shape, num_hidden, num_hidden, 1, key=key)

    (line,) = said(capsys, env, precision="bf16", network=mlp)
    assert "reaches the networks of this library; MLP makes its own products" in line
    own = ppo2.networks.recurrent(mlp, "gru")
    (line,) = said(capsys, env, precision="bf16", network=own)
    assert "; MLP makes its own products" in line
    assert not said(capsys, env, precision="float32", network=own)


def test_a_trained_policy_is_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    env = Spaced(BOX, bounded(20, 30))
    model = learn(env=env, num_envs=None, total_timesteps=0)
    capsys.readouterr()
    assert not said(capsys, env, load_path=model)


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(0, 255, (8, 8, 1), np.uint8)], ids=str)
def test_nothing_to_normalise(capsys: pytest.CaptureFixture[str], space: Any) -> None:
    (line,) = said(capsys, Spaced(space, spaces.Discrete(2)), normalize_obs=True)
    assert "`normalize_obs` (=True) changes nothing" in line
    assert not said(capsys, Spaced(spaces.Box(0, 9, (3,), np.uint8), spaces.Discrete(2)), normalize_obs=True)


@pytest.mark.parametrize(
    ("shape", "given", "remedy"),
    [
        ((36, 36, 3), {}, "'cnn'"),
        ((20, 24), {"value_network": "copy"}, "'cnn_small'"),
        ((36, 36, 3), {"network": "lstm", "nlstm": 4}, "'cnn_lstm'"),
        ((20, 20, 3), {"network": "lstm", "nlstm": 4}, "'cnn_small'"),
        ((19, 19, 3), {}, None),  # too small for a convolutional network of ours
        ((36, 36, 3), {"network": "cnn_small"}, None),
    ],
)
def test_an_image_that_is_flattened(
    shape: tuple[int, ...], given: dict[str, Any], remedy: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hidden layer of 4 has (36 * 36 * 3 + 1) * 4 parameters and a few more."""
    env = Spaced(spaces.Box(0, 255, shape, np.uint8), spaces.Discrete(2))
    small = {} if "network" in given else {"num_layers": 1, "num_hidden": 4}
    ppo2.learn(env=env, total_timesteps=0, **given, **small)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(lines) == (remedy is not None)
    if remedy is not None:
        assert f"network={remedy}" in lines[0]
    if given == {} and remedy is not None:
        assert "3,888 numbers" in lines[0]
        assert f"{(3888 + 1) * 4 + (4 + 1) * 2 + (4 + 1):,} parameters" in lines[0]


def test_images_of_a_dict_that_are_flattened(capsys: pytest.CaptureFixture[str]) -> None:
    tiny, floats = spaces.Box(0, 255, (9, 9, 3), np.uint8), spaces.Box(0, 1, (24, 24, 3))
    grey = spaces.Box(0, 255, (24, 24), np.uint8)
    env = Spaced(spaces.Dict({"tiny": tiny, "floats": floats, "grey": grey, "arm": BOX}), spaces.Discrete(2))
    lines = said(capsys, env)
    assert [line.split("'")[1] for line in lines] == ["floats", "tiny"]  # the grey one gets a CNN
    assert "encoders={'floats': \"cnn_small\"}" in lines[0]
    assert "too small for `cnn_small`" in lines[1]
    assert [line.split("'")[1] for line in said(capsys, env, encoders={"floats": "cnn_small"})] == ["tiny"]


def cartpole(*wrappers: Any) -> gym.Env[Any, Any]:
    env = gym.make("CartPole-v1")
    for wrap in wrappers:
        env = wrap(env)
    return env


OBS, REWARD = gym.wrappers.NormalizeObservation, gym.wrappers.NormalizeReward


@pytest.mark.parametrize(
    "make",
    [
        lambda: cartpole(OBS),
        lambda: functools.partial(cartpole, OBS),
        lambda: gym.vector.SyncVectorEnv([functools.partial(cartpole, OBS)] * 2),
        lambda: gym.wrappers.vector.NormalizeObservation(gym.make_vec("CartPole-v1", num_envs=2)),
    ],
    ids=["instance", "factory", "inside a vector", "around a vector"],
)
def test_statistics_of_wrappers_are_not_saved(capsys: pytest.CaptureFixture[str], make: Any) -> None:
    (line,) = said(capsys, make())
    assert "a wrapper NormalizeObservation, whose statistics are not saved" in line
    assert "`normalize_obs=True`" in line


def test_wrappers_in_other_processes_are_known_by_their_descriptions() -> None:
    class Elsewhere(gym.vector.AsyncVectorEnv):
        def __init__(self) -> None:
            self.closed = True

        def get_attr(self, name: str) -> tuple[Any, ...]:
            return (getattr(cartpole(OBS), name),) * 2

    assert ["NormalizeObservation" in line for line in remarks._normalisers(Elsewhere())] == [True]


def test_each_wrapper_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, functools.partial(cartpole, OBS, gym.wrappers.TimeAwareObservation, REWARD))
    assert ["normalize_obs" in lines[0], "normalize_rewards" in lines[1]] == [True, True]
    assert len(lines) == 2


def test_classes_inside_are_found_wherever_they_are() -> None:
    class VecNormalize:
        venv = None

    class Outer:
        env = VecNormalize()

    assert [remarks.VEC_NORMALIZE in line for line in remarks._normalisers(Outer())] == [True]  # type: ignore[arg-type]
    loop: Any = Outer()
    loop.env = loop
    assert not list(remarks._normalisers(loop))


def test_make_has_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    env = ppo2.make("Pendulum-v1", num_envs=2, workers=0)
    assert not said(capsys, env, normalize_obs=True)
    env.close()


def test_a_sweep_says_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    env = good(action_space=bounded(20, 30))
    ppo2.sweep(env=env, network="mlp", num_hidden=4, num_envs=2, nsteps=4, total_timesteps=8, seed=[0, 1])
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("bounds [20, 30]") == 1


def test_older_models_have_no_statistics_of_integers() -> None:
    config, box = Config(normalize_obs=True), spaces.Box(0, 9, (3,), np.int32)
    policy = build_policy(box, spaces.Discrete(2), encoding=1, key=jax.random.key(0))
    model = ppo2.Model(policy=policy, config=config, key=jax.random.key(0))
    (line,) = remarks.at_start(config, model, Spaced(box, spaces.Discrete(2)), fresh=False)
    assert "it has statistics of a Box of floats" in line
