"""Findings of `doctor` about environments with one fault each, in this process."""

import functools
import re
from typing import Any

import gymnasium as gym
import pytest

from ppo2.diagnosis.child import examine
from ppo2.diagnosis.doctor import subject_of
from ppo2.diagnosis.findings import Diagnosis
from support import patients


def diagnosed(env: Any, **kwargs: Any) -> Diagnosis:
    messages: list[Any] = []
    examine(subject_of(env, kwargs, {"seconds": 0.8, "timeout": 5.0, "seed": 0}), (), messages.append)
    found = [content for kind, content in messages if kind == "found"]
    return Diagnosis("", found, next(content for kind, content in messages if kind == "proposal"))


def test_a_healthy_environment() -> None:
    found = diagnosed(patients.Healthy)
    assert [one.status for one in found.findings if one.status != "ok"] == []
    assert "same bits, whatever came before" in found["determinism"].words
    assert found["random policy"].figures["mean"] == pytest.approx(10, abs=1.5)
    assert found["episodes"].figures["median"] == 20
    assert found.proposal is not None
    assert found.proposal.settings["nsteps"] == 128
    assert found.proposal.settings["ent_coef"] == 0.01
    assert found.proposal.settings["num_envs"] * 128 % found.proposal.settings["nminibatches"] == 0


@pytest.mark.parametrize(("env", "check", "status", "words", "remedy"), [
    (patients.Global, "determinism", "warning", "something else at the reset: runs can't", "the global random: draw"),
    (patients.Leaking, "determinism", "warning", "after other episodes .* at step 1: `reset` leaves", "in `reset`"),
    (patients.Broken, "reset and step", "fault", r"raised NotImplementedError, without a text, in step \(.*, line", ""),
    (patients.Broken, "rewards", "skipped", "no random step", ""),
    (patients.NotFinite, "observations", "fault", r"hold nan at \[1\]", ""),
    (patients.Wide, "observations", "warning", r"leave their space: .* declared within \[-1, 1\]", "widen"),
    (patients.Wide, "scale", "ok", "numbers up to 50", ""),
    (patients.Wide, "action bounds", "warning", r"the bounds \[100, 200\]", "squashed_gaussian"),
    (patients.Wide, "rewards", "warning", "far from 1", "normalize_rewards=True"),
    (patients.Wide, "episodes", "warning", r"\*terminated\* after exactly 20 steps", "truncated=True"),
    (patients.Deaf, "effect", "warning", "actions seem to change nothing", "uses its argument"),
    (patients.Deaf, "rewards", "warning", "met no reward", "shaping"),
    (patients.Deaf, "episodes", "warning", "no time limit that shows", "max_episode_steps"),
    (patients.Masked, "action masks", "ok", "allow 50%", ""),
    (patients.Masked, "reset and step", "ok", "with action masks", ""),
    (patients.OnDevice, "reset and step", "ok", "traced", ""),
    (patients.OnDevice, "determinism", "ok", "same keys", ""),
    (patients.Impure, "reset and step", "fault", "needs the value of an array", ""),
])  # fmt: skip
def test_a_fault(env: Any, check: str, status: str, words: str, remedy: str) -> None:
    found = once(env)[check]
    assert found.status == status, found
    assert re.search(words, found.words), found.words
    assert remedy in found.remedy


once = functools.cache(diagnosed)


def test_images_get_a_convolutional_network() -> None:
    found = once(patients.Pictures)
    assert found.ok
    assert found["scale"].words == "observations need no scaling"
    assert found.proposal is not None
    assert found.proposal.settings["network"] == "cnn"
    assert "normalize_obs" not in found.proposal.settings


def test_a_constructor_that_fails_leaves_nothing_to_check() -> None:
    def broken() -> Any:
        raise OSError

    found = diagnosed(broken)
    assert "could not be made: its constructor raised OSError, without a text, in broken" in found["constructor"].words
    assert [(one.check, one.status) for one in found.findings[1:]] == [("all else", "skipped")]
    assert found.proposal is None


def test_a_time_limit_and_arguments_are_the_constructors() -> None:
    found = diagnosed(patients.Deaf, max_episode_steps=7)
    assert found["episodes"].status == "ok"
    assert "of 7 steps; 0 terminated" in found["episodes"].words
    with pytest.raises(ValueError, match="don't fit"):
        diagnosed(patients.Healthy, size=3)


def test_instances_vectors_and_ids() -> None:
    one = diagnosed(patients.Healthy())
    assert one.ok
    assert one.proposal is not None
    assert "num_envs" not in one.proposal.settings  # there is one
    registered = diagnosed(gym.make("CartPole-v1"))
    assert registered.proposal is not None
    assert registered.proposal.settings["gamma"] == 0.98
    vector = diagnosed(gym.vector.SyncVectorEnv([patients.Healthy] * 3))
    assert vector.ok
    assert "3 environments" in vector["reset and step"].words
    assert vector.proposal is not None
    assert "num_envs" not in vector.proposal.settings
    named = diagnosed("CartPole-v1")
    assert named.ok
    assert "solved at 475" in named["random policy"].words
    assert named.proposal is not None
    assert named.proposal.command == "ppo2 train CartPole-v1"
    assert named.proposal.settings["gamma"] == 0.98
    assert diagnosed("support.patients:Healthy").ok
