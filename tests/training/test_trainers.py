"""`learn` on device environments, whose updates are made in compiled chunks."""

import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ppo2
from ppo2.agent.model import Model
from support.device_cartpole import (
    CARTPOLE,
    LIMIT,
    Poisoned,
    assert_same_bits,
    fresh,
    learn,
    on_host,
    params,
    rows,
    runner_for,
    saved,
    seen,
)

pytestmark = pytest.mark.usefixtures("quickly_compiled", "no_curve")


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    first, second, other = learn(), learn(), learn(seed=8)
    assert_same_bits(first, second)
    assert not np.array_equal(params(first), params(other))


@pytest.mark.exact
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
    assert names == {"README.md", "config.json", "progress.csv", "progress.jsonl", "monitor.csv", "checkpoints"}
    assert json.loads((tmp_path / "config.json").read_text())["shards"] == 1
    assert saved(tmp_path) == [1, 2, 4, 6, 7]
    logged = rows(tmp_path)
    assert [int(row["misc/nupdates"]) for row in logged] == [1, 3, 6, 7]  # the last one too
    assert [int(row["misc/total_timesteps"]) for row in logged] == [128, 384, 768, 896]
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


@pytest.mark.skipif(importlib.util.find_spec("gymnax") is None, reason="gymnax isn't installed: the extra jax-envs")
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
    assert (process.returncode, error) == (130, "ppo2: stopped by SIGINT; `ppo2 resume x` continues it\n")
    last = json.loads(logged.read_text().splitlines()[-1])["misc/nupdates"]
    assert saved(tmp_path / "x")[-1] == last
