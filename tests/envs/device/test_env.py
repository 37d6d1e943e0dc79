"""Device environments: their members, time limits, types of what a step gives, and actions."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2 import spaces
from ppo2.distributions import action_distribution
from ppo2.envs import DeviceVector, TimeLimit, is_device_env, resolve
from ppo2.envs.device.check import check_device_env
from ppo2.envs.device.env import step_one
from ppo2.envs.host.vector import HostVectorEnv
from support.device_envs import Count, good, key, played
from support.environments import Script

# --- recognised --------------------------------------------------------------------------------------------------


def test_device_environments_are_recognised_by_their_members() -> None:
    assert is_device_env(Count())
    assert is_device_env(TimeLimit(Count(), 2))
    assert is_device_env(good())
    without = vars(good())
    for name in without:
        assert not is_device_env(SimpleNamespace(**{other: without[other] for other in without if other != name}))
    # Gymnasium's `reset(*, seed, options)` and `step(action)` take other arguments
    assert not is_device_env(good(reset=lambda: None))
    assert not is_device_env(good(reset=lambda *, seed=None: None))
    assert not is_device_env(good(step=lambda action: None))
    assert not is_device_env(good(step=3))


@pytest.mark.parametrize(
    "make", [Script, lambda: gym.make_vec("CartPole-v1", num_envs=2), lambda: Count], ids=["env", "vector", "class"]
)
def test_gymnasiums_environments_and_classes_are_no_device_environments(make: Any) -> None:
    assert not is_device_env(make())


def test_a_class_is_a_factory() -> None:
    for env, num_envs, count in ((Count, None, 8), (Count, 3, 3), (Count(), 5, 5), (lambda: Count(), None, 8)):
        made = resolve(env, num_envs)
        assert made.env == DeviceVector(Count(), count)
        assert made.env.single_observation_space is Count.observation_space
        assert made.env.single_action_space is Count.action_space
        made.env.close()
    assert isinstance(resolve(Script).env, HostVectorEnv)
    with pytest.raises(ValueError, match=r"`num_envs` \(=0\)"):
        resolve(Count(), 0)


# --- time limits --------------------------------------------------------------------------------------------------


def test_a_time_limit_truncates_and_shows_the_true_last_observation() -> None:
    """Episodes of 5 steps cut at 3: observations 1, 2, 3, then those of the next one."""
    _, step = played(TimeLimit(Count(5), 3))
    np.testing.assert_array_equal(step.truncated[:, 0], [False, False, True, False, False, True, False, False])
    assert not step.terminated.any()
    np.testing.assert_array_equal(step.next_obs[:, 0, 1], [1, 2, 3, 1, 2, 3, 1, 2])
    np.testing.assert_array_equal(step.lengths[:, 0], [0, 0, 3, 0, 0, 3, 0, 0])


@pytest.mark.parametrize("limit", [3, 4])
def test_an_episode_that_is_over_is_not_cut_short_as_well(limit: int) -> None:
    _, step = played(TimeLimit(Count(3), limit))
    np.testing.assert_array_equal(step.terminated[:, 0], [False, False, True, False, False, True, False, False])
    assert not step.truncated.any()


def test_an_environment_may_say_both_and_terminated_counts() -> None:
    both = good(step=lambda state, action, key: (state, jnp.zeros(2), 0.0, True, True, {}))
    found = step_one(both, jnp.zeros(2), jnp.int32(0), key())
    assert (bool(found.terminated), bool(found.truncated)) == (True, False)


def test_a_time_limit_is_a_value_and_at_least_one_step() -> None:
    assert TimeLimit(Count(), 3) == TimeLimit(Count(), 3) != TimeLimit(Count(), 4)
    assert hash(TimeLimit(Count(), 3)) == hash(TimeLimit(Count(), 3))
    with pytest.raises(ValueError, match=r"`max_episode_steps` \(=0\) must be at least 1"):
        TimeLimit(Count(), 0)


# --- types ----------------------------------------------------------------------------------------------------------


def test_python_numbers_get_fixed_dtypes() -> None:
    """A state that begins as a Python number, integers and flags in place of floats: all get types that stay."""

    class Plain:
        observation_space, action_space = gym.spaces.Box(-1, 1, (1,), np.float64), gym.spaces.Discrete(2)

        def reset(self, key: Any) -> Any:
            return 0, jnp.zeros(1, jnp.int32)

        def step(self, state: Any, action: Any, key: Any) -> Any:
            return state + 1, jnp.ones(1, bool), 2, state % 2 == 1, False, {}

    check_device_env(Plain())
    _, step = played(Plain())
    assert (step.next_obs.dtype, step.rewards.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(step.returns[:, 0], [0, 4] * 4)


@pytest.mark.parametrize(
    ("reward", "expected"), [(-1e300, -np.finfo(np.float32).max), (np.inf, np.inf), (0.1, np.float32(0.1))]
)
def test_rewards_beyond_float32_are_large_and_not_infinite(reward: float, expected: float) -> None:
    class Huge(Count):
        def step(self, state: Any, action: Any, key: Any) -> Any:
            state, obs, _, *rest = super().step(state, action, key)
            return state, obs, jnp.asarray(reward), *rest

    with jax.enable_x64(True):
        state, _ = Huge().reset(jax.random.key(0))
        step = step_one(Huge(), state, jnp.zeros((), jnp.int32), jax.random.key(1))
    assert step.reward.dtype == np.float32
    assert step.reward == expected


# --- actions ------------------------------------------------------------------------------------------------------

ACTION_SPACES = [
    gym.spaces.Discrete(3),
    gym.spaces.Discrete(3, start=-4),
    gym.spaces.MultiDiscrete([3, 2]),
    gym.spaces.MultiDiscrete([[3, 2], [2, 2]], start=[[1, 1], [0, 5]]),
    gym.spaces.MultiBinary(4),
    gym.spaces.MultiBinary([2, 2]),
    gym.spaces.Box(-0.5, 0.25, ()),
    gym.spaces.Box(np.float32([-1, -0.25]), np.float32([0.5, np.inf])),
    gym.spaces.Box(-1.0, 1.0, (2, 1, 2), np.float64),
    gym.spaces.Box(-np.inf, np.inf, (3,)),
]


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
def test_actions_are_those_of_the_host(space: Any) -> None:
    distribution = action_distribution(space)
    noise = distribution.noise(key(), (64,))
    params = 2 * jax.random.normal(key(1), (64, distribution.num_params))
    log_std = jnp.zeros(distribution.log_std_size)
    actions = distribution.build(params, log_std).sample(noise)
    seen = []

    def step(state: Any, action: Any, key: Any) -> Any:
        seen.append((action.shape, action.dtype))
        return state, action.astype(jnp.float32), 0.0, False, False, {}

    env = good(observation_space=gym.spaces.Box(-np.inf, np.inf, space.shape), action_space=space, step=step)
    sent = distribution.to_environment(actions)
    found = jax.vmap(lambda action: step_one(env, jnp.zeros(2), action, key()).obs)(sent)
    expected = distribution.to_environment(np.asarray(actions))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert seen == [(space.shape, spaces.device_dtype(space))]  # one environment's, of 32 bits at most
    assert all(space.contains(np.asarray(one, space.dtype)) for one in np.asarray(found))
    if isinstance(space, gym.spaces.Box) and np.isfinite(space.low).all():
        assert np.any(np.asarray(actions).reshape(expected.shape) != expected)  # something was clipped
