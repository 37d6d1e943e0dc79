import fractions

import numpy as np
import pytest

from ppo2.numerics import schedules


def values(schedule):
    return [schedule(frac) for frac in (1.0, 0.75, 0.5, 0.0)]


def test_kinds_by_hand():
    assert values(schedules.constant(3e-4)) == [3e-4] * 4
    assert values(schedules.linear(8.0)) == [8, 6, 4, 0]
    # 8 * (1 - cos(pi frac)) / 2 with cos(3 pi / 4) = -sqrt(1/2)
    assert values(schedules.cosine(8.0)) == pytest.approx([8, 4 * (1 + 0.5**0.5), 4, 0])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.2, [0.2] * 4),
        (1, [1] * 4),
        (0, [0] * 4),
        (np.float32(0.5), [0.5] * 4),
        (np.float64(0.5), [0.5] * 4),
        (np.int64(2), [2] * 4),
        (fractions.Fraction(1, 2), [0.5] * 4),
        ("3e-4", [3e-4] * 4),
        ("constant:2", [2] * 4),
        ("linear:8", [8, 6, 4, 0]),
        ("linear: 8 ", [8, 6, 4, 0]),
        ("cosine:2", [2, 1 + 0.5**0.5, 1, 0]),
        (lambda frac: 2 * frac, [2, 1.5, 1, 0]),
        (lambda frac: np.float32(frac), [1, 0.75, 0.5, 0]),
    ],
    ids=lambda value: "function" if callable(value) else str(value),  # the same in every process
)
def test_parse(value, expected):
    found = values(schedules.parse(value))
    assert found == pytest.approx(expected)
    assert all(type(number) is float for number in found)


@pytest.mark.parametrize(
    "value", [-1, -1e-9, float("nan"), float("inf"), np.float32("nan"), -np.float64(2), "-1", "inf"]
)
def test_a_number_out_of_range_is_refused(value):
    with pytest.raises(
        ValueError, match=rf"^`lr` \(={float(value)}\) must be finite and not negative, for example 3e-4"
    ):
        schedules.parse(value, "lr")


@pytest.mark.parametrize("value", ["linear:-1", "cosine:inf"])
def test_a_start_out_of_range_is_refused(value):
    number = float(value.partition(":")[2])
    with pytest.raises(ValueError, match=rf"^`cliprange` \(={number}\) must be finite and not negative"):
        schedules.parse(value, "cliprange")


@pytest.mark.parametrize(
    "value", ["", "fast", "linear", "linear:", "linear:x", "linear:nan", "quadratic:1", "LINEAR:1", "nan"]
)
def test_text_of_another_form_is_refused(value):
    with pytest.raises(
        ValueError, match=rf"^`lr` \(='{value}'\) is not a schedule: write a number, or one of "
    ) as error:
        schedules.parse(value, "lr")
    for kind in schedules.KINDS:
        assert f"{kind}:NUMBER" in str(error.value)
    assert "for example 'linear:3e-4'" in str(error.value)


@pytest.mark.parametrize("value", [True, False, None, [3e-4], 1j, np.array([0.1, 0.2])], ids=str)
def test_other_types_are_refused(value):
    with pytest.raises(
        TypeError, match=r"^`lr` \(=.*\) must be a number, text such as 'linear:3e-4', or a function"
    ) as e:
        schedules.parse(value, "lr")
    assert f"(={value!r})" in str(e.value)


def test_a_function_is_tried_at_the_start():
    with pytest.raises(ValueError, match=r"^`lr` \(=-1.0 at frac=1\) must be finite and not negative"):
        schedules.parse(lambda frac: -frac, "lr")


def test_a_function_is_checked_at_every_update():
    schedule = schedules.parse(lambda frac: frac - 0.5, "lr")
    assert schedule(0.75) == 0.25
    with pytest.raises(ValueError, match=r"^`lr` \(=-0.25 at frac=0.25\) must be finite and not negative"):
        schedule(0.25)


def test_the_default_name():
    with pytest.raises(ValueError, match=r"^`schedule`"):
        schedules.parse(-1.0)
