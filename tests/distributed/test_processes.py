"""Processes that join and train one model; errors that all of them share."""

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest

import ppo2
from ppo2 import distributed
from ppo2.checkpoints import checkpoint
from ppo2.distributed import World, heartbeat, processes
from ppo2.distributed.heartbeat import Heartbeat
from ppo2.system.launch import Launch
from ppo2.training.learn import learn
from support.jobs import ROOT, SMALL, Job, call_in_child, command, episodes_of, last_tensors, with_devices

OPEN_MPI = {
    f"OMPI_COMM_WORLD_{name}": value
    for name, value in {"SIZE": "2", "RANK": "0", "LOCAL_SIZE": "2", "LOCAL_RANK": "0"}.items()
}
CASES: dict[str, dict[str, Any]] = {
    f"{where}-{kind}": {"env": env, "eval_env": env, **network}
    for (where, env), (kind, network) in itertools.product(
        {"host": "CartPole-v1", "device": "gymnax:CartPole-v1"}.items(),
        {"mlp": {"num_hidden": 16}, "lstm": {"network": "lstm", "nlstm": 8}}.items(),
    )
}


def learn_all(folder: str, *names: str) -> None:
    is_first = ppo2.distributed.init().is_first
    for name in names:
        updates: list[int] = []
        learn(
            **SMALL,
            **CASES[name],
            seed=1,
            normalize_obs=True,
            normalize_rewards=True,
            log_interval=1,
            save_interval=1,
            eval_episodes=3,
            # the first process alone needs these
            run_dir=Path(folder) / name if is_first else None,
            update_fn=updates.append if is_first else None,
        )
        assert updates == ([1, 2, 3] if is_first else [])


@pytest.mark.parametrize(
    "cases",
    [("host-mlp", "device-lstm"), pytest.param(("host-lstm", "device-mlp"), marks=pytest.mark.slow)],
    ids=" and ".join,
)
def test_two_processes_learn_what_one_does(cases: tuple[str, ...], tmp_path: Path) -> None:
    job = Job(tmp_path / "of-two", *call_in_child(learn_all, tmp_path / "two", *cases), XLA_FLAGS=with_devices(1))
    assert job.end() == [0, 0], job.output()
    alone = {**os.environ, "XLA_FLAGS": with_devices(2), "JAX_PLATFORMS": "cpu"}
    child = call_in_child(learn_all, tmp_path / "one", *cases)
    done = subprocess.run(child, cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for case in cases:
        two, one = (last_tensors(tmp_path / which / case) for which in ("two", "one"))
        assert two.keys() == one.keys()
        # device environments lie on two devices there too, so that sums are equal bit for bit
        tolerance = 1e-5 if case.startswith("host") else 0.0
        for name, tensor in two.items():
            np.testing.assert_allclose(tensor, one[name], atol=tolerance, rtol=tolerance, err_msg=f"{case}: {name}")
        ended, ended_alone = (episodes_of(tmp_path / which / case) for which in ("two", "one"))
        assert ended == ended_alone != []
        np.testing.assert_allclose(*(evaluations(tmp_path / which / case) for which in ("two", "one")), rtol=1e-6)


def evaluations(run_dir: Path) -> list[float]:
    """Mean length of the episodes of each evaluation, of which processes have a part each."""
    rows = [json.loads(line) for line in (run_dir / "progress.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    return [row["eval_eplenmean"] for row in rows]


def test_an_error_that_all_share_is_shown_once(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "progress.csv").write_text("a\n1\n")
    job = Job(tmp_path, *command(tmp_path / "run"))
    assert job.end() == [1, 1], job.output()
    assert "".join(job.output()).count("already holds a run") == 1  # though only the first of them has looked


@pytest.mark.slow
def test_different_arguments_are_an_error(tmp_path: Path) -> None:
    job = Job(tmp_path, *call_in_child(learn_differently))
    assert job.end() == [1, 1], job.output()
    assert "".join(job.output()).count("`lr` is 0.0 in the process of rank 0 and 0.1 in that of rank 1") == 1


def learn_differently() -> None:
    mine = ppo2.distributed.init()
    learn(env="CartPole-v1", **SMALL, lr=0.1 * mine.rank)


class Cursed(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose rewards are NaN from some step on."""

    def __init__(self, *, cursed: bool) -> None:
        super().__init__(gym.make("CartPole-v1"))
        self.cursed, self.steps = cursed, 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        obs, reward, *rest = self.env.step(action)
        return obs, float("nan") if self.cursed and self.steps > 70 else reward, *rest


def learn_nonsense(run_dir: str) -> None:
    mine = ppo2.distributed.init()
    learn(env=lambda: Cursed(cursed=mine.rank == 1), **SMALL, run_dir=run_dir)


@pytest.mark.slow
def test_a_number_that_is_not_finite_stops_all_with_what_was_learned(tmp_path: Path) -> None:
    job = Job(tmp_path, *call_in_child(learn_nonsense, tmp_path / "run"))
    assert job.end() == [1, 1], job.output()
    assert "update 3: a reward is NaN" in job.output()[0]
    assert "environment 2" in job.output()[0]  # the first of rank 1
    assert list(checkpoint.numbered(tmp_path / "run" / checkpoint.FOLDER)) == [2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("localhost:1",), "go together"),
        (("localhost", 2, 0), "must be 'host:port'"),
        (("localhost:1", 2, 2), "must be from 0 to"),
    ],
)
def test_wrong_arguments_of_init(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        distributed.init(*arguments)


def test_an_error_before_the_monitor_is_there_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "_CURRENT", [Heartbeat(1, 2)])  # without a connection yet, or in a forked child
    error, shown = OSError("no such interface"), []
    processes._fail_all(lambda *what: shown.append(what), OSError, error, None)
    assert shown == [(OSError, error, None)]
    assert not processes.raised_by_all(error)


def test_processes_joined_by_other_means_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="leave that to"):
        distributed.init()


def test_a_process_by_itself_is_first_of_one() -> None:
    assert distributed.init() == distributed.world() == (0, 1)


def test_a_job_that_did_not_join_is_warned_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in OPEN_MPI.items():
        monkeypatch.setenv(name, value)
    processes.warn_if_alone.cache_clear()
    monkeypatch.setenv("PPO2_ALONE", "1")
    processes.warn_if_alone()
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("PPO2_ALONE")
    processes.warn_if_alone.cache_clear()
    for _ in range(2):
        processes.warn_if_alone()
    told = capsys.readouterr().err
    assert told.count("mpirun started 2 processes, each of which trains a model of its own") == 1


@pytest.mark.parametrize(
    ("local_size", "environment", "expected"),
    [
        (1, {}, None),
        (2, {}, [1]),
        (2, {"CUDA_VISIBLE_DEVICES": "0,1"}, [1]),
        (2, {"CUDA_VISIBLE_DEVICES": "1"}, None),
        (2, {"JAX_LOCAL_DEVICE_IDS": "0"}, None),
    ],
)
def test_each_process_of_a_machine_takes_its_own_accelerator(
    local_size: int, environment: dict[str, str], expected: list[int] | None
) -> None:
    mine = Launch("torchrun", 1, 2, local_size, 1, "a:1")
    assert processes.own_accelerator(mine, environment) == expected


@pytest.mark.parametrize(
    ("cards", "environment", "platforms", "is_error"),
    [
        (1, {}, "", True),
        (1, {"CUDA_VISIBLE_DEVICES": "0"}, "", True),  # the same for all of them
        (1, {}, "cuda,cpu", True),
        (1, {}, "cpu", False),
        (1, {"CUDA_VISIBLE_DEVICES": ""}, "", False),  # hidden
        (1, {"CUDA_VISIBLE_DEVICES": "MIG-1"}, "", False),
        (0, {}, "", False),
        (2, {}, "", False),
    ],
)
def test_more_processes_than_gpus(
    cards: int, environment: dict[str, str], platforms: str, is_error: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "nvidia_cards", lambda: cards)
    monkeypatch.setattr(processes, "jax_platforms", lambda: platforms)
    mine = Launch("mpirun", 1, 2, 2, 1, "a:1")
    if not is_error:
        processes.own_accelerator(mine, environment)
        return
    words = (
        r"mpirun started 2 processes on this machine, which has 1 GPU: .* Start 1 here; .* `ppo2 train --device cpu`"
    )
    with pytest.raises(ValueError, match=words):
        processes.own_accelerator(mine, environment)


def test_parts_of_all_processes() -> None:
    assert [list(range(6))[World(rank, 3).part(6)] for rank in range(3)] == [[0, 1], [2, 3], [4, 5]]
    assert World(0, 1).part(6) == slice(0, 6)
