"""The start of training: from weights, resumed, restarted, or refused."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import ppo2
from ppo2.agent.model import Model
from ppo2.checkpoints import checkpoint
from ppo2.training import run_directory
from support.runs import learn, params, rows

pytestmark = pytest.mark.usefixtures("quickly_compiled")


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


def test_a_model_is_as_good_as_its_file(tmp_path: Path) -> None:
    trained = learn()
    file = trained.save(tmp_path / "model.safetensors")
    before = params(trained)
    more = [learn(load_path=source, seed=3) for source in (trained, ppo2.load(file), file)]
    for model in more:
        np.testing.assert_array_equal(params(model), params(more[0]))
        assert int(model.state.opt_state.count) == 2 * int(trained.state.opt_state.count)
    np.testing.assert_array_equal(params(trained), before)  # training it on changed it nowhere


@pytest.mark.parametrize(
    ("parts", "weights", "normaliser", "optimiser"),
    [
        (None, True, True, True),
        (("weights", "normaliser"), True, True, False),
        ("weights", True, False, False),
        (["normalizer"], False, True, False),
        (("weights", "optimizer"), True, False, True),
    ],
)
def test_parts_of_a_model(parts: Any, weights: bool, normaliser: bool, optimiser: bool) -> None:
    trained = learn(normalize_obs=True)
    model = learn(normalize_obs=True, load_path=trained, load_parts=parts, total_timesteps=0, seed=8)
    assert np.array_equal(params(model), params(trained)) is weights
    assert (float(model.state.normaliser.obs.count) > 100) is normaliser
    assert (int(model.state.opt_state.count) == int(trained.state.opt_state.count)) is optimiser
    assert np.any(np.asarray(model.state.opt_state.mu)) == optimiser


def test_parts_need_only_their_own_kind_to_fit() -> None:
    """Weights for a run without statistics; statistics for another network."""
    trained = learn(normalize_obs=True)
    np.testing.assert_array_equal(
        params(learn(load_path=trained, load_parts="weights", total_timesteps=0)), params(trained)
    )
    other = learn(normalize_obs=True, num_hidden=4, load_path=trained, load_parts="normaliser", total_timesteps=0)
    assert float(other.state.normaliser.obs.count) == float(trained.state.normaliser.obs.count)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"load_parts": "all"}, r"`load_parts` \(='all'\) must name one or more of 'weights', 'normaliser', 'optimi"),
        ({"load_parts": ()}, "must name one or more"),
        ({"load_parts": "optimiser"}, "moments are of its weights: take both"),
        ({"load_parts": "normaliser"}, "this run keeps none: set `normalize_obs`"),
        ({"load_parts": "weights", "num_hidden": 9}, "'params/.* expected float32 of shape"),
        ({"num_hidden": 9}, "expected float32 of shape"),
        ({"env": "Acrobot-v1"}, "the checkpoint <a model> is of another observation space"),
    ],
)
def test_parts_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learn(load_path=learn(total_timesteps=0), **arguments)


def test_parts_are_of_a_new_run_that_loads_something(tmp_path: Path) -> None:
    learn(run_dir=tmp_path)
    with pytest.raises(ValueError, match="`load_path`, which is None"):
        learn(load_parts="weights")
    with pytest.raises(ValueError, match=r"for a new run, and `run_dir` .* holds one that continues"):
        learn(load_parts="weights", load_path=tmp_path, run_dir=tmp_path)
    with pytest.raises(TypeError, match=r"`load_path` .* must be a path, or a model"):
        learn(load_path=3)


def test_a_finished_run_is_extended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"run_dir": tmp_path, "lr": "linear:1e-3", "log_interval": 1, "load_path": tmp_path}
    learn(**{**settings, "load_path": None}, total_timesteps=64 * 2)
    capsys.readouterr()
    updates: list[int] = []
    learn(**settings, total_timesteps=64 * 4, update_fn=updates.append)
    assert updates == [3, 4]
    told = capsys.readouterr().out
    assert "total of this run was 128 timesteps (2 updates) and is now 256 (4); schedules follow the new total" in told
    assert [float(row["lr"]) for row in rows(tmp_path)] == pytest.approx([1e-3, 0.5e-3, 0.5e-3, 0.25e-3])
    config = run_directory.read_config(tmp_path)
    assert config["total_timesteps"] == 256
    assert [(s["after_update"], s["total_timesteps"]) for s in config["sessions"]] == [(0, 128), (2, 256)]
    with pytest.raises(ValueError, match=r"less than what the run .* has done: 4 updates of 64 .* Raise it to 256"):
        learn(**settings, total_timesteps=64 * 3)
    with pytest.raises(ValueError, match=r"other settings: `gamma` was 0\.99, is 0\.9"):
        learn(**settings, total_timesteps=64 * 8, gamma=0.9)


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
            assert "continuing from update 2; later checkpoints are set aside" in capsys.readouterr().out
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
        {"update": 2, "interim": 1},
        {"update": 2, "unfinished": [1.0]},
        {"update": 2, "unfinished": {"fps": "fast"}},
        {"update": 2, "best": {"update": 1}},
        {"update": 2, "best": {"update": 1, "eval_eprewmean": "high"}},
    ],
)
def test_invalid_progress_data_is_refused(tmp_path: Path, position: dict[str, Any]) -> None:
    learn(run_dir=tmp_path, update_fn=lambda update: update < 2)
    file = checkpoint.load(tmp_path)
    checkpoint.save(file.path, file.tensors, {**file.metadata, "run": position})
    with pytest.raises(ValueError, match="has invalid progress data"):
        learn(run_dir=tmp_path, load_path=tmp_path)


def test_resuming_under_other_settings_is_refused(tmp_path: Path) -> None:
    learn(run_dir=tmp_path, update_fn=lambda update: False)
    with pytest.raises(ValueError, match=r"other settings: `gamma` was 0\.99, is 0\.9"):
        learn(run_dir=tmp_path, load_path=tmp_path, gamma=0.9)


def test_a_checkpoint_that_is_not_finite_is_refused_before_the_first_step(tmp_path: Path) -> None:
    model = learn()
    model.state = model.state._replace(opt_state=model.state.opt_state._replace(nu=model.state.opt_state.nu + np.inf))
    model.save(tmp_path / "bad.safetensors")
    for debugs in (False, True):
        message = r"bad\.safetensors holds parameters, .*NaN or infinite.*take an earlier one"
        with jax.debug_nans(debugs), pytest.raises(ValueError, match=message):
            learn(load_path=tmp_path / "bad.safetensors")


def test_a_checkpoint_saved_by_hand_is_not_resumed_from(tmp_path: Path) -> None:
    model = learn(run_dir=tmp_path, update_fn=lambda update: update < 2)
    model.save(tmp_path / "checkpoints" / "99999.safetensors")
    before = (tmp_path / "progress.csv").read_bytes(), (tmp_path / "monitor.csv").read_bytes()
    with pytest.raises(ValueError, match="saved by hand"):
        learn(run_dir=tmp_path, load_path=tmp_path)
    assert before == ((tmp_path / "progress.csv").read_bytes(), (tmp_path / "monitor.csv").read_bytes())


def test_a_run_stopped_before_its_first_checkpoint_begins_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = {"run_dir": run, "total_timesteps": 64 * 6, "log_interval": 1, "save_interval": 1}
    first = learn(**settings)
    for file in (run / "checkpoints").iterdir():
        file.rename(file.with_name(f".{file.name}.1234.tmp"))
    updates: list[int] = []
    again = learn(**settings, load_path=run, seed=None, update_fn=updates.append)
    assert updates == [1, 2, 3, 4, 5, 6]
    assert f"the run in {run} was stopped before its first checkpoint: it begins again" in capsys.readouterr().out
    np.testing.assert_array_equal(again.state.params, first.state.params)  # under the seed that it had
    with (run / "progress.csv").open() as file:
        assert [row["misc/nupdates"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5", "6"]
    assert len((run / "progress.jsonl").read_text().splitlines()) == 6
    assert not list((run / "checkpoints").glob(".*"))
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ValueError, match=r"other settings: `gamma` was 0\.99, is 0\.9"):
        learn(**settings, load_path=run, gamma=0.9)


def test_a_run_keeps_the_precision_of_its_products(tmp_path: Path) -> None:
    run = tmp_path / "run"
    model = learn(precision="bf16", run_dir=run)
    assert json.loads((run / "config.json").read_text())["precision"] == "bf16"
    loaded, obs = ppo2.load(run), np.float32([[0.1, -0.2, 0.3, -0.4]])
    assert loaded.policy.precision == "bf16"
    np.testing.assert_array_equal(loaded.value(obs), model.value(obs))
    full = Model(policy=dataclasses.replace(model.policy, precision=None), config=model.config, key=model.state.key)
    assert np.abs(full.value(obs) - model.value(obs)).max() > 1e-5  # other programs
    with pytest.raises(ValueError, match=r"other settings: `precision` was 'bf16', is None"):
        learn(load_path=run, run_dir=run)
