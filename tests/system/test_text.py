import io
import json
import shlex
import subprocess
import sys

import pytest

from ppo2 import plot
from ppo2.cli import main
from ppo2.cli.output import shown
from ppo2.envs.host.failures import EnvFailure, FailureLog
from ppo2.reporting import figures, screens
from ppo2.system.text import as_options, fitting_widths, parse_json, printable, say_error

HOSTILE = "a\x1b[2J\x9b31m\u202e[red]b[/red]\r"
HARMLESS = r"a\x1b[2J\x9b31m\u202e[red]b[/red]\r"


def test_what_steers_a_terminal_is_shown_as_escapes():
    assert printable(HOSTILE) == HARMLESS
    assert printable("\ud83d") == "\\ud83d"  # half a character, which no terminal takes
    assert printable("äöü 漢字 [red] \\n") == "äöü 漢字 [red] \\n"
    assert printable("lines\n\tstay") == "lines\n\tstay"
    assert printable(ValueError(HOSTILE)) == HARMLESS


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_table_that_is_too_wide_loses_headers_first_then_the_ends_of_its_longest_cells():
    columns = [("network", "mlp", "lstm"), ("lr", "linear:1e-3", "3e-4"), ("final", "38.4", "120")]
    assert fitting_widths(columns, 29) == ([7, 11, 5], 3)  # 7 + 11 + 5, and two gaps of 3
    assert fitting_widths(columns, 28) == ([7, 11, 5], 1)
    assert fitting_widths(columns, 23) == ([5, 11, 5], 1)
    assert fitting_widths(columns, 20) == ([4, 10, 4], 1)
    assert fitting_widths(columns, 14) == ([4, 4, 4], 1)
    assert fitting_widths(columns, 2) == ([1, 1, 1], 1)


def test_a_message_on_standard_error_breaks_at_blanks_and_steers_nothing(monkeypatch):
    monkeypatch.setenv("COLUMNS", "24")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    say_error(f"one two three four five {HOSTILE}")
    assert terminal.getvalue() == f"ppo2: one two three four\nfive\n{HARMLESS}\n"
    terminal.close()
    say_error("nobody reads this, and nothing ends")


def test_json_is_read():
    text = '{"a": [1, 2.5, null, true, "x", {}], "b": {"c": -1e-300, "d": 1267650600228229401496703205376}}'
    assert parse_json(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("[]", "no object, but list"),
        ("3", "no object, but int"),
        ('{"a": 1, "a": 2}', "a key twice"),
        ('{"x": {"a": 1, "a": 2}}', "a key twice"),
        ('{"a": NaN}', "NaN, which is no number"),
        ('{"a": -Infinity}', "-Infinity, which is no number"),
        ('{"a": 1e999}', "beyond all floats"),
        ('{"a": 1' + "0" * 400 + "}", "beyond all that we write"),
        ('{"a": 1' + "0" * 5000 + "}", "digits"),
        ('{"a": ' * 100 + "1" + "}" * 100, "nested too deeply"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    ],
)
def test_json_that_we_would_not_write_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        parse_json(text)


# --- where text of others leaves


def test_what_is_said(capsys):
    for progress in (False, True):
        shown_to = screens.open_display(figures.Pace(1, 1), progress)
        shown_to.say(HOSTILE)
        shown_to.close()
        assert capsys.readouterr().out == HARMLESS + "\n"


def test_what_is_said_above_a_live_table():
    program = f"""
import io, sys
from rich.console import Console
from ppo2.reporting import figures, screens
screens._IN_PLACE.acquire()
live = screens._Live(figures.Pace(1, 1), (figures.RUN_COLUMNS,))
live._console.file = written = io.StringIO()
live.say({HOSTILE!r})
live._console.file = sys.stdout
live.close()
assert {HARMLESS!r} in written.getvalue(), written.getvalue()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_settings():
    assert shown(HOSTILE) == HARMLESS


def test_what_a_failing_environment_says(capsys):
    failures = FailureLog()
    for _ in range(2):
        failures.note([EnvFailure(0, f"Traceback\n{HOSTILE}.")])
    err = capsys.readouterr().err
    assert err.count(HARMLESS) == 2
    assert "\x1b" not in err


def test_errors_of_the_command_line_and_their_tracebacks(capsys):
    assert main(["train", f"{HOSTILE}-v0", "--debug"]) == 1
    err = capsys.readouterr().err
    assert r"\x1b[2J" in err
    assert "[red]b[/red]" in err
    assert not {"\x1b", "\x9b", "\u202e", "\r"} & set(err)


def test_a_settings_file_on_the_command_line(tmp_path, capsys):
    for content in ("{", "[]", '{"env": NaN}', json.dumps({"env": HOSTILE, "nsteps": HOSTILE})):
        (tmp_path / "config.json").write_text(content)
        assert main(["resume", str(tmp_path)]) == 1
        err = capsys.readouterr().err
        assert err.startswith("ppo2: ")
        assert err.count("\n") == 1
        assert not {"\x1b", "\x9b", "\u202e"} & set(err)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_titles_and_labels_of_plots(tmp_path, suffix):
    """Matplotlib has no glyph for such characters, and would warn of them."""
    runs = [tmp_path / f"{i}\x1b[2J" for i in range(2)]
    for i, run in enumerate(runs):
        run.mkdir()
        (run / "monitor.csv").write_text("r,l,t,env\n1,2,3,0\n2,3,4,0\n")
        (run / "config.json").write_text(
            json.dumps({"env": HOSTILE, "network": f"{HOSTILE}{i}", "lr": {"object": "\x1b"}})
        )
    plot.curve(runs, tmp_path / f"all{suffix}")
    plot.curve(runs[0], tmp_path / f"one{suffix}", y=["return", "length"])
    assert all((tmp_path / f"{name}{suffix}").stat().st_size > 1000 for name in ("all", "one"))
    (runs[0] / "config.json").write_text("{}")
    plot.curve(runs, tmp_path / f"names{suffix}")


def test_arguments_of_an_environment_are_for_a_shell():
    options = as_options({"is_slippery": False, "desc": ["SF", "HG"], "map": "a b"})
    words = ["--env.is-slippery", "False", "--env.desc", "['SF', 'HG']", "--env.map", "a b"]
    assert shlex.split(options) == words
