"""One training of a trial: when it is evaluated."""

import pytest

from ppo2.tuning.trial import MARKS, evaluation_interval


@pytest.mark.parametrize(("updates", "interval"), [(1, 1), (6, 1), (10, 2), (29, 4), (47, 9), (50, 10), (100, 20)])
def test_the_interval_of_evaluations(updates: int, interval: int) -> None:
    """A fifth of 29 updates are five, whose last multiple is 25: four end at 28."""
    assert evaluation_interval(updates, "search") == interval
    assert evaluation_interval(updates, "verdict") == updates


def test_the_last_evaluation_is_near_the_end_and_counts_as_the_whole() -> None:
    for updates in range(1, 2000):
        interval = evaluation_interval(updates, "search")
        last = updates - updates % interval
        assert last > 0.9 * updates
        assert round(MARKS * last / updates) == MARKS
        assert updates // interval >= min(MARKS, updates)
