"""Errors of constructors: one sentence with the environment, the error's type and text, file and line."""

import functools
import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import ppo2
from ppo2.envs import adapters
from ppo2.envs.construction import resolve
from ppo2.envs.host.constructors import ConstructorError
from support.environments import Script


class Needs(Script):
    """Needs an argument, and may fail."""

    def __init__(self, what: str) -> None:
        super().__init__()
        if what == "bare":
            raise ValueError
        if what == "assert":
            assert what == "right"
        if what == "file":
            Path("/nowhere/map.txt").read_text()
        if what == "package":
            import nothing_here  # type: ignore[import-not-found] # noqa: F401


CASES = {
    "bare": "raised ValueError, without a text, in __init__",
    "assert": "raised AssertionError",
    "file": "raised FileNotFoundError: .*/nowhere/map.txt', in __init__",
    "package": "raised ModuleNotFoundError: No module named 'nothing_here', in __init__",
}


@pytest.mark.parametrize("what", CASES)
def test_a_factory_that_fails(what: str) -> None:
    with pytest.raises(ConstructorError, match=rf"`eval_env` .* could not be made: .* {CASES[what]}.*{__file__}, line"):
        resolve(functools.partial(Needs, what), 1, "eval_env")
    with pytest.raises(ConstructorError, match=r"`env` \(=.*<lambda>\) could not be made"):
        resolve(lambda: Needs(what), 1)


def test_arguments_that_are_missing_or_unknown() -> None:
    with pytest.raises(ConstructorError, match=r"`env` \(=Needs\).* argument: 'what'\. Pass a function that gives"):
        resolve(Needs, 1)
    with pytest.raises(ValueError, match=r"CartPole-v1 has no argument 'size'\. It takes sutton_barto_reward, "):
        ppo2.make("CartPole-v1", size=3)


def test_a_registered_environment_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    registry: dict[str, Any] = dict(gym.registry)
    monkeypatch.setattr(gym.envs.registration, "registry", registry)
    gym.register("Bare-v0", entry_point=Needs, kwargs={"what": "bare"})
    monkeypatch.setitem(gym.registry, "Bare-v0", registry["Bare-v0"])
    with pytest.raises(ConstructorError, match=r"`env` \(='Bare-v0'\) could not .* ValueError, without a text"):
        ppo2.make("Bare-v0")


class OneAlone(Script):
    """A class of which there can be one, or one in each process."""

    made = 0

    def __init__(self, process: int | None = None) -> None:
        super().__init__()
        type(self).made += 1
        if type(self).made > 1 if process is None else os.getpid() != process:
            raise OSError("the licence is taken")


def test_another_environment_than_the_first_that_fails(capsys: Any) -> None:
    with pytest.raises(
        ConstructorError, match=r"`env`: environment 1 could .* OSError: the licence.*__init__ \(.*line"
    ):
        resolve(OneAlone, 2)
    env = ppo2.make(functools.partial(OneAlone, os.getpid()), num_envs=3, workers=1)
    env.reset()
    env.close()
    said = capsys.readouterr().err
    assert "environments 1 to 2 could not be made in another process (`env`: environment 1 could not be made" in said
    assert "OSError: the licence is taken" in said


def test_errors_of_our_own_stay_as_they_are() -> None:
    with pytest.raises(ValueError, match=r"^`frame_stack` \(=2\)"):
        ppo2.make("FrozenLake-v1", frame_stack=2)


def test_a_constructor_that_ends_the_program() -> None:
    def leave() -> Any:
        raise SystemExit(3)

    with pytest.raises(ConstructorError, match=rf"SystemExit: 3, in leave \({__file__}, line"):
        resolve(leave, 1)


def test_environments_of_other_makers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        package = "json"

        @classmethod
        def check_name(cls, name: str) -> None:
            assert name == "Task"

        def __init__(self, name: str, **kwargs: Any) -> None:
            raise AssertionError

    monkeypatch.setitem(adapters.ADAPTERS, "broken", Broken)  # type: ignore[arg-type]
    words = rf"`env` \(='broken:Task'\) could not be made: .* AssertionError, without a text, in __init__ \({__file__}"
    for make in (ppo2.make, resolve):
        with pytest.raises(ConstructorError, match=words):
            make("broken:Task")
    with pytest.raises(ConstructorError, match=r"`env` \(='CartPole-v1'\) .* argument 'size'"):
        ppo2.make("CartPole-v1", own_vector=True, size=3)
