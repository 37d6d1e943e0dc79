import jax
import numpy as np
import pytest

from ppo2.algorithm.gae import gae

pytestmark = pytest.mark.core

NAN = float("nan")
GAMMA, LAM = 0.5, 0.8  # gamma * lam = 0.4


compiled = jax.jit(gae)


def column(*numbers):
    return np.array(numbers)[:, None]


def advantages(terminated=(False,) * 3, truncated=(False,) * 3, next_values=(0.5, 3.0, 4.0), valid=None, rewards=None):
    """Three steps of one environment: rewards 1, 2, 3, V 1, 0.5, 3."""
    out = compiled(
        column(1.0, 2.0, 3.0) if rewards is None else column(*rewards),
        column(1.0, 0.5, 3.0),
        column(*next_values),
        column(*terminated),
        column(*truncated),
        None if valid is None else column(*valid),
        gamma=GAMMA,
        lam=LAM,
    )
    return np.asarray(out)[:, 0]


def test_three_steps_by_hand():
    # d_0 = 1 + 0.5 * 0.5 - 1 = 0.25    A_0 = 0.25 + 0.4 * 3.8 = 1.77
    # d_1 = 2 + 0.5 * 3 - 0.5 = 3       A_1 = 3 + 0.4 * 2 = 3.8
    # d_2 = 3 + 0.5 * 4 - 3 = 2         A_2 = 2
    np.testing.assert_allclose(advantages(), [1.77, 3.8, 2], rtol=1e-6)


def test_termination_by_hand_and_its_next_value_is_not_seen():
    # d_1 = 2 - 0.5 = 1.5, the episode's last: A_1 = 1.5, A_0 = 0.25 + 0.4 * 1.5 = 0.85; A_2 = 2 as before
    found = advantages(terminated=(False, True, False), next_values=(0.5, NAN, 4.0))
    np.testing.assert_allclose(found, [0.85, 1.5, 2], rtol=1e-6)


def test_truncation_bootstraps_and_cuts():
    # V(final observation) = 6: d_1 = 2 + 0.5 * 6 - 0.5 = 4.5 = A_1, A_0 = 0.25 + 0.4 * 4.5 = 2.05
    found = advantages(truncated=(False, True, False), next_values=(0.5, 6.0, 4.0))
    np.testing.assert_allclose(found, [2.05, 4.5, 2], rtol=1e-6)


def test_both_ends_at_once_are_a_termination():
    end = (False, True, False)
    found = advantages(terminated=end, truncated=end, next_values=(0.5, NAN, 4.0))
    np.testing.assert_allclose(found, [0.85, 1.5, 2], rtol=1e-6)


def test_an_invalid_step_is_0_and_the_step_before_bootstraps():
    # A_0 = d_0 = 0.25: its next value counts, nothing of step 1 does
    found = advantages(valid=(True, False, True), rewards=(1.0, NAN, 3.0), next_values=(0.5, NAN, 4.0))
    np.testing.assert_allclose(found, [0.25, 0, 2], rtol=1e-6)


def random_rollout(steps=21, nenvs=5):
    """Steps are no multiple of the loop's unrolling; within an episode next_values are the next step's values."""
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, steps, nenvs))
    terminated, truncated = rng.random((2, steps, nenvs)) < 0.15
    last = rng.normal(size=(1, nenvs))
    next_values = np.where(truncated, rng.normal(size=(steps, nenvs)), np.concatenate([values[1:], last]))
    return rewards, values, next_values, terminated, truncated


def test_lambda_1_is_discounted_returns_minus_values():
    rewards, values, next_values, terminated, truncated = rollout = random_rollout()
    returns = np.zeros_like(rewards)
    for i in range(rewards.shape[1]):
        following = next_values[-1, i]
        for t in reversed(range(len(rewards))):
            if truncated[t, i]:
                following = next_values[t, i]
            if terminated[t, i]:
                following = 0.0
            returns[t, i] = following = rewards[t, i] + 0.9 * following
    found = compiled(*rollout, gamma=0.9, lam=1.0)
    np.testing.assert_allclose(found, returns - values, rtol=1e-4, atol=1e-5)


def test_lambda_0_is_the_temporal_difference():
    rewards, values, next_values, terminated, _ = rollout = random_rollout()
    found = compiled(*rollout, gamma=0.9, lam=0.0)
    np.testing.assert_allclose(found, rewards + 0.9 * ~terminated * next_values - values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 7, 8, 21])
def test_equals_a_plain_loop(steps):
    rollout = random_rollout(steps)
    rewards, values, next_values, terminated, truncated = rollout
    valid = np.random.default_rng(1).random(rewards.shape) < 0.8
    expected, following = np.zeros_like(rewards), np.zeros(rewards.shape[1])
    for t in reversed(range(steps)):
        delta = rewards[t] + 0.9 * ~terminated[t] * next_values[t] - values[t]
        following = valid[t] * (delta + 0.9 * 0.7 * ~(terminated[t] | truncated[t]) * following)
        expected[t] = following
    np.testing.assert_allclose(compiled(*rollout, valid, gamma=0.9, lam=0.7), expected, rtol=1e-4, atol=1e-5)


def test_compiled_equals_not_compiled():
    rollout = random_rollout()
    plain = gae(*map(jax.numpy.array, rollout), gamma=0.9, lam=0.7)
    np.testing.assert_allclose(plain, compiled(*rollout, gamma=0.9, lam=0.7), rtol=1e-4, atol=1e-6)


def test_environments_are_apart():
    rollout = random_rollout()
    whole = compiled(*rollout, gamma=0.9, lam=0.7)
    alone = compiled(*(x[:, 2:3] for x in rollout), gamma=0.9, lam=0.7)
    np.testing.assert_allclose(np.asarray(whole)[:, 2:3], alone, rtol=1e-5)
