"""Messages, and lines for the rows of a log."""

import contextlib
import io
import math
import os
import sys
from pathlib import Path

import pytest

from ppo2.reporting.display import Display, Lines
from ppo2.reporting.figures import LOSS_COLUMNS, RUN_COLUMNS, Pace
from ppo2.reporting.screens import open_display

COLUMNS = (RUN_COLUMNS, LOSS_COLUMNS)


def row(update: int, **more: float) -> dict[str, float]:
    return {"misc/nupdates": update, "misc/total_timesteps": update * 1024, "eprewmean": 10.0 * update, **more}


def test_plain_lines_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(Pace(total=97, first=1), COLUMNS)
    lines.show(row(9, fps=61234.5, eplenmean=123.4, lr=1e-3, **{"loss/approxkl": 0.00421}))
    lines.show({**row(10, fps=1234.5, eplenmean=9.0, **{"loss/approxkl": 0.5}), "eprewmean": math.nan})
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "update  9/97  timesteps    9,216  fps   61,234  return    90.00  length      123  kl   0.0042  left -"
    )
    assert second == (
        "update 10/97  timesteps   10,240  fps    1,234  return        -  length        9  kl   0.5000  left -"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_into_a_full_disk_does_not_end_training(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.dup(os.open("/dev/full", os.O_WRONLY)), "wb", buffering=0) as raw:
        full = io.TextIOWrapper(raw, write_through=True)
        monkeypatch.setattr(sys, "stdout", full)
        Display().say("words")
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.detach()


@pytest.mark.parametrize("progress", [None, True])
def test_lines_are_the_default_where_there_is_no_terminal(
    progress: bool | None, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = open_display(Pace(total=2, first=1), progress)
    lines.begin()
    lines.show(row(1))
    said, shown = capsys.readouterr().out.splitlines()
    assert said == "compiling for the first update"
    assert shown.startswith("update 1/2")


def test_nothing_is_compiled_where_all_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    Lines(Pace(total=2, first=3), COLUMNS).begin()
    assert capsys.readouterr().out == ""


def test_without_progress_only_what_is_said_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = open_display(Pace(total=2, first=1), progress=False)
    assert type(quiet) is Display
    quiet.begin()
    quiet.show(row(1))
    quiet.say("[bold]as it is[/bold] :smile:")
    assert capsys.readouterr().out == "[bold]as it is[/bold] :smile:\n"


def test_a_process_without_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same under pythonw, and in some services."""
    monkeypatch.setattr("sys.stdout", None)
    lines = open_display(Pace(total=2, first=1))
    lines.say("said to nobody")
    lines.show(row(1))
