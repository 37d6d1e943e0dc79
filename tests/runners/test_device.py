"""The device's runner: the host's rollouts, and updates in chunks of any size."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from ppo2.agent.model import Model
from ppo2.algorithm.rollout import Rollout
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.runners.device import DeviceRunner
from ppo2.runners.host import Runner
from ppo2.system import runtime
from support.device_cartpole import (
    CARTPOLE,
    LIMIT,
    CartPole,
    HostCartPole,
    Poisoned,
    assert_same_bits,
    fresh,
    on_device,
    on_host,
    params,
    runner_for,
    seen,
)
from support.environments import vector

pytestmark = pytest.mark.usefixtures("quickly_compiled", "no_curve")


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
    counted = host.ended().rows
    for mine, other in zip(episodes, counted, strict=False):
        assert (mine.l, mine.env) == (other.l, other.env)
        assert mine.r == pytest.approx(other.r, rel=1e-5)
    assert len(counted) == np.sum(ended[:32])


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
    assert [e._replace(t=0) for e in runner.ended().rows] == [e._replace(t=0) for e in other.ended().rows]
    assert runner.rollouts == other.rollouts == 4


def test_a_chunk_is_rollouts_and_training() -> None:
    """`run` and `train`, a program each, do the same as `iterate` in one."""
    whole, _, chunk = four_updates()
    parts = fresh()
    runner = runner_for(parts)
    for hyper in hypers(parts, 4):
        stats = parts.train(runner.run(), lr=hyper.lr, cliprange=hyper.cliprange)
    np.testing.assert_allclose(params(whole), params(parts), atol=2e-4)
    for name in ("value_loss", "policy_entropy", "explained_variance"):
        assert float(getattr(chunk.stats, name)) == pytest.approx(float(getattr(stats, name)), rel=1e-2)
    assert whole.state.counters == parts.state.counters


def test_memory_is_kept_from_an_update_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    monkeypatch.setattr(runtime, "updated", lambda: calls.append(None))
    made = fresh()
    runner_for(made).iterate(hypers(made, 4)[:1])
    assert len(calls) == 1


def test_updates_are_timed() -> None:
    """The first chunk has one update, as nobody knows yet how long it takes; the next ones as many as take a second."""
    made, runner, _ = four_updates()
    assert runner_for(made).chunk_size.updates == 1
    assert 0 < runner.chunk_size.seconds < np.inf


def test_another_number_of_devices_is_told() -> None:
    _, runner, _ = four_updates()
    snapshot = runner.snapshot()
    assert snapshot.facts == {"kind": "device", "devices": 1}
    for devices, told in ((1, []), (2, ["this run shared its work among 2 devices, and now among 1"])):
        facts = {**snapshot.facts, "devices": devices}
        saved = Checkpoint(Path("x"), snapshot.tensors, {"run": {"runner": facts}})
        assert [line.partition(":")[0] for line in runner.resume(saved)] == told


def test_environments_that_the_shards_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`num_envs` \(=7\) must be a multiple of the model's shards \(2\)"):
        DeviceRunner(env=CARTPOLE, num_envs=7, model=fresh(shards=2), nsteps=16, gamma=0.9, lam=0.8)
    with pytest.raises(ValueError, match=r"`shards` \(=3\) must divide `num_envs` \(=8\)"):
        fresh(shards=3)


@pytest.mark.parametrize("env", ["gymnax:CartPole-v1", Poisoned], ids=["an id", "a class"])
def test_a_runner_wants_an_environment(env: Any) -> None:
    with pytest.raises(TypeError, match=r"`env` .* must be a device environment"):
        DeviceRunner(env=env, num_envs=2, model=fresh(), nsteps=2, gamma=0.9, lam=0.9)
