"""A run that was stopped and goes on ends as one that never was."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

import ppo2
from ppo2.checkpoints import checkpoint
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.training.log_writer import LogWriter
from ppo2.training.run import Run
from support.runs import SAVING

HOURLESS = ("seconds", "t", "fps", "misc/time_elapsed", "time/step", "time/act", "time/train")
"""Columns that depend on the clock, which no two runs share."""


def untimed(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key not in HOURLESS} for row in rows]


def table(file: Path) -> list[dict[str, str]]:
    with file.open() as opened:
        return untimed(list(csv.DictReader(line for line in opened if not line.startswith("#"))))


def lines(file: Path) -> list[dict[str, str]]:
    return untimed([json.loads(line) for line in file.read_text().splitlines()])


def assert_same_run(one: Path, other: Path) -> None:
    """All that two runs left behind, but for what a clock says."""
    mine, theirs = checkpoint.load(one), checkpoint.load(other)
    assert mine.path.name == theirs.path.name
    assert mine.tensors.keys() == theirs.tensors.keys()
    for name, tensor in mine.tensors.items():
        assert tensor.tobytes() == theirs.tensors[name].tobytes(), name
    for saved in (mine, theirs):
        del saved.metadata["run"]["seconds"]
    assert mine.metadata == theirs.metadata
    for name in ("progress.csv", "monitor.csv"):
        assert table(one / name) == table(other / name), name
    assert lines(one / "progress.jsonl") == lines(other / "progress.jsonl")


def stopping(after: int) -> Callable[[int], bool]:
    return lambda update: update < after


def assert_resumes(folder: Path, *, updates: int = 6, after: int = 3, **arguments: Any) -> None:
    """`updates` at once, and the same stopped `after` some of them."""
    settings = {"nsteps": 64, "num_envs": 2, "seed": 3, "log_interval": 1, "save_interval": 2, **arguments}
    settings["total_timesteps"] = updates * settings["nsteps"] * settings["num_envs"]
    whole = ppo2.learn(run_dir=folder / "whole", **settings)
    ppo2.learn(run_dir=folder / "cut", update_fn=stopping(after), **settings)
    resumed = ppo2.learn(run_dir=folder / "cut", load_path=folder / "cut", **settings)
    assert_same_run(folder / "whole", folder / "cut")
    space = whole.observation_space
    space.seed(0)
    obs = space.sample()
    if isinstance(obs, np.ndarray) and not np.isfinite(obs).all():
        obs = np.zeros_like(obs)
    for _ in range(2):
        for one, other in zip(whole.step(obs), resumed.step(obs), strict=True):
            jax.tree.map(np.testing.assert_array_equal, one, other)


class Stop(NamedTuple):
    """A stop in the evaluation after an update, or in the row of the log after that.

    Attributes:
        numbers: signals that come; none: the environment raises.
        steps: steps of the evaluation before that; None: it comes between the evaluation and its row.
    """

    numbers: tuple[int, ...]
    steps: int | None = 3
    update: int = 4


STOPS = {
    "signal": Stop((signal.SIGTERM,)),
    "two signals": Stop((signal.SIGINT, signal.SIGTERM)),
    "error": Stop(()),
    "two signals before the row": Stop((signal.SIGINT, signal.SIGTERM), steps=None),
    "no row at that interval": Stop((signal.SIGTERM,), update=2),
    "row without checkpoint": Stop((signal.SIGINT, signal.SIGTERM), update=6),
    "last update": Stop((signal.SIGTERM,), update=8),
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS.keys())
def test_what_a_stop_breaks_off_after_an_update_is_made_again(
    stop: Stop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluated every 2 updates, logged every 3, saved every 4, and where it is the best so far."""
    monkeypatch.setattr("ppo2.system.signals.SAME_SECONDS", 1e-6)
    made = [0]

    def come() -> None:
        for number in stop.numbers:
            os.kill(os.getpid(), number)
        if not stop.numbers:
            raise RuntimeError("broken off")

    class Evaluated(CartPoleEnv):
        def step(self, action: Any) -> Any:
            if made[0] == stop.update and stop.steps is not None:
                self.count = getattr(self, "count", 0) + 1
                if self.count == stop.steps:
                    come()
            return super().step(action)

    def write(self: LogWriter, update: int, stats: Any) -> None:
        if made[0] == update == stop.update and stop.steps is None:
            come()
        run(self, update, stats)

    def record(self: Run, update: int, advance: Any) -> None:
        made[0] = update if arguments["run_dir"].name == "cut" and "load_path" not in arguments else 0
        recorded(self, update, advance)

    run, recorded = LogWriter.run, Run.record
    monkeypatch.setattr(LogWriter, "run", write)
    monkeypatch.setattr(Run, "record", record)
    settings = {**SAVING, "total_timesteps": 8 * 32, "log_interval": 3, "save_interval": 4, "keep": 2}
    settings |= {"eval_env": lambda: gym.wrappers.TimeLimit(Evaluated(), 200), "eval_interval": 2, "eval_episodes": 2}
    arguments: dict[str, Any] = {**settings, "run_dir": tmp_path / "whole"}
    ppo2.learn(**arguments)
    arguments["run_dir"] = tmp_path / "cut"
    with pytest.raises((KeyboardInterrupt, SystemExit, RuntimeError)):
        ppo2.learn(**arguments)
    arguments["load_path"], made[0] = tmp_path / "cut", 0
    ppo2.learn(**arguments)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert_same_files(tmp_path / "whole", tmp_path / "cut")


def assert_same_files(one: Path, other: Path) -> None:
    for run_dir in (one, other):
        (run_dir / "curve.png").unlink(missing_ok=True)
    names = [sorted(str(file.relative_to(run_dir)) for file in run_dir.rglob("*")) for run_dir in (one, other)]
    assert names[0] == names[1]
    for number, file in checkpoint.numbered(one / "checkpoints").items():
        saved = [checkpoint.load(path).metadata for path in (file, checkpoint.file_of(other, number))]
        for metadata in saved:
            del metadata["run"]["seconds"]
        assert saved[0] == saved[1]


@pytest.mark.parametrize("keep", [None, 1, 2])
def test_a_checkpoint_that_only_a_stop_brought_about_goes(keep: int | None, tmp_path: Path) -> None:
    settings = {**SAVING, "total_timesteps": 8 * 32, "save_interval": 3, "keep": keep}
    ppo2.learn(run_dir=tmp_path / "whole", **settings)
    for after in (2, 4, 5, 6, 7):
        again = {"load_path": tmp_path / "cut"} if after > 2 else {}
        ppo2.learn(run_dir=tmp_path / "cut", update_fn=stopping(after), **settings, **again)
        assert ppo2.load(tmp_path / "cut").state.counters.updates == after
    left = checkpoint.file_of(tmp_path / "cut", 4)  # as a process leaves it that is killed before it removes it
    shutil.copy(checkpoint.file_of(tmp_path / "cut", 7), left)
    ppo2.learn(run_dir=tmp_path / "cut", load_path=tmp_path / "cut", **settings)
    assert not left.exists()
    assert_same_files(tmp_path / "whole", tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


CASES: dict[str, dict[str, Any]] = {
    "cartpole": {"env": "CartPole-v1"},
    "mid-episode": {"env": "Pendulum-v1", "nsteps": 48, "normalize_obs": True, "normalize_rewards": True},
    "schedules": {"env": "Acrobot-v1", "lr": "linear:1e-3", "cliprange": "cosine:0.2", "target_kl": 0.02},
    "evaluation": {"env": "CartPole-v1", "eval_env": "CartPole-v1", "eval_episodes": 2, "eval_interval": 2},
    "lstm": {"env": "CartPole-v1", "network": "lstm", "nlstm": 16, "nminibatches": 2},
    "lunarlander": {"env": "LunarLander-v3"},
    "frozenlake": {"env": "FrozenLake-v1"},
    "device": {"env": "gymnax:CartPole-v1"},
    "device-pendulum": {"env": "gymnax:Pendulum-v1", "normalize_obs": True, "normalize_rewards": True},
    "device-lstm": {"env": "gymnax:CartPole-v1", "network": "gru", "ngru": 16, "nminibatches": 2},
    "device-shards": {"env": "gymnax:CartPole-v1", "shards": 2, "num_envs": 4},
}


CORE = ("cartpole", "device-shards")
SELDOM = ("device", "device-pendulum", "frozenlake", "lunarlander", "schedules")  # of whose parts the others have each


def marks(case: str) -> list[pytest.MarkDecorator]:
    return [mark for mark, cases in ((pytest.mark.core, CORE), (pytest.mark.slow, SELDOM)) if case in cases]


@pytest.mark.parametrize("case", [pytest.param(case, marks=marks(case)) for case in CASES])
def test_a_resumed_run_is_the_same(case: str, tmp_path: Path) -> None:
    if CASES[case]["env"].startswith("gymnax"):
        pytest.importorskip("gymnax")
    if case == "lunarlander":
        pytest.importorskip("Box2D")
    assert_resumes(tmp_path, **CASES[case])


@pytest.mark.slow
@pytest.mark.parametrize("env", ["HalfCheetah-v5", "MiniGrid-Empty-5x5-v0"])
def test_families_resume(env: str, tmp_path: Path) -> None:
    pytest.importorskip({"H": "mujoco", "M": "minigrid"}[env[0]])
    assert_resumes(tmp_path, env=env, updates=4, after=2)


def assert_made_ones_resume(made: list[Any], folder: Path, **settings: Any) -> None:
    """The same of three vector environments: one trains at once, one until the stop, one from there."""
    whole, cut, again = made
    arguments = {"log_interval": 1, "seed": 1, **settings}
    ppo2.learn(env=whole, run_dir=folder / "whole", **arguments)
    ppo2.learn(env=cut, run_dir=folder / "cut", update_fn=stopping(3), **arguments)
    ppo2.learn(env=again, run_dir=folder / "cut", load_path=folder / "cut", **arguments)
    for env in made:
        env.close()
    assert_same_run(folder / "whole", folder / "cut")


@pytest.mark.parametrize("how", [{}, {"sticky_actions": True}, pytest.param({"flatten": True}, marks=pytest.mark.slow)])
def test_atari_resumes_from_the_state_that_it_saved(how: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    made = [ppo2.make("ALE/Breakout-v5", 2, workers=workers, **how) for workers in (0, 1, 0)]
    assert_made_ones_resume(made, tmp_path, num_hidden=2, noptepochs=1, nsteps=16, total_timesteps=6 * 32)


def test_engines_can_change_between_stop_and_resume(tmp_path: Path) -> None:
    made = [ppo2.make("CartPole-v1", 5, workers=workers) for workers in (0, 1, 2)]
    assert_made_ones_resume(made, tmp_path, nsteps=32, total_timesteps=6 * 32 * 5)


@pytest.mark.parametrize("network", [pytest.param("mlp", marks=pytest.mark.slow), "lstm"])
def test_two_groups_resume(network: str, tmp_path: Path) -> None:
    made = [ppo2.make("CartPole-v1", 4, workers=1, groups=2) for _ in range(3)]
    assert_made_ones_resume(made, tmp_path, nsteps=32, total_timesteps=6 * 32 * 4, network=network)


def test_a_run_of_format_2_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    golden = Path(__file__).parent.parent / "checkpoints" / "golden" / "2026-11-format-2.safetensors"
    file = tmp_path / "run" / "checkpoints" / "00003.safetensors"
    file.parent.mkdir(parents=True)
    shutil.copy(golden, file)
    config = checkpoint.load(golden).section("config")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    settings = {name: value for name, value in config.items() if name != "network_kwargs"} | config["network_kwargs"]
    model = ppo2.learn(**settings, run_dir=tmp_path / "run", load_path=tmp_path / "run")
    assert int(model.state.counters.updates) == 5
    told = capfd.readouterr()
    assert "continuing at update 4" in told.out + told.err
    assert "new episode" not in told.out + told.err


def test_a_run_from_a_checkpoint_begins_again_from_it(tmp_path: Path) -> None:
    """The run was stopped before a checkpoint of its own."""
    settings: dict[str, Any] = {"env": "CartPole-v1", "nsteps": 32, "num_envs": 2, "seed": 1, "normalize_obs": True}
    base = ppo2.learn(**settings, total_timesteps=128).save(tmp_path / "base.safetensors")
    settings["total_timesteps"] = 256
    ppo2.learn(**settings, load_path=base, run_dir=tmp_path / "whole")

    def stopped() -> None:
        raise RuntimeError("before the first update")

    with pytest.raises(RuntimeError, match="before the first update"):
        ppo2.learn(**settings, load_path=base, run_dir=tmp_path / "cut", init_fn=stopped)
    ppo2.learn(**settings, load_path=tmp_path / "cut", run_dir=tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_rewards_of_another_episode_are_noticed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Rewards depend on statistics carried over from episodes before."""
    env = lambda: gym.wrappers.NormalizeReward(gym.make("CartPole-v1"))  # noqa: E731
    resumed_once(env, tmp_path)
    told = capfd.readouterr()
    assert "it isn't deterministic" in told.out + told.err


class Half:
    """A device environment whose state has dtypes that NumPy doesn't know; episodes of 40 steps."""

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, key: Any) -> Any:
        return {"steps": jnp.int32(0), "share": jnp.bfloat16(0.0), "key": key}, jnp.zeros(1)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        steps = state["steps"] + 1
        share = (state["share"] + action * jnp.bfloat16(0.01)).astype(jnp.bfloat16)
        after = {"steps": steps, "share": share, "key": state["key"]}
        return after, share[None].astype(jnp.float32), share.astype(jnp.float32), steps == 40, False, {}


def test_states_of_any_dtype_on_the_device(tmp_path: Path) -> None:
    assert_resumes(tmp_path, env=Half(), nsteps=48, updates=4, after=2)


class Drifting(gym.Env[np.ndarray, int]):
    """Observations that no seed determines; episodes of 40 steps."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.steps = 0
        return self._obs(), {}

    def _obs(self) -> np.ndarray:
        return np.random.default_rng().normal(size=1).astype(np.float32)

    def step(self, action: int) -> Any:
        self.steps += 1
        return self._obs(), 1.0, self.steps == 40, False, {}


class Remembering(Drifting):
    """The same, but it saves its state itself."""

    def save_state(self) -> dict[str, np.ndarray]:
        return {"steps": np.array(self.steps)}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.steps = int(state["steps"])


class Heavy(Remembering):
    """The same, with a state that is larger than what a pipe holds."""

    def save_state(self) -> dict[str, np.ndarray]:
        return {**super().save_state(), "screen": np.zeros(2**20, np.uint8)}


class Raising(Drifting):
    """Deterministic, but its steps fail in a process that is told so."""

    broken = False

    def _obs(self) -> np.ndarray:
        return np.full(1, self.steps, np.float32)

    def step(self, action: int) -> Any:
        if self.broken:
            raise RuntimeError("no more steps")
        return super().step(action)


def resumed_once(env: Any, folder: Path, again: Any = None, **settings: Any) -> None:
    arguments = {"nsteps": 50, "num_envs": 2, "seed": 1, "nminibatches": 1, "total_timesteps": 400, **settings}
    ppo2.learn(env=env, run_dir=folder, update_fn=stopping(1), **arguments)
    ppo2.learn(env=again or env, run_dir=folder, load_path=folder, **arguments)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("groups", [1, 2])
def test_states_larger_than_a_pipe_reach_a_worker(groups: int, tmp_path: Path) -> None:
    first, again = (HostVectorEnv([Heavy] * 4, workers=1, groups=groups) for _ in range(2))
    resumed_once(first, tmp_path, again, num_envs=4, nsteps=25)
    first.close()
    again.close()
    assert lengths(tmp_path) == ["40"] * 8  # of 100 steps each: none began anew


def lengths(folder: Path) -> list[str]:
    return [row["l"] for row in table(folder / "monitor.csv")]


def test_an_environment_that_is_not_deterministic_begins_a_new_episode(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    resumed_once(Drifting, tmp_path)
    told = capfd.readouterr()
    assert "environments 0, 1 begin new episodes: it isn't deterministic" in told.out + told.err
    # 10 steps of each running episode were lost with the stop
    assert lengths(tmp_path) == ["40"] * 8


def test_an_environment_may_save_its_state_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    resumed_once(Remembering, tmp_path)
    told = capfd.readouterr()
    assert "new episode" not in told.out + told.err
    assert lengths(tmp_path) == ["40"] * 10


class ItsOwn(Raising):
    """Its methods of these names are its own affair."""

    def save_state(self, path: str) -> None:
        raise AssertionError(path)

    def load_state(self, path: str) -> None:
        raise AssertionError(path)


def test_methods_of_the_same_names_are_left_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    resumed_once(ItsOwn, tmp_path)
    told = capfd.readouterr()
    assert "new episode" not in told.out + told.err
    assert lengths(tmp_path) == ["40"] * 10


class Partial(Raising):
    """Deterministic; its methods save a part of its state, and load that wrongly."""

    def save_state(self) -> dict[str, np.ndarray]:
        return {"score": np.array(3.0)}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.steps = 17


class Showing(Remembering):
    """Its observations are random, but the last one is part of its state, and shown after loading."""

    def _obs(self) -> np.ndarray:
        self.last = super()._obs()
        return self.last

    def save_state(self) -> dict[str, np.ndarray]:
        return {**super().save_state(), "last": self.last}

    def load_state(self, state: dict[str, np.ndarray]) -> Any:
        super().load_state(state)
        self.last = state["last"]
        return self.last.copy()

    def step(self, action: int) -> Any:
        assert hasattr(self, "last")
        return super().step(action)


class Lying(Showing):
    """The same, but it shows another one."""

    def load_state(self, state: dict[str, np.ndarray]) -> Any:
        return super().load_state(state) + 1


class Forgetting(Remembering):
    """Its observations are random, and it takes nothing up."""

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        pass


def test_a_state_that_does_not_bring_an_environment_to_its_place_is_not_trusted(tmp_path: Path) -> None:
    """Its actions do."""
    assert_resumes(tmp_path, env=Partial, updates=4, after=2)


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        (Showing, ""),
        (lambda: gym.wrappers.FlattenObservation(Showing()), ""),
        (Lying, "the state that it saved led it elsewhere"),
        (Forgetting, "its load_state didn't take up all of the state that it saved"),
    ],
)
def test_a_state_is_verified(env: Any, reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    resumed_once(env, tmp_path)
    told = capfd.readouterr()
    assert ("begin new episodes" in told.out + told.err) == bool(reason)
    assert reason in told.out + told.err
    assert lengths(tmp_path) == ["40"] * (8 if reason else 10)


def test_methods_that_do_not_fit_are_not_called_again(tmp_path: Path) -> None:
    calls: list[str] = []

    class Unfit(Raising):
        """Saves, but takes no state: never called."""

        def save_state(self) -> dict[str, np.ndarray]:
            calls.append("unfit")
            return {}

        def load_state(self) -> None:
            calls.append("unfit")

    class Files(Raising):
        """Saves to a file, as the first call shows."""

        def save_state(self) -> None:
            calls.append("file")

        def load_state(self, path: str) -> None:
            calls.append("file")

    for env in (Unfit, Files):
        resumed_once(env, tmp_path / env.__name__, save_interval=1)
        assert lengths(tmp_path / env.__name__) == ["40"] * 10
    assert calls == ["file"] * 4  # two environments, before the stop and after it


def test_an_environment_that_raises_when_replayed_is_made_anew(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def factory() -> gym.Env[Any, Any]:
        made.append(Raising())
        made[-1].broken = len(made) == 4  # the second one of the resumed run
        return made[-1]

    resumed_once(factory, tmp_path)
    told = capfd.readouterr()
    assert "begins a new episode: it raised RuntimeError: no more steps" in told.out + told.err


def test_episodes_beyond_the_replay_limit_begin_anew(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    envs = [ppo2.make("Pendulum-v1", 2, workers=0, replay_limit=20) for _ in range(2)]
    resumed_once(envs[0], tmp_path, envs[1])
    told = capfd.readouterr()
    assert "environments 0, 1 begin new episodes: its episode had become too long" in told.out + told.err


def test_a_vector_environment_of_its_own_begins_new_episodes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    envs = [gym.make_vec("CartPole-v1", 2) for _ in range(2)]
    resumed_once(envs[0], tmp_path, envs[1])
    told = capfd.readouterr()
    assert "`env` is a vector environment that can't be brought to where it was" in told.out + told.err


def test_a_run_stopped_by_failing_environments_goes_on_from_the_rollout_before(tmp_path: Path) -> None:
    class Failing(Raising):
        def __init__(self) -> None:
            self.broken = False

    envs = [Failing(), Failing()]
    settings = {"nsteps": 50, "seed": 1, "nminibatches": 1, "total_timesteps": 200}

    def breaks(update: int) -> None:
        envs[0].broken = update == 2

    with pytest.raises(ppo2.envs.EnvironmentFailureError):
        ppo2.learn(env=envs[0], run_dir=tmp_path / "cut", update_fn=breaks, **settings)
    ppo2.learn(env=envs[1], run_dir=tmp_path / "cut", load_path=tmp_path / "cut", **settings)
    ppo2.learn(env=Failing(), run_dir=tmp_path / "whole", **settings)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


# --- a real training process, killed at random moments ---

SETTINGS = """
    env="{env}", network="{network}", num_envs=3, nsteps=64, total_timesteps=64 * 3 * 80, seed=5, log_interval=1,
    save_interval=1, normalize_obs=True, run_dir=sys.argv[1],
"""
SCRIPT = """
import os, sys
import ppo2
from ppo2.envs.host.vector import HostVectorEnv
ppo2.configure_runtime()
again = {"load_path": sys.argv[1]} if os.path.exists(sys.argv[1] + "/config.json") else {}
ppo2.learn(**again, """


def started(script: Path, run_dir: Path, cache: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    return subprocess.Popen(
        [sys.executable, str(script), str(run_dir)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(process: "subprocess.Popen[bytes]") -> None:
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told.decode()


@pytest.mark.parametrize(
    ("env", "network", "kills"),
    [
        ("Pendulum-v1", "lstm", 3),
        pytest.param("LunarLander-v3", "mlp", 20, marks=pytest.mark.slow),
        pytest.param("gymnax:CartPole-v1", "lstm", 20, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments(env: str, network: str, kills: int, tmp_path: Path) -> None:
    if env.startswith("Lunar"):
        pytest.importorskip("Box2D")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT + SETTINGS.format(env=env, network=network) + ")\n")
    finish(started(script, tmp_path / "whole", tmp_path / "cache"))
    dice, killed = random.Random(kills), tmp_path / "killed"
    for kill in range(kills):
        process = started(script, killed, tmp_path / "cache")
        if kill % 4 == 0:  # as it starts
            time.sleep(dice.uniform(0.0, 3.0))
        else:
            goal = newest_of(killed) + dice.randrange(1, 1 + 60 // kills)
            while newest_of(killed) < goal and process.poll() is None:
                time.sleep(0.001)
            time.sleep(dice.uniform(0.0, 0.05))
        assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate()
    finish(started(script, killed, tmp_path / "cache"))
    assert_same_run(tmp_path / "whole", killed)


def newest_of(run_dir: Path) -> int:
    return max((int(file.stem) for file in (run_dir / "checkpoints").glob("[0-9]*.safetensors")), default=0)
