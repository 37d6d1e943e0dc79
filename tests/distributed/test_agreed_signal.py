"""A signal to one of several processes."""

import signal
import sys
from pathlib import Path

import pytest

from ppo2.checkpoints import checkpoint
from support.jobs import Job, command


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_stops_all_at_the_same_update(tmp_path: Path, rank: int) -> None:
    run_dir, as_each_calls_it = tmp_path / "run0", tmp_path / "runRANK"  # which only rank 0 has
    job = Job(tmp_path, *command(as_each_calls_it, updates=10**6))
    job.wait_for(checkpoint.file_of(run_dir, 20))
    job.processes[rank].send_signal(signal.SIGTERM)
    assert job.end() == [128 + signal.SIGTERM] * 2, job.output()
    assert "continues" in job.output()[0]
    before = max(checkpoint.numbered(run_dir / checkpoint.FOLDER))
    resume = [sys.executable, "-m", "ppo2", "resume", str(as_each_calls_it), "--no-progress", "--heartbeat", "20"]
    again = Job(tmp_path, *resume)
    again.wait_for(checkpoint.file_of(run_dir, (before // 20 + 2) * 20))
    again.processes[1 - rank].send_signal(signal.SIGINT)
    assert again.end() == [128 + signal.SIGINT] * 2, again.output()
    assert not (tmp_path / "run1").exists()
