"""The device's programs, against what the dynamics and the rollouts say."""

import itertools

import numpy as np
import pytest

from support import accelerator
from support.device_cartpole import cartpole, on_device, seen

pytestmark = pytest.mark.usefixtures("quickly_compiled", "no_curve")

both = pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "box"])


@both
def test_what_follows_a_step_is_valued_by_hand(continuous: bool) -> None:
    """V of what the step led to, which the dynamics say: of the final observation where an episode was cut short."""
    made, rollouts, _ = on_device(continuous)
    rollout = rollouts[0]
    actions = np.clip(rollout.actions, -1, 1).reshape(16, 8, 1)[..., 0] if continuous else rollout.actions
    force = np.float32(30) * actions if continuous else np.float32(20) * actions - 10
    after = np.array(
        [[cartpole(np, rollout.obs[t, i], np.float32(force[t, i]))[0] for i in range(8)] for t in range(16)]
    )
    expected = made.value(after.reshape(-1, 4)).reshape(16, 8)
    looked_at = ~rollout.terminated
    np.testing.assert_allclose(rollout.next_values[looked_at], expected[looked_at], rtol=1e-4, atol=1e-5)
    # and neither that of the observation before nor that of the next episode's first
    cut = np.argwhere(rollout.truncated[:-1])
    for t, i in cut:
        for other in (rollout.values[t, i], rollout.values[t + 1, i]):
            assert abs(rollout.next_values[t, i] - other) > 1e-4


@pytest.mark.parametrize("memory", [False, True], ids=["mlp", "gru"])
def test_a_rollout_as_on_an_accelerator_is_the_same(monkeypatch: pytest.MonkeyPatch, memory: bool) -> None:
    _, expected, episodes = on_device(False, memory)
    accelerator.pretend(monkeypatch)
    _, rollouts, found_episodes = on_device.__wrapped__(False, memory)
    for found, same in zip(rollouts, expected, strict=True):
        for name in ("obs", "actions", "rewards", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(found, name), getattr(same, name))
        for name in ("logp", "values", "running_returns"):
            np.testing.assert_allclose(getattr(found, name), getattr(same, name), rtol=1e-5, atol=1e-6)
        looked_at = ~same.terminated
        np.testing.assert_allclose(found.next_values[looked_at], same.next_values[looked_at], rtol=1e-5, atol=1e-6)
    assert len(found_episodes) == len(episodes)


def test_running_returns_carry_over_by_hand() -> None:
    """Discounted by 0.9 over the steps since each environment's last end."""
    _, rollouts, _ = on_device(False)
    assert not rollouts[0].running_returns.any()
    running = np.zeros(8)
    for before, after in itertools.pairwise(rollouts):
        for reward, ended in zip(before.rewards, before.terminated | before.truncated, strict=True):
            running = np.where(ended, 0.0, 0.9 * running + reward)
        assert running.any()
        np.testing.assert_allclose(after.running_returns, running, rtol=1e-5)


def test_episodes_are_those_of_the_rollouts() -> None:
    _, rollouts, episodes = on_device(False)
    ended, rewards = seen(rollouts, "terminated") | seen(rollouts, "truncated"), seen(rollouts, "rewards")
    expected, begun = [], np.zeros(8, int)
    for t, i in np.argwhere(ended):
        expected.append((rewards[begun[i] : t + 1, i].sum(), t + 1 - begun[i], i))
        begun[i] = t + 1
    assert [(e.l, e.env) for e in episodes] == [(length, i) for _, length, i in expected]
    np.testing.assert_allclose([e.r for e in episodes], [r for r, _, _ in expected], rtol=1e-5)
    assert [e.t for e in episodes] == sorted(e.t for e in episodes)
