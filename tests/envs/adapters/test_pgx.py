"""Pgx's MinAtar, against the library itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.envs import adapters
from support.adapters import episode, key, needs


@needs("pgx")
def test_pgx_terminates_with_the_true_last_observation() -> None:
    from pgx import make

    env = adapters.make("pgx:minatar-breakout")
    obs, reward, terminated, truncated = episode(env, jnp.int32(0), 40)
    end = int(terminated.argmax())
    assert terminated[end]
    assert not truncated.any()
    theirs = make("minatar-breakout")
    state, step = theirs.init(key(1)), jax.jit(theirs.step)
    for t, step_key in enumerate(jax.random.split(key(2), 40)[: end + 1]):
        state = step(state, jnp.int32(0), step_key)
        np.testing.assert_array_equal(obs[t], state.observation)
        assert reward[t] == state.rewards[0]
    assert state.terminated


@needs("pgx")
def test_pgx_freeway_is_cut_short_by_its_timer() -> None:
    env = adapters.make("pgx:minatar-freeway")
    state, _ = env.reset(key())
    late = state.replace(_terminate_timer=jnp.int32(1))  # two steps before it falls below 0
    _, _, terminated, truncated = episode(env, jnp.int32(0), 2, late)
    assert truncated.tolist() == [False, True]
    assert not terminated.any()


@needs("pgx")
@pytest.mark.parametrize(("name", "reason"), [("chess", "several players"), ("2048", "no action masks")])
def test_pgx_refuses_what_is_not_for_one_agent(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"`env` \(='pgx:{name}'\): .*{reason}.* Known are minatar-asterix"):
        adapters.make(f"pgx:{name}")
