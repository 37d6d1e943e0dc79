"""Every action space from `learn` to a saved file: what environments get, what is learned from, what comes back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2 import spaces
from ppo2.agent.model import Model
from ppo2.algorithm.rollout import Rollout
from ppo2.config import ActionDist
from ppo2.distributions import action_distribution
from ppo2.envs import DeviceVector
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.evaluation.evaluate import run_episodes
from support.environments import Spaced, vector

pytestmark = pytest.mark.usefixtures("quickly_compiled")

OBS = Box(-1.0, 1.0, (3,))
NESTED = Dict(
    {
        "turn": Discrete(3, start=-1),
        "arm": Tuple([Box(-2, 2, (2, 1), np.float64), MultiDiscrete([2, 3], start=[5, 0])]),
        "lamps": MultiBinary(2),
        "speed": Box(0, 1, ()),
    }
)
ACTIONS = [
    pytest.param(NESTED, "gaussian", id="nested"),
    pytest.param(NESTED, "squashed_gaussian", id="nested-squashed"),
    pytest.param(Tuple([Discrete(2), Box(-1, 1, (2,))]), "gaussian", id="tuple"),
    pytest.param(Box(-1, 3, (2,)), "squashed_gaussian", id="box-squashed"),
]
SMALL: dict[str, Any] = {
    "network": "mlp",
    "num_hidden": 8,
    "nsteps": 8,
    "total_timesteps": 3 * 2 * 8,
    "ent_coef": 0.01,
    "seed": 1,
}


@dataclass(frozen=True)
class OnDevice:
    """Sees its last action, side by side; the reward is the sum of it; over after 5 steps."""

    action_space: Any

    @property
    def observation_space(self) -> Any:
        size = sum(np.size(x) for x in jax.tree.leaves(self.action_space.sample()))
        return Box(-np.inf, np.inf, (size,))

    def reset(self, key: Any) -> Any:
        return jnp.int32(0), jnp.zeros(self.observation_space.shape)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        obs = jnp.concatenate([jnp.ravel(x).astype(jnp.float32) for x in jax.tree.leaves(action)])
        return state + 1, obs, obs.sum(), state + 1 >= 5, False, {}


class Keeping(Model):
    """A model that keeps the rollouts that it learned from."""

    rollouts: list[Rollout]

    def train(self, rollout: Rollout, **settings: Any) -> Any:
        self.rollouts = [*getattr(self, "rollouts", []), rollout]
        return super().train(rollout, **settings)


def assert_same(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def check_answers(model: Model, space: Any, tmp_path: Path) -> None:
    """Saved and loaded, the model answers alike, with members of the space."""
    obs = np.random.default_rng(0).normal(size=(4, *model.observation_space.shape)).astype(np.float32)
    loaded = ppo2.load(model.save(tmp_path / "model.safetensors"), model_fn=type(model))
    assert loaded.distribution == model.distribution
    for deterministic in (True, False):
        one, batch = (model.predict(x, deterministic=deterministic)[0] for x in (obs[0], obs))
        again = [loaded.predict(x, deterministic=deterministic)[0] for x in (obs[0], obs)]
        assert_same([one, batch], again)
        assert space.contains(one)
        assert all(space.contains(each) for each in spaces.separate(space, batch))
    actions, values, _, neglogpacs = model.step(obs)
    assert gym.vector.utils.batch_space(space, 4).contains(actions)
    assert values.shape == neglogpacs.shape == (4,)
    assert np.all(np.isfinite(neglogpacs))
    one, _, _, neglogpac = model.step(obs[0])
    assert space.contains(one)
    assert neglogpac.shape == ()


@pytest.mark.parametrize(
    ("space", "action_dist"),
    [*ACTIONS[2:], *(pytest.param(*one.values, id=one.id, marks=pytest.mark.slow) for one in ACTIONS[:2])],
)
def test_on_the_host(space: Any, action_dist: ActionDist, tmp_path: Path) -> None:
    env = vector(lambda: Spaced(OBS, space), lambda: Spaced(OBS, space), mode=AutoresetMode.SAME_STEP)
    if space is NESTED:  # its Box of rank 0 Gymnasium's own vectors hand on as a number
        env = HostVectorEnv([lambda: Spaced(OBS, space)] * 2)
    model = ppo2.learn(env=env, model_fn=Keeping, action_dist=action_dist, **SMALL)
    assert isinstance(model, Keeping)
    assert len(model.rollouts) == 3
    # what the environments were sent is what was sampled, converted
    for i, one in enumerate(env.envs):
        sampled = [jax.tree.map(lambda x: np.asarray(x[:, i]), rollout.actions) for rollout in model.rollouts]  # noqa: B023
        convert = action_distribution(space, action_dist).to_environment
        sent = [each for part in sampled for each in spaces.separate(space, convert(part))]
        assert_same(one.actions, sent)
    check_answers(model, space, tmp_path)
    assert ppo2.evaluate(model, lambda: Spaced(OBS, space), episodes=3).lengths.tolist() == [5, 5, 5]


@pytest.mark.parametrize(
    ("space", "action_dist"), [pytest.param(*ACTIONS[1].values, id=ACTIONS[1].id, marks=pytest.mark.slow), ACTIONS[2]]
)
def test_on_the_device(space: Any, action_dist: ActionDist, tmp_path: Path) -> None:
    env = OnDevice(space)
    model = ppo2.learn(env=env, num_envs=2, action_dist=action_dist, **SMALL)
    assert int(model.state.counters.updates) == 3
    runner = ppo2.DeviceRunner(env=env, num_envs=2, model=model, nsteps=8, gamma=0.99, lam=0.95)
    rollout = jax.tree.map(np.asarray, runner.run())
    # what the environment saw of its action is what was sampled, converted
    flat = jax.tree.map(lambda x: x.reshape(16, *x.shape[2:]), rollout.actions)
    leaves = [x.reshape(8, 2, -1) for x in jax.tree.leaves(model.distribution.to_environment(flat))]
    sent = np.concatenate(leaves, axis=-1).astype(np.float32)
    np.testing.assert_allclose(rollout.rewards, sent.sum(-1), rtol=1e-5, atol=1e-5)
    assert np.all(np.isfinite(rollout.logp))
    check_answers(model, space, tmp_path)
    evaluation = run_episodes(model, DeviceVector(env, 2), episodes=2, deterministic=True, seed=0)
    assert evaluation.lengths.tolist() == [5, 5]


@pytest.mark.parametrize("squash", [False, True])
def test_deterministic_evaluation_on_the_device_sends_the_mode(squash: bool) -> None:
    """The same first action for all, as the first observation is: its reward on host and device."""
    env = OnDevice(Box(2, 3, (1,)))
    action_dist: ActionDist = "squashed_gaussian" if squash else "gaussian"
    model = ppo2.learn(env=env, num_envs=2, action_dist=action_dist, **SMALL | {"total_timesteps": 0})
    total, obs = 0.0, np.zeros(1, np.float32)
    for _ in range(5):
        obs = model.predict(obs)[0]
        total += float(obs.sum())
    # untrained, the mean is near 0: at the lower bound if clipped, in the middle if squashed
    assert total / 5 == pytest.approx(2.5 if squash else 2, abs=0.05)
    evaluation = ppo2.evaluate(model, env, episodes=2)
    np.testing.assert_allclose(evaluation.returns, total, rtol=1e-5)


@pytest.mark.parametrize(("action_dist", "expected"), [("gaussian", 2), ("squashed_gaussian", 2.5)])
def test_evaluation_on_the_host_sends_the_mode(action_dist: ActionDist, expected: float) -> None:
    """The same on the host: the lower bound if clipped, the middle if squashed."""
    env = Spaced(OBS, Box(2, 3, (1,)))
    model = ppo2.learn(env=env, action_dist=action_dist, **SMALL | {"total_timesteps": 0})
    ppo2.evaluate(model, env, episodes=1)
    np.testing.assert_allclose(env.actions, np.full((5, 1), expected), atol=0.05)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_gymnasiums_vectors_take_batches_of_parts(mode: AutoresetMode) -> None:
    space = Dict({"a": Discrete(3, start=1), "b": Tuple([Box(-1, 1, (2,)), MultiDiscrete([2, 2])])})
    env = vector(lambda: Spaced(OBS, space), lambda: Spaced(OBS, space), mode=mode)
    model = ppo2.learn(env=env, **SMALL)
    assert int(model.state.counters.updates) == 3


def test_a_squashed_policy_learns_where_to_be() -> None:
    """Reward -(a - 1.5)^2, bounds 0 and 2: the mode ends near 1.5."""

    @dataclass(frozen=True)
    class Target:
        observation_space = Box(-1.0, 1.0, (1,))
        action_space = Box(0.0, 2.0, (1,))

        def reset(self, key: Any) -> Any:
            return jnp.zeros(()), jnp.zeros(1)

        def step(self, state: Any, action: Any, key: Any) -> Any:
            return state, jnp.zeros(1), -((action[0] - 1.5) ** 2), True, False, {}

    model = ppo2.learn(
        network="mlp",
        env=Target(),
        num_envs=16,
        nsteps=16,
        total_timesteps=40 * 256,
        lr=3e-3,
        num_hidden=16,
        action_dist="squashed_gaussian",
        seed=0,
    )
    assert float(model.predict(np.zeros(1, np.float32))[0][0]) == pytest.approx(1.5, abs=0.15)


def test_only_gaussians_have_a_parameter_of_their_own(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    found = {}
    for name, space, action_dist in (
        ("box", Box(-1, 1, (2, 2)), "gaussian"),
        ("nested", NESTED, "gaussian"),
        ("squashed", NESTED, "squashed_gaussian"),
    ):
        model = ppo2.learn(
            env=lambda: Spaced(OBS, space),  # noqa: B023
            num_envs=2,
            action_dist=action_dist,
            **SMALL | {"total_timesteps": 0},
        )
        found[name] = load_file(model.save(tmp_path / f"{name}.safetensors"))
    assert found["box"]["params/log_std"].shape == (4,)
    assert found["nested"]["params/log_std"].shape == (3,)
    assert "params/log_std" not in found["squashed"]


def test_an_unbounded_box_cannot_be_squashed() -> None:
    def env() -> Spaced:
        return Spaced(OBS, Box(-np.inf, 1, (1,)))

    with pytest.raises(ValueError, match=r"^`action_dist` \(='squashed_gaussian'\) needs finite bounds"):
        ppo2.learn(env=env, num_envs=2, action_dist="squashed_gaussian", **SMALL)


def test_a_run_from_before_action_dist_can_go_on(tmp_path: Path) -> None:
    import json

    settings: dict[str, Any] = {**SMALL, "env": "CartPole-v1", "num_envs": 2, "run_dir": tmp_path}
    ppo2.learn(**settings, update_fn=lambda update: update < 2)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("action_dist") == "gaussian"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert int(ppo2.learn(**settings, load_path=tmp_path).state.counters.updates) == 3


def test_play_takes_members_of_the_space() -> None:
    from ppo2.evaluation.play import play

    env = Spaced(OBS, NESTED)
    model = ppo2.learn(env=lambda: Spaced(OBS, NESTED), num_envs=2, **SMALL | {"total_timesteps": 0})
    assert play(model, env, episodes=2).lengths.tolist() == [5, 5]
    assert len(env.actions) == 10
