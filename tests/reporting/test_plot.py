import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppo2.reporting import plot
from ppo2.reporting.logger import Logger
from ppo2.reporting.plot import COLORS, _configuration, _figure_of_runs, _line, _lines, curve, rolling_mean
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
    return _figure_of_runs(runs, "a title", smooth)


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
    means = plot.mean_within(timesteps, np.array([1.0, 3, 8, 1, 0]), 10)
    np.testing.assert_allclose(means, [1, 4, 4, 1, 0])


def test_the_line_does_not_lag_behind_long_episodes(tmp_path):
    """20 episodes, from the 11th on of another return: the mean of the last 100 would never reach it."""
    rows = "".join(f"{float(i >= 10)},1000,0,0\n" for i in range(20))
    run = read_run(write_monitor(tmp_path, "r,l,t,env\n" + rows))
    dots, line = figure([run], smooth=None).axes[0].get_lines()
    np.testing.assert_array_equal(line.get_ydata(), dots.get_ydata())
    assert legend(figure([run], smooth=None)) == ["one episode", "mean within 5% of the timesteps"]
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
    assert [line.label for line in _lines(runs, 3)] == ["lr 0.001  (2 runs)", "lr 0.0003  (2 runs)"]
    assert [line.label for line in _lines(runs[:3], 3)] == ["lr 0.001  (2 runs)", "lr 0.0003"]
    assert [line.label for line in _lines(runs[:2], 3)] == ["mean of 2 runs"]


def test_labels_say_what_differs(tmp_path):
    a = read_run(write_run(tmp_path / "a"))
    b = read_run(write_run(tmp_path / "b", env="Acrobot-v1", lr=1e-3))
    c = read_run(write_run(tmp_path / "c", env="Acrobot-v1", w=1, x=1, y=1, z=1))
    assert [line.label for line in _lines([a, b], 3)] == ["CartPole-v1  lr 0.0003", "Acrobot-v1  lr 0.001"]
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
    line = _line("x", runs, smooth=1)
    assert line.low is not None
    assert line.high is not None
    np.testing.assert_allclose(line.mean - line.low, 2)  # the mean of 0, 1, 5 is 2
    np.testing.assert_allclose(line.high - line.mean, 3)


def test_the_mean_covers_what_all_runs_have_reached(tmp_path):
    # Two environments, 10 timesteps an episode: the first ends at 20, the last of 30 at 300, the last of 10 at 100.
    runs = [read_run(write_run(tmp_path / str(episodes), episodes=episodes)) for episodes in (30, 10)]
    line = _line("x", runs, smooth=1)
    assert (line.timesteps[0], line.timesteps[-1]) == (20, 100)


def test_one_run_shows_episodes_mean_and_evaluation(tmp_path):
    drawn = figure([read_run(write_run(tmp_path / "a", evaluated=True))])
    axes = drawn.axes[0]
    episodes, mean, evaluation = axes.get_lines()
    np.testing.assert_array_equal(episodes.get_ydata(), np.arange(30))
    np.testing.assert_allclose(mean.get_ydata()[:4], [0, 0.5, 1, 2])
    np.testing.assert_array_equal(evaluation.get_xdata(), [320])
    assert legend(drawn) == ["one episode", "mean of the last 3 episodes", "evaluation"]
    assert axes.get_xlabel() == "environment timesteps"
    assert axes.get_title(loc="left") == "a title"


def test_several_runs_show_a_legend_and_bands(tmp_path):
    runs = [read_run(write_run(tmp_path / f"{lr}-{seed}", seed=seed, lr=lr)) for lr in (1e-3, 3e-4) for seed in (0, 1)]
    drawn = figure(runs)
    assert legend(drawn) == ["lr 0.001  (2 runs)", "lr 0.0003  (2 runs)"]
    assert drawn.legends[0].get_title().get_text() == "line: mean over runs, band: lowest to highest"
    assert len(drawn.axes[0].collections) == 2
    assert [line.get_color() for line in drawn.axes[0].get_lines()] == list(COLORS[:2])
    assert legend(figure(runs[:2])) == ["mean of 2 runs", "lowest to highest run"]


def test_long_runs_are_thinned(tmp_path):
    run = read_run(write_run(tmp_path / "a", episodes=5000))
    mean = figure([run], smooth=1).axes[0].get_lines()[1]
    assert len(mean.get_xdata()) == 2000
    assert mean.get_ydata()[0] == 0
    assert mean.get_ydata()[-1] == 4999


def test_curve_writes_the_format_of_the_suffix(tmp_path):
    run = write_run(tmp_path / "a", env="weird $_{env}$ <&>")
    png = curve(run, tmp_path / "new" / "folder" / "x.PNG")
    assert png == tmp_path / "new" / "folder" / "x.PNG"
    assert is_png(png)
    svg = curve([str(run), write_run(tmp_path / "b", lr=1)], str(tmp_path / "x.svg"), title="two")
    assert "<svg" in svg.read_text()


def test_one_episode_is_enough(tmp_path):
    assert is_png(curve(write_run(tmp_path / "a", episodes=1), tmp_path / "x.png"))


def test_importing_does_not_import_matplotlib():
    program = "import sys, ppo2.reporting.plot; print('matplotlib' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    )


def test_drawing_touches_nothing_global(tmp_path):
    program = """
import sys
from ppo2.reporting.plot import curve
curve(sys.argv[1], sys.argv[2])
import matplotlib
print("matplotlib.pyplot" in sys.modules, matplotlib.rcParams == matplotlib.rcParamsOrig)
"""
    command = [sys.executable, "-c", program, str(write_run(tmp_path / "a")), str(tmp_path / "x.png")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False True\n"
    assert is_png(Path(tmp_path / "x.png"))


def test_the_interquartile_mean_leaves_out_both_ends():
    assert plot.iqm([0.0, 1.0, 3.0, 100.0]) == 2.0  # a quarter is one of four
    assert plot.iqm([np.nan, 4.0]) == 4.0
    assert np.isnan(plot.iqm([np.nan]))


def test_the_band_holds_the_mean_and_narrows_with_agreement(tmp_path):
    at = np.arange(3.0)
    rng = np.random.default_rng(0)
    wide = plot._confident_line("a", at, rng.normal(0, 10, (8, 3)))
    narrow = plot._confident_line("b", at, rng.normal(0, 1, (8, 3)))
    for line in (wide, narrow):
        assert line.low is not None and line.high is not None  # noqa: PT018
        assert (line.low <= line.mean).all()
        assert (line.mean <= line.high).all()
    assert (wide.high - wide.low).min() > 3 * (narrow.high - narrow.low).max()
    assert plot._confident_line("c", at, np.zeros((2, 3))).low is None  # two seeds say nothing of a spread


def test_the_first_line_of_json_is_no_row(tmp_path):
    run = read_run(write_monitor(tmp_path, '#{"t_start": 1.5, "env_id": null}\nr,l,t,env\n1,3,0,0\n'))
    np.testing.assert_array_equal(run.returns, [1])
