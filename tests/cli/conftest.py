"""Places and runs that the tests of the command line share."""

import signal

import jax
import pytest

import ppo2
from ppo2.cli import main, sweep
from support.commands import ENVIRONMENT, TINY, finish, interrupt, rows_of, start


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A directory to run in, with an environment of its own."""
    path = tmp_path_factory.mktemp("cli")
    (path / "slow.py").write_text(ENVIRONMENT)
    return path


@pytest.fixture(scope="session")
def interrupted(place):
    """A training process that got SIGINT: its status, output and errors, and the updates that it made."""
    arguments = ["train", "slow:Slow-v0", "--run-dir", "runs/x", "--total_timesteps", "6.4e3", *TINY]
    run = place / "runs" / "x"
    done = interrupt(start(place, *arguments, slow=0.001), run, signal.SIGINT)
    return (*done, rows_of(run)[-1]["misc/nupdates"])


@pytest.fixture(scope="session")
def resumed(place, interrupted):
    """The same run, resumed to its end."""
    assert interrupted[0] == 130
    before = rows_of(place / "runs" / "x")
    return (*finish(start(place, "resume", "runs/x", "--no-progress")), before)


@pytest.fixture(autouse=True)
def here(monkeypatch, place):
    """JAX has started, so that `main` leaves its settings alone; `slow.py` can be imported."""
    jax.devices()
    monkeypatch.setenv("PPO2_LOG_FORMAT", "")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.syspath_prepend(place)
    monkeypatch.chdir(place)  # where commands make run directories by default


@pytest.fixture
def given(monkeypatch):
    """The arguments that `learn` would have got from a command."""

    def arguments(*command):
        seen = {}
        for name in ppo2.__all__:  # the package keeps what it finds first: not the stand-ins below
            getattr(ppo2, name)
        monkeypatch.setattr("ppo2.sweeps.sweep.sweep", seen.update)  # imported first: it has a `learn` of its own
        monkeypatch.setattr("ppo2.training.learn.learn", seen.update)
        monkeypatch.setattr(sweep, "_show", lambda result: None)
        assert main([str(word) for word in command]) == 0
        return seen

    return arguments
