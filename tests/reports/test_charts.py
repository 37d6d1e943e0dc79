"""Charts as data: lines at common places, bands, histograms."""

import json

import numpy as np
import pytest

from ppo2.reports.charts import histogram, line_chart
from ppo2.reports.runs import gather
from support.run_files import HEALTHY, write_run_files


def test_one_run_has_its_own_places(tmp_path):
    runs = gather([write_run_files(tmp_path / "x", updates=3)])
    chart = line_chart("c", runs, ["loss/approxkl"], "kl")
    assert chart["data"] == [[100.0, 200.0, 300.0], [0.01] * 3]
    assert chart["series"] == [{"label": "x", "color": 0, "role": "line", "marked": True}]


def test_runs_are_compared_at_the_same_places(tmp_path):
    rows = [[{**HEALTHY, "loss/approxkl": kl}] * n for kl, n in ((0.01, 3), (0.02, 5))]
    paths = [write_run_files(tmp_path / f"{i}", rows=rows[i], lr=i + 1) for i in range(2)]
    chart = line_chart("c", gather(paths), ["loss/approxkl"], "kl")
    assert [one["label"] for one in chart["series"]] == ["0: lr 1", "1: lr 2"]
    x, first, second = chart["data"]
    assert len(x) == len(first) == len(second)
    assert (x[0], x[-1]) == (100, 500)
    assert {value for at, value in zip(x, first, strict=True) if at <= 300} == {0.01}
    assert {value for at, value in zip(x, first, strict=True) if at > 300} == {None}
    assert set(second) == {0.02}


def test_seeds_share_a_line_with_a_band(tmp_path):
    rows = [[{**HEALTHY, "loss/approxkl": kl}] * 3 for kl in (0.01, 0.02, 0.06)]
    paths = [write_run_files(tmp_path / f"{i}", rows=rows[i], seed=i) for i in range(3)]
    chart = line_chart("c", gather(paths), ["loss/approxkl"], "kl")
    assert [one["role"] for one in chart["series"]] == ["line", "high", "low"]
    assert [set(column) for column in chart["data"][1:]] == [{0.03}, {0.06}, {0.01}]


def test_several_columns_of_several_runs(tmp_path):
    paths = [write_run_files(tmp_path / f"{i}", lr=i + 1) for i in range(2)]
    chart = line_chart("c", gather(paths), ["time/step", "time/act"], "time")
    names = [one["label"] for one in chart["series"]]
    assert names == ["0: lr 1: step", "1: lr 2: step", "0: lr 1: act", "1: lr 2: act"]
    assert len({one["color"] for one in chart["series"]}) == 4
    (one,) = gather(paths[:1])
    assert [s["label"] for s in line_chart("c", [one], ["time/step", "time/act"], "t")["series"]] == ["step", "act"]


def test_a_column_that_only_one_run_has_keeps_its_color(tmp_path):
    paths = [
        write_run_files(tmp_path / f"{i}", lr=i + 1, rows=[HEALTHY, {"eval_eprewmean": 5.0}] if i else None)
        for i in range(2)
    ]
    chart = line_chart("c", gather(paths), ["eval_eprewmean"], "eval")
    assert chart["series"] == [{"label": "1: lr 2", "color": 1, "role": "line", "marked": True}]
    assert chart["data"] == [[200.0], [5.0]]
    assert line_chart("c", gather(paths), ["misc/nothing"], "nothing") is None


def test_dots_are_the_episodes_of_one_run(tmp_path):
    runs = gather([write_run_files(tmp_path / "x", episodes=4)])
    chart = line_chart("c", runs, ["return"], "return", dots=True)
    assert [one["role"] for one in chart["series"]] == ["line", "dots"]
    x, _, dots = chart["data"]
    # two environments: two episodes each end at 100 and 200 timesteps, of which the last of a place is shown
    assert {at: r for at, r in zip(x, dots, strict=True) if r is not None} == {100: 1, 200: 3}


def test_runs_of_one_configuration_with_nothing_in_common_are_drawn_one_by_one(tmp_path):
    a, b = (write_run_files(tmp_path / name, seed=i) for i, name in enumerate("ab"))
    (a / "monitor.csv").write_text("r,l,t,env\n1,10,1,0\n2,10,1,0\n")
    (b / "monitor.csv").write_text("r,l,t,env\n1,500,1,0\n2,10,1,0\n")
    chart = line_chart("c", gather([a, b]), ["return"], "return")
    assert [one["label"] for one in chart["series"]] == ["mean of 2 runs: a, b: a", "mean of 2 runs: a, b: b"]


def test_numbers_that_are_not_finite_are_json_all_the_same(tmp_path):
    path = write_run_files(tmp_path / "x", rows=[{"loss/approxkl": x} for x in (float("nan"), 0.5, float("inf"))])
    (path / "monitor.csv").write_text("r,l,t,env\nnan,10,1,0\n1e300,10,1,0\n-inf,10,1,0\n")
    for columns in (["loss/approxkl"], ["return"]):
        json.dumps(line_chart("c", gather([path]), columns, "y", dots=True), allow_nan=False)


def test_long_runs_are_thinned(tmp_path):
    path = write_run_files(tmp_path / "x", episodes=30_000)
    chart = line_chart("c", gather([path]), ["return"], "return", dots=True)
    assert len(chart["data"][0]) <= 4500
    assert chart["data"][1][-1] == pytest.approx(29_999, rel=0.05)


def test_histograms_share_their_bins():
    chart = histogram(
        "h", [("a", np.array([1.0, 1, 2, np.nan])), ("b", np.array([2.0, np.inf])), ("c", np.empty(0))], "return"
    )
    assert [one["label"] for one in chart["series"]] == ["a", "b"]
    places, a, b = chart["data"]
    assert (sum(a), sum(b), a[0], b[-1]) == (3, 1, 2, 1)
    assert places[1] - places[0] == pytest.approx(chart["width"])
    assert histogram("h", [("a", np.array([5.0]))], "return")["data"][1] == [1]
    assert histogram("h", [("a", np.empty(0))], "return") is None
    alike = histogram("h", [("a", [0.955, 0.9550000000000001]), ("b", [1e300 * 10, -np.inf])], "return")
    assert alike["data"] == [[0.955], [2]]
    assert len(histogram("h", [("a", np.random.default_rng(0).standard_cauchy(10_000))], "return")["data"][0]) <= 24
