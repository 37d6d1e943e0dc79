import math
import os
import re
import subprocess
import sys

import pytest

from ppo2.reporting import display
from ppo2.reporting.display import Pace, open_display

# Loads the module without the package, whose imports would take a second in every subprocess.
ALONE = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("display", {display.__file__!r})
display = importlib.util.module_from_spec(spec)
spec.loader.exec_module(display)
"""


def row(update, **more):
    return {"misc/nupdates": update, "misc/total_timesteps": update * 1024, "eprewmean": 10.0 * update, **more}


def test_plain_lines_are_aligned(capsys):
    lines = open_display(Pace(total=97, first=1), progress=True)
    lines.show(row(9, fps=61234.5, eplenmean=123.4, lr=1e-3, **{"loss/approxkl": 0.00421}))
    lines.show({**row(10, fps=1234.5, eplenmean=9.0, **{"loss/approxkl": 0.5}), "eprewmean": math.nan})
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "update  9/97  timesteps    9,216  fps   61,234  return    90.00  length      123  kl   0.0042  left -"
    )
    assert second == (
        "update 10/97  timesteps   10,240  fps    1,234  return        -  length        9  kl   0.5000  left -"
    )


def test_without_progress_only_what_is_said_is_printed(capsys):
    quiet = open_display(Pace(total=2, first=1), progress=False)
    quiet.show(row(1))
    quiet.say("[bold]as it is[/bold] :smile:")
    assert capsys.readouterr().out == "[bold]as it is[/bold] :smile:\n"


def test_time_left_leaves_out_the_first_update(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(display.time, "perf_counter", lambda: clock[0])
    pace = Pace(total=105, first=1)
    clock[0] = 50.0  # compiling
    pace.tick(1)
    assert pace.left() == "-"
    clock[0] = 58.0
    pace.tick(5)  # 4 updates in 8 seconds; 100 are left
    assert pace.left() == "3:20"
    clock[0] = 68.0  # no tick for 10 seconds
    assert pace.left() == "3:10"
    assert pace.elapsed() == "1:08"
    clock[0] = 4000.0
    assert pace.left() == "0:00"
    assert pace.elapsed() == "1:06:40"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"), (0.00421, "0.0042"), (-0.5, "-0.5000"), (1.5, "1.50"), (-123.45, "-123.5"), (81920.0, "81,920"),
        (3e9, "3.000e+09"), (1.5e-5, "1.50e-05"), (math.nan, "-"), (math.inf, "inf"),
    ],
)  # fmt: skip
def test_numbers_for_people(value, shown):
    assert display._human(value) == shown


LIVE = """
from contextlib import closing
pace = display.Pace(total=10, first=1)
with closing(display.open_display(pace, progress=True)) as shown:
    shown.say("[bold]plan[/bold] :smile:")
    pace.tick(4)
    shown.show({"misc/nupdates": 4, "misc/total_timesteps": 4096, "eprewmean": 12.5, "eval_eprewmean": 33.25})
    print("a print of the user")
    if sys.argv[1:]:
        raise RuntimeError("boom")
"""


def on_terminal(*arguments, columns=80):
    """The output of `LIVE` to a terminal of that width, and its exit status."""
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "24"}
    command = [sys.executable, "-c", ALONE + LIVE, *arguments]
    with subprocess.Popen(command, stdout=slave, stderr=slave, stdin=slave, env=environment) as process:
        os.close(slave)
        received = b""
        while True:
            try:
                block = os.read(master, 65536)
            except OSError:  # Linux's end of file on a pseudo-terminal
                break
            if not block:
                break
            received += block
    os.close(master)
    return received.decode(), process.returncode


@pytest.mark.parametrize("columns", [80, 50])
def test_live_display(columns):
    raw, status = on_terminal(columns=columns)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw)
    assert status == 0
    for shown in ("[bold]plan[/bold] :smile:", "a print of the user", "update 4/10  40%", "4,096", "12.50", "33.25"):
        assert shown in text
    assert max(len(line) for line in text.replace("\r", "\n").split("\n")) <= columns


def test_live_display_gives_the_terminal_back_on_an_exception():
    raw, status = on_terminal("crash")
    assert status == 1
    assert "RuntimeError: boom" in raw
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")  # the cursor is shown again after it was hidden
    assert raw.index("RuntimeError: boom") > raw.rindex("\x1b[?25h")
