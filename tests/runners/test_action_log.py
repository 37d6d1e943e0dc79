"""The log of actions of running episodes."""

import numpy as np

from ppo2.runners.action_log import ActionLog

LIKE = np.zeros((1,), np.int32)


def rollout(*columns: str) -> tuple[np.ndarray, np.ndarray]:
    """Actions, and after which of them an episode ended: "12.3" ended after the 2."""
    actions = np.array([[int(c) for c in column if c != "."] for column in columns], np.int32).T
    ended = np.zeros(actions.shape, bool)
    for env, column in enumerate(columns):
        at = -1
        for c in column:
            if c == ".":
                ended[at, env] = True
            else:
                at += 1
    return actions, ended


def test_running_episodes_over_rollouts() -> None:
    log = ActionLog.start(3, limit=10).with_rollout(*rollout("123", "4.56", "789."))
    assert log.steps.tolist() == [3, 2, 0]
    assert log.running(LIKE).tolist() == [1, 2, 3, 5, 6]
    log = log.with_rollout(*rollout("45.6", "789", "123"))
    assert log.steps.tolist() == [1, 5, 3]
    assert log.running(LIKE).tolist() == [6, 5, 6, 7, 8, 9, 1, 2, 3]


def test_long_episodes_are_not_kept_and_nothing_grows() -> None:
    log = ActionLog.start(2, limit=4)
    for _ in range(50):
        log = log.with_rollout(*rollout("123", "4.56"))
    assert log.steps.tolist() == [150, 2]
    assert log.running(LIKE).tolist() == [5, 6]
    assert len(log.kept) == 1


def test_goes_on_from_saved_actions() -> None:
    log = ActionLog.start(3, limit=4).restored(
        np.array([2, 9, 1]), [np.array([1, 2], np.int32), None, np.array([3], np.int32)]
    )
    assert log.running(LIKE).tolist() == [1, 2, 3]
    log = log.with_rollout(*rollout("4", "5.", "6"))
    assert log.steps.tolist() == [3, 0, 2]
    assert log.running(LIKE).tolist() == [1, 2, 4, 3, 6]


def test_nothing_yet() -> None:
    log = ActionLog.start(2, limit=4)
    assert log.running(LIKE).shape == (0,)
    log = log.restored(np.zeros(2, np.int64), [LIKE[:0], LIKE[:0]])
    assert log.running(LIKE).shape == (0,)
