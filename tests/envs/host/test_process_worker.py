"""Environments in worker processes that really crash."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppo2.envs.host.replay import EpisodeReplay
from support.host_envs import FAILURES, Counting, once


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("where", "how"),
    [("a worker", how) for how in FAILURES] + [("this process", how) for how in ("raises", "exits", "hangs")],
)
def test_an_environment_that_fails_begins_anew(where: str, how: str, made: Any, tmp_path: Path, capfd: Any) -> None:
    culprit = 0 if where == "this process" else 3
    what, words = FAILURES[how]
    act = once(tmp_path / "done", what)
    factories = [lambda i=i: Counting(i, at=3 if i == culprit else -1, what=act) for i in range(4)]
    env = made(factories, workers=1, env_timeout=1.0)
    begun, _ = env.reset(seed=0)
    # with its process go the others that it steps
    together = begun[:, 0] == begun[culprit, 0]
    gone = together if where == "a worker" and how not in ("raises", "exits") else np.arange(4) == culprit
    for t in range(1, 9):
        obs, rewards, terminated, truncated, infos = env.step(np.zeros(4, int))
        if t == 3:
            assert (infos["failed"] == gone).all()
            assert not terminated.any()
            assert (truncated == gone).all()
            assert (rewards == np.where(gone, 0, 3)).all()
        else:
            assert "failed" not in infos
        # the others never noticed: their episodes are of 5 steps
        expected = np.where(gone, (t - 3) % 5, t % 5) if t >= 3 else np.full(4, t)
        assert obs[:, 2].tolist() == expected.tolist(), t
    told = capfd.readouterr().err
    assert f"environment {culprit} failed and begins anew" in told
    assert words in told


@pytest.mark.timeout(60)
def test_both_groups_begin_anew_with_their_process(made: Any, tmp_path: Path) -> None:
    act = once(tmp_path / "done", FAILURES["is killed"][0])
    factories = [lambda i=i: Counting(i, at=3 if i == 3 else -1, what=act) for i in range(4)]
    env = made(factories, workers=2, groups=2)
    begun, _ = env.reset(seed=0)
    lost = np.zeros(4, int)
    for _ in range(12):
        obs, *_, infos = env.step(np.zeros(4, int))
        lost += infos.get("failed", np.zeros(4, bool))
    assert lost.tolist() == (begun[:, 0] == begun[3, 0]).tolist()
    assert (obs[lost == 0, 2] == 12 % 5).all()


def test_a_step_that_was_interrupted_is_finished_first(made: Any) -> None:
    env = made([lambda i=i: Counting(i) for i in range(3)], workers=2)
    env.reset(seed=0)
    env.start([0, 0, 0])
    obs, _ = env.reset(seed=0)
    assert obs[:, 2].tolist() == [0, 0, 0]
    for t in (1, 2):
        assert env.step([0, 0, 0])[0][:, 2].tolist() == [t] * 3


def test_a_worker_that_can_not_start_leaves_its_environments_here(made: Any, capsys: Any) -> None:
    class OnlyHere(Counting):
        def __init__(self) -> None:
            if os.getpid() != parent:
                os._exit(5)
            super().__init__(0)

    parent = os.getpid()
    env = made([OnlyHere] * 4, workers=1)
    obs, _ = env.reset(seed=0)
    assert "ended with status 5, so that this process steps them itself" in capsys.readouterr().err
    assert set(obs[:, 0]) == {parent}
    assert env.step([0] * 4)[0][:, 2].tolist() == [1] * 4


@pytest.mark.parametrize("culprit", [1, 3])
def test_a_process_that_is_lost_while_two_groups_are_restored_is_replaced(
    culprit: int, made: Any, tmp_path: Path
) -> None:
    kill = once(tmp_path / "killed", FAILURES["is killed"][0])

    class Saving(Counting):
        def save_state(self) -> Any:
            return {"t": np.array(self.t)}

        def load_state(self, state: Any) -> None:
            if self.number == culprit:
                kill()
            self.t = int(state["t"])

    env = made([lambda i=i: Saving(i) for i in range(4)], workers=1, groups=2)
    env.reset(seed=0)
    env.step([0] * 4)
    for steps in (1, 2):
        replays = [EpisodeReplay(steps, 1.0, None, state) for state in env.save_states()]
        assert [int(replay.state["t"]) for replay in replays] == [steps] * 4
        _, reasons = env.restore(env.position, replays, env.obs)
        assert not reasons
        assert env.step([0] * 4)[0][:, 2].tolist() == [steps + 1] * 4
    assert (tmp_path / "killed").exists()


def test_a_worker_that_died_at_rest_is_replaced(made: Any) -> None:
    env = made([lambda i=i: Counting(i) for i in range(4)], workers=1)
    os.kill(int(env.reset(seed=0)[0][3, 0]), signal.SIGKILL)
    time.sleep(0.2)
    for _ in range(2):
        assert env.reset(seed=0)[0][:, 2].tolist() == [0] * 4
        assert env.step([0] * 4)[0][:, 2].tolist() == [1] * 4


class Platforms(Counting):
    """An environment that tells what its process lets JAX use."""

    @property
    def platforms(self) -> str | None:
        return os.environ.get("JAX_PLATFORMS")


@pytest.mark.parametrize("given", [None, "cuda"])
def test_workers_leave_cards_alone(given: str | None, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if given is None:
        monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    else:
        monkeypatch.setenv("JAX_PLATFORMS", given)
    env = made([lambda i=i: Platforms(i) for i in range(2)], workers=1)
    assert set(env.get_attr("platforms")) == {given, given or "cpu"}
