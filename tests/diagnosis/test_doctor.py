"""The function `doctor`: environments in a process that they hang or kill, results for people and machines."""

import json
import threading
import tomllib
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ppo2
from ppo2.cli import main
from ppo2.diagnosis import installation, machine
from ppo2.diagnosis.findings import Diagnosis, Finding, Proposal, lines
from ppo2.diagnosis.proposal import propose
from ppo2.diagnosis.subject import Case, Subject
from ppo2.envs import FAMILIES
from support import patients

QUICK: dict[str, Any] = {"seconds": 0.8, "env_timeout": 0.5}


def test_an_environment_that_hangs_is_a_fault_with_its_place(tmp_path: Path) -> None:
    found = ppo2.doctor(patients.Hanging, env_kwargs={"file": tmp_path / "file"}, **QUICK)
    assert not found.ok
    fault = found["reset and step"]
    assert "it hangs, in trouble" in fault.words
    assert patients.__file__ in fault.words
    assert [one.check for one in found.findings].count("spaces") == 1
    assert found["determinism"].status == found["speed"].status == "ok"  # later checks were made


def test_an_environment_that_kills_its_process_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = gym.envs.registration.EnvSpec("Dying-v0", entry_point=patients.Dying)
    monkeypatch.setitem(gym.registry, "Dying-v0", spec)  # as a script does, which the process doesn't run
    found = ppo2.doctor(lambda: gym.make("Dying-v0", file=tmp_path / "file"), **QUICK)
    assert "was killed by SIGSEGV, in trouble" in found["reset and step"].words
    assert found["spaces"].status == "ok"


def test_an_environment_that_cannot_travel_is_checked_here() -> None:
    env = patients.Healthy()
    env.lock = threading.Lock()  # type: ignore[attr-defined]
    found = ppo2.doctor(env, **QUICK)
    assert found.ok
    assert found["determinism"].status == "ok"


def test_findings_are_told_at_once_and_kept() -> None:
    told: list[Finding] = []
    found = ppo2.doctor(patients.Healthy, **QUICK, on_finding=told.append)
    assert told == found.findings
    assert found.proposal is not None
    text = str(found)
    assert text.startswith("ppo2 doctor: Healthy\nconstructor    ok      Healthy, made in")
    assert all(len(line) <= 80 for line in text.splitlines() if "/" not in line)
    loaded = json.loads(found.to_json())
    assert loaded["ok"] is True
    assert loaded["proposal"]["settings"]["ent_coef"] == 0.01
    assert [one["check"] for one in loaded["findings"]] == [one.check for one in told]


def test_arguments_out_of_range() -> None:
    for wrong, words in (({"seconds": 0}, "`seconds`"), ({"env_timeout": None}, "`env_timeout`")):
        with pytest.raises(ValueError, match=words):
            ppo2.doctor("CartPole-v1", **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no environment of this id"):
        ppo2.doctor("CatPole-v1")
    with pytest.raises(TypeError, match="must be an id"):
        ppo2.doctor(3)
    with pytest.raises(ValueError, match="`env_kwargs`"):
        ppo2.doctor(env_kwargs={"size": 3})


def test_a_finding_as_lines() -> None:
    one = Finding("speed", "warning", "slow " * 20, "be quick")
    first, second, third = lines(one)[0], lines(one)[1], lines(one)[-1]
    assert first.startswith("speed          warning slow")
    assert second.startswith(" " * 23 + "slow")
    assert third == " " * 23 + "-> be quick"
    assert lines(Finding("x", "fault", "\x1b[2J"))[0].endswith(r"\x1b[2J")
    assert json.loads(Diagnosis("X", [Finding("x", "ok", "y", figures={"n": np.float32("nan")})]).to_json())["ok"]
    whole = Diagnosis("X", [one, Finding("x", "fault", "y")], Proposal({"nsteps": 8}, ["why"], "ppo2 train X"))
    assert str(whole).splitlines()[-1] == "1 fault, 1 warning (0 s)"
    with pytest.raises(KeyError):
        whole["nothing"]


def test_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.renderers, "obstacle", lambda name: "")  # a process each
    found = ppo2.doctor()
    assert found.ok
    assert found["devices"].figures["count"] >= 1
    assert {"Python", "ppo2", "packages", "processors", "runs", "extras", "films"} <= {f.check for f in found.findings}


def test_what_an_installation_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(installation, "_is_there", lambda module: module != "ale_py")
    missing = [one for one in installation.extras() if one.remedy]
    assert [one.words for one in missing] == ["without atari: Atari's games (ALE/Pong-v5)"]
    assert "[atari]" in missing[0].remedy
    monkeypatch.setattr(installation.importlib.metadata, "version", lambda name: "0.1.0")
    assert "jax 0.1.0 is older than 0.8" in next(installation.packages()).words
    monkeypatch.setattr(installation, "_cards", lambda: True)
    monkeypatch.setattr(installation.processors, "CUDA_PLUGINS", ("no_such_plugin",))
    found = [one for one in installation.devices() if one.status == "warning"]
    assert not found or "isn't used" in found[0].words
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert next(iter(machine.folders())).status == "warning"


def test_a_check_of_the_installation_that_fails_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise OSError("no such machine")
        yield

    monkeypatch.setattr(machine, "cores", broken)
    monkeypatch.setattr(machine.renderers, "obstacle", lambda name: "")
    assert "OSError: no such machine" in ppo2.doctor()["broken"].words


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--seconds", "0.8", "--env-timeout", "0.5"]
    assert main(["doctor", "support.patients:Healthy", *arguments]) == 0
    assert "no problem found" in capsys.readouterr().out
    assert main(["doctor", "support.patients:Broken", *arguments, "--json"]) == 1
    loaded = json.loads(capsys.readouterr().out)
    assert loaded["ok"] is False
    faults = [one["check"] for one in loaded["findings"] if one["status"] == "fault"]
    assert faults == ["reset and step"]  # what it stops later isn't told again as a fault
    assert main(["doctor", "Nowhere-v0"]) == 1
    assert "no environment of this id is registered" in capsys.readouterr().err


def test_every_extra_is_looked_for() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert {*project["project"]["optional-dependencies"]} - {"all", "dev", "docs"} == {*installation.EXTRAS}


def test_the_proposed_command_has_flags_as_the_command_line_does() -> None:
    preset = dict(FAMILIES[-1].settings)
    case = Case(Subject("X-v0", "host", patients.Healthy, preset, family="default", command="X-v0"))
    spaces = {"observation_space": gym.spaces.Box(-1, 1), "action_space": gym.spaces.Discrete(2)}
    case.facts |= {**spaces, "normalize_rewards": True, "return_size": 1e5}
    words = str(propose(case).command).split()
    assert words[-1] == "--normalize-rewards"
    assert "True" not in words
