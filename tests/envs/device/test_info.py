"""Entries of `info`: episodes that device environments count themselves, and numbers that are recorded."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.envs.device.info import counted_episode, recorded_keys
from support.device_envs import good

R, L, ENDED = jnp.array([5.0, 6.0, 7.0]), jnp.array([2, 0, 3]), jnp.array([True, True, False])


@pytest.mark.parametrize(
    ("info", "counted"),
    [
        ({"episode": {"r": R, "l": L, "t": R}}, [True, False, False]),
        ({"returned_episode_returns": R, "returned_episode_lengths": L}, [True, True, False]),
        (
            {"returned_episode_returns": R, "returned_episode_lengths": L, "returned_episode": ~ENDED},
            [False, False, True],
        ),
    ],
    ids=["as RecordEpisodeStatistics", "as gymnax without a flag", "as gymnax"],
)
def test_episodes_that_an_environment_counts(info: dict[str, Any], counted: list[bool]) -> None:
    found = counted_episode(info, ENDED)
    assert found is not None
    assert found[0].tolist() == counted
    np.testing.assert_array_equal(found[1], R)
    np.testing.assert_array_equal(found[2], L)


@pytest.mark.parametrize("info", [{}, {"episode": L}, {"episode": {"r": jnp.zeros((3, 2)), "l": L}}])
def test_no_episodes(info: dict[str, Any]) -> None:
    assert counted_episode(info, ENDED) is None


def test_recorded_keys() -> None:
    """Numbers alone; `is_success` unasked."""
    given = {"is_success": jnp.array(True), "a": jnp.zeros(()), "many": jnp.zeros(2), "b": jnp.int32(1)}
    env = good(step=lambda state, action, key: (state, jnp.zeros(2), 0.0, False, False, given))
    assert recorded_keys(None, env, ("b", "nope", "many"), False) == ("b", "is_success")
    assert recorded_keys(None, env, (), True) == ("is_success",)
    assert recorded_keys(None, good(), (), True) == ()
    with pytest.raises(ValueError, match=r"`env` gives no info\['nope'\]; its numbers are 'a', 'b', 'is_success'\."):
        recorded_keys(None, env, ("nope",), True)
