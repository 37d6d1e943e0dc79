"""Environments that Ray's actors hold. `pip install '.[ray]' -c constraints.txt`, then
`pytest tests/runners/test_remote.py`: without Ray only what needs none of it is tested.

Ray is started once for all tests; the last one starts its own.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import numpy as np
import psutil
import pytest

import ppo2
from ppo2 import distributed
from ppo2.agent.model import Model
from ppo2.algorithm.rollout import Rollout
from ppo2.checkpoints import checkpoint
from ppo2.envs.host.failures import MAX_FAILURES, EnvironmentFailureError
from ppo2.envs.host.remote import RemoteEnvs
from ppo2.runners.remote import RemoteRunner, _nothing_like, _side_by_side
from ppo2.training import construction
from ppo2.training.start import Start
from support.children import STRICT_PYTHON
from support.cluster import local_ray

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray isn't installed: pip install 'ppo2[ray]'")

SMALL = {"nsteps": 16, "total_timesteps": 3 * 16 * 4, "seed": 3, "nminibatches": 2, "noptepochs": 2}


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of this machine."""
    yield from local_ray(4)


def remote(env_id: str = "Pendulum-v1", num_envs: int = 4, actors: int = 2, **more: Any) -> RemoteEnvs:
    made = ppo2.make(env_id, num_envs=num_envs, backend="ray", actors=actors, **more)
    assert isinstance(made, RemoteEnvs)
    return made


def actors_alive() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any("RolloutActor" in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(is_so: Callable[[], bool], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not is_so() and time.monotonic() < until:
        time.sleep(0.05)
    return is_so()


def params(model: Model) -> Any:
    return np.asarray(model.state.params)


# --- what needs no Ray


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"actors": 3}, r"`actors` \(=3\) must divide `num_envs` \(=4\).*2 and 4 do"),
        ({"actors": 0}, r"`actors` \(=0\) must be a whole number of at least 1"),
        ({"actors": 2.0}, r"`actors` \(=2\.0\) must be a whole number"),
        ({"actors": 2, "workers": 2}, r"`workers` \(=2\).*from 0 to 1: beside each of 2 actors"),
        ({"seed": 3}, r"`seed` \(=3\) is of no use with backend='ray' \(`learn` is told the seed"),
        ({"groups": 2}, r"`groups` \(=2\) is of no use"),
        ({"env_timeout": 0}, r"`env_timeout` \(=0\) must be"),
        ({"replay_limit": -1}, r"`replay_limit` \(=-1\)"),
        ({"num_envs": 0}, r"`num_envs` \(=0\)"),
        ({"own_vector": True}, r"`backend` \(='ray'\) needs environments that are made one by one"),
        ({"env_id": "gymnax:CartPole-v1"}, r"`backend` \(='ray'\).*gymnax:CartPole-v1.*leave it out"),
        ({"backend": "dask"}, r"`backend` \(='dask'\) must be 'local' or 'ray'"),
        (
            {"backend": "local", "actors": 2},
            r"`actors` \(=2\) is the number of Ray's actors, for backend='ray'; leave it out",
        ),
    ],
)
@pytest.mark.usefixtures("_installed")
def test_what_cant_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ppo2.make(**{"env_id": "CartPole-v1", "num_envs": 4, "backend": "ray", **arguments})


def test_without_ray_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"`backend` \(='ray'\).*pip install 'ppo2\[ray\]'"):
        ppo2.make("CartPole-v1", num_envs=4, backend="ray")


@pytest.mark.parametrize(("num_envs", "actors"), [(4, 1), (16, 2), (24, 3), (36, 4), (13, 1)])
@pytest.mark.usefixtures("_installed")
def test_how_many_actors_unless_it_is_said(num_envs: int, actors: int) -> None:
    """One for every 8 environments, or as many fewer as divide them: of 36, 4 (which 4 divides) and so on."""
    assert ppo2.make("CartPole-v1", num_envs=num_envs, backend="ray").actors == actors


@pytest.mark.usefixtures("_installed")
def test_actors_are_for_learning_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = remote("CartPole-v1")
    model = ppo2.learn(env=envs, **{**SMALL, "total_timesteps": 0})
    with pytest.raises(TypeError, match=r"`env` \(=RemoteEnvs\(4 environments, 2 actors\)\).*Pass the id"):
        ppo2.evaluate(model, envs, episodes=1)
    with pytest.raises(TypeError, match=r"`eval_env` \(=RemoteEnvs"):
        ppo2.learn(env="CartPole-v1", eval_env=envs, **SMALL)
    with pytest.raises(ValueError, match=r"`num_envs` \(=8\).*this one has 4"):
        ppo2.learn(env=envs, num_envs=8, **SMALL)
    monkeypatch.setattr(distributed, "world", lambda: distributed.World(0, 2))
    with pytest.raises(ValueError, match=r"Ray's actors have one learner, and this is one of 2 processes"):
        ppo2.learn(env=envs, **SMALL)


def test_parts_are_joined_by_environment_and_lost_ones_are_no_experience() -> None:
    """Two parts of 3 steps of 2 environments, the second one lost: its steps are not valid, and end their episodes."""
    zeros: Any = np.zeros((3, 2), np.float32)
    flags: Any = np.zeros((3, 2), bool)
    part = Rollout(
        obs=zeros + 1, actions=zeros + 2, logp=zeros, values=zeros, rewards=zeros + 3, next_values=zeros,
        terminated=flags, truncated=flags, valid=~flags, running_returns=np.array([4.0, 5.0], np.float32),
        gamma=np.float32(0.9), lam=np.float32(0.8), episode_starts=flags,
        recurrent_state={"h": np.ones((1, 2, 7), np.float32)},
    )  # fmt: skip
    whole = _side_by_side([_nothing_like(part), part])
    np.testing.assert_array_equal(whole.valid, [[False, False, True, True]] * 3)
    np.testing.assert_array_equal(whole.truncated, [[True, True, False, False]] * 3)
    np.testing.assert_array_equal(whole.rewards, [[0, 0, 3, 3]] * 3)
    np.testing.assert_array_equal(whole.running_returns, [0, 0, 4, 5])
    assert whole.recurrent_state["h"].shape == (1, 4, 7)
    assert (whole.gamma, whole.lam) == (np.float32(0.9), np.float32(0.8))
    assert [leaf.dtype for leaf in jax.tree.leaves(whole)] == [leaf.dtype for leaf in jax.tree.leaves(part)]


# --- training


CASES: dict[str, dict[str, Any]] = {
    "feed-forward": {},
    "recurrent": {"network": "lstm", "nlstm": 8},
    "normalised": {"normalize_obs": True, "normalize_rewards": True},
    "a network of this file": {
        "network": lambda: lambda shape, *, key: ppo2.networks.mlp(num_layers=1)(shape, key=key)
    },
}
"""The last can be found by name in no other process."""


@needs_ray
@pytest.mark.parametrize("case", CASES)
def test_training_equals_that_on_local_environments(case: str, ray: Any, tmp_path: Path) -> None:
    settings = {**SMALL, **CASES[case]}
    local = ppo2.learn(env="Pendulum-v1", num_envs=4, run_dir=tmp_path / "local", **settings)
    far = ppo2.learn(env=remote(), run_dir=tmp_path / "far", **settings)
    np.testing.assert_allclose(params(far), params(local), atol=1e-5, rtol=0)
    np.testing.assert_allclose(far.value(np.ones((1, 3))), local.value(np.ones((1, 3))), atol=1e-5)


@needs_ray
def test_episodes_are_told_by_their_global_index(ray: Any, tmp_path: Path) -> None:
    rows = []
    for name, env in (("local", "CartPole-v1"), ("far", remote("CartPole-v1"))):
        num_envs = 4 if name == "local" else None
        ppo2.learn(
            env=env, num_envs=num_envs, run_dir=tmp_path / name, **{**SMALL, "nsteps": 64, "total_timesteps": 768}
        )
        lines = (tmp_path / name / "monitor.csv").read_text().splitlines()[2:]
        rows.append(sorted((env, float(r), int(length)) for r, length, _, env in (line.split(",") for line in lines)))
    assert rows[0] == rows[1]
    assert len({env for env, *_ in rows[0]}) == 4


@needs_ray
def test_nothing_is_left_behind(ray: Any) -> None:
    there: list[int] = []
    ppo2.learn(env=remote(), update_fn=lambda _: there.append(len(actors_alive())), **SMALL)
    assert there == [2, 2, 2]
    assert wait_until(lambda: not actors_alive())
    assert ray.is_initialized()  # it is the user's


@needs_ray
def test_actors_leave_accelerators_alone(ray: Any) -> None:
    found: list[dict[str, str]] = []
    ppo2.learn(env=remote(), update_fn=lambda _: found.extend(p.environ() for p in actors_alive()), **SMALL)
    assert {one["JAX_PLATFORMS"] for one in found} == {"cpu"}
    assert {one["JAX_CPU_ENABLE_ASYNC_DISPATCH"] for one in found} == {"false"}


def kill_one(update: int, at: tuple[int, ...]) -> None:
    if update in at:
        victim = min(actors_alive(), key=lambda process: process.pid)
        victim.kill()
        victim.wait(10)


@needs_ray
def test_a_lost_actor_is_replaced(ray: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Killed after update 1: of rollout 2 its half is no experience; in rollout 3 there are 4 environments again."""
    seen: list[Any] = []

    class Watching(Model):
        def train(self, rollout: Rollout, **more: Any) -> Any:
            seen.append(np.asarray(rollout.valid).mean(axis=0).tolist())
            return super().train(rollout, **more)

    settings = {**SMALL, "total_timesteps": 4 * 64, "model_fn": Watching, "save_interval": 1}
    model = ppo2.learn(env=remote(), update_fn=lambda u: kill_one(u, (1,)), run_dir=tmp_path / "run", **settings)
    assert seen[0] == seen[2] == seen[3] == [1.0] * 4
    assert sorted(seen[1]) == [0.0, 0.0, 1.0, 1.0]
    assert int(model.state.counters.updates) == 4
    assert np.isfinite(params(model)).all()
    told = [line for line in capfd.readouterr().err.splitlines() if "was lost" in line]
    assert len(told) == 1
    assert "is replaced: its episodes end there" in told[0]
    assert wait_until(lambda: not actors_alive())


@needs_ray
def test_an_only_actor_that_is_lost_costs_no_update(ray: Any) -> None:
    seen: list[bool] = []

    class Watching(Model):
        def train(self, rollout: Rollout, **more: Any) -> Any:
            seen.append(bool(np.asarray(rollout.valid).all()))
            return super().train(rollout, **more)

    ppo2.learn(env=remote(actors=1), update_fn=lambda u: kill_one(u, (1,)), model_fn=Watching, **SMALL)
    assert seen == [True] * 3


@needs_ray
def test_too_many_losses_end_training(ray: Any, tmp_path: Path) -> None:
    settings = {**SMALL, "total_timesteps": 20 * 64}
    updates: list[int] = []

    def kill(update: int) -> None:
        updates.append(update)
        kill_one(update, tuple(range(20)))

    with pytest.raises(
        EnvironmentFailureError, match=rf"lost {MAX_FAILURES + 1} times, {MAX_FAILURES + 1} of them in the last 60 s"
    ):
        ppo2.learn(env=remote(), update_fn=kill, run_dir=tmp_path / "run", **settings)
    assert updates[-1] == MAX_FAILURES + 1
    saved = checkpoint.load(tmp_path / "run")
    assert saved.section("run")["update"] == MAX_FAILURES + 1  # what was learned is kept
    assert wait_until(lambda: not actors_alive())


class Failing(gym.Env[Any, Any]):
    """Raises in every step of which it is not told otherwise; or gives what it didn't declare."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, how: str) -> None:
        self.how = how

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.how == "raises":
            raise RuntimeError("the sensor is gone")
        return np.zeros(3, np.float32), 0.0, False, False, {}


@needs_ray
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("raises", RuntimeError, "the sensor is gone"),
        ("misshapen", ValueError, r"environment 0 has the shape \(3,\)"),
    ],
)
def test_an_environments_errors_are_what_they_would_be_here(how: str, error: Any, message: str, ray: Any) -> None:
    gym.register(id=f"Failing-{how}-v0", entry_point=Failing, kwargs={"how": how})
    with pytest.raises(error, match=message):
        ppo2.learn(env=remote(f"Failing-{how}-v0"), **SMALL)
    assert wait_until(lambda: not actors_alive())


@needs_ray
@pytest.mark.parametrize("network", ["mlp", "lstm"])
def test_a_run_goes_on_exactly(network: str, ray: Any, tmp_path: Path) -> None:
    from tests.training.test_resume import assert_same_run, stopping

    settings = {**SMALL, "total_timesteps": 6 * 64, "save_interval": 2, "log_interval": 1, "network": network}
    ppo2.learn(env=remote(), run_dir=tmp_path / "whole", **settings)
    ppo2.learn(env=remote(), run_dir=tmp_path / "cut", update_fn=stopping(3), **settings)
    ppo2.learn(env=remote(), run_dir=tmp_path / "cut", load_path=tmp_path / "cut", **settings)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@needs_ray
def test_a_run_of_other_actors_goes_on_to_float_tolerance(
    ray: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.training.test_resume import stopping

    settings = {**SMALL, "total_timesteps": 4 * 64}
    whole = ppo2.learn(env=remote(), **settings)
    ppo2.learn(env=remote(), run_dir=tmp_path, update_fn=stopping(2), **settings)
    resumed = ppo2.learn(env=remote(actors=1), run_dir=tmp_path, load_path=tmp_path, **settings)
    assert "held by 2 actors, and now by 1: it continues to float tolerance" in capsys.readouterr().out
    np.testing.assert_allclose(params(resumed), params(whole), atol=1e-5, rtol=0)


OWN_CLUSTER = """
import os, signal, sys
import psutil
import ppo2

def main():
    before = signal.getsignal(signal.SIGTERM)
    children = []
    def note(update):
        children[:] = psutil.Process().children(recursive=True)
        print("update", update, flush=True)
    ppo2.learn(
        env=ppo2.make("CartPole-v1", num_envs=4, backend="ray", actors=2), nsteps=16, num_hidden=8, seed=0,
        total_timesteps=int(sys.argv[1]) * 64, run_dir=sys.argv[2], update_fn=note,
    )
    import ray
    assert not ray.is_initialized(), "a cluster that was started here ends here"
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert children and not alive, alive
    assert signal.getsignal(signal.SIGTERM) is before, "Ray has taken a signal"

if __name__ == "__main__":
    main()
"""


@needs_ray
def test_a_cluster_of_its_own_ends_with_it(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(OWN_CLUSTER)
    command = [*STRICT_PYTHON, str(tmp_path / "script.py"), "2", str(tmp_path / "run")]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr


@needs_ray
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_ends_it_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C in a terminal sends it to the actors too, which must not end before the learner has what it needs."""
    (tmp_path / "script.py").write_text(OWN_CLUSTER)
    command = [*STRICT_PYTHON, str(tmp_path / "script.py"), "100000", str(tmp_path / "run")]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = iter(process.stdout)
        assert any("update 3" in line for line in lines)
        children = psutil.Process(process.pid).children(recursive=True)
        if number is signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.stdout.read()
        told = process.stderr.read()
        assert process.wait(60) in (128 + number, -number), told
    assert "lost" not in told
    facts = checkpoint.load(tmp_path / "run").section("run", "runner")
    assert (facts["kind"], facts["actors"]) == ("host", 2)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_a_runner_that_never_began_closes() -> None:
    envs = RemoteEnvs(lambda: gym.make("CartPole-v1"), 4, 2, 0, {}, gym.spaces.Box(0, 1), gym.spaces.Discrete(2))
    model: Any = None
    runner = RemoteRunner(env=envs, model=model, nsteps=4, gamma=0.9, lam=0.9)
    assert runner.snapshot().facts == {"kind": "none"}
    runner.close()


def test_whoever_acts_is_chosen_by_the_environments_of_an_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 environments of 32 actors: each acts for 8. The runner has nothing compiled before it collects."""
    made = gym.make("CartPole-v1")
    spaces: dict[str, Any] = {
        "single_observation_space": made.observation_space,
        "single_action_space": made.action_space,
    }
    envs = RemoteEnvs(lambda: made, num_envs=256, actors=32, workers=0, options={}, **spaces)
    config = ppo2.Config(env=None, num_envs=256, nsteps=8, total_timesteps=2048, seed=0)  # type: ignore[arg-type]
    model = construction.build_model(config, envs, None)  # type: ignore[arg-type]
    asked: list[int] = []
    monkeypatch.setattr(construction.acting, "choose", lambda _, count, **__: asked.append(count) or "numpy")
    construction.place_model(model, envs, Start())
    assert asked == [8]
    runner = RemoteRunner(env=envs, model=model, nsteps=8, gamma=0.99, lam=0.95)
    assert runner.prepare(lambda *_: pytest.fail("something was compiled")) is None  # type: ignore[func-returns-value]
