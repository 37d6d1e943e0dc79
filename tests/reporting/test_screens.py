"""Displays updated in place: on a real terminal (a pseudo-terminal), and in a real notebook (a kernel of its own)."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

TRAIN = """
import sys
from contextlib import closing
from ppo2.reporting.figures import Pace
from ppo2.reporting.screens import open_display
pace = Pace(total=10, first=1)
runs = [["run", "seed", "lr", "done", "return"], ["12", "3", "linear:1e-3", "97%", "501.25"]]
with closing(open_display(pace, rows=lambda: runs)) as shown:
    shown.say("[bold]plan[/bold] :smile:")
    shown.say("memory    0.48 MB for a rollout, 9,155 parameters and a long text; seed 1")
    shown.begin()
    with closing(open_display(Pace(total=3, first=1))) as inner:  # of a training inside this one
        inner.show({"misc/nupdates": 2})
    pace.tick(4)
    shown.tick()
    shown.show({"misc/nupdates": 4, "misc/total_timesteps": 4096, "eprewmean": 12.5, "eval_eprewmean": 33.25})
    print("a print of the user")
    if sys.argv[1:] == ["crash"]:
        raise RuntimeError("boom")
with closing(open_display(pace)) as shown:  # the next one has the screen
    pass
"""


def on_terminal(*arguments: str, columns: int = 80) -> tuple[str, int]:
    """The output of `TRAIN` to a terminal of that width, and its exit status."""
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "PYTHON_COLORS": "0", "COLUMNS": str(columns), "LINES": "24"}
    command = [sys.executable, "-c", TRAIN, *arguments]
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


@pytest.mark.parametrize("columns", [80, 50, 30])
def test_live_display(columns: int) -> None:
    raw, status = on_terminal(columns=columns)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw).replace("\r", "\n")
    assert status == 0
    for shown in ("[bold]plan[/bold] :smile:", "a print of the user", "update 4/10  40%", "4,096", "12.50", "33.25"):
        assert shown in text
    assert re.search(r"12 +3 +linear:\S+ +97% +501.25", text)
    assert "compiling" in text
    assert "update 2/3" in text  # a line of the training inside
    assert max(len(line) for line in text.split("\n")) <= columns


def test_messages_break_at_blanks() -> None:
    raw, _ = on_terminal(columns=40)
    assert (
        "memory    0.48 MB for a rollout, 9,155\r\n          parameters and a long text;\r\n          seed 1\r\n" in raw
    )


def test_live_display_gives_the_terminal_back_on_an_exception() -> None:
    raw, status = on_terminal("crash")
    assert status == 1
    assert "RuntimeError: boom" in raw
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")  # the cursor is shown again after it was hidden
    assert raw.index("RuntimeError: boom") > raw.rindex("\x1b[?25h")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")  # Jupyter's own
def test_a_notebook_has_one_table_updated_in_place(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(TRAIN.rpartition("\nwith")[0])])
    client = nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, kernel_name="python3")
    outputs: list[Any] = client.execute().cells[0].outputs
    (table,) = [output.data for output in outputs if output.output_type == "display_data"]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "update 4/10  40%" in table["text/plain"]
    assert "4,096" in table["text/html"]
    assert "33.25" in table["text/html"]
    assert "a print of the user" in printed
    assert "update 2/3" in printed
    assert "\x1b" not in printed
