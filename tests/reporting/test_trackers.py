"""Runs of experiment trackers, with the real packages, offline; and `log` of `learn`."""

import contextlib
import json
import math
import signal
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ppo2
from ppo2.evaluation.film import Film
from ppo2.reporting import mlflow_run, trackers
from ppo2.reporting.tables import RunFiles
from ppo2.reporting.tracked import Films
from ppo2.reporting.trackers import TrackedRun
from support.device_envs import Line
from support.runs import SMALL

SETTINGS = {"lr": 3e-4, "network": "mlp", "network_kwargs": {"num_hidden": 8}, "versions": {"jax": "1"}}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "PPO2_LOG_FORMAT",
        "WANDB_PROJECT",
        "WANDB_RUN_GROUP",
        "MLFLOW_EXPERIMENT_NAME",
        "MLFLOW_TRACKING_URI",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.chdir(tmp_path)


def row(update: int, **more: float) -> dict[str, float]:
    return {"misc/nupdates": update, "misc/total_timesteps": update * 100, "eprewmean": 10.0 * update, **more}


def film(run_dir: Path, name: str) -> Path:
    """A video of three frames."""
    iio = pytest.importorskip("imageio.v3")
    path = run_dir / "videos" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, np.zeros((3, 16, 24, 3), np.uint8), loop=0)
    return path


@contextlib.contextmanager
def opened(run_dir: Path, *names: str, settings: Any = SETTINGS, **more: Any) -> Any:
    tracked = TrackedRun.of(run_dir, settings, more.pop("options", {}))
    files = RunFiles(run_dir, formats=names, tracked=tracked, warn=print, **more)
    yield files
    files.close()


# --- TensorBoard


def events(run_dir: Path) -> dict[str, list[Any]]:
    """The values in the files of events, by tag, as TensorBoard's own reader finds them, or tensorboardX's."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[Any]] = {}
    for path in sorted((run_dir / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + length])
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value))
            at += 16 + length
    return found


def test_tensorboard_gets_settings_videos_and_the_final_score(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    with opened(tmp_path / "run", "tensorboard") as files:
        files.log(row(1))
        film(tmp_path / "run", "1.gif")
        files.log(row(2, eval_eprewmean=7.0))
        files.log(row(3))  # an evaluation counts more than the last episodes
    found = events(tmp_path / "run")
    assert [(step, value.simple_value) for step, value in found["eprewmean"]] == [(100, 10), (200, 20), (300, 30)]
    assert [(step, value.simple_value) for step, value in found["final_score"]] == [(300, 7.0)]
    ((step, value),) = found["video"]
    assert (step, value.image.width, value.image.height) == (200, 24, 16)
    assert value.image.encoded_image_string.startswith(b"GIF8")
    assert {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"} <= found.keys()


def test_tensorboards_own_reader_finds_the_same(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with opened(tmp_path / "run", "tensorboard") as files:
        files.log(row(1))
        files.film(film(tmp_path, "other.gif"), 100)
        files.log(row(2))
    read = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    read.Reload()
    assert [event.value for event in read.Scalars("eprewmean")] == [10.0, 20.0]
    assert [event.step for event in read.Images("video")] == [100]
    assert [event.value for event in read.Scalars("final_score")] == [20.0]


# --- trackers


@pytest.mark.filterwarnings("ignore")  # its own, and SQLAlchemy's
@pytest.mark.parametrize("store", ["file", "sqlite"])
def test_mlflow(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings, rows, a video and the final score; after a resume the same run has later rows, none of them twice."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    if store == "sqlite":
        pytest.importorskip("sqlalchemy")
    uri = f"sqlite:///{tmp_path}/mlflow.db" if store == "sqlite" else f"file:{tmp_path}/mlruns"
    options = {"mlflow": {"tracking_uri": uri, "experiment": "exp", "tags": {"k": "v"}}}
    run_dir = tmp_path / "run"
    with opened(run_dir, "mlflow", options=options) as files:
        files.log(row(1, eplenmean=math.nan))
        film(run_dir, "1.gif")
        files.log(row(2))
        files.log(row(3))
    with opened(run_dir, "mlflow", options=options, resume_from=2) as files:
        files.log(row(3))
        files.log(row(4))
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("exp").experiment_id])
    assert (run.info.run_name, run.info.status, run.data.tags["k"]) == ("run", "FINISHED", "v")
    assert run.data.params == {"lr": "0.0003", "network": "mlp", "network_kwargs": '{"num_hidden": 8}'}
    history = client.get_metric_history(run.info.run_id, "eprewmean")
    assert [(point.step, point.value) for point in history] == [(100, 10), (200, 20), (300, 30), (400, 40)]
    assert run.data.metrics["final_score"] == 40.0
    assert [one.path for one in client.list_artifacts(run.info.run_id, "videos")] == ["videos/1.gif"]


def test_mlflow_that_is_begun_by_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path}/mlruns")
    with mlflow.start_run() as own, opened(tmp_path / "run", "mlflow") as files:
        files.log(row(1))
    assert mlflow.MlflowClient().get_run(own.info.run_id).data.metrics["eprewmean"] == 10.0
    mlflow.set_tracking_uri(None)


def test_a_slow_server_holds_nothing_up_and_its_error_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    courier = mlflow_run._Courier()

    def refuse() -> None:
        raise ConnectionError("no server")

    courier.send(refuse)
    with pytest.raises(ConnectionError, match="no server"):
        courier.close()
    slow = mlflow_run._Courier()
    monkeypatch.setattr(mlflow_run, "LAST_SECONDS", 0.05)
    import threading

    gate = threading.Event()
    slow.send(gate.wait)
    with pytest.raises(TimeoutError, match="no answer within 0 s"):
        slow.close()
    gate.set()


def test_trackio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints nothing; a run that goes on goes on there."""
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    run_dir, options = tmp_path / "run", {"trackio": {"project": "tests"}}
    with opened(run_dir, "trackio", options=options) as files:
        files.log(row(1))
        film(run_dir, "1.gif")
        files.log(row(2))
        files.log(row(3))
    with opened(run_dir, "trackio", options=options, resume_from=2) as files:
        files.log(row(3))
        files.log(row(4))
    assert capsys.readouterr().out == ""
    assert SQLiteStorage.get_runs("tests") == ["run"]
    logged = SQLiteStorage.get_logs("tests", "run")
    assert [(one["step"], one["eprewmean"]) for one in logged if "eprewmean" in one] == [
        (100, 10.0),
        (200, 20.0),
        (300, 30.0),
        (400, 40.0),
    ]
    assert [one["final_score"] for one in logged if "final_score" in one][-1] == 40.0
    assert any("video" in one for one in logged)
    assert SQLiteStorage.get_run_config("tests", "run")["lr"] == 3e-4


def wandb_records(run_dir: Path) -> list[Any]:
    """The records that W&B would send: its file is LevelDB's log, blocks of 32 kB with pieces of records."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = (run_dir / "wandb").glob("offline-run-*/run-*.wandb")
    data, at, piece, found = file.read_bytes(), 7, b"", list[Any]()
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for a header
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        piece += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            found, piece = [*found, Record.FromString(piece)], b""
    return found


@pytest.mark.filterwarnings("ignore")  # its own
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that W&B would send has settings, rows, video and final score."""
    wandb = pytest.importorskip("wandb")
    run_dir = tmp_path / "run"
    options = {"wandb": {"project": "tests", "entity": "us", "group": "g", "tags": ["a"]}}
    with opened(run_dir, "wandb", options=options) as files:
        (sink,) = [one for one in files._progress if one.path.name == "wandb"]
        run = sink._run
        assert (run.project, run.entity, run.group, tuple(run.tags)) == ("tests", "us", "g", ("a",))
        assert run.config["lr"] == 3e-4
        files.log(row(1))
        film(run_dir, "1.gif")
        files.log(row(2))
    assert (run_dir / "wandb_id.txt").read_text() == run.id
    assert wandb.run is None
    for _ in range(100):  # its process writes the end of the file a little later
        records = wandb_records(run_dir)
        if any(one.WhichOneof("record_type") == "exit" for one in records):
            break
        time.sleep(0.1)
    history = [{item.key or item.nested_key[0]: item.value_json for item in one.history.item} for one in records]
    logged = [one for one in history if "eprewmean" in one]
    assert [(int(one["_step"]), float(one["eprewmean"])) for one in logged] == [(100, 10.0), (200, 20.0)]
    assert any("video" in "".join(one) for one in history)
    summary = {item.key or item.nested_key[0]: item.value_json for one in records for item in one.summary.update}
    assert float(summary["final_score"]) == 20.0
    assert list((run_dir / "wandb").rglob("*.gif"))
    with opened(run_dir, "wandb", options=options, resume_from=2) as files:
        (sink,) = [one for one in files._progress if one.path.name == "wandb"]
        assert sink._run.id == run.id


def test_runs_of_a_sweep_are_a_group(tmp_path: Path) -> None:
    (tmp_path / "s" / "runs" / "0001").mkdir(parents=True)
    (tmp_path / "s" / "sweep.json").write_text("{}")
    tracked = TrackedRun.of(tmp_path / "s" / "runs" / "0001")
    assert (tracked.name, tracked.group) == ("s-0001", "s")
    assert TrackedRun.of(tmp_path / "x").group is None


class Fake(types.SimpleNamespace):
    """Stands in for wandb: `steps` are those of its rows."""

    def __init__(self, **more: Any) -> None:
        super().__init__(steps=[], calls=[], runs=[], __spec__=types.SimpleNamespace(), **more)

    def init(self, **given: Any) -> Any:
        self.calls.append(given)
        run = types.SimpleNamespace(id="abc", summary={}, finish=lambda **how: self.calls.append(how))
        run.log = lambda found, step: self.steps.append(step)
        self.runs.append(run)
        return run


def test_a_tracker_that_joins_late_gets_the_rows_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with opened(tmp_path) as files:
        for update in (1, 2, 3):
            files.log(row(update))
    with opened(tmp_path, "wandb", resume_from=2) as files:
        files.log(row(3))
    assert fake.steps == [100, 200, 300]


def test_another_run_that_the_program_has_begun_gets_the_rows_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Fake())
    with opened(tmp_path, "wandb") as files:
        files.log(row(1))
    logged: list[Any] = []
    run = types.SimpleNamespace(id="own", summary={}, log=logged.append, config={})
    run.config = types.SimpleNamespace(update=lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "wandb", Fake(run=run))
    with opened(tmp_path, "wandb", resume_from=1) as files:
        files.log(row(2))
    assert [one["misc/total_timesteps"] for one in logged] == [100, 200]


def test_names_that_mlflow_takes() -> None:
    names = ["eval/hard one/eprewmean", "info/gain %", "../up", "/", "a//b"]
    assert [mlflow_run._name(name) for name in names] == ["eval/hard one/eprewmean", "info/gain _", "up", "_", "a/b"]


def test_rows_after_a_checkpoint_are_sent_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run was stopped after its third row, and goes on from the first: rows 2 and 3 are the same again."""
    fake = Fake()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with opened(tmp_path, "wandb") as files:
        for update in (1, 2, 3):
            files.log(row(update))
    with opened(tmp_path, "wandb", resume_from=1) as files:
        for update in (2, 3, 4):
            files.log(row(update))
    assert fake.steps == [100, 200, 300, 400]
    assert [call["id"] for call in fake.calls if "id" in call] == [None, "abc"]


def test_a_tracker_that_refuses_to_begin_does_not_end_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("api_key not configured")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=refuse, __spec__=types.SimpleNamespace()))
    ppo2.learn(**SMALL, run_dir=tmp_path / "run", log="wandb")
    told = "wandb: RuntimeError: api_key not configured; the run continues without it"
    assert capsys.readouterr().out.count(told) == 1


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_failed_is_marked(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By an error, and by Ctrl-C, after which the update is finished and saved; resumed, it comes to its end."""
    fake = Fake()
    monkeypatch.setitem(sys.modules, "wandb", fake)

    def update_fn(update: int) -> None:
        if update == 2 and len(fake.calls) == 1:
            if kind is KeyboardInterrupt:
                signal.raise_signal(signal.SIGINT)
            else:
                raise RuntimeError("it broke")

    settings: dict[str, Any] = {**SMALL, "run_dir": tmp_path / "run", "log": ("wandb",), "update_fn": update_fn}
    with pytest.raises(kind):
        ppo2.learn(**settings)
    assert fake.calls[-1] == {"exit_code": 1}
    assert not fake.runs[0].summary
    ppo2.learn(**settings, load_path=tmp_path / "run")
    assert fake.calls[-1] == {}
    assert fake.runs[1].summary.keys() == {"final_score"}


# --- `log` of learn


def test_log_is_saved_and_a_resumed_run_may_have_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboardX")
    fake = Fake()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    run_dir = tmp_path / "run"
    ppo2.learn(**SMALL, run_dir=run_dir, log=["csv", "tensorboard"], log_options={"wandb.project": "x"})
    saved = json.loads((run_dir / "config.json").read_text())
    assert (saved["log"], saved["log_options"]) == (["csv", "tensorboard"], {"wandb": {"project": "x"}})
    found = events(run_dir)
    assert [step for step, _ in found["eprewmean"]] == [64, 256]
    assert "final_score" in found
    longer = {**SMALL, "total_timesteps": 6 * 64}
    ppo2.learn(**longer, run_dir=run_dir, load_path=run_dir, log="wandb", log_options={"wandb": {"project": "y"}})
    assert fake.calls[0]["project"] == "y"
    assert fake.steps == [64, 256, 384]


def test_the_environment_variable_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboardX")
    monkeypatch.setenv("PPO2_LOG_FORMAT", "tensorboard")
    ppo2.learn(**SMALL, run_dir=tmp_path / "default")
    ppo2.learn(**SMALL, run_dir=tmp_path / "csv", log="csv")
    assert (tmp_path / "default" / "tensorboard").is_dir()
    assert not (tmp_path / "csv" / "tensorboard").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"log": "tensorbord"}, "did you mean 'tensorboard'"),
        ({"log": ("tensorboard",)}, "has 'tensorboard', which is written into the run directory: give `run_dir`"),
        ({"log": "mlflow", "log_options": {"mlflow": {"uri": 1}}}, "has 'uri' for mlflow"),
    ],
)
def test_errors_come_before_any_work(arguments: dict[str, Any], words: str) -> None:
    made: list[int] = []
    with pytest.raises(ValueError, match=words):
        ppo2.learn(**{**SMALL, "env": lambda: made.append(1)}, **arguments)
    assert not made


def test_options_of_a_tracker_that_gets_nothing_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    ppo2.learn(**{**SMALL, "total_timesteps": 0}, log_options={"wandb.project": "x"})
    assert "`log_options` has options for wandb, and `log` (=()) doesn't name it" in capsys.readouterr().out


def test_a_missing_package_is_an_error_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *of: None if name == "trackio" else find(name, *of))
    with pytest.raises(ValueError, match=r"pip install 'ppo2\[trackio\]'"):
        ppo2.learn(**{**SMALL, "env": lambda: pytest.fail("it was made")}, run_dir=tmp_path / "run", log="trackio")
    assert not (tmp_path / "run").exists()


def test_sizes_of_videos() -> None:
    """A wide one of 400 frames, in TensorBoard's form."""
    iio = pytest.importorskip("imageio.v3")
    path = Path("long.gif")
    frames = np.arange(400, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 700, 3), np.uint8)
    iio.imwrite(path, frames, loop=0)
    data, size = trackers._gif(path)
    assert size == (2, 234)  # every third pixel
    assert len(iio.imread(data, extension=".gif")) <= trackers.GIF_FRAMES


def test_films_that_ffmpeg_reads_become_small_too(tmp_path: Path) -> None:
    """400 frames of 640 x 480 in 8 seconds: every third, at the same speed."""
    pytest.importorskip("imageio_ffmpeg")
    iio = pytest.importorskip("imageio.v3")
    with Film(tmp_path / "long.mp4", 50, 1, progress=False) as film:
        for i in range(400):
            film.add(np.full((480, 640, 3), i % 256, np.uint8))
    data, size = trackers._gif(tmp_path / "long.mp4")
    assert size == (240, 320)
    frames = iio.imread(data, extension=".gif")
    assert frames.shape[:3] == (134, 240, 320)
    assert abs(134 * iio.immeta(data, extension=".gif")["duration"] / 1000 - 8) < 0.5


def test_a_film_that_is_being_written_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    films = Films(tmp_path, is_new=True)
    (tmp_path / "videos" / ".step_1.99.mp4").write_bytes(b"begun")
    assert films.new() == []
    (tmp_path / "videos" / "step_1.mp4").write_bytes(b"whole")
    assert films.new() == [tmp_path / "videos" / "step_1.mp4"]


def test_a_sweep_logs_each_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    settings = {**SMALL, "total_timesteps": 64, "seed": [0, 1], "log": ["csv", "tensorboard"]}
    ppo2.sweep(**settings, run_dir=tmp_path / "s", parallel=1, verbose=0)
    assert ["final_score" in events(tmp_path / "s" / "runs" / name) for name in ("0000", "0001")] == [True, True]


def test_runs_in_one_program_are_not_logged_apart(tmp_path: Path) -> None:
    settings = {**SMALL, "env": Line(), "seed": [0, 1], "log": ("wandb",)}
    with pytest.raises(ValueError, match=r"`log` \(=\('wandb',\)\) is for runs that train by themselves"):
        ppo2.sweep(**settings, run_dir=tmp_path / "s")
    assert not (tmp_path / "s" / "sweep.json").exists()
