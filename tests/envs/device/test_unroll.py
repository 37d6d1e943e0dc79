"""Stepping many device environments, with resets: on CPU, and as on an accelerator."""

from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.envs.device import unroll as unroll_file
from support import accelerator
from support.device_envs import Count, key, played


def test_an_episode_begins_anew_as_soon_as_one_ends() -> None:
    """Episodes of 3 steps: seen are 0, 1, 2, then 0 of the next; what a step led to is 1, 2, 3."""
    left, step = played(Count(3))
    np.testing.assert_array_equal(step.obs[:, :, 1], np.array([0, 1, 2, 0, 1, 2, 0, 1])[:, None] * np.ones(3))
    np.testing.assert_array_equal(step.next_obs[:, :, 1], np.array([1, 2, 3, 1, 2, 3, 1, 2])[:, None] * np.ones(3))
    np.testing.assert_array_equal(step.obs[:, :, 0], step.next_obs[:, :, 0])  # the final one is the old episode's
    np.testing.assert_array_equal(left.obs[:, 1], [2, 2, 2])
    np.testing.assert_array_equal(left.state["t"], [2, 2, 2])


def test_every_episode_has_a_first_state_of_its_own() -> None:
    _, step = played(Count(3), steps=12)
    assert len(np.unique(step.obs[::3, :, 0])) == 4 * 3  # 4 episodes of 3 environments


@pytest.mark.parametrize("steps", [1, 8, 11])
@pytest.mark.parametrize("most_ahead", [0, 2**20])
def test_an_accelerators_loop_gives_the_same(monkeypatch: pytest.MonkeyPatch, most_ahead: int, steps: int) -> None:
    """First states made ahead, several steps a turn, and the observations made from the next ones: the same bits."""
    expected = played(Count(3), steps)
    accelerator.pretend(monkeypatch)
    monkeypatch.setattr(unroll_file, "MOST_AHEAD", most_ahead)
    made_ahead = unroll_file.resets_ahead(
        Count(3), jax.vmap(jax.random.fold_in, (None, 0))(key(), jnp.arange(3)), jnp.arange(steps)
    )
    assert (made_ahead is None) == (most_ahead == 0)
    jax.tree.map(np.testing.assert_array_equal, played(Count(3), steps), expected)


def test_an_accelerators_next_loop_goes_on_where_the_last_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of 3 steps, 8 steps at once, then 5: the first observation is the carry's, or a new episode's."""

    def both() -> Any:
        left, first = played(Count(3))
        return left, first, *played(Count(3), 5, first=left)

    expected = both()
    accelerator.pretend(monkeypatch)
    jax.tree.map(np.testing.assert_array_equal, both(), expected)


def test_every_step_has_a_key_of_its_own() -> None:
    class Noise:
        """The obs is what the key of the reset or the step gives."""

        observation_space, action_space = gym.spaces.Box(0, 1, ()), gym.spaces.Discrete(2)

        def reset(self, key: Any) -> Any:
            return jnp.int32(0), jax.random.uniform(key)

        def step(self, state: Any, action: Any, key: Any) -> Any:
            return state + 1, jax.random.uniform(key), 0.0, (state + 1) % 3 == 0, False, {}

    _, step = played(Noise())
    # 8 x 3 steps and the resets: one at the start, and after 3 and 6 steps
    assert len(np.unique(np.concatenate([step.obs, step.next_obs]))) == 8 * 3 + 3 * 3


def test_the_same_key_gives_the_same_bits() -> None:
    one, again, other = (jax.tree.leaves(played(Count(3), seed=seed)) for seed in (0, 0, 1))
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_returns_and_lengths_are_given_where_episodes_end() -> None:
    """Rewards 1, 2, 3 make 6; two steps into the third episode, 1 + 2 = 3 are on their way."""
    left, step = played(Count(3))
    np.testing.assert_array_equal(step.returns[:, 1], [0, 0, 6, 0, 0, 6, 0, 0])
    np.testing.assert_array_equal(step.lengths[:, 1], [0, 0, 3, 0, 0, 3, 0, 0])
    np.testing.assert_array_equal(left.returns, [3, 3, 3])
    np.testing.assert_array_equal(left.lengths, [2, 2, 2])


def test_environments_end_each_in_its_own_time() -> None:
    class Uneven(Count):
        """Episodes of 1 to 4 steps, by their random number."""

        def step(self, state: Any, action: Any, key: Any) -> Any:
            state, obs, reward, _, truncated, info = super().step(state, action, key)
            return state, obs, reward, state["t"] >= 1 + jnp.floor(4 * state["which"]), truncated, info

    _, step = played(Uneven(), steps=30, nenvs=4)
    lengths = 1 + np.floor(4 * step.obs[..., 0])
    np.testing.assert_array_equal(step.terminated, step.next_obs[..., 1] == lengths)
    np.testing.assert_array_equal(step.lengths, np.where(step.terminated, lengths, 0))
    np.testing.assert_array_equal(step.returns, np.where(step.terminated, lengths * (lengths + 1) / 2, 0))
    assert len(set(step.lengths.ravel().tolist())) == 5  # 0, and each length from 1 to 4
    np.testing.assert_array_equal(step.obs[1:, :, 1], np.where(step.terminated, 0, step.next_obs[..., 1])[:-1])
