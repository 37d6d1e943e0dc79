import csv
import errno
import json
import math
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import types
from contextlib import closing
from pathlib import Path

import pytest

from ppo2.reporting import tables, trackers
from ppo2.reporting.tables import FORMATS, RunFiles, formats_from_environment
from ppo2.runners.episodes import Episode


@pytest.fixture(autouse=True)
def _no_formats(monkeypatch):
    monkeypatch.delenv("PPO2_LOG_FORMAT", raising=False)


def row(update, **more):
    return {"misc/nupdates": update, "misc/total_timesteps": update * 1024, "eprewmean": 10.0 * update, **more}


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def opened(run_dir, **settings):
    return closing(RunFiles(run_dir, warn=print, **settings))


def write_run(run_dir, updates=4):
    """`updates` updates, each with two episodes and a row."""
    with opened(run_dir) as files:
        for update in range(1, updates + 1):
            files.episodes([Episode(float(update), 5, update + 0.5, 0), Episode(-float(update), 7, update + 0.75, 1)])
            files.log(row(update))


def test_files_hold_what_was_logged(tmp_path):
    write_run(tmp_path / "run", updates=2)
    facts, *lines = (tmp_path / "run/monitor.csv").read_text().splitlines()
    assert facts.startswith("#")
    assert lines == ["r,l,t,env", "1.0,5,1.5,0", "-1.0,7,1.75,1", "2.0,5,2.5,0", "-2.0,7,2.75,1"]
    assert (tmp_path / "run/progress.csv").read_text() == (
        "misc/nupdates,misc/total_timesteps,eprewmean\n1,1024,10.0\n2,2048,20.0\n"
    )
    lines = (tmp_path / "run/progress.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [row(1), row(2)]
    assert not list((tmp_path / "run").glob("*.tmp"))


def test_json_lines_have_null_for_nan_and_infinity(tmp_path):
    with opened(tmp_path) as files:
        files.log(row(1, eplenmean=math.nan, up=math.inf, down=-math.inf))

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    read = json.loads((tmp_path / "progress.jsonl").read_text(), parse_constant=refuse)
    assert read["eplenmean"] is read["up"] is read["down"] is None
    assert table(tmp_path / "progress.csv")[0]["eplenmean"] == "nan"


def test_keys_that_appear_later_get_a_column(tmp_path):
    with opened(tmp_path) as files:
        files.log(row(1))
        files.log(row(2, eval_eprewmean=7.0, **{"odd,key": 1.0}))
        files.log(row(3))
    rows = table(tmp_path / "progress.csv")
    assert [r["eval_eprewmean"] for r in rows] == ["", "7.0", ""]
    assert [r["odd,key"] for r in rows] == ["", "1.0", ""]
    assert [r["misc/nupdates"] for r in rows] == ["1", "2", "3"]


def test_resume_drops_later_rows_and_goes_on(tmp_path):
    write_run(tmp_path, updates=4)
    with opened(tmp_path, resume_from=2, monitor_rows=4) as files:
        assert files.monitor_rows == 4
        assert [episode.r for episode in files.last_episodes] == [1, -1, 2, -2]
        assert [episode.l for episode in files.last_episodes] == [5, 7, 5, 7]
        files.episodes([Episode(9.0, 1, 9.0, 1)])
        files.log(row(3, lr=0.5))
    assert [r["misc/nupdates"] for r in table(tmp_path / "progress.csv")] == ["1", "2", "3"]
    assert [r["lr"] for r in table(tmp_path / "progress.csv")] == ["", "", "0.5"]
    updates = [json.loads(line)["misc/nupdates"] for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert updates == [1, 2, 3]
    assert [r["r"] for r in table(tmp_path / "monitor.csv")] == ["1.0", "-1.0", "2.0", "-2.0", "9.0"]


def test_resume_without_a_count_keeps_all_episodes(tmp_path):
    write_run(tmp_path, updates=4)
    with opened(tmp_path, resume_from=4) as files:
        assert files.monitor_rows == 8
    assert len(table(tmp_path / "monitor.csv")) == 8
    assert len(table(tmp_path / "progress.csv")) == 4


@pytest.mark.parametrize("rubbish", ["3,30", "30\n", "garbage\n", "\0\0\0\n"])
def test_resume_drops_what_a_crash_damaged(tmp_path, rubbish):
    write_run(tmp_path, updates=2)
    for name in ("progress.csv", "progress.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write(rubbish)
    with (tmp_path / "monitor.csv").open("a") as file:
        file.write("3.0,5")
    with opened(tmp_path, resume_from=2, monitor_rows=4) as files:
        files.episodes([Episode(9.0, 1, 9.0, 1)])
        files.log(row(3))
    assert [r["misc/nupdates"] for r in table(tmp_path / "progress.csv")] == ["1", "2", "3"]
    assert len((tmp_path / "progress.jsonl").read_text().splitlines()) == 3
    assert [r["r"] for r in table(tmp_path / "monitor.csv")] == ["1.0", "-1.0", "2.0", "-2.0", "9.0"]


def test_resume_where_the_files_are_gone(tmp_path):
    with opened(tmp_path, resume_from=2, monitor_rows=4) as files:
        assert files.monitor_rows == 0
        files.log(row(3))
    assert len(table(tmp_path / "progress.csv")) == 1
    assert (tmp_path / "monitor.csv").read_text().splitlines()[1:] == ["r,l,t,env"]


def test_a_new_run_never_overwrites_an_old_one(tmp_path):
    write_run(tmp_path, updates=1)
    before = (tmp_path / "progress.csv").read_bytes()
    with pytest.raises(ValueError, match=re.escape(f"`run_dir` (={str(tmp_path)!r}) holds a run already")):
        RunFiles(tmp_path, warn=print)
    assert (tmp_path / "progress.csv").read_bytes() == before


def test_a_killed_run_keeps_its_rows(tmp_path):
    program = """
import sys, time
from pathlib import Path
from ppo2.runners.episodes import Episode
from ppo2.reporting.tables import RunFiles
files = RunFiles(Path(sys.argv[1]), warn=print)
files.episodes([Episode(1.0, 2, 3.0, 0)])
files.log({"misc/nupdates": 1, "misc/total_timesteps": 8})
print("ready", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
    assert table(tmp_path / "run/progress.csv") == [{"misc/nupdates": "1", "misc/total_timesteps": "8"}]
    assert json.loads((tmp_path / "run/progress.jsonl").read_text())["misc/nupdates"] == 1
    assert table(tmp_path / "run/monitor.csv") == [{"r": "1.0", "l": "2", "t": "3.0", "env": "0"}]


def test_a_full_disk_is_said_once_and_rows_wait(tmp_path, monkeypatch, capsys):
    files = RunFiles(tmp_path, warn=print)
    files.log(row(1))
    append = tables._append_text

    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tables, "_append_text", full)
    files.log(row(2))
    files.episodes([Episode(1.0, 2, 3.0, 0)])
    monkeypatch.setattr(tables, "_append_text", append)
    files.log(row(3))
    files.close()
    assert [r["misc/nupdates"] for r in table(tmp_path / "progress.csv")] == ["1", "2", "3"]
    assert len((tmp_path / "progress.jsonl").read_text().splitlines()) == 3
    assert len(table(tmp_path / "monitor.csv")) == 1
    out = capsys.readouterr().out
    assert out.count("No space left on device") == 1
    assert "progress.csv" in out


def test_rows_that_could_not_be_written_to_the_end_are_told(tmp_path, monkeypatch, capsys):
    files = RunFiles(tmp_path, warn=print)

    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tables, "_append_text", full)
    files.episodes([Episode(1.0, 2, 3.0, 0), Episode(1.0, 2, 3.0, 1)])
    files.log(row(1))
    capsys.readouterr()
    files.close()
    (line,) = capsys.readouterr().out.splitlines()
    assert "the end of monitor.csv (2 rows), progress.csv (1 rows), progress.jsonl (1 rows) could not" in line
    assert "No space left on device" in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_append_text_raises_on_a_full_device():
    with pytest.raises(OSError, match="No space left"):
        tables._append_text(Path("/dev/full"), "x\n")


def test_formats_from_environment(monkeypatch):
    assert formats_from_environment() == {"csv", "json"}
    monkeypatch.setenv("PPO2_LOG_FORMAT", " csv, ")
    assert formats_from_environment() == {"csv", "json"}
    monkeypatch.setenv("PPO2_LOG_FORMAT", "tensorbord,csv")
    with pytest.raises(ValueError, match=r"PPO2_LOG_FORMAT names 'tensorbord'; known: csv, json, tensorboard, wandb"):
        formats_from_environment()
    assert FORMATS == ("csv", "json", "tensorboard", "wandb", "trackio", "mlflow")


def test_tensorboard_gets_the_finite_numbers(tmp_path):
    pytest.importorskip("tensorboardX")
    with opened(tmp_path, formats={"tensorboard"}) as files:
        files.log(row(1, eplenmean=math.nan))
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"eprewmean" in events.read_bytes()
    assert b"eplenmean" not in events.read_bytes()


def test_tensorboard_waits_for_room(tmp_path, monkeypatch, capsys):
    """Ten rows of ten figures each, which a queue of tensorboardX's own thread wouldn't hold."""
    pytest.importorskip("tensorboardX")
    append = trackers.append_bytes

    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened(tmp_path, formats={"tensorboard"}) as files:
        files.log(row(1))
        monkeypatch.setattr(trackers, "append_bytes", full)
        for update in range(2, 12):
            files.log({**row(update), **{f"loss/{i}": float(i) for i in range(10)}})
        monkeypatch.setattr(trackers, "append_bytes", append)
    assert capsys.readouterr().out.count("training continues") == 1
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert steps_of(events) == {step * 1024 for step in range(1, 12)}


def steps_of(events):
    """The steps in a file of events, whose checksums must be right."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    data, at, steps = events.read_bytes(), 0, set()
    while at < len(data):
        (length,) = struct.unpack("<Q", data[at : at + 8])
        record = data[at + 12 : at + 12 + length]
        checksums = (data[at + 8 : at + 12], data[at + 12 + length : at + 16 + length])
        assert checksums == tuple(struct.pack("<I", masked_crc32c(part)) for part in (data[at : at + 8], record))
        event = Event.FromString(record)
        steps |= {event.step} if event.summary.value else set()
        at += 16 + length
    return steps


def test_a_failing_service_does_not_end_training(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise RuntimeError("no network")

    run = types.SimpleNamespace(id="abc", log=refuse, finish=refuse)
    wandb = types.SimpleNamespace(init=lambda **_: run, __spec__=types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with opened(tmp_path, formats={"wandb"}) as files:
        files.log(row(1))
        files.log(row(2))
    out = capsys.readouterr().out
    assert out.count("wandb: RuntimeError: no network; training continues\n") == 1
    assert "the end of wandb could not be written (RuntimeError: no network) and is lost" in out
    assert len(table(tmp_path / "progress.csv")) == 2


def test_wandb_continues_the_same_run(tmp_path, monkeypatch):
    calls, logged = [], []
    run = types.SimpleNamespace(id="abc", log=lambda row, step: logged.append((step, row)), finish=lambda: None)

    def init(**kwargs):
        calls.append(kwargs)
        return run

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init, __spec__=types.SimpleNamespace()))
    (tmp_path / "config.json").write_text('{"env": "CartPole-v1"}')
    with opened(tmp_path, formats={"wandb"}) as files:
        files.log(row(1))
    with opened(tmp_path, formats={"wandb"}, resume_from=1) as files:
        files.log(row(2))
    assert [call["id"] for call in calls] == [None, "abc"]
    assert calls[0]["config"] == {"env": "CartPole-v1"}
    assert logged == [(1024, row(1)), (2048, row(2))]


def many(first=0):
    return [Episode(float(first + i), 1, 0.5, 0, {"x": 2.0} if i % 2 else {}) for i in range(1000)]


def test_many_episodes_are_written_by_a_thread(tmp_path):
    with opened(tmp_path) as files:
        files.episodes(many())
        files.episodes([Episode(-1.0, 1, 0.5, 0)])  # after them
        files.episodes(many(2000), share=0.25)
        files.settle()
        found = table(tmp_path / "monitor.csv")
        assert [float(e["r"]) for e in found] == [*range(1000), -1, *range(2000, 3000)]
        assert [e["x"] for e in found[:3]] == ["", "2.0", ""]
        assert json.loads((tmp_path / "monitor.csv").read_text().splitlines()[0][1:])["share"] == 0.25
        files.episodes([Episode(-1.0, 1, 0.5, 0)], share=0.125)
        assert json.loads((tmp_path / "monitor.csv").read_text().splitlines()[0][1:])["share"] == 0.125
        files.episodes(many())
        files.sync()
        assert len(table(tmp_path / "monitor.csv")) == 3002


def test_the_thread_lets_others_go_on_between_blocks_of_episodes(tmp_path, monkeypatch):
    pauses = list[float]()
    monkeypatch.setattr(tables.time, "sleep", pauses.append)
    with opened(tmp_path) as files:
        files.episodes(many())
        files.settle()
        assert len(pauses) == 1000 // tables.BLOCK_EPISODES
        assert min(pauses) > 0
        found = table(tmp_path / "monitor.csv")
    assert [float(e["r"]) for e in found] == [*range(1000)]
    assert [e["x"] for e in found] == ["", "2.0"] * 500


def test_a_checkpoint_waits_for_rows_that_training_waits_for_too(tmp_path, monkeypatch):
    """The checkpoint's own thread syncs while the next update settles: the rows must be there when it returns."""
    may_write, append = threading.Event(), tables._append_text

    def slow(path, text):
        may_write.wait(10.0)
        append(path, text)

    with opened(tmp_path) as files:
        monkeypatch.setattr(tables, "_append_text", slow)
        files.episodes(many())
        settling = threading.Thread(target=files.settle)
        settling.start()
        threading.Timer(0.2, may_write.set).start()
        time.sleep(0.05)
        files.sync()
        assert len(table(tmp_path / "monitor.csv")) == 1000
        settling.join()


def test_a_disk_that_is_full_for_the_thread_is_said_and_its_rows_wait(tmp_path, monkeypatch, capsys):
    files = RunFiles(tmp_path, warn=print)
    append = tables._append_text

    def full(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tables, "_append_text", full)
    files.episodes(many())
    files.settle()
    assert capsys.readouterr().out.count("No space left on device") == 1
    monkeypatch.setattr(tables, "_append_text", append)
    files.episodes([Episode(-1.0, 1, 0.5, 0)])
    files.close()
    assert [float(e["r"]) for e in table(tmp_path / "monitor.csv")] == [*range(1000), -1]
