"""Helpers for tests of adapters to JAX libraries: samples, skips, and episodes played step by step."""

import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2 import spaces
from ppo2.envs import adapters

SAMPLES = {
    "gymnax": "CartPole-v1",
    "brax": "inverted_pendulum",
    "playground": "CartpoleBalance",
    "xminigrid": "MiniGrid-Empty-5x5",
    "navix": "Navix-Empty-5x5-v0",
    "pgx": "minatar-breakout",
    "craftax": "Craftax-Classic-Symbolic-v1",
}
"""The cheapest environment of each library."""


def needs(prefix: str) -> Any:
    adapter = adapters.ADAPTERS[prefix]
    missing = importlib.util.find_spec(adapter.package) is None
    return pytest.mark.skipif(missing, reason=f"{adapter.package} isn't installed: {adapter.remedy}")


def each(*prefixes: str) -> Any:
    return pytest.mark.parametrize("prefix", [pytest.param(prefix, marks=needs(prefix)) for prefix in prefixes])


def key(seed: int = 0) -> Any:
    return jax.random.key(seed, impl="threefry2x32")


def types(tree: Any) -> Any:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf.shape, leaf.dtype, leaf.weak_type) for path, leaf in leaves]


def check_types(env: adapters.AdaptedEnv, state: Any, after: Any, obs: Any, *result: Any) -> None:
    """Checks the types of one step while it is traced: one environment's shapes, and nothing promoted."""
    assert types(after) == types(state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert (obs.shape, obs.dtype) == (env.observation_space.shape, spaces.device_dtype(env.observation_space))
    assert [(x.shape, x.dtype) for x in result[:3]] == [((), np.float32), ((), np.bool_), ((), np.bool_)]


def episode(env: adapters.AdaptedEnv, action: Any, steps: int, start: Any = None) -> Any:
    """(obs, reward, terminated, truncated) of `steps` steps with one action, without resets."""

    def step(state: Any, key: Any) -> Any:
        state, *result = env.step(state, action, key)
        return state, tuple(result[:4])

    def run() -> Any:
        state = env.reset(key(1))[0] if start is None else start
        return jax.lax.scan(step, state, jax.random.split(key(2), steps))[1]

    return jax.tree.map(np.asarray, jax.jit(run)())


def check_room(prefix: str, forward: int, right: int) -> None:
    """Checks the ends of an episode in an empty room of 3 by 3, the goal in the opposite corner."""
    # forward twice, right, forward twice
    way = jnp.array([forward, forward, right, forward, forward], jnp.int32)
    start, _ = jax.jit(adapters.make(f"{prefix}:{SAMPLES[prefix]}").reset)(key(1))
    for limit, ends in ((5, (True, False)), (4, (False, True))):  # at 5 both at once: it terminated
        env = adapters.make(f"{prefix}:{SAMPLES[prefix]}", max_steps=limit)
        state, step = start, jax.jit(env.step)
        seen = []
        for action in way[:limit]:
            state, _, reward, *flags, _ = step(state, action, key())
            seen.append(tuple(map(bool, flags)))
        assert seen == [(False, False)] * (len(seen) - 1) + [ends]
        assert (reward > 0) == ends[0]
