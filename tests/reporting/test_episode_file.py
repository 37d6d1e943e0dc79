"""monitor.csv, read as Baselines and Stable-Baselines3 read it, and files of earlier versions."""

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest

from ppo2.reporting.episode_file import facts_line, has_all_episodes, keep_episodes, table_lines, with_share
from ppo2.runners.episodes import Episode
from support.runs import learn


def load_monitor(path: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The first line and the rows, by the rules of `load_results` in `stable_baselines3.common.monitor`."""
    with path.open() as file:
        first = file.readline()
        assert first[0] == "#"
        header = json.loads(first[1:])
        rows = list(csv.DictReader(file))
    assert all(float(row["t"]) + header["t_start"] > 0 for row in rows)
    assert all({"r", "l", "t"} <= row.keys() for row in rows)
    return header, rows


def test_a_run_leaves_what_the_loaders_read_also_after_a_resume(tmp_path: Path) -> None:
    before = time.time()
    learn(run_dir=tmp_path, update_fn=lambda update: update < 3)
    header, rows = load_monitor(tmp_path / "monitor.csv")
    assert header["env_id"] == "CartPole-v1"
    assert before <= header["t_start"] <= time.time()
    assert rows
    learn(run_dir=tmp_path, load_path=tmp_path, total_timesteps=4 * 64)
    again, more = load_monitor(tmp_path / "monitor.csv")
    assert again == header  # the run started when it started
    assert more[: len(rows)] == rows
    assert (tmp_path / "monitor.csv").read_text().count("r,l,t") == 1


def test_a_file_of_an_earlier_version_gets_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "monitor.csv"
    path.write_text("r,l,t,env\n1.0,2,3.0,0\n4.0,5,6.0,1\n7.0,8")
    assert table_lines(path) == ["r,l,t,env\n", "1.0,2,3.0,0\n", "4.0,5,6.0,1\n"]
    head, count, last = keep_episodes(path, 1, facts_line("X-v0", 10.0))
    assert (count, last) == (1, [Episode(1.0, 2, 3.0, 0)])
    header, rows = load_monitor(path)
    assert header["env_id"] == "X-v0"
    assert header["t_start"] == pytest.approx(time.time() - 10.0, abs=5.0)
    assert [row["r"] for row in rows] == ["1.0"]
    assert path.read_text().startswith(head)
    assert keep_episodes(path, None, facts_line("Y-v0", 0.0))[0] == head


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "monitor.csv"
    path.write_text(facts_line(None, 0.0) + "r,l,t,env\n1.0,many,3.0,0\n")
    with pytest.raises(ValueError, match=r"monitor.csv is damaged \(.*many.*fix it"):
        keep_episodes(path, None, "")


def test_a_share_takes_the_place_of_another(tmp_path: Path) -> None:
    facts = facts_line("X-v0", 0.0)
    whole, third, tiny = with_share(facts, 0.5), with_share(facts, 1 / 3), with_share(facts, 1e-9)
    assert len(whole) == len(third) == len(tiny)
    assert json.loads(third[1:]) == {**json.loads(facts[1:]), "share": 0.333333}
    assert json.loads(tiny[1:])["share"] == 1e-6
    assert with_share(whole, 1 / 3) == third
    assert with_share("# by hand\n", 0.5) == "# by hand\n"
    for first, has_all in ((facts, True), (third, False), ("# by hand\n", True), ("", True)):
        (tmp_path / "monitor.csv").write_text(first + "r,l,t,env\n")
        assert has_all_episodes(tmp_path / "monitor.csv") == has_all
