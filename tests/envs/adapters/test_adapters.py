"""Adapters of JAX libraries: the contract that all keep, ids, and libraries that are missing."""

import importlib.util
from typing import Any

import jax
import numpy as np
import pytest

from ppo2 import spaces
from ppo2.envs import adapters
from ppo2.envs.adapters import common
from support.adapters import SAMPLES, check_types, each, key


def sampled(space: Any, key: Any) -> Any:
    if hasattr(space, "n"):
        return jax.random.randint(key, (), 0, int(space.n))
    return jax.random.uniform(key, space.shape, minval=space.low, maxval=space.high)


@each("gymnax", "xminigrid", "navix", "pgx", "craftax")  # the others compile for long: see their own test
def test_keeps_the_contract(prefix: str) -> None:
    env = adapters.make(f"{prefix}:{SAMPLES[prefix]}")
    spaces.check_observation_space(env.observation_space)
    dtype = spaces.device_dtype(env.observation_space)

    @jax.jit
    @jax.vmap
    def two_steps(key: Any) -> Any:
        key, reset_key = jax.random.split(key)
        first, obs = env.reset(reset_key)

        def step(state: Any, key: Any) -> Any:
            after, *result = env.step(state, sampled(env.action_space, key), key)
            check_types(env, state, after, *result)
            return after, tuple(result)

        return obs, jax.lax.scan(step, first, jax.random.split(key, 2))[1]

    first, (obs, reward, terminated, truncated, info) = two_steps(jax.random.split(key(), 3))
    shape = env.observation_space.shape
    assert (first.shape, obs.shape, first.dtype, obs.dtype) == ((3, *shape), (3, 2, *shape), dtype, dtype)
    for one in (*first, *obs.reshape(6, *shape)):
        assert env.observation_space.contains(np.asarray(one, env.observation_space.dtype))
    assert np.all(np.isfinite(reward))
    assert terminated.shape == truncated.shape == (3, 2)
    assert all(isinstance(leaf, jax.Array) for leaf in info.values())


@each(*SAMPLES)
def test_is_a_value(prefix: str) -> None:
    adapter = adapters.ADAPTERS[prefix]
    known = adapter.ids()
    assert SAMPLES[prefix] in known
    assert known == sorted(known)
    env, same = (adapters.make(f"{prefix}:{SAMPLES[prefix]}") for _ in range(2))
    assert env == same
    assert hash(env) == hash(same)
    assert {env: 1}[same] == 1
    assert repr(env) == f"{prefix}:{SAMPLES[prefix]}"
    assert env != SAMPLES[prefix]


@each(*SAMPLES)
def test_an_unknown_name_or_argument_is_an_error(prefix: str) -> None:
    name = SAMPLES[prefix]
    with pytest.raises(ValueError, match=rf"`env` \(='{prefix}:{name}x'\): .* The closest known are .*{name}"):
        adapters.make(f"{prefix}:{name}x")
    with pytest.raises(ValueError, match=rf"`nonsense` \(=3\) is no argument of `env` \(='{prefix}:{name}'\)"):
        adapters.make(f"{prefix}:{name}", nonsense=3)


# --- ids ----------------------------------------------------------------------------------------------------------


def test_adapter_of_knows_its_own_prefixes() -> None:
    found = adapters.adapter_of("gymnax:CartPole-v1")
    assert found is not None
    assert (found[0].prefix, found[1]) == ("gymnax", "CartPole-v1")
    assert adapters.adapter_of("CartPole-v1") is None
    assert adapters.adapter_of("gymnax") is None
    assert adapters.adapter_of("minigrid:MiniGrid-Empty-5x5-v0") is None


def test_an_unknown_prefix_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"`env` \(='gymnx:CartPole-v1'\) names no library .*known are gymnax, brax"):
        adapters.make("gymnx:CartPole-v1")


@pytest.mark.parametrize(
    ("env_id", "command"),
    [
        ("gymnax:CartPole-v1", r"pip install 'ppo2\[jax-envs\]'"),
        ("navix:Navix-Empty-5x5-v0", "pip install navix"),
    ],
)
def test_a_missing_library_is_an_error(env_id: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"`env` \(='{env_id}'\) needs a package that isn't installed: {command}\.$"):
        adapters.make(env_id)


def test_a_library_that_breaks_at_import_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(module: str) -> Any:
        raise ModuleNotFoundError("No module named 'six'")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(common, "imported", broken)
    with pytest.raises(ValueError, match=r"gymnax can't be imported \(No module named 'six'\): pip install"):
        adapters.make("gymnax:CartPole-v1")
