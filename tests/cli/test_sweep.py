"""`ppo2 sweep`."""

import io
import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from rich.console import Console

from ppo2.cli import main
from ppo2.cli.sweep import SweepCommand
from ppo2.reporting.screens import table_of_lines
from support.commands import TINY, finish, start
from support.jobs import last_tensors


def test_the_command(capsys: Any, tmp_path: Any) -> None:
    pytest.importorskip("gymnax")
    path = tmp_path / "s"
    words = ["sweep", "gymnax:CartPole-v1", "--seeds", "2", "--lr", "1e-3", "linear:1e-4", "--num-hidden", "8"]
    assert main([*words, "--total-timesteps", "1024", "--run-dir", str(path)]) == 0
    out = capsys.readouterr().out
    assert "sweep     2 values of lr x 2 seeds = 4 runs of 1,024 timesteps" in out
    assert out.split().count("linear:1e-4") == 1
    assert (path / "curves.png").exists()
    assert json.loads((path / "sweep.json").read_text())["fixed"]["gamma"] == 0.98  # the preset's
    assert main(["sweep", "gymnax:CartPole-v1", "--gamma", "1.5", "--run-dir", "None"]) == 1
    assert "`gamma` (=1.5)" in capsys.readouterr().err


def test_no_seeds(capsys):
    assert main(["sweep", "CartPole-v1", "--seeds", "0"]) == 2
    assert capsys.readouterr().err == "ppo2: --seeds (=0) must be at least 1.\n"


def test_figures_are_whole_on_a_narrow_screen():
    screen = Console(width=28, file=io.StringIO())
    names, rows = ("network", "lr", "runs", "final"), [("lstm", "linear:1e-3", "5", "123.4")]
    screen.print(table_of_lines(names, rows, screen.width))
    assert screen.file.getvalue() == "netw…          lr runs final\n lstm linear:1e-3    5 123.4\n"


@pytest.mark.parametrize("words", [["--seeds", "2", "CartPole-v1"], ["CartPole-v1", "--lr", "1e-3", "1e-4"]])
def test_the_preset_is_that_of_the_environment_wherever_it_is_named(words: list[str]) -> None:
    command: Any = SweepCommand.with_options(words)
    assert command.__dataclass_fields__["gamma"].default == (0.98,)


def test_a_sweep_that_was_stopped_goes_on(place: Path) -> None:
    """By SIGTERM it stops after its updates, with status 143; when it is killed its processes do the same. Resumed
    twice, it has the results of one that was never stopped.
    """
    command = ["sweep", "slow:Slow-v0", "--seeds", "2", "--parallel", "2", "--total-timesteps", "1280", *TINY]
    stopped = start(place, *command, "--run-dir", "runs/stopped", slow=0.002)
    status, _, err = _stop(stopped, place / "runs" / "stopped", signal.SIGTERM)
    assert (status, err) == (143, "ppo2: stopped by SIGTERM; `ppo2 resume runs/stopped` continues it\n")
    status, _, _ = _stop(start(place, "resume", "runs/stopped", slow=0.002), place / "runs" / "stopped", signal.SIGKILL)
    assert status == -signal.SIGKILL
    status, out, err = finish(start(place, "resume", "runs/stopped"))
    assert (status, err) == (0, "")
    assert "the sweep in" in out
    assert finish(start(place, *command, "--run-dir", "runs/whole"))[0] == 0
    for run in ("0000", "0001"):
        mine, theirs = (last_tensors(place / "runs" / name / "runs" / run) for name in ("stopped", "whole"))
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            np.testing.assert_array_equal(tensor, theirs[name], err_msg=name)
    tables = [(place / "runs" / name / "table.csv").read_text() for name in ("stopped", "whole")]
    assert tables[0] == tables[1]


def _stop(process: Any, run_dir: Path, number: int) -> tuple[int, str, str]:
    """Sends a signal once both runs have logged another update; returns when their processes have ended, too."""
    logs = [run_dir / "runs" / name / "progress.jsonl" for name in ("0000", "0001")]
    before = [log.stat().st_size if log.exists() else 0 for log in logs]
    deadline = time.monotonic() + 120
    while not all(log.exists() and log.stat().st_size > size for log, size in zip(logs, before, strict=True)):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    result = finish(process)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    return result


def test_a_run_that_failed_makes_the_status_1(place: Path, capsys: Any) -> None:
    words = ["sweep", "slow:Slow-v0", "--seeds", "1", "--lr", "1e-3", "1e30", "--total-timesteps", "128", *TINY]
    words += ["--on-nonfinite", "raise", "--parallel", "1", "--run-dir", "runs/failed"]
    assert main(words) == 1
    told = f"1 of 2 runs failed; `ppo2 resume {place / 'runs' / 'failed'}` tries them again"
    assert told in capsys.readouterr().err
