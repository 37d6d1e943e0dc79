"""The runner of host environments: every autoreset mode, truncation, invalid steps, episodes, continuing."""

import itertools
from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from ppo2.agent.model import Model
from ppo2.agent.policy import build_policy
from ppo2.algorithm.update import batch_of
from ppo2.config import Config
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.numerics.randomness import root_key
from ppo2.runners.host import Runner
from support.environments import Script, Spaced, vector

pytestmark = pytest.mark.usefixtures("quickly_compiled")

MODES = list(AutoresetMode)


def make_model(env: Any, **settings: Any) -> Model:
    config = Config(num_envs=env.num_envs, **settings)
    policy = build_policy(
        env.single_observation_space,
        env.single_action_space,
        network="mlp",
        network_kwargs={"num_hidden": 8},
        value_network="copy",
        key=root_key(1),
    )
    return Model(policy=policy, config=config, key=root_key(1))


def make_runner(env: Any, nsteps: int, **settings: Any) -> Runner:
    model = make_model(env, nsteps=nsteps, nminibatches=1, **settings)
    return Runner(env=env, model=model, nsteps=nsteps, gamma=0.9, lam=0.8)


def values_of(model: Model, *obs: float) -> Any:
    return model.value(np.array(obs, np.float32)[:, None])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_a_rollout_across_an_episodes_end(mode: AutoresetMode, end: str) -> None:
    """Episodes of 3 steps, rollout of 5: observations 0, 1, 2, then either the next episode or a step that resets."""
    env = vector(lambda: Script(3, end), mode=mode)
    runner = make_runner(env, nsteps=5)
    v = values_of(runner.model, 0, 1, 2, 3)
    rollout = jax.tree.map(np.asarray, runner.run())
    ended = [False, False, True, False, False]
    next_step = mode is AutoresetMode.NEXT_STEP
    # NEXT_STEP: the final observation 3 is acted on, and that step only resets; nothing of it is kept.
    expected_obs = [0, 1, 2, 0, 0] if next_step else [0, 1, 2, 0, 1]
    np.testing.assert_array_equal(rollout.obs[:, 0, 0], expected_obs)
    np.testing.assert_array_equal(rollout.valid[:, 0], [True, True, True, not next_step, True])
    np.testing.assert_array_equal((rollout.terminated | rollout.truncated)[:, 0], ended)
    np.testing.assert_array_equal(rollout.terminated[:, 0], ended if end == "terminated" else [False] * 5)
    np.testing.assert_array_equal(rollout.rewards[:, 0], [1, 2, 3, 0, 1] if next_step else [1, 2, 3, 1, 2])
    # V of the true next observation, 3 at the episode's end; behind a step that resets it is V of the first one.
    expected_next = [v[1], v[2], v[3], v[0], v[1]] if next_step else [v[1], v[2], v[3], v[1], v[2]]
    looked_at = ~rollout.terminated[:, 0]
    np.testing.assert_allclose(rollout.next_values[looked_at, 0], np.array(expected_next)[looked_at], rtol=1e-5)
    expected_values = np.where(rollout.valid[:, 0], [v[int(o)] for o in expected_obs], 0.0)
    np.testing.assert_allclose(rollout.values[:, 0], expected_values, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_the_rollouts_last_step_bootstraps_rightly(mode: AutoresetMode, end: str) -> None:
    """The episode ends at the very last step of the rollout."""
    env = vector(lambda: Script(3, end), lambda: Script(5, end), mode=mode)
    runner = make_runner(env, nsteps=3)
    v = values_of(runner.model, 0, 1, 2, 3)
    rollout = jax.tree.map(np.asarray, runner.run())
    assert rollout.next_values[2, 1] == pytest.approx(v[3], rel=1e-5)  # running: V of what comes next
    if end == "truncated":
        assert rollout.next_values[2, 0] == pytest.approx(v[3], rel=1e-5)  # cut short: V of the final observation
    assert bool(rollout.truncated[2, 0]) == (end == "truncated")


@pytest.mark.parametrize("mode", MODES)
def test_episodes_are_counted_over_rollouts(mode: AutoresetMode) -> None:
    """Returns 1 + 2 + 3 = 6 and 1 + 2 + 3 + 4 = 10, whatever the rollout's length and the way of resetting."""
    env = vector(lambda: Script(3), lambda: Script(4, "truncated"), mode=mode)
    runner = make_runner(env, nsteps=5)
    episodes = []
    for _ in range(4):
        runner.run()
        episodes += runner.ended().rows
    assert {(e.r, e.l) for e in episodes if e.env == 0} == {(6.0, 3)}
    assert {(e.r, e.l) for e in episodes if e.env == 1} == {(10.0, 4)}
    # 20 steps: 6 episodes of 3 steps, or 5 of 3 steps and one that resets
    assert len([e for e in episodes if e.env == 0]) == (5 if mode is AutoresetMode.NEXT_STEP else 6)
    assert all(a.t <= b.t for a, b in itertools.pairwise(episodes))


def test_goes_on_where_the_last_call_stopped() -> None:
    env = vector(lambda: Script(100), mode=AutoresetMode.SAME_STEP)
    runner = make_runner(env, nsteps=4)
    first, second = runner.run(), runner.run()
    np.testing.assert_array_equal(np.asarray(first.obs)[:, 0, 0], [0, 1, 2, 3])
    np.testing.assert_array_equal(np.asarray(second.obs)[:, 0, 0], [4, 5, 6, 7])  # and `first` is still there
    assert not np.array_equal(np.asarray(first.logp), np.asarray(second.logp))


def test_running_returns_carry_over() -> None:
    """Rewards 1, 2, 3 discounted by 0.9: before the second rollout of 3 steps, (1 * 0.9 + 2) * 0.9 + 3 = 5.61."""
    env = vector(lambda: Script(100), mode=AutoresetMode.SAME_STEP)
    runner = make_runner(env, nsteps=3)
    assert np.asarray(runner.run().running_returns).tolist() == [0.0]
    assert float(runner.run().running_returns[0]) == pytest.approx(5.61)


def test_a_short_run_is_valid_only_so_far() -> None:
    env = vector(lambda: Script(100), mode=AutoresetMode.SAME_STEP)
    rollout = make_runner(env, nsteps=6).run(steps=4)
    np.testing.assert_array_equal(np.asarray(rollout.valid)[:, 0], [True] * 4 + [False] * 2)


@pytest.mark.parametrize("mode", MODES)
def test_autoreset_modes_learn_the_same(mode: AutoresetMode) -> None:
    """Without truncation the valid steps of one episode are the same under each mode, and so are their advantages."""
    env = vector(lambda: Script(3), mode=mode)
    runner = make_runner(env, nsteps=3)
    rollout = runner.run()
    batch = batch_of(rollout, runner.model.advantages(runner.model.state.normaliser, rollout))
    v = values_of(runner.model, 0, 1, 2)
    d = [1 + 0.9 * v[1] - v[0], 2 + 0.9 * v[2] - v[1], 3 - v[2]]
    expected = [d[0] + 0.72 * (d[1] + 0.72 * d[2]), d[1] + 0.72 * d[2], d[2]]
    np.testing.assert_allclose(np.asarray(batch.advantages)[:, 0], expected, rtol=1e-4)


def test_the_first_minibatchs_ratio_is_one() -> None:
    """Learning computes the figures of acting again: same statistics, same parameters."""
    env = vector(*[lambda: Script(3)] * 4, mode=AutoresetMode.SAME_STEP)
    runner = make_runner(env, nsteps=8, normalize_obs=True)
    model = runner.model
    model.observe(runner.run())
    rollout = runner.run()
    obs = rollout.obs.reshape(-1, 1)
    now = model.policy.evaluate(model.state.normaliser, obs, rollout.actions.reshape(-1))
    np.testing.assert_allclose(np.asarray(now.logp), np.asarray(rollout.logp).ravel(), atol=1e-6)
    np.testing.assert_allclose(np.asarray(now.values), np.asarray(rollout.values).ravel(), atol=1e-5)


def test_box_actions_are_clipped_only_for_the_environment() -> None:
    space = gym.spaces.Box(-0.1, 0.1, (2, 1))
    env = vector(lambda: Spaced(gym.spaces.Box(-1, 1, (3,)), space), mode=AutoresetMode.SAME_STEP)
    rollout = make_runner(env, nsteps=16).run()
    sent = np.array(env.envs[0].unwrapped.actions)
    kept = np.asarray(rollout.actions)
    assert sent.shape == (16, 2, 1)
    assert kept.shape == (16, 1, 2)
    assert np.abs(kept).max() > 0.1
    np.testing.assert_array_equal(sent, np.clip(kept.reshape(16, 2, 1), -np.float32(0.1), np.float32(0.1)))


def test_environments_with_a_vector_of_their_own() -> None:
    """Gymnasium's CartPole steps all its environments in one call, takes one seed and resets at the next step."""
    env = gym.make_vec("CartPole-v1", num_envs=3, vectorization_mode="vector_entry_point")
    runner = make_runner(env, nsteps=64)
    rollout = runner.run()
    ended = np.asarray(rollout.terminated | rollout.truncated)
    valid = np.asarray(rollout.valid)
    np.testing.assert_array_equal(valid[1:], ~ended[:-1])
    assert ended.any()


def test_gymnasiums_asynchronous_vector() -> None:
    # spawned: a fork of a process that runs JAX may hang
    env = gym.vector.AsyncVectorEnv(
        [lambda: Script(3)] * 2, autoreset_mode=AutoresetMode.SAME_STEP, context="spawn", shared_memory=True
    )
    try:
        rollout = make_runner(env, nsteps=4).run()
        np.testing.assert_array_equal(np.asarray(rollout.obs)[:, 0, 0], [0, 1, 2, 0])
    finally:
        env.close()


class InPlace(Script):
    """Always returns the same array."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.buffer = np.zeros(1, np.float32)

    def _obs(self) -> Any:
        self.buffer[:] = self.offset + self.t
        return self.buffer


def test_final_observations_that_the_environment_overwrites() -> None:
    env = HostVectorEnv([lambda: InPlace(3, "truncated")], copy=False)
    runner = make_runner(env, nsteps=5)
    v = values_of(runner.model, 0, 1, 2, 3)
    np.testing.assert_allclose(np.asarray(runner.run().next_values)[:, 0], [v[1], v[2], v[3], v[1], v[2]], rtol=1e-5)


class Loose(SyncVectorEnv):
    """A user's own: flags as whole numbers, rewards as lists, buffers used again, and observations of another dtype."""

    def step(self, actions: Any) -> Any:
        obs, rewards, terminated, truncated, infos = super().step(actions)
        return obs.astype(np.float64), rewards.tolist(), terminated.astype(np.uint8), truncated.tolist(), infos


@pytest.mark.parametrize("mode", MODES)
def test_a_users_vector_environment_of_loose_types(mode: AutoresetMode) -> None:
    strict, loose = (
        make_runner(kind([lambda: Script(3, "truncated")] * 2, autoreset_mode=mode), nsteps=7)
        for kind in (SyncVectorEnv, Loose)
    )
    for a, b in zip(jax.tree.leaves(strict.run()), jax.tree.leaves(loose.run()), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert strict.ended().rows[0][:2] == loose.ended().rows[0][:2]


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda obs: obs[:, :1].repeat(2, 1), r"shape \(2, 2\)"), (lambda obs: obs.astype(str), "real numbers")],
)
def test_a_users_vector_environment_of_wrong_observations(change: Any, message: str) -> None:
    class Wrong(SyncVectorEnv):
        def step(self, actions: Any) -> Any:
            obs, *rest = super().step(actions)
            return change(obs), *rest

    runner = make_runner(Wrong([lambda: Script(3)] * 2), nsteps=4)
    with pytest.raises(ValueError, match=rf"an observation of `env`.*{message}"):
        runner.run()


def test_running_returns_after_a_short_run() -> None:
    """Rewards 1, 2 over the two steps made: 1 * 0.9 + 2 = 2.9, whatever room was left in the rollout."""
    env = vector(lambda: Script(100), mode=AutoresetMode.SAME_STEP)
    runner = make_runner(env, nsteps=50)
    runner.run(steps=2)
    assert float(runner.run().running_returns[0]) == pytest.approx(2.9)


def test_whatever_stands_in_a_step_that_was_no_experience() -> None:
    """A simulation that blew up: its last observation is NaN, and NEXT_STEP shows it to the policy once more."""

    class Blown(Script):
        def _obs(self) -> Any:
            return super()._obs() * (np.nan if self.t == self.length else 1.0)

    env = vector(*[lambda: Blown(3)] * 2, mode=AutoresetMode.NEXT_STEP)
    runner = make_runner(env, nsteps=8, normalize_obs=True, normalize_rewards=True)
    for _ in range(2):
        assert int(runner.model.train(runner.run(), lr=1e-3, cliprange=0.2).fault) == 0


def test_a_masked_reset_that_clears_what_the_step_gave() -> None:
    class Clearing(SyncVectorEnv):
        def step(self, actions: Any) -> Any:
            obs, rewards, terminated, truncated, infos = super().step(actions)
            self.given = (rewards, terminated, truncated)
            return obs, rewards, terminated, truncated, infos

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            for part in getattr(self, "given", ()):
                part[:] = 0
            return super().reset(seed=seed, options=options)

    runner = make_runner(Clearing([lambda: Script(3)], autoreset_mode=AutoresetMode.DISABLED), nsteps=4)
    rollout = runner.run()
    np.testing.assert_array_equal(np.asarray(rollout.rewards)[:, 0], [1, 2, 3, 1])
    np.testing.assert_array_equal(np.asarray(rollout.terminated)[:, 0], [False, False, True, False])
    assert [episode[:2] for episode in runner.ended().rows] == [(6.0, 3)]
