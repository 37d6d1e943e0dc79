"""The base class of adapters: types, values, errors."""

from typing import Any

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.envs.adapters import common
from support.adapters import key, types


class Plain(common.AdaptedEnv):
    """A counter that does what libraries do: Python numbers, flags that overlap, dicts written into."""

    prefix = "plain"

    def __init__(self, name: str = "one", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    @classmethod
    def ids(cls) -> list[str]:
        return ["one", "two"]

    def _build(self, name: str, after: Any = 1, **kwargs: Any) -> None:
        self.observation_space, self.action_space = common.box((1,)), gym.spaces.Discrete(2)
        self.after = after

    def _reset(self, key: Any) -> Any:
        return {"t": 0, "seen": {"action": jnp.int32(0)}}, [0]

    def _step(self, state: Any, action: Any, key: Any) -> Any:
        state["seen"]["action"] = action
        return {**state, "t": state["t"] + self.after}, state["t"], 1, 1, True, {"t": state["t"]}


def test_results_get_the_types_of_the_contract() -> None:
    env = Plain()
    state, obs = env.reset(key())
    after, obs, reward, terminated, truncated, info = env.step(state, jnp.int32(1), key())
    assert types(after) == types(state)
    assert not after["t"].weak_type
    assert (obs.shape, obs.dtype, reward.dtype, info["t"].shape) == ((1,), np.float32, np.float32, ())
    assert terminated
    assert not truncated
    assert state["seen"]["action"] == 0
    assert after["seen"]["action"] == 1


def test_a_state_that_changes_its_type_is_an_error() -> None:
    env = Plain(after=0.5)
    with pytest.raises(
        TypeError, match=r"`env` \(='plain:one\(after=0.5\)'\) turns a part of its state from int32\(\) into float32"
    ):
        env.step(env.reset(key())[0], 0, key())


def test_values_differ_by_name_arguments_and_their_types() -> None:
    values = [Plain(), Plain("two"), Plain(x=1), Plain(x=True), Plain(x=2), Plain(y=1)]
    assert len(set(values)) == len(values)
    assert Plain(x=1, y=2) == Plain(y=2, x=1)
    assert Plain(x=[1, 2]) == Plain(x=(1, 2))
    assert repr(Plain(y=2, x="a")) == "plain:one(x='a', y=2)"
    with pytest.raises(ValueError, match=r"`x` \(=\{'a': 1\}\) can't be hashed"):
        Plain(x={"a": 1})
