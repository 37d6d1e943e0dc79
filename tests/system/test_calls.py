"""Calls with wrong arguments: one sentence that names the argument and shows a right call."""

import inspect
from typing import Any

import pytest

import ppo2
from ppo2.evaluation.play import play
from ppo2.system.calls import told_plainly


@told_plainly("shout('hello', times=2)")
def shout(text: str, *, times: int = 1) -> str:
    return text.upper() * times


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, r"shout\(\): `text` is missing\. A right call is shout\('hello', times=2\)\."),
        (("a",), {"tiems": 2}, r"shout\(\): `tiems` is no argument of it; did you mean `times`\? A right call"),
        (("a",), {"loud": 2}, r"shout\(\): `loud` is no argument of it\. A right call"),
        (("a", 2), {}, r"shout\(\): `text` can be given by position, and 2 values were; all others .* by name\."),
        (("a",), {"text": "b"}, r"shout\(\): multiple values for argument 'text'\. A right call"),
    ],
)
def test_wrong_calls(args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        shout(*args, **kwargs)


def test_right_calls_and_the_signature_are_as_before() -> None:
    assert shout("a", times=2) == "AA"
    assert str(inspect.signature(shout)) == "(text: str, *, times: int = 1) -> str"


def test_errors_of_the_function_itself_pass() -> None:
    with pytest.raises(TypeError, match=r"repeat|multiply"):
        shout("a", times="b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda learn: ppo2.learn(**learn), r"learn\(\): `env` is missing\. .*ppo2\.learn\(env='CartPole-v1'"),
        (lambda _: ppo2.learn("mlp", "CartPole-v1"), r"learn\(\): its arguments are given by name\. .*env='CartPole"),
        (lambda _: ppo2.sweep(seed=range(2)), r"sweep\(\): `env` is missing\. .*ppo2\.sweep\(env="),
        (lambda _: ppo2.evaluate("model"), r"evaluate\(\): `env` is missing\."),
        (lambda _: play("model", "CartPole-v1", 10), r"play\(\): `model`, `env` can be given by position"),
        (lambda _: ppo2.evaluate("model", "CartPole-v1", episode=10), r"evaluate\(\): .*did you mean `episodes`\?"),
        (lambda _: ppo2.evaluate("runs/x", "CartPole-v1"), r"`model` \(='runs/x'\) .*ppo2\.load\('runs/x'\)"),
        (lambda _: ppo2.load(3), r"`path` \(=3\) must be the path of a checkpoint, or of a run directory"),
        (lambda _: play("model"), r"play\(\): `env` is missing\."),
        (lambda _: ppo2.load(), r"load\(\): `path` is missing\. .*ppo2\.load\("),
    ],
)
def test_public_verbs(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call({"network": "mlp"})
