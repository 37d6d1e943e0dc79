"""Sessions of a run: versions and platform, in config.json and in a line."""

import json
from pathlib import Path

import pytest

from ppo2.training import sessions
from support.runs import learn


def test_another_version_or_platform_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn(run_dir=tmp_path, update_fn=lambda update: update < 2)
    file = tmp_path / "config.json"
    settings = json.loads(file.read_text())
    first = settings["sessions"][0]
    now = dict(first["versions"])
    first["versions"]["jax"], first["platform"]["machine"] = "0.0.1", "abacus"
    file.write_text(json.dumps(settings))
    capsys.readouterr()
    learn(run_dir=tmp_path, load_path=tmp_path)
    told = [line for line in capsys.readouterr().out.splitlines() if "other software" in line]
    assert len(told) == 1
    assert f"jax was 0.0.1, is {now['jax']}; machine was abacus, is " in told[0]
    after = json.loads(file.read_text())
    assert [session["after_update"] for session in after["sessions"]] == [0, 2]
    assert after["sessions"][0] == first
    assert after["versions"] == after["sessions"][1]["versions"] == now
    learn(run_dir=tmp_path, load_path=tmp_path)
    assert "other software" not in capsys.readouterr().out


def test_the_versions_of_an_earlier_ppo2_are_its_session() -> None:
    before = sessions.sessions_in({"versions": {"jax": "0.0.1"}})
    assert before == [{"versions": {"jax": "0.0.1"}}]
    assert "jax was 0.0.1, is " in sessions.changes(before, sessions.current_session(0, 1))
    assert sessions.changes(sessions.sessions_in({}), sessions.current_session(0, 1)) == ""


@pytest.mark.parametrize("spoiled", ["many", [1], [{"versions": 3}], [{}]])
def test_spoiled_sessions_are_passed_over(spoiled: object) -> None:
    before = sessions.sessions_in({"sessions": spoiled})
    assert sessions.changes(before, sessions.current_session(0, 1)) == ""
