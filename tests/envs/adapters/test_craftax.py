"""Craftax."""

import jax
import jax.numpy as jnp
import pytest

from ppo2.envs import adapters
from support.adapters import key, needs


@needs("craftax")
def test_craftax_truncates_at_the_limit_and_terminates_at_death() -> None:
    name = "craftax:Craftax-Classic-Symbolic-v1"
    env = adapters.make(name, max_timesteps=2)
    state, _ = jax.jit(env.reset)(key())
    step = jax.jit(env.step)
    ends = []
    for start in (state, state.replace(player_health=jnp.int32(-9))):
        first, *_ = step(start, jnp.int32(0), key())
        ends.append(tuple(map(bool, step(first, jnp.int32(0), key())[3:5])))
    assert ends == [(False, True), (True, False)]
    with pytest.raises(ValueError, match="observations as pixels aren't adapted"):
        adapters.make("craftax:Craftax-Pixels-v1")
