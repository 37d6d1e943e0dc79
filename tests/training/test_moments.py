"""Callbacks: their moments, figures, stops, state and errors."""

import csv
import dataclasses
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ppo2
from ppo2.callbacks import Callback, Training
from ppo2.checkpoints.checkpoint import load
from support.device_envs import Count
from support.jobs import SMALL as OF_TWO
from support.jobs import Job, call_in_child
from support.runs import learn, params

pytestmark = pytest.mark.usefixtures("quickly_compiled")


class Notes(Callback):
    """Notes its moments, counts updates, logs the count, and stops after an update."""

    def __init__(self, stop_at: int = 0) -> None:
        self.seen: list[Any] = []
        self.stop_at, self.count = stop_at, 0
        self.noise = np.zeros(2, np.float32)

    def on_start(self, training: Training) -> None:
        self.seen.append(("start", training.update))

    def on_rollout(self, training: Training) -> None:
        shape = None if training.rollout is None else training.rollout.rewards.shape
        self.seen.append(("rollout", training.update, shape))

    def on_update(self, training: Training) -> None:
        assert training.evaluation is None
        self.count += 1
        self.noise = self.noise + np.float32(training.figures["loss/value_loss"])
        self.seen.append(("update", training.update, training.timesteps))
        training.log("mine/count", self.count)
        if training.update == self.stop_at:
            training.stop("enough")

    def on_evaluation(self, training: Training) -> None:
        assert training.evaluation is not None
        training.log("mine/longest", training.evaluation.lengths.max())
        self.seen.append(("evaluation", training.update, training.figures["eval_eprewmean"]))

    def on_checkpoint(self, training: Training) -> None:
        assert training.checkpoint is not None
        assert load(training.checkpoint).metadata["run"]["update"] == training.update
        self.seen.append(("checkpoint", training.update))

    def on_end(self, training: Training) -> None:
        self.seen.append(("end", training.update, training.stop_reason, training.error))

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "noise": self.noise, "more": [1, (2.5, float("inf")), {"x": None}]}

    def load_state_dict(self, state: Any) -> None:
        assert state["more"] == [1, (2.5, float("inf")), {"x": None}]
        self.count, self.noise = state["count"], state["noise"]


def column(run_dir: Path, name: str) -> list[str]:
    with (run_dir / "progress.csv").open() as file:
        return [row[name] for row in csv.DictReader(file)]


@pytest.mark.exact
def test_moments_come_in_order_and_a_stopped_run_goes_on_exactly(tmp_path: Path, capsys: Any) -> None:
    settings: dict[str, Any] = {
        "eval_env": "CartPole-v1", "eval_episodes": 2, "log_interval": 2, "save_interval": 2, "progress": False,
        "total_timesteps": 5 * 64,
    }  # fmt: skip
    whole, stopped, again = Notes(), Notes(stop_at=3), Notes()
    expected = learn(callbacks=[whole], run_dir=tmp_path / "whole", **settings)
    rollout = (16, 4)
    assert [moment[:2] for moment in whole.seen] == [
        ("start", 0),
        ("rollout", 0), ("update", 1), ("evaluation", 1), ("checkpoint", 1),
        ("rollout", 1), ("update", 2), ("evaluation", 2), ("checkpoint", 2),
        ("rollout", 2), ("update", 3),
        ("rollout", 3), ("update", 4), ("evaluation", 4), ("checkpoint", 4),
        ("rollout", 4), ("update", 5), ("checkpoint", 5),
        ("end", 5),
    ]  # fmt: skip
    assert whole.seen[1][2] == rollout
    assert whole.seen[-1][2:] == (None, None)
    assert expected.stop_reason == ""
    capsys.readouterr()

    three = learn(callbacks=[stopped], run_dir=tmp_path / "cut", **settings)
    assert three.stop_reason == "enough"
    assert "enough (update 3 of 5)" in capsys.readouterr().out
    assert stopped.seen[-2:] == [("checkpoint", 3), ("end", 3, "enough", None)]
    resumed = learn(callbacks=[again], run_dir=tmp_path / "cut", load_path=tmp_path / "cut", **settings)
    assert again.seen[0] == ("start", 3)
    assert again.seen[1][:2] == ("rollout", 3)  # no second call for the checkpoint that only the stop brought about
    assert again.count == whole.count == 5
    np.testing.assert_array_equal(again.noise, whole.noise)
    np.testing.assert_array_equal(params(resumed), params(expected))
    for name in ("mine/count", "mine/longest"):
        assert column(tmp_path / "cut", name) == column(tmp_path / "whole", name)
    assert column(tmp_path / "whole", "mine/count") == ["1.0", "2.0", "4.0", "5.0"]
    assert column(tmp_path / "whole", "mine/longest")[-1] == ""


def test_a_figure_waits_in_the_checkpoint_for_its_row(tmp_path: Path) -> None:
    class Early(Callback):
        interval = 3

        def on_update(self, training: Training) -> None:
            training.log("early", training.update)

    class Stop(Callback):
        def on_update(self, training: Training) -> None:
            if training.update == 3:
                training.stop("now")

    settings: dict[str, Any] = {"log_interval": 4, "total_timesteps": 4 * 64, "run_dir": tmp_path}
    learn(callbacks=[Early(), Stop()], **settings)
    assert column(tmp_path, "early") == ["1.0", "3.0"]  # the row of the stop has it, and is dropped again
    learn(callbacks=[Early()], load_path=tmp_path, **settings)
    assert column(tmp_path, "early") == ["1.0", "3.0"]
    assert column(tmp_path, "misc/nupdates") == ["1", "4"]


@pytest.mark.exact
def test_only_callbacks_that_look_at_updates_shorten_chunks(tmp_path: Path) -> None:
    class AtTheEnd(Callback):
        def on_evaluation(self, training: Training) -> None: ...
        def on_end(self, training: Training) -> None:
            ends.append((training.update, training.stats is not None))

    class Every(AtTheEnd):
        interval = 4

        def on_update(self, training: Training) -> None:
            seen.append(training.update)

    ends: list[Any] = []
    seen: list[int] = []
    settings = {"env": Count(), "num_envs": 4, "total_timesteps": 8 * 64, "log_interval": 8}
    plain = learn(**settings)
    same = learn(callbacks=[AtTheEnd()], **settings)
    every = learn(callbacks=[Every()], **settings)
    each = Notes(stop_at=2)
    learn(callbacks=[each], **settings)
    assert ends == [(8, True)] * 2
    assert seen == [1, 4, 8]
    assert [moment[:3] for moment in each.seen[1:]] == [
        ("rollout", 0, None), ("update", 1, 64), ("rollout", 1, None), ("update", 2, 128), ("end", 2, "enough"),
    ]  # fmt: skip
    np.testing.assert_array_equal(params(same), params(plain))
    np.testing.assert_array_equal(params(every), params(plain))


def test_a_callback_of_checkpoints_alone_knows_the_update(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Sees(Callback):
        def on_checkpoint(self, training: Training) -> None:
            assert training.checkpoint is not None
            seen.append((training.update, training.checkpoint.stem, training.stats is not None))

    learn(callbacks=[Sees()], run_dir=tmp_path, save_interval=3, log_interval=2)
    assert seen == [(1, "00001", True), (3, "00003", True), (4, "00004", True)]


def test_stop_before_the_first_update() -> None:
    class Never(Callback):
        def on_start(self, training: Training) -> None:
            training.stop("not today")

    model = learn(callbacks=[Never()])
    assert (model.stop_reason, int(model.state.counters.updates)) == ("not today", 0)


def test_an_error_names_callback_and_moment_and_all_are_told_of_the_end(tmp_path: Path) -> None:
    class Fails(Callback):
        def on_update(self, training: Training) -> None:
            if training.update == 2:
                raise KeyError("x")

    notes = Notes()
    with pytest.raises(KeyError) as raised:
        learn(callbacks=[Fails(), notes], run_dir=tmp_path)
    assert raised.value.__notes__ == ["Raised by the callback Fails, in on_update, after update 2."]
    kind, update, reason, error = notes.seen[-1]
    assert (kind, update, reason, type(error)) == ("end", 2, None, KeyError)
    assert load(tmp_path).metadata["run"]["update"] == 2


@pytest.mark.parametrize("ends", ["by itself", "by a signal"])
def test_an_error_at_the_end_hides_no_other(ends: str, capsys: Any) -> None:
    class Fails(Callback):
        def on_end(self, training: Training) -> None:
            raise ValueError("late")

    class Again(Callback):
        def on_end(self, training: Training) -> None:
            raise OSError("later")

    def update_fn(update: int) -> None:
        if ends == "by a signal" and update == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(ValueError if ends == "by itself" else KeyboardInterrupt):
        learn(callbacks=[Fails(), Again()], update_fn=update_fn)
    printed = capsys.readouterr().out
    assert "OSError: later Raised by the callback Again, in on_end, after update " in printed
    assert ("ValueError: late" in printed) == (ends == "by a signal")


def test_state_that_no_file_can_hold_is_an_error_before_the_first_update(tmp_path: Path) -> None:
    class Odd(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"list": [1, {2, 3}]}

    notes = Notes()
    with pytest.raises(TypeError, match=r"Odd.state_dict\(\).*state\['list'\]\[1\] is \{2, 3\}, of type set"):
        learn(callbacks=[notes, Odd()])
    assert [moment[0] for moment in notes.seen] == ["start", "end"]


def test_a_run_that_goes_on_with_other_callbacks_says_so(tmp_path: Path, capsys: Any) -> None:
    class Other(Callback):
        pass

    learn(callbacks=[Notes()], run_dir=tmp_path, update_fn=lambda update: update < 2)
    capsys.readouterr()
    learn(callbacks=[Other()], run_dir=tmp_path, load_path=tmp_path)
    printed = capsys.readouterr().out
    assert "the run had Notes so far, and continues without" in printed
    assert "the run had no Other so far" in printed


def test_wrong_callbacks_and_figures() -> None:
    with pytest.raises(TypeError, match="must be a list of callbacks"):
        learn(callbacks=Notes())
    with pytest.raises(TypeError, match="A class isn't an object: call it"):
        learn(callbacks=[Notes])
    with pytest.raises(TypeError, match="A function goes to `update_fn`"):
        learn(callbacks=[lambda training: None])
    twice = Notes()
    with pytest.raises(ValueError, match="twice"):
        learn(callbacks=[twice, twice])
    zero = Notes()
    zero.interval = 0
    with pytest.raises(ValueError, match=r"`interval` \(=0\) of Notes"):
        learn(callbacks=[zero])

    class Logs(Callback):
        def on_start(self, training: Training) -> None:
            with pytest.raises(ValueError, match="column that the log has"):
                training.log("loss/mine", 1)
            for value in (None, "1.5"):
                with pytest.raises(TypeError, match="must be a number"):
                    training.log("mine", value)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="in one line"):
                training.log("my\nname", 1.0)

        def on_end(self, training: Training) -> None:
            with pytest.raises(RuntimeError, match="the last row of the log is written"):
                training.log("mine", 1.0)

    learn(callbacks=[Logs()], total_timesteps=64)


def test_methods_that_are_never_called_are_told(capsys: Any) -> None:
    class Elsewhere(Callback):
        def on_training_start(self) -> None: ...
        def on_update(self, training: Training) -> None: ...

    class Nothing(Callback):
        def _on_step(self) -> None: ...

    @dataclasses.dataclass
    class Alike(Callback):
        def on_end(self, training: Training) -> None: ...

    learn(callbacks=[Elsewhere(), Nothing(), Alike(), Alike()], total_timesteps=64)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("`callbacks`")]
    assert "Elsewhere has on_training_start, which is no moment" in told[0]
    assert "Nothing does nothing, as it has none of on_checkpoint, " in told[1]
    assert len(told) == 2


def test_no_column_of_the_log_is_free_for_callbacks(tmp_path: Path) -> None:
    from ppo2.callbacks.base import OWN_COLUMNS, OWN_FOLDERS

    learn(run_dir=tmp_path, eval_env="CartPole-v1", eval_episodes=1, total_timesteps=64)
    header = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    assert all(name in OWN_COLUMNS or name.startswith(OWN_FOLDERS) for name in header)


def test_update_fn_gets_evaluations() -> None:
    seen = []
    learn(
        eval_env="CartPole-v1", eval_interval=2, eval_episodes=3,
        update_fn=lambda update, model, stats: seen.append(stats.evaluation),
    )  # fmt: skip
    assert [None if one is None else len(one.returns) for one in seen] == [3, 3, None, 3]


def of_two_processes(folder: str) -> None:
    rank = ppo2.distributed.init().rank
    model = ppo2.learn(
        env="CartPole-v1", num_hidden=8, seed=1, log_interval=1, save_interval=1, **OF_TWO,
        run_dir=Path(folder) / "run" if rank == 0 else None, callbacks=[Second()] if rank else [],
    )  # fmt: skip
    assert model.stop_reason == "enough of the second"
    assert int(model.state.counters.updates) == 2


class Second(Callback):
    """A callback of the second process alone."""

    def on_update(self, training: Training) -> None:
        training.log("second", 10 * training.update)
        if training.update == 2:
            training.stop("enough of the second")

    def state_dict(self) -> dict[str, Any]:
        return {"array": np.arange(3)}


def test_a_callback_of_one_process_counts_for_all(tmp_path: Path) -> None:
    job = Job(tmp_path, *call_in_child(of_two_processes, tmp_path))
    assert job.end() == [0, 0], job.output()
    assert column(tmp_path / "run", "second") == ["10.0", "20.0"]
    saved = load(tmp_path / "run")
    assert [len(states) for states in saved.metadata["run"]["callbacks"]] == [0, 1]
    np.testing.assert_array_equal(saved.tensors["callbacks/1/0/0"], np.arange(3))
    assert "enough of the second (update 2 of 3)" in (tmp_path / "0.out").read_text()
