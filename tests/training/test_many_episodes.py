"""More episodes than monitor.csv is to have: every k-th has a row, means and counts are of all."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from ppo2.reporting import tables
from ppo2.runners import ends
from support.device_cartpole import learn, rows

pytestmark = pytest.mark.usefixtures("quickly_compiled", "no_curve")

Row = tuple[float, int, int]


class Told:
    """An `update_fn` that notes how many episodes there were, and stops after an update."""

    def __init__(self, last: int = 0) -> None:
        self.last, self.counts = last, [0]

    def __call__(self, update: int, model: Any, stats: Any) -> bool:
        self.counts.append(stats.episodes)
        return update != self.last


def monitor(run_dir: Path) -> list[Row]:
    return [(float(e["r"]), int(e["l"]), int(e["env"])) for e in rows(run_dir, "monitor.csv")]


def logged(run_dir: Path) -> list[tuple[str, ...]]:
    names = ("misc/nupdates", "eprewmean", "eplenmean", "misc/monitor_share", "loss/value_loss")
    return [tuple(row.get(name, "") for name in names) for row in rows(run_dir)]


def share_in(run_dir: Path) -> float:
    first = (run_dir / "monitor.csv").read_text().splitlines()[0]
    return float(json.loads(first[1:])["share"])


def chosen(all_rows: list[Row], counts: list[int], most: int) -> list[Row]:
    """Every k-th of each update's, the first included, with the least k that leaves so many."""
    parts = [all_rows[a:b] for a, b in itertools.pairwise(counts)]
    return [row for part in parts for row in part[:: max(1, -(-len(part) // most))]]


@pytest.mark.parametrize(("most", "pays"), [(3, 16), (4, 0)], ids=["chosen afterwards", "chosen in the program"])
def test_every_kth_has_a_row_also_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], most: int, pays: int
) -> None:
    monkeypatch.setattr(ends, "CHOICE_PAYS", pays)
    monkeypatch.setattr(tables, "FEW_EPISODES", 0)  # all are written by the thread
    whole, few, twice = tmp_path / "whole", tmp_path / "few", tmp_path / "twice"
    told = Told()
    learn(run_dir=whole, log_interval=2, monitor_limit=None, update_fn=told)
    everything = monitor(whole)
    assert len(everything) == told.counts[-1] > 40
    capfd.readouterr()
    learn(run_dir=few, log_interval=2, monitor_limit=most)
    assert "more episodes end than `monitor_limit`" in capfd.readouterr().out
    kept = chosen(everything, told.counts, most)
    assert monitor(few) == kept
    assert share_in(few) == pytest.approx(len(kept) / len(everything), abs=1e-6)
    # the means are of all episodes
    assert [row[:3] + row[4:] for row in logged(few)] == [row[:3] + row[4:] for row in logged(whole)]
    assert float(logged(few)[-1][3]) == len(kept) / len(everything)
    # a run that was stopped goes on with the last hundred of all
    learn(run_dir=twice, log_interval=2, monitor_limit=most, update_fn=Told(last=3))
    capfd.readouterr()
    again = Told()
    learn(run_dir=twice, log_interval=2, monitor_limit=most, load_path=twice, update_fn=again)
    assert "more episodes end" not in capfd.readouterr().out  # it was said before
    assert monitor(twice) == kept
    assert logged(twice) == logged(few)
    assert share_in(twice) == share_in(few)
    assert again.counts[1:] == told.counts[4:]


def test_of_few_episodes_all_have_a_row(tmp_path: Path) -> None:
    learn(run_dir=tmp_path, monitor_limit=128)
    assert "share" not in (tmp_path / "monitor.csv").read_text()
    assert "misc/monitor_share" not in rows(tmp_path)[-1]


def test_host_environments_keep_to_the_limit(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"env": "CartPole-v1", "log_interval": 1}
    told = Told()
    learn(run_dir=tmp_path / "whole", monitor_limit=None, update_fn=told, **settings)
    learn(run_dir=tmp_path / "few", monitor_limit=2, **settings)
    everything = monitor(tmp_path / "whole")
    assert max(b - a for a, b in itertools.pairwise(told.counts)) > 2
    assert monitor(tmp_path / "few") == chosen(everything, told.counts, 2)
    assert [row[:3] for row in logged(tmp_path / "few")] == [row[:3] for row in logged(tmp_path / "whole")]
