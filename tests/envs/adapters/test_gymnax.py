"""Environments of gymnax, each against the library itself."""

import jax
import jax.numpy as jnp
import numpy as np

from ppo2.envs import adapters
from support.adapters import episode, key, needs


@needs("gymnax")
def test_gymnax_truncates_at_the_limit_and_shows_the_true_last_observation() -> None:
    from gymnax import make

    env = adapters.make("gymnax:MountainCar-v0", max_steps_in_episode=7)
    obs, reward, terminated, truncated = episode(env, jnp.int32(1), 7)
    assert truncated.tolist() == [False] * 6 + [True]
    assert not terminated.any()
    assert reward.tolist() == [-1.0] * 7
    # The library's own, one step after another, never reset:
    theirs, params = make("MountainCar-v0")
    _, state = theirs.reset_env(key(1), params)
    for t, step_key in enumerate(jax.random.split(key(2), 7)):
        expected, state, *_ = theirs.step_env(step_key, state, 1, params)
        np.testing.assert_allclose(obs[t], expected, rtol=1e-6)
    assert not np.allclose(obs[-1], env.reset(key(1))[1])


@needs("gymnax")
def test_gymnax_terminates_also_at_the_limit() -> None:
    """CartPole pushed to the right falls after n steps; with limits of n + 1, n and n - 1 steps."""
    _, _, terminated, _ = episode(adapters.make("gymnax:CartPole-v1"), jnp.int32(1), 20)
    falls = int(terminated.argmax()) + 1
    assert 5 < falls < 15
    for limit, ends in ((falls + 1, (True, False)), (falls, (True, False)), (falls - 1, (False, True))):
        env = adapters.make("gymnax:CartPole-v1", max_steps_in_episode=limit)
        _, _, terminated, truncated = episode(env, jnp.int32(1), min(limit, falls))
        assert (bool(terminated[-1]), bool(truncated[-1])) == ends
        assert not (terminated[:-1] | truncated[:-1]).any()


@needs("gymnax")
def test_gymnax_keeps_apart_what_minatar_remembers_together() -> None:
    """Breakout sets a flag in its state when the limit is reached, from which it then ends."""
    env = adapters.make("gymnax:Breakout-MinAtar", max_steps_in_episode=3)
    _, _, terminated, truncated = episode(env, jnp.int32(0), 3)
    assert truncated.tolist() == [False, False, True]
    assert not terminated.any()


@needs("gymnax")
def test_gymnax_limits_are_seen_as_they_are() -> None:
    """An observation that holds the share of the time that is left does not change with how the end is told apart."""
    from gymnax import make

    env = adapters.make("gymnax:DiscountingChain-bsuite", max_steps_in_episode=10)
    obs = episode(env, jnp.int32(0), 4)[0]
    theirs, params = make("DiscountingChain-bsuite")
    params = params.replace(max_steps_in_episode=10)
    _, state = theirs.reset_env(key(1), params)
    for t in range(4):
        expected, state, *_ = theirs.step_env(key(), state, 0, params)
        np.testing.assert_allclose(obs[t], expected)


@needs("gymnax")
def test_gymnax_takes_arguments_of_the_constructor_and_of_the_parameters() -> None:
    env = adapters.make("gymnax:DeepSea-bsuite", size=5, max_steps_in_episode=3)
    assert env.observation_space.shape == (5, 5)
    assert episode(env, jnp.int32(0), 3)[3].tolist() == [False, False, True]


@needs("gymnax")
def test_gymnax_observations_are_of_the_space() -> None:
    """Catch declares integers and gives floats; PointRobot bounds that are the largest floats."""
    for name in ("Catch-bsuite", "FourRooms-misc"):
        env = adapters.make(f"gymnax:{name}")
        obs = episode(env, jnp.int32(0), 2)[0]
        assert obs.dtype == env.observation_space.dtype == np.float32
        assert env.observation_space.contains(obs[0])
