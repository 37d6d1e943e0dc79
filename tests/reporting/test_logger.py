import csv
import importlib.util
import json
import math
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from ppo2.reporting import logger as logger_module
from ppo2.reporting.logger import Logger
from ppo2.runners.episodes import Episode


@pytest.fixture(autouse=True)
def _no_formats(monkeypatch):
    monkeypatch.delenv("PPO2_LOG_FORMAT", raising=False)


def row(update, **more):
    return {"misc/nupdates": update, "misc/total_timesteps": update * 1024, "eprewmean": 10.0 * update, **more}


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def write_run(run_dir, updates=4):
    """`updates` updates, each with two episodes and a row."""
    with Logger(run_dir, total_updates=updates, progress=False) as log:
        for update in range(1, updates + 1):
            log.episodes([Episode(float(update), 5, update + 0.5, 0), Episode(-float(update), 7, update + 0.75, 1)])
            log.log(row(update))


def test_no_run_directory_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with Logger(None, total_updates=1, progress=False) as log:
        log.episodes([Episode(1.0, 2, 3.0, 0)])
        log.log(row(1))
        log.tick(1)
        assert log.monitor_rows == 1
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""


def test_full_precision_and_numpy_scalars(tmp_path):
    with Logger(tmp_path, total_updates=1, progress=False) as log:
        log.episodes([Episode(np.float64(1 / 3), np.int64(5), np.float32(0.5), np.int32(0))])  # type: ignore[arg-type]
        log.log({**row(np.int64(1)), "lr": np.float64(1 / 3), "loss/x": np.float32(0.5), "entropy": np.asarray(2.5)})
    assert float(table(tmp_path / "progress.csv")[0]["lr"]) == 1 / 3
    assert table(tmp_path / "progress.csv")[0]["misc/nupdates"] == "1"
    assert json.loads((tmp_path / "progress.jsonl").read_text())["entropy"] == 2.5
    assert table(tmp_path / "monitor.csv") == [{"r": repr(1 / 3), "l": "5", "t": "0.5", "env": "0"}]


def test_means_are_over_the_last_hundred_episodes():
    log = Logger(None, total_updates=1, progress=False)
    assert math.isnan(log.eprewmean)
    assert math.isnan(log.eplenmean)
    log.episodes([Episode(float(i), 2 * i, 0.0, 0) for i in range(150)])
    assert log.eprewmean == 99.5  # the mean of 50 .. 149
    assert log.eplenmean == 199.0
    assert log.monitor_rows == 150


def test_resume_goes_on_counting(tmp_path):
    write_run(tmp_path, updates=4)
    with Logger(tmp_path, total_updates=6, first_update=3, progress=False, monitor_rows=4, resume=True) as log:
        assert log.monitor_rows == 4
        assert log.eprewmean == 0.0  # 1, -1, 2, -2
        assert log.eplenmean == 6.0  # 5, 7, 5, 7
        log.episodes([Episode(9.0, 1, 9.0, 1)])
        log.log(row(3))
        assert log.monitor_rows == 5
    assert [r["misc/nupdates"] for r in table(tmp_path / "progress.csv")] == ["1", "2", "3"]


def test_resume_from_before_the_first_update(tmp_path):
    write_run(tmp_path, updates=2)
    with Logger(tmp_path, total_updates=2, progress=False, monitor_rows=0, resume=True) as log:
        assert log.monitor_rows == 0
        assert math.isnan(log.eprewmean)
        log.log(row(1))
    assert [r["misc/nupdates"] for r in table(tmp_path / "progress.csv")] == ["1"]
    assert (tmp_path / "monitor.csv").read_text().splitlines()[1:] == ["r,l,t,env"]


def test_a_missing_package_is_an_error_before_training(tmp_path, monkeypatch):
    monkeypatch.setenv("PPO2_LOG_FORMAT", "wandb")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=re.escape("pip install 'ppo2[wandb]'")):
        Logger(tmp_path / "run", total_updates=1, progress=False)
    assert not (tmp_path / "run").exists()


def test_without_progress_only_what_is_said_is_printed(capsys):
    with Logger(None, total_updates=2, progress=False) as log:
        log.tick(1)
        log.log(row(1))
        log.say("[bold]as it is[/bold] :smile:")
    assert capsys.readouterr().out == "[bold]as it is[/bold] :smile:\n"


def test_a_failing_file_is_said(tmp_path, capsys):
    with Logger(tmp_path / "run", total_updates=1, progress=False) as log:
        (tmp_path / "run").rename(tmp_path / "gone")
        log.log(row(1))
    assert "progress.csv: No such file or directory" in capsys.readouterr().out


def test_an_exception_closes_the_display_once(monkeypatch):
    closed = []

    class Display:
        def close(self):
            closed.append(True)

    monkeypatch.setattr(logger_module, "open_display", lambda pace, progress: Display())
    with pytest.raises(RuntimeError, match="boom"), Logger(None, total_updates=1, progress=True) as log:
        raise RuntimeError("boom")
    log.close()
    assert closed == [True]


def test_a_tick_is_cheap():
    log = Logger(None, total_updates=10**6, progress=False)

    def seconds():
        start = time.perf_counter()
        for update in range(10_000):
            log.tick(update)
        return (time.perf_counter() - start) / 10_000

    assert min(seconds() for _ in range(5)) < 5e-6  # the least of five: what else runs only adds


def test_importing_is_light():
    heavy = {"jax", "rich", "matplotlib", "wandb", "tensorboardX"}
    program = f"""
import sys
import ppo2.reporting.logger
print({heavy!r} & set(sys.modules))
"""
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
