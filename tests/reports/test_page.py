"""The page of a report: its text, what a stranger's run can't do to it, and how a real browser shows it."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

import ppo2
from ppo2.cli import main
from support.browser import CHROMIUM, page_in_browser
from support.run_files import HEALTHY, write_run_files
from support.runs import learn_and_save

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")


class Elements(HTMLParser):
    """All elements of a page, with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def charts_in(path):
    text = re.search(r'<script type="application/json" id="charts">(.*?)</script>', path.read_text(), re.DOTALL)[1]
    return {chart["id"]: chart for chart in json.loads(text)}


def test_a_report_of_one_run(tmp_path):
    out = ppo2.report(write_run_files(tmp_path / "x"), tmp_path / "new" / "r.html")
    text = out.read_text()
    for words in (
        "CartPole-v1",
        "finished",
        "ppo2 train CartPole-v1",
        "model = ppo2.learn(",
        "Approximate KL",
        "healthy",
    ):
        assert words in text
    assert {"chart-return", "chart-shares-of-time", "chart-histogram", "chart-gradient-norm"} <= charts_in(out).keys()
    assert "Not begun" not in text


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    run = write_run_files(tmp_path / "x")
    (run / "clip.gif").write_bytes(b"GIF89a")
    text = ppo2.report(run, tmp_path / "r.html").read_text()
    for tag, attributes in Elements(text).found:
        for name in ("src", "href", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert 'src="data:image/gif;base64,R0lGODlh"' in text


def hostile_run(path):
    """A run whose every text tries to run a script."""
    run = write_run_files(
        path / HOSTILE.replace("/", "_"), env=HOSTILE, network=HOSTILE, rows=[{**HEALTHY, HOSTILE: 1}] * 3
    )
    config = json.loads((run / "config.json").read_text())
    config |= {
        HOSTILE: HOSTILE,
        "seed": HOSTILE,
        "max_grad_norm": {"object": HOSTILE},
        "network_kwargs": {HOSTILE: HOSTILE},
        "env_kwargs": {HOSTILE: [HOSTILE]},
        "versions": {HOSTILE: HOSTILE},
        "sessions": [{"started": HOSTILE, "versions": {HOSTILE: HOSTILE}, "platform": HOSTILE}],
    }
    (run / "config.json").write_text(json.dumps(config))
    (run / f"{HOSTILE.replace('/', '_')}.gif").write_bytes(b"GIF89a")
    return run


def test_text_of_a_run_is_text(tmp_path):
    paths = [hostile_run(tmp_path), write_run_files(tmp_path / "x")]
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text(HOSTILE)
    (tmp_path / "damaged" / "monitor.csv").write_text(f"r,l,t,env\n{HOSTILE},1,1,1\n")
    out = ppo2.report([*paths, tmp_path / "damaged"], tmp_path / "r.html")
    elements = Elements(out.read_text()).found
    assert len([tag for tag, _ in elements if tag == "script"]) == 3  # the data, uPlot, ours
    assert not [attributes for tag, attributes in elements if tag == "img" and attributes["src"] == "x"]
    assert "49" not in out.read_text().split("</style>")[0]  # no template of a stranger's was run
    assert any(HOSTILE.replace("/", "_") in one["label"] for one in charts_in(out)["chart-return"]["series"])


@pytest.mark.parametrize("types", [None, 1, 1.5, [], {}, "x", True])
def test_settings_of_any_type(types, tmp_path):
    config = dict.fromkeys(
        ("env", "network", "seed", "total_timesteps", "num_envs", "nsteps", "sessions", "versions"), types
    )
    config |= dict.fromkeys(("network_kwargs", "env_kwargs", "max_grad_norm", "lr", "info_keys", "encoders"), types)
    ppo2.report(write_run_files(tmp_path / "x", **config), tmp_path / "r.html")


def test_runs_with_hardly_anything_in_them(tmp_path):
    paths = [
        write_run_files(tmp_path / "nothing", updates=0, episodes=0),
        write_run_files(tmp_path / "one", updates=1, episodes=1),
        write_run_files(tmp_path / "nan", rows=[dict.fromkeys(HEALTHY, float("nan"))] * 3),
    ]
    for path in paths:
        ppo2.report(path, tmp_path / f"{path.name}.html")
    assert "No episode has ended yet." in (tmp_path / "nothing.html").read_text()
    assert "chart-approximate-kl-divergence" not in charts_in(tmp_path / "nan.html")
    ppo2.report(paths, tmp_path / "all.html")


def test_evaluations_and_films(tmp_path):
    run = write_run_files(tmp_path / "x")
    film = tmp_path / "film.webm"
    film.write_bytes(b"film")
    out = ppo2.report(run, tmp_path / "r.html", evaluations={"x": np.array([1.0, 2.0, 2.0])}, video=film)
    chart = charts_in(out)["chart-histogram"]
    assert (sum(chart["data"][1]), chart["x"]) == (3, "return of an evaluation's episodes")
    assert '<video src="data:video/webm;base64,ZmlsbQ=="' in out.read_text()
    with pytest.raises(ValueError, match=r"`video` \(='.*none.mp4'\) must be a file that ends in one of .mp4"):
        ppo2.report(run, tmp_path / "r.html", video=tmp_path / "none.mp4")
    with pytest.raises(ValueError, match=r"`out` \(='r.pdf'\) must end in .html"):
        ppo2.report(run, "r.pdf")
    with pytest.raises(TypeError, match=r"`evaluations` \(a ndarray\) must be a dict"):
        ppo2.report(run, tmp_path / "r.html", evaluations=np.array([1.0, 2.0]))


def test_films_that_are_too_large_stay_out(tmp_path, monkeypatch):
    monkeypatch.setattr("ppo2.reports.page.MOST_CLIP_BYTES", 3)
    run = write_run_files(tmp_path / "x")
    (run / "long.mp4").write_bytes(b"film")
    assert "long.mp4 is not part of this page: 4 B, above 3 B" in ppo2.report(run, tmp_path / "r.html").read_text()


def test_many_runs_are_told_of_together(tmp_path):
    paths = [write_run_files(tmp_path / f"{i:02}", seed=i) for i in range(14)]
    text = ppo2.report(paths, tmp_path / "r.html").read_text()
    assert "14 of 14 runs:" in text
    assert "(00, 01," in text


def test_the_command(tmp_path, capsys):
    run = write_run_files(tmp_path / "x")
    assert main(["report", str(run), str(run), "-o", str(tmp_path / "r.html")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'r.html'}\n"
    assert main(["report", str(tmp_path / "none")]) == 1
    assert "none does not exist. A run directory is what" in capsys.readouterr().err
    assert main(["report", str(run), "--evaluate", "-1"]) == 1
    assert "`evaluate` (=-1)" in capsys.readouterr().err


def test_episodes_are_played_on_request(tmp_path, capsys):
    learn_and_save(total_timesteps=64, save_interval=0, log_interval=10, run_dir=tmp_path / "x")
    capsys.readouterr()
    assert main(["report", str(tmp_path / "x"), "-o", str(tmp_path / "r.html"), "--evaluate", "5"]) == 0
    assert re.match(r"x: mean return [\d.]+ of 5 episodes\n", capsys.readouterr().out)
    assert sum(charts_in(tmp_path / "r.html")["chart-histogram"]["data"][1]) == 5


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with page_in_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def values(page, chart):
    script = f"[...document.querySelectorAll('#{chart} .u-legend .u-value')].map(e => e.textContent)"
    return [value for value in page.evaluate(script) if value]


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (360, False)])
def test_in_a_browser(width, dark, page, tmp_path):
    paths = [write_run_files(tmp_path / f"{lr}-{seed}", lr=lr, seed=seed) for lr in (1, 2) for seed in (0, 1)]
    out = ppo2.report(paths, tmp_path / "r.html")
    page.said.clear()
    page.asked.clear()
    page.open(out.as_uri(), width=width, dark=dark)
    assert page.evaluate("document.querySelectorAll('.chart canvas').length") == len(charts_in(out))
    page.move_mouse("#chart-return .u-over", 0.5, 0.5)
    # Episode i of 80 returns i: half way, at 2,000 timesteps, it is the 38th and 39th
    at, first, second = values(page, "chart-return")[:3]
    assert abs(float(at.replace(",", "")) - 2000) < 60
    assert first.split()[0] == second.split()[0]
    assert abs(float(first.split()[0]) - 38.5) < 3
    kl = values(page, "chart-approximate-kl-divergence")  # under the same cursor
    assert kl[1] == "0.01 (0.01 to 0.01)"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(18, 22, 28)" if dark else "rgb(255, 255, 255)")
    assert page.said == []
    assert page.asked == [out.as_uri()]


@needs_browser
def test_a_strangers_run_in_a_browser(page, tmp_path):
    out = ppo2.report(hostile_run(tmp_path), tmp_path / "r.html")
    page.said.clear()
    page.open(out.as_uri())
    page.move_mouse("#chart-return .u-over", 0.5, 0.5)
    assert page.evaluate("document.querySelectorAll('.chart canvas').length") > 3
    assert page.evaluate("document.querySelectorAll('img[onerror], .chart img').length") == 0
    assert page.said == []


@needs_browser
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs pdftotext")
def test_on_paper(page, tmp_path):
    out = ppo2.report(write_run_files(tmp_path / "x"), tmp_path / "r.html")
    page.open(out.as_uri(), dark=True)
    page.pdf(tmp_path / "r.pdf")
    text = subprocess.run(["pdftotext", tmp_path / "r.pdf", "-"], capture_output=True, text=True, check=True).stdout
    assert "ppo2 train CartPole-v1" in text
    assert "Approximate KL divergence" in text
