"""YAML 1.2: what is read is plain, and what is written is read again."""

import math

import pytest

from ppo2.config.yaml_text import dumped, parsed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("3e5", 3e5), ("+1", 1), ("-.5", -0.5), ("no", "no"), ("on", "on"), ("true", True), ("~", None),
        ("None", None), ("12:30:45", "12:30:45"), ("2020-01-01", "2020-01-01"), ("010", 10), ("-inf", -math.inf),
        (".inf", math.inf), ("linear:3e-4", "linear:3e-4"), ("a: [1, {b: x}]", {"a": [1, {"b": "x"}]}), ("", None),
        ("e5", "e5"), ("1_000", "1_000"), ("a: 1 # why", {"a": 1}),
    ],
)  # fmt: skip
def test_values(text, value):
    found = parsed(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["[1", "a: 1\na: 2", "!!python/object/apply:os.system [echo]", "!!python/name:os.system"]
)
def test_what_is_refused(text):
    with pytest.raises(ValueError, match=r"line|expected|constructor"):
        parsed(text)


@pytest.mark.parametrize(
    "value",
    [
        *(1e-3, 1e300, 5, "1e-3", "no", "null", "None", "True", "a: b", "# x", "", True, None, math.inf, "é"),
        *([1, "x"], {"a": [None]}),
    ],
)  # fmt: skip
def test_what_is_written_is_read(value):
    found = parsed(dumped(value))
    assert (found, type(found)) == (value, type(value))
    assert "\n" not in dumped(value)


@pytest.mark.parametrize("text", ["[" * 3000, "!!timestamp x", "{[a]: 1}", "!!int x", "!!bool x", "{{a: 1}: 2}"])
def test_what_no_value_can_be_made_of(text):
    with pytest.raises(ValueError, match=r"."):
        parsed(text)
