"""Several processes that train one model: real ones, on this machine."""

import contextlib
import csv
import hashlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import ppo2
from ppo2 import distributed
from ppo2.agent.model import Model
from ppo2.checkpoints import checkpoint
from ppo2.checkpoints.tensors import RUNNER
from ppo2.distributed import collectives, heartbeat, monitor, processes
from ppo2.distributed.heartbeat import Heartbeat
from ppo2.distributed.messages import ProcessFailure, ProcessProgress
from ppo2.distributed.monitor import Monitor
from ppo2.runners.snapshot import Snapshot, join_snapshots, part_of
from ppo2.system import launch
from ppo2.system.exits import DIED, FAILED
from ppo2.system.launch import Launch, detect
from ppo2.system.processors import usable_processors
from ppo2.training.learn import learn
from support.children import STRICT_PYTHON

HERE = Path(__file__).parent
WAIT = 120.0
HEARTBEAT = 3.0

# --- processes --------------------------------------------------------------------------------------------------------


class Job:
    """Two processes of one command, in which RANK stands for each one's rank."""

    def __init__(self, folder: Path, *command: str, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.processes = []
        for rank in range(2):
            mine = {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(rank),
            }
            own = [part.replace("RANK", str(rank)) for part in command]
            with (folder / f"{rank}.out").open("w") as out, (folder / f"{rank}.err").open("w") as err:
                self.processes.append(
                    subprocess.Popen(own, stdout=out, stderr=err, cwd=HERE, env={**os.environ, **mine, **environment})
                )

    def told(self, what: str = "err") -> list[str]:
        """What each has printed."""
        return [(self.folder / f"{rank}.{what}").read_text() for rank in range(2)]

    def end(self) -> list[int]:
        """Their exit statuses."""
        try:
            return [process.wait(WAIT) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def wait_for(self, file: Path) -> None:
        deadline = time.monotonic() + WAIT
        while not file.exists():
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in self.processes), self.told()
            time.sleep(0.01)


def of_this(function: Callable[..., None], *arguments: object) -> list[str]:
    """The command that calls a function of this module in a process of its own."""
    code = f"import sys, tests.distributed.test_distributed as t; t.{function.__name__}(*sys.argv[1:])"
    return [*STRICT_PYTHON, "-c", code, *map(str, arguments)]


def last_tensors(run_dir: Path) -> dict[str, np.ndarray[Any, Any]]:
    return load_file(checkpoint.newest(run_dir))


def episodes_of(run_dir: Path) -> list[tuple[str, str, str]]:
    with (run_dir / "monitor.csv").open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return [(row["r"], row["l"], row["env"]) for row in rows]


# --- equality ---------------------------------------------------------------------------------------------------------

SMALL = {"num_envs": 4, "nsteps": 32, "total_timesteps": 3 * 128, "shards": 2, "nminibatches": 2, "noptepochs": 2}
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
            # what only the first process is told is enough
            run_dir=Path(folder) / name if is_first else None,
            update_fn=updates.append if is_first else None,
        )
        assert updates == ([1, 2, 3] if is_first else [])


def with_devices(count: int) -> str:
    return f"--xla_force_host_platform_device_count={count}"


@pytest.mark.parametrize(
    "cases",
    [("host-mlp", "device-lstm"), pytest.param(("host-lstm", "device-mlp"), marks=pytest.mark.slow)],
    ids=" and ".join,
)
def test_two_processes_learn_what_one_does(cases: tuple[str, ...], tmp_path: Path) -> None:
    job = Job(tmp_path / "of-two", *of_this(learn_all, tmp_path / "two", *cases), XLA_FLAGS=with_devices(1))
    assert job.end() == [0, 0], job.told()
    alone = {**os.environ, "XLA_FLAGS": with_devices(2)}
    done = subprocess.run(
        of_this(learn_all, tmp_path / "one", *cases), cwd=HERE, env=alone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for case in cases:
        two, one = (last_tensors(tmp_path / which / case) for which in ("two", "one"))
        assert two.keys() == one.keys()
        # device environments lie on two devices there too, and so the sums are the very same
        tolerance = 1e-5 if case.startswith("host") else 0.0
        for name, tensor in two.items():
            np.testing.assert_allclose(tensor, one[name], atol=tolerance, rtol=tolerance, err_msg=f"{case}: {name}")
        ended, ended_alone = (episodes_of(tmp_path / which / case) for which in ("two", "one"))
        assert ended == ended_alone != []
        np.testing.assert_allclose(*(evaluations(tmp_path / which / case) for which in ("two", "one")), rtol=1e-6)


def evaluations(run_dir: Path) -> list[float]:
    """How long the episodes of each evaluation were, of which processes have a part each."""
    rows = [json.loads(line) for line in (run_dir / "progress.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    return [row["eval_eplenmean"] for row in rows]


# --- collectives -----------------------------------------------------------------------------------


def with_own_parameters(rank: int) -> Callable[..., Model]:
    """Makes a model as a network does whose parameters aren't of `seed`, such as an unbuilt Keras model."""

    def make(**given: Any) -> Model:
        model = Model(**given)
        model.state = model.state._replace(params=model.state.params + rank)
        return model

    return make


def go_through_much() -> None:
    os.environ["XLA_FLAGS"] = with_devices(3 - int(os.environ["JAX_PROCESS_ID"]))  # machines differ
    mine = ppo2.distributed.init(heartbeat=1.0)
    assert jax.local_device_count() == 3 - mine.rank

    collectives.MOST_GATHERED, collectives.PIECE = 2**12, 2**11
    messages = [bytes([rank]) * (3000 * rank + 1500) for rank in range(2)]
    assert collectives.all_gather_bytes(messages[mine.rank]) == messages
    assert collectives.all_gather_bytes(messages[mine.rank], to_first=True) == (messages if mine.is_first else [])
    assert collectives.broadcast_bytes(messages[1] if mine.is_first else b"") == messages[1]
    assert collectives.broadcast_bytes(b"") == b""

    key = jax.random.key(mine.rank)
    tree = {"a": jnp.full(700, mine.rank, jnp.bfloat16), "key": key}
    same, others = collectives.synchronise(tree)
    assert others == [1]
    assert (same["a"] == 0).all()
    assert same["a"].dtype == jnp.bfloat16
    assert (jax.random.key_data(same["key"]) == jax.random.key_data(jax.random.key(0))).all()
    assert collectives.synchronise(same) == (same, [])
    with pytest.raises(ValueError, match="the process of rank 1 has another model"):
        collectives.synchronise(jnp.zeros(mine.rank))

    # what all do alike wrong is theirs to catch
    for _ in range(2):
        with pytest.raises(ValueError, match=r"`nminibatches` \(=7\)"):
            learn(env="CartPole-v1", **{**SMALL, "nminibatches": 7})

    def change(update: int, model: Model) -> None:
        if update == 2:
            model.state = model.state._replace(params=model.state.params * (1 + mine.rank))

    own = with_own_parameters(mine.rank)
    model = learn(env="CartPole-v1", **SMALL, seed=1, model_fn=own, update_fn=change, log_interval=1)
    params = np.asarray(model.state.params).tobytes()
    assert collectives.all_gather_bytes(params) == [params] * 2
    of_devices = {**SMALL, "num_envs": 256, "shards": None, "total_timesteps": 2 * 256 * 32}
    model = learn(env="gymnax:CartPole-v1", **of_devices)
    assert model.config.shards == 4
    if mine.is_first:
        time.sleep(2.5)  # what is its own to do, while the others have ended


def test_processes_get_through_much_together(tmp_path: Path) -> None:
    job = Job(tmp_path, *of_this(go_through_much))
    assert job.end() == [0, 0], job.told()
    said = "".join(job.told("out"))
    assert said.count("when training began, the model was another one in rank 1 than in rank 0") == 1
    assert said.count("at update 3, the model was another one in rank 1 than in rank 0") == 1


# --- failures ---------------------------------------------------------------------------------------------------------

COMMAND = [
    *(sys.executable, "-m", "ppo2", "train", "CartPole-v1", "--num-envs", "4", "--nsteps", "16", "--nminibatches", "2"),
    *("--noptepochs", "2", "--num-hidden", "8", "--seed", "1", "--save-interval", "20", "--log-interval", "20"),
    *("--no-progress", "--auto-resume"),
]


def command(run_dir: Path, updates: int = 160) -> list[str]:
    return [*COMMAND, "--total-timesteps", str(updates * 64), "--run-dir", str(run_dir)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    job = Job(folder, *command(folder / "run"))
    assert job.end() == [0, 0], job.told()
    return folder / "run"


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_where_one_is_killed_all_end_and_the_same_command_goes_on(unbroken: Path, tmp_path: Path, rank: int) -> None:
    job = Job(tmp_path / "first", *command(tmp_path / "run"))
    job.wait_for(checkpoint.file_of(tmp_path / "run", 40))
    job.processes[rank].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    status = job.end()
    assert (status[rank], status[1 - rank]) == (-signal.SIGKILL, FAILED)
    assert time.monotonic() - killed < WAIT / 2
    assert "".join(job.told()).count(f"ppo2: rank {rank} died without a word") == 1
    again = Job(tmp_path / "second", *command(tmp_path / "run"))
    assert again.end() == [0, 0], again.told()
    mine, whole = last_tensors(tmp_path / "run"), last_tensors(unbroken)
    assert mine.keys() == whole.keys()
    for name, tensor in mine.items():
        np.testing.assert_array_equal(tensor, whole[name], err_msg=name)
    assert episodes_of(tmp_path / "run") == episodes_of(unbroken)


def learn_badly(what: str, rank: str) -> None:
    mine = ppo2.distributed.init(heartbeat=HEARTBEAT)
    is_bad = mine.rank == int(rank)

    def update_fn(update: int) -> None:
        if update == 3 and is_bad and what in ("raise", "catch"):
            raise RuntimeError("the disk of this node is full")
        if update == 3 and is_bad and what == "exit":
            sys.exit(3)

    if what == "leave" and is_bad:
        return
    try:
        learn(env=lambda: Hanging(hangs=what == "hang" and is_bad), **SMALL, update_fn=update_fn)
    except RuntimeError:
        if what == "catch":
            time.sleep(WAIT)  # as a notebook does, or a script that goes on
        raise
    raise AssertionError("it ended")


def hanging_environment() -> type:
    from gymnasium.envs.classic_control import CartPoleEnv

    class Hanging(CartPoleEnv):
        def __init__(self, *, hangs: bool) -> None:
            super().__init__()
            self.hangs, self.steps = hangs, 0

        def step(self, action: Any) -> Any:
            self.steps += 1
            while self.hangs and self.steps > 10:  # in the first rollout
                time.sleep(0.1)
            return super().step(action)

    return Hanging


Hanging: Any = hanging_environment()


@pytest.mark.parametrize(
    ("what", "rank"),
    [
        ("catch", 1),
        ("hang", 1),
        *(
            pytest.param(what, rank, marks=pytest.mark.slow)
            for what, rank in [("raise", 0), ("raise", 1), ("catch", 0), ("hang", 0), ("exit", 1), ("leave", 1)]
        ),
    ],
)
def test_an_error_or_a_hang_ends_all_and_is_told_once(tmp_path: Path, what: str, rank: int) -> None:
    job = Job(tmp_path, *of_this(learn_badly, what, rank))
    assert job.end() == [FAILED] * 2, job.told()
    words = {
        "raise": "failed: RuntimeError: the disk of this node is full",
        "catch": "failed: RuntimeError: the disk of this node is full",
        "hang": "hangs: the others have waited",
        "exit": "left by sys.exit(3)",
        "leave": "has ended, though the others go on",
    }
    assert "".join(job.told()).count(f"ppo2: rank {rank} {words[what]}") == 1
    assert ("in update_fn" in job.told()[rank]) == (what in ("raise", "catch", "exit"))  # its traceback


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_stops_all_at_the_same_update(tmp_path: Path, rank: int) -> None:
    run_dir, as_each_calls_it = tmp_path / "run0", tmp_path / "runRANK"  # which only rank 0 has
    job = Job(tmp_path, *command(as_each_calls_it, updates=10**6))
    job.wait_for(checkpoint.file_of(run_dir, 20))
    job.processes[rank].send_signal(signal.SIGTERM)
    assert job.end() == [128 + signal.SIGTERM] * 2, job.told()
    assert "goes on" in job.told()[0]
    before = max(checkpoint.numbered(run_dir / checkpoint.FOLDER))
    resume = [sys.executable, "-m", "ppo2", "resume", str(as_each_calls_it), "--no-progress", "--heartbeat", "20"]
    again = Job(tmp_path, *resume)
    again.wait_for(checkpoint.file_of(run_dir, (before // 20 + 2) * 20))
    again.processes[1 - rank].send_signal(signal.SIGINT)
    assert again.end() == [128 + signal.SIGINT] * 2, again.told()
    assert not (tmp_path / "run1").exists()


def learn_slowly(folder: str, what: str) -> None:
    mine = ppo2.distributed.init(heartbeat=HEARTBEAT)

    def pause(seconds: int) -> None:
        Path(folder, str(mine.rank)).touch()
        if what == "foreign code":  # in which Python hears of no signal
            hashlib.pbkdf2_hmac("sha256", b"", b"", seconds * 10**7)
        else:
            time.sleep(seconds)

    def make() -> gym.Env[Any, Any]:
        if what != "the last update":
            pause(20)
        return gym.make("CartPole-v1")

    def update_fn(update: int) -> None:
        if what == "the last update" and update == 3:
            pause(3)

    learn(env=make, **SMALL, update_fn=update_fn)
    raise AssertionError("it went on")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "rank", "words"),
    [
        ("Python", 1, "ppo2: rank 1 was stopped by SIGTERM"),
        ("foreign code", 1, "ppo2: rank 1 was stopped by SIGTERM"),
        ("foreign code", 0, "ppo2: ended at once by SIGTERM"),
        ("the last update", 0, None),
    ],
)
def test_a_signal_to_one_early_or_late_ends_all(tmp_path: Path, what: str, rank: int, words: str | None) -> None:
    job = Job(tmp_path, *of_this(learn_slowly, tmp_path, what))
    job.wait_for(tmp_path / str(rank))
    job.processes[rank].send_signal(signal.SIGTERM)
    assert job.end() == [128 + signal.SIGTERM] * 2, job.told()
    if words is not None:
        assert "".join(job.told()).count(words) == 1


def test_what_all_do_wrong_is_told_once_and_is_nobody_elses_fault(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "progress.csv").write_text("a\n1\n")
    job = Job(tmp_path, *command(tmp_path / "run"))
    assert job.end() == [1, 1], job.told()
    assert "".join(job.told()).count("already holds a run") == 1  # though only the first of them has looked


@pytest.mark.slow
def test_processes_that_are_told_different_things(tmp_path: Path) -> None:
    job = Job(tmp_path, *of_this(learn_differently))
    assert job.end() == [1, 1], job.told()
    assert "".join(job.told()).count("`lr` is 0.0 in the process of rank 0 and 0.1 in that of rank 1") == 1


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
    job = Job(tmp_path, *of_this(learn_nonsense, tmp_path / "run"))
    assert job.end() == [1, 1], job.told()
    assert "update 3: a reward is NaN" in job.told()[0]
    assert "environment 2" in job.told()[0]  # the first of rank 1
    assert list(checkpoint.numbered(tmp_path / "run" / checkpoint.FOLDER)) == [2]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="network namespaces are root's to make")
def test_two_hosts_whose_link_is_cut(tmp_path: Path) -> None:
    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    hosts, name = ["ppo2a", "ppo2b"], f"ppo2{os.getpid() % 1000}"
    try:
        for i, host in enumerate(hosts):
            ip("netns", "add", host)
            ip("-n", host, "link", "set", "lo", "up")
            if i == 0:
                ip("link", "add", f"{name}0", "type", "veth", "peer", "name", f"{name}1")
            ip("link", "set", f"{name}{i}", "netns", host)
            ip("-n", host, "addr", "add", f"10.77.0.{i + 1}/24", "dev", f"{name}{i}")
            ip("-n", host, "link", "set", f"{name}{i}", "up")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    processes = []
    try:
        for rank, host in enumerate(hosts):
            # a name that the other one knows: /etc/hosts of a mount namespace of its own
            (tmp_path / f"hosts{rank}").write_text("127.0.0.1 localhost\n10.77.0.1 ppo2a\n10.77.0.2 ppo2b\n")
            inside = f'mount --bind {tmp_path}/hosts{rank} /etc/hosts && hostname {host} && exec "$@"'
            into = ["ip", "netns", "exec", host, "unshare", "-m", "-u", "sh", "-c", inside, "sh"]
            with (tmp_path / f"{rank}.err").open("w") as err:
                processes.append(
                    subprocess.Popen(
                        [*into, *of_this(learn_until_cut, tmp_path / "run", "10.77.0.1:12345", rank)],
                        cwd=HERE,
                        stderr=err,
                    )
                )
        deadline = time.monotonic() + WAIT
        while not checkpoint.file_of(tmp_path / "run", 20).exists():
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in processes), (tmp_path / "0.err").read_text()
            time.sleep(0.05)
        ip("-n", hosts[0], "link", "set", f"{name}0", "down")
        assert [process.wait(HEARTBEAT * 10) for process in processes] == [FAILED] * 2
        assert "rank 1 hasn't been heard of" in (tmp_path / "0.err").read_text()
        assert "rank 0 hasn't been heard of" in (tmp_path / "1.err").read_text()
    finally:
        for process in processes:
            process.kill()
        for host in hosts:
            ip("netns", "del", host)


def learn_until_cut(run_dir: str, coordinator: str, rank: str) -> None:
    ppo2.distributed.init(coordinator, 2, int(rank), heartbeat=HEARTBEAT)
    small = {**SMALL, "total_timesteps": 1e9}
    learn(env="CartPole-v1", **small, run_dir=run_dir, save_interval=20)


# --- who am I ---------------------------------------------------------------------------------------------------------

TORCHRUN = {
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29500",
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
}
SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}
SRUN = SLURM | {"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_NTASKS": "4"}
OPEN_MPI = {
    f"OMPI_COMM_WORLD_{name}": value
    for name, value in {"SIZE": "2", "RANK": "1", "LOCAL_SIZE": "2", "LOCAL_RANK": "1"}.items()
}
OPEN_MPI_4 = OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1"}
KUBERNETES = {"JAX_COORDINATOR_ADDRESS": "job-0.svc:1234", "JAX_NUM_PROCESSES": "16", "JOB_COMPLETION_INDEX": "9"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (TORCHRUN, Launch("torchrun", 5, 8, 4, 1, "node0:29501")),
        (TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0"}, None),
        (SRUN, Launch("srun", 3, 4, 2, 1, None)),
        (KUBERNETES | {"PPO2_ALONE": "1"}, None),
        ({**SRUN, "SLURM_STEP_NODELIST": ""}, None),  # the script of sbatch itself
        (OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1"}, Launch("mpirun", 1, 2, 2, 1, None)),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"} | OPEN_MPI_4, Launch("mpirun", 1, 2, 2, 1, None)),
        (KUBERNETES, Launch("JAX_COORDINATOR_ADDRESS", 9, 16, 1, 0, "job-0.svc:1234")),
        (KUBERNETES | TORCHRUN, Launch("JAX_COORDINATOR_ADDRESS", 9, 16, 1, 0, "job-0.svc:1234")),
    ],
)
def test_launchers_are_recognised(environment: dict[str, str], expected: Launch | None) -> None:
    assert detect(environment) == expected


def test_processes_of_one_machine_meet_at_a_port_of_their_own() -> None:
    jobs = [detect(OPEN_MPI | {"PMIX_NAMESPACE": name}) for name in ("prterun-a-1@1", "prterun-a-2@1")]
    ports = [int(job.coordinator.removeprefix("127.0.0.1:")) for job in jobs if job is not None and job.coordinator]
    assert len(set(ports)) == 2
    assert all(2**14 <= port < 2**15 for port in ports)
    mpich = detect({"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALNRANKS": "2"})
    assert mpich is not None
    assert mpich.coordinator is not None


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, "set JAX_COORDINATOR_ADDRESS"),
        ({**KUBERNETES, "JOB_COMPLETION_INDEX": ""}, "not which of them"),
        (KUBERNETES | {"JAX_NUM_PROCESSES": "many"}, "must be a whole number"),
        (KUBERNETES | {"JOB_COMPLETION_INDEX": "16"}, "it must be from 0 to 15"),
    ],
)
def test_environments_that_say_too_little(environment: dict[str, str], words: str) -> None:
    given = {name: value for name, value in environment.items() if value}
    with pytest.raises(ValueError, match=words):
        detect(given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("localhost:1",), "go together"),
        (("localhost", 2, 0), "must be 'host:port'"),
        (("localhost:1", 2, 2), "must be from 0 to"),
    ],
)
def test_arguments_that_cannot_be(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        distributed.init(*arguments)


def test_an_error_before_the_watch_begins_is_shown_by_whoever_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_CURRENT", [Heartbeat(1, 2)])  # of which nobody has heard yet, or a forked child's
    error, shown = OSError("no such interface"), []
    processes._fail_all(lambda *what: shown.append(what), OSError, error, None)
    assert shown == [(OSError, error, None)]
    assert not processes.raised_by_all(error)


def test_a_name_that_means_the_machine_itself_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(2, 1, 6, "", ("127.0.1.1", 0))])
    with pytest.raises(ValueError, match=r"resolves to 127\.0\.1\.1"):
        launch.check_host_name()


def test_what_was_joined_by_other_means_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="leave that to"):
        distributed.init()


def test_a_sweep_by_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="PPO2_ALONE=1"):
        ppo2.sweep(env="gymnax:CartPole-v1", seed=range(2))


def test_a_process_by_itself_is_first_of_one() -> None:
    assert distributed.init() == distributed.world() == (0, 1)
    assert collectives.all_gather({"a": float("inf")}) == [{"a": float("inf")}]


def test_who_forgot_to_join_is_told_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**OPEN_MPI, "OMPI_COMM_WORLD_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "_WARNED", [])
    monkeypatch.setenv("PPO2_ALONE", "1")
    processes.warn_if_alone()
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("PPO2_ALONE")
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
def test_each_process_of_a_machine_takes_an_accelerator(
    local_size: int, environment: dict[str, str], expected: list[int] | None
) -> None:
    mine = Launch("torchrun", 1, 2, local_size, 1, "a:1")
    assert processes.own_accelerator(mine, environment) == expected


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no other processes to be seen")
def test_a_shell_between_a_process_and_its_launcher_is_looked_through() -> None:
    code = "from ppo2.system import launch; print(launch._starter('A_MARK'))"
    for command in ([sys.executable, "-c", code], ["sh", "-c", f'"{sys.executable}" -c "{code}"; true']):
        done = subprocess.run(command, env={**os.environ, "A_MARK": "1"}, capture_output=True, text=True, check=True)
        assert int(done.stdout) == os.getpid()


def test_processors_of_a_machine_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():  # 4 on this machine
        monkeypatch.setenv(name, value)
    sets = {0: set(range(8)), os.getppid(): set(range(8))}
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: sets[process], raising=False)
    assert usable_processors() == 2
    sets[0] = {2, 3, 4}  # the launcher's gift
    assert usable_processors() == 3


# --- the pieces -------------------------------------------------------------------------------------------------------


def a_snapshot(rank: int) -> Snapshot:
    steps = np.array([2, 12 + rank], np.int64)  # of which those beyond 10 aren't kept
    tensors = {"obs/0": np.full((2, 3), rank), "steps/0": steps, "actions/0": np.array([rank * 10, rank * 10 + 1])}
    tensors |= {"states/1/0": np.array([rank])}
    facts = {"kind": "host", "states": [None, ["x"]], "limit": 10, "groups": 1}
    return Snapshot({f"{RUNNER}{name}": tensor for name, tensor in tensors.items()}, facts, 4)


def test_a_snapshot_of_all_falls_into_the_parts_again() -> None:
    whole = join_snapshots([a_snapshot(rank) for rank in range(3)])
    saved = checkpoint.Checkpoint(Path("x"), whole.tensors, {"run": {"update": 1, "runner": whole.facts}})
    for rank in range(3):
        part, mine = part_of(saved, slice(2 * rank, 2 * rank + 2), 6), a_snapshot(rank)
        assert part.metadata["run"] == {"update": 1, "runner": mine.facts}
        assert part.tensors.keys() == mine.tensors.keys()
        for name, tensor in mine.tensors.items():
            np.testing.assert_array_equal(part.tensors[name], tensor, err_msg=name)
    twice = part_of(saved, slice(0, 4), 6)
    assert twice.tensors[f"{RUNNER}actions/0"].tolist() == [0, 1, 10, 11]


def test_a_checkpoint_as_a_message() -> None:
    saved = checkpoint.Checkpoint(Path("a/b"), {"x": np.arange(3)}, {"run": {"x": 1.5}})
    twin = checkpoint.from_message(checkpoint.to_message(saved))
    assert twin[::2] == saved[::2]
    assert twin.tensors["x"].tolist() == [0, 1, 2]


# --- the watch --------------------------------------------------------------------------------------------------------


@pytest.fixture
def watched() -> Iterator[Heartbeat]:
    first = Heartbeat(0, 2, heartbeat=10.0)
    yield first
    first.close()


def test_strangers_are_not_let_in(watched: Heartbeat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "STRANGER_SECONDS", 0.5)
    address = watched.listen("127.0.0.1")
    for words in (
        b"nonsense\n",
        b'{"rank": 1, "word": "guess"}\n',
        b'{"rank": 7}\n',
        b"x" * 70_000,
        b'["a"]\n',
        b"[" * 9999 + b"\n",
        b"waits",
    ):
        with socket.create_connection(address[:2], timeout=10) as stranger:
            stranger.sendall(words)
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(100) == b""  # hung up on
    with socket.create_connection(address[:2], timeout=10) as friend:
        friend.sendall(json.dumps({"rank": 1, "word": address.word}).encode() + b"\n")
        assert b"complete" in friend.recv(1000)
        friend.sendall(b'nonsense\n[]\n{"left": true}\n')
        watched.close()
        assert b"left" in friend.recv(1000)


class Ended(BaseException):
    pass


class Watch:
    """A hub and what it hears, without the processes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, size: int = 3) -> None:
        def end(words: str, status: int) -> None:
            raise Ended(words, status)

        self.now = 0.0
        monkeypatch.setattr(monitor, "end", end)
        monkeypatch.setattr(monitor, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.hub = Monitor(size, 10.0, beat=1.0)
        pairs = [socket.socketpair() for _ in range(size)]
        for rank, (theirs, _) in enumerate(pairs):
            self.hub._let_in(rank, theirs, None)
        self.hub._complete = True
        self.ends = [end for _, end in pairs]

    def hear(self, rank: int, **message: Any) -> None:
        self.hub._members[rank].hear(json.dumps(message).encode() + b"\n")

    def told(self, rank: int) -> bytes:
        self.ends[rank].setblocking(False)
        return self.ends[rank].recv(1000)

    def after(self, seconds: float) -> tuple[str, int] | None:
        """What is judged then: why all end, and how; None: they don't."""
        self.now = seconds
        try:
            self.hub._judge(seconds)
        except Ended as ended:
            words, status = ended.args
            return words.partition(" All processes")[0].removesuffix("."), status
        return None

    def close(self) -> None:
        self.hub._selector.close()
        for member in self.hub._members.values():
            member.hang_up()
        for end in self.ends:
            end.close()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    made = Watch(monkeypatch)
    yield made
    made.close()


def at_work(met: int, ticks: int = 0) -> ProcessProgress:
    return ProcessProgress(met, ticks, may_pause=False)


def test_who_lets_the_others_wait_hangs(watch: Watch) -> None:
    def hear_all(of_one: ProcessProgress) -> None:
        for rank in range(3):
            watch.hear(rank, progress=of_one if rank == 1 else at_work(6))

    hear_all(at_work(5))
    assert watch.after(9.0) is None
    hear_all(at_work(5, ticks=1))
    assert watch.after(18.0) is None
    hear_all(ProcessProgress(5, ticks=1, may_pause=True))
    assert watch.after(27.0) is None
    for now in (28.0, 37.0):
        hear_all(at_work(5, ticks=2))
        assert watch.after(now) is None
    assert watch.after(37.5) == ("rank 1 hangs: the others have waited for it for 10 s", FAILED)


def test_who_is_silent_is_given_up(watch: Watch) -> None:
    assert watch.after(11.0) == ("rank 0 hasn't been heard of for 10 s", FAILED)


@pytest.mark.parametrize(("left", "expected"), [(6, None), (5, "rank 2 has ended, though the others go on")])
def test_who_leaves_before_the_others(watch: Watch, left: int, expected: str | None) -> None:
    for rank in range(2):
        watch.hear(rank, progress=at_work(6))
    watch.hear(2, progress=ProcessProgress(left), left=True)
    judged = watch.after(1.0)
    assert judged == (None if expected is None else (expected, FAILED))


def test_who_never_comes_to_the_end_keeps_those_waiting_who_have(watch: Watch) -> None:
    def hear_all() -> None:
        for rank in range(3):
            watch.hear(rank, progress=at_work(6), **({"left": True} if rank == 2 else {}))

    hear_all()
    assert watch.after(9.0) is None
    hear_all()
    assert watch.after(11.0) == ("rank 0 hangs: the others have waited for it for 10 s", FAILED)


def test_who_dies_after_it_left_is_missed_too(watch: Watch) -> None:
    watch.hear(1, left=True)
    watch.hub._members[1].died = True
    assert watch.after(1.0) == (f"rank 1 {DIED}", FAILED)


def test_time_in_which_all_were_stopped_does_not_count(watch: Watch) -> None:
    watch.hub._forgive(60.0)
    assert watch.after(60.0) is None
    for now in (64.0, 68.0):
        watch.hub._forgive(now)
    assert watch.after(71.0) == ("rank 0 hasn't been heard of for 10 s", FAILED)


def test_who_never_comes_is_named(watch: Watch) -> None:
    watch.hub._members.pop(1).hang_up()
    watch.hub._complete = False
    assert watch.after(5.0) is None
    watch.now = 0.0
    watch.hub.expect_all()
    assert watch.after(9.0) is None
    watch.hub._forgive(31.0)
    judged = watch.after(31.0)
    assert judged is not None
    assert judged[0].startswith("rank 1 can't be heard of")


def test_what_only_says_that_another_is_gone_is_not_theirs(watch: Watch) -> None:
    for rank in range(3):
        watch.hear(rank, failed=failure()._replace(is_secondary=True))
    assert watch.after(0.1) == ("rank 0 failed: x", FAILED)


def failure(words: str = "failed: x", met: int = 5, status: int = FAILED, *, may_pause: bool = False) -> ProcessFailure:
    return ProcessFailure(words, status, is_secondary=False, collectives=met, may_pause=may_pause)


def test_what_all_fail_of_alike_is_theirs_to_raise(watch: Watch) -> None:
    for rank in range(3):
        assert watch.after(0.5 + 0.1 * rank) is None
        watch.hear(rank, failed=failure(f"failed: <Net object at 0x7f{rank}>"))
    assert watch.after(0.9) is None
    assert all(b"alike" in watch.told(rank) for rank in range(3))
    assert watch.after(9.0) is None  # and they may go on


@pytest.mark.parametrize(
    ("may_pause", "seconds", "ends"), [(False, 0.5, False), (False, 2.0, True), (True, 5.0, False), (True, 12.0, True)]
)
def test_others_may_still_fail_of_the_same(watch: Watch, may_pause: bool, seconds: float, ends: bool) -> None:
    watch.hear(1, failed=failure(may_pause=may_pause))
    for rank in range(3):
        watch.hear(rank, progress=ProcessProgress(5))
    judged = watch.after(seconds)
    assert judged == (("rank 1 failed: x", FAILED) if ends else None)


@pytest.mark.parametrize(
    "others",
    [
        {"progress": ProcessProgress(6)},
        {"progress": ProcessProgress(5), "left": True},
        {"failed": failure("failed: y")},
    ],
    ids=["wait", "left", "failed otherwise"],
)
def test_an_error_of_one_ends_all_once_that_is_clear(watch: Watch, others: dict[str, Any]) -> None:
    watch.hear(1, failed=failure("was stopped by SIGINT", status=130))
    watch.now = 0.05
    for rank in (0, 2):
        watch.hear(rank, **others)
    assert watch.after(0.1) == ("rank 1 was stopped by SIGINT", 130)


def test_who_died_is_told_unless_another_failed_before(watch: Watch) -> None:
    watch.hub._members[2].died = True
    assert watch.after(0.1) == (f"rank 2 {DIED}", FAILED)
    watch.hear(1, failed=failure())
    assert watch.after(0.1) == ("rank 1 failed: x", FAILED)
