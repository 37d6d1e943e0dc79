"""Run directories as a report reads them: whatever is in them."""

import json
import os

import numpy as np
import pytest

from ppo2.reports.runs import gather, newest_clip, policy_of
from support.run_files import write_run_files


def test_a_run_and_its_numbers(tmp_path):
    (run,) = gather([write_run_files(tmp_path / "x", updates=30)])
    assert (run.name, run.updates, run.timesteps, run.seconds) == ("x", (30, 40), 3000, 15)
    assert run.setting("lr", float) == 3e-4
    assert run.setting("lr", str) is None
    assert len(run.curve.returns) == 80
    assert not run.problems


def test_errors_name_the_path(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere does not exist\. A run directory is what"):
        gather([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="has none of a run's files"):
        gather([tmp_path])
    with pytest.raises(ValueError, match="name at least one run"):
        gather([])
    (run,) = gather([tmp_path / "nowhere"], may_be_missing=True)
    assert not run.curve.returns.size


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("config.json", "{", "config.json is damaged"),
        ("config.json", "[1]", "config.json is damaged"),
        ("progress.csv", "a,b\n1,x\n", "progress.csv is damaged"),
        ("progress.csv", "a,b\n1\n1,2\n", "progress.csv is damaged"),
        ("monitor.csv", "r,l,t,env\n1,2\n", "monitor.csv is damaged"),
        ("monitor.csv", "a,b\n1,2\n", "monitor.csv lacks the columns"),
        ("monitor.csv", "\0\x80\n\xff", "monitor.csv"),
    ],
)
def test_damaged_files_are_told_and_the_others_are_read(name, content, problem, tmp_path):
    path = write_run_files(tmp_path / "x")
    (path / name).write_bytes(content.encode("latin-1"))
    (run,) = gather([path])
    assert any(problem in words for words in run.problems)
    assert len(run.column("misc/nupdates")) == (0 if name == "progress.csv" else 40)


def test_a_damaged_table_of_progress_is_read_from_its_twin(tmp_path):
    path = write_run_files(tmp_path / "x")
    (path / "progress.csv").write_text("a,b\n1,x\n")
    rows = [{"misc/nupdates": i, "misc/total_timesteps": 100 * i, "loss/approxkl": None} for i in (1, 2)]
    (path / "progress.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"misc/nup')
    (run,) = gather([path])
    np.testing.assert_array_equal(run.column("misc/nupdates"), [1, 2])
    assert "shown is progress.jsonl instead" in run.problems[0]


def test_empty_and_half_written_files(tmp_path):
    for name in ("config.json", "progress.csv", "monitor.csv"):
        path = write_run_files(tmp_path / name)
        (path / name).write_bytes(b"")
    path = write_run_files(tmp_path / "half")
    (path / "monitor.csv").write_text("r,l,t,env\n1,50,1,0\n2,5")
    (path / "progress.csv").write_text("misc/nupdates,misc/to")
    runs = gather(sorted(tmp_path.iterdir()))
    assert [len(run.curve.returns) for run in runs] == [80, 1, 0, 80]


def test_runs_of_one_name_have_their_paths(tmp_path):
    runs = gather([write_run_files(tmp_path / parent / "x") for parent in ("a", "b")])
    assert [run.name for run in runs] == [str(tmp_path / "a" / "x"), str(tmp_path / "b" / "x")]


def test_a_sweep_is_all_of_its_runs(tmp_path):
    (tmp_path / "sweep.json").write_text('{"env": "X-v0", "swept": {"seed": [0, 1]}, "fixed": {}}')
    for i in range(2):
        write_run_files(tmp_path / "runs" / f"{i:04}")
    assert [run.name for run in gather([tmp_path])] == ["0000", "0001"]


def test_a_sweep_on_the_device_has_its_policies_in_files(tmp_path):
    (tmp_path / "sweep.json").write_text('{"env": "X-v0", "swept": {"seed": [0, 1]}, "fixed": {}}')
    (run,) = gather([tmp_path], may_be_missing=True)
    assert "has no curves yet" in run.problems[0]
    with pytest.raises(ValueError, match="has no curves yet"):
        gather([tmp_path])
    (tmp_path / "curves.csv").write_text("run,timesteps,return,recent\n0,10,1,1\n1,10,2,2\n")
    assert [policy_of(run).name for run in gather([tmp_path])] == ["0000.safetensors", "0001.safetensors"]


def test_the_newest_film(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / ".d.99.mp4").write_bytes(b"begun")
    assert newest_clip(tmp_path) is None
    for age, name in enumerate(("videos/b.mp4", "a.gif", "videos/c.webm")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert newest_clip(tmp_path) == tmp_path / "videos" / "b.mp4"
