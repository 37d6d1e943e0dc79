"""`learn` from end to end: every argument does what it says; runs are reproducible, saved, resumed, and left intact."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import gymnasium as gym
import jax
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2.agent.model import Model
from ppo2.checkpoints import checkpoint
from support.environments import Bandit, Broken, Script, Spaced, vector

SMALL: dict[str, Any] = {
    "network": "mlp",
    "env": "CartPole-v1",
    "total_timesteps": 4 * 64,
    "num_envs": 4,
    "nsteps": 16,
    "num_hidden": 8,
    "seed": 7,
}


def learn(**more: Any) -> Model:
    return ppo2.learn(**{**SMALL, **more})


def params(model: Model) -> np.ndarray[Any, Any]:
    return np.array(model.state.params)


def rows(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "progress.csv").open() as file:
        return list(csv.DictReader(file))


# --- reproducibility


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    first, second, other = learn(), learn(), learn(seed=8)
    np.testing.assert_array_equal(params(first), params(second))
    assert not np.array_equal(params(first), params(other))


def test_no_seed_draws_one_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    model = learn(seed=None)
    assert f"seed {model.config.seed}" in capsys.readouterr().out
    np.testing.assert_array_equal(params(learn(seed=model.config.seed)), params(model))


def test_training_touches_no_global_state() -> None:
    import random

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    settings = dict(jax.config.values)
    learn()
    assert before == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    assert settings == dict(jax.config.values)


def test_evaluating_and_saving_do_not_change_training(tmp_path: Path) -> None:
    plain = learn()
    busy = learn(eval_env="CartPole-v1", eval_interval=1, eval_episodes=2, run_dir=tmp_path / "r", save_interval=1)
    np.testing.assert_array_equal(params(plain), params(busy))


# --- each argument


def test_total_timesteps_is_cut_to_whole_updates() -> None:
    updates: list[int] = []
    learn(total_timesteps=64 * 3 + 63.0, update_fn=updates.append)
    assert updates == [1, 2, 3]


def test_no_timesteps_give_the_untrained_model() -> None:
    updates: list[int] = []
    model = learn(total_timesteps=0, update_fn=updates.append)
    assert updates == []
    assert model.predict(np.zeros(4, np.float32))[0].shape == ()


def test_init_fn_and_update_fn() -> None:
    calls: list[Any] = []
    learn(
        init_fn=lambda: calls.append("init"),
        update_fn=lambda update, model, stats: calls.append((update, model, stats)),
    )
    assert calls[0] == "init"
    assert [call[0] for call in calls[1:]] == [1, 2, 3, 4]
    assert isinstance(calls[1][1], Model)
    assert np.isfinite(float(calls[1][2].policy_loss))
    assert calls[-1][2].eprewmean > 0


def test_update_fn_may_stop_after_a_checkpoint(tmp_path: Path) -> None:
    learn(update_fn=lambda update: update < 2, run_dir=tmp_path)
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["00002.safetensors"]


@pytest.mark.parametrize(
    ("schedule", "at_half"),
    [(1e-3, 1e-3), ("linear:1e-3", 5e-4), ("cosine:1e-3", 5e-4), (lambda frac: frac * 2e-3, 1e-3)],
)
def test_schedules_follow_frac(tmp_path: Path, schedule: Any, at_half: float) -> None:
    """Update 3 of 4 has frac = 1 - 2/4 = 0.5."""
    learn(lr=schedule, cliprange="linear:0.2", log_interval=1, run_dir=tmp_path)
    logged = rows(tmp_path)
    assert float(logged[2]["lr"]) == pytest.approx(at_half)
    assert [float(row["cliprange"]) for row in logged] == pytest.approx([0.2, 0.15, 0.1, 0.05])


def test_log_and_save_intervals_count_updates(tmp_path: Path) -> None:
    """As in Baselines: at the first update, and at every multiple."""
    learn(total_timesteps=64 * 7, log_interval=3, save_interval=2, run_dir=tmp_path)
    assert [int(row["misc/nupdates"]) for row in rows(tmp_path)] == [1, 3, 6]
    saved = sorted(int(file.stem) for file in (tmp_path / "checkpoints").iterdir())
    assert saved == [1, 2, 4, 6, 7]  # and the final one


def test_evaluation_is_logged(tmp_path: Path) -> None:
    learn(total_timesteps=64 * 5, eval_env="CartPole-v1", eval_interval=2, eval_episodes=3, run_dir=tmp_path)
    evaluated = {int(row["misc/nupdates"]): row["eval_eprewmean"] for row in rows(tmp_path)}
    assert [update for update, value in evaluated.items() if value] == [1, 2, 4]


def test_evaluation_follows_log_interval_by_default(tmp_path: Path) -> None:
    learn(
        total_timesteps=64 * 4,
        eval_env=lambda: gym.make("CartPole-v1"),
        eval_episodes=2,
        log_interval=4,
        run_dir=tmp_path,
    )
    assert [bool(row["eval_eprewmean"]) for row in rows(tmp_path)] == [True, True]


def test_model_fn_makes_the_model() -> None:
    import functools

    class Mine(Model):
        pass

    assert type(learn(model_fn=Mine)) is Mine
    pieces = learn(model_fn=functools.partial(ppo2.MicrobatchedModel, microbatch_size=4))
    np.testing.assert_allclose(params(pieces), params(learn()), atol=1e-4)


def test_networks_of_every_kind() -> None:
    class Mine(eqx.Module):
        layer: eqx.nn.Linear

        def __call__(self, x: Any) -> Any:
            return jax.nn.relu(self.layer(x))

    def builder(width: int = 8) -> Callable[..., Any]:
        return lambda input_shape: eqx.nn.MLP(input_shape[0], width, width, 1, key=jax.random.key(0))

    ready = Mine(eqx.nn.Linear(4, 8, key=jax.random.key(0)))
    for network in (ready, builder, "mlp"):
        kwargs = {} if network == "mlp" else {"num_hidden": ...}
        arguments = {k: v for k, v in {**SMALL, "network": network}.items() if k not in kwargs}
        for value_network in (None, "shared", "copy", ready) if network is ready else ("copy",):
            assert ppo2.learn(**arguments, value_network=value_network).state.counters.updates == 4
    with pytest.raises(ValueError, match="`num_hidden`"):
        learn(network=ready)


def test_environments_of_every_kind() -> None:
    single = gym.make("CartPole-v1")
    own = vector(*[lambda: gym.make("CartPole-v1")] * 4, mode=AutoresetMode.NEXT_STEP)
    for env, num_envs in (
        ("CartPole-v1", 2),
        (single, None),
        (single, 1),
        (own, None),
        (lambda: gym.make("CartPole-v1"), 2),
    ):
        model = learn(env=env, num_envs=num_envs, nsteps=64, total_timesteps=512, nminibatches=2)
        assert model.state.counters.updates == 512 // (model.config.num_envs * 64)
    single.reset()  # still open: whoever made it closes it
    own.reset()
    assert learn(num_envs=None, nsteps=8).config.num_envs == 8


@pytest.mark.parametrize(
    "space",
    [
        pytest.param(gym.spaces.Box(-1, 1, (2, 3)), marks=pytest.mark.slow),
        gym.spaces.Box(0, 255, (4, 4, 1), np.uint8),
        gym.spaces.Box(-np.inf, np.inf, (), np.float64),
        gym.spaces.Discrete(5, start=-2),
        pytest.param(gym.spaces.MultiDiscrete([3, 2]), marks=pytest.mark.slow),
        gym.spaces.MultiDiscrete([[3, 2], [2, 2]], start=[[1, 1], [0, 5]]),
        pytest.param(gym.spaces.MultiBinary(4), marks=pytest.mark.slow),
        gym.spaces.MultiBinary([2, 2]),
    ],
    ids=str,
)
def test_observation_spaces(space: Any) -> None:
    model = learn(env=lambda: Spaced(space, gym.spaces.Discrete(2)), total_timesteps=64, normalize_obs=True)
    assert model.predict(space.sample())[0].shape == ()


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(3),
        gym.spaces.Discrete(3, start=-4),
        pytest.param(gym.spaces.MultiDiscrete([3, 2]), marks=pytest.mark.slow),
        gym.spaces.MultiDiscrete([[3, 2], [2, 2]], start=[[1, 1], [0, 5]]),
        pytest.param(gym.spaces.MultiBinary(4), marks=pytest.mark.slow),
        gym.spaces.MultiBinary([2, 2]),
        gym.spaces.Box(-0.2, 0.1, (2,)),
        gym.spaces.Box(-1.0, 1.0, (), np.float64),
        pytest.param(gym.spaces.Box(-np.inf, np.inf, (2, 1, 2), np.float64), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_action_spaces(space: Any) -> None:
    """The environment itself asserts that each action is a member of its space."""
    model = learn(env=lambda: Spaced(gym.spaces.Box(-1, 1, (3,)), space), total_timesteps=64)
    assert space.contains(model.predict(np.zeros(3, np.float32))[0])
    assert all(space.contains(np.asarray(action)) for action in model.step(np.zeros((9, 3), np.float32))[0])


def test_the_plan_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    learn(total_timesteps=300, normalize_obs=True)
    out = capsys.readouterr().out
    for part in (
        "4 environments x 16 steps = 64 timesteps an update",
        "4 epochs x 4 minibatches of 16 = 16 gradient steps",
        "4 updates = 256 timesteps of 300 asked for, after 64 that only fill the normaliser",
        "3.01 kB for a rollout",  # 64 * (16 obs + 4 action + 8 noise + 16 numbers + 3 flags) = 3,008
        "seed 7",
    ):
        assert part in out, out


def test_progress_without_a_terminal_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    learn(progress=True, log_interval=2)
    out = capsys.readouterr().out
    assert "update 2/4" in out
    assert "timesteps per second" in out.splitlines()[-1]
    assert "\x1b[" not in out


# --- compiling


def test_one_trace_of_each_program_over_a_whole_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """act, train and final_values are traced once in a run with schedules, and not at all in the next one."""
    from ppo2.agent.policy import Policy

    traced: list[str] = []

    def spy(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def spied(*args: Any, **kwargs: Any) -> Any:
            traced.append(name)
            return function(*args, **kwargs)

        return spied

    monkeypatch.setattr(Model, "update", spy("train", Model.update))
    monkeypatch.setattr(Policy, "act", spy("act", Policy.act))
    monkeypatch.setattr(Policy, "evaluate", spy("evaluate", Policy.evaluate))
    monkeypatch.setattr(Policy, "__call__", spy("policy", Policy.__call__))
    settings = {"num_hidden": 11, "lr": "linear:1e-3", "cliprange": lambda frac: 0.1 + 0.1 * frac}
    # truncated episodes: final_values is called in the middle of rollouts as well
    env = lambda: Script(5, "truncated")  # noqa: E731
    learn(env=env, **settings)
    # the policy is called by act, by final_values, by the rollout's completion (twice) and by the loss
    assert sorted(traced) == ["act", "evaluate", "evaluate", "policy", "policy", "policy", "policy", "policy", "train"]
    traced.clear()
    learn(env=env, **{**settings, "lr": 1e-4, "seed": 9, "ent_coef": 0.3})
    assert traced == []


# --- run directories


def test_a_run_directory_holds_everything(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    learn(run_dir=run_dir, total_timesteps=64 * 20)
    names = {path.name for path in run_dir.iterdir()}
    assert names == {"config.json", "progress.csv", "progress.jsonl", "monitor.csv", "checkpoints", "curve.png"}
    config = json.loads((run_dir / "config.json").read_text())
    assert config["env"] == "CartPole-v1"
    assert config["network_kwargs"] == {"num_hidden": 8}
    assert config["seed"] == 7
    assert (run_dir / "curve.png").read_bytes().startswith(b"\x89PNG")
    with (run_dir / "monitor.csv").open() as file:
        episodes = list(csv.DictReader(file))
    assert set(episodes[0]) == {"r", "l", "t", "env"}
    assert all(float(e["r"]) == float(e["l"]) for e in episodes)  # CartPole: a reward of 1 a step
    logged = rows(run_dir)
    expected = {
        "misc/serial_timesteps", "misc/nupdates", "misc/total_timesteps", "fps", "misc/explained_variance", "eprewmean",
        "eplenmean", "misc/time_elapsed", "loss/policy_loss", "loss/value_loss", "loss/policy_entropy", "loss/approxkl",
        "loss/clipfrac", "time/step", "time/act", "time/train",
    }  # fmt: skip
    assert expected <= set(logged[0])
    assert int(logged[-1]["misc/total_timesteps"]) == int(logged[-1]["misc/serial_timesteps"]) * 4
    shares = [float(logged[-1][f"time/{part}"]) for part in ("step", "act", "train")]
    assert sum(shares) == pytest.approx(1.0, abs=0.02)


def test_nothing_is_written_without_a_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    learn()
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    learn(run_dir=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"`run_dir`.*already holds a run.*ppo2 resume"):
        learn(run_dir=tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_load_path_begins_anew_from_the_weights(tmp_path: Path) -> None:
    trained = learn(run_dir=tmp_path)
    updates: list[int] = []
    for path in (tmp_path, tmp_path / "checkpoints", tmp_path / "checkpoints" / "00004.safetensors"):
        loaded = learn(load_path=path, total_timesteps=0)
        np.testing.assert_array_equal(params(loaded), params(trained))
    more = learn(load_path=tmp_path, update_fn=updates.append, seed=3)
    assert updates == [1, 2, 3, 4]
    assert int(more.state.counters.updates) == 4
    assert int(more.state.opt_state.count) == 2 * int(trained.state.opt_state.count)


def test_resuming_goes_on_to_the_original_total(tmp_path: Path) -> None:
    settings = {"total_timesteps": 64 * 6, "log_interval": 1, "lr": "linear:1e-3", "run_dir": tmp_path}
    learn(**settings, update_fn=lambda update: update < 3)
    updates: list[int] = []
    model = learn(**settings, load_path=tmp_path, update_fn=updates.append)
    assert updates == [4, 5, 6]
    assert int(model.state.counters.updates) == 6
    logged = rows(tmp_path)
    assert [int(row["misc/nupdates"]) for row in logged] == [1, 2, 3, 4, 5, 6]
    assert float(logged[3]["lr"]) == pytest.approx(0.5e-3)  # the schedule's position: frac = 1 - 3/6
    times = [float(row["misc/time_elapsed"]) for row in logged]
    assert times == sorted(times)


def test_resuming_a_finished_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = learn(run_dir=tmp_path)
    again = learn(run_dir=tmp_path, load_path=tmp_path)
    assert "all done before" in capsys.readouterr().out
    np.testing.assert_array_equal(params(done), params(again))


@pytest.mark.parametrize("path", ["checkpoints", "checkpoints/00002.safetensors", "."])
def test_resuming_from_a_checkpoint_of_the_run(tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The logs go on from there too; later checkpoints are set aside, as often as it happens."""
    settings = {"total_timesteps": 64 * 5, "log_interval": 1, "save_interval": 1, "run_dir": tmp_path / "run"}
    learn(**settings, update_fn=lambda update: update < 4)
    for again in range(2):
        updates: list[int] = []
        capsys.readouterr()
        learn(**settings, load_path=tmp_path / "run" / path, update_fn=updates.append)
        aside = sorted(file.name for file in (tmp_path / "run" / "checkpoints").iterdir() if "superseded" in file.name)
        if path == "checkpoints/00002.safetensors":
            assert updates == [3, 4, 5]
            assert "going on from update 2; later checkpoints are set aside" in capsys.readouterr().out
            names = ["00003.safetensors.superseded", "00004.safetensors.superseded"]
            more = ["00003.safetensors.superseded-2", "00004.safetensors.superseded-2", "00005.safetensors.superseded"]
            assert aside == (sorted(names + more) if again else names)
        else:
            assert updates == ([] if again else [5])
            assert aside == []
        assert [int(row["misc/nupdates"]) for row in rows(tmp_path / "run")] == [1, 2, 3, 4, 5]
        assert ppo2.load(tmp_path / "run").state.counters.updates == 5


def test_a_damaged_newest_checkpoint_is_never_passed_over_silently(tmp_path: Path) -> None:
    settings = {"run_dir": tmp_path, "save_interval": 1}
    learn(**settings, update_fn=lambda update: update < 3)
    newest, before = (tmp_path / "checkpoints" / f"0000{update}.safetensors" for update in (3, 2))
    newest.write_bytes(newest.read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"{newest} is damaged.*The one before it, {before}, is whole"):
        learn(**settings, load_path=tmp_path)
    updates: list[int] = []
    learn(**settings, load_path=before, update_fn=updates.append)
    assert updates == [3, 4]
    assert newest.with_name("00003.safetensors.superseded").exists()


@pytest.mark.parametrize(
    "position",
    [
        {"update": -1},
        {"update": 1.5},
        {"update": "2"},
        {"update": 2, "episodes": None},
        {"update": 2, "seconds": []},
        {"update": 2, "best": {"update": 1}},
        {"update": 2, "best": {"update": 1, "eval_eprewmean": "high"}},
    ],
)
def test_nonsense_of_where_training_stood(tmp_path: Path, position: dict[str, Any]) -> None:
    learn(run_dir=tmp_path, update_fn=lambda update: update < 2)
    file = checkpoint.load(tmp_path)
    checkpoint.save(file.path, file.tensors, {**file.metadata, "run": position})
    with pytest.raises(ValueError, match="nonsense of where training stood"):
        learn(run_dir=tmp_path, load_path=tmp_path)


def test_resuming_under_other_settings_is_refused(tmp_path: Path) -> None:
    learn(run_dir=tmp_path, update_fn=lambda update: False)
    with pytest.raises(ValueError, match=r"other settings: `gamma` was 0\.99, is 0\.9"):
        learn(run_dir=tmp_path, load_path=tmp_path, gamma=0.9)


# --- numbers that are not finite


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (lambda: Broken(gym.spaces.Box(-1, 1, (2,)), np.array([np.nan, 0], np.float32)), "observation is NaN"),
        (lambda: Broken(gym.spaces.Box(-1, 1, (2,)), np.zeros(2, np.float32), reward=np.inf), "reward is NaN or inf"),
    ],
)
def test_a_bad_environment_is_named_and_the_last_good_model_kept(tmp_path: Path, env: Any, message: str) -> None:
    healthy = lambda: Broken(env().observation_space, env().bad, after=10**6)  # noqa: E731
    made = iter([healthy, env, healthy, healthy])
    with pytest.raises(ValueError, match=rf"update 1: .*{message}.*environment 1 .*step [23]"):
        learn(env=lambda: next(made)(), run_dir=tmp_path)
    assert (tmp_path / "checkpoints" / "00000.safetensors").exists()
    assert ppo2.load(tmp_path).state.counters.gradient_steps == 0


def test_what_was_learned_is_kept_when_an_environment_crashes(tmp_path: Path) -> None:
    class Crashes(Script):
        steps = 0

        def step(self, action: Any) -> Any:
            Crashes.steps += 1
            if Crashes.steps > 4 * 16 * 2 + 5:
                raise RuntimeError("the simulator fell over")
            return super().step(action)

    with pytest.raises(RuntimeError, match="fell over"):
        learn(env=Crashes, run_dir=tmp_path)
    assert ppo2.load(tmp_path).state.counters.updates == 2


def test_a_vector_environment_whose_observations_are_out_of_range() -> None:
    """What our own stepping would have refused at once is found when learning."""
    env = vector(*[lambda: Broken(gym.spaces.Discrete(3), 3)] * 2, mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match=r"update 1: an observation is out of range for Discrete\(3\); environment 0"):
        learn(env=env, num_envs=None)


def test_skipping_updates_that_are_not_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = learn(
        env=lambda: Broken(gym.spaces.Box(-1, 1, (2,)), np.zeros(2, np.float32), reward=np.nan),
        on_nonfinite="skip",
        log_interval=1,
        run_dir=tmp_path,
    )
    assert "update 2 skipped: a reward is NaN" in capsys.readouterr().out
    assert int(model.state.counters.skipped_updates) == 4
    assert int(rows(tmp_path)[-1]["misc/skipped_updates"]) == 4
    assert int(model.state.counters.gradient_steps) >= 0


@pytest.mark.parametrize("on_nonfinite", ["raise", "skip"])
def test_parameters_that_a_user_spoiled_end_training_without_hiding_the_last_good_checkpoint(
    on_nonfinite: str, tmp_path: Path
) -> None:
    def spoil(update: int, model: Model) -> None:
        if update == 2:
            model.state = model.state._replace(params=model.state.params * np.nan)

    with pytest.raises(ValueError, match=r"^update 3: the parameters, .* were NaN or infinite before it"):
        learn(update_fn=spoil, on_nonfinite=on_nonfinite, save_interval=1, run_dir=tmp_path)
    assert sorted(file.stem for file in (tmp_path / "checkpoints").iterdir()) == ["00001", "00002"]
    assert np.isfinite(params(ppo2.load(tmp_path))).all()


def test_a_checkpoint_that_is_not_finite_is_refused_before_the_first_step(tmp_path: Path) -> None:
    model = learn()
    model.state = model.state._replace(opt_state=model.state.opt_state._replace(nu=model.state.opt_state.nu + np.inf))
    model.save(tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match=r"bad\.safetensors holds parameters, .*NaN or infinite.*take an earlier one"):
        learn(load_path=tmp_path / "bad.safetensors")


def test_the_rollout_that_fills_the_normaliser_is_checked_too() -> None:
    with pytest.raises(ValueError, match="the rollout that fills the normaliser: an observation is NaN"):
        learn(
            env=lambda: Broken(gym.spaces.Box(-1, 1, (2,)), np.array([np.nan, 0], np.float32)),
            normalize_obs=True,
        )


def test_a_rollouts_last_observation_that_is_not_finite_is_named() -> None:
    with pytest.raises(ValueError, match=r"update 1: an observation is NaN.*environment 0 gave it at step 15"):
        learn(env=lambda: Broken(gym.spaces.Box(-1, 1, (2,)), np.array([np.nan, 0], np.float32), after=16))


def test_a_model_is_returned_even_if_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ppo2.reporting import plot

    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("no finished episode")

    monkeypatch.setattr(plot, "curve", fails)
    assert learn(run_dir=tmp_path).state.counters.updates == 4


def test_a_run_that_failed_before_its_first_update_leaves_the_directory_free(tmp_path: Path) -> None:
    def fails() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        learn(run_dir=tmp_path, init_fn=fails)
    learn(run_dir=tmp_path)


def test_a_checkpoint_saved_by_hand_is_not_resumed_from(tmp_path: Path) -> None:
    model = learn(run_dir=tmp_path, update_fn=lambda update: update < 2)
    model.save(tmp_path / "checkpoints" / "99999.safetensors")
    before = (tmp_path / "progress.csv").read_bytes(), (tmp_path / "monitor.csv").read_bytes()
    with pytest.raises(ValueError, match="saved by hand"):
        learn(run_dir=tmp_path, load_path=tmp_path)
    assert before == ((tmp_path / "progress.csv").read_bytes(), (tmp_path / "monitor.csv").read_bytes())


# --- normalisers


def test_normalising_observations_and_rewards() -> None:
    model = learn(env="Pendulum-v1", normalize_obs=True, normalize_rewards=True, total_timesteps=64 * 4)
    normaliser = model.state.normaliser
    assert float(normaliser.obs.count) == pytest.approx(64 * 4 + 64, rel=1e-4)  # and one short rollout at the start
    assert float(normaliser.returns.var) > 1.0
    frozen = jax.tree.map(np.array, normaliser)
    ppo2.evaluate(model, "Pendulum-v1", episodes=2)
    for before, after in zip(jax.tree.leaves(frozen), jax.tree.leaves(model.state.normaliser), strict=True):
        np.testing.assert_array_equal(before, np.asarray(after))


@pytest.mark.slow
def test_a_probe_with_all_switches_on(tmp_path: Path) -> None:
    model = learn(
        env=lambda: Bandit("match"),
        total_timesteps=64 * 150,
        normalize_obs=True,
        normalize_rewards=True,
        target_kl=0.05,
        value_cliprange="linear:0.5",
        lr="linear:5e-3",
        ent_coef=0.001,
        shards=2,
        value_network="copy",
        run_dir=tmp_path,
    )
    obs = np.array([[-1.0], [1.0]], np.float32)
    np.testing.assert_array_equal(model.predict(obs)[0], [0, 1])
    np.testing.assert_array_equal(ppo2.load(tmp_path).predict(obs)[0], [0, 1])
