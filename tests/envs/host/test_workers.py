"""Environments in worker processes: real processes, that really crash."""

import copy
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest

import ppo2
from ppo2.envs.host.failures import EnvFailure, EnvironmentFailureError
from ppo2.envs.host.replay import episode_seed
from ppo2.envs.host.semaphore import Semaphore
from ppo2.envs.host.vector import HostVectorEnv

NDArray = np.ndarray[Any, Any]


class Counting(gym.Env[NDArray, Any]):
    """Its observation is (its process, its number, its step); does something at a step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space: Any = gym.spaces.Discrete(2)

    def __init__(self, number: int, length: int = 5, at: int = -1, what: Callable[[], object] = int) -> None:
        self.number, self.length, self.at, self.what = number, length, at, what
        self.t = 0
        self.kept: Any = None

    def _obs(self) -> NDArray:
        return np.array([os.getpid(), self.number, self.t], np.float64)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        if self.t == self.at:
            self.what()
        info = {"is_success": self.t == self.length, "noise": float(self.np_random.random())}
        return self._obs(), float(self.t), False, self.t == self.length, info


def once(path: Path, what: Callable[[], object]) -> Callable[[], None]:
    """`what`, for the first process that gets there."""

    def act() -> None:
        if not path.exists():
            path.touch()
            what()

    return act


@pytest.fixture
def made() -> Iterator[Callable[..., HostVectorEnv]]:
    """Makes vector environments, and closes them."""
    every: list[HostVectorEnv] = []

    def make(factories: list[Any], **how: Any) -> HostVectorEnv:
        every.append(HostVectorEnv(factories, **how))
        return every[-1]

    yield make
    for env in every:
        env.close()


def stepped(env: HostVectorEnv, steps: int, seed: int = 3) -> list[Any]:
    """All that it gives."""
    env.action_space.seed(7)
    given: list[Any] = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        *outcome, infos = env.step(env.action_space.sample())
        given.append((*outcome, {key: list(value) if value.dtype == object else value for key, value in infos.items()}))
    return given


def same(one: Any, other: Any) -> bool:
    return bool(
        jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), one, other))
    )


SPACES: dict[str, Any] = {
    "discrete": gym.spaces.Discrete(3, start=-1),
    "multi": gym.spaces.MultiDiscrete([2, 3]),
    "binary": gym.spaces.MultiBinary(4),
    "box": gym.spaces.Box(-1, 1, (2, 3), np.float32),
    "image": gym.spaces.Box(0, 255, (8, 8, 3), np.uint8),
    "tuple": gym.spaces.Tuple([gym.spaces.Discrete(3), gym.spaces.Box(0, 1, (), np.float64)]),
    "dict": gym.spaces.Dict(
        {"b": gym.spaces.Box(-1, 1, (2,), np.float32), "a": gym.spaces.Tuple([gym.spaces.MultiBinary(2)])}
    ),
}


class Sampling(gym.Env[Any, Any]):
    """Observations and actions of any space; an observation depends on the seed and on the action before."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.observation_space, self.action_space = copy.deepcopy((observation_space, action_space))

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        reward = float(sum(np.sum(leaf) for leaf in jax.tree.leaves(action)))
        return self.observation_space.sample(), reward, bool(self.np_random.random() < 0.2), False, {}


@pytest.mark.parametrize("kind", sorted(SPACES))
def test_every_space_is_stepped_alike_everywhere(kind: str, made: Any) -> None:
    def factory(space: Any = SPACES[kind]) -> Any:
        return Sampling(space, space)

    alone = stepped(made([factory] * 5), 40)
    assert same(alone, stepped(made([factory] * 5, workers=2, groups=1 + (kind in ("discrete", "dict", "image"))), 40))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "LunarLander-v3", "HalfCheetah-v5"])
def test_real_environments_are_stepped_alike_everywhere(env_id: str) -> None:
    def of(**how: Any) -> list[Any]:
        env = ppo2.make(env_id, num_envs=4, seed=0, **how)
        try:
            return stepped(env, 200)
        finally:
            env.close()

    assert same(of(workers=0), of(workers=1, groups=2))


def test_the_time_limit_is_gymnasiums() -> None:
    ours, theirs = ppo2.make("Pendulum-v1", num_envs=2, workers=1), gym.make("Pendulum-v1")
    obs, _ = ours.reset(seed=[5, 6])
    assert (obs[1] == theirs.reset(seed=6)[0]).all()
    for _ in range(200):
        action = theirs.action_space.sample()
        _, rewards, terminated, truncated, infos = ours.step(np.stack([action] * 2))
        obs_1, reward, *ends, _ = theirs.step(action)
        assert rewards[1] == reward
        assert [bool(terminated[1]), bool(truncated[1])] == ends
    assert ends == [False, True]
    assert (infos["final_obs"][1] == obs_1).all()
    ours.close()


def test_several_processes_take_shares_and_every_episode_its_seed(made: Any) -> None:
    env = made([lambda i=i: Counting(i) for i in range(7)], workers=2, info_keys=("is_success", "noise", "absent"))
    obs, _ = env.reset(seed=list(range(10, 17)))
    assert obs[:, 1].tolist() == list(range(7))
    assert len(set(obs[:, 0])) == 3
    assert obs[0, 0] == os.getpid()
    noise = []
    for _ in range(5):
        *_, truncated, infos = env.step(np.zeros(7, int))
        noise.append(infos["noise"])
    assert truncated.all()
    assert infos["is_success"].tolist() == [1.0] * 7
    assert np.isnan(infos["absent"]).all()
    expected = [np.random.Generator(np.random.PCG64(10 + i)).random(5) for i in range(7)]
    assert np.array_equal(np.stack(noise, axis=1), expected)
    second = env.step(np.zeros(7, int))[-1]["noise"]
    assert second.tolist() == [np.random.Generator(np.random.PCG64(episode_seed(10 + i, 1))).random() for i in range(7)]
    assert len({episode_seed(seed, episode) for seed in range(100) for episode in range(100)}) == 10_000


FAILURES: dict[str, tuple[Callable[[], object], str]] = {
    "raises": (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
    "exits": (lambda: sys.exit(3), "SystemExit"),
    "is killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by signal 9"),
    "leaves": (lambda: os._exit(7), "exited with status 7"),
    "hangs": (lambda: time.sleep(1000), "hung for more than 1 s"),
}


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
        # Those that did not fail never noticed: their episodes are of 5 steps.
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


def test_failing_on_and_on_ends_it(made: Any) -> None:
    env = made([lambda i=i: Counting(i, at=1, what=lambda: 1 / 0) for i in range(8)], workers=1)
    env.reset(seed=0)
    with pytest.raises(EnvironmentFailureError, match=r"(?s)failed, after 3 failures.*ZeroDivisionError"):
        env.step(np.zeros(8, int))


def test_training_survives_a_killed_worker_and_gives_up_with_a_checkpoint(tmp_path: Path, capfd: Any) -> None:
    act = once(tmp_path / "done", lambda: os.kill(os.getpid(), signal.SIGKILL))

    def factory() -> Any:
        return Counting(0, at=4 if os.getpid() != parent else -1, what=act)

    parent = os.getpid()
    env = HostVectorEnv([factory] * 4, workers=1)
    model = ppo2.learn(env=env, total_timesteps=4 * 16 * 3, nsteps=16, seed=0, run_dir=tmp_path / "run")
    env.close()
    assert "killed by signal 9" in capfd.readouterr().err
    assert int(model.state.counters.updates) == 3
    rows = (tmp_path / "run" / "monitor.csv").read_text().splitlines()[2:]
    assert {float(row.split(",")[0]) for row in rows} == {15.0}  # 1 + 2 + 3 + 4 + 5: none that was cut short

    def failing(number: int = 0) -> Any:
        return Counting(number, length=100, at=40, what=lambda: 1 / 0)

    env = HostVectorEnv([failing] * 4, workers=1)
    with pytest.raises(EnvironmentFailureError, match="ZeroDivisionError"):
        ppo2.learn(env=env, total_timesteps=4 * 16 * 4, nsteps=16, seed=0, run_dir=tmp_path / "other")
    env.close()
    assert ppo2.load(tmp_path / "other").state.counters.updates == 2


def test_a_wrong_observation_in_a_worker_is_an_error_that_says_whose(made: Any) -> None:
    class Wrong(Counting):
        def _obs(self) -> NDArray:
            return np.zeros(4 if self.t == 2 else 3)

    env = made([lambda: Counting(0), lambda: Wrong(1)], workers=1)
    env.reset(seed=0)
    env.step([0, 0])
    with pytest.raises(ValueError, match=r"environment 1 .*\(4,\)"):
        env.step([0, 0])


def test_what_can_not_travel_stays(capsys: Any) -> None:
    lock = __import__("threading").Lock()
    made = ppo2.envs.resolve(lambda: (lock, slow())[1], 4).env
    assert made.stepped_by == "this process"
    assert "can't travel" in capsys.readouterr().err
    made.close()


def slow() -> Any:
    class Slow(Counting):
        def reset(self, **how: Any) -> Any:
            time.sleep(0.001)
            return super().reset(**how)

        def step(self, action: Any) -> Any:
            time.sleep(0.001)
            return super().step(action)

    return Slow(0)


def test_auto_weighs_the_cost_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppo2.envs.host.parallelism.usable_processors", lambda: 3)
    engines = []
    for factory, count in ((slow, 4), (slow, 2), (slow, 1), (lambda: Counting(0), 4)):
        env = ppo2.envs.resolve(factory, count).env
        engines.append(env.stepped_by)
        env.close()
    assert engines == ["this process and 2 workers", "this process and 1 worker", "this process", "this process"]


def test_numbers_that_do_not_fit() -> None:
    for how, words in (
        ({"workers": 4}, r"`workers` \(=4\) must be a whole number from 0 to 3"),
        ({"workers": -1}, r"`workers` \(=-1\)"),
        ({"env_timeout": 0}, r"`env_timeout` \(=0\) must be a number of seconds above 0"),
        ({"info_keys": "is_success"}, r"`info_keys` \(='is_success'\) must be names"),
        ({"groups": 3}, r"`groups` \(=3\) must be 1 or 2"),
        ({"workers": 3, "groups": 2}, r"`workers` \(=3\) must be a whole number from 0 to 2"),
    ):
        with pytest.raises(ValueError, match=words):
            HostVectorEnv([lambda: Counting(0)] * 4, **how)  # type: ignore[arg-type]


SCRIPT = """
import os, sys, jax
from ppo2.envs.host.vector import HostVectorEnv
print("main runs")
class Own(__import__("gymnasium").Env):  # of __main__
    import numpy as np, gymnasium as gym
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        return self.np.zeros(2, "f"), {}
    def step(self, action):
        return self.np.array([os.getpid() % 2, "jax" in sys.modules], "f") / 2, 1.0, False, False, {}
env = HostVectorEnv([Own] * 2, workers=1)
env.reset(seed=0)
print("imports jax:", env.step([0, 0])[0][:, 1].tolist())
print("worker", env._pool.workers[-1].process.pid)
{end}
"""


def shared_names() -> set[str]:
    """Of ours, in the memory that processes share."""
    folder = Path("/dev/shm")
    return {path.name for path in folder.iterdir() if "ppo2" in path.name} if folder.is_dir() else set()


def run_script(end: str, tmp_path: Path) -> "subprocess.Popen[str]":
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).replace("{end}", end))
    return subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)


def worker_of(output: list[str]) -> int:
    return int(next(line for line in output if line.startswith("worker")).split()[1])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    for _ in range(100):
        if not is_running(pid):
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("end", ["env.close()", "", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_no_main_guard_no_jax_and_nothing_left_behind(end: str, tmp_path: Path) -> None:
    before = shared_names()
    process = run_script("sys.stdout.flush(); " + end, tmp_path)
    output = process.communicate(timeout=60)[0].splitlines()
    assert output.count("main runs") == 1
    assert "imports jax: [0.5, 0.0]" in output
    wait_until_gone(worker_of(output))
    left = shared_names() - before
    for _ in range(200):  # other tests, which run beside this one, have names for a moment
        left &= shared_names()
        if not left:
            return
        time.sleep(0.05)
    pytest.fail(f"left behind: {left}")


def test_signals_are_for_the_parent(made: Any) -> None:
    env = made([lambda: Counting(0)] * 2, workers=1)
    worker = int(env.reset(seed=0)[0][1, 0])
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker, number)
        obs, *_, infos = env.step([0, 0])
        assert obs[1, 0] == worker
        assert "failed" not in infos


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


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_is_stepped_before_a_reset_after_an_error_or_after_the_end(workers: int, made: Any) -> None:
    class Wrong(Counting):
        def _obs(self) -> NDArray:
            return np.zeros(4 if self.t == 2 and self.number == 0 else 3)

    env = made([lambda: Wrong(0), lambda: Counting(1)], workers=workers)
    with pytest.raises(gym.error.ResetNeeded, match=r"call reset\(\) first"):
        env.step([0, 0])
    env.reset(seed=0)
    env.step([0, 0])
    with pytest.raises(ValueError, match="environment 0"):
        env.step([0, 0])
    with pytest.raises(gym.error.ResetNeeded):
        env.step([0, 0])
    obs, _ = env.reset(seed=0)
    assert obs[:, 2].tolist() == [0, 0]
    assert env.step([0, 0])[1].tolist() == [1, 1]
    env.close()
    with pytest.raises(RuntimeError, match="were closed"):
        env.reset(seed=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_environment_that_can_not_be_made_again_ends_it(workers: int, made: Any) -> None:
    """Every attempt counts; what it raises is told, even if it would end the program."""

    class Once(Counting):
        made: dict[int, int] = {}  # noqa: RUF012 - by process

        def __init__(self) -> None:
            count = self.made[os.getpid()] = self.made.get(os.getpid(), 0) + 1
            if count > 2 - workers:
                sys.exit("no server")
            super().__init__(0, at=1, what=lambda: 1 / 0)

    env = made([Once] * 2, workers=workers)
    env.reset(seed=0)
    with pytest.raises(EnvironmentFailureError, match="no server"):
        env.step([0, 0])


def test_a_failed_step_says_nothing_of_later_ones(made: Any, tmp_path: Path) -> None:
    kill = once(tmp_path / "killed", FAILURES["is killed"][0])
    fail = once(tmp_path / "failed", FAILURES["raises"][0])
    whats = {0: (4, fail), 3: (3, kill)}
    env = made(
        [lambda i=i: Counting(i, 50, *whats.get(i, (-1, int))) for i in range(4)], workers=1, info_keys=("is_success",)
    )
    env.reset(seed=0)
    lost = []
    for _ in range(5):
        *_, infos = env.step([0] * 4)
        lost.append(infos.get("failed", np.zeros(4, bool)).tolist())
        assert (np.isnan(infos["is_success"]) == lost[-1]).all()
    no, yes = False, True
    assert lost == [[no] * 4, [no] * 4, [no, no, yes, yes], [yes, no, no, no], [no] * 4]


def test_what_a_lost_process_stepped_is_no_experience_in_two_groups(tmp_path: Path) -> None:
    kill = once(tmp_path / "killed", FAILURES["is killed"][0])
    env = HostVectorEnv([lambda i=i: Counting(i, 8, 5 if i == 3 else -1, kill) for i in range(4)], workers=1, groups=2)
    model = ppo2.learn(env=env, total_timesteps=4 * 30, nsteps=30, seed=0, nminibatches=1, run_dir=tmp_path / "run")
    env.close()
    assert int(model.state.counters.updates) == 1
    assert (tmp_path / "killed").exists()
    rows = (tmp_path / "run" / "monitor.csv").read_text().splitlines()[2:]
    assert {row.rsplit(",", 2)[0] for row in rows} == {"36.0,8"}  # 1 + ... + 8: none that was cut short


def test_a_bad_reward_is_blamed_on_the_environment_of_the_second_group_that_gave_it(tmp_path: Path) -> None:
    class Nan(Counting):
        def step(self, action: Any) -> Any:
            obs, reward, *rest = super().step(action)
            return obs, np.nan if self.number == 3 and self.t == 4 else reward, *rest

    env = HostVectorEnv([lambda i=i: Nan(i) for i in range(4)], workers=1, groups=2)
    with pytest.raises(ValueError, match=r"update 1: a reward is NaN or infinite; environment 3 gave it at step 3 of"):
        ppo2.learn(env=env, total_timesteps=4 * 8, nsteps=8, seed=0, nminibatches=1)
    env.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("workers", [0, 1])
def test_the_timeout_is_one_environments(workers: int, made: Any) -> None:
    env = made(
        [lambda: Counting(0, at=1, what=lambda: time.sleep(0.4)) for _ in range(4 + 4 * workers)],
        workers=workers,
        env_timeout=1.0,
    )
    env.reset(seed=0)
    assert "failed" not in env.step([0] * env.num_envs)[-1]


@pytest.mark.timeout(60)
def test_making_a_hung_environment_again_has_its_own_time(made: Any, tmp_path: Path) -> None:
    hang = once(tmp_path / "hung", FAILURES["hangs"][0])
    slowly: list[int] = []

    def factory() -> Any:
        if slowly:
            time.sleep(0.8)
        slowly.append(1)
        return Counting(0, at=2, what=hang)

    env = made([factory], env_timeout=1.0)
    env.reset(seed=0)
    failed = ["failed" in env.step([0])[-1] for _ in range(3)]
    assert failed == [False, True, False]


def test_what_a_class_says_of_itself_is_no_instruction(made: Any) -> None:
    class Odd(Counting):
        max_episode_steps = 2
        reseeds = counts_episodes = False

        def step(self, action: Any) -> Any:
            *outcome, info = super().step(action)
            return *outcome, {**info, "episode": 3}

    env = made([lambda: Odd(0), lambda: Odd(1)])
    env.reset(seed=0)
    cut = [env.step([0, 0])[3].tolist() for _ in range(5)]
    assert cut == [[False] * 2] * 4 + [[True] * 2]


def test_a_users_own_environment_is_not_closed() -> None:
    closed: list[int] = []

    class Mine(Counting):
        def close(self) -> None:
            closed.append(1)

    env = Mine(0)
    model = ppo2.learn(env=env, total_timesteps=16, nsteps=16, nminibatches=1, seed=0)
    ppo2.evaluate(model, env, episodes=1)
    del model
    __import__("gc").collect()
    assert not closed


def test_lengths_that_do_not_fit(made: Any) -> None:
    env = made([lambda: Counting(0)] * 3, workers=1)
    with pytest.raises(ValueError, match=r"`seed` has 2 numbers for 3 environments"):
        env.reset(seed=[1, 2])
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"`actions` have the shape \(1,\).*it must be \(3,\)"):
        env.step(np.zeros(1, int))


def test_a_worker_that_died_at_rest_is_replaced(made: Any) -> None:
    env = made([lambda i=i: Counting(i) for i in range(4)], workers=1)
    os.kill(int(env.reset(seed=0)[0][3, 0]), signal.SIGKILL)
    time.sleep(0.2)
    for _ in range(2):
        assert env.reset(seed=0)[0][:, 2].tolist() == [0] * 4
        assert env.step([0] * 4)[0][:, 2].tolist() == [1] * 4


def test_a_signal_orders_and_waits() -> None:
    mine = Semaphore()
    theirs = Semaphore(mine.name)
    mine.unlink()
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        mine.release()

    theirs.acquire(spin=False, check=look)
    assert looks == [1]
    theirs.release()
    mine.acquire(spin=True, check=lambda: pytest.fail("it was given"))


def test_a_failure_is_told_in_full_once(capsys: Any) -> None:
    from ppo2.envs.host.failures import FailureLog

    failures = FailureLog()
    text = "Traceback\n  somewhere\nValueError: broken\n"
    failures.note([EnvFailure(1, text)])
    failures.note([EnvFailure(2, text)])
    told = capsys.readouterr().err
    assert told.count("somewhere") == 1
    assert "environment 2 failed again and begins anew: ValueError: broken" in told
