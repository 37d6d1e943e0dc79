"""Training on device environments: what the host's runner says too, in any chunks, on any number of devices."""

import csv
import functools
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2.agent import compiled
from ppo2.agent.compiled import program
from ppo2.agent.model import Model
from ppo2.algorithm.rollout import Rollout
from ppo2.envs import DeviceVector, TimeLimit
from ppo2.numerics import sharding
from ppo2.numerics.sharding import ONE_DEVICE, DataAxis, default_shards, split_for
from ppo2.reporting import plot
from ppo2.runners import device_program
from ppo2.runners.device import DeviceRunner
from ppo2.runners.device_program import final_values
from ppo2.runners.episodes import in_order
from ppo2.runners.host import Runner
from support.children import STRICT_PYTHON
from support.environments import vector


def cartpole(xp: Any, state: Any, force: Any) -> tuple[Any, Any, Any]:
    """Barto, Sutton and Anderson's cart and pole, in NumPy or in JAX: (state, reward, whether it fell)."""
    x, speed, angle, spin = state
    sin, cos = xp.sin(angle), xp.cos(angle)
    push = (force + 0.05 * spin**2 * sin) / 1.1
    turning = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    pushed = push - 0.05 * turning * cos / 1.1
    after = xp.stack([x + 0.02 * speed, speed + 0.02 * pushed, angle + 0.02 * spin, spin + 0.02 * turning])
    return after, 1.0 - xp.abs(after[2]), (xp.abs(after[0]) > 2.4) | (xp.abs(after[2]) > 0.2095)


@dataclass(frozen=True)
class CartPole:
    """For the device. Its observation is its state."""

    continuous: bool = False

    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,))

    @property
    def action_space(self) -> Any:
        return gym.spaces.Box(-1.0, 1.0, (1,)) if self.continuous else gym.spaces.Discrete(2)

    def force(self, action: Any) -> Any:
        return 30.0 * action[0] if self.continuous else 20.0 * action - 10.0

    def reset(self, key: Any) -> Any:
        state = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return state, state

    def step(self, state: Any, action: Any, key: Any) -> Any:
        state, reward, fell = cartpole(jnp, state, self.force(action))
        return state, state, reward, fell, False, {}


class HostCartPole(gym.Env[Any, Any]):
    """The same for the host, with the first states that it is told."""

    def __init__(self, like: CartPole, limit: int, firsts: Iterator[Any]) -> None:
        self.like, self.limit, self.firsts = like, limit, firsts
        self.observation_space, self.action_space = like.observation_space, like.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.state, self.t = next(self.firsts), 0
        return self.state, {}

    def step(self, action: Any) -> Any:
        self.state, reward, fell = cartpole(np, self.state, np.float32(self.like.force(action)))
        self.t += 1
        return self.state, float(reward), bool(fell), bool(not fell and self.t >= self.limit), {}


LIMIT = 15  # at random it falls after 20 steps, on average: some episodes are cut short, some end
CARTPOLE = TimeLimit(CartPole(), LIMIT)
SMALL: dict[str, Any] = {
    "env": CARTPOLE,
    "total_timesteps": 6 * 128,
    "num_envs": 8,
    "nsteps": 16,
    "nminibatches": 2,
    "noptepochs": 2,
    "num_hidden": 8,
    "seed": 7,
}


def learn(**more: Any) -> Model:
    return ppo2.learn(**{**SMALL, **more})


def fresh(**more: Any) -> Model:
    return learn(**{**more, "total_timesteps": 0})


def runner_for(model: Model, env: Any = CARTPOLE) -> DeviceRunner:
    config = model.config
    return DeviceRunner(env=env, num_envs=config.num_envs, model=model, nsteps=config.nsteps, gamma=0.9, lam=0.8)


def params(model: Model) -> np.ndarray[Any, Any]:
    return np.array(model.state.params)


def on_host(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)


def leaves(state: Any) -> list[np.ndarray[Any, Any]]:
    """All numbers of a TrainState, the key's included."""
    return jax.tree.leaves(on_host(state._replace(key=jax.random.key_data(state.key))))


def assert_same_bits(one: Model, other: Model) -> None:
    for a, b in zip(leaves(one.state), leaves(other.state), strict=True):
        np.testing.assert_array_equal(a, b)


def rows(run_dir: Path, name: str = "progress.csv") -> list[dict[str, str]]:
    with (run_dir / name).open() as file:
        return list(csv.DictReader(file))


def saved(run_dir: Path) -> list[int]:
    return sorted(int(file.stem) for file in (run_dir / "checkpoints").iterdir())


@pytest.fixture(autouse=True)
def _quickly_compiled() -> Iterator[None]:
    """Only what programs compute is looked at, and each of them takes half the time to compile."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True)
def _no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "curve", lambda *_: None)


# --- one truth ----------------------------------------------------------------------------------------------------


@functools.cache
def on_device(continuous: bool, memory: bool = False) -> tuple[Model, list[Rollout], list[Any]]:
    """Three rollouts of the untrained policy, and their episodes."""
    env = TimeLimit(CartPole(continuous), LIMIT)
    # sixteen minibatches of eight environments: the steps of each are cut in two
    recurrent = {"network": ppo2.networks.recurrent("mlp", "gru"), "ngru": 8, "num_layers": 1, "nminibatches": 16}
    made = fresh(**{"env": env, **(recurrent if memory else {})})
    runner = runner_for(made, TimeLimit(CartPole(continuous), LIMIT))
    rollouts = [on_host(runner.run()) for _ in range(3)]
    return made, rollouts, in_order(runner.ended())


def seen(rollouts: list[Rollout], field: str) -> Any:
    return np.concatenate([getattr(rollout, field) for rollout in rollouts])


both = pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "box"])


@pytest.mark.parametrize(
    ("continuous", "memory"), [(False, False), (True, False), (False, True)], ids=["discrete", "box", "memory"]
)
def test_host_and_device_give_the_same_rollouts(continuous: bool, memory: bool) -> None:
    """The host's environments begin their episodes where the device's did, and the runners draw the same noise."""
    made, rollouts, episodes = on_device(continuous, memory)
    obs, ended = seen(rollouts, "obs"), seen(rollouts, "terminated") | seen(rollouts, "truncated")
    episode_starts = np.concatenate([np.ones((1, 8), bool), ended[:-1]])
    factories = [
        functools.partial(HostCartPole, CartPole(continuous), LIMIT, iter(obs[episode_starts[:, i], i]))
        for i in range(8)
    ]
    host = Runner(env=vector(*factories, mode=AutoresetMode.SAME_STEP), model=made, nsteps=16, gamma=0.9, lam=0.8)
    for mine in rollouts[:2]:
        assert mine.terminated.any()
        assert mine.truncated.any()
        theirs = on_host(host.run())
        for field in set(Rollout._fields) - {"recurrent_state"}:
            a, b = getattr(mine, field), getattr(theirs, field)
            if a is None:
                assert b is None
                continue
            assert (a.shape, a.dtype) == (b.shape, b.dtype), field
            if field == "next_values":  # where terminated nobody looks at it
                a, b = np.where(mine.terminated, 0, a), np.where(mine.terminated, 0, b)
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=field)
        states = jax.tree.leaves(mine.recurrent_state), jax.tree.leaves(theirs.recurrent_state)
        assert len(states[0]) == memory
        for a, b in zip(*states, strict=True):
            assert a.shape == (2, 8, 8)
            np.testing.assert_allclose(a, b, atol=1e-5)
    # Episodes that end at the same step come in the order of their environments from both.
    counted = in_order(host.ended())
    for mine, other in zip(episodes, counted, strict=False):
        assert (mine.l, mine.env) == (other.l, other.env)
        assert mine.r == pytest.approx(other.r, rel=1e-5)
    assert len(counted) == np.sum(ended[:32])


@both
def test_what_follows_a_step_is_valued_by_hand(continuous: bool) -> None:
    """V of what the step led to, which the dynamics say: of the final observation where an episode was cut short."""
    made, rollouts, _ = on_device(continuous)
    rollout = rollouts[0]
    actions = np.clip(rollout.actions, -1, 1).reshape(16, 8, 1)[..., 0] if continuous else rollout.actions
    force = np.float32(30) * actions if continuous else np.float32(20) * actions - 10
    after = np.array(
        [[cartpole(np, rollout.obs[t, i], np.float32(force[t, i]))[0] for i in range(8)] for t in range(16)]
    )
    expected = made.value(after.reshape(-1, 4)).reshape(16, 8)
    looked_at = ~rollout.terminated
    np.testing.assert_allclose(rollout.next_values[looked_at], expected[looked_at], rtol=1e-4, atol=1e-5)
    # and neither that of the observation before nor that of the next episode's first
    cut = np.argwhere(rollout.truncated[:-1])
    for t, i in cut:
        for other in (rollout.values[t, i], rollout.values[t + 1, i]):
            assert abs(rollout.next_values[t, i] - other) > 1e-4


def test_values_of_final_observations_in_as_many_batches_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = fresh()
    next_obs = np.float32(np.random.default_rng(0).normal(size=(5, 4, 4)))
    values = made.value(next_obs.reshape(-1, 4)).reshape(5, 4)
    for batch, share in ((3, 0.5), (3, 1.0), (3, 0.0), (256, 0.5)):
        monkeypatch.setattr(device_program, "FINAL_BATCH", batch)
        truncated = np.random.default_rng(1).random((5, 4)) < share
        step: Any = SimpleNamespace(
            truncated=jnp.asarray(truncated), next_obs=jnp.asarray(next_obs), recurrent_state=None
        )
        found, wanted = final_values(made, made.state, step)
        truncated[-1] = True  # what follows the last step is not in the rollout either
        np.testing.assert_array_equal(wanted, truncated)
        np.testing.assert_allclose(found, np.where(truncated, values, 0.0), rtol=1e-5)


def test_running_returns_carry_over_by_hand() -> None:
    """Discounted by 0.9 over the steps since each environment's last end."""
    _, rollouts, _ = on_device(False)
    assert not rollouts[0].running_returns.any()
    running = np.zeros(8)
    for before, after in itertools.pairwise(rollouts):
        for reward, ended in zip(before.rewards, before.terminated | before.truncated, strict=True):
            running = np.where(ended, 0.0, 0.9 * running + reward)
        assert running.any()
        np.testing.assert_allclose(after.running_returns, running, rtol=1e-5)


def test_episodes_are_those_of_the_rollouts() -> None:
    _, rollouts, episodes = on_device(False)
    ended, rewards = seen(rollouts, "terminated") | seen(rollouts, "truncated"), seen(rollouts, "rewards")
    expected, begun = [], np.zeros(8, int)
    for t, i in np.argwhere(ended):
        expected.append((rewards[begun[i] : t + 1, i].sum(), t + 1 - begun[i], i))
        begun[i] = t + 1
    assert [(e.l, e.env) for e in episodes] == [(length, i) for _, length, i in expected]
    np.testing.assert_allclose([e.r for e in episodes], [r for r, _, _ in expected], rtol=1e-5)
    assert [e.t for e in episodes] == sorted(e.t for e in episodes)


# --- several updates in one program -------------------------------------------------------------------------------


def hypers(model: Model, count: int) -> Any:
    """Another learning rate and clip for each update."""
    return [model.hyperparameters(lr=1e-3 * (1 + i), cliprange=0.3 / (1 + i)) for i in range(count)]


@functools.cache
def four_updates() -> tuple[Model, DeviceRunner, Any]:
    made = fresh()
    runner = runner_for(made)
    return made, runner, runner.iterate(hypers(made, 4))


def test_chunks_do_not_change_the_bits() -> None:
    """Four updates at once, or one and then three."""
    whole, runner, chunk = four_updates()
    parts = fresh()
    other = runner_for(parts)
    first = other.iterate(hypers(parts, 4)[:1])
    last = other.iterate(hypers(parts, 4)[1:])
    assert [int(c.done) for c in (chunk, first, last)] == [4, 1, 3]
    assert_same_bits(whole, parts)
    for mine, theirs in ((runner._envs, other._envs), (chunk.stats, last.stats)):
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert [e._replace(t=0) for e in in_order(runner.ended())] == [e._replace(t=0) for e in in_order(other.ended())]
    assert runner.rollouts == other.rollouts == 4


def test_a_chunk_is_rollouts_and_training() -> None:
    """What `iterate` does in one program, `run` and `train` do in two each."""
    whole, _, chunk = four_updates()
    parts = fresh()
    runner = runner_for(parts)
    for hyper in hypers(parts, 4):
        stats = parts.train(runner.run(), lr=hyper.lr, cliprange=hyper.cliprange)
    np.testing.assert_allclose(params(whole), params(parts), atol=2e-4)
    for name in ("value_loss", "policy_entropy", "explained_variance"):
        assert float(getattr(chunk.stats, name)) == pytest.approx(float(getattr(stats, name)), rel=1e-2)
    assert whole.state.counters == parts.state.counters


def test_as_many_updates_as_take_a_second() -> None:
    runner = runner_for(fresh())
    assert runner.most_updates() == 1  # nobody knows yet how long one takes
    interval = runner.model.config.log_interval
    for seconds, most in ((0.3, 3), (2.0, 1), (1e-9, interval)):
        runner._seconds_per_update = seconds
        assert runner.most_updates() == most


# --- compiling ----------------------------------------------------------------------------------------------------


def test_a_second_run_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    learn()
    traced: list[Any] = []
    update = Model.update
    monkeypatch.setattr(Model, "update", lambda *args: traced.append(args) or update(*args))

    def count() -> int:
        return sum(program._cache_size() for program in compiled.SHARED)

    before = set(compiled.SHARED), count()
    env = TimeLimit(CartPole(), LIMIT)
    assert env is not CARTPOLE
    learn(env=env, seed=8, lr="linear:1e-2", cliprange=0.1, ent_coef=0.1, gamma=0.9, total_timesteps=9 * 128)
    assert before == (set(compiled.SHARED), count())
    assert traced == []


class Own:
    """Equal to itself alone, and so free to change."""

    observation_space, action_space = CartPole.observation_space, gym.spaces.Discrete(2)
    bonus = 0.0

    def reset(self, key: Any) -> Any:
        return CartPole().reset(key)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        state, obs, reward, *rest = CartPole().step(state, action, key)
        return state, obs, reward + self.bonus, *rest


@pytest.mark.parametrize(
    "of",
    [lambda env: env, lambda env: TimeLimit(env, 3), lambda env: DeviceVector(env, 3)],
    ids=["as it is", "limited", "vector"],
)
def test_programs_of_an_environment_that_is_no_value_stay_with_the_model(of: Any) -> None:
    """Else a run after `env.bonus = 1` would go on with the program that was compiled before."""
    env, before = Own(), set(compiled.SHARED)

    def make(_: Model, env: Any) -> object:
        return object()

    one, other = fresh(), fresh()
    assert program(one, make, of(env)) is program(one, make, of(env))
    assert program(one, make, of(env)) is not program(other, make, of(env))
    assert set(compiled.SHARED) == before
    # while those of environments that are values are shared
    assert program(one, make, of(CartPole())) is program(other, make, of(CartPole()))


# --- learn --------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    first, second, other = learn(), learn(), learn(seed=8)
    assert_same_bits(first, second)
    assert not np.array_equal(params(first), params(other))


def test_looking_does_not_change_training(tmp_path: Path) -> None:
    """Chunks end where there is something to log, evaluate or save."""
    updates: list[int] = []
    plain = learn()
    busy = learn(
        eval_env=CARTPOLE,
        eval_interval=2,
        eval_episodes=3,
        run_dir=tmp_path,
        save_interval=1,
        log_interval=1,
        update_fn=updates.append,
    )
    assert_same_bits(plain, busy)
    assert updates == [1, 2, 3, 4, 5, 6]
    evaluated = {int(row["misc/nupdates"]): row["eval_eprewmean"] for row in rows(tmp_path)}
    assert [update for update, value in evaluated.items() if value] == [1, 2, 4, 6]
    assert 0 < float(evaluated[6]) <= LIMIT


def test_schedules_follow_frac(tmp_path: Path) -> None:
    """Update 4 of 6 has frac = 1 - 3/6 = 0.5; and each update of a chunk was told its own."""
    learn(lr="linear:1e-3", cliprange=lambda frac: 0.1 + 0.1 * frac, log_interval=1, run_dir=tmp_path)
    logged = rows(tmp_path)
    assert [float(row["lr"]) for row in logged] == pytest.approx([1e-3 * i / 6 for i in (6, 5, 4, 3, 2, 1)])
    assert float(logged[3]["cliprange"]) == pytest.approx(0.15)
    # A rate that falls to 0 with the last third of training: learning stands still in the middle of a chunk.
    stopped = learn(lr=lambda frac: 1e-3 * (frac > 0.4))
    four = learn(lr=lambda frac: 1e-3 * (frac > 0.4), update_fn=lambda update: update < 4)
    np.testing.assert_array_equal(params(stopped), params(four))


def test_a_run_directory_holds_everything(tmp_path: Path) -> None:
    learn(total_timesteps=7 * 128, log_interval=3, save_interval=2, run_dir=tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "progress.csv", "progress.jsonl", "monitor.csv", "checkpoints"}
    assert json.loads((tmp_path / "config.json").read_text())["shards"] == 1
    assert saved(tmp_path) == [1, 2, 4, 6, 7]
    logged = rows(tmp_path)
    assert [int(row["misc/nupdates"]) for row in logged] == [1, 3, 6]
    assert [int(row["misc/total_timesteps"]) for row in logged] == [128, 384, 768]
    assert "time/act" not in logged[0]  # all of it is one program
    assert all(float(row["fps"]) > 0 for row in logged)
    episodes = rows(tmp_path, "monitor.csv")
    assert {int(e["env"]) for e in episodes} == set(range(8))
    for env in range(8):
        mine = [e for e in episodes if int(e["env"]) == env]
        # 7 * 16 steps, all but the last few of them in episodes that ended
        assert 7 * 16 - LIMIT < sum(int(e["l"]) for e in mine) <= 7 * 16
    assert max(int(e["l"]) for e in episodes) == LIMIT
    assert all(0.79 * int(e["l"]) < float(e["r"]) <= int(e["l"]) for e in episodes)  # 1 - |angle| a step
    last = [float(e["r"]) for e in episodes if float(e["t"]) <= float(logged[-1]["misc/time_elapsed"])][-100:]
    assert float(logged[-1]["eprewmean"]) == pytest.approx(np.mean(last), rel=0.05)


def test_load_path_begins_anew_from_the_weights(tmp_path: Path) -> None:
    trained = learn(run_dir=tmp_path)
    np.testing.assert_array_equal(params(fresh(load_path=tmp_path)), params(trained))
    updates: list[int] = []
    more = learn(load_path=tmp_path, update_fn=updates.append, seed=3)
    assert updates == [1, 2, 3, 4, 5, 6]
    assert int(more.state.counters.updates) == 6
    assert int(more.state.opt_state.count) == 2 * int(trained.state.opt_state.count)


def test_resuming_goes_on_to_the_original_total(tmp_path: Path) -> None:
    settings = {"log_interval": 1, "lr": "linear:1e-3", "run_dir": tmp_path}
    learn(**settings, update_fn=lambda update: update < 3)
    episodes = rows(tmp_path, "monitor.csv")
    updates: list[int] = []
    resumed = learn(**settings, load_path=tmp_path, update_fn=updates.append)
    assert updates == [4, 5, 6]
    assert int(resumed.state.counters.updates) == 6
    logged = rows(tmp_path)
    assert [int(row["misc/nupdates"]) for row in logged] == [1, 2, 3, 4, 5, 6]
    assert float(logged[3]["lr"]) == pytest.approx(0.5e-3)
    assert rows(tmp_path, "monitor.csv")[: len(episodes)] == episodes
    assert len(rows(tmp_path, "monitor.csv")) > len(episodes)


def test_update_fn_may_stop_after_a_checkpoint(tmp_path: Path) -> None:
    calls: list[Any] = []

    def stop(update: int, model: Model, stats: Any) -> bool:
        calls.append((update, float(stats.eprewmean), int(model.state.counters.updates)))
        return update < 3

    learn(update_fn=stop, run_dir=tmp_path)
    assert [(update, updates) for update, _, updates in calls] == [(1, 1), (2, 2), (3, 3)]
    assert 0 < calls[-1][1] <= LIMIT
    assert saved(tmp_path) == [3]


def test_devices_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"`devices` \(=99\) must be from 1 to"):
        learn(devices=99)


def test_sigint_finishes_the_update_and_saves(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        learn(run_dir=tmp_path, update_fn=lambda update: os.kill(os.getpid(), signal.SIGINT) if update == 2 else None)
    assert saved(tmp_path) == [2]
    assert ppo2.load(tmp_path).state.counters.updates == 2


def test_statistics_are_those_of_the_rollouts() -> None:
    """By NumPy, over the rollout that fills them and three more. With a learning rate of 0 these can be made again."""
    settings = {"normalize_obs": True, "normalize_rewards": True, "gamma": 0.9, "lam": 0.8}
    trained = learn(**settings, lr=0.0, total_timesteps=3 * 128)
    again = fresh(**settings)
    runner, rollouts = runner_for(again), []
    for _ in range(4):
        rollouts.append(on_host(runner.run()))
        again.observe(rollouts[-1])
    obs = seen(rollouts, "obs").reshape(-1, 4)
    rewards, ended = seen(rollouts, "rewards"), seen(rollouts, "terminated") | seen(rollouts, "truncated")
    returns, running = [], np.zeros(8)
    for reward, end in zip(rewards, ended, strict=True):
        running = 0.9 * running + reward
        returns.append(running)
        running = np.where(end, 0.0, running)
    for found, data in ((trained.state.normaliser.obs, obs), (trained.state.normaliser.returns, np.ravel(returns))):
        assert found is not None
        assert float(found.count) == pytest.approx(4 * 128, rel=1e-5)
        np.testing.assert_allclose(found.mean, data.mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.var, data.var(axis=0), rtol=1e-3)
    np.testing.assert_array_equal(params(trained), params(again))  # those it began with


def test_target_kl_skips_the_rest_of_an_update() -> None:
    told: list[int] = []
    bound = learn(target_kl=1e-4, lr=1e-2, update_fn=lambda _, model, stats: told.append(int(stats.gradient_steps)))
    assert all(1 <= steps <= 4 for steps in told)
    assert sum(told) < 6 * 4
    assert int(bound.state.counters.gradient_steps) == sum(told) == int(bound.state.opt_state.count)


@dataclass(frozen=True)
class Poisoned:
    """Never ends. Some of them, as their observation says, give a reward that is NaN at their `at`-th step."""

    at: int

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, key: Any) -> Any:
        state = {"bad": jax.random.bernoulli(key, 0.3).astype(jnp.float32), "t": jnp.int32(0)}
        return state, state["bad"][None]

    def step(self, state: Any, action: Any, key: Any) -> Any:
        state = {**state, "t": state["t"] + 1}
        reward = jnp.where((state["bad"] > 0) & (state["t"] == self.at), jnp.nan, action)
        return state, state["bad"][None], reward, False, False, {}


# The 72nd step is number 7 of the fifth rollout of 16. Chunks are long by then: the fault is in the middle of one.
POISONED: dict[str, Any] = {
    "env": Poisoned(72),
    "nminibatches": 1,
    "noptepochs": 1,
    "seed": 3,
    "total_timesteps": 10 * 128,
    "log_interval": 10,
}


def test_a_bad_reward_is_named_and_the_last_good_model_kept(tmp_path: Path) -> None:
    first_obs = on_host(runner_for(fresh(**POISONED), Poisoned(72)).run()).obs[0]
    culprit = int(np.argmax(first_obs[:, 0]))
    assert culprit > 0
    message = rf"update 5: a reward is NaN or infinite; environment {culprit} gave it at step 7 of the rollout"
    kept: list[Any] = []
    with pytest.raises(ValueError, match=message):
        learn(**POISONED, run_dir=tmp_path, model_fn=lambda **given: kept.append(Model(**given)) or kept[-1])
    assert saved(tmp_path) == [4]
    good = ppo2.load(tmp_path, model_fn=Model)
    assert (int(good.state.counters.gradient_steps), int(good.state.opt_state.count)) == (4, 4)
    four = learn(**{**POISONED, "update_fn": lambda update: update < 4})
    np.testing.assert_array_equal(params(good), params(four))
    np.testing.assert_array_equal(params(kept[0]), params(four))


def test_skipping_an_update_that_is_not_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = learn(**POISONED, on_nonfinite="skip", run_dir=tmp_path)
    assert "update 5 skipped: a reward is NaN" in capsys.readouterr().out
    counters = trained.state.counters
    # The environment begins a new episode, and gives the same 40 steps later, at the end of update 10.
    assert (int(counters.updates), int(counters.skipped_updates), int(counters.gradient_steps)) == (10, 2, 8)
    assert [row["misc/skipped_updates"] for row in rows(tmp_path)] == ["0", "2"]
    assert np.isfinite(params(trained)).all()


# --- models of one's own ------------------------------------------------------------------------------------------


class Tenfold(Model):
    def loss(self, *arguments: Any) -> Any:
        loss, stats = super().loss(*arguments)
        return 10.0 * loss, stats


def test_a_subclass_replaces_the_loss() -> None:
    norms: list[float] = []
    for model_fn in (None, Tenfold):
        learn(model_fn=model_fn, update_fn=lambda _, model, stats: norms.append(float(stats.grad_norm)) or False)
    # means over four steps that differ but little
    assert norms[1] == pytest.approx(10 * norms[0], rel=0.1)


def test_microbatches_equal_the_full_minibatch() -> None:
    pieces = learn(model_fn=functools.partial(ppo2.MicrobatchedModel, microbatch_size=16), total_timesteps=3 * 128)
    np.testing.assert_allclose(params(pieces), params(learn(total_timesteps=3 * 128)), atol=1e-4)


def test_a_model_that_replaces_train_is_refused() -> None:
    class Trains(Model):
        def train(self, *args: Any, **kwargs: Any) -> Any:
            return super().train(*args, **kwargs)

    with pytest.raises(TypeError, match=r"`model_fn` gave a Trains, which replaces `train`.*Override `update`"):
        learn(model_fn=Trains)


def test_environments_that_the_shards_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`num_envs` \(=7\) must be a multiple of the model's shards \(2\)"):
        DeviceRunner(env=CARTPOLE, num_envs=7, model=fresh(shards=2), nsteps=16, gamma=0.9, lam=0.8)
    with pytest.raises(ValueError, match=r"`shards` \(=3\) must divide `num_envs` \(=8\)"):
        fresh(shards=3)


# --- several devices ----------------------------------------------------------------------------------------------


def has_devices(monkeypatch: pytest.MonkeyPatch, *counts: int) -> None:
    """Makes JAX say that processes have so many devices each."""
    there = [SimpleNamespace(process_index=rank) for rank, count in enumerate(counts) for _ in range(count)]
    monkeypatch.setattr(jax, "devices", lambda: there)


def test_shards_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least 32 environments for each device; and blocks of one size."""
    expected = {1: {8: 1, 4096: 1}, 4: {31: 1, 63: 1, 64: 2, 96: 3, 97: 1, 100: 2, 128: 4, 130: 2, 4096: 4}}
    for devices, by_nenvs in expected.items():
        has_devices(monkeypatch, devices)
        assert {nenvs: default_shards(nenvs, 16, 4) for nenvs in by_nenvs} == by_nenvs


def test_devices_take_whole_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {1: {1: 1, 6: 1}, 4: {1: 1, 2: 2, 3: 3, 4: 4, 5: 1, 6: 3, 8: 4, 10: 2}}
    for devices, by_shards in expected.items():
        has_devices(monkeypatch, devices)
        assert {shards: split_for(shards) for shards in by_shards} == {s: DataAxis(n) for s, n in by_shards.items()}


def test_of_several_processes_the_one_with_the_fewest_devices_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    has_devices(monkeypatch, 4, 2)
    assert default_shards(256, 16, 4) == 4
    assert split_for(8) == DataAxis(4, processes=2)
    with pytest.raises(ValueError, match=r"`devices` \(=3\) must be from 1 to 2"):
        split_for(8, devices=3)


def test_one_block_has_nobody_to_talk_to() -> None:
    tree = {"a": jnp.arange(3.0), "b": jnp.int32(2)}
    assert ONE_DEVICE.index == 0
    assert ONE_DEVICE.sum(tree) is tree
    assert {name: x.shape for name, x in ONE_DEVICE.gather(tree).items()} == {"a": (1, 3), "b": (1,)}


ON_TWO_DEVICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "normalisers, target_kl, microbatches of a minibatch": {
        "normalize_obs": True,
        "normalize_rewards": True,
        "target_kl": 2e-4,
        "lr": 3e-3,
        "model_fn": functools.partial(ppo2.MicrobatchedModel, microbatch_size=512),  # a device has half of it
    },
}


def learn_on_both(folder: Path) -> None:
    """For the process below: each of the settings on one device and on two, with the same two shards."""
    jax.config.update("jax_disable_most_optimizations", True)
    plot.curve = lambda *_: None  # type: ignore[assignment]
    usual = sharding.split_for
    assert usual(2) == DataAxis(2)
    assert default_shards(64, 16, 4) == 2
    assert default_shards(64, 16, 4, devices=1) == 1
    assert split_for(2, devices=1) == ONE_DEVICE
    for name, more in ON_TWO_DEVICES.items():
        for devices, split in ((1, lambda shards, devices: ONE_DEVICE), (2, usual)):
            sharding.split_for = split
            run_dir = folder / name / str(devices)
            trained = learn(num_envs=64, total_timesteps=3 * 1024, log_interval=1, run_dir=run_dir, **more)
            assert trained.config.shards == 2
            np.savez(run_dir / "state.npz", *leaves(trained.state))


@pytest.fixture(scope="module")
def both_ways(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("devices")
    code = "import sys, pathlib, tests.runners.test_device as t; t.learn_on_both(pathlib.Path(sys.argv[1]))"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [*STRICT_PYTHON, "-c", code, str(folder)],
        cwd=Path(__file__).parent,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ON_TWO_DEVICES)
def test_two_devices_learn_what_one_does(both_ways: Path, name: str) -> None:
    one, two = (both_ways / name / devices for devices in ("1", "2"))
    states = [list(np.load(folder / "state.npz").values()) for folder in (one, two)]
    for a, b in zip(*states, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    steps = [[int(row["misc/gradient_steps"]) for row in rows(folder)] for folder in (one, two)]
    assert steps[0] == steps[1]
    assert (min(steps[0]) < 4) == ("target_kl" in name)
    for name_of_loss in ("loss/value_loss", "loss/policy_entropy", "misc/explained_variance", "misc/grad_norm"):
        a, b = ([float(row[name_of_loss]) for row in rows(folder)] for folder in (one, two))
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    episodes = [[(e["l"], e["env"]) for e in rows(folder, "monitor.csv")] for folder in (one, two)]
    assert episodes[0] == episodes[1]
    assert {int(env) for _, env in episodes[0]} == set(range(64))
    returns = [[float(e["r"]) for e in rows(folder, "monitor.csv")] for folder in (one, two)]
    np.testing.assert_allclose(*returns, rtol=1e-4)


# --- a whole process ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("gymnax") is None, reason="gymnax isn't installed: ppo2[jax-envs]")
@pytest.mark.slow
def test_sigint_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path: Path) -> None:
    sizes = {"num-envs": 8, "nsteps": 16, "nminibatches": 2, "noptepochs": 1, "num-hidden": 8, "log-interval": 1}
    arguments = [f"--{name}={value}" for name, value in {**sizes, "total-timesteps": 10**9, "run-dir": "x"}.items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "ppo2", "train", "gymnax:CartPole-v1", *arguments, "--no-progress"],
        cwd=tmp_path,
        env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    logged, deadline = tmp_path / "x" / "progress.jsonl", time.monotonic() + 120
    while process.poll() is None and not (logged.exists() and logged.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "ppo2: stopped by SIGINT; `ppo2 resume x` goes on\n")
    last = json.loads(logged.read_text().splitlines()[-1])["misc/nupdates"]
    assert saved(tmp_path / "x")[-1] == last


def test_shards_that_minibatches_cannot_be_cut_of_are_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 minibatches of 64 x 1 steps: one block of 64 can be cut so, two of 32 can't."""
    has_devices(monkeypatch, 2)
    assert default_shards(64, 1, 64) == 1
    assert default_shards(64, 2, 64) == 2


@pytest.mark.parametrize("env", ["gymnax:CartPole-v1", Poisoned], ids=["an id", "a class"])
def test_a_runner_wants_an_environment(env: Any) -> None:
    with pytest.raises(TypeError, match=r"`env` .* must be a device environment"):
        DeviceRunner(env=env, num_envs=2, model=fresh(), nsteps=2, gamma=0.9, lam=0.9)


def test_values_of_other_types_do_not_share_programs() -> None:
    """0 == 0.0 in Python, but what they compile to differs."""
    made = fresh()
    assert program(made, lambda _, x: object(), (0,)) is not program(made, lambda _, x: object(), (0.0,))

    def make(_: Model, env: Any) -> object:
        return object()

    assert program(made, make, Poisoned(0)) is program(made, make, Poisoned(0))
    assert program(made, make, Poisoned(0)) is not program(made, make, Poisoned(0.0))  # type: ignore[arg-type]
