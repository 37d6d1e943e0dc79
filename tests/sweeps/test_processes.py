"""Runs on host environments side by side, in processes: as one after another, whatever becomes of a process."""

import functools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ppo2
from ppo2.system import processors
from support.device_envs import Line
from support.environments import Script

SMALL: dict[str, Any] = {
    "nsteps": 16, "num_envs": 2, "total_timesteps": 96, "nminibatches": 2, "noptepochs": 1, "num_hidden": 256,
    "log_interval": 1,
}  # fmt: skip
"""Three updates, whose products are large enough for XLA to divide them among threads."""

SCRIPT = """
import sys, equinox as eqx, gymnasium as gym, jax, numpy as np, ppo2
with open("started", "a") as file: file.write("x")

class Mine(gym.Wrapper):
    def __init__(self):
        super().__init__(gym.make("Short-v0", sutton_barto_reward=sys.argv[2].endswith(".npy")))

class Scaled(eqx.Module):
    layer: eqx.nn.Linear
    scale: float = eqx.field(static=True, default=2.0)

    def __call__(self, x):
        return jax.nn.relu(self.scale * self.layer(x))

class Net(eqx.Module):
    first: Scaled
    last: eqx.nn.Linear

    def __init__(self, width, key):
        self.first, self.last = Scaled(eqx.nn.Linear(4, width, key=key)), eqx.nn.Linear(width, width, key=key)

    def __call__(self, x):
        return jax.nn.tanh(self.last(self.first(x)))

    def wider(self):
        return Net

@ppo2.register("mine")
def mine(width):
    return lambda shape, *, key: Net(width, key)

gym.register("Short-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=9)
gym.register("Mine-v0", entry_point="__main__:Mine")
small = {"num_envs": 2, "nsteps": 16, "total_timesteps": 96, "nminibatches": 2, "noptepochs": 1, "log_interval": 1}
asked = {"env": "Mine-v0", "network": "mine", "width": 256, "seed": range(2), "lr": lambda frac: 1e-3 * frac, **small}
asked["value_network"] = Net(256, jax.random.key(0))
result = ppo2.sweep(parallel=int(sys.argv[1]), **asked)
assert all(row["status"] == "finished" for row in result.table)
np.save(sys.argv[2], np.stack([model.state.params for model in result.models]))
"""


class Doomed(Script):
    """In a process of a sweep: raises at its 5th step, is asked to stop at its 30th, or killed at its 40th, where a
    file says so that is there for one of them alone.
    """

    def __init__(self, place: Path) -> None:
        super().__init__(3)
        self.place, self.steps = place, 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        what = {5: "raise", 30: "stop", 40: "die"}.get(self.steps)
        if what is not None and "PPO2_ALONE" in os.environ and self._takes(what):
            if what == "raise":
                raise ZeroDivisionError("it broke")
            os.kill(os.getpid(), signal.SIGKILL if what == "die" else signal.SIGTERM)
        return super().step(action)

    def _takes(self, what: str) -> bool:
        try:
            (self.place / what).unlink()
        except FileNotFoundError:
            return False
        return True


LOCK = threading.Lock()


def with_lock(_lock: Any) -> Script:
    """An environment of a factory that can't be pickled."""
    return Script(3)


def _how(error: Exception) -> tuple[bool, bool]:
    """A key that sorts failures: those that raised, were asked to stop, were killed."""
    return not isinstance(error, ZeroDivisionError), "killed" in str(error)


def params(result: Any) -> list[Any]:
    return [None if model is None else np.asarray(model.state.params) for model in result.models]


def test_a_script_without_a_guard_and_the_same_bits(tmp_path: Path) -> None:
    """Processes have all that the script defines, registers and gives as objects, and don't run it."""
    (tmp_path / "script.py").write_text(SCRIPT)
    for parallel in (2, 1):
        words = [sys.executable, "script.py", str(parallel), f"{parallel}.npy"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert ("2 runs at a time, each in a process of its own" in done.stdout) == (parallel == 2)
    assert (tmp_path / "started").read_text() == "xx"
    np.testing.assert_array_equal(np.load(tmp_path / "2.npy"), np.load(tmp_path / "1.npy"))


def test_runs_that_fail_and_a_sweep_that_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of four runs raises, another's process is asked to stop, and one is killed; called again, only these are
    trained.
    """
    asked: dict[str, Any] = {**SMALL, "num_envs": 1, "seed": [3, 4, 5, 6]}
    run_dir = tmp_path / "s"
    for name in ("raise", "stop", "die"):
        (tmp_path / name).touch()
    result = ppo2.sweep(env=functools.partial(Doomed, tmp_path), parallel=2, run_dir=run_dir, **asked)
    raised, stopped, killed = sorted(result.failures, key=lambda failure: _how(failure.error))
    assert "its process was asked to stop by a signal that the sweep didn't get" in str(stopped.error)
    assert "its process was killed by SIGKILL" in str(killed.error)
    assert "in step\n" in raised.traceback
    seed = asked["seed"][raised.run]
    assert f"run {raised.run} (seed {seed}) failed: ZeroDivisionError: it broke" in capsys.readouterr().out
    (whole,) = {0, 1, 2, 3} - {raised.run, stopped.run, killed.run}
    assert [row["status"] for row in result.table].count("failed") == 3
    assert (result.models[raised.run], str(result.table[raised.run]["final"])) == (None, "nan")
    assert result.table[whole]["final"] == 6.0  # 1 + 2 + 3
    assert len(list((run_dir / "models").iterdir())) == 1

    log = run_dir / "runs" / f"{whole:04}" / "progress.csv"
    before = log.stat().st_mtime_ns
    again = ppo2.sweep(env=functools.partial(Doomed, tmp_path), parallel=2, run_dir=run_dir, **asked)
    assert "continues: 1 of 4 runs is finished, 1 continues" in capsys.readouterr().out
    assert log.stat().st_mtime_ns == before
    in_turn = ppo2.sweep(env=functools.partial(Doomed, tmp_path), parallel=1, **asked)
    assert again.table == in_turn.table
    np.testing.assert_array_equal(params(again), params(in_turn))
    with pytest.raises(ValueError, match=r"a sweep with other settings \(`seed` was \[3, 4, 5, 6\], is \[3, 4\]\)"):
        ppo2.sweep(env=functools.partial(Doomed, tmp_path), run_dir=run_dir, **{**asked, "seed": [3, 4]})


@pytest.mark.usefixtures("quickly_compiled")
def test_the_curves_of_finished_runs_are_read_again_as_they_were(tmp_path: Path) -> None:
    """Also with the episodes that end while the normaliser is filled, before the first update."""
    asked = {**SMALL, "nsteps": 64, "total_timesteps": 128 * 6, "log_interval": 100, "normalize_obs": True}
    found = [ppo2.sweep(env="CartPole-v1", seed=[0], run_dir=tmp_path / "s", **asked).curves[0] for _ in range(2)]
    for before, again in zip(*found, strict=True):
        np.testing.assert_allclose(before, again, rtol=1e-12)


@pytest.mark.usefixtures("quickly_compiled")
def test_a_run_that_calls_exit_has_failed_and_the_others_continue() -> None:
    def lr(frac: float) -> float:
        return 1e-3 if frac == 1 else sys.exit(3)

    result = ppo2.sweep(env=functools.partial(Script, 3), lr=[lr, 1e-3], seed=0, parallel=1, **SMALL)
    assert [row["status"] for row in result.table] == ["failed", "finished"]
    assert str(result.failures[0].error) == "something called sys.exit(3)"


def test_where_all_fail_the_first_error_is_raised() -> None:
    def env() -> Any:
        made = Script(3)
        made.step = lambda action: 1 / 0  # type: ignore[method-assign,assignment]
        return made

    with pytest.raises(ZeroDivisionError) as caught:
        ppo2.sweep(env=env, seed=[0, 1], parallel=1, **SMALL)
    assert caught.value.__notes__[-1] == "All 2 runs of the sweep failed; this is the error of run 0."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parallel": 0}, r"`parallel` \(=0\) must be 'auto', or the number"),
        ({"parallel": True}, r"`parallel` \(=True\) must be"),
        ({"parallel": [1, 2]}, r"`parallel` \(=\[1, 2\]\) must be"),
        ({"backend": "slurm"}, r"`backend` \(='slurm'\) must be 'local'"),
        ({"parallel": 2, "env": Script()}, r"`parallel` \(=2\): `env` is an environment that exists.*give its id"),
        ({"parallel": 2, "env": Line()}, r"`parallel` \(=2\) is for environments of the host"),
        (
            {"parallel": 2, "env": functools.partial(with_lock, LOCK)},
            r"can't travel to other processes \(TypeError",
        ),
    ],
)
def test_what_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ppo2.sweep(**{"env": lambda: Script(), "seed": [0, 1], **SMALL, "num_envs": 1, **arguments})


def test_auto_trains_what_cannot_travel_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    result = ppo2.sweep(env=functools.partial(with_lock, LOCK), seed=[0, 1], **SMALL)
    assert [row["status"] for row in result.table] == ["finished", "finished"]
    if processors.usable_processors() > 1:
        assert "runs train one after another: its arguments can't travel" in capsys.readouterr().out
