"""A run that meets faults: what ends it, what is skipped, and what is saved."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2 import plot
from ppo2.agent.model import Model
from support.environments import Broken, Script, vector
from support.runs import learn, params, rows


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
    """Learning finds an observation that our own stepping would have refused at once."""
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

    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("no finished episode")

    monkeypatch.setattr(plot, "curve", fails)
    assert learn(run_dir=tmp_path).state.counters.updates == 4
