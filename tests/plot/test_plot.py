import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppo2.plot import curve
from ppo2.plot.confidence import _confident_line, iqm
from ppo2.plot.drawing import COLORS
from ppo2.plot.series import _configuration, _line, lines_of, mean_within, rolling_mean
from ppo2.reporting.logger import Logger
from ppo2.reporting.run_curve import read_run
from ppo2.runners.episodes import Episode
from support.runs import write_monitor


def write_run(run_dir, *, seed=0, episodes=30, nenvs=2, offset=0.0, evaluated=False, **config):
    """Episodes of 10 timesteps in turn over the environments; the i-th returns i + offset."""
    with Logger(run_dir, total_updates=1, progress=False) as log:
        config = {"env": "CartPole-v1", "network": "mlp", "lr": 3e-4, "seed": seed, "run_dir": str(run_dir), **config}
        (run_dir / "config.json").write_text(json.dumps(config))
        log.episodes([Episode(i + offset, 10, float(i), i % nenvs) for i in range(episodes)])
        row = {"misc/nupdates": 1, "misc/serial_timesteps": 160, "misc/total_timesteps": 160 * nenvs}
        log.log({**row, "eval_eprewmean": 5.0} if evaluated else row)
    return run_dir


def figure(runs, smooth=3):
    return curve([run.path for run in runs], smooth=smooth, title="a title")


def _lines(runs, smooth):
    return lines_of(runs, "return", "timesteps", smooth)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_rolling_mean_by_hand():
    # 1, (1+3)/2, (1+3+8)/3, (3+8+1)/3, (8+1+0)/3
    np.testing.assert_allclose(rolling_mean(np.array([1.0, 3, 8, 1, 0]), 3), [1, 2, 4, 4, 3])
    np.testing.assert_allclose(rolling_mean(np.array([1.0, 3]), 100), [1, 2])


def test_the_mean_within_a_window_by_hand():
    # Windows of 10 timesteps: (-5, 5], (-2, 8], (-2, 8], (10, 20], (20, 30].
    timesteps = np.array([5.0, 8, 8, 20, 30])
    means = mean_within(timesteps, np.array([1.0, 3, 8, 1, 0]), 10)
    np.testing.assert_allclose(means, [1, 4, 4, 1, 0])


def test_the_line_does_not_lag_behind_long_episodes(tmp_path):
    """20 episodes, from the 11th on of another return: the mean of the last 100 would never reach it."""
    rows = "".join(f"{float(i >= 10)},1000,0,0\n" for i in range(20))
    run = read_run(write_monitor(tmp_path, "r,l,t,env\n" + rows))
    dots, line = figure([run], smooth=None).axes[0].get_lines()
    np.testing.assert_array_equal(line.get_ydata(), dots.get_ydata())
    assert legend(figure([run], smooth=None)) == ["one episode", f"{tmp_path.name}: mean within 5% of the timesteps"]
    assert rolling_mean(run.returns, 100)[-1] == 0.5


def test_the_error_of_a_run_without_episodes_names_it(tmp_path):
    write_monitor(tmp_path / "empty", "r,l,t,env\n")
    with pytest.raises(ValueError, match="empty has no finished episode yet"):
        curve(tmp_path / "empty", tmp_path / "x.png")


def test_errors_name_the_argument(tmp_path):
    with pytest.raises(ValueError, match=r"`out` \(='x.jpeg'\) must end in one of .png, .svg"):
        curve(tmp_path, "x.jpeg")
    with pytest.raises(ValueError, match=r"`smooth` \(=0\)"):
        curve(tmp_path, "x.png", smooth=0)
    with pytest.raises(ValueError, match="`runs` is empty"):
        curve([], "x.png")


def test_runs_are_grouped_by_everything_but_the_seed(tmp_path):
    runs = [read_run(write_run(tmp_path / f"{lr}-{seed}", seed=seed, lr=lr)) for lr in (1e-3, 3e-4) for seed in (0, 1)]
    assert [line.label for line in _lines(runs, 3)] == [
        "lr 0.001  (2 runs: 0.001-0, 0.001-1)",
        "lr 0.0003  (2 runs: 0.0003-0, 0.0003-1)",
    ]
    assert [line.label for line in _lines(runs[:3], 3)] == [
        "lr 0.001  (2 runs: 0.001-0, 0.001-1)",
        "0.0003-0: lr 0.0003",
    ]
    assert [line.label for line in _lines(runs[:2], 3)] == ["mean of 2 runs: 0.001-0, 0.001-1"]


def test_labels_say_what_differs(tmp_path):
    a = read_run(write_run(tmp_path / "a"))
    b = read_run(write_run(tmp_path / "b", env="Acrobot-v1", lr=1e-3))
    c = read_run(write_run(tmp_path / "c", env="Acrobot-v1", w=1, x=1, y=1, z=1))
    assert [line.label for line in _lines([a, b], 3)] == ["a: CartPole-v1  lr 0.0003", "b: Acrobot-v1  lr 0.001"]
    assert [line.label for line in _lines([a, c], 3)] == ["a", "c"]  # too much to say


def test_runs_without_a_config_stand_alone(tmp_path):
    text = "r,l,t,env\n1,3,0,0\n2,4,0,0\n"
    runs = [read_run(write_monitor(tmp_path / name, text)) for name in ("a", "b")]
    assert _configuration(runs[0]) != _configuration(runs[1])
    assert [line.label for line in _lines(runs, 3)] == ["a", "b"]


def test_a_directory_that_starts_with_an_underscore_is_in_the_legend(tmp_path):
    text = "r,l,t,env\n1,3,0,0\n2,4,0,0\n"
    runs = [read_run(write_monitor(tmp_path / name, text)) for name in ("_a", "_b")]
    assert legend(figure(runs)) == [" _a", " _b"]


def test_the_band_goes_from_the_lowest_to_the_highest(tmp_path):
    runs = [
        read_run(write_run(tmp_path / str(seed), seed=seed, offset=offset)) for seed, offset in enumerate((0, 1, 5))
    ]
    line = _line("x", runs, "return", "timesteps", 1)
    assert line.low is not None
    assert line.high is not None
    np.testing.assert_allclose(line.mean - line.low, 2)  # the mean of 0, 1, 5 is 2
    np.testing.assert_allclose(line.high - line.mean, 3)


def test_the_mean_covers_what_all_runs_have_reached(tmp_path):
    # Two environments, 10 timesteps an episode: the first ends at 20, the last of 30 at 300, the last of 10 at 100.
    runs = [read_run(write_run(tmp_path / str(episodes), episodes=episodes)) for episodes in (30, 10)]
    line = _line("x", runs, "return", "timesteps", 1)
    assert (line.x[0], line.x[-1]) == (20, 100)


def test_one_run_shows_episodes_mean_and_evaluation(tmp_path):
    drawn = figure([read_run(write_run(tmp_path / "a", evaluated=True))])
    axes = drawn.axes[0]
    episodes, mean, evaluation = axes.get_lines()
    np.testing.assert_array_equal(episodes.get_ydata(), np.arange(30))
    np.testing.assert_allclose(mean.get_ydata()[:4], [0, 0.5, 1, 2])
    np.testing.assert_array_equal(evaluation.get_xdata(), [320])
    assert legend(drawn) == ["one episode", "a: mean of the last 3 episodes", "evaluation"]
    assert axes.get_xlabel() == "environment timesteps"
    assert axes.get_title(loc="left") == "a title"


def test_several_runs_show_a_legend_and_bands(tmp_path):
    runs = [read_run(write_run(tmp_path / f"{lr}-{seed}", seed=seed, lr=lr)) for lr in (1e-3, 3e-4) for seed in (0, 1)]
    drawn = figure(runs)
    assert legend(drawn) == ["lr 0.001  (2 runs: 0.001-0, 0.001-1)", "lr 0.0003  (2 runs: 0.0003-0, 0.0003-1)"]
    assert drawn.legends[0].get_title().get_text() == "line: mean over runs, band: lowest to highest"
    assert len(drawn.axes[0].collections) == 2
    assert [line.get_color() for line in drawn.axes[0].get_lines()] == list(COLORS[:2])
    assert legend(figure(runs[:2])) == ["mean of 2 runs: 0.001-0, 0.001-1", "lowest to highest run"]


def test_long_runs_are_thinned(tmp_path):
    run = read_run(write_run(tmp_path / "a", episodes=5000))
    mean = figure([run], smooth=1).axes[0].get_lines()[1]
    assert len(mean.get_xdata()) == 2000
    assert mean.get_ydata()[0] == 0
    assert mean.get_ydata()[-1] == 4999


def test_curve_writes_the_format_of_the_suffix(tmp_path):
    run = write_run(tmp_path / "a", env="weird $_{env}$ <&>")
    curve(run, tmp_path / "new" / "folder" / "x.PNG")
    assert is_png(tmp_path / "new" / "folder" / "x.PNG")
    curve([str(run), write_run(tmp_path / "b", lr=1)], str(tmp_path / "x.svg"), title="two")
    assert "<svg" in (tmp_path / "x.svg").read_text()


def test_one_episode_is_enough(tmp_path):
    curve(write_run(tmp_path / "a", episodes=1), tmp_path / "x.png")
    assert is_png(tmp_path / "x.png")


def test_importing_does_not_import_matplotlib():
    program = "import sys, ppo2; ppo2.plot.curve; print('matplotlib' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    )


def test_drawing_touches_nothing_global(tmp_path):
    program = """
import sys
from ppo2.plot import curve
curve(sys.argv[1], sys.argv[2])
import matplotlib
print("matplotlib.pyplot" in sys.modules, matplotlib.rcParams == matplotlib.rcParamsOrig)
"""
    command = [sys.executable, "-c", program, str(write_run(tmp_path / "a")), str(tmp_path / "x.png")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False True\n"
    assert is_png(Path(tmp_path / "x.png"))


def test_the_interquartile_mean_leaves_out_both_ends():
    assert iqm([0.0, 1.0, 3.0, 100.0]) == 2.0  # a quarter is one of four
    assert iqm([np.nan, 4.0]) == 4.0
    assert np.isnan(iqm([np.nan]))


def test_the_band_holds_the_mean_and_narrows_with_agreement(tmp_path):
    at = np.arange(3.0)
    rng = np.random.default_rng(0)
    wide = _confident_line("a", at, rng.normal(0, 10, (8, 3)))
    narrow = _confident_line("b", at, rng.normal(0, 1, (8, 3)))
    for line in (wide, narrow):
        assert line.low is not None and line.high is not None  # noqa: PT018
        assert (line.low <= line.mean).all()
        assert (line.mean <= line.high).all()
    assert (wide.high - wide.low).min() > 3 * (narrow.high - narrow.low).max()
    assert _confident_line("c", at, np.zeros((2, 3))).low is None  # two seeds say nothing of a spread


def test_the_first_line_of_json_is_no_row(tmp_path):
    run = read_run(write_monitor(tmp_path, '#{"t_start": 1.5, "env_id": null}\nr,l,t,env\n1,3,0,0\n'))
    np.testing.assert_array_equal(run.returns, [1])


LOG = "misc/nupdates,misc/total_timesteps,misc/time_elapsed,loss/approxkl,loss/clipfrac,eval_eprewmean\n"


def write_log(run_dir, rows, monitor="r,l,t,env\n1,10,1,0\n3,10,2.5,0\n"):
    return write_monitor(run_dir, monitor, LOG + "".join(f"{row}\n" for row in rows))


ROWS = ("1,10,2,0.5,0.1,", "2,20,3,0.25,0.2,", "3,30,5,,0.3,")
"""The last has no KL: an update that was skipped."""


@pytest.mark.parametrize(
    ("x", "at", "label"),
    [
        ("timesteps", [10, 20], "environment timesteps"),
        ("updates", [1, 2], "updates"),
        ("time", [2, 3], "wall time (seconds)"),
    ],
)
def test_columns_of_the_log_by_timesteps_updates_and_time(x, at, label, tmp_path):
    axes = curve(write_log(tmp_path, ROWS), x=x, y="loss/approxkl").axes[0]
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), at)
    np.testing.assert_array_equal(line.get_ydata(), [0.5, 0.25])
    assert (axes.get_xlabel(), axes.get_ylabel()) == (label, "loss/approxkl")


@pytest.mark.parametrize(("x", "at"), [("updates", [1, 2]), ("time", [1, 2.5])])
def test_episodes_by_updates_and_time(x, at, tmp_path):
    # 10 timesteps an update: the episodes end with the first and the second
    dots, line = curve(write_log(tmp_path, ROWS), x=x).axes[0].get_lines()
    np.testing.assert_array_equal(dots.get_xdata(), at)
    np.testing.assert_array_equal(line.get_ydata(), [1, 3])


def test_long_times_are_in_minutes_and_hours(tmp_path):
    rows = ("1,10,3600,0.5,0.1,", "2,20,36000,0.25,0.2,")
    axes = curve(write_log(tmp_path / "a", rows), x="time", y="loss/approxkl").axes[0]
    assert axes.get_xlabel() == "wall time (hours)"
    np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), [1, 10])
    axes = curve(write_log(tmp_path / "b", rows[:1]), x="time", y="loss/approxkl").axes[0]
    assert axes.get_xlabel() == "wall time (minutes)"


def test_several_columns_have_an_axes_each_and_one_legend(tmp_path):
    runs = [write_log(tmp_path / name, ROWS) for name in ("one", "two")]
    drawn = curve(runs, tmp_path / "x.png", y=["loss/approxkl", "loss/clipfrac", "length"], smooth=2)
    assert [axes.get_ylabel() for axes in drawn.axes] == [
        "loss/approxkl,\nmean of the last 2 rows",
        "loss/clipfrac,\nmean of the last 2 rows",
        "episode length (timesteps),\nmean of the last 2 episodes",
    ]
    np.testing.assert_allclose(drawn.axes[1].get_lines()[1].get_ydata(), [0.1, 0.15, 0.25])
    assert legend(drawn) == ["one", "two"]
    assert is_png(tmp_path / "x.png")


def test_an_unknown_column_names_the_nearest(tmp_path):
    run = write_log(tmp_path / "x", ROWS, "r,l,t,env,is_success\n1,10,1,0,\n1,10,2,0,1\n")
    for y, near in (("loss/aproxkl", "'loss/approxkl'"), ("clipfrac", "'loss/clipfrac'"), ("success", "'is_success'")):
        with pytest.raises(ValueError, match=rf"`y` \(='{y}'\) is no column of .*x: did you mean {near}"):
            curve(run, y=y)
    with pytest.raises(ValueError, match=r"`y` \(='zzz'\) is no column of .*x: It has return, length, misc/nup"):
        curve(run, y="zzz")
    with pytest.raises(ValueError, match="x has no value of 'eval_eprewmean' yet"):
        curve(run, y="eval_eprewmean")
    with pytest.raises(ValueError, match=r"`x` \(='steps'\) must be one of 'timesteps', 'updates', 'time'"):
        curve(run, x="steps")
    with pytest.raises(ValueError, match=r"`labels` \(=\['a', 'b'\]\) must have a name for each of the 1 runs"):
        curve(run, labels=["a", "b"])
    (dot,) = curve(run, y="is_success", smooth=1).axes[0].get_lines()[:1]  # of the one episode that has it
    np.testing.assert_array_equal(dot.get_xdata(), [20])


def test_returns_that_are_not_finite_leave_a_gap(tmp_path):
    run = write_monitor(tmp_path, "r,l,t,env\n1,10,1,0\nnan,10,2,0\ninf,10,3,0\n3,10,4,0\n")
    dots, line = curve(run, smooth=2).axes[0].get_lines()
    np.testing.assert_array_equal(dots.get_ydata(), [1, 3])
    np.testing.assert_array_equal(line.get_ydata(), [1, 2])


def test_labels_group_runs(tmp_path):
    runs = [write_run(tmp_path / name, lr=lr) for name, lr in (("a", 1), ("b", 2), ("c", 3))]
    drawn = curve(runs, labels=["x", "y", "x"])
    assert legend(drawn) == ["x", "y"]
    assert len(drawn.axes[0].collections) == 1  # the band of x


def test_axes_of_ones_own(tmp_path):
    from matplotlib.figure import Figure

    figure = Figure()
    left, right = figure.subplots(1, 2)
    run = write_log(tmp_path / "x", ROWS)
    assert curve(run, y="loss/approxkl", axes=right) is figure
    assert not left.get_lines()
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["x"]
    with pytest.raises(ValueError, match="`axes` has room for one column"):
        curve(run, y=["loss/approxkl", "length"], axes=left)


def test_a_notebook_shows_the_figure(tmp_path):
    assert curve(write_run(tmp_path / "a"))._repr_png_().startswith(b"\x89PNG")


def test_the_directory_of_a_sweep_is_all_of_its_runs(tmp_path):
    (tmp_path / "sweep.json").write_text('{"env": "CartPole-v1", "swept": {"lr": [1, 2], "seed": [0, 1]}, "fixed": {}}')
    for i in range(4):
        write_run(tmp_path / "runs" / f"{i:04}", seed=i % 2, lr=1 + i // 2)
    (tmp_path / "runs" / "0004").mkdir()  # not begun
    assert legend(curve(tmp_path)) == ["lr 1  (2 runs: 0000, 0001)", "lr 2  (2 runs: 0002, 0003)"]


def test_a_sweep_on_the_device_is_drawn_from_its_curves(tmp_path):
    (tmp_path / "sweep.json").write_text('{"env": "x:Y", "swept": {"lr": [1, 2], "seed": [0, 1]}, "fixed": {}}')
    with pytest.raises(ValueError, match="sweep that has no curves yet"):
        curve(tmp_path)
    (tmp_path / "table.csv").write_text("run,seed,lr\n0,0,1\n1,1,1\n2,0,2\n3,1,2\n")
    rows = "".join(f"{run},{t},{run + t if t > 10 else ''}\n" for run in range(4) for t in (10, 20, 30))
    (tmp_path / "curves.csv").write_text("run,timesteps,recent\n" + rows)
    drawn = curve(tmp_path)
    assert legend(drawn) == ["lr 1  (2 runs: run 0, run 1)", "lr 2  (2 runs: run 2, run 3)"]
    assert drawn.axes[0].get_ylabel() == "episode return (sum of rewards),\nmean within 5% of the timesteps"
    line = drawn.axes[0].get_lines()[0]
    np.testing.assert_allclose([line.get_ydata()[0], line.get_ydata()[-1]], [20.5, 30.5])  # of runs 0 and 1
    with pytest.raises(ValueError, match=r"`y` .* is no column of"):
        curve(tmp_path, y="loss/approxkl")
