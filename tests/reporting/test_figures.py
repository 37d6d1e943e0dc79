"""Figures as text, and the time that is left."""

import math

import pytest

from ppo2.reporting import figures
from ppo2.reporting.figures import Pace, human


def test_time_left_leaves_out_the_first_update(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(figures.time, "perf_counter", lambda: clock[0])
    pace = Pace(total=105, first=1)
    clock[0] = 50.0  # compiling
    assert pace.is_compiling
    pace.tick(1)
    assert not pace.is_compiling
    assert pace.left() == "-"
    clock[0] = 58.0
    pace.tick(5)  # 4 updates in 8 seconds; 100 are left
    assert pace.left() == "3:20"
    clock[0] = 68.0  # no tick for 10 seconds
    assert pace.left() == "3:10"
    assert pace.elapsed() == "1:08"
    clock[0] = 4000.0
    assert pace.left() == "0:00"
    assert pace.elapsed() == "1:06:40"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"), (0.00421, "0.0042"), (-0.5, "-0.5000"), (1.5, "1.50"), (-123.45, "-123.5"), (81920.0, "81,920"),
        (3e9, "3.000e+09"), (1.5e-5, "1.50e-05"), (math.nan, "-"), (math.inf, "inf"),
    ],
)  # fmt: skip
def test_numbers_for_people(value: float, shown: str) -> None:
    assert human(value) == shown
